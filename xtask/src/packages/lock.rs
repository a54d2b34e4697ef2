//! Which packages an image is made of: one line each, `size sha256 file uri`.

use std::fmt::Write as _;
use std::fs::File;
use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::digest;

/// A package file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    /// File name: name, version and architecture.
    pub(crate) file: String,
    /// Bytes.
    pub(crate) size: u64,
    /// Hash in hexadecimal digits.
    pub(crate) sha256: String,
    /// Where it comes from.
    pub(crate) uri: String,
}

impl Entry {
    fn is_kernel(&self) -> bool {
        self.file.starts_with("linux-image-")
    }

    /// Whether the file at `path` has this one's size.
    pub(crate) fn has_size_of(&self, path: &Path) -> bool {
        path.metadata()
            .is_ok_and(|metadata| metadata.len() == self.size)
    }

    /// Whether the file at `path` is this one. The size is compared first, since that is cheap.
    pub(crate) fn is_whole(&self, path: &Path) -> bool {
        self.has_size_of(path)
            && File::open(path)
                .and_then(digest::of_reader)
                .is_ok_and(|hash| hash == self.sha256)
    }
}

/// How packages begin with which newer Debian releases split the kernel's own, `linux-image-<release>`.
const KERNEL_PARTS: [&str; 3] = ["linux-binary-", "linux-modules-", "linux-base-"];

/// Whether the package called `name` is a part of the kernel's; pure.
pub(super) fn is_kernel_part(name: &str) -> bool {
    KERNEL_PARTS.iter().any(|part| name.starts_with(part))
}

/// The name of the tree that the packages of `group` are unpacked into: it can only be theirs; pure.
pub(super) fn tree_name(group: &[&Entry]) -> String {
    match group {
        [entry] => entry.sha256.clone(),
        several => {
            let hashes: Vec<&str> = several.iter().map(|entry| &*entry.sha256).collect();
            digest::of_bytes(hashes.join("\n").as_bytes())
        }
    }
}

/// The packages of a board.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Lock {
    /// In the order in which they are unpacked.
    pub(crate) entries: Vec<Entry>,
}

impl Lock {
    /// The packages by the trees that they are unpacked into: a kernel and its parts share one.
    pub(crate) fn groups(&self) -> Vec<Vec<&Entry>> {
        let (parts, whole): (Vec<&Entry>, Vec<&Entry>) = self
            .entries
            .iter()
            .partition(|entry| is_kernel_part(&entry.file));
        let with_parts = |entry| match Entry::is_kernel(entry) {
            true => [vec![entry], parts.clone()].concat(),
            false => vec![entry],
        };
        whole.into_iter().map(with_parts).collect()
    }

    /// Reads a lock file.
    ///
    /// # Errors
    /// It is not there, or is not one.
    pub(crate) fn load(path: &Path) -> Result<Self> {
        let text =
            std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
        Self::parse(&text).with_context(|| format!("read {}", path.display()))
    }

    fn parse(text: &str) -> Result<Self> {
        let entries = text.lines().map(parse_line).collect::<Result<Vec<_>>>()?;
        if entries.is_empty() {
            bail!("it names no package");
        }
        Ok(Self { entries })
    }

    /// The file's text.
    pub(crate) fn render(&self) -> String {
        let mut text = String::new();
        for entry in &self.entries {
            let _ = writeln!(
                text,
                "{} {} {} {}",
                entry.size, entry.sha256, entry.file, entry.uri
            );
        }
        text
    }

    /// The packages in what `apt-get download --print-uris` says: `'URI' file size SHA256:hash`.
    ///
    /// # Errors
    /// A line without a SHA-256 hash, or none at all.
    pub(crate) fn from_uris(text: &str) -> Result<Self> {
        let entries = text
            .lines()
            .filter(|line| line.starts_with('\''))
            .map(|line| parse_uri(line).with_context(|| format!("understand apt's line {line:?}")))
            .collect::<Result<Vec<_>>>()?;
        Ok(Self { entries })
    }
}

fn parse_line(line: &str) -> Result<Entry> {
    let words: Vec<&str> = line.split(' ').collect();
    let [size, sha256, file, uri] = words[..] else {
        bail!("{line:?} is not `size sha256 file uri`");
    };
    entry(uri, file, size, sha256)
        .with_context(|| format!("{line:?} is not `size sha256 file uri`"))
}

fn parse_uri(line: &str) -> Option<Entry> {
    let words: Vec<&str> = line.split(' ').collect();
    let [uri, file, size, hash] = words[..] else {
        return None;
    };
    entry(
        uri.trim_matches('\''),
        file,
        size,
        hash.strip_prefix("SHA256:")?,
    )
}

/// File name and hash become names of our own files, so they must be plain.
fn entry(uri: &str, file: &str, size: &str, sha256: &str) -> Option<Entry> {
    let plain = !file.contains('/') && !file.starts_with('.');
    let hash = sha256.len() == 64 && sha256.bytes().all(|byte| byte.is_ascii_hexdigit());
    (plain && hash).then_some(())?;
    Some(Entry {
        file: file.to_owned(),
        size: size.parse().ok()?,
        sha256: sha256.to_owned(),
        uri: uri.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = "d75fbbfa90d37d409e7e65f1149afd770bc17daa3f15f49ef651f608fe7e1dbc";

    #[test]
    fn what_apt_says_survives_the_lock_file() {
        let said = format!(
            "'http://m/pool/a_1%7e2_arm64.deb' a_1~2_arm64.deb 95472 SHA256:{HASH}\nW: noise\n"
        );
        let lock = Lock::from_uris(&said).unwrap();
        assert_eq!(lock.entries[0].file, "a_1~2_arm64.deb");
        assert_eq!(Lock::parse(&lock.render()).unwrap(), lock);
    }

    #[test]
    fn a_kernel_in_parts_becomes_one_tree() {
        let named = |file: &str| entry("uri", file, "5", HASH).unwrap();
        let files = [
            "linux-base-7_1.deb",
            "tzdata_1.deb",
            "linux-image-7_1.deb",
            "linux-modules-7_1.deb",
        ];
        let lock = Lock {
            entries: files.map(named).to_vec(),
        };
        let groups = lock.groups();
        let names: Vec<Vec<&str>> = groups
            .iter()
            .map(|group| group.iter().map(|entry| entry.file.as_str()).collect())
            .collect();
        let kernel = [
            "linux-image-7_1.deb",
            "linux-base-7_1.deb",
            "linux-modules-7_1.deb",
        ];
        assert_eq!(names, [vec!["tzdata_1.deb"], kernel.to_vec()]);
        // The package of that name is none of a kernel's.
        assert!(!is_kernel_part("linux-base_4_all.deb"));
    }

    #[test]
    fn a_damaged_lock_file_is_refused() {
        for text in [
            "",
            "12 abc file uri\n",
            "x\n",
            &format!("1 {HASH} ../file uri\n"),
            &format!("1 {HASH} file"),
        ] {
            assert!(Lock::parse(text).is_err(), "{text:?}");
        }
        assert!(Lock::from_uris("'http://m/a.deb' a.deb 1 MD5Sum:abc\n").is_err());
    }

    #[test]
    fn a_truncated_or_altered_file_is_not_whole() {
        let path = std::env::temp_dir().join(format!("xtask-lock-{}", std::process::id()));
        let check = |content: &[u8], whole: bool| {
            gokrazy_core::atomic::replace(
                &path,
                content,
                0o600,
                gokrazy_core::atomic::Durability::Volatile,
            )
            .unwrap();
            let entry = entry("uri", "file", "5", &digest::of_bytes(b"right")).unwrap();
            assert_eq!(entry.is_whole(&path), whole);
        };
        check(b"right", true);
        check(b"wrong", false);
        check(b"righ", false);
        std::fs::remove_file(path).unwrap();
    }
}
