//! Which board or machine this is, in words.

use std::fs;
use std::path::Path;

use crate::paths;

/// The model: the device tree's, else the board's of paths::DMI, else its vendor's, else `unknown model`.
pub fn model() -> String {
    let dmi = Path::new(paths::DMI);
    let read = |path: &Path| fs::read(path).ok();
    choose(
        read(Path::new(paths::DEVICE_TREE_MODEL)).as_deref(),
        read(&dmi.join("board_vendor")).as_deref(),
        read(&dmi.join("board_name")).as_deref(),
        read(&dmi.join("sys_vendor")).as_deref(),
    )
}

/// The choice among the sources, each the content of a file if it could be read.
fn choose(
    tree: Option<&[u8]>,
    vendor: Option<&[u8]>,
    board: Option<&[u8]>,
    system: Option<&[u8]>,
) -> String {
    let board = vendor
        .and_then(text)
        .zip(board.and_then(text))
        .map(|(vendor, board)| format!("{vendor} {board}"));
    tree.and_then(text)
        .or(board)
        .or_else(|| system.and_then(text))
        .unwrap_or_else(|| "unknown model".to_owned())
}

/// The text up to the first NUL, with which the device tree ends its strings.
fn text(bytes: &[u8]) -> Option<String> {
    let bytes = bytes.split(|byte| *byte == 0).next()?;
    let text = String::from_utf8_lossy(bytes).trim().to_owned();
    (!text.is_empty()).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_in_their_order() {
        let tree = b"Raspberry Pi 3 Model B Rev 1.2\0";
        assert_eq!(
            choose(Some(tree), Some(b"A"), Some(b"B"), None),
            "Raspberry Pi 3 Model B Rev 1.2"
        );
        assert_eq!(
            choose(None, Some(b"Acme\n"), Some(b"X1\n"), Some(b"QEMU\n")),
            "Acme X1"
        );
        assert_eq!(
            choose(Some(b"\0"), Some(b"Acme"), None, Some(b"QEMU\n")),
            "QEMU"
        );
        assert_eq!(choose(None, None, None, None), "unknown model");
    }
}
