//! Brings the kernel's addresses and routes to a target.

use std::net::Ipv4Addr;

use gokrazy_netlink::Handle;
use nix::errno::Errno;

use crate::plan::{Step, Target, steps};

/// Looks at what an interface has, and changes what differs from `target`; returns what the kernel refused.
pub fn reconcile(
    netlink: &mut Handle,
    interface: u32,
    target: &Target,
    known: &[Ipv4Addr],
) -> Vec<String> {
    let addresses = netlink.addresses(interface);
    let routes = netlink.routes(interface);
    let (addresses, routes) = match (addresses, routes) {
        (Ok(addresses), Ok(routes)) => (addresses, routes),
        (Err(error), _) | (_, Err(error)) => {
            return vec![format!("list addresses and routes: {error}")];
        }
    };
    let steps = steps(target, &addresses, &routes, known);
    steps
        .iter()
        .filter_map(|step| perform(netlink, step))
        .collect()
}

/// What is gone already, or there already, is as it should be.
fn perform(netlink: &mut Handle, step: &Step) -> Option<String> {
    let (result, fine, what) = match step {
        Step::DeleteAddress(address) => (
            netlink.delete_address(address),
            [Errno::EADDRNOTAVAIL, Errno::ENODEV],
            format!("remove address {}", address.address),
        ),
        Step::DeleteRoute(route) => (
            netlink.delete_route(route),
            [Errno::ESRCH, Errno::ENODEV],
            format!("remove route to {}/{}", route.destination, route.prefix),
        ),
        Step::PutAddress(address) => (
            netlink.put_address(address),
            [Errno::EEXIST, Errno::EEXIST],
            format!("add address {}/{}", address.address, address.prefix),
        ),
        // Without carrier or while it is set down the kernel takes no routes; they are added when it comes back.
        Step::AddRoute(route) => (
            netlink.add_route(route),
            [Errno::EEXIST, Errno::ENETDOWN],
            format!("add route to {}/{}", route.destination, route.prefix),
        ),
    };
    let error = result.err()?;
    let expected = fine
        .iter()
        .any(|errno| error.raw_os_error() == Some(*errno as i32));
    (!expected).then(|| format!("{what}: {error}"))
}
