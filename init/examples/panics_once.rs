//! A stand-in for an init with a bug, for the test of `gokrazy_init::runtime::panic`: it leaves a child and panics,
//! and its fresh self tells what is left.

use gokrazy_init::runtime::panic;

fn main() {
    panic::survive();
    println!(
        "process {} after {} panics",
        std::process::id(),
        panic::count()
    );
    if panic::count() < 2 {
        let child = gokrazy_sys::process::fork(|| {
            std::thread::sleep(std::time::Duration::from_secs(1000));
            0
        });
        println!("child {}", child.unwrap_or(0));
        unreachable!("a bug");
    }
    // What was killed is still to be waited for.
    std::thread::sleep(std::time::Duration::from_millis(200));
    let us = std::process::id();
    let children = std::fs::read_to_string(format!("/proc/{us}/task/{us}/children"));
    let stat = |pid: &str| std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let living = children
        .unwrap_or_default()
        .split_whitespace()
        .filter(|pid| !stat(pid).contains(") Z "))
        .count();
    println!("{living} children live");
}
