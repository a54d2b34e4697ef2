//! A stand-in for disk and pool, whose power can be cut after any operation, and any operation of which can fail.
//!
//! The disk forgets as badly as a real one may: what was not synced is there, or not, name by name and in no order,
//! and unsynced content is cut anywhere.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::PathBuf;
use std::rc::Rc;

use gokrazy_randomd::plan::Name;
use gokrazy_randomd::pool::{Credit, Drawn, Pool};
use gokrazy_randomd::store::{Found, Store, StoreError};

/// A name's way from what is durable to what the kernel shows: the file it led to, oldest first.
type Entry = Vec<Option<usize>>;

/// The content of a file, and whether it is durable.
#[derive(Debug, Clone)]
pub(crate) struct Content {
    bytes: Vec<u8>,
    synced: bool,
}

#[derive(Debug, Clone)]
pub(crate) struct World {
    pub(crate) entries: BTreeMap<&'static str, Entry>,
    pub(crate) files: Vec<Content>,
    /// What went into the pool, and the credit given for it.
    pub(crate) mixed: Vec<(Vec<u8>, usize)>,
    /// What was written, and whether it came from an initialised pool.
    pub(crate) made: Vec<(Vec<u8>, bool)>,
    /// Each operation, in words.
    pub(crate) record: Vec<String>,
    pub(crate) ready: bool,
    /// Operations until the power is cut.
    pub(crate) power: Option<usize>,
    /// The operation that fails, counted from now.
    pub(crate) failing: Option<usize>,
    pub(crate) counter: u8,
}

/// A handle for store and pool alike.
#[derive(Debug, Clone)]
pub(crate) struct Shared(pub(crate) Rc<RefCell<World>>);

impl Shared {
    pub(crate) fn new(ready: bool) -> Self {
        Self(Rc::new(RefCell::new(World {
            entries: [Name::NoCredit, Name::Credit]
                .map(|name| (name.file(), vec![None]))
                .into(),
            files: Vec::new(),
            mixed: Vec::new(),
            made: Vec::new(),
            record: Vec::new(),
            ready,
            power: None,
            failing: None,
            counter: 0,
        })))
    }

    pub(crate) fn of(world: World) -> Self {
        Self(Rc::new(RefCell::new(world)))
    }

    pub(crate) fn world(&self) -> World {
        self.0.borrow().clone()
    }

    fn operation(&self, what: String) -> io::Result<()> {
        self.0.borrow_mut().operation(what)
    }
}

impl World {
    /// Counts an operation: no effect without power, none if it is the one to fail.
    fn operation(&mut self, what: String) -> io::Result<()> {
        if let Some(left) = &mut self.power {
            if *left == 0 {
                return Err(io::Error::other("the power is off"));
            }
            *left -= 1;
        }
        self.record.push(what);
        if let Some(left) = &mut self.failing {
            if *left == 0 {
                self.failing = None;
                return Err(io::Error::other("made to fail"));
            }
            *left -= 1;
        }
        Ok(())
    }

    /// Puts a durable file there, as an earlier boot, an image or a stranger left it.
    pub(crate) fn plant(&mut self, name: Name, bytes: &[u8]) {
        self.files.push(Content {
            bytes: bytes.to_vec(),
            synced: true,
        });
        let file = self.files.len() - 1;
        self.entries.insert(name.file(), vec![Some(file)]);
    }

    /// What the kernel shows under a name.
    pub(crate) fn content(&self, name: Name) -> Option<Vec<u8>> {
        let file = self.entries[name.file()].last().copied().flatten()?;
        Some(self.files[file].bytes.clone())
    }

    /// Every state in which the disk may be found after a power cut now.
    pub(crate) fn after_cut(&self) -> Vec<World> {
        let mut states = Vec::new();
        for no_credit in &self.entries[Name::NoCredit.file()] {
            for credit in &self.entries[Name::Credit.file()] {
                for part in 0..3 {
                    states.push(self.found(*no_credit, *credit, part));
                }
            }
        }
        states
    }

    fn found(&self, no_credit: Option<usize>, credit: Option<usize>, part: usize) -> World {
        let mut world = self.clone();
        world.power = None;
        world.failing = None;
        world.entries.insert(Name::NoCredit.file(), vec![no_credit]);
        world.entries.insert(Name::Credit.file(), vec![credit]);
        for file in &mut world.files {
            if !file.synced {
                file.bytes.truncate(file.bytes.len() * part / 2);
                file.synced = true;
            }
        }
        world
    }

    /// All that lies on the disk, seen by name.
    pub(crate) fn visible(&self) -> BTreeSet<Vec<u8>> {
        [Name::NoCredit, Name::Credit]
            .into_iter()
            .filter_map(|name| self.content(name))
            .collect()
    }

    fn point(&mut self, name: Name, file: Option<usize>) {
        self.entries.entry(name.file()).or_default().push(file);
    }
}

fn failed(source: io::Error) -> StoreError {
    StoreError::Call {
        attempt: "try",
        path: PathBuf::new(),
        source,
    }
}

impl Store for Shared {
    fn read(&mut self, name: Name) -> Result<Option<Found>, StoreError> {
        self.operation(format!("read {name}")).map_err(failed)?;
        Ok(self.0.borrow().content(name).map(|bytes| Found {
            bytes,
            exposed: false,
        }))
    }

    fn remove(&mut self, name: Name) -> Result<(), StoreError> {
        self.operation(format!("remove {name}")).map_err(failed)?;
        self.0.borrow_mut().point(name, None);
        Ok(())
    }

    fn sync_folder(&mut self) -> Result<(), StoreError> {
        self.operation("sync folder".into()).map_err(failed)?;
        for entry in self.0.borrow_mut().entries.values_mut() {
            let last = entry.last().copied().flatten();
            *entry = vec![last];
        }
        Ok(())
    }

    fn write_seed(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.operation("write seed.no-credit".into())
            .map_err(failed)?;
        let mut world = self.0.borrow_mut();
        world.files.push(Content {
            bytes: bytes.to_vec(),
            synced: false,
        });
        let file = world.files.len() - 1;
        world.point(Name::NoCredit, None);
        world.point(Name::NoCredit, Some(file));
        let ready = world.ready;
        world.made.push((bytes.to_vec(), ready));
        Ok(())
    }

    fn sync_seed(&mut self) -> Result<(), StoreError> {
        self.operation("sync seed.no-credit".into())
            .map_err(failed)?;
        if let Some(file) = self.0.borrow_mut().files.last_mut() {
            file.synced = true;
        }
        Ok(())
    }

    fn promote(&mut self) -> Result<(), StoreError> {
        self.operation("rename to seed.credit".into())
            .map_err(failed)?;
        let mut world = self.0.borrow_mut();
        let file = world.entries[Name::NoCredit.file()]
            .last()
            .copied()
            .flatten();
        world.point(Name::Credit, file);
        world.point(Name::NoCredit, None);
        Ok(())
    }
}

impl Pool for Shared {
    fn is_ready(&self) -> bool {
        self.0.borrow().ready
    }

    fn mix(&mut self, bytes: &[u8], bits: usize) -> io::Result<Credit> {
        self.operation(format!("mix {} bytes, credit {bits}", bytes.len()))?;
        let mut world = self.0.borrow_mut();
        world.mixed.push((bytes.to_vec(), bits));
        world.ready |= bits >= 256;
        Ok(Credit::Settled)
    }

    fn draw(&mut self, buffer: &mut [u8]) -> io::Result<Drawn> {
        self.operation(format!("draw {} bytes", buffer.len()))?;
        let mut world = self.0.borrow_mut();
        world.counter += 1;
        buffer.fill(world.counter);
        Ok(match world.ready {
            true => Drawn::Ready,
            false => Drawn::Unready,
        })
    }
}
