//! How long files and daemons may be: what is to be understood must be readable in one sitting.
//!
//! A line counts if it stands outside the inline test module; comments and blanks count too.

use std::path::Path;

use anyhow::Result;

use super::Breach;
use super::tree::{RustFile, Tree};

/// Longest file.
const FILE: usize = 400;

/// Longest `main.rs`: parse, run, print the chain, return a code.
const MAIN: usize = 30;

/// Most lines of a folder. The goal of a daemon is [`DAEMON`]; a row that is far above it holds what there was when it
/// was written, with some room, so that growth is a decision that somebody takes here.
const FOLDERS: &[(&str, usize)] = &[
    // Half of it is documentation, and a fifth the two seams at which its tests cut the power.
    ("randomd", 1_700),
    ("crates/hello", 60),
    // Two protocols, their machines and checks; what the kernel does, and what people do to it, came to a tenth.
    // What a killed run leaves, to be known again and removed, is the last hundred lines of it.
    ("dhcp/src", 9_250),
    ("ntp/src", 5_000),
    // A tenth is what a flood takes to be cheap: shared room, and pieces that are copied at once; as much again looks for
    // the last records from the end of a log of any length.
    ("init/src/logd", 1_350),
    ("init/src/syslog", DAEMON),
    ("init/src/web", 5_400),
    // The supervisor with all that it does as a machine's first process; a quarter is the page, of which a hundred lines
    // say who gives way in a crowd.
    ("init/src", 20_500),
];

/// What a daemon should fit in.
const DAEMON: usize = 800;

pub(super) fn check(tree: &Tree) -> Result<Vec<Breach>> {
    let mut breaches: Vec<_> = tree.production().filter_map(of_file).collect();
    breaches.extend(
        FOLDERS
            .iter()
            .filter_map(|(folder, budget)| of_folder(tree, folder, *budget)),
    );
    Ok(breaches)
}

fn of_file(file: &RustFile) -> Option<Breach> {
    let budget = if file.path.ends_with("src/main.rs") {
        MAIN
    } else {
        FILE
    };
    let lines = file.source.production_lines;
    (lines > budget).then(|| {
        Breach::of_file(
            &file.path,
            format!("{lines} lines without tests, at most {budget}: split it"),
        )
    })
}

fn of_folder(tree: &Tree, folder: &str, budget: usize) -> Option<Breach> {
    let lines: usize = tree
        .production()
        .filter(|file| file.path.starts_with(folder))
        .map(|file| file.source.production_lines)
        .sum();
    (lines > budget).then(|| {
        Breach::of_file(
            Path::new(folder),
            format!(
                "{lines} lines without tests, at most {budget}: say it shorter, or argue in {}",
                file!()
            ),
        )
    })
}
