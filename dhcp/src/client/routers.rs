//! What a client has to do with routers: it hears of their name servers, and asks for them where the kernel does not.

use std::net::Ipv6Addr;

use gokrazy_netlink::Link;

use super::Client;
use crate::plan::Standing;
use crate::solicit::{self, Occasion};
use crate::system;
use crate::wire6;
use crate::world::World;

impl Client {
    /// Takes what a router has said beyond the kernel's concerns.
    pub fn on_router_option(&mut self, option: &[u8], router: Option<Ipv6Addr>, world: &mut World) {
        self.solicitations.end();
        let now = system::now();
        if self.router_dns.take(option, router, now) && self.pace.admits(now) {
            self.publish_dns6(world);
        }
    }

    /// Plans to ask routers if this news of the link is an occasion; comes before the news is noted.
    pub(super) fn mind_routers(&mut self, link: &Link, world: &mut World) {
        if world.only_offer() || !link.has_carrier() {
            self.solicitations.end();
            self.had_carrier &= link.is_up();
            return;
        }
        let was_away = match (self.carrier_changes, link.carrier_changes) {
            (Some(before), Some(now)) => before != now,
            (_, _) => false,
        };
        let is_back = self.had_carrier && (was_away || self.standing == Standing::Demoted);
        let occasion = match self.carrier_changes {
            None => Some(Occasion::Start),
            Some(_) => is_back.then_some(Occasion::Return),
        };
        self.had_carrier = true;
        if let Some(occasion) = occasion {
            let now = system::now();
            self.solicitations.begin(occasion, now, &mut world.chance);
        }
    }

    /// Asks, where an answer would be heeded.
    pub(super) fn ask_routers(&self, world: &World) {
        if !system::heeds_routers(&self.name) {
            return;
        }
        world.log.detail(&self.name, "asking routers");
        let message = solicit::message(self.mac);
        if let Err(error) = wire6::ask_routers(&self.name, self.index, &message) {
            world
                .log
                .detail(&self.name, format!("ask routers: {error}"));
        }
    }
}
