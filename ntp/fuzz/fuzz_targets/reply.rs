//! Whatever arrives as a reply is refused or within what the rest of the client relies on.
#![no_main]

#[path = "../script.rs"]
mod script;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = script::play(bytes);
});
