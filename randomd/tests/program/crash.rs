//! The program is killed at each system call that changes the disk or the pool.

use std::fs;
use std::process::Command;

use gokrazy_randomd::seed::{Machine, bind, made_by};

use crate::room::{COLD, ID, PROGRAM, Room, at};

const SEED: [u8; 32] = [0x41; 32];
/// What strace shows of it.
const SHOWN: &str = "AAAAAAAA";
const CALLS: [&str; 5] = ["unlinkat", "fsync", "ioctl", "write", "renameat"];
/// More calls of a kind than there are.
const MOST: usize = 20;

/// A room with a creditable seed of this machine.
fn carried(name: &str) -> Room {
    let room = Room::new(name);
    let file = bind(&SEED, &Machine::parse(ID).unwrap());
    fs::write(room.seed("seed.credit"), file).unwrap();
    room
}

/// Runs on a cold pool, or on a warm one, and is killed at the `when`th such call; the calls until then, or nothing if
/// there were not so many.
fn killed_at(room: &Room, pool: &[&str], once: &str, call: &str, when: usize) -> Option<String> {
    let log = room.0.join("trace");
    let output = Command::new("strace")
        .arg("-o")
        .arg(&log)
        .args(["-e", &format!("trace=getrandom,{}", CALLS.join(","))])
        .args(["-e", &format!("inject={call}:signal=KILL:when={when}")])
        .args(pool)
        .arg(PROGRAM)
        .args(room.arguments(&["--once", once]))
        .output()
        .expect("run strace; install it with: apt-get install -y strace");
    let calls = fs::read_to_string(&log).unwrap();
    (!output.status.success()).then_some(calls)
}

/// Plays every crash, and gives back how many there were.
fn play(pool: &[&str], once: &str, check: impl Fn(&Room, &str, &str)) -> usize {
    let mut crashes = 0;
    for call in CALLS {
        for when in 1..=MOST {
            let room = carried(&format!("crash-{once}"));
            let Some(calls) = killed_at(&room, pool, once, call, when) else {
                break;
            };
            assert!(calls.contains("killed by SIGKILL"), "{calls}");
            assert!(when < MOST, "{calls}");
            check(&room, &calls, &format!("{call} {when}: {calls}"));
            crashes += 1;
        }
    }
    crashes
}

#[test]
fn a_load_that_is_killed_leaves_no_seed_that_the_pool_has_seen() {
    let crashes = play(&COLD, "load", |room, calls, context| {
        // A call at which it was killed has no result, but may have had its effect.
        let is_used = calls.contains("RNDADDENTROPY") && calls.contains(SHOWN);
        for name in room.names() {
            let file = fs::read(room.seed(&name)).unwrap();
            assert!(!is_used || !file.starts_with(&SEED), "{name}: {context}");
        }
        // The next boot uses the seed if it is there still, and credits nothing else.
        let is_there = room.names().contains(&"seed.credit".to_owned());
        let next = room.trace(&COLD, &["--once", "load"]);
        let is_credited = next
            .iter()
            .any(|call| call.contains("{entropy_count=256, "));
        assert_eq!(is_credited, is_there, "{context}");
    });
    assert!(crashes >= 9, "{crashes}");
}

#[test]
fn a_save_that_is_killed_leaves_the_old_seed_or_a_whole_new_one() {
    let machine = Machine::parse(ID).unwrap();
    let crashes = play(&[], "save", |room, _, context| {
        let file = fs::read(room.seed("seed.credit")).unwrap();
        assert!(made_by(&file, &machine).is_some(), "{context}");
        let calls = room.trace(&[], &["--once", "save"]);
        at(&calls, &["renameat("]);
        assert_eq!(room.names(), ["seed.credit"], "{context}");
    });
    assert!(crashes >= 6, "{crashes}");
}
