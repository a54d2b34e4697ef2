//! How steady the clock is, beside chrony's under the same conditions: `cargo xtask bench ntp`.
//!
//! Both start 5 s late with an oscillator that is 50 ppm slow, and ask one server over a link of 5 ms ± 1 ms each way.
//! The server is the machine's own clock, so the stand-in's shift is the true error.
//! Measured each second after `NTP_BENCH_SETTLE` seconds (default 900), for `NTP_BENCH_SECONDS` (default 900).
//! In that time a clock is corrected some dozen times, by samples that overlap, so that one run is little more than one
//! draw of chance: the median of [`PAIRS`] that run side by side counts, each over a link of its own.
//! `NTP_BENCH_THERE` and `NTP_BENCH_BACK` are milliseconds (default 0) up to which requests and answers are held up
//! besides, each by chance.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    dead_code,
    reason = "a test reads clocks and is to fail where it cannot go on; the harness serves other tests too"
)]

#[path = "../tests/common/harness.rs"]
mod harness;

use std::fs;
use std::io::IoSliceMut;
use std::net::{SocketAddrV4, UdpSocket};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrIn, recvmsg, setsockopt, sockopt};
use nix::sys::time::TimeSpec;

use harness::{Daemon, Setup, clock_library, reply};

const PPM: f64 = 50.0;

const PAIRS: usize = 8;

/// A number that the environment may set.
fn setting(name: &str, default: u64) -> u64 {
    let text = std::env::var(name).ok();
    text.and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Answers over a link that holds up each way by 4 to 6 ms; one thread a request, as a link holds many packets.
///
/// The kernel tells when a request came in, and a thread that wakes late counts as a server that takes its time, so
/// that the link is the same on a busy machine.
fn distant_server(seed: u64) -> String {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    setsockopt(&socket, sockopt::ReceiveTimestampns, &true).unwrap();
    let address = socket.local_addr().unwrap().to_string();
    thread::spawn(move || {
        let mut seed = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut chance = move |most: u64| {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            seed % (most + 1)
        };
        let held = ["NTP_BENCH_THERE", "NTP_BENCH_BACK"].map(|name| setting(name, 0) * 1_000);
        loop {
            let (request, from, came) = next_request(&socket);
            let mut way = |held| Duration::from_micros(4_000 + chance(2_000) + chance(held));
            let (received, back) = (came + way(held[0]), way(held[1]));
            let socket = socket.try_clone().unwrap();
            thread::spawn(move || {
                thread::sleep((received + back).saturating_sub(since_1970()));
                let mut answer = reply(&request, 0.0);
                answer[32..40].copy_from_slice(&stamp(received));
                answer[40..48].copy_from_slice(&stamp(received.max(since_1970() - back)));
                let _ = socket.send_to(&answer, from);
            });
        }
    });
    address
}

/// A request, its sender, and when it came in, since 1970.
fn next_request(socket: &UdpSocket) -> (Vec<u8>, SocketAddrV4, Duration) {
    let mut buffer = [0; 512];
    let mut space = nix::cmsg_space!(TimeSpec);
    let mut parts = [IoSliceMut::new(&mut buffer)];
    let message = recvmsg::<SockaddrIn>(
        socket.as_raw_fd(),
        &mut parts,
        Some(&mut space),
        MsgFlags::empty(),
    );
    let message = message.unwrap();
    let came = message.cmsgs().unwrap().find_map(|one| match one {
        ControlMessageOwned::ScmTimestampns(time) => Some(Duration::from(time)),
        _ => None,
    });
    let (length, from) = (message.bytes, message.address.unwrap().into());
    (buffer[..length].to_vec(), from, came.unwrap())
}

fn since_1970() -> Duration {
    SystemTime::UNIX_EPOCH.elapsed().unwrap()
}

/// As NTP writes it.
fn stamp(since_1970: Duration) -> [u8; 8] {
    let fraction = (u64::from(since_1970.subsec_nanos()) << 32) / 1_000_000_000;
    ((since_1970.as_secs() + 2_208_988_800) << 32 | fraction).to_be_bytes()
}

/// The error in seconds of the stand-in clock whose state this file holds.
fn error_of(state: &Path) -> Option<f64> {
    let bytes = fs::read(state).ok()?;
    let number = |at: usize| {
        Some(f64::from_ne_bytes(
            bytes.get(at * 8..at * 8 + 8)?.try_into().ok()?,
        ))
    };
    let passed = monotonic() - number(0)?;
    let (shift, rate) = (number(1)?, number(2)? + number(3)?);
    Some(shift + rate * passed + number(4)? * (1.0 - (-passed / number(5)?).exp()))
}

fn monotonic() -> f64 {
    let time = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC).unwrap();
    time.tv_sec() as f64 + time.tv_nsec() as f64 / 1e9
}

struct Chrony(Child);

impl Drop for Chrony {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.try_wait();
    }
}

fn chrony(folder: &Path, server: &str, state: &Path) -> Chrony {
    let (host, port) = server.rsplit_once(':').unwrap();
    let config = folder.join("chrony.conf");
    let text = format!(
        "server {host} port {port} iburst\nmakestep 1 3\ncmdport 0\npidfile {}\n",
        folder.join("chronyd.pid").display()
    );
    fs::write(&config, text).unwrap();
    let child = Command::new("chronyd")
        .args(["-d", "-u", "root", "-f"])
        .arg(config)
        .env("LD_PRELOAD", clock_library())
        .env("CLOCK_OFFSET", "-5")
        .env("CLOCK_DRIFT", (-PPM).to_string())
        .env("CLOCK_STATE", state)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    Chrony(child.unwrap_or_else(|error| panic!("start chronyd: {error}: `cargo xtask setup` gets it, and `cargo xtask bench ntp` finds it")))
}

/// A clock of ours and one of chrony's on the same link, and the errors that were seen of each.
struct Pair {
    states: [PathBuf; 2],
    errors: [Vec<f64>; 2],
    _ours: Daemon,
    _theirs: Chrony,
}

impl Pair {
    fn start(number: usize) -> Self {
        let server = distant_server(number as u64 + 1);
        let setup = Setup::new(&format!("steadiness-{number}"))
            .ahead(-5.0)
            .drift(-PPM);
        let states = [
            setup.folder.join("clock"),
            setup.folder.join("chrony-clock"),
        ];
        let theirs = chrony(&setup.folder, &server, &states[1]);
        let ours = setup.start(&["--server", &server]);
        ours.wait_synchronised();
        Self {
            states,
            errors: [Vec::new(), Vec::new()],
            _ours: ours,
            _theirs: theirs,
        }
    }

    fn look(&mut self) {
        for (list, state) in self.errors.iter_mut().zip(&self.states) {
            list.extend(error_of(state).map(f64::abs));
        }
    }
}

fn percentile(values: &mut [f64], percent: usize) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() * percent / 100]
}

/// Half an hour: a quarter to settle, a quarter to measure.
fn main() {
    let mut pairs: Vec<Pair> = (0..PAIRS).map(Pair::start).collect();
    thread::sleep(Duration::from_secs(setting("NTP_BENCH_SETTLE", 900)));
    let end = Instant::now() + Duration::from_secs(setting("NTP_BENCH_SECONDS", 900));
    while Instant::now() < end {
        pairs.iter_mut().for_each(Pair::look);
        thread::sleep(Duration::from_secs(1));
    }
    for (name, which) in [("ntp", 0), ("chrony", 1)] {
        let mut all: Vec<f64> = pairs
            .iter_mut()
            .map(|pair| percentile(&mut pair.errors[which], 95) * 1e6)
            .collect();
        let median = percentile(&mut all, 50);
        let each: Vec<String> = all.iter().map(|one| format!("{one:.0}")).collect();
        println!("{name}_p95_us={median:.0}");
        println!("{name} by pairs: {} µs", each.join(", "));
    }
}
