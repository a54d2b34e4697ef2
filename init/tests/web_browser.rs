//! The page in a real browser, driven through WebDriver: what is shown, what stays fresh, what its buttons do, and
//! what the pages of other sites cannot.
//!
//! Needs Debian's packages `chromium` and `chromium-driver`; `cargo xtask setup` installs them.

#![cfg(feature = "web")]
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test's failure is its purpose"
)]

mod web_support;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use gokrazy_core::control::{End, Request};
use serde_json::{Value, json};
use web_support::{FakeInit, Machine, PASSWORD, Web, ask, eventually};

/// A browser, and the driver that leads it.
struct Browser {
    driver: Child,
    address: SocketAddr,
    session: String,
}

/// A telephone's screen.
const TELEPHONE: (u32, u32) = (360, 740);

impl Browser {
    fn start(telephone: bool) -> Self {
        let mut driver = Command::new("chromedriver")
            .arg("--port=0")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| {
                panic!("start chromedriver: {error}; install it: apt-get install chromium chromium-driver")
            });
        let mut lines = BufReader::new(driver.stdout.take().unwrap()).lines();
        let port = loop {
            let line = lines.next().expect_line();
            if let Some((_, port)) = line.split_once("started successfully on port ") {
                break port.trim_end_matches('.').parse().unwrap();
            }
        };
        // The pipe must be read to its end, or the driver stops.
        thread::spawn(move || lines.for_each(drop));
        let mut browser = Self {
            driver,
            address: SocketAddr::from(([127, 0, 0, 1], port)),
            session: String::new(),
        };
        let created = browser.call("POST", "/session", &capabilities(telephone));
        browser.session = format!("/session/{}", created["sessionId"].as_str().unwrap());
        browser
    }

    fn call(&self, method: &str, path: &str, body: &Value) -> Value {
        match self.try_call(method, path, body) {
            Ok(value) => value,
            Err(value) => panic!("{method} {path}: {value}"),
        }
    }

    fn try_call(&self, method: &str, path: &str, body: &Value) -> Result<Value, Value> {
        let stream = TcpStream::connect(self.address).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(60)))
            .unwrap();
        let body = if method == "POST" {
            body.to_string()
        } else {
            String::new()
        };
        let address = self.address.to_string();
        let headers = [("Content-Type", "application/json"), ("Host", &*address)];
        let answer = ask(stream, method, path, &headers, body.as_bytes());
        let answer = answer.map_err(|error| json!(error.to_string()))?;
        let value: Value =
            serde_json::from_slice(&answer.body).map_err(|_| json!(answer.text()))?;
        if answer.status == 200 {
            Ok(value["value"].clone())
        } else {
            Err(value["value"].clone())
        }
    }

    fn go(&self, url: &str) {
        self.call(
            "POST",
            &format!("{}/url", self.session),
            &json!({ "url": url }),
        );
    }

    fn path(&self) -> String {
        let url = self.call("GET", &format!("{}/url", self.session), &Value::Null);
        let url = url.as_str().unwrap().to_owned();
        url.splitn(4, '/')
            .nth(3)
            .map_or_else(String::new, |path| format!("/{path}"))
    }

    fn run(&self, script: &str) -> Value {
        let body = json!({ "script": script, "args": [] });
        self.call("POST", &format!("{}/execute/sync", self.session), &body)
    }

    fn text(&self) -> String {
        self.run("return document.body.innerText")
            .as_str()
            .unwrap()
            .to_owned()
    }

    fn click(&self, css: &str) {
        let body = json!({ "using": "css selector", "value": css });
        let element = self.call("POST", &format!("{}/element", self.session), &body);
        let id = element
            .as_object()
            .unwrap()
            .values()
            .next()
            .unwrap()
            .as_str()
            .unwrap()
            .to_owned();
        self.call(
            "POST",
            &format!("{}/element/{id}/click", self.session),
            &json!({}),
        );
    }

    /// Answers the question that the page asks, and returns it.
    fn answer(&self, answer: &str) -> String {
        let question = self.call("GET", &format!("{}/alert/text", self.session), &Value::Null);
        self.call(
            "POST",
            &format!("{}/alert/{answer}", self.session),
            &json!({}),
        );
        question.as_str().unwrap().to_owned()
    }

    #[track_caller]
    fn shows(&self, text: &str) {
        eventually(&format!("the page shows {text:?}"), || {
            self.text().contains(text)
        });
    }

    /// What the page's console says of errors since the last call.
    fn complaints(&self) -> Vec<String> {
        let body = json!({ "type": "browser" });
        let log = self.call("POST", &format!("{}/se/log", self.session), &body);
        log.as_array()
            .unwrap()
            .iter()
            .map(|entry| entry["message"].to_string())
            .collect()
    }
}

trait ExpectLine {
    fn expect_line(self) -> String;
}

impl ExpectLine for Option<std::io::Result<String>> {
    fn expect_line(self) -> String {
        self.unwrap_or_else(|| panic!("chromedriver ended at once"))
            .unwrap()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The driver takes the browser with it, if it is asked first.
        let _ = self.try_call("DELETE", &self.session.clone(), &Value::Null);
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}

fn capabilities(telephone: bool) -> Value {
    let mut options = json!({ "args": [
        "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
        "--disable-background-networking", "--disable-component-update", "--disable-sync",
        "--disable-dev-shm-usage", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",
    ]});
    if telephone {
        let (width, height) = TELEPHONE;
        options["mobileEmulation"] = json!({
            "deviceMetrics": { "width": width, "height": height, "pixelRatio": 2.0 }
        });
    }
    json!({ "capabilities": { "alwaysMatch": {
        "goog:chromeOptions": options,
        "goog:loggingPrefs": { "browser": "ALL" },
        "unhandledPromptBehavior": "ignore",
    }}})
}

fn url(address: SocketAddr, path: &str) -> String {
    let password = PASSWORD.replace(' ', "%20");
    format!("http://gokrazy:{password}@{address}{path}")
}

#[test]
fn the_page_lives_and_its_buttons_reach_init() {
    let machine = Machine::new("browser");
    let init = FakeInit::start(&machine);
    let web = Web::start(&machine);
    let browser = Browser::start(false);
    browser.go(&url(web.address, "/"));
    browser.shows("exit status 1");
    browser.run("window.sameDocument = true");

    // What changes on the device changes on the page, without a reload.
    machine.write(
        "run/service/hello",
        "name=hello\nstate=crash-loop\ncommand=/user/hello\nsince_ms=1\nrestarts=78\nlast_exit='signal 9 (KILL)'\n",
    );
    browser.shows("signal 9 (KILL)");
    assert_eq!(browser.run("return window.sameDocument === true"), true);
    machine.write(
        "run/boot",
        "build_id=b\nmodel=Pi\nmachine_id=m\nboot_id=x\nperm_problem='bad superblock'\n",
    );
    browser.shows("bad superblock");
    assert_eq!(browser.run("return document.scripts.length"), 1);
    assert_eq!(
        browser.run("return document.querySelectorAll('b').length"),
        0
    );

    browser.click("button[aria-label='Restart hello']");
    assert_eq!(
        init.next(),
        Request::Restart {
            name: "hello".to_owned()
        }
    );
    eventually("the service is shown", || {
        browser.path() == "/status?path=hello"
    });

    shows_output(&browser, &machine);
    browser.click("button[aria-label='Stop hello']");
    assert_eq!(browser.answer("dismiss"), "Stop hello?");
    init.assert_idle();
    browser.click("button[aria-label='Stop hello']");
    browser.answer("accept");
    assert_eq!(
        init.next(),
        Request::Stop {
            name: "hello".to_owned()
        }
    );
    assert_eq!(browser.complaints(), [""; 0]);
}

/// Output appears as it is printed, and stays text.
fn shows_output(browser: &Browser, machine: &Machine) {
    machine.log("hello", 1, &["first line", "<img src=x onerror=alert(1)>"]);
    browser.shows("first line");
    machine.log(
        "hello",
        1,
        &[
            "first line",
            "<img src=x onerror=alert(1)>",
            "!and an error",
        ],
    );
    browser.shows("and an error");
    assert_eq!(
        browser.run("return document.querySelectorAll('#log img').length"),
        0
    );
}

#[test]
fn after_a_reboot_the_page_returns_by_itself() {
    let machine = Machine::new("return");
    let init = FakeInit::start(&machine);
    let web = Web::start(&machine);
    let address = web.address;
    let browser = Browser::start(false);
    browser.go(&url(address, "/"));
    browser.click("summary");
    browser.click("form[action='/reboot'] button");
    browser.answer("accept");
    assert_eq!(init.next(), Request::End { how: End::Reboot });
    browser.shows("Rebooting");
    drop(web);
    browser.shows("waiting for the device");
    let _web = Web::with(&machine, &["--listen", &address.to_string()]);
    eventually("the overview is back", || {
        browser.path() == "/" && browser.text().contains("hello")
    });
}

#[test]
fn output_goes_on_after_a_reboot() {
    let machine = Machine::new("output");
    machine.log("hello", 1, &["of the first boot"; 100]);
    let web = Web::start(&machine);
    let address = web.address;
    let browser = Browser::start(false);
    browser.go(&url(address, "/status?path=hello"));
    browser.shows("of the first boot");
    drop(web);
    browser.shows("no answer");
    // A log in memory begins anew; it is shorter than where the page has got to.
    machine.log("hello", 1, &["of the second boot"]);
    let _web = Web::with(&machine, &["--listen", &address.to_string()]);
    browser.shows("of the second boot");
}

#[test]
fn pages_of_other_sites_reach_nothing() {
    let machine = Machine::new("evil");
    let init = FakeInit::start(&machine);
    let web = Web::start(&machine);
    let browser = Browser::start(false);
    let target = url(web.address, "/reboot");
    let evil = TcpListener::bind("127.0.0.1:0").unwrap();
    let evil_address = evil.local_addr().unwrap();
    let page = format!(
        "<form id=f method=post action='{target}'></form><script>\
         fetch('http://{}/poweroff', {{method: 'POST', mode: 'no-cors', credentials: 'include'}})\
         .catch(() => {{}}).finally(() => f.submit())</script>",
        web.address
    );
    thread::spawn(move || serve_page(&evil, &page));
    // The browser knows the password, as a user's would.
    browser.go(&url(web.address, "/"));
    browser.shows("hello");
    browser.go(&format!("http://{evil_address}/"));
    browser.shows("refused, since the request may come from another site's page");
    assert_eq!(browser.path(), "/reboot");
    init.assert_idle();
    // The same requests from our own page are what its buttons do.
    browser.go(&url(web.address, "/"));
    let status =
        browser.run("return fetch(location.origin + '/poweroff', {method: 'POST'}).then(answer => answer.status)");
    assert_eq!(status, 200);
    assert_eq!(init.next(), Request::End { how: End::PowerOff });
}

fn serve_page(listener: &TcpListener, page: &str) {
    for stream in listener.incoming() {
        let mut stream = stream.unwrap();
        let _ = stream.read(&mut [0; 4096]);
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
            page.len()
        );
        let _ = stream.write_all(format!("{head}{page}").as_bytes());
    }
}

#[test]
fn a_telephone_shows_all_of_it_without_scrolling_sideways() {
    let machine = Machine::new("telephone");
    machine.write(
        "run/addresses",
        "private='127.0.0.1 fe80::1234:5678:9abc:def0%eth0 fd00:1234:5678:9abc:def0:1234:5678:9abc'\n",
    );
    machine.log("hello", 1, &[&"unbroken".repeat(100)]);
    let web = Web::start(&machine);
    let browser = Browser::start(true);
    for path in ["/", "/status?path=hello"] {
        browser.go(&url(web.address, path));
        browser.shows("hello");
        let width = browser.run("return document.documentElement.scrollWidth");
        assert_eq!(width, TELEPHONE.0, "{path}");
        // Fingers need room, and readers of screens need names.
        let small = browser.run(
            "return [...document.querySelectorAll('button')].filter(b => b.checkVisibility() \
             && (b.getBoundingClientRect().height < 40 || !(b.ariaLabel || b.innerText).trim())).length",
        );
        assert_eq!(small, 0, "{path}");
    }
}

#[test]
fn a_page_that_nobody_sees_asks_for_nothing() {
    let machine = Machine::new("hidden");
    let web = Web::start(&machine);
    let browser = Browser::start(false);
    browser.go(&url(web.address, "/"));
    browser.shows("live");
    let first = browser.call("GET", &format!("{}/window", browser.session), &Value::Null);
    let tab = json!({ "type": "tab" });
    let other = browser.call("POST", &format!("{}/window/new", browser.session), &tab);
    browser.call(
        "POST",
        &format!("{}/window", browser.session),
        &json!({ "handle": other["handle"] }),
    );
    let hidden = || {
        let requests = web.get("/metrics").text();
        let line = requests
            .lines()
            .find(|line| line.starts_with("gokrazy_http_requests_total"));
        line.unwrap()
            .rsplit(' ')
            .next()
            .unwrap()
            .parse::<u64>()
            .unwrap()
    };
    // A refresh may be under way.
    thread::sleep(Duration::from_secs(1));
    let (before, start) = (hidden(), Instant::now());
    thread::sleep(Duration::from_secs(5));
    let after = hidden();
    assert!(
        after <= before + 1,
        "{} requests in {:?}",
        after - before - 1,
        start.elapsed()
    );
    browser.call(
        "POST",
        &format!("{}/window", browser.session),
        &json!({ "handle": first }),
    );
}
