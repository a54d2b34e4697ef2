//! Every Debian package that this workspace's verbs need, and how one sees that it is there; a table.
//!
//! A need is met by a program or a file, whoever brought it: on another distribution the probe still answers.

use std::path::{Path, PathBuf};

/// What packages are needed for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Building images.
    Image,
    /// Booting them in an emulator.
    Run,
    /// All tests.
    Test,
    /// Compiling for devices where rustup cannot get its targets.
    FromSource,
}

impl Purpose {
    /// What `cargo xtask setup` prepares for; the fourth is needed only where rustup's way fails.
    pub(crate) const ALL: [Self; 3] = [Self::Image, Self::Run, Self::Test];
}

/// How one sees that a package is there.
#[derive(Debug)]
enum Probe {
    /// A program in `PATH` or in the folders for the administrator.
    Program(&'static str),
    /// A file.
    File(&'static str),
}

/// A package and what for.
#[derive(Debug)]
pub(crate) struct Need {
    /// Debian's name.
    pub(crate) package: &'static str,
    /// Purpose in words.
    pub(crate) why: &'static str,
    probe: Probe,
    purpose: Purpose,
}

/// The table. Verbs that need more than their own purpose ask for several.
const NEEDS: &[Need] = &[
    image("squashfs-tools", "mksquashfs", "the root file system"),
    image("mtools", "mformat", "the boot partition"),
    image("e2fsprogs", "mke2fs", "the data partition"),
    image("kmod", "depmod", "the kernel modules' dependencies"),
    image("xz-utils", "xz", "compressed kernel modules"),
    image("zstd", "zstd", "the initramfs"),
    image("dpkg", "dpkg-deb", "kernel and firmware packages"),
    run(
        "qemu-system-arm",
        "qemu-system-aarch64",
        "the emulated Raspberry Pi",
    ),
    run("qemu-system-x86", "qemu-system-x86_64", "the emulated PC"),
    run("qemu-utils", "qemu-img", "a disk that a run may change"),
    run_file(
        "qemu-efi-aarch64",
        "/usr/share/qemu-efi-aarch64/QEMU_EFI.fd",
        "UEFI of the emulated arm64 machine",
    ),
    run_file(
        "ovmf",
        "/usr/share/OVMF/OVMF_CODE_4M.fd",
        "UEFI of the emulated PC",
    ),
    test("gdisk", "sgdisk", "checks of the partition table"),
    test("dosfstools", "fsck.fat", "checks of the boot partition"),
    test("dnsmasq-base", "dnsmasq", "a DHCP and DNS server"),
    test("kea-dhcp4-server", "kea-dhcp4", "another DHCP server"),
    test("udhcpd", "udhcpd", "a third DHCP server"),
    test("chrony", "chronyd", "an NTP server"),
    test("busybox-static", "busybox", "small services for tests"),
    test("iproute2", "ip", "network namespaces"),
    test("curl", "curl", "a request from a chosen address"),
    test("strace", "strace", "checks of what idle processes do"),
    test("chromium", "chromium", "the page in a browser"),
    Need {
        package: "rustc-web",
        why: "the compiler",
        probe: Probe::File("/usr/bin/rustc"),
        purpose: Purpose::FromSource,
    },
    Need {
        package: "cargo-web",
        why: "the compiler",
        probe: Probe::File("/usr/bin/cargo"),
        purpose: Purpose::FromSource,
    },
    Need {
        package: "rust-web-src",
        why: "the standard library",
        probe: Probe::File("/usr/lib/rustlib/src/rust/library"),
        purpose: Purpose::FromSource,
    },
    Need {
        package: "python3-venv",
        why: "the linker",
        probe: Probe::Program("python3"),
        purpose: Purpose::FromSource,
    },
];

const fn image(package: &'static str, program: &'static str, why: &'static str) -> Need {
    Need {
        package,
        why,
        probe: Probe::Program(program),
        purpose: Purpose::Image,
    }
}

const fn run(package: &'static str, program: &'static str, why: &'static str) -> Need {
    Need {
        package,
        why,
        probe: Probe::Program(program),
        purpose: Purpose::Run,
    }
}

const fn run_file(package: &'static str, file: &'static str, why: &'static str) -> Need {
    Need {
        package,
        why,
        probe: Probe::File(file),
        purpose: Purpose::Run,
    }
}

const fn test(package: &'static str, program: &'static str, why: &'static str) -> Need {
    Need {
        package,
        why,
        probe: Probe::Program(program),
        purpose: Purpose::Test,
    }
}

/// What `purposes` need and this machine does not have.
pub(crate) fn missing(purposes: &[Purpose]) -> Vec<&'static Need> {
    NEEDS
        .iter()
        .filter(|need| purposes.contains(&need.purpose) && !need.probe.is_met())
        .collect()
}

impl Probe {
    fn is_met(&self) -> bool {
        match self {
            Self::Program(name) => program(name).is_some(),
            Self::File(path) => Path::new(path).exists(),
        }
    }
}

/// The program `name`, also where only the administrator's `PATH` leads.
pub(crate) fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|folder| folder.join(name))
        .find(|candidate| candidate.is_file())
}
