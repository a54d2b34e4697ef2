//! What applications use, by the names at the root of the crate, on a machine that is no gokrazy device.

use std::process::Command;

use gokrazy_core::boot::BootReport;
use gokrazy_core::dont_start_on_boot::FIRST_START;
use gokrazy_core::wait_for::Condition;
use gokrazy_core::{
    HTTP_UNIX_SOCKET, boot, dont_start_on_boot, exit, is_in_private_net, machine_id, model,
    private_interface_addrs, public_interface_addrs, read_sbom, wait_for, wait_for_clock,
};

/// Set for a copy of this program that plays an application.
const PLAY: &str = "GC_PLAYS_AN_APPLICATION";

#[test]
fn an_application_that_is_to_be_started_by_hand() {
    if std::env::var_os(PLAY).is_some() {
        return dont_start_on_boot();
    }
    let status = |first: &str| {
        let mut application = Command::new(std::env::current_exe().unwrap());
        application.args(["--exact", "an_application_that_is_to_be_started_by_hand"]);
        let output = application.env(PLAY, "1").env(FIRST_START, first).output();
        output.unwrap().status.code()
    };
    assert_eq!(status("1"), Some(i32::from(exit::DO_NOT_SUPERVISE)));
    assert_eq!(status("0"), Some(0));
}

#[test]
fn addresses_are_private_or_public_and_never_both() {
    let (private, public) = (
        private_interface_addrs().unwrap(),
        public_interface_addrs().unwrap(),
    );
    assert!(
        private.iter().any(|address| address == "127.0.0.1"),
        "{private:?}"
    );
    assert!(private.iter().all(|address| !public.contains(address)));
    assert!(is_in_private_net("192.168.1.2".parse().unwrap()));
    assert!(!is_in_private_net("192.0.2.1".parse().unwrap()));
}

#[test]
fn a_machine_has_a_model_and_perhaps_an_id() {
    assert!(!model().is_empty());
    let is_id = |id: &String| id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    assert!(machine_id().as_ref().is_none_or(is_id));
}

#[test]
fn an_image_without_a_bill_of_materials_is_named() {
    let error = read_sbom().unwrap_err();
    assert_eq!(error.to_string(), "read /etc/gokrazy/sbom.json");
}

/// `localhost` resolves without a network; the clock, which may never be synchronised here, has tests of its own.
#[test]
fn who_waits_for_what_holds_goes_on() {
    wait_for(&[]);
    wait_for(&[Condition::NetOnline("localhost".to_owned())]);
    let _: fn() = wait_for_clock;
}

#[test]
fn the_rest_is_there() {
    let _: fn() -> BootReport = boot;
    assert_eq!(HTTP_UNIX_SOCKET, "/run/gokrazy-http.sock");
}
