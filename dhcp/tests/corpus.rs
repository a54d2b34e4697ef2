//! The scripts that the fuzz target `network` has found worth keeping, and seeds that lead it in.
//!
//! `CORPUS_RANDOM=N cargo test --release --test corpus` plays N random changes of them too, without a nightly
//! compiler.
#![expect(clippy::unwrap_used, reason = "a test may fail")]
#![expect(
    clippy::indexing_slicing,
    reason = "the script's tables are as long as their indices say"
)]

use std::panic::catch_unwind;
use std::path::{Path, PathBuf};

#[path = "../fuzz/script.rs"]
mod script;

fn scripts() -> Vec<(PathBuf, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/network");
    let entries = std::fs::read_dir(&folder).unwrap();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let read = |path: PathBuf| {
        let bytes = std::fs::read(&path).unwrap();
        (path, bytes)
    };
    paths.into_iter().map(read).collect()
}

#[test]
fn kept_scripts_break_nothing() {
    let scripts = scripts();
    assert!(scripts.len() > 10, "the corpus is not there");
    for (path, bytes) in scripts {
        let played = catch_unwind(|| script::play(&bytes));
        assert!(played.is_ok(), "{} fails", path.display());
    }
}

#[test]
fn changed_scripts_break_nothing() {
    let rounds = std::env::var("CORPUS_RANDOM").map_or(2000, |text| text.parse().unwrap());
    let scripts = scripts();
    let mut state = 1_u64;
    let mut draw = move |end: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state >> 11).unwrap() % end.max(1)
    };
    for round in 0..rounds {
        let mut bytes = scripts[draw(scripts.len())].1.clone();
        for _ in 0..draw(8) {
            let other = &scripts[draw(scripts.len())].1;
            let at = draw(bytes.len() + 1);
            match draw(4) {
                0 if at < bytes.len() => bytes[at] = u8::try_from(draw(256)).unwrap(),
                1 => bytes.truncate(at),
                2 => bytes.insert(at, u8::try_from(draw(256)).unwrap()),
                _ => bytes.extend(other.iter().skip(draw(other.len())).take(400)),
            }
        }
        let played = catch_unwind(|| script::play(&bytes));
        assert!(played.is_ok(), "round {round} fails: {bytes:02x?}");
    }
}
