//! `ntp --query`: one exchange with one server, printed; nothing is set, written or remembered.

use std::io::Write;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::chance::nonce;
use crate::clocks;
use crate::filter::Sample;
use crate::limits;
use crate::names::Spec;
use crate::packet::Refusal;
use crate::resolve::addresses;
use crate::server::ServerId;
use crate::wall::SECOND;
use crate::wire::{Answer, Pending};

/// How long a lookup may take.
const LOOKUP: Duration = Duration::from_secs(10);

/// How long an answer may take, and how often is asked.
const PATIENCE: Duration = Duration::from_secs(2);
const TRIES: usize = 2;

/// Asks `server` and prints its answer on standard output, one `key=value` a line, times in seconds.
///
/// # Errors
/// The name has no address, nobody answers, or the answer is refused; each with its reason.
pub fn query(server: &Spec) -> Result<()> {
    let (address, sample) = first_answer(server).with_context(|| format!("query {server}"))?;
    let text = format!(
        "server={address}\noffset={}\ndelay={}\nstratum={}\nroot_distance={}\n",
        seconds(sample.offset),
        seconds(sample.delay.cast_signed()),
        sample.stratum,
        seconds(sample.root.cast_signed()),
    );
    std::io::stdout()
        .write_all(text.as_bytes())
        .context("print the answer")?;
    Ok(())
}

fn seconds(nanoseconds: i64) -> String {
    let sign = if nanoseconds < 0 { "-" } else { "" };
    let size = nanoseconds.unsigned_abs();
    let second = SECOND.unsigned_abs();
    format!("{sign}{}.{:09}", size / second, size % second)
}

fn first_answer(server: &Spec) -> Result<(SocketAddr, Sample)> {
    let mut last = anyhow!("no address");
    for address in look_up(server)? {
        for _ in 0..TRIES {
            match ask(address) {
                Ok(sample) => return Ok((address, sample)),
                Err(error) => {
                    let kissed = matches!(error.downcast_ref(), Some(Refusal::Kiss(_)));
                    last = error.context(address);
                    if kissed {
                        // We were told to go away, and do.
                        break;
                    }
                }
            }
        }
    }
    Err(last)
}

fn look_up(server: &Spec) -> Result<Vec<SocketAddr>> {
    let (report, done) = channel();
    let spec = server.clone();
    thread::spawn(move || report.send(addresses(&spec)));
    done.recv_timeout(LOOKUP).map_err(|_| {
        anyhow!(
            "no answer from the name server within {} s",
            LOOKUP.as_secs()
        )
    })
}

fn ask(address: SocketAddr) -> Result<Sample> {
    let pending = Pending::send(ServerId(0), address, nonce()?)?;
    let end = clocks::monotonic() + PATIENCE;
    loop {
        let left = end.saturating_sub(clocks::monotonic());
        if left.is_zero() {
            bail!("no answer within {} s", PATIENCE.as_secs());
        }
        let timeout = PollTimeout::try_from(left.as_millis() + 1).unwrap_or(PollTimeout::MAX);
        poll(
            &mut [PollFd::new(pending.socket.as_fd(), PollFlags::POLLIN)],
            timeout,
        )?;
        match pending.receive(clocks::moment(), limits::span()) {
            Answer::Nothing => {}
            Answer::Sample(sample) => return Ok(sample),
            Answer::Refused(refusal) => return Err(refusal.into()),
            Answer::Unreachable => bail!("nobody listens there"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_keep_their_sign() {
        assert_eq!(seconds(-1), "-0.000000001");
        assert_eq!(seconds(1_500_000_000), "1.500000000");
        assert_eq!(seconds(-2 * SECOND), "-2.000000000");
    }
}
