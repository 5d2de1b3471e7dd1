//! The gate and the control plane read heads with different parsers; who asks, and from where, they
//! answer alike.

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use proptest::prelude::*;

use crate::auth::{Issuer, Key};
use crate::caller::{ClaimedIdentity, Judge, Origins, Peer, bearer};
use crate::fair::Networks;
use crate::http::Head;
use crate::ids::UserId;

const NOW_MS: u64 = 1_000_000;

fn judge() -> Judge {
    let trusted = Networks::parse(["127.0.0.0/8", "10.0.0.0/8", "2001:db8:ff::/48"]).expect("networks");
    let origins = Origins::parse(["https://app.example", "capacitor://localhost"]).expect("origins");
    Judge::new(Key::new([7; 32]), trusted, origins)
}

fn user(number: u64) -> UserId {
    UserId::new(number).expect("in range")
}

/// A token of one of few users: valid, expired, of another key, or nonsense.
fn token() -> impl Strategy<Value = String> {
    (1..4_u64, 0..6).prop_map(|(number, kind)| match kind {
        0 => Key::new([7; 32]).issue(user(number), 0, Issuer::Own, NOW_MS - 1),
        1 => Key::new([8; 32]).issue(user(number), 0, Issuer::Own, NOW_MS + 1),
        2 => "nons\u{e9}nse".to_owned(),
        _ => Key::new([7; 32]).issue(user(number), 0, Issuer::FastIm, NOW_MS + number),
    })
}

/// The bytes of a text of which each character stands for one byte: many are not UTF-8, as what
/// strangers write is not.
fn octets(text: &str) -> Vec<u8> {
    text.chars().map(|c| u8::try_from(u32::from(c)).expect("a byte")).collect()
}

fn one_of(texts: &'static [&'static str]) -> impl Strategy<Value = String> + Clone {
    prop::sample::select(texts).prop_map(str::to_owned)
}

/// One cookie among those that a browser, a proxy or an attacker might send.
fn cookie() -> impl Strategy<Value = String> {
    let tag = Key::new([7; 32]).tag();
    let name = (
        one_of(&[
            "imgate_",
            "__Host-imgate_",
            "imgate_TAG_",
            "__Host-imgate_TAG_",
            "imgate_000000_",
            "x_",
            "Zo\u{eb}_",
        ]),
        0..5,
    )
        .prop_map(move |(name, number)| format!("{}{number}", name.replace("TAG", &tag)));
    (name, token(), one_of(&["N=V", " N = V ", "N=\"V\"", "N=\"V", "N", "N=", "=V", "N=V;;"]))
        .prop_map(|(name, token, form)| form.replace('N', &name).replace('V', &token))
}

fn cookies() -> impl Strategy<Value = String> {
    (prop::collection::vec(cookie(), 0..5), one_of(&["; ", ";", " ;\t"])).prop_map(|(all, between)| all.join(&between))
}

fn authority() -> impl Strategy<Value = String> {
    let host = one_of(&[
        "chat.example",
        "CHAT.example",
        "inner",
        "[2001:db8::1]",
        "127.0.0.1",
        "app.example",
        "x@y",
        "caf\u{e9}",
        "",
    ]);
    (host, one_of(&["", ":80", ":443", ":8081", ":", ":x", ":99999"])).prop_map(|(host, port)| host + &port)
}

fn address() -> impl Strategy<Value = String> {
    let host = one_of(&[
        "203.0.113.5",
        "10.0.0.1",
        "127.0.0.1",
        "2001:db8:ff::1",
        "[2001:db8::7]",
        "::ffff:192.0.2.1",
        "unknown",
        "_hidden",
        "\u{ff}",
        "caf\u{c3}\u{a9}",
        "",
    ]);
    (host, one_of(&["", ":80", ":_x", ":0x"])).prop_map(|(host, port)| host + &port)
}

fn listed(one: impl Strategy<Value = String>) -> impl Strategy<Value = String> {
    (prop::collection::vec(one, 1..4), one_of(&[",", ", ", " ,\t"])).prop_map(|(all, between)| all.join(&between))
}

fn element() -> impl Strategy<Value = String> {
    (address(), authority(), one_of(&["https", "http", "wss", "x"]), 0..6).prop_map(|(address, host, proto, kind)| {
        match kind {
            0 => format!("for={address};proto={proto};host={host}"),
            1 => format!("For=\"{address}\" ; Host=\"{host}\""),
            2 => format!("proto={proto}"),
            3 => format!("for=\"{address};proto={proto}"),
            4 => format!("host={host}"),
            _ => format!("by=\"a,b;c\\\"\";for={address}"),
        }
    })
}

/// A header line that says something of who asks, or from where.
fn line() -> impl Strategy<Value = (String, String)> {
    let proto = || one_of(&["https", "HTTP", "wss", "", "x", "\u{ff}"]);
    let origin = (one_of(&["http", "HTTPS", "https", "capacitor", "file", ""]), authority())
        .prop_map(|(scheme, authority)| format!("{scheme}://{authority}"));
    let origin = prop_oneof![4 => origin, 1 => one_of(&["null", "\u{ff}", "", "*", "capacitor://localhost", "https://app.example"])];
    let site = one_of(&["same-origin", "same-site", "cross-site", "none", "Same-Origin", "\u{ff}", ""]);
    let bearer =
        (one_of(&["Bearer ", "bearer  ", "Basic ", "Bearer", ""]), token()).prop_map(|(scheme, token)| scheme + &token);
    fn named(name: &'static str, value: impl Strategy<Value = String> + 'static) -> BoxedStrategy<(String, String)> {
        (any::<bool>(), value)
            .prop_map(move |(upper, value)| (if upper { name.to_uppercase() } else { name.to_owned() }, value))
            .boxed()
    }
    prop_oneof![
        3 => named("cookie", cookies()),
        3 => named("origin", origin),
        1 => named("sec-fetch-site", site),
        3 => named("host", authority()),
        1 => named("authorization", bearer),
        2 => named("x-forwarded-for", listed(address())),
        1 => named("x-forwarded-proto", listed(proto())),
        1 => named("x-forwarded-host", listed(authority())),
        1 => named("x-forwarded-port", one_of(&["443", "8081", "x", ""])),
        1 => named("forwarded", listed(element())),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn the_gate_and_the_control_plane_answer_alike(
        lines in prop::collection::vec(line(), 0..10),
        peer in prop::sample::select(&["127.0.0.1", "10.0.0.1", "::ffff:10.0.0.1", "203.0.113.9", "2001:db8::9"][..]),
        tls in any::<bool>(),
        claimed in 0..6_u64,
    ) {
        let text: String = lines.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let bytes = octets(&format!("GET /chat HTTP/1.1\r\n{text}\r\n"));
        let gate = Head::parse(&bytes).expect("a good head").expect("a whole one");
        let mut plane = HeaderMap::new();
        for (name, value) in &lines {
            let value = HeaderValue::from_bytes(&octets(value.trim_matches([' ', '\t']))).expect("a header value");
            plane.append(HeaderName::from_bytes(name.as_bytes()).expect("a header name"), value);
        }
        let judge = judge();
        let peer = Peer { address: peer.parse().expect("an address"), tls };
        let place = judge.place(&gate, peer);
        prop_assert_eq!(place, judge.place(&plane, peer));
        prop_assert_eq!(bearer(&gate), bearer(&plane));
        prop_assert_eq!(judge.has_cookie(&gate), judge.has_cookie(&plane));
        let claim = match claimed { 0 => ClaimedIdentity::Any, 5 => ClaimedIdentity::Nobody, number => ClaimedIdentity::User(user(number)) };
        for token in [bearer(&gate), None] {
            let acting = judge.acting(&gate, || place, token, claim, NOW_MS);
            prop_assert_eq!(acting, judge.acting(&plane, || place, token, claim, NOW_MS));
            let presented = judge.presented(&gate, place, token, NOW_MS);
            prop_assert_eq!(&presented, &judge.presented(&plane, place, token, NOW_MS));
            // Who acts is one of those who are presented, and nobody is whom a foreign page did not
            // bring itself.
            prop_assert!(acting.is_err() || presented.contains(&acting.expect("checked")));
            prop_assert!(token.is_some() || !place.foreign || presented.is_empty());
        }
        let new = (user(1), "new");
        let login = judge.log_in(&gate, place, new, 1000, NOW_MS);
        prop_assert_eq!(&login, &judge.log_in(&plane, place, new, 1000, NOW_MS));
        prop_assert_eq!(judge.log_out(&gate, place, user(1)), judge.log_out(&plane, place, user(1)));
        prop_assert!(login.is_empty() == place.foreign);
    }

    #[test]
    fn whatever_a_client_writes_it_is_counted_for_the_address_that_its_proxy_appends(
        written in prop::collection::vec(prop_oneof![Just(b','), Just(b'"'), Just(b'='), Just(b' '), b' '..=b'~', 0x80..=0xff_u8], 0..40),
        own in prop::collection::vec(0x80..=0xff_u8, 0..4),
        standard in any::<bool>(),
    ) {
        let (name, appended) = if standard { ("forwarded", &b", for=203.0.113.5"[..]) } else { ("x-forwarded-for", &b", 203.0.113.5"[..]) };
        let own = [&own[..], b"for=198.51.100.9"].concat();
        let mut plane = HeaderMap::new();
        plane.append(name, HeaderValue::from_bytes(&[&written[..], appended].concat()).expect("a header value"));
        if !standard {
            plane.append("forwarded", HeaderValue::from_bytes(&own).expect("a header value"));
        }
        let lines = plane.iter().flat_map(|(name, value)| [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat());
        let bytes = [b"GET /chat HTTP/1.1\r\n", &lines.collect::<Vec<_>>()[..], b"\r\n"].concat();
        let gate = Head::parse(&bytes).expect("a good head").expect("a whole one");
        let peer = Peer::plain("127.0.0.1".parse().expect("an address"));
        let client = "203.0.113.5".parse::<std::net::IpAddr>().expect("an address");
        prop_assert_eq!(judge().place(&gate, peer).client, client);
        prop_assert_eq!(judge().place(&plane, peer).client, client);
    }
}
