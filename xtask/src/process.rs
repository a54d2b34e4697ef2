//! Runs other programs; a failure names the command line and shows what the program said.

use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, bail};
use gokrazy_core::paths;

/// Runs `command` to its end with its output kept.
///
/// # Errors
/// The program cannot be started, or its exit status is not 0; the message has the last lines it printed.
pub(crate) fn capture(command: &mut Command) -> Result<Output> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("start {}", line_of(command)))?;
    if !output.status.success() {
        bail!(
            "{} ended with {}:\n{}",
            line_of(command),
            output.status,
            last_lines(&output, 20)
        );
    }
    Ok(output)
}

/// This program once more: the very file that runs now, also if a build has put another one in its place since.
pub(crate) fn ourselves() -> Command {
    Command::new(format!("{}/self/exe", paths::PROC))
}

/// Runs `command` to its end with its output on our own terminal.
///
/// # Errors
/// The program cannot be started, or its exit status is not 0.
pub(crate) fn show(command: &mut Command) -> Result<()> {
    let status = command
        .stdin(Stdio::null())
        .status()
        .with_context(|| format!("start {}", line_of(command)))?;
    if !status.success() {
        bail!("{} ended with {status}", line_of(command));
    }
    Ok(())
}

/// The command as one would type it.
pub(crate) fn line_of(command: &Command) -> String {
    let mut line = command.get_program().to_string_lossy().into_owned();
    for argument in command.get_args() {
        line.push(' ');
        line.push_str(&argument.to_string_lossy());
    }
    line
}

fn last_lines(output: &Output, count: usize) -> String {
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.push_str(&String::from_utf8_lossy(&output.stderr));
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}
