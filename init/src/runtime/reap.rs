//! The one `waitpid(-1)`: ends of children become events, orphans vanish.

use std::path::Path;

use gokrazy_core::service_status::State;
use gokrazy_sys::process::{self, ChildEnd};

use super::clock;
use super::event_loop::Runtime;
use super::log_link::Origin;
use super::tree::Tree;
use crate::supervise::Moment;
use crate::supervise::ending::Ending;
use crate::supervise::phase::{Event, Phase, Rest};

impl Runtime {
    /// Takes in all children that have ended.
    pub(super) fn reap(&mut self) {
        // Delays count from here, whatever else there is to do.
        let now = clock::boot();
        let mut mains = Vec::new();
        while let Some((pid, ending)) = next_end() {
            if let Some(index) = self.by_pid.remove(&pid) {
                mains.push((index, ending));
            } else if !self.on_mount_exit(pid) && !self.on_shell_exit(pid) {
                // A helper of ours, or an orphan that came to us: waiting for it was all that it needed.
                let success = ending == Ending::Exit(0);
                self.conditions.on_exit(pid, success);
                if let Some(hotplug) = &mut self.devices.hotplug {
                    hotplug.ended(pid);
                }
                if let Some(why) = self.identities.on_exit(pid, success) {
                    self.journal.warn(why);
                }
            }
        }
        for (index, ending) in mains {
            self.on_main_exit(index, ending, now);
        }
        self.look_after_rests();
    }

    /// All processes of a service that was started.
    pub(super) fn tree(&self, index: usize) -> Option<Tree<'_>> {
        let slot = self.slots.get(index)?;
        let name = &self.registry.entries().get(index)?.service.name;
        let main = slot.main?;
        Some(Tree {
            name,
            main,
            // From then on the number may be another's.
            main_is_gone: self.by_pid.get(&main) != Some(&index),
            group: slot.group.as_ref(),
            mains: &self.by_pid,
        })
    }

    fn on_main_exit(&mut self, index: usize, ending: Ending, now: Moment) {
        // What the child had to say comes before how it ended, also where both are there at once.
        self.drain_report(index);
        self.hear_last_words(index, now);
        let ending = self.true_ending(index, ending);
        let others = self.tree(index).is_some_and(|tree| tree.lives());
        // Before the next run may print something.
        self.end_run_in_log(index);
        // Before the next run, which makes its own of the same name.
        // Not in a shutdown: all groups go at its end, and on a device with the machine itself. Linux 6.12 was seen
        // to fall over a file that was closed while many groups vanished (`list_lru_add`).
        let is_end = self.registry.is_ending();
        let group = self
            .slots
            .get_mut(index)
            .filter(|_| !others && !is_end)
            .and_then(|slot| slot.group.take());
        if let Some(group) = group {
            group.remove();
        }
        let is_news = self.is_unexpected(index, &ending);
        let words = ending.to_string();
        self.feed_at(index, Event::Exited { ending, others }, now);
        self.log_end(index, &words, is_news);
    }

    /// Keeps a last line without an end apart from the next run's first: by a mark in the pipes, or where they are full
    /// by telling logd, which may come to read both at once.
    fn end_run_in_log(&mut self, index: usize) {
        let pipes = self.slots.get(index).and_then(|slot| slot.pipes.as_ref());
        if pipes.is_some_and(|pipes| !pipes.end_run(self.log_link.mark())) {
            self.log_link.add(Origin::Run(index));
            self.hand_over_logs();
        }
    }

    fn drain_report(&mut self, index: usize) {
        // Its writer has ended: one read takes all that a pipe holds, the next one finds the end.
        self.on_report(index);
        self.on_report(index);
    }

    /// The kernel's word for an end may hide why: the start failed, or memory ran out. One that was ended on the way to
    /// its program has not started either, unless somebody told it to end.
    fn true_ending(&mut self, index: usize, ending: Ending) -> Ending {
        let Some(slot) = self.slots.get_mut(index) else {
            return ending;
        };
        if let Some(why) = slot.start_error.take() {
            self.forget_lost_diversion(index);
            return Ending::StartFailed(why);
        }
        let kills = slot
            .group
            .as_ref()
            .map_or(0, super::cgroup::Group::out_of_memory_kills);
        let is_kill = ending == Ending::Signal(crate::service::signals::KILL);
        let ending = match is_kill && kills > slot.out_of_memory_kills {
            true => Ending::OutOfMemory,
            false => ending,
        };
        match slot.is_prepared || self.is_asked(index) {
            true => ending,
            false => ending.before_program(),
        }
    }

    /// A diversion lasts as long as its program.
    fn forget_lost_diversion(&mut self, index: usize) {
        let Some(entry) = self.registry.entries().get(index) else {
            return;
        };
        let program = entry.diverted.as_ref().and_then(|command| command.first());
        let lost = program.is_some_and(|program| !Path::new(program).exists());
        if lost && self.registry.drop_diversion(index) {
            self.complain(index, "the diversion's program is gone: back to its own");
        }
    }

    /// Whether it ended badly, and nobody had told it to end.
    fn is_unexpected(&self, index: usize, ending: &Ending) -> bool {
        ending.is_failure() && !self.is_asked(index)
    }

    fn is_asked(&self, index: usize) -> bool {
        let entry = self.registry.entries().get(index);
        entry.is_some_and(|entry| matches!(entry.machine.phase(), Phase::Stopping { .. }))
    }

    /// How it ended, and what follows.
    fn log_end(&mut self, index: usize, words: &str, is_news: bool) {
        let Some(entry) = self.registry.entries().get(index) else {
            return;
        };
        let machine = &entry.machine;
        let follows = match machine.phase() {
            Phase::Resting { until } => {
                let pause = until.saturating_sub(machine.entered());
                match (machine.state(), machine.failures()) {
                    (State::CrashLoop, failures) => {
                        format!(
                            "; a crash loop, {failures} failures in a row: next try in {pause:?}"
                        )
                    }
                    _ => format!("; next start in {pause:?}"),
                }
            }
            Phase::Stopped
            | Phase::Finished
            | Phase::Waiting
            | Phase::Launching
            | Phase::Starting { .. }
            | Phase::Running { .. }
            | Phase::Stopping { .. } => String::new(),
        };
        let line = format!("{}: {words}{follows}", entry.service.name);
        if is_news {
            self.journal.warn(line);
        } else {
            self.journal.info(line);
        }
    }

    /// Services of which only others than the main process were left: the last of them is an orphan, so its end
    /// brought us here.
    fn look_after_rests(&mut self) {
        let entries = (0..).zip(self.registry.entries());
        let left = entries.filter(|(_, entry)| {
            matches!(
                entry.machine.phase(),
                Phase::Stopping {
                    rest: Rest::Others,
                    ..
                }
            )
        });
        let left: Vec<usize> = left.map(|(index, _)| index).collect();
        for index in left {
            if self.tree(index).is_none_or(|tree: Tree<'_>| !tree.lives()) {
                self.feed(index, Event::TreeEmpty);
            }
        }
    }
}

fn next_end() -> Option<(u32, Ending)> {
    // No children at all is as good as none that has ended.
    let (pid, end) = process::next_child_end().ok().flatten()?;
    let ending = match end {
        ChildEnd::Exit(status) => Ending::Exit(status),
        ChildEnd::Signal(signal) => Ending::Signal(signal),
    };
    Some((pid, ending))
}
