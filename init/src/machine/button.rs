//! The power button: an input device with the key for it, be it ACPI's or one on a pin of a board.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::libc;

/// linux/input-event-codes.h: `KEY_POWER`.
const KEY_POWER: u16 = 116;

/// linux/input-event-codes.h: `EV_KEY`.
const EV_KEY: u16 = 1;

/// The value of a key's event when it goes down; 0 is up, 2 a repetition.
const DOWN: i32 = 1;

/// Bytes of `struct input_event` (linux/input.h) on machines of 64 bits: time, type, code, value.
const EVENT_BYTES: usize = 24;

/// Events that are read in one turn.
const BATCH: usize = 16;

/// One device that has a power key.
#[derive(Debug)]
pub struct Button {
    name: String,
    device: File,
}

/// What a look at a button showed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// It was pressed.
    Press,
    /// Nothing of interest.
    Nothing,
    /// It is gone.
    Gone,
}

/// Buttons below `folder` (`/dev/input`) beside those that are known.
pub fn look(folder: &Path, known: &[Button]) -> Vec<Button> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let is_new = |name: &String| {
        name.starts_with("event") && !known.iter().any(|button| button.name == *name)
    };
    names
        .filter(is_new)
        .filter_map(|name| {
            let device = open(&folder.join(&name)).ok()?;
            let has_key = gokrazy_sys::input::has_key(&device, KEY_POWER);
            has_key.unwrap_or(false).then_some(Button { name, device })
        })
        .collect()
}

fn open(path: &Path) -> io::Result<File> {
    let mut options = File::options();
    options.read(true).custom_flags(libc::O_NONBLOCK);
    options.open(path)
}

impl Button {
    /// Its name below `/dev/input`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Reads what happened.
    pub fn read(&mut self) -> Seen {
        let mut buffer = [0; EVENT_BYTES * BATCH];
        match self.device.read(&mut buffer) {
            Ok(0) => Seen::Gone,
            Ok(length) => match is_press(buffer.get(..length).unwrap_or_default()) {
                true => Seen::Press,
                false => Seen::Nothing,
            },
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Seen::Nothing,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Seen::Nothing,
            Err(_) => Seen::Gone,
        }
    }
}

impl AsFd for Button {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.device.as_fd()
    }
}

fn is_press(events: &[u8]) -> bool {
    events.chunks_exact(EVENT_BYTES).any(|event| {
        let number = |at: usize| Some(u16::from_ne_bytes(*event.get(at..)?.first_chunk()?));
        let value = event.get(20..).and_then(|rest| rest.first_chunk());
        number(16) == Some(EV_KEY)
            && number(18) == Some(KEY_POWER)
            && value.copied().map(i32::from_ne_bytes) == Some(DOWN)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(kind: u16, code: u16, value: i32) -> Vec<u8> {
        let mut event = vec![0xA5; 16];
        event.extend(kind.to_ne_bytes());
        event.extend(code.to_ne_bytes());
        event.extend(value.to_ne_bytes());
        event
    }

    #[test]
    fn only_the_power_key_that_goes_down_is_a_press() {
        let press = event(1, 116, 1);
        assert!(is_press(&press));
        assert!(is_press(
            &[event(4, 4, 9), press.clone(), event(0, 0, 0)].concat()
        ));
        for other in [
            event(1, 116, 0),
            event(1, 116, 2),
            event(1, 30, 1),
            event(0, 116, 1),
            press[..23].to_vec(),
        ] {
            assert!(!is_press(&other));
        }
    }

    #[test]
    fn what_is_no_input_device_is_no_button() {
        let folder = std::env::temp_dir().join(format!("in-buttons-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        File::create_new(folder.join("event0")).unwrap();
        std::os::unix::fs::symlink("/dev/null", folder.join("event1")).unwrap();
        assert!(look(&folder, &[]).is_empty());
        assert!(look(&folder.join("none"), &[]).is_empty());
        fs::remove_dir_all(folder).unwrap();
    }
}
