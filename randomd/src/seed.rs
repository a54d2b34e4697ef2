//! What a seed is made of: the hash that carries old entropy on, and the tag that binds it to a machine; pure.
//!
//! A seed file is the seed, 32 to 512 bytes, and behind it, if it is creditable, a tag of 32 bytes.
//! The last 32 bytes of the seed are SeedRNG's hash over old and new, so that entropy never shrinks from boot to boot:
//!
//! ```text
//! BLAKE2s-256("SeedRNG v1 Old+New Prefix" ‖ real time ‖ boot time ‖ (length ‖ content) of each old seed
//!             ‖ length ‖ content of the new one)
//! tag = BLAKE2s-256("gokrazy-rs randomd v1 machine" ‖ length ‖ machine id ‖ length ‖ seed)
//!       BLAKE2s-256("gokrazy-rs randomd v1 machine and board" ‖ length ‖ machine id ‖ length ‖ board ‖ length ‖ seed)
//! ```
//!
//! Lengths are 8 bytes, times twice 8 bytes (seconds, nanoseconds), little-endian: the bytes that SeedRNG hashes on a
//! 64-bit machine.
//! The tag is no secret and no proof against somebody who can write the folder; it tells apart what this machine made
//! and what an image or another machine brought along.
//! A card that is copied after its first boot takes the machine id along, but not the board's serial number, so that is
//! in the tag where there is one.

use std::time::Duration;

use blake2::{Blake2s256, Digest};
use gokrazy_core::machine_id;

/// Bytes of a BLAKE2s-256 hash.
const HASH_LEN: usize = 32;

/// Fewest bytes of a seed: what the pool needs to be initialised.
pub const MIN_LEN: usize = HASH_LEN;

/// Most bytes of a seed: the size of the pool before Linux 5.18.
pub const MAX_LEN: usize = 512;

/// Most bytes of a seed file that mean anything.
pub const MAX_FILE_LEN: usize = MAX_LEN + HASH_LEN;

const SUCCESSION_PREFIX: &[u8] = b"SeedRNG v1 Old+New Prefix";
const MACHINE_PREFIX: &[u8] = b"gokrazy-rs randomd v1 machine";
const BOARD_PREFIX: &[u8] = b"gokrazy-rs randomd v1 machine and board";

/// Longest serial number of a board that counts, in bytes.
const BOARD_MAX: usize = 128;

/// What is hashed when the kernel gives no new bytes at all; SeedRNG's words.
pub const NO_NEW_SEED: [u8; MIN_LEN] = *b"SeedRNG v1 No New Seed Failure\0\0";

/// The length of a new seed in bytes, from the content of `poolsize` (bits, random(4)); [`MIN_LEN`] if it has none.
pub fn length(poolsize: Option<&str>) -> usize {
    let bits = poolsize.and_then(|text| text.trim().parse::<usize>().ok());
    bits.map_or(MIN_LEN, |bits| bits.div_ceil(8).clamp(MIN_LEN, MAX_LEN))
}

/// The identity of a machine: the content of its machine-id(5) file, and the serial number of its board.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    id: String,
    board: Option<Vec<u8>>,
}

impl Machine {
    /// The id in the text, as every reader of it takes it ([`machine_id::parse`]); on a board without a number.
    pub fn parse(text: &str) -> Option<Self> {
        machine_id::parse(text).map(|id| Self { id, board: None })
    }

    /// The same on the board with this serial number, as its firmware writes it (with a zero at its end, or a line
    /// break).
    ///
    /// A number that many boards share, as some firmware has, tells no less than none.
    #[must_use]
    pub fn on_board(self, number: &[u8]) -> Self {
        let number = number.get(..BOARD_MAX).unwrap_or(number);
        let number = number.split(|byte| *byte == 0).next().unwrap_or_default();
        let number = number.trim_ascii();
        let board = (!number.is_empty()).then(|| number.to_vec());
        Self { board, ..self }
    }

    fn tag(&self, seed: &[u8]) -> [u8; HASH_LEN] {
        let prefix = match self.board {
            Some(_) => BOARD_PREFIX,
            None => MACHINE_PREFIX,
        };
        let mut hash = Blake2s256::new_with_prefix(prefix);
        update_sized(&mut hash, self.id.as_bytes());
        if let Some(board) = &self.board {
            update_sized(&mut hash, board);
        }
        update_sized(&mut hash, seed);
        hash.finalize().into()
    }
}

/// The content of the file of a creditable seed.
pub fn bind(seed: &[u8], machine: &Machine) -> Vec<u8> {
    let mut file = seed.to_vec();
    file.extend_from_slice(&machine.tag(seed));
    file
}

/// The seed in a file, if `machine` made it.
pub fn made_by<'a>(file: &'a [u8], machine: &Machine) -> Option<&'a [u8]> {
    let (seed, tag) = file.split_last_chunk::<HASH_LEN>()?;
    let fits = (MIN_LEN..=MAX_LEN).contains(&seed.len());
    (fits && machine.tag(seed) == *tag).then_some(seed)
}

/// The running hash over what a new seed succeeds.
#[derive(Clone)]
pub struct Succession(Blake2s256);

impl Succession {
    /// Begins with both clocks; neither needs to be right, they only differ from boot to boot.
    pub fn new(real_time: Duration, boot_time: Duration) -> Self {
        let mut hash = Blake2s256::new_with_prefix(SUCCESSION_PREFIX);
        for time in [real_time, boot_time] {
            hash.update(time.as_secs().to_le_bytes());
            hash.update(u64::from(time.subsec_nanos()).to_le_bytes());
        }
        Self(hash)
    }

    /// Takes an old seed in.
    pub fn absorb(&mut self, old: &[u8]) {
        update_sized(&mut self.0, old);
    }

    /// Makes `fresh` the successor: its last 32 bytes become the hash over old and new.
    pub fn succeed(self, fresh: &mut [u8]) {
        let Self(mut hash) = self;
        update_sized(&mut hash, fresh);
        if let Some(last) = fresh.last_chunk_mut::<HASH_LEN>() {
            *last = hash.finalize().into();
        }
    }
}

impl std::fmt::Debug for Succession {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Succession(…)")
    }
}

fn update_sized(hash: &mut Blake2s256, bytes: &[u8]) {
    hash.update((bytes.len() as u64).to_le_bytes());
    hash.update(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn machine() -> Machine {
        Machine::parse("00112233445566778899aabbccddeeff\n").unwrap()
    }

    /// The vectors were computed with Python's `hashlib.blake2s`; docs/testing.md has the lines.
    #[test]
    fn golden_vectors_of_the_succession() {
        let cases: [(&[&[u8]], usize, &str); 4] = [
            (
                &[],
                32,
                "fee22ad64fc636f0967b281640620ba39827fb2c26715b7a637188194868b3b8",
            ),
            (
                &[&[0xaa; 32]],
                32,
                "5b0f7a8ae9531788eb8b3ba1060e220883c3cf3acba4494811d1792cb49eac9a",
            ),
            (
                &[&[0xaa; 32], &[0xbb; 512]],
                32,
                "159401c2e61a958b348dcae08f338c8d01f79e8bfad01babac81c964a50025ff",
            ),
            (
                &[&[0xaa; 32]],
                64,
                "19b0952625fbbe5c097a06fd3d9c8518e1ca147a3ad5b83596d3543cd67dbe1e",
            ),
        ];
        for (old, length, want) in cases {
            let real = Duration::new(1_700_000_000, 123_456_789);
            let mut succession = Succession::new(real, Duration::new(42, 7));
            for seed in old {
                succession.absorb(seed);
            }
            let mut fresh = vec![0xcc; length];
            succession.succeed(&mut fresh);
            let (first, last) = fresh.split_at(length - HASH_LEN);
            assert!(first.iter().all(|byte| *byte == 0xcc));
            assert_eq!(hex(last), want, "{} old, {length}", old.len());
        }
    }

    #[test]
    fn golden_vector_of_the_tag() {
        let file = bind(&[0xcc; 32], &machine());
        assert_eq!(
            hex(&file[32..]),
            "85374e32edcb1d5b80879916456ae149b324d88ddffa8b74d2f7fbc5d65f48a0"
        );
    }

    #[test]
    fn a_seed_stays_with_its_board() {
        let board = |number: &[u8]| machine().on_board(number);
        let file = bind(&[0xcc; 32], &board(b"10000000abcdef01\0"));
        assert_eq!(
            hex(&file[32..]),
            "06837e138529ac591f5193f721e8c8f2e7675ce73b3ad2c11bac853c24af6948"
        );
        assert!(made_by(&file, &board(b"10000000abcdef01\n")).is_some());
        assert_eq!(made_by(&file, &board(b"10000000abcdef02\0")), None);
        assert_eq!(made_by(&file, &machine()), None);
        assert_eq!(made_by(&bind(&[0xcc; 32], &machine()), &board(b"1")), None);
        for none in [&b""[..], b"\0", b" \n\0x"] {
            assert_eq!(board(none), machine());
        }
        assert_eq!(board(&[b'x'; 4_096]), board(&[b'x'; BOARD_MAX]));
    }

    #[test]
    fn what_is_bound_is_recognised_by_its_machine_alone() {
        for length in [32, 33, 511, 512] {
            let seed = vec![9; length];
            let file = bind(&seed, &machine());
            assert_eq!(made_by(&file, &machine()), Some(seed.as_slice()));
            let other = Machine::parse("10112233445566778899aabbccddeeff").unwrap();
            assert_eq!(made_by(&file, &other), None);
        }
    }

    #[test]
    fn what_is_not_bound_is_nobodys() {
        let file = bind(&[9; 32], &machine());
        for length in 0..file.len() {
            assert_eq!(made_by(&file[..length], &machine()), None, "{length}");
        }
        for index in 0..file.len() {
            let mut damaged = file.clone();
            damaged[index] ^= 0x80;
            assert_eq!(made_by(&damaged, &machine()), None, "{index}");
        }
    }

    #[test]
    fn an_id_is_one_however_it_is_written() {
        for text in [
            "00112233445566778899aabbccddeeff",
            "00112233-4455-6677-8899-AABBCCDDEEFF\r\n",
        ] {
            assert_eq!(Machine::parse(text), Some(machine()));
        }
        for text in ["", "uninitialized\n", "00000000000000000000000000000000\n"] {
            assert_eq!(Machine::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn lengths() {
        for (poolsize, want) in [
            (None, 32),
            (Some(""), 32),
            (Some("many"), 32),
            (Some("-1"), 32),
            (Some("256\n"), 32),
            (Some("257\n"), 33),
            (Some("1024\n"), 128),
            (Some("4096\n"), 512),
            (Some("1000000\n"), 512),
            (Some("0"), 32),
        ] {
            assert_eq!(length(poolsize), want, "{poolsize:?}");
        }
    }
}
