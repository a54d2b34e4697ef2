//! The smallest application: says hello, once a minute how long it has run, and goodbye when it is told to stop.

use std::{fs, io, os::fd::AsFd, path::Path};

use gokrazy_core::{boot_info::BootInfo, paths};
use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::{signal::SigSet, signal::Signal, signalfd::SignalFd};

fn main() -> io::Result<()> {
    // SIGTERM becomes something to read: whatever is under way is finished before the program ends.
    let mut stop = SigSet::empty();
    stop.add(Signal::SIGTERM);
    stop.add(Signal::SIGINT);
    stop.thread_block()?;
    let stop = SignalFd::new(&stop)?;

    let boot = fs::read_to_string(Path::new(paths::RUN).join(paths::BOOT_INFO));
    let boot = boot.ok().and_then(|text| BootInfo::parse(&text).ok());
    println!("{}", hello::greeting(boot.as_ref()));
    for minutes in 1_u64.. {
        let mut source = [PollFd::new(stop.as_fd(), PollFlags::POLLIN)];
        if poll(&mut source, 60_000_u16)? > 0 {
            break;
        }
        println!("hello for {minutes} min");
    }
    println!("goodbye");
    Ok(())
}
