//! The packet that rsntp does not let us see: request, reply, and every check of a reply; pure.
//!
//! rsntp's one public call draws the transmit timestamp from the clock, accepts broadcasts, reports a kiss before
//! it compares the origin, and hides root delay, root dispersion and precision.
//! `docs/decisions/ntp-wire.md` tells the whole story; the words of the protocol ([`LeapIndicator`], [`KissCode`])
//! are still rsntp's, and the tests of this crate hold both readings against each other.
//! Timestamps and layout: RFC 5905 section 7.3. No selection and no clock lives here.

use std::fmt;

use rsntp::{KissCode, LeapIndicator};

use crate::filter::Sample;
use crate::wall::{Mono, SECOND, Wall};

/// Length of the header, and of our whole request, in bytes.
pub const LENGTH: usize = 48;

/// Longest reply that is looked at, in bytes; extension fields and authenticators that nobody asked for are passed over.
pub const LONGEST: usize = 1_024;

/// Root delay / 2 + root dispersion beyond which a server is of no use (RFC 5905's MAXDIST), in nanoseconds.
pub const MAX_ROOT_DISTANCE: u64 = 1_500_000_000;

/// Longest round trip that is believed, in nanoseconds.
pub const MAX_DELAY: i64 = 3 * SECOND;

/// How much a server's transmit time may lie before its receive time, in nanoseconds: one of the two may be stamped by
/// a clock that moves in ticks of up to 10 ms (`CLOCK_REALTIME_COARSE`, clock_gettime(2)).
const TICK: i64 = 10_000_000;

/// The times between which a reply must lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// The build time: certainly past, and the pivot of the era.
    pub floor: Wall,
    /// Twenty years later: a server that claims more lies.
    pub ceiling: Wall,
}

/// When a request left and its reply came, on our own clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exchange {
    /// Our clock as the request left.
    pub sent: Wall,
    /// Our clock as the reply came.
    pub received: Wall,
    /// The monotonic clock as the reply came.
    pub at: Mono,
}

/// Why a reply was dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// Shorter than a header, longer than we look at, or not whole words (RFC 7822 section 3).
    Length(usize),
    /// Not NTP version 4, which we asked for.
    Version(u8),
    /// Not mode 4 (server).
    Mode(u8),
    /// The origin is not the number that we sent: not a reply to our request.
    Origin,
    /// A kiss of death (RFC 5905 section 7.4), by a server that saw our request.
    Kiss(KissCode),
    /// The server says that it is not synchronised (leap indicator 3).
    Unsynchronised,
    /// Stratum 16 or above.
    Stratum(u8),
    /// A timestamp is zero, lies outside [`Span`], or the server sent more than a tick of its clock before it received.
    Times,
    /// The server is too far from its source of time.
    RootDistance,
    /// The round trip is negative, or longer than [`MAX_DELAY`].
    Delay,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length(length) => write!(f, "{length} bytes are no NTP packet"),
            Self::Version(version) => write!(f, "version {version} instead of 4"),
            Self::Mode(mode) => write!(f, "mode {mode} instead of 4"),
            Self::Origin => f.write_str("not a reply to our request (origin differs)"),
            Self::Kiss(code) => write!(f, "kiss of death: {code}"),
            Self::Unsynchronised => f.write_str("server says that it is not synchronised"),
            Self::Stratum(stratum) => write!(f, "stratum {stratum}"),
            Self::Times => f.write_str("impossible timestamps"),
            Self::RootDistance => f.write_str("root distance above 1.5 s"),
            Self::Delay => f.write_str("impossible round trip"),
        }
    }
}

impl std::error::Error for Refusal {}

/// A request that tells nothing about us: all fields zero but version, mode and `nonce` in place of the transmit
/// timestamp (draft-ietf-ntp-data-minimization).
pub fn request(nonce: u64) -> [u8; LENGTH] {
    let mut packet = [0; LENGTH];
    packet[0] = (4 << 3) | 3;
    packet[LENGTH - 8..].copy_from_slice(&nonce.to_be_bytes());
    packet
}

/// Checks a reply to the request with `nonce`, and turns it into a sample.
///
/// # Errors
/// The first check that it fails; nothing is reported of a packet whose origin is wrong.
pub fn read(bytes: &[u8], nonce: u64, span: Span, exchange: &Exchange) -> Result<Sample, Refusal> {
    if bytes.len() > LONGEST || !bytes.len().is_multiple_of(4) {
        return Err(Refusal::Length(bytes.len()));
    }
    let (header, _) = bytes
        .split_first_chunk::<LENGTH>()
        .ok_or(Refusal::Length(bytes.len()))?;
    let [flags, stratum, _, precision, ..] = *header;
    check_kind(flags, stratum, header, nonce)?;
    let root = root_distance(header)?;
    let (received, transmitted) = times(header, span)?;
    let delay = exchange.received.since(exchange.sent) - transmitted.since(received);
    if !(0..=MAX_DELAY).contains(&delay) {
        return Err(Refusal::Delay);
    }
    let there = i128::from(received.since(exchange.sent));
    let back = i128::from(transmitted.since(exchange.received));
    Ok(Sample {
        at: exchange.at,
        offset: i64::try_from((there + back) / 2).map_err(|_| Refusal::Times)?,
        delay: delay.unsigned_abs(),
        root,
        precision: precision_ns(precision.cast_signed()),
        stratum,
        leap: leap(flags >> 6),
    })
}

/// Version, mode and origin first: a packet that fails these came from anyone and means nothing (CVE-2015-7704).
fn check_kind(flags: u8, stratum: u8, header: &[u8; LENGTH], nonce: u64) -> Result<(), Refusal> {
    let version = flags >> 3 & 7;
    if version != 4 {
        return Err(Refusal::Version(version));
    }
    if flags & 7 != 4 {
        return Err(Refusal::Mode(flags & 7));
    }
    if field(header, 24) != nonce {
        return Err(Refusal::Origin);
    }
    if stratum == 0 {
        return Err(Refusal::Kiss(kiss(word(header, 12))));
    }
    if flags >> 6 == 3 {
        return Err(Refusal::Unsynchronised);
    }
    if stratum > 15 {
        return Err(Refusal::Stratum(stratum));
    }
    Ok(())
}

/// Root delay / 2 + root dispersion, both 16.16 seconds, in nanoseconds.
fn root_distance(header: &[u8; LENGTH]) -> Result<u64, Refusal> {
    let short = |at| (u64::from(word(header, at)) * 1_000_000_000) >> 16;
    let distance = short(4) / 2 + short(8);
    if distance > MAX_ROOT_DISTANCE {
        return Err(Refusal::RootDistance);
    }
    Ok(distance)
}

/// The server's receive and transmit times, if both can be true.
fn times(header: &[u8; LENGTH], span: Span) -> Result<(Wall, Wall), Refusal> {
    let (receive, transmit) = (field(header, 32), field(header, 40));
    let received = Wall::from_ntp(receive, span.floor);
    let transmitted = Wall::from_ntp(transmit, span.floor);
    let in_order = received.since(transmitted) <= TICK && received.max(transmitted) <= span.ceiling;
    if receive != 0 && transmit != 0 && in_order {
        Ok((received, transmitted))
    } else {
        Err(Refusal::Times)
    }
}

/// The 8 bytes from `at` as a number; zero beyond the header, where no caller looks.
fn field(header: &[u8; LENGTH], at: usize) -> u64 {
    let bytes = header.get(at..).and_then(|rest| rest.first_chunk());
    bytes.map_or(0, |bytes| u64::from_be_bytes(*bytes))
}

/// The 4 bytes from `at` as a number; zero beyond the header, where no caller looks.
fn word(header: &[u8; LENGTH], at: usize) -> u32 {
    let bytes = header.get(at..).and_then(|rest| rest.first_chunk());
    bytes.map_or(0, |bytes| u32::from_be_bytes(*bytes))
}

/// Two to the power of the server's precision, in nanoseconds; at least 1, at most 4 s.
fn precision_ns(exponent: i8) -> u64 {
    let shift = i32::from(exponent).clamp(-30, 2);
    if shift < 0 {
        1_000_000_000 >> shift.unsigned_abs()
    } else {
        1_000_000_000 << shift.unsigned_abs()
    }
    .max(1)
}

fn leap(bits: u8) -> LeapIndicator {
    match bits {
        1 => LeapIndicator::LastMinuteHas61Seconds,
        2 => LeapIndicator::LastMinuteHas59Seconds,
        3 => LeapIndicator::AlarmCondition,
        _ => LeapIndicator::NoWarning,
    }
}

/// The codes that a client acts on; the others, `X…` among them, are [`KissCode::Unknown`] and mean only "no time".
fn kiss(code: u32) -> KissCode {
    match &code.to_be_bytes() {
        b"RATE" => KissCode::RateExceeded,
        b"DENY" | b"RSTR" => KissCode::AccessDenied,
        _ => KissCode::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONCE: u64 = 0x0123_4567_89ab_cdef;
    const NOW: i64 = 1_800_000_000;

    fn span() -> Span {
        Span {
            floor: Wall::from_seconds(1_790_000_000),
            ceiling: Wall::from_seconds(1_790_000_000 + 20 * 365 * 86_400),
        }
    }

    fn exchange() -> Exchange {
        Exchange {
            sent: Wall::from_seconds(NOW),
            received: Wall::new(NOW, 10_000_000),
            at: Mono::from_secs(7),
        }
    }

    fn ntp(unix: i64, fraction: u32) -> [u8; 8] {
        ((((unix + 2_208_988_800) as u64) << 32) | u64::from(fraction)).to_be_bytes()
    }

    /// A sound reply by a server that is one second ahead, 2⁻⁸ s (3.9 ms) from its receiving to its sending.
    fn reply() -> [u8; LENGTH] {
        let mut bytes = [0; LENGTH];
        bytes[..4].copy_from_slice(&[0x24, 2, 6, 0xec]);
        bytes[24..32].copy_from_slice(&NONCE.to_be_bytes());
        bytes[32..40].copy_from_slice(&ntp(NOW + 1, 0));
        bytes[40..48].copy_from_slice(&ntp(NOW + 1, 1 << 24));
        bytes
    }

    #[track_caller]
    fn check(change: impl FnOnce(&mut [u8; LENGTH]), want: Refusal) {
        let mut bytes = reply();
        change(&mut bytes);
        assert_eq!(read(&bytes, NONCE, span(), &exchange()), Err(want));
    }

    #[test]
    fn a_request_shows_nothing_but_the_nonce() {
        let packet = request(NONCE);
        assert_eq!(packet[0], 0x23);
        assert!(packet[1..40].iter().all(|byte| *byte == 0));
        assert_eq!(packet[40..], NONCE.to_be_bytes());
    }

    #[test]
    fn a_sound_reply_is_a_sample() {
        let sample = read(&reply(), NONCE, span(), &exchange()).unwrap();
        assert_eq!(sample.delay, 10_000_000 - 3_906_250);
        assert_eq!(
            sample.offset,
            (SECOND + SECOND + 3_906_250 - 10_000_000) / 2
        );
        assert_eq!((sample.stratum, sample.root), (2, 0));
        assert_eq!(sample.precision, 1_000_000_000 >> 20);
        assert_eq!(sample.leap, LeapIndicator::NoWarning);
    }

    #[test]
    fn a_server_s_two_stamps_may_be_a_tick_apart_the_wrong_way() {
        let mut bytes = reply();
        bytes[40..48].copy_from_slice(&ntp(NOW, 0xfe00_0000));
        let sample = read(&bytes, NONCE, span(), &exchange()).unwrap();
        assert_eq!(sample.delay, 10_000_000 + 7_812_500);
    }

    #[test]
    fn each_check_refuses() {
        check(|b| b[0] = 0x1c, Refusal::Version(3));
        check(|b| b[0] = 0x2c, Refusal::Version(5));
        check(|b| b[0] = 0x23, Refusal::Mode(3));
        check(|b| b[0] = 0x25, Refusal::Mode(5));
        check(|b| b[31] ^= 1, Refusal::Origin);
        check(|b| b[24..32].fill(0), Refusal::Origin);
        check(|b| b[0] = 0xe4, Refusal::Unsynchronised);
        check(|b| b[1] = 16, Refusal::Stratum(16));
        check(|b| b[1] = 255, Refusal::Stratum(255));
        check(
            |b| b[4..8].copy_from_slice(&[0, 3, 0, 1]),
            Refusal::RootDistance,
        );
        check(|b| b[8..12].fill(0xff), Refusal::RootDistance);
        check(|b| b[32..40].fill(0), Refusal::Times);
        check(|b| b[40..48].fill(0), Refusal::Times);
        check(|b| b[40..48].copy_from_slice(&ntp(NOW, 0)), Refusal::Times);
        // 15.6 ms before it received.
        check(
            |b| b[40..48].copy_from_slice(&ntp(NOW, 0xfc00_0000)),
            Refusal::Times,
        );
        check(
            |b| b[40..48].copy_from_slice(&ntp(NOW + 1, 1 << 30)),
            Refusal::Delay,
        );
    }

    #[test]
    fn times_beyond_the_ceiling_are_refused() {
        check(
            |b| {
                b[32..40].copy_from_slice(&ntp(NOW + 25 * 366 * 86_400, 0));
                b[40..48].copy_from_slice(&ntp(NOW + 25 * 366 * 86_400, 1));
            },
            Refusal::Times,
        );
        // Before the build: read as the next era, which is beyond the ceiling as well.
        check(
            |b| {
                b[32..40].copy_from_slice(&ntp(86_400, 0));
                b[40..48].copy_from_slice(&ntp(86_400, 1));
            },
            Refusal::Times,
        );
    }

    #[test]
    fn kisses_count_only_with_the_right_origin() {
        let kiss = |code: &[u8; 4]| {
            let code = *code;
            move |b: &mut [u8; LENGTH]| {
                b[0] = 0xe4;
                b[1] = 0;
                b[12..16].copy_from_slice(&code);
            }
        };
        check(kiss(b"RATE"), Refusal::Kiss(KissCode::RateExceeded));
        check(kiss(b"DENY"), Refusal::Kiss(KissCode::AccessDenied));
        check(kiss(b"RSTR"), Refusal::Kiss(KissCode::AccessDenied));
        check(kiss(b"XFUN"), Refusal::Kiss(KissCode::Unknown));
        let forged = |b: &mut [u8; LENGTH]| {
            kiss(b"DENY")(b);
            b[24] ^= 0x80;
        };
        check(forged, Refusal::Origin);
    }

    #[test]
    fn lengths_are_bounded() {
        for length in [0, 1, 44, 47, 49, 51, LONGEST + 1, LONGEST + 4] {
            let bytes = vec![0x24; length];
            let got = read(&bytes, NONCE, span(), &exchange());
            assert_eq!(got, Err(Refusal::Length(length)));
        }
        let mut long = reply().to_vec();
        long.extend([0; 20]);
        assert!(read(&long, NONCE, span(), &exchange()).is_ok());
    }

    #[test]
    fn no_bytes_make_it_panic() {
        let mut seed = 1_u64;
        for round in 0..200_000_u32 {
            let mut bytes = reply();
            for _ in 0..=round % 4 {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                bytes[(seed >> 33) as usize % LENGTH] = (seed >> 56) as u8;
            }
            if let Ok(sample) = read(&bytes, NONCE, span(), &exchange()) {
                assert!(sample.root <= MAX_ROOT_DISTANCE && sample.delay <= MAX_DELAY as u64);
            }
        }
    }
}
