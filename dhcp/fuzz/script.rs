//! Bytes as a script of what the network and the clock do to both machines, and the invariants that must hold.
//!
//! The fuzz target and the test of the kept corpus play the same scripts.
//! An instruction is one byte and its operand; what comes from the network passes the same decoders as in the daemon,
//! with the fields that a stranger could not guess filled in, so that what is behind them is reached.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use gokrazy_core::lease::Lease;
use gokrazy_dhcp::conflict::Check;
use gokrazy_dhcp::frame::{self, Arp, Checksum};
use gokrazy_dhcp::machine::{Action, Event, Machine, Memory, Profile};
use gokrazy_dhcp::machine6::{Advice, Machine6};
use gokrazy_dhcp::message::{self, ClasslessRoutes, Identity, v6};
use gokrazy_dhcp::moment::{Chance, Moment};
use gokrazy_dhcp::plan::{Reach, Standing, target};
use gokrazy_dhcp::publish::contribution;
use gokrazy_dhcp::router_dns::RouterDns;
use gokrazy_dhcp::terms::Grant;
use gokrazy_dhcp::{resolver, store};

const MAC: [u8; 6] = [2, 0, 0, 0, 0, 7];
const DUID: [u8; 10] = [0, 3, 0, 1, 2, 0, 0, 0, 0, 7];

/// Chance that is the same in each run.
struct Even(u32);

impl Chance for Even {
    fn draw(&mut self) -> u32 {
        self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        self.0
    }
}

/// What is left of a script.
struct Script<'a>(&'a [u8]);

impl<'a> Script<'a> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn number(&mut self) -> u16 {
        u16::from_be_bytes([self.byte().unwrap_or(0), self.byte().unwrap_or(0)])
    }

    /// As many bytes as the next two say, or all that are left.
    fn bytes(&mut self) -> &'a [u8] {
        let len = usize::from(self.number()).min(self.0.len());
        let (bytes, rest) = self.0.split_at(len);
        self.0 = rest;
        bytes
    }
}

/// Both machines of an interface, and its time.
struct Host {
    four: Machine,
    six: Machine6,
    routers: RouterDns,
    now: Moment,
    chance: Even,
    actions: usize,
    /// The grant that was looked at last: to look at it anew after each instruction would take most of the time.
    checked: Option<Grant>,
}

/// Plays a script from the beginning.
pub(crate) fn play(bytes: &[u8]) {
    let mut script = Script(bytes);
    let mut host = Host::new(script.byte().unwrap_or(0));
    while let Some(instruction) = script.byte() {
        host.perform(instruction, &mut script);
        host.check();
    }
}

impl Host {
    fn new(flags: u8) -> Self {
        let profile = Profile {
            mac: MAC,
            check: [Check::Off, Check::Fast, Check::Full, Check::Fast][usize::from(flags & 3)],
            rapid_commit: flags & 4 == 0,
            ipv6_only: flags & 8 == 0,
            remember: flags & 16 == 0,
            only_offer: flags & 96 == 96,
        };
        let now = Moment::from_secs(10);
        Self {
            four: Machine::new(profile, Memory::None, now),
            six: Machine6::default(),
            routers: RouterDns::default(),
            now,
            chance: Even(u32::from(flags)),
            actions: 0,
            checked: None,
        }
    }

    fn perform(&mut self, instruction: u8, script: &mut Script<'_>) {
        match instruction % 12 {
            0 => self.event(Event::LinkUp),
            1 => self.event(Event::LinkDown),
            2 => self.pass(Duration::from_millis(u64::from(script.number()) * 100)),
            3 => self.next_deadline(),
            4 => self.reply(script),
            5 => self.packet(script.bytes()),
            6 => {
                if let Some(arp) = Arp::decode(script.bytes()) {
                    self.event(Event::Arp(arp));
                }
            }
            7 => self.event(Event::Renew),
            8 => self.reply6(script),
            9 => {
                let option = script.bytes();
                // Some few routers.
                let router = option.last().map(|byte| u128::from(byte & 3));
                let router = router.map(Ipv6Addr::from);
                self.routers.take(option, router, self.now);
            }
            10 => {
                let advice = [Advice::None, Advice::Settings, Advice::Address];
                let advice = advice[usize::from(script.byte().unwrap_or(0) % 3)];
                self.six.on_advice(advice, self.now, &mut self.chance);
            }
            _ => match script.byte().unwrap_or(0) % 2 {
                0 => self.actions += self.six.on_link_down().len(),
                _ => self.actions += self.six.on_duplicate(self.now, &mut self.chance).len(),
            },
        }
    }

    fn event(&mut self, event: Event) {
        let actions = self.four.on(event, self.now, &mut self.chance);
        for action in &actions {
            if let Action::Send(request, _) = action {
                let bytes = message::encode(request, &identity());
                assert!((300..=576).contains(&bytes.len()), "{} bytes", bytes.len());
            }
        }
        self.actions += actions.len();
    }

    /// A DHCP message with the right header, and options of the script's.
    fn reply(&mut self, script: &mut Script<'_>) {
        let mut bytes = vec![2, 1, 6, 0];
        bytes.extend(self.four.awaited().unwrap_or(1).to_be_bytes());
        bytes.extend([0; 8]);
        bytes.extend([
            192,
            0,
            2,
            script.byte().unwrap_or(17),
            0,
            0,
            0,
            0,
            0,
            0,
            0,
            0,
        ]);
        bytes.extend(MAC);
        bytes.resize(236, 0);
        let kind = [2, 5, 5, 6][usize::from(script.byte().unwrap_or(0) % 4)];
        bytes.extend([99, 130, 83, 99, 53, 1, kind, 54, 4, 192, 0, 2, 1]);
        bytes.extend(script.bytes());
        self.message(&bytes);
    }

    /// A whole packet, with nothing right but what the script has right.
    fn packet(&mut self, packet: &[u8]) {
        for checksum in [Checksum::Present, Checksum::Missing] {
            if let Ok(payload) = frame::unwrap(packet, checksum) {
                self.message(payload);
            }
        }
        self.message(packet);
    }

    fn message(&mut self, bytes: &[u8]) {
        for routes in [ClasslessRoutes::Ignore, ClasslessRoutes::Accept] {
            if let Ok(reply) = message::decode(bytes, &identity(), routes) {
                self.event(Event::Reply(reply));
            }
        }
    }

    fn reply6(&mut self, script: &mut Script<'_>) {
        let [a, b, c] = self.six.awaited().unwrap_or_default();
        let kind = [7, 2][usize::from(script.byte().unwrap_or(0) % 2)];
        let mut bytes = vec![kind, a, b, c, 0, 1, 0, 10];
        bytes.extend(DUID);
        bytes.extend([0, 2, 0, 2, 9, script.byte().unwrap_or(9)]);
        bytes.extend(script.bytes());
        let identity = v6::Identity {
            duid: DUID.to_vec(),
            iaid: 7,
        };
        if let Some(reply) = v6::decode(&bytes, &identity) {
            let actions = self.six.on_reply(reply, self.now, &mut self.chance);
            self.actions += actions.len();
        }
    }

    fn next_deadline(&mut self) {
        let all = [
            self.four.deadline(),
            self.six.deadline(),
            self.routers.deadline(),
        ];
        if let Some(next) = all.into_iter().flatten().min() {
            self.pass(next.since(self.now));
        }
    }

    /// Lets time go by; a machine that would spin is one that wants too many turns.
    fn pass(&mut self, time: Duration) {
        let end = self.now.after(time);
        let mut turns = 0;
        while let Some(at) = self.four.deadline().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.event(Event::Deadline);
            turns += 1;
            assert!(turns < 10_000, "the machine spins");
        }
        let mut now = self.now;
        while let Some(at) = self.six.deadline().filter(|at| *at <= end) {
            now = now.max(at);
            self.actions += self.six.on_deadline(now, &mut self.chance).len();
            turns += 1;
            assert!(turns < 10_000, "the machine for IPv6 spins");
        }
        self.now = end;
        self.routers.expire(end);
    }

    fn check(&mut self) {
        assert!(self.routers.servers().len() <= 8 && self.routers.search().len() <= 8);
        assert!(self.six.dns().len() <= 8 && self.six.search().len() <= 8);
        if let Some(held) = self.six.address() {
            assert!(
                held.valid_until.is_none_or(|end| end > self.now) || self.six.deadline().is_some()
            );
        }
        let Some(grant) = self
            .four
            .grant()
            .filter(|grant| self.checked.as_ref() != Some(grant))
        else {
            return;
        };
        let ipv4 = &grant.terms.ipv4;
        assert!(gokrazy_dhcp::terms::is_host(ipv4.address, ipv4.prefix));
        assert!(ipv4.mtu.is_none_or(|mtu| mtu >= 68));
        assert_ne!(grant.terms.server, Ipv4Addr::UNSPECIFIED);
        let lease = store::lease(grant, "eth0");
        assert_eq!(Lease::parse(&lease.render()).as_ref(), Ok(&lease));
        let target = target(ipv4, Reach::World, 1, 1000, Standing::Full, Some(1));
        assert!(target.routes.len() < 300);
        let text = resolver::render(&[contribution(&lease)]).unwrap_or_default();
        for line in text.lines().skip(1) {
            let (word, rest) = line.split_once(' ').unwrap_or_default();
            assert!(["domain", "search", "nameserver"].contains(&word), "{line}");
            let plain = |c: char| c.is_ascii_alphanumeric() || "._- :%".contains(c);
            assert!(rest.chars().all(plain), "{line}");
        }
        self.checked = Some(grant.clone());
    }
}

fn identity() -> Identity {
    Identity {
        mac: MAC,
        client_id: [&[1], &MAC[..]].concat(),
        hostname: None,
        wanted: vec![1, 3, 6],
        longest: None,
        rapid_commit: true,
        broadcast: false,
        in_order: false,
    }
}
