//! What signals to init do.

mod common;

use common::{Init, sh, write};
use nix::sys::signal::Signal;

#[test]
fn hup_starts_what_is_new_stops_what_is_gone_and_leaves_the_rest_alone() {
    let sleeper = |name: &str, more: &str| sh(name, "echo up $X; exec sleep 1000", more);
    let old = sleeper("keep", "") + &sleeper("other", "env = { X = '1' }") + &sleeper("goes", "");
    let mut init = Init::start("hup", &old);
    let pid = |name: &str| init.until_state(name, "running")["pid"].clone();
    let (keep, other) = (pid("keep"), pid("other"));
    pid("goes");
    let new = sleeper("fresh", "") + &sleeper("other", "env = { X = '2' }") + &sleeper("keep", "");
    write(&init.folder.join("services.toml"), &new);
    init.signal(Signal::SIGHUP);
    init.until_state("fresh", "running");
    init.until_logged("other", "up 2");
    init.until("the one that goes to be forgotten", || {
        (init.ctl(&["status", "goes"]).status.code() == Some(4)).then_some(())
    });
    assert!(!init.run_dir().join("service/goes").exists());
    assert_eq!(init.ctl(&["start", "goes"]).status.code(), Some(4));
    assert_eq!(pid("keep"), keep);
    assert_ne!(pid("other"), other);
    assert!(init.console().contains("1 added, 1 changed, 1 removed"));

    // Half of a table: nothing is removed, and what is there lives on.
    write(
        &init.folder.join("services.toml"),
        &(sleeper("keep", "") + "[[service]]\nname = 'fre"),
    );
    init.signal(Signal::SIGHUP);
    init.until("the reason", || {
        init.console()
            .contains("no service is removed")
            .then_some(())
    });
    assert_eq!(init.state("fresh"), "running");
    assert_eq!(pid("keep"), keep);

    // What is passed over of tables that can be read keeps nobody alive.
    let faults = "colour = 'red'\n".to_owned() + &sleeper("keep", "") + &sh("logd", "", "");
    write(
        &init.folder.join("services.toml"),
        &(sleeper("keep", "") + &faults),
    );
    init.signal(Signal::SIGHUP);
    init.until("the one that is not named to go", || {
        (init.ctl(&["status", "fresh"]).status.code() == Some(4)).then_some(())
    });
    assert!(init.console().contains("colour") && init.console().contains("is taken"));
    assert_eq!(pid("keep"), keep);

    // One that went may come back, with its log.
    write(&init.folder.join("services.toml"), &old);
    init.signal(Signal::SIGHUP);
    init.until("it to be known again", || {
        init.ctl(&["status", "goes"]).status.success().then_some(())
    });
    init.until("its second line", || {
        (init.log("goes").len() == 2).then_some(())
    });
    init.signal(Signal::SIGTERM);
    assert_eq!(init.wait(), Some(0));
}

#[test]
fn each_signal_that_ends_a_run_ends_it_in_order() {
    for signal in [
        Signal::SIGINT,
        Signal::SIGUSR1,
        Signal::SIGUSR2,
        Signal::SIGPWR,
    ] {
        let mut init = Init::start(
            &format!("end-{}", signal as i32),
            &sh("a", "exec sleep 1000", ""),
        );
        init.until_state("a", "running");
        init.signal(signal);
        assert_eq!(init.wait(), Some(0), "{signal}");
        let word = signal.as_str().trim_start_matches("SIG");
        let console = init.console();
        assert!(
            console.contains(&format!("then exit: signal {word}")),
            "{console}"
        );
        assert!(console.contains("all services have stopped"), "{console}");
    }
}
