//! A folder with seeds and a machine id, in which the program itself runs, alone or under strace.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

pub(crate) const ID: &str = "00112233445566778899aabbccddeeff";
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_randomd");
const DEADLINE: Duration = Duration::from_secs(30);

/// The folder; removed in the end.
pub(crate) struct Room(pub(crate) PathBuf);

impl Room {
    pub(crate) fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("randomd-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(path.join("seeds")).unwrap();
        fs::write(path.join("machine-id"), format!("{ID}\n")).unwrap();
        Self(path)
    }

    pub(crate) fn seeds(&self) -> PathBuf {
        self.0.join("seeds")
    }

    pub(crate) fn seed(&self, name: &str) -> PathBuf {
        self.seeds().join(name)
    }

    pub(crate) fn arguments(&self, more: &[&str]) -> Vec<String> {
        let seed_dir = format!("--seed-dir={}", self.seeds().display());
        let machine_id = format!("--machine-id={}", self.0.join("machine-id").display());
        let board_id = format!("--board-id={}", self.0.join("board").display());
        let own = [seed_dir, machine_id, board_id].into_iter();
        own.chain(more.iter().map(ToString::to_string)).collect()
    }

    pub(crate) fn run(&self, more: &[&str]) -> Output {
        let mut command = Command::new("timeout");
        command.args(["60", PROGRAM]).args(self.arguments(more));
        command.output().unwrap()
    }

    pub(crate) fn start(&self, more: &[&str]) -> Running {
        let mut command = Command::new(PROGRAM);
        Running::start(command.args(self.arguments(more)))
    }

    /// What lies in the folder, sorted.
    pub(crate) fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.seeds()).unwrap();
        let name = |entry: fs::DirEntry| entry.file_name().into_string().unwrap();
        let mut names: Vec<String> = entries.map(|entry| name(entry.unwrap())).collect();
        names.sort();
        names
    }

    /// Runs under strace, with the calls that matter in the order that they were made.
    pub(crate) fn trace(&self, injection: &[&str], more: &[&str]) -> Vec<String> {
        let log = self.0.join("trace");
        let output = Command::new("strace")
            .arg("-o")
            .arg(&log)
            .args([
                "-e",
                "trace=openat,read,unlinkat,fsync,flock,ioctl,write,renameat,getrandom",
            ])
            .args(injection)
            .arg(PROGRAM)
            .args(self.arguments(more))
            .output()
            .expect("run strace; install it with: apt-get install -y strace");
        assert!(output.status.success(), "{}", text(&output));
        let calls = fs::read_to_string(&log).unwrap();
        calls.lines().map(str::to_owned).collect()
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A daemon; one whose test has failed is killed.
pub(crate) struct Running(Option<Child>);

impl Running {
    pub(crate) fn start(command: &mut Command) -> Self {
        let child = command.stderr(Stdio::piped()).spawn();
        Self(Some(child.unwrap()))
    }

    pub(crate) fn signal(&self, name: &str) {
        let pid = self.0.as_ref().unwrap().id().to_string();
        let sent = Command::new("kill").args(["-s", name, &pid]).status();
        assert!(sent.unwrap().success());
    }

    /// Sends SIGTERM, or whichever, and awaits the end.
    pub(crate) fn end_by(mut self, name: &str) -> Output {
        self.signal(name);
        let child = self.0.as_mut().unwrap();
        until("end", || child.try_wait().unwrap().is_some());
        self.0.take().unwrap().wait_with_output().unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

pub(crate) fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

pub(crate) fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < DEADLINE, "no {what} after {DEADLINE:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[track_caller]
pub(crate) fn at(calls: &[String], what: &[&str]) -> usize {
    let fits = |call: &String| what.iter().all(|part| call.contains(part));
    let found = calls.iter().position(fits);
    found.unwrap_or_else(|| panic!("no {what:?} in {calls:#?}"))
}

/// Makes the pool look as it does before it is initialised.
pub(crate) const COLD: [&str; 2] = ["-e", "inject=getrandom:error=EAGAIN"];
