//! DHCPv6 in scripts of time.

use super::*;
use crate::message::v6::{Granted, Refusal, Reply};

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

    fn take(&mut self, reply: Reply) {
        let xid = self.machine.awaited().unwrap_or_default();
        let reply = Reply { xid, ..reply };
        let actions = self.machine.on_reply(reply, self.now, &mut Least);
        self.note(actions);
    }

    fn advertise(&mut self, granted: Result<Granted, Refusal>) {
        self.take(Reply {
            is_advertisement: true,
            ..reply(granted)
        });
    }

    fn reply(&mut self, granted: Result<Granted, Refusal>) {
        self.take(reply(granted));
    }

    fn advise(&mut self, advice: Advice) {
        self.machine.on_advice(advice, self.now, &mut Least);
    }

    /// The seconds at which it sends `kind` until `end`.
    fn moments(&mut self, kind: &str, end: u64) -> Vec<u64> {
        self.log.clear();
        self.until(end);
        let lines = self.log.iter().filter_map(|line| line.split_once(' '));
        let sent = lines.filter(|(_, what)| *what == kind);
        sent.map(|(at, _)| at.parse().unwrap()).collect()
    }

    #[track_caller]
    fn check(&mut self, want: &[&str]) {
        assert_eq!(std::mem::take(&mut self.log), want);
    }

    fn bound() -> Self {
        let mut script = Self::new(Advice::Address);
        script.until(0);
        script.advertise(Ok(grant(1000)));
        script.until(2);
        script.reply(Ok(grant(1000)));
        script.log.clear();
        script
    }
}

fn reply(granted: Result<Granted, Refusal>) -> Reply {
    Reply {
        is_advertisement: false,
        xid: [0; 3],
        server: vec![9],
        preference: 0,
        granted,
        dns: vec!["2001:db8::53".parse().unwrap()],
        search: Vec::new(),
        refresh: None,
        solicit_most: None,
        inform_most: None,
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
        .check(&["0 Information", "0 Information", "2 Information"]);
    script.reply(Err(Refusal::Absent));
    script.check(&["4 changed"]);
    assert_eq!(script.machine.dns().len(), 1);
    script.until(86_404).check(&["86404 Information"]);
}

#[test]
fn servers_choose_the_refresh_time_above_ten_minutes() {
    for (refresh, again) in [(Some(0), 600), (Some(7200), 7200), (Some(u32::MAX), 0)] {
        let mut script = Script::new(Advice::Settings);
        script.until(0);
        script.take(Reply {
            refresh,
            ..reply(Err(Refusal::Absent))
        });
        let first = script.moments("Information", 100_000).first().copied();
        assert_eq!(first.unwrap_or_default(), again, "{refresh:?}");
    }
}

#[test]
fn a_failed_information_request_goes_on() {
    let mut script = Script::new(Advice::Settings);
    script.until(0);
    script.reply(Err(Refusal::Other));
    assert!(script.machine.dns().is_empty() && script.machine.awaited().is_some());
}

#[test]
fn the_best_offer_of_the_first_second_is_requested() {
    let mut script = Script::new(Advice::Address);
    script.until(0).check(&["0 Solicit"]);
    script.advertise(Ok(grant(1000)));
    let rival = Granted {
        address: "2001:db8::99".parse().unwrap(),
        ..grant(1000)
    };
    script.take(Reply {
        is_advertisement: true,
        preference: 7,
        server: vec![7],
        ..reply(Ok(rival))
    });
    script.check(&[]);
    script.until(2).check(&["1 Request", "1 Request"]);
    script.reply(Ok(rival));
    script.check(&[]);
    script.take(Reply {
        server: vec![7],
        ..reply(Ok(rival))
    });
    script.check(&["2 changed"]);
    let held = script.machine.address().map(|held| held.address);
    assert_eq!(held, Some(rival.address));
}

#[test]
fn the_highest_preference_is_requested_at_once() {
    let mut script = Script::new(Advice::Address);
    script.until(0);
    script.take(Reply {
        is_advertisement: true,
        preference: 255,
        ..reply(Ok(grant(1000)))
    });
    script.check(&["0 Solicit", "0 Request"]);
}

#[test]
fn the_first_wait_for_offers_is_longer_than_a_second() {
    let mut script = Script::new(Advice::Address);
    script.until(0);
    assert_eq!(script.machine.deadline(), Some(Moment::from_millis(1001)));
}

#[test]
fn servers_choose_the_longest_waits_even_when_they_refuse() {
    let longest = |most: Option<u32>| {
        let mut script = Script::new(Advice::Address);
        script.until(0);
        script.take(Reply {
            is_advertisement: true,
            solicit_most: most,
            ..reply(Err(Refusal::Other))
        });
        let sent = script.moments("Solicit", 40_000);
        let gaps = sent.windows(2).map(|pair| pair[1] - pair[0]);
        gaps.max().unwrap_or_default()
    };
    assert!((3240..=3240).contains(&longest(None)));
    assert_eq!(longest(Some(60)), 54);
    assert_eq!(longest(Some(7200)), 6480);
    let mut script = Script::new(Advice::Settings);
    script.until(0);
    script.take(Reply {
        inform_most: Some(60),
        ..reply(Err(Refusal::Other))
    });
    let sent = script.moments("Information", 10_000);
    assert!(sent.len() > 150, "{sent:?}");
    script.machine.on_link_down();
    assert_eq!(script.machine.inform_most, LONGEST_WAIT);
}

#[test]
fn a_lease_is_renewed_rebound_and_over() {
    let mut script = Script::bound();
    script.until(501).check(&[]);
    script.until(520).check(&["502 Renew", "511 Renew"]);
    assert_eq!(script.moments("Rebind", 1000)[..2], [802, 811]);
    script.until(1002);
    assert_eq!(script.log.last().map(String::as_str), Some("1002 Solicit"));
    assert!(script.log.contains(&"1002 changed".to_owned()));
    assert_eq!(script.machine.address(), None);
    assert!(script.machine.dns().is_empty());
}

#[test]
fn a_renewed_lease_goes_on() {
    let mut script = Script::bound();
    script.until(502);
    script.log.clear();
    script.reply(Ok(grant(1000)));
    script.until(1001).check(&["502 changed"]);
    script.until(1002).check(&["1002 Renew"]);
}

#[test]
fn a_renewal_that_speaks_of_no_address_is_none() {
    for refusal in [Refusal::Absent, Refusal::Other] {
        let mut script = Script::bound();
        script.until(502).check(&["502 Renew"]);
        script.reply(Err(refusal));
        script.until(512).check(&["511 Renew"]);
        assert!(script.machine.address().is_some());
    }
}

#[test]
fn a_server_that_lost_the_lease_is_asked_for_it_anew() {
    let mut script = Script::bound();
    script.until(802);
    script.log.clear();
    script.reply(Err(Refusal::NoBinding));
    script.check(&["802 Request"]);
    script.reply(Ok(grant(1000)));
    script.check(&["802 changed"]);
    script.until(1302).check(&["1302 Renew"]);
    script.reply(Err(Refusal::NoBinding));
    // Ten requests without an answer: any server will do until the end.
    let rebinds = script.moments("Rebind", 1700);
    assert!(!rebinds.is_empty() && script.machine.address().is_some());
}

#[test]
fn an_address_that_the_server_ends_is_given_up() {
    for refusal in [Refusal::Over, Refusal::NotOnLink] {
        let mut script = Script::bound();
        script.until(502);
        script.log.clear();
        script.reply(Err(refusal));
        script.check(&["502 changed"]);
        assert!(script.machine.address().is_none() && script.machine.dns().is_empty());
        script.until(503).check(&["503 Solicit"]);
    }
}

#[test]
fn refusals_are_met_with_growing_patience() {
    let mut script = Script::new(Advice::Address);
    let mut waits = Vec::new();
    for _ in 0..13 {
        script.now = script.machine.deadline().unwrap();
        let actions = script.machine.on_deadline(script.now, &mut Least);
        script.note(actions);
        script.take(Reply {
            is_advertisement: true,
            preference: 255,
            ..reply(Ok(grant(1000)))
        });
        script.reply(Err(Refusal::Other));
        waits.push(
            script
                .machine
                .deadline()
                .unwrap()
                .since(script.now)
                .as_secs(),
        );
    }
    assert_eq!(
        waits,
        [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 1800, 1800]
    );
}

#[test]
fn a_taken_address_is_declined_until_that_is_heard() {
    let mut script = Script::bound();
    let actions = script.machine.on_duplicate(script.now, &mut Least);
    script.note(actions);
    script.check(&["2 Decline", "2 changed"]);
    script
        .until(17)
        .check(&["2 Decline", "4 Decline", "8 Decline"]);
    script.until(27).check(&["25 Solicit", "26 Solicit"]);

    let mut script = Script::bound();
    let actions = script.machine.on_duplicate(script.now, &mut Least);
    script.note(actions);
    script.log.clear();
    script.reply(Err(Refusal::Absent));
    script.until(12).check(&["12 Solicit"]);
}

#[test]
fn a_nudge_renews_or_asks_at_once() {
    let nudge = |script: &mut Script| {
        script.log.clear();
        let actions = script.machine.on_renew(script.now, &mut Least);
        script.note(actions);
    };
    let mut bound = Script::bound();
    bound.until(100);
    nudge(&mut bound);
    bound.check(&["100 Renew"]);
    bound.reply(Ok(grant(1000)));
    bound.until(599).check(&["100 changed"]);
    bound.until(600).check(&["600 Renew"]);
    let mut informed = Script::new(Advice::Settings);
    informed.until(0);
    informed.reply(Err(Refusal::Absent));
    informed.until(50);
    nudge(&mut informed);
    informed.check(&["50 Information"]);
    let mut idle = Script::new(Advice::None);
    nudge(&mut idle);
    idle.until(1000).check(&[]);
}

#[test]
fn stopping_releases_if_asked() {
    let mut script = Script::bound();
    let actions = script.machine.on_stop(true, &mut Least);
    script.note(actions);
    script.check(&["2 Release", "2 changed"]);
    assert_eq!(script.machine.deadline(), None);
}

#[test]
fn a_returned_link_is_asked_about() {
    let returned = || {
        let mut script = Script::bound();
        assert!(script.machine.on_link_down().is_empty());
        script.until(100).check(&[]);
        script.advise(Advice::None);
        script.until(100).check(&["100 Confirm"]);
        script
    };
    let mut silent = returned();
    silent
        .until(501)
        .check(&["100 Confirm", "102 Confirm", "106 Confirm", "109 Confirm"]);
    silent.until(502).check(&["502 Renew"]);
    let mut confirmed = returned();
    confirmed.reply(Err(Refusal::Absent));
    confirmed.until(502).check(&["502 Renew"]);
    let mut elsewhere = returned();
    elsewhere.advise(Advice::Address);
    elsewhere.reply(Err(Refusal::NotOnLink));
    elsewhere.check(&["100 changed"]);
    elsewhere.until(101).check(&["101 Solicit"]);
}

#[test]
fn settings_do_not_outlive_their_link() {
    let mut script = Script::new(Advice::Settings);
    script.until(0);
    script.reply(Err(Refusal::Absent));
    assert_eq!(script.machine.on_link_down(), [Action::Changed]);
    assert!(script.machine.dns().is_empty() && script.machine.deadline().is_none());
}

#[test]
fn what_routers_no_longer_say_is_heeded_at_the_next_question() {
    let mut script = Script::new(Advice::Address);
    script.until(0).check(&["0 Solicit"]);
    script.advise(Advice::Settings);
    script.until(1).check(&[]);
    script.until(2).check(&["1 Information", "1 Information"]);
    script.advise(Advice::None);
    script.until(1000).check(&[]);
    assert_eq!(script.machine.deadline(), None);
    script.advise(Advice::Address);
    script.until(1000).check(&["1000 Solicit"]);
}

#[test]
fn settings_end_when_no_router_speaks_of_them_at_their_refresh() {
    let mut script = Script::new(Advice::Settings);
    script.until(0);
    script.reply(Err(Refusal::Absent));
    script.advise(Advice::None);
    script.until(86_399).check(&["0 Information", "0 changed"]);
    script.until(90_000).check(&["86400 changed"]);
    assert!(script.machine.dns().is_empty());
}

#[test]
fn routers_that_disagree_start_nothing_anew() {
    let mut script = Script::bound();
    script.advise(Advice::None);
    script.advise(Advice::Address);
    script.until(501).check(&[]);
    let mut script = Script::new(Advice::Settings);
    script.until(0);
    script.reply(Err(Refusal::Absent));
    script.log.clear();
    for _ in 0..10 {
        script.advise(Advice::None);
        script.advise(Advice::Settings);
    }
    script.until(1000).check(&[]);
}

#[test]
fn ten_requests_are_enough() {
    let mut script = Script::new(Advice::Address);
    script.until(0);
    script.advertise(Ok(grant(1000)));
    script.until(400);
    let count = |kind: &str| {
        let lines = script.log.iter().filter(|line| line.ends_with(kind));
        lines.count()
    };
    assert_eq!(count("Request"), 10);
    assert!(count("Solicit") > 1);
}

#[test]
fn replies_out_of_turn_change_nothing() {
    let mut script = Script::new(Advice::Address);
    script.until(0);
    script.log.clear();
    script.reply(Ok(grant(1000)));
    script.check(&[]);
    assert_eq!(script.machine.address(), None);
}

#[track_caller]
fn check_times(t1: u32, t2: u32, valid: u32, want: (u64, u64)) {
    let granted = Granted {
        t1,
        t2,
        ..grant(valid)
    };
    let held = hold(&granted, Moment::from_secs(0));
    let seconds = |moment: Option<Moment>| moment.unwrap().as_secs();
    assert_eq!((seconds(held.renew), seconds(held.rebind)), want);
}

#[test]
fn times_are_sane() {
    check_times(0, 0, 1000, (500, 800));
    check_times(5000, 6000, 1000, (500, 800));
    check_times(100, 200, 1000, (100, 200));
    check_times(900, 0, 1000, (900, 900));
    check_times(0, 300, 1000, (300, 300));
    check_times(0, 0, 1, (1, 1));
    let endless = hold(&grant(u32::MAX), Moment::from_secs(0));
    assert_eq!((endless.renew, endless.valid_until), (None, None));
}
