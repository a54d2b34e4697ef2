//! Signals by name, as `signal(7)` numbers them on the machines that we run on (x86, ARM); pure.

/// Asks to end.
pub const TERM: i32 = 15;
/// Ends at once; cannot be refused.
pub const KILL: i32 = 9;
/// Ends with a trace of where it was; sent to a service that hangs.
pub const ABRT: i32 = 6;

const NAMES: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2",
    "PIPE", "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG",
    "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
];

/// Largest number of a signal, with the real-time ones.
const MAX: i32 = 64;

/// The number of a signal given as `TERM`, `SIGTERM` or `15`.
pub fn parse(text: &str) -> Option<i32> {
    if let Ok(number) = text.parse::<i32>() {
        return (1..=MAX).contains(&number).then_some(number);
    }
    let upper = text.to_ascii_uppercase();
    let short = upper.strip_prefix("SIG").unwrap_or(&upper);
    (1..)
        .zip(NAMES)
        .find(|(_, name)| *name == short)
        .map(|(number, _)| number)
}

/// The name of a signal without `SIG`, or its number.
pub fn name(signal: i32) -> String {
    let index = usize::try_from(signal)
        .ok()
        .and_then(|number| number.checked_sub(1));
    match index.and_then(|index| NAMES.get(index)) {
        Some(name) => (*name).to_owned(),
        None => signal.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_meet() {
        for (text, want) in [
            ("TERM", Some(15)),
            ("SIGTERM", Some(15)),
            ("usr1", Some(10)),
            ("9", Some(9)),
            ("64", Some(64)),
            ("0", None),
            ("65", None),
            ("-1", None),
            ("", None),
            ("NOPE", None),
        ] {
            assert_eq!(parse(text), want, "{text:?}");
        }
        assert_eq!(
            (name(15), name(40), name(0)),
            ("TERM".to_owned(), "40".to_owned(), "0".to_owned())
        );
    }
}
