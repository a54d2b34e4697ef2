//! The kernel's table of mounts (`proc_pid_mountinfo(5)`); pure.

use std::path::Path;

use super::GUARD;

/// One line of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Point {
    /// Where it is mounted.
    pub target: String,
    /// What is mounted: a device node, or a name.
    pub source: String,
}

/// All mounts, of several at one place the topmost last.
pub fn parse(table: &str) -> impl Iterator<Item = Point> {
    table.lines().filter_map(|line| {
        let (place, rest) = line.split_once(" - ")?;
        Some(Point {
            target: plain(place.split(' ').nth(4)?),
            source: plain(rest.split(' ').nth(1)?),
        })
    })
}

/// What is mounted at `target`; a guard is nothing.
pub fn source_at(table: &str, target: &Path) -> Option<String> {
    let topmost = parse(table)
        .filter(|point| Path::new(&point.target) == target)
        .last()?;
    (topmost.source != GUARD).then_some(topmost.source)
}

/// Whether there is a guard at `target`, be it covered by its disk or not.
pub fn is_guarded(table: &str, target: &Path) -> bool {
    parse(table).any(|point| point.source == GUARD && Path::new(&point.target) == target)
}

/// Undoes the octal escapes of blanks.
fn plain(text: &str) -> String {
    // The backslash last, or what it brings would be taken for an escape.
    [
        ("\\040", " "),
        ("\\011", "\t"),
        ("\\012", "\n"),
        ("\\134", "\\"),
    ]
    .iter()
    .fold(text.to_owned(), |text, (escape, plain)| {
        text.replace(escape, plain)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "36 35 98:0 / /mnt/my\\040disk rw shared:1 - ext4 /dev/sda1 rw\n\
        37 35 0:5 / /mnt/a ro shared:2 - tmpfs gokrazy-guard ro\n\
        38 35 0:6 / /mnt/b ro - tmpfs gokrazy-guard ro\n\
        39 38 8:1 / /mnt/b rw - vfat /dev/mmcblk0p1 rw\n";

    #[test]
    fn a_guard_is_nothing_and_what_lies_on_it_is_something() {
        let at = |target| source_at(TABLE, Path::new(target));
        assert_eq!(at("/mnt/my disk").as_deref(), Some("/dev/sda1"));
        assert_eq!(at("/mnt/a"), None);
        assert_eq!(at("/mnt/b").as_deref(), Some("/dev/mmcblk0p1"));
        assert_eq!(at("/mnt"), None);
        let guarded = |target| is_guarded(TABLE, Path::new(target));
        assert!(guarded("/mnt/a") && guarded("/mnt/b") && !guarded("/mnt/my disk"));
    }
}
