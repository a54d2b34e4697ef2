//! The status as gokrazy's clients read it: its JSON names, in its order, with ours behind them; pure.
//!
//! Times are RFC 3339 in UTC, sizes bytes; what gokrazy writes as `null` is `null` here too.

use std::net::Ipv4Addr;
use std::time::{Duration, SystemTime};

use gokrazy_core::lease;
use serde::Serialize;

use super::machine::Storage;
use super::snapshot::{Service, Snapshot};
use gokrazy_core::service_status::State;

/// What `GET /` answers.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Status<'a> {
    services: Vec<ServiceStatus<'a>>,
    perm_dev: &'a str,
    perm_used: u64,
    perm_avail: u64,
    perm_total: u64,
    private_addrs: Option<&'a [String]>,
    public_addrs: Option<&'a [String]>,
    build_timestamp: String,
    #[serde(rename = "SBOMHash")]
    sbom_hash: &'a str,
    meminfo: Meminfo,
    hostname: &'a str,
    model: &'a str,
    #[serde(rename = "PermUUID")]
    perm_uuid: &'a str,
    /// Always `null`: the boot loader's version on Pi 4 and 5, whose updates we do not ship.
    #[serde(rename = "EEPROM")]
    eeprom: Option<()>,
    kernel: &'a str,
    mount_devices: Option<Vec<Mount<'a>>>,
    // From here on our own.
    #[serde(rename = "BuildID")]
    build_id: Option<&'a str>,
    #[serde(rename = "MachineID")]
    machine_id: Option<&'a str>,
    #[serde(rename = "BootID")]
    boot_id: Option<&'a str>,
    slot: Option<String>,
    attempt: Option<u8>,
    fallback: Option<&'a str>,
    first_boot: bool,
    perm_problem: Option<&'a str>,
    perm_errors: Option<&'a str>,
    uptime_seconds: Option<u64>,
    #[serde(rename = "UptimeMS")]
    uptime_ms: Option<u64>,
    /// What the clock shows, in Unix milliseconds: for who wants to compare it with another.
    #[serde(rename = "NowMS")]
    now_ms: Option<u64>,
    clock: Option<Clock<'a>>,
    leases: Vec<Lease<'a>>,
    problems: &'a [String],
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Meminfo {
    mem_available: u64,
    mem_total: u64,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Mount<'a> {
    dev: &'a str,
    used: u64,
    avail: u64,
    total: u64,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Clock<'a> {
    synchronised: bool,
    since: Option<i64>,
    #[serde(rename = "OffsetNS")]
    offset_ns: Option<i64>,
    #[serde(rename = "ErrorBoundNS")]
    error_bound_ns: Option<u64>,
    source: Option<&'a str>,
    stratum: Option<u8>,
}

/// What dhcp has configured on an interface; times are seconds on the boot clock.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Lease<'a> {
    interface: &'a str,
    method: &'static str,
    /// Empty without IPv4.
    address: String,
    addresses6: Vec<String>,
    routers: Vec<String>,
    #[serde(rename = "DNS")]
    dns: Vec<String>,
    #[serde(rename = "NTP")]
    ntp: Vec<String>,
    server: Option<String>,
    acquired_at: u64,
    expires_at: Option<u64>,
}

fn words<'a, T: ToString + 'a>(list: impl IntoIterator<Item = &'a T>) -> Vec<String> {
    list.into_iter().map(ToString::to_string).collect()
}

impl<'a> From<&'a lease::Lease> for Lease<'a> {
    fn from(lease: &'a lease::Lease) -> Self {
        let ipv4 = lease.ipv4.as_ref();
        let servers = |list: Option<&Vec<Ipv4Addr>>| words(list.into_iter().flatten());
        let mut dns = servers(ipv4.map(|ipv4| &ipv4.dns));
        dns.extend(words(&lease.dns6));
        Self {
            interface: &lease.interface,
            method: lease.method.as_str(),
            address: ipv4
                .map(|ipv4| format!("{}/{}", ipv4.address, ipv4.prefix))
                .unwrap_or_default(),
            addresses6: words(&lease.addresses6),
            routers: servers(ipv4.map(|ipv4| &ipv4.routers)),
            dns,
            ntp: servers(ipv4.map(|ipv4| &ipv4.ntp)),
            server: lease.server.map(|server| server.to_string()),
            acquired_at: lease.acquired_at,
            expires_at: lease.expires_at,
        }
    }
}

/// What `GET /status` answers, and each element of `Services`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct ServiceStatus<'a> {
    stopped: bool,
    start_time: String,
    pid: u32,
    path: &'a str,
    args: Vec<&'a str>,
    diverted: &'a str,
    // From here on our own.
    name: &'a str,
    state: &'a str,
    #[serde(rename = "UID")]
    uid: Option<u32>,
    restarts: u32,
    last_exit: Option<&'a str>,
    status_text: Option<&'a str>,
    #[serde(rename = "RSS")]
    resident: Option<u64>,
    #[serde(rename = "PSS")]
    proportional: Option<u64>,
}

/// gokrazy's word for "never started": the zero of its time type.
const NEVER: &str = "0001-01-01T00:00:00Z";

impl<'a> From<&'a Service> for ServiceStatus<'a> {
    fn from(service: &'a Service) -> Self {
        let status = &service.status;
        Self {
            stopped: is_stopped(status.state),
            start_time: service
                .started_at()
                .map_or_else(|| NEVER.to_owned(), timestamp),
            pid: status.pid.unwrap_or(0),
            path: service.program(),
            args: service.arguments().collect(),
            diverted: status.diverted.as_deref().unwrap_or_default(),
            name: &status.name,
            state: status.state.as_str(),
            uid: status.uid,
            restarts: status.restarts,
            last_exit: status.last_exit.as_deref(),
            status_text: status.status_text.as_deref(),
            resident: service.memory.map(|memory| memory.resident),
            proportional: service.memory.and_then(|memory| memory.proportional),
        }
    }
}

/// gokrazy knows one flag: supervision will not start it again by itself.
pub fn is_stopped(state: State) -> bool {
    match state {
        State::Stopped | State::Stopping | State::Finished => true,
        State::Waiting
        | State::Starting
        | State::Running
        | State::Reloading
        | State::Restarting
        | State::CrashLoop => false,
    }
}

impl<'a> From<&'a Snapshot> for Status<'a> {
    fn from(snapshot: &'a Snapshot) -> Self {
        let perm = snapshot.perm.as_ref();
        let boot = snapshot.boot.as_ref();
        let addresses = snapshot.addresses.as_ref();
        let some = |list: &'a [String]| (!list.is_empty()).then_some(list);
        Self {
            services: snapshot.services.iter().map(Into::into).collect(),
            perm_dev: perm.map_or("", |perm| &perm.device),
            perm_used: perm.map_or(0, |perm| perm.used),
            perm_avail: perm.map_or(0, |perm| perm.available),
            perm_total: perm.map_or(0, |perm| perm.total),
            private_addrs: addresses.and_then(|addresses| some(&addresses.private)),
            public_addrs: addresses.and_then(|addresses| some(&addresses.public)),
            build_timestamp: snapshot.built.map(timestamp).unwrap_or_default(),
            sbom_hash: &snapshot.sbom_hash,
            meminfo: Meminfo {
                mem_available: snapshot.memory.available,
                mem_total: snapshot.memory.total,
            },
            hostname: &snapshot.names.host,
            model: &snapshot.model,
            perm_uuid: snapshot.perm_uuid.as_deref().unwrap_or_default(),
            eeprom: None,
            kernel: &snapshot.names.kernel,
            mount_devices: mounts(&snapshot.mounts),
            build_id: boot.map(|boot| boot.build_id.as_str()),
            machine_id: boot.map(|boot| boot.machine_id.as_str()),
            boot_id: boot.map(|boot| boot.boot_id.as_str()),
            slot: boot.and_then(|boot| boot.slot).map(|slot| slot.to_string()),
            attempt: boot.and_then(|boot| boot.attempt),
            fallback: boot.and_then(|boot| boot.fallback.as_deref()),
            first_boot: boot.is_some_and(|boot| boot.first_boot),
            perm_problem: boot.and_then(|boot| boot.perm_problem.as_deref()),
            perm_errors: boot.and_then(|boot| boot.perm_errors.as_deref()),
            uptime_seconds: snapshot.uptime.map(|uptime| uptime.as_secs()),
            uptime_ms: snapshot.uptime.map(milliseconds),
            now_ms: snapshot
                .now
                .duration_since(SystemTime::UNIX_EPOCH)
                .ok()
                .map(milliseconds),
            clock: snapshot.clock.as_ref().map(|clock| Clock {
                synchronised: clock.synchronised,
                since: clock.since,
                offset_ns: clock.offset_ns,
                error_bound_ns: clock.error_bound_ns,
                source: clock.source.as_deref(),
                stratum: clock.stratum,
            }),
            leases: snapshot.leases.iter().map(Into::into).collect(),
            problems: &snapshot.problems,
        }
    }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn mounts(mounts: &[Storage]) -> Option<Vec<Mount<'_>>> {
    let mounts: Vec<_> = mounts
        .iter()
        .map(|mount| Mount {
            dev: &mount.target,
            used: mount.used,
            avail: mount.available,
            total: mount.total,
        })
        .collect();
    (!mounts.is_empty()).then_some(mounts)
}

/// RFC 3339 with as many digits as needed, in UTC.
pub fn timestamp(time: SystemTime) -> String {
    // humantime panics outside of the years 1970 to 9999.
    let last = Duration::from_secs(253_402_300_799);
    match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(since) if since <= last => humantime::format_rfc3339(time).to_string(),
        Ok(_) | Err(_) => NEVER.to_owned(),
    }
}
