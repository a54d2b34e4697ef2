//! What a client makes public: the file of its interface, and its part of the resolver configuration.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv6Addr};

use gokrazy_core::lease::{Address6, Lease, Method};
use gokrazy_netlink::{Address, Event as NetlinkEvent};

use super::Client;
use crate::publish::contribution;
use crate::resolver::{Contribution, ipv6_server};
use crate::system;
use crate::world::World;

/// `IFA_F_TENTATIVE` and `IFA_F_DADFAILED`: not, or never, to be used.
const UNUSABLE: u32 = 0x40 | 0x08;
/// Most addresses that are told, since a router can make the kernel take on very many.
const MOST: usize = 16;

impl Client {
    /// What it adds to the resolver configuration.
    pub fn contribution(&self) -> Contribution {
        let lease = self.lease.as_ref().filter(|_| self.is_in_force());
        let mut contribution = lease.map(contribution).unwrap_or_default();
        if let Some(fixed) = &self.fixed {
            let servers = fixed.dns.iter().map(ToString::to_string);
            contribution.servers.extend(servers);
            contribution.search.extend_from_slice(&fixed.search);
            if fixed.domain.is_some() {
                // Without a search list the domain is one.
                let alone = fixed.domain.clone().filter(|_| fixed.search.is_empty());
                contribution.search.extend(alone);
                contribution.domain.clone_from(&fixed.domain);
            }
        }
        let servers = self.dns6().into_iter();
        let servers = servers.map(|server| ipv6_server(server, &self.name));
        contribution.servers.extend(servers);
        contribution.search.extend_from_slice(self.six.search());
        contribution.search.extend(self.router_dns.search());
        contribution
    }

    /// What is configured, of both kinds of addresses; nothing if there is none.
    pub(super) fn published(&self) -> Option<Lease> {
        let alone = |since| Lease::endless(&self.name, Method::Ipv6, None, since);
        let since = self.ipv6_since.map(|since| alone(since.as_secs()));
        let lease = self.lease.clone().filter(|_| self.is_in_force());
        let lease = lease.or_else(|| self.beside()).or(since)?;
        Some(Lease {
            addresses6: self.addresses6.iter().take(MOST).copied().collect(),
            dns6: self.dns6(),
            ..lease
        })
    }

    /// The fixed address of IPv4 that stands beside leases, if the kernel has taken it.
    pub(super) fn beside(&self) -> Option<Lease> {
        let fixed = self.fixed.as_ref().filter(|_| !self.is_static())?;
        let (address, _) = fixed.address?;
        let lease = fixed.lease(&self.name, self.fixed_at)?;
        (!self.refused.contains(&address.into())).then_some(lease)
    }

    pub(super) fn dns6(&self) -> Vec<Ipv6Addr> {
        let fixed = self.fixed.iter().flat_map(|fixed| &fixed.dns);
        let fixed = fixed.filter_map(|server| match server {
            IpAddr::V4(_) => None,
            IpAddr::V6(server) => Some(*server),
        });
        let told = self.six.dns().iter().copied();
        let mut all: Vec<Ipv6Addr> = Vec::new();
        for server in fixed.chain(told).chain(self.router_dns.servers()) {
            if !all.contains(&server) {
                all.push(server);
            }
        }
        all
    }

    /// Writes or removes the interface's file, and has the resolver configuration looked at.
    pub(super) fn publish(&self, world: &mut World) {
        match self.published() {
            Some(lease) => world.publisher.put(&lease),
            None => world.publisher.remove(&self.name),
        }
        world.resolver_changed = true;
    }

    /// The same where name servers with IPv6 addresses may be others, of which the hook is told.
    pub(super) fn publish_dns6(&mut self, world: &mut World) {
        self.publish(world);
        let servers = self.dns6();
        // Without a configuration that holds them there is nothing to tell of yet.
        if servers != self.told_dns6 && self.published().is_some() {
            self.tell("dns", world);
        }
        self.told_dns6 = servers;
    }

    /// Takes note of an IPv6 address that the kernel has now, or has no longer.
    pub fn on_address6(&mut self, event: &NetlinkEvent, world: &mut World) {
        let mut addresses = self.addresses6.clone();
        match event {
            NetlinkEvent::Address(held) => match (address6(held), is_usable(held)) {
                (Some(address), true) => drop(addresses.insert(address)),
                (Some(address), false) => drop(addresses.remove(&address)),
                (None, _) => {}
            },
            NetlinkEvent::AddressGone(gone) => {
                if let Some(address) = address6(gone) {
                    addresses.remove(&address);
                }
            }
            _ => {}
        }
        self.note_addresses6(addresses, world);
    }

    /// Forgets them, since what the kernel has is not ours to tell of any more.
    pub(super) fn forget_addresses6(&mut self) {
        self.addresses6.clear();
        self.ipv6_since = None;
    }

    /// Asks the kernel which there are.
    pub(super) fn list_addresses6(&mut self, world: &mut World) {
        let held = world.netlink.addresses(self.index).unwrap_or_default();
        let usable = held.iter().filter(|held| is_usable(held));
        self.note_addresses6(usable.filter_map(address6).collect(), world);
    }

    fn note_addresses6(&mut self, addresses: BTreeSet<Address6>, world: &mut World) {
        if world.only_offer() || addresses == self.addresses6 {
            return;
        }
        self.ipv6_since = match (addresses.is_empty(), self.ipv6_since) {
            (true, _) => None,
            (false, None) => Some(system::now()),
            (false, since) => since,
        };
        self.addresses6 = addresses;
        self.publish(world);
        self.tell("ipv6", world);
    }
}

/// An IPv6 address that reaches beyond the link.
fn address6(held: &Address) -> Option<Address6> {
    match held.address {
        IpAddr::V6(address) if !address.is_unicast_link_local() && !address.is_loopback() => {
            Some(Address6 {
                address,
                prefix: held.prefix,
            })
        }
        IpAddr::V4(_) | IpAddr::V6(_) => None,
    }
}

fn is_usable(held: &Address) -> bool {
    held.flags & UNUSABLE == 0
}
