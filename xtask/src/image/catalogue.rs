//! The modules that every image carries, by name; a kernel that lacks one, or has it built in, is no error.

use crate::toolchain::Architecture;

/// What stage 1 needs to reach the root, wherever it lies. Kept apart: it is loaded into memory whole.
const STORAGE: &str = "squashfs sd_mod usb_storage uas xhci_pci nvme virtio_blk virtio_scsi virtio_mmio virtio_pci \
    fixed gpio_regulator";

/// Raspberry Pi: SD cards of the 3 and Zero 2 W, of the 4; USB of the 3, and of the 4 behind PCIe. Then UEFI machines.
const STORAGE_ARM64: &str = "bcm2835 sdhci_iproc sdhci_brcmstb phy_generic dwc2 reset_raspberrypi pcie_brcmstb \
    ahci sdhci_acpi";

const STORAGE_AMD64: &str = "ahci ata_piix ehci_pci mmc_block sdhci_pci sdhci_acpi vmw_pvscsi";

/// File systems and what they ask of the kernel by name.
const FILE_SYSTEMS: &str = "crc32c_generic ext4 vfat exfat nls_cp437 nls_iso8859_1 nls_ascii nls_utf8 loop fuse \
    overlay efivarfs";

/// QEMU's and common USB adapters, then virtual ones.
const NETWORK: &str = "virtio_net usbnet cdc_ether cdc_ncm rndis_host asix ax88179_178a r8152 tun veth bridge 8021q \
    wireguard";

/// What an appliance talks to, watchdogs of emulators, compressed memory.
const DEVICES: &str = "virtio_rng cdc_acm ftdi_sio cp210x ch341 pl2303 usbhid hid_generic i2c_dev i6300esb softdog zram";

/// Network of the Pi 3 and 3+, of the 4, of the 5, and of arm64 machines with PCIe.
const NETWORK_ARM64: &str =
    "smsc95xx lan78xx microchip smsc genet broadcom mdio_bcm_unimac macb rp1 e1000e igb r8169";

/// Watchdog, random generator, temperature, clock speed, buses, lamps, clocks of expansion boards.
const DEVICES_ARM64: &str = "bcm2835_wdt bcm2835_rng iproc_rng200 bcm2835_thermal bcm2711_thermal raspberrypi_hwmon \
    raspberrypi_cpufreq cpufreq_dt i2c_bcm2835 spi_bcm2835 spidev pwm_bcm2835 leds_gpio gpio_keys rtc_ds1307 \
    rtc_pcf8523 rtc_pl031 rtc_efi sbsa_gwdt";

const NETWORK_AMD64: &str = "e1000 e1000e igb igc r8169 tg3 vmxnet3";

const DEVICES_AMD64: &str = "iTCO_wdt sp5100_tco coretemp k10temp aesni_intel crc32c_intel processor button thermal \
    fan acpi_cpufreq";

/// Loaded at start whether or not a device asks for them: file systems, which the kernel asks for by name.
pub(super) const LOAD_ORDER: &str =
    "crc32c_generic squashfs sd_mod ext4 nls_cp437 nls_iso8859_1 nls_ascii nls_utf8 vfat";

/// Names of the default modules.
#[derive(Debug)]
pub(super) struct Defaults {
    /// For the initramfs.
    pub(super) storage: Vec<&'static str>,
    /// For the root: those, and more.
    pub(super) root: Vec<&'static str>,
}

/// The default modules for `architecture`.
pub(super) fn defaults(architecture: Architecture) -> Defaults {
    let (storage, more) = match architecture {
        Architecture::Arm64 => (STORAGE_ARM64, [NETWORK_ARM64, DEVICES_ARM64]),
        Architecture::Amd64 => (STORAGE_AMD64, [NETWORK_AMD64, DEVICES_AMD64]),
    };
    let names = |groups: &[&'static str]| -> Vec<&'static str> {
        groups
            .iter()
            .flat_map(|group| group.split_whitespace())
            .collect()
    };
    let storage = names(&[STORAGE, storage]);
    let mut root = storage.clone();
    root.extend(names(&[FILE_SYSTEMS, NETWORK, DEVICES]));
    root.extend(names(&more));
    Defaults { storage, root }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_holds_what_the_initramfs_does_and_nothing_twice() {
        for architecture in [Architecture::Arm64, Architecture::Amd64] {
            let Defaults { storage, root } = defaults(architecture);
            assert!(storage.iter().all(|name| root.contains(name)));
            let mut sorted = root.clone();
            sorted.sort_unstable();
            sorted.dedup();
            assert_eq!(sorted.len(), root.len(), "{architecture:?}");
        }
    }
}
