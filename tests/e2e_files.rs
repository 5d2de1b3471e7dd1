//! Files by real sockets: what a body costs in memory, what a restart keeps, and the pages of an original.

#[path = "support/mod.rs"]
mod support;

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::path::Path;

use imgate::auth::Issuer;
use imgate::node::Tuning;
use serde_json::Value;
use support::{Gateway, connect};

const MIB: usize = 1024 * 1024;

/// A response: its head, its body.
struct Answer {
    head: String,
    body: Vec<u8>,
}

impl Answer {
    fn status(&self) -> u16 {
        self.head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status line")
    }

    fn text(&self) -> String {
        String::from_utf8(self.body.clone()).expect("text")
    }

    fn has(&self, line: &str) -> bool {
        self.head.lines().any(|other| other.eq_ignore_ascii_case(line))
    }
}

/// Reads one response, up to the end of the connection.
fn answer(stream: &mut TcpStream) -> Answer {
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

fn ask(gateway: &Gateway, request: &str) -> Answer {
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

/// Bytes of this process in memory now.
fn resident() -> usize {
    let status = fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a line");
    line.trim().trim_end_matches(" kB").parse::<usize>().expect("a number") * 1024
}

fn files_in(folder: &Path) -> usize {
    let entries = fs::read_dir(folder).expect("a directory").map(|entry| entry.expect("an entry").path());
    entries.map(|path| if path.is_dir() { files_in(&path) } else { 1 }).sum()
}

#[test]
fn a_body_without_end_is_refused_and_costs_no_memory() {
    let gateway = Gateway::start_with(1, 1, &[("upload_max", "160MiB")], Tuning::default());
    let mut stream = upload(&gateway, "Content-Length: 10000000000");
    let refused = answer(&mut stream);
    assert_eq!(refused.status(), 413, "before the first byte: {}", refused.head);

    let before = resident();
    let mut most = before;
    let mut stream = upload(&gateway, "Transfer-Encoding: chunked");
    let chunk = vec![b'x'; MIB];
    // As long as it is taken: a little more than is allowed, and what is read for the answer's sake.
    for sent in 0..1000 {
        let written = stream
            .write_all(format!("{:x}\r\n", chunk.len()).as_bytes())
            .and_then(|()| stream.write_all(&chunk))
            .and_then(|()| stream.write_all(b"\r\n"));
        most = most.max(resident());
        if written.is_err() {
            assert!(sent >= 160, "{sent} MiB");
            break;
        }
        assert!(sent < 900, "a body without end is taken");
    }
    assert!(most - before < 64 * MIB, "{} MiB more", (most - before) / MIB);
    assert_eq!(files_in(&gateway.data().join("files")), 0);
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
    assert!(!login.head.to_ascii_lowercase().contains("content-security-policy"), "plain HTTP: {}", login.head);
    let secure = ask(&gateway, "GET /index.shtml?id=1&token=x\r\nX-Forwarded-Proto: https\r\n");
    assert!(secure.has("Content-Security-Policy: upgrade-insecure-requests"), "{}", secure.head);
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
    ] {
        let missing = ask(&gateway, &format!("GET {nothing}"));
        assert_eq!((missing.status(), missing.text().as_str()), (404, "404 page not found\n"), "{nothing}");
    }
    // The API stands before the pages.
    assert_eq!(ask(&gateway, "GET /api/v1/nothing").status(), 404);
    assert!(ask(&gateway, "GET /user/login").text().contains("\"code\":-1"));
}

#[test]
fn a_checkout_that_is_not_there_keeps_the_gateway_from_starting() {
    let dir = tempfile::tempdir().expect("a directory");
    let missing = dir.path().join("missing");
    let config = support::config(dir.path(), 1, &[("legacy_pages", missing.to_str().expect("UTF-8"))]);
    assert!(imgate::node::Node::start(&config, Tuning::default()).is_err());
}
