//! `cargo xtask run` itself, as a user calls it: what it prints, the page on loopback, a reboot, Ctrl-C.

use std::fs;
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::process::{Child, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use crate::clock;
use crate::process;
use crate::vm::console::{Console, Echo};
use crate::vm::http::{Answer, Page};
use crate::workspace::Workspace;

/// How long the image may take to be made, or the machine to come up, on a loaded host.
const LIMIT: Duration = Duration::from_secs(600);

/// How long one request may take.
const REQUEST_LIMIT: Duration = Duration::from_secs(30);

/// How long it may take to end.
const END_LIMIT: Duration = Duration::from_secs(60);

const PAUSE: Duration = Duration::from_millis(500);

/// The quickest machine.
const MACHINE: &str = "virt";

/// A guest of its own, beside one that somebody has open.
const NAME: &str = "xtask-test";

/// Plays the user.
pub(super) fn check(workspace: &Workspace) -> Result<()> {
    let folder = workspace.target().join("vm/of-run");
    fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
    let port = free_port()?;
    let mut run = Run::start(port, &folder.join("output.log"))?;
    let url = run.value("page:")?;
    ensure!(
        url == format!("http://127.0.0.1:{port}/"),
        "it said {url}, not port {port}"
    );
    let user = run.value("user:")?;
    ensure!(user == "gokrazy", "it named user {user}");
    let page = Page::new(url.trim_end_matches('/'), Some(&run.value("password:")?));
    let stranger = Page::new(url.trim_end_matches('/'), None);

    ensure!(
        run.answer(&page)?.status == 200,
        "its password opens the page"
    );
    ensure!(run.answer(&stranger)?.status == 401, "others stay outside");
    a_second_one_leaves_the_first_alone()?;
    run.output
        .wait_for(&format!("== the page is up: open {url} "), LIMIT)?;
    page.post("/reboot", "", REQUEST_LIMIT)?;
    run.output.wait_for("== the guest starts anew", LIMIT)?;
    ensure!(
        run.answer(&page)?.status == 200,
        "the page is back after a reboot"
    );

    let status = run.press_ctrl_c()?;
    ensure!(status.success(), "Ctrl-C ended it with {status}");
    run.output.wait_for("switched off", END_LIMIT)?;
    let left = emulators(&format!("run-{NAME}/disk.img"))?;
    ensure!(left.is_empty(), "QEMU is left behind: {}", left.join(", "));
    Ok(())
}

/// It would overwrite the disk of the guest that runs.
fn a_second_one_leaves_the_first_alone() -> Result<()> {
    let port = free_port()?.to_string();
    let second = process::ourselves()
        .args(["run", "--machine", MACHINE, "--name", NAME])
        .args(["--offline", "--http", &port])
        .output()
        .context("start cargo xtask run once more")?;
    let said = String::from_utf8_lossy(&second.stderr);
    ensure!(
        second.status.code() == Some(1) && said.contains("end that one first"),
        "a second run ended with {} and said {said}",
        second.status
    );
    Ok(())
}

/// A running `cargo xtask run`, in a process group of its own, as a shell makes one; dropped, it is gone.
struct Run {
    child: Child,
    output: Console,
}

impl Run {
    fn start(port: u16, log: &std::path::Path) -> Result<Self> {
        let mut child = process::ourselves()
            .args(["run", "--machine", MACHINE, "--name", NAME])
            .args(["--offline", "--http", &port.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()
            .context("start cargo xtask run")?;
        let output = child.stdout.take().context("take its output")?;
        let output = Console::follow(output, log, Echo::Hidden)?;
        Ok(Self { child, output })
    }

    /// What stands behind `name` at a line's start.
    fn value(&self, name: &str) -> Result<String> {
        let line = self.output.wait_for(name, LIMIT)?;
        Ok(line.trim_start_matches(name).trim().to_owned())
    }

    /// The page's first answer.
    fn answer(&mut self, page: &Page) -> Result<Answer> {
        let answer = clock::poll(LIMIT, PAUSE, || {
            let ended = self.child.try_wait().ok().flatten().is_some();
            let answer = page.get("/", "text/html", REQUEST_LIMIT).ok();
            (ended || answer.is_some()).then_some(answer)
        });
        answer.flatten().with_context(|| {
            let lines = self.output.lines();
            let from = lines.len().saturating_sub(20);
            let end = lines.get(from..).unwrap_or_default().join("\n");
            format!("get an answer of the page; the output ends with\n{end}")
        })
    }

    /// A terminal sends it to the whole group.
    fn press_ctrl_c(&mut self) -> Result<ExitStatus> {
        killpg(group(&self.child)?, Signal::SIGINT).context("press Ctrl-C")?;
        clock::poll(END_LIMIT, PAUSE, || self.child.try_wait().ok().flatten())
            .context("wait for the end after Ctrl-C")
    }
}

impl Drop for Run {
    #[expect(
        clippy::disallowed_methods,
        reason = "xtask is no supervisor: nobody else reaps this child"
    )]
    fn drop(&mut self) {
        // QEMU dies with its parent. Both fail only if it is gone already, which is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn group(child: &Child) -> Result<Pid> {
    let id = i32::try_from(child.id()).context("a process id")?;
    Ok(Pid::from_raw(id))
}

fn free_port() -> Result<u16> {
    let listener = TcpListener::bind("127.0.0.1:0").context("find a free port")?;
    Ok(listener.local_addr().context("find a free port")?.port())
}

/// Ids of the processes with `words` in their command line.
fn emulators(words: &str) -> Result<Vec<String>> {
    let entries = fs::read_dir("/proc").context("list processes")?;
    Ok(entries
        .flatten()
        .filter(|entry| {
            let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&line).contains(words)
        })
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect())
}
