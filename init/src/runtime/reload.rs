//! SIGHUP: the tables are read anew.

use gokrazy_core::paths;

use super::clock;
use super::event_loop::Runtime;
use super::publish::Facts;
use crate::service::load::{self, Loaded};
use crate::service::{INIT_LOG, KERNEL_LOG, Role};
use crate::supervise::reload::{Absent, Reloaded};

impl Runtime {
    pub(super) fn reload(&mut self) {
        let Some(place) = self.options.services.clone() else {
            return;
        };
        if place.exists() && !place.is_file() && !place.is_dir() {
            // As a pipe that was read at the start: nobody writes to it now, and we would wait for that.
            let place = place.display();
            self.journal.warn(format_args!(
                "read {place} anew: no regular file or folder, so all stays as it is"
            ));
            return;
        }
        let own = self.registry.entries().iter();
        let own = own.filter(|entry| entry.service.role != Role::Application);
        let mut known: Vec<String> = own.map(|entry| entry.service.name.clone()).collect();
        known.extend([INIT_LOG, KERNEL_LOG].map(str::to_owned));
        let known: Vec<&str> = known.iter().map(String::as_str).collect();
        let Loaded {
            services,
            mounts,
            complaints,
            is_whole,
        } = load::load(&place, &known);
        for complaint in complaints {
            self.journal.warn(complaint);
        }
        if is_whole {
            self.compare_mounts(&mounts);
        }
        let absent = match is_whole {
            true => Absent::Goes,
            false => Absent::Stays,
        };
        let reloaded = self.registry.reload(services, absent, clock::boot());
        self.tell(&reloaded, absent);
        for &index in &reloaded.changed {
            if let Some(slot) = self.slots.get_mut(index) {
                slot.is_stale = true;
            }
        }
        self.obey(reloaded.orders);
    }

    fn tell(&mut self, reloaded: &Reloaded, absent: Absent) {
        let stays = match absent {
            Absent::Goes => "",
            Absent::Stays => ": what cannot be read may be theirs, so no service is removed",
        };
        self.journal.info(format_args!(
            "read the services anew: {} added, {} changed, {} removed{stays}",
            reloaded.added.len(),
            reloaded.changed.len(),
            reloaded.removed.len()
        ));
    }

    /// A service that is described anew gets its user, socket and fences anew, at its next start.
    pub(super) fn refresh_slot(&mut self, index: usize) {
        let slot = self.slots.get_mut(index);
        if let Some(slot) = slot.filter(|slot| slot.is_stale) {
            slot.is_stale = false;
            slot.facts = Facts::default();
            if let Some(socket) = slot.notify.take() {
                // A process of an earlier run may hold it open, and nobody would read what comes.
                self.queue.remove(socket.fd());
            }
        }
    }

    /// What is left of a service that went, when nothing of it lives: its log, and its home.
    pub(super) fn forget(&mut self, index: usize) {
        let Some(entry) = self.registry.entries().get(index) else {
            return;
        };
        let (name, lives) = (entry.service.name.clone(), entry.machine.has_processes());
        if lives {
            return;
        }
        let path = self.options.run_dir.join(paths::SERVICE_DIR).join(&name);
        // It is not there where it never came to be written.
        let _ = std::fs::remove_file(path);
        if let Some(slot) = self.slots.get_mut(index) {
            if let Some(group) = slot.group.take() {
                group.remove();
            }
            if let Some(socket) = slot.notify.take() {
                self.queue.remove(socket.fd());
            }
            slot.pipes = None;
            slot.facts = Facts::default();
        }
    }
}
