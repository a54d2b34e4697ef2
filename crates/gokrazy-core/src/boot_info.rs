//! What booted, as init publishes it under `<run-dir>/boot`; pure.

use crate::keyvalue::{Document, ParseError};
use crate::slots::SlotName;

/// Facts about this boot.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BootInfo {
    /// Identifies the image; equal bytes have equal ids.
    pub build_id: String,
    /// The board or machine, as the device tree or DMI names it.
    pub model: String,
    /// The device's lasting identity: 32 lower-case hexadecimal digits.
    pub machine_id: String,
    /// The kernel's random id of this boot.
    pub boot_id: String,
    /// The running slot; absent where there is no slot table.
    pub slot: Option<SlotName>,
    /// Which attempt at a trial slot this is, from 1; absent for a slot that is good.
    pub attempt: Option<u8>,
    /// Whether this is the device's first boot: the machine id was made in it.
    pub first_boot: bool,
    /// Why `/perm` is a temporary folder in memory; absent when it is what it should be.
    pub perm_problem: Option<String>,
    /// What `/perm`'s file system noted of its own damage, though it is in use; absent where there is none.
    pub perm_errors: Option<String>,
    /// Why stage 1 did not boot the slot that it was asked to; absent when it did.
    pub fallback: Option<String>,
}

impl BootInfo {
    /// Reads the file's text.
    ///
    /// # Errors
    /// The malformed line, or the key that is missing or invalid.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        let document = Document::parse(text)?;
        let text_of = |key: &'static str| document.required(key).map(str::to_owned);
        Ok(Self {
            build_id: text_of("build_id")?,
            model: text_of("model")?,
            machine_id: text_of("machine_id")?,
            boot_id: text_of("boot_id")?,
            slot: document.optional_as("slot")?,
            attempt: document.optional_as("attempt")?,
            first_boot: document.get("first_boot") == Some("yes"),
            perm_problem: document.optional_as("perm_problem")?,
            perm_errors: document.optional_as("perm_errors")?,
            fallback: document.optional_as("fallback")?,
        })
    }

    /// The file's text.
    pub fn render(&self) -> String {
        Document::new()
            .set("build_id", &self.build_id)
            .set("model", &self.model)
            .set("machine_id", &self.machine_id)
            .set("boot_id", &self.boot_id)
            .set_some("slot", self.slot)
            .set_some("attempt", self.attempt)
            .set("first_boot", if self.first_boot { "yes" } else { "no" })
            .set_some("perm_problem", self.perm_problem.as_ref())
            .set_some("perm_errors", self.perm_errors.as_ref())
            .set_some("fallback", self.fallback.as_ref())
            .render()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden_file_and_round_trip() {
        let info = BootInfo {
            build_id: "0123abcd".to_owned(),
            model: "Raspberry Pi 3 Model B".to_owned(),
            machine_id: "00112233445566778899aabbccddeeff".to_owned(),
            boot_id: "5b0ae8bd-8a5a-4f71-b9bd-1d4a2a7e7d0f".to_owned(),
            slot: Some(SlotName::B),
            attempt: Some(1),
            first_boot: true,
            perm_problem: Some("mount /dev/mmcblk0p4: bad superblock".to_owned()),
            perm_errors: None,
            fallback: None,
        };
        let text = "build_id=0123abcd\nmodel='Raspberry Pi 3 Model B'\n\
                    machine_id=00112233445566778899aabbccddeeff\n\
                    boot_id=5b0ae8bd-8a5a-4f71-b9bd-1d4a2a7e7d0f\nslot=b\nattempt=1\nfirst_boot=yes\n\
                    perm_problem='mount /dev/mmcblk0p4: bad superblock'\n";
        assert_eq!(info.render(), text);
        assert_eq!(BootInfo::parse(text), Ok(info.clone()));
        let damaged = BootInfo {
            perm_errors: Some("3 errors".to_owned()),
            ..info
        };
        assert_eq!(BootInfo::parse(&damaged.render()), Ok(damaged));
    }
}
