//! Builds what machines run while the process tests, which mostly wait, leave the processors idle.
//!
//! Nothing rests on it: what was not built here, for whatever reason, is built by whoever needs it first, and tells of
//! its failure there.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread::{self, JoinHandle};

use anyhow::{Context, Result};
use gokrazy_core::paths;

use crate::image::Board;
use crate::process;
use crate::setup::{self, Purpose};
use crate::workspace::Workspace;

/// Below all else: the tests beside it measure and wait.
const NICE: &str = "19";

/// The boards whose programs differ; the third shares those of the first.
const BOARDS: [Board; 2] = [Board::Pi, Board::UefiAmd64];

/// Images on their way.
pub(super) struct Ahead(Option<JoinHandle<()>>);

impl Ahead {
    /// Begins to build, once what two builds at a time could not both install is there.
    pub(super) fn start(workspace: &Workspace) -> Self {
        if prepare(workspace).is_err() {
            return Self::nothing();
        }
        let folder = workspace.target().join("ahead");
        Self(Some(thread::spawn(move || {
            for board in BOARDS {
                let _ = build(&folder, board);
            }
            let _ = fs::remove_dir_all(&folder);
        })))
    }

    /// Nothing is to be built.
    pub(super) fn nothing() -> Self {
        Self(None)
    }

    /// Waits until all is built that can be.
    pub(super) fn finish(self) {
        if let Some(thread) = self.0 {
            let _ = thread.join();
        }
    }
}

fn prepare(workspace: &Workspace) -> Result<()> {
    setup::ensure(workspace, Purpose::Image)?;
    for board in BOARDS {
        setup::ensure_toolchain(workspace, board.architecture())?;
    }
    Ok(())
}

fn build(folder: &Path, board: Board) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
    let mut command = Command::new("nice");
    command
        .args(["-n", NICE])
        // Not `self`, which would be `nice`.
        .arg(format!("{}/{}/exe", paths::PROC, std::process::id()))
        .args(["image", "--board", board.word(), "--output"])
        .arg(folder.join("ahead.img"));
    process::capture(&mut command).map(drop)
}
