//! A tree of files with owners and modes that this machine's user need not have; pure but for what archives read.
//!
//! Root and initramfs are such trees: planned as data, printed in tests, and only then written as an archive.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::digest;

/// Where a file's bytes come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Content {
    /// They are here.
    Bytes(Vec<u8>),
    /// They lie in a file of this machine.
    File(PathBuf),
}

impl Content {
    /// The bytes.
    ///
    /// # Errors
    /// The file cannot be read.
    pub(crate) fn read(&self) -> Result<Vec<u8>> {
        match self {
            Self::Bytes(bytes) => Ok(bytes.clone()),
            Self::File(path) => fs::read(path).with_context(|| format!("read {}", path.display())),
        }
    }

    /// How many bytes.
    ///
    /// # Errors
    /// The file cannot be looked at.
    pub(crate) fn size(&self) -> Result<u64> {
        match self {
            Self::Bytes(bytes) => Ok(bytes.len() as u64),
            Self::File(path) => Ok(path
                .metadata()
                .with_context(|| format!("look at {}", path.display()))?
                .len()),
        }
    }
}

impl From<&str> for Content {
    fn from(text: &str) -> Self {
        Self::Bytes(text.as_bytes().to_vec())
    }
}

impl From<String> for Content {
    fn from(text: String) -> Self {
        Self::Bytes(text.into_bytes())
    }
}

impl From<&Path> for Content {
    fn from(path: &Path) -> Self {
        Self::File(path.to_owned())
    }
}

/// What stands at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    Folder,
    File(Content),
    Link(String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Node {
    kind: Kind,
    mode: u32,
    /// User and group.
    owner: u32,
}

/// Paths without a leading slash, in the order of archives: a folder before what is in it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Tree {
    nodes: BTreeMap<String, Node>,
}

impl Tree {
    /// Adds a folder of root's, and those above it.
    ///
    /// # Errors
    /// Something else stands there.
    pub(crate) fn folder(&mut self, path: &str) -> Result<()> {
        match self.nodes.get(path) {
            Some(node) if node.kind == Kind::Folder => Ok(()),
            Some(_) => bail!("two things are called {path}, and one of them is a folder"),
            None => self.add(path, Kind::Folder, 0o755, 0),
        }
    }

    /// Adds a file, and the folders above it.
    ///
    /// # Errors
    /// Something stands there already.
    pub(crate) fn file(
        &mut self,
        path: &str,
        content: impl Into<Content>,
        mode: u32,
        owner: u32,
    ) -> Result<()> {
        self.add(path, Kind::File(content.into()), mode, owner)
    }

    /// Adds a symbolic link, and the folders above it.
    ///
    /// # Errors
    /// Something stands there already.
    pub(crate) fn link(&mut self, path: &str, target: &str) -> Result<()> {
        self.add(path, Kind::Link(target.to_owned()), 0o777, 0)
    }

    fn add(&mut self, path: &str, kind: Kind, mode: u32, owner: u32) -> Result<()> {
        if let Some((above, _)) = path.rsplit_once('/') {
            self.folder(above)?;
        }
        if self.nodes.contains_key(path) {
            bail!("two files are called /{path}");
        }
        self.nodes
            .insert(path.to_owned(), Node { kind, mode, owner });
        Ok(())
    }

    /// A hash of all names, modes, owners and contents.
    ///
    /// # Errors
    /// A file cannot be read.
    pub(crate) fn digest(&self) -> Result<String> {
        let mut text = String::new();
        for (path, node) in &self.nodes {
            let what = match &node.kind {
                Kind::Folder => "folder".to_owned(),
                Kind::Link(target) => format!("link {target}"),
                Kind::File(content) => format!("file {}", digest::of_bytes(&content.read()?)),
            };
            let _ = writeln!(text, "{path} {:o} {} {what}", node.mode, node.owner);
        }
        Ok(digest::of_bytes(text.as_bytes()))
    }

    /// Writes the tree as tar(5), every file with modification time `time`, in seconds since 1970.
    ///
    /// # Errors
    /// A file cannot be read, or `output` not written.
    pub(crate) fn write_tar(&self, output: impl Write, time: u64) -> Result<()> {
        let mut builder = tar::Builder::new(output);
        for (path, node) in &self.nodes {
            let mut header = tar::Header::new_gnu();
            header.set_mode(node.mode);
            header.set_uid(u64::from(node.owner));
            header.set_gid(u64::from(node.owner));
            header.set_mtime(time);
            header.set_size(0);
            match &node.kind {
                Kind::Folder => {
                    header.set_entry_type(tar::EntryType::Directory);
                    builder.append_data(&mut header, path, std::io::empty())
                }
                Kind::Link(target) => {
                    header.set_entry_type(tar::EntryType::Symlink);
                    builder.append_link(&mut header, path, target)
                }
                Kind::File(content) => {
                    let bytes = content.read()?;
                    header.set_size(bytes.len() as u64);
                    builder.append_data(&mut header, path, bytes.as_slice())
                }
            }
            .with_context(|| format!("write {path} to the archive"))?;
        }
        builder.finish().context("end the archive")
    }

    /// The tree as a cpio archive in the kernel's format, `newc` (initramfs buffer format, kernel documentation).
    ///
    /// # Errors
    /// A file cannot be read.
    pub(crate) fn to_cpio(&self, time: u32) -> Result<Vec<u8>> {
        let mut archive = Vec::new();
        // Inode numbers only have to differ.
        for (inode, (path, node)) in (1_u32..).zip(&self.nodes) {
            let (kind, bytes) = match &node.kind {
                Kind::Folder => (cpio::newc::ModeFileType::Directory, Vec::new()),
                Kind::Link(target) => (
                    cpio::newc::ModeFileType::Symlink,
                    target.clone().into_bytes(),
                ),
                Kind::File(content) => (cpio::newc::ModeFileType::Regular, content.read()?),
            };
            let length = u32::try_from(bytes.len())
                .with_context(|| format!("{path} is too large for an initramfs"))?;
            let mut writer = cpio::newc::Builder::new(path)
                .ino(inode)
                .mode(node.mode)
                .uid(node.owner)
                .gid(node.owner)
                .mtime(time)
                .set_mode_file_type(kind)
                .write(&mut archive, length);
            writer
                .write_all(&bytes)
                .and_then(|()| writer.finish().map(drop))
                .with_context(|| format!("write {path} to the initramfs"))?;
        }
        cpio::newc::trailer(&mut archive).context("end the initramfs")?;
        Ok(archive)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree() -> Tree {
        let mut tree = Tree::default();
        tree.file("etc/gokrazy/secret", "s", 0o400, 902).unwrap();
        tree.link("var", "/perm/var").unwrap();
        tree.file("init", "x", 0o755, 0).unwrap();
        tree
    }

    #[test]
    fn folders_appear_by_themselves_and_before_what_they_hold() {
        let tree = tree();
        let names: Vec<&str> = tree.nodes.keys().map(String::as_str).collect();
        assert_eq!(
            names,
            ["etc", "etc/gokrazy", "etc/gokrazy/secret", "init", "var"]
        );
    }

    #[test]
    fn nothing_is_put_over_something_else() {
        let mut tree = tree();
        assert!(tree.file("init", "y", 0o755, 0).is_err());
        assert!(tree.file("init/below", "y", 0o755, 0).is_err());
        assert!(tree.folder("var").is_err());
        assert!(tree.folder("etc").is_ok());
    }

    #[test]
    fn archives_hold_owner_mode_and_time() {
        let mut bytes = Vec::new();
        tree().write_tar(&mut bytes, 77).unwrap();
        let mut archive = tar::Archive::new(bytes.as_slice());
        let found = archive.entries().unwrap().find_map(|entry| {
            let entry = entry.unwrap();
            let header = entry.header();
            (entry.path().unwrap().to_str() == Some("etc/gokrazy/secret")).then(|| {
                (
                    header.mode().unwrap(),
                    header.uid().unwrap(),
                    header.mtime().unwrap(),
                )
            })
        });
        assert_eq!(found, Some((0o400, 902, 77)));
        let cpio = tree().to_cpio(77).unwrap();
        assert!(cpio.starts_with(b"070701"));
        assert!(cpio.len().is_multiple_of(4));
    }

    #[test]
    fn the_digest_tells_trees_apart() {
        let mut other = tree();
        assert_eq!(tree().digest().unwrap(), other.digest().unwrap());
        other.file("etc/more", "", 0o644, 0).unwrap();
        assert_ne!(tree().digest().unwrap(), other.digest().unwrap());
    }
}
