//! The first process of a machine with two network cards on one wire: does the daemon make VLANs, and live in them?
//!
//! One card is the daemon's; by the other one this program plays the far side, with a VLAN of the same number, so that
//! the messages that reach it have carried that number over the wire.
//! Runs in an initramfs that holds this program as `/init` and the daemon as `/dhcp`; `cargo xtask test machine` packs
//! it with the modules and reads its lines from the console.
#![expect(
    clippy::disallowed_methods,
    reason = "it writes settings for the daemon, and its clock is the test's"
)]

#[path = "../../xtask/src/test/machine/first_process.rs"]
mod first_process;

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::process::{Child, Command, ExitCode};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use gokrazy_core::module_loader::Loader;
use gokrazy_dhcp::frame;
use gokrazy_netlink::{Handle, Link};
use gokrazy_sys::packet;
use nix::sys::signal::{Signal, kill};
use nix::sys::utsname::uname;
use nix::unistd::Pid;

/// The daemon's card and ours: `xtask/src/test/machine/vlan.rs` tells QEMU.
const NEAR: [u8; 6] = [0x52, 0x54, 0, 0x67, 0x6b, 0x0a];
const FAR: [u8; 6] = [0x52, 0x54, 0, 0x67, 0x6b, 0x0b];
/// The VLAN in which a server is asked, and the far side's end of it.
const LEASED: &str = "lan10";
const LEASED_ID: u16 = 10;
const FAR_END: &str = "far10";
/// The VLAN whose settings are fixed.
const FIXED: &str = "lan20";
const FIXED_ADDRESS: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 5);
const FIXED_SETTINGS: &str = "vlan=20\naddress=198.51.100.5/24\ngateway=198.51.100.1\nmtu=1400\n";
const SERVER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 17);
/// Most that anything may take, under an emulator.
const NOTICE_MOST: Duration = Duration::from_secs(30);

fn main() -> ExitCode {
    first_process::play("vlan", play)
}

fn play() -> Result<()> {
    prepare()?;
    let mut kernel = Handle::open().context("open netlink socket")?;
    let near = await_link(&mut kernel, "the daemon's card", |link| link.mac == NEAR)?;
    let far = await_link(&mut kernel, "our card", |link| link.mac == FAR)?;
    kernel.set_up(far.index).context("set our card up")?;
    kernel
        .add_vlan(far.index, FAR_END, LEASED_ID)
        .context("make our VLAN")?;
    let far = named(&mut kernel, FAR_END)?;
    kernel.set_up(far.index).context("set our VLAN up")?;
    let server = listen(far.index)?;

    fs::create_dir_all("/config")?;
    let parent = format!("parent={}\n", near.name);
    fs::write(
        Path::new("/config").join(LEASED),
        format!("{parent}vlan={LEASED_ID}\n"),
    )?;
    fs::write(Path::new("/config").join(FIXED), parent + FIXED_SETTINGS)?;
    let mut daemon = start()?;

    answer(&server, far.index, 1, 2).context("offer an address in the VLAN")?;
    answer(&server, far.index, 3, 5).context("grant it")?;
    await_address(&mut kernel, LEASED, ADDRESS)?;
    println!("vlan: a lease inside a VLAN");
    await_address(&mut kernel, FIXED, FIXED_ADDRESS)?;
    let fixed = named(&mut kernel, FIXED)?;
    ensure!(
        fixed.kind.as_deref() == Some("vlan") && fixed.mtu == 1400,
        "{FIXED} is {fixed:?}"
    );
    await_gateway(&mut kernel, fixed.index)?;
    println!("vlan: fixed settings in another one");

    let leased = named(&mut kernel, LEASED)?.index;
    be_refused(&mut kernel, leased)?;
    kernel.delete_link(fixed.index).context("remove a VLAN")?;
    let anew = await_link(&mut kernel, "the VLAN anew", |link| {
        link.name == FIXED && link.index != fixed.index
    })?;
    await_address(&mut kernel, FIXED, FIXED_ADDRESS)?;
    await_gateway(&mut kernel, anew.index)?;
    println!("vlan: one that was removed is back");

    daemon.kill().context("kill the daemon")?;
    daemon.wait().context("await the daemon's end")?;
    pass_by(&mut kernel, leased)?;
    fs::remove_file(Path::new("/config").join(FIXED)).context("ask for one VLAN less")?;
    let daemon = start()?;
    until("end of what a killed run left", || {
        Ok(named(&mut kernel, FIXED).is_err())
    })?;
    named(&mut kernel, LEASED).context("one that is asked for")?;
    println!("vlan: what a killed run left is gone");

    end(daemon)?;
    let left = kernel.links().context("list links")?;
    let left: Vec<&str> = left.iter().map(|link| link.name.as_str()).collect();
    ensure!(
        !left.contains(&LEASED) && !left.contains(&FIXED) && left.contains(&near.name.as_str()),
        "left are {left:?}"
    );
    Ok(())
}

/// A second daemon, which is refused what the first one manages.
fn be_refused(kernel: &mut Handle, leased: u32) -> Result<()> {
    let second = start()?.wait().context("await a second daemon")?;
    ensure!(!second.success(), "a second daemon ended with {second}");
    let is_there = named(kernel, LEASED)?.index == leased;
    ensure!(is_there, "a second daemon removed the first one's VLAN");
    println!("vlan: a second daemon leaves them alone");
    Ok(())
}

/// A run for an address that gets no answer, while an earlier one's lease stands.
fn pass_by(kernel: &mut Handle, leased: u32) -> Result<()> {
    let mut passing = command(&[LEASED]);
    passing.args(["--once", "--timeout", "2"]);
    let status = passing.status().context("run /dhcp --once")?;
    ensure!(
        !status.success(),
        "with no answer --once ended with {status}"
    );
    let is_there = named(kernel, LEASED)?.index == leased;
    ensure!(is_there, "--once removed the VLAN whose lease stands");
    println!("vlan: --once leaves what it found");
    Ok(())
}

fn prepare() -> Result<()> {
    let system = uname().context("ask for the kernel's release")?;
    let folder = Path::new("/lib/modules").join(system.release());
    let mut modules = Loader::open(&folder);
    for name in ["virtio_mmio", "virtio_net", "8021q"] {
        modules.load(name)?;
    }
    Ok(())
}

fn start() -> Result<Child> {
    command(&[LEASED, FIXED]).spawn().context("start /dhcp")
}

fn command(interfaces: &[&str]) -> Command {
    let mut command = Command::new("/dhcp");
    command
        .args(interfaces.iter().flat_map(|name| ["--interface", name]))
        .args(["--conflict-check", "off", "--config-dir", "/config"])
        .args(["--state-dir", "/state", "--run-dir", "/published"]);
    command
}

fn end(daemon: Child) -> Result<()> {
    let pid = Pid::from_raw(i32::try_from(daemon.id())?);
    kill(pid, Signal::SIGTERM).context("end the daemon")?;
    let status = daemon.wait_with_output()?.status;
    ensure!(status.success(), "the daemon ended with {status}");
    Ok(())
}

fn listen(interface: u32) -> Result<OwnedFd> {
    let socket = packet::open().context("open packet socket")?;
    packet::bind(socket.as_fd(), packet::IPV4, interface).context("listen in our VLAN")?;
    Ok(socket)
}

/// Answers the client's next message, which must be of kind `asked`, by one of kind `told`.
fn answer(socket: &OwnedFd, interface: u32, asked: u8, told: u8) -> Result<()> {
    let start = Instant::now();
    let message = loop {
        let mut buffer = [0; 2048];
        if let Ok(received) = packet::receive(socket.as_fd(), &mut buffer)
            && let Some(message) = message_of(buffer.get(..received.len).unwrap_or_default())
        {
            break message;
        }
        ensure!(
            start.elapsed() < NOTICE_MOST,
            "no message after {NOTICE_MOST:?}"
        );
        sleep(Duration::from_millis(5));
    };
    // What it is stands first among the options.
    let kind = message.get(242).copied();
    ensure!(kind == Some(asked), "a message of kind {kind:?}");
    let reply = frame::wrap(SERVER, Ipv4Addr::BROADCAST, &reply(&message, told));
    packet::send(
        socket.as_fd(),
        &with_ports_swapped(reply),
        packet::IPV4,
        interface,
        packet::BROADCAST,
    )
    .context("answer")
}

/// The DHCP message in an IPv4 packet from port 68 to port 67.
fn message_of(packet: &[u8]) -> Option<Vec<u8>> {
    let ports = packet.get(20..24)?;
    (packet.get(9) == Some(&17) && ports == [0, 68, 0, 67])
        .then(|| packet.get(28..))?
        .map(<[u8]>::to_vec)
}

/// An offer or a grant (RFC 2131): what the client sent up to its options, with our address in it, and a mask, our
/// identifier and an hour.
fn reply(asked: &[u8], kind: u8) -> Vec<u8> {
    let mut reply: Vec<u8> = asked.iter().copied().take(240).collect();
    if let Some(operation) = reply.first_mut() {
        *operation = 2;
    }
    for (slot, byte) in reply.iter_mut().skip(16).zip(ADDRESS.octets()) {
        *slot = byte;
    }
    reply.extend([53, 1, kind, 54, 4]);
    reply.extend(SERVER.octets());
    reply.extend([1, 4, 255, 255, 255, 0, 51, 4, 0, 0, 14, 16, 255]);
    reply.resize(300, 0);
    reply
}

/// From port 67 to port 68; the checksum stays as it is.
fn with_ports_swapped(mut packet: Vec<u8>) -> Vec<u8> {
    for (slot, byte) in packet.iter_mut().skip(20).zip([0, 67, 0, 68]) {
        *slot = byte;
    }
    packet
}

fn named(kernel: &mut Handle, name: &str) -> Result<Link> {
    let links = kernel.links().context("list links")?;
    let mut links = links.into_iter();
    links
        .find(|link| link.name == name)
        .with_context(|| format!("find {name}"))
}

fn await_link(kernel: &mut Handle, what: &str, wanted: impl Fn(&Link) -> bool) -> Result<Link> {
    let mut found = None;
    until(what, || {
        let links = kernel.links().context("list links")?;
        found = links.into_iter().find(&wanted);
        Ok(found.is_some())
    })?;
    found.with_context(|| format!("find {what}"))
}

fn await_address(kernel: &mut Handle, name: &str, address: Ipv4Addr) -> Result<()> {
    until(&format!("address {address} on {name}"), || {
        let Ok(link) = named(kernel, name) else {
            return Ok(false);
        };
        let held = kernel.addresses(link.index).context("list addresses")?;
        Ok(held
            .iter()
            .any(|held| held.address == IpAddr::from(address)))
    })
}

fn await_gateway(kernel: &mut Handle, interface: u32) -> Result<()> {
    until("the default route", || {
        let routes = kernel.routes(interface).context("list routes")?;
        Ok(routes
            .iter()
            .any(|route| route.prefix == 0 && route.gateway.is_some()))
    })
}

fn until(what: &str, mut condition: impl FnMut() -> Result<bool>) -> Result<()> {
    let start = Instant::now();
    while !condition()? {
        if start.elapsed() > NOTICE_MOST {
            bail!("no {what} after {NOTICE_MOST:?}");
        }
        sleep(Duration::from_millis(5));
    }
    Ok(())
}
