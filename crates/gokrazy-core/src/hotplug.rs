//! Kernel modules for the devices that are there and those that come later.
//!
//! Loading a module runs its initialisation, which can take seconds; so a child process of its own does it, and
//! PID 1 only reads the kernel's announcements. How many children at once, [`crate::module_crew`] decides.

use std::collections::BTreeSet;
use std::fs;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use crate::kmsg::{self, Priority};
use crate::module_crew::{Crew, Work};
use crate::module_loader::Loader;
use crate::paths;
use crate::uevent::{Announcement, Uevent, UeventSocket};

/// Announcements that are read in one turn; the rest waits for the next, so that a flood cannot hold PID 1.
const MAX_IN_ONE_TURN: usize = 256;

/// How deep below `/sys/devices` we look; real trees are half as deep, and links are not followed.
const MAX_DEPTH: usize = 32;

/// Listens for devices, and loads their modules.
#[derive(Debug)]
pub struct Hotplug {
    socket: UeventSocket,
    modules: Option<PathBuf>,
    crew: Crew,
}

impl Hotplug {
    /// Listens for devices, then starts a child that loads the modules for those which are there already.
    ///
    /// `modules` is the folder of the running kernel's modules.
    /// The caller reaps the child and tells [`Hotplug::ended`]; nobody waits for it.
    ///
    /// # Errors
    /// The errno of opening the socket.
    pub fn start(modules: PathBuf) -> std::io::Result<Self> {
        let mut hotplug = Self {
            socket: UeventSocket::open()?,
            modules: Some(modules),
            crew: Crew::default(),
        };
        hotplug.crew.ask_for_everything();
        hotplug.go_on();
        Ok(hotplug)
    }

    /// Listens for devices and loads no modules: where the machine's own init sees to them.
    ///
    /// # Errors
    /// The errno of opening the socket.
    pub fn listen() -> std::io::Result<Self> {
        Ok(Self {
            socket: UeventSocket::open()?,
            modules: None,
            crew: Crew::default(),
        })
    }

    /// The folder of the running kernel's modules, if they are ours to load.
    pub fn modules(&self) -> Option<&Path> {
        self.modules.as_deref()
    }

    /// To be called when the socket is readable: loads modules for the devices that came, in a child.
    ///
    /// Returns what came, went or changed, for who waits for a device; one without an action stands for what was lost.
    pub fn handle(&mut self) -> Vec<Uevent> {
        let mut events = Vec::new();
        for announcement in std::iter::from_fn(|| self.socket.next()).take(MAX_IN_ONE_TURN) {
            match announcement {
                Announcement::Foreign => {}
                Announcement::Lost => {
                    self.crew.ask_for_everything();
                    events.push(Uevent::default());
                }
                Announcement::Device(event) => {
                    if let Some(modalias) = event.came() {
                        self.crew.ask(modalias.to_owned());
                    }
                    events.push(event);
                }
            }
        }
        self.go_on();
        events
    }

    /// To be called with each child that has ended: what waited for it gets its turn.
    pub fn ended(&mut self, process: u32) {
        if self.crew.ended(process) {
            self.go_on();
        }
    }

    fn go_on(&mut self) {
        let Some(modules) = &self.modules else {
            return;
        };
        while let Some(work) = self.crew.take_work() {
            match gokrazy_sys::process::fork(|| {
                load(&mut Loader::open(modules), &work);
                0
            }) {
                Ok(process) => self.crew.started(process),
                Err(error) => {
                    warn(&format!("make a process that loads modules: {error}"));
                    // The next device that comes makes up for it.
                    return self.crew.ask_for_everything();
                }
            }
        }
    }
}

impl AsFd for Hotplug {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn load(loader: &mut Loader, work: &Work) {
    let modules = match work {
        Work::These(modaliases) => loader.modules_for(modaliases),
        Work::Everything => loader.modules_for(&modaliases()),
    };
    for module in modules {
        if let Err(error) = loader.load(&module) {
            let cause = std::error::Error::source(&error)
                .map(ToString::to_string)
                .unwrap_or_default();
            warn(&format!("{error}: {cause}"));
        }
    }
}

/// The modaliases of all devices that are there.
pub fn modaliases() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    collect_modaliases(Path::new(paths::SYS_DEVICES), 0, &mut found);
    found
}

fn collect_modaliases(folder: &Path, depth: usize, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
        if is_folder && depth < MAX_DEPTH {
            collect_modaliases(&entry.path(), depth.saturating_add(1), found);
        } else if entry.file_name() == "modalias"
            && let Ok(text) = fs::read_to_string(entry.path())
            && !text.trim().is_empty()
        {
            found.insert(text.trim().to_owned());
        }
    }
}

fn warn(text: &str) {
    kmsg::say(
        Path::new(paths::KMSG),
        Priority::Warning,
        format_args!("{text}"),
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::atomic::{Durability, replace};

    #[test]
    fn modaliases_are_collected_from_the_whole_tree() {
        let root =
            std::env::temp_dir().join(format!("gokrazy-core-hotplug-{}", std::process::id()));
        let deep = root.join("platform/soc/usb1");
        fs::create_dir_all(&deep).unwrap();
        let put = |path: PathBuf, text: &str| {
            replace(&path, text.as_bytes(), 0o644, Durability::Volatile).unwrap()
        };
        put(root.join("platform/modalias"), "of:NsocT\n");
        put(deep.join("modalias"), "usb:v1d6B\n");
        put(deep.join("uevent"), "MODALIAS=x\n");
        put(root.join("modalias"), "\n");
        std::os::unix::fs::symlink(&root, deep.join("loop")).unwrap();
        let mut found = BTreeSet::new();
        collect_modaliases(&root, 0, &mut found);
        assert!(found.iter().eq(["of:NsocT", "usb:v1d6B"]));
        fs::remove_dir_all(root).unwrap();
    }
}
