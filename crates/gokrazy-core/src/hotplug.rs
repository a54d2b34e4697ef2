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
use crate::module_loader::{FAT, Loader};
use crate::modules::NETWORK_TURN;
use crate::paths;
use crate::uevent::{Announcement, Uevent, UeventSocket};

/// Announcements that are read in one turn; the rest waits for the next, so that a flood cannot hold PID 1.
const MAX_IN_ONE_TURN: usize = 256;

/// The nice value of who has all the time in the world (setpriority(2)).
const LOWEST: i32 = 19;

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
    let devices = match work {
        Work::These(modaliases) => modaliases,
        Work::Everything => &modaliases(),
    };
    let mut modules = loader.modules_for(devices);
    modules.sort_by_key(|name| loader.turn_of(name));
    if *work != Work::Everything {
        return load_all(loader, modules);
    }
    let later = modules.partition_point(|name| loader.turn_of(name) <= NETWORK_TURN);
    let mut rest = modules.split_off(later);
    load_all(loader, modules);
    // Nothing on the way to the page needs these: they give way to whoever starts. No device asks for FAT.
    let _ = gokrazy_sys::process::set_nice(LOWEST);
    rest.extend(FAT.map(str::to_owned));
    load_all(loader, rest);
}

fn load_all(loader: &mut Loader, modules: Vec<String>) {
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
    modaliases_below(Path::new(paths::SYS))
}

/// Each device is on a bus or of a class, and is listed there; the tree holds many folders that are no devices.
/// The processor's features are told by its bus's own folder.
fn modaliases_below(sys: &Path) -> BTreeSet<String> {
    let on_buses = entries(&sys.join("bus")).map(|bus| bus.join("devices"));
    let devices = on_buses
        .chain(entries(&sys.join("class")))
        .flat_map(|folder| entries(&folder));
    devices
        .chain([sys.join("devices/system/cpu")])
        .filter_map(|device| fs::read_to_string(device.join("modalias")).ok())
        .map(|text| text.trim().to_owned())
        .filter(|modalias| !modalias.is_empty())
        .collect()
}

fn entries(folder: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    let listed = fs::read_dir(folder).into_iter().flatten().flatten();
    listed.map(|entry| entry.path())
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
    fn modaliases_are_those_of_buses_classes_and_the_processor() {
        let sys = std::env::temp_dir().join(format!("gokrazy-core-hotplug-{}", std::process::id()));
        let device = |path: &str, modalias: &str| {
            let folder = sys.join("devices").join(path);
            fs::create_dir_all(&folder).unwrap();
            let file = folder.join("modalias");
            replace(&file, modalias.as_bytes(), 0o644, Durability::Volatile).unwrap();
            folder
        };
        let list = |folder: &str, device: &Path| {
            let folder = sys.join(folder);
            fs::create_dir_all(&folder).unwrap();
            let name = folder.join(device.file_name().unwrap());
            std::os::unix::fs::symlink(device, name).unwrap();
        };
        list(
            "bus/platform/devices",
            &device("platform/soc", "of:NsocT\n"),
        );
        list(
            "bus/usb/devices",
            &device("platform/soc/usb1", "usb:v1d6B\n"),
        );
        list(
            "class/input",
            &device("platform/soc/usb1/input0", "input:b3\n"),
        );
        list("class/tty", &device("virtual/tty0", "\n"));
        device("system/cpu", "cpu:type:aarch64\n");
        fs::create_dir_all(sys.join("devices/bare")).unwrap();
        list("bus/pci/devices", &sys.join("devices/bare"));
        list("bus/pci/devices", &sys.join("devices/gone"));
        let want = ["cpu:type:aarch64", "input:b3", "of:NsocT", "usb:v1d6B"];
        assert!(modaliases_below(&sys).iter().eq(want));
        fs::remove_dir_all(sys).unwrap();
    }
}
