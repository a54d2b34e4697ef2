//! The command line of QEMU for each machine; pure.
//!
//! Tried with QEMU 7.2 and 10.0 without hardware virtualisation.

use std::path::{Path, PathBuf};

/// A machine that QEMU plays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Machine {
    /// Raspberry Pi 3 Model B: SD card, USB network.
    Raspi3b,
    /// An arm64 virtual machine with UEFI firmware.
    Virt,
    /// An amd64 virtual machine with UEFI firmware.
    Pc,
}

/// Who starts the kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Start {
    /// QEMU itself, from files that it was handed, as a Pi's firmware would.
    Direct {
        /// The kernel.
        kernel: PathBuf,
        /// The initial file system.
        initramfs: Option<PathBuf>,
        /// The device tree.
        device_tree: PathBuf,
        /// The kernel command line.
        command_line: String,
    },
    /// UEFI firmware: its code, and a copy of its variables that it may change.
    Firmware {
        /// Read-only code.
        code: PathBuf,
        /// Variables.
        variables: PathBuf,
    },
}

/// What the guest's network card is plugged into.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Net {
    /// QEMU's own: no root needed; port 80 of the guest appears on this port of loopback.
    User {
        /// Port on the host.
        http: u16,
        /// Whom the guest can reach.
        reach: Reach,
    },
    /// A tap device that is there already.
    Tap {
        /// Its name.
        name: String,
    },
}

/// Whom a guest on QEMU's own network can reach; its page is forwarded in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reach {
    /// Whom the host can reach.
    Outside,
    /// Only QEMU's own DHCP server: nothing leaves the guest, not even a question to the host's resolver.
    Nobody,
}

/// When the guest gets its network card.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Card {
    /// It is in the machine.
    BuiltIn,
    /// It is a USB adapter that is plugged in while the machine runs ([`late_card`]).
    Late,
}

/// What plugs the adapter of [`Card::Late`] in: the monitor's command `device_add` with these arguments.
pub(crate) fn late_card() -> serde_json::Value {
    serde_json::json!({ "driver": "usb-net", "id": "card0", "netdev": "net0", "mac": MAC })
}

/// The address of the guest's network card.
pub(crate) const MAC: &str = "52:54:00:67:6b:01";

impl Machine {
    /// QEMU's program.
    pub(crate) fn program(self) -> &'static str {
        match self {
            Self::Raspi3b | Self::Virt => "qemu-system-aarch64",
            Self::Pc => "qemu-system-x86_64",
        }
    }

    fn options(self) -> &'static [&'static str] {
        match self {
            // The Pi's memory is the model's, 1 GiB, and cannot be chosen.
            // Its first serial line is the PL011, where Bluetooth hangs; the console is the mini UART on the header.
            Self::Raspi3b => &["-machine", "raspi3b", "-serial", "null"],
            Self::Virt => &[
                "-machine",
                "virt",
                // One whose kernel and user space need no tables of their own (E0PD): with them, each system call empties
                // what QEMU has translated addresses to. Signed pointers take QEMU longer than all else (`pauth`).
                "-cpu",
                "max,pauth=off",
                "-smp",
                "2",
                "-m",
                "512M",
                // As virtual machines have it: the firmware seeds the kernel from it.
                "-device",
                "virtio-rng-pci",
            ],
            // Sticks are plugged into the USB controller while it runs.
            Self::Pc => &[
                "-machine",
                "q35",
                "-cpu",
                "max",
                // One processor: with more, a kernel that patches its code at run time can trap in QEMU's
                // translation of x86, and panics.
                "-smp",
                "1",
                "-m",
                "512M",
                "-device",
                "qemu-xhci",
            ],
        }
    }

    /// The disk, from which firmware starts whatever its variables say: they may be of a machine whose disk was elsewhere.
    fn drive(self, disk: &Path, faults: Option<&Path>) -> Vec<String> {
        let filter = faults.map_or_else(String::new, |faults| {
            format!("blkdebug:{}:", escape(faults))
        });
        let rest = format!("format=raw,file={filter}{}", escape(disk));
        match self {
            Self::Raspi3b => vec!["-drive".to_owned(), format!("if=sd,{rest}")],
            Self::Virt | Self::Pc => [
                "-drive",
                &format!("if=none,id=disk0,{rest}"),
                "-device",
                "virtio-blk-pci,drive=disk0,bootindex=0",
            ]
            .map(str::to_owned)
            .to_vec(),
        }
    }

    /// How long a disk of at least `least` bytes is: QEMU takes only a power of two for an SD card.
    pub(crate) fn disk_bytes(self, least: u64) -> u64 {
        match self {
            Self::Raspi3b => least.next_power_of_two(),
            Self::Virt | Self::Pc => least,
        }
    }

    fn card(self) -> &'static str {
        match self {
            Self::Raspi3b => "usb-net",
            // Without its boot program: the disk is booted, and QEMU needs a package less.
            Self::Virt | Self::Pc => "virtio-net-pci,romfile=",
        }
    }
}

/// What a guest's clocks go by.
#[derive(Debug, Clone)]
pub(crate) enum Clock {
    /// The host's clock and its date; a Pi has no battery and begins in 1970.
    Host,
    /// The host's clock, the battery-backed one beginning with this date (`2001-01-01`).
    From(String),
    /// What the guest does: 2 ns are an instruction of any of its processors, which take turns, and sleep is the
    /// host's (QEMU's `-icount shift=1,sleep=on`). How fast the host is makes no difference to what the guest computes.
    Instructions,
}

impl Clock {
    fn arguments(&self) -> Option<[String; 2]> {
        match self {
            Self::Host => None,
            Self::From(date) => Some(["-rtc".to_owned(), format!("base={date}")]),
            Self::Instructions => Some(["-icount".to_owned(), "shift=1,sleep=on".to_owned()]),
        }
    }
}

/// One run of a guest.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Run<'a> {
    /// The machine.
    pub(crate) machine: Machine,
    /// The file that is its disk.
    pub(crate) disk: &'a Path,
    /// What that disk refuses, as a file of QEMU's `blkdebug`.
    pub(crate) faults: Option<&'a Path>,
    /// Who starts the kernel.
    pub(crate) start: &'a Start,
    /// What its network card is plugged into.
    pub(crate) net: &'a Net,
    /// What its clocks go by.
    pub(crate) clock: &'a Clock,
    /// When its network card comes.
    pub(crate) card: Card,
    /// The port of loopback on which QEMU's monitor listens, if one is wanted.
    pub(crate) monitor: Option<u16>,
}

/// All arguments for one run of the guest, which ends where the guest would start anew.
pub(crate) fn arguments(run: Run<'_>) -> Vec<String> {
    let Run {
        machine,
        disk,
        faults,
        start,
        net,
        clock,
        card,
        monitor,
    } = run;
    let mut arguments: Vec<String> = machine.options().iter().map(ToString::to_string).collect();
    // QEMU must not start the guest anew by itself: the firmware that we play reads the disk first.
    let always = [
        "-no-reboot",
        "-display",
        "none",
        "-monitor",
        "none",
        // The guest's console, and after Ctrl-A and `c` QEMU's own.
        "-serial",
        "mon:stdio",
    ];
    arguments.extend(always.map(str::to_owned));
    arguments.extend(machine.drive(disk, faults));
    arguments.extend(start.arguments());
    arguments.extend(net.backend());
    arguments.extend(card.arguments(machine));
    arguments.extend(monitor.into_iter().flat_map(|port| {
        let listen = format!("tcp:127.0.0.1:{port},server=on,wait=off");
        ["-qmp".to_owned(), listen]
    }));
    arguments.extend(clock.arguments().into_iter().flatten());
    arguments
}

impl Start {
    fn arguments(&self) -> Vec<String> {
        match self {
            Self::Direct {
                kernel,
                initramfs,
                device_tree,
                command_line,
            } => {
                let mut arguments = Vec::new();
                let files = [
                    ("-kernel", Some(kernel)),
                    ("-initrd", initramfs.as_ref()),
                    ("-dtb", Some(device_tree)),
                ];
                for (option, file) in files {
                    arguments.extend(
                        file.iter()
                            .flat_map(|file| [option.to_owned(), file.display().to_string()]),
                    );
                }
                arguments.extend(["-append".to_owned(), command_line.clone()]);
                arguments
            }
            Self::Firmware { code, variables } => [("on", code), ("off", variables)]
                .into_iter()
                .flat_map(|(readonly, file)| {
                    let flash = format!(
                        "if=pflash,format=raw,readonly={readonly},file={}",
                        escape(file)
                    );
                    ["-drive".to_owned(), flash]
                })
                // Firmware waits five seconds for a key otherwise.
                .chain(["-boot", "menu=on,splash-time=0"].map(str::to_owned))
                .collect(),
        }
    }
}

impl Net {
    fn backend(&self) -> [String; 2] {
        let backend = match self {
            Self::User { http, reach } => {
                let restrict = match reach {
                    Reach::Outside => "",
                    Reach::Nobody => ",restrict=on",
                };
                format!("user,id=net0{restrict},hostfwd=tcp:127.0.0.1:{http}-:80")
            }
            Self::Tap { name } => format!("tap,id=net0,ifname={name},script=no,downscript=no"),
        };
        ["-netdev".to_owned(), backend]
    }
}

impl Card {
    fn arguments(self, machine: Machine) -> [String; 2] {
        let device = match self {
            Self::BuiltIn => format!("{},netdev=net0,id=card0,mac={MAC}", machine.card()),
            // Where it is plugged in.
            Self::Late => "qemu-xhci".to_owned(),
        };
        ["-device".to_owned(), device]
    }
}

/// A comma ends an option's value unless it is doubled.
fn escape(path: &Path) -> String {
    path.display().to_string().replace(',', ",,")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pi_boots_from_its_card_and_speaks_over_usb() {
        let start = Start::Direct {
            kernel: "k".into(),
            initramfs: Some("i".into()),
            device_tree: "d".into(),
            command_line: "console=ttyAMA0 panic=5".to_owned(),
        };
        let run = Run {
            machine: Machine::Raspi3b,
            disk: Path::new("a,b.img"),
            faults: None,
            start: &start,
            net: &Net::User {
                http: 8080,
                reach: Reach::Outside,
            },
            clock: &Clock::Host,
            card: Card::BuiltIn,
            monitor: None,
        };
        let line = arguments(run).join(" ");
        assert_eq!(
            line,
            "-machine raspi3b -serial null -no-reboot -display none -monitor none -serial mon:stdio \
             -drive if=sd,format=raw,file=a,,b.img -kernel k -initrd i -dtb d -append console=ttyAMA0 panic=5 \
             -netdev user,id=net0,hostfwd=tcp:127.0.0.1:8080-:80 -device usb-net,netdev=net0,id=card0,mac=52:54:00:67:6b:01"
        );
    }

    #[test]
    fn a_guest_without_reach_keeps_its_page() {
        let net = Net::User {
            http: 8080,
            reach: Reach::Nobody,
        };
        let want = "user,id=net0,restrict=on,hostfwd=tcp:127.0.0.1:8080-:80";
        assert_eq!(net.backend()[1], want);
    }

    #[test]
    fn only_an_sd_card_has_to_be_a_power_of_two() {
        assert_eq!(Machine::Raspi3b.disk_bytes(1413 << 20), 2048 << 20);
        assert_eq!(Machine::Virt.disk_bytes(1413 << 20), 1413 << 20);
    }

    #[test]
    fn firmware_may_change_its_variables_and_not_its_code() {
        let start = Start::Firmware {
            code: "c".into(),
            variables: "v".into(),
        };
        let net = Net::Tap {
            name: "t".to_owned(),
        };
        let run = Run {
            machine: Machine::Virt,
            disk: Path::new("d"),
            faults: None,
            start: &start,
            net: &net,
            clock: &Clock::From("2001-01-01".to_owned()),
            card: Card::BuiltIn,
            monitor: None,
        };
        let late = Run {
            card: Card::Late,
            monitor: Some(4444),
            ..run
        };
        let line = arguments(late).join(" ");
        assert!(!line.contains("virtio-net-pci"));
        assert!(line.contains(" -device qemu-xhci -qmp tcp:127.0.0.1:4444,server=on,wait=off"));
        let line = arguments(run).join(" ");
        assert!(line.contains("-drive if=none,id=disk0,format=raw,file=d -device virtio-blk-pci,drive=disk0,bootindex=0 "));
        assert!(line.contains("if=pflash,format=raw,readonly=on,file=c -drive if=pflash,format=raw,readonly=off,file=v -boot menu=on,splash-time=0"));
        assert!(line.ends_with("-netdev tap,id=net0,ifname=t,script=no,downscript=no -device virtio-net-pci,romfile=,netdev=net0,id=card0,mac=52:54:00:67:6b:01 -rtc base=2001-01-01"));
    }
}
