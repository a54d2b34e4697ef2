//! The end of the machine's run, when no service is left: what has been written reaches the disk, then reboot(2).

use std::path::Path;
use std::thread;
use std::time::Duration;

use gokrazy_core::control::End;
use gokrazy_core::kmsg::{self, Priority};
use gokrazy_core::paths;
use nix::errno::Errno;
use nix::mount::{MntFlags, umount2};
use nix::sys::reboot::{RebootMode, reboot};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, sync};

/// So often unmounting is tried while processes that were killed are vanishing.
const TRIES: u32 = 20;

/// Pause between two tries.
const PAUSE: Duration = Duration::from_millis(50);

/// Kills what is left, writes everything to the disk, unmounts the data partition and ends the machine's run.
pub fn end(how: End) {
    // Everybody but us: helpers, and what services left outside their groups.
    let _ = kill(Pid::from_raw(-1), Signal::SIGKILL);
    sync();
    unmount(Path::new(paths::PERM));
    say(&format!("{}, now", how.as_str()));
    let mode = match how {
        End::Reboot => RebootMode::RB_AUTOBOOT,
        End::PowerOff => RebootMode::RB_POWER_OFF,
        End::Halt => RebootMode::RB_HALT_SYSTEM,
    };
    let Err(error) = reboot(mode);
    say(&format!("{}: {error}", how.as_str()));
}

fn unmount(target: &Path) {
    for _ in 0..TRIES {
        match umount2(target, MntFlags::empty()) {
            Ok(()) | Err(Errno::EINVAL) => return,
            Err(_) => thread::sleep(PAUSE),
        }
    }
    // Read-only is as good for the file system; what holds it open can do no more harm.
    let remounted = nix::mount::mount(
        None::<&str>,
        target,
        None::<&str>,
        nix::mount::MsFlags::MS_REMOUNT | nix::mount::MsFlags::MS_RDONLY,
        None::<&str>,
    );
    if let Err(error) = remounted {
        say(&format!("unmount {}: {error}", target.display()));
    }
}

fn say(text: &str) {
    kmsg::say(
        Path::new(paths::KMSG),
        Priority::Info,
        format_args!("{text}"),
    );
}
