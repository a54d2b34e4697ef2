//! The program itself: files, modes, messages and exit codes; system calls by strace.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test's helpers may fail the test, wait for the program and leave files about"
)]

mod crash;
mod rest;
mod room;

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::Path;
use std::process::{Command, Output};

use gokrazy_randomd::seed::{Machine, bind, made_by};
use room::{COLD, ID, PROGRAM, Room, Running, at, text, until};

#[test]
fn the_seed_is_durably_gone_before_the_kernel_gets_it() {
    let room = Room::new("order");
    let file = bind(&[0x41; 32], &Machine::parse(ID).unwrap());
    fs::write(room.seed("seed.credit"), file).unwrap();
    let calls = room.trace(&COLD, &["--once", "load"]);
    let read = at(&calls, &["read(", "AAAA"]);
    let removed = at(&calls, &["unlinkat(", "\"seed.credit\""]);
    let synced = at(&calls, &["fsync("]);
    let mixed = at(&calls, &["RNDADDENTROPY", "AAAA"]);
    assert!(
        read < removed && removed < synced && synced < mixed,
        "{calls:#?}"
    );
    let request = &calls[mixed];
    // Root in the initial user namespace gets the credit, anybody else EPERM and then a plain write.
    assert!(
        request.contains("{entropy_count=256, buf_size=32, "),
        "{request}"
    );
    if request.contains("EPERM") {
        at(&calls[mixed..], &["write(", "AAAA"]);
    }
    assert_eq!(room.names(), ["seed.no-credit"]);
}

#[test]
fn a_card_that_is_copied_to_another_board_is_not_credited() {
    let room = Room::new("copied");
    fs::write(room.0.join("board"), b"10000000abcdef01\0").unwrap();
    assert!(room.run(&["--once", "save"]).status.success());
    assert_eq!(room.names(), ["seed.credit"]);
    fs::write(room.0.join("board"), b"10000000abcdef02\0").unwrap();
    let elsewhere = room.run(&["--once", "load"]);
    assert!(
        text(&elsewhere).contains("this machine did not make it"),
        "{}",
        text(&elsewhere)
    );
    assert!(room.run(&["--once", "save"]).status.success());
    let here = room.trace(&COLD, &["--once", "load"]);
    at(&here, &["RNDADDENTROPY", "{entropy_count=256, "]);
}

#[test]
fn a_pool_that_is_initialised_is_credited_nothing() {
    let room = Room::new("warm");
    let file = bind(&[0x41; 32], &Machine::parse(ID).unwrap());
    fs::write(room.seed("seed.credit"), file).unwrap();
    let calls = room.trace(&[], &["--once", "load"]);
    at(
        &calls,
        &["RNDADDENTROPY", "{entropy_count=0, buf_size=32, "],
    );
}

#[test]
fn a_seed_is_credited_nothing_where_that_is_asked_for() {
    let room = Room::new("asked");
    let file = bind(&[0x41; 32], &Machine::parse(ID).unwrap());
    fs::write(room.seed("seed.credit"), file).unwrap();
    let calls = room.trace(&COLD, &["--once", "load", "--no-credit"]);
    at(
        &calls,
        &["RNDADDENTROPY", "{entropy_count=0, buf_size=32, "],
    );
    assert!(!calls.iter().any(|call| call.contains("entropy_count=256")));
}

#[test]
fn a_new_seed_is_written_synced_and_renamed_last() {
    let room = Room::new("save");
    let calls = room.trace(&[], &["--once", "save"]);
    let drawn = at(&calls, &["getrandom(", ", 32, "]);
    let written = drawn + at(&calls[drawn..], &["write("]);
    let synced = written + at(&calls[written..], &["fsync("]);
    // Nothing that somebody puts there meanwhile is written through.
    at(&calls, &["openat(", "\"seed.no-credit\"", "O_EXCL"]);
    let renamed = at(&calls, &["renameat("]);
    let last = renamed + at(&calls[renamed..], &["fsync("]);
    assert!(written < synced && synced < renamed && renamed < last);
    assert_eq!(room.names(), ["seed.credit"]);
    let mode = fs::metadata(room.seed("seed.credit"))
        .unwrap()
        .permissions();
    assert_eq!(mode.mode() & 0o7777, 0o400);
}

#[test]
fn a_pool_that_is_not_initialised_leaves_no_creditable_seed() {
    let room = Room::new("cold");
    room.trace(&COLD, &["--once", "save"]);
    assert_eq!(room.names(), ["seed.no-credit"]);
}

#[test]
fn the_daemon_loads_saves_and_saves_again_at_the_stop() {
    let room = Room::new("daemon");
    fs::write(room.seed("seed.credit"), [7; 32]).unwrap();
    let child = room.start(&[]);
    let replaced = || fs::read(room.seed("seed.credit")).is_ok_and(|seed| seed.len() > 32);
    // By the timer it would take an hour.
    until("seed", replaced);
    let first = fs::read(room.seed("seed.credit")).unwrap();
    child.signal("HUP");
    let other = || fs::read(room.seed("seed.credit")).is_ok_and(|seed| seed != first);
    until("other seed after SIGHUP", other);
    let second = fs::read(room.seed("seed.credit")).unwrap();
    let output = child.end_by("TERM");
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    let third = fs::read(room.seed("seed.credit")).unwrap();
    assert!(third != second && third != first);
    assert_eq!(room.names(), ["seed.credit"]);
    let lines = text(&output);
    assert!(
        lines.starts_with(
            "seed.credit: mixed 256 bits without credit: this machine did not make it\n"
        )
    );
}

#[test]
fn a_daemon_on_a_cold_pool_saves_anew_once_the_pool_is_initialised() {
    let room = Room::new("warming");
    let log = room.0.join("trace");
    let mut command = Command::new("strace");
    // With -D the child that is started becomes the program itself.
    command.args(["-D", "-o"]).arg(&log);
    // The pool looks cold while the first seed is drawn.
    command.args(["-e", "inject=getrandom:error=EAGAIN:when=1..3"]);
    command.arg(PROGRAM).args(room.arguments(&[]));
    let child = Running::start(&mut command);
    until("creditable seed long before the hour is over", || {
        room.seed("seed.credit").exists()
    });
    assert!(child.end_by("TERM").status.success());
    until("three answers of a cold pool", || {
        let calls = fs::read_to_string(&log).unwrap_or_default();
        calls.matches("INJECTED").count() == 3
    });
}

#[test]
fn a_folder_that_is_removed_is_made_anew() {
    let room = Room::new("removed");
    let child = room.start(&[]);
    until("seed", || room.seed("seed.credit").exists());
    fs::remove_dir_all(room.seeds()).unwrap();
    child.signal("HUP");
    until("seed in the new folder", || {
        room.seed("seed.credit").exists()
    });
    let output = child.end_by("TERM");
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    assert_eq!(room.names(), ["seed.credit"]);
    assert_eq!(text(&output).matches("was removed; made anew").count(), 1);
}

#[test]
fn the_daemon_saves_on_its_timer_and_says_so_once() {
    let room = Room::new("timer");
    let child = room.start(&["--interval=1s"]);
    let mut seen = Vec::new();
    for _ in 0..3 {
        let mut fresh = Vec::new();
        until("new seed", || {
            fresh = fs::read(room.seed("seed.credit")).unwrap_or_default();
            !fresh.is_empty() && !seen.contains(&fresh)
        });
        seen.push(fresh);
    }
    let output = child.end_by("INT");
    assert_eq!(output.status.code(), Some(0));
    let lines = text(&output);
    let saves = lines
        .matches("saved a creditable seed of 256 bits\n")
        .count();
    assert_eq!(saves, 2, "one at the start, one at the stop: {lines}");
    assert!(lines.starts_with("no seed in "), "{lines}");
}

/// Puts something in the place of a seed, and looks at load's exit code and words, and at what is left.
#[track_caller]
fn check_place(make: impl Fn(&Path), code: i32, message: &str, left: &[&str]) {
    let room = Room::new(&format!("place-{}", message.len()));
    make(&room.seed("seed.credit"));
    let output = room.run(&["--once", "load"]);
    let lines = text(&output);
    assert!(lines.contains(message), "{lines}");
    assert_eq!(output.status.code(), Some(code), "{lines}");
    assert_eq!(room.names(), left);
    // What is in the way of a save is replaced, but for a folder.
    let saved = room.run(&["--once", "save"]);
    let is_folder = room.seed("seed.credit").is_dir();
    assert_eq!(room.seed("seed.credit").is_file(), !is_folder);
    assert_eq!(text(&saved).contains("Is a directory"), is_folder);
    let id = fs::read_to_string(room.0.join("machine-id")).unwrap();
    assert_eq!(id.trim(), ID, "written through a link");
}

#[test]
fn what_lies_in_the_place_of_a_seed() {
    let write = |bytes: Vec<u8>| move |path: &Path| fs::write(path, &bytes).unwrap();
    let mixed = ["seed.no-credit"];
    check_place(|_| {}, 0, "no seed in ", &[]);
    check_place(write(vec![]), 0, "empty, removed", &[]);
    check_place(write(vec![1]), 0, "mixed 8 bits without credit", &mixed);
    let huge = write(vec![1; 1 << 20]);
    check_place(huge, 0, "mixed 4360 bits without credit: ", &mixed);
    let stays = ["seed.credit"];
    let folder = |path: &Path| fs::create_dir(path).unwrap();
    check_place(folder, 1, "is a folder, not a seed", &stays);
    let link = |to: &'static str| move |path: &Path| symlink(to, path).unwrap();
    check_place(link("../machine-id"), 1, "is a symbolic link", &stays);
    check_place(link("nowhere"), 1, "is a symbolic link, not", &stays);
    let fifo = |path: &Path| {
        let made = Command::new("mkfifo").arg(path).status();
        assert!(made.unwrap().success());
    };
    check_place(fifo, 1, "is a FIFO", &stays);
}

#[test]
fn a_seed_that_others_can_reach_is_not_credited() {
    let ours = bind(&[0x41; 32], &Machine::parse(ID).unwrap());
    let expose: [&dyn Fn(&Room); 3] = [
        // A test of processes runs as root.
        &|room| chown(room.seed("seed.credit"), Some(1), None).unwrap(),
        &|room| fs::hard_link(room.seed("seed.credit"), room.0.join("copy")).unwrap(),
        &|room| {
            fs::set_permissions(room.seed("seed.credit"), Permissions::from_mode(0o646)).unwrap()
        },
    ];
    for make in expose {
        let room = Room::new("exposed");
        fs::write(room.seed("seed.credit"), &ours).unwrap();
        make(&room);
        let calls = room.trace(&COLD, &["--once", "load"]);
        at(
            &calls,
            &["RNDADDENTROPY", "{entropy_count=0, buf_size=32, "],
        );
    }
}

#[test]
fn a_second_instance_is_told_who_is_in_the_way() {
    let room = Room::new("two");
    let first = room.start(&[]);
    until("seed", || room.seed("seed.credit").exists());
    for more in [&[][..], &["--once", "save"], &["--once", "load"]] {
        let second = room.run(more);
        assert_eq!(second.status.code(), Some(1));
        assert!(text(&second).contains("is in use by another randomd; stop that one"));
    }
    assert!(first.end_by("TERM").status.success());
    assert!(room.run(&["--once", "save"]).status.success());
}

#[test]
fn another_instance_that_is_about_to_end_is_waited_for() {
    let room = Room::new("ending");
    let busy = ["-e", "inject=flock:error=EAGAIN:when=1..3"];
    let calls = room.trace(&busy, &["--once", "save"]);
    let tries = calls.iter().filter(|call| call.contains("flock("));
    assert_eq!(tries.count(), 4, "{calls:#?}");
    assert_eq!(room.names(), ["seed.credit"]);
}

#[test]
fn without_a_machine_id_nothing_is_creditable() {
    let room = Room::new("nobody");
    fs::remove_file(room.0.join("machine-id")).unwrap();
    let output = room.run(&["--once", "save"]);
    assert!(output.status.success());
    assert!(text(&output).contains("no machine id"), "{}", text(&output));
    assert_eq!(room.names(), ["seed.no-credit"]);
}

#[test]
fn the_first_file_that_holds_an_id_counts() {
    let room = Room::new("ids");
    let names = ["absent", "empty", "second", "third"].map(|name| room.0.join(name));
    fs::write(&names[1], "\n").unwrap();
    let other = Machine::parse("ffeeddccbbaa99887766554433221100").unwrap();
    fs::write(&names[2], "ffeeddccbbaa99887766554433221100\n").unwrap();
    fs::write(&names[3], ID).unwrap();
    let mut command = Command::new(PROGRAM);
    command.arg("--seed-dir").arg(room.seeds());
    command.args(["--once", "save"]);
    for name in &names {
        command.arg("--machine-id").arg(name);
        command.arg("--board-id").arg(name);
    }
    assert!(command.output().unwrap().status.success());
    let file = fs::read(room.seed("seed.credit")).unwrap();
    // Of two lists that hold the same files, the board's one has its number in the same place.
    let number = b"ffeeddccbbaa99887766554433221100";
    assert!(made_by(&file, &other.on_board(number)).is_some());
}

/// What a flag may name by mistake: no end is waited for, and no device is read for ever.
#[test]
fn an_id_is_looked_for_no_longer_than_a_file_takes() {
    let room = Room::new("endless");
    let fifo = room.0.join("fifo");
    assert!(
        Command::new("mkfifo")
            .arg(&fifo)
            .status()
            .unwrap()
            .success()
    );
    for flag in ["--machine-id", "--board-id"] {
        for file in [fifo.as_path(), Path::new("/dev/zero"), Path::new("/")] {
            let mut command = Command::new("timeout");
            command.args(["20", PROGRAM, "--once", "save", "--seed-dir"]);
            command.arg(room.seeds()).arg(flag).arg(file);
            let output = command.output().unwrap();
            assert_eq!(output.status.code(), Some(0), "{flag} {file:?}");
            let is_nobody = text(&output).contains("no machine id");
            assert!(is_nobody || flag == "--board-id", "{}", text(&output));
        }
    }
}

#[test]
fn folders_that_cannot_be_used_are_named() {
    let room = Room::new("folder");
    symlink("nowhere", room.0.join("link")).unwrap();
    for (folder, what, code) in [
        ("machine-id", "save", 1),
        ("machine-id", "load", 1),
        ("link", "save", 1),
        ("link", "load", 1),
        ("machine-id/x", "save", 1),
        ("new/and/deep", "save", 0),
        ("absent", "load", 0),
    ] {
        let path = room.0.join(folder);
        let is_there = path.symlink_metadata().is_ok();
        let mut command = Command::new(PROGRAM);
        command.arg("--seed-dir").arg(&path).args(["--once", what]);
        let output = command.output().unwrap();
        assert_eq!(
            output.status.code(),
            Some(code),
            "{folder}: {}",
            text(&output)
        );
        let named = text(&output).contains(&path.display().to_string());
        assert!(named || what == "save" && code == 0, "{}", text(&output));
        let is_file = text(&output).contains("is not a folder; remove it");
        assert_eq!(is_file, is_there, "{folder}: {}", text(&output));
    }
    let mode = fs::metadata(room.0.join("new/and/deep"))
        .unwrap()
        .permissions();
    assert_eq!(mode.mode() & 0o7777, 0o700);
    assert!(!room.0.join("absent").exists());
}

/// Runs a script as root of a user and a mount namespace, with a small file system of its own at $S.
fn in_namespace(room: &Room, script: &str) -> Output {
    let output = Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "sh", "-euc"])
        .arg(format!("mount -t tmpfs -o size=64k none $S\n{script}"))
        .env("S", room.seeds())
        .env(
            "RANDOMD",
            format!("{PROGRAM} {}", room.arguments(&[]).join(" ")),
        )
        .output();
    output.expect("run unshare; install it with: apt-get install -y util-linux")
}

#[test]
fn a_seed_on_a_read_only_file_system_is_not_used() {
    let room = Room::new("readonly");
    let script = "echo seed >$S/seed.credit; mount -o remount,ro none $S; $RANDOMD --once load";
    let output = in_namespace(&room, script);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    let want = "left a seed unused that would outlive its use: remove ";
    assert!(text(&output).starts_with(want), "{}", text(&output));
    assert!(text(&output).contains("Read-only file system"));
}

#[test]
fn a_larger_pool_gets_a_longer_seed() {
    let room = Room::new("poolsize");
    let script = "echo 4096 >$S/size; mount --bind $S/size /proc/sys/kernel/random/poolsize
        $RANDOMD --once save; test $(wc -c <$S/seed.credit) = 544";
    let output = in_namespace(&room, script);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    let want = "saved a creditable seed of 4096 bits\n";
    assert_eq!(text(&output), want);
}

#[test]
fn a_full_file_system_loses_the_new_seed_and_says_so() {
    let room = Room::new("full");
    // `cat` is to fail: it ends when the disk is full.
    let script = "$RANDOMD --once save; cp $S/seed.credit $S/before; cat /dev/zero >$S/fill || true
        $RANDOMD --once save && exit 9; cmp $S/seed.credit $S/before; test ! -e $S/seed.no-credit";
    let output = in_namespace(&room, script);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    assert!(text(&output).contains("seed.no-credit: No space left on device"));
}

#[test]
fn a_seed_that_the_pool_does_not_take_lives_on() {
    let room = Room::new("no-device");
    let script = "echo seed >$S/seed.credit; mount -t tmpfs none /dev
        $RANDOMD --once load && exit 9; test ! -e $S/seed.credit; test -s $S/seed.no-credit";
    let output = in_namespace(&room, script);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    let want = "mix seed.credit into /dev/urandom: No such file or directory";
    assert!(text(&output).contains(want), "{}", text(&output));
}

#[test]
fn without_the_capability_a_seed_is_mixed_and_the_refusal_told() {
    let room = Room::new("unprivileged");
    let file = bind(&[0x41; 32], &Machine::parse(ID).unwrap());
    fs::write(room.0.join("file"), file).unwrap();
    let script = format!(
        "cp {} $S/seed.credit; strace -o {} -e trace=getrandom,ioctl,write -e inject=getrandom:error=EAGAIN $RANDOMD --once load",
        room.0.join("file").display(),
        room.0.join("trace").display()
    );
    let output = in_namespace(&room, &script);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    let want = "seed.credit: mixed 256 bits without credit: crediting takes CAP_SYS_ADMIN";
    assert!(text(&output).contains(want), "{}", text(&output));
    let calls = fs::read_to_string(room.0.join("trace")).unwrap();
    let calls: Vec<String> = calls.lines().map(str::to_owned).collect();
    let refused = at(&calls, &["RNDADDENTROPY", "EPERM"]);
    at(&calls[refused..], &["write(", "AAAAAAAA"]);
}

#[test]
fn help_names_every_flag_and_what_makes_no_sense_is_refused() {
    let room = Room::new("flags");
    let help = room.run(&["--help"]);
    let help = String::from_utf8(help.stdout).unwrap();
    for flag in [
        "--seed-dir",
        "--no-credit",
        "--once",
        "--interval",
        "--machine-id",
        "--board-id",
    ] {
        assert!(help.contains(flag), "{flag}");
    }
    for wrong in ["--once=never", "--interval=0", "--sedd-dir=x", "extra"] {
        assert_eq!(room.run(&[wrong]).status.code(), Some(2), "{wrong}");
    }
    assert_eq!(room.names(), [""; 0]);
}
