//! A machine on which one program is everything: it starts a daemon beside itself, and judges it and the kernel.
//!
//! No image boots here: the program is an example of the daemon's package, in an initramfs beside the daemon.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use gokrazy_core::atomic::{Durability, replace};

use crate::image::tree::Tree;
use crate::image::{self, Board};
use crate::process;
use crate::setup;
use crate::toolchain::Architecture;
use crate::workspace::Workspace;

const BOARD: Board = Board::UefiArm64;
const ARCHITECTURE: Architecture = Architecture::Arm64;

/// No device but what the machine itself brings.
const ALWAYS: &str = "-nic none -display none -monitor none -serial stdio -no-reboot";

/// QEMU ends with the guest, and so, after a while, without it.
const LIMIT_SECONDS: &str = "180";

/// Who is judged by whom, and where.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bare {
    /// What the judge's lines begin with; the last of them is its verdict.
    pub(super) name: &'static str,
    /// The daemon's package.
    pub(super) package: &'static str,
    /// Its binary, which lies in `/`.
    pub(super) daemon: &'static str,
    /// The example that is the first process.
    pub(super) judge: &'static str,
    /// Kernel modules that it can load; they lie where they do on every system.
    pub(super) modules: &'static [&'static str],
    /// QEMU's options for the machine.
    pub(super) machine: &'static str,
}

/// Builds, boots and reads the verdict.
///
/// # Errors
/// What the first process, the builder or QEMU said.
pub(super) fn play(workspace: &Workspace, bare: &Bare) -> Result<()> {
    let folder = workspace
        .target()
        .join("vm")
        .join(bare.name.replace(' ', "-"));
    fs::create_dir_all(&folder).with_context(|| format!("make folder {}", folder.display()))?;
    let initramfs = folder.join("initramfs");
    let archive = first_process(workspace, bare)?.to_cpio(0)?;
    replace(&initramfs, &archive, 0o644, Durability::Volatile)?;

    let mut command = Command::new("timeout");
    command.args([LIMIT_SECONDS, "qemu-system-aarch64"]);
    command.args(bare.machine.split_whitespace().chain(ALWAYS.split(' ')));
    command.arg("-kernel").arg(kernel(workspace)?);
    command.arg("-initrd").arg(&initramfs);
    command.args(["-append", "console=ttyAMA0 panic=-1"]);
    let output = process::capture(&mut command)?;
    let console = String::from_utf8_lossy(&output.stdout);
    replace(
        &folder.join("console.log"),
        &output.stdout,
        0o644,
        Durability::Volatile,
    )?;
    judge(bare.name, &console)
}

/// Whether the last line of the first process says that all passed.
fn judge(name: &str, console: &str) -> Result<()> {
    let start = format!("{name}: ");
    let verdict = console.lines().rfind(|line| line.contains(&start));
    ensure!(
        verdict.is_some_and(|line| line.trim_end().ends_with(&format!("{start}passed"))),
        "{}",
        verdict.unwrap_or("the first process said nothing")
    );
    Ok(())
}

fn first_process(workspace: &Workspace, bare: &Bare) -> Result<Tree> {
    let toolchain = setup::ensure_toolchain(workspace, ARCHITECTURE)?;
    let mut command = toolchain.cargo_build(workspace, ARCHITECTURE)?;
    command.args(["--package", bare.package]);
    command.args(["--bin", bare.daemon, "--example", bare.judge]);
    process::show(&mut command)?;
    let output = toolchain.output_folder(workspace, ARCHITECTURE);
    let mut tree = Tree::default();
    let judge = output.join("examples").join(bare.judge);
    tree.file("init", judge.as_path(), 0o755, 0)?;
    let daemon = output.join(bare.daemon);
    tree.file(bare.daemon, daemon.as_path(), 0o755, 0)?;
    if !bare.modules.is_empty() {
        image::add_modules(workspace, BOARD, bare.modules, &mut tree)?;
    }
    Ok(tree)
}

fn kernel(workspace: &Workspace) -> Result<PathBuf> {
    image::packaged_kernel(workspace, BOARD)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_last_word_counts() {
        assert!(judge("cold pool", "[1] x\r\ncold pool: passed\r\n[2] off\r\n").is_ok());
        for console in [
            "",
            "cold pool: passed\ncold pool: FAILED: x\n",
            "pool: passed\n",
        ] {
            assert!(judge("cold pool", console).is_err(), "{console}");
        }
    }
}
