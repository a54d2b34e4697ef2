//! The verbs of `cargo xtask` and where each leads; no work is done here.

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::workspace::Workspace;
use crate::{bench, build, image, run, setup, test};

/// Builds gokrazy-rs images, boots them, tests and measures.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// One verb each.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Check this machine for what the other verbs need, and install what is missing.
    Setup(setup::Arguments),
    /// Build the programs of an image for a device.
    Build(build::Arguments),
    /// Make an image that can be flashed or booted in an emulator.
    Image(image::Arguments),
    /// Boot an image in an emulated machine.
    Run(run::Arguments),
    /// Run the tests: everything, or the levels named.
    Test(test::Arguments),
    /// Measure what has a budget: everything, or the subjects named.
    Bench(bench::Arguments),
}

/// Does what `command` asks.
///
/// # Errors
/// Whatever stopped the verb.
pub(crate) fn dispatch(command: Command) -> Result<()> {
    let workspace = Workspace::find()?;
    setup::complete_path(&workspace)?;
    match command {
        Command::Setup(arguments) => setup::run(&workspace, &arguments),
        Command::Build(arguments) => build::run(&workspace, &arguments),
        Command::Image(arguments) => image::run(&workspace, &arguments),
        Command::Run(arguments) => run::run(&workspace, &arguments),
        Command::Test(arguments) => test::run(&workspace, &arguments),
        Command::Bench(arguments) => bench::run(&workspace, &arguments),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(line: &str, accepted: bool) {
        let words = ["cargo-xtask"].into_iter().chain(line.split_whitespace());
        assert_eq!(Arguments::try_parse_from(words).is_ok(), accepted, "{line}");
    }

    #[test]
    fn contradictory_and_unknown_flags_are_refused() {
        check("run --keep", true);
        check("run --keep --image x.img", false);
        check("setup --check", true);
        check("setup --check --update", false);
        check("setup --check --toolchain rustup", false);
        check("test machine --only x", true);
        check("test --only x", false);
        check("image --bord pi", false);
        check("image --board toaster", false);
        check("frobnicate", false);
        check("", false);
    }
}
