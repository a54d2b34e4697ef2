//! Making a child process, and ending it without the parent's clean-up.
//!
//! Signals to a whole group, waiting and `exec` are nix's.
#![expect(
    unsafe_code,
    reason = "clone3(2), _exit(2), sigaction(2) and `pre_exec` have no safe face"
)]

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

/// clone3(2): makes a child that runs `child` on its own copy of the memory, in the control group whose folder
/// `cgroup` is, and returns the child's process id.
///
/// Nothing is shared with the child, so the parent neither waits for it nor can be harmed by it.
/// `child` ends in `exec`; where it returns, the child process ends with the exit code that it returned.
///
/// Call it from a process of a single thread only: in the copy, a lock that another thread held stays held for ever.
///
/// # Errors
/// The errno of clone3(2): `EAGAIN` at a limit of processes, `ENOMEM`, and for `cgroup` those of writing
/// `cgroup.procs`.
pub fn spawn(cgroup: Option<BorrowedFd<'_>>, child: impl FnOnce() -> u8) -> io::Result<u32> {
    // SAFETY: an all-zero `clone_args` is the documented "nothing asked"; the structure outlives the call.
    let mut arguments: libc::clone_args = unsafe { std::mem::zeroed() };
    arguments.exit_signal = u64::from(libc::SIGCHLD.unsigned_abs());
    if let Some(cgroup) = cgroup {
        arguments.flags = CLONE_INTO_CGROUP;
        arguments.cgroup = u64::from(cgroup.as_raw_fd().unsigned_abs());
    }
    // SAFETY: without CLONE_VM the child gets its own copy of memory and stack, as with fork(2); the pointer and
    // the size describe `arguments`.
    let result = unsafe {
        libc::syscall(
            libc::SYS_clone3,
            &raw mut arguments,
            size_of::<libc::clone_args>(),
        )
    };
    match u32::try_from(result) {
        Err(_) => Err(io::Error::last_os_error()),
        Ok(0) => exit_now(child()),
        Ok(pid) => Ok(pid),
    }
}

/// From linux/sched.h; libc's constant is a narrower type than the field.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// fork(2): as [`spawn`] without a control group, for kernels and sandboxes that know no clone3(2).
///
/// # Errors
/// The errno of fork(2).
pub fn fork(child: impl FnOnce() -> u8) -> io::Result<u32> {
    // SAFETY: the caller is single-threaded as the documentation of `spawn` asks, so the child may run any code.
    let pid = unsafe { libc::fork() };
    match u32::try_from(pid) {
        Err(_) => Err(io::Error::last_os_error()),
        Ok(0) => exit_now(child()),
        Ok(pid) => Ok(pid),
    }
}

/// _exit(2): ends the process without running destructors or exit handlers, which belong to the parent.
pub fn exit_now(code: u8) -> ! {
    // SAFETY: _exit has no precondition.
    unsafe { libc::_exit(libc::c_int::from(code)) }
}

/// rt_sigaction(2) for each signal: which ones are ignored, as a set with signal 1 as its lowest bit; all other actions
/// become the default at the next `exec` by themselves.
pub fn ignored_signals() -> u64 {
    let mut ignored = 0;
    for signal in 1..=KERNEL_SIGNALS {
        // The kernel's structure, which is smaller on every machine; its first word is the action.
        let mut action = [0_u64; 8];
        // SAFETY: the kernel reads no structure, and writes one to memory that outlives the call.
        let result = unsafe {
            libc::syscall(
                libc::SYS_rt_sigaction,
                signal,
                std::ptr::null::<u64>(),
                action.as_mut_ptr(),
                size_of::<u64>(),
            )
        };
        if result == 0 && action.first() == Some(&IGNORED) {
            ignored |= 1 << (signal - 1);
        }
    }
    ignored
}

/// asm-generic/signal-defs.h: `SIG_IGN`.
const IGNORED: u64 = 1;

/// rt_sigaction(2) for each signal of a set ([`ignored_signals`]): sets its default action, so that a program does not
/// inherit what its parent ignores; those too that the C library keeps for itself and its `signal` refuses.
///
/// Only for a process of a single thread that is about to become another program.
pub fn reset_signal_actions(set: u64) {
    // The kernel's structure, which is smaller on every machine; all zero it is SIG_DFL without flags.
    let default = [0_u64; 8];
    for signal in (1..=KERNEL_SIGNALS).filter(|signal| set & (1 << (signal - 1)) != 0) {
        // SAFETY: the kernel reads one structure from memory that outlives the call, and writes none. It refuses KILL
        // and STOP, which cannot be ignored.
        unsafe {
            libc::syscall(
                libc::SYS_rt_sigaction,
                signal,
                default.as_ptr(),
                std::ptr::null_mut::<u64>(),
                size_of::<u64>(),
            );
        }
    }
}

/// So many signals has Linux on the machines that we run on (`_NSIG`), as many as a mask of 8 bytes has bits.
const KERNEL_SIGNALS: libc::c_int = 64;

/// signal(2): sets the default action of one signal; a number that is none, or refuses, is left as it is.
pub fn reset_signal_action(signal: i32) {
    // SAFETY: SIG_DFL is a valid action for every signal; those that refuse (KILL, STOP, the C library's own) are left
    // as they are.
    unsafe {
        libc::signal(signal, libc::SIG_DFL);
    }
}

/// sigprocmask(2) in the child: `command` starts with no signal blocked, whatever we block ourselves; the standard
/// library lets it inherit our mask.
pub fn unblock_signals(command: &mut Command) {
    let unblock = || {
        // SAFETY: an all-zero set is valid memory for the calls, which only write to it and read it.
        let result = unsafe {
            let mut none: libc::sigset_t = std::mem::zeroed();
            libc::sigemptyset(&raw mut none);
            libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut())
        };
        if result == 0 {
            Ok(())
        } else {
            Err(io::Error::last_os_error())
        }
    };
    // SAFETY: both calls are async-signal-safe, and the closure neither allocates nor takes a lock.
    unsafe {
        command.pre_exec(unblock);
    }
}

/// sched_setscheduler(2): a real-time priority (`SCHED_FIFO`, from 1, the lowest) for the process `pid`, or for us where
/// that is 0, and not for its children and threads (`SCHED_RESET_ON_FORK`).
///
/// # Errors
/// The errno: `EPERM` where we may not, `ESRCH` if there is no such process.
pub fn give_real_time(pid: u32, priority: u32) -> io::Result<()> {
    schedule(pid, FIFO_FOR_ONE, priority)
}

/// sched_setscheduler(2): takes back what [`give_real_time`] gave; a process that chose another policy since keeps it.
///
/// # Errors
/// The errno: `ESRCH` if there is no such process.
pub fn take_real_time(pid: u32) -> io::Result<()> {
    // SAFETY: the call takes one number.
    let policy = unsafe { libc::syscall(libc::SYS_sched_getscheduler, pid) };
    if policy == libc::c_long::from(FIFO_FOR_ONE) {
        schedule(pid, libc::SCHED_OTHER, 0)
    } else {
        Ok(())
    }
}

const FIFO_FOR_ONE: libc::c_int = libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK;

fn schedule(pid: u32, policy: libc::c_int, priority: u32) -> io::Result<()> {
    // SAFETY: the kernel reads a structure of one integer, which outlives the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_sched_setscheduler,
            pid,
            policy,
            &raw const priority,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// sched_getscheduler(2) and getpriority(2): our nice value, or `None` where another policy than the standard one
/// (`SCHED_OTHER`) decides about us.
pub fn nice() -> Option<i32> {
    // SAFETY: both calls take numbers alone. The second gives 20 less the nice value, so that no value looks like an
    // error.
    let (policy, value) = unsafe {
        (
            libc::syscall(libc::SYS_sched_getscheduler, 0),
            libc::syscall(libc::SYS_getpriority, libc::PRIO_PROCESS, 0),
        )
    };
    let standard = policy == libc::c_long::from(libc::SCHED_OTHER);
    let value = i32::try_from(value).ok().filter(|value| *value >= 0)?;
    standard.then(|| 20_i32.saturating_sub(value))
}

/// setpriority(2): sets our nice value, from -20 (served first) to 19.
///
/// # Errors
/// `EACCES` where it would fall and we may not.
pub fn set_nice(value: i32) -> io::Result<()> {
    // SAFETY: the system call takes three numbers.
    let result = unsafe { libc::syscall(libc::SYS_setpriority, libc::PRIO_PROCESS, 0, value) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// close_range(2) with `CLOSE_RANGE_CLOEXEC`: descriptors from `first` up do not survive the next `exec`.
///
/// # Errors
/// The errno: `ENOSYS` before Linux 5.9, `EINVAL` before 5.11.
pub fn close_on_exec_from(first: u32) -> io::Result<()> {
    // SAFETY: only a flag of existing descriptors changes; no descriptor is closed while somebody owns it.
    let result = unsafe {
        libc::syscall(
            libc::SYS_close_range,
            first,
            libc::c_uint::MAX,
            libc::CLOSE_RANGE_CLOEXEC,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// dup2(2): makes `number` a copy of `fd` that survives `exec`, closing what was there.
///
/// # Errors
/// The errno of dup2(2); `EINVAL` for a `number` of standard input, output or error, which have owners of their own.
pub fn duplicate_to(fd: impl AsFd, number: i32) -> io::Result<()> {
    if number <= libc::STDERR_FILENO {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    // SAFETY: dup2 takes any two numbers. Callers run between fork and exec, where the copy's owners never run again.
    let result = unsafe { libc::dup2(fd.as_fd().as_raw_fd(), number) };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// pidfd_open(2): a descriptor that becomes readable when the process `pid` ends.
///
/// # Errors
/// `ESRCH` if there is no such process, `EINVAL` for 0, `ENOSYS` before Linux 5.3, `EMFILE`.
pub fn watch(pid: u32) -> io::Result<OwnedFd> {
    // SAFETY: pidfd_open takes any two numbers.
    let result = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0_u32) };
    match i32::try_from(result) {
        // SAFETY: the kernel has just made it, closed on exec, and nobody else knows it.
        Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        Ok(_) | Err(_) => Err(io::Error::last_os_error()),
    }
}

/// kill(2): sends signal `number` to the process `pid`; real-time signals too, which nix's type has not.
///
/// # Errors
/// `EINVAL` for a number that is no signal, `ESRCH` if there is no such process, `EPERM`.
pub fn signal_process(pid: u32, number: i32) -> io::Result<()> {
    kill(i32::try_from(pid).unwrap_or(0), number)
}

/// kill(2) with a negative number: sends signal `number` to the process group `group`.
///
/// # Errors
/// As [`signal_process`].
pub fn signal_group(group: u32, number: i32) -> io::Result<()> {
    kill(-i32::try_from(group).unwrap_or(0), number)
}

fn kill(target: i32, number: i32) -> io::Result<()> {
    // 0, 1 and -1 would reach ourselves, init or everybody.
    if (-1..=1).contains(&target) {
        return Err(io::Error::from_raw_os_error(libc::ESRCH));
    }
    // SAFETY: kill takes any two numbers.
    if unsafe { libc::kill(target, number) } == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// How a child ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChildEnd {
    /// With this exit status.
    Exit(i32),
    /// By this signal, a real-time one perhaps, which nix's type cannot name.
    Signal(i32),
}

/// waitpid(2) for any child with `WNOHANG`: the next child that has ended, if there is one.
///
/// # Errors
/// `ECHILD` if there are no children at all.
pub fn next_child_end() -> io::Result<Option<(u32, ChildEnd)>> {
    let mut status = 0;
    // SAFETY: `status` outlives the call, which writes one integer to it.
    let pid = unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG) };
    let end = if libc::WIFEXITED(status) {
        ChildEnd::Exit(libc::WEXITSTATUS(status))
    } else {
        ChildEnd::Signal(libc::WTERMSIG(status))
    };
    match u32::try_from(pid) {
        Err(_) => Err(io::Error::last_os_error()),
        Ok(0) => Ok(None),
        Ok(pid) => Ok(Some((pid, end))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_process_that_is_there_is_watched() {
        assert!(watch(std::process::id()).is_ok());
        assert_eq!(watch(0).unwrap_err().raw_os_error(), Some(libc::EINVAL));
        let gone = watch(u32::MAX >> 1).unwrap_err();
        assert_eq!(gone.raw_os_error(), Some(libc::ESRCH));
    }
}
