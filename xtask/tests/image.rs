//! Builds images with the real program and looks at them with other people's tools.
//!
//! Needs root (a small file system and a loop device are made), and what `cargo xtask setup` installs.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test's helper may panic"
)]

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Mutex;

use gokrazy_core::atomic::{self, Durability};

const MIB: u64 = 1024 * 1024;

/// The tests share a workspace's caches, and one of them empties one.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

fn workspace() -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.parent().unwrap().to_owned()
}

fn target() -> PathBuf {
    let set = std::env::var_os("CARGO_TARGET_DIR");
    workspace().join(set.unwrap_or_else(|| "target".into()))
}

fn folder(name: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("gokrazy-image-{name}-{}", std::process::id()));
    let _ = fs::remove_dir_all(&path);
    fs::create_dir_all(&path).unwrap();
    path
}

fn put(path: &Path, bytes: &[u8]) {
    atomic::replace(path, bytes, 0o600, Durability::Volatile).unwrap();
}

fn word(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn image(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_xtask"))
        .arg("image")
        .args(arguments)
        .current_dir(workspace())
        .output()
        .unwrap()
}

fn build(arguments: &[&str]) {
    let output = image(arguments);
    assert!(output.status.success(), "{}", text(&output));
}

fn text(output: &Output) -> String {
    let out = String::from_utf8_lossy(&output.stdout);
    format!("{out}{}", String::from_utf8_lossy(&output.stderr))
}

/// Runs a checker; a missing one is a failure that says how to get it.
fn tool(program: &str, arguments: &[&str]) -> String {
    let run = |name: &str| Command::new(name).args(arguments).output();
    let output = run(program)
        .or_else(|_| run(&format!("/usr/sbin/{program}")))
        .unwrap_or_else(|error| panic!("{program}: {error}; `cargo xtask setup` installs it"));
    assert!(output.status.success(), "{program}: {}", text(&output));
    text(&output)
}

/// Copies a partition of `image` into a file of its own.
fn part(image: &Path, first_lba: u64, mib: u64, to: &Path) {
    let source = fs::File::open(image).unwrap();
    let mut bytes = vec![0; usize::try_from(mib * MIB).unwrap()];
    source.read_exact_at(&mut bytes, first_lba * 512).unwrap();
    put(to, &bytes);
}

#[test]
fn an_image_built_twice_is_the_same_and_sound() {
    let _one = ONE_AT_A_TIME.lock();
    let folder = folder("twice");
    let (first, second) = (folder.join("first.img"), folder.join("second.img"));
    build(&["--output", word(&first)]);
    // So that every part is made anew, not found.
    fs::remove_dir_all(target().join("image/cache/pi")).unwrap();
    build(&["--output", word(&second)]);
    tool("cmp", &[word(&first), word(&second)]);

    assert!(tool("sgdisk", &["-v", word(&first)]).contains("No problems found"));
    let extracted = folder.join("part");
    part(&first, 8192, 256, &extracted);
    boot_partition_is_sound(word(&extracted));
    part(&first, 532_480, 64, &extracted);
    root_is_sound(word(&extracted));
    part(&first, 2_629_632, 128, &extracted);
    tool("e2fsck", &["-fn", word(&extracted)]);
    programs_name_no_folder_of_this_machine();
    fs::remove_dir_all(folder).unwrap();
}

fn boot_partition_is_sound(fat: &str) {
    const FILES: &str = "bootcode.bin start.elf fixup.dat start4.elf fixup4.dat config.txt A/vmlinuz A/initramfs \
        A/cmdline.txt A/bcm2837-rpi-zero-2-w.dtb A/bcm2837-rpi-3-b.dtb A/bcm2837-rpi-3-b-plus.dtb \
        A/bcm2711-rpi-4-b.dtb A/bcm2711-rpi-400.dtb A/bcm2711-rpi-cm4-io.dtb A/bcm2712-rpi-5-b.dtb";
    const WORDS: &str = "root=PARTUUID= gokrazy.slot=a rootwait panic=10 oops=panic console=";
    tool("fsck.fat", &["-n", fat]);
    let listing = tool("mdir", &["-i", fat, "-b", "-/", "::"]);
    for name in FILES.split_whitespace() {
        let line = format!("::/{name}");
        assert!(
            listing.lines().any(|found| found == line),
            "{line} in {listing}"
        );
    }
    let config = tool("mtype", &["-i", fat, "::config.txt"]);
    assert!(
        config.len() <= 512 && config.contains("os_prefix=A/\n"),
        "{config}"
    );
    let command_line = tool("mtype", &["-i", fat, "::A/cmdline.txt"]);
    for word in WORDS.split_whitespace() {
        assert!(command_line.contains(word), "{word} in {command_line}");
    }
    let info = tool("minfo", &["-i", fat, "::"]);
    let free = info
        .lines()
        .find_map(|line| line.strip_prefix("free clusters="));
    let used = 256 * MIB - free.unwrap().trim().parse::<u64>().unwrap() * 2048;
    assert!(
        used <= 64 * MIB,
        "the budget of the boot partition: {used} bytes"
    );
}

fn root_is_sound(root: &str) {
    const PATHS: &str = "/user/hello /etc/passwd /etc/group /etc/hosts /etc/hostname /etc/localtime /etc/os-release \
        /etc/ssl/ca-bundle.pem /etc/gokrazy/services.toml /etc/gokrazy/build-id /etc/gokrazy/modules /dev /proc /sys \
        /run /tmp /perm /mnt /lib/modules";
    const MODULES: &str =
        "ext4.ko dwc2.ko cdc_ether.ko bcm2835_wdt.ko genet.ko modules.dep modules.alias";
    let listing = tool("unsquashfs", &["-lln", root]);
    let row = |path: &str| {
        let path = format!("squashfs-root{path}");
        let has = |line: &&str| line.split_whitespace().any(|word| word == path);
        let found = listing.lines().find(has);
        found
            .unwrap_or_else(|| panic!("{path} in {listing}"))
            .to_owned()
    };
    for program in ["init", "logd", "web", "dhcp", "ntp", "randomd"] {
        let row = row(&format!("/gokrazy/{program}"));
        assert!(row.starts_with("-rwxr-xr-x 0/0 "), "{row}");
    }
    assert!(row("/etc/gokrazy/web-password").starts_with("-r-------- 902/902 "));
    assert!(row("/etc/resolv.conf").contains("-> /tmp/resolv.conf"));
    assert!(row("/var").contains("-> /perm/var"));
    PATHS.split_whitespace().map(row).for_each(drop);
    for module in MODULES.split_whitespace() {
        assert!(listing.contains(&format!("/{module}")), "{module}");
    }
}

/// They would make each checkout's programs different, and tell whose machine built them.
fn programs_name_no_folder_of_this_machine() {
    let home = std::env::home_dir().unwrap();
    let mut seen = 0;
    for way in fs::read_dir(target().join("device")).unwrap().flatten() {
        let release = way.path().join("aarch64-unknown-linux-musl/release");
        for program in ["init", "logd", "web", "dhcp", "ntp", "randomd", "hello"] {
            let Ok(bytes) = fs::read(release.join(program)) else {
                continue;
            };
            seen += 1;
            let found = String::from_utf8_lossy(&bytes);
            for secret in [workspace(), home.join(".cargo")] {
                assert!(
                    !found.contains(word(&secret)),
                    "{program} names {}",
                    secret.display()
                );
            }
        }
    }
    assert!(seen >= 7, "programs were looked at");
}

#[test]
fn what_cannot_work_is_refused_with_the_reason() {
    let _one = ONE_AT_A_TIME.lock();
    let folder = folder("refused");
    let refused = |arguments: &[&str], code: i32, words: &[&str]| {
        let output = image(arguments);
        let said = text(&output);
        assert_eq!(output.status.code(), Some(code), "{said}");
        for word in words {
            assert!(said.contains(word), "{word} in {said}");
        }
    };
    let file = folder.join("gokrazy.toml");
    let config = |content: &str, words: &[&str]| {
        put(&file, content.as_bytes());
        refused(&["--config", word(&file)], 1, words);
    };
    put(&folder.join("empty"), b"\n");
    config("hostname = 'x'\nfoo = 1\n", &["gokrazy.toml:2", "foo"]);
    config(
        "[[service]]\nname = 'x'\ncommand = ['/user/x']\n",
        &["gokrazy.toml:1", "/user/x"],
    );
    config("modules = ['no-such-module']\n", &["no-such-module"]);
    config("password-file = 'empty'\n", &["empty"]);
    config("timezone = 'Europe/Nowhere'\n", &["Europe/Nowhere"]);
    refused(
        &["--config", "/nonexistent.toml"],
        1,
        &["/nonexistent.toml"],
    );
    refused(&["--output", "/nonexistent/x.img"], 1, &["/nonexistent"]);
    refused(&["--kernel", word(&folder)], 1, &["Image"]);
    refused(&["--board", "pi9"], 2, &["pi9"]);
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn a_full_disk_leaves_no_half_image() {
    let _one = ONE_AT_A_TIME.lock();
    let folder = folder("full");
    let place = word(&folder);
    tool("mount", &["-t", "tmpfs", "-o", "size=8m", "none", place]);
    let output = image(&["--output", word(&folder.join("x.img"))]);
    let left = fs::read_dir(&folder).unwrap().count();
    tool("umount", &[place]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output).contains("No space left"), "{}", text(&output));
    assert_eq!(left, 0);
    fs::remove_dir_all(folder).unwrap();
}

/// A loop device over a file of `mib`.
fn card(file: &Path, mib: u64) -> String {
    let options = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(file);
    options.unwrap().set_len(mib * MIB).unwrap();
    tool("losetup", &["-f", "--show", word(file)])
        .trim()
        .to_owned()
}

#[test]
fn a_card_in_use_or_too_small_is_refused() {
    let _one = ONE_AT_A_TIME.lock();
    let folder = folder("small-card");
    let card = card(&folder.join("card"), 100);
    let place = folder.join("mounted");
    fs::create_dir(&place).unwrap();
    tool("mke2fs", &["-q", &card]);
    tool("mount", &[&card, word(&place)]);
    let in_use = image(&["--output", &card]);
    tool("umount", &[word(&place)]);
    let too_small = image(&["--output", &card]);
    tool("losetup", &["-d", &card]);
    for (output, reason) in [(in_use, "in use"), (too_small, "too small")] {
        assert_eq!(output.status.code(), Some(1));
        assert!(text(&output).contains(reason), "{}", text(&output));
    }
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn a_card_gets_the_bytes_of_the_image() {
    let _one = ONE_AT_A_TIME.lock();
    let folder = folder("card");
    let (back, whole) = (folder.join("card"), folder.join("whole.img"));
    let card = card(&back, 2048);
    let written = image(&["--output", &card]);
    tool("losetup", &["-d", &card]);
    assert!(written.status.success(), "{}", text(&written));
    build(&["--output", word(&whole)]);
    let size = fs::metadata(&whole).unwrap().len().to_string();
    tool("cmp", &["-n", &size, word(&back), word(&whole)]);
    fs::remove_dir_all(folder).unwrap();
}
