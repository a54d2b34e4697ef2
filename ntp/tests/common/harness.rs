//! Starts the real daemon with a clock of its own, and servers that say what a test wants.
//!
//! The clock is `clock.c`, preloaded: no test can set the machine's.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use gokrazy_core::clock::ClockState;

/// Waits until `condition` holds; a loaded machine gets its time.
#[track_caller]
pub(crate) fn until(what: &str, seconds: u64, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(seconds);
    while !condition() {
        assert!(Instant::now() < end, "waited {seconds} s for: {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// The stand-in for the clock, compiled once for each version of its source.
pub(crate) fn clock_library() -> &'static Path {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/common/clock.c");
        let mut hasher = DefaultHasher::new();
        fs::read(&source).unwrap().hash(&mut hasher);
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let library = folder.join(format!("clock-{:016x}.so", hasher.finish()));
        if !library.exists() {
            // Several test programs may be here at once: each builds its own, and the last to finish stays.
            let built = folder.join(format!("clock-{}.so", std::process::id()));
            compile(&source, &built);
            fs::rename(built, &library).unwrap();
        }
        library
    })
}

fn compile(source: &Path, library: &Path) {
    let status = Command::new("cc")
        .args(["-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o"])
        .args([library, source])
        .args(["-ldl", "-lm", "-lpthread"])
        .status();
    let built = status.is_ok_and(|status| status.success());
    assert!(
        built,
        "the stand-in clock needs a C compiler: apt-get install gcc libc6-dev"
    );
}

/// A running daemon, its folders and what it said.
pub(crate) struct Daemon {
    child: Child,
    pub(crate) folder: PathBuf,
    said: Arc<Mutex<Vec<String>>>,
}

/// How to start one.
pub(crate) struct Setup {
    pub(crate) folder: PathBuf,
    offset: f64,
    drift: f64,
    deny: bool,
    deaf: bool,
    uid: Option<u32>,
    rtc: Option<(u64, bool)>,
}

impl Setup {
    /// A fresh folder for a test of this name.
    pub(crate) fn new(name: &str) -> Self {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR"))
            .join(format!("nt-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        Self {
            folder,
            offset: 0.0,
            drift: 0.0,
            deny: false,
            deaf: false,
            uid: None,
            rtc: None,
        }
    }

    /// The clock is so many seconds ahead.
    pub(crate) fn ahead(mut self, seconds: f64) -> Self {
        self.offset = seconds;
        self
    }

    /// The oscillator is so many ppm fast.
    pub(crate) fn drift(mut self, ppm: f64) -> Self {
        self.drift = ppm;
        self
    }

    /// Every correction fails.
    pub(crate) fn powerless(mut self) -> Self {
        self.deny = true;
        self
    }

    /// Every correction is granted, and none done.
    pub(crate) fn deaf(mut self) -> Self {
        self.deaf = true;
        self
    }

    /// There is a hardware clock that shows so many seconds since 1970, and the daemon may use it or not.
    pub(crate) fn hardware_clock(self, shows: u64, used: bool) -> Self {
        let mut setup = self.file("rtc", b"");
        setup.rtc = Some((shows, used));
        setup
    }

    /// Runs as this user, to whom the folder is given.
    pub(crate) fn user(mut self, uid: u32) -> Self {
        std::os::unix::fs::chown(&self.folder, Some(uid), Some(uid)).unwrap();
        self.uid = Some(uid);
        self
    }

    /// Writes a file below the folder.
    pub(crate) fn file(self, name: &str, bytes: &[u8]) -> Self {
        let path = self.folder.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
        self
    }

    /// Starts the daemon.
    pub(crate) fn start(&self, args: &[&str]) -> Daemon {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ntp"));
        command
            .args(args)
            .arg("--state-dir")
            .arg(self.folder.join("state"))
            .arg("--run-dir")
            .arg(self.folder.join("run"))
            .env("LD_PRELOAD", clock_library())
            .env("CLOCK_OFFSET", self.offset.to_string())
            .env("CLOCK_DRIFT", self.drift.to_string())
            .env("CLOCK_LOG", self.folder.join("corrections"))
            .env("CLOCK_STATE", self.folder.join("clock"))
            .env("CLOCK_JUMP", self.folder.join("jump"))
            .stderr(Stdio::piped());
        if let Some((shows, _)) = self.rtc {
            command.env("CLOCK_RTC", shows.to_string());
        }
        match self.rtc {
            Some((_, true)) => command.arg("--rtc").arg(self.folder.join("rtc")),
            Some((_, false)) | None => command.arg("--no-rtc"),
        };
        if self.deny {
            command.env("CLOCK_DENY", "1");
        }
        if self.deaf {
            command.env("CLOCK_DEAF", "1");
        }
        if let Some(uid) = self.uid {
            std::os::unix::process::CommandExt::uid(&mut command, uid);
            std::os::unix::process::CommandExt::gid(&mut command, uid);
        }
        let mut child = command.spawn().unwrap();
        let said = Arc::new(Mutex::new(Vec::new()));
        let (lines, kept) = (
            BufReader::new(child.stderr.take().unwrap()).lines(),
            said.clone(),
        );
        thread::spawn(move || {
            lines
                .map_while(Result::ok)
                .for_each(|line| kept.lock().unwrap().push(line))
        });
        Daemon {
            child,
            folder: self.folder.clone(),
            said,
        }
    }
}

impl Daemon {
    /// The published state.
    pub(crate) fn state(&self) -> ClockState {
        let text = fs::read_to_string(self.folder.join("run/clock")).unwrap_or_default();
        ClockState::parse(&text).unwrap_or_default()
    }

    /// Waits until it is synchronised.
    #[track_caller]
    pub(crate) fn wait_synchronised(&self) {
        until("synchronised", 20, || self.state().synchronised);
    }

    /// Corrections of this kind: the first number of each.
    pub(crate) fn corrections(&self, kind: &str) -> Vec<f64> {
        let text = fs::read_to_string(self.folder.join("corrections")).unwrap_or_default();
        text.lines()
            .filter_map(|line| {
                line.strip_prefix(kind)?
                    .split_whitespace()
                    .next()?
                    .parse()
                    .ok()
            })
            .collect()
    }

    /// Status and error bound in microseconds that the kernel holds after each correction.
    pub(crate) fn told_the_kernel(&self) -> Vec<(i32, u64)> {
        let text = self.read("corrections");
        let slews = text.lines().filter_map(|line| line.strip_prefix("slew "));
        slews
            .map(|line| {
                let words: Vec<&str> = line.split(' ').collect();
                (words[2].parse().unwrap(), words[3].parse().unwrap())
            })
            .collect()
    }

    /// How far its clock is ahead of the machine's, in seconds.
    pub(crate) fn ahead(&self) -> f64 {
        let bytes = fs::read(self.folder.join("clock")).unwrap();
        f64::from_ne_bytes(bytes[8..16].try_into().unwrap())
    }

    /// Moves its clock by so many seconds, as someone else may.
    pub(crate) fn move_clock(&self, seconds: f64) {
        let made = self.folder.join("jump-made");
        fs::write(&made, seconds.to_string()).unwrap();
        fs::rename(made, self.folder.join("jump")).unwrap();
    }

    /// How many lines it said with this word.
    pub(crate) fn said(&self, word: &str) -> usize {
        self.said
            .lock()
            .unwrap()
            .iter()
            .filter(|line| line.contains(word))
            .count()
    }

    /// A file below its folder.
    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.folder.join(name)).unwrap_or_default()
    }

    /// Voluntary context switches so far.
    pub(crate) fn wakeups(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        line.unwrap().trim().parse().unwrap()
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: nix::sys::signal::Signal) {
        nix::sys::signal::kill(self.pid(), signal).unwrap();
    }

    /// Its process.
    pub(crate) fn pid(&self) -> nix::unistd::Pid {
        nix::unistd::Pid::from_raw(self.child.id().cast_signed())
    }

    /// Asks it to end, and waits.
    #[track_caller]
    pub(crate) fn end(&mut self) -> ExitStatus {
        self.signal(nix::sys::signal::Signal::SIGTERM);
        self.wait()
    }

    /// Waits for its end.
    #[track_caller]
    pub(crate) fn wait(&mut self) -> ExitStatus {
        let mut status = None;
        until("the end of the daemon", 20, || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.try_wait();
        if !thread::panicking() {
            let _ = fs::remove_dir_all(&self.folder);
        } else {
            eprintln!("{:?}", self.said.lock().unwrap());
        }
    }
}

/// A request as a server sees it.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) bytes: Vec<u8>,
    pub(crate) from: SocketAddr,
    pub(crate) at: Instant,
}

/// A server on a thread of its own, which ends with the test.
pub(crate) struct Server {
    pub(crate) address: String,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Server {
    /// Answers each request with what `answer` makes of a sound reply; a lie in seconds shifts the server's time.
    pub(crate) fn start(
        answer: impl FnMut(&Request, [u8; 48]) -> Vec<Vec<u8>> + Send + 'static,
    ) -> Self {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        Self::on(socket, answer)
    }

    /// The same on a given socket.
    pub(crate) fn on(
        socket: UdpSocket,
        mut answer: impl FnMut(&Request, [u8; 48]) -> Vec<Vec<u8>> + Send + 'static,
    ) -> Self {
        let address = socket.local_addr().unwrap().to_string();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let kept = requests.clone();
        thread::spawn(move || {
            let mut buffer = [0; 2_048];
            while let Ok((length, from)) = socket.recv_from(&mut buffer) {
                let request = Request {
                    bytes: buffer[..length].to_vec(),
                    from,
                    at: Instant::now(),
                };
                kept.lock().unwrap().push(request.clone());
                let sound = reply(&request.bytes, 0.0);
                for bytes in answer(&request, sound) {
                    let _ = socket.send_to(&bytes, from);
                }
            }
        });
        Self { address, requests }
    }

    /// An honest server, but for a lie in seconds.
    pub(crate) fn lying(lie: f64) -> Self {
        Self::start(move |request, _| vec![reply(&request.bytes, lie).to_vec()])
    }

    /// All requests so far.
    pub(crate) fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }
}

/// A sound reply by a server whose clock is the machine's, shifted by `lie` seconds.
pub(crate) fn reply(request: &[u8], lie: f64) -> [u8; 48] {
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap();
    let seconds = now.as_secs_f64().floor() + lie.floor() + 2_208_988_800.0;
    let fraction = f64::from(now.subsec_nanos()) / 1e9 + lie - lie.floor();
    let stamp = ((seconds as u64) << 32).wrapping_add((fraction * 4_294_967_296.0) as u64);
    let mut bytes = [0; 48];
    bytes[..4].copy_from_slice(&[0x24, 2, 6, 0xe8]);
    bytes[12..16].copy_from_slice(&[192, 0, 2, 1]);
    bytes[16..24].copy_from_slice(&stamp.wrapping_sub(1 << 32).to_be_bytes());
    if let Some(transmit) = request.get(40..48) {
        bytes[24..32].copy_from_slice(transmit);
    }
    bytes[32..40].copy_from_slice(&stamp.to_be_bytes());
    bytes[40..48].copy_from_slice(&stamp.to_be_bytes());
    bytes
}
