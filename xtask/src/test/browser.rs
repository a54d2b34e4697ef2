//! The browser level: headless Chromium looks at the page that the real `web` serves from made-up state files.
//!
//! Chromium says on its standard error what a page's console would show: a blocked script, a broken style sheet, a
//! mistake in our own script.
//! Screenshots are left in `target/browser`, for people to look at.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use gokrazy_core::addresses::Addresses;
use gokrazy_core::atomic::{self, Durability};
use gokrazy_core::boot_info::BootInfo;
use gokrazy_core::clock::ClockState;
use gokrazy_core::paths;

use super::report::Report;
use crate::process;
use crate::setup::{self, Purpose};
use crate::workspace::Workspace;

const PASSWORD: &str = "only-for-this-test";

/// How long `web` may take to listen.
const PATIENCE: Duration = Duration::from_secs(30);

/// How often Chromium is started for one look.
const STARTS: u32 = 3;

/// Screens: name, width, height.
const SCREENS: [(&str, u32, u32); 2] = [("desk", 1280, 900), ("telephone", 390, 844)];

/// Runs all of it.
pub(super) fn run(workspace: &Workspace, report: &mut Report) {
    report.title("browser: the page in headless Chromium");
    let desk = setup::ensure(workspace, Purpose::Test).and_then(|()| Desk::open(workspace));
    let desk = match desk {
        Ok(desk) => desk,
        Err(error) => return report.case("browser tests can run here", Err(error)),
    };
    report.case("the overview shows the machine", desk.overview());
    report.case("a hostile service name stays text", desk.hostile_text());
    report.case("a service has a page of its own", desk.service_page());
    for (name, width, height) in SCREENS {
        report.case(
            &format!("the page fills a {name}'s screen"),
            desk.screenshot(name, width, height),
        );
    }
}

/// A served page, and a folder for what the browser makes of it.
struct Desk {
    folder: PathBuf,
    web: Child,
    base: String,
}

impl Desk {
    fn open(workspace: &Workspace) -> Result<Self> {
        let mut build = Command::new("cargo");
        build.current_dir(workspace.root()).args([
            "build",
            "--quiet",
            "--package",
            "gokrazy-init",
            "--bin",
            "web",
        ]);
        process::show(&mut build)?;
        let folder = workspace.target().join("browser");
        if folder.exists() {
            fs::remove_dir_all(&folder).with_context(|| format!("clear {}", folder.display()))?;
        }
        write_state(&folder)?;
        let (web, address) = serve(&workspace.target().join("debug/web"), &folder)?;
        Ok(Self {
            folder,
            web,
            base: format!("http://gokrazy:{PASSWORD}@{address}"),
        })
    }

    /// The page's document after its scripts ran.
    fn document(&self, path: &str) -> Result<String> {
        let output = self.chromium(&["--dump-dom", &format!("{}{path}", self.base)])?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    fn overview(&self) -> Result<()> {
        let document = self.document("/")?;
        for words in ["Raspberry Pi 3 Model B", "hello", "running", "crash"] {
            ensure!(
                document.contains(words),
                "the page does not show `{words}`:\n{document}"
            );
        }
        Ok(())
    }

    fn hostile_text(&self) -> Result<()> {
        let document = self.document("/")?;
        ensure!(
            document.contains("&lt;script&gt;"),
            "the service's status is not shown as text:\n{document}"
        );
        ensure!(
            !document.contains("<script>alert"),
            "the service's status became part of the page"
        );
        Ok(())
    }

    fn service_page(&self) -> Result<()> {
        let document = self.document("/status?path=hello")?;
        ensure!(
            document.contains("/user/hello"),
            "the service's page does not show its command:\n{document}"
        );
        Ok(())
    }

    fn screenshot(&self, name: &str, width: u32, height: u32) -> Result<()> {
        let picture = self.folder.join(format!("{name}.png"));
        let option = format!("--screenshot={}", picture.display());
        let size = format!("--window-size={width},{height}");
        self.chromium(&[
            &option,
            &size,
            "--hide-scrollbars",
            &format!("{}/", self.base),
        ])?;
        let length = fs::metadata(&picture)
            .with_context(|| format!("look at {}", picture.display()))?
            .len();
        // One colour packs into a few hundred bytes.
        ensure!(
            length > 5_000,
            "{} has {length} bytes, so the page is empty",
            picture.display()
        );
        Ok(())
    }

    /// Runs Chromium, which must have nothing to complain of the page.
    ///
    /// Started anew if it stands still: on a loaded machine its processes lose each other now and then, whatever the
    /// page is.
    fn chromium(&self, arguments: &[&str]) -> Result<Output> {
        let mut last = self.chromium_once(arguments);
        for _ in 1..STARTS {
            if !stood_still(&last) {
                break;
            }
            last = self.chromium_once(arguments);
        }
        last
    }

    fn chromium_once(&self, arguments: &[&str]) -> Result<Output> {
        let mut command = Command::new("timeout");
        command.args([
            "60",
            "chromium",
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--no-first-run",
        ]);
        command.args([
            "--enable-logging=stderr",
            "--disable-extensions",
            // Not in virtual time: that stands still while a page follows a log without an end.
            "--timeout=5000",
        ]);
        // Nothing of the page may come from elsewhere, and nothing of the test may go there.
        command.arg("--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1");
        command.arg(format!(
            "--user-data-dir={}",
            self.folder.join("profile").display()
        ));
        let output = process::capture(command.args(arguments))?;
        let said = String::from_utf8_lossy(&output.stderr);
        let complaints: Vec<&str> = said
            .lines()
            .filter(|line| line.contains(":CONSOLE"))
            .collect();
        ensure!(
            complaints.is_empty(),
            "Chromium complains:\n{}",
            complaints.join("\n")
        );
        Ok(output)
    }
}

/// Whether timeout(1) had to end it, which leaves with 124.
fn stood_still(result: &Result<Output>) -> bool {
    result
        .as_ref()
        .is_err_and(|error| format!("{error:#}").contains("exit status: 124"))
}

impl Drop for Desk {
    #[expect(
        clippy::disallowed_methods,
        reason = "xtask is no supervisor: nobody else reaps this child"
    )]
    fn drop(&mut self) {
        // Both fail only if web is gone already, which is what is wanted.
        let _ = self.web.kill();
        let _ = self.web.wait();
    }
}

/// Starts `web`, and returns where it listens.
fn serve(program: &Path, folder: &Path) -> Result<(Child, String)> {
    let at = |name: &str| folder.join(name);
    let mut command = Command::new("setpriv");
    command
        .args(["--pdeathsig", "KILL"])
        .arg(program)
        .args(["--listen", "127.0.0.1:0"]);
    command
        .arg("--run-dir")
        .arg(at("run"))
        .arg("--password-file")
        .arg(at("password"));
    command
        .arg("--http-socket")
        .arg(at("web.sock"))
        .arg("--perm-dir")
        .arg(at("perm"));
    let mut web = command
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("start {}", program.display()))?;
    let log = web.stderr.take().context("take web's log")?;
    let (sender, addresses) = mpsc::channel();
    // It ends with web, whose log it must go on reading: a full pipe would stop web.
    thread::spawn(move || {
        for line in BufReader::new(log).lines().map_while(Result::ok) {
            let address = line.strip_prefix("web: listening on 127.0.0.1:");
            // Nobody listens any more once the first address came, and that is fine.
            address
                .into_iter()
                .for_each(|port| drop(sender.send(format!("127.0.0.1:{port}"))));
        }
    });
    match addresses.recv_timeout(PATIENCE) {
        Ok(address) => Ok((web, address)),
        Err(_) => bail!("{} does not say where it listens", program.display()),
    }
}

fn write_state(folder: &Path) -> Result<()> {
    let run = folder.join("run");
    for part in ["run/service", "run/net", "perm"] {
        let path = folder.join(part);
        fs::create_dir_all(&path).with_context(|| format!("make {}", path.display()))?;
    }
    let hash = web_password::hash(PASSWORD, b"0123456789abcdef", web_password::Cost::Random)?;
    write(&folder.join("password"), &hash)?;
    write(&run.join(paths::BOOT_INFO), &boot().render())?;
    let addresses = Addresses {
        private: vec!["127.0.0.1".to_owned()],
        public: Vec::new(),
        no_carrier: Vec::new(),
    };
    write(&run.join(paths::ADDRESSES), &addresses.render())?;
    let clock = ClockState {
        synchronised: true,
        since: Some(1_790_000_000),
        ..ClockState::default()
    };
    write(&run.join(paths::CLOCK), &clock.render())?;
    for (name, state) in [("hello", "running"), ("greedy", "crash-loop")] {
        write(
            &run.join(paths::SERVICE_DIR).join(name),
            &service(name, state),
        )?;
    }
    Ok(())
}

fn write(path: &Path, text: &str) -> Result<()> {
    atomic::replace(path, text.as_bytes(), 0o644, Durability::Volatile)
        .with_context(|| format!("write {}", path.display()))
}

fn boot() -> BootInfo {
    BootInfo {
        build_id: "0123456789abcdef".to_owned(),
        model: "Raspberry Pi 3 Model B".to_owned(),
        machine_id: "00112233445566778899aabbccddeeff".to_owned(),
        boot_id: "5b0ae8bd-8a5a-4f71-b9bd-1d4a2a7e7d0f".to_owned(),
        ..BootInfo::default()
    }
}

/// The file that init would write of a service.
fn service(name: &str, state: &str) -> String {
    format!(
        "name={name}\nstate={state}\ncommand=/user/{name}\npid=1\nuid=10017\nsince_ms=2410\n\
         started_at_ms=1790000000123\nrestarts=2\nlast_exit='exit status 1'\n\
         status_text='<script>alert(1)</script>'\n"
    )
}
