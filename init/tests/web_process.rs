//! The real program over loopback and its unix socket: passwords, crowds, slow and rude clients, addresses that
//! come and go.

#![cfg(feature = "web")]
#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test's failure is its purpose"
)]

mod web_support;

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use gokrazy_core::control::{End, Request};
use web_support::{
    FakeInit, Machine, PASSWORD, PATIENCE, Web, ask, ask_unix, basic, connect_unix, eventually,
};

#[test]
fn the_page_is_served_over_tcp_and_over_the_unix_socket() {
    let machine = Machine::new("serve");
    let init = FakeInit::start(&machine);
    let web = Web::start(&machine);
    assert_eq!(web.ask("GET", "/", &[], b"").status, 401);
    let page = web.get("/");
    assert_eq!(page.status, 200);
    assert!(page.text().contains("hello"));
    assert!(page.header("date").is_some());
    let json = web.ask(
        "GET",
        "/",
        &[
            ("Authorization", &basic("gokrazy", PASSWORD)),
            ("Accept", "application/json"),
        ],
        b"",
    );
    assert_eq!(json.header("content-type"), Some("application/json"));
    assert_eq!(ask_unix(&machine, "/").status, 200);
    let mode = fs::metadata(machine.folder.join("http.sock"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    let auth = basic("gokrazy", PASSWORD);
    let reboot = web.ask("POST", "/reboot", &[("Authorization", &auth)], b"");
    assert_eq!((reboot.status, &*reboot.text()), (200, "rebooting...\n"));
    assert_eq!(init.next(), Request::End { how: End::Reboot });
}

#[test]
fn wrong_passwords_are_answered_ever_later_and_lock_nobody_out() {
    let machine = Machine::new("guess");
    let web = Web::start(&machine);
    assert_eq!(web.get("/").status, 200);
    let wrong = basic("gokrazy", "wrong");
    let mut delays = Vec::new();
    for _ in 0..3 {
        let start = Instant::now();
        assert_eq!(
            web.ask("GET", "/", &[("Authorization", &wrong)], b"")
                .status,
            401
        );
        delays.push(start.elapsed());
    }
    assert!(delays[0] >= Duration::from_millis(200), "{delays:?}");
    assert!(delays[1] >= Duration::from_millis(400), "{delays:?}");
    assert!(delays[2] >= Duration::from_millis(800), "{delays:?}");
    // While guesses wait, who has shown the password before is served at once.
    let guesses: Vec<_> = (0..20)
        .map(|_| {
            let (stream, wrong) = (web.connect(), wrong.clone());
            thread::spawn(move || {
                ask(stream, "GET", "/", &[("Authorization", &wrong)], b"")
                    .unwrap()
                    .status
            })
        })
        .collect();
    let start = Instant::now();
    assert_eq!(web.get("/").status, 200);
    assert!(
        start.elapsed() < Duration::from_millis(1500),
        "{:?}",
        start.elapsed()
    );
    let statuses: Vec<u16> = guesses
        .into_iter()
        .map(|guess| guess.join().unwrap())
        .collect();
    assert!(
        statuses.iter().all(|status| [401, 429].contains(status)),
        "{statuses:?}"
    );
    assert!(
        statuses.contains(&401) && statuses.contains(&429),
        "{statuses:?}"
    );
    let metrics = web.get("/metrics").text();
    assert!(!metrics.contains("gokrazy_http_failed_logins_total 0\n"));
}

#[test]
fn without_a_usable_password_nobody_gets_in_over_tcp_and_root_still_does() {
    for (name, content) in [
        ("empty", Some("")),
        ("clear", Some(PASSWORD)),
        ("absent", None),
    ] {
        let machine = Machine::new(name);
        match content {
            Some(text) => machine.write("password", text),
            None => fs::remove_file(machine.folder.join("password")).unwrap(),
        }
        let web = Web::start(&machine);
        assert_eq!(web.get("/").status, 401, "{name}");
        let nothing = web.ask("GET", "/", &[("Authorization", &basic("gokrazy", ""))], b"");
        assert_eq!(nothing.status, 401, "{name}");
        assert_eq!(ask_unix(&machine, "/").status, 200, "{name}");
    }
}

#[test]
fn the_log_says_why_nobody_gets_in_and_a_new_password_is_in_force_at_once() {
    let machine = Machine::new("log");
    let good = fs::read_to_string(machine.folder.join("password")).unwrap();
    machine.write("password", "");
    let web = Web::with(
        &machine,
        &["--listen", "[::1]:0", "--listen", "127.0.0.1:0"],
    );
    assert_eq!(web.get("/").status, 401);
    machine.write("password", &good);
    assert_eq!(web.get("/").status, 200);
    web.wait_for_line("password read from");
    machine.write("password", "oops");
    assert_eq!(web.get("/").status, 401);
    let line = web.wait_for_line("nobody gets in over TCP");
    assert!(
        line.contains("PHC string") && !line.contains("oops"),
        "{line}"
    );
}

#[test]
fn two_hundred_clients_at_once_are_all_served() {
    let machine = Machine::new("crowd");
    let web = Web::start(&machine);
    let auth = basic("gokrazy", PASSWORD);
    assert_eq!(web.get("/").status, 200);
    let streams: Vec<TcpStream> = (0..200).map(|_| web.connect()).collect();
    let clients: Vec<_> = streams
        .into_iter()
        .map(|stream| {
            let auth = auth.clone();
            thread::spawn(move || {
                ask(stream, "GET", "/", &[("Authorization", &auth)], b"")
                    .map(|answer| answer.status)
            })
        })
        .collect();
    for client in clients {
        assert_eq!(client.join().unwrap().unwrap(), 200);
    }
}

#[test]
fn a_crowd_that_says_nothing_makes_room() {
    let machine = Machine::new("silent");
    let web = Web::start(&machine);
    let of_root = connect_unix(&machine);
    let mut crowd: Vec<TcpStream> = (0..400)
        .map(|_| {
            let mut stream = web.connect();
            // Half a head, as slow clients send it.
            let _ = stream.write_all(b"GET / HTTP/1.1\r\nHost: de");
            stream
        })
        .collect();
    // The first of the crowd had to go for the last; root, who came before it and has said nothing either, had not.
    let gone = crowd.first_mut().unwrap().read(&mut [0; 1]);
    assert!(matches!(gone, Ok(0) | Err(_)), "{gone:?}");
    let answer = ask(of_root, "GET", "/metrics", &[], b"").unwrap();
    assert_eq!(answer.status, 200);
    let start = Instant::now();
    assert_eq!(web.get("/").status, 200);
    assert!(start.elapsed() < PATIENCE, "{:?}", start.elapsed());
}

#[test]
fn a_head_that_never_ends_is_cut_off() {
    let machine = Machine::new("slow");
    let web = Web::start(&machine);
    let mut stream = web.connect();
    stream
        .set_read_timeout(Some(Duration::from_secs(40)))
        .unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\n").unwrap();
    let start = Instant::now();
    let mut rest = Vec::new();
    // A byte now and then does not help.
    let mut writer = stream.try_clone().unwrap();
    let drip = thread::spawn(move || {
        while writer.write_all(b"X").is_ok() && start.elapsed() < Duration::from_secs(40) {
            thread::sleep(Duration::from_millis(500));
        }
    });
    let _ = stream.read_to_end(&mut rest);
    let lasted = start.elapsed();
    assert!(
        lasted >= Duration::from_secs(10) && lasted < Duration::from_secs(35),
        "{lasted:?}"
    );
    drop(stream);
    drip.join().unwrap();
}

#[test]
fn garbage_is_answered_or_cut_off_and_never_fatal() {
    let machine = Machine::new("garbage");
    let mut web = Web::start(&machine);
    let long_line = [b"GET /".as_slice(), &[b'a'; 100_000], b" HTTP/1.1\r\n\r\n"].concat();
    let many_fields = {
        let mut head = b"GET / HTTP/1.1\r\n".to_vec();
        for n in 0..1000 {
            head.extend_from_slice(format!("X-{n}: y\r\n").as_bytes());
        }
        head.extend_from_slice(b"\r\n");
        head
    };
    let random: Vec<u8> = (0..5000_u32)
        .map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    let rude: [&[u8]; 9] = [
        b"\r\n\r\n",
        b"\0\0\0\0",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        &long_line,
        &many_fields,
        &random,
    ];
    for bytes in rude {
        let mut stream = web.connect();
        let _ = stream.write_all(bytes);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        assert!(
            !answer.starts_with(b"HTTP/1.1 200"),
            "{}",
            String::from_utf8_lossy(bytes)
        );
    }
    assert!(web.is_alive());
    assert_eq!(web.get("/").status, 200);
}

#[test]
fn a_request_that_does_not_name_its_host_once_is_refused() {
    let machine = Machine::new("host");
    let web = Web::start(&machine);
    let auth = basic("gokrazy", PASSWORD);
    for (version, hosts, status) in [
        ("1.1", "Host: device\r\n", "200"),
        ("1.1", "", "400"),
        ("1.1", "Host: device\r\nHost: evil.example\r\n", "400"),
        ("1.0", "", "200"),
        ("1.0", "Host: device\r\nHost: device\r\n", "400"),
    ] {
        let mut stream = web.connect();
        let head = format!(
            "GET / HTTP/{version}\r\n{hosts}Connection: close\r\nAuthorization: {auth}\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).unwrap();
        let answer = read_until(&mut stream, "\r\n");
        let want = format!("HTTP/{version} {status} ");
        assert!(answer.starts_with(&want), "{version} {hosts:?}: {answer}");
    }
}

#[test]
fn a_body_says_what_is_wrong_with_it() {
    let machine = Machine::new("framing");
    let web = Web::start(&machine);
    let auth = basic("gokrazy", PASSWORD);
    let long = "a".repeat(70_000);
    for (body, status) in [
        ("9\r\npath=none\r\n0\r\n\r\n", 404),
        ("no number\r\npath=none\r\n0\r\n\r\n", 400),
        (&*format!("11170\r\n{long}\r\n0\r\n\r\n"), 413),
    ] {
        let mut stream = web.connect();
        let head = format!(
            "POST /stop HTTP/1.1\r\nHost: device\r\nAuthorization: {auth}\r\nTransfer-Encoding: chunked\r\n\
             Content-Type: application/x-www-form-urlencoded\r\nConnection: close\r\n\r\n{body}"
        );
        let _ = stream.write_all(head.as_bytes());
        let answer = read_until(&mut stream, "\r\n");
        let want = format!("HTTP/1.1 {status} ");
        let begin = body.get(..9);
        assert!(answer.starts_with(&want), "{begin:?}: {answer}");
    }
}

#[test]
fn a_log_that_nobody_reads_ends_nothing() {
    let machine = Machine::new("unheard");
    let mut web = Web::start(&machine);
    web.stop_listening_to_its_log();
    for content in ["", "garbage", "", "garbage"] {
        machine.write("password", content);
        assert_eq!(web.get("/").status, 401);
    }
    assert!(web.is_alive());
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

#[test]
fn listeners_follow_the_addresses() {
    let machine = Machine::new("follow");
    let port = free_port();
    let web = Web::with(&machine, &["--port", &port.to_string()]);
    let answers = |host: &str| TcpStream::connect((host, port)).is_ok();
    // init has said nothing yet.
    assert!(answers("127.0.0.1") && !answers("127.0.0.2"));
    machine.write(
        "run/addresses",
        "private='127.0.0.2 127.0.0.3 fe80::1%no-such-interface'\n",
    );
    eventually("the new addresses are served", || {
        answers("127.0.0.2") && answers("127.0.0.3")
    });
    assert!(!answers("127.0.0.1"));
    machine.write("run/addresses", "private=127.0.0.3\npublic=127.0.0.2\n");
    eventually("a public address is not served", || {
        !answers("127.0.0.2") && answers("127.0.0.3")
    });
    machine.write("run/addresses", "garbage");
    eventually("garbage is as good as nothing", || {
        answers("127.0.0.1") && !answers("127.0.0.3")
    });
    web.wait_for_line("serving loopback only");
    machine.write("run/addresses", "private=127.0.0.2\n");
    eventually("the next file counts", || answers("127.0.0.2"));
    fs::remove_file(machine.folder.join("run/addresses")).unwrap();
    eventually("without a file loopback is served", || answers("127.0.0.1"));
}

#[test]
fn an_address_that_cannot_be_bound_yet_is_tried_again() {
    let machine = Machine::new("retry");
    let port = free_port();
    let blocker = TcpListener::bind(("127.0.0.2", port)).unwrap();
    machine.write("run/addresses", "private='127.0.0.1 127.0.0.2'\n");
    let web = Web::with(&machine, &["--port", &port.to_string()]);
    web.wait_for_line("trying again");
    drop(blocker);
    web.wait_for_line(&format!("listening on 127.0.0.2:{port}"));
}

#[test]
fn a_run_folder_that_comes_late_is_noticed() {
    let machine = Machine::new("late");
    fs::remove_dir_all(machine.run_dir()).unwrap();
    let port = free_port();
    let _web = Web::with(&machine, &["--port", &port.to_string()]);
    fs::create_dir_all(machine.run_dir()).unwrap();
    machine.write("run/addresses", "private=127.0.0.2\n");
    eventually("the late file counts", || {
        TcpStream::connect(("127.0.0.2", port)).is_ok()
    });
}

#[test]
fn a_stale_socket_is_replaced_and_a_served_one_is_not() {
    let machine = Machine::new("stale");
    let killed = Web::start(&machine);
    assert_eq!(ask_unix(&machine, "/").status, 200);
    drop(killed);
    assert!(machine.folder.join("http.sock").exists());
    let first = Web::start(&machine);
    assert_eq!(ask_unix(&machine, "/").status, 200);
    let second = Web::start(&machine);
    second.wait_for_line("http.sock: Address already in use");
    assert_eq!(second.get("/").status, 200);
    drop(first);
}

#[test]
fn a_file_that_is_no_socket_is_left_alone() {
    let machine = Machine::new("no-socket");
    machine.write("http.sock", "somebody's");
    let web = Web::start(&machine);
    web.wait_for_line("http.sock: Address already in use");
    assert_eq!(web.get("/").status, 200);
    let content = fs::read_to_string(machine.folder.join("http.sock"));
    assert_eq!(content.unwrap(), "somebody's");
}

/// Reads until `text` has come.
fn read_until(stream: &mut TcpStream, text: &str) -> String {
    let mut got = String::new();
    while !got.contains(text) {
        let mut bytes = [0; 4096];
        let length = stream.read(&mut bytes).unwrap();
        assert!(length > 0, "ended before {text:?}: {got}");
        got.push_str(&String::from_utf8_lossy(&bytes[..length]));
    }
    got
}

#[test]
fn a_log_is_followed_from_before_its_first_line_over_its_segments() {
    let machine = Machine::new("follow-log");
    let web = Web::start(&machine);
    let auth = basic("gokrazy", PASSWORD);
    let mut stream = web.connect();
    let head = format!(
        "GET /log?path=/user/hello&stream=both HTTP/1.1\r\nHost: device\r\n\
         Accept: text/event-stream\r\nAuthorization: {auth}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).unwrap();
    // The head comes at once, before anything is printed.
    let head = read_until(&mut stream, "\r\n\r\n");
    assert!(
        head.to_ascii_lowercase()
            .contains("content-type: text/event-stream"),
        "{head}"
    );
    machine.log("hello", 1, &["first"]);
    assert!(read_until(&mut stream, "data: first\n\n").contains("event: stdout\n"));
    machine.log("hello", 1, &["first", "!second"]);
    let second = read_until(&mut stream, "data: second\n\n");
    assert!(second.contains("event: stderr\nid: 1-"), "{second}");
    machine.log("hello", 2, &["third"]);
    read_until(&mut stream, "data: third\n\n");
}

#[test]
fn followers_are_bounded_and_forgotten_when_they_leave() {
    let machine = Machine::new("followers");
    machine.log("hello", 1, &["line"]);
    let web = Web::start(&machine);
    let auth = basic("gokrazy", PASSWORD);
    let follow = || {
        let mut stream = web.connect();
        let head = format!(
            "GET /log?path=hello&stream=both HTTP/1.1\r\nHost: device\r\nAuthorization: {auth}\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).unwrap();
        let status = read_until(&mut stream, "\r\n").contains(" 200 ");
        (stream, status)
    };
    let mut followers: Vec<_> = (0..32).map(|_| follow()).collect();
    assert!(followers.iter().all(|(_, ok)| *ok));
    assert!(!follow().1);
    followers.clear();
    eventually("one who left makes room", || follow().1);
}

#[test]
fn at_rest_it_sleeps() {
    let machine = Machine::new("rest");
    let web = Web::with(&machine, &["--port", &free_port().to_string()]);
    assert_eq!(web.get("/").status, 200);
    let switches = || {
        let status = fs::read_to_string(format!("/proc/{}/status", web.pid())).unwrap();
        status
            .lines()
            .find(|line| line.starts_with("voluntary_ctxt"))
            .unwrap()
            .to_owned()
    };
    // The thread that checked the password leaves after a second.
    thread::sleep(Duration::from_secs(3));
    let before = switches();
    thread::sleep(Duration::from_secs(3));
    assert_eq!(before, switches());
    let threads = fs::read_dir(format!("/proc/{}/task", web.pid()))
        .unwrap()
        .count();
    assert_eq!(threads, 1);
}

#[test]
fn flags_that_cannot_be_meant_are_refused_before_anything_is_done() {
    let run = |flags: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_web"))
            .args(flags)
            .output()
            .unwrap();
        (
            output.status.code(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        )
    };
    for flags in [
        &["--frobnicate"] as &[&str],
        &["--port", "0"],
        &["--listen", "nowhere"],
        &["--listen", "127.0.0.1:1", "--port", "80"],
        &["extra"],
    ] {
        assert_eq!(run(flags).0, Some(2), "{flags:?}");
    }
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let machine = Machine::new("taken");
    let socket = format!("--http-socket={}", machine.folder.join("s").display());
    let (code, log) = run(&[
        &socket,
        "--password-file=/nonexistent",
        "--listen",
        &address,
    ]);
    assert_eq!(code, Some(1));
    assert!(
        log.contains(&format!("listen on {address}: Address already in use")),
        "{log}"
    );
}
