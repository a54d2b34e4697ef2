//! Which serial line `/dev/serial0` leads to: the one on the header, whatever the kernel calls it; the choice is pure.
//!
//! Raspberry Pi's own kernels name it by the alias `serial0`, beside `uart0` and `uart1` for the hardware.
//! Mainline's device trees number the lines by hardware and name the header's one as that of the console.
//! A machine without a device tree has it at `ttyS0`.

use std::fs;
use std::path::{Path, PathBuf};

use crate::paths;

/// What the machine says of its serial lines.
#[derive(Debug, Default)]
struct Lines {
    /// Names and paths in the device tree.
    aliases: Vec<(String, String)>,
    /// The console's line: an alias or a path, and its speed.
    stdout: Option<String>,
    /// Names of terminals, with their paths in the device tree.
    terminals: Vec<(String, String)>,
}

/// The device node that `/dev/serial0` should lead to, if there is one.
pub(super) fn header_line() -> Option<String> {
    let tree = Path::new(paths::DEVICE_TREE);
    let name = if tree.exists() {
        choose(&read(tree))
    } else {
        Some("ttyS0".to_owned())
    };
    let node = Path::new(paths::DEV).join(name?);
    node.exists().then(|| node.display().to_string())
}

fn choose(lines: &Lines) -> Option<String> {
    let alias = |wanted: &str| {
        let found = lines.aliases.iter().find(|(name, _)| name == wanted);
        found.map(|(_, path)| path.as_str())
    };
    let is_downstream = alias("uart0").is_some() || alias("uart1").is_some();
    let console = lines.stdout.as_deref().and_then(|stdout| {
        let line = stdout.split(':').next().unwrap_or_default();
        if line.starts_with('/') {
            Some(line)
        } else {
            alias(line)
        }
    });
    let path = console.filter(|_| !is_downstream).or(alias("serial0"))?;
    let found = lines.terminals.iter().find(|(_, at)| at == path);
    found.map(|(name, _)| name.clone())
}

fn read(tree: &Path) -> Lines {
    let aliases = fs::read_dir(tree.join("aliases")).into_iter().flatten();
    let text = |path: &Path| {
        let bytes = fs::read(path).ok()?;
        let text = String::from_utf8(bytes).ok()?;
        Some(text.trim_end_matches('\0').to_owned())
    };
    Lines {
        aliases: aliases
            .flatten()
            .filter_map(|entry| {
                let name = entry.file_name().into_string().ok()?;
                Some((name, text(&entry.path())?))
            })
            .collect(),
        stdout: text(&tree.join("chosen/stdout-path")),
        terminals: terminals(),
    }
}

fn terminals() -> Vec<(String, String)> {
    let entries = fs::read_dir(paths::SYS_CLASS_TTY).into_iter().flatten();
    entries
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let device = fs::canonicalize(entry.path().join("device")).ok()?;
            Some((name, path_in_tree(&device)?))
        })
        .collect()
}

/// Where the device or one that it is a part of stands in the device tree.
fn path_in_tree(device: &Path) -> Option<String> {
    let mut parts = device.ancestors();
    let node = parts.find_map(|part| fs::canonicalize(part.join("of_node")).ok())?;
    let base: PathBuf = fs::canonicalize(paths::DEVICE_TREE).ok()?;
    let path = node.strip_prefix(base).ok()?;
    Some(format!("/{}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PL011: &str = "/soc/serial@7e201000";
    const MINI: &str = "/soc/serial@7e215040";

    #[track_caller]
    fn check(aliases: &[(&str, &str)], stdout: Option<&str>, want: Option<&str>) {
        let owned = |pairs: &[(&str, &str)]| {
            let pairs = pairs.iter();
            pairs
                .map(|&(name, path)| (name.to_owned(), path.to_owned()))
                .collect()
        };
        let lines = Lines {
            aliases: owned(aliases),
            stdout: stdout.map(str::to_owned),
            terminals: owned(&[("ttyAMA0", PL011), ("ttyS1", MINI)]),
        };
        assert_eq!(choose(&lines).as_deref(), want);
    }

    #[test]
    fn the_headers_line_by_mainlines_trees() {
        let aliases = [("serial0", PL011), ("serial1", MINI)];
        check(&aliases, Some("serial1:115200n8"), Some("ttyS1"));
        check(&aliases, Some("serial0"), Some("ttyAMA0"));
        check(&aliases, Some(&format!("{MINI}:9600")), Some("ttyS1"));
        check(&aliases, None, Some("ttyAMA0"));
        check(&aliases, Some("serial9:115200n8"), Some("ttyAMA0"));
    }

    #[test]
    fn the_headers_line_by_raspberry_pis_own_trees() {
        let hardware = [("uart0", PL011), ("uart1", MINI)];
        let with = |serial0| [hardware[0], hardware[1], ("serial0", serial0)];
        check(&with(PL011), Some("serial1:115200n8"), Some("ttyAMA0"));
        check(&with(MINI), None, Some("ttyS1"));
    }

    #[test]
    fn a_line_without_a_terminal_is_none() {
        check(&[("serial0", "/soc/serial@0")], None, None);
        check(&[], Some("serial0"), None);
        check(&[], None, None);
    }
}
