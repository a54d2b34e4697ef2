//! `/api/v1`: the machine for programs, described by `docs/openapi.json`, which the device serves too.
//!
//! Names are snake_case, times RFC 3339, sizes bytes; what is not known is `null`.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use gokrazy_core::control::{End, Request};
use gokrazy_core::lease::Lease;
use serde::{Deserialize, Serialize};

use super::error::Refusal;
use super::gokrazy::timestamp;
use super::machine::Storage;
use super::params::body;
use super::router::json;
use super::snapshot::{Service, Snapshot};
use super::{App, logs};

/// The routes, to be nested below `/api/v1`.
pub(super) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/openapi.json", get(description))
        .route("/machine", get(machine))
        .route("/network", get(network))
        .route("/services", get(services))
        .route("/services/{name}", get(service))
        .route("/services/{name}/log", get(logs::download))
        .route("/services/{name}/start", post(start))
        .route("/services/{name}/stop", post(stop))
        .route("/services/{name}/restart", post(restart))
        .route("/services/{name}/signal", post(signal))
        .route("/power", post(power))
}

async fn description() -> Response {
    let text = include_str!("../../../docs/openapi.json");
    ([(header::CONTENT_TYPE, "application/json")], text).into_response()
}

#[derive(Serialize)]
struct MachineBody<'a> {
    hostname: &'a str,
    model: &'a str,
    kernel: &'a str,
    build_id: Option<&'a str>,
    built_at: Option<String>,
    machine_id: Option<&'a str>,
    boot_id: Option<&'a str>,
    slot: Option<String>,
    attempt: Option<u8>,
    fallback: Option<&'a str>,
    first_boot: Option<bool>,
    uptime_seconds: Option<u64>,
    load: Option<&'a str>,
    memory: MemoryBody,
    perm: PermBody<'a>,
    mounts: Vec<StorageBody<'a>>,
    clock: ClockBody<'a>,
    problems: &'a [String],
}

#[derive(Serialize)]
struct MemoryBody {
    total: u64,
    available: u64,
}

#[derive(Serialize)]
struct PermBody<'a> {
    #[serde(flatten)]
    storage: Option<StorageBody<'a>>,
    problem: Option<&'a str>,
    errors: Option<&'a str>,
}

#[derive(Serialize)]
struct StorageBody<'a> {
    target: &'a str,
    device: &'a str,
    used: u64,
    available: u64,
    total: u64,
    read_only: bool,
}

#[derive(Serialize)]
struct ClockBody<'a> {
    now: String,
    synchronised: bool,
    source: Option<&'a str>,
    stratum: Option<u8>,
    offset_ns: Option<i64>,
    error_bound_ns: Option<u64>,
}

async fn machine(State(app): State<Arc<App>>) -> Response {
    json(&MachineBody::from(&app.snapshot()))
}

impl<'a> From<&'a Snapshot> for MachineBody<'a> {
    fn from(snapshot: &'a Snapshot) -> Self {
        let boot = snapshot.boot.as_ref();
        let clock = snapshot.clock.as_ref();
        Self {
            hostname: &snapshot.names.host,
            model: &snapshot.model,
            kernel: &snapshot.names.kernel,
            build_id: boot.map(|boot| boot.build_id.as_str()),
            built_at: snapshot.built.map(timestamp),
            machine_id: boot.map(|boot| boot.machine_id.as_str()),
            boot_id: boot.map(|boot| boot.boot_id.as_str()),
            slot: boot.and_then(|boot| boot.slot).map(|slot| slot.to_string()),
            attempt: boot.and_then(|boot| boot.attempt),
            fallback: boot.and_then(|boot| boot.fallback.as_deref()),
            first_boot: boot.map(|boot| boot.first_boot),
            uptime_seconds: snapshot.uptime.map(|uptime| uptime.as_secs()),
            load: snapshot.load.as_deref(),
            memory: MemoryBody {
                total: snapshot.memory.total,
                available: snapshot.memory.available,
            },
            perm: PermBody {
                storage: snapshot.perm.as_ref().map(Into::into),
                problem: boot.and_then(|boot| boot.perm_problem.as_deref()),
                errors: boot.and_then(|boot| boot.perm_errors.as_deref()),
            },
            mounts: snapshot.mounts.iter().map(Into::into).collect(),
            clock: ClockBody {
                now: timestamp(snapshot.now),
                synchronised: clock.is_some_and(|clock| clock.synchronised),
                source: clock.and_then(|clock| clock.source.as_deref()),
                stratum: clock.and_then(|clock| clock.stratum),
                offset_ns: clock.and_then(|clock| clock.offset_ns),
                error_bound_ns: clock.and_then(|clock| clock.error_bound_ns),
            },
            problems: &snapshot.problems,
        }
    }
}

impl<'a> From<&'a Storage> for StorageBody<'a> {
    fn from(storage: &'a Storage) -> Self {
        Self {
            target: &storage.target,
            device: &storage.device,
            used: storage.used,
            available: storage.available,
            total: storage.total,
            read_only: storage.read_only,
        }
    }
}

#[derive(Serialize)]
struct NetworkBody<'a> {
    private: &'a [String],
    public: &'a [String],
    no_carrier: &'a [String],
    interfaces: Vec<LeaseBody<'a>>,
}

/// Times are seconds on the boot clock, as `uptime_seconds` counts them.
#[derive(Serialize)]
struct LeaseBody<'a> {
    interface: &'a str,
    method: &'a str,
    address: Option<String>,
    prefix: Option<u8>,
    addresses6: Vec<String>,
    routers: Vec<String>,
    dns: Vec<String>,
    domain: Option<&'a str>,
    server: Option<String>,
    acquired_at: u64,
    renew_at: Option<u64>,
    expires_at: Option<u64>,
}

async fn network(State(app): State<Arc<App>>) -> Response {
    let snapshot = app.snapshot();
    let addresses = snapshot.addresses.unwrap_or_default();
    json(&NetworkBody {
        private: &addresses.private,
        public: &addresses.public,
        no_carrier: &addresses.no_carrier,
        interfaces: snapshot.leases.iter().map(lease).collect(),
    })
}

fn texts<'a, T: ToString + 'a>(list: impl IntoIterator<Item = &'a T>) -> Vec<String> {
    list.into_iter().map(ToString::to_string).collect()
}

fn lease(lease: &Lease) -> LeaseBody<'_> {
    let ipv4 = lease.ipv4.as_ref();
    let mut dns = texts(ipv4.iter().flat_map(|ipv4| &ipv4.dns));
    dns.extend(texts(&lease.dns6));
    LeaseBody {
        interface: &lease.interface,
        method: lease.method.as_str(),
        address: ipv4.map(|ipv4| ipv4.address.to_string()),
        prefix: ipv4.map(|ipv4| ipv4.prefix),
        addresses6: texts(&lease.addresses6),
        routers: texts(ipv4.iter().flat_map(|ipv4| &ipv4.routers)),
        dns,
        domain: ipv4.and_then(|ipv4| ipv4.domain.as_deref()),
        server: lease.server.map(|server| server.to_string()),
        acquired_at: lease.acquired_at,
        renew_at: lease.renew_at,
        expires_at: lease.expires_at,
    }
}

#[derive(Serialize)]
struct ServiceBody<'a> {
    name: &'a str,
    state: &'a str,
    command: &'a str,
    pid: Option<u32>,
    uid: Option<u32>,
    started_at: Option<String>,
    restarts: u32,
    failures: u32,
    last_exit: Option<&'a str>,
    status_text: Option<&'a str>,
    waiting_for: Option<&'a str>,
    critical: bool,
    unfenced: Option<&'a str>,
    diverted: Option<&'a str>,
    resident: Option<u64>,
    proportional: Option<u64>,
}

impl<'a> From<&'a Service> for ServiceBody<'a> {
    fn from(service: &'a Service) -> Self {
        let status = &service.status;
        Self {
            name: &status.name,
            state: status.state.as_str(),
            command: &status.command,
            pid: status.pid,
            uid: status.uid,
            started_at: service.started_at().map(timestamp),
            restarts: status.restarts,
            failures: status.failures,
            last_exit: status.last_exit.as_deref(),
            status_text: status.status_text.as_deref(),
            waiting_for: status.waiting_for.as_deref(),
            critical: status.critical,
            unfenced: status.unfenced.as_deref(),
            diverted: status.diverted.as_deref(),
            resident: service.memory.map(|memory| memory.resident),
            proportional: service.memory.and_then(|memory| memory.proportional),
        }
    }
}

async fn services(State(app): State<Arc<App>>) -> Response {
    let services = app.sources.services(&mut Vec::new());
    json(&services.iter().map(ServiceBody::from).collect::<Vec<_>>())
}

async fn service(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
) -> Result<Response, Refusal> {
    let service = app.sources.service(&name);
    let service = service.ok_or_else(|| Refusal::NotFound(format!("service {name}")))?;
    Ok(json(&ServiceBody::from(&service)))
}

/// Done, or under way: nothing to say.
async fn obey(app: &Arc<App>, request: Request) -> Result<StatusCode, Refusal> {
    app.ask(request).await.map(|()| StatusCode::NO_CONTENT)
}

async fn start(app: State<Arc<App>>, Path(name): Path<String>) -> Result<StatusCode, Refusal> {
    obey(&app, Request::Start { name }).await
}

async fn stop(app: State<Arc<App>>, Path(name): Path<String>) -> Result<StatusCode, Refusal> {
    obey(&app, Request::Stop { name }).await
}

async fn restart(app: State<Arc<App>>, Path(name): Path<String>) -> Result<StatusCode, Refusal> {
    obey(&app, Request::Restart { name }).await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SignalBody {
    signal: String,
}

async fn signal(
    app: State<Arc<App>>,
    Path(name): Path<String>,
    request: axum::extract::Request,
) -> Result<StatusCode, Refusal> {
    let SignalBody { signal } = wish(request).await?;
    obey(&app, Request::Signal { name, signal }).await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PowerBody {
    how: How,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum How {
    Reboot,
    PowerOff,
    Halt,
}

async fn power(
    app: State<Arc<App>>,
    request: axum::extract::Request,
) -> Result<StatusCode, Refusal> {
    let how = match wish::<PowerBody>(request).await?.how {
        How::Reboot => End::Reboot,
        How::PowerOff => End::PowerOff,
        How::Halt => End::Halt,
    };
    app.ask(Request::End { how })
        .await
        .map(|()| StatusCode::ACCEPTED)
}

async fn wish<T: serde::de::DeserializeOwned>(
    request: axum::extract::Request,
) -> Result<T, Refusal> {
    let bytes = body(request.into_body()).await?;
    serde_json::from_slice(&bytes)
        .map_err(|error| Refusal::BadRequest(format!("read the body: {error}")))
}
