//! Which slot to start, by the table and the running kernel; pure.

use gokrazy_core::slots::{Choice, SlotName, SlotState, Table};

/// The kernel that runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Kernel {
    /// The slot that it belongs to; unknown if the command line does not say.
    pub(super) slot: Option<SlotName>,
    /// Whether the firmware can still be told to take the other one.
    pub(super) switchable: bool,
}

/// A slot to start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Candidate {
    pub(super) slot: SlotName,
    /// Which attempt at a trial slot this is, from 1.
    pub(super) attempt: Option<u8>,
    /// What must be on the disk before it is started.
    pub(super) write_first: Option<Table>,
}

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// Start this slot with the running kernel.
    Start(Candidate),
    /// Let the firmware take this slot's kernel. The attempt is counted by the stage 1 that comes with it.
    OtherKernel(SlotName),
    /// No slot may be started.
    GiveUp,
}

/// What to do by the table, with this kernel.
///
/// Where the firmware cannot be told, the running kernel's own slot goes before the one that the table prefers:
/// kernel and root belong together, and who chose the kernel (systemd-boot, a person at its menu) chose the slot.
pub(super) fn next(table: &Table, kernel: Kernel) -> Next {
    let Some(choice) = table.choose() else {
        return Next::GiveUp;
    };
    match kernel.slot {
        Some(running) if running != choice.slot && kernel.switchable => {
            Next::OtherKernel(choice.slot)
        }
        Some(running) if running != choice.slot => {
            let own_first = Table {
                preferred: running,
                ..*table
            };
            start(own_first.choose().unwrap_or(choice))
        }
        Some(_) | None => start(choice),
    }
}

fn start(choice: Choice) -> Next {
    Next::Start(Candidate {
        slot: choice.slot,
        attempt: choice.attempt,
        write_first: choice.write_first,
    })
}

/// Whether the running kernel has its own slot still to try, instead of sending the machine to the other kernel.
///
/// It does so if nothing can be written to the table: each kernel would read what the other one has read, and send the
/// machine back.
pub(super) fn may_stay(table: &Table, kernel: Kernel) -> bool {
    kernel.slot.is_some_and(|own| is_left(table.state(own)))
}

/// Whether a slot may be started.
fn is_left(state: SlotState) -> bool {
    match state {
        SlotState::Good => true,
        SlotState::Trial { attempts_left } => attempts_left > 0,
        SlotState::Empty | SlotState::Bad => false,
    }
}

/// Whether a slot that could not be started is to be noted as bad: not if another slot's kernel tried it, which may be
/// the only thing that is wrong, and not if no other one could be started in its place, since a card that fails to
/// answer once would then be the machine's end.
pub(super) fn is_to_blame(table: &Table, slot: SlotName, kernel: Kernel) -> bool {
    is_left(table.state(slot.other())) && kernel.slot.is_none_or(|running| running == slot)
}

/// What to try when no slot may be started: whatever is installed, the running kernel's own slot first. It may fail,
/// and to try nothing fails for certain.
pub(super) fn last_resort(table: &Table, kernel: Kernel) -> Vec<SlotName> {
    let first = kernel.slot.unwrap_or(table.preferred);
    let mut slots = vec![first, first.other()];
    slots.retain(|slot| table.state(*slot) != SlotState::Empty);
    slots
}

/// The table after `slot` turned out to be unusable, ready to be written.
pub(super) fn condemned(table: &Table, slot: SlotName) -> Table {
    table.condemned(slot).next()
}

/// Why `started` runs although the other slot was meant to, for the operator; `None` if nothing went wrong.
///
/// The reasons of this boot say more than the table; after a restart for the other kernel only the table is left.
pub(super) fn fallback(table: &Table, started: SlotName, reasons: &[String]) -> Option<String> {
    let other = started.other();
    let told = reasons
        .iter()
        .any(|reason| reason.starts_with(&format!("slot {other}: ")));
    let from_table = (table.state(other) == SlotState::Bad && !told)
        .then(|| format!("slot {other} did not come up"));
    let all: Vec<String> = from_table
        .into_iter()
        .chain(reasons.iter().cloned())
        .collect();
    (!all.is_empty()).then(|| all.join("; "))
}

#[cfg(test)]
mod tests {
    use gokrazy_core::slots::TRIAL_ATTEMPTS;

    use super::*;

    const KERNEL_A: Kernel = Kernel {
        slot: Some(SlotName::A),
        switchable: true,
    };

    fn both_good() -> Table {
        Table::new().with(SlotName::B, SlotState::Good)
    }

    #[test]
    fn a_good_slot_is_started_by_its_own_kernel() {
        let want = Candidate {
            slot: SlotName::A,
            attempt: None,
            write_first: None,
        };
        assert_eq!(next(&Table::new(), KERNEL_A), Next::Start(want));
    }

    #[test]
    fn the_other_kernel_is_asked_for_before_an_attempt_is_counted() {
        let table = Table::new().installed(SlotName::B);
        assert_eq!(next(&table, KERNEL_A), Next::OtherKernel(SlotName::B));
        let kernel_b = Kernel {
            slot: Some(SlotName::B),
            switchable: true,
        };
        let Next::Start(candidate) = next(&table, kernel_b) else {
            panic!("not started")
        };
        assert_eq!((candidate.slot, candidate.attempt), (SlotName::B, Some(1)));
        let left = candidate.write_first.unwrap().b;
        assert_eq!(
            left,
            SlotState::Trial {
                attempts_left: TRIAL_ATTEMPTS - 1
            }
        );
    }

    #[test]
    fn a_firmware_that_cannot_be_told_does_not_stop_the_boot() {
        let stuck = Kernel {
            switchable: false,
            ..KERNEL_A
        };
        let prefers_b = Table {
            preferred: SlotName::B,
            ..both_good()
        };
        let started = |table: &Table| match next(table, stuck) {
            Next::Start(candidate) => (candidate.slot, candidate.write_first),
            other => panic!("{other:?}"),
        };
        // The kernel's own slot, and nothing to write, since nothing was tried.
        assert_eq!(started(&prefers_b), (SlotName::A, None));
        // Unless that one is known to be bad.
        let a_is_bad = prefers_b.with(SlotName::A, SlotState::Bad);
        assert_eq!(started(&a_is_bad), (SlotName::B, None));
    }

    #[test]
    fn a_slot_is_not_blamed_for_a_kernel_that_is_not_its_own() {
        assert!(is_to_blame(&both_good(), SlotName::A, KERNEL_A));
        assert!(!is_to_blame(&both_good(), SlotName::B, KERNEL_A));
        let unknown = Kernel {
            slot: None,
            switchable: false,
        };
        assert!(is_to_blame(&both_good(), SlotName::B, unknown));
    }

    #[test]
    fn the_last_slot_is_never_noted_as_bad() {
        for (other, want) in [
            (SlotState::Empty, false),
            (SlotState::Bad, false),
            (SlotState::Trial { attempts_left: 0 }, false),
            (SlotState::Trial { attempts_left: 1 }, true),
            (SlotState::Good, true),
        ] {
            let table = Table::new().with(SlotName::B, other);
            assert_eq!(is_to_blame(&table, SlotName::A, KERNEL_A), want, "{other}");
        }
    }

    #[test]
    fn what_is_installed_is_tried_before_nothing_is() {
        let bad = Table::new().with(SlotName::A, SlotState::Bad);
        assert_eq!(next(&bad, KERNEL_A), Next::GiveUp);
        assert_eq!(last_resort(&bad, KERNEL_A), [SlotName::A]);
        let both = bad.with(SlotName::B, SlotState::Bad);
        let kernel_b = Kernel {
            slot: Some(SlotName::B),
            switchable: false,
        };
        assert_eq!(last_resort(&both, kernel_b), [SlotName::B, SlotName::A]);
        let empty = bad.with(SlotName::A, SlotState::Empty);
        assert_eq!(last_resort(&empty, KERNEL_A), []);
    }

    #[test]
    fn an_unusable_slot_gives_way_to_the_other_and_at_last_to_nothing() {
        let table = condemned(&both_good(), SlotName::A);
        assert_eq!(next(&table, KERNEL_A), Next::OtherKernel(SlotName::B));
        assert_eq!(
            next(&condemned(&table, SlotName::B), KERNEL_A),
            Next::GiveUp
        );
    }

    /// Power is cut at each write, in every combination: the machine always finds a slot, and no trial is started
    /// more often than it may.
    #[test]
    fn power_cuts_never_lose_the_good_slot() {
        for cut_mask in 0_u32..64 {
            let mut stored = Table::new().installed(SlotName::B).next();
            let mut starts_of_b = 0;
            for boot in 0..8 {
                let Next::Start(candidate) = next(
                    &stored,
                    Kernel {
                        slot: None,
                        switchable: false,
                    },
                ) else {
                    panic!("nothing to start with mask {cut_mask:b}")
                };
                let written = cut_mask >> boot & 1 == 0 || candidate.write_first.is_none();
                if !written {
                    continue;
                }
                stored = candidate.write_first.unwrap_or(stored);
                starts_of_b += u8::from(candidate.slot == SlotName::B);
            }
            assert!(starts_of_b <= TRIAL_ATTEMPTS, "mask {cut_mask:b}");
        }
    }

    /// What stage 1 does with one kernel on a disk that takes or refuses writes to the table: the other kernel's slot
    /// if it sends the machine there, otherwise the slot that is started, if any is.
    fn one_boot(stored: &mut Table, takes_writes: bool, own: SlotName, usable: [bool; 2]) -> Went {
        let mut table = *stored;
        let mut kernel = Kernel {
            slot: Some(own),
            switchable: true,
        };
        loop {
            let candidate = match next(&table, kernel) {
                Next::Start(candidate) => candidate,
                Next::OtherKernel(slot) if may_stay(&table, kernel) && !takes_writes => {
                    kernel.switchable = false;
                    assert_ne!(slot, own);
                    continue;
                }
                Next::OtherKernel(slot) => return Went::ToKernel(slot),
                Next::GiveUp => return Went::Nowhere,
            };
            let slot = candidate.slot;
            let counted = candidate.write_first.is_none() || takes_writes;
            table = candidate.write_first.unwrap_or(table);
            if takes_writes {
                *stored = table;
            }
            // Another slot's modules do not fit the running kernel.
            let is_usable = slot == own && usable[usize::from(slot == SlotName::B)];
            if is_usable && (counted || candidate.attempt.is_none()) {
                return Went::Up(slot);
            }
            if takes_writes && is_to_blame(&table, slot, kernel) {
                *stored = condemned(&table, slot);
            }
            table = condemned(&table, slot);
        }
    }

    #[derive(Debug, PartialEq)]
    enum Went {
        Up(SlotName),
        ToKernel(SlotName),
        Nowhere,
    }

    /// With each table, a writable one or not, and each slot whole or broken: the kernels never send the machine to
    /// each other without end, and a whole good slot comes up.
    #[test]
    fn kernels_do_not_alternate_for_ever() {
        let states = [
            SlotState::Good,
            SlotState::Bad,
            SlotState::Empty,
            SlotState::Trial { attempts_left: 2 },
        ];
        let both = [SlotName::A, SlotName::B];
        let flags = [false, true];
        for (a, b) in states.iter().flat_map(|a| states.map(|b| (*a, b))) {
            for preferred in both {
                for (own, takes_writes) in both.iter().flat_map(|own| flags.map(|yes| (*own, yes)))
                {
                    for usable in [[true, true], [true, false], [false, true]] {
                        let mut stored = Table {
                            preferred,
                            ..Table::new()
                        }
                        .with(SlotName::A, a)
                        .with(SlotName::B, b);
                        let what = format!("{stored:?} {own} {takes_writes} {usable:?}");
                        let mut went = Went::ToKernel(own);
                        for _ in 0..4 {
                            let Went::ToKernel(kernel) = went else {
                                break;
                            };
                            went = one_boot(&mut stored, takes_writes, kernel, usable);
                        }
                        assert!(!matches!(went, Went::ToKernel(_)), "no end: {what}");
                        let whole = |slot: SlotName, state| {
                            state == SlotState::Good && usable[usize::from(slot == SlotName::B)]
                        };
                        if whole(SlotName::A, a) && whole(SlotName::B, b) {
                            assert!(matches!(went, Went::Up(_)), "{went:?}: {what}");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn the_operator_learns_why() {
        let table = condemned(&both_good(), SlotName::A);
        assert_eq!(
            fallback(&table, SlotName::B, &[]),
            Some("slot a did not come up".to_owned())
        );
        let reasons = ["slot a: mount /dev/x2: bad superblock".to_owned()];
        assert_eq!(
            fallback(&table, SlotName::B, &reasons),
            Some(reasons[0].clone())
        );
        let untold = ["tell the firmware: no config.txt".to_owned()];
        assert_eq!(
            fallback(&table, SlotName::B, &untold),
            Some("slot a did not come up; tell the firmware: no config.txt".to_owned())
        );
        assert_eq!(fallback(&both_good(), SlotName::A, &[]), None);
    }
}
