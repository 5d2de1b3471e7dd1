//! Fuzz targets as plain functions: `fuzz/` gives them to libFuzzer, `fuzz_corpus.rs` replays what was kept. A target panics when
//! what it promises does not hold.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::ops::ControlFlow;
use std::sync::LazyLock;

use imgate::api::{Jwt, JwtSettings};
use imgate::auth::Key;
use imgate::caller::preamble;
use imgate::caller::{Headers, Judge, Origins, Peer, bearer, is_jwt};
use imgate::config::{parse_duration_ms, parse_size};
use imgate::fair::Networks;
use imgate::http::Head;
use imgate::limits::{HEAD_BYTES_MAX, PREAMBLE_BYTES_MAX, UNREAD_BYTES_MAX};
use imgate::wire::command::{Command, Parser};
use imgate::wire::{Echo, Profile};
use imgate::ws::deflate::{Deflater, Inflater, agree};
use imgate::ws::handshake::Upgrade;
use imgate::ws::{Decoder, Incoming, Limits, Progress, Violation, frame};
use serde::Deserialize;
use serde::de::IgnoredAny;

/// The keys that no client may speak for.
const OWNED: [&str; 11] =
    ["id", "seq", "ts", "userid", "cmd", "dstid", "kind", "dup", "recall", "recalled", "happened"];

/// Any bytes as a command: the parser answers, the same for a fresh and a used parser, and what it relays is JSON without our keys.
pub(crate) fn command(message: &[u8]) {
    let mut used = Parser::default();
    let _ = used.parse(br#"{"cmd":10,"dstid":2,"cid":"x","a":[{"b":"\u0041"}]}"#, Profile::V2);
    for profile in [Profile::Legacy(Echo::None), Profile::V2] {
        let command = Parser::default().parse(message, profile);
        assert_eq!(command, used.parse(message, profile), "a parser keeps nothing of the message before");
        let Ok(Command::Post(post)) = command else { continue };
        let object: serde_json::Map<String, serde_json::Value> =
            serde_json::from_str(&format!("{{{}}}", post.body)).expect("a body is the inside of an object");
        for key in object.keys() {
            // Unicode's full case mapping folds more than the parser does, but nothing else into these names but dotless i.
            let folded = key.to_uppercase().to_lowercase();
            assert!(!OWNED.contains(&folded.as_str()) || key.contains('\u{131}'), "{key:?} is ours");
        }
    }
}

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
struct Lines<'a>(Vec<(&'static str, &'a [u8])>);

impl Headers for Lines<'_> {
    fn values(&self, name: &'static str) -> impl Iterator<Item = &[u8]> {
        self.0.iter().filter(move |(known, _)| *known == name).map(|(_, value)| value.trim_ascii())
    }
}

/// Any values of the headers in which proxies speak of their clients, a line each, of which the first byte names the header: never a
/// panic, a peer that is not trusted is never believed, and the same head has the same verdict.
pub(crate) fn forwarded(input: &[u8]) {
    let lines = input.split(|byte| *byte == b'\n').filter_map(|line| {
        let (name, value) = line.split_first()?;
        Some((NAMES[usize::from(*name) % NAMES.len()], value))
    });
    let lines = Lines(lines.collect());
    let stranger = Peer::plain(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 9)));
    let place = JUDGE.place(&lines, stranger);
    assert_eq!((place.client, place.https), (stranger.address, false), "a stranger is believed");
    let proxy = Peer { address: IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)), tls: true };
    let place = JUDGE.place(&lines, proxy);
    assert_eq!(place.client, place.client.to_canonical());
    assert_eq!(place, JUDGE.place(&lines, proxy), "the same head, the same verdict");
}

/// Any bytes as a request head: never a panic, a bounded head, and the same verdict when more bytes follow a whole head.
pub(crate) fn http_head(bytes: &[u8]) {
    let Ok(Some(head)) = Head::parse(bytes) else { return };
    assert!(head.len() <= HEAD_BYTES_MAX && head.len() <= bytes.len());
    let alone = Head::parse(&bytes[..head.len()]);
    assert!(matches!(alone, Ok(Some(again)) if again.path() == head.path() && again.query() == head.query()));
    let _ = (
        head.host(),
        bearer(&head),
        head.cookie("token"),
        head.query_param("token"),
        head.cookies_with_prefix("im_").count(),
    );
    if let Ok(upgrade) = Upgrade::of(&head) {
        let _ = (upgrade.offers("imgate.v2"), upgrade.offer_after("token."));
        if let Ok(accept) = upgrade.accept() {
            accept.write_response(&mut Vec::new(), None, None);
        }
    }
}

/// What each format begins with, so that the fuzzer need not find it out.
const BEGINNINGS: [&[u8]; 5] =
    [b"", b"\xff\xd8\xff\xe0", b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR", b"GIF89a", b"RIFF\0\0\0\0WEBPVP8X"];

/// Any bytes as an uploaded picture, behind a beginning that the first byte names: its head is read without a panic and without more
/// memory than the bytes have, and what it announces is always the same.
pub(crate) fn picture_head(input: &[u8]) {
    let Some((&which, rest)) = input.split_first() else { return };
    let mut bytes = BEGINNINGS[usize::from(which) % BEGINNINGS.len()].to_vec();
    bytes.extend_from_slice(rest);
    let size = pictures::announced_size(&bytes);
    assert_eq!(pictures::announced_size(&bytes), size, "the same bytes, the same size");
}

/// Any bytes before the first request of a listener for proxies: never a panic, a bounded header, and the same verdict however the
/// bytes are cut.
pub(crate) fn proxy_preamble(bytes: &[u8]) {
    let found = preamble::parse(bytes);
    if let Ok(Some(preamble)) = found {
        assert!(preamble.len <= PREAMBLE_BYTES_MAX && preamble.len <= bytes.len(), "{preamble:?}");
        assert_eq!(preamble::parse(&bytes[..preamble.len]), found, "what follows is the client's, and changes nothing");
    } else if found == Ok(None) {
        assert!(bytes.len() < PREAMBLE_BYTES_MAX, "no header is longer, so nothing is waited for");
    }
    for cut in 0..bytes.len().min(PREAMBLE_BYTES_MAX) {
        match preamble::parse(&bytes[..cut]) {
            Ok(None) => {}
            Ok(Some(preamble)) => assert_eq!(Ok(Some(preamble)), found),
            // Only what no further byte can help is refused.
            Err(_) => assert!(found.is_err(), "refused after {cut} bytes, and taken as a whole"),
        }
    }
}

/// Far above every bound of a setting: 31 years, a pebibyte.
const MS_MAX: u64 = 1_000_000_000_000;
const SIZE_MAX: u64 = 1 << 50;

/// Any text as a time or a size in a setting: never a panic, and what is read means what a person means by it.
pub(crate) fn units(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    if let Some(ms) = parse_duration_ms(text) {
        assert!(text == "0" || text.chars().any(char::is_alphabetic), "{text:?} has no unit");
        assert!(ms > MS_MAX || parse_duration_ms(&format!("{ms}ms")) == Some(ms), "{text:?} is {ms} ms");
    }
    if let Some(bytes) = parse_size(text) {
        assert!(text.chars().any(|c| c.is_ascii_digit()), "{text:?} has no number");
        assert!(!text.contains('-'), "{text:?} is negative");
        assert!(bytes > SIZE_MAX || parse_size(&bytes.to_string()) == Some(bytes), "{text:?} is {bytes} bytes");
    }
    if let Ok(number) = text.parse::<u64>()
        && !text.starts_with('+')
    {
        assert_eq!(parse_size(text), Some(number), "a bare number is bytes");
        assert_eq!(parse_duration_ms(text), (text == "0").then_some(0), "a bare number is no time but 0");
    }
}

const LIMITS: Limits = Limits { message_bytes: 1000, fragments: 16, deflate: true };
/// What a connection may own: a stopped read, and a message being assembled, each with its slack, and the state itself.
const HEAP_BYTES_MAX: usize = 2 * (UNREAD_BYTES_MAX + LIMITS.message_bytes) + 256;

/// The messages as text, and how it ended. Each byte of `plan` says how long a piece is, and whether the sink stops at a message.
fn decode(stream: &[u8], plan: &[u8]) -> (Vec<String>, Result<Progress, Violation>) {
    let mut decoder = Decoder::default();
    let mut got = Vec::new();
    let mut sink = |incoming: Incoming<'_>| {
        got.push(format!("{incoming:?}"));
        let stop = plan.get(got.len() % plan.len().max(1)).is_some_and(|byte| byte & 1 == 1);
        if stop { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let mut outcome = Ok(Progress::Drained);
    let mut rest = stream;
    let mut lengths = plan.iter().map(|byte| usize::from(byte >> 1) + 1).chain(std::iter::repeat(UNREAD_BYTES_MAX));
    while !rest.is_empty() && outcome == Ok(Progress::Drained) {
        let (piece, after) = rest.split_at(lengths.next().unwrap_or(1).min(rest.len()));
        rest = after;
        outcome = decoder.feed(&mut piece.to_vec(), &LIMITS, &mut sink);
        while outcome == Ok(Progress::Stopped) {
            assert!(decoder.heap_bytes() <= HEAP_BYTES_MAX);
            outcome = decoder.resume(&LIMITS, &mut sink);
        }
        assert!(decoder.heap_bytes() <= HEAP_BYTES_MAX);
    }
    (got, outcome)
}

/// Any bytes, cut anywhere, from a sink that stops anywhere (the first byte says how many bytes behind it plan that): the decoder never
/// panics, keeps its bounds, and means the same as without cuts and stops.
pub(crate) fn ws_decoder(input: &[u8]) {
    let Some((&length, rest)) = input.split_first() else { return };
    let (plan, stream) = rest.split_at(usize::from(length).min(rest.len()));
    assert_eq!(decode(stream, plan), decode(stream, &[]));
}

const INFLATED_BYTES_MAX: usize = 20_000;

/// Any bytes as a compressed message, and as what a client offers: no panic, and never more than the bound; what is inflated is
/// compressed and inflated again to the same.
pub(crate) fn ws_deflate(payload: &[u8]) {
    if let Ok(header) = std::str::from_utf8(payload) {
        let _ = agree([header].into_iter());
    }
    let mut inflater = Inflater::default();
    let open = |inflater: &mut Inflater, payload: &[u8]| {
        inflater.open(false, payload, INFLATED_BYTES_MAX).map(|incoming| incoming.payload().to_vec())
    };
    let Ok(message) = open(&mut inflater, payload) else { return };
    assert!(message.len() <= INFLATED_BYTES_MAX);
    if let Some(again) = Deflater::new(0).frame(frame::BINARY, &message) {
        let payload = frame::unframed(&again).1;
        if payload.len() * 100 >= message.len() {
            assert_eq!(open(&mut inflater, payload), Ok(message));
        }
    }
}

/// A verifier with one secret, which the fuzzer knows.
static JWT: LazyLock<Jwt> = LazyLock::new(|| {
    let folder = tempfile::tempdir().expect("there is a temporary folder");
    let file = folder.path().join("secret");
    std::fs::write(&file, SECRET).expect("the folder is ours");
    let settings = JwtSettings { keys: vec![file], user_claim: "sub".to_owned(), ..JwtSettings::default() };
    Jwt::new(settings, std::sync::Arc::default()).expect("it is a secret")
});
const SECRET: &[u8] = b"a secret of more than thirty-two bytes";

/// Any text as a token of another system, and any head or any claims of one that is signed well: never a panic, nobody is named by what is not
/// signed, and by what is only the subject of the claims, while it has not run out.
pub(crate) fn jwt(input: &[u8]) {
    if let Ok(text) = std::str::from_utf8(input) {
        assert_eq!(JWT.subject(text), None, "nobody has signed {text:?}");
    }
    let with_head = jwt_of(input, br#"{"sub":"ann","exp":4102444800}"#);
    if JWT.subject(&with_head).is_some() {
        // What it does not know is not looked at: it need not be a text or a number that there is.
        let names: BTreeMap<String, IgnoredAny> = serde_json::from_slice(input).expect("a head is an object");
        let head: JwtHead = serde_json::from_slice(input).expect("a head names what it is signed with");
        assert!(head.alg == "HS256" && !names.contains_key("crit"), "not what the key is for: {head:?} {names:?}");
        assert!(is_jwt(&with_head), "the gate would not know it: {with_head}");
    }
    let Some(subject) = subject_of(input) else { return };
    let claims: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(input).expect("claims are JSON");
    let said = &claims["sub"];
    assert!(said.as_str() == Some(&subject) || said.as_u64().is_some_and(|number| number.to_string() == subject));
    assert!(claims["exp"].as_f64().is_some_and(|end_s| end_s > 1_700_000_000.0), "it has run out: {claims:?}");
}

/// What a head says of how a token is signed.
#[derive(Deserialize, Debug)]
struct JwtHead {
    alg: String,
}

/// Whom a token with these claims names, signed as it should be.
pub(crate) fn subject_of(claims: &[u8]) -> Option<String> {
    JWT.subject(&jwt_of(br#"{"alg":"HS256"}"#, claims))
}

/// `head` and `claims` with a signature (RFC 7515, section 3.1).
fn jwt_of(head: &[u8], claims: &[u8]) -> String {
    use base64::Engine;
    use hmac::{Hmac, KeyInit, Mac};
    let base64 = base64::engine::general_purpose::URL_SAFE_NO_PAD;
    let said = format!("{}.{}", base64.encode(head), base64.encode(claims));
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(SECRET).expect("any length will do");
    mac.update(said.as_bytes());
    format!("{said}.{}", base64.encode(mac.finalize().into_bytes()))
}
