//! The workspace's own files, read once for all rules.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::source::Source;
use crate::workspace::Workspace;

/// Folders that hold the workspace's code.
const ROOMS: [&str; 6] = ["crates", "init", "dhcp", "ntp", "randomd", "xtask"];

/// A Rust file of the workspace.
pub(crate) struct RustFile {
    /// Relative to the workspace.
    pub(crate) path: PathBuf,
    /// Its parts.
    pub(crate) source: Source,
}

impl RustFile {
    /// Whether it is a test as a whole: under `tests/`, or a test module in a file of its own.
    pub(crate) fn is_test(&self) -> bool {
        let in_folder = self.path.components().any(|part| {
            ["tests", "benches", "fuzz"]
                .iter()
                .any(|name| part.as_os_str() == *name)
        });
        in_folder || self.is_test_module()
    }

    /// Whether it is a test module in a file of its own.
    pub(crate) fn is_test_module(&self) -> bool {
        let stem = self
            .path
            .file_stem()
            .map(|stem| stem.to_string_lossy().into_owned());
        stem.is_some_and(|stem| stem == "tests" || stem.ends_with("_tests"))
    }

    /// The folder of the package that it belongs to, relative to the workspace.
    pub(crate) fn package(&self) -> PathBuf {
        self.path
            .components()
            .take_while(|part| {
                !["src", "tests", "benches", "examples", "fuzz"]
                    .iter()
                    .any(|name| part.as_os_str() == *name)
            })
            .collect()
    }
}

/// The workspace's own files.
pub(crate) struct Tree {
    root: PathBuf,
    workspace: Workspace,
    /// Every Rust file, in the order of their paths.
    pub(crate) rust: Vec<RustFile>,
    /// Every Markdown file, relative to the workspace.
    pub(crate) documents: Vec<PathBuf>,
}

impl Tree {
    /// Reads all of them.
    ///
    /// # Errors
    /// The file or folder that cannot be read.
    pub(crate) fn read(workspace: &Workspace) -> Result<Self> {
        let root = workspace.root().to_owned();
        let rust = files(&root, &ROOMS, "rs")?
            .into_iter()
            .map(|path| {
                let source = Source::read(&read(&path)?);
                let path = path.strip_prefix(&root).unwrap_or(&path).to_owned();
                Ok(RustFile { path, source })
            })
            .collect::<Result<_>>()?;
        let documents = documents(&root)?;
        Ok(Self {
            root,
            workspace: workspace.clone(),
            rust,
            documents,
        })
    }

    /// Rust files that go into programs.
    pub(crate) fn production(&self) -> impl Iterator<Item = &RustFile> {
        self.rust.iter().filter(|file| !file.is_test())
    }

    /// The workspace itself, for rules that build.
    pub(crate) fn workspace(&self) -> &Workspace {
        &self.workspace
    }

    /// The text of a file, by its path in the workspace.
    ///
    /// # Errors
    /// It cannot be read.
    pub(crate) fn text(&self, path: impl AsRef<Path>) -> Result<String> {
        read(&self.root.join(path))
    }

    /// Whether there is such a file.
    pub(crate) fn has(&self, path: impl AsRef<Path>) -> bool {
        self.root.join(path).is_file()
    }
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("read {}", path.display()))
}

/// Files of one kind below some folders of the workspace, in the order of their paths.
fn files(root: &Path, folders: &[&str], extension: &str) -> Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for folder in folders {
        collect(&root.join(folder), extension, &mut paths)?;
    }
    paths.sort();
    Ok(paths)
}

/// Markdown files of the root, of the documents and of the rooms.
fn documents(root: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(root).with_context(|| format!("read folder {}", root.display()))?;
    let top = entries.flatten().map(|entry| entry.path());
    let mut paths: Vec<_> = top.filter(|path| is_kind(path, "md")).collect();
    paths.extend(files(root, &[&["docs"][..], &ROOMS].concat(), "md")?);
    let relative = |path: PathBuf| path.strip_prefix(root).map(Path::to_owned).unwrap_or(path);
    Ok(paths.into_iter().map(relative).collect())
}

fn is_kind(path: &Path, kind: &str) -> bool {
    path.extension().is_some_and(|extension| extension == kind)
}

fn collect(folder: &Path, kind: &str, found: &mut Vec<PathBuf>) -> Result<()> {
    let entries =
        fs::read_dir(folder).with_context(|| format!("read folder {}", folder.display()))?;
    for entry in entries {
        let path = entry
            .with_context(|| format!("read folder {}", folder.display()))?
            .path();
        if path.is_dir() && !path.ends_with("target") {
            collect(&path, kind, found)?;
        } else if is_kind(&path, kind) {
            found.push(path);
        }
    }
    Ok(())
}
