//! The way from sources to image, step by step.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use gokrazy_core::slots::SlotName;

use super::cache::Cache;
use super::fat::BootFile;
use super::gpt::{self, Mbr};
use super::kernel::Kernel;
use super::modules::{self, Signatures};
use super::root::{self, Ingredients};
use super::tree::{Content, Tree};
use super::{Arguments, Board, Built, Loaded, Sizes, boot, catalogue, fat, password, write};
use crate::packages::{self, Fetched};
use crate::progress::Progress;
use crate::setup::{self, Purpose};
use crate::workspace::Workspace;
use crate::{build, digest, process};

/// How the root is packed: lz4 takes a third more room than zstd, and a sixth of the instructions to unpack, for which a
/// small board waits when it starts.
pub(crate) const ROOT_PACKING: [&str; 5] = ["-comp", "lz4", "-Xhc", "-b", "128K"];
/// Digits of a build id.
const BUILD_ID_DIGITS: usize = 16;
/// A new image's slot.
const SLOT: SlotName = SlotName::A;

/// Makes the image that `arguments` ask for.
///
/// # Errors
/// The step that failed.
pub(crate) fn image(
    workspace: &Workspace,
    arguments: &Arguments,
    progress: &Progress,
) -> Result<Built> {
    let loaded = super::load_config(workspace, arguments.config.as_deref())?;
    let board = arguments.board.or(loaded.config.board).unwrap_or(Board::Pi);
    let output = output_path(workspace, board, arguments.output.as_deref())?;
    write::check(&output)?;
    let folder = arguments.kernel.as_deref();
    let own_kernel = folder.map(Kernel::from_folder).transpose()?;
    let password = password::find(workspace, &loaded)?;
    setup::ensure(workspace, Purpose::Image)?;
    let fetched = packages::ensure(workspace, board, false)?;
    let kernel = match own_kernel {
        Some(kernel) => kernel,
        None => Kernel::packaged(&fetched)?,
    };
    let programs = progress.step("programs", || {
        let built = build::programs(
            workspace,
            board.architecture(),
            &loaded.config,
            &loaded.folder,
        )?;
        let size = built.iter().map(|program| program.size).sum();
        Ok((built, size))
    })?;
    let builder = Builder {
        cache: Cache::of(workspace, board)?,
        time: workspace.source_date()?,
        board,
        loaded: &loaded,
        fetched: &fetched,
        kernel: &kernel,
        programs: &programs,
        progress,
    };
    let hash = password.hash(loaded.config.hostname.get_ref())?;
    let (build_id, sizes) = builder.image(&hash, &output)?;
    Ok(Built {
        path: output,
        build_id,
        password: password.text,
        password_file: password.path,
        hostname: loaded.config.hostname.get_ref().clone(),
        sizes,
    })
}

/// Absolute, and with the default's folder made.
fn output_path(workspace: &Workspace, board: Board, output: Option<&Path>) -> Result<PathBuf> {
    if let Some(path) = output {
        return std::path::absolute(path).with_context(|| format!("find {}", path.display()));
    }
    let folder = workspace.target().join("image");
    fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
    Ok(folder.join(format!("gokrazy-{}.img", board.word())))
}

struct Builder<'build> {
    cache: Cache,
    time: u64,
    board: Board,
    loaded: &'build Loaded,
    fetched: &'build Fetched,
    kernel: &'build Kernel,
    programs: &'build [build::Built],
    progress: &'build Progress,
}

/// What [`write::image`] needs, and what is told of it.
struct Made {
    boot: PathBuf,
    boot_size: u64,
    root: PathBuf,
    build_id: String,
}

/// Modules as files of a tree, with the list of those to load at start.
struct Chosen {
    files: Vec<(String, PathBuf)>,
    load_order: String,
}

impl Builder<'_> {
    /// Makes all parts and puts them together in `output`.
    fn image(&self, password_hash: &str, output: &Path) -> Result<(String, Sizes)> {
        let made = self.parts(password_hash)?;
        let parts = write::Parts {
            hostname: self.loaded.config.hostname.get_ref(),
            mbr: match self.board {
                Board::Pi => Mbr::Hybrid,
                Board::UefiArm64 | Board::UefiAmd64 => Mbr::Protective,
            },
            boot: &made.boot,
            root: &made.root,
            // Where what an interrupted run left is swept away one day.
            scratch: self.cache.path(),
            time: self.time,
        };
        let size = self.progress.step("image", || {
            write::image(&parts, output, self.progress).map(|size| (size, size))
        })?;
        self.cache.sweep();
        let sizes = Sizes {
            image: size,
            programs: build::system_size(self.programs),
            root: size_of(&made.root)?,
            boot: made.boot_size,
        };
        Ok((made.build_id, sizes))
    }

    fn parts(&self, password_hash: &str) -> Result<Made> {
        let (storage, rest) = self.progress.step("kernel modules", || {
            let (storage, rest) = self.modules()?;
            let size = rest
                .files
                .iter()
                .filter_map(|(_, path)| path.metadata().ok())
                .map(|file| file.len())
                .sum();
            Ok(((storage, rest), size))
        })?;
        let initramfs = self.progress.step("initramfs", || {
            let tree = root::initramfs(
                self.programs,
                &self.kernel.release,
                &storage.files,
                storage.load_order,
            )?;
            let time = u32::try_from(self.time).context("use a time after 2106")?;
            let path =
                self.cache
                    .filtered(&tree.to_cpio(time)?, "zstd", &["-19", "-T1", "-c", "-q"])?;
            let size = size_of(&path)?;
            Ok((path, size))
        })?;
        let files = self.progress.step("boot partition's files", || {
            let files = self.boot_files(initramfs)?;
            let size = content_size(&files)?;
            Ok((files, size))
        })?;
        let mut tree = self.root_tree(rest, password_hash)?;
        let build_id = build_id(&tree, &files)?;
        root::add_build_id(&mut tree, &build_id)?;
        let root = self.progress.step("root", || {
            let path = self.squash(&tree)?;
            let size = size_of(&path)?;
            Ok((path, size))
        })?;
        Ok(Made {
            boot: fat::partition(
                &self.cache,
                &files,
                &["A", "B"],
                volume_id(&build_id),
                self.time,
            )?,
            boot_size: content_size(&files)?,
            root,
            build_id,
        })
    }

    fn root_tree(&self, rest: Chosen, password_hash: &str) -> Result<Tree> {
        root::plan(&Ingredients {
            config: &self.loaded.config,
            folder: &self.loaded.folder,
            programs: self.programs,
            modules: (&self.kernel.release, rest.files),
            load_order: rest.load_order,
            password_hash: password_hash.to_owned(),
            certificates: self.fetched.tree("ca-certificates_")?,
            zones: self.fetched.tree("tzdata_")?,
            services: self.loaded.services.clone(),
            shell: self
                .loaded
                .config
                .emergency_shell
                .then(|| self.fetched.tree("busybox-static_"))
                .transpose()?,
        })
    }

    fn modules(&self) -> Result<(Chosen, Chosen)> {
        let (source, release) = (&self.kernel.modules, &self.kernel.release);
        let index = modules::index(&self.cache, source, release, &self.kernel.key)?;
        let config = &self.loaded.config;
        let further = config.modules.iter().map(|name| name.get_ref().as_str());
        let further: Vec<&str> = further.collect();
        if let Some(name) = index.unknown(&further) {
            bail!(
                "{}: `modules` names {name}, and kernel {release} has no such module",
                self.loaded.path.display()
            );
        }
        let signatures = Signatures::kept_if(config.module_signatures);
        let choose = |names: &[&str], load: &[&str]| -> Result<Chosen> {
            let paths = index.closure(names);
            let folder = modules::unpacked(&self.cache, self.kernel, &paths, signatures)?;
            Ok(Chosen {
                files: modules::files(&folder)?,
                load_order: index.list(load),
            })
        };
        let storage = catalogue::initramfs(self.board);
        let root = [catalogue::root(self.board.architecture()), further.clone()].concat();
        let load = [catalogue::fixed(), further].concat();
        Ok((choose(&storage, &storage)?, choose(&root, &load)?))
    }

    fn boot_files(&self, initramfs: PathBuf) -> Result<Vec<BootFile>> {
        let config = &self.loaded.config;
        let root_id = gpt::root_id(config.hostname.get_ref(), SLOT).to_string();
        let further: Vec<&str> = config
            .kernel_args
            .iter()
            .map(|word| word.get_ref().as_str())
            .collect();
        let serial = config
            .serial_console
            .as_ref()
            .map(|word| word.get_ref().as_str());
        let command_line = boot::command_line(self.board, SLOT, &root_id, serial, &further);
        let is_pi = self.board == Board::Pi;
        let kernel_files = boot::KernelFiles {
            kernel: if is_pi {
                self.kernel.packed(&self.cache)?
            } else {
                self.kernel.efi_program(&self.cache)?
            },
            initramfs,
            device_trees: if is_pi {
                self.kernel.device_trees(&boot::DEVICE_TREES)?
            } else {
                Vec::new()
            },
            command_line,
        };
        let mut files = if is_pi {
            self.firmware()?
        } else {
            self.loader(&kernel_files.command_line)?
        };
        files.extend(boot::kernel_folder(SLOT, &kernel_files));
        Ok(files)
    }

    fn firmware(&self) -> Result<Vec<BootFile>> {
        let package = self.fetched.tree("raspi-firmware_")?;
        let mut files = vec![
            BootFile {
                path: "config.txt".to_owned(),
                content: Content::from(boot::config_txt(SLOT)),
            },
            BootFile {
                path: "LICENCE.firmware".to_owned(),
                content: Content::File(package.join("usr/share/doc/raspi-firmware/copyright")),
            },
        ];
        files.extend(boot::FIRMWARE.map(|name| BootFile {
            path: name.to_owned(),
            content: Content::File(package.join("usr/lib/raspi-firmware").join(name)),
        }));
        Ok(files)
    }

    fn loader(&self, command_line: &str) -> Result<Vec<BootFile>> {
        let architecture = self.board.architecture();
        let folder = self
            .fetched
            .tree("systemd-boot-efi_")?
            .join("usr/lib/systemd/boot/efi");
        // Debian signs the loader's name into it: `systemd-bootaa64.efi`, `systemd-bootx64.efi`.
        let program = ["systemd-bootaa64.efi", "systemd-bootx64.efi"]
            .into_iter()
            .map(|name| folder.join(name))
            .find(|path| path.exists())
            .with_context(|| format!("find systemd-boot in {}", folder.display()))?;
        Ok(boot::uefi(architecture, program, SLOT, command_line))
    }

    /// The root as squashfs, made from a tar archive so that owners need not exist here, nor rights be had.
    fn squash(&self, tree: &Tree) -> Result<PathBuf> {
        let packing = ROOT_PACKING.concat();
        let key = format!("root{packing}-{}-{}", self.time, tree.digest()?);
        self.cache.thing(&key, |half| {
            let mut command = Command::new("mksquashfs");
            let time = self.time.to_string();
            command
                .arg("-")
                .arg(half)
                .arg("-tar")
                .args(ROOT_PACKING)
                .args([
                    "-no-xattrs",
                    "-quiet",
                    "-no-progress",
                    "-mkfs-time",
                    &time,
                    "-all-time",
                    &time,
                ])
                .args(["-root-uid", "0", "-root-gid", "0", "-root-mode", "0755"])
                .stdin(Stdio::piped())
                .stdout(Stdio::null())
                .env_remove("SOURCE_DATE_EPOCH");
            let line = process::line_of(&command);
            let mut child = command.spawn().with_context(|| format!("start {line}"))?;
            let input = child.stdin.take().context("write to mksquashfs")?;
            let fed = tree.write_tar(input, self.time);
            let status = wait(&mut child).with_context(|| format!("wait for {line}"))?;
            if !status.success() {
                bail!("{line} ended with {status}");
            }
            fed
        })
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "a build tool has no reaper that this would race with"
)]
fn wait(child: &mut std::process::Child) -> std::io::Result<std::process::ExitStatus> {
    child.wait()
}

/// Equal contents have equal ids.
fn build_id(tree: &Tree, files: &[BootFile]) -> Result<String> {
    let mut id = digest::of_bytes(format!("{} {}", tree.digest()?, fat::digest(files)?).as_bytes());
    id.truncate(BUILD_ID_DIGITS);
    Ok(id)
}

/// A file system's serial number, which tells cards apart in file managers.
fn volume_id(build_id: &str) -> u32 {
    build_id
        .get(..8)
        .and_then(|digits| u32::from_str_radix(digits, 16).ok())
        .unwrap_or(1)
}

fn content_size(files: &[BootFile]) -> Result<u64> {
    files.iter().map(|file| file.content.size()).sum()
}

fn size_of(path: &Path) -> Result<u64> {
    Ok(path
        .metadata()
        .with_context(|| format!("look at {}", path.display()))?
        .len())
}
