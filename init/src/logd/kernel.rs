//! Records of the kernel log (`/dev/kmsg`, Documentation/ABI/testing/dev-kmsg) to ours; pure.

use gokrazy_core::log_record::{Stream, Times, prefix};

/// Beginning and text of our record of a kernel's record: `PRIORITY,SEQUENCE,MICROSECONDS,FLAGS;TEXT`, then lines of properties that are
/// left out.
///
/// The wall clock at the time of the message follows from the present's, since the boot clock never jumps.
pub fn record(bytes: &[u8], now: Times) -> Option<(String, &[u8])> {
    let semicolon = bytes.iter().position(|byte| *byte == b';')?;
    let (head, text) = bytes.split_at(semicolon);
    let text = text.get(1..)?.split(|byte| *byte == b'\n').next()?;
    let mut fields = std::str::from_utf8(head).ok()?.split(',');
    let facility_and_priority: u32 = fields.next()?.parse().ok()?;
    let boot_us: u64 = fields.nth(1)?.parse().ok()?;
    let age_ms = i64::try_from(now.boot_us.saturating_sub(boot_us) / 1000).ok()?;
    let times = Times {
        boot_us,
        wall_ms: now.wall_ms.saturating_sub(age_ms),
    };
    let priority = u8::try_from(facility_and_priority & 7).ok()?;
    Some((prefix(times, Stream::Kernel, false, priority), text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_record_keeps_its_own_time() {
        let now = Times {
            boot_us: 5_000_000,
            wall_ms: 10_000,
        };
        let got = record(
            b"30,42,2000000,-;usb 1-1: new device\n SUBSYSTEM=usb\n",
            now,
        )
        .unwrap();
        let beginning = "2.000000 1970-01-01T00:00:07.000Z kernel 6 ".to_owned();
        assert_eq!(got, (beginning, &b"usb 1-1: new device"[..]));
        assert_eq!(record(b"no record", now), None);
    }
}
