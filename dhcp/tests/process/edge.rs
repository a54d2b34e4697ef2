//! Corners: odd leases in the kernel, rival servers, disks and names that let one down.

use std::io::Write;
use std::net::Ipv4Addr;
use std::os::unix::fs::symlink;

use gokrazy_dhcp::frame::Arp;
use nix::sys::signal::Signal;

use crate::common::{
    ACK, ADDRESS, DISCOVER, NAK, Net, OFFER, REQUEST, Seen, carry, eventually, lease, message, run,
};

const OFF: [&str; 2] = ["--conflict-check", "off"];

/// Binds the client with these options.
fn bind(net: &Net, options: &[u8]) -> (crate::common::Server, crate::common::Client) {
    let server = net.server();
    let client = net.client(&OFF);
    server.serve(&[options]);
    eventually(3, "the lease", || net.has("192.0.2.17"));
    (server, client)
}

#[test]
fn a_gateway_off_the_link_is_reached() {
    let net = Net::new();
    let options = [
        1, 4, 255, 255, 255, 255, 3, 4, 203, 0, 113, 1, 51, 4, 0, 0, 14, 16,
    ];
    let (_server, _client) = bind(&net, &options);
    let routes = || net.ip("route show");
    eventually(2, "both routes", || {
        let routes = routes();
        routes.contains("203.0.113.1 dev veth0 proto 103 scope link")
            && routes.contains("default via 203.0.113.1 dev veth0")
    });
    assert!(net.has("192.0.2.17/32"));
}

#[test]
fn classless_routes_displace_the_router_option() {
    let net = Net::new();
    let classless = [
        &[121, 19][..],
        &[0, 192, 0, 2, 254],
        &[8, 10, 192, 0, 2, 9],
        &[24, 198, 51, 100, 0, 0, 0, 0],
    ];
    let options = [lease(3600), classless.concat()].concat();
    let (_server, mut client) = bind(&net, &options);
    let routes = net.ip("route show");
    assert!(routes.contains("default via 192.0.2.254"), "{routes}");
    assert!(routes.contains("10.0.0.0/8 via 192.0.2.9"), "{routes}");
    assert!(
        routes.contains("198.51.100.0/24 dev veth0 proto 103 scope link"),
        "{routes}"
    );
    assert!(!routes.contains("via 192.0.2.1 "), "{routes}");
    client.terminate();
    assert!(net.ip("route show").is_empty());
}

#[test]
fn several_routers_stand_in_line() {
    let net = Net::new();
    let options = [
        &lease(3600)[..4],
        &[255, 0, 3, 8, 192, 0, 2, 1, 192, 0, 2, 2],
    ]
    .concat();
    let (_server, _client) = bind(&net, &options);
    let routes = net.ip("route show default");
    let metric = |router: &str| {
        let line = routes.lines().find(|line| line.contains(router)).unwrap();
        line.split_whitespace()
            .last()
            .unwrap()
            .parse::<u32>()
            .unwrap()
    };
    assert!(
        metric("via 192.0.2.1 ") < metric("via 192.0.2.2 "),
        "{routes}"
    );
}

#[test]
fn an_endless_lease_stays() {
    let net = Net::new();
    let (_server, _client) = bind(&net, &lease(u32::MAX));
    assert!(
        net.ip("-4 addr show dev veth0")
            .contains("valid_lft forever")
    );
    assert!(!net.published("net/veth0").unwrap().contains("expires_at"));
}

#[test]
fn another_address_in_a_renewal_takes_the_firsts_place() {
    let net = Net::new();
    let (server, _client) = bind(&net, &lease(4));
    let renew = server.expect(REQUEST, 4);
    let mut reply = message(&renew, ACK, &[&lease(3600)]);
    reply[19] = 99;
    server.send(&carry(&reply));
    eventually(3, "the change", || {
        net.has("192.0.2.99/24") && !net.has("192.0.2.17")
    });
    assert!(net.ip("route show default").contains("src 192.0.2.99"));
    assert!(
        net.published("net/veth0")
            .unwrap()
            .contains("address=192.0.2.99\n")
    );
}

#[test]
fn nobody_can_order_a_bound_client_about() {
    let net = Net::new();
    let (server, mut client) = bind(&net, &lease(3600));
    let request: Seen = {
        client.signal(nix::sys::signal::Signal::SIGUSR1);
        server.expect(REQUEST, 2)
    };
    server.reply(&request, ACK, &[&lease(3600)]);
    std::thread::sleep(std::time::Duration::from_millis(200));
    for kind in [9, NAK, OFFER, ACK] {
        server.reply(&request, kind, &[&lease(1)]);
    }
    assert!(server.next(500).is_none() && net.has("192.0.2.17") && client.is_alive());
}

#[test]
fn of_two_servers_the_first_is_taken_at_its_word() {
    let net = Net::new();
    let server = net.server();
    let _client = net.client(&OFF);
    let discover = server.expect(DISCOVER, 3);
    let rival = |kind: u8| {
        let mut bytes = message(&discover, kind, &[&lease(3600)]);
        bytes[248] = 66;
        bytes[19] = 66;
        carry(&bytes)
    };
    server.reply(&discover, OFFER, &[&lease(3600)]);
    server.send(&rival(OFFER));
    let request = server.expect(REQUEST, 2);
    assert_eq!(request.address(54), Some(Ipv4Addr::new(192, 0, 2, 1)));
    server.send(&rival(NAK));
    server.send(&rival(ACK));
    assert!(server.next(300).is_none());
    server.reply(&request, ACK, &[&lease(3600)]);
    eventually(2, "the lease", || net.has("192.0.2.17"));
}

#[test]
fn naks_are_met_with_growing_patience() {
    let net = Net::new();
    let server = net.server();
    let _client = net.client(&OFF);
    let mut gaps = Vec::new();
    let mut discover = server.expect(DISCOVER, 3);
    for _ in 0..3 {
        server.reply(&discover, OFFER, &[&lease(3600)]);
        let request = server.expect(REQUEST, 2);
        server.reply(&request, NAK, &[]);
        let next = server.expect(DISCOVER, 10);
        gaps.push(next.at.duration_since(request.at).as_secs_f64());
        discover = next;
    }
    // Both moments are those at which a busy machine let the server look.
    let near = |gap: &f64, want: f64| (gap - want).abs() < 0.7;
    assert!(
        gaps.iter()
            .zip([0.0, 2.0, 4.0])
            .all(|(gap, want)| near(gap, want)),
        "{gaps:?}"
    );
}

#[test]
fn an_interface_has_one_manager() {
    let net = Net::new();
    let server = net.server();
    let mut first = net.client(&OFF);
    server.serve(&[&lease(3600)]);
    eventually(3, "the lease", || net.has("192.0.2.17"));
    let second = |flags: &[&str]| {
        let mut command = net.in_client(env!("CARGO_BIN_EXE_dhcp"));
        let output = command.args(flags).args(net.folders()).output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        (output.status.code(), text)
    };
    let (code, text) = second(&["--interface", "veth0", "--once"]);
    assert_eq!(code, Some(1), "{text}");
    let line = format!("veth0: managed by another dhcp, process {}", first.pid());
    assert!(
        text.contains(&line) && text.contains("stop the other"),
        "{text}"
    );
    // Who manages what is free leaves the rest alone; who looks at an offer disturbs nobody.
    let (code, text) = second(&["--once", "--timeout", "1"]);
    assert!(text.contains(&line) && code == Some(1), "{text}");
    let (_, text) = second(&["--interface", "veth0", "--test", "--timeout", "1"]);
    assert!(text.contains("no lease within 1 s"), "{text}");
    assert!(net.has("192.0.2.17") && first.is_alive());
    first.signal(Signal::SIGKILL);
    first.exit(5);
    let again = net.client(&OFF);
    eventually(5, "the next manager", || again.log().contains("asking"));
}

#[test]
fn one_process_manages_all_wired_interfaces() {
    let net = Net::new();
    let run = |timeout: &str| {
        let mut command = net.in_client(env!("CARGO_BIN_EXE_dhcp"));
        let flags = ["--once", "--conflict-check", "off", "--timeout", timeout];
        command.args(net.folders()).args(flags);
        command
            .stderr(std::process::Stdio::piped())
            .spawn()
            .unwrap()
    };
    let server = net.server();
    let mut first = run("60");
    server.expect(DISCOVER, 10);
    let second = run("60").wait_with_output().unwrap();
    let text = String::from_utf8(second.stderr).unwrap();
    let line = format!("managed by another dhcp, process {}", first.id());
    assert!(
        text.contains(&line) && second.status.code() == Some(1),
        "{text}"
    );
    first.kill().unwrap();
    let _ = first.try_wait();
}

#[test]
fn once_announces_twice_where_the_rfc_is_to_be_kept() {
    let net = Net::new();
    let server = net.server();
    let mut client = net.client(&["--once", "--conflict-check", "full"]);
    server.serve(&[&lease(3600)]);
    for _ in 0..2 {
        let announced = |arp: &Arp| arp.sender == ADDRESS && arp.target == ADDRESS;
        assert!(server.next_arp(15_000, announced).is_some());
    }
    assert_eq!(client.exit(5), Some(0));
    assert!(net.has("192.0.2.17"));
}

#[test]
fn an_interface_that_is_set_down_says_so_in_one_line() {
    let net = Net::new();
    let (server, client) = bind(&net, &lease(3600));
    let before = client.log();
    net.ip("link set veth0 down");
    eventually(5, "the line", || {
        client.log().contains("set down by someone")
    });
    net.ip("link set veth0 up");
    let reboot = server.expect(REQUEST, 5);
    server.reply(&reboot, ACK, &[&lease(3600)]);
    eventually(5, "the route", || {
        net.ip("route show default").contains("via 192.0.2.1")
    });
    let log = client.log();
    let news: Vec<&str> = log.strip_prefix(&before).unwrap().lines().collect();
    assert_eq!(news.len(), 3, "{news:?}");
    assert!(
        news[1].contains("asking whether") && news[2].contains("renewed"),
        "{news:?}"
    );
}

#[test]
fn a_renamed_interface_keeps_its_lease() {
    let net = Net::new();
    let server = net.server();
    let mut command = net.in_client(env!("CARGO_BIN_EXE_dhcp"));
    let mut child = command.args(net.folders()).args(OFF).spawn().unwrap();
    server.serve(&[&lease(3600)]);
    eventually(3, "the lease", || net.published("net/veth0").is_some());
    net.ip("link set veth0 down");
    net.ip("link set veth0 name lan0");
    net.ip("link set lan0 up");
    eventually(3, "the file under the new name", || {
        net.published("net/veth0").is_none() && net.published("net/lan0").is_some()
    });
    let reboot = server.expect(REQUEST, 3);
    server.reply(&reboot, ACK, &[&lease(3600)]);
    eventually(3, "the route", || {
        net.ip("route show default").contains("dev lan0")
    });
    child.kill().unwrap();
    let _ = child.try_wait();
}

#[test]
fn a_full_disk_costs_the_files_alone() {
    let net = Net::new();
    for name in ["state", "run"] {
        std::fs::create_dir_all(net.folder.join(name)).unwrap();
        // Where nothing can be created, whoever asks: root, too, gets ENOENT.
        let folder = net.folder.join(name);
        std::fs::remove_dir(&folder).unwrap();
        symlink("/proc/self/no-such-folder", &folder).unwrap();
    }
    let (server, mut client) = bind(&net, &lease(4));
    let renew = server.expect(REQUEST, 4);
    server.reply(&renew, ACK, &[&lease(3600)]);
    eventually(3, "the renewal", || client.log().contains("renewed"));
    assert!(client.log().contains("not kept"), "{}", client.log());
    let told = client.log().matches("/run/net/").count();
    assert_eq!(told, 1, "once, not with each renewal: {}", client.log());
    client.terminate();
    assert!(!net.has("192.0.2.17"));
}

/// A file system of one page, which something else has filled; gone with this value.
struct Full(std::path::PathBuf);

impl Full {
    fn new(folder: std::path::PathBuf) -> Self {
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.to_str().unwrap();
        run("mount", &["-t", "tmpfs", "-o", "size=4k", "tmpfs", path]);
        let filler = std::fs::File::create_new(folder.join("filler"));
        filler.unwrap().write_all(&[b'x'; 4096]).unwrap();
        Self(folder)
    }
}

impl Drop for Full {
    fn drop(&mut self) {
        run("umount", &["-l", self.0.to_str().unwrap()]);
    }
}

#[test]
fn a_disk_without_a_free_page_costs_the_files_alone() {
    let net = Net::new();
    let full = ["state", "run"].map(|name| Full::new(net.folder.join(name)));
    let (_server, mut client) = bind(&net, &lease(3600));
    eventually(10, "the address", || net.has("192.0.2.17"));
    eventually(10, "word of it", || client.log().contains("not kept"));
    for Full(folder) in &full {
        let mut files = std::fs::read_dir(folder).unwrap().flatten();
        // Nothing that is half written counts, or is left.
        let left = files.find(|file| {
            let is_whole = file.file_name() == "filler" || file.path().is_dir();
            !is_whole && !file.file_name().to_string_lossy().starts_with("duid")
        });
        assert!(left.is_none(), "{left:?}");
    }
    client.terminate();
    assert!(!net.has("192.0.2.17"));
}

#[test]
fn the_careful_check_keeps_the_rfcs_times() {
    let net = Net::new();
    let server = net.server();
    let _client = net.client(&["--conflict-check", "full"]);
    let (_, request) = server.serve(&[&lease(3600)]);
    for _ in 0..3 {
        let probe = server.next_arp(3000, |arp| arp.sender.is_unspecified());
        assert!(probe.is_some() && !net.has("192.0.2.17"));
    }
    eventually(3, "the address", || net.has("192.0.2.17"));
    let took = crate::common::clock()
        .duration_since(request.at)
        .as_secs_f64();
    assert!((4.0..7.6).contains(&took), "{took} s");
}

#[test]
fn ipv6_only_networks_are_left_in_peace() {
    let net = Net::new();
    let server = net.server();
    let client = net.client(&OFF);
    let discover = server.expect(DISCOVER, 3);
    assert!(discover.options[&55].contains(&108));
    server.reply(&discover, OFFER, &[&lease(3600), &[108, 4, 0, 0, 0, 10]]);
    eventually(2, "the line", || {
        client.log().contains("asking again in 300 s")
    });
    assert!(server.next(6000).is_none());
}

#[test]
fn fixed_settings_stand_in_place_of_a_lease() {
    let net = Net::new();
    let config = net.folder.join("config");
    std::fs::create_dir_all(&config).unwrap();
    let text = "address=192.0.2.5/24\ngateway=192.0.2.1\nroutes='10.0.0.0/8,192.0.2.9'\nmtu=1400\n\
                address6=2001:db8::5/64\ngateway6=fe80::1\ndns='192.0.2.53 2001:db8::53'\nsearch=example.org\n";
    #[expect(clippy::disallowed_methods, reason = "a test's own file")]
    std::fs::write(config.join("veth0"), text).unwrap();
    let server = net.server();
    let folder = config.display().to_string();
    let mut client = net.client(&["--config-dir", &folder]);
    let complete = || {
        let routes = net.ip("route show");
        let six = net.ip("-6 route show default");
        net.has("192.0.2.5/24")
            && routes.contains("default via 192.0.2.1")
            && routes.contains("10.0.0.0/8 via 192.0.2.9")
            && six.contains("via fe80::1")
            && net.ip("-6 addr show dev veth0").contains("2001:db8::5/64")
    };
    eventually(5, "all of it", complete);
    let want = "search example.org\nnameserver 192.0.2.53\nnameserver 2001:db8::53\n";
    assert!(net.published("resolv.conf").unwrap().ends_with(want));
    assert!(
        net.published("net/veth0")
            .unwrap()
            .contains("method=static\n")
    );
    net.ip("addr flush dev veth0 scope global");
    eventually(5, "all of it again", complete);
    net.ip("-6 route del default dev veth0");
    eventually(5, "the IPv6 route again", complete);
    net.server_ip("link set dhsrv0 down");
    net.server_ip("link set dhsrv0 up");
    eventually(5, "all of it after a loss of carrier", complete);
    assert!(server.next(1500).is_none(), "a server was asked");
    client.terminate();
    assert!(!net.has("192.0.2.5") && net.ip("-6 route show default").is_empty());
    assert!(net.ip("link show dev veth0").contains("mtu 1500"));
    assert!(net.published("resolv.conf").is_none() && net.published("net/veth0").is_none());
}

#[test]
fn a_slip_in_fixed_settings_leaves_the_machine_reachable() {
    let net = Net::new();
    let config = net.folder.join("config");
    std::fs::create_dir_all(&config).unwrap();
    #[expect(clippy::disallowed_methods, reason = "a test's own file")]
    std::fs::write(config.join("veth0"), "adress=192.0.2.5/24\n").unwrap();
    let server = net.server();
    let folder = config.display().to_string();
    let client = net.client(&["--config-dir", &folder]);
    server.expect(DISCOVER, 3);
    assert!(
        client.log().contains("unknown key `adress`"),
        "{}",
        client.log()
    );
}

/// On a kernel without VLANs, the line that says so is what is looked for.
#[test]
fn a_vlan_is_made_and_removed() {
    let net = Net::new();
    let config = net.folder.join("config");
    std::fs::create_dir_all(&config).unwrap();
    let text = "parent=veth0\nvlan=10\naddress=198.51.100.5/24\n";
    #[expect(clippy::disallowed_methods, reason = "a test's own file")]
    std::fs::write(config.join("lan10"), text).unwrap();
    let folder = config.display().to_string();
    let trial = "link add link veth0 name trial type vlan id 9";
    let supported = net
        .in_client("ip")
        .args(trial.split(' '))
        .output()
        .unwrap()
        .status
        .success();
    let server = net.server();
    let mut client = net.client(&[
        "--interface",
        "lan10",
        "--config-dir",
        &folder,
        OFF[0],
        OFF[1],
    ]);
    server.serve(&[&lease(3600)]);
    eventually(5, "the parent's address", || net.has("192.0.2.17"));
    if supported {
        eventually(5, "the VLAN's address", || {
            net.ip("-4 addr show").contains("198.51.100.5/24")
        });
        assert!(
            net.ip("-d link show lan10")
                .contains("vlan protocol 802.1Q id 10")
        );
        net.ip("link del lan10");
        eventually(5, "the VLAN anew", || {
            net.ip("-4 addr show").contains("198.51.100.5/24")
        });
    } else {
        let line = "lan10: make VLAN 10 on veth0: Operation not supported";
        assert_eq!(client.log().matches(line).count(), 1, "{}", client.log());
    }
    client.terminate();
    assert!(!net.ip("link show").contains("lan10"));
}

#[test]
fn a_hangup_asks_for_more_time_and_test_keeps_no_identifier() {
    let net = Net::new();
    let state = net.folder.join("state");
    std::fs::create_dir_all(&state).unwrap();
    let server = net.server();
    let mut test = net.client(&["--test"]);
    let discover = server.expect(DISCOVER, 10);
    server.reply(&discover, OFFER, &[&lease(600)]);
    assert_eq!(test.exit(5), Some(0));
    assert_eq!(std::fs::read_dir(&state).unwrap().count(), 0);
    drop(server);

    let (server, mut client) = bind(&net, &lease(600));
    client.signal(Signal::SIGHUP);
    let request = server.expect(REQUEST, 5);
    assert_eq!(request.client(), ADDRESS);
    assert!(client.is_alive());
    client.terminate();
}

/// Each wait for the disk takes 30 s here: the first lease must not wait for one, nor what is told of it.
#[test]
fn a_slow_disk_holds_up_no_address() {
    let net = Net::new();
    let server = net.server();
    let mut command = net.in_client("strace");
    command
        .args(["-f", "-o", "/dev/null", "-e", "trace=fsync"])
        .args(["-e", "inject=fsync:delay_enter=30000000"])
        .arg(env!("CARGO_BIN_EXE_dhcp"))
        .args(["--interface", "veth0"])
        .args(net.folders())
        .args(OFF);
    let mut child = command.spawn().unwrap();
    server.serve(&[&lease(600)]);
    eventually(5, "the address", || net.has("192.0.2.17"));
    for name in ["run/net/veth0", "run/resolv.conf", "state/veth0"] {
        eventually(5, name, || net.folder.join(name).exists());
    }
    child.kill().unwrap();
    let _ = child.try_wait();
}

#[test]
fn told_to_stop_too_early_once_does_not_claim_success() {
    let net = Net::new();
    let server = net.server();
    for goal in ["--once", "--test"] {
        let mut client = net.client(&[goal]);
        server.expect(DISCOVER, 10);
        client.signal(Signal::SIGTERM);
        assert_eq!(client.exit(5), Some(1), "{goal}");
    }
}

/// A name restricts, but a new one cuts nobody off; the interface that gets the old one is meant from then on.
#[test]
fn a_named_interface_is_followed_until_another_bears_the_name() {
    let net = Net::new();
    let (_server, client) = bind(&net, &lease(600));
    let rename = |from: &str, to: &str| {
        net.ip(&format!("link set {from} down"));
        net.ip(&format!("link set {from} name {to}"));
        net.ip(&format!("link set {to} up"));
    };
    rename("veth0", "lan0");
    eventually(5, "the file under the new name", || {
        net.published("net/veth0").is_none() && net.published("net/lan0").is_some()
    });
    let has = || net.ip("-4 addr show dev lan0").contains("192.0.2.17");
    assert!(has());
    net.plug("veth0", "dhsrv1");
    eventually(5, "the end of the former one", || !has());
    let served = || client.log().matches("veth0: discovering\n").count() == 2;
    eventually(5, "the new one's turn", || {
        net.published("net/lan0").is_none() && served()
    });
}

#[test]
fn a_burst_of_forged_replies_does_not_push_the_real_one_out() {
    let net = Net::new();
    let server = net.server();
    let client = net.client(&OFF);
    let discover = server.expect(DISCOVER, 10);
    client.signal(Signal::SIGSTOP);
    for _ in 0..600 {
        server.reply(&discover, OFFER, &[&[51, 4, 0, 0, 0, 0]]);
    }
    server.reply(&discover, OFFER, &[&lease(600)]);
    client.signal(Signal::SIGCONT);
    server.expect(REQUEST, 10);
}

#[test]
fn an_address_that_is_granted_again_after_a_refusal_is_kept_again() {
    let net = Net::new();
    let state = net.folder.join("state/veth0");
    let (server, _client) = bind(&net, &lease(4));
    eventually(5, "the file", || state.exists());
    let renew = server.expect(REQUEST, 10);
    server.reply(&renew, NAK, &[]);
    server.serve(&[&lease(3600)]);
    eventually(5, "the file anew", || state.exists());
}

/// The kernel refuses an address whose network it has on the interface with another scope.
#[test]
fn once_waits_until_the_kernel_has_taken_the_address() {
    let net = Net::new();
    let server = net.server();
    net.ip("addr add 192.0.2.50/24 dev veth0 scope link");
    let told = net.folder.join("told");
    let command = format!("echo $reason >> {}", told.display());
    let flags = ["--once", "--timeout", "60", "--on-change", &command];
    let mut client = net.client(&[&flags[..], &OFF].concat());
    server.serve(&[&lease(3600)]);
    eventually(10, "the refusal", || {
        client.log().contains("add address 192.0.2.17/24: ")
    });
    assert!(client.is_alive() && !told.exists());
    assert_eq!(net.published("net/veth0"), None);
    net.ip("addr del 192.0.2.50/24 dev veth0");
    assert_eq!(client.exit(20), Some(0));
    assert!(net.has("192.0.2.17") && net.published("net/veth0").is_some());
    assert_eq!(std::fs::read_to_string(&told).unwrap(), "bound\n");
}
