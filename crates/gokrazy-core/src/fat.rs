//! Where a file of the boot partition lies, so that one sector of it can be replaced in place.
//!
//! Only what stage 1 needs: FAT16 and FAT32, short (8.3) names, files that it does not grow.
//! Structure and names follow Microsoft's *FAT32 File System Specification* 1.03.
//! Everything read is checked against the volume, and every walk is bounded: the partition may hold anything.

use std::io::{self, Read, Seek, SeekFrom};

const ENTRY: usize = 32;
/// Clusters of a folder that we follow at most: 8 MiB of entries at 32 KiB a cluster.
const MAX_CLUSTERS: usize = 256;
/// First byte of the entry behind the last one.
const END: u8 = 0;
const ATTRIBUTE_LABEL: u8 = 0x08;
const ATTRIBUTE_FOLDER: u8 = 0x10;

/// Where a file begins on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileStart {
    /// Byte offset of its first sector, from the disk's start.
    pub offset: u64,
    /// Its length in bytes.
    pub bytes: u32,
}

/// Geometry of a volume, from its boot sector.
struct Volume {
    cluster: u64,
    fat: u64,
    /// Bytes of an entry of the allocation table.
    link: u64,
    data: u64,
    /// Where the volume ends.
    end: u64,
    root: Folder,
}

#[derive(Debug, Clone, Copy)]
enum Folder {
    /// FAT16's root: so many bytes at this offset.
    Fixed { offset: u64, bytes: u64 },
    /// Any other: a chain of clusters.
    Chain { first: u32 },
}

/// What a folder says of what is in it.
struct Entry {
    cluster: u32,
    bytes: u32,
}

/// Finds the file `path` (as `CONFIG.TXT` or `A/VMLINUZ`) in the FAT volume that starts at byte `start` of `disk`.
///
/// # Errors
/// The errno of reading the disk; [`io::ErrorKind::InvalidData`] if there is no FAT volume,
/// [`io::ErrorKind::InvalidInput`] if a part of the path is no 8.3 name.
pub fn find(
    disk: &mut (impl Read + Seek),
    start: u64,
    path: &str,
) -> io::Result<Option<FileStart>> {
    let volume = Volume::read(disk, start)?;
    let (folders, name) = match path.rsplit_once('/') {
        Some((folders, name)) => (folders, name),
        None => ("", path),
    };
    let mut folder = volume.root;
    for above in folders.split('/').filter(|above| !above.is_empty()) {
        let Some(found) = volume.look(disk, folder, above, ATTRIBUTE_FOLDER)? else {
            return Ok(None);
        };
        folder = Folder::Chain {
            first: found.cluster,
        };
    }
    let found = volume.look(disk, folder, name, 0)?;
    Ok(found.and_then(|entry| {
        Some(FileStart {
            offset: volume.offset_of(entry.cluster)?,
            bytes: entry.bytes,
        })
    }))
}

impl Volume {
    fn read(disk: &mut (impl Read + Seek), start: u64) -> io::Result<Self> {
        let boot = read_at(disk, start, 512)?;
        Self::parse(&boot, start).ok_or_else(|| invalid("no FAT16 or FAT32 boot sector"))
    }

    fn parse(boot: &[u8], start: u64) -> Option<Self> {
        if boot.get(510..512)? != [0x55, 0xAA] {
            return None;
        }
        let sector = u64::from(u16_at(boot, 11)?);
        let per_cluster = u64::from(*boot.get(13)?);
        let fats = u64::from(*boot.get(16)?);
        if !matches!(sector, 512 | 1024 | 2048 | 4096)
            || !per_cluster.is_power_of_two()
            || fats == 0
        {
            return None;
        }
        let fixed_bytes = u64::from(u16_at(boot, 17)?) * ENTRY as u64;
        let either = |narrow, wide| match u16_at(boot, narrow)? {
            0 => Some(u64::from(u32_at(boot, wide)?)),
            number => Some(u64::from(number)),
        };
        let fat_sectors = either(22, 36)?;
        let end = start.checked_add(either(19, 32)?.checked_mul(sector)?)?;
        let fat = start.checked_add(u64::from(u16_at(boot, 14)?) * sector)?;
        let after_fats = fat.checked_add(fats * fat_sectors * sector)?;
        let root = match fixed_bytes {
            0 => Folder::Chain {
                first: u32_at(boot, 44)?,
            },
            bytes => Folder::Fixed {
                offset: after_fats,
                bytes,
            },
        };
        let data = after_fats.checked_add(fixed_bytes.next_multiple_of(sector))?;
        Some(Self {
            cluster: per_cluster * sector,
            fat,
            link: if fixed_bytes == 0 { 4 } else { 2 },
            data,
            end,
            root,
        })
    }

    /// What is called `name` in `folder` and is a folder or a file, as `kind` says.
    fn look(
        &self,
        disk: &mut (impl Read + Seek),
        folder: Folder,
        name: &str,
        kind: u8,
    ) -> io::Result<Option<Entry>> {
        let wanted = short_name(name).ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidInput, "the name is no 8.3 name")
        })?;
        match folder {
            Folder::Fixed { offset, bytes } => {
                let entries = read_at(disk, offset, usize::try_from(bytes).unwrap_or(0))?;
                Ok(self.search(&entries, &wanted, kind))
            }
            Folder::Chain { first } => self.search_chain(disk, first, &wanted, kind),
        }
    }

    fn search_chain(
        &self,
        disk: &mut (impl Read + Seek),
        first: u32,
        wanted: &[u8; 11],
        kind: u8,
    ) -> io::Result<Option<Entry>> {
        let mut cluster = first;
        for _ in 0..MAX_CLUSTERS {
            let Some(offset) = self.offset_of(cluster) else {
                break;
            };
            let entries = read_at(disk, offset, usize::try_from(self.cluster).unwrap_or(0))?;
            if let Some(found) = self.search(&entries, wanted, kind) {
                return Ok(Some(found));
            }
            if Self::ends_in(&entries) {
                break;
            }
            cluster = self.next(disk, cluster)?;
        }
        Ok(None)
    }

    /// The cluster behind `cluster` in its chain; the numbers that end a chain are those of no cluster.
    fn next(&self, disk: &mut (impl Read + Seek), cluster: u32) -> io::Result<u32> {
        let at = u64::from(cluster)
            .saturating_mul(self.link)
            .saturating_add(self.fat);
        let link = read_at(disk, at, usize::try_from(self.link).unwrap_or(4))?;
        Ok(match self.link {
            2 => u16_at(&link, 0).map_or(0, u32::from),
            _ => u32_at(&link, 0).unwrap_or(0) & 0x0FFF_FFFF,
        })
    }

    fn search(&self, entries: &[u8], wanted: &[u8; 11], kind: u8) -> Option<Entry> {
        let mut used = entries
            .chunks_exact(ENTRY)
            .take_while(|entry| !entry.starts_with(&[END]));
        let entry = used.find(|entry| {
            entry.starts_with(wanted)
                && entry
                    .get(11)
                    .is_some_and(|flags| flags & (ATTRIBUTE_FOLDER | ATTRIBUTE_LABEL) == kind)
        })?;
        let high = match self.root {
            Folder::Fixed { .. } => 0,
            Folder::Chain { .. } => u32::from(u16_at(entry, 20)?),
        };
        Some(Entry {
            cluster: high << 16 | u32::from(u16_at(entry, 26)?),
            bytes: u32_at(entry, 28)?,
        })
    }

    /// Whether the folder ends here: what follows a first byte of zero was never used, whatever it holds.
    fn ends_in(entries: &[u8]) -> bool {
        entries
            .chunks_exact(ENTRY)
            .any(|entry| entry.starts_with(&[END]))
    }

    /// Byte offset of a cluster on the disk; the first two numbers are reserved, and none lies outside of the volume.
    fn offset_of(&self, cluster: u32) -> Option<u64> {
        let index = u64::from(cluster).checked_sub(2)?;
        let offset = self.data.checked_add(index.checked_mul(self.cluster)?)?;
        (offset.checked_add(self.cluster)? <= self.end).then_some(offset)
    }
}

fn short_name(name: &str) -> Option<[u8; 11]> {
    let (base, extension) = name.split_once('.').unwrap_or((name, ""));
    if base.is_empty() || base.len() > 8 || extension.len() > 3 || !name.is_ascii() {
        return None;
    }
    let text = format!("{base:<8}{extension:<3}").to_ascii_uppercase();
    text.as_bytes().try_into().ok()
}

fn read_at(disk: &mut (impl Read + Seek), offset: u64, length: usize) -> io::Result<Vec<u8>> {
    disk.seek(SeekFrom::Start(offset))?;
    let mut bytes = vec![0; length];
    disk.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    const START: u64 = 4096;

    fn entry(name: &[u8; 11], flags: u8, cluster: u32, bytes: u32) -> [u8; ENTRY] {
        let mut entry = [0; ENTRY];
        entry[..11].copy_from_slice(name);
        entry[11] = flags;
        entry[20..22].copy_from_slice(&((cluster >> 16) as u16).to_le_bytes());
        entry[26..28].copy_from_slice(&(cluster as u16).to_le_bytes());
        entry[28..32].copy_from_slice(&bytes.to_le_bytes());
        entry
    }

    /// 512-byte sectors, one a cluster, one reserved, one FAT of one sector; `root_entries` 0 means FAT32.
    fn disk(root_entries: u16, root: &[[u8; ENTRY]]) -> Cursor<Vec<u8>> {
        let mut bytes = vec![0; 4096 + 512 * 64];
        let boot = &mut bytes[4096..];
        boot[11..13].copy_from_slice(&512_u16.to_le_bytes());
        boot[13] = 1;
        boot[14..16].copy_from_slice(&1_u16.to_le_bytes());
        boot[16] = 1;
        boot[17..19].copy_from_slice(&root_entries.to_le_bytes());
        boot[19..21].copy_from_slice(&64_u16.to_le_bytes());
        boot[510..512].copy_from_slice(&[0x55, 0xAA]);
        if root_entries == 0 {
            boot[36..40].copy_from_slice(&1_u32.to_le_bytes());
            boot[44..48].copy_from_slice(&2_u32.to_le_bytes());
            boot[512 + 8..512 + 12].copy_from_slice(&5_u32.to_le_bytes());
            boot[512 + 20..512 + 24].copy_from_slice(&0x0FFF_FFFF_u32.to_le_bytes());
        } else {
            boot[22..24].copy_from_slice(&1_u16.to_le_bytes());
        }
        // A FAT32 root starts in cluster 2 (sector 2) and goes on in cluster 5 (sector 5).
        for (index, entry) in root.iter().enumerate() {
            let at = if root_entries == 0 && index >= 16 {
                512 * 5 + (index - 16) * 32
            } else {
                1024 + index * 32
            };
            boot[at..at + 32].copy_from_slice(entry);
        }
        Cursor::new(bytes)
    }

    #[test]
    fn fat16_root_is_searched() {
        let root = [
            entry(b"CONFIG  TXT", 0x10, 9, 0),
            entry(b"CONFIG  TXT", 0x20, 3, 77),
        ];
        let found = find(&mut disk(16, &root), START, "config.txt")
            .unwrap()
            .unwrap();
        // Boot sector, FAT, one sector of root folder, then cluster 2.
        assert_eq!(
            found,
            FileStart {
                offset: 4096 + 512 * (3 + 1),
                bytes: 77
            }
        );
    }

    #[test]
    fn fat32_root_is_followed_over_clusters() {
        let mut root = vec![entry(b"OTHER   BIN", 0x20, 9, 1); 20];
        root.push(entry(b"CONFIG  TXT", 0x20, 7, 99));
        let found = find(&mut disk(0, &root), START, "CONFIG.TXT")
            .unwrap()
            .unwrap();
        assert_eq!(
            found,
            FileStart {
                offset: 4096 + 512 * (2 + 5),
                bytes: 99
            }
        );
    }

    #[test]
    fn nothing_lies_outside_of_the_volume() {
        // Cluster 2 begins in sector 2 of 64.
        for (cluster, want) in [(63, true), (64, false), (0x0FFF_FFFF, false)] {
            let root = [entry(b"CONFIG  TXT", 0x20, cluster, 77)];
            let found = find(&mut disk(0, &root), START, "CONFIG.TXT").unwrap();
            assert_eq!(found.is_some(), want, "cluster {cluster}");
        }
    }

    #[test]
    fn a_file_is_no_folder() {
        let root = [entry(b"A          ", 0x20, 3, 77)];
        assert_eq!(find(&mut disk(0, &root), START, "A/VMLINUZ").unwrap(), None);
        assert!(find(&mut disk(0, &root), START, "A").unwrap().is_some());
    }

    #[test]
    fn what_lies_behind_the_end_of_a_folder_is_nothing() {
        let root = [[0; ENTRY], entry(b"CONFIG  TXT", 0x20, 3, 77)];
        for kind in [16, 0] {
            let found = find(&mut disk(kind, &root), START, "CONFIG.TXT").unwrap();
            assert_eq!(found, None);
        }
    }

    #[test]
    fn absent_files_and_foreign_volumes_are_told_apart() {
        assert_eq!(find(&mut disk(16, &[]), START, "CONFIG.TXT").unwrap(), None);
        let blank = find(&mut Cursor::new(vec![0; 8192]), START, "CONFIG.TXT").unwrap_err();
        assert_eq!(blank.kind(), io::ErrorKind::InvalidData);
        let far = find(&mut disk(0, &[]), u64::MAX - 100, "CONFIG.TXT").unwrap_err();
        assert_eq!(far.kind(), io::ErrorKind::UnexpectedEof);
        let short = find(&mut Cursor::new(vec![0; 100]), START, "CONFIG.TXT").unwrap_err();
        assert_eq!(short.kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn garbage_never_panics() {
        let mut state = 1_u32;
        for _ in 0..2000 {
            let mut bytes = disk(0, &[entry(b"CONFIG  TXT", 0x20, 7, 99)]).into_inner();
            for _ in 0..8 {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let at = 4096 + (state >> 8) as usize % 2048;
                bytes[at] = state as u8;
            }
            let _ = find(&mut Cursor::new(bytes), START, "CONFIG.TXT");
        }
    }
}
