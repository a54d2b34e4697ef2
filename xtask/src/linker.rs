//! The linker of rustup's way: `rust-lld`, told three things beyond what rustc tells it.
//!
//! - Relocations are packed (`DT_RELR`), which musl 1.2.4 and newer, the one that comes with the toolchain, unpacks.
//! - Unwind tables are left out: a panic aborts, and a stripped program's backtrace names nothing.
//! - Code lies by how long it is needed: first the standard library's and our own, then what reads flags, which is done
//!   at the start, and what makes backtraces, which never runs where a panic aborts.
//!   The kernel maps code by 64 KiB around what runs, so that what is strewn among the rest counts as memory in use.
//!
//! The first two are together a seventh of a small program.
//! A script in the linker's place tells it so, for paths among the compiler's flags would get into the programs' hashes
//! and make them differ from machine to machine.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use gokrazy_core::atomic::{Durability, replace};

/// Below the target folder. rustc tells the linker's kind by its name.
const FOLDER: &str = "setup/linker";
const PROGRAM: &str = "rust-lld";
const SECTIONS: &str = "layout.ld";

/// `INSERT` keeps the linker's own layout for everything else; functions are known by the crates in their names.
const LAYOUT: &str = "\
SECTIONS { /DISCARD/ : { *(.eh_frame) *(.eh_frame_hdr) } } INSERT AFTER .rodata;
SECTIONS {
  .text.own : {
    *(.text.*raw_vec* .text.*drop_in_place* .text.*alloc..vec*)
    *(.text.*gokrazy* .text.*dhcproto* .text.*3nix*)
  }
  .text.rare : {
    *(.text.*4idna* .text.*icu_* .text._Unwind_* .text.unw_* .text.*libunwind* .text.*miniz_oxide?*)
    *(.text.*5gimli?* .text.*addr2line?* .text.*rustc_demangle?*)
    *(.text.*clap*)
  }
} INSERT AFTER .text;
";

/// Makes the linker below `target`, and gives its path.
///
/// # Errors
/// The errno of writing it.
pub(crate) fn ensure(target: &Path) -> Result<PathBuf> {
    let folder = target.join(FOLDER);
    fs::create_dir_all(&folder).with_context(|| format!("make folder {}", folder.display()))?;
    let (program, sections) = (folder.join(PROGRAM), folder.join(SECTIONS));
    write_once(&sections, LAYOUT, 0o644)?;
    write_once(&program, &script(&sections), 0o755)?;
    Ok(program)
}

/// rustc puts the folder of the real one into `PATH` for the linker that it calls.
fn script(sections: &Path) -> String {
    let sections = sections.display().to_string().replace('\'', r"'\''");
    format!("#!/bin/sh\nexec rust-lld \"$@\" --pack-dyn-relocs=relr -T '{sections}'\n")
}

/// What stands there already stays, so that no program is linked anew for nothing.
fn write_once(path: &Path, text: &str, mode: u32) -> Result<()> {
    if fs::read_to_string(path).is_ok_and(|there| there == text) {
        return Ok(());
    }
    replace(path, text.as_bytes(), mode, Durability::Volatile)
        .with_context(|| format!("write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn the_linker_is_a_program_that_passes_its_arguments_on() {
        let folder = std::env::temp_dir().join(format!("xtask-linker's-{}", std::process::id()));
        let program = ensure(&folder).unwrap();
        let mode = fs::metadata(&program).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o755);
        // A stand-in for the real one, which prints what it is told.
        let real = folder.join("bin");
        fs::create_dir(&real).unwrap();
        let prints = "#!/bin/sh\nprintf '%s|' \"$@\"\n";
        write_once(&real.join("rust-lld"), prints, 0o755).unwrap();
        let output = std::process::Command::new(ensure(&folder).unwrap())
            .args(["-flavor", "a b"])
            .env("PATH", &real)
            .output()
            .unwrap();
        let sections = folder.join(FOLDER).join(SECTIONS);
        let want = format!(
            "-flavor|a b|--pack-dyn-relocs=relr|-T|{}|",
            sections.display()
        );
        assert_eq!(String::from_utf8_lossy(&output.stdout), want);
        fs::remove_dir_all(folder).unwrap();
    }
}
