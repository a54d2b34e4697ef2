//! The device's lasting identity: 32 lower-case hexadecimal digits (machine-id(5)).

use std::fmt::Write;
use std::path::Path;

use crate::paths;
use crate::regular_file;

/// The id of this device: the first valid one of `/perm/machine-id` and `/etc/machine-id`.
///
/// `None` on a device that has no id yet, which is so only before [`crate::boot()`] has run.
pub fn machine_id() -> Option<String> {
    machine_id_of(&[
        Path::new(paths::PERM_MACHINE_ID),
        Path::new(paths::ETC_MACHINE_ID),
    ])
}

/// The first valid id in these files.
pub fn machine_id_of(candidates: &[&Path]) -> Option<String> {
    candidates
        .iter()
        .find_map(|path| parse(&regular_file::read(path, regular_file::STATE_MAX).ok()?))
}

/// The id in a file's text: case and dashes are forgiven, the all-zero id is none.
pub fn parse(text: &str) -> Option<String> {
    let digits: String = text
        .trim()
        .chars()
        .filter(|c| *c != '-')
        .collect::<String>()
        .to_ascii_lowercase();
    let valid = digits.len() == 32
        && digits.bytes().all(|b| b.is_ascii_hexdigit())
        && digits.bytes().any(|b| b != b'0');
    valid.then_some(digits)
}

/// An id of 16 random bytes, marked as a version 4 UUID, as gokrazy and systemd make them (RFC 9562 section 5.4).
pub fn from_random(mut bytes: [u8; 16]) -> String {
    if let Some(version) = bytes.get_mut(6) {
        *version = *version & 0x0f | 0x40;
    }
    if let Some(variant) = bytes.get_mut(8) {
        *variant = *variant & 0x3f | 0x80;
    }
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    const ID: &str = "0123456789ab4def8123456789abcdef";

    #[test]
    fn forms_of_an_id() {
        assert_eq!(parse(&format!("{ID}\n")).as_deref(), Some(ID));
        assert_eq!(
            parse("01234567-89AB-4DEF-8123-456789ABCDEF").as_deref(),
            Some(ID)
        );
        for bad in [
            "",
            "uninitialized",
            "0123",
            &"0".repeat(32),
            &"g".repeat(32),
            &"1".repeat(33),
        ] {
            assert_eq!(parse(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn random_bytes_become_a_version_4_id() {
        assert_eq!(from_random([0xff; 16]), "ffffffffffff4fffbfffffffffffffff");
        assert_eq!(
            parse(&from_random([0; 16])).as_deref(),
            Some("00000000000040008000000000000000")
        );
    }

    #[test]
    fn the_first_valid_file_counts() {
        let folder =
            std::env::temp_dir().join(format!("gokrazy-core-machine-id-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let (perm, etc) = (folder.join("perm"), folder.join("etc"));
        let put = |path: &Path, text: &str| {
            crate::atomic::replace(
                path,
                text.as_bytes(),
                0o644,
                crate::atomic::Durability::Volatile,
            )
            .unwrap();
        };
        assert_eq!(machine_id_of(&[&perm, &etc]), None);
        put(&etc, ID);
        put(&perm, "garbage");
        assert_eq!(machine_id_of(&[&perm, &etc]).as_deref(), Some(ID));
        fs::remove_dir_all(folder).unwrap();
    }
}
