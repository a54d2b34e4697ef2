//! The first process of a machine without any hardware generator: does a seed on the disk do what it should?
//!
//! The kernel's own pool is the judge here, not a stand-in: before anything is loaded `getrandom(GRND_NONBLOCK)` would
//! block, after seeds that deserve no credit it still does, and after one that this machine made it does not.
//! Runs in an initramfs that holds this program as `/init` and the daemon as `/randomd`; `cargo xtask test machine`
//! packs it and reads its lines from the console.
#![expect(
    clippy::disallowed_methods,
    reason = "it makes seeds by hand, and its clock is the test's"
)]

#[path = "../../xtask/src/test/machine/first_process.rs"]
mod first_process;

use std::fs;
use std::path::Path;
use std::process::{Child, Command, ExitCode};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use gokrazy_randomd::pool::{KernelPool, Pool};
use gokrazy_randomd::seed::{Machine, bind};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const ID: &str = "00112233445566778899aabbccddeeff";
const OTHER_ID: &str = "ffeeddccbbaa99887766554433221100";
/// The whole program under an emulator, start and end included; the daemon's own budget is 20 ms on a machine.
const LOAD_MOST: Duration = Duration::from_millis(500);
/// Most that a daemon may take to do something at once, under an emulator.
const NOTICE_MOST: Duration = Duration::from_secs(10);

fn main() -> ExitCode {
    first_process::play("cold pool", play)
}

fn play() -> Result<()> {
    fs::create_dir_all("seeds")?;
    fs::write("machine-id", format!("{ID}\n"))?;
    expect_ready("before any load", false)?;

    load("a seed that an image brought", &[0x11; 32], &[])?;
    expect_ready("after a seed that an image brought", false)?;
    load("another machine's", &bound(0x22, OTHER_ID)?, &[])?;
    expect_ready("after another machine's seed", false)?;
    load("--no-credit", &bound(0x33, ID)?, &["--no-credit"])?;
    expect_ready("after our seed with --no-credit", false)?;
    randomd(&["--once", "save"])?;
    expect_files("saved from a cold pool", &["seed.no-credit"])?;

    let daemon = start_daemon()?;
    load("our own", &bound(0x44, ID)?, &[])?;
    expect_ready("after our own seed", true)?;
    expect_daemon_notices(daemon)?;
    randomd(&["--once", "save"])?;
    expect_files("saved from an initialised pool", &["seed.credit"])
}

/// A daemon with a folder of its own, which has found the pool cold.
fn start_daemon() -> Result<Child> {
    let daemon = Command::new("./randomd")
        .args(["--seed-dir", "others", "--machine-id", "machine-id"])
        .args(["--board-id", "no-board"])
        .spawn()
        .context("start ./randomd")?;
    await_file("others/seed.no-credit")?;
    Ok(daemon)
}

/// The pool that becomes initialised wakes it long before its hour is over, and SIGTERM ends it in order.
fn expect_daemon_notices(daemon: Child) -> Result<()> {
    await_file("others/seed.credit")?;
    println!("cold pool: the daemon has noticed");
    let pid = Pid::from_raw(i32::try_from(daemon.id())?);
    kill(pid, Signal::SIGTERM).context("end the daemon")?;
    let status = daemon.wait_with_output()?.status;
    ensure!(status.success(), "the daemon ended with {status}");
    Ok(())
}

fn await_file(path: &str) -> Result<()> {
    let start = Instant::now();
    while !Path::new(path).exists() {
        ensure!(
            start.elapsed() < NOTICE_MOST,
            "no {path} after {NOTICE_MOST:?}"
        );
        sleep(Duration::from_millis(5));
    }
    Ok(())
}

fn bound(byte: u8, id: &str) -> Result<Vec<u8>> {
    let machine = Machine::parse(id).context("parse the machine id")?;
    Ok(bind(&[byte; 32], &machine))
}

fn load(what: &str, file: &[u8], more: &[&str]) -> Result<()> {
    fs::write("seeds/seed.credit", file)?;
    let start = Instant::now();
    randomd(&[&["--once", "load"], more].concat())?;
    let took = start.elapsed();
    println!("cold pool: loading {what} took {} ms", took.as_millis());
    ensure!(took < LOAD_MOST, "loading {what} took {took:?}");
    expect_files(what, &["seed.no-credit"])
}

fn randomd(arguments: &[&str]) -> Result<()> {
    let status = Command::new("./randomd")
        .args(["--seed-dir", "seeds", "--machine-id", "machine-id"])
        .args(["--board-id", "no-board"])
        .args(arguments)
        .status()
        .context("run ./randomd")?;
    ensure!(
        status.success(),
        "randomd {arguments:?} ended with {status}"
    );
    Ok(())
}

fn expect_ready(when: &str, want: bool) -> Result<()> {
    let ready = KernelPool::new(Path::new("dev/urandom")).is_ready();
    println!("cold pool: {when}: initialised: {ready}");
    ensure!(ready == want, "{when} the pool is initialised: {ready}");
    Ok(())
}

fn expect_files(when: &str, want: &[&str]) -> Result<()> {
    let mut names = Vec::new();
    for entry in fs::read_dir("seeds")? {
        names.push(entry?.file_name());
    }
    ensure!(names == want, "{when}: {names:?} in the seed folder");
    Ok(())
}
