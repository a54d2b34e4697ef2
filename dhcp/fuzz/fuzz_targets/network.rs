//! Whatever the network says, in whatever order, the machines keep their invariants.
#![no_main]

#[path = "../script.rs"]
mod script;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| script::play(bytes));
