//! Messages as scripts of bytes; every truncation and every option length.

use super::options::MOST;
use super::*;

const MAC: [u8; 6] = [2, 0, 0, 0, 0, 7];
const SERVER: [u8; 4] = [192, 0, 2, 1];

fn identity() -> Identity {
    Identity {
        mac: MAC,
        client_id: vec![1, 2, 0, 0, 0, 0, 7],
        hostname: Some("pi".to_owned()),
        wanted: vec![1, 121, 3, 6],
        longest: Some(1472),
        rapid_commit: true,
        broadcast: false,
        in_order: false,
    }
}

fn header() -> Vec<u8> {
    let mut bytes = vec![2, 1, 6, 0, 0x12, 0x34, 0x56, 0x78, 0, 0, 0, 0, 0, 0, 0, 0];
    bytes.extend([192, 0, 2, 17]);
    bytes.extend([0; 8]);
    bytes.extend(MAC);
    bytes.resize(236, 0);
    bytes.extend([99, 130, 83, 99]);
    bytes
}

/// A reply of type `kind` with these options after type and server.
fn reply(kind: u8, options: &[&[u8]]) -> Vec<u8> {
    let mut bytes = header();
    bytes.extend([53, 1, kind, 54, 4]);
    bytes.extend(SERVER);
    bytes.extend(options.concat());
    bytes.push(255);
    bytes
}

fn ack(options: &[&[u8]]) -> Terms {
    terms_of(&reply(5, options), ClasslessRoutes::Accept)
}

fn terms_of(bytes: &[u8], routes: ClasslessRoutes) -> Terms {
    match decode(bytes, &identity(), routes).unwrap().answer {
        Answer::Ack(terms) => *terms,
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn refused(bytes: &[u8], want: Rejection) {
    let got = decode(bytes, &identity(), ClasslessRoutes::Accept);
    assert_eq!(got, Err(want));
}

fn ip(text: &str) -> Ipv4Addr {
    text.parse().unwrap()
}

#[test]
fn a_discover_is_what_table_5_says() {
    let request = Request {
        kind: Kind::Discover,
        xid: 0xdead_beef,
        secs: 5,
        client: Ipv4Addr::UNSPECIFIED,
        requested: Some(ip("192.0.2.17")),
        server: None,
    };
    let bytes = encode(&request, &identity());
    assert_eq!(bytes.len(), 300);
    assert_eq!(
        bytes[..12],
        [1, 1, 6, 0, 0xde, 0xad, 0xbe, 0xef, 0, 5, 0, 0]
    );
    assert_eq!(bytes[12..28], [0; 16]);
    assert_eq!(bytes[28..34], MAC);
    let want = [
        53, 1, 1, 61, 7, 1, 2, 0, 0, 0, 0, 7, 50, 4, 192, 0, 2, 17, 57, 2, 5, 192, 55, 4, 1, 121,
        3, 6, 12, 2, b'p', b'i', 80, 0, 255,
    ];
    assert_eq!(bytes[236..240], [99, 130, 83, 99]);
    assert_eq!(bytes[240..240 + want.len()], want);
}

#[test]
fn decline_and_release_carry_no_wishes() {
    for (kind, number) in [(Kind::Decline, 4), (Kind::Release, 7)] {
        let request = Request {
            kind,
            xid: 1,
            secs: 0,
            client: Ipv4Addr::UNSPECIFIED,
            requested: None,
            server: Some(ip("192.0.2.1")),
        };
        let bytes = encode(&request, &identity());
        let want = [
            53, 1, number, 61, 7, 1, 2, 0, 0, 0, 0, 7, 54, 4, 192, 0, 2, 1, 255,
        ];
        assert_eq!(bytes[240..240 + want.len()], want);
    }
}

#[test]
fn the_broadcast_flag_is_a_choice() {
    let mut identity = identity();
    identity.broadcast = true;
    for (kind, flags) in [
        (Kind::Discover, [0x80, 0]),
        (Kind::Request, [0x80, 0]),
        (Kind::Decline, [0, 0]),
        (Kind::Release, [0, 0]),
    ] {
        let request = Request {
            kind,
            xid: 1,
            secs: 0,
            client: Ipv4Addr::UNSPECIFIED,
            requested: None,
            server: None,
        };
        assert_eq!(encode(&request, &identity)[10..12], flags, "{kind:?}");
    }
}

#[test]
fn all_options_are_read() {
    let terms = ack(&[
        &[1, 4, 255, 255, 255, 0],
        &[3, 8, 192, 0, 2, 1, 192, 0, 2, 2],
        &[6, 4, 192, 0, 2, 53],
        &[12, 2, b'p', b'i'],
        &[15, 11],
        b"example.org",
        &[26, 2, 5, 120],
        &[28, 4, 192, 0, 2, 255],
        &[33, 8, 10, 0, 0, 0, 192, 0, 2, 9],
        &[42, 4, 192, 0, 2, 123],
        &[
            51, 4, 0, 0, 14, 16, 58, 4, 0, 0, 0, 100, 59, 4, 0, 0, 0, 200,
        ],
        &[114, 20],
        b"https://example.org/",
    ]);
    assert_eq!(terms.ipv4.routers, [ip("192.0.2.1"), ip("192.0.2.2")]);
    assert_eq!(terms.ipv4.routes, ["10.0.0.0/8,192.0.2.9".parse().unwrap()]);
    assert_eq!(
        (terms.ipv4.dns, terms.ipv4.ntp),
        (vec![ip("192.0.2.53")], vec![ip("192.0.2.123")])
    );
    assert_eq!((terms.ipv4.prefix, terms.ipv4.mtu), (24, Some(1400)));
    assert_eq!(terms.ipv4.domain.as_deref(), Some("example.org"));
    assert_eq!(terms.ipv4.hostname.as_deref(), Some("pi"));
    assert_eq!(
        terms.ipv4.captive_portal.as_deref(),
        Some("https://example.org/")
    );
    assert_eq!(terms.lease, Some(Duration::from_secs(3600)));
    assert_eq!(
        (terms.t1, terms.t2),
        (
            Some(Duration::from_secs(100)),
            Some(Duration::from_secs(200))
        )
    );
}

#[test]
fn what_a_server_forgets_is_assumed() {
    let terms = ack(&[]);
    assert_eq!(
        (terms.ipv4.prefix, terms.lease),
        (24, Some(terms::DEFAULT_LEASE))
    );
    assert_eq!(terms.ipv4.broadcast, Some(ip("192.0.2.255")));
    assert_eq!(ack(&[&[51, 4, 255, 255, 255, 255]]).lease, None);
}

#[test]
fn option_121_displaces_3_and_33() {
    let classless = [
        121, 14, 0, 192, 0, 2, 254, 10, 172, 17, 192, 0, 2, 9, 0, 0, 0, 0,
    ];
    let old = [3, 4, 192, 0, 2, 1, 33, 8, 10, 0, 0, 0, 192, 0, 2, 8];
    let bytes = reply(5, &[&old, &classless]);
    // The last four octets of option 121 are no whole route, so the option is unsound and 3 stands.
    assert_eq!(
        terms_of(&bytes, ClasslessRoutes::Accept).ipv4.routers,
        [ip("192.0.2.1")]
    );
    let classless = [121, 12, 0, 192, 0, 2, 254, 10, 172, 17, 192, 0, 2, 9];
    let bytes = reply(5, &[&old, &classless]);
    let terms = terms_of(&bytes, ClasslessRoutes::Accept);
    assert_eq!(terms.ipv4.routers, [ip("192.0.2.254")]);
    // The host bits of 172.17/10 are cleared.
    assert_eq!(
        terms.ipv4.routes,
        ["172.0.0.0/10,192.0.2.9".parse().unwrap()]
    );
    let terms = terms_of(&bytes, ClasslessRoutes::Ignore);
    assert_eq!(terms.ipv4.routers, [ip("192.0.2.1")]);
    assert_eq!(terms.ipv4.routes, ["10.0.0.0/8,192.0.2.8".parse().unwrap()]);
}

#[test]
fn halves_of_all_addresses_are_routes_like_others() {
    let halves = [121, 12, 1, 0, 192, 0, 2, 9, 1, 128, 192, 0, 2, 9];
    let impossible = [121, 12, 4, 224, 192, 0, 2, 9, 8, 0, 192, 0, 2, 9];
    let routes = |option: &[u8]| {
        terms_of(&reply(5, &[option]), ClasslessRoutes::Accept)
            .ipv4
            .routes
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
    };
    let want = ["0.0.0.0/1,192.0.2.9", "128.0.0.0/1,192.0.2.9"];
    assert_eq!(routes(&halves), want);
    assert!(routes(&impossible).is_empty());
}

#[test]
fn parts_are_joined_wherever_they_stand() {
    let mut bytes = reply(
        5,
        &[
            &[15, 3],
            b"exa",
            &[6, 4, 192, 0, 2, 53],
            &[15, 3],
            b"mpl",
            &[52, 1, 3],
        ],
    );
    bytes[108..115].copy_from_slice(&[15, 1, b'e', 3, 4, 192, 0]);
    bytes[115..118].copy_from_slice(&[2, 1, 255]);
    bytes[44..51].copy_from_slice(&[15, 4, b'.', b'o', b'r', b'g', 255]);
    let terms = terms_of(&bytes, ClasslessRoutes::Accept);
    assert_eq!(terms.ipv4.domain.as_deref(), Some("example.org"));
    assert_eq!(terms.ipv4.routers, [ip("192.0.2.1")]);
}

#[test]
fn long_options_are_joined() {
    let mut servers = Vec::new();
    for part in 0..2 {
        servers.extend([6, 252]);
        servers.extend((0..63).flat_map(|n| [192, 0, part + 2, n + 1]));
    }
    assert_eq!(ack(&[&servers]).ipv4.dns.len(), MOST);
}

#[test]
fn search_lists_are_read_and_loops_are_not_followed() {
    let search = |payload: &[u8]| {
        let head = [119, u8::try_from(payload.len()).unwrap()];
        ack(&[&head, payload]).ipv4.search
    };
    let good = b"\x03eng\x07example\x03org\x00\x05sales\xc0\x04";
    assert_eq!(search(good), ["eng.example.org", "sales.example.org"]);
    assert!(search(b"\xc0\x00").is_empty());
    assert!(search(b"\x01a\xc0\x00").is_empty());
    assert!(search(b"\xc0\x02\xc0\x00").is_empty());
    assert!(search(b"\x03a\nb\x00").is_empty());
    assert!(search(b"\x09$(reboot)\x00").is_empty());
    assert!(search(b"\x3f").is_empty());
}

#[test]
fn a_list_in_option_15_becomes_the_search_list() {
    let terms = ack(&[&[15, 11], b"a.org b.org"]);
    assert_eq!(terms.ipv4.domain.as_deref(), Some("a.org"));
    assert_eq!(terms.ipv4.search, ["a.org", "b.org"]);
}

#[test]
fn unsound_options_count_as_absent() {
    let terms = ack(&[
        &[1, 4, 255, 0, 255, 0],
        &[3, 3, 192, 0, 2],
        &[6, 12, 0, 0, 0, 0, 224, 0, 0, 1, 127, 0, 0, 1],
        &[15, 14],
        b"a\nnameserver b",
        &[26, 2, 0, 67],
        &[58, 1, 9],
        &[121, 5, 33, 1, 2, 3, 4],
        &[42, 0],
    ]);
    assert_eq!(
        (terms.ipv4.prefix, terms.ipv4.mtu, terms.ipv4.domain),
        (24, None, None)
    );
    assert!(
        terms.ipv4.routers.is_empty() && terms.ipv4.dns.is_empty() && terms.ipv4.routes.is_empty()
    );
    assert_eq!((terms.t1, terms.ipv4.ntp), (None, vec![]));
}

#[test]
fn replies_to_others_are_refused() {
    let good = reply(5, &[]);
    let bent = |at: usize, value: u8| {
        let mut bytes = good.clone();
        bytes[at] = value;
        bytes
    };
    refused(&bent(0, 1), Rejection::NotReply);
    refused(&bent(1, 6), Rejection::NotReply);
    refused(&bent(2, 16), Rejection::NotReply);
    refused(&bent(2, 255), Rejection::NotReply);
    refused(&bent(239, 0), Rejection::NotReply);
    refused(&bent(33, 8), Rejection::OtherHardware);
    refused(&bent(16, 0), Rejection::BadTerms);
    refused(&bent(19, 255), Rejection::BadTerms);
    refused(&bent(242, 9), Rejection::NoType);
    refused(&bent(245, 0), Rejection::NoServer);
    refused(&reply(5, &[&[51, 4, 0, 0, 0, 0]]), Rejection::BadTerms);
    refused(&reply(5, &[&[61, 3, 1, 2, 3]]), Rejection::OtherClient);
    assert!(
        decode(
            &reply(5, &[&[61, 7, 1], &MAC]),
            &identity(),
            ClasslessRoutes::Accept
        )
        .is_ok()
    );
}

#[test]
fn naks_need_no_address() {
    let mut bytes = reply(6, &[]);
    bytes[16..20].fill(0);
    let reply = decode(&bytes, &identity(), ClasslessRoutes::Accept).unwrap();
    assert_eq!(reply.answer, Answer::Nak);
}

#[test]
fn rapid_commit_and_ipv6_only_are_seen() {
    let bytes = reply(2, &[&[80, 0, 108, 4, 0, 0, 7, 8]]);
    let reply = decode(&bytes, &identity(), ClasslessRoutes::Accept).unwrap();
    assert!(reply.rapid_commit);
    assert_eq!(reply.ipv6_only, Some(Duration::from_secs(1800)));
}

#[test]
fn every_truncation_is_refused() {
    let bytes = reply(
        5,
        &[
            &[1, 4, 255, 255, 255, 0, 6, 4, 192, 0, 2, 53],
            &[121, 5, 0, 192, 0, 2, 1],
        ],
    );
    assert!(decode(&bytes, &identity(), ClasslessRoutes::Accept).is_ok());
    for end in 0..bytes.len() {
        refused(&bytes[..end], Rejection::Truncated);
    }
    // Who forgets the end option but pads is understood.
    let mut open = bytes[..bytes.len() - 1].to_vec();
    open.resize(SHORTEST, 0);
    assert!(decode(&open, &identity(), ClasslessRoutes::Accept).is_ok());
}

#[test]
fn every_option_of_every_length_is_survived() {
    for code in 1..255 {
        for len in 0..=255_usize {
            for filler in [0, 1, 0x3f, 0xc0, 0xff] {
                let head = [code, u8::try_from(len).unwrap()];
                let payload = vec![filler; len];
                let bytes = reply(5, &[&head, &payload]);
                let _ = decode(&bytes, &identity(), ClasslessRoutes::Accept);
            }
        }
    }
}

#[test]
fn random_bytes_after_a_sound_header_are_survived() {
    let mut seed = 0x2545_f491_u32;
    let mut draw = || {
        seed ^= seed << 13;
        seed ^= seed >> 17;
        seed ^= seed << 5;
        seed
    };
    let codes = [
        1, 3, 6, 12, 15, 26, 28, 33, 42, 51, 52, 53, 54, 58, 59, 61, 80, 108, 114, 119, 121,
    ];
    for _ in 0..20_000 {
        let mut bytes = header();
        for field in bytes[44..236].iter_mut() {
            *field = draw() as u8;
        }
        while draw() % 8 != 0 {
            bytes.push(codes[draw() as usize % codes.len()]);
            let len = draw() % 20;
            bytes.push(len as u8);
            bytes.extend((0..len).map(|_| draw() as u8));
        }
        let _ = decode(&bytes, &identity(), ClasslessRoutes::Accept);
    }
}

#[test]
fn who_hides_sends_options_in_order() {
    let identity = Identity {
        in_order: true,
        ..identity()
    };
    let request = Request {
        kind: Kind::Request,
        xid: 1,
        secs: 0,
        client: Ipv4Addr::UNSPECIFIED,
        requested: Some(Ipv4Addr::new(192, 0, 2, 17)),
        server: Some(Ipv4Addr::new(192, 0, 2, 1)),
    };
    let bytes = encode(&request, &identity);
    let mut rest = &bytes[FIXED..];
    let mut codes = Vec::new();
    while let [code @ 1..=254, len, after @ ..] = rest {
        codes.push(*code);
        rest = &after[usize::from(*len)..];
    }
    assert!(codes.len() > 4 && codes.is_sorted(), "{codes:?}");
}
