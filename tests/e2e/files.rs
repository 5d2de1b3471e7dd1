//! Files by real sockets: what a restart keeps, and the pages of an original.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::path::Path;

use imgate::auth::Issuer;
use imgate::node::Tuning;
use serde_json::Value;

use crate::support::{Gateway, connect};

const MIB: usize = 1024 * 1024;
/// A picture of one pixel.
const PNG: &[u8] = b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR\0\0\0\x01\0\0\0\x01\x08\0\0\0\0\x3a\x7e\x9b\x55\
    \0\0\0\x0aIDAT\x78\xda\x63\x60\0\0\0\x02\0\x01\xe5\x27\xde\xfc\0\0\0\0IEND\xae\x42\x60\x82";

/// A response: its head, its body.
pub(crate) struct Answer {
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn status(&self) -> u16 {
        self.head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status line")
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.body.clone()).expect("text")
    }

    pub(crate) fn has(&self, line: &str) -> bool {
        self.head.lines().any(|other| other.eq_ignore_ascii_case(line))
    }
}

/// Reads one response, up to the end of the connection.
pub(crate) fn answer(stream: &mut TcpStream) -> Answer {
    let mut bytes = Vec::new();
    match stream.read_to_end(&mut bytes) {
        // A reset after the answer is an end too.
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
        Err(error) => panic!("no answer: {error}"),
    }
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").expect("a head");
    let body = bytes.split_off(end + 4);
    Answer { head: String::from_utf8(bytes).expect("text"), body }
}

pub(crate) fn ask(gateway: &Gateway, request: &str) -> Answer {
    let mut stream = connect(gateway.address());
    let (first, rest) = request.split_once("\r\n").unwrap_or((request, ""));
    stream
        .write_all(format!("{first} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{rest}\r\n").as_bytes())
        .expect("sent");
    answer(&mut stream)
}

fn upload(gateway: &Gateway, length: &str) -> TcpStream {
    let mut stream = connect(gateway.address());
    let token = gateway.token(1, Issuer::Own);
    let head = format!("POST /api/v1/files HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n{length}\r\n\r\n");
    stream.write_all(head.as_bytes()).expect("sent");
    stream
}

#[test]
fn a_file_outlives_a_restart() {
    let mut gateway = Gateway::start(2, 1);
    let mut stream = upload(&gateway, "Content-Length: 10\r\nConnection: close");
    stream.write_all(b"0123456789").expect("sent");
    let made = answer(&mut stream);
    assert_eq!(made.status(), 201, "{}", made.head);
    let file: Value = serde_json::from_slice(&made.body).expect("JSON");
    let url = file["url"].as_str().expect("a URL");
    gateway.restart();
    let served = ask(&gateway, &format!("GET {url}\r\nRange: bytes=8-\r\n"));
    assert_eq!((served.status(), served.text().as_str()), (206, "89"));
    assert!(served.has("Content-Disposition: attachment"), "{}", served.head);
}

/// A checkout with pages of our own that use everything that the originals' use.
fn checkout(root: &Path) {
    let files: [(&str, &str); 11] = [
        (
            "app/view/user/login.html",
            "{{define \"/login.shtml\"}}<!DOCTYPE html>\n<html><head>{{template \"/chat/head.shtml\"}}</head>\
             <body><a href=\"register.shtml\">注册</a></body></html>\n<script>1</script>\n{{end}}",
        ),
        (
            "app/view/chat/index.html",
            "{{define \"/index.shtml\"}}<html>{{template \"/chat/head.shtml\"}}{{template \"/chat/foot.shtml\"}}</html>{{end}}",
        ),
        ("app/view/chat/head.html", "{{define \"/chat/head.shtml\"}}<meta charset=\"utf-8\">{{end}}"),
        ("app/view/chat/foot.html", "{{define \"/chat/foot.shtml\"}}<p v-text=\"title\"></p>{{end}}"),
        ("asset/plugins/doutu/emoj/info.json", "{\"id\":\"emoj\",\"assets\":[\"1.gif\"]}"),
        ("asset/js/util.js", "var util={};"),
        ("asset/images/x.svg", "<svg/>"),
        ("resource/1578830180rfBd.html", "<script>alert(1)</script>"),
        ("resource/1578830180rfBd.mp3", "ID3 old voice"),
        ("app/main.go", "root:root@(127.0.0.1:3306)"),
        (".git/config", "secret"),
    ];
    for (path, text) in files {
        let path = root.join(path);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs::write(path, text).expect("a file");
    }
    std::os::unix::fs::symlink(root.join("app/main.go"), root.join("asset/link.txt")).expect("a link");
    std::os::unix::fs::symlink("loop", root.join("asset/loop")).expect("a link");
}

#[test]
fn pages_of_an_original_are_served_from_its_checkout() {
    let dir = tempfile::tempdir().expect("a directory");
    checkout(dir.path());
    let settings = [("legacy_pages", dir.path().to_str().expect("UTF-8"))];
    let gateway = Gateway::start_with(1, 1, &settings, Tuning::default());
    let front = ask(&gateway, "GET /");
    assert!(front.status() == 302 && front.has("Location: /login.shtml"), "{}", front.head);
    let login = ask(&gateway, "GET /login.shtml?x=1");
    let page = "<!DOCTYPE html>\n<html><head><meta charset=\"utf-8\"></head><body><a href=\"register.shtml\">注册</a>\
                </body></html>\n<script>1</script>\n";
    assert_eq!((login.status(), login.text().as_str()), (200, page));
    assert!(login.has("Content-Type: text/html; charset=utf-8"), "{}", login.head);
    // Their addresses hold the token: other sites neither frame them nor are told of them.
    assert!(login.has("Content-Security-Policy: frame-ancestors 'self'"), "plain HTTP: {}", login.head);
    assert!(login.has("Referrer-Policy: same-origin"), "{}", login.head);
    let secure = ask(&gateway, "GET /index.shtml?id=1&token=x\r\nX-Forwarded-Proto: https\r\n");
    assert!(
        secure.has("Content-Security-Policy: frame-ancestors 'self'; upgrade-insecure-requests"),
        "{}",
        secure.head
    );
    assert_eq!(ask(&gateway, "GET /chat/foot.shtml").text(), "<p v-text=\"title\"></p>");

    // As the pages fetch the emoji packs.
    let emoji = ask(&gateway, "POST //asset/plugins/doutu//emoj/info.json\r\nContent-Length: 0\r\n");
    assert_eq!((emoji.status(), emoji.text().as_str()), (200, "{\"id\":\"emoj\",\"assets\":[\"1.gif\"]}"));
    let script = ask(&gateway, "GET /asset/js/util.js\r\nRange: bytes=4-7\r\n");
    assert_eq!((script.status(), script.text().as_str()), (206, "util"));
    let since =
        script.head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("last-modified: ").map(|_| line));
    let since = since.and_then(|line| line.split_once(": ")).expect("a date").1;
    let held = ask(&gateway, &format!("GET /asset/js/util.js\r\nIf-Modified-Since: {since}\r\n"));
    assert_eq!((held.status(), held.body.len()), (304, 0));

    // What was uploaded in the old days is still there, and runs no more.
    assert!(ask(&gateway, "GET /resource/1578830180rfBd.mp3").has("Content-Type: audio/mpeg"));
    let hostile = ask(&gateway, "GET /resource/1578830180rfBd.html");
    assert!(hostile.status() == 200 && hostile.has("Content-Disposition: attachment"), "{}", hostile.head);

    for nothing in [
        "/asset",
        "/asset/",
        "/asset/js",
        "/asset/js/",
        "/app/main.go",
        "/asset/../app/main.go",
        "/asset/%2e%2e/app/main.go",
        "/asset/..%2fapp/main.go",
        "/.git/config",
        "/asset/link.txt",
        "/asset/plugins/doutu/mkgif/info.json",
        "/favicon.ico",
        "/update.shtml",
        "/asset/js/util.js/x",
        "/asset/loop",
        &format!("/asset/{}", "a".repeat(300)),
        &format!("/asset/{}", "a/".repeat(2_500)),
    ] {
        let missing = ask(&gateway, &format!("GET {nothing}"));
        assert_eq!((missing.status(), missing.text().as_str()), (404, "404 page not found\n"), "{nothing}");
    }
    // The API stands before the pages.
    assert_eq!(ask(&gateway, "GET /api/v1/nothing").status(), 404);
    assert!(ask(&gateway, "GET /user/login").text().contains("\"code\":-1"));
}

/// A file in a form, as the old pages send it.
fn attach(gateway: &Gateway, address: &str, file: &[u8]) -> Value {
    let mut form = b"--xYz\r\nContent-Disposition: form-data; name=\"file\"; filename=\"me.png\"\r\n\r\n".to_vec();
    form.extend_from_slice(file);
    form.extend_from_slice(b"\r\n--xYz--\r\n");
    let mut stream = connect(gateway.address());
    let kind = "Content-Type: multipart/form-data; boundary=xYz";
    let head = format!(
        "POST /attach/upload HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: {address}\r\nConnection: close\r\n{kind}\r\n\
         Content-Length: {}\r\n\r\n",
        form.len()
    );
    stream.write_all(head.as_bytes()).expect("sent");
    // A refusal may come before all of it was sent.
    let _ = stream.write_all(&form);
    serde_json::from_slice(&answer(&mut stream).body).expect("JSON")
}

#[test]
fn who_registers_on_an_old_page_may_bring_an_avatar_and_nothing_else() {
    let dir = tempfile::tempdir().expect("a directory");
    checkout(dir.path());
    let settings = [("legacy_pages", dir.path().to_str().expect("UTF-8"))];
    let gateway = Gateway::start_with(1, 1, &settings, Tuning::default());
    let made = attach(&gateway, "192.0.2.1", PNG);
    let url = made["data"].as_str().expect("a URL");
    let shown = ask(&gateway, &format!("GET {url}"));
    assert!(shown.status() == 200 && shown.has("Content-Type: image/png"), "{}", shown.head);
    for other in [b"ID3 a song".as_slice(), b"<script>alert(1)</script>", &[b'x'; 100]] {
        assert_eq!(attach(&gateway, "192.0.2.1", other)["msg"], "请先登录");
    }
    let large = [PNG, &vec![0; 9 * MIB]].concat();
    assert_eq!(attach(&gateway, "192.0.2.1", &large)["msg"], "文件过大");
    // As often as one may try to register.
    let busy =
        (0..2_000).map(|_| attach(&gateway, "192.0.2.2", b"")["msg"].clone()).find(|msg| msg != "请选择要上传的文件");
    assert_eq!(busy.expect("an end"), "操作过于频繁,请稍后再试");
    assert_eq!(attach(&gateway, "192.0.2.1", PNG)["code"], 0, "others are not concerned");
}

#[test]
fn a_page_that_is_opened_by_its_link_alone_gets_its_cookie() {
    let dir = tempfile::tempdir().expect("a directory");
    checkout(dir.path());
    let settings = [("legacy_pages", dir.path().to_str().expect("UTF-8"))];
    let gateway = Gateway::start_with(1, 2, &settings, Tuning::default());
    let token = gateway.token(1, Issuer::FastIm);
    let open = |query: &str, headers: &str| ask(&gateway, &format!("GET /index.shtml?{query}{headers}"));
    let link = format!("id=1&token={token}");
    let cookie = format!("{}1={token}", gateway.cookie_prefix());
    let typed = open(&link, "\r\nSec-Fetch-Site: none\r\n");
    assert!(typed.status() == 200 && typed.head.contains(&cookie), "{}", typed.head);
    // Somebody else's page leads there: nobody is logged in by that.
    for (query, headers) in [
        (link.as_str(), "\r\nSec-Fetch-Site: cross-site\r\n"),
        (&*format!("id=2&token={token}"), ""),
        (&*format!("id=1&token={token}x"), ""),
        ("id=1", ""),
    ] {
        let answer = open(query, headers);
        assert!(answer.status() == 200 && !answer.head.to_ascii_lowercase().contains("set-cookie"), "{}", answer.head);
    }
    let file = ask(&gateway, &format!("GET /asset/js/util.js?{link}"));
    assert!(!file.head.to_ascii_lowercase().contains("set-cookie"), "{}", file.head);
}

#[test]
fn what_imchat_does_not_have_leads_to_its_login() {
    let dir = tempfile::tempdir().expect("a directory");
    fs::create_dir_all(dir.path().join("view/user")).expect("a folder");
    fs::write(dir.path().join("view/user/login.html"), "{{define \"/user/login.shtml\"}}in{{end}}").expect("a file");
    let settings = [("legacy_pages", dir.path().to_str().expect("UTF-8"))];
    let gateway = Gateway::start_with(1, 1, &settings, Tuning::default());
    assert_eq!(ask(&gateway, "GET /user/login.shtml").text(), "in");
    for path in ["/", "/chat/sysmsg.shtml", "/chat/update.shtml"] {
        let led = ask(&gateway, &format!("GET {path}"));
        assert!(led.status() == 302 && led.has("Location: /user/login.shtml"), "{path}: {}", led.head);
    }
    assert_eq!(ask(&gateway, "GET /asset/x.js").status(), 404);
}

#[test]
fn a_checkout_that_is_not_there_keeps_the_gateway_from_starting() {
    let dir = tempfile::tempdir().expect("a directory");
    let missing = dir.path().join("missing");
    let config = crate::support::config(dir.path(), 1, &[("legacy_pages", missing.to_str().expect("UTF-8"))]);
    assert!(imgate::node::Node::start(&config, Tuning::default()).is_err());
}
