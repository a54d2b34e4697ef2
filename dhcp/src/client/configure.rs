//! What a client does with what its machine says: messages, kernel state, files.

use std::net::Ipv4Addr;
use std::os::fd::AsFd;
use std::time::Duration;

use gokrazy_core::lease::{Ipv4, Lease, Method};
use gokrazy_netlink::Link;

use super::{Client, Saved};
use crate::apply;
use crate::hooks::Change;
use crate::machine::{Action, Route};
use crate::message;
use crate::moment::{Moment, earlier};
use crate::plan::{self, Reach, Target};
use crate::store::{self, Circumstances};
use crate::system;
use crate::terms::Grant;
use crate::world::{Outcome, World};

/// Most and least time between two writes of the same address to the disk: a server can choose very short leases, and
/// of those that are not, a run that is killed must find what still holds.
const SAVE_GAP: Duration = Duration::from_secs(60);
const SAVE_GAP_LEAST: Duration = Duration::from_secs(8);

/// Wait before what the kernel has refused is tried again.
const REFUSED_WAIT: Duration = Duration::from_secs(5);

impl Client {
    pub(super) fn perform(&mut self, action: Action, world: &mut World) {
        match action {
            Action::Log(line) => world.log.event(&self.name, line),
            Action::Send(request, route) => {
                world.log.detail(&self.name, format!("send {request:?}"));
                let bytes = message::encode(&request, &self.identity);
                let sent = match route {
                    Route::Broadcast(source) => {
                        if let Some(grant) = self.machine.grant() {
                            let held = grant.terms.ipv4.address;
                            // Where the kernel has no such address, it has no answer either.
                            let _ = self.wire.hold_port(&self.name, held);
                        }
                        self.wire.broadcast(world.sender.as_fd(), source, &bytes)
                    }
                    Route::Unicast(server) => {
                        self.wire
                            .unicast(&self.name, request.client, server, &bytes)
                    }
                };
                if let Err(error) = sent {
                    world.log.detail(&self.name, format!("send: {error}"));
                }
            }
            Action::Arp(arp) => {
                if let Err(error) = self.wire.send_arp(world.sender.as_fd(), &arp) {
                    world.log.detail(&self.name, format!("send ARP: {error}"));
                }
            }
            Action::Configure(grant) => self.configure(&grant, world),
            Action::Withdraw(reason) => self.withdraw(reason.as_str(), world),
            Action::Save(grant) => self.save(&grant, world),
            Action::Forget => {
                // The same lease granted again is news to the disk.
                self.saved = None;
                world.forget(&self.name);
            }
            Action::Show(terms) => {
                let grant = Grant::new(*terms, system::now());
                world.outcome = Some(Outcome::Offer(Box::new(store::lease(&grant, &self.name))));
            }
        }
    }

    pub(super) fn configure(&mut self, grant: &Grant, world: &mut World) {
        self.link_local.rest();
        let lease = store::lease(grant, &self.name);
        let former = self.lease.replace(lease.clone());
        let former = former.as_ref().and_then(address_of);
        let renewed = former == address_of(&lease) && self.is_in_force();
        self.set_mtu(self.wanted_mtu(), world);
        self.reconcile(world, former);
        self.make_public(if renewed { "renewed" } else { "bound" }, world);
    }

    /// Makes public what is configured; what the kernel has refused is not, and is tried again.
    pub(super) fn make_public(&mut self, reason: &'static str, world: &mut World) {
        self.publish(world);
        if self.is_in_force() {
            self.tell(reason, world);
            world.outcome = Some(Outcome::Bound);
        }
    }

    /// Whether the kernel has taken the address of IPv4, if there is one to take.
    pub(super) fn is_in_force(&self) -> bool {
        let address = self.lease.as_ref().and_then(address_of);
        !address.is_some_and(|address| self.refused.contains(&address.into()))
    }

    pub(super) fn withdraw(&mut self, reason: &'static str, world: &mut World) {
        let former = self.lease.take();
        self.reassert_at = None;
        self.reconcile(world, former.as_ref().and_then(address_of));
        self.set_mtu(self.wanted_mtu(), world);
        self.publish(world);
        self.tell(reason, world);
    }

    pub(super) fn save(&mut self, grant: &Grant, world: &mut World) {
        if world.config.anonymous || world.only_offer() {
            return;
        }
        let now = system::now();
        let address = grant.terms.ipv4.address;
        let gap = grant.terms.lease.map_or(SAVE_GAP, |lease| lease / 4);
        let gap = gap.clamp(SAVE_GAP_LEAST, SAVE_GAP);
        let fresh = |saved: Saved| saved.address == address && now.since(saved.at) < gap;
        if self.saved.is_some_and(fresh) {
            return;
        }
        let at = circumstances(self.mac, world);
        let text = store::render(grant, &self.name, &at, self.former_mtu);
        // What failed is tried again with the next renewal, however soon.
        let saved = world.save(&self.name, &text);
        self.saved = saved.then_some(Saved {
            address,
            acquired: grant.acquired,
            at: now,
        });
    }

    /// Keeps the lease as it stands, for the next run: of short ones not every renewal was written.
    pub(super) fn save_last(&mut self, world: &mut World) {
        let Some(grant) = self.machine.grant().cloned() else {
            return;
        };
        let is_older = |saved: Saved| saved.acquired != grant.acquired;
        if self.saved.is_some_and(is_older) {
            self.saved = None;
            self.save(&grant, world);
        }
    }

    /// The MTU that an administrator has fixed, or that a server gives.
    pub(super) fn wanted_mtu(&self) -> Option<u32> {
        let fixed = self.fixed.as_ref().and_then(|fixed| fixed.mtu);
        let lease = self.lease.as_ref().and_then(|lease| lease.ipv4.as_ref());
        fixed.or(lease.and_then(|ipv4| ipv4.mtu)).map(u32::from)
    }

    /// Puts a fixed MTU back that someone changed.
    pub(super) fn keep_fixed_mtu(&mut self, link: &Link, world: &mut World) {
        let fixed = self.fixed.as_ref().and_then(|fixed| fixed.mtu);
        let fixed = fixed.map(u32::from).filter(|mtu| *mtu != link.mtu);
        if fixed.is_some() && self.refused_mtu != fixed {
            self.set_mtu(fixed, world);
        }
    }

    pub(super) fn tell(&self, reason: &'static str, world: &mut World) {
        self.tell_of(reason, self.published(), world);
    }

    pub(super) fn tell_of(&self, reason: &'static str, lease: Option<Lease>, world: &mut World) {
        let change = Change {
            interface: self.name.clone(),
            reason,
            lease,
        };
        world.hooks.tell(change, system::now(), world.log);
    }

    /// Sets the lease's MTU, or goes back to the one before.
    pub(super) fn set_mtu(&mut self, wanted: Option<u32>, world: &mut World) {
        let mtu = match wanted {
            Some(mtu) => {
                if self.former_mtu.is_none() {
                    self.former_mtu = world.mtu(self.index);
                }
                mtu
            }
            None => match self.former_mtu.take() {
                Some(mtu) => mtu,
                None => return,
            },
        };
        if world.mtu(self.index) == Some(mtu) {
            return;
        }
        // What is refused is told of once, however often a server renews.
        match world.netlink.set_mtu(self.index, mtu) {
            Ok(()) => self.refused_mtu = None,
            Err(error) => {
                if self.refused_mtu.replace(mtu) != Some(mtu) {
                    let line = format!("set MTU {mtu}: {error}");
                    world.log.event(&self.name, line);
                }
            }
        }
    }

    pub(super) fn target(&self, now: Moment) -> Target {
        let mut target = self.target4(now);
        target.addresses.extend(self.six.target(self.index, now));
        if let Some(fixed) = &self.fixed {
            let (addresses, routes) = (&mut target.addresses, &mut target.routes);
            let beside = fixed.lease(&self.name, now).filter(|_| !self.is_static());
            if let Some(ipv4) = beside.and_then(|lease| lease.ipv4) {
                let beside = self.target_of(&ipv4, Reach::World, None);
                addresses.extend(beside.addresses);
                routes.extend(beside.routes);
            }
            let six = plan::fixed6(fixed, self.index, self.metric, self.standing);
            addresses.extend(six.addresses);
            routes.extend(six.routes);
        }
        target
    }

    pub(super) fn target4(&self, now: Moment) -> Target {
        let Some((lease, ipv4)) = self
            .lease
            .as_ref()
            .and_then(|lease| Some((lease, lease.ipv4.as_ref()?)))
        else {
            return Target::default();
        };
        let reach = match lease.method {
            Method::LinkLocal => Reach::Link,
            Method::Dhcp | Method::Static | Method::Ipv6 => Reach::World,
        };
        let grant = self
            .machine
            .grant()
            .filter(|_| lease.method == Method::Dhcp);
        let end = grant.and_then(|grant| grant.timers.expire);
        let left = end.map(|end| plan::seconds_left(end, now));
        self.target_of(ipv4, reach, left)
    }

    fn target_of(&self, ipv4: &Ipv4, reach: Reach, left: Option<u32>) -> Target {
        let (metric, standing) = (self.metric, self.standing);
        plan::target(ipv4, reach, self.index, metric, standing, left)
    }

    /// Puts back what someone else removed.
    pub(super) fn restore(&mut self, world: &mut World) {
        let target = self.target(system::now());
        if std::mem::take(&mut self.cut_off) {
            self.reconnect(&target, world);
        }
        if !apply::is_complete(&mut world.netlink, self.index, &target) && self.refused.is_empty() {
            let line = "someone removed what we configured; putting it back";
            world.log.event(&self.name, line);
        }
        self.settle(world);
    }

    /// Makes the kernel's state what it should be, and public what the kernel refused before and takes now.
    pub(super) fn settle(&mut self, world: &mut World) {
        let (owed, beside) = (!self.is_in_force(), self.beside());
        self.reconcile(world, None);
        if owed && self.is_in_force() {
            world
                .log
                .event(&self.name, "the kernel takes the address now");
            let method = self.lease.as_ref().map(|lease| lease.method);
            match method {
                Some(Method::Dhcp) => self.make_public("bound", world),
                Some(Method::Static) => self.make_public("static", world),
                Some(Method::LinkLocal) => self.link_local_in_force(world),
                Some(Method::Ipv6) | None => {}
            }
        } else if beside.is_none() && self.beside().is_some() {
            self.make_public("static", world);
        }
    }

    /// Removes addresses whose network someone has removed: the kernel makes that anew only along with the address.
    fn reconnect(&self, target: &Target, world: &mut World) {
        let Ok(routes) = world.netlink.routes(self.index) else {
            return;
        };
        for address in &target.addresses {
            if plan::is_cut_off(address, &routes) {
                // One that is not there is put back like any other.
                let _ = world.netlink.delete_address(address);
            }
        }
    }

    /// Makes the kernel's state what it should be.
    pub(super) fn reconcile(&mut self, world: &mut World, former: Option<Ipv4Addr>) {
        let now = system::now();
        let target = self.target(now);
        let known: Vec<Ipv4Addr> = former.into_iter().collect();
        let refusal = apply::reconcile(&mut world.netlink, self.index, &target, &known);
        for line in &refusal.complaints {
            // What stays refused is told of once, however often it is tried again.
            if !self.complaints.contains(line) {
                world.log.event(&self.name, line);
            }
        }
        self.complaints = refusal.complaints;
        self.refused = refusal.addresses;
        if !self.refused.is_empty() {
            self.reassert_at = earlier(self.reassert_at, Some(now.after(REFUSED_WAIT)));
        }
    }
}

fn address_of(lease: &Lease) -> Option<Ipv4Addr> {
    lease.ipv4.as_ref().map(|ipv4| ipv4.address)
}

pub(super) fn circumstances(mac: [u8; 6], world: &World) -> Circumstances<'_> {
    Circumstances {
        mac,
        boot_id: &world.boot_id,
        now: system::now(),
        wall: system::wall(),
    }
}
