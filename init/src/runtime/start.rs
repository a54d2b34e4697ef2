//! What is set up once, before the loop: signals, limits, the kernel log.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;

use gokrazy_core::control::End;
use gokrazy_core::paths;
use gokrazy_sys::process;
use nix::fcntl::OFlag;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::pipe2;

use super::options::Mode;

/// Open files enough for many thousand services.
const ENOUGH_FILES: u64 = 65_536;

/// Blocks what comes by the queue from now on; everything else keeps its default, which PID 1 ignores.
pub(super) fn take_signals() -> io::Result<SignalFd> {
    let mut set = SigSet::empty();
    for signal in [
        Signal::SIGCHLD,
        Signal::SIGTERM,
        Signal::SIGINT,
        Signal::SIGHUP,
        Signal::SIGUSR1,
        Signal::SIGUSR2,
        Signal::SIGPWR,
    ] {
        // Whoever started us may have ignored it: an ignored SIGCHLD would lose every exit status.
        process::reset_signal_action(signal as i32);
        set.add(signal);
    }
    set.thread_block()?;
    Ok(SignalFd::with_flags(
        &set,
        SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC,
    )?)
}

/// What services read: nothing. Where there is no `/dev`, as in a folder with our program alone, a pipe that nobody
/// writes to serves.
pub(super) fn nothing() -> io::Result<OwnedFd> {
    match File::open(paths::DEV_NULL) {
        Ok(null) => Ok(null.into()),
        Err(_) => Ok(pipe2(OFlag::O_CLOEXEC)?.0),
    }
}

/// What a signal asks for: as BusyBox's `reboot`, `halt` and `poweroff` say it to PID 1, and as gokrazy hears it; PWR
/// is what a battery's or a virtual machine's keeper sends, INT is Ctrl-Alt-Del.
pub(super) fn end_of(signal: Signal) -> End {
    match signal {
        Signal::SIGUSR1 => End::Halt,
        Signal::SIGUSR2 | Signal::SIGPWR => End::PowerOff,
        _ => End::Reboot,
    }
}

/// Descriptors that a service gets on a device: few enough for programs that count in sets of 1,024 (`select(2)`), and
/// as many as a server may ask for itself.
const OPEN_FILES: (u64, u64) = (1024, 524_288);

/// Two descriptors for each service add up; returns the limits that services get: on a device ours, elsewhere those
/// that whoever started us chose.
pub(super) fn raise_open_files(mode: Mode) -> Option<(u64, u64)> {
    let (_, most) = OPEN_FILES;
    if mode == Mode::Machine && setrlimit(Resource::RLIMIT_NOFILE, most, most).is_ok() {
        return Some(OPEN_FILES);
    }
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).ok()?;
    let enough = hard.max(ENOUGH_FILES);
    // Only root may raise the second limit, and not in every container.
    if setrlimit(Resource::RLIMIT_NOFILE, enough, enough).is_err() {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
    Some((soft, hard))
}

/// Init's real-time priority: the lowest but one.
const OURS: u32 = 2;

/// Real-time priority of a process on its way to its service's program, while it is a part of init: below init, which
/// takes it back and must get its turn for that.
const LENT: u32 = 1;

/// That init is served before others, and how they go on.
#[derive(Debug, Clone, Copy)]
pub struct Precedence {
    /// The nice value that services get back, if it is not what the kernel gives them.
    pub(super) nice: Option<i32>,
}

impl Precedence {
    /// Lets a child of ours come to its program as fast as we would.
    pub(super) fn lend(self, child: u32) {
        // A start that takes its turn among services comes later, and no more.
        let _ = process::give_real_time(child, LENT);
    }

    /// The child has become its program, which is served as others are.
    pub(super) fn take_back(self, child: u32) {
        // One that is gone by now has nothing to give back.
        let _ = process::take_real_time(child);
    }
}

/// Sees to it that init gets its turn on a machine whose services keep every processor busy: it has little to do, and
/// the hardware watchdog, every restart and every end of a fork bomb wait for it. A low real-time priority yields to all
/// that is really urgent.
pub(super) fn take_precedence() -> Option<Precedence> {
    // Whoever chose another policy for us, meant us to keep it.
    let nice = process::nice()?;
    // Not every container may.
    if !may_take_back() {
        return None;
    }
    process::give_real_time(0, OURS).ok()?;
    // The kernel starts children of a real-time process with none.
    let nice = Some(nice).filter(|nice| *nice != 0);
    Some(Precedence { nice })
}

/// Whether we have `CAP_SYS_NICE`, which taking back needs; who has but a limit (`RLIMIT_RTPRIO`) may give only.
///
/// With a limit of nothing, the kernel gives a real-time priority to who has the capability alone. It asks for that of
/// the machine, not of a user namespace, whose own says nothing.
fn may_take_back() -> bool {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_RTPRIO) else {
        return false;
    };
    if setrlimit(Resource::RLIMIT_RTPRIO, 0, hard).is_err() {
        return false;
    }
    let may = process::give_real_time(0, OURS).and_then(|()| process::take_real_time(0));
    // What was the limit before, may be it again.
    let _ = setrlimit(Resource::RLIMIT_RTPRIO, soft, hard);
    may.is_ok()
}

/// What init's environment says of init itself, or said to it of a run of its own: untrue of its services.
const NOT_FOR_SERVICES: [&str; 9] = [
    "NOTIFY_SOCKET",
    "WATCHDOG_USEC",
    "WATCHDOG_PID",
    "LISTEN_FDS",
    "LISTEN_PID",
    "LISTEN_FDNAMES",
    "MAINPID",
    "GOKRAZY_FIRST_START",
    super::panic::COUNT,
];

/// What services find of init's environment.
pub(super) fn environment() -> Vec<(OsString, OsString)> {
    let all = std::env::vars_os();
    all.filter(|(key, _)| NOT_FOR_SERVICES.iter().all(|other| key != other))
        .collect()
}

/// The kernel log is the machine's, not a container's.
pub(super) fn open_kernel_log(mode: Mode) -> Option<File> {
    let open = || {
        let mut options = File::options();
        options
            .read(true)
            .custom_flags(nix::libc::O_NONBLOCK)
            .open(paths::KMSG)
            .ok()
    };
    match mode {
        Mode::Machine => open(),
        Mode::Guest => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_signal_ends_the_run_in_its_way() {
        for (signal, want) in [
            (Signal::SIGTERM, End::Reboot),
            (Signal::SIGINT, End::Reboot),
            (Signal::SIGUSR1, End::Halt),
            (Signal::SIGUSR2, End::PowerOff),
            (Signal::SIGPWR, End::PowerOff),
        ] {
            assert_eq!(end_of(signal), want, "{signal}");
        }
    }
}
