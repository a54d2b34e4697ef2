//! `cargo xtask run`: boots an image in an emulated machine, with its page on loopback.

use std::fs::{self, File, TryLockError};
use std::io::{ErrorKind, Read as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use gokrazy_core::layout::SECTOR_BYTES;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use crate::clock;
use crate::image::{self, Board};
use crate::out::{Unread, say};
use crate::setup::{self, Purpose};
use crate::vm::console::Echo;
use crate::vm::disk::Disk;
use crate::vm::fat::BootPartition;
use crate::vm::guest::{self, Ending, Guest, Setting};
use crate::vm::http::Page;
use crate::vm::qemu::{Card, Clock, Machine, Net, Reach};
use crate::workspace::Workspace;

/// How often we look for a signal and for the guest's end.
const PAUSE: Duration = Duration::from_millis(200);

/// What the guest's console says once it has an address on QEMU's own network.
const GUEST_S_ADDRESS: &str = "gokrazy: the page is at ";

/// How long the page may take to answer, before we look at signals again.
const ANSWER_LIMIT: Duration = Duration::from_secs(1);

/// Bytes of the card that an image is flashed to, so that its `/perm` has room.
const CARD: u64 = 2 << 30;

/// What `run` can be told.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The machine to emulate.
    #[arg(long, value_enum, default_value = "raspi3b")]
    machine: Machine,
    /// Name of the guest, which has a disk of its own by that name; without it, the machine's.
    #[arg(long, value_name = "NAME", value_parser = name)]
    name: Option<String>,
    /// Port of loopback on which the page appears.
    #[arg(long, value_name = "PORT", default_value_t = 8080, value_parser = clap::value_parser!(u16).range(1..))]
    http: u16,
    /// Image to boot; without it the machine's own is built first.
    #[arg(long, value_name = "FILE")]
    image: Option<PathBuf>,
    /// Let the guest reach nobody: no server of the network, and not this machine either; its page appears all the same.
    #[arg(long)]
    offline: bool,
    /// Go on with the disk of the last run instead of a fresh copy of the image.
    #[arg(long, conflicts_with = "image")]
    keep: bool,
}

impl Arguments {
    fn guest(&self) -> &str {
        self.name.as_deref().unwrap_or(word(self.machine))
    }
}

/// What can name a folder, and nothing above it.
fn name(text: &str) -> Result<String, String> {
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || letter == '-';
    if text.is_empty() || !text.chars().all(is_plain) {
        return Err("letters, digits and dashes make a name".to_owned());
    }
    match Machine::value_variants()
        .iter()
        .any(|&machine| word(machine) == text)
    {
        true => Err("that is what a machine's guest without a name is called".to_owned()),
        false => Ok(text.to_owned()),
    }
}

/// Boots the image and stays until the guest switches off, or Ctrl-C is pressed.
///
/// # Errors
/// What is missing on this machine, or why the guest does not run.
pub(crate) fn run(workspace: &Workspace, arguments: &Arguments) -> Result<()> {
    setup::ensure(workspace, Purpose::Run)?;
    check_port(arguments.http)?;
    let folder = workspace
        .target()
        .join("vm")
        .join(format!("run-{}", arguments.guest()));
    let _claim = claim(&folder)?;
    let (disk, password) = disk(workspace, arguments, &folder.join("disk.img"))?;
    let setting = Setting {
        machine: arguments.machine,
        disk,
        faults: None,
        folder,
        net: Net::User {
            http: arguments.http,
            reach: match arguments.offline {
                true => Reach::Nobody,
                false => Reach::Outside,
            },
        },
        namespace: None,
        clock: Clock::Host,
        card: Card::BuiltIn,
        echo: Echo::Shown,
    };
    announce(arguments.http, password.as_deref());
    watch(&setting, arguments.http)
}

/// Keeps `folder` for this run as long as what is returned lives: a second one would overwrite the disk of the first
/// guest under its feet.
fn claim(folder: &Path) -> Result<File> {
    fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
    let path = folder.join("lock");
    let file = File::options()
        .create(true)
        .append(true)
        .open(&path)
        .with_context(|| format!("open {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => bail!(
            "another `cargo xtask run` has its guest in {}: end that one first, or give this one a --name",
            folder.display()
        ),
        Err(TryLockError::Error(error)) => {
            Err(error).with_context(|| format!("lock {}", path.display()))
        }
    }
}

/// The disk to boot, and the password of its page if it was made just now.
fn disk(
    workspace: &Workspace,
    arguments: &Arguments,
    file: &Path,
) -> Result<(Disk, Option<String>)> {
    if arguments.keep {
        if !file.exists() {
            bail!(
                "there is no disk of an earlier run at {}: leave out --keep",
                file.display()
            );
        }
        return Ok((Disk::existing(file), None));
    }
    let flash = |image: &Path| Disk::flash(image, file, arguments.machine, CARD);
    match &arguments.image {
        Some(image) => {
            check_image(image, arguments.machine)?;
            Ok((flash(image)?, None))
        }
        None => {
            let built = image::build(workspace, &image_arguments(arguments.machine))?;
            Ok((flash(&built.path)?, Some(built.password)))
        }
    }
}

/// Refuses what is no image for `machine`, before it takes the place of the last run's disk.
fn check_image(image: &Path, machine: Machine) -> Result<()> {
    let name = image.display();
    let mut sector = [0; SECTOR_BYTES as usize];
    let read = File::open(image).and_then(|mut file| file.read_exact(&mut sector));
    match read {
        // The mark at the end of each MBR.
        Ok(()) if sector.ends_with(&[0x55, 0xaa]) => {}
        Err(error) if error.kind() != ErrorKind::UnexpectedEof => {
            return Err(error).with_context(|| format!("read image {name}"));
        }
        Ok(()) | Err(_) => bail!("{name} is no image: it has no partition table"),
    }
    match machine {
        Machine::Raspi3b => BootPartition::open(image).map(drop),
        Machine::Virt | Machine::Pc => Ok(()),
    }
}

fn announce(port: u16, password: Option<&str>) {
    say!("page:      {}/", url(port));
    say!("user:      gokrazy");
    say!(
        "password:  {}",
        password.unwrap_or("the one that the image was made with")
    );
    say!("Ctrl-C ends it\n");
}

fn url(port: u16) -> String {
    format!("http://127.0.0.1:{port}")
}

fn word(machine: Machine) -> &'static str {
    match machine {
        Machine::Raspi3b => "raspi3b",
        Machine::Virt => "virt",
        Machine::Pc => "pc",
    }
}

fn image_arguments(machine: Machine) -> image::Arguments {
    image::Arguments {
        config: None,
        board: Some(board(machine)),
        kernel: None,
        output: None,
    }
}

/// The image that is made for a machine.
pub(crate) fn board(machine: Machine) -> Board {
    match machine {
        Machine::Raspi3b => Board::Pi,
        Machine::Virt => Board::UefiArm64,
        Machine::Pc => Board::UefiAmd64,
    }
}

/// Whether the guest's page answers, if only by asking for the password.
fn answers(port: u16) -> bool {
    let page = Page::new(url(port), None);
    page.get("/", "text/html", ANSWER_LIMIT).is_ok()
}

/// QEMU's own message about a busy port does not say what to do.
fn check_port(port: u16) -> Result<()> {
    std::net::TcpListener::bind(("127.0.0.1", port))
        .map(drop)
        .with_context(|| format!("take port {port} of loopback; --http PORT takes another one"))
}

/// Why we stop watching.
enum Seen {
    Interrupted,
    Ended(Ending),
}

fn watch(setting: &Setting, port: u16) -> Result<()> {
    // Blocked, so that they wait for us; std gives a child an empty mask, so QEMU still ends on Ctrl-C by itself.
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGINT);
    signals.add(Signal::SIGTERM);
    signals.thread_block().context("hold back signals")?;
    let interrupts = SignalFd::with_flags(&signals, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)
        .context("make a descriptor of signals")?;
    loop {
        let mut guest = Guest::power_on(setting)?;
        match watch_once(&mut guest, &interrupts, port)? {
            Seen::Interrupted => {
                drop(guest);
                say!(
                    "\nswitched off; `--keep` goes on with {}",
                    setting.disk.path().display()
                );
                return Ok(());
            }
            Seen::Ended(Ending::Reboot) if guest.console().lines().is_empty() => {
                bail!(
                    "the guest ended without a word; is {} an image for it?",
                    setting.disk.path().display()
                )
            }
            Seen::Ended(Ending::Reboot) => say!("\n== the guest starts anew\n"),
            Seen::Ended(Ending::PowerOff) => {
                say!("\nthe guest switched itself off");
                return Ok(());
            }
            Seen::Ended(Ending::Stopped) => {
                bail!("QEMU ended by itself:\n{}", guest::complaint(setting))
            }
        }
    }
}

fn watch_once(guest: &mut Guest, interrupts: &SignalFd, port: u16) -> Result<Seen> {
    let mut told = false;
    loop {
        if !told && guest.console().has(GUEST_S_ADDRESS) && answers(port) {
            told = true;
            say!(
                "\n== the page is up: open {}/ (the address above is the guest's own, and leads nowhere from here)\n",
                url(port)
            );
        }
        // Looked for first: on Ctrl-C QEMU ends too, and that is no reboot.
        let ending = guest.ending()?;
        let patience = if ending.is_some() { 2 * PAUSE } else { PAUSE };
        let interrupted = clock::poll(patience, PAUSE / 4, || {
            interrupts.read_signal().ok().flatten()
        });
        if interrupted.is_some() {
            return Ok(Seen::Interrupted);
        }
        if guest.console().is_unheard() {
            return Err(Unread.into());
        }
        if let Some(ending) = ending {
            return Ok(Seen::Ended(ending));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_leads_to_no_other_folder() {
        assert_eq!(name("Two-2").as_deref(), Ok("Two-2"));
        for bad in ["", ".", "..", "a/b", "a b", "a\0", "virt"] {
            assert!(name(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn what_is_no_image_is_told_before_anything_is_overwritten() {
        let folder = std::env::temp_dir().join(format!("xtask-run-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        let check = |content: Option<&[u8]>, machine: Machine| {
            let path = folder.join("image");
            if let Some(bytes) = content {
                let volatile = gokrazy_core::atomic::Durability::Volatile;
                gokrazy_core::atomic::replace(&path, bytes, 0o600, volatile).unwrap();
            }
            check_image(&path, machine).map_err(|error| format!("{error:#}"))
        };
        let refused = |content: Option<&[u8]>, machine: Machine, word: &str| {
            let error = check(content, machine).unwrap_err();
            assert!(error.contains(word) && error.contains("/image"), "{error}");
        };
        let mut marked = [0; 1024];
        marked[510..512].copy_from_slice(&[0x55, 0xaa]);
        refused(None, Machine::Virt, "No such file");
        refused(Some(b""), Machine::Virt, "no partition table");
        refused(Some(&[7; 1024]), Machine::Virt, "no partition table");
        refused(Some(&marked), Machine::Raspi3b, "no FAT partition");
        check(Some(&marked), Machine::Virt).unwrap();
        let error = check_image(&folder, Machine::Virt).unwrap_err();
        assert!(format!("{error:#}").contains("directory"));
        fs::remove_dir_all(folder).unwrap();
    }
}
