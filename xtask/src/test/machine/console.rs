//! What a console must not hold; pure.

use anyhow::{Result, ensure};

/// Words of a machine in trouble.
const TROUBLE: [&str; 6] = ["panic", "failed", "oops:", "bug:", "call trace", "error:"];

/// What is said on a machine without trouble, and why: mostly by the kernel of an emulated board that lacks a part.
const EXCUSED: &[(&str, &str)] = &[
    (
        "raspberrypi-exp-gpio",
        "QEMU answers no mailbox calls about the GPIO expander",
    ),
    ("pwrseq_simple", "that expander resets the wireless chip"),
    ("leds-gpio", "one lamp hangs on that expander"),
    ("raspberrypi-cpufreq", "QEMU's firmware names no clocks"),
    ("raspberrypi-clk", "QEMU's firmware names no clocks"),
    (
        "BdsDxe: failed to load Boot",
        "UEFI tries the empty drive that QEMU has before it tries the disk",
    ),
    (
        "calibrate_delay_direct()",
        "an emulated processor shares its time with the whole build machine",
    ),
    (
        "module verification failed: signature and/or required key missing",
        "the image's modules carry no signatures",
    ),
    ("Command line:", "the words are options there"),
    ("command line:", "the words are options there"),
];

/// Asserts that no line speaks of trouble.
pub(super) fn is_clean(lines: &[String]) -> Result<()> {
    let bad: Vec<&str> = lines
        .iter()
        .map(String::as_str)
        .filter(|line| is_trouble(line))
        .collect();
    ensure!(
        bad.is_empty(),
        "the console tells of trouble:\n{}",
        bad.join("\n")
    );
    Ok(())
}

/// Whether a line belongs into the story of a failure.
pub(super) fn is_telling(line: &str) -> bool {
    is_trouble(line) || line.contains("gokrazy: ") || line.contains("random: crng")
}

fn is_trouble(line: &str) -> bool {
    let lower = line.to_lowercase();
    let excused = EXCUSED.iter().any(|(words, _)| line.contains(words));
    !excused && TROUBLE.iter().any(|word| lower.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trouble_is_seen_and_the_emulator_is_excused() {
        assert!(is_trouble("[    2.3] Kernel panic - not syncing"));
        assert!(is_trouble("init: mount /perm: Failed"));
        assert!(!is_trouble(
            "[    2.1] raspberrypi-exp-gpio soc:firmware:gpio: Failed to get GPIO 0 config (0 80)"
        ));
        assert!(!is_trouble(
            "[    0.0] Kernel command line: panic=10 oops=panic"
        ));
        assert!(!is_trouble("hello, world"));
    }
}
