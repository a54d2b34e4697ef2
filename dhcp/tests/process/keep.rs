//! What stays, what is put back, and what is left as it was found.

use nix::sys::signal::Signal;

use crate::common::{
    ACK, ADDRESS, DISCOVER, LINK, NAK, Net, OFFER, REQUEST, carry_to, eventually, lease, message,
};
use crate::interop::write;

const OFF: [&str; 2] = ["--conflict-check", "off"];

/// With its network's route the kernel loses the way to every router, and makes it anew only with the address.
#[test]
fn flushed_routes_are_put_back() {
    let net = Net::new();
    let server = net.server();
    let client = net.client(&OFF);
    server.serve(&[&lease(3600)]);
    let complete = || {
        let routes = net.ip("route show");
        net.has("192.0.2.17/24")
            && routes.contains("default via 192.0.2.1 dev veth0")
            && routes.contains("192.0.2.0/24 dev veth0 proto kernel")
    };
    eventually(5, "the lease", complete);
    net.ip("route flush dev veth0");
    eventually(10, "all routes again", complete);
    // The kernel's route alone: the default one stands, and leads nowhere.
    net.ip("route del 192.0.2.0/24 dev veth0");
    eventually(10, "the network again", complete);
    std::thread::sleep(std::time::Duration::from_millis(2500));
    let told = client.log().matches("putting it back").count();
    assert!((1..=2).contains(&told), "{}", client.log());
}

#[test]
fn once_without_an_answer_leaves_a_lease_that_holds() {
    let net = Net::new();
    let server = net.server();
    let mut first = net.client(&["--once", OFF[0], OFF[1]]);
    server.serve(&[&lease(3600)]);
    assert_eq!(first.exit(10), Some(0));
    let published = net.published("net/veth0").unwrap();
    let mut second = net.client(&["--once", "--timeout", "1", OFF[0], OFF[1]]);
    assert_eq!(second.exit(10), Some(1));
    let log = second.log();
    assert!(log.contains("the lease of an earlier run stands"), "{log}");
    let stands = || net.has("192.0.2.17") && net.ip("route show default").contains("192.0.2.1");
    assert!(stands() && net.published("net/veth0") == Some(published));
    assert!(net.published("resolv.conf").is_some());
    // So it does if the wait is cut short, but not against a server's word.
    while server.next(1).is_some() {}
    let mut third = net.client(&["--once", OFF[0], OFF[1]]);
    server.expect(REQUEST, 10);
    third.signal(Signal::SIGTERM);
    assert_eq!(third.exit(10), Some(1));
    assert!(stands());
    let mut fourth = net.client(&["--once", "--timeout", "2", OFF[0], OFF[1]]);
    let request = server.expect(REQUEST, 10);
    server.reply(&request, NAK, &[]);
    assert_eq!(fourth.exit(10), Some(1));
    assert!(!net.has("192.0.2.17") && net.published("net/veth0").is_none());
    assert!(fourth.log().contains("no lease within 2 s"));
}

#[test]
fn test_sets_the_interface_down_again() {
    let net = Net::new();
    let is_down = || net.ip("link show dev veth0").contains("state DOWN");
    net.ip("link set veth0 down");
    let server = net.server();
    let mut looking = net.client(&["--test"]);
    let discover = server.expect(DISCOVER, 10);
    assert!(!is_down());
    server.reply(&discover, OFFER, &[&lease(3600)]);
    assert_eq!(looking.exit(10), Some(0));
    assert!(is_down());
    let mut late = net.client(&["--test", "--timeout", "2"]);
    server.expect(DISCOVER, 10);
    assert_eq!(late.exit(10), Some(1));
    assert!(is_down());
    net.ip("link set veth0 up");
    let mut late = net.client(&["--test", "--timeout", "1"]);
    assert_eq!(late.exit(10), Some(1));
    assert!(!is_down(), "one that was up stays up");
}

#[test]
fn a_fixed_mtu_goes_before_a_leased_one_and_is_kept() {
    let net = Net::new();
    let folder = net.folder.join("config");
    std::fs::create_dir_all(&folder).unwrap();
    write(&folder.join(LINK), "mtu=1400\n");
    let folder = folder.display().to_string();
    let server = net.server();
    let mut client = net.client(&["--config-dir", &folder, OFF[0], OFF[1]]);
    server.serve(&[&lease(3600), &[26, 2, 5, 20]]);
    eventually(5, "the lease", || net.has("192.0.2.17"));
    let has = |mtu: &str| net.ip("link show dev veth0").contains(mtu);
    assert!(has("mtu 1400"));
    net.ip("link set veth0 mtu 1480");
    eventually(5, "the fixed one again", || has("mtu 1400"));
    client.terminate();
    assert!(has("mtu 1500"));
}

/// So it is in most containers: the file can be written and not replaced.
#[test]
fn a_resolver_configuration_that_is_a_mount_point_is_written_where_it_stands() {
    let net = Net::new();
    let file = net.folder.join("resolv.conf");
    write(&file, "");
    let path = file.display().to_string();
    // `ip netns exec` gives the shell a view of its own on mounts.
    let script = format!("mount --bind {path} {path} && exec \"$@\"");
    let mut command = net.in_client("sh");
    command
        .args(["-c", &script, "sh", env!("CARGO_BIN_EXE_dhcp")])
        .args(["--interface", LINK, "--resolv-conf", &path])
        .args(net.folders())
        .args(OFF);
    let server = net.server();
    let mut child = command.spawn().unwrap();
    server.serve(&[&lease(3600)]);
    let text = || std::fs::read_to_string(&file).unwrap();
    eventually(5, "the name server", || {
        text() == "# generated by gokrazy/dhcp\nnameserver 192.0.2.53\n"
    });
    let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap());
    nix::sys::signal::kill(pid, Signal::SIGTERM).unwrap();
    eventually(5, "its end", || !matches!(child.try_wait(), Ok(None)));
    assert_eq!(text(), "");
}

/// Not each renewal of a short lease is written.
#[test]
fn a_lease_is_kept_as_it_stands_at_the_end() {
    let net = Net::new();
    let server = net.server();
    let mut client = net.client(&OFF);
    server.serve(&[&lease(4)]);
    let renew = server.expect(REQUEST, 10);
    server.reply(&renew, ACK, &[&lease(3600)]);
    eventually(5, "the renewal", || client.log().contains("renewed"));
    client.terminate();
    // By the first grant it would be over.
    std::thread::sleep(std::time::Duration::from_secs(4));
    let _client = net.client(&OFF);
    let reboot = server.expect(REQUEST, 10);
    assert!(reboot.address(50).is_some() && reboot.address(54).is_none());
}

/// In each state in which an answer is awaited; nothing spins meanwhile, and the next one is served.
#[test]
fn an_interface_that_vanishes_in_mid_exchange_is_missed_by_nobody() {
    let net = Net::new();
    let told = net.folder.join("told");
    let command = format!("echo $reason $address. >> {}", told.display());
    let client = net.client(&["--on-change", &command]);
    let ticks = || {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", client.pid())).unwrap();
        let after_name = stat.rsplit(')').next().unwrap();
        let fields = after_name.split_whitespace().skip(11).take(2);
        fields
            .map(|field| field.parse::<u64>().unwrap())
            .sum::<u64>()
    };
    for answers in [&[][..], &[OFFER], &[OFFER, ACK]] {
        let server = net.server();
        let mut seen = server.expect(DISCOVER, 20);
        for (count, kind) in answers.iter().enumerate() {
            server.reply(&seen, *kind, &[&lease(3600)]);
            if count == 0 {
                seen = server.expect(REQUEST, 10);
            }
        }
        let before = ticks();
        net.ip("link del veth0");
        let goes = || client.log().matches("interface is gone").count();
        let wanted = answers.len() + 1;
        eventually(10, "the news", || goes() == wanted);
        std::thread::sleep(std::time::Duration::from_millis(500));
        assert!(ticks() - before < 10, "{} ticks", ticks() - before);
        drop(server);
        net.plug(LINK, "dhsrv0");
    }
    let server = net.server();
    server.serve(&[&lease(3600)]);
    eventually(10, "the lease", || net.has("192.0.2.17"));
    net.ip("link del veth0");
    let read = || std::fs::read_to_string(&told).unwrap_or_default();
    eventually(10, "the hook", || {
        read().ends_with("bound 192.0.2.17.\ngone .\n")
    });
}

/// The kernel would tell a server that nobody listens, where only the packet socket does.
#[test]
fn a_reply_by_unicast_is_not_refused_by_the_kernel() {
    let net = Net::new();
    let server = net.server();
    let client = net.client(&OFF);
    // To be renewed after a second, by any server after another one.
    let short = [&lease(3600)[..], &[58, 4, 0, 0, 0, 1, 59, 4, 0, 0, 0, 2]].concat();
    server.serve(&[&short]);
    server.expect(REQUEST, 10);
    let rebind = server.expect(REQUEST, 10);
    assert_eq!(rebind.destination, std::net::Ipv4Addr::BROADCAST);
    let mac: [u8; 6] = rebind.message[28..34].try_into().unwrap();
    let reply = message(&rebind, ACK, &[&lease(3600)]);
    server.send_to(&carry_to(ADDRESS, &reply), mac);
    eventually(5, "the renewal", || client.log().contains("renewed"));
    assert_eq!(server.next_icmp(300), None);
    // So it is when the carrier is back, and the address still stands.
    net.server_ip("link set dhsrv0 down");
    eventually(5, "the loss", || client.log().contains("carrier lost"));
    net.server_ip("link set dhsrv0 up");
    let reboot = server.expect(REQUEST, 10);
    let reply = message(&reboot, ACK, &[&lease(3600)]);
    server.send_to(&carry_to(ADDRESS, &reply), mac);
    let renewed = || client.log().matches("renewed").count() == 2;
    eventually(5, "the renewal", renewed);
    assert_eq!(server.next_icmp(300), None);
}

#[test]
fn who_hides_keeps_nothing_under_another_name_either() {
    let net = Net::new();
    let server = net.server();
    let client = net.client(&["--anonymous", OFF[0], OFF[1]]);
    server.serve(&[&lease(3600)]);
    eventually(5, "the lease", || net.published("net/veth0").is_some());
    net.ip("link set veth0 down");
    net.ip("link set veth0 name lan0");
    eventually(5, "the new name", || {
        client.log().contains("is now called lan0")
    });
    eventually(5, "the file's end", || net.published("net/veth0").is_none());
    let kept = std::fs::read_dir(net.folder.join("state")).unwrap();
    assert_eq!(kept.count(), 0, "something is kept");
}

/// A lease that the kernel never took is none that stands.
#[test]
fn once_leaves_no_lease_that_the_kernel_refused() {
    let net = Net::new();
    let server = net.server();
    net.ip("addr add 192.0.2.50/24 dev veth0 scope link");
    let mut client = net.client(&["--once", "--timeout", "3", OFF[0], OFF[1]]);
    server.serve(&[&lease(3600)]);
    assert_eq!(client.exit(20), Some(1));
    let log = client.log();
    assert!(log.contains("no lease within 3 s"), "{log}");
    assert!(!net.ip("route show").contains("proto 103"));
}
