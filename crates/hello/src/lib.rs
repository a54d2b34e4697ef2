//! What hello says; the waiting is in `main`.

use gokrazy_core::boot_info::BootInfo;

/// The first line: on a device with its model, elsewhere without.
pub fn greeting(boot: Option<&BootInfo>) -> String {
    match boot {
        Some(boot) => format!("hello, world, from a {}", boot.model),
        None => "hello, world".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn greets_with_and_without_a_device() {
        assert_eq!(greeting(None), "hello, world");
        let boot = BootInfo {
            model: "Raspberry Pi 3 Model B".to_owned(),
            ..BootInfo::default()
        };
        assert_eq!(
            greeting(Some(&boot)),
            "hello, world, from a Raspberry Pi 3 Model B"
        );
    }
}
