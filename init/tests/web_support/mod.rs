//! What the tests of web share: a machine that says things of itself, an init that listens, and a small client.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test helper's failure is the test's"
)]
#![allow(
    dead_code,
    clippy::allow_attributes,
    reason = "each test program uses a part of this"
)]

use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use gokrazy_core::atomic::{Durability, replace};
use gokrazy_core::control::{Refusal, Reply, Request};
use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{
    AddressFamily, Backlog, MsgFlags, SockFlag, SockType, UnixAddr, accept, bind, listen, recv,
    send, socket,
};
use nix::unistd::Pid;
use web_password::{Cost, hash};

/// The password of every machine here.
pub(crate) const PASSWORD: &str = "correct horse";

/// For what a loaded machine may need.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A folder with all that web reads and writes; removed in the end.
pub(crate) struct Machine {
    pub(crate) folder: PathBuf,
}

impl Machine {
    /// A machine with a password and two services.
    pub(crate) fn new(name: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let folder =
            std::env::temp_dir().join(format!("gokrazy-web-{name}-{}-{count}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        for part in ["run/service", "run/net", "tmp", "perm"] {
            fs::create_dir_all(folder.join(part)).unwrap();
        }
        let machine = Self { folder };
        machine.write(
            "password",
            &hash(PASSWORD, b"0123456789abcdef", Cost::Random).unwrap(),
        );
        machine.service(
            "hello",
            "running",
            "pid=1\nlast_exit='exit status 1'\nrestarts=2\n",
        );
        machine.service(
            "<b>evil</b>",
            "crash-loop",
            "restarts=9\nstatus_text='<script>alert(1)</script>'\n",
        );
        machine
    }

    pub(crate) fn run_dir(&self) -> PathBuf {
        self.folder.join("run")
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        replace(
            &self.folder.join(name),
            text.as_bytes(),
            0o644,
            Durability::Volatile,
        )
        .unwrap();
    }

    /// Replaces a segment of the log of `name` by lines of its standard output, or of its standard error if they start
    /// with `!`.
    pub(crate) fn log(&self, name: &str, number: u32, lines: &[&str]) {
        let record = |line: &&str| match line.strip_prefix('!') {
            Some(text) => format!("1.0 2026-11-25T16:15:05.123Z err 3 {text}\n"),
            None => format!("1.0 2026-11-25T16:15:05.123Z out 6 {line}\n"),
        };
        let text: String = lines.iter().map(record).collect();
        fs::create_dir_all(self.run_dir().join("log").join(name)).unwrap();
        self.write(&format!("run/log/{name}/{number:010}.log"), &text);
    }

    fn service(&self, name: &str, state: &str, more: &str) {
        let file = name.replace(['<', '>', '/'], "_");
        let text = format!(
            "name='{name}'\nstate={state}\ncommand='/user/{name} --flag'\nsince_ms=1000\n{more}"
        );
        self.write(&format!("run/service/{file}"), &text);
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Stands in for init: takes requests, keeps them, and answers what it is told to.
pub(crate) struct FakeInit {
    requests: mpsc::Receiver<Request>,
    answer: Arc<Mutex<Reply>>,
}

impl FakeInit {
    /// Listens on the control socket of `machine` for as long as the test runs.
    pub(crate) fn start(machine: &Machine) -> Self {
        let flags = SockFlag::SOCK_CLOEXEC;
        let listener = socket(AddressFamily::Unix, SockType::SeqPacket, flags, None).unwrap();
        let path = machine.run_dir().join("control.sock");
        bind(listener.as_raw_fd(), &UnixAddr::new(&path).unwrap()).unwrap();
        listen(&listener, Backlog::new(8).unwrap()).unwrap();
        let (sender, requests) = mpsc::channel();
        let answer = Arc::new(Mutex::new(Reply::Done));
        let told = answer.clone();
        thread::spawn(move || serve(&listener, &sender, &told));
        Self { requests, answer }
    }

    /// Refuses from now on.
    pub(crate) fn refuse(&self, refusal: Refusal) {
        *self.answer.lock().unwrap() = Reply::Refused(refusal);
    }

    /// Answers nothing until what is returned is dropped.
    pub(crate) fn hold(&self) -> MutexGuard<'_, Reply> {
        self.answer.lock().unwrap()
    }

    /// The next request.
    pub(crate) fn next(&self) -> Request {
        self.requests.recv_timeout(PATIENCE).unwrap()
    }

    /// Asserts that nobody asked for anything.
    #[track_caller]
    pub(crate) fn assert_idle(&self) {
        assert_eq!(self.requests.try_recv().ok(), None);
    }
}

fn serve(listener: &OwnedFd, sender: &mpsc::Sender<Request>, answer: &Mutex<Reply>) {
    while let Ok(connection) = accept(listener) {
        let mut buffer = [0; 16 * 1024];
        let length = recv(connection.as_raw_fd(), &mut buffer, MsgFlags::empty()).unwrap_or(0);
        let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
        let Ok(request) = Request::parse(&text) else {
            continue;
        };
        if sender.send(request).is_err() {
            return;
        }
        let answer = answer.lock().unwrap().render();
        let _ = send(
            connection.as_raw_fd(),
            answer.as_bytes(),
            MsgFlags::MSG_NOSIGNAL,
        );
    }
}

/// The real program, ended with the test.
pub(crate) struct Web {
    child: Child,
    /// What it listens on.
    pub(crate) address: SocketAddr,
    log: mpsc::Receiver<String>,
}

impl Web {
    /// Starts it over `machine`, on a free port of loopback.
    pub(crate) fn start(machine: &Machine) -> Self {
        Self::with(machine, &["--listen", "127.0.0.1:0"])
    }

    /// Starts it with `flags` beside those for the folders.
    pub(crate) fn with(machine: &Machine, flags: &[&str]) -> Self {
        let flag =
            |name: &str, path: &str| format!("--{name}={}", machine.folder.join(path).display());
        let mut child = Command::new(env!("CARGO_BIN_EXE_web"))
            .arg(flag("run-dir", "run"))
            .arg(flag("password-file", "password"))
            .arg(flag("http-socket", "http.sock"))
            .arg(flag("temp-dir", "tmp"))
            .arg(flag("perm-dir", "perm"))
            .args(flags)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let (sender, log) = mpsc::channel();
        thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                eprintln!("{line}");
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        let address = ([0, 0, 0, 0], 0).into();
        let mut web = Self {
            child,
            address,
            log,
        };
        let line = web.wait_for_line("listening on 127");
        web.address = line.rsplit(' ').next().unwrap().parse().unwrap();
        web
    }

    /// The next line of its log that holds `text`.
    #[track_caller]
    pub(crate) fn wait_for_line(&self, text: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.log.recv_timeout(left) {
                Ok(line) if line.contains(text) => return line,
                Ok(_) => {}
                Err(_) => panic!("web never said `{text}`"),
            }
        }
    }

    /// Closes our end of its standard error with the next line.
    pub(crate) fn stop_listening_to_its_log(&mut self) {
        self.log = mpsc::channel().1;
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap());
        kill(pid, signal).unwrap();
    }

    /// Waits until it has ended.
    #[track_caller]
    pub(crate) fn wait_for_end(&mut self) -> ExitStatus {
        eventually("web ends", || self.child.try_wait().unwrap().is_some());
        self.child.wait().unwrap()
    }

    /// Whether it still runs.
    pub(crate) fn is_alive(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    pub(crate) fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect_timeout(&self.address, PATIENCE).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// One request with the right password, and its answer.
    pub(crate) fn get(&self, path: &str) -> Answer {
        self.ask(
            "GET",
            path,
            &[("Authorization", &basic("gokrazy", PASSWORD))],
            b"",
        )
    }

    /// One request on a connection of its own.
    pub(crate) fn ask(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Answer {
        ask(self.connect(), method, path, headers, body).unwrap()
    }
}

impl Drop for Web {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Root's way in.
pub(crate) fn ask_unix(machine: &Machine, path: &str) -> Answer {
    ask(connect_unix(machine), "GET", path, &[], b"").unwrap()
}

/// A connection to the unix socket, on which the user who runs the test is served as root is.
pub(crate) fn connect_unix(machine: &Machine) -> UnixStream {
    let deadline = Instant::now() + PATIENCE;
    let socket = machine.folder.join("http.sock");
    loop {
        match UnixStream::connect(&socket) {
            Ok(stream) => {
                stream.set_read_timeout(Some(PATIENCE)).unwrap();
                break stream;
            }
            Err(error) if Instant::now() > deadline => panic!("{}: {error}", socket.display()),
            Err(_) => thread::sleep(Duration::from_millis(20)),
        }
    }
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}

/// Sends one request, asks for the connection to be closed, and reads to its end.
pub(crate) fn ask(
    mut stream: impl Read + Write,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> io::Result<Answer> {
    let mut head = format!("{method} {path} HTTP/1.1\r\nConnection: close\r\n");
    if headers.iter().all(|(name, _)| *name != "Host") {
        head.push_str("Host: device\r\n");
    }
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    if !body.is_empty() {
        head.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    stream.write_all(format!("{head}\r\n").as_bytes())?;
    stream.write_all(body)?;
    let mut bytes = Vec::new();
    let mut chunk = [0; 16 * 1024];
    // Not every server closes when it is asked to, so a length that is told counts.
    while !is_whole(&bytes) {
        match stream.read(&mut chunk)? {
            0 => break,
            length => bytes.extend_from_slice(&chunk[..length]),
        }
    }
    parse(&bytes).ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
}

fn is_whole(bytes: &[u8]) -> bool {
    let told = |answer: &Answer| answer.header("content-length")?.parse::<usize>().ok();
    parse(bytes)
        .is_some_and(|answer| told(&answer).is_some_and(|length| answer.body.len() >= length))
}

fn parse(bytes: &[u8]) -> Option<Answer> {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(bytes.get(..end)?).into_owned();
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some(Answer {
        status,
        head,
        body: bytes.get(end + 4..)?.to_vec(),
    })
}

/// The value of `Authorization`.
pub(crate) fn basic(user: &str, password: &str) -> String {
    use base64ct::{Base64, Encoding};
    format!(
        "Basic {}",
        Base64::encode_string(format!("{user}:{password}").as_bytes())
    )
}

/// Waits for `condition`, at most [`PATIENCE`].
#[track_caller]
pub(crate) fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "never: {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// Bytes of a file of the machine.
pub(crate) fn bytes(path: &Path) -> Vec<u8> {
    fs::read(path).unwrap()
}
