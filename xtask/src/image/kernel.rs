//! A kernel as the image builder needs it: from Debian's package, or from a folder of the user's.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::cache::Cache;
use crate::digest;
use crate::packages::Fetched;

/// Where `modules` may lie in a package or folder.
const MODULES: [&str; 2] = ["lib/modules", "usr/lib/modules"];
/// Offset and text of the mark in an arm64 kernel (Documentation/arch/arm64/booting.rst).
const ARM64_MARK: (usize, &[u8]) = (0x38, b"ARM\x64");
const GZIP_MARK: &[u8] = &[0x1f, 0x8b];

/// A kernel.
#[derive(Debug)]
pub(crate) struct Kernel {
    /// As `uname -r` tells it.
    pub(crate) release: String,
    /// The folder `lib/modules/<release>`.
    pub(crate) modules: PathBuf,
    /// Tells kernels apart.
    pub(crate) key: String,
    /// The file that is started.
    pub(crate) image: PathBuf,
    device_trees: Option<PathBuf>,
}

impl Kernel {
    /// From an unpacked package.
    ///
    /// # Errors
    /// The package holds no kernel.
    fn from_package(tree: &Path, key: &str) -> Result<Self> {
        let (release, modules) = release(tree)?;
        // Where Debian 12 and 13 have them, and where newer kernels do.
        let image = [
            tree.join("boot").join(format!("vmlinuz-{release}")),
            modules.join("vmlinuz"),
        ];
        let device_trees = [
            tree.join("usr/lib").join(format!("linux-image-{release}")),
            modules.join("dtb"),
        ];
        let [first, _] = &image;
        let missing = format!("find the kernel, {} or another,", first.display());
        Ok(Self {
            key: key.to_owned(),
            image: image
                .into_iter()
                .find(|path| path.is_file())
                .context(missing)?,
            device_trees: device_trees.into_iter().find(|path| path.is_dir()),
            release,
            modules,
        })
    }

    /// From what was fetched.
    ///
    /// # Errors
    /// There is no kernel among it.
    pub(crate) fn packaged(fetched: &Fetched) -> Result<Self> {
        let tree = fetched.tree("linux-image-")?;
        // Named by what it was unpacked from.
        let key = tree.file_name().unwrap_or_default().to_string_lossy();
        Self::from_package(&tree, &key)
    }

    /// From a folder with `Image` or `vmlinuz`, `lib/modules/<release>` and, for the Pi, `dtbs`.
    ///
    /// # Errors
    /// What the folder lacks.
    pub(crate) fn from_folder(folder: &Path) -> Result<Self> {
        // The modules' index is made from links, which would lead elsewhere if they were relative.
        let folder =
            &std::path::absolute(folder).with_context(|| format!("find {}", folder.display()))?;
        let image = ["Image", "vmlinuz", "Image.gz", "bzImage"]
            .into_iter()
            .map(|name| folder.join(name))
            .find(|path| path.is_file())
            .with_context(|| format!("find `Image` or `vmlinuz` in {}", folder.display()))?;
        let (release, modules) = release(folder)?;
        let device_trees = folder.join("dtbs");
        Ok(Self {
            key: folder_key(&image, &modules)?,
            release,
            modules,
            image,
            device_trees: device_trees.is_dir().then_some(device_trees),
        })
    }

    /// The kernel in gzip, which the Pi's firmware unpacks: a third of the bytes to read from the card.
    ///
    /// # Errors
    /// It cannot be read or packed, or is not for arm64.
    pub(crate) fn packed(&self, cache: &Cache) -> Result<PathBuf> {
        let bytes = self.read()?;
        if bytes.starts_with(GZIP_MARK) {
            return Ok(self.image.clone());
        }
        if let Some(payload) = efi_payload(&bytes)? {
            return cache.filtered(payload, "cat", &[]);
        }
        let (at, mark) = ARM64_MARK;
        if bytes.get(at..at + mark.len()) != Some(mark) {
            bail!("{} is not a kernel for arm64", self.image.display());
        }
        cache.filtered(&bytes, "gzip", &["-9n"])
    }

    /// The kernel as UEFI starts it: a program of its own, not packed from outside.
    ///
    /// # Errors
    /// It cannot be read or unpacked, or UEFI could not start it.
    pub(crate) fn efi_program(&self, cache: &Cache) -> Result<PathBuf> {
        let path = if self.read()?.starts_with(GZIP_MARK) {
            cache.filtered(&self.read()?, "gzip", &["-d"])?
        } else {
            self.image.clone()
        };
        if !fs::read(&path)
            .with_context(|| format!("read {}", path.display()))?
            .starts_with(b"MZ")
        {
            bail!(
                "{} was built without CONFIG_EFI_STUB: UEFI cannot start it",
                self.image.display()
            );
        }
        Ok(path)
    }

    /// Those of `names` that the kernel brings a device tree for, by file name.
    ///
    /// # Errors
    /// It brings none at all.
    pub(crate) fn device_trees(&self, names: &[&str]) -> Result<Vec<(String, PathBuf)>> {
        let found: Vec<(String, PathBuf)> = self
            .device_trees
            .iter()
            .flat_map(|folder| names.iter().map(move |name| (folder, name)))
            .filter_map(|(folder, name)| {
                [folder.join("broadcom").join(name), folder.join(name)]
                    .into_iter()
                    .find(|path| path.is_file())
                    .map(|path| ((*name).to_owned(), path))
            })
            .collect();
        if found.is_empty() {
            bail!(
                "kernel {} brings no device tree of a Raspberry Pi (looked for {})",
                self.release,
                names.join(", ")
            );
        }
        Ok(found)
    }

    fn read(&self) -> Result<Vec<u8>> {
        fs::read(&self.image).with_context(|| format!("read kernel {}", self.image.display()))
    }
}

/// The gzip stream inside a kernel that unpacks itself under UEFI (include/linux/efi.h: zboot), if it is one.
fn efi_payload(bytes: &[u8]) -> Result<Option<&[u8]>> {
    if bytes.get(4..8) != Some(b"zimg") {
        return Ok(None);
    }
    let number = |at: usize| {
        let field: Option<[u8; 4]> = bytes
            .get(at..at + 4)
            .and_then(|field| field.try_into().ok());
        field.map(|field| u32::from_le_bytes(field) as usize)
    };
    let payload = number(8)
        .zip(number(12))
        .and_then(|(start, length)| bytes.get(start..start.checked_add(length)?))
        .context("find the payload of the kernel")?;
    if !payload.starts_with(GZIP_MARK) {
        bail!(
            "the kernel is packed in a way that the Pi's firmware cannot unpack; give an `Image` or `Image.gz`"
        );
    }
    Ok(Some(payload))
}

/// The one release below `lib/modules`.
fn release(tree: &Path) -> Result<(String, PathBuf)> {
    let folder = MODULES
        .iter()
        .map(|name| tree.join(name))
        .find(|path| path.is_dir())
        .with_context(|| format!("find lib/modules in {}", tree.display()))?;
    let mut releases: Vec<PathBuf> = fs::read_dir(&folder)
        .with_context(|| format!("list {}", folder.display()))?
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.is_dir())
        .collect();
    releases.sort();
    let [modules] = &releases[..] else {
        bail!(
            "{} must hold the modules of one kernel, and holds those of {}",
            folder.display(),
            releases.len()
        );
    };
    let release = modules
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    Ok((release, modules.clone()))
}

/// Changes with the kernel, and with any module that is another one by path, size or time.
fn folder_key(image: &Path, modules: &Path) -> Result<String> {
    let image = fs::File::open(image)
        .and_then(digest::of_reader)
        .with_context(|| format!("read {}", image.display()))?;
    let mut lines = vec![image];
    let mut waiting = vec![modules.to_owned()];
    while let Some(folder) = waiting.pop() {
        for entry in fs::read_dir(&folder)
            .with_context(|| format!("list {}", folder.display()))?
            .flatten()
        {
            let metadata = entry
                .metadata()
                .with_context(|| format!("look at {}", entry.path().display()))?;
            if metadata.is_dir() {
                waiting.push(entry.path());
            } else {
                lines.push(format!(
                    "{} {} {:?}",
                    entry.path().display(),
                    metadata.len(),
                    metadata.modified().ok()
                ));
            }
        }
    }
    lines.sort();
    Ok(digest::of_bytes(lines.join("\n").as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_is_named_from_here_is_found_from_anywhere() {
        let base = std::env::temp_dir().join(format!("xtask-kernel-{}", std::process::id()));
        let _ = fs::remove_dir_all(&base);
        fs::create_dir_all(base.join("lib/modules/6.1")).unwrap();
        let bytes = b"kernel";
        let (image, volatile) = (
            base.join("Image"),
            gokrazy_core::atomic::Durability::Volatile,
        );
        gokrazy_core::atomic::replace(&image, bytes, 0o644, volatile).unwrap();
        let here = std::env::current_dir().unwrap();
        let up: PathBuf = here.components().skip(1).map(|_| "..").collect();
        let relative = up.join(base.strip_prefix("/").unwrap());
        let kernel = Kernel::from_folder(&relative).unwrap();
        assert!(kernel.modules.is_absolute() && kernel.modules.is_dir());
        assert!(kernel.image.is_absolute());
        fs::remove_dir_all(base).unwrap();
    }

    #[test]
    fn a_package_s_kernel_is_found_in_both_layouts() {
        let base = std::env::temp_dir().join(format!("xtask-layout-{}", std::process::id()));
        let check = |files: [&str; 3], image: &str, trees: &str| {
            let _ = fs::remove_dir_all(&base);
            for file in files {
                let path = base.join(file);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                let volatile = gokrazy_core::atomic::Durability::Volatile;
                gokrazy_core::atomic::replace(&path, b"x", 0o644, volatile).unwrap();
            }
            let kernel = Kernel::from_package(&base, "key").unwrap();
            assert_eq!(
                (&*kernel.release, &kernel.image),
                ("7.3", &base.join(image))
            );
            assert_eq!(kernel.device_trees, Some(base.join(trees)));
        };
        check(
            [
                "boot/vmlinuz-7.3",
                "lib/modules/7.3/modules.order",
                "usr/lib/linux-image-7.3/broadcom/x.dtb",
            ],
            "boot/vmlinuz-7.3",
            "usr/lib/linux-image-7.3",
        );
        check(
            [
                "usr/lib/modules/7.3/vmlinuz",
                "usr/lib/modules/7.3/modules.order",
                "usr/lib/modules/7.3/dtb/broadcom/x.dtb",
            ],
            "usr/lib/modules/7.3/vmlinuz",
            "usr/lib/modules/7.3/dtb",
        );
        fs::remove_file(base.join("usr/lib/modules/7.3/vmlinuz")).unwrap();
        assert!(Kernel::from_package(&base, "key").is_err());
        fs::remove_dir_all(base).unwrap();
    }

    #[test]
    fn a_self_unpacking_kernel_gives_its_payload() {
        let mut bytes = b"MZ\0\0zimg".to_vec();
        bytes.extend(16_u32.to_le_bytes());
        bytes.extend(3_u32.to_le_bytes());
        bytes.extend([0x1f, 0x8b, 8, 0]);
        assert_eq!(efi_payload(&bytes).unwrap(), Some(&[0x1f, 0x8b, 8][..]));
        assert_eq!(efi_payload(b"MZ\0\0").unwrap(), None);
        assert!(efi_payload(&bytes[..18]).is_err());
        bytes[16] = 0x28;
        assert!(efi_payload(&bytes).is_err());
    }
}
