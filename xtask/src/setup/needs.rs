//! Every Debian package that this workspace's verbs need, and how one sees that it is there; a table.
//!
//! A need is met by a program or a file, whoever brought it: on another distribution the probe still answers.

use std::path::{Path, PathBuf};

use super::unpack;
use crate::workspace::Workspace;

/// What packages are needed for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Building images.
    Image,
    /// Booting them in an emulator.
    Run,
    /// All tests.
    Test,
    /// Comparing init with others.
    BenchInit,
    /// Comparing dhcp with others.
    BenchDhcp,
    /// Compiling for devices where rustup cannot get its targets.
    FromSource,
}

impl Purpose {
    /// What `cargo xtask setup` prepares for; of the others, two are needed only by `bench`, and one only where rustup's
    /// way fails.
    pub(crate) const ALL: [Self; 3] = [Self::Image, Self::Run, Self::Test];
}

/// How one sees that a package is there.
#[derive(Debug)]
enum Probe {
    /// A program in `PATH`.
    Program(&'static str),
    /// A file.
    File(&'static str),
}

/// How a package comes to this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// apt installs it.
    Install,
    /// It is unpacked into the target folder and not installed.
    ///
    /// So come daemons that the machine would start from then on (Kea's), and packages that others of the machine may
    /// exclude: `chrony` displaces any other time daemon, and QEMU's emulators want its tools in the same version.
    Unpack,
}

/// A package and what for.
#[derive(Debug)]
pub(crate) struct Need {
    /// Debian's name.
    pub(crate) package: &'static str,
    /// Purpose in words.
    pub(crate) why: &'static str,
    /// How it comes here.
    pub(crate) way: Way,
    probe: Probe,
    purpose: Purpose,
}

/// The keys of Debian's archives, which Ubuntu has as a package too.
pub(crate) const DEBIAN_KEYS: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// The table. Verbs that need more than their own purpose ask for several.
const NEEDS: &[Need] = &[
    image("squashfs-tools", "mksquashfs", "the root file system"),
    image("mtools", "mformat", "the boot partition"),
    image("e2fsprogs", "mke2fs", "the data partition"),
    image("kmod", "depmod", "the kernel modules' dependencies"),
    image("xz-utils", "xz", "compressed kernel modules"),
    image("zstd", "zstd", "the initramfs"),
    image("dpkg", "dpkg-deb", "kernel and firmware packages"),
    file(
        "debian-archive-keyring",
        DEBIAN_KEYS,
        "signatures of kernel and firmware packages",
        Purpose::Image,
    ),
    unpacked(
        "qemu-system-arm",
        "qemu-system-aarch64",
        "the emulated Raspberry Pi",
        Purpose::Run,
    ),
    unpacked(
        "qemu-system-x86",
        "qemu-system-x86_64",
        "the emulated PC",
        Purpose::Run,
    ),
    file(
        "qemu-efi-aarch64",
        "/usr/share/qemu-efi-aarch64/QEMU_EFI.fd",
        "UEFI of the emulated arm64 machine",
        Purpose::Run,
    ),
    file(
        "ovmf",
        "/usr/share/OVMF/OVMF_CODE_4M.fd",
        "UEFI of the emulated PC",
        Purpose::Run,
    ),
    test("gdisk", "sgdisk", "checks of the partition table"),
    test("dosfstools", "fsck.fat", "checks of the boot partition"),
    test("dnsmasq-base", "dnsmasq", "a DHCP and DNS server"),
    unpacked(
        "kea-dhcp4-server",
        "kea-dhcp4",
        "another DHCP server",
        Purpose::Test,
    ),
    unpacked(
        "kea-dhcp6-server",
        "kea-dhcp6",
        "a DHCPv6 server",
        Purpose::Test,
    ),
    unpacked(
        "s6",
        "s6-svscan",
        "a supervisor to compare",
        Purpose::BenchInit,
    ),
    unpacked(
        "runit",
        "runsvdir",
        "a supervisor to compare",
        Purpose::BenchInit,
    ),
    unpacked("finit", "finit", "an init to compare", Purpose::BenchInit),
    unpacked("chrony", "chronyd", "an NTP server", Purpose::Test),
    test(
        "busybox-static",
        "busybox",
        "small services and a third DHCP server for tests",
    ),
    test("util-linux", "setpriv", "namespaces and users for tests"),
    test(
        "python3",
        "python3",
        "services in tests that speak of themselves",
    ),
    test("gcc", "cc", "the kernel's own sizes of structures"),
    file(
        "libc6-dev",
        "/usr/include/stdio.h",
        "the kernel's own sizes of structures",
        Purpose::Test,
    ),
    file(
        "linux-libc-dev",
        "/usr/include/linux/random.h",
        "the kernel's own sizes of structures",
        Purpose::Test,
    ),
    test("iproute2", "ip", "network namespaces"),
    test("curl", "curl", "a request from a chosen address"),
    test("strace", "strace", "checks of what idle processes do"),
    test("chromium", "chromium", "the page in a browser"),
    test("chromium-driver", "chromedriver", "leading the browser"),
    unpacked(
        "dhcpcd-base",
        "dhcpcd",
        "a DHCP client to measure ours by",
        Purpose::BenchDhcp,
    ),
    unpacked(
        "isc-dhcp-client",
        "dhclient",
        "another DHCP client to measure ours by",
        Purpose::BenchDhcp,
    ),
    file(
        "rustc-web",
        "/usr/bin/rustc",
        "the compiler",
        Purpose::FromSource,
    ),
    file(
        "cargo-web",
        "/usr/bin/cargo",
        "the compiler",
        Purpose::FromSource,
    ),
    file(
        "rust-web-src",
        "/usr/lib/rustlib/src/rust/library",
        "the standard library",
        Purpose::FromSource,
    ),
    // Versions have their own folders; this file tells of any.
    file(
        "python3-venv",
        "/var/lib/dpkg/info/python3-venv.list",
        "the linker",
        Purpose::FromSource,
    ),
];

const fn image(package: &'static str, program: &'static str, why: &'static str) -> Need {
    Need {
        package,
        why,
        way: Way::Install,
        probe: Probe::Program(program),
        purpose: Purpose::Image,
    }
}

const fn test(package: &'static str, program: &'static str, why: &'static str) -> Need {
    Need {
        package,
        why,
        way: Way::Install,
        probe: Probe::Program(program),
        purpose: Purpose::Test,
    }
}

const fn unpacked(
    package: &'static str,
    program: &'static str,
    why: &'static str,
    purpose: Purpose,
) -> Need {
    Need {
        package,
        why,
        way: Way::Unpack,
        probe: Probe::Program(program),
        purpose,
    }
}

const fn file(
    package: &'static str,
    path: &'static str,
    why: &'static str,
    purpose: Purpose,
) -> Need {
    Need {
        package,
        why,
        way: Way::Install,
        probe: Probe::File(path),
        purpose,
    }
}

/// The whole table.
#[cfg(test)]
pub(super) fn all() -> impl Iterator<Item = &'static Need> {
    NEEDS.iter()
}

/// What `purposes` need and this machine does not have, installed or unpacked.
pub(crate) fn missing(workspace: &Workspace, purposes: &[Purpose]) -> Vec<&'static Need> {
    NEEDS
        .iter()
        .filter(|need| purposes.contains(&need.purpose) && !need.is_met(workspace))
        .collect()
}

impl Need {
    fn is_met(&self, workspace: &Workspace) -> bool {
        match self.probe {
            Probe::Program(name) => match program(name) {
                Some(path) if path == unpack::wrapper(workspace, name) => {
                    unpack::is_whole(workspace, self.package)
                }
                found => found.is_some(),
            },
            Probe::File(path) => Path::new(path).exists(),
        }
    }

    /// The program by which one sees that the package is there.
    pub(crate) fn program(&self) -> Option<&'static str> {
        match self.probe {
            Probe::Program(name) => Some(name),
            Probe::File(_) => None,
        }
    }
}

/// The program `name`, in `PATH`, which [`super::path`] has made complete.
pub(crate) fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .map(|folder| folder.join(name))
        .find(|candidate| candidate.is_file())
}
