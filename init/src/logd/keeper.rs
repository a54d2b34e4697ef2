//! The logs of one name: until the next boot, and over boots if that is asked for.

use std::path::Path;
use std::rc::Rc;

use gokrazy_core::log_record::Times;

use super::segments::{Log, Rooms};

/// Where logs are kept.
#[derive(Debug, Clone)]
pub struct Folders {
    /// Until the next boot.
    pub volatile: Rc<Path>,
    /// Over boots, for services that ask for it.
    pub persistent: Option<Rc<Path>>,
}

/// The logs of one name.
#[derive(Debug)]
pub(super) struct Keeper {
    /// Boxed, since a growing list begins with room for four.
    logs: Box<[Log]>,
}

impl Keeper {
    pub(super) fn new(
        folders: &Folders,
        name: &Rc<str>,
        (volatile, persistent): (u64, u64),
        rooms: &Rooms,
    ) -> Self {
        let open = |folder: &Rc<Path>, limit| {
            Log::open(Rc::clone(folder), Rc::clone(name), limit, rooms.clone())
        };
        let kept = folders.persistent.as_ref().filter(|_| persistent > 0);
        let logs = [
            Some(open(&folders.volatile, volatile)),
            kept.map(|folder| open(folder, persistent)),
        ];
        Self {
            logs: logs.into_iter().flatten().collect(),
        }
    }

    pub(super) fn put(&mut self, beginning: &[u8], text: &[u8]) {
        for log in &mut self.logs {
            log.put(beginning, text);
        }
    }

    /// Writes, and says in the log itself what was lost before.
    pub(super) fn flush(&mut self, times: Times) {
        for log in &mut self.logs {
            log.flush();
            log.confess(times);
        }
    }
}
