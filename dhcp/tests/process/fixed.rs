//! Fixed settings over restarts, and with routers outside their network.

use std::fs::File;
use std::process::Stdio;

use nix::sys::signal::Signal;

use crate::common::{ACK, DISCOVER, Net, OFFER, REQUEST, eventually, lease};
use crate::interop::write;

/// A folder of settings for the client's link, as a flag's value.
fn settings(net: &Net, text: &str) -> String {
    let folder = net.folder.join("config");
    std::fs::create_dir_all(&folder).unwrap();
    write(&folder.join("veth0"), text);
    folder.display().to_string()
}

#[test]
fn a_client_that_follows_a_killed_one_leaves_what_is_fixed_in_place() {
    let net = Net::new();
    let folder = settings(
        &net,
        "address=192.0.2.5/24\ngateway=192.0.2.1\nroutes='10.0.0.0/8,192.0.2.9'\n",
    );
    let first = net.client(&["--config-dir", &folder]);
    let has_routes = || {
        let routes = net.ip("route show");
        routes.contains("default via 192.0.2.1") && routes.contains("10.0.0.0/8")
    };
    eventually(5, "all of it", || net.has("192.0.2.5/24") && has_routes());
    first.signal(Signal::SIGKILL);
    drop(first);
    let heard = net.folder.join("heard");
    #[expect(clippy::disallowed_methods, reason = "a test's own file")]
    let file = File::create(&heard).unwrap();
    let mut monitor = net.in_client("ip");
    monitor.args(["-4", "-o", "monitor", "address", "route"]);
    let mut monitor = monitor.stdin(Stdio::null()).stdout(file).spawn().unwrap();
    let told = || std::fs::read_to_string(&heard).unwrap_or_default();
    // It is listening once it tells of what is done for it to tell.
    let mut number = 0;
    eventually(10, "the monitor", || {
        number += 1;
        net.ip(&format!("addr add 198.51.100.{number}/32 dev lo"));
        told().contains("198.51.100.")
    });
    let client = net.client(&["--config-dir", &folder]);
    eventually(5, "the second one", || {
        client.log().contains("configured 192.0.2.5/24")
    });
    net.ip("addr add 203.0.113.1/32 dev lo");
    eventually(10, "the last event", || told().contains("203.0.113.1"));
    let _ = monitor.kill();
    eventually(5, "the monitor's end", || {
        !matches!(monitor.try_wait(), Ok(None))
    });
    assert!(!told().contains("Deleted"), "{}", told());
    assert!(net.has("192.0.2.5/24") && has_routes());
}

#[test]
fn an_ipv6_router_outside_the_network_is_reached_on_the_link() {
    let net = Net::new();
    let text = "address6=2001:db8::5/128\ngateway6=2001:db8:1::1\ndhcp=no\n";
    let folder = settings(&net, text);
    let mut client = net.client(&["--config-dir", &folder]);
    eventually(5, "the route", || {
        let routes = net.ip("-6 route show");
        routes.contains("default via 2001:db8:1::1 dev veth0")
    });
    assert!(!client.log().contains("No route"), "{}", client.log());
    client.terminate();
    assert!(!net.ip("-6 route show").contains("2001:db8:1::1"));
}

#[test]
fn what_is_fixed_beside_leases_is_published_while_no_server_answers() {
    let net = Net::new();
    let text = "address=198.51.100.5/24\ndhcp=yes\ndomain=lab.example.org\ndns=192.0.2.54\n";
    let folder = settings(&net, text);
    let told = net.folder.join("told");
    let command = format!("echo $reason $method $address >> {}", told.display());
    let flags = ["--config-dir", &folder, "--on-change", &command];
    let server = net.server();
    let mut client = net.client(&[&flags[..], &["--conflict-check", "off"]].concat());
    let discover = server.expect(DISCOVER, 10);
    let published = || net.published("net/veth0").unwrap_or_default();
    let resolver = || net.published("resolv.conf").unwrap_or_default();
    eventually(5, "the fixed address", || {
        net.has("198.51.100.5/24")
            && published().contains("method=static\n")
            && resolver().contains("domain lab.example.org\nsearch lab.example.org\n")
    });
    let options = [&lease(3600)[..], b"\x0f\x0bexample.com"].concat();
    server.reply(&discover, OFFER, &[&options]);
    let request = server.expect(REQUEST, 10);
    server.reply(&request, ACK, &[&options]);
    eventually(5, "both", || {
        net.has("192.0.2.17/24")
            && net.has("198.51.100.5/24")
            && published().contains("method=dhcp\n")
            && resolver().contains("nameserver 192.0.2.53\nnameserver 192.0.2.54\n")
    });
    let search = "domain lab.example.org\nsearch example.com lab.example.org\n";
    assert!(resolver().contains(search), "{}", resolver());
    client.terminate();
    let told = std::fs::read_to_string(&told).unwrap();
    let first = "static static 198.51.100.5\nbound dhcp 192.0.2.17\n";
    assert!(told.starts_with(first), "{told}");
    assert!(!net.has("198.51.100.5") && published().is_empty());
}

#[test]
fn an_empty_resolver_configuration_stays_and_a_missing_folder_is_made() {
    let net = Net::new();
    let file = net.folder.join("etc/of/resolv.conf");
    let flag = file.display().to_string();
    let server = net.server();
    let mut client = net.client(&["--resolv-conf", &flag, "--conflict-check", "off"]);
    server.serve(&[&lease(3600)]);
    eventually(5, "the file", || file.exists());
    client.terminate();
    assert!(!file.exists());
    write(&file, "");
    let mut client = net.client(&["--resolv-conf", &flag, "--conflict-check", "off"]);
    // Without name servers.
    let request = server.expect(REQUEST, 10);
    let options = [1, 4, 255, 255, 255, 0, 51, 4, 0, 0, 14, 16];
    server.reply(&request, ACK, &[&options]);
    eventually(5, "the lease", || net.published("net/veth0").is_some());
    client.terminate();
    assert!(file.exists());
}

/// They say how a lease is to be used, and are none.
#[test]
fn once_goes_on_with_settings_that_hold_no_address() {
    let net = Net::new();
    let folder = settings(&net, "mtu=1400\n");
    let server = net.server();
    let mut client = net.client(&["--config-dir", &folder, "--once", "--conflict-check", "off"]);
    server.serve(&[&lease(3600)]);
    assert_eq!(client.exit(10), Some(0));
    assert!(net.has("192.0.2.17"));
}

/// The kernel makes a network's route, by which the router is reached, once the interface is up.
#[test]
fn an_interface_that_is_down_at_the_start_brings_no_complaint() {
    let net = Net::new();
    let folder = settings(&net, "address=192.0.2.5/24\ngateway=192.0.2.1\n");
    net.ip("link set veth0 down");
    let client = net.client(&["--config-dir", &folder]);
    eventually(10, "all of it", || {
        net.has("192.0.2.5/24") && net.ip("route show").contains("default via 192.0.2.1")
    });
    assert!(!client.log().contains("add "), "{}", client.log());
}

/// The kernel refuses an address whose network it has on the interface with another scope.
fn refused(net: &Net, told: &str) -> crate::common::Client {
    net.ip("addr add 192.0.2.50/24 dev veth0 scope link");
    let folder = settings(net, "address=192.0.2.5/24\ngateway=192.0.2.1\n");
    let client = net.client(&["--config-dir", &folder, "--on-change", told]);
    eventually(10, "the refusal", || {
        client.log().contains("add address 192.0.2.5/24: ")
    });
    client
}

#[test]
fn what_the_kernel_takes_when_a_link_comes_back_is_published() {
    let net = Net::new();
    let told = net.folder.join("told");
    let client = refused(&net, &format!("echo $reason >> {}", told.display()));
    net.ip("link set veth0 down");
    net.ip("addr del 192.0.2.50/24 dev veth0");
    eventually(10, "word of the link", || {
        client.log().contains("set down by someone")
    });
    assert_eq!(net.published("net/veth0"), None);
    net.ip("link set veth0 up");
    eventually(10, "the address", || {
        net.has("192.0.2.5/24") && net.published("net/veth0").is_some()
    });
    eventually(10, "the hook", || {
        std::fs::read_to_string(&told).is_ok_and(|told| told == "static\n")
    });
}

/// When it is tried again, the interface is down.
#[test]
fn what_the_kernel_refused_is_tried_again_when_an_interface_is_set_up_without_a_carrier() {
    let net = Net::new();
    net.server_ip("link set dhsrv0 down");
    let client = refused(&net, "true");
    net.ip("link set veth0 down");
    net.ip("addr del 192.0.2.50/24 dev veth0");
    std::thread::sleep(std::time::Duration::from_secs(6));
    assert!(!net.has("192.0.2.5"), "{}", client.log());
    net.ip("link set veth0 up");
    eventually(10, "the address", || {
        net.has("192.0.2.5/24") && net.published("net/veth0").is_some()
    });
}
