//! The slot table: which root boots next, and how often it may still try; pure.
//!
//! ```text
//!            install            stage 1 counts down            confirmed
//!  empty ──────────────► trial(n) ───────────────► trial(n-1) ──────────► good
//!    ▲                      │ n = 0, or the root is unusable                │ install
//!    └── erased             └──────────────► bad ◄──────────────────────────┘ (of the other slot: stays good)
//! ```
//!
//! Invariants:
//! - Two copies lie on the disk ([`crate::layout::SLOT_TABLE_LBAS`]); the newer whole one counts, and a write goes
//!   to the other, so that a power cut during a write leaves the table as it was.
//! - An attempt is counted, and the count is on the disk, *before* the slot is started.
//! - The table is edited in memory; who holds the disk writes [`Table::encode`] to [`Stored::next_copy`].

use std::fmt;
use std::str::FromStr;

use crc::{CRC_32_ISCSI, Crc};

use crate::layout::SLOT_TABLE_BYTES;

const MAGIC: &[u8; 8] = b"GOKRSLOT";
const VERSION: u8 = 1;
/// The checksum (CRC-32C, as iSCSI uses it) stands in the block's last four bytes and covers all before it.
const CHECKSUM_AT: usize = SLOT_TABLE_BYTES - 4;
const CASTAGNOLI: Crc<u32> = Crc::<u32>::new(&CRC_32_ISCSI);

/// How often a new slot may try to come up before it is given up.
pub const TRIAL_ATTEMPTS: u8 = 3;

/// One of the two slots, each a kernel and a root that belong together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SlotName {
    /// Kernel folder `A/`, partition 2.
    A,
    /// Kernel folder `B/`, partition 3.
    B,
}

impl SlotName {
    /// The other slot.
    pub fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }

    /// The folder of the boot partition that holds the slot's kernel.
    pub fn kernel_folder(self) -> &'static str {
        match self {
            Self::A => "A",
            Self::B => "B",
        }
    }
}

impl fmt::Display for SlotName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::A => "a",
            Self::B => "b",
        })
    }
}

impl FromStr for SlotName {
    type Err = ();

    fn from_str(word: &str) -> Result<Self, ()> {
        match word {
            "a" | "A" => Ok(Self::A),
            "b" | "B" => Ok(Self::B),
            _ => Err(()),
        }
    }
}

/// What is known of a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SlotState {
    /// Nothing was ever installed.
    Empty,
    /// Installed and not yet confirmed; `attempts_left` starts remain.
    Trial {
        /// Starts that remain, counted down before each.
        attempts_left: u8,
    },
    /// Came up and was confirmed, or was written by the image builder.
    Good,
    /// Did not come up.
    Bad,
}

impl fmt::Display for SlotState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("empty"),
            Self::Trial { attempts_left } => write!(f, "trial({attempts_left})"),
            Self::Good => f.write_str("good"),
            Self::Bad => f.write_str("bad"),
        }
    }
}

/// The slot table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Table {
    /// Grows by one with each write; the copy with the greater number counts.
    pub sequence: u64,
    /// The slot to try first.
    pub preferred: SlotName,
    /// State of slot A.
    pub a: SlotState,
    /// State of slot B.
    pub b: SlotState,
}

/// The table as it lies on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stored {
    /// The newer whole copy.
    pub table: Table,
    /// Index of the copy (0 or 1) that the next write must go to: the older or broken one.
    pub next_copy: usize,
}

/// What stage 1 is to boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Choice {
    /// The slot to start.
    pub slot: SlotName,
    /// Which attempt at a trial slot this is, from 1; `None` for a good slot.
    pub attempt: Option<u8>,
    /// The table to put on the disk before the slot is started; `None` if nothing changed.
    pub write_first: Option<Table>,
}

impl Table {
    /// The table of a new image: slot A good, slot B empty.
    pub fn new() -> Self {
        Self {
            sequence: 1,
            preferred: SlotName::A,
            a: SlotState::Good,
            b: SlotState::Empty,
        }
    }

    /// State of `slot`.
    pub fn state(&self, slot: SlotName) -> SlotState {
        match slot {
            SlotName::A => self.a,
            SlotName::B => self.b,
        }
    }

    /// The table with `slot` in `state`.
    #[must_use]
    pub fn with(mut self, slot: SlotName, state: SlotState) -> Self {
        match slot {
            SlotName::A => self.a = state,
            SlotName::B => self.b = state,
        }
        self
    }

    /// The table after `slot` was installed: on trial, and tried first.
    #[must_use]
    pub fn installed(self, slot: SlotName) -> Self {
        let trial = SlotState::Trial {
            attempts_left: TRIAL_ATTEMPTS,
        };
        Self {
            preferred: slot,
            ..self.with(slot, trial)
        }
    }

    /// The table after the running `slot` proved itself.
    #[must_use]
    pub fn confirmed(self, slot: SlotName) -> Self {
        Self {
            preferred: slot,
            ..self.with(slot, SlotState::Good)
        }
    }

    /// The table after `slot` was found unusable; the other one is tried first from now on.
    #[must_use]
    pub fn condemned(self, slot: SlotName) -> Self {
        Self {
            preferred: slot.other(),
            ..self.with(slot, SlotState::Bad)
        }
    }

    /// What to boot, or `None` if neither slot may be started.
    ///
    /// The preferred slot comes first; a trial slot with attempts left loses one, one without is condemned.
    pub fn choose(&self) -> Option<Choice> {
        let mut table = *self;
        for slot in [self.preferred, self.preferred.other()] {
            match table.state(slot) {
                SlotState::Good => return Some(table.start(self, slot, None)),
                SlotState::Trial { attempts_left: 0 } => table = table.condemned(slot),
                SlotState::Trial { attempts_left } => {
                    let left = attempts_left.saturating_sub(1);
                    let attempt = TRIAL_ATTEMPTS.saturating_sub(left).max(1);
                    table = table.with(
                        slot,
                        SlotState::Trial {
                            attempts_left: left,
                        },
                    );
                    return Some(table.start(self, slot, Some(attempt)));
                }
                SlotState::Empty | SlotState::Bad => {}
            }
        }
        None
    }

    fn start(self, before: &Self, slot: SlotName, attempt: Option<u8>) -> Choice {
        Choice {
            slot,
            attempt,
            write_first: (self != *before).then(|| self.next()),
        }
    }

    /// The same content with the next sequence number, ready to be written.
    #[must_use]
    pub fn next(self) -> Self {
        Self {
            sequence: self.sequence.wrapping_add(1),
            ..self
        }
    }

    /// The bytes of one copy.
    pub fn encode(&self) -> [u8; SLOT_TABLE_BYTES] {
        let mut fields = Vec::with_capacity(SLOT_TABLE_BYTES);
        fields.extend_from_slice(MAGIC);
        fields.push(VERSION);
        fields.push(match self.preferred {
            SlotName::A => 0,
            SlotName::B => 1,
        });
        fields.extend_from_slice(&encode_state(self.a));
        fields.extend_from_slice(&encode_state(self.b));
        fields.extend_from_slice(&[0; 2]);
        fields.extend_from_slice(&self.sequence.to_le_bytes());
        fields.resize(CHECKSUM_AT, 0);
        let checksum = CASTAGNOLI.checksum(&fields);
        fields.extend_from_slice(&checksum.to_le_bytes());
        let mut block = [0; SLOT_TABLE_BYTES];
        block.copy_from_slice(&fields);
        block
    }

    /// Reads one copy; `None` if it is not whole, or of a version that we do not know.
    pub fn decode(block: &[u8]) -> Option<Self> {
        let covered = block.get(..CHECKSUM_AT)?;
        let checksum: [u8; 4] = block.get(CHECKSUM_AT..SLOT_TABLE_BYTES)?.try_into().ok()?;
        if CASTAGNOLI.checksum(covered) != u32::from_le_bytes(checksum) {
            return None;
        }
        let rest = covered.strip_prefix(MAGIC)?;
        let [
            VERSION,
            preferred,
            a_kind,
            a_left,
            b_kind,
            b_left,
            _,
            _,
            sequence @ ..,
        ] = rest.first_chunk::<16>()?
        else {
            return None;
        };
        Some(Self {
            sequence: u64::from_le_bytes(*sequence),
            preferred: match preferred {
                0 => SlotName::A,
                1 => SlotName::B,
                _ => return None,
            },
            a: decode_state(*a_kind, *a_left)?,
            b: decode_state(*b_kind, *b_left)?,
        })
    }
}

impl Default for Table {
    fn default() -> Self {
        Self::new()
    }
}

/// The table from its two copies, or `None` if both are broken.
pub fn read_copies(first: &[u8], second: &[u8]) -> Option<Stored> {
    match (Table::decode(first), Table::decode(second)) {
        (None, None) => None,
        (Some(table), None) => Some(Stored {
            table,
            next_copy: 1,
        }),
        (None, Some(table)) => Some(Stored {
            table,
            next_copy: 0,
        }),
        (Some(one), Some(two)) if two.sequence > one.sequence => Some(Stored {
            table: two,
            next_copy: 0,
        }),
        (Some(table), Some(_)) => Some(Stored {
            table,
            next_copy: 1,
        }),
    }
}

fn encode_state(state: SlotState) -> [u8; 2] {
    match state {
        SlotState::Empty => [0, 0],
        SlotState::Trial { attempts_left } => [1, attempts_left],
        SlotState::Good => [2, 0],
        SlotState::Bad => [3, 0],
    }
}

fn decode_state(kind: u8, attempts_left: u8) -> Option<SlotState> {
    match kind {
        0 => Some(SlotState::Empty),
        1 => Some(SlotState::Trial { attempts_left }),
        2 => Some(SlotState::Good),
        3 => Some(SlotState::Bad),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRIAL_3: SlotState = SlotState::Trial { attempts_left: 3 };

    fn table(preferred: SlotName, a: SlotState, b: SlotState) -> Table {
        Table {
            sequence: 7,
            preferred,
            a,
            b,
        }
    }

    #[test]
    fn every_state_survives_the_disk() {
        for a in [SlotState::Empty, TRIAL_3, SlotState::Good, SlotState::Bad] {
            let table = table(SlotName::B, a, SlotState::Good);
            assert_eq!(Table::decode(&table.encode()), Some(table));
        }
    }

    #[test]
    fn any_flipped_bit_breaks_a_copy() {
        let whole = Table::new().encode();
        for at in (0..SLOT_TABLE_BYTES)
            .step_by(13)
            .chain([SLOT_TABLE_BYTES - 1])
        {
            let mut broken = whole;
            broken[at] ^= 0x10;
            assert_eq!(Table::decode(&broken), None, "byte {at}");
        }
        assert_eq!(Table::decode(&whole[..100]), None);
        assert_eq!(Table::decode(&[]), None);
    }

    #[test]
    fn the_newer_whole_copy_counts_and_the_other_is_written() {
        let old = Table::new();
        let new = old.installed(SlotName::B).next();
        let broken = [0; SLOT_TABLE_BYTES];
        let check = |first: &[u8], second: &[u8], want: Option<(Table, usize)>| {
            let got = read_copies(first, second).map(|stored| (stored.table, stored.next_copy));
            assert_eq!(got, want);
        };
        check(&old.encode(), &new.encode(), Some((new, 0)));
        check(&new.encode(), &old.encode(), Some((new, 1)));
        check(&old.encode(), &broken, Some((old, 1)));
        check(&broken, &old.encode(), Some((old, 0)));
        check(&broken, &broken, None);
    }

    #[test]
    fn a_good_preferred_slot_boots_without_a_write() {
        let choice = Table::new().choose().unwrap();
        assert_eq!(
            choice,
            Choice {
                slot: SlotName::A,
                attempt: None,
                write_first: None
            }
        );
    }

    #[test]
    fn a_trial_is_counted_down_then_condemned_and_the_other_boots() {
        let mut table = Table::new().installed(SlotName::B);
        for attempt in 1..=3 {
            let choice = table.choose().unwrap();
            assert_eq!((choice.slot, choice.attempt), (SlotName::B, Some(attempt)));
            table = choice.write_first.unwrap();
            assert_eq!(
                table.b,
                SlotState::Trial {
                    attempts_left: 3 - attempt
                }
            );
        }
        let choice = table.choose().unwrap();
        assert_eq!((choice.slot, choice.attempt), (SlotName::A, None));
        let after = choice.write_first.unwrap();
        assert_eq!((after.preferred, after.b), (SlotName::A, SlotState::Bad));
    }

    #[test]
    fn with_no_slot_to_start_there_is_no_choice() {
        assert_eq!(
            table(SlotName::A, SlotState::Bad, SlotState::Empty).choose(),
            None
        );
        assert_eq!(
            table(
                SlotName::A,
                SlotState::Trial { attempts_left: 0 },
                SlotState::Bad
            )
            .choose(),
            None
        );
    }

    #[test]
    fn confirming_makes_the_slot_good_and_preferred() {
        let table = Table::new().installed(SlotName::B).confirmed(SlotName::B);
        assert_eq!(
            (table.preferred, table.a, table.b),
            (SlotName::B, SlotState::Good, SlotState::Good)
        );
    }
}
