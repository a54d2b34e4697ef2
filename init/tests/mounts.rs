//! Disks that tables name, with real file systems on loop devices.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on fails"
)]

mod common;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use common::{Init, Setup, sh};

/// A disk that a test can plug in.
struct Disk {
    image: PathBuf,
    label: String,
    device: Option<String>,
}

impl Disk {
    fn new(name: &str) -> Self {
        let label = format!("in-{name}-{}", std::process::id() % 10_000);
        let image = std::env::temp_dir().join(&label);
        File::create_new(&image).unwrap().set_len(4 << 20).unwrap();
        run("mkfs.ext4", &["-q", "-L", &label, image.to_str().unwrap()]);
        Self {
            image,
            label,
            device: None,
        }
    }

    fn plug_in(&mut self) {
        let device = run(
            "losetup",
            &["--find", "--show", self.image.to_str().unwrap()],
        );
        self.device = Some(device.trim().to_owned());
    }

    fn name(&self) -> &str {
        self.device.as_deref().unwrap().trim_start_matches("/dev/")
    }

    fn table(&self, target: &str) -> String {
        format!(
            "[[mount]]\nsource = 'LABEL={}'\ntarget = '{target}'\n",
            self.label
        )
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if let Some(device) = &self.device {
            let _ = Command::new("losetup").args(["--detach", device]).status();
        }
        let _ = fs::remove_file(&self.image);
    }
}

fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    let output = output
        .unwrap_or_else(|error| panic!("{program}: {error}; apt-get install e2fsprogs mount"));
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {output:?}"
    );
    String::from_utf8(output.stdout).unwrap()
}

/// An init that mounts, with a `/mnt` of its own.
fn start(name: &str, tables: &str) -> Init {
    let setup = Setup {
        prepare: "mount -t tmpfs in-mnt /mnt",
        flags: &["--mounts"],
        ..Setup::default()
    };
    Init::start_with(name, tables, &setup)
}

/// Init's view of a path.
fn inside(init: &Init, path: &str) -> PathBuf {
    Path::new(&format!("/proc/{}/root", init.pid())).join(path.trim_start_matches('/'))
}

#[test]
fn a_disk_that_comes_later_is_mounted_and_nothing_was_written_underneath() {
    let mut disk = Disk::new("late");
    let writes = "echo early > /mnt/disk/x || echo guarded; exec sleep 1000";
    let waits = "cat /mnt/disk/there; echo y > /mnt/disk/y && echo wrote; exec sleep 1000";
    let tables = disk.table("/mnt/disk")
        + &sh("early", writes, "")
        + &sh("patient", waits, "wait-for = ['mount:/mnt/disk']");
    let init = start("mount-late", &tables);
    init.until_logged("early", "guarded");
    let said = || init.ctl_ok(&["mounts", "--json"]);
    assert!(said().contains("\"state\":\"waiting\""), "{}", said());
    assert_eq!(init.status("patient")["waiting_for"][0], "mount:/mnt/disk");
    init.until("its absence to be told", || {
        init.console()
            .contains(&format!(
                "/mnt/disk (LABEL={}): waits for its disk",
                disk.label
            ))
            .then_some(())
    });
    disk.plug_in();
    init.until_logged("patient", "wrote");
    let mounted = format!("\"device\":\"/dev/{}\"", disk.name());
    assert!(said().contains(&mounted), "{}", said());
    assert!(init.ctl_ok(&["status"]).contains("/mnt/disk (LABEL="));
    assert!(inside(&init, "/mnt/disk/y").exists() && !inside(&init, "/mnt/disk/x").exists());
    let table = fs::read_to_string(format!("/proc/{}/mountinfo", init.pid())).unwrap();
    let line = table
        .lines()
        .rfind(|line| line.contains(" /mnt/disk "))
        .unwrap();
    assert!(line.contains(&format!("/dev/{}", disk.name())), "{line}");
    assert!(line.contains("nosuid") && line.contains("nodev"), "{line}");
}

/// What the kernel announces when a disk is pulled out.
#[test]
fn a_disk_that_goes_is_told_and_what_lies_underneath_is_guarded_again() {
    let mut disk = Disk::new("gone");
    disk.plug_in();
    // Behind fences of its own, it sees the disk come all the same.
    let script =
        "while ! mkdir /mnt/disk/a 2>/dev/null; do sleep 0.05; done; echo made; exec sleep 1000";
    let tables = disk.table("/mnt/disk") + &sh("fenced", script, "private-tmp = true");
    let init = start("mount-gone", &tables);
    init.until_logged("fenced", "made");
    let announce = format!("/sys/class/block/{}/uevent", disk.name());
    fs::OpenOptions::new()
        .write(true)
        .open(announce)
        .and_then(|mut file| std::io::Write::write_all(&mut file, b"remove"))
        .unwrap();
    init.until("the loss to be told", || {
        init.console().contains("is gone").then_some(())
    });
    // It is there again as soon as it is looked for, for this one was not pulled out: the guard is for an instant.
    init.until("it to be mounted anew", || {
        (init.console().matches("mounted /dev/").count() == 2).then_some(())
    });
}

#[test]
fn a_disk_that_cannot_be_mounted_stops_nobody_and_is_told() {
    let mut disk = Disk::new("bad");
    disk.plug_in();
    let table = disk.table("/mnt/disk") + "type = 'nosuchfs'\n";
    let tables = table
        + &sh("a", "exec sleep 1000", "")
        + &sh("b", "exit 0", "wait-for = ['mount:/mnt/disk']");
    let init = start("mount-bad", &tables);
    init.until_state("a", "running");
    init.until("the reason", || {
        init.console()
            .contains("this kernel knows no nosuchfs")
            .then_some(())
    });
    assert_eq!(init.state("b"), "waiting");
}

#[test]
fn without_the_flag_disks_are_left_to_others() {
    let tables = "[[mount]]\nsource = 'LABEL=in-none'\ntarget = '/mnt/in-none'\n".to_owned()
        + &sh("a", "exec sleep 1000", "");
    let init = Init::start("mount-not", &tables);
    init.until_state("a", "running");
    assert!(
        init.console()
            .contains("[[mount]] /mnt/in-none: left to others without --mounts")
    );
    assert!(!Path::new("/mnt/in-none").exists());
}

/// Whoever may write to a folder above a mount point could lead root's mounts anywhere.
#[test]
fn no_link_leads_a_mount_elsewhere() {
    let mut disk = Disk::new("link");
    disk.plug_in();
    let setup = Setup {
        prepare: "mount -t tmpfs in-mnt /mnt; mkdir /mnt/victim; ln -s victim /mnt/disk",
        flags: &["--mounts"],
        ..Setup::default()
    };
    let tables = disk.table("/mnt/disk") + &sh("a", "exec sleep 1000", "");
    let init = Init::start_with("mount-link", &tables, &setup);
    init.until_state("a", "running");
    let refused = init.until("the refusal", || {
        let said = init.ctl_ok(&["mounts", "--json"]);
        said.contains("\"state\":\"refused\"").then_some(said)
    });
    assert!(refused.contains("is no folder, or a link"), "{refused}");
    assert!(
        init.console()
            .contains("open /mnt/disk: `disk` is no folder, or a link")
    );
    let table = fs::read_to_string(format!("/proc/{}/mountinfo", init.pid())).unwrap();
    assert!(!table.contains("/mnt/victim"), "{table}");
}
