//! The kernel state that a lease asks for, and the steps from what is there to it; pure.
//!
//! Only what carries our mark is ever removed: routes with protocol number [`PROTOCOL`], addresses with the same
//! number in `IFA_PROTO`, and addresses that the caller knows to be ours.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use gokrazy_core::lease::Ipv4;
use gokrazy_netlink::{Address, FOREVER, Route};

use crate::fixed::Fixed;
use crate::moment::Moment;
use crate::terms::mask_of;

/// Our number among the `RTPROT_*` of `ip-route(8)`: unassigned, so that whatever carries it is ours.
pub const PROTOCOL: u8 = 103;
/// Metrics of an interface, from its own up: one for each of its routers, of which further ones are not used.
pub const METRICS: u32 = 8;
/// Added to the metric while the link has no carrier, so that another interface's routes win.
const DEMOTION: u32 = 100_000;

/// Whether an interface's routes compete at their proper metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// The link carries packets.
    Full,
    /// It does not.
    Demoted,
}

impl Standing {
    fn metric(self, metric: u32) -> u32 {
        match self {
            Self::Full => metric,
            Self::Demoted => metric.saturating_add(DEMOTION),
        }
    }
}

/// How far an IPv4 address reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// As far as routers carry.
    World,
    /// The link alone (RFC 3927).
    Link,
}

impl Reach {
    /// The kernel's `RT_SCOPE_*`.
    fn scope(self) -> u8 {
        match self {
            Self::World => 0,
            Self::Link => 253,
        }
    }
}

/// Addresses and routes that an interface is to have from us.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Target {
    /// Addresses.
    pub addresses: Vec<Address>,
    /// Routes, in the order in which they can be added.
    pub routes: Vec<Route>,
}

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Remove an address.
    DeleteAddress(Address),
    /// Remove a route.
    DeleteRoute(Route),
    /// Add an address, or renew its lifetimes.
    PutAddress(Address),
    /// Add a route.
    AddRoute(Route),
}

/// What is left until `end`, in whole seconds, rounded up: the kernel must not be faster than we are.
pub fn seconds_left(end: Moment, now: Moment) -> u32 {
    let seconds = end.since(now).as_millis().div_ceil(1000);
    u32::try_from(seconds).unwrap_or(FOREVER).max(1)
}

/// The state that `wish` asks for on `interface`; `seconds` is what is left of the lease, absent for ever.
pub fn target(
    wish: &Ipv4,
    reach: Reach,
    interface: u32,
    metric: u32,
    standing: Standing,
    seconds: Option<u32>,
) -> Target {
    let metric = standing.metric(metric);
    let lifetime = seconds.unwrap_or(FOREVER);
    let address = Address {
        interface,
        address: wish.address.into(),
        prefix: wish.prefix,
        broadcast: wish.broadcast,
        scope: reach.scope(),
        valid: lifetime,
        preferred: lifetime,
        metric,
        protocol: PROTOCOL,
        flags: 0,
    };
    Target {
        addresses: vec![address],
        routes: routes(wish, interface, metric),
    }
}

/// An IPv6 address of its own, without a network (RFC 8415 §18.2.10.1), with its lifetimes in seconds.
pub fn lone_address(address: Ipv6Addr, interface: u32, preferred: u32, valid: u32) -> Address {
    Address {
        interface,
        address: address.into(),
        prefix: 128,
        broadcast: None,
        scope: 0,
        valid,
        preferred,
        metric: 0,
        protocol: PROTOCOL,
        flags: 0,
    }
}

/// The IPv6 part of what is fixed.
pub fn fixed6(fixed: &Fixed, interface: u32, metric: u32, standing: Standing) -> Target {
    let metric = standing.metric(metric);
    let address = fixed.address6.map(|(address, prefix)| Address {
        prefix,
        metric,
        ..lone_address(address, interface, FOREVER, FOREVER)
    });
    let route = |destination: Ipv6Addr, prefix, gateway: Option<Ipv6Addr>| Route {
        interface,
        destination: destination.into(),
        prefix,
        gateway: gateway.map(IpAddr::V6),
        source: None,
        metric,
        protocol: PROTOCOL,
    };
    let connected = |gateway: Ipv6Addr| {
        let own = |(address, prefix)| prefix < 128 && contains6(address, prefix, gateway);
        gateway.is_unicast_link_local() || fixed.address6.is_some_and(own)
    };
    let others = fixed.routes6.iter();
    let others = others.map(|other| route(other.destination, other.prefix, other.gateway));
    let default = fixed.gateway6.into_iter();
    let default = default.map(|gateway| route(Ipv6Addr::UNSPECIFIED, 0, Some(gateway)));
    let (mut routes, via): (Vec<Route>, Vec<Route>) = others
        .chain(default)
        .partition(|route| route.gateway.is_none());
    for gateway in via.iter().filter_map(|route| route.gateway) {
        let IpAddr::V6(gateway) = gateway else {
            continue;
        };
        let covered = |route: &Route| match route.destination {
            IpAddr::V6(network) => contains6(network, route.prefix, gateway),
            IpAddr::V4(_) => false,
        };
        // One outside the network is told to be on the link first, as with IPv4.
        if !connected(gateway) && !routes.iter().any(covered) {
            routes.push(route(gateway, 128, None));
        }
    }
    routes.extend(via);
    Target {
        addresses: address.into_iter().collect(),
        routes,
    }
}

/// Routes on the link first, since the others' gateways are reached by them.
fn routes(wish: &Ipv4, interface: u32, metric: u32) -> Vec<Route> {
    let route = |destination: Ipv4Addr, prefix, gateway: Ipv4Addr, metric| Route {
        interface,
        destination: destination.into(),
        prefix,
        gateway: (!gateway.is_unspecified()).then_some(IpAddr::V4(gateway)),
        source: Some(wish.address.into()),
        metric,
        protocol: PROTOCOL,
    };
    let metrics = metric..metric.saturating_add(METRICS);
    let defaults = wish.routers.iter().zip(metrics);
    let defaults =
        defaults.map(|(gateway, metric)| route(Ipv4Addr::UNSPECIFIED, 0, *gateway, metric));
    let others = wish.routes.iter();
    let others = others.map(|other| route(other.destination, other.prefix, other.gateway, metric));
    let (mut on_link, via): (Vec<Route>, Vec<Route>) = others
        .chain(defaults)
        .partition(|route| route.gateway.is_none());
    for gateway in via.iter().filter_map(|route| route.gateway) {
        let IpAddr::V4(gateway) = gateway else {
            continue;
        };
        let connected = contains(wish.address, wish.prefix, gateway) && wish.prefix < 32;
        let covered = |route: &Route| match route.destination {
            IpAddr::V4(network) => contains(network, route.prefix, gateway),
            IpAddr::V6(_) => false,
        };
        if !connected && !on_link.iter().any(covered) {
            on_link.push(route(gateway, 32, Ipv4Addr::UNSPECIFIED, metric));
        }
    }
    on_link.extend(via);
    on_link
}

/// Whether `route` is the kernel's own to the network of an IPv4 address, which it makes along with the address.
pub fn is_network_of(route: &Route, address: &Address) -> bool {
    let (IpAddr::V4(network), IpAddr::V4(own)) = (route.destination, address.address) else {
        return false;
    };
    let fits = route.prefix == address.prefix && contains(network, route.prefix, own);
    fits && route.interface == address.interface && route.gateway.is_none()
}

/// Whether an IPv4 address stands without the route to its network, by which routers are reached.
pub fn is_cut_off(address: &Address, routes: &[Route]) -> bool {
    let IpAddr::V4(own) = address.address else {
        return false;
    };
    // The kernel makes none for 0.0.0.0, nor for a single address.
    let network = u32::from(own) & mask_of(address.prefix);
    let has_one = address.prefix < 32 && network >> 24 != 0;
    has_one && !routes.iter().any(|route| is_network_of(route, address))
}

fn contains(network: Ipv4Addr, prefix: u8, address: Ipv4Addr) -> bool {
    (u32::from(network) ^ u32::from(address)) & mask_of(prefix) == 0
}

fn contains6(network: Ipv6Addr, prefix: u8, address: Ipv6Addr) -> bool {
    let mask = u128::MAX.checked_shl(128_u32.saturating_sub(prefix.into()));
    (u128::from(network) ^ u128::from(address)) & mask.unwrap_or(0) == 0
}

/// The steps from what an interface has to what it is to have from us.
///
/// Removals come first: while an old address of the same network stands, a new one would be secondary to it, and
/// go with it.
pub fn steps(
    target: &Target,
    addresses: &[Address],
    routes: &[Route],
    known: &[Ipv4Addr],
) -> Vec<Step> {
    let wanted = |address: &Address| {
        let same = |want: &Address| {
            (want.address, want.prefix, want.broadcast, want.scope)
                == (
                    address.address,
                    address.prefix,
                    address.broadcast,
                    address.scope,
                )
        };
        target.addresses.iter().any(same)
    };
    let ours = |address: &&Address| {
        let named = |known: &Ipv4Addr| address.address == IpAddr::V4(*known);
        address.protocol == PROTOCOL || known.iter().any(named)
    };
    let mut steps: Vec<Step> = Vec::new();
    let stale: Vec<&Address> = addresses
        .iter()
        .filter(ours)
        .filter(|address| !wanted(address))
        .collect();
    // With an address the kernel removes the routes that leave from it, also those that are to stay.
    let goes_along = |route: &&Route| {
        stale
            .iter()
            .any(|address| route.source == Some(address.address))
    };
    let stale_routes = routes
        .iter()
        .filter(|route| route.protocol == PROTOCOL && !target.routes.contains(route));
    steps.extend(stale_routes.cloned().map(Step::DeleteRoute));
    steps.extend(
        stale
            .iter()
            .map(|address| Step::DeleteAddress((*address).clone())),
    );
    steps.extend(target.addresses.iter().cloned().map(Step::PutAddress));
    let missing = target
        .routes
        .iter()
        .filter(|route| !routes.contains(route) || goes_along(route));
    steps.extend(missing.cloned().map(Step::AddRoute));
    steps
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> Ipv4Addr {
        text.parse().unwrap()
    }

    fn wish(address: &str, prefix: u8, routers: &[&str]) -> Ipv4 {
        Ipv4 {
            routers: routers.iter().map(|router| ip(router)).collect(),
            ..Ipv4::alone(ip(address), prefix)
        }
    }

    fn full(wish: &Ipv4) -> Target {
        target(wish, Reach::World, 7, 1000, Standing::Full, Some(60))
    }

    /// Routes as `destination/prefix>gateway@metric`.
    #[track_caller]
    fn check_routes(wish: &Ipv4, want: &[&str]) {
        let text = |route: &Route| {
            let via = route.gateway.map(|gateway| format!(">{gateway}"));
            format!(
                "{}/{}{}@{}",
                route.destination,
                route.prefix,
                via.unwrap_or_default(),
                route.metric
            )
        };
        let got: Vec<String> = full(wish).routes.iter().map(text).collect();
        assert_eq!(got, want);
    }

    #[test]
    fn routers_follow_each_other_in_metric() {
        check_routes(
            &wish("192.0.2.17", 24, &["192.0.2.1", "192.0.2.2"]),
            &["0.0.0.0/0>192.0.2.1@1000", "0.0.0.0/0>192.0.2.2@1001"],
        );
    }

    #[test]
    fn further_routers_do_not_reach_into_the_next_interfaces_metrics() {
        let many: Vec<String> = (1..=16).map(|host| format!("192.0.2.{host}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        let routes = full(&wish("192.0.2.17", 24, &many)).routes;
        let metrics: Vec<u32> = routes.iter().map(|route| route.metric).collect();
        assert_eq!(metrics, (1000..1008).collect::<Vec<u32>>());
    }

    #[test]
    fn an_address_is_cut_off_without_its_network() {
        let address = full(&wish("192.0.2.17", 24, &[])).addresses.remove(0);
        let network = Route {
            interface: 7,
            destination: ip("192.0.2.0").into(),
            prefix: 24,
            gateway: None,
            source: None,
            metric: 5,
            protocol: 2,
        };
        assert!(!is_cut_off(&address, std::slice::from_ref(&network)));
        let others = [
            Route {
                interface: 8,
                ..network.clone()
            },
            Route {
                prefix: 25,
                ..network.clone()
            },
            Route {
                gateway: Some(ip("192.0.2.1").into()),
                ..network
            },
        ];
        assert!(is_cut_off(&address, &others) && is_cut_off(&address, &[]));
        for (lone, prefix) in [("192.0.2.17", 32), ("10.0.0.1", 1)] {
            let lone = full(&wish(lone, prefix, &[])).addresses.remove(0);
            assert!(!is_cut_off(&lone, &[]), "{lone:?}");
        }
    }

    #[test]
    fn a_gateway_off_the_link_gets_a_route_first() {
        check_routes(
            &wish("10.0.0.5", 32, &["192.0.2.1"]),
            &["192.0.2.1/32@1000", "0.0.0.0/0>192.0.2.1@1000"],
        );
    }

    #[test]
    fn a_route_on_the_link_covers_its_gateways() {
        let mut wish = wish("10.0.0.5", 32, &["192.0.2.1"]);
        wish.routes.push("192.0.2.0/24,0.0.0.0".parse().unwrap());
        check_routes(&wish, &["192.0.2.0/24@1000", "0.0.0.0/0>192.0.2.1@1000"]);
        wish.routers = vec![Ipv4Addr::UNSPECIFIED];
        check_routes(&wish, &["192.0.2.0/24@1000", "0.0.0.0/0@1000"]);
    }

    #[test]
    fn nothing_is_done_twice_but_lifetimes_are_renewed() {
        let target = full(&wish("192.0.2.17", 24, &["192.0.2.1"]));
        let steps = steps(&target, &target.addresses, &target.routes, &[]);
        assert_eq!(steps, [Step::PutAddress(target.addresses[0].clone())]);
    }

    #[test]
    fn what_is_ours_goes_and_what_is_not_stays() {
        let old = full(&wish("192.0.2.17", 24, &["192.0.2.1"]));
        let mut foreign = full(&wish("192.0.2.99", 24, &["192.0.2.9"]));
        foreign.addresses[0].protocol = 0;
        foreign.routes[0].protocol = 4;
        let addresses = [&old.addresses[..], &foreign.addresses[..]].concat();
        let routes = [&old.routes[..], &foreign.routes[..]].concat();
        let gone = [
            Step::DeleteRoute(old.routes[0].clone()),
            Step::DeleteAddress(old.addresses[0].clone()),
        ];
        assert_eq!(steps(&Target::default(), &addresses, &routes, &[]), gone);
        let known = [ip("192.0.2.99")];
        assert_eq!(
            steps(&Target::default(), &addresses, &routes, &known).len(),
            3
        );
    }

    #[test]
    fn another_mask_takes_the_routes_along_and_they_are_put_back() {
        let old = full(&wish("192.0.2.17", 24, &["192.0.2.1"]));
        let new = full(&wish("192.0.2.17", 16, &["192.0.2.1"]));
        let want = [
            Step::DeleteAddress(old.addresses[0].clone()),
            Step::PutAddress(new.addresses[0].clone()),
            Step::AddRoute(new.routes[0].clone()),
        ];
        assert_eq!(steps(&new, &old.addresses, &old.routes, &[]), want);
    }

    #[test]
    fn a_demoted_interface_keeps_its_routes_behind_the_others() {
        let wish = wish("192.0.2.17", 24, &["192.0.2.1"]);
        let demoted = target(&wish, Reach::World, 7, 1000, Standing::Demoted, None);
        assert_eq!(demoted.routes[0].metric, 101_000);
        assert_eq!(demoted.addresses[0].valid, FOREVER);
    }
    #[test]
    fn an_ipv6_gateway_outside_the_network_gets_a_route_on_the_link() {
        for (address, gateway, want) in [
            ("2001:db8::5/64", "2001:db8::1", vec!["::/0"]),
            ("2001:db8::5/64", "fe80::1", vec!["::/0"]),
            (
                "2001:db8::5/64",
                "2001:db8:1::1",
                vec!["2001:db8:1::1/128", "::/0"],
            ),
            (
                "2001:db8::5/128",
                "2001:db8::1",
                vec!["2001:db8::1/128", "::/0"],
            ),
            ("2001:db8::5/0", "2001:db8:1::1", vec!["::/0"]),
            (
                "2001:db8::5/64",
                "fe80::1\nroutes6='2001:db8:2::/48,2001:db8:3::1 2001:db8:3::/64,::'",
                vec!["2001:db8:3::/64", "2001:db8:2::/48", "::/0"],
            ),
        ] {
            let text = format!("address6={address}\ngateway6={gateway}\n");
            let fixed = Fixed::parse(&text).unwrap();
            let target = fixed6(&fixed, 7, 1000, Standing::Full);
            let routes = target.routes.iter();
            let shown: Vec<String> = routes
                .map(|route| format!("{}/{}", route.destination, route.prefix))
                .collect();
            assert_eq!(shown, want, "{text}");
        }
    }
}
