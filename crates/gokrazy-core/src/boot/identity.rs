//! The machine id: found, or made on the first boot and kept.

use std::path::Path;

use super::{note, problem};
use crate::atomic::{Durability, replace};
use crate::machine_id::{from_random, machine_id};
use crate::paths;

/// The id, and whether it was made just now for good.
pub(super) fn machine_id_or_new(
    perm_is_lasting: bool,
    problems: &mut Vec<String>,
) -> (String, bool) {
    if let Some(id) = machine_id() {
        return (id, false);
    }
    let mut bytes = [0; 16];
    #[expect(
        clippy::disallowed_methods,
        reason = "the one place where an id is drawn"
    )]
    let drawn = getrandom::fill(&mut bytes);
    if let Err(error) = drawn {
        problem(problems, &format!("draw a machine id: {error}"));
    }
    let id = from_random(bytes);
    // On a temporary /perm the id lasts as long as that does, which is what readers of the file expect.
    if let Err(error) = replace(
        Path::new(paths::PERM_MACHINE_ID),
        format!("{id}\n").as_bytes(),
        0o644,
        Durability::Synced,
    ) {
        note(problems, &format!("keep the machine id: {error}"), &error);
        return (id, false);
    }
    (id, perm_is_lasting)
}
