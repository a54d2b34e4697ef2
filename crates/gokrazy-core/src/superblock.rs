//! What lies on a block device, by its first bytes: the file system, its label and its identifier; pure.
//!
//! Where blkid(8) tells a label or an identifier of these file systems, so does this module, in the same form; but for
//! the labels of FAT, of which only the one written when the file system was made is read, and of exFAT, which lie in
//! the root folder.

/// Bytes at the device's start that [`Superblock::parse`] wants; fewer are searched for what they can hold.
pub const HEAD_BYTES: usize = BTRFS_AT + 1024;

/// A file system on a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Superblock {
    /// Its type, as mount(2) wants it.
    pub kind: &'static str,
    /// Its label; empty if it has none.
    pub label: String,
    /// Its identifier; empty if it has none.
    pub uuid: String,
}

/// Where btrfs has its superblock (Documentation/filesystems/btrfs.rst).
const BTRFS_AT: usize = 64 * 1024;

/// Where ext4 and f2fs have theirs.
const SECOND_KIB: usize = 1024;

impl Superblock {
    /// Reads the first bytes of a device; `None` for what is none of ext2 to ext4, XFS, btrfs, F2FS, FAT and exFAT.
    pub fn parse(head: &[u8]) -> Option<Self> {
        [ext, xfs, btrfs, f2fs, exfat, fat]
            .iter()
            .find_map(|parse| parse(head))
    }
}

/// fs/ext4/ext4.h: `struct ext4_super_block`; its driver mounts ext2 and ext3 too.
fn ext(head: &[u8]) -> Option<Superblock> {
    let block = head.get(SECOND_KIB..)?;
    (block.get(0x38..0x3A)? == [0x53, 0xEF]).then_some(())?;
    Some(Superblock {
        kind: "ext4",
        uuid: uuid(block, 0x68)?,
        label: text(block.get(0x78..0x88)?),
    })
}

/// fs/xfs/libxfs/xfs_format.h: `struct xfs_dsb`.
fn xfs(head: &[u8]) -> Option<Superblock> {
    head.starts_with(b"XFSB").then_some(())?;
    Some(Superblock {
        kind: "xfs",
        uuid: uuid(head, 32)?,
        label: text(head.get(108..120)?),
    })
}

/// include/uapi/linux/btrfs_tree.h: `struct btrfs_super_block`.
fn btrfs(head: &[u8]) -> Option<Superblock> {
    let block = head.get(BTRFS_AT..)?;
    (block.get(0x40..0x48)? == b"_BHRfS_M").then_some(())?;
    Some(Superblock {
        kind: "btrfs",
        uuid: uuid(block, 0x20)?,
        label: text(block.get(0x12B..0x22B)?),
    })
}

/// include/linux/f2fs_fs.h: `struct f2fs_super_block`.
fn f2fs(head: &[u8]) -> Option<Superblock> {
    let block = head.get(SECOND_KIB..)?;
    (block.get(..4)? == 0xF2F5_2010_u32.to_le_bytes()).then_some(())?;
    let label = block.get(0x7C..0x7C + 512)?;
    let units: Vec<u16> = label
        .chunks_exact(2)
        .filter_map(|pair| Some(u16::from_le_bytes(*pair.first_chunk()?)))
        .take_while(|unit| *unit != 0)
        .collect();
    Some(Superblock {
        kind: "f2fs",
        uuid: uuid(block, 0x6C)?,
        label: String::from_utf16_lossy(&units),
    })
}

/// "exFAT file system specification", section 3.1.
fn exfat(head: &[u8]) -> Option<Superblock> {
    (head.get(3..11)? == b"EXFAT   ").then_some(())?;
    Some(Superblock {
        kind: "exfat",
        uuid: serial(head, 100)?,
        label: String::new(),
    })
}

/// "FAT: general overview of on-disk format", section 3.
fn fat(head: &[u8]) -> Option<Superblock> {
    (head.get(510..512)? == [0x55, 0xAA]).then_some(())?;
    // The extended part of the boot sector lies further back in FAT32.
    let at = if head.get(82..87)? == b"FAT32" {
        67
    } else if head.get(54..58)? == b"FAT1" {
        39
    } else {
        return None;
    };
    let label = text(head.get(at..)?.get(4..15)?);
    Some(Superblock {
        kind: "vfat",
        uuid: serial(head, at)?,
        label: if label == "NO NAME" {
            String::new()
        } else {
            label
        },
    })
}

/// Text up to its first NUL, without blanks behind; what is not UTF-8 is replaced.
fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0);
    let used = bytes.get(..end.unwrap_or(bytes.len())).unwrap_or_default();
    String::from_utf8_lossy(used).trim_end().to_owned()
}

/// `8d5a1c3e-…`, or nothing where all is zero.
fn uuid(block: &[u8], at: usize) -> Option<String> {
    let bytes: [u8; 16] = *block.get(at..)?.first_chunk()?;
    if bytes == [0; 16] {
        return Some(String::new());
    }
    let hyphens = [4, 6, 8, 10];
    let digit_pairs = bytes.iter().zip(0..).map(|(byte, at)| {
        let hyphen = if hyphens.contains(&at) { "-" } else { "" };
        format!("{hyphen}{byte:02x}")
    });
    Some(digit_pairs.collect())
}

/// `1A2B-3C4D`.
fn serial(block: &[u8], at: usize) -> Option<String> {
    let number = u32::from_le_bytes(*block.get(at..)?.first_chunk()?);
    Some(format!("{:04X}-{:04X}", number >> 16, number & 0xFFFF))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[track_caller]
    fn check(make: &[&str], megabytes: u64, want: (&'static str, &str, &str)) {
        let path =
            std::env::temp_dir().join(format!("gokrazy-core-{}-{}", want.2, std::process::id()));
        let file = std::fs::File::create_new(&path).unwrap();
        file.set_len(megabytes << 20).unwrap();
        let made = Command::new(make[0]).args(&make[1..]).arg(&path).output();
        let made = made.unwrap_or_else(|error| {
            panic!("{}: {error}; apt-get install e2fsprogs dosfstools", make[0])
        });
        assert!(made.status.success(), "{made:?}");
        let image = std::fs::read(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let (kind, label, uuid) = want;
        let want = Superblock {
            kind,
            label: label.to_owned(),
            uuid: uuid.to_owned(),
        };
        assert_eq!(Superblock::parse(&image[..HEAD_BYTES]), Some(want));
        // What is cut short is another answer or none, and no panic.
        for length in (0..HEAD_BYTES).step_by(37) {
            let _ = Superblock::parse(&image[..length]);
        }
    }

    #[test]
    fn what_the_tools_make_is_known() {
        let uuid = "0d81fbb0-b1d6-4a1f-9a4e-2b0c7e5f1a33";
        check(
            &["mkfs.ext4", "-q", "-L", "data disk", "-U", uuid],
            2,
            ("ext4", "data disk", uuid),
        );
        check(
            &["mkfs.vfat", "-F", "32", "-n", "STICK", "-i", "1a2b3c4d"],
            40,
            ("vfat", "STICK", "1A2B-3C4D"),
        );
    }

    #[test]
    fn fat16_without_a_label() {
        check(
            &["mkfs.vfat", "-F", "16", "-i", "00000001"],
            16,
            ("vfat", "", "0000-0001"),
        );
    }

    fn with(fields: &[(usize, &[u8])]) -> Vec<u8> {
        let mut head = vec![0; HEAD_BYTES];
        for (at, bytes) in fields {
            head[*at..*at + bytes.len()].copy_from_slice(bytes);
        }
        head
    }

    /// Offsets of the kernel's headers; no tool for these is among what tests install.
    #[test]
    fn others_are_known_by_their_headers() {
        let id: Vec<u8> = (0x10..0x20).collect();
        let uuid = "10111213-1415-1617-1819-1a1b1c1d1e1f";
        let rows = [
            (
                with(&[(0, b"XFSB"), (32, &id), (108, b"files")]),
                "xfs",
                "files",
                uuid,
            ),
            (
                with(&[(65_600, b"_BHRfS_M"), (65_568, &id), (65_835, b"pool")]),
                "btrfs",
                "pool",
                uuid,
            ),
            (
                with(&[
                    (1024, &[0x10, 0x20, 0xF5, 0xF2]),
                    (1132, &id),
                    (1148, b"f\0l\0"),
                ]),
                "f2fs",
                "fl",
                uuid,
            ),
            (
                with(&[(3, b"EXFAT   "), (100, &[4, 3, 2, 1]), (510, &[0x55, 0xAA])]),
                "exfat",
                "",
                "0102-0304",
            ),
        ];
        for (head, kind, label, uuid) in rows {
            let found = Superblock::parse(&head).unwrap();
            assert_eq!(
                (found.kind, found.label.as_str(), found.uuid.as_str()),
                (kind, label, uuid)
            );
        }
    }

    #[test]
    fn what_is_nothing_is_nothing() {
        assert_eq!(Superblock::parse(&[]), None);
        assert_eq!(Superblock::parse(&[0; HEAD_BYTES]), None);
        // A partition table looks like a boot sector up to its last two bytes.
        assert_eq!(Superblock::parse(&with(&[(510, &[0x55, 0xAA])])), None);
    }
}
