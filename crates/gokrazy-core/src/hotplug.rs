//! Kernel modules for the devices that are there and those that come later.
//!
//! Loading a module runs its initialisation, which can take seconds; so a child process of its own does it, and
//! PID 1 only reads the kernel's announcements.

use std::fs;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use crate::kmsg::{self, Priority};
use crate::module_loader::Loader;
use crate::paths;
use crate::uevent::{Uevent, UeventSocket};

/// Announcements that are read in one turn; the rest waits for the next, so that a flood cannot hold PID 1.
const MAX_IN_ONE_TURN: usize = 256;

/// How deep below `/sys/devices` we look; real trees are half as deep, and links are not followed.
const MAX_DEPTH: usize = 32;

/// Listens for devices, and loads their modules.
#[derive(Debug)]
pub struct Hotplug {
    socket: UeventSocket,
    modules: Option<PathBuf>,
}

impl Hotplug {
    /// Listens for devices, then starts a child that loads the modules for those which are there already.
    ///
    /// `modules` is the folder of the running kernel's modules.
    /// The caller reaps the child; nobody waits for it.
    ///
    /// # Errors
    /// The errno of opening the socket or of making the child.
    pub fn start(modules: PathBuf) -> std::io::Result<Self> {
        let hotplug = Self {
            socket: UeventSocket::open()?,
            modules: Some(modules),
        };
        hotplug.load_in_child(|loader| {
            let mut found = Vec::new();
            collect_modaliases(Path::new(paths::SYS_DEVICES), 0, &mut found);
            load_for(loader, &found);
        })?;
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
        })
    }

    /// The folder of the running kernel's modules, if they are ours to load.
    pub fn modules(&self) -> Option<&Path> {
        self.modules.as_deref()
    }

    /// To be called when the socket is readable: loads modules for the devices that came, in a child.
    ///
    /// Returns what came, went or changed, for who waits for a device.
    pub fn handle(&self) -> Vec<Uevent> {
        let events: Vec<_> = std::iter::from_fn(|| self.socket.next())
            .take(MAX_IN_ONE_TURN)
            .collect();
        let wanted: Vec<String> = events
            .iter()
            .filter(|event| event.action == "add")
            .filter_map(|event| event.modalias.clone())
            .collect();
        if !wanted.is_empty()
            && self.modules.is_some()
            && let Err(error) = self.load_in_child(|loader| load_for(loader, &wanted))
        {
            warn(&format!("make a process that loads modules: {error}"));
        }
        events
    }

    fn load_in_child(&self, load: impl FnOnce(&mut Loader)) -> std::io::Result<u32> {
        let folder = self.modules.as_deref().unwrap_or(Path::new(paths::MODULES));
        gokrazy_sys::process::fork(|| {
            load(&mut Loader::open(folder));
            0
        })
    }
}

impl AsFd for Hotplug {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn load_for(loader: &mut Loader, modaliases: &[String]) {
    for modalias in modaliases {
        for module in loader.modules_for(modalias) {
            if let Err(error) = loader.load(&module) {
                let cause = std::error::Error::source(&error)
                    .map(ToString::to_string)
                    .unwrap_or_default();
                warn(&format!("{error}: {cause}"));
            }
        }
    }
}

fn collect_modaliases(folder: &Path, depth: usize, found: &mut Vec<String>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
        if is_folder && depth < MAX_DEPTH {
            collect_modaliases(&entry.path(), depth.saturating_add(1), found);
        } else if entry.file_name() == "modalias"
            && let Ok(text) = fs::read_to_string(entry.path())
            && !text.trim().is_empty()
        {
            found.push(text.trim().to_owned());
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
        let mut found = Vec::new();
        collect_modaliases(&root, 0, &mut found);
        found.sort();
        assert_eq!(found, ["of:NsocT", "usb:v1d6B"]);
        fs::remove_dir_all(root).unwrap();
    }
}
