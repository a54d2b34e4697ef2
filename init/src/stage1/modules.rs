//! Which modules stage 1 loads, in which order, and when; the order is pure.
//!
//! Only what the devices ask for, the image's order deciding among those: a board's own storage comes first, and what
//! it does not have costs nothing.
//! Where that does not lead to the disk in time, all that the image brings is loaded, for a device that does not tell
//! what it is.

use std::collections::{BTreeSet, HashSet};
use std::fs;
use std::path::Path;

use gokrazy_core::hotplug;
use gokrazy_core::kmsg::Priority;
use gokrazy_core::module_loader::Loader;
use gokrazy_core::paths;
use gokrazy_core::uevent::{Announcement, UeventSocket};

use super::say;

/// The root's file system; no device asks for it.
const FILE_SYSTEM: &str = "squashfs";

/// Announcements read in one go; the rest is read after the next module.
const MAX_IN_ONE_GO: usize = 256;

/// Loads modules for devices that are there and for those that come.
pub(super) struct Modules {
    loader: Loader,
    order: Order,
}

impl Modules {
    /// The initramfs's modules, asked for by the devices that are there.
    pub(super) fn open(release: &str) -> Self {
        let list = fs::read_to_string(paths::MODULE_LIST).unwrap_or_default();
        let mut modules = Self {
            loader: Loader::open(&Path::new(paths::MODULES).join(release)),
            order: Order::new(&list),
        };
        modules.look_around();
        modules
    }

    /// Takes in what devices came.
    pub(super) fn listen(&mut self, uevents: &UeventSocket) {
        let mut came = BTreeSet::new();
        for announcement in std::iter::from_fn(|| uevents.next()).take(MAX_IN_ONE_GO) {
            match announcement {
                Announcement::Device(event) => came.extend(event.came().map(str::to_owned)),
                Announcement::Foreign => {}
                Announcement::Lost => self.look_around(),
            }
        }
        if !came.is_empty() {
            self.order.want(self.loader.modules_for(&came));
        }
    }

    /// Loads the next module that is wanted; whether there was one.
    pub(super) fn load_next(&mut self) -> bool {
        let Some(name) = self.order.next() else {
            return false;
        };
        self.load(&name);
        true
    }

    /// Loads the root's file system, unless it is there.
    pub(super) fn load_file_system(&mut self) {
        self.load_now(FILE_SYSTEM);
    }

    /// Loads a module that no device asks for.
    pub(super) fn load_now(&mut self, name: &str) {
        if self.order.begin(name) {
            self.load(name);
        }
    }

    /// From now on all modules are wanted.
    pub(super) fn want_all(&mut self) {
        self.order.want_all();
    }

    fn look_around(&mut self) {
        self.order
            .want(self.loader.modules_for(&hotplug::modaliases()));
    }

    fn load(&mut self, name: &str) {
        if self.loader.knows(name)
            && let Err(error) = self.loader.load(name)
        {
            say(
                Priority::Warning,
                &format!("{:#}", anyhow::Error::from(error)),
            );
        }
    }
}

/// The order of the modules; pure.
#[derive(Debug)]
struct Order {
    list: Vec<String>,
    /// By place in the list; what the list does not name comes last.
    wanted: BTreeSet<(usize, String)>,
    begun: HashSet<String>,
}

impl Order {
    /// The order of the image's list.
    fn new(list: &str) -> Self {
        let names = list.lines().map(str::trim);
        Self {
            list: names
                .filter(|name| !name.is_empty() && !name.starts_with('#'))
                .map(|name| name.replace('-', "_"))
                .collect(),
            wanted: BTreeSet::new(),
            begun: HashSet::new(),
        }
    }

    fn want(&mut self, names: Vec<String>) {
        for name in names {
            let listed = self.list.iter().position(|known| *known == name);
            if !self.begun.contains(&name) {
                self.wanted.insert((listed.unwrap_or(usize::MAX), name));
            }
        }
    }

    fn want_all(&mut self) {
        self.want(self.list.clone());
    }

    fn next(&mut self) -> Option<String> {
        let (_, name) = self.wanted.pop_first()?;
        self.begun.insert(name.clone());
        Some(name)
    }

    /// Takes `name` as begun; whether it was not before.
    fn begin(&mut self, name: &str) -> bool {
        self.wanted.retain(|(_, wanted)| wanted != name);
        self.begun.insert(name.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(order: &mut Order) -> Vec<String> {
        std::iter::from_fn(|| order.next()).collect()
    }

    fn want(order: &mut Order, names: &[&str]) {
        order.want(names.iter().map(|&name| name.to_owned()).collect());
    }

    #[test]
    fn the_lists_order_counts_among_what_devices_ask_for() {
        let mut order =
            Order::new("squashfs\n# storage\nbcm2835_wdt\nbcm2835\nphy-generic\ndwc2\n");
        want(&mut order, &["dwc2", "unlisted", "bcm2835", "bcm2835_wdt"]);
        assert_eq!(order.next().as_deref(), Some("bcm2835_wdt"));
        want(&mut order, &["bcm2835_wdt", "phy_generic"]);
        assert_eq!(
            all(&mut order),
            ["bcm2835", "phy_generic", "dwc2", "unlisted"]
        );
        want(&mut order, &["dwc2"]);
        assert_eq!(order.next(), None, "once is enough");
    }

    #[test]
    fn all_are_those_that_were_not_yet() {
        let mut order = Order::new("squashfs\na\nb\nc\n");
        want(&mut order, &["b"]);
        assert_eq!(all(&mut order), ["b"]);
        assert!(order.begin("squashfs"));
        assert!(!order.begin("squashfs"));
        order.want_all();
        assert_eq!(all(&mut order), ["a", "c"]);
    }
}
