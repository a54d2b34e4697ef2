//! Who descends from whom, as `/proc` tells it (`proc_pid_task_children(5)`, `proc_pid_stat(5)`).
//!
//! Where `/proc` is that of another PID namespace, its numbers are those of strangers, and nothing is read of it.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::Path;
use std::sync::OnceLock;

use gokrazy_core::paths;

/// Whether the numbers below `/proc` are those of our namespace.
pub fn is_known() -> bool {
    static KNOWN: OnceLock<bool> = OnceLock::new();
    let own = || fs::read_link(Path::new(paths::PROC).join("self")).ok();
    let is_ours = |name: &Path| name == Path::new(&std::process::id().to_string());
    *KNOWN.get_or_init(|| own().is_some_and(|name| is_ours(&name)))
}

/// The children of a process that are not dead, by the way that is at hand.
#[derive(Debug)]
pub struct Kin {
    /// All parents, where the kernel does not list children (`CONFIG_PROC_CHILDREN`).
    parents: Option<HashMap<u32, u32>>,
}

impl Kin {
    /// What `/proc` tells now; `None` where it tells nothing of ours.
    pub fn look() -> Option<Self> {
        if !is_known() {
            return None;
        }
        let us = std::process::id();
        let lists = listed(us, us).is_some();
        Some(Self {
            parents: (!lists).then(parents),
        })
    }

    /// The children of a process; some may be dead, and wait to be waited for.
    pub fn children(&self, parent: u32) -> Vec<u32> {
        match &self.parents {
            Some(parents) => {
                let all = parents.iter().filter(|(_, above)| **above == parent);
                all.map(|(child, _)| *child).collect()
            }
            None => threads(parent)
                .into_iter()
                .filter_map(|thread| listed(parent, thread))
                .flatten()
                .collect(),
        }
    }

    /// `first` and all that descend from them.
    pub fn family(&self, first: Vec<u32>) -> Vec<u32> {
        let mut known: HashSet<u32> = first.iter().copied().collect();
        let mut all = first;
        let mut next = 0;
        while let Some(&parent) = all.get(next) {
            let children = self.children(parent).into_iter();
            all.extend(children.filter(|child| known.insert(*child)));
            next = next.saturating_add(1);
        }
        all
    }
}

/// Whether the process was started with that variable, as `NAME=value`; a dead one tells nothing.
pub fn carries(process: u32, variable: &str) -> bool {
    let environment = fs::read(folder(process).join("environ")).unwrap_or_default();
    environment
        .split(|byte| *byte == 0)
        .any(|entry| entry == variable.as_bytes())
}

fn folder(process: u32) -> std::path::PathBuf {
    Path::new(paths::PROC).join(process.to_string())
}

/// Each thread has children of its own.
fn threads(process: u32) -> Vec<u32> {
    numbers_in(&folder(process).join("task")).collect()
}

fn listed(process: u32, thread: u32) -> Option<Vec<u32>> {
    let path = folder(process)
        .join("task")
        .join(thread.to_string())
        .join("children");
    let text = fs::read_to_string(path).ok()?;
    let words = text.split_whitespace();
    Some(words.filter_map(|word| word.parse().ok()).collect())
}

/// The parent of each process that is not dead.
fn parents() -> HashMap<u32, u32> {
    numbers_in(Path::new(paths::PROC))
        .filter_map(|child| Some((child, living_parent(child)?)))
        .collect()
}

fn numbers_in(path: &Path) -> impl Iterator<Item = u32> {
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

fn living_parent(child: u32) -> Option<u32> {
    let stat = fs::read_to_string(folder(child).join("stat")).ok()?;
    // The name in brackets may hold anything, so fields are counted from its end.
    let mut fields = stat.rsplit_once(") ")?.1.split(' ');
    let state = fields.next()?;
    if matches!(state, "Z" | "X") {
        return None;
    }
    fields.next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    /// Both ways find a grandchild, and who is nobody's child of ours is not found.
    #[test]
    #[expect(
        clippy::disallowed_methods,
        reason = "the child is the test's own, which waits for it"
    )]
    fn a_family_is_found_by_either_way() {
        let mut child = Command::new("sh")
            .args(["-c", "sleep 60 & wait"])
            .spawn()
            .unwrap();
        let lists = Kin { parents: None };
        let grandchild = (0..1000).find_map(|_| {
            std::thread::sleep(std::time::Duration::from_millis(10));
            lists.children(child.id()).first().copied()
        });
        let grandchild = grandchild.unwrap();
        for kin in [
            lists,
            Kin {
                parents: Some(parents()),
            },
        ] {
            assert_eq!(kin.family(vec![child.id()]), [child.id(), grandchild]);
            assert!(kin.children(std::process::id()).contains(&child.id()));
            assert!(kin.children(grandchild).is_empty());
        }
        for process in [grandchild, child.id()] {
            gokrazy_sys::process::signal_process(process, 9).unwrap();
        }
        child.wait().unwrap();
    }
}
