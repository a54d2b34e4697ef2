//! One interface: its machine, its sockets, and what it has configured.
//!
//! The shell around [`Machine`]: it feeds it with packets and link changes, and does what it says.

mod configure;
mod end;
mod hear;
mod publish;
mod routers;
mod start;

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use gokrazy_core::lease::{Address6, Lease, Method};
use gokrazy_netlink::{Address, Event as NetlinkEvent, Link};

use self::hear::Use;
use crate::fixed::{Dhcp, Fixed};
use crate::link_local::{self, LinkLocal};
use crate::machine::{Action, Event, Machine};
use crate::message::Identity;
use crate::moment::{Moment, earlier};
use crate::pace::Pace;
use crate::patience::Patience;
use crate::plan::{self, Standing};
use crate::router_dns::RouterDns;
use crate::six::{Cue, Outcome6, Six};
use crate::solicit::Solicitations;
use crate::store::{self};
use crate::system;
use crate::wire::Wire;
use crate::world::World;

/// Least time between two restorations of what someone else removed.
const REASSERT_GAP: Duration = Duration::from_secs(1);
/// Wait before one: tools that flush an interface look again until nothing is left.
const REASSERT_WAIT: Duration = Duration::from_millis(100);

/// Which lease is on the disk.
#[derive(Debug, Clone, Copy)]
struct Saved {
    address: Ipv4Addr,
    /// Of the lease.
    acquired: Moment,
    /// When it was written.
    at: Moment,
}

/// The client of one interface.
#[derive(Debug)]
pub struct Client {
    /// Index of the interface.
    pub index: u32,
    /// Its name now.
    pub name: String,
    /// Its name when it was taken on.
    pub came_as: String,
    mac: [u8; 6],
    machine: Machine,
    link_local: LinkLocal,
    identity: Identity,
    router_dns: RouterDns,
    /// Of what routers say of name servers.
    pace: Pace,
    solicitations: Solicitations,
    /// Whether it had a carrier since it was last set up; the kernel asks routers for the first one only.
    had_carrier: bool,
    /// IPv6 addresses that reach beyond the link, as the kernel has them, and since when there are any.
    addresses6: BTreeSet<Address6>,
    ipv6_since: Option<Moment>,
    /// Name servers with IPv6 addresses, as last told to the hook.
    told_dns6: Vec<Ipv6Addr>,
    six: Six,
    wire: Wire,
    /// With replies that are of no use.
    patience: Patience,
    standing: Standing,
    /// The kernel's count of the carrier's comings and goings, as last told.
    carrier_changes: Option<u32>,
    metric: u32,
    /// What is configured of IPv4.
    lease: Option<Lease>,
    /// What an administrator has fixed.
    fixed: Option<Fixed>,
    /// Since when.
    fixed_at: Moment,
    /// The MTU to go back to.
    former_mtu: Option<u32>,
    /// Addresses that the kernel has refused, and in which words.
    refused: Vec<IpAddr>,
    complaints: Vec<String>,
    /// The MTU that it refused last.
    refused_mtu: Option<u32>,
    reassert_at: Option<Moment>,
    reasserted_at: Option<Moment>,
    /// Whether the interface is set up, as last told; nothing can be put back on one that is not.
    is_up: bool,
    /// Whether the kernel's own route to a network of ours went.
    cut_off: bool,
    /// Whether `--test` has set the interface up.
    raised: bool,
    saved: Option<Saved>,
}

impl Client {
    /// Its hardware address.
    pub fn mac(&self) -> [u8; 6] {
        self.mac
    }

    /// Whether it was asked for by name, whatever its name is now: a new name is no reason to cut the network off.
    pub fn was_named(&self, named: &[String]) -> bool {
        named.contains(&self.came_as)
    }

    /// Metric of its routes, for the order of interfaces.
    pub fn metric(&self) -> u32 {
        self.metric
    }

    /// When [`Client::on_deadline`] is due.
    pub fn deadline(&self) -> Option<Moment> {
        let own = earlier(self.machine.deadline(), self.link_local.deadline());
        let own = earlier(own, self.router_dns.deadline());
        let own = earlier(own, self.pace.deadline());
        let own = earlier(own, self.six.deadline());
        let own = earlier(own, self.patience.pause());
        let own = earlier(own, self.solicitations.deadline());
        earlier(own, self.reassert_at)
    }

    /// Does what is due.
    pub fn on_deadline(&mut self, world: &mut World) {
        let now = system::now();
        if self.reassert_at.is_some_and(|at| at <= now) {
            self.reassert_at = None;
            self.reasserted_at = Some(now);
            if self.is_up {
                self.restore(world);
            }
        }
        if self.patience.pause().is_some_and(|at| at <= now) {
            self.hear_replies(world);
        }
        if self.machine.deadline().is_some_and(|at| at <= now) {
            self.on(Event::Deadline, world);
        }
        if self.solicitations.is_due(now) {
            self.ask_routers(world);
        }
        let has_expired = self.router_dns.expire(now);
        if self.pace.is_due(now) || (has_expired && self.pace.admits(now)) {
            self.publish_dns6(world);
        }
        let actions = self.link_local.on_deadline(now, &mut world.chance);
        self.follow(actions, world);
        self.on_six(Cue::Deadline, world);
    }

    /// Lets DHCPv6 take its cue, and follows what it says.
    pub fn on_six(&mut self, cue: Cue, world: &mut World) {
        if world.only_offer() || (self.is_static() && cue != Cue::Stop) {
            return;
        }
        let outcome = self.six.on(cue, &self.name, self.index, world);
        if outcome == Outcome6::Changed {
            self.settle(world);
            self.publish_dns6(world);
        }
    }

    /// Follows a change of its link: carrier and name.
    pub fn link_changed(&mut self, link: &Link, world: &mut World) {
        if link.name != self.name {
            self.rename(&link.name, world);
        }
        let was_up = std::mem::replace(&mut self.is_up, link.is_up());
        self.keep_fixed_mtu(link, world);
        let standing = if link.has_carrier() {
            Standing::Full
        } else {
            Standing::Demoted
        };
        self.mind_routers(link, world);
        let counted = link.carrier_changes.or(self.carrier_changes);
        let before = std::mem::replace(&mut self.carrier_changes, counted);
        if standing == self.standing {
            // The kernel tells of carriers once a second at most, so a cable that moved fast shows by the count alone.
            let moved = before.is_some() && before != counted;
            if moved && standing == Standing::Full && !self.is_static() {
                world.log.event(&self.name, "carrier was lost for a moment");
                // What routers said stays: most often it is the same link, and nobody would ask them again.
                self.on_six(Cue::LinkDown, world);
                self.on(Event::LinkDown, world);
                self.carrier_returned(world);
            } else if self.is_up && !was_up {
                self.settle_link(world);
            }
            return;
        }
        self.standing = standing;
        if standing == Standing::Full {
            self.metric = world.metric(&self.name, self.index);
        }
        self.settle_link(world);
        match standing {
            Standing::Full if self.is_static() => {}
            Standing::Full => self.carrier_returned(world),
            Standing::Demoted => {
                let line = match link.is_up() {
                    true => "carrier lost",
                    false => "set down by someone",
                };
                world.log.event(&self.name, line);
                self.carrier_lost(world);
            }
        }
    }

    /// Puts in force what the link's change has touched: one that is set down has no routes, and takes none until it is
    /// set up.
    fn settle_link(&mut self, world: &mut World) {
        let holds_any = self.lease.is_some() || self.fixed.is_some() || self.six.holds_address();
        if holds_any && self.is_up {
            self.settle(world);
        }
    }

    fn carrier_returned(&mut self, world: &mut World) {
        self.on(Event::LinkUp, world);
        self.on_six(Cue::LinkUp, world);
    }

    fn carrier_lost(&mut self, world: &mut World) {
        self.on_six(Cue::LinkDown, world);
        if self.router_dns.clear() {
            self.publish_dns6(world);
        }
        self.on(Event::LinkDown, world);
    }

    /// Whether what is fixed is all, and no server is asked.
    fn is_static(&self) -> bool {
        self.fixed
            .as_ref()
            .is_some_and(|fixed| fixed.dhcp == Dhcp::Off)
    }

    fn rename(&mut self, name: &str, world: &mut World) {
        world.log.event(&self.name, format!("is now called {name}"));
        world.publisher.remove(&self.name);
        name.clone_into(&mut self.name);
        if let Some(lease) = &mut self.lease {
            name.clone_into(&mut lease.interface);
        }
        self.publish(world);
        self.saved = None;
        if let Some(grant) = self.machine.grant().cloned() {
            self.save(&grant, world);
        }
    }

    /// Looks whether someone removed what we configured.
    pub fn on_netlink(&mut self, event: &NetlinkEvent) {
        let target = self.target(system::now());
        let lost = match event {
            NetlinkEvent::AddressGone(gone) => {
                let same = |wanted: &Address| wanted.address == gone.address;
                gone.interface == self.index && target.addresses.iter().any(same)
            }
            NetlinkEvent::RouteGone(gone) => {
                let mut addresses = target.addresses.iter();
                let cut_off = addresses.any(|address| plan::is_network_of(gone, address));
                self.cut_off |= cut_off;
                cut_off || target.routes.contains(gone)
            }
            _ => false,
        };
        if lost {
            self.reassert_soon();
        }
    }

    /// Plans to put back what may have been removed.
    fn reassert_soon(&mut self) {
        let now = system::now();
        // The kernel removes the address itself when the lease ends, perhaps a moment before we do.
        let four = self.machine.grant().and_then(|grant| grant.timers.expire);
        let end = earlier(four, self.six.valid_until());
        if end.is_some_and(|end| end <= now.after(REASSERT_GAP)) {
            return;
        }
        let earliest = self.reasserted_at.map_or(now, |at| at.after(REASSERT_GAP));
        let at = earliest.max(now.after(REASSERT_WAIT));
        self.reassert_at = earlier(self.reassert_at, Some(at));
    }

    /// Events were lost: looks at all that they may have told.
    pub fn events_lost(&mut self, world: &mut World) {
        self.list_addresses6(world);
        self.reassert_soon();
    }

    /// Whether its address is still to be announced (RFC 5227 §2.3).
    pub fn is_announcing(&self) -> bool {
        self.machine.is_announcing()
    }

    /// Asks for more time now.
    pub fn renew(&mut self, world: &mut World) {
        self.on(Event::Renew, world);
        self.on_six(Cue::Renew, world);
    }

    fn on(&mut self, event: Event, world: &mut World) -> Use {
        let actions = self.machine.on(event, system::now(), &mut world.chance);
        // Ears first, so that no answer comes too early.
        self.listen(world);
        let what = if actions.is_empty() {
            Use::None
        } else {
            Use::Some
        };
        for action in actions {
            self.perform(action, world);
        }
        self.mind_link_local(world);
        what
    }

    fn listen(&mut self, world: &World) {
        let claimed = self.machine.claimed().or(self.link_local.claimed());
        let heard = self.wire.await_replies(self.machine.awaited());
        if let Err(error) = heard.and_then(|()| self.wire.watch(claimed)) {
            world.log.detail(&self.name, format!("listen: {error}"));
        }
    }

    /// A link-local address is for the time without a lease.
    fn mind_link_local(&mut self, world: &mut World) {
        if self.machine.grant().is_some() || self.standing == Standing::Demoted {
            if self.link_local.rest() {
                self.follow(vec![link_local::Action::Drop], world);
            }
        } else if world.config.link_local && self.machine.is_searching() {
            self.link_local.search(system::now());
        }
    }

    fn follow(&mut self, actions: Vec<link_local::Action>, world: &mut World) {
        self.listen(world);
        for action in actions {
            match action {
                link_local::Action::Arp(arp) => self.perform(Action::Arp(arp), world),
                link_local::Action::Take(address) => self.take_link_local(address, world),
                link_local::Action::Drop => {
                    let ours = |lease: &Lease| lease.method == Method::LinkLocal;
                    if self.lease.as_ref().is_some_and(ours) {
                        world
                            .log
                            .event(&self.name, "giving up the link-local address");
                        self.withdraw("link-local-lost", world);
                    }
                }
            }
        }
    }

    fn take_link_local(&mut self, address: Ipv4Addr, world: &mut World) {
        let lease = store::link_local(address, &self.name, system::now());
        world
            .log
            .event(&self.name, format!("no server; taking {address}"));
        self.lease = Some(lease);
        self.reconcile(world, None);
        self.link_local_in_force(world);
    }

    /// Makes a link-local address public, if the kernel has taken it; it is no goal of `--once`.
    fn link_local_in_force(&self, world: &mut World) {
        self.publish(world);
        if self.is_in_force() {
            self.tell("link-local", world);
        }
    }
}
