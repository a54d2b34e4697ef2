//! Whom a service runs as: numbers for names, and an own stable number for `user = "auto"`.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use gokrazy_core::atomic::{self, Durability};
use gokrazy_core::{paths, regular_file, users};
use nix::unistd::{getgroups, getresgid, getresuid};

use super::accounts;
use super::users_record::Record;

use crate::service::{Service, User};

/// Longest record that is read, in bytes: more than that of as many services as there are users.
const RECORD_MAX: u64 = 4 * 1024 * 1024;

/// Who has which user, so that no two services share one, and each keeps its own.
#[derive(Debug, Default)]
pub struct Identities {
    homes: PathBuf,
    record: Record,
    /// Whether the record on the disk is out of date.
    is_new: bool,
    writer: Option<u32>,
}

impl Identities {
    /// What the record below `homes` says, and who owns the homes that it does not know.
    pub fn open(homes: &Path) -> Self {
        let text = regular_file::read_bytes(&homes.join(paths::USERS_RECORD), RECORD_MAX);
        let mut record = Record::parse(&String::from_utf8_lossy(&text.unwrap_or_default()));
        let mut is_new = false;
        for home in fs::read_dir(homes).into_iter().flatten().flatten() {
            // A link may lead anywhere; this is of the entry itself.
            if let (Some(name), Ok(entry)) = (home.file_name().to_str(), home.metadata())
                && entry.is_dir()
            {
                is_new |= record.adopt(name, entry.uid());
            }
        }
        Self {
            homes: homes.to_owned(),
            record,
            is_new,
            writer: None,
        }
    }

    /// The user and group id of a service.
    ///
    /// # Errors
    /// That there is no user of that name, for people.
    pub fn of(&mut self, service: &Service) -> Result<u32, String> {
        match &service.user {
            User::Id(id) => Ok(*id),
            User::Name(name) => accounts::lookup(name).map(|account| account.uid),
            User::Auto => Ok(self.auto(&service.name)),
        }
    }

    fn auto(&mut self, name: &str) -> u32 {
        if let Some(id) = self.record.get(name) {
            return id;
        }
        let free = candidates(name).find(|id| !self.record.is_taken(*id));
        let id = free.unwrap_or(users::AUTO_FIRST);
        self.is_new |= self.record.adopt(name, id);
        id
    }

    /// Lets a child write the record, if it has news: a card may take seconds to keep it.
    ///
    /// # Errors
    /// The errno of making the child.
    pub fn keep(&mut self) -> io::Result<()> {
        // Whoever cannot become another user has none to remember.
        if !self.is_new || self.writer.is_some() || !can_become(users::AUTO_FIRST) {
            return Ok(());
        }
        self.is_new = false;
        let text = self.record.render();
        let write = || u8::from(write_record(&self.homes, &text).is_err());
        self.writer = Some(gokrazy_sys::process::fork(write)?);
        Ok(())
    }

    /// Takes in that a child ended; says what people should know if it was the writer and failed.
    pub fn on_exit(&mut self, pid: u32, success: bool) -> Option<String> {
        if self.writer != Some(pid) {
            return None;
        }
        self.writer = None;
        (!success).then(|| {
            let path = self.homes.join(paths::USERS_RECORD);
            format!(
                "who has which user could not be written to {}",
                path.display()
            )
        })
    }
}

/// Writes the record into the folder of the homes, which is made if what is above it is there.
///
/// # Errors
/// The errno of the step that failed; without a place for homes there is nothing to remember, and that is no failure.
fn write_record(homes: &Path, text: &str) -> io::Result<()> {
    match fs::DirBuilder::new().mode(0o755).create(homes) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let path = homes.join(paths::USERS_RECORD);
    let written = atomic::replace(&path, text.as_bytes(), 0o644, Durability::Synced);
    written.map_err(|error| io::Error::from(error.io_error().kind()))
}

/// The ids that a name may get: the first depends on nothing but the name, the others follow it.
fn candidates(name: &str) -> impl Iterator<Item = u32> {
    let count = users::AUTO_LAST - users::AUTO_FIRST + 1;
    let first = hash(name) % count;
    (0..count).map(move |step| users::AUTO_FIRST + (first + step) % count)
}

/// FNV-1a: any function does that never changes and spreads short names.
fn hash(name: &str) -> u32 {
    name.bytes().fold(0x811c_9dc5, |hash, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    })
}

/// Whether this process may become a user: root may, of those that its user namespace knows (`user_namespaces(7)`).
pub fn can_become(id: u32) -> bool {
    // Once for all: it is written before any program of the namespace runs.
    static MAP: OnceLock<Option<String>> = OnceLock::new();
    let map = MAP.get_or_init(|| fs::read_to_string(paths::PROC_SELF_UID_MAP).ok());
    nix::unistd::geteuid().is_root() && map.as_ref().is_none_or(|map| is_mapped(map, id))
}

/// Whether groups may be set: not where an unprivileged user made the user namespace.
pub fn can_set_groups() -> bool {
    static ALLOWED: OnceLock<bool> = OnceLock::new();
    let read = || fs::read_to_string(paths::PROC_SELF_SETGROUPS);
    *ALLOWED.get_or_init(|| read().map_or(true, |word| word.trim() != "deny"))
}

/// Whether this process is root through and through, in root's group alone, so that who stays root changes nothing.
pub fn is_root_alone() -> bool {
    static ALONE: OnceLock<bool> = OnceLock::new();
    *ALONE.get_or_init(|| {
        let users = getresuid().map(|ids| [ids.real, ids.effective, ids.saved]);
        let groups = getresgid().map(|ids| [ids.real, ids.effective, ids.saved]);
        users.is_ok_and(|ids| ids.iter().all(|id| id.is_root()))
            && groups.is_ok_and(|ids| ids.iter().all(|id| id.as_raw() == 0))
            && getgroups().is_ok_and(|groups| groups.is_empty())
    })
}

/// Lines of the map: first id inside, first id outside, count.
fn is_mapped(map: &str, id: u32) -> bool {
    map.lines().any(|line| {
        let mut numbers = line
            .split_whitespace()
            .map(|word| word.parse::<u64>().unwrap_or(0));
        let (first, _, count) = (numbers.next(), numbers.next(), numbers.next());
        let (first, count) = (first.unwrap_or(0), count.unwrap_or(0));
        (first..first.saturating_add(count)).contains(&u64::from(id))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    /// Two names whose first choice is the same.
    fn rivals() -> (String, String) {
        let mut seen = std::collections::HashMap::new();
        (0..)
            .find_map(|number| {
                let name = format!("s{number}");
                let first = candidates(&name).next().unwrap();
                Some((seen.insert(first, name.clone())?, name))
            })
            .unwrap()
    }

    #[test]
    fn who_was_there_first_keeps_its_user_whatever_comes() {
        let homes = std::env::temp_dir().join(format!("in-homes-{}", std::process::id()));
        let _ = fs::remove_dir_all(&homes);
        fs::create_dir_all(&homes).unwrap();
        let (first, second) = rivals();
        let mut identities = Identities::open(&homes);
        let ids = (identities.auto(&second), identities.auto(&first));
        assert_ne!(ids.0, ids.1);
        let record = homes.join(paths::USERS_RECORD);
        let put =
            |text: &[u8]| atomic::replace(&record, text, 0o644, Durability::Volatile).unwrap();
        put(identities.record.render().as_bytes());
        // The other one starts first this time.
        let mut identities = Identities::open(&homes);
        assert!(!identities.is_new);
        assert_eq!(
            (identities.auto(&first), identities.auto(&second)),
            (ids.1, ids.0)
        );
        // The record is gone, and its home tells whose the user is.
        put(b"\xff\xfe garbage\n");
        fs::create_dir(homes.join(&second)).unwrap();
        std::os::unix::fs::chown(homes.join(&second), Some(ids.0), None).unwrap();
        let mut identities = Identities::open(&homes);
        assert!(identities.is_new);
        assert_eq!(
            (identities.auto(&first), identities.auto(&second)),
            (ids.1, ids.0)
        );
        fs::remove_dir_all(homes).unwrap();
    }

    #[test]
    fn a_record_is_kept_where_homes_can_be() {
        let above = std::env::temp_dir().join(format!("in-record-{}", std::process::id()));
        let homes = above.join("home");
        write_record(&homes, "10001 a\n").unwrap();
        assert!(
            !above.exists(),
            "a machine without a place for homes gets none"
        );
        fs::create_dir(&above).unwrap();
        write_record(&homes, "10001 a\n").unwrap();
        let text = fs::read_to_string(homes.join(paths::USERS_RECORD)).unwrap();
        assert_eq!(text, "10001 a\n");
        fs::remove_dir_all(above).unwrap();
    }

    #[test]
    fn an_own_user_is_stable_in_range_and_not_shared() {
        let mut identities = Identities::default();
        let ids: Vec<u32> = (0..2000)
            .map(|n| identities.auto(&format!("service-{n}")))
            .collect();
        assert!(
            ids.iter()
                .all(|id| (users::AUTO_FIRST..=users::AUTO_LAST).contains(id))
        );
        assert_eq!(ids.iter().collect::<HashSet<_>>().len(), ids.len());
        // A number that changes takes a service's files away from it.
        assert_eq!(
            Identities::default().auto("hello"),
            candidates("hello").next().unwrap()
        );
        assert_eq!(hash("hello"), 0x4f9f_2cab);
    }

    #[test]
    fn a_namespace_knows_the_users_of_its_map() {
        assert!(is_mapped("         0          0 4294967295\n", 59_999));
        let rootless = "         0       1000          1\n         1     100000      65536\n";
        assert!(is_mapped(rootless, 10_000) && !is_mapped(rootless, 65_537));
        assert!(is_mapped("0 1000 1\n", 0) && !is_mapped("0 1000 1\n", 1));
        assert!(!is_mapped("", 0));
    }
}
