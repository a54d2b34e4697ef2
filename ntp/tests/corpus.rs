//! The replies that the fuzz target `reply` has found worth keeping.

use std::path::Path;

#[path = "../fuzz/script.rs"]
mod script;

#[test]
fn kept_replies_are_refused_or_within_bounds() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/reply");
    let (mut taken, mut refused) = (0, 0);
    for entry in std::fs::read_dir(folder).unwrap() {
        let bytes = std::fs::read(entry.unwrap().path()).unwrap();
        match script::play(&bytes) {
            Ok(_) => taken += 1,
            Err(_) => refused += 1,
        }
    }
    assert!(
        refused >= 10 && taken >= 1,
        "{refused} refused, {taken} taken"
    );
}
