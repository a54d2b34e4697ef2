//! `logd --forward` against collectors of the test's own, over loopback.

#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test's failure is its purpose"
)]

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// For what a loaded machine may need.
const PATIENCE: Duration = Duration::from_secs(40);

/// A folder of logs, removed in the end.
struct Logs(PathBuf);

impl Logs {
    fn new(name: &str) -> Self {
        let folder =
            std::env::temp_dir().join(format!("gokrazy-syslog-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }

    /// Appends as logd does.
    fn say(&self, service: &str, segment: u32, stream: &str, text: &[u8]) {
        let folder = self.0.join(service);
        fs::create_dir_all(&folder).unwrap();
        let mut file = File::options()
            .append(true)
            .create(true)
            .open(folder.join(format!("{segment:010}.log")))
            .unwrap();
        let head = format!("1.230000 2026-11-25T16:15:05.123Z {stream} ");
        file.write_all(&[head.as_bytes(), text, b"\n"].concat())
            .unwrap();
    }

    fn forward(&self, target: &str) -> Forwarder {
        let child = Command::new(env!("CARGO_BIN_EXE_logd"))
            .args(["--forward", target, "--log-dir"])
            .arg(&self.0)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        Forwarder(child)
    }
}

impl Drop for Logs {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The program, ended with the test.
struct Forwarder(Child);

impl Forwarder {
    /// Asks it to end, and returns what it said.
    fn end(mut self) -> String {
        let pid = Pid::from_raw(i32::try_from(self.0.id()).unwrap());
        kill(pid, Signal::SIGTERM).unwrap();
        let mut said = String::new();
        let mut stderr = self.0.stderr.take().unwrap();
        stderr.read_to_string(&mut said).unwrap();
        assert_eq!(self.0.wait().unwrap().code(), Some(0), "{said}");
        said
    }
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn udp() -> (UdpSocket, String) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let target = socket.local_addr().unwrap().to_string();
    (socket, target)
}

fn datagram(socket: &UdpSocket) -> Vec<u8> {
    let mut bytes = vec![0; 65536];
    let length = socket.recv(&mut bytes).unwrap();
    bytes.truncate(length);
    bytes
}

/// What stands behind the structured data.
fn text(message: &[u8]) -> &[u8] {
    let at = message.windows(2).position(|two| two == b"] ").unwrap();
    &message[at + 2..]
}

/// The next message of a stream (RFC 6587 §3.4.1).
fn frame(stream: &mut TcpStream) -> Vec<u8> {
    let mut length = 0;
    loop {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        match byte[0] {
            b' ' => break,
            digit => length = length * 10 + usize::from(digit.checked_sub(b'0').unwrap()),
        }
    }
    let mut message = vec![0; length];
    stream.read_exact(&mut message).unwrap();
    message
}

fn accept(listener: &TcpListener) -> TcpStream {
    listener.set_nonblocking(true).unwrap();
    let deadline = Instant::now() + PATIENCE;
    loop {
        match listener.accept() {
            Ok((stream, _)) => {
                stream.set_nonblocking(false).unwrap();
                stream.set_read_timeout(Some(PATIENCE)).unwrap();
                return stream;
            }
            Err(error) => assert!(Instant::now() < deadline, "nobody connects: {error}"),
        }
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn what_is_kept_and_what_comes_goes_out_as_datagrams() {
    let logs = Logs::new("udp");
    logs.say("hello", 1, "out 6", b"first");
    let (collector, target) = udp();
    let forwarder = logs.forward(&target);
    let first = String::from_utf8(datagram(&collector)).unwrap();
    let host = nix::sys::utsname::uname().unwrap();
    let host = host.nodename().to_str().unwrap();
    let want = format!(
        "<30>1 2026-11-25T16:15:05.123Z {host} hello - out [meta sequenceId=\"1\" sysUpTime=\"123\"] first"
    );
    assert_eq!(first, want);
    // Into the same segment, into the next one, and into a log that is new.
    logs.say("hello", 1, "err 3", b"se\xffcond\x00");
    assert_eq!(text(&datagram(&collector)), b"se\xffcond\x00");
    logs.say("hello", 2, "out 6", "größer".as_bytes());
    assert_eq!(text(&datagram(&collector)), "\u{feff}größer".as_bytes());
    logs.say("kernel", 1, "kernel 4", b"usb 1-1");
    assert!(datagram(&collector).starts_with(b"<4>1 "));
    let said = forwarder.end();
    assert!(said.contains("forwarding to udp://127.0.0.1:"), "{said}");
}

#[test]
fn a_stream_is_framed_and_a_collector_that_was_away_gets_all_of_it() {
    let logs = Logs::new("tcp");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let target = format!("tcp://{}", listener.local_addr().unwrap());
    let forwarder = logs.forward(&target);
    let mut stream = accept(&listener);
    logs.say("hello", 1, "out 6", b"one");
    assert_eq!(text(&frame(&mut stream)), b"one");
    // Until it rests: what is on its way when a stream breaks is lost.
    thread::sleep(Duration::from_millis(300));
    drop(stream);
    let long = [&[b'x'; 8192][..], b"y"].concat();
    logs.say("hello", 1, "out 6", &long);
    let mut stream = accept(&listener);
    let parts = [frame(&mut stream), frame(&mut stream)];
    assert!(parts.iter().all(|part| part.len() <= 8192));
    assert_eq!(parts.map(|part| text(&part).to_vec()).concat(), long);
    // What is printed last is sent before the end.
    logs.say("hello", 1, "out 6", b"last");
    let said = forwarder.end();
    assert_eq!(text(&frame(&mut stream)), b"last");
    assert_eq!(said.matches("is away").count(), 1, "{said}");
}

#[test]
fn records_that_had_to_go_are_told_as_lost() {
    let logs = Logs::new("lost");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    logs.say("hello", 1, "out 6", b"one");
    let forwarder = logs.forward(&format!("tcp://{address}"));
    let mut stream = accept(&listener);
    assert_eq!(text(&frame(&mut stream)), b"one");
    drop((stream, listener));
    // It finds out with what comes next.
    logs.say("hello", 2, "out 6", b"two");
    thread::sleep(Duration::from_millis(200));
    for segment in [1, 2] {
        fs::remove_file(logs.0.join(format!("hello/{segment:010}.log"))).unwrap();
    }
    logs.say("hello", 5, "out 6", b"five");
    let listener = TcpListener::bind(address).unwrap();
    let mut stream = accept(&listener);
    let told = String::from_utf8(frame(&mut stream)).unwrap();
    assert!(
        told.starts_with("<28>1 ") && told.contains(" syslog - err "),
        "{told}"
    );
    assert!(
        told.ends_with("segments of its log were gone before they were sent"),
        "{told}"
    );
    assert_eq!(text(&frame(&mut stream)), b"five");
    forwarder.end();
}

#[test]
fn a_collector_that_takes_nothing_costs_no_memory_and_holds_no_end_up() {
    let logs = Logs::new("deaf");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let forwarder = logs.forward(&format!("tcp://{}", listener.local_addr().unwrap()));
    let deaf = accept(&listener);
    // More than the kernel keeps for a connection on both its ends.
    let line = [b'x'; 8000];
    for segment in 1..=4 {
        (0..800).for_each(|_| logs.say("hello", segment, "out 6", &line));
    }
    let status = fs::read_to_string(format!("/proc/{}/status", forwarder.0.id())).unwrap();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes: u32 = resident
        .unwrap()
        .trim()
        .split(' ')
        .next()
        .unwrap()
        .parse()
        .unwrap();
    assert!(kilobytes < 16 * 1024, "{kilobytes} KB");
    forwarder.end();
    drop(deaf);
}

#[test]
fn a_folder_of_logs_may_come_late() {
    let logs = Logs::new("late");
    fs::remove_dir_all(&logs.0).unwrap();
    let (collector, target) = udp();
    let forwarder = logs.forward(&target);
    thread::sleep(Duration::from_millis(100));
    logs.say("hello", 1, "out 6", b"first");
    assert_eq!(text(&datagram(&collector)), b"first");
    forwarder.end();
}

#[test]
fn what_cannot_be_meant_is_refused() {
    for arguments in [
        &["--forward", "tls://logs"][..],
        &["--forward", "logs", "--name", "x"],
        &["--forward", "logs", "--socket-fd", "3"],
        &["--forward", "logs", "--persistent-dir", "/x"],
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_logd"))
            .args(arguments)
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
    }
}
