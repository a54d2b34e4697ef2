//! QEMU's monitor (QMP): what happens to a machine while it runs, such as a cable that is pulled.
//!
//! It listens on loopback of the namespace that the machine runs in, where nobody else is.

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

/// The monitor's port.
pub(crate) const PORT: u16 = 4444;

/// How long QEMU may take for an answer.
const LIMIT: Duration = Duration::from_secs(60);

/// Asks the monitor for `command` with `arguments`; to be called inside the namespace.
///
/// # Errors
/// There is no monitor, or it refuses; the message has its words.
pub(crate) fn ask(command: &str, arguments: &Value) -> Result<()> {
    let stream =
        TcpStream::connect((Ipv4Addr::LOCALHOST, PORT)).context("connect to QEMU's monitor")?;
    stream
        .set_read_timeout(Some(LIMIT))
        .context("limit the wait for QEMU's monitor")?;
    let mut lines = BufReader::new(stream.try_clone().context("read from QEMU's monitor")?).lines();
    let greeting = lines.next().transpose().context("read QEMU's greeting")?;
    if !greeting.unwrap_or_default().contains("QMP") {
        bail!("what listens on the monitor's port is no QEMU");
    }
    let requests = [
        json!({ "execute": "qmp_capabilities" }),
        json!({ "execute": command, "arguments": arguments }),
    ];
    for request in requests {
        writeln!(&stream, "{request}").context("write to QEMU's monitor")?;
        answer(&mut lines).with_context(|| format!("QEMU's monitor, {request}"))?;
    }
    Ok(())
}

/// The answer to the last request; events in between are passed over.
fn answer(lines: &mut impl Iterator<Item = std::io::Result<String>>) -> Result<()> {
    for line in lines {
        let line = line.context("read an answer")?;
        let answer: Value = serde_json::from_str(&line).context("read JSON")?;
        if answer.get("return").is_some() {
            return Ok(());
        }
        if let Some(error) = answer.get("error") {
            bail!("{error}");
        }
    }
    bail!("it ended before an answer")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(lines: &[&str], want: Result<(), &str>) {
        let mut lines = lines.iter().map(|&line| Ok(line.to_owned()));
        let got = answer(&mut lines).map_err(|error| error.to_string());
        assert_eq!(got, want.map_err(str::to_owned));
    }

    #[test]
    fn events_are_no_answers() {
        check(&[r#"{"event":"RTC_CHANGE"}"#, r#"{"return":{}}"#], Ok(()));
        check(&[r#"{"error":{"class":"x"}}"#], Err(r#"{"class":"x"}"#));
        check(&[r#"{"event":"STOP"}"#], Err("it ended before an answer"));
    }
}
