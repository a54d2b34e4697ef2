//! Kea as DHCPv6 server, with a router's advertisements that lead to it.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::common::{Client, Net, eventually};
use crate::interop::{place_of, write};
use crate::router::{advertisement, wait_for_link_local};
use crate::six::{MANAGED, OTHER};

/// Kea, which ends with its test.
struct Kea(Child);

impl Kea {
    /// Starts it; what it has granted before it still knows.
    #[track_caller]
    fn start(net: &Net, config: &Path) -> Self {
        let program = place_of("kea-dhcp6", "kea-dhcp6-server");
        let folder = net.folder.display();
        let mut command: Command = net.in_server("env");
        command
            .arg(format!("KEA_PIDFILE_DIR={folder}"))
            .arg(format!("KEA_LOCKFILE_DIR={folder}"))
            .arg(program)
            .arg("-c")
            .arg(config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        Self(command.spawn().unwrap())
    }
}

impl Drop for Kea {
    fn drop(&mut self) {
        let _ = self.0.kill();
        // Its port and its folder must be free for the next one.
        eventually(10, "the server's end", || {
            !matches!(self.0.try_wait(), Ok(None))
        });
    }
}

/// Settings with these times in seconds: T1, T2, and how long an address holds.
fn settings(net: &Net, times: [u32; 3]) -> std::path::PathBuf {
    let path = net.folder.join("kea6.conf");
    let [renew, rebind, valid] = times;
    let text = r#"{ "Dhcp6": {
        "interfaces-config": { "interfaces": [ "dhsrv0" ] },
        "data-directory": "FOLDER",
        "lease-database": { "type": "memfile", "persist": true, "name": "FOLDER/leases6", "lfc-interval": 0 },
        "renew-timer": T1, "rebind-timer": T2, "preferred-lifetime": VALID, "valid-lifetime": VALID,
        "subnet6": [ { "id": 1, "subnet": "2001:db8::/64", "interface": "dhsrv0",
            "pools": [ { "pool": "2001:db8::100 - 2001:db8::1ff" } ],
            "option-data": [ { "name": "dns-servers", "data": "2001:db8::53" },
                             { "name": "domain-search", "data": "example.org" } ] } ]
    } }"#;
    let text = text
        .replace("FOLDER", &net.folder.display().to_string())
        .replace("T1", &renew.to_string())
        .replace("T2", &rebind.to_string())
        .replace("VALID", &valid.to_string());
    write(&path, &text);
    path
}

/// A net whose router says `flags`, its server, and the server's settings.
fn told(flags: u8, times: [u32; 3]) -> (Net, Kea, std::path::PathBuf, Client) {
    let net = Net::new();
    net.server_ip("addr add 2001:db8::1/64 dev dhsrv0 nodad");
    // Kea wants a link-local address that has proved unique.
    eventually(10, "the server's link-local address", || {
        let shown = net.server_ip("-6 addr show dev dhsrv0 scope link");
        shown.contains("fe80::") && !shown.contains("tentative")
    });
    let config = settings(&net, times);
    let kea = Kea::start(&net, &config);
    let client = net.client(&["--conflict-check", "off", "--release"]);
    wait_for_link_local(&net);
    net.server().send_ipv6(&advertisement(flags, &[]));
    (net, kea, config, client)
}

fn address(net: &Net) -> Option<String> {
    let shown = net.ip("-6 addr show dev veth0 scope global");
    let found = shown.split_whitespace().find(|word| word.ends_with("/128"));
    found.map(str::to_owned)
}

#[track_caller]
fn wait_for_address(net: &Net) -> String {
    eventually(30, "an address", || address(net).is_some());
    address(net).unwrap()
}

fn has_name_server(net: &Net) -> bool {
    let want = "search example.org\nnameserver 2001:db8::53\n";
    let text = net.published("resolv.conf");
    text.is_some_and(|text| text.ends_with(want))
}

#[test]
fn kea_gives_renews_and_takes_back_an_ipv6_address() {
    let (net, _kea, _config, mut client) = told(MANAGED, [3, 30, 60]);
    let address = wait_for_address(&net);
    assert!(address.starts_with("2001:db8::1"), "{address}");
    eventually(5, "the name server", || has_name_server(&net));
    eventually(20, "two renewals", || {
        client.log().matches("renewed 2001:db8::1").count() >= 2
    });
    client.terminate();
    assert!(!net.ip("-6 addr show dev veth0").contains("/128"));
    // A lease of no length is how its file tells of one given back.
    let leases = net.folder.join("leases6");
    let bare = address.trim_end_matches("/128").to_owned();
    eventually(10, "the release", || {
        let text = std::fs::read_to_string(&leases).unwrap_or_default();
        let last = text.lines().rfind(|line| line.starts_with(&bare));
        last.is_some_and(|line| line.split(',').nth(2) == Some("0"))
    });
}

#[test]
fn kea_that_was_away_is_asked_for_the_same_address_again() {
    let (net, kea, config, client) = told(MANAGED, [2, 4, 60]);
    let before = wait_for_address(&net);
    drop(kea);
    eventually(20, "a question to any server", || {
        client.log().contains("asking any server")
    });
    let renewed = client.log().matches("renewed").count();
    let _kea = Kea::start(&net, &config);
    eventually(40, "an answer to it", || {
        client.log().matches("renewed").count() > renewed
    });
    assert_eq!(address(&net), Some(before));
}

#[test]
fn an_address_of_a_kea_that_is_gone_ends_and_another_is_asked_for() {
    let (net, kea, config, mut client) = told(MANAGED, [2, 4, 6]);
    let _ = wait_for_address(&net);
    drop(kea);
    eventually(20, "the end of the lease", || {
        client.log().contains("is over") && address(&net).is_none()
    });
    eventually(5, "the end of its name server", || {
        net.published("resolv.conf").is_none()
    });
    assert!(client.is_alive());
    let _kea = Kea::start(&net, &config);
    let _ = wait_for_address(&net);
    eventually(5, "the name server", || has_name_server(&net));
}

#[test]
fn kea_gives_settings_alone() {
    let (net, _kea, _config, client) = told(OTHER, [100, 200, 300]);
    eventually(30, "the name server", || has_name_server(&net));
    assert!(address(&net).is_none());
    assert!(!client.log().contains("bound"), "{}", client.log());
}
