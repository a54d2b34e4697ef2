//! Loads kernel modules with what they depend on; the decisions are in [`crate::modules`].

use std::collections::{BTreeSet, HashSet};
use std::ffi::CString;
use std::fmt;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::kmod::{ModuleInitFlags, finit_module};

use crate::modules::{Aliases, Dependencies, name_of, turn};
use crate::paths;

/// What a mount of FAT takes: its tables of characters are no dependencies, the kernel would ask a helper for them.
pub const FAT: [&str; 5] = [
    "nls_cp437",
    "nls_iso8859_1",
    "nls_ascii",
    "nls_utf8",
    "vfat",
];

/// A module could not be loaded.
#[derive(Debug)]
pub struct LoadError {
    path: PathBuf,
    source: io::Error,
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "load module {}", self.path.display())
    }
}

impl std::error::Error for LoadError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

/// The modules of one kernel release.
#[derive(Debug)]
pub struct Loader {
    folder: PathBuf,
    dependencies: Dependencies,
    aliases: Aliases,
    done: HashSet<PathBuf>,
}

impl Loader {
    /// The modules below `folder`, as `/lib/modules/<release>`; missing lists count as empty.
    pub fn open(folder: &Path) -> Self {
        let read = |name: &str| fs::read_to_string(folder.join(name)).unwrap_or_default();
        Self {
            folder: folder.to_owned(),
            dependencies: Dependencies::parse(&read("modules.dep")),
            aliases: Aliases::new(read("modules.alias")),
            done: HashSet::new(),
        }
    }

    /// Whether there is a module of that name (one that is built into the kernel is none).
    pub fn knows(&self, name: &str) -> bool {
        !self.dependencies.load_order(name).is_empty()
    }

    /// When its turn is among modules that are all wanted at boot ([`turn`]).
    pub fn turn_of(&self, name: &str) -> u8 {
        self.dependencies.load_order(name).pop().map_or(0, turn)
    }

    /// Loads `name` and what it needs; what is loaded already is passed over.
    ///
    /// # Errors
    /// The first module that could not be loaded, and why.
    pub fn load(&mut self, name: &str) -> Result<(), LoadError> {
        let paths: Vec<PathBuf> = self
            .dependencies
            .load_order(name)
            .into_iter()
            .map(|path| self.folder.join(path))
            .collect();
        for path in paths {
            if self.done.contains(&path) {
                continue;
            }
            if !is_live(&path)
                && let Err(source) = load_file(&path)
            {
                return Err(LoadError { path, source });
            }
            self.done.insert(path);
        }
        Ok(())
    }

    /// Names of the modules for the devices that `modaliases` describe, each once.
    pub fn modules_for(&self, modaliases: &BTreeSet<String>) -> Vec<String> {
        self.aliases.modules_for(modaliases)
    }
}

/// Whether a module is there and has done its initialisation.
///
/// The kernel would say so too, but only after it has read and checked the file.
fn is_live(path: &Path) -> bool {
    let name = name_of(&path.to_string_lossy());
    let state = Path::new(paths::SYS_MODULE).join(name).join("initstate");
    fs::read(state).is_ok_and(|text| text.starts_with(b"live"))
}

/// `finit_module(fd, "", 0)`; a module that is there, or whose hardware is not, is no error (as modprobe has it).
fn load_file(path: &Path) -> io::Result<()> {
    let file = File::open(path)?;
    match finit_module(file, &CString::default(), ModuleInitFlags::empty()) {
        Ok(()) | Err(Errno::EEXIST | Errno::ENODEV) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::atomic::{Durability, replace};

    #[test]
    fn a_module_that_could_not_be_loaded_is_tried_again() {
        let folder =
            std::env::temp_dir().join(format!("gokrazy-core-loader-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let text = b"gone.ko:\nneedy.ko: gone.ko\n";
        let list = folder.join("modules.dep");
        replace(&list, text, 0o644, Durability::Volatile).unwrap();
        let mut loader = Loader::open(&folder);
        for name in ["needy", "gone", "needy"] {
            let error = loader.load(name).unwrap_err();
            assert!(error.to_string().ends_with("gone.ko"), "{error}");
        }
        fs::remove_dir_all(folder).unwrap();
    }
}
