//! A machine under test: its disk, its network, and the questions that scenarios ask it.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use gokrazy_core::atomic::{self, Durability};
use serde_json::Value;

use super::console;
use crate::clock;
use crate::image::Built;
use crate::vm::console::Echo;
use crate::vm::disk::Disk;
use crate::vm::guest::{self, Ending, Guest, Setting};
use crate::vm::http::{Answer, Page};
use crate::vm::lan::{GUEST, Lan, TAP};
use crate::vm::monitor;
use crate::vm::qemu::{Card, Clock, Machine, Net};

/// How long a machine may take, on a loaded host and without hardware virtualisation, from power to page.
const BOOT_LIMIT: Duration = Duration::from_secs(300);

/// How long it may take to stop its services and go down.
const END_LIMIT: Duration = Duration::from_secs(120);

/// How long one request may take.
const REQUEST_LIMIT: Duration = Duration::from_secs(30);

/// How often a machine may start anew before it must come up: each slot has three attempts.
const MAX_REBOOTS: usize = 7;

/// How often a state is looked at again.
const PAUSE: Duration = Duration::from_millis(500);

/// Lines of the console that a failure shows, and of a server's log.
const CONSOLE_END: usize = 60;
const SERVER_END: usize = 10;

/// A machine under test.
pub(super) struct Lab<'a> {
    lan: &'a Lan,
    setting: Setting,
    hostname: String,
    password: String,
    page: Page,
    stranger: Page,
}

impl<'a> Lab<'a> {
    /// Flashes `image` to a new disk of at least `disk` bytes.
    pub(super) fn new(
        lan: &'a Lan,
        machine: Machine,
        image: &Built,
        folder: PathBuf,
        disk: u64,
    ) -> Result<Self> {
        if folder.exists() {
            fs::remove_dir_all(&folder).with_context(|| format!("clear {}", folder.display()))?;
        }
        let disk = Disk::flash(&image.path, &folder.join("disk.img"), machine, disk)?;
        let base = format!("http://{GUEST}");
        Ok(Self {
            lan,
            setting: Setting {
                machine,
                disk,
                faults: None,
                folder,
                net: Net::Tap {
                    name: TAP.to_owned(),
                },
                namespace: Some(lan.namespace().to_owned()),
                // A battery-backed clock that is wrong must be set right, and a Pi has none.
                clock: match machine {
                    Machine::Raspi3b => Clock::Host,
                    Machine::Virt | Machine::Pc => Clock::From("2001-01-01".to_owned()),
                },
                card: Card::BuiltIn,
                echo: Echo::Hidden,
            },
            hostname: image.hostname.clone(),
            password: image.password.clone(),
            page: Page::new(&base, Some(&image.password)),
            stranger: Page::new(&base, None),
        })
    }

    /// Its disk; to be touched while it is off.
    pub(super) fn disk(&self) -> &Disk {
        &self.setting.disk
    }

    /// The host name that its image was made with.
    pub(super) fn hostname(&self) -> &str {
        &self.hostname
    }

    /// The password of its page.
    pub(super) fn password(&self) -> &str {
        &self.password
    }

    /// A folder for a scenario's own files.
    pub(super) fn scratch(&self, name: &str) -> PathBuf {
        self.setting.folder.join(name)
    }

    /// The network that it is plugged into.
    pub(super) fn lan(&self) -> &Lan {
        self.lan
    }

    /// Switches it on.
    pub(super) fn power_on(&self) -> Result<Guest> {
        Guest::power_on(&self.setting)
    }

    /// Switches it on without its network card.
    pub(super) fn power_on_without_card(&self) -> Result<Guest> {
        Guest::power_on(&Setting {
            card: Card::Late,
            ..self.setting.clone()
        })
    }

    /// Switches it on with a disk that refuses to write sectors, by their LBA.
    pub(super) fn power_on_with_faults(&self, lbas: &[u64]) -> Result<Guest> {
        let path = self.scratch("faults.conf");
        let rule = |lba| {
            format!(
                "[inject-error]\nevent = \"none\"\niotype = \"write\"\nerrno = \"5\"\nsector = \"{lba}\"\n"
            )
        };
        let rules: String = lbas.iter().map(rule).collect();
        atomic::replace(&path, rules.as_bytes(), 0o644, Durability::Volatile)?;
        Guest::power_on(&Setting {
            faults: Some(path),
            ..self.setting.clone()
        })
    }

    /// Asks QEMU's monitor.
    pub(super) fn ask_monitor(&self, command: &str, arguments: &Value) -> Result<()> {
        self.lan.inside(|| monitor::ask(command, arguments))
    }

    /// Asks for the page as somebody without a password, until there is an answer.
    pub(super) fn first_answer(&self, guest: &mut Guest) -> Result<Answer> {
        let ask = || {
            self.lan
                .inside(|| self.stranger.get("/", "text/html", REQUEST_LIMIT))
        };
        self.until(guest, BOOT_LIMIT, "the page answers", || ask().ok())
    }

    /// Like [`Self::first_answer`], where the machine may find a slot wanting and start anew.
    pub(super) fn first_answer_over_reboots(&self, guest: &mut Guest) -> Result<Answer> {
        for _ in 0..MAX_REBOOTS {
            match self.first_answer(guest) {
                Err(_) if guest.ending()? == Some(Ending::Reboot) => *guest = self.power_on()?,
                answer => return answer,
            }
        }
        bail!("it started anew {MAX_REBOOTS} times\n{}", self.story(guest))
    }

    /// Asks for the page with `password`.
    pub(super) fn ask_with(&self, password: &str) -> Result<Answer> {
        let page = Page::new(format!("http://{GUEST}"), Some(password));
        self.lan
            .inside(|| page.get("/", "text/html", REQUEST_LIMIT))
    }

    /// Whether nobody answers within `limit`.
    pub(super) fn is_silent(&self, limit: Duration) -> bool {
        let answer = self
            .lan
            .inside(|| self.stranger.get("/", "text/html", limit));
        answer.is_err()
    }

    /// Posts `body` to `path` as its owner.
    pub(super) fn post(&self, path: &str, body: &str) -> Result<Answer> {
        self.lan
            .inside(|| self.page.post(path, body, REQUEST_LIMIT))
    }

    /// Asks for the page as its owner.
    pub(super) fn owner(&self) -> Result<Answer> {
        self.lan
            .inside(|| self.page.get("/", "text/html", REQUEST_LIMIT))
    }

    /// The machine's status.
    pub(super) fn status(&self) -> Result<Value> {
        self.lan.inside(|| self.page.json("/", REQUEST_LIMIT))
    }

    /// A service's log as text, or nothing while there is none.
    pub(super) fn log_of(&self, name: &str) -> String {
        let path = format!("/api/v1/services/{name}/log?lines=200");
        let answer = self
            .lan
            .inside(|| self.page.get(&path, "text/plain", REQUEST_LIMIT));
        answer
            .ok()
            .filter(|answer| answer.status == 200)
            .map_or_else(String::new, |answer| answer.body)
    }

    /// Waits until a service has printed `words`, and returns its log.
    pub(super) fn until_logged(
        &self,
        guest: &mut Guest,
        name: &str,
        words: &str,
    ) -> Result<String> {
        self.until(
            guest,
            BOOT_LIMIT,
            &format!("{name} prints `{words}`"),
            || Some(self.log_of(name)).filter(|log| log.contains(words)),
        )
    }

    /// A service as the API describes it.
    pub(super) fn service(&self, name: &str) -> Result<Value> {
        let path = format!("/api/v1/services/{name}");
        self.lan.inside(|| self.page.json(&path, REQUEST_LIMIT))
    }

    /// Waits until a service, as the API describes it, satisfies `judge`.
    pub(super) fn service_where(
        &self,
        guest: &mut Guest,
        name: &str,
        what: &str,
        judge: impl Fn(&Value) -> bool,
    ) -> Result<Value> {
        let found = self.until(guest, BOOT_LIMIT, what, || {
            self.service(name).ok().filter(&judge)
        });
        found.with_context(|| format!("the last was {}", self.service(name).unwrap_or_default()))
    }

    /// Waits until the status satisfies `judge`, and returns it.
    pub(super) fn status_where(
        &self,
        guest: &mut Guest,
        what: &str,
        judge: impl Fn(&Value) -> bool,
    ) -> Result<Value> {
        let mut last = None;
        let found = self.until(guest, BOOT_LIMIT, what, || {
            last = self.status().ok().or(last.take());
            last.clone().filter(&judge)
        });
        found.with_context(|| format!("the last status was {}", last.unwrap_or_default()))
    }

    /// Posts to `path` as its owner, which must be accepted, and waits for the run's end.
    pub(super) fn end_by(&self, mut guest: Guest, path: &str, want: Ending) -> Result<Vec<String>> {
        let answer = self.post(path, "")?;
        let accepted = (200..400).contains(&answer.status);
        ensure!(
            accepted,
            "{path}: status {}: {}",
            answer.status,
            answer.body
        );
        let ending = guest.wait_for_end(END_LIMIT)?;
        ensure!(ending == want, "{path} ended in {ending:?}, not {want:?}");
        Ok(guest.console().lines())
    }

    /// Asks again and again, as long as the machine runs.
    pub(super) fn until<T>(
        &self,
        guest: &mut Guest,
        limit: Duration,
        what: &str,
        mut ask: impl FnMut() -> Option<T>,
    ) -> Result<T> {
        let mut ended = None;
        let answer = clock::poll(limit, PAUSE, || match guest.ending() {
            Ok(None) => ask().map(Ok),
            Ok(Some(ending)) => {
                ended = Some(ending);
                Some(Err(anyhow!("the machine ended ({ending:?}) before {what}")))
            }
            Err(error) => Some(Err(error)),
        });
        match answer {
            Some(answer) => answer.with_context(|| self.story(guest)),
            None => bail!(
                "waited {} s until {what}\n{}",
                limit.as_secs(),
                self.story(guest)
            ),
        }
    }

    /// What helps to understand a failure.
    ///
    /// Of a failure on a build server nothing else is left: what init said, what looks like trouble, and the end.
    fn story(&self, guest: &Guest) -> String {
        let lines = guest.console().lines();
        let (earlier, end) = lines.split_at(lines.len().saturating_sub(CONSOLE_END));
        let telling: Vec<&str> = earlier
            .iter()
            .map(String::as_str)
            .filter(|line| console::is_telling(line))
            .collect();
        let complaint = guest::complaint(&self.setting);
        format!(
            "the console told of\n{}\nand ends with\n{}\nQEMU said: {}\nthe DHCP server's log ends with\n{}\nall of it: {}",
            tail(telling.join("\n").as_str(), CONSOLE_END),
            end.join("\n"),
            tail(&complaint, SERVER_END),
            tail(&self.lan.log_of("dnsmasq"), SERVER_END),
            self.setting.folder.join("console.log").display()
        )
    }
}

/// The last lines of a text.
fn tail(text: &str, most: usize) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let from = lines.len().saturating_sub(most);
    lines.get(from..).unwrap_or_default().join("\n")
}

/// The text of a field, or nothing.
pub(super) fn text<'a>(status: &'a Value, field: &str) -> &'a str {
    status
        .get(field)
        .and_then(Value::as_str)
        .unwrap_or_default()
}

/// A service's part of the status.
pub(super) fn service<'a>(status: &'a Value, name: &str) -> Option<&'a Value> {
    let services = status.get("Services")?.as_array()?;
    services
        .iter()
        .find(|service| text(service, "Name") == name)
}
