//! The first process of a machine with a hardware clock: does the daemon read it, leave it alone, and write it?
//!
//! The hardware clock begins in 2031 and the only server says 2033, so each time tells where it came from.
//! A moment after synchronisation the kernel may set it as well (`CONFIG_RTC_SYSTOHC`); that the daemon does it itself
//! is shown by `tests/daemon.rs`.
//! Runs in an initramfs that holds this program as `/init` and the daemon as `/ntp`; `cargo xtask test machine` packs
//! it and reads its lines from the console.
#![expect(
    clippy::disallowed_methods,
    reason = "it sets and reads the clocks of a machine that was made for it"
)]

#[path = "../../xtask/src/test/machine/first_process.rs"]
mod first_process;

use std::fs;
use std::net::UdpSocket;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Child, Command, ExitCode};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use gokrazy_core::clock::ClockState;
use gokrazy_core::paths::RTC;
use gokrazy_ntp::clocks;
use gokrazy_ntp::wall::Wall;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// What the hardware clock begins with: 6 May 2031. `xtask/src/test/machine/hardware_clock.rs` tells QEMU.
const KEPT: Wall = Wall::from_seconds(1_935_817_689);
/// What the server says: 3 March 2033.
const TOLD: Wall = Wall::from_seconds(1_993_431_783);
/// A machine without a battery starts here.
const UNSET: Wall = Wall::from_seconds(1_000);
/// Most that the machine may have run when a clock is looked at, in nanoseconds.
const RUN_MOST: i64 = 600_000_000_000;
/// A burst of four requests, and the wait for the last answer.
const BURST: Duration = Duration::from_secs(9);
/// By how much someone else sets the clock, in nanoseconds.
const MOVED: i64 = 900_000_000_000;
/// Most that a clock of whole seconds may differ from another, in nanoseconds.
const SAME: i64 = 2_000_000_000;
/// Most that the daemon may take, under an emulator.
const NOTICE_MOST: Duration = Duration::from_secs(30);

fn main() -> ExitCode {
    first_process::play("hardware clock", play)
}

fn play() -> Result<()> {
    prepare()?;
    let speaks = serve()?;
    expect_since("at the start the hardware clock", hardware()?, KEPT)?;

    clocks::set(UNSET)?;
    let daemon = start("ignored", &["--no-rtc"])?;
    until("the build time", || {
        clocks::wall() > UNSET.shifted(RUN_MOST)
    })?;
    let built = option_env!("SOURCE_DATE_EPOCH").context("a build for devices knows its time")?;
    let built = Wall::from_seconds(built.parse().context("the build time")?);
    ensure!(
        clocks::wall() >= built,
        "the clock is {}, before the build",
        clocks::wall()
    );
    ensure!(
        clocks::wall() < KEPT,
        "--no-rtc, and the clock is {}",
        clocks::wall()
    );
    expect_since("after --no-rtc the hardware clock", hardware()?, KEPT)?;
    end(daemon)?;

    clocks::set(UNSET)?;
    let daemon = start("read", &["--rtc", RTC])?;
    until("the hardware clock's time", || clocks::wall() >= KEPT)?;
    expect_since("as it was read, the clock", clocks::wall(), KEPT)?;
    expect_same()?;
    sleep(Duration::from_secs(1));
    ensure!(!state("read").synchronised, "synchronised to nobody");
    expect_since(
        "before synchronisation the hardware clock",
        hardware()?,
        KEPT,
    )?;

    speaks.store(true, Ordering::SeqCst);
    // It may have given the silent server up for a minute.
    signal(&daemon, Signal::SIGHUP)?;
    until("synchronisation", || state("read").synchronised)?;
    expect_since("after synchronisation the clock", clocks::wall(), TOLD)?;
    expect_since(
        "after synchronisation the hardware clock",
        hardware()?,
        TOLD,
    )?;
    expect_same()?;

    // Until its burst is over something else would wake it.
    sleep(BURST);
    clocks::set(clocks::wall().shifted(MOVED))?;
    // Long before the next poll, and without being told.
    until("the right time again", || {
        state("read").synchronised && clocks::wall() < TOLD.shifted(MOVED)
    })?;
    expect_since("after someone else set it the clock", clocks::wall(), TOLD)?;
    end(daemon)
}

fn prepare() -> Result<()> {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    gokrazy_sys::loopback::interface_up(socket.as_fd(), "lo").context("bring lo up")
}

/// A server that is silent until it is told to speak, and then says that it is [`TOLD`] and goes on from there.
fn serve() -> Result<Arc<AtomicBool>> {
    let socket = UdpSocket::bind("127.0.0.1:123").context("bind the server")?;
    let speaks = Arc::new(AtomicBool::new(false));
    let (heard, start) = (speaks.clone(), Instant::now());
    thread::spawn(move || {
        let mut buffer = [0; 512];
        while let Ok((length, from)) = socket.recv_from(&mut buffer) {
            let request = buffer.get(..length).unwrap_or_default();
            if heard.load(Ordering::SeqCst) {
                let passed = i64::try_from(start.elapsed().as_nanos()).unwrap_or_default();
                let _ = socket.send_to(&reply(request, TOLD.shifted(passed)), from);
            }
        }
    });
    Ok(speaks)
}

/// A sound reply of stratum 1 (RFC 5905 section 7.3).
fn reply(request: &[u8], time: Wall) -> Vec<u8> {
    let seconds = u64::try_from(time.seconds() + 2_208_988_800).unwrap_or_default();
    let fraction = (u64::try_from(time.nanoseconds()).unwrap_or_default() << 32) / 1_000_000_000;
    let stamp = (seconds << 32 | fraction).to_be_bytes();
    let nonce = request.get(40..48).unwrap_or(&[0; 8]);
    let head = [
        0x24, 1, 6, 0xe8, 0, 0, 0, 0, 0, 0, 0, 0, b'G', b'P', b'S', 0,
    ];
    [&head[..], &stamp, nonce, &stamp, &stamp].concat()
}

/// Starts the daemon with folders of its own.
fn start(name: &str, more: &[&str]) -> Result<Child> {
    Command::new("/ntp")
        .args(["--server", "127.0.0.1", "--state-dir"])
        .arg(format!("/{name}/state"))
        .args(["--run-dir", &format!("/{name}/run")])
        .args(more)
        .spawn()
        .context("start /ntp")
}

fn state(name: &str) -> ClockState {
    let text = fs::read_to_string(format!("/{name}/run/clock")).unwrap_or_default();
    ClockState::parse(&text).unwrap_or_default()
}

fn signal(daemon: &Child, signal: Signal) -> Result<()> {
    let pid = Pid::from_raw(i32::try_from(daemon.id())?);
    kill(pid, signal).context("signal the daemon")
}

fn end(daemon: Child) -> Result<()> {
    signal(&daemon, Signal::SIGTERM)?;
    let status = daemon.wait_with_output()?.status;
    ensure!(status.success(), "the daemon ended with {status}");
    Ok(())
}

fn hardware() -> Result<Wall> {
    clocks::read_rtc(Path::new(RTC)).with_context(|| format!("read {RTC}"))
}

fn until(what: &str, mut condition: impl FnMut() -> bool) -> Result<()> {
    let start = Instant::now();
    while !condition() {
        ensure!(
            start.elapsed() < NOTICE_MOST,
            "no {what} after {NOTICE_MOST:?}; the clock is {}",
            clocks::wall()
        );
        sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// The clock and the hardware clock show the same time.
fn expect_same() -> Result<()> {
    let (hardware, system) = (hardware()?, clocks::wall());
    println!("hardware clock: {hardware} beside {system}");
    ensure!(
        hardware.since(system).abs() < SAME,
        "the hardware clock shows {hardware}, the clock {system}"
    );
    Ok(())
}

fn expect_since(what: &str, time: Wall, start: Wall) -> Result<()> {
    println!("hardware clock: {what} shows {time}");
    let run = time.since(start);
    ensure!(
        (-SAME..RUN_MOST).contains(&run),
        "{what} shows {time}, which is not just after {start}"
    );
    Ok(())
}
