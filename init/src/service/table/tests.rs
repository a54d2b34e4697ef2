use std::time::Duration;

use super::*;
use crate::service::{Start, User};

const WHOLE: &str = r#"
# The example of the manual.
[[service]]
name = "web-shop"
command = ["/user/web-shop", "--port", "80"]
env = { RUST_LOG = "info" }
start = "boot"
wait-for = ["clock", "net-route", "service:db"]
restart = "on-failure"
restart-delay = "1s"
stop-signal = "TERM"
stop-timeout = "10s"
notify = true
watchdog = "30s"
critical = true
user = "auto"
capabilities = ["net-bind-service"]
writable = ["/perm/shared"]
memory-max = "64M"
cpu-max = "50%"
tasks-max = 64
log-max = "256K"

[[service]]
name = "db"
command = ["/user/db"]
user = 1000
start = "manual"
[service.env]
HOME = "/perm/db"
"#;

#[track_caller]
fn check(text: &str, want: &[&str]) {
    let errors = check_services(text, &["known"]).err().unwrap_or_default();
    let got: Vec<_> = errors.iter().map(ToString::to_string).collect();
    assert_eq!(got, want);
}

#[test]
fn every_key_is_read() {
    let services = check_services(WHOLE, &[]).unwrap();
    let [shop, db] = services.as_slice() else {
        panic!("{services:?}")
    };
    assert_eq!(shop.command_line(), "/user/web-shop --port 80");
    assert_eq!(shop.env, [("RUST_LOG".to_owned(), "info".to_owned())]);
    assert_eq!(shop.wait_for.len(), 3);
    assert_eq!((shop.notify, shop.critical), (true, true));
    assert_eq!(shop.watchdog, Some(Duration::from_secs(30)));
    assert_eq!(shop.capabilities, 1 << 10);
    assert_eq!(shop.limits.memory, Some(64 << 20));
    assert_eq!(
        (shop.limits.cpu_permille, shop.limits.tasks),
        (Some(500), Some(64))
    );
    assert_eq!(shop.log.volatile, 256 << 10);
    assert_eq!((&db.user, db.start), (&User::Id(1000), Start::Manual));
    assert_eq!(db.env, [("HOME".to_owned(), "/perm/db".to_owned())]);
}

#[test]
fn a_device_passes_over_what_nobody_knows_and_keeps_the_service() {
    let text = "[[service]]\nname = 'a'\ncommand = ['/a']\ncolour = 'red'\nwith = { more = 1 }\n\n\
                [[service]]\nname = 'b'\ncolour = 'red'\n\n\
                [[service]]\nname = 'c\u{fffd}'\ncommand = ['/c']\n";
    let Parsed {
        services: placed,
        errors,
        ..
    } = parse(text);
    let names: Vec<&str> = placed.iter().map(|one| one.service.name.as_str()).collect();
    assert_eq!(names, ["a"]);
    let lines: Vec<usize> = errors.iter().map(|error| error.line).collect();
    assert_eq!(lines, [4, 5, 9, 7, 12], "{errors:?}");
    let starts = [
        "unknown field `colour`",
        "unknown field `with`",
        "unknown field `colour`",
        "missing field `command`",
        "a byte that is no UTF-8",
    ];
    for (error, start) in errors.iter().zip(starts) {
        assert!(error.message.starts_with(start), "{error}");
    }
}

#[test]
fn an_unknown_key_is_named_with_its_line() {
    let text = "[[service]]\nname = 'a'\ncommand = ['/a']\ncolour = 'red'\n";
    let errors = check_services(text, &[]).unwrap_err();
    assert_eq!(errors.len(), 1);
    assert_eq!(errors[0].line, 4);
    assert!(
        errors[0].message.starts_with("unknown field `colour`"),
        "{}",
        errors[0].message
    );
}

#[test]
fn a_wrong_value_is_named_with_its_key_and_line() {
    let service = |line: &str| format!("[[service]]\nname = 'a'\ncommand = ['/a']\n{line}\n");
    check(
        &service("stop-signal = 'FLY'"),
        &["4: key `stop-signal`: unknown signal `FLY`"],
    );
    check(
        &service("writable = ['a']"),
        &["4: key `writable`: `a` is no absolute path"],
    );
    check(
        &service("watchdog = '0s'"),
        &["1: key `watchdog`: must be longer than \"0s\""],
    );
    check(
        "[[service]]\nname = 'a'\ncommand = []\n",
        &["1: key `command`: name a program"],
    );
    check("[[service]]\nname = 'a'\n", &["1: missing field `command`"]);
}

#[test]
fn a_broken_table_costs_only_itself() {
    let text = "[[service]]\nname = 'a'\ncommand = ['/a']\n[[service]]\nname = \n[[service]]\nname = 'c'\ncommand = ['/c']\n";
    let Parsed {
        services: placed,
        errors,
        ..
    } = parse(text);
    let names: Vec<_> = placed
        .iter()
        .map(|one| (one.line, one.service.name.as_str()))
        .collect();
    assert_eq!(names, [(1, "a"), (6, "c")]);
    assert_eq!(errors.len(), 1);
    assert_eq!(errors[0].line, 5);
}

#[test]
fn names_are_unique_and_relations_hold() {
    let service = |name: &str, wait: &str| {
        format!("[[service]]\nname = '{name}'\ncommand = ['/x']\nwait-for = [{wait}]\n")
    };
    check(
        &(service("a", "") + &service("a", "")),
        &["5: name `a` is taken by an earlier service"],
    );
    check(&service("a", "'service:known'"), &[]);
    check(
        &service("a", "'service:b'"),
        &["1: service `a`: key `wait-for`: there is no service `b`"],
    );
    check(
        &(service("a", "'service:b'") + &service("b", "'service:a'")),
        &[
            "1: service `a`: key `wait-for`: waits for itself in a circle",
            "5: service `b`: key `wait-for`: waits for itself in a circle",
        ],
    );
}

#[test]
fn mounts_are_read_and_wrong_ones_named() {
    let text = "[[mount]]\nsource = 'LABEL=data'\ntarget = '/mnt/data'\ntype = 'ext4'\noptions = 'ro,noexec'\n";
    let parsed = parse(text);
    assert_eq!(parsed.errors, []);
    let mount = &parsed.mounts[0].mount;
    assert_eq!(
        (mount.source.to_string().as_str(), mount.kind.as_deref()),
        ("LABEL=data", Some("ext4"))
    );
    let line = |key: &str, value: &str| text.replace(key, value);
    check(
        &line("LABEL=data", "data"),
        &[
            "2: key `source`: `data` names no disk: use PARTUUID=…, UUID=…, LABEL=… or a path below /dev",
        ],
    );
    check(
        &line("/mnt/data", "/etc"),
        &["3: key `target`: nothing can be mounted at `/etc`: use a path such as /mnt/disk"],
    );
    check(
        &line("ext4", "ext 4"),
        &["4: key `type`: `ext 4` is no type of file system"],
    );
    check(
        &line("ro,", "bind,"),
        &["5: key `options`: option `bind` is none of a file system on a disk"],
    );
    check(
        &(text.to_owned() + &line("/mnt/data", "/mnt/data/x")),
        &["6: key `target`: /mnt/data/x and /mnt/data of line 1 lie in one another"],
    );
    let unknown = check_services(&line("options", "option"), &[]).unwrap_err();
    assert!(
        unknown[0].line == 5 && unknown[0].message.starts_with("unknown field `option`"),
        "{unknown:?}"
    );
}

#[test]
fn a_byte_that_is_no_text_costs_its_own_table_alone() {
    let text = "[[service]]\nname = 'a'\ncommand = ['/\u{FFFD}']\n[[service]]\nname = 'b'\ncommand = ['/b']\n[colour]\nx = 1\n";
    let parsed = parse(text);
    let names: Vec<_> = parsed
        .services
        .iter()
        .map(|one| one.service.name.as_str())
        .collect();
    assert_eq!(names, ["b"]);
    let lines: Vec<_> = parsed.errors.iter().map(|error| error.line).collect();
    assert_eq!(lines, [3, 7]);
}

#[test]
fn one_bracket_is_told() {
    check(
        "[service]\nname = 'a'\ncommand = ['/a']\n",
        &["1: two brackets begin a table: `[[service]]`, `[[mount]]`"],
    );
}
