//! The end of the machine's run, when no service is left: what has been written reaches the disk, then reboot(2).

use std::path::Path;
use std::sync::mpsc::{self, RecvTimeoutError};
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

use super::watchdog::Watchdog;
use crate::mount::points;

/// So often unmounting is tried while processes that were killed are vanishing.
const TRIES: u32 = 20;

/// Pause between two tries.
const PAUSE: Duration = Duration::from_millis(50);

/// How often the watchdog is fed while what has been written goes to the disk.
const FEEDING: Duration = Duration::from_secs(5);

/// So often it is fed: a slow card may take a minute for what it was given; one that takes longer has failed.
const FEEDINGS: usize = 12;

/// Kills what is left, writes everything to the disks, unmounts them and ends the machine's run.
///
/// The watchdog stays armed over a reboot: a driver or firmware that gets stuck on the way is what it is for.
/// A machine that shall stay down must not be brought back by it.
pub fn end(how: End, mut watchdog: Option<Watchdog>) {
    // Everybody but us: helpers, and what services left outside their groups.
    let _ = kill(Pid::from_raw(-1), Signal::SIGKILL);
    if write_out(watchdog.as_mut()) {
        let table = std::fs::read_to_string(paths::PROC_MOUNTINFO).unwrap_or_default();
        for target in disks(&table) {
            unmount(Path::new(&target));
        }
    } else {
        // Unmounting would wait for the same disk.
        say("a disk does not take what was written; going on without it");
    }
    say(&format!("{}, now", how.as_str()));
    let mode = match how {
        End::Reboot => RebootMode::RB_AUTOBOOT,
        End::PowerOff => RebootMode::RB_POWER_OFF,
        End::Halt => RebootMode::RB_HALT_SYSTEM,
    };
    // Held to the end: the machine is not to live on without it.
    let _armed = watchdog.and_then(|watchdog| settle(how, watchdog));
    let Err(error) = reboot(mode);
    say(&format!("{}: {error}", how.as_str()));
}

/// Where disks are mounted, the last one first; the root is read-only and stays.
fn disks(table: &str) -> Vec<String> {
    let mut targets: Vec<String> = points::parse(table)
        .filter(|point| point.source.starts_with(paths::DEV) && point.target != "/")
        .map(|point| point.target)
        .collect();
    targets.reverse();
    targets
}

fn settle(how: End, mut watchdog: Watchdog) -> Option<Watchdog> {
    match how {
        End::Reboot => {
            watchdog.feed_now();
            Some(watchdog)
        }
        End::PowerOff | End::Halt => {
            watchdog.stop();
            None
        }
    }
}

/// sync(2), in a thread of its own: a watchdog that bites while a card writes would tear what is being written, and a
/// disk or a server that is gone would hold up the end of a machine without a watchdog for ever. Returns whether all is
/// written.
fn write_out(watchdog: Option<&mut Watchdog>) -> bool {
    let (done, finished) = mpsc::channel();
    let started = thread::Builder::new().spawn(move || {
        sync();
        let _ = done.send(());
    });
    if started.is_err() {
        sync();
        return true;
    }
    let is_guarded = watchdog
        .as_ref()
        .is_some_and(|watchdog| watchdog.is_armed());
    let is_written = wait_for_disks(&finished, watchdog, FEEDING);
    // Where a watchdog is, it is not fed any more; until it bites, the disk has one more chance.
    is_written || is_guarded && finished.recv().is_ok()
}

/// Waits until all is written, or for so many times `pause`; returns whether it is.
fn wait_for_disks(
    finished: &mpsc::Receiver<()>,
    mut watchdog: Option<&mut Watchdog>,
    pause: Duration,
) -> bool {
    for _ in 0..FEEDINGS {
        if let Some(watchdog) = &mut watchdog {
            watchdog.feed_now();
        }
        if finished.recv_timeout(pause) != Err(RecvTimeoutError::Timeout) {
            return true;
        }
    }
    false
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_that_never_answers_is_not_awaited_for_ever() {
        let (done, finished) = mpsc::channel();
        assert!(!wait_for_disks(&finished, None, Duration::from_millis(1)));
        done.send(()).unwrap();
        assert!(wait_for_disks(&finished, None, Duration::from_secs(60)));
    }

    #[test]
    fn disks_are_unmounted_from_the_last_to_the_first() {
        let table = "20 1 254:2 / / ro - squashfs /dev/vda2 ro\n21 20 0:5 / /dev rw - devtmpfs devtmpfs rw\n\
                     22 20 254:4 / /perm rw - ext4 /dev/vda4 rw\n23 20 0:9 / /mnt/a ro - tmpfs gokrazy-guard ro\n\
                     24 23 8:1 / /mnt/a rw - vfat /dev/sda1 rw\n";
        assert_eq!(disks(table), ["/mnt/a", "/perm"]);
    }
}
