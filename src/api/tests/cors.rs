//! The API for pages of other origins: who may read an answer, and what a browser is told before it
//! asks.

use std::time::Duration;

use super::rig::{Answered, Ask, LEGACY, PAGE, Rig};
use crate::api::Deadlines;

const ELSEWHERE: &str = "https://elsewhere.example";

fn preflight(rig: &Rig, origin: &str, path: &str) -> Answered {
    rig.ask(Ask {
        method: "OPTIONS",
        target: path,
        headers: &[
            ("Origin", origin),
            ("Access-Control-Request-Method", "PATCH"),
            ("Access-Control-Request-Headers", "authorization,content-type"),
            ("Sec-Fetch-Site", "cross-site"),
        ],
        body: "",
    })
}

#[test]
fn a_page_that_is_listed_is_told_what_it_may_send() {
    let rig = Rig::start();
    let told = preflight(&rig, PAGE, "/api/v1/me");
    assert_eq!((told.status, told.body.as_str()), (204, ""));
    assert_eq!(told.header("access-control-allow-origin"), Some(PAGE));
    assert_eq!(
        told.header("access-control-allow-headers"),
        Some("authorization, content-type, x-content-sha256, x-imgate-user")
    );
    assert!(told.header("access-control-allow-methods").is_some_and(|methods| methods.contains("PATCH")));
    assert_eq!(told.header("access-control-max-age"), Some("600"));
    assert_eq!(told.header("access-control-allow-credentials"), None, "its visitor's cookies do not count");
    assert_eq!(told.header("vary"), Some("origin"));
}

#[test]
fn a_page_that_is_not_listed_reads_nothing_and_a_cache_knows() {
    let rig = Rig::start();
    let told = preflight(&rig, ELSEWHERE, "/api/v1/me");
    assert_eq!(told.status, 405);
    for origin in [ELSEWHERE, "null", "https://page.example.evil.example"] {
        let answer = rig.ask(Ask::get("/api/v1/config", &[("Origin", origin)]));
        assert_eq!((answer.status, answer.header("access-control-allow-origin")), (200, None), "{origin}");
        assert_eq!(answer.header("vary"), Some("origin"), "{origin}");
    }
    assert_eq!(
        preflight(&rig, PAGE, "/user/login").header("access-control-allow-origin"),
        None,
        "the old pages' calls"
    );
}

#[test]
fn a_listed_page_reads_answers_and_refusals_alike_and_its_cookies_do_not_count() {
    let rig = Rig::start();
    let (user, token) = rig.user("13800000001");
    let bearer = format!("Bearer {token}");
    let page = ("Origin", PAGE);
    let mine = rig.ask(Ask::get("/api/v1/me", &[page, ("Authorization", &bearer)]));
    assert_eq!((mine.status, mine.header("access-control-allow-origin")), (200, Some(PAGE)));
    assert_eq!(mine.header("access-control-expose-headers"), Some("date, retry-after, content-range"));
    let cookie = format!("imgate_{}={token}", user.id);
    let id = user.id.to_string();
    let wrong = rig.ask(Ask::get("/api/v1/me", &[page, ("Cookie", &cookie), ("X-Imgate-User", &id)]));
    assert_eq!((wrong.status, wrong.header("access-control-allow-origin")), (401, Some(PAGE)));
    let file = rig.ask(Ask::get("/files/none.png", &[page]));
    assert_eq!((file.status, file.header("access-control-allow-origin")), (404, Some(PAGE)), "where answers lead");
    let none = rig.ask(Ask::get("/api/v1/nothing", &[page]));
    assert_eq!((none.status, none.header("access-control-allow-origin")), (404, Some(PAGE)));
}

#[test]
fn a_listed_page_reads_what_is_refused_before_anybody_looks_at_it() {
    let rig = Rig::with(Deadlines { body: Duration::from_millis(100), ..Deadlines::default() });
    for (path, origin, expected) in
        [("/api/v1/login", PAGE, Some(PAGE)), ("/api/v1/login", ELSEWHERE, None), ("/user/login", PAGE, None)]
    {
        if !LEGACY && !path.starts_with("/api") {
            continue;
        }
        for (headers, status) in [
            ("Host: x\r\nContent-Length: 100000000", 413),
            ("Host: x\r\nContent-Length: 10", 408),
            ("Host: x\r\nHost: x\r\nContent-Length: 0", 400),
            ("Host: x\r\nTransfer-Encoding: gzip, chunked", 501),
        ] {
            let mut client = rig.client();
            client.send(format!("POST {path} HTTP/1.1\r\nOrigin: {origin}\r\n{headers}\r\n\r\n").as_bytes());
            let answer = client.answer();
            let told = (answer.status, answer.header("access-control-allow-origin"));
            assert_eq!(told, (status, expected), "{path} {origin} {headers}");
            assert_eq!(answer.header("vary").is_some(), path.starts_with("/api"), "{path} {headers}");
        }
    }
}
