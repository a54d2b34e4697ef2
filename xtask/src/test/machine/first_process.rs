//! What a program does that is the first process of a machine, whatever it tries there.
//!
//! The examples that `bare.rs` packs include this file by its path; it belongs to no crate.

use std::fs;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result};
use nix::mount::{MsFlags, mount};
use nix::sys::reboot::{RebootMode, reboot};

/// Mounts the kernel's own file systems, plays, tells the verdict in the words that `bare.rs` looks for, and switches
/// the machine off.
pub(crate) fn play(name: &str, play: impl FnOnce() -> Result<()>) -> ExitCode {
    match mount_kernels().and_then(|()| play()) {
        Ok(()) => println!("{name}: passed"),
        Err(error) => println!("{name}: FAILED: {error:#}"),
    }
    // The first process must not end: the kernel would panic. Elsewhere this is refused.
    let _ = reboot(RebootMode::RB_POWER_OFF);
    ExitCode::FAILURE
}

fn mount_kernels() -> Result<()> {
    for (kind, folder) in [("proc", "proc"), ("sysfs", "sys"), ("devtmpfs", "dev")] {
        let target = Path::new("/").join(folder);
        fs::create_dir_all(&target).with_context(|| format!("make {}", target.display()))?;
        // Busy where the kernel has mounted it by itself.
        let _ = mount(
            Some(kind),
            &target,
            Some(kind),
            MsFlags::empty(),
            None::<&str>,
        );
    }
    Ok(())
}
