//! The last boot's seed goes into the kernel's pool before anything draws from it: the machine id, then DHCP's
//! transaction ids, then keys.
//!
//! What a seed is and when it earns credit is randomd's; its daemon, which saves, is a service like others.

use std::io;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::Duration;

use super::problem;
use crate::paths;

/// How long boot waits, for a card that answers late; it takes milliseconds otherwise.
const PATIENCE: Duration = Duration::from_secs(5);
/// Time between two looks.
const PAUSE: Duration = Duration::from_millis(2);

/// Lets randomd load, and waits for its end: without a seed boot goes on, and may draw from a cold pool.
pub(super) fn load(problems: &mut Vec<String>) {
    let program = Path::new(paths::SYSTEM_BIN).join("randomd");
    let ended = run(Command::new(&program).args(["--once", "load"]), PATIENCE);
    let what = match ended {
        Ok(Some(status)) if status.success() => return,
        // An image without randomd wants none.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return,
        // It has told why, on the console.
        Ok(Some(status)) => format!("load the seed: randomd ended with {status}"),
        Ok(None) => format!("load the seed: no end after {} s", PATIENCE.as_secs()),
        Err(error) => format!("load the seed: start {}: {error}", program.display()),
    };
    problem(problems, &what);
}

/// The status, or nothing if the program was killed at the end of our patience.
fn run(command: &mut Command, patience: Duration) -> io::Result<Option<ExitStatus>> {
    let mut child = command.stdin(Stdio::null()).spawn()?;
    let mut waited = Duration::ZERO;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if waited >= patience {
            // A process that hangs in the disk dies when it answers; init's reaper finds it then.
            child.kill()?;
            return Ok(None);
        }
        sleep(PAUSE);
        waited = waited.saturating_add(PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_awaited_but_not_for_ever() {
        let run = |line: &str| run(Command::new("sh").args(["-c", line]), PAUSE * 50);
        assert!(run("exit 0").unwrap().unwrap().success());
        assert_eq!(run("exit 3").unwrap().unwrap().code(), Some(3));
        assert_eq!(run("exec sleep 60").unwrap(), None);
    }

    #[test]
    fn a_program_that_is_not_there_is_told_apart() {
        let error = super::run(&mut Command::new("nonexistent/randomd"), PAUSE).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
