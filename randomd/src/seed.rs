//! What a seed is made of: the hash that carries old entropy on, and the tag that binds it to a machine; pure.
//!
//! A seed file is the seed, 32 to 512 bytes, and behind it, if it is creditable, a tag of 32 bytes.
//! The last 32 bytes of the seed are SeedRNG's hash over old and new, so that entropy never shrinks from boot to boot:
//!
//! ```text
//! BLAKE2s-256("SeedRNG v1 Old+New Prefix" ‖ real time ‖ boot time ‖ (length ‖ content) of each old seed
//!             ‖ length ‖ content of the new one)
//! tag = BLAKE2s-256("gokrazy-rs randomd v1 machine" ‖ length ‖ machine id ‖ length ‖ seed)
//! ```
//!
//! Lengths are 8 bytes, times twice 8 bytes (seconds, nanoseconds), little-endian: the bytes that SeedRNG hashes on a
//! 64-bit machine.
//! The tag is no secret and no proof against somebody who can write the folder; it tells apart what this machine made
//! and what an image or another machine brought along.

use std::time::Duration;

use blake2::{Blake2s256, Digest};

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

/// What is hashed when the kernel gives no new bytes at all; SeedRNG's words.
pub const NO_NEW_SEED: [u8; MIN_LEN] = *b"SeedRNG v1 No New Seed Failure\0\0";

/// The length of a new seed in bytes, from the content of `poolsize` (bits, random(4)); [`MIN_LEN`] if it has none.
pub fn length(poolsize: Option<&str>) -> usize {
    let bits = poolsize.and_then(|text| text.trim().parse::<usize>().ok());
    bits.map_or(MIN_LEN, |bits| bits.div_ceil(8).clamp(MIN_LEN, MAX_LEN))
}

/// The identity of a machine, from the content of its machine-id(5) file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine(String);

impl Machine {
    /// Reads 32 lower-case hexadecimal digits; `None` for anything else, and for all zeros.
    pub fn parse(text: &str) -> Option<Self> {
        let id = text.trim_end();
        let digits = id.len() == 32 && id.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        (digits && id.bytes().any(|b| b != b'0')).then(|| Self(id.to_owned()))
    }

    fn tag(&self, seed: &[u8]) -> [u8; HASH_LEN] {
        let mut hash = Blake2s256::new_with_prefix(MACHINE_PREFIX);
        update_sized(&mut hash, self.0.as_bytes());
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
