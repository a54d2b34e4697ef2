//! Mount options as mount(8) takes them: words for the kernel, and the rest for the file system; pure.

use std::str::FromStr;

use nix::mount::MsFlags;

/// How a file system is mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// What holds for every file system.
    pub flags: MsFlags,
    /// What is the file system's own, separated by commas.
    pub data: String,
}

/// A strange disk brings no devices and no privileges, and reading it writes nothing to it.
const DEFAULT: MsFlags = MsFlags::MS_NOSUID
    .union(MsFlags::MS_NODEV)
    .union(MsFlags::MS_NOATIME);

/// Words, what they set, and what they clear.
const WORDS: &[(&str, MsFlags, MsFlags)] = &[
    ("ro", MsFlags::MS_RDONLY, NONE),
    ("rw", NONE, MsFlags::MS_RDONLY),
    ("nosuid", MsFlags::MS_NOSUID, NONE),
    ("suid", NONE, MsFlags::MS_NOSUID),
    ("nodev", MsFlags::MS_NODEV, NONE),
    ("dev", NONE, MsFlags::MS_NODEV),
    ("noexec", MsFlags::MS_NOEXEC, NONE),
    ("exec", NONE, MsFlags::MS_NOEXEC),
    ("sync", MsFlags::MS_SYNCHRONOUS, NONE),
    ("async", NONE, MsFlags::MS_SYNCHRONOUS),
    ("dirsync", MsFlags::MS_DIRSYNC, NONE),
    ("noatime", MsFlags::MS_NOATIME, NONE),
    ("atime", NONE, MsFlags::MS_NOATIME),
    ("relatime", MsFlags::MS_RELATIME, MsFlags::MS_NOATIME),
    ("strictatime", MsFlags::MS_STRICTATIME, MsFlags::MS_NOATIME),
    ("nodiratime", MsFlags::MS_NODIRATIME, NONE),
    ("diratime", NONE, MsFlags::MS_NODIRATIME),
    ("defaults", NONE, NONE),
];

const NONE: MsFlags = MsFlags::empty();

/// Words of mount(8) that are no option of a file system on a disk, or that fstab(5) has for others to read.
const REFUSED: [&str; 14] = [
    "bind",
    "rbind",
    "remount",
    "move",
    "shared",
    "rshared",
    "slave",
    "rslave",
    "private",
    "rprivate",
    "unbindable",
    "noauto",
    "nofail",
    "user",
];

impl Default for Options {
    fn default() -> Self {
        Self {
            flags: DEFAULT,
            data: String::new(),
        }
    }
}

impl FromStr for Options {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut options = Self::default();
        let mut own: Vec<&str> = Vec::new();
        for word in text
            .split(',')
            .map(str::trim)
            .filter(|word| !word.is_empty())
        {
            if REFUSED.contains(&word) {
                return Err(format!(
                    "option `{word}` is none of a file system on a disk"
                ));
            }
            match WORDS.iter().find(|(known, ..)| *known == word) {
                Some((_, set, clear)) => {
                    options.flags.remove(*clear);
                    options.flags.insert(*set);
                }
                None => own.push(word),
            }
        }
        options.data = own.join(",");
        match options.data.contains('\0') {
            true => Err("options may not hold a NUL".to_owned()),
            false => Ok(options),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, flags: MsFlags, data: &str) {
        let data = data.to_owned();
        assert_eq!(text.parse(), Ok(Options { flags, data }), "{text}");
    }

    #[test]
    fn words_set_and_clear_flags_and_the_rest_is_the_file_systems() {
        check("", DEFAULT, "");
        check("defaults", DEFAULT, "");
        check(
            "ro, noexec",
            DEFAULT | MsFlags::MS_RDONLY | MsFlags::MS_NOEXEC,
            "",
        );
        check("ro,rw", DEFAULT, "");
        check("suid,dev,relatime", MsFlags::MS_RELATIME, "");
        check(
            "umask=022,ro,errors=remount-ro",
            DEFAULT | MsFlags::MS_RDONLY,
            "umask=022,errors=remount-ro",
        );
        for word in REFUSED {
            assert!(word.parse::<Options>().is_err(), "{word}");
        }
    }
}
