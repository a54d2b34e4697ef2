//! Which kernel modules to load, and in which order, by kmod's text files; pure.
//!
//! `modules.dep` names each module's dependencies, `modules.alias` the devices that a module is for
//! (depmod(8), modules.dep(5)).
//! A module's name is its file's name without `.ko`, with `_` for `-`.

use std::collections::BTreeSet;
use std::ops::Bound;

/// The dependencies of all modules.
#[derive(Debug, Clone, Default)]
pub struct Dependencies {
    /// Name, path and the paths it needs, as they stand in the file.
    rows: Vec<(String, String, Vec<String>)>,
}

impl Dependencies {
    /// Reads `modules.dep`; lines that are none are passed over.
    pub fn parse(text: &str) -> Self {
        let rows = text
            .lines()
            .filter_map(|line| {
                let (path, needs) = line.split_once(':')?;
                let needs = needs.split_ascii_whitespace().map(str::to_owned).collect();
                Some((name_of(path), path.trim().to_owned(), needs))
            })
            .collect();
        Self { rows }
    }

    /// Paths to load for the module called `name`, dependencies first; empty if there is no such module.
    pub fn load_order(&self, name: &str) -> Vec<&str> {
        let name = normal(name);
        let Some((_, path, needs)) = self.rows.iter().find(|(known, _, _)| *known == name) else {
            return Vec::new();
        };
        // depmod lists them so that each is needed by one before it.
        needs
            .iter()
            .rev()
            .map(String::as_str)
            .chain([path.as_str()])
            .collect()
    }
}

/// The devices that modules are for.
#[derive(Debug, Clone, Default)]
pub struct Aliases {
    text: String,
}

impl Aliases {
    /// The text of `modules.alias`; lines that are none are passed over.
    pub fn new(text: String) -> Self {
        Self { text }
    }

    /// Names of the modules for the devices that `modaliases` describe, each once, in the file's order.
    ///
    /// One pass over a file of thousands of patterns, each of which is only held against the devices that begin as it
    /// does: a Pi is to be done with that in milliseconds.
    pub fn modules_for(&self, modaliases: &BTreeSet<String>) -> Vec<String> {
        let mut names = Vec::new();
        for (pattern, module) in self.rows() {
            let start = literal_start(pattern);
            let mut alike = modaliases
                .range::<str, _>((Bound::Included(start), Bound::Unbounded))
                .take_while(|modalias| modalias.starts_with(start));
            if alike.any(|modalias| matches(pattern.as_bytes(), modalias.as_bytes())) {
                let name = name_of(module);
                if !names.contains(&name) {
                    names.push(name);
                }
            }
        }
        names
    }

    fn rows(&self) -> impl Iterator<Item = (&str, &str)> {
        self.text
            .lines()
            .filter_map(|line| line.strip_prefix("alias ")?.rsplit_once(' '))
    }
}

/// What every text that matches `pattern` begins with.
fn literal_start(pattern: &str) -> &str {
    pattern.split(['*', '?', '[']).next().unwrap_or_default()
}

/// Whose devices others wait for before they can work: clocks, resets, supplies, pins, power domains, links to a
/// transceiver, a cell that holds an address, and the chips that are several of these.
///
/// A network adapter or a bus that comes before them is put off by the kernel until they are there.
const SUPPLIERS: [&str; 18] = [
    "bus",
    "clk",
    "dma",
    "firmware",
    "gpio",
    "interconnect",
    "iommu",
    "irqchip",
    "mailbox",
    "mfd",
    "misc/rp1",
    "nvmem",
    "phy",
    "pinctrl",
    "pmdomain",
    "regulator",
    "reset",
    "soc",
];

/// On which network adapters are found.
const BUSES: [&str; 6] = ["bcma", "hv", "pci", "ssb", "usb", "virtio"];

/// The turn of the last modules on the way to the network.
pub const NETWORK_TURN: u8 = 2;

/// When a module's turn is at boot, least first, by the folder that the kernel has it in.
///
/// What a bus or an adapter waits for comes before it. Buses look for what is on them by themselves, a network adapter
/// perhaps, and take their time; a lease takes its time too. The rest is loaded meanwhile.
pub fn turn(path: &str) -> u8 {
    let place = path.strip_prefix("kernel/drivers/").unwrap_or_default();
    let is_in = |folders: &[&str]| {
        let mut rests = folders
            .iter()
            .filter_map(|folder| place.strip_prefix(folder));
        rests.any(|rest| rest.starts_with('/'))
    };
    if is_in(&SUPPLIERS) {
        0
    } else if is_in(&BUSES) {
        1
    } else if is_in(&["net"]) {
        NETWORK_TURN
    } else {
        NETWORK_TURN.saturating_add(1)
    }
}

/// A module's name from its path or name.
pub fn name_of(path: &str) -> String {
    let file = path.trim().rsplit('/').next().unwrap_or_default();
    normal(file.split_once(".ko").map_or(file, |(name, _)| name))
}

fn normal(name: &str) -> String {
    name.replace('-', "_")
}

/// Whether a shell pattern of `*`, `?` and `[…]` matches the whole text (fnmatch(3), as kmod uses it).
///
/// Only the last `*` is ever retried, so the time is bounded by the product of the lengths.
pub fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (pattern, text);
    let mut retry: Option<(&[u8], &[u8])> = None;
    loop {
        match (p.split_first(), t.split_first()) {
            (Some((b'*', rest)), _) => {
                retry = Some((rest, t));
                p = rest;
                continue;
            }
            (None, None) => return true,
            (Some(_), Some((byte, after))) => {
                if let Some(rest) = match_one(p, *byte) {
                    (p, t) = (rest, after);
                    continue;
                }
            }
            (None, Some(_)) | (Some(_), None) => {}
        }
        match retry {
            Some((rest, from)) if !from.is_empty() => {
                let shorter = from.get(1..).unwrap_or_default();
                retry = Some((rest, shorter));
                (p, t) = (rest, shorter);
            }
            Some(_) | None => return false,
        }
    }
}

/// What is left of the pattern when its first element matches the byte.
fn match_one(pattern: &[u8], byte: u8) -> Option<&[u8]> {
    let (first, rest) = pattern.split_first()?;
    match first {
        b'?' => Some(rest),
        b'[' => {
            let end = rest.iter().position(|c| *c == b']')?;
            let (set, after) = rest.split_at(end);
            in_set(set, byte).then(|| after.get(1..).unwrap_or_default())
        }
        plain => (*plain == byte).then_some(rest),
    }
}

fn in_set(set: &[u8], byte: u8) -> bool {
    let (negated, mut rest) = match set.split_first() {
        Some((b'!' | b'^', rest)) => (true, rest),
        Some(_) | None => (false, set),
    };
    let mut found = false;
    loop {
        rest = match rest {
            [low, b'-', high, after @ ..] => {
                found |= (*low..=*high).contains(&byte);
                after
            }
            [one, after @ ..] => {
                found |= *one == byte;
                after
            }
            [] => return found != negated,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEP: &str = "kernel/fs/ext4/ext4.ko: kernel/fs/jbd2/jbd2.ko kernel/lib/crc16.ko kernel/fs/mbcache.ko\n\
                       kernel/lib/crc16.ko:\nkernel/drivers/usb/phy/phy-generic.ko:\n";

    #[test]
    fn dependencies_come_first_and_names_are_normal() {
        let dependencies = Dependencies::parse(DEP);
        let want = [
            "kernel/fs/mbcache.ko",
            "kernel/lib/crc16.ko",
            "kernel/fs/jbd2/jbd2.ko",
            "kernel/fs/ext4/ext4.ko",
        ];
        assert_eq!(dependencies.load_order("ext4"), want);
        assert_eq!(
            dependencies.load_order("phy_generic"),
            ["kernel/drivers/usb/phy/phy-generic.ko"]
        );
        assert_eq!(dependencies.load_order("phy-generic").len(), 1);
        assert!(dependencies.load_order("absent").is_empty());
    }

    #[test]
    fn what_leads_to_the_network_comes_first() {
        let check = |path: &str, want| assert_eq!(turn(path), want, "{path}");
        // Of a Pi 4: the reset of its USB chip, the clocks of its firmware, supplies by a pin.
        check("kernel/drivers/reset/reset-raspberrypi.ko.xz", 0);
        check("kernel/drivers/clk/bcm/clk-raspberrypi.ko.xz", 0);
        check("kernel/drivers/regulator/gpio-regulator.ko.xz", 0);
        // Of a Pi 5: the chip that its Ethernet is in.
        check("kernel/drivers/misc/rp1/rp1-pci.ko.xz", 0);
        check("kernel/drivers/pinctrl/pinctrl-rp1.ko.xz", 0);
        check("kernel/drivers/phy/broadcom/phy-brcm-usb-dvr.ko.xz", 0);
        check("kernel/drivers/usb/dwc2/dwc2.ko", 1);
        check("kernel/drivers/pci/controller/pcie-brcmstb.ko.xz", 1);
        check("kernel/drivers/virtio/virtio_pci.ko.xz", 1);
        check("kernel/drivers/hv/hv_vmbus.ko.xz", 1);
        check("kernel/drivers/net/ethernet/broadcom/genet/genet.ko", 2);
        check("kernel/drivers/net/phy/broadcom.ko", 2);
        for path in [
            "kernel/drivers/hwmon/raspberrypi-hwmon.ko",
            "kernel/drivers/gpu/drm/vc4/vc4.ko.xz",
            "kernel/drivers/misc/eeprom/at24.ko.xz",
            "kernel/drivers/netless/x.ko",
            "kernel/fs/fat/vfat.ko",
            "updates/dkms/net/x.ko",
        ] {
            check(path, 3);
        }
    }

    #[test]
    fn aliases_are_patterns() {
        let text = "# Aliases extracted from modules themselves.\nalias usb:v*p*d*dc*dsc*dp*ic02isc06ip00in* cdc_ether\n\
                    alias of:N*T*Cbrcm,bcm2835-rngC* bcm2835_rng\nalias of:N*T*Cbrcm,bcm2835-rng bcm2835_rng\n";
        let aliases = Aliases::new(text.to_owned());
        let of = |modaliases: &[&str]| {
            let all = modaliases.iter().map(|&text| text.to_owned()).collect();
            aliases.modules_for(&all)
        };
        let network = "usb:v0525pA4A2d0000dc02dsc00dp00ic02isc06ip00in00";
        assert_eq!(of(&[network]), ["cdc_ether"]);
        let random = "of:NrngT(null)Cbrcm,bcm2835-rng";
        assert_eq!(of(&[random]), ["bcm2835_rng"]);
        assert!(of(&["of:NrngT(null)Cbrcm,bcm2711-rng200"]).is_empty());
        assert_eq!(
            of(&["acpi:LNX:", network, "of:N", random, "usb:v0525"]),
            ["cdc_ether", "bcm2835_rng"]
        );
    }

    #[test]
    fn a_pattern_may_begin_with_anything() {
        let aliases =
            Aliases::new("alias acpi*:ARMH0011:* a\nalias *z b\nalias ?q c-d\n".to_owned());
        let of = |modalias: &str| aliases.modules_for(&BTreeSet::from([modalias.to_owned()]));
        assert_eq!(of("acpi:ARMH0011:"), ["a"]);
        assert_eq!(of("xyz"), ["b"]);
        assert_eq!(of("xq"), ["c_d"]);
        assert!(of("acpi:PNP0501:").is_empty());
    }

    #[track_caller]
    fn check(pattern: &str, text: &str, want: bool) {
        assert_eq!(
            matches(pattern.as_bytes(), text.as_bytes()),
            want,
            "{pattern} against {text}"
        );
    }

    #[test]
    fn pattern_elements() {
        check("", "", true);
        check("*", "", true);
        check("a*b*c", "aXbXbXc", true);
        check("a*b", "aXbX", false);
        check("?", "", false);
        check("[0-9a-f]x", "bx", true);
        check("[!0-9]", "5", false);
        check("[ab", "a", false);
        check("*[0-2]*z", "qq1yyz", true);
    }

    #[test]
    fn a_hostile_pattern_ends_soon() {
        check(&"*a".repeat(200), &"a".repeat(5000), true);
        check(&("*a".repeat(200) + "b"), &"a".repeat(5000), false);
    }
}
