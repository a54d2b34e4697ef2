//! The order of operations: the power is cut after each, and each is made to fail, and no seed is ever used twice.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test's helpers may fail the test"
)]

mod world;

use std::time::Duration;

use gokrazy_randomd::carry::{Carrier, Terms};
use gokrazy_randomd::event::{Event, Uncredited};
use gokrazy_randomd::plan::{Group, KEEP, LOAD, Name, SAVE};
use gokrazy_randomd::seed::{Machine, Succession, bind};
use world::{Shared, World};

const OURS: &str = "00112233445566778899aabbccddeeff";
const THEIRS: &str = "ffeeddccbbaa99887766554433221100";

fn machine(id: &str) -> Machine {
    Machine::parse(id).unwrap()
}

fn terms() -> Terms {
    Terms {
        machine: Some(machine(OURS)),
        credit: true,
        promote: true,
        length: 32,
    }
}

fn pass(shared: &Shared, terms: &Terms, plans: &[&[Group]]) -> Vec<Event> {
    let (mut store, mut pool) = (shared.clone(), shared.clone());
    let succession = Succession::new(Duration::ZERO, Duration::from_secs(1));
    let mut carrier = Carrier::new(&mut store, &mut pool, terms, succession);
    for plan in plans {
        carrier.perform(plan);
    }
    carrier.into_events()
}

/// A disk with a creditable seed of ours and a non-creditable one, and a pool that waits for them.
fn carried() -> World {
    let shared = Shared::new(false);
    let mut world = shared.world();
    world.plant(Name::Credit, &bind(&[7; 32], &machine(OURS)));
    world.plant(Name::NoCredit, &[8; 32]);
    world
}

/// What must hold of a disk as it is found after a power cut.
#[track_caller]
fn check_found(found: &World, context: &str) {
    for file in found.visible() {
        for (used, _) in &found.mixed {
            assert!(!file.starts_with(used), "used seed on the disk: {context}");
        }
    }
    // The next boot, with a cold pool.
    let next = Shared::of(World {
        ready: false,
        mixed: Vec::new(),
        ..found.clone()
    });
    pass(&next, &terms(), &[&LOAD]);
    for (seed, bits) in next.world().mixed {
        if bits == 0 {
            continue;
        }
        assert_eq!(bits, 8 * seed.len(), "{context}");
        let planted = seed == [7; 32];
        let made = |(file, ready): &(Vec<u8>, bool)| *ready && file.starts_with(&seed);
        assert!(
            planted || found.made.iter().any(made),
            "credit for what nobody made whole from an initialised pool: {context}"
        );
    }
}

#[test]
fn each_operation_in_its_order() {
    let shared = Shared::of(carried());
    pass(&shared, &terms(), &[&LOAD, &SAVE]);
    assert_eq!(
        shared.world().record,
        [
            "read seed.no-credit",
            "remove seed.no-credit",
            "read seed.credit",
            "remove seed.credit",
            "sync folder",
            "mix 32 bytes, credit 0",
            "mix 32 bytes, credit 256",
            "draw 32 bytes",
            "write seed.no-credit",
            "sync seed.no-credit",
            "rename to seed.credit",
            "sync folder",
        ]
    );
}

#[test]
fn a_power_cut_after_any_operation_only_downgrades() {
    let plans: [&[&[Group]]; 3] = [&[&LOAD, &SAVE], &[&KEEP, &SAVE], &[&LOAD]];
    for plans in plans {
        for ready in [false, true] {
            for operations in 0..14 {
                let shared = Shared::of(World {
                    power: Some(operations),
                    ready,
                    ..carried()
                });
                pass(&shared, &terms(), plans);
                for found in shared.world().after_cut() {
                    check_found(&found, &format!("{operations} operations: {found:?}"));
                }
            }
        }
    }
}

#[test]
fn a_failure_of_any_operation_followed_by_a_power_cut_only_downgrades() {
    for failing in 0..14 {
        for operations in failing..16 {
            let shared = Shared::of(World {
                power: Some(operations),
                failing: Some(failing),
                ..carried()
            });
            pass(&shared, &terms(), &[&LOAD, &SAVE]);
            for found in shared.world().after_cut() {
                check_found(&found, &format!("{failing} fails, {operations} operations"));
            }
        }
    }
}

#[test]
fn a_seed_whose_removal_or_sync_fails_is_not_used() {
    for (failing, mixed) in [(3, vec![(vec![8; 32], 0)]), (4, vec![])] {
        let shared = Shared::of(World {
            failing: Some(failing),
            ..carried()
        });
        let events = pass(&shared, &terms(), &[&LOAD]);
        assert_eq!(shared.world().mixed, mixed);
        let failed = |event: &&Event| matches!(event, Event::Failed(_));
        assert_eq!(
            events.iter().find(failed).unwrap().to_string(),
            "left a seed unused that would outlive its use: try : made to fail"
        );
    }
}

#[track_caller]
fn check_credit(file: &[u8], terms: &Terms, ready: bool, want: Option<Uncredited>) {
    let shared = Shared::new(ready);
    shared.0.borrow_mut().plant(Name::Credit, file);
    let events = pass(&shared, terms, &[&LOAD]);
    let Some(Event::Mixed { uncredited, .. }) = events.last() else {
        panic!("{events:?}");
    };
    assert_eq!(*uncredited, want);
    let world = shared.world();
    let [(mixed, bits)] = world.mixed.as_slice() else {
        panic!("{world:?}");
    };
    assert!(file.starts_with(mixed));
    assert_eq!(*bits > 0, want.is_none());
    assert_eq!(world.content(Name::Credit), None);
}

#[test]
fn credit_is_for_seeds_of_this_machine_that_the_pool_needs() {
    let ours = bind(&[7; 32], &machine(OURS));
    check_credit(&ours, &terms(), false, None);
    let largest = bind(&[7; 512], &machine(OURS));
    check_credit(&largest, &terms(), false, None);
    check_credit(&ours, &terms(), true, Some(Uncredited::NotNeeded));
    let asked = Terms {
        credit: false,
        ..terms()
    };
    check_credit(&ours, &asked, false, Some(Uncredited::Asked));
    let nobody = Terms {
        machine: None,
        ..terms()
    };
    check_credit(&ours, &nobody, false, Some(Uncredited::Nobody));
    let theirs = bind(&[7; 32], &machine(THEIRS));
    let mut damaged = ours.clone();
    damaged[3] ^= 1;
    let longer = [ours.as_slice(), &[0]].concat();
    let too_large = bind(&[7; 513], &machine(OURS));
    let too_small = bind(&[7; 31], &machine(OURS));
    for file in [
        theirs.as_slice(),
        &damaged,
        &longer,
        &too_large,
        &too_small,
        &ours[..63],
        &[7; 32],
        &[7],
    ] {
        check_credit(file, &terms(), false, Some(Uncredited::Foreign));
    }
}

#[test]
fn an_empty_seed_is_removed_and_earns_nothing() {
    let shared = Shared::new(false);
    shared.0.borrow_mut().plant(Name::Credit, b"");
    let events = pass(&shared, &terms(), &[&LOAD]);
    assert!(matches!(events.as_slice(), [Event::Empty(Name::Credit)]));
    let world = shared.world();
    assert!(world.mixed.is_empty());
    assert_eq!(world.content(Name::Credit), None);
}

#[track_caller]
fn check_saved(terms: &Terms, ready: bool, want: Option<Uncredited>) {
    let shared = Shared::new(ready);
    let events = pass(&shared, terms, &[&KEEP, &SAVE]);
    let [Event::Saved { bytes, uncredited }] = events.as_slice() else {
        panic!("{events:?}");
    };
    assert_eq!((*bytes, *uncredited), (terms.length, want));
    let name = match want {
        None => Name::Credit,
        Some(_) => Name::NoCredit,
    };
    assert!(shared.world().content(name).unwrap().len() >= terms.length);
    assert_eq!(shared.world().visible().len(), 1);
}

#[test]
fn a_new_seed_is_creditable_only_from_an_initialised_pool_on_a_known_machine() {
    check_saved(&terms(), true, None);
    check_saved(&terms(), false, Some(Uncredited::Unready));
    let long = Terms {
        length: 512,
        ..terms()
    };
    check_saved(&long, true, None);
    let nobody = Terms {
        machine: None,
        ..terms()
    };
    check_saved(&nobody, true, Some(Uncredited::Nobody));
    let load_only = Terms {
        promote: false,
        ..terms()
    };
    check_saved(&load_only, true, Some(Uncredited::LoadOnly));
}

#[test]
fn the_old_seed_lives_on_in_the_new_one() {
    let save = |old: &[u8]| {
        let shared = Shared::new(true);
        shared.0.borrow_mut().plant(Name::Credit, old);
        pass(&shared, &terms(), &[&KEEP, &SAVE]);
        shared.world().content(Name::Credit).unwrap()
    };
    assert_eq!(save(&[1; 32]), save(&[1; 32]));
    assert_ne!(save(&[1; 32]), save(&[2; 32]));
}

#[test]
fn what_the_pool_did_not_take_lives_on_in_the_new_seed() {
    // The sync of the removal fails, then one mixing, then the other.
    for failing in 4..7 {
        let save = |old: u8| {
            let mut world = carried();
            world.plant(Name::Credit, &bind(&[old; 32], &machine(OURS)));
            world.plant(Name::NoCredit, &[old + 1; 32]);
            world.failing = Some(failing);
            let shared = Shared::of(world);
            pass(&shared, &terms(), &[&LOAD, &SAVE]);
            shared.world().visible()
        };
        assert_eq!(save(1), save(1));
        assert_ne!(save(1), save(2), "{failing}");
    }
}

#[test]
fn a_seed_that_the_pool_refuses_keeps_no_other_from_it() {
    for (failing, bits) in [(5, 256), (6, 0)] {
        let shared = Shared::of(World {
            failing: Some(failing),
            ..carried()
        });
        pass(&shared, &terms(), &[&LOAD]);
        let mixed = shared.world().mixed;
        assert_eq!(
            mixed.iter().map(|(_, bits)| *bits).collect::<Vec<_>>(),
            [bits]
        );
    }
}

/// A generator of the SplitMix64 family: enough for a test, and it needs no crate.
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((x ^ (x >> 31)) % bound as u64).unwrap()
    }
}

/// Whole lives of a board: boots, saves and unplugging at random, faults among them.
#[test]
fn over_many_boots_no_seed_is_ever_mixed_twice() {
    for life in 0..2_000 {
        let mut chance = Chance(life);
        let mut world = Shared::new(false).world();
        for boot in 0..12 {
            let board = Terms {
                machine: (chance.below(8) > 0).then(|| machine(OURS)),
                ..terms()
            };
            world.ready = chance.below(3) == 0;
            let used = world.mixed.len();
            let shared = Shared::of(world);
            let plans: [&[Group]; 2] = match chance.below(3) {
                0 => [&LOAD, &SAVE],
                1 => [&KEEP, &SAVE],
                _ => [&LOAD, &[]],
            };
            for _ in 0..=chance.below(2) {
                let mut world = shared.0.borrow_mut();
                world.failing = (chance.below(3) == 0).then(|| chance.below(13));
                if chance.below(4) == 0 {
                    world.power = Some(chance.below(13));
                }
                drop(world);
                pass(&shared, &board, &plans);
            }
            let mut states = shared.world().after_cut();
            let pick = chance.below(states.len());
            world = states.swap_remove(pick);
            let (earlier, now) = world.mixed.split_at(used);
            for (seed, bits) in now {
                // Pieces of a seed that a cut has torn may come again; they are never credited.
                let again = *bits > 0 && earlier.iter().any(|(other, _)| other == seed);
                assert!(!again, "life {life}, boot {boot}: {:?}", world.record);
            }
        }
    }
}
