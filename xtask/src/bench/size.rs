//! Bytes: of the system's programs (arm64, stripped), of the root with and without modules, of the boot partition.
//!
//! The root without modules is the image's own root, unpacked and packed again in the same way without them.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use gokrazy_core::layout::{ROOT_A, SECTOR_BYTES};

use super::table::{Table, Unit};
use crate::build;
use crate::image::{self, Board, ROOT_PACKING};
use crate::process;
use crate::workspace::Workspace;

const MIB: f64 = 1024.0 * 1024.0;

/// Programs with a budget of their own.
const PROGRAMS: [(&str, f64); 2] = [("ntp", MIB), ("randomd", 600.0 * 1024.0)];

/// What gokrazy's boot partition holds, less what it needs for itself: more would not fit a device that ran gokrazy.
const GOKRAZY_BOOT: f64 = 95.0 * MIB;

pub(super) fn measure(workspace: &Workspace, table: &mut Table) -> Result<()> {
    let arguments = image::Arguments {
        config: None,
        board: Some(Board::Pi),
        kernel: None,
        output: None,
    };
    let image = image::build(workspace, &arguments)?;
    let sizes = image.sizes;
    let loaded = image::load_config(workspace, None)?;
    let programs = build::programs(
        workspace,
        Board::Pi.architecture(),
        &loaded.config,
        &loaded.folder,
    )?;
    for program in &programs {
        let (what, size) = (format!("size: {}", program.name), program.size as f64);
        match PROGRAMS.iter().find(|(name, _)| *name == program.name) {
            Some((_, budget)) => table.add(what, size, *budget, Unit::Bytes),
            None => table.note(what, size, Unit::Bytes),
        }
    }
    table.add(
        "size: the system's programs (arm64)",
        sizes.programs as f64,
        6.0 * MIB,
        Unit::Bytes,
    );
    table.add(
        "size: root with default modules",
        sizes.root as f64,
        24.0 * MIB,
        Unit::Bytes,
    );
    let bare = bare_root(&image.path, &workspace.target().join("bench"))?;
    table.add(
        "size: root without modules",
        bare as f64,
        4.0 * MIB,
        Unit::Bytes,
    );
    table.add(
        "size: boot partition's files",
        sizes.boot as f64,
        64.0 * MIB,
        Unit::Bytes,
    );
    table.add(
        "size: the same, to fit gokrazy's partition",
        sizes.boot as f64,
        GOKRAZY_BOOT,
        Unit::Bytes,
    );
    Ok(())
}

/// Length of the image's root packed again without kernel modules.
fn bare_root(image: &Path, folder: &Path) -> Result<u64> {
    let (tree, packed) = (folder.join("root"), folder.join("bare.squashfs"));
    if folder.exists() {
        fs::remove_dir_all(folder).with_context(|| format!("clear {}", folder.display()))?;
    }
    fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
    let offset = (ROOT_A.first_lba * SECTOR_BYTES).to_string();
    // -ignore-errors: without root, device nodes and owners cannot be made, and their bytes do not count.
    let mut unpack = Command::new("unsquashfs");
    unpack.args([
        "-quiet",
        "-no-progress",
        "-ignore-errors",
        "-no-exit-code",
        "-offset",
        &offset,
        "-dest",
    ]);
    process::capture(unpack.arg(&tree).arg(image))?;
    let mut pack = Command::new("mksquashfs");
    pack.arg(&tree).arg(&packed).args(ROOT_PACKING);
    pack.args([
        "-no-xattrs",
        "-quiet",
        "-no-progress",
        "-noappend",
        "-e",
        "lib/modules",
        "usr/lib/modules",
    ]);
    process::capture(&mut pack)?;
    let length = fs::metadata(&packed).with_context(|| format!("look at {}", packed.display()))?;
    Ok(length.len())
}
