//! What lies in the boot partition, board by board: a plan of files; pure.

use std::path::PathBuf;

use gokrazy_core::slots::SlotName;

use super::Board;
use super::fat::BootFile;
use super::tree::Content;
use crate::toolchain::Architecture;

/// The firmware's own files: first stage for boards before the 4, second stage for those and for the 4.
/// Others of the package serve cameras, debugging, or boards that do not run 64-bit kernels.
pub(crate) const FIRMWARE: [&str; 5] = [
    "bootcode.bin",
    "start.elf",
    "fixup.dat",
    "start4.elf",
    "fixup4.dat",
];

/// Device trees of the boards that the Pi's image is for, as the mainline kernel names them:
/// Zero 2 W, 3 A+, 3 B, 3 B+, CM3; 4 B, 400, CM4; 5.
pub(crate) const DEVICE_TREES: [&str; 9] = [
    "bcm2837-rpi-zero-2-w.dtb",
    "bcm2837-rpi-3-a-plus.dtb",
    "bcm2837-rpi-3-b.dtb",
    "bcm2837-rpi-3-b-plus.dtb",
    "bcm2837-rpi-cm3-io3.dtb",
    "bcm2711-rpi-4-b.dtb",
    "bcm2711-rpi-400.dtb",
    "bcm2711-rpi-cm4-io.dtb",
    "bcm2712-rpi-5-b.dtb",
];

/// What the Pi's firmware reads first. It fits in one sector, so that a change of `os_prefix` is one write.
///
/// `upstream_kernel` makes the firmware look for device trees under mainline's names; it would move `os_prefix` to
/// `upstream/` if that were not set.
/// `enable_uart` keeps the mini UART's clock still, without which its console shows garbage.
pub(crate) fn config_txt(slot: SlotName) -> String {
    format!(
        "# Kernel folder of the slot to start: A/ or B/.\nos_prefix={}/\narm_64bit=1\nupstream_kernel=1\n\
         enable_uart=1\nkernel=vmlinuz\ninitramfs initramfs followkernel\n",
        slot.kernel_folder()
    )
}

/// The consoles that a board's kernel writes to; the last one is init's as well.
///
/// Mainline calls the mini UART on the header of the Pi 3 and 4 `ttyS1` and the debug connector of the 5 `ttyAMA10`;
/// `ttyAMA0` is where Bluetooth hangs on most boards, and must not get the kernel's words.
fn consoles(board: Board, serial: Option<&str>) -> Vec<String> {
    let screen = "tty0".to_owned();
    match (serial, board) {
        (Some("off"), _) => vec![screen],
        (Some(serial), _) => vec![screen, serial.to_owned()],
        (None, Board::Pi) => vec![
            screen,
            "ttyAMA10,115200".to_owned(),
            "ttyS1,115200".to_owned(),
        ],
        (None, Board::UefiArm64) => vec![screen, "ttyAMA0,115200".to_owned()],
        (None, Board::UefiAmd64) => vec![screen, "ttyS0,115200".to_owned()],
    }
}

/// The kernel's command line, without a line break.
pub(crate) fn command_line(
    board: Board,
    slot: SlotName,
    root_id: &str,
    serial: Option<&str>,
    further: &[&str],
) -> String {
    let mut words = vec![
        format!("root=PARTUUID={root_id}"),
        format!("gokrazy.slot={slot}"),
        "rootwait".to_owned(),
        // Where a power cut tore the partition table, the kernel looks for its backup only if told that there is one.
        "gpt".to_owned(),
        "panic=10".to_owned(),
        "oops=panic".to_owned(),
        // The kernel would try each of its ciphers, the slowest key exchanges among them, beside all that boots.
        "cryptomgr.notests".to_owned(),
    ];
    words.extend(
        consoles(board, serial)
            .iter()
            .map(|console| format!("console={console}")),
    );
    words.extend(further.iter().map(|word| (*word).to_owned()));
    words.join(" ")
}

/// What the kernel folder of a slot is made of.
#[derive(Debug)]
pub(crate) struct KernelFiles {
    /// The kernel, packed or not as the board takes it.
    pub(crate) kernel: PathBuf,
    /// The initramfs.
    pub(crate) initramfs: PathBuf,
    /// Device trees, by file name.
    pub(crate) device_trees: Vec<(String, PathBuf)>,
    /// The kernel's command line.
    pub(crate) command_line: String,
}

/// The folder of `slot`. The command line lies there for UEFI too, where the updater finds it.
pub(crate) fn kernel_folder(slot: SlotName, files: &KernelFiles) -> Vec<BootFile> {
    let at = |name: &str, content: Content| BootFile {
        path: format!("{}/{name}", slot.kernel_folder()),
        content,
    };
    let mut plan = vec![
        at("vmlinuz", Content::File(files.kernel.clone())),
        at("initramfs", Content::File(files.initramfs.clone())),
        at(
            "cmdline.txt",
            Content::from(format!("{}\n", files.command_line)),
        ),
    ];
    plan.extend(
        files
            .device_trees
            .iter()
            .map(|(name, path)| at(name, Content::File(path.clone()))),
    );
    plan
}

/// systemd-boot at the place where UEFI looks on removable media, its settings, and the entry of `slot`.
///
/// The entry carries no count of attempts (`+3`, Boot Loader Specification, "boot counting"): the slot of a new image
/// is good, and an entry that counts goes bad unless somebody takes the count off after a start that went well.
pub(crate) fn uefi(
    architecture: Architecture,
    loader: PathBuf,
    slot: SlotName,
    command_line: &str,
) -> Vec<BootFile> {
    let program = match architecture {
        Architecture::Arm64 => "BOOTAA64.EFI",
        Architecture::Amd64 => "BOOTX64.EFI",
    };
    let folder = slot.kernel_folder();
    let text = |path: &str, text: String| BootFile {
        path: path.to_owned(),
        content: Content::from(text),
    };
    vec![
        BootFile {
            path: format!("EFI/BOOT/{program}"),
            content: Content::File(loader),
        },
        text(
            "loader/loader.conf",
            "timeout 0\nconsole-mode keep\n".to_owned(),
        ),
        text(
            &format!("loader/entries/gokrazy-{slot}.conf"),
            format!(
                "title gokrazy, slot {folder}\nlinux /{folder}/vmlinuz\ninitrd /{folder}/initramfs\n\
                 options {command_line}\n"
            ),
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn config_txt_fits_in_a_sector_and_names_the_slot() {
        let text = config_txt(SlotName::B);
        assert!(text.len() <= 512);
        for line in [
            "os_prefix=B/",
            "arm_64bit=1",
            "upstream_kernel=1",
            "enable_uart=1",
            "initramfs initramfs followkernel",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}");
        }
    }

    #[test]
    fn the_command_line_is_what_stage_1_reads() {
        let check = |board, serial, further: &[&str], want: &str| {
            let start = "root=PARTUUID=ID gokrazy.slot=a rootwait gpt panic=10 oops=panic cryptomgr.notests ";
            assert_eq!(
                command_line(board, SlotName::A, "ID", serial, further),
                format!("{start}{want}")
            );
        };
        check(
            Board::Pi,
            None,
            &["quiet"],
            "console=tty0 console=ttyAMA10,115200 console=ttyS1,115200 quiet",
        );
        check(Board::Pi, Some("off"), &[], "console=tty0");
        check(
            Board::UefiAmd64,
            Some("ttyS1"),
            &[],
            "console=tty0 console=ttyS1",
        );
    }

    #[test]
    fn uefi_finds_the_loader_where_it_looks_and_one_entry() {
        let plan = uefi(
            Architecture::Arm64,
            PathBuf::from("x"),
            SlotName::A,
            "words",
        );
        let paths: Vec<&str> = plan.iter().map(|file| file.path.as_str()).collect();
        assert_eq!(
            paths,
            [
                "EFI/BOOT/BOOTAA64.EFI",
                "loader/loader.conf",
                "loader/entries/gokrazy-a.conf"
            ]
        );
    }
}
