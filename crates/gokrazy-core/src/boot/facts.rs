//! Reads what boot has to know; no decision.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;

use super::plan::EarlyFacts;
use crate::paths;
use crate::slots::SlotName;

/// What stage 1 handed over.
#[derive(Debug, Default)]
pub(super) struct FromStage1 {
    pub(super) slot: Option<SlotName>,
    pub(super) attempt: Option<u8>,
    pub(super) fallback: Option<String>,
    /// The node of the disk that it booted from.
    pub(super) disk: Option<PathBuf>,
}

pub(super) fn early() -> EarlyFacts {
    EarlyFacts {
        mounted: mount_points(&fs::read_to_string(paths::PROC_MOUNTS).unwrap_or_default()),
        host_name: fs::read_to_string(paths::ETC_HOSTNAME).ok(),
        sysctls: fs::read_to_string(paths::ETC_SYSCTL).ok(),
    }
}

/// The second column of proc_pid_mounts(5); none of our mount points has a blank in it.
fn mount_points(text: &str) -> Vec<String> {
    text.lines()
        .filter_map(|line| line.split_ascii_whitespace().nth(1))
        .map(str::to_owned)
        .collect()
}

pub(super) fn from_stage1() -> FromStage1 {
    handed_over(|name| env::var_os(name))
}

/// What stage 1 put into the environment that `value` looks into.
fn handed_over(value: impl Fn(&str) -> Option<OsString>) -> FromStage1 {
    let text = |name| value(name).and_then(|value| value.into_string().ok());
    FromStage1 {
        slot: text("GOKRAZY_SLOT").and_then(|word| word.parse().ok()),
        attempt: text("GOKRAZY_ATTEMPT").and_then(|word| word.parse().ok()),
        fallback: text("GOKRAZY_FALLBACK"),
        disk: value("GOKRAZY_DISK").map(PathBuf::from),
    }
}

pub(super) fn build_id() -> String {
    read_word(paths::BUILD_ID).unwrap_or_else(|| "unknown".to_owned())
}

pub(super) fn boot_id() -> String {
    read_word(paths::BOOT_ID).unwrap_or_else(|| "unknown".to_owned())
}

fn read_word(path: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    Some(text.trim().to_owned()).filter(|word| !word.is_empty())
}

/// Names of the modules that the image asks for, beside those of the hardware.
pub(super) fn module_list() -> Vec<String> {
    let text = fs::read_to_string(paths::MODULE_LIST).unwrap_or_default();
    text.lines()
        .map(str::trim)
        .filter(|name| !name.is_empty() && !name.starts_with('#'))
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn what_stage_1_chose_is_taken_from_the_environment() {
        let given = [
            ("GOKRAZY_SLOT", "b"),
            ("GOKRAZY_ATTEMPT", "2"),
            ("GOKRAZY_FALLBACK", "slot a has no root"),
            ("GOKRAZY_DISK", "/dev/sdb"),
        ];
        let value = |name: &str| {
            let found = given.iter().find(|(given, _)| *given == name);
            found.map(|(_, value)| OsString::from(value))
        };
        let from = handed_over(value);
        assert_eq!((from.slot, from.attempt), (Some(SlotName::B), Some(2)));
        assert_eq!(from.fallback.as_deref(), Some("slot a has no root"));
        assert_eq!(from.disk.as_deref(), Some(Path::new("/dev/sdb")));
        let nothing = handed_over(|_| None);
        assert!(nothing.slot.is_none() && nothing.attempt.is_none());
        assert!(nothing.fallback.is_none() && nothing.disk.is_none());
    }

    #[test]
    fn mount_points_are_the_second_column() {
        let text = "/dev/root / squashfs ro 0 0\ndevtmpfs /dev devtmpfs rw 0 0\n\n";
        assert_eq!(mount_points(text), ["/", "/dev"]);
    }
}
