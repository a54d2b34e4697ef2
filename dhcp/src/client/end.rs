//! How a client ends, and what it leaves behind.

use super::Client;
use crate::config::Goal;
use crate::link_local;
use crate::machine::{Ending, Event};
use crate::six::Cue;
use crate::world::World;

impl Client {
    /// Whether a lease stands that an earlier run has got, and that a `--once` without an answer leaves as it is.
    pub fn leaves_lease(&self, world: &World) -> bool {
        let is_once = matches!(world.config.goal, Goal::Once(_));
        is_once && !world.config.release && self.machine.grant().is_some() && self.is_in_force()
    }

    /// Stops, and removes what is configured.
    pub fn stop(&mut self, world: &mut World) {
        self.lower(world);
        if self.leaves_lease(world) {
            self.on(Event::Stop(Ending::Leave), world);
            return;
        }
        let ending = if world.config.release {
            Ending::Release
        } else {
            self.save_last(world);
            Ending::Keep
        };
        self.forget_addresses6();
        self.on(Event::Stop(ending), world);
        if self.link_local.rest() {
            self.follow(vec![link_local::Action::Drop], world);
        }
        self.on_six(Cue::Stop, world);
        if self.fixed.take().is_some() {
            let reason = if self.lease.is_some() {
                "stopped"
            } else {
                "static-removed"
            };
            self.withdraw(reason, world);
        }
    }

    /// The interface is gone: so is all that was configured on it.
    pub fn gone(&self, world: &mut World) {
        world.log.event(&self.name, "interface is gone");
        world.publisher.remove(&self.name);
        world.resolver_changed = true;
        self.tell_of("gone", None, world);
    }

    /// Sets the interface down again that `--test` has set up.
    pub fn lower(&mut self, world: &mut World) {
        if std::mem::take(&mut self.raised)
            && let Err(error) = world.netlink.set_down(self.index)
        {
            world.log.event(&self.name, format!("set down: {error}"));
        }
    }
}
