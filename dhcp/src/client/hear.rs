//! What a client does with what arrives on its sockets.

use std::os::fd::BorrowedFd;

use super::Client;
use crate::machine::Event;
use crate::message::{self, ClasslessRoutes};
use crate::six::Cue;
use crate::system;
use crate::wire::Heard;
use crate::world::World;

/// Replies taken at once, so that one interface cannot keep the others waiting; more than a flood brings while it is
/// left alone.
const BATCH: u64 = 4096;

/// Whether an event has led to anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Use {
    /// It has.
    Some,
    /// All is as before.
    None,
}

impl Client {
    /// The descriptors to wait for.
    pub fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let replies = self.wire.replies();
        let replies = replies.filter(|_| self.patience.pause().is_none());
        let all = replies.into_iter().chain(self.wire.claims());
        all.chain(self.six.descriptor())
    }

    /// Takes what has arrived on its sockets.
    pub fn on_readable(&mut self, world: &mut World) {
        self.hear_replies(world);
        for arp in self.wire.arps() {
            self.on(Event::Arp(arp), world);
            let actions = self.link_local.on_arp(&arp, system::now());
            self.follow(actions, world);
        }
        self.on_six(Cue::Readable, world);
    }

    /// Takes the replies that have arrived, unless so many were of no use that they have to wait.
    pub(super) fn hear_replies(&mut self, world: &mut World) {
        if self.patience.is_exhausted(system::now()) {
            return;
        }
        let (mut useless, mut left) = (0_u64, BATCH);
        while let Some(heard) = self.wire.reply() {
            useless = useless.saturating_add(match self.hear(heard, world) {
                Use::Some => 0,
                Use::None => 1,
            });
            left = left.saturating_sub(1);
            if left == 0 {
                break;
            }
        }
        self.patience.try_with(useless, system::now());
    }

    fn hear(&mut self, heard: Heard, world: &mut World) -> Use {
        let Heard::Message(bytes) = heard else {
            return Use::None;
        };
        let accept = match world.config.classless_routes {
            true => ClasslessRoutes::Accept,
            false => ClasslessRoutes::Ignore,
        };
        match message::decode(&bytes, &self.identity, accept) {
            Ok(reply) => {
                world
                    .log
                    .detail(&self.name, format_args!("reply: {reply:?}"));
                self.on(Event::Reply(reply), world)
            }
            Err(rejection) => {
                world
                    .log
                    .detail(&self.name, format_args!("ignored a reply: {rejection:?}"));
                Use::None
            }
        }
    }
}
