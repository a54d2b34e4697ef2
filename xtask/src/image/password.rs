//! The web page's password: the user's, or one that is drawn once.
//!
//! The places are those of gokrazy's own tool, so that who has used it need not look for another.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use gokrazy_core::atomic::{self, Durability};
use web_password::{Cost, SALT_LENGTH};

use super::Loaded;
use crate::digest;
use crate::out::say;
use crate::workspace::Workspace;

/// Letters and digits that no two of look alike on paper.
const ALPHABET: &[u8] = b"abcdefghijkmnpqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789";
/// Characters of a drawn password: 115 bits.
const LENGTH: usize = 20;

/// A password and where it lies.
#[derive(Debug, Clone)]
pub(crate) struct Password {
    /// The password itself.
    pub(crate) text: String,
    /// The file.
    pub(crate) path: PathBuf,
    cost: Cost,
}

impl Password {
    /// The text that web compares with.
    ///
    /// The salt derives from the device's name alone, so that equal images stay equal: it stands in the hash for all
    /// to read, and one that came from the password would let a guess be tried without Argon2's labour.
    ///
    /// # Errors
    /// The password cannot be one; the file is named.
    pub(crate) fn hash(&self, hostname: &str) -> Result<String> {
        let seed = digest::of_bytes(format!("salt of the web password\n{hostname}").as_bytes());
        let mut salt = [0; SALT_LENGTH];
        for (to, from) in salt.iter_mut().zip(seed.bytes()) {
            *to = from;
        }
        web_password::hash(&self.text, &salt, self.cost)
            .with_context(|| format!("use {}", self.path.display()))
    }
}

/// The password for the images of `loaded`.
///
/// # Errors
/// A file that is named in the configuration and cannot be read, one without a password, or a failed draw.
pub(crate) fn find(workspace: &Workspace, loaded: &Loaded) -> Result<Password> {
    if let Some(file) = &loaded.config.password_file {
        return read(&loaded.folder.join(file));
    }
    let host = loaded.config.hostname.get_ref();
    let config = std::env::home_dir()
        .unwrap_or_default()
        .join(".config/gokrazy");
    let places = [
        config.join("hosts").join(host).join("http-password.txt"),
        config.join("http-password.txt"),
    ];
    if let Some(found) = places.iter().find(|path| path.exists()) {
        return read(found);
    }
    own(&workspace.target().join("image"))
}

/// The password that lies in `folder`, which is drawn if there is none yet.
///
/// That it was drawn is noted beside it, as a hash of it: one that somebody puts in its place, however long, may be
/// guessed, and must not get the cheap hash of a drawn one.
fn own(folder: &Path) -> Result<Password> {
    let path = folder.join("http-password.txt");
    let note = folder.join("http-password.drawn");
    if !path.exists() {
        fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
        let text = draw()?;
        keep(&note, &note_of(&text))?;
        keep(&path, &text)?;
    }
    let password = read(&path)?;
    let noted = fs::read_to_string(&note).unwrap_or_default();
    let cost = match noted.trim() == note_of(&password.text) {
        true => Cost::Random,
        false => Cost::Chosen,
    };
    let password = Password { cost, ..password };
    if let Some(line) = remark(&password) {
        say!("{line}");
    }
    Ok(password)
}

/// Tells of a password in the drawn one's place that gets the slow hash and need not; pure.
///
/// An older version left no note when it drew, and a copy of the file comes without it.
fn remark(password: &Password) -> Option<String> {
    let is_alike =
        password.text.len() == LENGTH && password.text.bytes().all(|byte| ALPHABET.contains(&byte));
    (is_alike && password.cost == Cost::Chosen).then(|| {
        let path = password.path.display();
        format!(
            "the web password in {path} looks drawn, but nothing beside it notes that it was: it gets the slow hash of a \
             chosen one; remove the file, and one with a fast hash is drawn"
        )
    })
}

fn note_of(password: &str) -> String {
    digest::of_bytes(format!("drawn web password\n{password}").as_bytes())
}

fn keep(path: &Path, line: &str) -> Result<()> {
    let text = format!("{line}\n");
    Ok(atomic::replace(
        path,
        text.as_bytes(),
        0o600,
        Durability::Synced,
    )?)
}

fn read(path: &Path) -> Result<Password> {
    let content = fs::read_to_string(path)
        .with_context(|| format!("read password file {}", path.display()))?;
    let text = content.lines().next().unwrap_or_default().trim().to_owned();
    if text.is_empty() {
        bail!(
            "password file {} is empty: write a password into its first line, or remove it",
            path.display()
        );
    }
    Ok(Password {
        text,
        path: path.to_owned(),
        cost: Cost::Chosen,
    })
}

#[expect(
    clippy::disallowed_methods,
    reason = "the one place of the builder that draws"
)]
fn draw() -> Result<String> {
    let mut password = String::new();
    let mut random = [0_u8; 64];
    while password.len() < LENGTH {
        getrandom::fill(&mut random).context("draw a password")?;
        extend(&mut password, &random);
    }
    Ok(password)
}

/// Takes characters by `random`, passing over bytes that would make some more likely than others.
fn extend(password: &mut String, random: &[u8]) {
    let whole = 256 / ALPHABET.len() * ALPHABET.len();
    let fair = random
        .iter()
        .map(|byte| usize::from(*byte))
        .filter(|byte| *byte < whole);
    let characters = fair.filter_map(|byte| ALPHABET.get(byte % ALPHABET.len()));
    password.extend(
        characters
            .take(LENGTH - password.len())
            .map(|byte| char::from(*byte)),
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_password_that_was_drawn_gets_a_cheap_hash() {
        let folder = std::env::temp_dir().join(format!("xtask-password-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        let drawn = own(&folder).unwrap();
        assert_eq!((drawn.text.len(), drawn.cost), (LENGTH, Cost::Random));
        assert_eq!(remark(&drawn), None);
        let again = own(&folder).unwrap();
        assert_eq!((&again.text, again.cost), (&drawn.text, Cost::Random));
        let chosen = "twentyletterpassword";
        assert_eq!(chosen.len(), LENGTH);
        keep(&drawn.path, chosen).unwrap();
        let put_there = own(&folder).unwrap();
        assert_eq!((&*put_there.text, put_there.cost), (chosen, Cost::Chosen));
        assert_eq!(remark(&put_there), None);
        keep(&drawn.path, &drawn.text).unwrap();
        assert_eq!(own(&folder).unwrap().cost, Cost::Random);
        fs::remove_file(folder.join("http-password.drawn")).unwrap();
        let unnoted = own(&folder).unwrap();
        assert_eq!(unnoted.cost, Cost::Chosen);
        let line = remark(&unnoted).unwrap();
        let file = drawn.path.display();
        assert!(line.contains(&format!("{file} looks drawn")), "{line}");
        assert!(line.contains("remove the file"), "{line}");
        // As the line says.
        fs::remove_file(&drawn.path).unwrap();
        let anew = own(&folder).unwrap();
        assert_eq!((remark(&anew), anew.cost), (None, Cost::Random));
        assert_ne!(anew.text, drawn.text);
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn unfair_bytes_are_passed_over_and_the_length_kept() {
        let mut password = String::new();
        extend(&mut password, &[255, 254, 0, 56, 1]);
        assert_eq!(password, "aab");
        extend(&mut password, &[2; 64]);
        assert_eq!(password.len(), LENGTH);
    }

    #[test]
    fn the_same_password_has_the_same_hash_on_the_same_device_only() {
        let password = Password {
            text: "secret".to_owned(),
            path: PathBuf::new(),
            cost: Cost::Random,
        };
        let hash = password.hash("a").unwrap();
        assert_eq!(hash, password.hash("a").unwrap());
        assert_ne!(hash, password.hash("b").unwrap());
        assert!(hash.starts_with("$argon2id$"));
    }

    #[test]
    fn the_salt_tells_nothing_of_the_password() {
        let salt_of = |text: &str| {
            let password = Password {
                text: text.to_owned(),
                path: PathBuf::new(),
                cost: Cost::Random,
            };
            let hash = password.hash("a").unwrap();
            hash.split('$').nth(4).unwrap().to_owned()
        };
        assert_eq!(salt_of("secret"), salt_of("another"));
    }
}
