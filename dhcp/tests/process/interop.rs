//! Leases from servers that others have written.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::common::{Net, eventually, run};

/// A server that ends with its test.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.try_wait();
    }
}

/// Where a server's program is: in `PATH`, where one that is unpacked and not installed is found too, or in the
/// system's own folders, which a user's `PATH` may lack.
#[track_caller]
pub(crate) fn place_of(program: &str, package: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    let found = std::env::split_paths(&path)
        .chain(system)
        .map(|folder| folder.join(program))
        .find(|place| place.is_file());
    found.unwrap_or_else(|| panic!("{program} is missing: `cargo xtask setup` gets {package}"))
}

/// Starts a server in the net's server namespace.
#[track_caller]
fn start(net: &Net, program: &str, package: &str, args: &[&str]) -> Server {
    let place = place_of(program, package).display().to_string();
    let mut command = net.in_server(&place);
    command
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    Server(command.spawn().unwrap())
}

/// The client gets a lease of 192.0.2.0/24 with router and name server, renews it on demand, and gives it back.
#[track_caller]
fn check(net: &Net) {
    let mut client = net.client(&["--release"]);
    eventually(15, "a lease", || net.has("192.0.2."));
    eventually(3, "the route", || {
        net.ip("route show default").contains("via 192.0.2.1")
    });
    eventually(3, "the name server", || {
        net.published("resolv.conf")
            .is_some_and(|text| text.contains("nameserver 192.0.2.53"))
    });
    client.signal(nix::sys::signal::Signal::SIGUSR1);
    eventually(5, "a renewal", || client.log().contains("renewed 192.0.2."));
    client.terminate();
    assert!(!net.has("192.0.2."));
}

pub(crate) fn write(path: &Path, text: &str) {
    #[expect(clippy::disallowed_methods, reason = "a test's own file")]
    std::fs::write(path, text).unwrap();
}

/// The client comes back: it asks for what it had (INIT-REBOOT) and gets it; asks for what belongs to another network
/// and is refused, and gets an address of this one.
#[track_caller]
fn check_return(net: &Net) {
    let flags = ["--conflict-check", "off"];
    let mut client = net.client(&flags);
    eventually(15, "a lease", || net.has("192.0.2."));
    client.terminate();
    drop(client);

    let mut client = net.client(&flags);
    eventually(15, "the lease again", || {
        let log = client.log();
        log.contains("asking whether 192.0.2.") && log.contains("bound to 192.0.2.")
    });
    assert!(!client.log().contains("discovering"), "{}", client.log());
    client.terminate();
    drop(client);

    let path = net.folder.join("state/veth0");
    let saved = std::fs::read_to_string(&path).unwrap();
    let line = saved.lines().find(|line| line.starts_with("address="));
    write(&path, &saved.replace(line.unwrap(), "address=203.0.113.9"));
    let client = net.client(&flags);
    eventually(15, "a refusal and a lease of this network", || {
        let log = client.log();
        log.contains("asking whether 203.0.113.9") && log.contains("refused by 192.0.2.1")
    });
    eventually(15, "a lease of this network", || net.has("192.0.2."));
    assert!(!net.has("203.0.113.9"));
}

/// dnsmasq with a range of 192.0.2.0/24, or with these arguments in its place.
#[track_caller]
fn dnsmasq(net: &Net, arguments: &[&str]) -> Server {
    let leases = format!("--dhcp-leasefile={}", net.folder.join("leases").display());
    let mut args = vec![
        "--keep-in-foreground",
        "--conf-file=/dev/null",
        "--port=0",
        "--interface=dhsrv0",
        "--no-ping",
        "--user=root",
        "--pid-file=",
        "--dhcp-range=192.0.2.100,192.0.2.150,255.255.255.0,300",
        "--dhcp-option=6,192.0.2.53",
        &leases,
    ];
    args.extend(arguments);
    start(net, "dnsmasq", "dnsmasq-base", &args)
}

/// Kea with these times in seconds: T1, T2 and the lease's length.
#[track_caller]
fn kea(net: &Net, times: [u32; 3]) -> Server {
    let config = net.folder.join("kea.conf");
    let folder = net.folder.display().to_string();
    let [renew, rebind, valid] = times;
    let text = r#"{ "Dhcp4": {
        "interfaces-config": { "interfaces": [ "dhsrv0" ] },
        "lease-database": { "type": "memfile", "persist": false },
        "control-socket": { "socket-type": "unix", "socket-name": "FOLDER/kea.sock" },
        "authoritative": true, "TIMES",
        "subnet4": [ { "id": 1, "subnet": "192.0.2.0/24", "pools": [ { "pool": "192.0.2.100 - 192.0.2.150" } ],
            "option-data": [ { "name": "routers", "data": "192.0.2.1" },
                             { "name": "domain-name-servers", "data": "192.0.2.53" } ] } ]
    } }"#;
    let times = format!(
        "\"renew-timer\": {renew}, \"rebind-timer\": {rebind}, \"valid-lifetime\": {valid}"
    );
    let text = text.replace("FOLDER", &folder).replace("\"TIMES\"", &times);
    write(&config, &text);
    let mut command = net.in_server("env");
    command
        .arg(format!("KEA_PIDFILE_DIR={folder}"))
        .arg(format!("KEA_LOCKFILE_DIR={folder}"))
        .arg(place_of("kea-dhcp4", "kea-dhcp4-server"))
        .arg("-c")
        .arg(&config)
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    Server(command.spawn().unwrap())
}

#[track_caller]
fn udhcpd(net: &Net) -> Server {
    let config = net.folder.join("udhcpd.conf");
    let text = "start 192.0.2.100\nend 192.0.2.150\ninterface dhsrv0\nlease_file FOLDER/udhcpd.leases\n\
                pidfile FOLDER/udhcpd.pid\noption subnet 255.255.255.0\noption router 192.0.2.1\n\
                option dns 192.0.2.53\noption lease 300\n";
    let folder = net.folder.display().to_string();
    write(&config, &text.replace("FOLDER", &folder));
    let config = config.display().to_string();
    start(net, "busybox", "busybox-static", &["udhcpd", "-f", &config])
}

#[test]
fn dnsmasq_gives_renews_and_refuses() {
    let net = Net::new();
    let _server = dnsmasq(&net, &["--dhcp-authoritative"]);
    check(&net);
    check_return(&net);
}

#[test]
fn dnsmasq_with_rapid_commit() {
    let net = Net::new();
    let _server = dnsmasq(&net, &["--dhcp-rapid-commit"]);
    check(&net);
}

/// As clouds have it: the address alone, and a router that only a route of option 121 makes reachable.
#[test]
fn dnsmasq_gives_a_single_address_and_classless_routes() {
    let net = Net::new();
    let options = [
        "--dhcp-option=1,255.255.255.255",
        "--dhcp-option=121,192.0.2.1/32,0.0.0.0,0.0.0.0/0,192.0.2.1,198.51.100.0/24,192.0.2.1",
    ];
    let _server = dnsmasq(&net, &options);
    let _client = net.client(&[]);
    eventually(15, "the routes", || {
        let routes = net.ip("route show");
        routes.contains("192.0.2.1 dev veth0 proto 103 scope link")
            && routes.contains("default via 192.0.2.1 dev veth0")
            && routes.contains("198.51.100.0/24 via 192.0.2.1 dev veth0")
    });
    let shown = net.ip("-4 addr show dev veth0");
    assert!(shown.contains("/32 "), "{shown}");
    assert!(run_in(&net, "route get 203.0.113.1").contains("via 192.0.2.1"));
}

#[test]
fn kea_gives_renews_and_refuses() {
    let net = Net::new();
    let _server = kea(&net, [100, 200, 300]);
    check(&net);
    check_return(&net);
}

/// T1 is answered to unicast; when the server's address is gone, T2 is answered to broadcast.
#[test]
fn kea_renews_by_unicast_and_rebinds_by_broadcast() {
    let net = Net::new();
    let _server = kea(&net, [3, 12, 60]);
    let client = net.client(&["--conflict-check", "off"]);
    eventually(15, "a lease", || net.has("192.0.2."));
    eventually(10, "a renewal at T1", || client.log().contains("renewed"));
    assert!(
        !client.log().contains("does not answer"),
        "{}",
        client.log()
    );
    net.server_ip("addr del 192.0.2.1/24 dev dhsrv0");
    net.ip("neigh flush dev veth0");
    let renewed = client.log().matches("renewed").count();
    eventually(30, "a question to any server", || {
        client.log().contains("does not answer; asking any server")
    });
    eventually(15, "an answer to it", || {
        client.log().matches("renewed").count() > renewed
    });
    assert!(net.has("192.0.2."));
}

#[test]
fn udhcpd_gives_renews_and_refuses() {
    let net = Net::new();
    let _server = udhcpd(&net);
    check(&net);
    check_return(&net);
}

/// Without `--interface`, every wired interface is managed, and the one that others count as slower stands behind.
#[test]
fn all_wired_interfaces_are_served() {
    let net = Net::new();
    net.plug("veth1", "dhsrv1");
    net.server_ip("addr add 198.51.100.1/24 dev dhsrv1");
    net.ip("link add name bridge0 type bridge");
    let leases = format!("--dhcp-leasefile={}", net.folder.join("leases").display());
    let args = [
        "--keep-in-foreground",
        "--conf-file=/dev/null",
        "--port=0",
        "--no-ping",
        "--user=root",
        "--pid-file=",
        "--interface=dhsrv0",
        "--interface=dhsrv1",
        "--dhcp-range=192.0.2.100,192.0.2.150,255.255.255.0,300",
        "--dhcp-range=198.51.100.100,198.51.100.150,255.255.255.0,300",
        &leases,
    ];
    let _server = start(&net, "dnsmasq", "dnsmasq-base", &args);
    let mut client: Command = net.in_client(env!("CARGO_BIN_EXE_dhcp"));
    let mut client = client
        .args(net.folders())
        .args(["--conflict-check", "off"])
        .spawn()
        .unwrap();
    let both = || net.published("net/veth0").is_some() && net.published("net/veth1").is_some();
    eventually(15, "two leases", both);
    let routes = net.ip("route show default");
    assert_eq!(routes.lines().count(), 2, "{routes}");
    assert!(net.published("net/bridge0").is_none());
    let best = || run_in(&net, "route get 203.0.113.1");
    let first = if best().contains("veth0") {
        ("dhsrv0", "veth1")
    } else {
        ("dhsrv1", "veth0")
    };
    net.server_ip(&format!("link set {} down", first.0));
    eventually(3, "the other link", || best().contains(first.1));
    let pid = client.id().to_string();
    run("kill", &[&pid]);
    eventually(5, "its end", || client.try_wait().unwrap().is_some());
    assert!(net.ip("route show default").is_empty());
}

fn run_in(net: &Net, args: &str) -> String {
    net.ip(args)
}

/// dnsmasq as router and DHCPv6 server, in one of its modes.
fn six(net: &Net, range: &str) -> Server {
    net.server_ip("addr add 2001:db8::1/64 dev dhsrv0 nodad");
    let leases = format!("--dhcp-leasefile={}", net.folder.join("leases").display());
    let range = format!("--dhcp-range={range}");
    let args = [
        "--keep-in-foreground",
        "--conf-file=/dev/null",
        "--port=0",
        "--interface=dhsrv0",
        "--user=root",
        "--pid-file=",
        "--enable-ra",
        &range,
        "--dhcp-option=option6:dns-server,[2001:db8::53]",
        "--dhcp-option=option6:domain-search,example.org",
        &leases,
    ];
    start(net, "dnsmasq", "dnsmasq-base", &args)
}

fn has_name_server(net: &Net) -> bool {
    let want = "search example.org\nnameserver 2001:db8::53\n";
    net.published("resolv.conf")
        .is_some_and(|text| text.ends_with(want))
}

#[test]
fn dnsmasq_gives_an_ipv6_address() {
    let net = Net::new();
    let _server = six(&net, "2001:db8::100,2001:db8::1ff,64,600");
    let mut client = net.client(&["--release", "--verbose"]);
    let address = || net.ip("-6 addr show dev veth0 scope global");
    eventually(60, "an address", || {
        client.log().contains("bound to 2001:db8::1")
    });
    eventually(3, "it in the kernel", || {
        address().contains("/128 scope global dynamic")
    });
    eventually(3, "the name server", || has_name_server(&net));
    client.terminate();
    assert!(!address().contains("/128"), "{}", address());
    assert!(net.published("resolv.conf").is_none());
    let leases = net.folder.join("leases");
    let held = || {
        std::fs::read_to_string(&leases)
            .unwrap_or_default()
            .contains("2001:db8::1")
    };
    eventually(5, "the lease's release", || !held());
}

#[test]
fn dnsmasq_gives_ipv6_settings_alone() {
    let net = Net::new();
    let _server = six(&net, "2001:db8::,ra-stateless,64,600");
    let client = net.client(&[]);
    eventually(60, "the name server", || has_name_server(&net));
    assert!(!client.log().contains("bound"), "{}", client.log());
}
