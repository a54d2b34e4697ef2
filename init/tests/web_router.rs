//! The router in memory: every route and every refusal, against a machine of files and a stand-in for init.

#![cfg(feature = "web")]
#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test's failure is its purpose"
)]

mod web_support;

use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{Request, StatusCode, header};
use clap::Parser;
use gokrazy_core::control::{self, End, Refusal};
use gokrazy_init::web::config::{Args, Config};
use gokrazy_init::web::peer::{Connection, Peer};
use gokrazy_init::web::{App, router::router};
use hyper::service::Service;
use hyper_util::service::TowerToHyperService;
use web_support::{FakeInit, Machine, PASSWORD, basic, bytes};

struct Fixture {
    machine: Machine,
    init: FakeInit,
    router: Router,
}

struct Answer {
    status: StatusCode,
    headers: header::HeaderMap,
    body: String,
}

impl Answer {
    fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().unwrap())
    }
}

fn fixture(name: &str) -> Fixture {
    let machine = Machine::new(name);
    let init = FakeInit::start(&machine);
    let flag = |name: &str, path: &str| format!("--{name}={}", machine.folder.join(path).display());
    let args = Args::parse_from([
        "web".to_owned(),
        flag("run-dir", "run"),
        flag("password-file", "password"),
        flag("temp-dir", "tmp"),
        flag("perm-dir", "perm"),
        "--listen=127.0.0.1:0".to_owned(),
    ]);
    let router = router(App::new(Config::new(args).0, [3; 32]));
    Fixture {
        machine,
        init,
        router,
    }
}

impl Fixture {
    fn send(&self, peer: Peer, request: Request<Body>) -> Answer {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let mut request = request;
            request
                .extensions_mut()
                .insert(Arc::new(Connection::new(peer, Instant::now())));
            let service = TowerToHyperService::new(self.router.clone());
            let (parts, body) = service.call(request).await.unwrap().into_parts();
            let body = to_bytes(body, 1 << 20).await.unwrap();
            Answer {
                status: parts.status,
                headers: parts.headers,
                body: String::from_utf8_lossy(&body).into_owned(),
            }
        })
    }

    /// A request over TCP with the right password.
    fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "device")
            .header("authorization", basic("gokrazy", PASSWORD));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let body = Body::from(body.to_owned());
        self.send(tcp(), request.body(body).unwrap())
    }

    fn status(&self, method: &str, path: &str) -> u16 {
        self.ask(method, path, &[], "").status.as_u16()
    }
}

fn tcp() -> Peer {
    Peer::Tcp("192.0.2.9:40000".parse().unwrap())
}

const FORM: (&str, &str) = ("content-type", "application/x-www-form-urlencoded");

#[test]
fn no_path_is_open_without_the_password() {
    let fixture = fixture("door");
    for path in [
        "/",
        "/assets/style.css",
        "/status?path=hello",
        "/metrics",
        "/api/v1/machine",
        "/nowhere",
    ] {
        let request = Request::get(path).body(Body::empty()).unwrap();
        let answer = fixture.send(tcp(), request);
        assert_eq!(answer.status, 401, "{path}");
        // The charset makes browsers send passwords as this crate reads them (RFC 7617 §2.1).
        let challenge = r#"Basic realm="gokrazy", charset="UTF-8""#;
        assert_eq!(answer.header("www-authenticate"), challenge);
    }
    for value in [
        basic("gokrazy", "wrong"),
        basic("root", PASSWORD),
        basic("gokrazy", ""),
        "Basic !!!".to_owned(),
        "Basic".to_owned(),
        "Bearer abc".to_owned(),
        format!("Basic {}", "A".repeat(5000)),
    ] {
        let request = Request::post("/reboot").header("authorization", &value);
        let answer = fixture.send(tcp(), request.body(Body::empty()).unwrap());
        assert_eq!(answer.status, 401, "{value}");
    }
    fixture.init.assert_idle();
}

#[test]
fn the_kernel_vouches_for_root_on_the_unix_socket_and_for_nobody_else() {
    let fixture = fixture("unix");
    let from = |uid| {
        let request = Request::get("/").body(Body::empty()).unwrap();
        fixture.send(Peer::Unix(uid), request).status.as_u16()
    };
    assert_eq!(from(0), 200);
    assert_eq!(from(nix::unistd::geteuid().as_raw()), 200);
    assert_eq!(from(12_345), 401);
    assert_eq!(from(u32::MAX), 401);
}

#[test]
fn every_answer_tells_browsers_what_they_may_do() {
    let fixture = fixture("harden");
    for path in ["/", "/nowhere", "/status?path=hello", "/metrics"] {
        let answer = fixture.ask("GET", path, &[], "");
        assert!(
            answer
                .header("content-security-policy")
                .contains("frame-ancestors 'none'")
        );
        assert_eq!(answer.header("x-content-type-options"), "nosniff");
        assert_eq!(answer.header("cache-control"), "no-store");
        assert_eq!(answer.header("cross-origin-resource-policy"), "same-origin");
        // `no-referrer` would have browsers hide the origin of our own forms.
        assert_eq!(answer.header("referrer-policy"), "same-origin");
    }
}

#[test]
fn the_json_has_gokrazys_keys_in_its_order() {
    let fixture = fixture("json");
    fixture
        .machine
        .write("run/addresses", "private='127.0.0.1 fe80::1%eth0'\n");
    for header in [
        ("accept", "application/json"),
        ("content-type", "Application/JSON; x"),
    ] {
        let answer = fixture.ask("GET", "/", &[header], "");
        assert_eq!(answer.header("content-type"), "application/json");
        let keys = [
            "Services",
            "PermDev",
            "PermUsed",
            "PermAvail",
            "PermTotal",
            "PrivateAddrs",
            "PublicAddrs",
            "BuildTimestamp",
            "SBOMHash",
            "Meminfo",
            "Hostname",
            "Model",
            "PermUUID",
            "EEPROM",
            "Kernel",
            "MountDevices",
        ];
        let document: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
        assert!(keys.iter().all(|key| document.get(key).is_some()));
        let places: Vec<_> = keys
            .iter()
            .map(|key| answer.body.find(&format!("\"{key}\":")).unwrap())
            .collect();
        assert!(places.is_sorted(), "{}", answer.body);
        assert_eq!(document["PrivateAddrs"][1], "fe80::1%eth0");
        assert!(document["PublicAddrs"].is_null() && document["EEPROM"].is_null());
        let hello = &document["Services"][1];
        assert_eq!(hello["Path"], "/user/hello");
        assert_eq!(hello["Args"], serde_json::json!(["/user/hello", "--flag"]));
        assert_eq!(hello["Stopped"], false);
        assert_eq!(hello["StartTime"], "0001-01-01T00:00:00Z");
        assert!(
            answer
                .body
                .starts_with("{\"Services\":[{\"Stopped\":false,\"StartTime\":")
        );
    }
}

#[test]
fn no_value_becomes_markup() {
    let fixture = fixture("markup");
    fixture
        .machine
        .write("run/service/zz", "\u{0}<img src=x onerror=alert(1)>");
    for path in ["/", "/status?path=%3Cb%3Eevil%3C/b%3E"] {
        let answer = fixture.ask("GET", path, &[("accept", "text/html")], "");
        assert_eq!(answer.status, 200);
        assert!(answer.body.starts_with("<!DOCTYPE html>"));
        assert!(!answer.body.contains("<b>evil") && !answer.body.contains("<script>alert"));
        assert!(answer.body.contains("&lt;b&gt;evil&lt;/b&gt;"));
    }
}

#[test]
fn unknown_paths_and_methods_are_refused() {
    let fixture = fixture("unknown");
    for path in [
        "/nowhere",
        "/favicon.ico",
        "/assets/",
        "/assets/../Cargo.toml",
        "/assets/nope",
        "/api/v2",
        "//",
    ] {
        assert_eq!(fixture.status("GET", path), 404, "{path}");
    }
    for path in [
        "/reboot",
        "/poweroff",
        "/stop",
        "/restart",
        "/divert",
        "/uploadtemp/x",
        "/api/v1/power",
    ] {
        assert_eq!(fixture.status("GET", path), 405, "{path}");
    }
    assert_eq!(fixture.status("GET", "/status"), 400);
    assert_eq!(fixture.status("GET", "/status?path=/user/none"), 404);
    assert_eq!(fixture.status("POST", "/stop?path=none"), 404);
    fixture.init.assert_idle();
}

#[test]
fn updates_are_refused_honestly() {
    let fixture = fixture("update");
    let features = fixture.ask("GET", "/update/features", &[], "");
    assert_eq!((features.status.as_u16(), &*features.body), (200, ""));
    assert_eq!(features.header("content-type"), "text/plain; charset=utf-8");
    let json = fixture.ask(
        "GET",
        "/update/features",
        &[("accept", "application/json")],
        "",
    );
    assert_eq!(json.body, r#"{"features":"","EEPROM":null}"#);
    for name in ["root", "boot", "bootonly", "mbr", "device-specific/x"] {
        assert_eq!(fixture.status("PUT", &format!("/update/{name}")), 501);
    }
    assert_eq!(fixture.status("POST", "/update/switch"), 501);
}

#[test]
fn assets_are_asked_for_again_and_not_sent_again() {
    let fixture = fixture("assets");
    let first = fixture.ask("GET", "/assets/live.js", &[], "");
    assert_eq!((first.status.as_u16(), first.body.is_empty()), (200, false));
    assert!(first.header("content-type").starts_with("text/javascript"));
    let tag = first.header("etag").to_owned();
    let again = fixture.ask("GET", "/assets/live.js", &[("if-none-match", &tag)], "");
    assert_eq!((again.status.as_u16(), &*again.body), (304, ""));
    let other = fixture.ask(
        "GET",
        "/assets/live.js",
        &[("if-none-match", "\"other\"")],
        "",
    );
    assert_eq!(other.status, 200);
}

#[test]
fn power_is_inits_to_give() {
    let fixture = fixture("power");
    let rows = [
        ("/reboot", End::Reboot),
        (
            "/reboot?kexec=off&async=true&wait_per_signal=1m30s",
            End::Reboot,
        ),
        ("/poweroff?wait_per_signal=500ms", End::PowerOff),
    ];
    for (path, how) in rows {
        assert_eq!(fixture.status("POST", path), 200, "{path}");
        assert_eq!(fixture.init.next(), control::Request::End { how });
    }
    let page = fixture.ask("POST", "/reboot", &[("accept", "text/html")], "");
    assert!(page.body.contains("data-wait"));
    fixture.init.next();
    assert_eq!(fixture.status("POST", "/reboot?wait_per_signal=soon"), 400);
    fixture.init.assert_idle();
    let halt = fixture.ask("POST", "/api/v1/power", &[], r#"{"how":"halt"}"#);
    assert_eq!(halt.status, 202);
    assert_eq!(
        fixture.init.next(),
        control::Request::End { how: End::Halt }
    );
    for bad in [
        "",
        "{}",
        r#"{"how":"explode"}"#,
        r#"{"how":"halt","x":1}"#,
        "[[[[",
    ] {
        assert_eq!(
            fixture.ask("POST", "/api/v1/power", &[], bad).status,
            400,
            "{bad}"
        );
    }
    fixture.init.assert_idle();
}

#[test]
fn what_init_refuses_becomes_a_status() {
    let fixture = fixture("refusals");
    let rows = [
        (Refusal::NoSuchService, 404),
        (Refusal::NotPermitted, 403),
        (Refusal::ShuttingDown, 503),
        (Refusal::Malformed("x".to_owned()), 400),
        (Refusal::Failed("fork: no memory".to_owned()), 500),
    ];
    for (refusal, status) in rows {
        fixture.init.refuse(refusal.clone());
        let answer = fixture.ask("POST", "/reboot", &[], "");
        assert_eq!(answer.status, status);
        assert_eq!(answer.body, format!("{refusal}\n"));
    }
    std::fs::remove_file(fixture.machine.run_dir().join("control.sock")).unwrap();
    let answer = fixture.ask("POST", "/reboot", &[], "");
    assert_eq!(answer.status, 503);
    assert!(answer.body.starts_with("ask init: "));
}

#[test]
fn services_are_stopped_and_restarted_by_name_or_path() {
    let fixture = fixture("services");
    let name = || "hello".to_owned();
    let stop = fixture.ask("POST", "/stop", &[FORM], "path=%2Fuser%2Fhello&signal=kill");
    assert_eq!(stop.status, 303);
    assert_eq!(stop.header("location"), "/status?path=hello");
    assert_eq!(fixture.init.next(), control::Request::Stop { name: name() });
    let kill = control::Request::Signal {
        name: name(),
        signal: "KILL".to_owned(),
    };
    assert_eq!(fixture.init.next(), kill);
    assert_eq!(
        fixture.status("POST", "/restart?path=hello&supervise=once"),
        303
    );
    assert_eq!(
        fixture.init.next(),
        control::Request::Restart { name: name() }
    );
    assert_eq!(fixture.status("POST", "/stop?path=hello&signal=dance"), 400);
    for (action, request) in [
        ("start", control::Request::Start { name: name() }),
        ("stop", control::Request::Stop { name: name() }),
        ("restart", control::Request::Restart { name: name() }),
    ] {
        assert_eq!(
            fixture.status("POST", &format!("/api/v1/services/hello/{action}")),
            204
        );
        assert_eq!(fixture.init.next(), request);
    }
    let body = r#"{"signal":"HUP"}"#;
    assert_eq!(
        fixture
            .ask("POST", "/api/v1/services/hello/signal", &[], body)
            .status,
        204
    );
    let hangup = control::Request::Signal {
        name: name(),
        signal: "HUP".to_owned(),
    };
    assert_eq!(fixture.init.next(), hangup);
    fixture.init.assert_idle();
}

#[test]
fn gokrazys_token_is_handed_out_and_must_be_right_if_it_is_sent() {
    let fixture = fixture("token");
    let page = fixture.ask("GET", "/status?path=/user/hello", &[], "");
    assert_eq!(page.header("x-gokrazy-status"), "started");
    assert!(["amd64", "arm64"].contains(&page.header("x-gokrazy-goarch")));
    let cookie = page.header("set-cookie").to_owned();
    assert!(cookie.contains("HttpOnly; SameSite=Strict"));
    let pair = cookie.split(';').next().unwrap();
    let token = pair.strip_prefix("gokrazy_xsrf=").unwrap();
    let body = format!("path=%2Fuser%2Fhello&xsrftoken={token}");
    let cookies = ("cookie", pair);
    assert_eq!(
        fixture
            .ask("POST", "/restart", &[FORM, cookies], &body)
            .status,
        303
    );
    fixture.init.next();
    let wrong = "path=hello&xsrftoken=1";
    assert_eq!(
        fixture
            .ask("POST", "/restart", &[FORM, cookies], wrong)
            .status,
        403
    );
    assert_eq!(fixture.ask("POST", "/restart", &[FORM], &body).status, 403);
    assert_eq!(
        fixture
            .ask("POST", "/stop", &[FORM, cookies], "path=hello&xsrftoken=x")
            .status,
        400
    );
    // The right token is no excuse for another site's page.
    let foreign = ("origin", "http://device:8080");
    assert_eq!(
        fixture
            .ask("POST", "/restart", &[FORM, cookies, foreign], &body)
            .status,
        403
    );
    fixture.init.assert_idle();
}

#[test]
fn another_sites_page_changes_nothing() {
    let fixture = fixture("origin");
    let writes = [
        ("POST", "/reboot"),
        ("POST", "/poweroff"),
        ("POST", "/stop?path=hello"),
        ("POST", "/restart?path=hello"),
        ("POST", "/divert?path=hello&diversion=x"),
        ("PUT", "/uploadtemp/x/y"),
        ("PUT", "/update/root"),
        ("POST", "/update/switch"),
        ("POST", "/api/v1/power"),
        ("POST", "/api/v1/services/hello/stop"),
    ];
    for (method, path) in writes {
        for header in [
            ("origin", "http://evil.example"),
            ("origin", "null"),
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-site", "same-site"),
            ("referer", "http://evil.example/page"),
        ] {
            let answer = fixture.ask(method, path, &[header], "");
            assert_eq!(answer.status, 403, "{method} {path} {header:?}");
        }
    }
    fixture.init.assert_idle();
    for header in [
        ("origin", "http://device"),
        ("sec-fetch-site", "same-origin"),
    ] {
        assert_eq!(fixture.ask("POST", "/reboot", &[header], "").status, 200);
        fixture.init.next();
    }
}

#[test]
fn uploads_and_diversions_stay_below_the_temporary_folder() {
    let fixture = fixture("divert");
    let dest = fixture.machine.folder.join("tmp/gok-run/hello");
    let put = fixture.ask("PUT", "/uploadtemp/gok-run/hello", &[], "#!/bin/sh\n");
    assert_eq!(put.body, format!("{{\"dest\":\"{}\"}}", dest.display()));
    assert_eq!(bytes(&dest), b"#!/bin/sh\n");
    let alone: serde_json::Value =
        serde_json::from_str(&fixture.ask("PUT", "/uploadtemp/hello", &[], "x").body).unwrap();
    assert!(alone["dest"].as_str().unwrap().contains("/tmp/uploadtemp"));
    for path in [
        "%2e%2e/%2e%2e/perm/x",
        "..%2fperm%2fx",
        "a/../../perm/x",
        "%2fetc/x",
        "a/",
        "a%00b/c",
    ] {
        assert_eq!(
            fixture.status("PUT", &format!("/uploadtemp/{path}")),
            400,
            "{path}"
        );
    }
    assert_eq!(
        fixture
            .machine
            .folder
            .join("perm")
            .read_dir()
            .unwrap()
            .count(),
        0
    );

    let json = ("content-type", "application/json; charset=utf-8");
    let wish = r#"{"Path":"/user/hello","Diversion":"gok-run/hello","Flags":["-a","it's"]}"#;
    assert_eq!(fixture.ask("POST", "/divert", &[json], wish).status, 200);
    let diversion = |name: &str, arguments: &[&str]| control::Request::Divert {
        name: name.to_owned(),
        program: dest.display().to_string(),
        arguments: arguments.iter().map(|&text| text.to_owned()).collect(),
    };
    assert_eq!(fixture.init.next(), diversion("hello", &["-a", "it's"]));
    let form = "path=%2Fuser%2Fnew&diversion=gok-run%2Fhello";
    assert_eq!(fixture.ask("POST", "/divert", &[FORM], form).status, 200);
    assert_eq!(fixture.init.next(), diversion("new", &[]));
    for (path, status) in [
        ("../perm", 400),
        ("gok-run/none", 404),
        ("gok-run", 400),
        ("", 400),
        ("/bin/sh", 400),
    ] {
        let wish = format!("path=hello&diversion={path}");
        assert_eq!(
            fixture.ask("POST", "/divert", &[FORM], &wish).status,
            status,
            "{path:?}"
        );
    }
    assert_eq!(fixture.ask("POST", "/divert", &[json], "{").status, 400);
    fixture.init.assert_idle();
}

#[test]
fn bodies_are_bounded() {
    let fixture = fixture("bodies");
    let long = format!("path=hello&x={}", "x".repeat(70_000));
    assert_eq!(fixture.ask("POST", "/stop", &[FORM], &long).status, 413);
    assert_eq!(fixture.ask("POST", "/api/v1/power", &[], &long).status, 413);
    fixture.init.assert_idle();
}

#[test]
fn programs_read_the_machine() {
    let fixture = fixture("api");
    fixture.machine.write(
        "run/boot",
        "build_id=b1\nmodel=Pi\nmachine_id=m\nboot_id=x\nslot=a\nfirst_boot=no\n",
    );
    let get = |path: &str| -> serde_json::Value {
        let answer = fixture.ask("GET", path, &[], "");
        assert_eq!(answer.status, 200, "{path}");
        serde_json::from_str(&answer.body).unwrap()
    };
    assert_eq!(get("/api/v1/machine")["build_id"], "b1");
    assert_eq!(get("/api/v1/machine")["slot"], "a");
    assert_eq!(get("/api/v1/services")[1]["name"], "hello");
    assert_eq!(get("/api/v1/services/hello")["restarts"], 2);
    assert_eq!(get("/api/v1/network")["interfaces"], serde_json::json!([]));
    assert_eq!(get("/api/v1/network")["no_carrier"], serde_json::json!([]));
    fixture.machine.write(
        "run/addresses",
        "private=10.0.0.7\nno_carrier='eth0 <b>1'\n",
    );
    let network = get("/api/v1/network");
    assert_eq!(network["private"], serde_json::json!(["10.0.0.7"]));
    assert_eq!(network["no_carrier"], serde_json::json!(["eth0", "<b>1"]));
    let page = fixture.ask("GET", "/", &[("Accept", "text/html")], "").body;
    for words in ["eth0: no cable", "&lt;b&gt;1: no cable"] {
        assert!(page.contains(words), "{words}: {page}");
    }
    assert_eq!(fixture.status("GET", "/api/v1/services/none"), 404);
    let metrics = fixture.ask("GET", "/metrics", &[], "");
    assert!(
        metrics
            .header("content-type")
            .starts_with("application/openmetrics-text; version=1.0.0")
    );
    assert!(
        metrics
            .body
            .contains("gokrazy_service_restarts_total{service=\"hello\"} 2\n")
    );
    assert!(metrics.body.ends_with("# EOF\n"));
}

#[test]
fn logs_are_downloaded_whole_or_in_part() {
    let fixture = fixture("logs");
    fixture.machine.log("hello", 1, &["one", "!bad"]);
    fixture.machine.log("hello", 2, &["two"]);
    fixture.machine.log("kernel", 1, &["booting"]);
    let get = |path: &str| fixture.ask("GET", path, &[], "").body;
    assert_eq!(
        get("/log?path=/user/hello&stream=both&follow=no"),
        "one\nbad\ntwo\n"
    );
    assert_eq!(get("/log?path=hello&stream=stderr&follow=no"), "bad\n");
    let last = "1.0 2026-11-25T16:15:05.123Z out 6 two\n";
    assert_eq!(get("/api/v1/services/hello/log?lines=1"), last);
    assert_eq!(get("/api/v1/services/hello/log").lines().count(), 3);
    assert_eq!(get("/api/v1/services/kernel/log").lines().count(), 1);
    logs_go_on_behind_an_event(&fixture);
    for (path, status) in [
        ("/log?path=hello", 404),
        ("/log?path=hello&stream=stdlog", 404),
        ("/log?path=none&stream=both&follow=no", 404),
        ("/log?path=..&stream=both&follow=no", 404),
        ("/log?path=hello/../kernel&stream=both&follow=no", 404),
        ("/log?stream=both", 400),
        ("/api/v1/services/hello/log?lines=many", 400),
        ("/api/v1/services/..%2fservice/log", 404),
    ] {
        assert_eq!(fixture.status("GET", path), status, "{path}");
    }
    assert!(get("/").contains("two"));
}

fn logs_go_on_behind_an_event(fixture: &Fixture) {
    let events = |last: &str| {
        let path = "/log?path=hello&stream=stdout&follow=no";
        let headers = [("accept", "text/event-stream"), ("last-event-id", last)];
        let answer = fixture.ask("GET", path, &headers, "");
        assert_eq!(answer.header("content-type"), "text/event-stream");
        answer.body
    };
    let whole = events("");
    assert!(whole.contains("data: one\n\n") && whole.ends_with("data: two\n\n"));
    let first = whole.lines().find_map(|line| line.strip_prefix("id: "));
    let first = first.unwrap();
    let resumed = events(first);
    assert!(resumed.ends_with("data: two\n\n") && !resumed.contains("data: one"));
    // Of another boot, whose log is gone, and of no boot at all.
    let place = first.rsplit_once('-').unwrap().0;
    for other in [&format!("{place}-00000000"), place, "garbage"] {
        assert_eq!(events(other), whole, "{other}");
    }
}

#[test]
fn the_description_names_routes_that_are_there() {
    let fixture = fixture("openapi");
    let answer = fixture.ask("GET", "/api/v1/openapi.json", &[], "");
    let document: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
    let mut routes = 0;
    for (path, methods) in document["paths"].as_object().unwrap() {
        for method in methods.as_object().unwrap().keys() {
            let path = format!("/api/v1{}", path.replace("{name}", "hello"));
            let status = fixture
                .ask(&method.to_uppercase(), &path, &[], "")
                .status
                .as_u16();
            assert!(
                [200, 202, 204, 400].contains(&status),
                "{method} {path}: {status}"
            );
            routes += 1;
        }
    }
    assert_eq!(routes, 11);
}
