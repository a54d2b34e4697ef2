//! A machine without any hardware generator, where the kernel's own cold pool judges randomd.
//!
//! No image boots here: the only process is `randomd/examples/cold_pool.rs`, in an initramfs beside the daemon.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use gokrazy_core::atomic::{Durability, replace};

use crate::image::Board;
use crate::image::tree::Tree;
use crate::packages;
use crate::process;
use crate::setup;
use crate::toolchain::Architecture;
use crate::workspace::Workspace;

const ARCHITECTURE: Architecture = Architecture::Arm64;

/// A machine whose device tree brings no seed, whose processor has no generator, and which has no device at all.
const MACHINE: &str = "-machine virt,dtb-randomness=off -cpu cortex-a53 -m 256M -nic none";
/// QEMU ends with the guest, and so, after a while, without it.
const LIMIT_SECONDS: &str = "180";

/// Before a load `getrandom(GRND_NONBLOCK)` would block; after a load without credit it still does; after one with
/// credit it does not.
///
/// # Errors
/// What the first process, the builder or QEMU said.
pub(super) fn check(workspace: &Workspace) -> Result<()> {
    let folder = workspace.target().join("vm/cold-pool");
    fs::create_dir_all(&folder).with_context(|| format!("make folder {}", folder.display()))?;
    let initramfs = folder.join("initramfs");
    let archive = first_process(workspace)?.to_cpio(0)?;
    replace(&initramfs, &archive, 0o644, Durability::Volatile)?;

    let mut command = Command::new("timeout");
    command.args([LIMIT_SECONDS, "qemu-system-aarch64"]);
    command.args(MACHINE.split(' '));
    command.args(["-display", "none", "-monitor", "none", "-serial", "stdio"]);
    command
        .arg("-no-reboot")
        .arg("-kernel")
        .arg(kernel(workspace)?);
    command.arg("-initrd").arg(&initramfs);
    command.args(["-append", "console=ttyAMA0 panic=-1"]);
    let output = process::capture(&mut command)?;
    let console = String::from_utf8_lossy(&output.stdout);
    let is_verdict = |line: &&str| line.contains("cold pool: ");
    let verdict = console.lines().rfind(is_verdict);
    ensure!(
        verdict.is_some_and(|line| line.trim_end().ends_with("cold pool: passed")),
        "{}",
        verdict.unwrap_or("the first process said nothing")
    );
    Ok(())
}

fn first_process(workspace: &Workspace) -> Result<Tree> {
    let toolchain = setup::ensure_toolchain(workspace, ARCHITECTURE)?;
    let mut command = toolchain.cargo_build(workspace, ARCHITECTURE)?;
    command.args(["--package", "gokrazy-randomd"]);
    command.args(["--bin", "randomd", "--example", "cold_pool"]);
    process::show(&mut command)?;
    let output = toolchain.output_folder(workspace, ARCHITECTURE);
    let mut tree = Tree::default();
    tree.file(
        "init",
        output.join("examples/cold_pool").as_path(),
        0o755,
        0,
    )?;
    tree.file("randomd", output.join("randomd").as_path(), 0o755, 0)?;
    Ok(tree)
}

fn kernel(workspace: &Workspace) -> Result<PathBuf> {
    let fetched = packages::ensure(workspace, Board::UefiArm64, false)?;
    let folder = fetched.tree("linux-image-")?.join("boot");
    let entries = fs::read_dir(&folder).with_context(|| format!("list {}", folder.display()))?;
    let is_kernel = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with("vmlinuz-")
    };
    let mut paths = entries.filter_map(|entry| entry.ok().map(|entry| entry.path()));
    paths
        .find(is_kernel)
        .with_context(|| format!("find vmlinuz-… in {}", folder.display()))
}
