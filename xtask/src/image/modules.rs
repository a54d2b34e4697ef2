//! Which kernel modules an image carries, and their index files; the choice is pure, kmod's depmod does the rest.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::cache::Cache;
use super::kernel::Kernel;
use crate::process;

/// What a kernel has: path of each module below `lib/modules/<release>`, with what it needs.
#[derive(Debug, Default)]
pub(crate) struct Index {
    /// By name, blanks and dashes as underscores.
    modules: BTreeMap<String, (String, Vec<String>)>,
    built_in: Vec<String>,
}

impl Index {
    /// From the text of `modules.dep` and `modules.builtin`.
    pub(crate) fn parse(dependencies: &str, built_in: &str) -> Self {
        let modules = dependencies
            .lines()
            .filter_map(|line| line.split_once(':'))
            .map(|(path, needs)| {
                let needs = needs.split_whitespace().map(str::to_owned).collect();
                (name_of(path), (path.to_owned(), needs))
            })
            .collect();
        Self {
            modules,
            built_in: built_in.lines().map(name_of).collect(),
        }
    }

    /// The path of module `name`.
    fn find(&self, name: &str) -> Option<&String> {
        self.modules.get(&normal(name)).map(|(path, _)| path)
    }

    /// Paths of `names` and all that they need, sorted; names that this kernel does not have are left out.
    pub(crate) fn closure(&self, names: &[&str]) -> Vec<String> {
        let mut paths: Vec<String> = names
            .iter()
            .filter_map(|name| self.modules.get(&normal(name)))
            .flat_map(|(path, needs)| std::iter::once(path).chain(needs))
            .cloned()
            .collect();
        paths.sort();
        paths.dedup();
        paths
    }

    /// Those of `names` that are modules of this kernel, one a line.
    pub(crate) fn list(&self, names: &[&str]) -> String {
        let known = names.iter().filter(|name| self.find(name).is_some());
        known.map(|name| format!("{name}\n")).collect()
    }

    /// The first of `names` that is neither a module of this kernel nor built in.
    pub(crate) fn unknown<'names>(&self, names: &[&'names str]) -> Option<&'names str> {
        names
            .iter()
            .find(|name| self.find(name).is_none() && !self.built_in.contains(&normal(name)))
            .copied()
    }
}

fn normal(name: &str) -> String {
    name.replace('-', "_")
}

/// `kernel/fs/ext4/ext4.ko.xz` is called `ext4`.
fn name_of(path: &str) -> String {
    let file = path.rsplit('/').next().unwrap_or(path);
    normal(file.split(".ko").next().unwrap_or(file))
}

/// The index of the modules in `source`, a folder `lib/modules/<release>`; `key` names its content.
///
/// # Errors
/// depmod's own, or files that cannot be read.
pub(crate) fn index(cache: &Cache, source: &Path, release: &str, key: &str) -> Result<Index> {
    let folder = cache.folder(&format!("depmod-{key}"), |half| {
        // depmod writes beside the modules; it gets a folder of links, so that theirs stays as it came.
        let shadow = half.join("lib/modules").join(release);
        fs::create_dir_all(&shadow).with_context(|| format!("make {}", shadow.display()))?;
        for entry in fs::read_dir(source).with_context(|| format!("list {}", source.display()))? {
            let path = entry
                .with_context(|| format!("list {}", source.display()))?
                .path();
            let name = path.file_name().unwrap_or_default();
            std::os::unix::fs::symlink(&path, shadow.join(name))
                .with_context(|| format!("link to {}", path.display()))?;
        }
        depmod(half, release)
    })?;
    let read = |name: &str| {
        let path = folder.join("lib/modules").join(release).join(name);
        fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))
    };
    Ok(Index::parse(
        &read("modules.dep")?,
        &read("modules.builtin").unwrap_or_default(),
    ))
}

/// What becomes of the distribution's signatures on modules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Signatures {
    /// They stay: a kernel under Secure Boot loads no other modules.
    Kept,
    /// They go: the kernel would check each one, which is most of what loading a small module costs.
    Removed,
}

impl Signatures {
    /// As the configuration says.
    pub(crate) fn kept_if(kept: bool) -> Self {
        if kept { Self::Kept } else { Self::Removed }
    }
}

/// A folder with `paths` of the kernel's modules, unpacked, and the index files that fit them.
///
/// # Errors
/// A module cannot be unpacked, or depmod's own.
pub(crate) fn unpacked(
    cache: &Cache,
    kernel: &Kernel,
    paths: &[String],
    signatures: Signatures,
) -> Result<PathBuf> {
    let (source, release, key) = (&kernel.modules, &kernel.release, &kernel.key);
    let key = format!(
        "modules-{}",
        crate::digest::of_bytes(format!("{key} {signatures:?} {}", paths.join(" ")).as_bytes())
    );
    let folder = cache.folder(&key, |half| {
        let target = half.join("lib/modules").join(release);
        for path in paths {
            copy(&source.join(path), &target.join(path))?;
        }
        unpack(&target, paths)?;
        if signatures == Signatures::Removed {
            remove_signatures(&target, paths)?;
        }
        for name in [
            "modules.builtin",
            "modules.order",
            "modules.builtin.modinfo",
        ] {
            let path = source.join(name);
            if path.exists() {
                copy(&path, &target.join(name))?;
            }
        }
        depmod(half, release)
    })?;
    Ok(folder.join("lib/modules").join(release))
}

/// Files of a folder made by [`unpacked`] that go into an image: modules, and the index files in text.
///
/// # Errors
/// The folder cannot be listed.
pub(crate) fn files(folder: &Path) -> Result<Vec<(String, PathBuf)>> {
    const INDEX: [&str; 5] = [
        "modules.dep",
        "modules.alias",
        "modules.softdep",
        "modules.builtin",
        "modules.builtin.modinfo",
    ];
    let mut found = Vec::new();
    let mut waiting = vec![folder.to_owned()];
    while let Some(next) = waiting.pop() {
        for entry in fs::read_dir(&next).with_context(|| format!("list {}", next.display()))? {
            let path = entry
                .with_context(|| format!("list {}", next.display()))?
                .path();
            let relative = path
                .strip_prefix(folder)
                .unwrap_or(&path)
                .to_string_lossy()
                .into_owned();
            if path.is_dir() {
                waiting.push(path);
            } else if relative.ends_with(".ko") || INDEX.contains(&relative.as_str()) {
                found.push((relative, path));
            }
        }
    }
    found.sort();
    Ok(found)
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    let folder = to.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
    fs::copy(from, to).with_context(|| format!("copy {}", from.display()))?;
    Ok(())
}

/// Unpacks in place what the distribution compressed: squashfs and zstd do it better, and stage 1 need not know how.
fn unpack(target: &Path, paths: &[String]) -> Result<()> {
    for (ending, tool) in [
        (".xz", ["xz", "-d"]),
        (".zst", ["zstd", "-dq"]),
        (".gz", ["gzip", "-d"]),
    ] {
        let packed: Vec<PathBuf> = paths
            .iter()
            .filter(|path| path.ends_with(ending))
            .map(|path| target.join(path))
            .collect();
        if packed.is_empty() {
            continue;
        }
        let mut command = Command::new(tool[0]);
        command.arg(tool[1]).args(&packed);
        if ending == ".zst" {
            command.arg("--rm");
        }
        process::capture(&mut command)?;
    }
    Ok(())
}

fn remove_signatures(target: &Path, paths: &[String]) -> Result<()> {
    for path in paths {
        let path = match path.split_once(".ko") {
            Some((name, _packed)) => target.join(format!("{name}.ko")),
            None => continue,
        };
        let module = fs::read(&path).with_context(|| format!("read {}", path.display()))?;
        let length = u64::try_from(without_signature(&module).len())?;
        fs::OpenOptions::new()
            .write(true)
            .open(&path)
            .and_then(|file| file.set_len(length))
            .with_context(|| format!("cut the signature off {}", path.display()))?;
    }
    Ok(())
}

/// What ends a signed module (`MODULE_SIG_STRING` of `<linux/module_signature.h>`).
const SIGNATURE_MARK: &[u8] = b"~Module signature appended~\n";

/// Bytes of `struct module_signature` before that mark; its last four are the signature's length, big-endian.
const SIGNATURE_HEAD: usize = 12;

/// A module without its signature, which stands at its end; one without is returned as it is.
fn without_signature(module: &[u8]) -> &[u8] {
    let bare = || {
        let rest = module.strip_suffix(SIGNATURE_MARK)?;
        let length = u32::from_be_bytes(*rest.last_chunk()?);
        let end = rest
            .len()
            .checked_sub(SIGNATURE_HEAD)?
            .checked_sub(usize::try_from(length).ok()?)?;
        module.get(..end)
    };
    bare().unwrap_or(module)
}

fn depmod(base: &Path, release: &str) -> Result<()> {
    let Some(depmod) = crate::setup::program("depmod") else {
        bail!("there is no depmod; `cargo xtask setup` gets it");
    };
    process::capture(Command::new(depmod).arg("-b").arg(base).arg(release))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEPENDENCIES: &str = "kernel/fs/ext4/ext4.ko.xz: kernel/fs/jbd2/jbd2.ko.xz kernel/lib/crc16.ko.xz\n\
                                kernel/fs/jbd2/jbd2.ko.xz:\nkernel/lib/crc16.ko.xz:\nkernel/net/af-key.ko:\n";

    fn index() -> Index {
        Index::parse(DEPENDENCIES, "kernel/drivers/mmc/core/mmc_core.ko\n")
    }

    #[test]
    fn dependencies_come_along_once_and_in_order() {
        assert_eq!(
            index().closure(&["ext4", "jbd2", "absent"]),
            [
                "kernel/fs/ext4/ext4.ko.xz",
                "kernel/fs/jbd2/jbd2.ko.xz",
                "kernel/lib/crc16.ko.xz"
            ]
        );
    }

    #[test]
    fn a_signature_goes_and_nothing_else() {
        let signed = |length: u32| {
            let mut module = b"ELF, code and data".to_vec();
            module.extend([b's'; 300]);
            module.extend([0, 0, 2, 0, 0, 0, 0, 0]);
            module.extend(length.to_be_bytes());
            module.extend(SIGNATURE_MARK);
            module
        };
        assert_eq!(without_signature(&signed(300)), b"ELF, code and data");
        let longer_than_the_file = signed(3000);
        assert_eq!(
            without_signature(&longer_than_the_file),
            longer_than_the_file
        );
        for plain in [&b"ELF"[..], SIGNATURE_MARK, b""] {
            assert_eq!(without_signature(plain), plain);
        }
    }

    #[test]
    fn dashes_are_underscores() {
        assert_eq!(index().closure(&["af_key"]), index().closure(&["af-key"]));
        assert_eq!(index().closure(&["af_key"]).len(), 1);
    }

    #[test]
    fn only_what_is_neither_module_nor_built_in_is_unknown() {
        assert_eq!(index().unknown(&["ext4", "mmc-core", "af_key"]), None);
        assert_eq!(index().unknown(&["ext4", "exfour"]), Some("exfour"));
    }

    #[test]
    fn the_list_keeps_the_order_and_names_only_what_is_there() {
        assert_eq!(index().list(&["jbd2", "vfat", "ext4"]), "jbd2\next4\n");
    }
}
