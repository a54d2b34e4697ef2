//! The modules that every image carries, by name; a kernel that lacks one, or has it built in, is no error.

use super::Board;
use crate::toolchain::Architecture;

/// The root's file system, for which no device asks.
const ROOT: &str = "squashfs";

/// Raspberry Pi: the watchdog, without which a Pi cannot restart, be it by stage 1 or after a panic; SD cards of the 3
/// and Zero 2 W, of the 4; USB of the 3, and of the 4 behind PCIe.
const STORAGE_PI: &str = "bcm2835_wdt bcm2835 sdhci_iproc sdhci_brcmstb fixed gpio_regulator phy_generic dwc2 reset_raspberrypi \
    pcie_brcmstb";

/// Disks behind USB and PCIe.
const STORAGE: &str = "xhci_pci sd_mod usb_storage uas nvme";

/// Machines and virtual machines with UEFI.
const STORAGE_UEFI: &str = "virtio_pci virtio_blk virtio_scsi virtio_mmio ahci sdhci_acpi";

const STORAGE_AMD64: &str = "ata_piix ehci_pci mmc_block sdhci_pci vmw_pvscsi";

/// UEFI's variables: whether the firmware starts a kernel on trial.
const VARIABLES: &str = "efivarfs";

/// File systems and what they ask of the kernel by name.
const FILE_SYSTEMS: &str = "crc32c_generic ext4 vfat exfat nls_cp437 nls_iso8859_1 nls_ascii nls_utf8 loop fuse \
    overlay";

/// QEMU's and common USB adapters, then virtual ones.
const NETWORK: &str = "virtio_net usbnet cdc_ether cdc_ncm rndis_host asix ax88179_178a r8152 tun veth bridge 8021q \
    wireguard";

/// What an appliance talks to, watchdogs of emulators, compressed memory.
const DEVICES: &str = "virtio_rng cdc_acm ftdi_sio cp210x ch341 pl2303 usbhid hid_generic evdev i2c_dev i6300esb softdog zram";

/// Network of the Pi 3 and 3+, of the 4, of the 5, and of arm64 machines with PCIe.
const NETWORK_ARM64: &str = "smsc95xx lan78xx microchip smsc genet broadcom mdio_bcm_unimac macb rp1_pci clk_rp1 pinctrl_rp1 e1000e igb r8169";

/// Random generator, temperature, clock speed, buses, lamps, clocks of expansion boards.
const DEVICES_ARM64: &str = "bcm2835_rng iproc_rng200 bcm2835_thermal bcm2711_thermal raspberrypi_hwmon \
    raspberrypi_cpufreq cpufreq_dt i2c_bcm2835 spi_bcm2835 spidev pwm_bcm2835 leds_gpio gpio_keys rtc_ds1307 \
    rtc_pcf8523 rtc_pl031 rtc_efi sbsa_gwdt";

const NETWORK_AMD64: &str = "e1000 e1000e igb igc r8169 tg3 vmxnet3";

const DEVICES_AMD64: &str = "iTCO_wdt sp5100_tco coretemp k10temp aesni_intel crc32c_intel processor button thermal \
    fan acpi_cpufreq";

/// Loaded before `/perm` is mounted, whether or not a device asks for them; stage 2 loads other file systems later.
const FIXED: &str = "crc32c_generic ext4";

/// Names of modules.
pub(super) type Names = Vec<&'static str>;

fn names(groups: &[&'static str]) -> Names {
    groups
        .iter()
        .flat_map(|group| group.split_whitespace())
        .collect()
}

/// What stage 1 has to reach the root wherever it lies. The order counts among those that devices ask for: a board's
/// own storage before what may be plugged in. The rest is loaded only if the disk stays away.
pub(super) fn initramfs(board: Board) -> Names {
    match board {
        Board::Pi => names(&[ROOT, STORAGE_PI, STORAGE]),
        Board::UefiArm64 => names(&[ROOT, STORAGE_UEFI, STORAGE, VARIABLES]),
        Board::UefiAmd64 => names(&[ROOT, STORAGE_UEFI, STORAGE, STORAGE_AMD64, VARIABLES]),
    }
}

/// What the root carries; most are loaded when a device asks. Boards of one processor have the same.
pub(super) fn root(architecture: Architecture) -> Names {
    let common = names(&[
        ROOT,
        STORAGE,
        STORAGE_UEFI,
        FILE_SYSTEMS,
        VARIABLES,
        NETWORK,
        DEVICES,
    ]);
    let more = match architecture {
        Architecture::Arm64 => names(&[STORAGE_PI, NETWORK_ARM64, DEVICES_ARM64]),
        Architecture::Amd64 => names(&[STORAGE_AMD64, NETWORK_AMD64, DEVICES_AMD64]),
    };
    [common, more].concat()
}

/// What stage 2 loads in this order before it looks at devices.
pub(super) fn fixed() -> Names {
    names(&[FIXED])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_holds_what_the_initramfs_does_and_nothing_twice() {
        for board in Board::ALL {
            let root = root(board.architecture());
            assert!(
                initramfs(board).iter().all(|name| root.contains(name)),
                "{board:?}"
            );
            assert!(fixed().iter().all(|name| root.contains(name)), "{board:?}");
            let mut sorted = root.clone();
            sorted.sort_unstable();
            sorted.dedup();
            assert_eq!(sorted.len(), root.len(), "{board:?}");
        }
    }
}
