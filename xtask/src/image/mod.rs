//! `cargo xtask image`: one file that can be flashed, or booted in an emulator.

use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::{Args, ValueEnum};

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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, ValueEnum)]
pub(crate) enum Board {
    /// Raspberry Pi Zero 2 W, 3, 3+, 4, 400, CM4 and 5.
    Pi,
    /// 64-bit ARM machines and virtual machines with UEFI.
    UefiArm64,
    /// 64-bit x86 machines and virtual machines with UEFI.
    UefiAmd64,
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
}

/// Makes the image and tells what to do with it.
///
/// # Errors
/// The step that failed; no half image is left behind.
pub(crate) fn run(workspace: &Workspace, arguments: &Arguments) -> Result<()> {
    build(workspace, arguments).map(drop)
}

/// Makes the image.
///
/// # Errors
/// The step that failed; no half image is left behind.
pub(crate) fn build(workspace: &Workspace, arguments: &Arguments) -> Result<Built> {
    bail!(
        "make {:?} in {}: not there yet",
        arguments.board,
        workspace.target().display()
    )
}
