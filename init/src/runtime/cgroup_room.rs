//! Room for limits: a control group with processes of its own is not divided further (`cgroups(7)`, "no internal
//! processes"), so the init of a container, which finds itself in one, goes into a group below it.

use std::fs;
use std::path::{Path, PathBuf};

use super::cgroup::{self, PROCS};

/// Controllers that our limits need.
const WANTED: [&str; 3] = ["memory", "cpu", "pids"];

/// The file that says which controllers the groups below have.
const BELOW: &str = "cgroup.subtree_control";

/// What a group is, which the hierarchy's root alone does not say.
const TYPE: &str = "cgroup.type";

/// Our own group, divided.
#[derive(Debug, Default)]
pub(super) struct Room {
    /// The group that we left, and the one that we went to.
    moved: Option<(PathBuf, PathBuf)>,
}

/// Turns on what controllers there are for groups below `folder`, which lies in `parent`; without them there are
/// groups, and no limits. `leaf` is where we go if that is needed, or are already.
pub(super) fn make(parent: &Path, folder: &Path, leaf: &Path) -> Option<Room> {
    let room = enter(parent, leaf)?;
    // All at once where there are all: each write costs the kernel a wait for every processor.
    let is_on = turn_on(parent, folder, &WANTED)
        || WANTED
            .map(|one| turn_on(parent, folder, &[one]))
            .contains(&true);
    if !is_on {
        room.give_back();
    }
    is_on.then_some(room)
}

/// Sees to it that `parent` may be divided; `None` if it may not.
///
/// Only an init that is alone there goes elsewhere: in a container that is the first process, and whoever comes later,
/// as by `docker exec`, is sent after it. Others are not ours to move.
///
/// Where it is not divided, nothing must be turned on, either: a group with processes becomes the root of threads by
/// some controllers, and no process may join the groups below it.
fn enter(parent: &Path, leaf: &Path) -> Option<Room> {
    if !parent.join(TYPE).exists() {
        return Some(Room::default());
    }
    let moved = || Room {
        moved: Some((parent.to_owned(), leaf.to_owned())),
    };
    let members = cgroup::members_of(parent);
    let us = std::process::id();
    if members.is_empty() && cgroup::members_of(leaf).contains(&us) {
        return Some(moved());
    }
    let offered = cgroup::read(&parent.join("cgroup.controllers")).unwrap_or_default();
    let has_some = offered.split_whitespace().any(|one| WANTED.contains(&one));
    if us != 1 || members != [us] || !has_some {
        return None;
    }
    // One that is there already is as good.
    let _ = fs::create_dir(leaf);
    if cgroup::put(&leaf.join(PROCS), "0").is_err() {
        let _ = fs::remove_dir(leaf);
        return None;
    }
    Some(moved())
}

/// Turns on for groups below `folder` what is on for itself.
pub(super) fn turn_on_below(folder: &Path) {
    for one in WANTED {
        let _ = cgroup::put(&folder.join(BELOW), &format!("+{one}"));
    }
}

fn turn_on(parent: &Path, folder: &Path, controllers: &[&str]) -> bool {
    let line = format!("+{}", controllers.join(" +"));
    let mut folders = [parent, folder].into_iter();
    folders.all(|folder| cgroup::put(&folder.join(BELOW), &line).is_ok())
}

impl Room {
    /// Leaves the group as it was found, as far as nobody uses it by now.
    pub(super) fn give_back(&self) {
        let Some((parent, leaf)) = &self.moved else {
            return;
        };
        for controller in WANTED {
            let _ = cgroup::put(&parent.join(BELOW), &format!("-{controller}"));
        }
        let _ = cgroup::put(&parent.join(PROCS), "0");
        let _ = fs::remove_dir(leaf);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gokrazy_core::atomic::{Durability, replace};

    /// Folders in the place of groups, whose files take whatever is written.
    #[test]
    fn only_who_is_alone_and_first_goes_elsewhere() {
        let parent = std::env::temp_dir().join(format!("in-room-{}", std::process::id()));
        let _ = fs::remove_dir_all(&parent);
        let leaf = parent.join("leaf");
        fs::create_dir_all(&leaf).unwrap();
        let file = |name: &str, text: &str| {
            let path = parent.join(name);
            replace(&path, text.as_bytes(), 0o644, Durability::Volatile).unwrap();
        };
        let moved = || enter(&parent, &leaf).map(|room| room.moved.is_some());
        assert_eq!(moved(), Some(false), "the root of the hierarchy");
        let us = std::process::id();
        file(TYPE, "domain\n");
        file("cgroup.controllers", "cpu memory\n");
        file(PROCS, &format!("{us}\n"));
        assert_eq!(moved(), None, "alone, but not the first process");
        file(PROCS, "");
        assert_eq!(moved(), None, "in neither of them");
        file("leaf/cgroup.procs", &format!("{us}\n"));
        assert_eq!(moved(), Some(true), "in the leaf already");
        file(PROCS, "7\n");
        assert_eq!(moved(), None, "with somebody above it");
        fs::remove_dir_all(parent).unwrap();
    }
}
