//! An init in a PID namespace of its own, and what tests ask of it.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "a test that cannot go on fails; it reads the clock and waits for its child"
)]
#![allow(dead_code, clippy::allow_attributes, reason = "no test uses all of it")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value;

/// How long anything may take before a test gives up: the machine may be loaded.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// A running init with a folder of its own.
pub(crate) struct Init {
    child: Child,
    pub(crate) folder: PathBuf,
}

/// How the namespace of an init is made.
#[derive(Default)]
pub(crate) struct Setup<'a> {
    /// Shell words between the namespace and init, such as `prlimit --nofile=40`.
    pub(crate) before: &'a [&'a str],
    /// Further flags.
    pub(crate) flags: &'a [&'a str],
    /// A shell command in the new mount namespace, before init.
    pub(crate) prepare: &'a str,
    /// Where the services' tables are, instead of in a file of the test's text.
    pub(crate) tables: Option<&'a Path>,
}

impl Init {
    pub(crate) fn start(name: &str, services: &str) -> Self {
        Self::start_with(name, services, &Setup::default())
    }

    pub(crate) fn start_with(name: &str, services: &str, setup: &Setup<'_>) -> Self {
        assert!(
            nix::unistd::geteuid().is_root(),
            "run the tests of init as root: sudo -E cargo test -p gokrazy-init"
        );
        let folder = std::env::temp_dir().join(format!("in-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(folder.join("run")).unwrap();
        write(&folder.join("services.toml"), services);
        let script = format!("{}\nexec \"$@\"", setup.prepare);
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(folder.join("console"))
            .unwrap();
        let mut command = Command::new("unshare");
        command
            .args([
                "--pid",
                "--fork",
                "--mount-proc",
                "--kill-child",
                "sh",
                "-ec",
                &script,
                "sh",
            ])
            .args(setup.before)
            .arg(env!("CARGO_BIN_EXE_init"))
            .args(["--no-boot", "--services"])
            .arg(setup.tables.unwrap_or(&folder.join("services.toml")))
            .arg("--run-dir")
            .arg(folder.join("run"))
            .arg("--home-dir")
            .arg(folder.join("home"))
            .args(setup.flags)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        let child = command
            .spawn()
            .expect("unshare: apt-get install util-linux");
        let init = Self { child, folder };
        init.until("the control socket", || {
            init.run_dir().join("control.sock").exists().then_some(())
        });
        init
    }

    /// The run folder as init sees it, which may have mounts of its own.
    pub(crate) fn run_dir(&self) -> PathBuf {
        let inside = self.folder.join("run");
        match self.try_pid() {
            Some(pid) => PathBuf::from(format!("/proc/{pid}/root{}", inside.display())),
            None => inside,
        }
    }

    fn try_pid(&self) -> Option<i32> {
        let children = format!("/proc/{0}/task/{0}/children", self.child.id());
        fs::read_to_string(children).ok()?.trim().parse().ok()
    }

    /// PID 1 of the namespace, by its number outside.
    pub(crate) fn pid(&self) -> i32 {
        self.try_pid().unwrap()
    }

    pub(crate) fn signal(&self, signal: nix::sys::signal::Signal) {
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(self.pid()), signal).unwrap();
    }

    pub(crate) fn ctl(&self, words: &[&str]) -> Output {
        let run_dir = self.run_dir();
        Command::new(env!("CARGO_BIN_EXE_init"))
            .args(["ctl", "--run-dir"])
            .arg(run_dir)
            .args(words)
            .output()
            .unwrap()
    }

    #[track_caller]
    pub(crate) fn ctl_ok(&self, words: &[&str]) -> String {
        let output = self.ctl(words);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success(),
            "{words:?}: {error}\n{}",
            self.console()
        );
        String::from_utf8(output.stdout).unwrap()
    }

    pub(crate) fn status(&self, name: &str) -> Value {
        serde_json::from_str(&self.ctl_ok(&["status", name, "--json"])).unwrap()
    }

    pub(crate) fn state(&self, name: &str) -> String {
        self.status(name)["state"].as_str().unwrap().to_owned()
    }

    #[track_caller]
    pub(crate) fn until_state(&self, name: &str, state: &str) -> Value {
        self.until(&format!("{name} to be {state}"), || {
            let status = self.status(name);
            (status["state"] == state).then_some(status)
        })
    }

    /// The texts of a log.
    pub(crate) fn log(&self, name: &str) -> Vec<String> {
        let output = self.ctl(&["logs", name, "--json"]);
        let lines = String::from_utf8_lossy(&output.stdout).into_owned();
        let text = |line: &str| {
            serde_json::from_str::<Value>(line).unwrap()["text"]
                .as_str()
                .unwrap()
                .to_owned()
        };
        lines.lines().map(text).collect()
    }

    #[track_caller]
    pub(crate) fn until_logged(&self, name: &str, wanted: &str) {
        self.until(&format!("{name} to print {wanted:?}"), || {
            self.log(name)
                .iter()
                .any(|line| line.contains(wanted))
                .then_some(())
        });
    }

    pub(crate) fn console(&self) -> String {
        fs::read_to_string(self.folder.join("console")).unwrap_or_default()
    }

    /// Waits until `get` has something.
    #[track_caller]
    pub(crate) fn until<T>(&self, what: &str, mut get: impl FnMut() -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(value) = get() {
                return value;
            }
            assert!(
                Instant::now() < deadline,
                "waited for {what}\n{}",
                self.console()
            );
            sleep(Duration::from_millis(10));
        }
    }

    /// Waits for the end of init and returns its exit code.
    #[track_caller]
    pub(crate) fn wait(&mut self) -> Option<i32> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            assert!(
                Instant::now() < deadline,
                "waited for init to end\n{}",
                self.console()
            );
            sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Init {
    fn drop(&mut self) {
        // Killing PID 1 of a namespace kills all in it.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("kept {}", self.folder.display());
        } else {
            let _ = fs::remove_dir_all(&self.folder);
        }
    }
}

/// `init ctl logs --follow`, and the file that it writes to.
pub(crate) struct Follower {
    pub(crate) child: Child,
    file: PathBuf,
}

impl Follower {
    /// Follows the log of service `name`, of an init whose run folder is seen from outside; `number` tells followers
    /// apart.
    pub(crate) fn start(init: &Init, name: &str, number: usize) -> Self {
        let file = init.folder.join(format!("follower-{number}"));
        let mut command = Command::new(env!("CARGO_BIN_EXE_init"));
        command
            .args(["ctl", "logs", name, "--follow", "--run-dir"])
            .arg(init.folder.join("run"))
            .stdin(Stdio::null())
            .stdout(fs::File::create(&file).unwrap());
        let child = command.spawn().unwrap();
        Self { child, file }
    }

    /// What it has printed.
    pub(crate) fn text(&self) -> String {
        fs::read_to_string(&self.file).unwrap_or_default()
    }

    #[track_caller]
    pub(crate) fn until(&self, init: &Init, wanted: &str) {
        init.until(&format!("a follower to print {wanted:?}"), || {
            self.text().contains(wanted).then_some(())
        });
    }

    /// Its exit code, once it has ended.
    #[track_caller]
    pub(crate) fn wait(&mut self, init: &Init) -> Option<i32> {
        let status = init.until("the end of a follower", || self.child.try_wait().unwrap());
        status.code()
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn write(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
}

/// A service of root's that runs a shell command.
pub(crate) fn sh(name: &str, script: &str, more: &str) -> String {
    format!(
        "[[service]]\nname = '{name}'\nuser = 'root'\ncommand = ['/bin/sh', '-c', '''{script}''']\n{more}\n"
    )
}
