//! `cargo xtask image`: one file that can be flashed, or booted in an emulator.
//!
//! ```text
//! gokrazy.toml ─► config          packages / --kernel ─► kernel, modules     build ─► programs
//!                    │                        │                                   │
//!                    ▼                        ▼                                   ▼
//!              root (tree) ─► squashfs    initramfs (tree) ─► cpio, zstd     boot (plan) ─► fat
//!                    └──────────────┬─────────┴───────────────────────────────────┘
//!                                 write: gpt, slot table, partitions, ext4 for /perm
//! ```
//!
//! Invariants: the same inputs give the same bytes (no clock, no path, no order of a folder's listing gets in); what
//! is put together is planned as data first; the output is replaced whole or not at all.

mod additions;
mod boot;
mod cache;
mod catalogue;
pub(crate) mod config;
mod fat;
mod gpt;
mod kernel;
mod make;
mod modules;
mod password;
mod root;
mod services;
pub(crate) mod tree;
mod write;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use serde::Deserialize;

pub(crate) use self::additions::{add_modules, kernel as packaged_kernel};
use self::config::Config;
pub(crate) use self::gpt::root_id;
pub(crate) use self::make::ROOT_PACKING;
use crate::out::say;
use crate::progress::{self, Progress};
use crate::toolchain::Architecture;
use crate::workspace::Workspace;

/// What `image` can be told.
#[derive(Debug, Clone, Args)]
pub(crate) struct Arguments {
    /// Configuration; without it `gokrazy.toml` of the workspace.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// The kind of machine; without it the one that the configuration names, else `pi`.
    #[arg(long, value_enum)]
    pub(crate) board: Option<Board>,
    /// A kernel of your own: folder with `Image` (or `vmlinuz`), `dtbs/` and `lib/modules/`.
    #[arg(long, value_name = "DIR")]
    pub(crate) kernel: Option<PathBuf>,
    /// Where the image goes; without it `target/image/gokrazy-<board>.img`.
    #[arg(long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
}

/// A kind of machine that images are made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, ValueEnum, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Board {
    /// Raspberry Pi Zero 2 W, 3, 3+, 4, 400, CM4 and 5.
    Pi,
    /// 64-bit ARM machines and virtual machines with UEFI.
    UefiArm64,
    /// 64-bit x86 machines and virtual machines with UEFI.
    UefiAmd64,
}

impl Board {
    /// All of them.
    pub(crate) const ALL: [Self; 3] = [Self::Pi, Self::UefiArm64, Self::UefiAmd64];

    /// The word on the command line.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Pi => "pi",
            Self::UefiArm64 => "uefi-arm64",
            Self::UefiAmd64 => "uefi-amd64",
        }
    }

    /// The processor.
    pub(crate) fn architecture(self) -> Architecture {
        match self {
            Self::Pi | Self::UefiArm64 => Architecture::Arm64,
            Self::UefiAmd64 => Architecture::Amd64,
        }
    }

    /// Debian packages beside the kernel.
    pub(crate) fn packages(self) -> &'static [&'static str] {
        match self {
            Self::Pi => &[
                "raspi-firmware",
                "ca-certificates",
                "tzdata",
                "busybox-static",
            ],
            Self::UefiArm64 | Self::UefiAmd64 => &[
                "systemd-boot-efi",
                "ca-certificates",
                "tzdata",
                "busybox-static",
            ],
        }
    }
}

/// A configuration and where it came from.
#[derive(Debug)]
pub(crate) struct Loaded {
    /// What it says.
    pub(crate) config: Config,
    /// Where its relative paths start.
    pub(crate) folder: PathBuf,
    /// The file.
    pub(crate) path: PathBuf,
    /// Text of `services.toml`.
    pub(crate) services: String,
}

/// Reads `path`, or `gokrazy.toml` of the workspace.
///
/// # Errors
/// The file cannot be read, or what is wrong in it, with its line.
pub(crate) fn load_config(workspace: &Workspace, path: Option<&Path>) -> Result<Loaded> {
    let path = path.map_or_else(|| workspace.root().join("gokrazy.toml"), Path::to_owned);
    // cargo runs in the workspace's folder and not in the caller's, where relative paths start.
    let path = std::path::absolute(&path).with_context(|| format!("find {}", path.display()))?;
    let text = std::fs::read_to_string(&path)
        .with_context(|| format!("read configuration {}", path.display()))?;
    let config = Config::parse(&path, &text)?;
    services::check(&path, &text, &config.executables())?;
    let folder = path.parent().unwrap_or(Path::new("")).to_owned();
    Ok(Loaded {
        config,
        folder,
        path,
        services: services::render(&text),
    })
}

/// An image that was made.
#[derive(Debug, Clone)]
pub(crate) struct Built {
    /// The file.
    pub(crate) path: PathBuf,
    /// Identifies its content.
    pub(crate) build_id: String,
    /// The web page's password, for who shows it to the user.
    pub(crate) password: String,
    /// Where the password lies.
    pub(crate) password_file: PathBuf,
    /// The device's name.
    pub(crate) hostname: String,
    /// Sizes of its parts.
    pub(crate) sizes: Sizes,
}

/// Bytes of an image's parts, which have budgets.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sizes {
    /// The image.
    pub(crate) image: u64,
    /// The system's programs together.
    pub(crate) programs: u64,
    /// The root's squashfs.
    pub(crate) root: u64,
    /// Files of the boot partition.
    pub(crate) boot: u64,
}

/// Makes the image and tells what to do with it.
///
/// # Errors
/// The step that failed; no half image is left behind.
pub(crate) fn run(workspace: &Workspace, arguments: &Arguments) -> Result<()> {
    let progress = Progress::start();
    let built = make::image(workspace, arguments, &progress)?;
    tell(&built, &progress);
    Ok(())
}

/// Makes the image.
///
/// # Errors
/// The step that failed; no half image is left behind.
pub(crate) fn build(workspace: &Workspace, arguments: &Arguments) -> Result<Built> {
    make::image(workspace, arguments, &Progress::start())
}

fn tell(built: &Built, progress: &Progress) {
    let path = built.path.display();
    say!("");
    say!("image     {path}");
    say!(
        "size      {}, made in {:.1} s",
        progress::human(built.sizes.image),
        progress.elapsed().as_secs_f64()
    );
    say!("build id  {}", built.build_id);
    say!(
        "page      http://{}/ as user gokrazy, password in {}",
        built.hostname,
        built.password_file.display()
    );
    if write::is_device(&built.path) {
        say!("next      put the card into the board and start it");
        return;
    }
    say!("next      `cargo xtask run` boots it here");
    say!(
        "          `cargo xtask image --output /dev/CARD` flashes it, as `dd if={path} of=/dev/CARD bs=4M conv=fsync` does"
    );
}
