//! Reads what boot has to know; no decision.

use std::env;
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
    FromStage1 {
        slot: env::var("GOKRAZY_SLOT")
            .ok()
            .and_then(|word| word.parse().ok()),
        attempt: env::var("GOKRAZY_ATTEMPT")
            .ok()
            .and_then(|word| word.parse().ok()),
        fallback: env::var("GOKRAZY_FALLBACK").ok(),
        disk: env::var_os("GOKRAZY_DISK").map(PathBuf::from),
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
    use super::*;

    #[test]
    fn mount_points_are_the_second_column() {
        let text = "/dev/root / squashfs ro 0 0\ndevtmpfs /dev devtmpfs rw 0 0\n\n";
        assert_eq!(mount_points(text), ["/", "/dev"]);
    }
}
