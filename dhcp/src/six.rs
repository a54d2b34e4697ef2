//! DHCPv6 on one interface: the shell around [`Machine6`].

use std::net::Ipv6Addr;
use std::os::fd::BorrowedFd;

use gokrazy_netlink::types::{RA_MANAGED, RA_OTHER};
use gokrazy_netlink::{Address, FOREVER};

use crate::machine6::{Action, Advice, Machine6};
use crate::message::v6;
use crate::moment::{Moment, earlier};
use crate::patience::Patience;
use crate::plan;
use crate::system;
use crate::wire6::Wire6;
use crate::world::World;

/// `IFA_F_DADFAILED`: the kernel found another host with an address.
const DUPLICATE: u32 = 0x08;

/// Replies taken at once; more than a flood brings while it is left alone.
const BATCH: usize = 512;

/// The client.
#[derive(Debug)]
pub struct Six {
    machine: Machine6,
    wire: Wire6,
    /// With replies that are of no use.
    patience: Patience,
    identity: v6::Identity,
    /// What the kernel knows of routers on the link.
    flags: u32,
}

/// What happens to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cue {
    /// Its time has come.
    Deadline,
    /// Something arrived on its socket, or on another one.
    Readable,
    /// The link can carry packets.
    LinkUp,
    /// It no longer can.
    LinkDown,
    /// The kernel's flags for the interface.
    Flags(u32),
    /// The kernel's view of an address.
    Address(Address),
    /// Someone wants an answer now.
    Renew,
    /// The end.
    Stop,
}

/// Whether addresses or settings have changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome6 {
    /// They are as before.
    Same,
    /// They are not.
    Changed,
}

impl Six {
    /// A client that waits for a router's advice.
    pub fn new(identity: v6::Identity, flags: Option<u32>) -> Self {
        Self {
            machine: Machine6::default(),
            wire: Wire6::default(),
            patience: Patience::default(),
            identity,
            flags: flags.unwrap_or_default(),
        }
    }

    /// DNS servers.
    pub fn dns(&self) -> &[Ipv6Addr] {
        self.machine.dns()
    }

    /// Search list.
    pub fn search(&self) -> &[String] {
        self.machine.search()
    }

    /// When [`Cue::Deadline`] is due.
    pub fn deadline(&self) -> Option<Moment> {
        earlier(self.machine.deadline(), self.patience.pause())
    }

    /// Whether there is an address in use.
    pub fn holds_address(&self) -> bool {
        self.machine.address().is_some()
    }

    /// When the address in use ends.
    pub fn valid_until(&self) -> Option<Moment> {
        self.machine.address().and_then(|held| held.valid_until)
    }

    /// The descriptor to wait for.
    pub fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        let descriptor = self.wire.descriptor();
        descriptor.filter(|_| self.patience.pause().is_none())
    }

    /// The address that the kernel is to have.
    pub fn target(&self, interface: u32, now: Moment) -> Option<Address> {
        let left = |end: Option<Moment>| match end {
            None => FOREVER,
            Some(end) if end <= now => 0,
            Some(end) => plan::seconds_left(end, now),
        };
        self.machine.address().map(|held| {
            let (preferred, valid) = (left(held.preferred_until), left(held.valid_until));
            plan::lone_address(held.address, interface, preferred.min(valid), valid)
        })
    }

    /// Takes a cue.
    pub fn on(&mut self, cue: Cue, name: &str, interface: u32, world: &mut World) -> Outcome6 {
        let actions = self.actions(cue, world);
        if let Err(error) = self.wire.await_replies(name, self.machine.awaited()) {
            world.log.detail(name, format!("listen to DHCPv6: {error}"));
        }
        let mut outcome = Outcome6::Same;
        for action in actions {
            match action {
                Action::Changed => outcome = Outcome6::Changed,
                Action::Log(line) => world.log.event(name, line),
                Action::Send(request) => {
                    world.log.detail(name, format!("send {request:?}"));
                    let bytes = v6::encode(&request, &self.identity);
                    if let Err(error) = self.wire.send(name, interface, &bytes) {
                        world.log.detail(name, format!("send DHCPv6: {error}"));
                    }
                }
            }
        }
        outcome
    }

    fn actions(&mut self, cue: Cue, world: &mut World) -> Vec<Action> {
        let (now, chance) = (system::now(), &mut world.chance);
        match cue {
            Cue::Deadline => {
                let mut actions = match self.patience.pause() {
                    Some(_) => self.replies(world),
                    None => Vec::new(),
                };
                actions.extend(self.machine.on_deadline(now, &mut world.chance));
                return actions;
            }
            Cue::Readable => return self.replies(world),
            Cue::LinkUp => self.machine.on_advice(advice(self.flags), now, chance),
            Cue::LinkDown => return self.machine.on_link_down(),
            Cue::Flags(flags) => {
                self.flags = flags;
                self.machine.on_advice(advice(flags), now, chance);
            }
            Cue::Address(address) => {
                let ours = self.machine.address().map(|held| held.address.into());
                if address.flags & DUPLICATE != 0 && ours == Some(address.address) {
                    return self.machine.on_duplicate(now, chance);
                }
            }
            Cue::Renew => return self.machine.on_renew(now, chance),
            Cue::Stop => return self.machine.on_stop(world.config.release, chance),
        }
        Vec::new()
    }

    /// Takes the replies that have arrived, unless so many were of no use that they have to wait.
    fn replies(&mut self, world: &mut World) -> Vec<Action> {
        let (now, mut useless) = (system::now(), 0);
        let mut actions = Vec::new();
        if self.patience.is_exhausted(now) {
            return actions;
        }
        for _ in 0..BATCH {
            let Some(bytes) = self.wire.reply() else {
                break;
            };
            let before = actions.len();
            if let Some(reply) = v6::decode(&bytes, &self.identity) {
                actions.extend(self.machine.on_reply(reply, now, &mut world.chance));
            }
            useless += u64::from(actions.len() == before);
        }
        self.patience.try_with(useless, now);
        actions
    }
}

/// Only routers set these flags.
///
/// That one was heard (`IF_RA_RCVD`) is not asked for: the kernel notes it only after a solicitation of its own, and
/// does not tell when it does.
fn advice(flags: u32) -> Advice {
    if flags & RA_MANAGED != 0 {
        Advice::Address
    } else if flags & RA_OTHER != 0 {
        Advice::Settings
    } else {
        Advice::None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routers_flags_are_advice() {
        assert_eq!(advice(0), Advice::None);
        assert_eq!(advice(RA_OTHER), Advice::Settings);
        assert_eq!(advice(RA_MANAGED), Advice::Address);
        assert_eq!(advice(RA_MANAGED | RA_OTHER), Advice::Address);
    }
}
