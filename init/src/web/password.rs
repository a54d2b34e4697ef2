//! The password's hash as it stands in its file, and the memory of who has shown the password.
//!
//! The file is looked at (one `stat`) before each check, so a new password is in force with the next request.
//! Checking a hash takes long on purpose; so the credentials that passed are remembered as a keyed digest, under
//! a key that is drawn at each start and leaves the process with it.
//! How failures are slowed is [`super::throttle`]'s work.

use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use blake2::Blake2bMac512;
use blake2::digest::{KeyInit, Mac};
use subtle::ConstantTimeEq;
use web_password::StoredPassword;

use super::report::report;

/// Bytes of the key under which credentials are remembered.
pub const KEY_LENGTH: usize = 32;

/// The only user.
const USER: &str = "gokrazy";

/// Longest password file, in bytes; a PHC string of ours has about 100.
const MAX_FILE: u64 = 4096;

/// What tells one file from its replacement: device, inode, size, and time of change in nanoseconds.
type Stamp = (u64, u64, u64, i64, i64);

/// Output of [`keyed`].
pub type Digest = [u8; 64];

/// User and password of a request.
pub struct Credentials {
    text: Vec<u8>,
}

impl Credentials {
    /// From `user:password`, as RFC 7617 §2 sends it.
    pub fn new(text: Vec<u8>) -> Self {
        Self { text }
    }

    fn user_and_password(&self) -> (&[u8], &[u8]) {
        let mut parts = self.text.splitn(2, |byte| *byte == b':');
        let user = parts.next().unwrap_or_default();
        (user, parts.next().unwrap_or_default())
    }
}

/// Why there is no password to compare with; over TCP nobody gets in.
#[derive(Debug)]
pub enum Unusable {
    /// The file cannot be read.
    Read(io::Error),
    /// The file holds no hash that we can use.
    Content(web_password::ParseError),
}

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read(error) => error.fmt(f),
            Self::Content(error) => error.fmt(f),
        }
    }
}

/// What a check of remembered credentials says.
pub enum Memory {
    /// These are the right ones.
    Known,
    /// They must be compared with this hash.
    Unknown(Arc<StoredPassword>),
    /// There is no password, so nobody knows it.
    NoPassword,
}

struct Held {
    stamp: Option<Stamp>,
    stored: Option<Arc<StoredPassword>>,
    known: Option<Digest>,
}

/// The password in force.
pub struct Store {
    path: PathBuf,
    key: [u8; KEY_LENGTH],
    held: Mutex<Held>,
}

impl Store {
    /// A store over the file at `path`; `key` must be random.
    pub fn new(path: PathBuf, key: [u8; KEY_LENGTH]) -> Self {
        let held = Held {
            stamp: None,
            stored: None,
            known: None,
        };
        let store = Self {
            path,
            key,
            held: Mutex::new(held),
        };
        store.with(|held| store.load(held));
        store
    }

    /// Asks whether `credentials` have passed before.
    pub fn recall(&self, credentials: &Credentials) -> Memory {
        let digest = self.digest(credentials);
        self.with(|held| {
            if stamp(&self.path).ok() != held.stamp {
                self.load(held);
            }
            let known = held.known.as_ref();
            match (&held.stored, known.map(|known| known.ct_eq(&digest))) {
                (None, _) => Memory::NoPassword,
                (Some(_), Some(equal)) if bool::from(equal) => Memory::Known,
                (Some(stored), _) => Memory::Unknown(stored.clone()),
            }
        })
    }

    /// Remembers credentials that `stored` has confirmed, unless the password was changed meanwhile.
    pub fn remember(&self, credentials: &Credentials, stored: &StoredPassword) {
        let digest = self.digest(credentials);
        self.with(|held| {
            if held.stored.as_deref() == Some(stored) {
                held.known = Some(digest);
            }
        });
    }

    /// The one place that says whether there is a password: once at the start, and whenever the file changes.
    fn load(&self, held: &mut Held) {
        held.stamp = stamp(&self.path).ok();
        held.known = None;
        held.stored = match read(&self.path) {
            Ok(stored) => {
                report(format_args!("password read from {}", self.path.display()));
                Some(Arc::new(stored))
            }
            Err(error) => {
                report(format_args!(
                    "no password, so nobody gets in over TCP: {}: {error}",
                    self.path.display()
                ));
                None
            }
        };
    }

    fn digest(&self, credentials: &Credentials) -> Digest {
        keyed(&self.key, &[b"credentials", &credentials.text])
    }

    fn with<T>(&self, work: impl FnOnce(&mut Held) -> T) -> T {
        let mut held = self
            .held
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        work(&mut held)
    }
}

/// A digest of the parts that nobody can make or foresee without the key (BLAKE2b, RFC 7693).
///
/// Parts must not be told apart by where one ends: give each use a first part of its own.
pub fn keyed(key: &[u8; KEY_LENGTH], parts: &[&[u8]]) -> Digest {
    match Blake2bMac512::new_from_slice(key) {
        Ok(mut mac) => {
            for part in parts {
                mac.update(part);
            }
            mac.finalize().into_bytes().into()
        }
        // The function takes keys of up to 64 bytes, so this arm is never used; and what is not a digest of the
        // key must equal none.
        Err(_) => [0; 64],
    }
}

/// Compares user and password, both whatever the other says, so that time tells nothing of either.
pub fn verify(credentials: &Credentials, stored: &StoredPassword) -> bool {
    let (user, password) = credentials.user_and_password();
    let user_is_right: bool = user.ct_eq(USER.as_bytes()).into();
    let password_is_right = stored.verify(password);
    user_is_right & password_is_right
}

fn read(path: &Path) -> Result<StoredPassword, Unusable> {
    let metadata = fs::metadata(path).map_err(Unusable::Read)?;
    if !metadata.is_file() || metadata.len() > MAX_FILE {
        return Err(Unusable::Content(web_password::ParseError::Malformed));
    }
    let bytes = fs::read(path).map_err(Unusable::Read)?;
    let text = std::str::from_utf8(&bytes)
        .map_err(|_| Unusable::Content(web_password::ParseError::Malformed))?;
    StoredPassword::parse(text).map_err(Unusable::Content)
}

fn stamp(path: &Path) -> io::Result<Stamp> {
    let metadata = fs::metadata(path)?;
    Ok((
        metadata.dev(),
        metadata.ino(),
        metadata.size(),
        metadata.ctime(),
        metadata.ctime_nsec(),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use gokrazy_core::atomic::{Durability, replace};
    use web_password::{Cost, hash};

    struct File(PathBuf);

    impl File {
        fn new(name: &str) -> Self {
            let name = format!("gokrazy-web-password-{name}-{}", std::process::id());
            Self(std::env::temp_dir().join(name))
        }

        fn hold(&self, text: &str) {
            replace(&self.0, text.as_bytes(), 0o600, Durability::Volatile).unwrap();
        }

        fn hold_hash_of(&self, password: &str) {
            self.hold(&hash(password, b"0123456789abcdef", Cost::Random).unwrap());
        }
    }

    impl Drop for File {
        fn drop(&mut self) {
            let _ = fs::remove_file(&self.0);
        }
    }

    fn credentials(text: &str) -> Credentials {
        Credentials::new(text.as_bytes().to_vec())
    }

    fn try_in(store: &Store, text: &str) -> &'static str {
        let credentials = credentials(text);
        match store.recall(&credentials) {
            Memory::Known => "known",
            Memory::NoPassword => "no password",
            Memory::Unknown(stored) if verify(&credentials, &stored) => {
                store.remember(&credentials, &stored);
                "right"
            }
            Memory::Unknown(_) => "wrong",
        }
    }

    #[test]
    fn the_right_password_is_hashed_once_and_a_new_one_is_in_force_at_once() {
        let file = File::new("life");
        file.hold_hash_of("secret");
        let store = Store::new(file.0.clone(), [7; KEY_LENGTH]);
        assert_eq!(try_in(&store, "gokrazy:secret"), "right");
        assert_eq!(try_in(&store, "gokrazy:secret"), "known");
        assert_eq!(try_in(&store, "gokrazy:Secret"), "wrong");
        file.hold_hash_of("better");
        assert_eq!(try_in(&store, "gokrazy:secret"), "wrong");
        assert_eq!(try_in(&store, "gokrazy:better"), "right");
        fs::remove_file(&file.0).unwrap();
        assert_eq!(try_in(&store, "gokrazy:better"), "no password");
    }

    #[test]
    fn user_and_password_must_both_be_right() {
        let file = File::new("user");
        file.hold_hash_of("a:b");
        let store = Store::new(file.0.clone(), [7; KEY_LENGTH]);
        for wrong in [
            "",
            ":",
            "gokrazy",
            "gokrazy:",
            "root:a:b",
            "gokrazy:a",
            ":a:b",
        ] {
            assert_eq!(try_in(&store, wrong), "wrong", "{wrong:?}");
        }
        assert_eq!(try_in(&store, "gokrazy:a:b"), "right");
    }

    #[test]
    fn without_a_usable_hash_nobody_gets_in() {
        let file = File::new("bad");
        for text in ["", "\n", "secret", "\u{0}", &"x".repeat(5000)] {
            file.hold(text);
            let store = Store::new(file.0.clone(), [7; KEY_LENGTH]);
            assert_eq!(try_in(&store, "gokrazy:secret"), "no password", "{text:?}");
            assert_eq!(try_in(&store, "gokrazy:"), "no password", "{text:?}");
        }
        let folder = Store::new(std::env::temp_dir(), [7; KEY_LENGTH]);
        assert_eq!(try_in(&folder, "gokrazy:"), "no password");
    }
}
