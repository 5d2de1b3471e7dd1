//! Heads in, places, identities and cookies out.

use std::collections::BTreeMap;

use super::*;
use crate::auth::{Identity, Issuer};
use crate::http::Head;
use crate::http::value::UNREADABLE;
use crate::ids::UserId;
use crate::limits::{COOKIES_REMOVED_MAX, HEAD_BYTES_MAX, LOGIN_COOKIES_MAX};

const NOW_MS: u64 = 1_000_000;
const DAY_MS: u64 = 86_400_000;

fn key() -> Key {
    Key::new([7; 32])
}

fn judge() -> Judge {
    Judge::new(key(), Networks::loopback(), Origins::default())
}

fn user(number: u64) -> UserId {
    UserId::new(number).expect("in range")
}

fn token_until(number: u64, expires_ms: u64) -> String {
    key().issue(user(number), 0, Issuer::Own, expires_ms)
}

fn token(number: u64) -> String {
    token_until(number, NOW_MS + DAY_MS)
}

/// Runs `seen` on a head with these lines.
fn with_head<T>(lines: &[(&str, &str)], seen: impl FnOnce(&Head<'_>) -> T) -> T {
    let lines: String = lines.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let text = format!("GET / HTTP/1.1\r\n{lines}\r\n");
    seen(&Head::parse(text.as_bytes()).expect("a good head").expect("a whole head"))
}

fn place_of(peer: &str, lines: &[(&str, &str)]) -> Place {
    let peer = Peer::plain(peer.parse().expect("an address"));
    with_head(lines, |head| judge().place(head, peer))
}

const OWN: Place = Place { client: Peer::GONE.address, https: false, foreign: false };

fn acting(lines: &[(&str, &str)], token: Option<&str>, claim: ClaimedIdentity) -> Result<u64, Unproven> {
    let place = |head: &Head<'_>| judge().place(head, Peer::plain([192, 0, 2, 1].into()));
    let found = with_head(lines, |head| judge().acting(head, || place(head), token, claim, NOW_MS));
    found.map(|identity| identity.user().get())
}

#[test]
fn a_stranger_is_not_believed_and_a_proxy_is() {
    let lines = [
        ("Host", "inner:8081"),
        ("X-Forwarded-For", "203.0.113.5:1234"),
        ("X-Forwarded-Proto", "https"),
        ("X-Forwarded-Host", "chat.example"),
        ("Origin", "https://chat.example"),
    ];
    let seen = place_of("127.0.0.1", &lines);
    assert_eq!((seen.client.to_string().as_str(), seen.https, seen.foreign), ("203.0.113.5", true, false));
    let seen = place_of("192.0.2.1", &lines);
    assert_eq!((seen.client.to_string().as_str(), seen.https, seen.foreign), ("192.0.2.1", false, true));
    assert_eq!(place_of("::ffff:192.0.2.1", &[]).client.to_string(), "192.0.2.1");
    let encrypted = Peer { address: [192, 0, 2, 1].into(), tls: true };
    assert!(with_head(&[("X-Forwarded-Proto", "http")], |head| judge().place(head, encrypted)).https);
    assert!(!judge().trusts(Peer::GONE.address));
}

#[test]
fn what_proxies_say_is_told_apart() {
    let heard = |peer: &str, lines: &[(&str, &str)]| {
        with_head(lines, |head| judge().heard(head, Peer::plain(peer.parse().expect("an address"))))
    };
    let client = ("X-Forwarded-For", "203.0.113.5");
    assert_eq!(heard("192.0.2.1", &[]), Heard::Direct);
    assert_eq!(heard("127.0.0.1", &[]), Heard::Silent);
    assert_eq!(heard("127.0.0.1", &[client]), Heard::Believed);
    assert_eq!(heard("::1", &[("Forwarded", "for=203.0.113.5")]), Heard::Believed);
    for no_client in [("X-Forwarded-Proto", "https"), ("X-Forwarded-For", "unknown"), ("Forwarded", "proto=https")] {
        assert_eq!(heard("127.0.0.1", &[no_client]), Heard::NoClient, "{no_client:?}");
    }
    for private in ["10.0.0.2", "172.17.0.1", "192.168.1.1", "100.64.0.1", "::ffff:10.0.0.2", "fd00::1", "fe80::1"] {
        assert_eq!(heard(private, &[client]), Heard::UntrustedPrivate, "{private}");
    }
    for public in ["192.0.2.1", "100.128.0.1", "2001:db8::1"] {
        assert_eq!(heard(public, &[client]), Heard::Untrusted, "{public}");
        assert_eq!(heard(public, &[("X-Forwarded-Host", "")]), Heard::Untrusted, "{public}");
    }
    let page = [("Host", "im.example"), ("Origin", "https://im.example"), ("X-Forwarded-Proto", "https")];
    let unsaid =
        |peer: &str| with_head(&page, |head| judge().unsaid(head, Peer::plain(peer.parse().expect("an address"))));
    assert_eq!((unsaid("127.0.0.1"), unsaid("10.0.0.2"), unsaid("192.0.2.1")), (None, Some(Unsaid::Scheme), None));
}

#[test]
fn two_hosts_are_none() {
    let ours = ("Origin", "http://im.example");
    assert!(!place_of("192.0.2.1", &[("Host", "im.example"), ours]).foreign);
    assert!(place_of("192.0.2.1", &[("Host", "im.example"), ("Host", "im.example"), ours]).foreign);
    assert!(place_of("192.0.2.1", &[ours]).foreign);
}

#[test]
fn a_claim_chooses_among_cookies_and_never_proves() {
    let tag = key().tag();
    let (seven, eight) = (token(7), token(8));
    let both = format!("imgate_{tag}_7={seven}; a=b; imgate_8=\"{eight}\"");
    let both = [("Cookie", both.as_str())];
    assert_eq!(acting(&both, None, ClaimedIdentity::User(user(7))), Ok(7));
    assert_eq!(acting(&both, None, ClaimedIdentity::User(user(8))), Ok(8), "under the name of earlier versions");
    assert_eq!(acting(&both, None, ClaimedIdentity::User(user(9))), Err(Unproven::NoToken));
    assert_eq!(acting(&both, None, ClaimedIdentity::Any), Err(Unproven::NoToken), "which of the two?");
    assert_eq!(acting(&both, None, ClaimedIdentity::Nobody), Err(Unproven::NoToken));
    assert_eq!(acting(&both, Some(&seven), ClaimedIdentity::Any), Ok(7), "a token of one's own comes first");
    assert_eq!(
        acting(&both, Some("bad"), ClaimedIdentity::User(user(8))),
        Err(Unproven::NoToken),
        "and is not repaired"
    );
    assert_eq!(acting(&both, Some(&seven), ClaimedIdentity::User(user(8))), Err(Unproven::NoToken));
    let expired = format!("imgate_7={}; imgate_8={eight}", token_until(7, NOW_MS - 1));
    assert_eq!(acting(&[("Cookie", &expired)], None, ClaimedIdentity::Any), Ok(8), "the only valid one");
    for wrong in ["imgate_07", "imgate_+7", "imgate_8", "imgate_", "imgate_other_7", "__Host-imgate_7", "Imgate_7"] {
        let cookie = format!("{wrong}={seven}");
        assert_eq!(acting(&[("Cookie", &cookie)], None, ClaimedIdentity::Any), Err(Unproven::NoToken), "{wrong}");
    }
    let host = format!("__Host-imgate_{tag}_7={seven}");
    assert_eq!(acting(&[("Cookie", &host)], None, ClaimedIdentity::Any), Ok(7));
}

#[test]
fn while_the_key_is_replaced_cookies_of_both_are_read_and_those_of_the_other_one_go_at_the_next_login() {
    let (old, new) = (key(), Key::new([8; 32]));
    let both = Judge::new(new.clone().accepting(&old), Networks::loopback(), Origins::default());
    let name = |key: &Key| format!("imgate_{}_7", key.tag());
    let cookie = format!("{}={}", name(&old), token(7));
    let asks = |judge: &Judge| {
        let found =
            with_head(&[("Cookie", &cookie)], |head| judge.acting(head, || OWN, None, ClaimedIdentity::Any, NOW_MS));
        found.map(|identity| identity.user().get())
    };
    assert_eq!(asks(&both), Ok(7));
    assert_eq!(asks(&Judge::new(new.clone(), Networks::loopback(), Origins::default())), Err(Unproven::NoToken));
    let lines = with_head(&[("Cookie", &cookie)], |head| both.log_in(head, OWN, (user(7), "fresh"), DAY_MS, NOW_MS));
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(lines[0].starts_with(&format!("{}=; ", name(&old))), "{lines:?}");
    assert!(lines[1].starts_with(&format!("{}=fresh; ", name(&new))), "{lines:?}");
}

#[test]
fn the_cookie_that_lives_longest_is_taken() {
    let tag = key().tag();
    let old =
        format!("imgate_7={}; imgate_{tag}_7={}; imgate_7=junk", token_until(7, NOW_MS), token_until(7, NOW_MS + 5));
    let found = with_head(&[("Cookie", &old)], |head| judge().acting(head, || OWN, None, ClaimedIdentity::Any, NOW_MS));
    assert_eq!(found.as_ref().map(Identity::expires_ms), Ok(NOW_MS + 5));
}

#[test]
fn a_foreign_page_is_told_apart_from_a_bad_token() {
    let cookie = format!("imgate_7={}", token(7));
    let lines = [("Cookie", cookie.as_str()), ("Host", "im.example"), ("Origin", "http://evil.example")];
    assert_eq!(acting(&lines, None, ClaimedIdentity::User(user(7))), Err(Unproven::Foreign));
    assert_eq!(acting(&lines, None, ClaimedIdentity::User(user(8))), Err(Unproven::NoToken));
    assert_eq!(acting(&lines, Some(&token(7)), ClaimedIdentity::Any), Ok(7), "no browser adds a token by itself");
}

/// A browser's cookies.
#[derive(Default)]
struct Jar(BTreeMap<String, String>);

impl Jar {
    /// The header, as browsers send it.
    fn header(&self) -> String {
        self.0.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("; ")
    }

    fn take(&mut self, lines: &[String]) {
        for line in lines {
            let (pair, attributes) = line.split_once("; ").expect("attributes");
            assert!(attributes.starts_with("HttpOnly; SameSite=Lax; Path=/; Max-Age="), "{line}");
            let (name, value) = pair.split_once('=').expect("a pair");
            assert_eq!(attributes.ends_with("; Secure"), name.starts_with("__Host-"), "{line}");
            if attributes.contains("Max-Age=0") {
                self.0.remove(name);
            } else {
                self.0.insert(name.to_owned(), value.to_owned());
            }
        }
    }

    /// `number` logs in with this browser at `now_ms`.
    fn log_in(&mut self, number: u64, place: Place, now_ms: u64) {
        let (token, cookies) = (token_until(number, now_ms + DAY_MS), self.header());
        let lines = with_head(&[("Cookie", &cookies)], |head| {
            judge().log_in(head, place, (user(number), &token), DAY_MS, now_ms)
        });
        self.take(&lines);
    }
}

#[test]
fn a_hundred_people_log_in_with_one_browser_and_the_last_ones_stay() {
    let mut jar = Jar::default();
    for number in 1..=100 {
        jar.log_in(number, OWN, NOW_MS + number);
        let cookies = jar.header();
        let found = acting(&[("Cookie", &cookies)], None, ClaimedIdentity::User(user(number)));
        assert_eq!(found, Ok(number));
        assert!(jar.0.len() <= LOGIN_COOKIES_MAX && cookies.len() * 2 < HEAD_BYTES_MAX);
    }
    let cookies = jar.header();
    let stays = |number| acting(&[("Cookie", &cookies)], None, ClaimedIdentity::User(user(number))).is_ok();
    let last = 100 - LOGIN_COOKIES_MAX as u64;
    assert!((1..=last).all(|number| !stays(number)) && (last + 1..=100).all(stays));
}

#[test]
fn a_crowded_browser_gets_rid_of_its_cookies_by_and_by() {
    let mut jar = Jar::default();
    for number in 1..=100 {
        jar.0.insert(format!("imgate_{number}"), token(number));
    }
    for logins in 1..=4 {
        jar.log_in(1000, OWN, NOW_MS);
        assert_eq!(jar.0.len(), (101 - logins * COOKIES_REMOVED_MAX).max(LOGIN_COOKIES_MAX));
    }
}

#[test]
fn a_login_removes_what_is_of_no_use_and_nothing_else() {
    let tag = key().tag();
    let mut jar = Jar::default();
    for (name, value) in [
        ("theme", "dark".to_owned()),
        ("imgate_7", token(7)),
        (&format!("imgate_{tag}_8"), token(8)),
        (&format!("imgate_{tag}_9"), token_until(9, NOW_MS - 1)),
        (&format!("imgate_{tag}_10"), token(11)),
        ("imgate_000000_7", token(7)),
        ("imgate_12", "of another gateway, or key".to_owned()),
    ] {
        jar.0.insert(name.to_owned(), value);
    }
    jar.log_in(7, OWN, NOW_MS);
    let left: Vec<_> = jar.0.keys().map(String::as_str).collect();
    let (seven, eight) = (format!("imgate_{tag}_7"), format!("imgate_{tag}_8"));
    let mut wanted = ["imgate_000000_7", "imgate_12", &seven, &eight, "theme"];
    wanted.sort_unstable();
    assert_eq!(left, wanted);
}

#[test]
fn a_page_of_another_origin_logs_nobody_in_or_out() {
    let foreign = Place { foreign: true, ..OWN };
    let cookie = format!("imgate_7={}", token(7));
    with_head(&[("Cookie", &cookie)], |head| {
        assert_eq!(judge().log_in(head, foreign, (user(8), &token(8)), DAY_MS, NOW_MS), Vec::<String>::new());
        assert_eq!(judge().log_out(head, foreign, user(7)), Vec::<String>::new());
        assert_eq!(judge().presented(head, foreign, None, NOW_MS), []);
    });
}

#[test]
fn logging_out_removes_every_name_that_the_login_may_have() {
    let tag = key().tag();
    let mut jar = Jar::default();
    let https = Place { https: true, ..OWN };
    jar.0.insert("imgate_7".to_owned(), token(7));
    jar.0.insert("imgate_8".to_owned(), token(8));
    jar.log_in(9, https, NOW_MS);
    jar.0.insert(format!("imgate_{tag}_7"), token(7));
    jar.0.insert(format!("__Host-imgate_{tag}_7"), token(7));
    let cookies = jar.header();
    let lines = with_head(&[("Cookie", &cookies)], |head| judge().log_out(head, https, user(7)));
    jar.take(&lines);
    assert_eq!(jar.0.keys().collect::<Vec<_>>(), [&format!("__Host-imgate_{tag}_9"), "imgate_8"]);
    let lines = with_head(&[], |head| judge().log_out(head, OWN, user(7)));
    assert_eq!(lines, [format!("imgate_{tag}_7=; HttpOnly; SameSite=Lax; Path=/; Max-Age=0")]);
}

#[test]
fn two_gateways_on_one_host_do_not_overwrite_each_others_cookies() {
    let other = Judge::new(Key::new([8; 32]), Networks::loopback(), Origins::default());
    let mine = with_head(&[], |head| judge().log_in(head, OWN, (user(1), &token(1)), DAY_MS, NOW_MS));
    let theirs = with_head(&[], |head| other.log_in(head, OWN, (user(1), "theirs"), DAY_MS, NOW_MS));
    let name = |lines: &[String]| lines[0].split('=').next().expect("a name").to_owned();
    assert_ne!(name(&mine), name(&theirs));
    let cookies = format!("{}={}; {}=theirs", name(&mine), token(1), name(&theirs));
    assert_eq!(acting(&[("Cookie", &cookies)], None, ClaimedIdentity::Any), Ok(1));
    assert!(!with_head(&[("Cookie", &format!("{}=x", name(&theirs)))], |head| judge().has_cookie(head)));
}

#[test]
fn bearer_is_a_scheme() {
    for (value, token) in [
        (&b"Bearer abc"[..], Some("abc")),
        (b"bearer  abc ", Some("abc")),
        (b"BEARER abc", Some("abc")),
        (b"Basic abc", None),
        (b"Bearer", None),
        (b"Bearer \xff", Some(UNREADABLE)),
        (b"Bearer\xff abc", None),
    ] {
        let text = [b"GET / HTTP/1.1\r\nAuthorization: ", value, b"\r\n\r\n"].concat();
        let head = Head::parse(&text).expect("a good head").expect("a whole head");
        assert_eq!(bearer(&head), token, "{value:?}");
    }
}

#[test]
fn a_neighbours_cookie_that_is_no_text_does_not_hide_ours() {
    let ours = format!("imgate_{}_7={}", key().tag(), token(7));
    for (before, behind) in [(&b"name=Zo\xeb; "[..], &b""[..]), (b"", b"; nick=\xc4\xe3\xba\xc3"), (b"\xff;", b";\xff")]
    {
        let text = [b"GET / HTTP/1.1\r\nCookie: ", before, ours.as_bytes(), behind, b"\r\n\r\n"].concat();
        let head = Head::parse(&text).expect("a good head").expect("a whole head");
        let found = judge().acting(&head, || OWN, None, ClaimedIdentity::Any, NOW_MS);
        assert_eq!(found.map(|identity| identity.user().get()), Ok(7), "{before:?} {behind:?}");
    }
}

#[test]
fn an_origin_that_is_no_text_is_of_no_page_of_ours() {
    let seen = |line: &[u8]| {
        let text = [b"GET / HTTP/1.1\r\nHost: im.example\r\n", line, b"\r\n\r\n"].concat();
        let head = Head::parse(&text).expect("a good head").expect("a whole head");
        judge().place(&head, Peer::plain([192, 0, 2, 1].into())).foreign
    };
    assert!(!seen(b"Origin: http://im.example"));
    assert!(seen(b"Origin: \xff") && seen(b"Origin: http://im.example\r\nOrigin: \xff"));
    assert!(seen(b"Sec-Fetch-Site: \xff"));
}

#[test]
fn a_token_of_another_system_is_known_by_its_head_however_that_is_written() {
    use base64::Engine;
    let base64 = |text: &str| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(text);
    for head in [r#"{"alg":"HS256"}"#, "{\n  \"alg\": \"HS256\"\n}", " {\t}\r\n", "{\"\u{fc}\":1}"] {
        assert!(is_jwt(&format!("{}.e30.c2ln", base64(head))), "{head:?}");
        assert!(is_jwt(&format!("{}.e30.", base64(head))), "without a signature it is to be refused as one: {head:?}");
    }
    let object = base64("{}");
    for token in [
        "",
        "..",
        &object,
        &format!("{object}.e30"),
        &format!("{object}.e30.c2ln.x"),
        &format!("{object}=.e30.c2ln"),
        &format!("{}.e30.c2ln", base64("[]")),
        &format!("{}.e30.c2ln", base64("\"{}\"")),
        &format!("{}.e30.c2ln", base64("{")),
        &token(7),
    ] {
        assert!(!is_jwt(token), "{token:?}");
    }
}
