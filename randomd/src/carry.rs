//! Performs the steps of a plan on a seed folder and a pool, and tells what came of it.
//!
//! Generic over both, so that a test can cut the power after any step; no clock, no chance, no log.

use crate::event::{CarryError, Event, Uncredited};
use crate::plan::{Group, Name, Step};
use crate::pool::{Credit, Drawn, Pool};
use crate::seed::{self, Machine, NO_NEW_SEED, Succession};
use crate::store::Store;

/// What decides whether seeds earn credit.
#[derive(Debug, Clone)]
pub struct Terms {
    /// Who this machine is; unknown, nothing can be credited.
    pub machine: Option<Machine>,
    /// Whether a loaded seed may be credited at all.
    pub credit: bool,
    /// Whether a new seed may be creditable.
    pub promote: bool,
    /// Bytes of a new seed.
    pub length: usize,
}

/// A seed between its file and the pool.
#[derive(Debug)]
struct Held {
    name: Name,
    bytes: Vec<u8>,
    uncredited: Option<Uncredited>,
}

/// A new seed on its way to the disk.
#[derive(Debug)]
struct Fresh {
    file: Vec<u8>,
    length: usize,
    uncredited: Option<Uncredited>,
}

/// One pass over one or more plans; what it loads goes into what it saves.
#[derive(Debug)]
pub struct Carrier<'a, S, P> {
    store: &'a mut S,
    pool: &'a mut P,
    terms: &'a Terms,
    succession: Succession,
    held: Vec<Held>,
    has_absorbed: bool,
    fresh: Option<Fresh>,
    events: Vec<Event>,
}

impl<'a, S: Store, P: Pool> Carrier<'a, S, P> {
    /// Begins with nothing read.
    pub fn new(
        store: &'a mut S,
        pool: &'a mut P,
        terms: &'a Terms,
        succession: Succession,
    ) -> Self {
        Self {
            store,
            pool,
            terms,
            succession,
            held: Vec::new(),
            has_absorbed: false,
            fresh: None,
            events: Vec::new(),
        }
    }

    /// Performs each group up to its end or its first failure.
    pub fn perform(&mut self, plan: &[Group]) {
        for group in plan {
            let held_before = self.held.len();
            match self.perform_group(group) {
                Ok(()) => self.tell_saved(),
                Err(error) => {
                    self.held.truncate(held_before);
                    self.events.push(Event::Failed(error));
                }
            }
            self.fresh = None;
        }
        self.held.clear();
    }

    fn tell_saved(&mut self) {
        self.events
            .extend(self.fresh.iter().map(|fresh| Event::Saved {
                bytes: fresh.length,
                uncredited: fresh.uncredited,
            }));
    }

    /// What happened.
    pub fn into_events(self) -> Vec<Event> {
        self.events
    }

    /// Whether a seed to come would carry an old one on.
    pub fn has_absorbed(&self) -> bool {
        self.has_absorbed
    }

    fn perform_group(&mut self, group: Group) -> Result<(), CarryError> {
        for step in group {
            match *step {
                Step::Read(name) if !self.read(name)? => return Ok(()),
                Step::Read(_) => {}
                Step::Remove(name) => self.store.remove(name).map_err(CarryError::NotRemoved)?,
                Step::SyncRemoval if self.held.is_empty() => return Ok(()),
                Step::SyncRemoval => self.sync_removal()?,
                Step::Mix => self.mix(),
                Step::Keep => self.absorb(),
                Step::Draw => self.draw(),
                Step::Write => self.write()?,
                Step::SyncSeed => self.store.sync_seed().map_err(CarryError::Store)?,
                Step::Promote => self.promote()?,
                Step::SyncFolder => self.store.sync_folder().map_err(CarryError::Store)?,
            }
        }
        Ok(())
    }

    /// Returns whether there is a seed.
    fn read(&mut self, name: Name) -> Result<bool, CarryError> {
        let Some(found) = self.store.read(name).map_err(CarryError::Store)? else {
            return Ok(false);
        };
        let machine = self.terms.machine.as_ref();
        let ours = machine.and_then(|machine| seed::made_by(&found.bytes, machine));
        let uncredited = match (name, ours, machine) {
            (Name::NoCredit, ..) => Some(Uncredited::Marked),
            (Name::Credit, None, None) => Some(Uncredited::Nobody),
            (Name::Credit, None, Some(_)) => Some(Uncredited::Foreign),
            (Name::Credit, Some(_), _) if found.exposed => Some(Uncredited::Exposed),
            (Name::Credit, Some(_), _) => None,
        };
        let bytes = ours.map_or(found.bytes.clone(), <[u8]>::to_vec);
        self.held.push(Held {
            name,
            bytes,
            uncredited,
        });
        Ok(true)
    }

    fn sync_removal(&mut self) -> Result<(), CarryError> {
        self.store.sync_folder().map_err(|error| {
            // Perhaps they are gone all the same: what they held lives on in the new seed, which betrays neither.
            self.absorb();
            CarryError::NotRemoved(error)
        })
    }

    /// The seeds' removal is durable when this is called; that is the plan's to ensure.
    fn mix(&mut self) {
        // Even those that the pool then does not take live on in the new seed.
        self.absorb();
        for held in std::mem::take(&mut self.held) {
            let event = self.mix_one(&held).unwrap_or_else(Event::Failed);
            self.events.push(event);
        }
    }

    fn mix_one(&mut self, held: &Held) -> Result<Event, CarryError> {
        if held.bytes.is_empty() {
            return Ok(Event::Empty(held.name));
        }
        let mut uncredited = held.uncredited;
        if uncredited.is_none() && !self.terms.credit {
            uncredited = Some(Uncredited::Asked);
        }
        if uncredited.is_none() && self.pool.is_ready() {
            uncredited = Some(Uncredited::NotNeeded);
        }
        let bits = match uncredited {
            None => held.bytes.len().saturating_mul(8),
            Some(_) => 0,
        };
        let mixed = self.pool.mix(&held.bytes, bits);
        if let Credit::Refused(kind) = mixed.map_err(|error| CarryError::Mix(held.name, error))? {
            uncredited = Some(Uncredited::Refused(kind));
        }
        Ok(Event::Mixed {
            name: held.name,
            bytes: held.bytes.len(),
            uncredited,
        })
    }

    fn absorb(&mut self) {
        let seeds = self.held.iter().filter(|held| !held.bytes.is_empty());
        for held in seeds {
            self.succession.absorb(&held.bytes);
            self.has_absorbed = true;
        }
    }

    fn draw(&mut self) {
        let mut seed = vec![0; self.terms.length];
        let drawn = self.pool.draw(&mut seed).unwrap_or_else(|_| {
            // The old seeds' entropy is carried on all the same.
            seed = NO_NEW_SEED.to_vec();
            Drawn::Unready
        });
        self.succession.clone().succeed(&mut seed);
        let length = seed.len();
        let (file, uncredited) = match (drawn, &self.terms.machine) {
            (Drawn::Unready, _) => (seed, Some(Uncredited::Unready)),
            (Drawn::Ready, _) if !self.terms.promote => (seed, Some(Uncredited::LoadOnly)),
            (Drawn::Ready, None) => (seed, Some(Uncredited::Nobody)),
            (Drawn::Ready, Some(machine)) => (seed::bind(&seed, machine), None),
        };
        self.fresh = Some(Fresh {
            file,
            length,
            uncredited,
        });
    }

    fn write(&mut self) -> Result<(), CarryError> {
        let file = self.fresh.as_ref().map(|fresh| fresh.file.as_slice());
        let written = self.store.write_seed(file.unwrap_or_default());
        written.map_err(CarryError::Store)
    }

    fn promote(&mut self) -> Result<(), CarryError> {
        match self.fresh.as_ref().map(|fresh| fresh.uncredited) {
            Some(None) => self.store.promote().map_err(CarryError::Store),
            Some(Some(_)) | None => Ok(()),
        }
    }
}
