//! DHCPv6 in scripts of time.

use super::*;
use crate::message::v6::Granted;

struct Least;
impl Chance for Least {
    fn draw(&mut self) -> u32 {
        0
    }
}

struct Script {
    machine: Machine6,
    now: Moment,
    log: Vec<String>,
}

fn address() -> Ipv6Addr {
    "2001:db8::17".parse().unwrap()
}

impl Script {
    fn new(advice: Advice) -> Self {
        let mut machine = Machine6::default();
        machine.on_advice(advice, Moment::from_secs(0), &mut Least);
        Self {
            machine,
            now: Moment::from_secs(0),
            log: Vec::new(),
        }
    }

    fn note(&mut self, actions: Vec<Action>) {
        for action in actions {
            let at = self.now.as_millis() / 1000;
            match action {
                Action::Send(request) => self.log.push(format!("{at} {:?}", request.kind)),
                Action::Changed => self.log.push(format!("{at} changed")),
                Action::Log(_) => {}
            }
        }
    }

    fn until(&mut self, seconds: u64) -> &mut Self {
        let end = Moment::from_secs(seconds);
        let mut turns = 0;
        while let Some(at) = self.machine.deadline().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            let actions = self.machine.on_deadline(self.now, &mut Least);
            self.note(actions);
            turns += 1;
            assert!(turns < 10_000, "the machine spins");
        }
        self.now = end;
        self
    }

    fn reply(&mut self, is_advertisement: bool, granted: Option<Granted>) {
        let reply = Reply {
            is_advertisement,
            xid: self.machine.awaited().unwrap_or_default(),
            server: vec![9],
            preference: 0,
            granted,
            dns: vec!["2001:db8::53".parse().unwrap()],
            search: Vec::new(),
            refresh: None,
        };
        let actions = self.machine.on_reply(reply, self.now, &mut Least);
        self.note(actions);
    }

    #[track_caller]
    fn check(&mut self, want: &[&str]) {
        assert_eq!(std::mem::take(&mut self.log), want);
    }

    fn bound() -> Self {
        let mut script = Self::new(Advice::Address);
        script.until(0);
        script.reply(true, Some(grant(1000)));
        script.until(1);
        script.reply(false, Some(grant(1000)));
        script.log.clear();
        script
    }
}

fn grant(valid: u32) -> Granted {
    Granted {
        address: address(),
        preferred: valid,
        valid,
        t1: 0,
        t2: 0,
    }
}

#[test]
fn settings_are_asked_for_and_refreshed_daily() {
    let mut script = Script::new(Advice::Settings);
    script
        .until(4)
        .check(&["0 Information", "1 Information", "2 Information"]);
    script.reply(false, None);
    script.check(&["4 changed"]);
    assert_eq!(script.machine.dns().len(), 1);
    script.until(86_404).check(&["86404 Information"]);
}

#[test]
fn the_best_offer_of_the_first_second_is_requested() {
    let mut script = Script::new(Advice::Address);
    script.until(0).check(&["0 Solicit"]);
    script.reply(true, Some(grant(1000)));
    script.check(&[]);
    script.until(1).check(&["1 Request"]);
    script.reply(false, Some(grant(1000)));
    script.check(&["1 changed"]);
    assert_eq!(
        script.machine.address().map(|held| held.address),
        Some(address())
    );
}

#[test]
fn a_lease_is_renewed_rebound_and_over() {
    let mut script = Script::bound();
    script.until(500).check(&[]);
    script.until(520).check(&["501 Renew", "511 Renew"]);
    script.until(801);
    script.log.clear();
    script.until(1001);
    assert_eq!(script.log.last().map(String::as_str), Some("1001 Solicit"));
    assert!(script.log.contains(&"1001 changed".to_owned()));
    assert_eq!(script.machine.address(), None);
}

#[test]
fn a_renewed_lease_goes_on() {
    let mut script = Script::bound();
    script.until(501);
    script.log.clear();
    script.reply(false, Some(grant(1000)));
    script.until(1000).check(&["501 changed"]);
    script.until(1001).check(&["1001 Renew"]);
}

#[test]
fn a_taken_address_is_declined() {
    let mut script = Script::bound();
    let actions = script.machine.on_duplicate(script.now, &mut Least);
    script.note(actions);
    script.check(&["1 Decline", "1 changed"]);
    script.until(11).check(&["11 Solicit"]);
}

#[test]
fn stopping_releases_if_asked() {
    let mut script = Script::bound();
    let actions = script.machine.on_stop(true, &mut Least);
    script.note(actions);
    script.check(&["1 Release", "1 changed"]);
    assert_eq!(script.machine.deadline(), None);
}

#[test]
fn a_returned_link_is_followed_by_a_rebind() {
    let mut script = Script::bound();
    script.machine.on_link_down();
    script.until(100).check(&[]);
    script
        .machine
        .on_advice(Advice::Address, script.now, &mut Least);
    script.until(100).check(&["100 Rebind"]);
}

#[test]
fn ten_requests_are_enough() {
    let mut script = Script::new(Advice::Address);
    script.until(0);
    script.reply(true, Some(grant(1000)));
    script.until(400);
    let requests = script
        .log
        .iter()
        .filter(|line| line.ends_with("Request"))
        .count();
    assert_eq!(requests, 10);
    assert!(
        script
            .log
            .iter()
            .filter(|line| line.ends_with("Solicit"))
            .count()
            > 1
    );
}

#[test]
fn replies_out_of_turn_change_nothing() {
    let mut script = Script::new(Advice::Address);
    script.until(0);
    script.log.clear();
    script.reply(false, Some(grant(1000)));
    script.check(&[]);
    assert_eq!(script.machine.address(), None);
}

#[test]
fn times_are_sane() {
    let held = hold(
        &Granted {
            t1: 5000,
            t2: 6000,
            ..grant(1000)
        },
        Moment::from_secs(0),
    );
    assert_eq!(
        (held.renew, held.rebind),
        (Some(Moment::from_secs(500)), Some(Moment::from_secs(800)))
    );
    let endless = hold(&grant(u32::MAX), Moment::from_secs(0));
    assert_eq!((endless.renew, endless.valid_until), (None, None));
}
