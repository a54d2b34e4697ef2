//! The machine in scripts of time, and against an adversary.

use std::time::Duration;

use gokrazy_core::lease::Ipv4;

use super::*;
use crate::conflict::{Check, Watch};
use crate::message::{Answer, Reply};
use crate::terms::Terms;

const MAC: [u8; 6] = [2, 0, 0, 0, 0, 7];
const OTHER: [u8; 6] = [2, 0, 0, 0, 0, 8];
const ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 17);
const ELSE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 99);
const SERVER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const RIVAL: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);

/// Draws 1000, the middle of ±1 s, so that waits are exact.
struct Middle;
impl Chance for Middle {
    fn draw(&mut self) -> u32 {
        1000
    }
}

fn profile() -> Profile {
    Profile {
        mac: MAC,
        check: Check::Off,
        rapid_commit: true,
        ipv6_only: true,
        remember: true,
        only_offer: false,
    }
}

fn terms(address: Ipv4Addr, server: Ipv4Addr, lease: u64) -> Box<Terms> {
    Box::new(Terms {
        ipv4: Ipv4 {
            routers: vec![SERVER],
            ..Ipv4::alone(address, 24)
        },
        server,
        lease: Some(Duration::from_secs(lease)),
        t1: None,
        t2: None,
    })
}

/// A machine, its time, and what it did, as short words.
struct Script {
    machine: Machine,
    now: Moment,
    log: Vec<String>,
}

impl Script {
    fn new(profile: Profile, memory: Memory) -> Self {
        let now = Moment::from_secs(0);
        Self {
            machine: Machine::new(profile, memory, now),
            now,
            log: Vec::new(),
        }
    }

    /// A client that is bound to [`ADDRESS`] for `lease` seconds since time 0.
    fn bound(lease: u64) -> Self {
        let mut script = Self::new(profile(), Memory::None);
        script.on(Event::LinkUp);
        script.reply(Answer::Offer(terms(ADDRESS, SERVER, lease)), SERVER);
        script.reply(Answer::Ack(terms(ADDRESS, SERVER, lease)), SERVER);
        script.take();
        script
    }

    fn on(&mut self, event: Event) {
        for action in self.machine.on(event, self.now, &mut Middle) {
            let word = word(&action);
            if !word.is_empty() {
                self.log
                    .push(format!("{} {word}", self.now.as_millis() / 1000));
            }
        }
    }

    fn reply(&mut self, answer: Answer, server: Ipv4Addr) {
        let xid = self.machine.awaited().unwrap_or_default();
        self.reply_with(answer, server, xid, false, None);
    }

    fn reply_with(
        &mut self,
        answer: Answer,
        server: Ipv4Addr,
        xid: u32,
        rapid_commit: bool,
        ipv6_only: Option<u64>,
    ) {
        self.on(Event::Reply(Reply {
            xid,
            server,
            answer,
            rapid_commit,
            ipv6_only: ipv6_only.map(Duration::from_secs),
        }));
    }

    /// Lets time pass until `seconds`, serving deadlines.
    fn until(&mut self, seconds: u64) -> &mut Self {
        let end = Moment::from_secs(seconds);
        while let Some(at) = self.machine.deadline().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.on(Event::Deadline);
            assert!(
                self.machine.deadline() != Some(at) || at > self.now,
                "no progress at {at:?}"
            );
        }
        self.now = end;
        self
    }

    fn take(&mut self) -> Vec<String> {
        std::mem::take(&mut self.log)
    }

    #[track_caller]
    fn check(&mut self, want: &[&str]) {
        assert_eq!(self.take(), want);
    }
}

/// An action as a word; log lines and the saved file are left out.
fn word(action: &Action) -> String {
    match action {
        Action::Send(request, route) => {
            let kind = match request.kind {
                Kind::Discover => "discover",
                Kind::Request => "request",
                Kind::Decline => "decline",
                Kind::Release => "release",
            };
            let mut text = kind.to_owned();
            if let Some(address) = request.requested {
                text += &format!(" want={address}");
            }
            if let Some(server) = request.server {
                text += &format!(" server={server}");
            }
            if !request.client.is_unspecified() {
                text += &format!(" client={}", request.client);
            }
            if request.secs > 0 {
                text += &format!(" secs={}", request.secs);
            }
            match route {
                Route::Broadcast(source) if source.is_unspecified() => {}
                Route::Broadcast(source) => text += &format!(" broadcast from {source}"),
                Route::Unicast(server) => text += &format!(" to {server}"),
            }
            text
        }
        Action::Arp(arp) if arp.sender.is_unspecified() => format!("probe {}", arp.target),
        Action::Arp(arp) => format!("announce {}", arp.target),
        Action::Configure(grant) => format!("configure {}", grant.terms.ipv4.address),
        Action::Withdraw(reason) => format!("withdraw {}", reason.as_str()),
        Action::Forget => "forget".to_owned(),
        Action::Show(terms) => format!("show {}", terms.ipv4.address),
        Action::Save(_) | Action::Log(_) => String::new(),
    }
}

#[test]
fn a_lease_from_nothing() {
    let mut script = Script::new(profile(), Memory::None);
    script.on(Event::LinkUp);
    script.reply(Answer::Offer(terms(ADDRESS, SERVER, 1000)), SERVER);
    script.reply(Answer::Ack(terms(ADDRESS, SERVER, 1000)), SERVER);
    script.until(10).check(&[
        "0 discover",
        "0 request want=192.0.2.17 server=192.0.2.1",
        "0 configure 192.0.2.17",
        "0 announce 192.0.2.17",
        "2 announce 192.0.2.17",
    ]);
}

#[test]
fn without_a_server_it_asks_for_ever_at_growing_intervals() {
    let mut script = Script::new(profile(), Memory::None);
    script.on(Event::LinkUp);
    script.until(260).check(&[
        "0 discover",
        "4 discover secs=4",
        "12 discover secs=12",
        "28 discover secs=28",
        "60 discover secs=60",
        "124 discover secs=124",
        "188 discover secs=188",
        "252 discover secs=252",
    ]);
    script.until(86_400 * 30);
    assert!(script.take().len() > 40_000);
}

#[test]
fn a_request_repeats_secs_and_is_given_up_after_a_minute() {
    let mut script = Script::new(profile(), Memory::None);
    script.on(Event::LinkUp);
    script.until(5);
    script.take();
    script.reply(Answer::Offer(terms(ADDRESS, SERVER, 1000)), SERVER);
    let request = "request want=192.0.2.17 server=192.0.2.1 secs=4";
    let at = |seconds: u64| format!("{seconds} {request}");
    script.until(66);
    assert_eq!(
        script.take(),
        [at(5), at(9), at(17), at(33), "65 discover".to_owned()]
    );
}

#[test]
fn renewing_is_unicast_and_rebinding_broadcast_until_the_end() {
    let mut script = Script::bound(1000);
    script.until(2).check(&["2 announce 192.0.2.17"]);
    script.until(499).check(&[]);
    script.until(1001).check(&[
        "500 request client=192.0.2.17 to 192.0.2.1",
        "687 request client=192.0.2.17 secs=187 to 192.0.2.1",
        "781 request client=192.0.2.17 secs=281 to 192.0.2.1",
        "841 request client=192.0.2.17 secs=341 to 192.0.2.1",
        "875 request client=192.0.2.17 broadcast from 192.0.2.17",
        "937 request client=192.0.2.17 secs=62 broadcast from 192.0.2.17",
        "997 request client=192.0.2.17 secs=122 broadcast from 192.0.2.17",
        "1000 withdraw expired",
        "1000 discover want=192.0.2.17",
    ]);
}

#[test]
fn a_renewed_lease_counts_from_its_request() {
    let mut script = Script::bound(1000);
    script.until(501);
    script.take();
    script.reply(Answer::Ack(terms(ADDRESS, SERVER, 1000)), SERVER);
    script.check(&["501 configure 192.0.2.17"]);
    script
        .until(1001)
        .check(&["1000 request client=192.0.2.17 to 192.0.2.1"]);
}

#[test]
fn an_endless_lease_is_left_alone() {
    let mut endless = terms(ADDRESS, SERVER, 0);
    endless.lease = None;
    let mut script = Script::new(profile(), Memory::None);
    script.on(Event::LinkUp);
    script.reply(Answer::Offer(endless.clone()), SERVER);
    script.reply(Answer::Ack(endless), SERVER);
    script.until(2);
    script.take();
    assert_eq!(script.machine.deadline(), None);
    script.until(86_400 * 3650).check(&[]);
    // Where someone asks for its renewal, an answer that is lost is asked for again.
    script.on(Event::Renew);
    script.take();
    let again = script.machine.deadline().unwrap();
    assert_eq!(again.since(script.now), Duration::from_secs(60));
    script.until(86_400 * 3650 + 60);
    script.check(&["315360060 request client=192.0.2.17 secs=60 to 192.0.2.1"]);
}

#[test]
fn another_address_in_a_renewal_replaces_the_first() {
    let mut script = Script::bound(1000);
    script.until(500);
    script.take();
    script.reply(Answer::Ack(terms(ELSE, SERVER, 1000)), SERVER);
    script.check(&["500 configure 192.0.2.99", "500 announce 192.0.2.99"]);
}

#[test]
fn a_remembered_lease_is_verified() {
    let memory = Memory::Lease(ADDRESS, Some(Moment::from_secs(1000)));
    let mut script = Script::new(profile(), memory.clone());
    script.on(Event::LinkUp);
    script.reply(Answer::Ack(terms(ADDRESS, SERVER, 1000)), SERVER);
    script.check(&[
        "0 request want=192.0.2.17",
        "0 configure 192.0.2.17",
        "0 announce 192.0.2.17",
    ]);

    let mut refused = Script::new(profile(), memory.clone());
    refused.on(Event::LinkUp);
    refused.reply(Answer::Nak, RIVAL);
    refused.check(&["0 request want=192.0.2.17", "0 forget", "0 discover"]);

    let mut silent = Script::new(profile(), memory);
    silent.on(Event::LinkUp);
    silent.until(13).check(&[
        "0 request want=192.0.2.17",
        "4 request want=192.0.2.17 secs=4",
        "12 discover want=192.0.2.17",
    ]);
}

#[test]
fn an_expired_memory_is_only_a_hint() {
    let mut script = Script::new(profile(), Memory::Former(ADDRESS));
    script.on(Event::LinkUp);
    script.check(&["0 discover want=192.0.2.17"]);
    let mut late = Script::new(
        profile(),
        Memory::Lease(ADDRESS, Some(Moment::from_secs(5))),
    );
    late.until(10).on(Event::LinkUp);
    late.check(&["10 discover"]);
}

#[test]
fn who_hides_remembers_nothing() {
    let hidden = Profile {
        remember: false,
        ..profile()
    };
    let mut script = Script::new(hidden, Memory::Lease(ADDRESS, None));
    script.on(Event::LinkUp);
    script.check(&["0 discover"]);
    script.reply(Answer::Offer(terms(ADDRESS, SERVER, 1000)), SERVER);
    script.reply(Answer::Ack(terms(ADDRESS, SERVER, 1000)), SERVER);
    script.take();
    script.on(Event::LinkDown);
    script.on(Event::LinkUp);
    script.check(&["0 discover"]);
}

#[test]
fn a_returned_carrier_is_answered_by_a_request() {
    let mut script = Script::bound(1000);
    script.until(100);
    script.take();
    script.on(Event::LinkDown);
    script.until(200).check(&[]);
    script.on(Event::LinkUp);
    script.check(&["200 request want=192.0.2.17"]);
    script.reply(Answer::Ack(terms(ADDRESS, SERVER, 1000)), SERVER);
    script.check(&["200 configure 192.0.2.17", "200 announce 192.0.2.17"]);
}

/// Another host may have taken the address meanwhile (RFC 5227 §2.1); until one shows, it stays configured.
#[test]
fn a_returned_carrier_has_the_address_tried_again() {
    for conflict in [false, true] {
        let mut script = Script::bound(1000);
        script.machine.profile.check = Check::Fast;
        script.on(Event::LinkDown);
        script.until(200).on(Event::LinkUp);
        script.take();
        script.reply(Answer::Ack(terms(ADDRESS, SERVER, 1000)), SERVER);
        script.check(&["200 probe 192.0.2.17"]);
        assert!(script.machine.grant().is_some());
        if conflict {
            script.on(Event::Arp(Arp::announcement(OTHER, ADDRESS)));
            let decline = "200 decline want=192.0.2.17 server=192.0.2.1";
            script.check(&["200 withdraw conflict", "200 forget", decline]);
        } else {
            let taken = ["200 configure 192.0.2.17", "200 announce 192.0.2.17"];
            script.until(201).check(&taken);
        }
    }
}

/// Where no server confirms it for a while, it is granted by an offer like any other: that proves no more.
#[test]
fn after_a_loss_of_carrier_an_address_that_is_offered_again_is_tried_too() {
    let mut script = Script::bound(1000);
    script.machine.profile.check = Check::Fast;
    script.on(Event::LinkDown);
    script.until(100).on(Event::LinkUp);
    script.until(112);
    script.take();
    script.reply(Answer::Offer(terms(ADDRESS, SERVER, 1000)), SERVER);
    script.take();
    script.reply(Answer::Ack(terms(ADDRESS, SERVER, 1000)), SERVER);
    script.check(&["112 probe 192.0.2.17"]);
    let taken = ["112 configure 192.0.2.17", "112 announce 192.0.2.17"];
    script.until(113).check(&taken);
    // Once it has proved free, a renewal tries it no more.
    script.until(115);
    script.take();
    script.on(Event::Renew);
    script.take();
    script.reply(Answer::Ack(terms(ADDRESS, SERVER, 1000)), SERVER);
    script.check(&["115 configure 192.0.2.17"]);
}

#[test]
fn without_a_carrier_a_lease_still_ends() {
    let mut script = Script::bound(1000);
    script.on(Event::LinkDown);
    script.until(1001).check(&["1000 withdraw expired"]);
    script.on(Event::LinkUp);
    script.check(&["1001 discover want=192.0.2.17"]);
}

#[test]
fn silence_after_a_returned_carrier_keeps_the_lease_to_its_end() {
    let mut script = Script::bound(1000);
    script.on(Event::LinkDown);
    script.until(900).on(Event::LinkUp);
    script.until(1000);
    let log = script.take();
    assert!(
        !log[..log.len() - 1]
            .iter()
            .any(|line| line.contains("withdraw")),
        "{log:?}"
    );
    assert!(log.contains(&"1000 withdraw expired".to_owned()));
}

#[test]
fn naks_count_from_the_server_asked_and_slow_us_down() {
    let mut script = Script::new(profile(), Memory::None);
    script.on(Event::LinkUp);
    let mut starts = Vec::new();
    for _ in 0..16 {
        script.reply(Answer::Offer(terms(ADDRESS, SERVER, 1000)), SERVER);
        script.reply(Answer::Nak, RIVAL);
        script.reply(Answer::Nak, SERVER);
        let before = script.now.as_secs();
        if let Some(at) = script
            .machine
            .deadline()
            .filter(|_| script.machine.awaited().is_none())
        {
            script.until(at.as_secs());
        }
        starts.push(script.now.as_secs() - before);
    }
    assert_eq!(
        starts,
        [
            0, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 1800, 1800, 1800, 1800, 1800
        ]
    );
}

#[test]
fn a_server_that_fails_does_not_keep_another_one_out() {
    let mut script = Script::new(profile(), Memory::None);
    let offer = |server| Answer::Offer(terms(ADDRESS, server, 1000));
    script.on(Event::LinkUp);
    let both = |script: &mut Script| {
        script.reply(offer(SERVER), SERVER);
        script.reply(offer(RIVAL), RIVAL);
    };
    both(&mut script);
    script.reply(Answer::Nak, SERVER);
    both(&mut script);
    script.check(&[
        "0 discover",
        "0 request want=192.0.2.17 server=192.0.2.1",
        "0 forget",
        "0 discover",
        "0 request want=192.0.2.17 server=192.0.2.2",
    ]);
    // Neither answers; then the other one is gone.
    script.until(59).take();
    script.until(60);
    both(&mut script);
    script.until(119).take();
    script.until(120);
    script.reply(offer(SERVER), SERVER);
    script.until(124);
    script.reply(offer(SERVER), SERVER);
    script.check(&[
        "120 discover",
        "124 discover secs=4",
        "124 request want=192.0.2.17 server=192.0.2.1 secs=4",
    ]);
}

/// Short leases whose renewals are all refused would otherwise keep client and server busy for ever.
#[test]
fn leases_between_naks_do_not_make_them_news() {
    let mut script = Script::bound(10);
    let idle = |script: &mut Script| {
        let before = script.now.as_secs();
        while script.machine.awaited().is_none() {
            script.until(script.now.as_secs() + 1);
        }
        script.now.as_secs() - before
    };
    for (wait, lease) in [(0, 10), (2, 10), (4, 10), (8, 7400), (0, 10), (2, 10)] {
        idle(&mut script);
        script.reply(Answer::Nak, SERVER);
        assert_eq!(idle(&mut script), wait);
        script.reply(Answer::Offer(terms(ADDRESS, SERVER, lease)), SERVER);
        script.reply(Answer::Ack(terms(ADDRESS, SERVER, lease)), SERVER);
    }
}

#[test]
fn a_rival_that_goes_on_is_told_of_once() {
    let mut script = Script::bound(1000);
    let mut told = 0;
    for seconds in [20, 40, 60] {
        script.until(seconds);
        let rival = Event::Arp(Arp::announcement(OTHER, ADDRESS));
        let actions = script.machine.on(rival, script.now, &mut Middle);
        let defends = |action: &Action| matches!(action, Action::Arp(_));
        assert!(actions.iter().any(defends), "{actions:?}");
        let lines = actions.iter();
        told += lines
            .filter(|action| matches!(action, Action::Log(_)))
            .count();
    }
    assert_eq!(told, 1);
}

#[test]
fn nobody_is_without_ipv4_for_more_than_a_day() {
    for (asked, waited) in [(10, 300), (4000, 4000), (u64::from(u32::MAX), 86_400)] {
        let mut script = Script::new(profile(), Memory::None);
        script.on(Event::LinkUp);
        let xid = script.machine.awaited().unwrap();
        let offer = Answer::Offer(terms(ADDRESS, SERVER, 1000));
        script.reply_with(offer, SERVER, xid, false, Some(asked));
        assert_eq!(script.machine.deadline(), Some(Moment::from_secs(waited)));
    }
}

#[test]
fn a_nak_in_renewal_ends_the_lease_if_the_server_sent_it() {
    let mut script = Script::bound(1000);
    script.until(500);
    script.take();
    script.reply(Answer::Nak, RIVAL);
    script.check(&[]);
    script.reply(Answer::Nak, SERVER);
    script.check(&["500 withdraw refused", "500 forget", "500 discover"]);

    let mut rebinding = Script::bound(1000);
    rebinding.until(876);
    rebinding.take();
    rebinding.reply(Answer::Nak, RIVAL);
    rebinding.check(&["876 withdraw refused", "876 forget", "876 discover"]);
}

#[test]
fn replies_out_of_turn_change_nothing() {
    let mut script = Script::new(profile(), Memory::None);
    script.on(Event::LinkUp);
    script.take();
    let offer = || Answer::Offer(terms(ADDRESS, SERVER, 1000));
    let ack = || Answer::Ack(terms(ADDRESS, SERVER, 1000));
    script.reply_with(offer(), SERVER, 1, false, None);
    script.reply(ack(), SERVER);
    script.reply(Answer::Nak, SERVER);
    script.check(&[]);
    script.reply(offer(), SERVER);
    script.take();
    script.reply(Answer::Offer(terms(ELSE, RIVAL, 1000)), RIVAL);
    script.reply(ack(), RIVAL);
    script.check(&[]);
    script.reply(ack(), SERVER);
    script.take();
    script.reply(Answer::Nak, SERVER);
    script.reply(ack(), SERVER);
    script.check(&[]);
}

#[test]
fn rapid_commit_saves_a_round() {
    let mut script = Script::new(profile(), Memory::None);
    script.on(Event::LinkUp);
    let ack = Answer::Ack(terms(ADDRESS, SERVER, 1000));
    script.reply_with(ack, SERVER, 1000, true, None);
    script.check(&[
        "0 discover",
        "0 configure 192.0.2.17",
        "0 announce 192.0.2.17",
    ]);
}

#[test]
fn a_network_without_ipv4_is_left_in_peace() {
    for (said, meant) in [(30, 300), (1800, 1800)] {
        let mut script = Script::new(profile(), Memory::None);
        script.on(Event::LinkUp);
        let offer = Answer::Offer(terms(ADDRESS, SERVER, 1000));
        script.reply_with(offer, SERVER, 1000, false, Some(said));
        script.until(meant);
        assert_eq!(
            script.take(),
            ["0 discover".to_owned(), format!("{meant} discover")]
        );
    }
}

#[test]
fn an_address_is_tried_before_use() {
    let fast = Profile {
        check: Check::Fast,
        ..profile()
    };
    let mut script = Script::new(fast, Memory::None);
    script.on(Event::LinkUp);
    script.reply(Answer::Offer(terms(ADDRESS, SERVER, 1000)), SERVER);
    script.reply(Answer::Ack(terms(ADDRESS, SERVER, 1000)), SERVER);
    script.take();
    assert_eq!(script.machine.deadline(), Some(Moment::from_millis(200)));
    assert_eq!(script.machine.claimed(), Some(Watch::Trying(ADDRESS)));
    script
        .until(1)
        .check(&["0 configure 192.0.2.17", "0 announce 192.0.2.17"]);
}

#[test]
fn a_conflict_is_declined_and_waited_out() {
    let fast = Profile {
        check: Check::Fast,
        ..profile()
    };
    let mut script = Script::new(fast, Memory::None);
    script.on(Event::LinkUp);
    for round in 0..11 {
        script.reply(Answer::Offer(terms(ADDRESS, SERVER, 1000)), SERVER);
        script.reply(Answer::Ack(terms(ADDRESS, SERVER, 1000)), SERVER);
        script.take();
        script.on(Event::Arp(Arp::announcement(OTHER, ADDRESS)));
        let at = script.now.as_secs();
        let wait = if round < 9 { 10 } else { 60 };
        let decline = format!("{at} decline want=192.0.2.17 server=192.0.2.1");
        assert_eq!(script.take(), [format!("{at} forget"), decline]);
        script.until(at + wait - 1).check(&[]);
        script.until(at + wait);
        assert_eq!(script.take(), [format!("{} discover", at + wait)]);
    }
}

#[test]
fn a_held_address_is_defended_once_then_given_up() {
    let mut script = Script::bound(1000);
    script.until(100);
    script.take();
    let rival = || Event::Arp(Arp::announcement(OTHER, ADDRESS));
    script.on(rival());
    script.check(&["100 announce 192.0.2.17"]);
    script.until(105).on(rival());
    script.check(&[
        "105 withdraw conflict",
        "105 forget",
        "105 decline want=192.0.2.17 server=192.0.2.1",
    ]);
    script.until(115).check(&["115 discover"]);
}

#[test]
fn stopping_gives_back_only_if_asked() {
    let mut script = Script::bound(1000);
    script.on(Event::Stop(Ending::Keep));
    script.check(&["0 withdraw stopped"]);
    assert_eq!(script.machine.deadline(), None);
    let mut script = Script::bound(1000);
    script.on(Event::Stop(Ending::Leave));
    script.until(2000).check(&[]);
    let mut script = Script::bound(1000);
    script.on(Event::Stop(Ending::Release));
    script.check(&[
        "0 release server=192.0.2.1 client=192.0.2.17 to 192.0.2.1",
        "0 withdraw stopped",
        "0 forget",
    ]);
}

#[test]
fn only_an_offer_is_shown() {
    let look = Profile {
        only_offer: true,
        ..profile()
    };
    let mut script = Script::new(look, Memory::None);
    script.on(Event::LinkUp);
    script.reply(Answer::Offer(terms(ADDRESS, SERVER, 1000)), SERVER);
    script
        .until(1000)
        .check(&["0 discover", "0 show 192.0.2.17"]);
}

#[test]
fn a_nudge_renews_or_asks_at_once() {
    let mut script = Script::bound(1000);
    script.until(100);
    script.take();
    script.on(Event::Renew);
    script.check(&["100 request client=192.0.2.17 to 192.0.2.1"]);
}

/// Seeded chance (xorshift).
struct Seeded(u32);
impl Chance for Seeded {
    fn draw(&mut self) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 17;
        self.0 ^= self.0 << 5;
        self.0
    }
}

impl Seeded {
    fn one<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.draw() as usize % of.len()]
    }

    fn event(&mut self, machine: &Machine) -> Event {
        let address = self.one(&[ADDRESS, ELSE]);
        let server = self.one(&[SERVER, RIVAL]);
        let mut granted = terms(address, server, self.one(&[1, 2, 60, 3600, 1_000_000]));
        granted.t1 = self
            .one(&[None, Some(0), Some(1), Some(50), Some(5000)])
            .map(Duration::from_secs);
        granted.t2 = self
            .one(&[None, Some(0), Some(1), Some(50), Some(5000)])
            .map(Duration::from_secs);
        if self.draw().is_multiple_of(16) {
            granted.lease = None;
        }
        let awaited = machine.awaited().unwrap_or(7);
        match self.draw() % 16 {
            0 => Event::LinkUp,
            1 => Event::LinkDown,
            2 => Event::Renew,
            3 => Event::Arp(Arp::announcement(self.one(&[MAC, OTHER]), address)),
            4 => Event::Arp(Arp::probe(OTHER, address)),
            kind => Event::Reply(Reply {
                xid: self.one(&[awaited, awaited, awaited, 1]),
                server,
                answer: match kind % 4 {
                    0 => Answer::Nak,
                    1 => Answer::Offer(granted),
                    _ => Answer::Ack(granted),
                },
                rapid_commit: self.draw().is_multiple_of(2),
                ipv6_only: self
                    .draw()
                    .is_multiple_of(32)
                    .then_some(Duration::from_secs(60)),
            }),
        }
    }
}

/// What an observer of actions alone knows: the model beside the machine.
#[derive(Default)]
struct Model {
    configured: Option<(Ipv4Addr, Option<Moment>)>,
    sent: u64,
}

impl Model {
    fn see(&mut self, action: &Action, now: Moment) {
        match action {
            Action::Configure(grant) => {
                assert!(!grant.is_over(now));
                self.configured = Some((grant.terms.ipv4.address, grant.timers.expire));
            }
            Action::Withdraw(_) => assert!(self.configured.take().is_some(), "nothing to withdraw"),
            Action::Send(request, route) => {
                self.sent += 1;
                let held = self.configured.map(|(address, _)| address);
                if let Route::Unicast(_) = route {
                    assert_eq!(
                        Some(request.client),
                        held,
                        "sent from an address that is not ours"
                    );
                }
                if !request.client.is_unspecified() {
                    assert!(request.requested.is_none() && held == Some(request.client));
                }
                if request.kind == Kind::Discover {
                    assert!(request.server.is_none());
                }
            }
            Action::Arp(_)
            | Action::Save(_)
            | Action::Forget
            | Action::Show(_)
            | Action::Log(_) => {}
        }
    }
}

fn adversary(seed: u32) {
    let mut chance = Seeded(seed);
    let checks = [Check::Off, Check::Fast, Check::Full];
    let profile = Profile {
        check: chance.one(&checks),
        ..profile()
    };
    let mut machine = Machine::new(profile, Memory::None, Moment::from_secs(0));
    let mut model = Model::default();
    let mut now = Moment::from_secs(0);
    for _ in 0..200 {
        let wait = Duration::from_millis(u64::from(chance.draw() % 20_000));
        let next = now.after(wait);
        let mut turns = 0;
        while let Some(at) = machine.deadline().filter(|at| *at <= next) {
            now = now.max(at);
            for action in machine.on(Event::Deadline, now, &mut chance) {
                model.see(&action, now);
            }
            turns += 1;
            assert!(turns < 200, "seed {seed}: the machine spins");
            let end = model.configured.and_then(|(_, end)| end);
            assert!(
                end.is_none_or(|end| end > now),
                "seed {seed}: outlived its lease"
            );
        }
        now = next;
        let event = chance.event(&machine);
        for action in machine.on(event, now, &mut chance) {
            model.see(&action, now);
        }
        let held = machine.grant().map(|grant| grant.terms.ipv4.address);
        assert_eq!(
            held,
            model.configured.map(|(address, _)| address),
            "seed {seed}"
        );
    }
    for action in machine.on(Event::Stop(Ending::Keep), now, &mut chance) {
        model.see(&action, now);
    }
    assert!(
        model.configured.is_none() && machine.deadline().is_none() && machine.awaited().is_none()
    );
}

#[test]
fn ten_thousand_adversaries() {
    for seed in 1..=10_000 {
        adversary(seed);
    }
}
