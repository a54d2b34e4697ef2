//! The real program told to end: what is under way is finished, and nobody holds the end up.

#![cfg(feature = "web")]
#![expect(clippy::unwrap_used, reason = "a test's failure is its purpose")]

mod web_support;

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use gokrazy_core::control::{End, Request};
use nix::sys::signal::Signal;
use web_support::{FakeInit, Machine, PASSWORD, Web, ask, basic};

/// Sends a request and reads the beginning of the answer's head.
fn begin(web: &Web, path: &str) -> TcpStream {
    let mut stream = web.connect();
    let auth = basic("gokrazy", PASSWORD);
    let head = format!("GET {path} HTTP/1.1\r\nHost: device\r\nAuthorization: {auth}\r\n\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    let mut status = [0; 12];
    stream.read_exact(&mut status).unwrap();
    assert_eq!(&status, b"HTTP/1.1 200");
    stream
}

fn rest(mut stream: TcpStream) -> String {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    String::from_utf8_lossy(&bytes).into_owned()
}

#[test]
fn whoever_asked_for_a_reboot_is_told_that_it_comes() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let machine = Machine::new("end-answer");
        machine.log("hello", 1, &["line"]);
        let init = FakeInit::start(&machine);
        let mut web = Web::start(&machine);
        let follower = begin(&web, "/log?path=hello&stream=both");
        let idle = web.connect();
        let held = init.hold();
        thread::scope(|scope| {
            let auth = basic("gokrazy", PASSWORD);
            let stream = web.connect();
            let asked = scope.spawn(move || {
                let auth = ("Authorization", &*auth);
                ask(stream, "POST", "/reboot", &[auth], b"").unwrap()
            });
            assert_eq!(init.next(), Request::End { how: End::Reboot });
            web.signal(signal);
            // The streams end, in order, and so does a connection that has asked nothing.
            assert!(rest(follower).ends_with("\r\n0\r\n\r\n"));
            assert_eq!(rest(idle), "");
            drop(held);
            let answer = asked.join().unwrap();
            assert_eq!((answer.status, &*answer.text()), (200, "rebooting...\n"));
        });
        assert_eq!(web.wait_for_end().code(), Some(0));
    }
}

#[test]
fn a_flood_of_one_stream_holds_neither_the_page_nor_its_end_up() {
    let machine = Machine::new("end-flood");
    machine.log("hello", 1, &["line"]);
    let mut web = Web::start(&machine);
    let follower = begin(&web, "/log?path=hello&stream=stderr");
    let flooding = AtomicBool::new(true);
    let folder = machine.run_dir().join("log/hello");
    thread::scope(|scope| {
        // As logd does, but faster than anybody reads: there is always more, until the page is gone.
        scope.spawn(|| {
            let text = "1.0 2026-11-25T16:15:05.123Z out 6 line\n".repeat(20_000);
            let path = |number: u32| folder.join(format!("{number:010}.log"));
            for number in 2..6_000_u32 {
                if !flooding.load(Ordering::Relaxed) {
                    break;
                }
                machine.write(&format!("run/log/hello/{number:010}.log"), &text);
                let _ = fs::remove_file(path(number.saturating_sub(8)));
                thread::sleep(Duration::from_millis(1));
            }
        });
        drop(begin(&web, "/api/v1/services/hello/log?lines=1"));
        web.signal(Signal::SIGTERM);
        assert_eq!(web.wait_for_end().code(), Some(0));
        flooding.store(false, Ordering::Relaxed);
    });
    drop(follower);
}

#[test]
fn a_client_that_does_not_read_holds_nothing_up() {
    let machine = Machine::new("end-slow");
    // More than the kernel keeps for a connection.
    let line = "x".repeat(8000);
    for segment in 1..=8 {
        machine.log("hello", segment, &[&*line; 256]);
    }
    let mut web = Web::start(&machine);
    let deaf = begin(&web, "/api/v1/services/hello/log");
    web.signal(Signal::SIGTERM);
    assert_eq!(web.wait_for_end().code(), Some(0));
    drop(deaf);
}
