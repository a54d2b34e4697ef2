//! How long stage 1 waits for its disk, and whether this kernel is on trial; the decision is pure.
//!
//! A kernel whose slot is good waits for ever: the disk may be slow, or plugged in later, and there is nothing better.
//! One that the firmware only tries must not: at the next start the firmware takes the kernel that it had before.
//! The slot table, which tells of trials, lies on the very disk that is missing; so the firmware's own word counts.

use std::fs;
use std::path::Path;
use std::time::Duration;

use gokrazy_core::cmdline::CommandLine;
use gokrazy_core::paths;
use nix::mount::{MntFlags, MsFlags, mount, umount2};

use super::modules::Modules;

/// How long a kernel on trial waits, unless `rootwait=` says otherwise.
const TRIAL: Duration = Duration::from_secs(30);

/// The file system of UEFI's variables.
const EFI_FILE_SYSTEM: &str = "efivarfs";

/// systemd-boot sets it while it starts an entry that counts attempts (systemd Boot Loader Interface).
const BOOT_COUNT: &str = "LoaderBootCountPath-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f";

/// Set by a Raspberry Pi's firmware, as a big-endian number, where it went by `tryboot.txt` for this one start.
const TRYBOOT: &str = "chosen/bootloader/tryboot";

/// After how long the machine starts anew without its disk; `None` means never.
pub(super) fn limit(line: &CommandLine, on_trial: bool) -> Option<Duration> {
    let told = line.value("rootwait").and_then(|word| word.parse().ok());
    match told {
        Some(seconds) if seconds > 0 => Some(Duration::from_secs(seconds)),
        Some(_) | None => on_trial.then_some(TRIAL),
    }
}

/// Whether the firmware starts this kernel on trial, and takes another one the next time.
pub(super) fn is_on_trial(modules: &mut Modules) -> bool {
    let flag = fs::read(Path::new(paths::DEVICE_TREE).join(TRYBOOT));
    if flag.is_ok_and(|flag| flag.iter().any(|byte| *byte != 0)) {
        return true;
    }
    if !Path::new(paths::EFI_VARIABLES).is_dir() {
        return false;
    }
    modules.load_now(EFI_FILE_SYSTEM);
    // Mounted already, or refused: the file tells.
    let _ = mount(
        Some(EFI_FILE_SYSTEM),
        paths::EFI_VARIABLES,
        Some(EFI_FILE_SYSTEM),
        MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC,
        None::<&str>,
    );
    let counts = Path::new(paths::EFI_VARIABLES).join(BOOT_COUNT).exists();
    let _ = umount2(paths::EFI_VARIABLES, MntFlags::MNT_DETACH);
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_trial_or_a_word_of_the_operator_ends_the_wait() {
        for (line, on_trial, want) in [
            ("rootwait", false, None),
            ("rootwait", true, Some(30)),
            ("rootwait=7", false, Some(7)),
            ("rootwait=7", true, Some(7)),
            ("rootwait=0", false, None),
            ("rootwait=soon", true, Some(30)),
            ("", false, None),
        ] {
            let got = limit(&CommandLine::parse(line), on_trial);
            assert_eq!(got, want.map(Duration::from_secs), "{line} {on_trial}");
        }
    }
}
