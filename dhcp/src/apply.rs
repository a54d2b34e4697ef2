//! Brings the kernel's addresses and routes to a target.

use std::net::{IpAddr, Ipv4Addr};

use gokrazy_netlink::{Address, Handle};
use nix::errno::Errno;

use crate::plan::{Step, Target, steps};

/// What the kernel refused.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Each in words, for the log.
    pub complaints: Vec<String>,
    /// Addresses that an interface lacks by it.
    pub addresses: Vec<IpAddr>,
}

impl Refusal {
    /// Nothing of `target` is known to be there.
    fn of_all(target: &Target, complaints: Vec<String>) -> Self {
        let addresses = target.addresses.iter().map(|address| address.address);
        Self {
            complaints,
            addresses: addresses.collect(),
        }
    }
}

/// Looks at what an interface has, and changes what differs from `target`; returns what the kernel refused.
pub fn reconcile(
    netlink: &mut Handle,
    interface: u32,
    target: &Target,
    known: &[Ipv4Addr],
) -> Refusal {
    let addresses = netlink.addresses(interface);
    let routes = netlink.routes(interface);
    let (addresses, routes) = match (addresses, routes) {
        (Ok(addresses), Ok(routes)) => (addresses, routes),
        (Err(error), _) | (_, Err(error)) => {
            let line = format!("list addresses and routes: {error}");
            return Refusal::of_all(target, vec![line]);
        }
    };
    let mut refusal = Refusal::default();
    for step in steps(target, &addresses, &routes, known) {
        match perform(netlink, &step) {
            // The interface is gone, and the event that tells us is on its way.
            Err((Errno::ENODEV, _)) => return Refusal::of_all(target, Vec::new()),
            Err((_, message)) => {
                refusal.complaints.push(message);
                if let Step::PutAddress(address) = &step
                    && address.valid > 0
                {
                    refusal.addresses.push(address.address);
                }
            }
            Ok(()) => {}
        }
    }
    refusal
}

/// Whether the kernel has all that it should have.
pub fn is_complete(netlink: &mut Handle, interface: u32, target: &Target) -> bool {
    let addresses = netlink.addresses(interface).unwrap_or_default();
    let routes = netlink.routes(interface).unwrap_or_default();
    let held = |wanted: &Address| addresses.iter().any(|held| held.address == wanted.address);
    let lasts = |wanted: &Address| wanted.valid > 0;
    target
        .addresses
        .iter()
        .filter(|wanted| lasts(wanted))
        .all(held)
        && target.routes.iter().all(|route| routes.contains(route))
}

/// What is gone already, or there already, is as it should be.
fn perform(netlink: &mut Handle, step: &Step) -> Result<(), (Errno, String)> {
    let (result, fine, what) = match step {
        Step::DeleteAddress(address) => (
            netlink.delete_address(address),
            Errno::EADDRNOTAVAIL,
            format!("remove address {}", address.address),
        ),
        Step::DeleteRoute(route) => (
            netlink.delete_route(route),
            Errno::ESRCH,
            format!("remove route to {}/{}", route.destination, route.prefix),
        ),
        Step::PutAddress(address) => (
            netlink.put_address(address),
            Errno::EEXIST,
            format!("add address {}/{}", address.address, address.prefix),
        ),
        Step::AddRoute(route) => (
            netlink.add_route(route),
            Errno::EEXIST,
            format!("add route to {}/{}", route.destination, route.prefix),
        ),
    };
    let Err(error) = result else { return Ok(()) };
    let errno = Errno::from_raw(error.raw_os_error().unwrap_or_default());
    // While an interface is set down the kernel takes no routes; they are added when it comes back.
    if errno == fine || errno == Errno::ENETDOWN {
        return Ok(());
    }
    Err((errno, format!("{what}: {error}")))
}
