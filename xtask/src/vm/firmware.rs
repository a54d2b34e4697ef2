//! What a Raspberry Pi's firmware reads out of `config.txt`: which kernel, initramfs, device tree and command line; pure.
//!
//! Only what an image of ours, or a kernel slot switch, can make a difference in is followed:
//! conditional sections, `os_prefix`, `kernel`, `initramfs`, `device_tree`, `cmdline`, `upstream_kernel`.
//! <https://www.raspberrypi.com/documentation/computers/config_txt.html>

use std::fmt;

/// A board, as far as the firmware tells them apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Board {
    /// Conditional sections that apply to it, beside `all`.
    pub(crate) sections: &'static [&'static str],
    /// Its device tree where `upstream_kernel=1` stands.
    pub(crate) upstream_tree: &'static str,
    /// Its device tree otherwise.
    pub(crate) downstream_tree: &'static str,
}

/// Raspberry Pi 3 Model B, the board that QEMU emulates with its network.
pub(crate) const PI_3B: Board = Board {
    sections: &["pi3"],
    upstream_tree: "bcm2837-rpi-3-b.dtb",
    downstream_tree: "bcm2710-rpi-3-b.dtb",
};

/// Names of files in the boot partition, as the firmware will look for them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BootFiles {
    /// The kernel.
    pub(crate) kernel: String,
    /// The initial file system, if one is asked for.
    pub(crate) initramfs: Option<String>,
    /// The device tree.
    pub(crate) device_tree: String,
    /// The kernel command line.
    pub(crate) command_line: String,
}

/// Why the firmware would not boot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum FirmwareError {
    /// A file that must be there is not; its name.
    Missing(String),
    /// The firmware would start a 32-bit kernel.
    NotArm64,
}

impl fmt::Display for FirmwareError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing(name) => write!(f, "find {name} in the boot partition"),
            Self::NotArm64 => f.write_str("find `arm_64bit=1` in config.txt"),
        }
    }
}

impl std::error::Error for FirmwareError {}

/// Reads `config` for `board`; `exists` tells whether the boot partition has a file.
///
/// # Errors
/// Why the firmware would not boot.
pub(crate) fn interpret(
    config: &str,
    board: Board,
    exists: impl Fn(&str) -> bool,
) -> Result<BootFiles, FirmwareError> {
    let settings = Settings::read(config, board);
    if settings.get("arm_64bit") != Some("1") {
        return Err(FirmwareError::NotArm64);
    }
    let files = settings.files(board, settings.get("os_prefix").unwrap_or_default());
    // The firmware drops a prefix under which it finds no kernel or no device tree.
    let files = match exists(&files.kernel) && exists(&files.device_tree) {
        true => files,
        false => settings.files(board, ""),
    };
    let wanted = [
        Some(&files.kernel),
        files.initramfs.as_ref(),
        Some(&files.device_tree),
    ];
    let missing = wanted
        .into_iter()
        .flatten()
        .find(|name| !exists(name))
        .cloned();
    missing.map_or(Ok(files), |name| Err(FirmwareError::Missing(name)))
}

/// Settings in force, in their order; of several of one name the last counts.
struct Settings<'a>(Vec<(&'a str, &'a str)>);

impl<'a> Settings<'a> {
    fn read(config: &'a str, board: Board) -> Self {
        let mut settings = Vec::new();
        let mut applies = true;
        for line in config.lines().map(str::trim) {
            if let Some(section) = line.strip_prefix('[') {
                let section = section.trim_end_matches(']');
                applies = section == "all" || board.sections.contains(&section);
            } else if applies && !line.starts_with('#') {
                // `initramfs` alone is written without an equals sign.
                settings.extend(line.split_once('=').or_else(|| line.split_once(' ')));
            }
        }
        Self(settings)
    }

    fn get(&self, name: &str) -> Option<&'a str> {
        let mut newest_first = self.0.iter().rev();
        newest_first
            .find(|(key, _)| key.trim() == name)
            .map(|(_, value)| value.trim())
    }

    fn files(&self, board: Board, prefix: &str) -> BootFiles {
        let tree = match self.get("upstream_kernel") {
            Some("1") => board.upstream_tree,
            _ => board.downstream_tree,
        };
        let named = |name: &str| format!("{prefix}{name}");
        BootFiles {
            kernel: named(self.get("kernel").unwrap_or("kernel8.img")),
            initramfs: self
                .get("initramfs")
                .and_then(|value| value.split_whitespace().next())
                .map(named),
            device_tree: named(self.get("device_tree").unwrap_or(tree)),
            command_line: named(self.get("cmdline").unwrap_or("cmdline.txt")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SLOT_B: &str = "# made by xtask\narm_64bit=1\nos_prefix=A/\nos_prefix=B/\nupstream_kernel=1\n\
                          kernel=vmlinuz\ninitramfs initramfs followkernel\n[pi4]\nkernel=other\n[all]\nenable_uart=1\n";

    fn files(prefix: &str) -> BootFiles {
        BootFiles {
            kernel: format!("{prefix}vmlinuz"),
            initramfs: Some(format!("{prefix}initramfs")),
            device_tree: format!("{prefix}bcm2837-rpi-3-b.dtb"),
            command_line: format!("{prefix}cmdline.txt"),
        }
    }

    #[track_caller]
    fn check(config: &str, missing: &str, want: Result<BootFiles, FirmwareError>) {
        assert_eq!(
            interpret(config, PI_3B, |name| missing.is_empty()
                || !name.starts_with(missing)),
            want
        );
    }

    #[test]
    fn the_last_prefix_counts_and_foreign_sections_do_not() {
        check(SLOT_B, "", Ok(files("B/")));
    }

    #[test]
    fn a_prefix_without_a_kernel_is_dropped() {
        check(SLOT_B, "B/", Ok(files("")));
    }

    #[test]
    fn what_is_missing_is_named() {
        check(
            SLOT_B,
            "B/init",
            Err(FirmwareError::Missing("B/initramfs".to_owned())),
        );
        check("kernel=x\n", "", Err(FirmwareError::NotArm64));
    }

    #[test]
    fn without_upstream_names_the_tree_is_the_downstream_one() {
        let files = interpret("arm_64bit=1\n[pi3]\ncmdline=c.txt\n", PI_3B, |_| true).unwrap();
        assert_eq!(files.device_tree, "bcm2710-rpi-3-b.dtb");
        assert_eq!(
            (files.kernel.as_str(), files.command_line.as_str()),
            ("kernel8.img", "c.txt")
        );
        assert_eq!(files.initramfs, None);
    }
}
