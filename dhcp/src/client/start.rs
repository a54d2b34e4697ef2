//! How a client begins: what is fixed, what an earlier run has left, and what of it is taken over.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

use gokrazy_netlink::Link;

use super::Client;
use super::configure::circumstances;
use crate::fixed::{Dhcp, Fixed};
use crate::link_local::LinkLocal;
use crate::machine::{Machine, Memory, Profile};
use crate::pace::Pace;
use crate::patience::Patience;
use crate::plan::Standing;
use crate::router_dns::RouterDns;
use crate::six::Six;
use crate::solicit::Solicitations;
use crate::store;
use crate::system;
use crate::wire::Wire;
use crate::world::{Outcome, World};

impl Client {
    /// A client for `link`, which has a hardware address of six bytes.
    pub fn new(link: &Link, mac: [u8; 6], world: &mut World) -> Self {
        let name = link.name.clone();
        let fixed = world.fixed(&name);
        let (memory, former_mtu) = recall(link, mac, fixed.as_ref(), world);
        let identity = world.identity(&name, mac);
        let profile = Profile {
            mac,
            check: world.config.check,
            rapid_commit: identity.rapid_commit,
            ipv6_only: identity.wanted.contains(&108),
            remember: !world.config.anonymous,
            only_offer: world.only_offer(),
        };
        let mut client = Self {
            index: link.index,
            machine: Machine::new(profile, memory, system::now()),
            link_local: LinkLocal::new(mac),
            router_dns: RouterDns::default(),
            pace: Pace::new(system::now()),
            solicitations: Solicitations::default(),
            had_carrier: false,
            addresses6: BTreeSet::new(),
            ipv6_since: None,
            told_dns6: Vec::new(),
            six: Six::new(world.identity6(mac), link.inet6_flags),
            wire: Wire::new(link.index, mac),
            patience: Patience::default(),
            metric: 0,
            standing: Standing::Demoted,
            carrier_changes: None,
            lease: None,
            fixed,
            fixed_at: system::now(),
            former_mtu,
            refused: Vec::new(),
            complaints: Vec::new(),
            refused_mtu: None,
            reassert_at: None,
            reasserted_at: None,
            is_up: false,
            cut_off: false,
            raised: false,
            saved: None,
            came_as: name.clone(),
            name,
            mac,
            identity,
        };
        client.told_dns6 = client.dns6();
        client.metric = world.metric(&client.name, client.index);
        // Before the kernel makes the first one.
        world.make_addresses_stable(&client.name);
        client.raise(link, world);
        // What is put in force next needs the network's route, which the kernel makes once the interface is up.
        if !world.only_offer() {
            client.adopt(link, world);
        }
        client.link_changed(link, world);
        if let Some(fixed) = client.fixed.clone() {
            client.tell_of_fixed(&fixed, world);
        }
        client
    }

    /// Sets the interface up.
    fn raise(&mut self, link: &Link, world: &mut World) {
        if link.is_up() {
            return;
        }
        match world.netlink.set_up(link.index) {
            Ok(()) => self.raised = world.only_offer(),
            Err(error) => world.log.event(&self.name, format!("set up: {error}")),
        }
    }

    /// Takes over what an earlier run left in the kernel, or removes it.
    fn adopt(&mut self, link: &Link, world: &mut World) {
        let granted = self.machine.grant();
        self.lease = granted.map(|grant| store::lease(grant, &self.name));
        match &self.lease {
            Some(lease) => {
                let address = lease.ipv4.as_ref().map(|ipv4| ipv4.address.to_string());
                let address = address.unwrap_or_default();
                let line = format!("found {address} of an earlier run");
                world.log.event(&self.name, line);
            }
            None if self.fixed.is_some() => {}
            None => self.reconcile(world, None),
        }
        self.list_addresses6(world);
        self.publish(world);
        if let Some(fixed) = self.fixed.clone() {
            self.fix(&fixed, link, world);
        }
    }

    /// Puts what is fixed in force.
    fn fix(&mut self, fixed: &Fixed, link: &Link, world: &mut World) {
        if fixed.dhcp == Dhcp::Off {
            self.lease = fixed.lease(&self.name, self.fixed_at);
        }
        self.set_mtu(self.wanted_mtu(), world);
        // With a carrier the look at the link follows at once, and puts it in force with the routes at their places: what
        // an earlier run has left stands meanwhile.
        if !link.has_carrier() {
            self.reconcile(world, None);
        }
    }

    /// Says what is fixed, once it is in force.
    fn tell_of_fixed(&mut self, fixed: &Fixed, world: &mut World) {
        self.publish(world);
        let v4 = fixed.address.map(|(address, _)| IpAddr::from(address));
        let v6 = fixed.address6.map(|(address, _)| IpAddr::from(address));
        let mut addresses = v4.into_iter().chain(v6).peekable();
        if addresses.peek().is_some() && addresses.all(|address| self.refused.contains(&address)) {
            return;
        }
        let four = fixed
            .address
            .map(|(address, prefix)| format!(" {address}/{prefix}"));
        let six = fixed
            .address6
            .map(|(address, prefix)| format!(" {address}/{prefix}"));
        let both = four.unwrap_or_default() + &six.unwrap_or_default();
        world
            .log
            .event(&self.name, format!("configured{both} by its file"));
        // Settings for a lease to come are no configuration yet.
        if self.is_static() || !both.is_empty() {
            self.tell("static", world);
            world.outcome = Some(Outcome::Bound);
        }
    }
}

/// What the saved file and the kernel tell of an earlier run.
fn recall(
    link: &Link,
    mac: [u8; 6],
    fixed: Option<&Fixed>,
    world: &mut World,
) -> (Memory, Option<u32>) {
    let is_static = fixed.is_some_and(|fixed| fixed.dhcp == Dhcp::Off);
    if world.config.anonymous || world.only_offer() || is_static {
        return (Memory::None, None);
    }
    let path = world.config.state_dir.join(&link.name);
    let text = match store::read(&path) {
        Ok(Some(text)) => text,
        Ok(None) => return (Memory::None, None),
        Err(error) => {
            let path = path.display();
            world.log.event(&link.name, format!("read {path}: {error}"));
            return (Memory::None, None);
        }
    };
    let held = world.netlink.addresses(link.index).unwrap_or_default();
    let holds = |address: Ipv4Addr| held.iter().any(|held| held.address == address);
    match store::judge(&text, &circumstances(mac, world), holds) {
        Ok(memory) => (memory, store::former_mtu(&text, &world.boot_id)),
        Err(error) => {
            let path = path.display();
            world
                .log
                .event(&link.name, format!("ignore {path}: {error}"));
            (Memory::None, None)
        }
    }
}
