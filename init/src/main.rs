//! `init`: PID 1 of the initramfs and of the device, supervisor of containers, and client of a running init.

use std::process::ExitCode;

use gokrazy_init::{cli, stage1};

fn main() -> ExitCode {
    if stage1::is_stage1() {
        stage1::run();
    }
    cli::init()
}
