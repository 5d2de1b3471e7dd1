//! Any values of the headers in which proxies speak of their clients: never a panic, a peer that is not trusted is never
//! believed, and the client is never a trusted proxy of the list unless all of it is.

#![no_main]

use std::net::{IpAddr, Ipv4Addr};
use std::sync::LazyLock;

use imgate::auth::Key;
use imgate::caller::{Headers, Judge, Origins, Peer};
use imgate::fair::Networks;
use libfuzzer_sys::fuzz_target;

const NAMES: [&str; 8] = [
    "forwarded",
    "x-forwarded-for",
    "x-forwarded-proto",
    "x-forwarded-host",
    "x-forwarded-port",
    "host",
    "origin",
    "sec-fetch-site",
];

static JUDGE: LazyLock<Judge> = LazyLock::new(|| {
    let trusted = Networks::parse(["10.0.0.0/8", "2001:db8::/32"]).expect("networks");
    Judge::new(Key::new([7; 32]), trusted, Origins::parse(["https://pages.example"]).expect("an origin"))
});

/// Header lines, in order.
struct Lines<'a>(Vec<(&'static str, &'a str)>);

impl Headers for Lines<'_> {
    fn values(&self, name: &'static str) -> impl Iterator<Item = &str> {
        self.0.iter().filter(move |(known, _)| *known == name).map(|(_, value)| value.trim_matches([' ', '\t']))
    }
}

fuzz_target!(|input: Vec<(u8, &str)>| {
    let lines = input.into_iter().map(|(name, value)| (NAMES[usize::from(name) % NAMES.len()], value)).collect();
    let lines = Lines(lines);
    let stranger = Peer::plain(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 9)));
    let place = JUDGE.place(&lines, stranger);
    assert_eq!((place.client, place.https), (stranger.address, false), "a stranger is believed");
    let proxy = Peer { address: IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)), tls: true };
    let place = JUDGE.place(&lines, proxy);
    assert_eq!(place.client, place.client.to_canonical());
    assert_eq!(place, JUDGE.place(&lines, proxy), "the same head, the same verdict");
});
