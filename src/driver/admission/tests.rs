//! Heads in, verdicts out.

use super::*;
use crate::auth::Key;
use crate::caller::Origins;
use crate::fair::Networks;
use crate::ids::UserId;

const NOW_MS: u64 = 1_000_000;

fn key() -> Key {
    Key::new([7; 32])
}

fn test_judge() -> Judge {
    Judge::new(key(), Networks::loopback(), Origins::default())
}

/// A client from somewhere that is no proxy.
fn stranger() -> Option<Peer> {
    Some(Peer::plain([192, 0, 2, 9].into()))
}

fn token(user: u64, issuer: Issuer) -> String {
    key().issue(UserId::new(user).expect("in range"), 0, issuer, NOW_MS + 1)
}

fn verdict(target: &str, headers: &[(&str, &str)]) -> Verdict {
    verdict_on(target, headers, stranger())
}

fn verdict_on(target: &str, headers: &[(&str, &str)], peer: Option<Peer>) -> Verdict {
    let mut text =
        format!("GET {target} HTTP/1.1\r\nHost: im.example:8081\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n");
    text += "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    for (name, value) in headers {
        text += &format!("{name}: {value}\r\n");
    }
    text += "\r\n";
    let rules = AdmissionRules { judge: &test_judge(), wall_ms: NOW_MS, echo: false, room: true, compression: false };
    judge(text.as_bytes(), rules, || peer)
}

/// The user and profile of a session, or the status of a refusal.
fn outcome(target: &str, headers: &[(&str, &str)]) -> Result<(u64, Profile), u16> {
    match verdict(target, headers) {
        Verdict::Session { hello, .. } => Ok((hello.identity.user().get(), hello.profile)),
        Verdict::Refused(_, response) => Err(response.status()),
        Verdict::BadToken { words, .. } => {
            let close = push::close(CloseCode::BadToken);
            assert!(words.starts_with(b"HTTP/1.1 101 ") && words.ends_with(&close));
            Err(CloseCode::BadToken.code())
        }
        other => panic!("{target}: {other:?}"),
    }
}

#[test]
fn a_legacy_page_must_name_the_user_of_its_token() {
    let good = token(7, Issuer::FastIm);
    let legacy = Profile::Legacy(wire::Echo::None);
    assert_eq!(outcome(&format!("/chat?id=7&token={good}"), &[]), Ok((7, legacy)));
    assert_eq!(outcome(&format!("/chat?id=8&token={good}"), &[]), Err(403));
    assert_eq!(outcome(&format!("/chat?token={good}"), &[]), Err(403));
    assert_eq!(outcome("/chat?id=7&token=", &[]), Err(403));
    assert_eq!(outcome("/chat", &[]), Err(403));
    assert_eq!(outcome("/chat?id=NaN&token=x", &[]), Err(403));
}

#[test]
fn the_issuer_decides_the_echo() {
    for (issuer, echo) in
        [(Issuer::FastIm, wire::Echo::None), (Issuer::ImChat, wire::Echo::Groups), (Issuer::Own, wire::Echo::None)]
    {
        let target = format!("/chat?id=7&token={}", token(7, issuer));
        assert_eq!(outcome(&target, &[]), Ok((7, Profile::Legacy(echo))));
    }
}

#[test]
fn a_v2_token_may_stand_in_four_places() {
    let good = token(7, Issuer::Own);
    let v2 = ("Sec-WebSocket-Protocol", "imgate.v2");
    let bearer = format!("Bearer {good}");
    let offer = format!("imgate.v2, token.{good}");
    let cookie = format!("imgate_7={good}");
    assert_eq!(outcome(&format!("/chat?token={good}"), &[v2]), Ok((7, Profile::V2)));
    assert_eq!(outcome("/chat", &[v2, ("Authorization", &bearer)]), Ok((7, Profile::V2)));
    assert_eq!(outcome("/chat", &[("Sec-WebSocket-Protocol", &offer)]), Ok((7, Profile::V2)));
    assert_eq!(outcome("/chat", &[v2, ("Cookie", &cookie)]), Ok((7, Profile::V2)));
    assert_eq!(outcome("/chat", &[v2]), Err(4501));
    assert_eq!(outcome("/chat?token=garbage", &[v2]), Err(4501));
    assert_eq!(outcome(&format!("/chat?id=8&token={good}"), &[v2]), Err(4501));
}

#[test]
fn authorization_wins_over_the_cookie() {
    let bearer = format!("Bearer {}", token(7, Issuer::Own));
    let cookie = format!("imgate_8={}", token(8, Issuer::Own));
    let headers =
        [("Sec-WebSocket-Protocol", "imgate.v2"), ("Authorization", bearer.as_str()), ("Cookie", cookie.as_str())];
    assert_eq!(outcome("/chat", &headers), Ok((7, Profile::V2)));
}

#[test]
fn a_cookie_counts_for_its_own_user_and_its_own_page() {
    let two = format!("imgate_7={}; imgate_8={}", token(7, Issuer::FastIm), token(8, Issuer::FastIm));
    let legacy = Profile::Legacy(wire::Echo::None);
    assert_eq!(outcome("/chat?id=8&token=", &[("Cookie", &two)]), Ok((8, legacy)));
    assert_eq!(outcome("/chat?id=9&token=", &[("Cookie", &two)]), Err(403));
    let here = [("Cookie", two.as_str()), ("Origin", "http://im.example:8081")];
    assert_eq!(outcome("/chat?id=8&token=", &here), Ok((8, legacy)));
    let elsewhere = [("Cookie", two.as_str()), ("Origin", "http://evil.example")];
    assert_eq!(outcome("/chat?id=8&token=", &elsewhere), Err(403));
    let from_disk = [("Cookie", two.as_str()), ("Origin", "null")];
    assert_eq!(outcome("/chat?id=8&token=", &from_disk), Err(403));
    let v2 = [("Cookie", two.as_str()), ("Sec-WebSocket-Protocol", "imgate.v2")];
    assert_eq!(outcome("/chat", &v2), Err(4501), "whose cookie is meant?");
}

#[test]
fn the_gate_hears_what_a_trusted_proxy_says_of_the_host_and_nobody_else() {
    let cookie = format!("imgate_7={}", token(7, Issuer::Own));
    let headers = [
        ("Cookie", cookie.as_str()),
        ("Origin", "https://chat.example"),
        ("X-Forwarded-Host", "chat.example"),
        ("X-Forwarded-Proto", "https"),
        ("Sec-WebSocket-Protocol", "imgate.v2"),
    ];
    let proxy = Some(Peer::plain([127, 0, 0, 1].into()));
    assert!(matches!(verdict_on("/chat?id=7", &headers, proxy), Verdict::Session { .. }));
    for peer in [stranger(), None] {
        let refused = verdict_on("/chat?id=7", &headers, peer);
        assert!(matches!(refused, Verdict::BadToken { why: GateRefusal::CrossOrigin, .. }), "{refused:?}");
        let refused = verdict_on("/chat?id=7", &headers[..4], peer);
        assert!(matches!(refused, Verdict::Refused(GateRefusal::CrossOrigin, _)), "{refused:?}");
    }
    let refused = verdict_on("/chat?id=8", &headers, stranger());
    assert!(matches!(refused, Verdict::BadToken { why: GateRefusal::Forbidden, .. }), "{refused:?}");
}

#[test]
fn an_expired_token_is_none() {
    let old = key().issue(UserId::new(7).expect("in range"), 0, Issuer::FastIm, NOW_MS - 1);
    assert_eq!(outcome(&format!("/chat?id=7&token={old}"), &[]), Err(403));
}

#[test]
fn the_checks_come_in_the_order_of_the_contract() {
    let good = token(7, Issuer::FastIm);
    let judge_of = test_judge();
    let rules = AdmissionRules { judge: &judge_of, wall_ms: NOW_MS, echo: false, room: true, compression: false };
    let ask = |start: &str, headers: &str| match judge(
        format!("{start}\r\nHost: x\r\n{headers}\r\n").as_bytes(),
        rules,
        stranger,
    ) {
        Verdict::Refused(_, response) => response.status(),
        other => panic!("{start}: {other:?}"),
    };
    let upgrade = "Connection: upgrade\r\nUpgrade: websocket\r\n";
    assert_eq!(ask("GET /chat HTTP/1.1", ""), 400, "no upgrade");
    assert_eq!(ask("POST /chat HTTP/1.1", upgrade), 405);
    assert_eq!(ask("GET /chat HTTP/1.1", &format!("{upgrade}Sec-WebSocket-Version: 8\r\n")), 400);
    let versioned = format!("{upgrade}Sec-WebSocket-Version: 13\r\n");
    assert_eq!(ask("GET /chat?id=7&token=bad HTTP/1.1", &versioned), 403, "the token before the key");
    assert_eq!(ask(&format!("GET /chat?id=7&token={good} HTTP/1.1"), &versioned), 400, "the key last");
}

#[test]
fn what_is_not_ours_goes_on() {
    assert!(matches!(verdict("/user/login", &[]), Verdict::Http));
    assert!(matches!(verdict("/echo", &[]), Verdict::Http), "the echo route is hidden");
    let judge_of = test_judge();
    let rules = AdmissionRules { judge: &judge_of, wall_ms: NOW_MS, echo: true, room: true, compression: false };
    assert!(matches!(judge(b"GET / HTTP/1.1\r\nHost:", rules, stranger), Verdict::Incomplete));
    assert!(matches!(
        judge(b"\x16\x03\x01\x02\x00\x01\x00", rules, stranger),
        Verdict::Refused(GateRefusal::BadRequest, _)
    ));
}
