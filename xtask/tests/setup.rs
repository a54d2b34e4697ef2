//! Sets a machine up from an archive of the test's own: what is fetched, kept, mended, unpacked and left alone.
//!
//! Needs root (mount namespaces), and what `cargo xtask setup` installs.

#![expect(clippy::unwrap_used, reason = "a test's helper may panic")]

mod archive;

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;
use std::process::{Command, Output};

use archive::{Archive, UNPACKED, run, text};

const FIRMWARE: &str = "raspi-firmware_1_all.deb";
const KERNEL: &str = "linux-image-1-arm64_1_arm64.deb";

#[track_caller]
fn ends(output: &Output, code: i32, words: &[&str]) -> String {
    let said = text(output);
    assert_eq!(output.status.code(), Some(code), "{said}");
    for word in words {
        assert!(said.contains(word), "{word} in {said}");
    }
    said
}

fn shorten(path: &Path) {
    let file = File::options().write(true).open(path).unwrap();
    file.set_len(file.metadata().unwrap().len() / 2).unwrap();
}

/// Every file below `folder` with its content.
fn content(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let listing = run("find", &[folder.to_str().unwrap(), "-type", "f"]);
    let mut files: Vec<_> = listing
        .lines()
        .map(|path| (path.to_owned(), fs::read(path).unwrap()))
        .collect();
    files.sort();
    files
}

#[test]
fn what_was_fetched_needs_no_archive_any_more() {
    let archive = Archive::new("fetched");
    let missing = ends(
        &archive.setup("", &["--check"]),
        1,
        &["chrony: missing", "for pi: missing", "cargo xtask setup"],
    );
    assert!(!missing.contains("fetch "), "{missing}");
    assert!(!archive.target().exists(), "--check only tells");
    ends(
        &archive.setup("", &[]),
        0,
        &["fetch raspi-firmware", "unpacking chrony", "ready:"],
    );
    let trees = content(&archive.target().join("packages/trees"));
    let documents = |package: &str| {
        let end = format!("/usr/share/doc/{package}");
        trees
            .iter()
            .find(|(path, _)| path.ends_with(&end))
            .map(|(path, _)| path.trim_end_matches(&end))
    };
    // All parts of a kernel are in its tree.
    let kernel = documents("linux-image-1-amd64");
    assert!(kernel.is_some());
    assert_eq!(documents("linux-modules-1-amd64"), kernel);
    archive.unplug();
    let before = content(&archive.target());
    let again = ends(&archive.setup("", &[]), 0, &["ready:"]);
    assert!(
        !again.contains("fetch ") && !again.contains("unpacking"),
        "{again}"
    );
    ends(&archive.setup("", &["--check"]), 0, &["for pi: cached"]);
    assert_eq!(content(&archive.target()), before);
}

#[test]
fn a_damaged_package_is_fetched_again() {
    let archive = Archive::new("damaged");
    ends(&archive.setup("", &[]), 0, &[]);
    let (firmware, kernel) = (archive.deb(FIRMWARE), archive.deb(KERNEL));
    let whole = [fs::read(&firmware).unwrap(), fs::read(&kernel).unwrap()];
    shorten(&firmware);
    // Of the right size, so that only the hash tells.
    let mut altered = whole[1].clone();
    *altered.last_mut().unwrap() ^= 1;
    gokrazy_core::atomic::replace(
        &kernel,
        &altered,
        0o644,
        gokrazy_core::atomic::Durability::Volatile,
    )
    .unwrap();
    let damaged = [FIRMWARE, KERNEL].map(|file| format!("{file} is damaged: fetching it again"));
    ends(
        &archive.setup("", &[]),
        0,
        &damaged.each_ref().map(String::as_str),
    );
    assert_eq!(
        [fs::read(&firmware).unwrap(), fs::read(&kernel).unwrap()],
        whole
    );
}

#[test]
fn an_archive_that_is_gone_leaves_the_cache_as_it_is() {
    let archive = Archive::new("gone");
    ends(&archive.setup("", &[]), 0, &[]);
    let lock = fs::read_to_string(archive.target().join("packages/pi.lock")).unwrap();
    let hash = lock
        .lines()
        .find(|line| line.contains(FIRMWARE))
        .and_then(|line| line.split(' ').nth(1))
        .unwrap();
    fs::remove_dir_all(archive.target().join("packages/trees").join(hash)).unwrap();
    shorten(&archive.deb(FIRMWARE));
    archive.unplug();
    let kernel = fs::read(archive.deb(KERNEL)).unwrap();
    ends(
        &archive.setup("", &[]),
        1,
        &[
            &format!("fetch {FIRMWARE}"),
            "`cargo xtask setup` tries again",
            "pool/",
        ],
    );
    ends(
        &archive.setup("", &["--update"]),
        1,
        &["not all archives could be reached", "tries again"],
    );
    assert_eq!(fs::read(archive.deb(KERNEL)).unwrap(), kernel);
    assert_eq!(
        fs::read_to_string(archive.target().join("packages/pi.lock")).unwrap(),
        lock
    );
}

#[test]
fn an_archive_that_never_was_there_is_told_with_the_command() {
    let archive = Archive::new("nowhere");
    for (_, program) in UNPACKED {
        archive.put(&format!("bin/{program}"), "");
    }
    archive.unplug();
    let words = ["reach Debian's archives: apt-get -q update"];
    ends(&archive.setup("", &[]), 1, &words);
    assert!(!archive.target().join("packages/pi.lock").exists());
}

#[test]
fn a_package_that_others_exclude_is_unpacked_and_called_by_its_name() {
    let archive = Archive::new("unpacked");
    let status = fs::read(archive.folder.join("status")).unwrap();
    ends(&archive.setup("", &[]), 0, &[]);
    assert_eq!(fs::read(archive.folder.join("status")).unwrap(), status);
    let bin = archive.target().join("setup/bin");
    for (package, program) in UNPACKED {
        let program = bin.join(program);
        let call = || run(program.to_str().unwrap(), &["a  b"]);
        assert_eq!(call(), "unpacked a  b\n");
        // Half a tree is as good as none.
        let tree = archive.target().join("setup/tools").join(package);
        fs::remove_dir_all(tree.join("usr/share")).unwrap();
        ends(
            &archive.setup("", &[]),
            0,
            &[&format!("unpacking {package}")],
        );
        assert!(tree.join("usr/share").exists());
        assert_eq!(call(), "unpacked a  b\n");
    }
}

/// apt-get that is interrupted: it tells whether daemons may start, and sends its parent the signal of Ctrl-C.
const INTERRUPTED: &str = "#!/bin/sh\necho \"apt-get $*\"\n/usr/sbin/policy-rc.d; echo \"policy says $?\"\n\
    kill -INT $PPID; sleep 0.2; /usr/sbin/policy-rc.d; echo \"policy still says $?\"\nexit 100\n";

#[test]
fn ctrl_c_during_an_installation_leaves_nothing_that_forbids_daemons() {
    let archive = Archive::new("interrupted");
    archive.put("bin/apt-get", INTERRUPTED);
    archive.put("bin/apt-cache", "#!/bin/sh\necho '  Candidate: 1'\n");
    for (_, program) in UNPACKED {
        archive.put(&format!("bin/{program}"), "");
    }
    // A machine without any of the administrator's programs, so that packages are missing.
    // Who runs tests in the background ignores Ctrl-C, and hands that down.
    let before = format!(
        "mount -t tmpfs none /usr/sbin\nenv --default-signal=INT \"$@\" || echo \"ended with $?\"\nls /usr/sbin >{}\nexit 7",
        archive.folder.join("left").display()
    );
    let said = ends(
        &archive.setup(&before, &[]),
        7,
        &[
            "install -y",
            "gdisk",
            "policy says 101",
            "policy still says 101",
            "ended with 130",
        ],
    );
    assert_eq!(said.matches("apt-get -qq").count(), 1, "{said}");
    assert_eq!(fs::read_to_string(archive.folder.join("left")).unwrap(), "");
}

/// apt-get of a distribution that lacks a package: where it is asked for, nothing is installed.
const WITHOUT_GDISK: &str = "#!/bin/sh\necho \"apt-get $*\"\n\
    case \" $* \" in *' gdisk '*) echo 'E: Unable to locate package gdisk'; exit 100;; esac\n";

/// Its apt-cache, asked for the policy of a package.
const POLICY_WITHOUT_GDISK: &str =
    "#!/bin/sh\ncase $2 in gdisk) ;; *) echo '  Candidate: 1';; esac\n";

#[test]
fn a_package_that_the_archives_lack_does_not_keep_others_away() {
    let archive = Archive::new("lacking");
    archive.put("bin/apt-get", WITHOUT_GDISK);
    archive.put("bin/apt-cache", POLICY_WITHOUT_GDISK);
    for (_, program) in UNPACKED {
        archive.put(&format!("bin/{program}"), "");
    }
    let said = ends(
        &archive.setup("mount -t tmpfs none /usr/sbin", &[]),
        1,
        &["do not have gdisk (for checks of the partition table)"],
    );
    // It is asked whether fresh lists have it, and not tried in vain.
    let calls: Vec<&str> = said
        .lines()
        .filter(|line| line.starts_with("apt-get "))
        .collect();
    let [update, install] = calls[..] else {
        unreachable!("{said}")
    };
    assert!(update.ends_with(" update"), "{said}");
    assert!(
        install.contains(" dosfstools") && !install.contains("gdisk"),
        "{said}"
    );
}

/// apt-cache of a machine that knows its archives, and nothing of what is asked for is there.
const POLICY_WITHOUT_ALL: &str =
    "#!/bin/sh\ncase $2 in '') echo ' 500 http://deb.example stable/main amd64 Packages';; esac\n";

#[test]
fn where_the_archives_have_nothing_of_it_no_command_of_apt_is_named() {
    let archive = Archive::new("lacking-all");
    archive.put("bin/apt-get", WITHOUT_GDISK);
    archive.put("bin/apt-cache", POLICY_WITHOUT_ALL);
    for (_, program) in UNPACKED {
        archive.put(&format!("bin/{program}"), "");
    }
    for arguments in [&[][..], &["--check"]] {
        let words = [
            "do not have ",
            "gdisk (for checks of the partition table)",
            "sgdisk",
        ];
        let said = ends(
            &archive.setup("mount -t tmpfs none /usr/sbin", arguments),
            1,
            &words,
        );
        assert!(!said.contains(" install "), "{said}");
    }
}

/// apt-get of a machine whose lists name versions that are gone: nothing can be installed before they are read anew.
const STALE: &str = "#!/bin/sh\necho \"apt-get $*\"\nfresh=${0%/bin/*}/fresh\n\
    case \" $* \" in *' update '*) : >$fresh;; esac\ntest -e $fresh\n";

#[test]
fn lists_that_are_too_old_are_read_anew() {
    let archive = Archive::new("stale");
    archive.put("bin/apt-get", STALE);
    archive.put("bin/apt-cache", "#!/bin/sh\necho '  Candidate: 1'\n");
    for (_, program) in UNPACKED {
        archive.put(&format!("bin/{program}"), "");
    }
    // What comes after the installation asks this apt-get in vain.
    let said = ends(&archive.setup("mount -t tmpfs none /usr/sbin", &[]), 1, &[]);
    let calls: Vec<&str> = said
        .lines()
        .filter(|line| line.starts_with("apt-get "))
        .map(|line| {
            ["install", "update"]
                .into_iter()
                .find(|verb| line.contains(verb))
        })
        .map(Option::unwrap_or_default)
        .collect();
    assert_eq!(calls, ["install", "update", "install"], "{said}");
}

#[test]
fn a_reader_that_leaves_is_no_panic() {
    for arguments in [["setup", "--check"], ["test", "style"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let (mut errors, theirs) = std::io::pipe().unwrap();
        let status = Command::new(env!("CARGO_BIN_EXE_xtask"))
            .args(arguments)
            .stdout(writer)
            .stderr(theirs)
            .status()
            .unwrap();
        let mut said = String::new();
        errors.read_to_string(&mut said).unwrap();
        assert_eq!(
            (status.code(), said.as_str()),
            (Some(141), ""),
            "{arguments:?}"
        );
    }
}
