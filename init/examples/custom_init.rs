//! A custom init: its services are code instead of a table.
//!
//! Try it: `unshare --pid --fork --mount-proc target/debug/examples/custom_init`, and in another terminal
//! `init ctl status --run-dir /tmp/custom-init`.

use std::process::ExitCode;

use gokrazy_init::service::{Restart, User};
use gokrazy_init::{Options, Service, supervise_services};

fn main() -> ExitCode {
    let clock = Service::new("clock", &["/bin/sh", "-c", "while date; do sleep 1; done"])
        .user(User::Id(0))
        .restart(Restart::Always);
    let greeter = Service::new("greeter", &["/bin/sh", "-c", "echo hello $NAME"])
        .user(User::Id(0))
        .env("NAME", "world");
    let options = Options {
        run_dir: std::env::var_os("RUN_DIR")
            .unwrap_or_else(|| "/tmp/custom-init".into())
            .into(),
        ..Options::default()
    };
    match supervise_services(vec![clock, greeter], options) {
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("custom_init: {error}");
            ExitCode::FAILURE
        }
    }
}
