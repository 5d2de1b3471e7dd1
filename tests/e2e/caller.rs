//! Who asks, and from where, on real sockets: proxies, the PROXY protocol, cookies and pages of
//! other origins.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::process::Command;

use imgate::auth::Issuer;
use imgate::node::Tuning;

use crate::process::Process;
use crate::support::{Client, Gateway, V2, connect, exchange};

const UPGRADE: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                       Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
/// Where the tests say that a browser is: nobody trusts it.
const BROWSER: &str = "203.0.113.9";

fn start(settings: &[(&str, &str)]) -> Gateway {
    Gateway::start_with(2, 2, settings, Tuning::default())
}

/// A header of version 1.
fn v1(client: &str) -> Vec<u8> {
    format!("PROXY TCP4 {client} 198.51.100.1 56324 443\r\n").into_bytes()
}

/// A header of version 2 of a client behind TLS, with an extension that nobody knows before the one
/// that says so.
fn v2(command: u8, client: [u8; 4]) -> Vec<u8> {
    let addresses = [&client[..], &[198, 51, 100, 1, 0xdc, 4, 1, 0xbb]].concat();
    let extensions = [0xe0, 0, 2, 1, 2, 0x20, 0, 5, 1, 0, 0, 0, 0];
    let len = u8::try_from(addresses.len() + extensions.len()).expect("a short header");
    [b"\r\n\r\n\0\r\nQUIT\n\x20" as &[u8], &[0x11, 0, len], &addresses, &extensions]
        .concat()
        .into_iter()
        .enumerate()
        .map(|(at, byte)| if at == 12 { byte | command } else { byte })
        .collect()
}

/// A registration; its answer sets a cookie.
fn registration(mobile: u64, headers: &str) -> Vec<u8> {
    let body = format!("mobile={mobile}&passwd=pw-123456");
    let kind = "Content-Type: application/x-www-form-urlencoded\r\n";
    let length = body.len();
    let head = format!("POST /user/register HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{kind}");
    format!("{head}Content-Length: {length}\r\n{headers}\r\n{body}").into_bytes()
}

/// Whether an answer's cookie is for TLS only.
fn is_secure(answer: &str) -> bool {
    let cookie = answer.lines().find(|line| line.to_ascii_lowercase().starts_with("set-cookie: "));
    let cookie = cookie.unwrap_or_else(|| panic!("a login cookie: {answer}"));
    assert_eq!(cookie.ends_with("; Secure"), cookie.contains("__Host-"), "{cookie}");
    cookie.ends_with("; Secure")
}

/// The status of an upgrade on a connection of its own; 4501 for a v2 client that is told so.
fn upgrade(address: SocketAddr, before: &[u8], target: &str, headers: &str) -> u16 {
    let mut stream = connect(address);
    let head = format!("GET {target} HTTP/1.1\r\n{UPGRADE}{headers}\r\n");
    stream.write_all(&[before, head.as_bytes()].concat()).expect("taken");
    let mut answer = Vec::new();
    let mut byte = [0];
    while !answer.ends_with(b"\r\n\r\n") && stream.read(&mut byte).expect("an answer") > 0 {
        answer.push(byte[0]);
    }
    let text = String::from_utf8_lossy(&answer);
    let status = text.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status line");
    let mut frame = [0; 4];
    if status == 101 && text.contains("imgate.v2") {
        stream.read_exact(&mut frame).expect("a first frame");
    }
    if frame[0] == 0x88 { u16::from_be_bytes([frame[2], frame[3]]) } else { status }
}

#[test]
fn the_proxy_protocol_says_who_the_client_is() {
    let gateway = start(&[("listen_proxy", "127.0.0.1:0")]);
    let https = "X-Forwarded-Proto: https\r\n";
    let browser = [203, 0, 113, 9];
    for (number, (header, headers, secure)) in [
        (v1(BROWSER), https, false),
        (v1("127.0.0.1"), https, true),
        (v2(1, browser), "", true),
        (v2(0, browser), "", false),
        (v2(0, browser), https, true),
        (b"PROXY UNKNOWN\r\n".to_vec(), https, true),
    ]
    .into_iter()
    .enumerate()
    {
        let request = registration(number as u64 + 1000, headers);
        let answer = exchange(gateway.proxied(), &[header, request].concat());
        assert_eq!(is_secure(&answer), secure, "{number}: {answer}");
    }
    let token = gateway.token(1, Issuer::Own);
    let target = format!("/chat?id=1&token={token}");
    assert_eq!(upgrade(gateway.proxied(), &v1(BROWSER), &target, "Host: x\r\n"), 101);
    // Piece by piece, and the request behind it, too.
    let mut stream = connect(gateway.proxied());
    let request = [v2(1, browser), registration(2000, "")].concat();
    for byte in &request {
        stream.write_all(&[*byte]).expect("taken");
    }
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    assert!(is_secure(&answer), "{answer}");
}

#[test]
fn a_client_behind_the_proxy_protocol_stays_the_client_on_the_way_back_to_the_gate() {
    let gateway = start(&[("listen_proxy", "127.0.0.1:0")]);
    let cookie = format!("Cookie: {}1={}\r\n", gateway.cookie_prefix(), gateway.token(1, Issuer::Own));
    let headers = "Host: inner\r\nOrigin: https://chat.example\r\nX-Forwarded-Host: chat.example\r\n\
                   X-Forwarded-Proto: https\r\n";
    for (client, status) in [(BROWSER, 403), ("127.0.0.1", 101)] {
        let first = "GET /api/v1/nothing HTTP/1.1\r\nHost: x\r\n\r\n";
        let mut stream = connect(gateway.proxied());
        stream.write_all(&[&v1(client), first.as_bytes()].concat()).expect("taken");
        let mut answer = Vec::new();
        let mut byte = [0];
        // An answer without a body, or with one that holds no empty line: the next head is waited
        // for below.
        while !answer.ends_with(b"\r\n\r\n") {
            stream.read_exact(&mut byte).expect("an answer");
            answer.push(byte[0]);
        }
        let second = format!("GET /chat?id=1&token= HTTP/1.1\r\n{UPGRADE}{headers}{cookie}\r\n");
        stream.write_all(second.as_bytes()).expect("taken");
        let wanted = format!("HTTP/1.1 {status} ");
        let mut seen = Vec::new();
        while !seen.windows(wanted.len()).any(|window| window == wanted.as_bytes()) {
            let n = stream.read(&mut byte).expect("an answer");
            assert!(n > 0, "{client}: {}", String::from_utf8_lossy(&seen));
            seen.push(byte[0]);
        }
    }
}

#[test]
fn what_is_no_header_of_the_proxy_protocol_is_closed_and_counted() {
    let tuning = Tuning { head_ms_max: 2_000, ..Tuning::default() };
    let gateway = Gateway::start_with(1, 1, &[("listen_proxy", "127.0.0.1:0")], tuning);
    let refused = |reason: &str| gateway.metric(&format!("imgate_gate_refused_total{{reason=\"{reason}\"}}"));
    let long = [b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff" as &[u8], &[0; 100]].concat();
    let wrong: [&[u8]; 5] = [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"PROXY TCP4 somebody else 1 2\r\n",
        b"\r\n\r\n\0\r\nQUIT\n\x11\x11\0\0",
        &long,
    ];
    for (number, bytes) in wrong.into_iter().enumerate() {
        assert_eq!(exchange(gateway.proxied(), bytes), "", "{number}");
        assert_eq!(refused("proxy_header"), number as f64 + 1.0);
    }
    assert_eq!(exchange(gateway.proxied(), b"PROXY TCP4 192.0.2.1"), "", "half a header ends at the deadline");
    assert_eq!((refused("proxy_header"), refused("timeout")), (5.0, 1.0));
    let elsewhere = exchange(gateway.address(), &v1(BROWSER));
    assert!(elsewhere.starts_with("HTTP/1.1 400 "), "a listener that does not say so has no such header: {elsewhere}");
    exchange(gateway.address(), &v2(1, [203, 0, 113, 9]));
    assert_eq!((refused("preamble"), refused("bad_request"), refused("proxy_peer")), (2.0, 0.0, 0.0));
    gateway.v2(1);
}

#[test]
fn only_trusted_peers_speak_for_others() {
    let settings = [("listen_proxy", "127.0.0.1:0"), ("trusted_proxies", "192.0.2.0/24")];
    let gateway = start(&settings);
    assert_eq!(exchange(gateway.proxied(), &[v1("127.0.0.1"), registration(1, "")].concat()), "");
    assert_eq!(gateway.metric("imgate_gate_refused_total{reason=\"proxy_peer\"}"), 1.0);
    let told = "X-Forwarded-For: 198.51.100.1\r\nX-Forwarded-Proto: https\r\nForwarded: proto=https\r\n";
    assert!(!is_secure(&exchange(gateway.address(), &registration(2, told))));
    let trusting = start(&[]);
    assert!(is_secure(&exchange(trusting.address(), &registration(3, told))));
    assert!(is_secure(&exchange(trusting.address(), &registration(4, "Forwarded: for=198.51.100.1;proto=https\r\n"))));
    assert!(!is_secure(&exchange(trusting.address(), &registration(5, ""))));
}

#[test]
fn what_proxies_say_and_do_not_say_is_counted() {
    let said =
        |gateway: &Gateway, outcome: &str| gateway.metric(&format!("imgate_proxied_total{{outcome=\"{outcome}\"}}"));
    let unsaid =
        |gateway: &Gateway, what: &str| gateway.metric(&format!("imgate_proxy_unsaid_total{{what=\"{what}\"}}"));
    let told = "X-Forwarded-For: 203.0.113.9\r\nX-Forwarded-Proto: https\r\n";
    let me = |gateway: &Gateway, headers: &str| {
        let request = format!("GET /api/v1/me HTTP/1.1\r\nConnection: close\r\n{headers}\r\n");
        exchange(gateway.address(), request.as_bytes())
    };
    let trusting = start(&[]);
    me(&trusting, "Host: x\r\n");
    me(&trusting, &format!("Host: x\r\n{told}"));
    me(&trusting, "Host: x\r\nX-Forwarded-Proto: https\r\n");
    me(&trusting, "Host: chat.example\r\nOrigin: https://chat.example\r\nX-Forwarded-For: 203.0.113.9\r\n");
    me(&trusting, "Host: inner\r\nOrigin: https://chat.example\r\nSec-Fetch-Site: same-origin\r\n");
    let target = format!("/chat?id=1&token={}", trusting.token(1, Issuer::Own));
    assert_eq!(upgrade(trusting.address(), b"", &target, &format!("Host: x\r\n{told}")), 101);
    let seen = ["direct", "silent", "believed", "no_client"].map(|outcome| said(&trusting, outcome));
    assert_eq!(seen, [0.0, 2.0, 3.0, 1.0]);
    assert_eq!((unsaid(&trusting, "scheme"), unsaid(&trusting, "host")), (1.0, 1.0));
    let strict = start(&[("trusted_proxies", "none")]);
    me(&strict, "Host: x\r\n");
    me(&strict, &format!("Host: x\r\n{told}Origin: https://x\r\n"));
    let target = format!("/chat?id=1&token={}", strict.token(1, Issuer::Own));
    for headers in ["Host: x\r\n".to_owned(), format!("Host: x\r\n{told}")] {
        assert_eq!(upgrade(strict.address(), b"", &target, &headers), 101);
    }
    assert_eq!(["direct", "untrusted_private", "believed"].map(|outcome| said(&strict, outcome)), [2.0, 2.0, 0.0]);
    assert_eq!(unsaid(&strict, "scheme"), 0.0, "what it says is not believed, which is counted");
}

#[test]
fn the_log_names_whatever_speaks_as_a_proxy_and_is_not_believed() {
    let data = tempfile::tempdir().expect("a temporary directory");
    let gateway = |proxies: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_imgate"));
        command.args(["--listen-proxy", "127.0.0.1:0", "--chatroom", "--trusted-proxies", proxies]);
        Process::launch(command, data.path())
    };
    let told = "Host: x\r\nX-Forwarded-For: 198.51.100.1\r\n";
    let strict = gateway("none");
    assert_eq!(upgrade(strict.address, b"", "/chatroom", told), 101);
    assert!(strict.says("not in trusted_proxies: not believed").contains("address=127.0.0.1"), "a private address");
    assert_eq!(exchange(strict.listening[1], &v1(BROWSER)), "");
    assert!(strict.says("listen_proxy").contains("address=127.0.0.1"));
    drop(strict);
    let trusting = gateway("127.0.0.1");
    let me = format!("GET /api/v1/me HTTP/1.1\r\nConnection: close\r\n{told}\r\n");
    exchange(trusting.listening[1], &[v1(BROWSER), me.into_bytes()].concat());
    assert!(trusting.says("not in trusted_proxies: not believed").contains(&format!("address={BROWSER}")));
    assert_eq!(upgrade(trusting.listening[1], &v1("203.0.113.77"), "/chatroom", told), 101);
    assert!(trusting.says("not in trusted_proxies: not believed").contains("address=203.0.113.77"), "an upgrade");
}

#[test]
fn a_connection_that_says_nothing_is_no_proxy_without_a_header() {
    let gateway = start(&[("listen_proxy", "127.0.0.1:0")]);
    let refused = |reason: &str| gateway.metric(&format!("imgate_gate_refused_total{{reason=\"{reason}\"}}"));
    // As a balancer looks whether something listens.
    let mut check = connect(gateway.proxied());
    check.shutdown(Shutdown::Write).expect("it is open");
    assert_eq!(check.read(&mut [0; 1]).expect("its end"), 0);
    assert_eq!((refused("gone"), refused("proxy_header")), (1.0, 0.0));
    assert_eq!(exchange(gateway.proxied(), b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"), "");
    assert_eq!(refused("proxy_header"), 1.0);
    let seen = |what: &str| gateway.metric(&format!("imgate_proxy_seen_timestamp_seconds{{what=\"{what}\"}}"));
    assert!(seen("proxy_header") > 1_700_000_000.0 && seen("preamble") == 0.0);
}

#[test]
fn one_head_gets_one_answer_from_the_gate_and_from_the_control_plane() {
    let gateway = start(&[("origins", "https://app.example")]);
    let token = gateway.token(1, Issuer::Own);
    let cookie = format!("Cookie: {}1={token}\r\n", gateway.cookie_prefix());
    let proxied = "X-Forwarded-For: 203.0.113.9\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: chat.example\r\n";
    let standard = "Forwarded: for=203.0.113.9;proto=https;host=chat.example\r\n";
    let (mut yes, mut no) = (0, 0);
    for host in ["Host: chat.example\r\n", "Host: inner:8081\r\n", "Host: CHAT.example:443\r\n"] {
        for proxy in ["", proxied, standard, "X-Forwarded-Host: chat.example\r\n"] {
            for page in [
                "",
                "Origin: https://chat.example\r\n",
                "Origin: http://chat.example\r\n",
                "Origin: https://app.example\r\n",
                "Origin: null\r\n",
                "Origin: https://evil.example\r\nSec-Fetch-Site: cross-site\r\n",
                "Origin: https://chat.example\r\nSec-Fetch-Site: same-origin\r\n",
            ] {
                let headers = format!("{host}{proxy}{page}{cookie}");
                let me = format!("GET /api/v1/me HTTP/1.1\r\nConnection: close\r\nX-Imgate-User: 1\r\n{headers}\r\n");
                let me = exchange(gateway.address(), me.as_bytes());
                let offer = "Sec-WebSocket-Protocol: imgate.v2\r\n";
                let v2 = upgrade(gateway.address(), b"", "/chat?id=1", &format!("{offer}{headers}"));
                let legacy = upgrade(gateway.address(), b"", "/chat?id=1&token=", &headers);
                let is_in = me.starts_with("HTTP/1.1 200 ");
                assert!(is_in || me.starts_with("HTTP/1.1 401 "), "{headers}{me}");
                let wanted = if is_in { (101, 101) } else { (4501, 403) };
                assert_eq!((v2, legacy), wanted, "{headers}{me}");
                *(if is_in { &mut yes } else { &mut no }) += 1;
            }
        }
    }
    assert!(yes > 20 && no > 20, "{yes} and {no}: the heads are of both kinds");
    assert_eq!(gateway.metric("imgate_http_cross_origin_total"), f64::from(no));
    assert_eq!(gateway.metric("imgate_gate_refused_total{reason=\"cross_origin\"}"), f64::from(2 * no));
}

#[test]
fn behind_a_proxy_that_rewrites_the_host_a_page_logs_in_and_chats() {
    let gateway = start(&[]);
    let proxied = "X-Forwarded-For: 203.0.113.9\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: chat.example\r\n\
                   Origin: https://chat.example\r\n";
    let answer = exchange(gateway.address(), &registration(13_800_000_001, proxied));
    let line = answer.lines().find_map(|line| line.strip_prefix("set-cookie: ")).expect("a cookie");
    let pair = line.split(';').next().expect("a pair");
    let user = pair.split('=').next().and_then(|name| name.rsplit('_').next()).expect("a user");
    let headers = format!("Host: inner:8081\r\n{proxied}Cookie: {pair}\r\n");
    assert_eq!(upgrade(gateway.address(), b"", &format!("/chat?id={user}&token="), &headers), 101);
}

#[test]
fn a_login_that_another_site_asks_for_sets_no_cookie() {
    let gateway = start(&[]);
    let own = exchange(gateway.address(), &registration(1, "Origin: http://x\r\n"));
    assert!(own.contains("set-cookie: "), "{own}");
    for headers in [
        "Origin: http://evil.example\r\n",
        "Origin: null\r\n",
        "Sec-Fetch-Site: cross-site\r\n",
        "Origin: http://x.evil.example\r\nSec-Fetch-Site: same-site\r\n",
    ] {
        let body = "mobile=1&passwd=pw-123456";
        for path in ["/user/login", "/api/v1/login"] {
            let (kind, body) = match path {
                "/user/login" => ("application/x-www-form-urlencoded", body.to_owned()),
                _ => ("application/json", r#"{"mobile":"1","password":"pw-123456"}"#.to_owned()),
            };
            let head = format!("POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: {kind}\r\n");
            let request = format!("{head}Content-Length: {}\r\n{headers}\r\n{body}", body.len());
            let answer = exchange(gateway.address(), request.as_bytes());
            assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("\"token\":\""), "{answer}");
            assert!(!answer.contains("set-cookie"), "{headers}{answer}");
        }
    }
}

#[test]
fn a_browser_in_which_a_hundred_people_logged_in_is_not_refused() {
    let gateway = Gateway::start(2, 100);
    let pairs = (1..=100).map(|user| format!("{}{user}={}", gateway.cookie_prefix(), gateway.token(user, Issuer::Own)));
    let cookies = pairs.collect::<Vec<_>>().join("; ");
    let browser = "User-Agent: Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko)\r\n\
                   Accept-Language: zh-CN,zh;q=0.9,en;q=0.8\r\nHost: x\r\nOrigin: http://x\r\n";
    let headers = format!("{browser}Cookie: {cookies}\r\n");
    for user in [1, 50, 100] {
        let me = format!("GET /api/v1/me HTTP/1.1\r\nConnection: close\r\nX-Imgate-User: {user}\r\n{headers}\r\n");
        let me = exchange(gateway.address(), me.as_bytes());
        assert!(me.starts_with("HTTP/1.1 200 ") && me.contains(&format!("\"id\":{user},")), "{me}");
        assert_eq!(upgrade(gateway.address(), b"", &format!("/chat?id={user}&token="), &headers), 101);
    }
    let page = exchange(gateway.address(), format!("GET / HTTP/1.1\r\nConnection: close\r\n{headers}\r\n").as_bytes());
    assert!(page.starts_with("HTTP/1.1 200 "), "{page}");
}

#[test]
fn a_page_elsewhere_chats_with_a_token_of_its_own() {
    let gateway = Gateway::start(1, 1);
    let url = format!("ws://{}/chat?token={}", gateway.address(), gateway.token(1, Issuer::Own));
    let origin = ("Origin", "https://elsewhere.example");
    Client::open(connect(gateway.address()), &url, &[V2, origin]).expect("101");
}
