//! README.md, done to the letter: the first chat by hand against a gateway, and every command line parsed by the binary that it names.
//!
//! The lines of `autoclient` are parsed by a test beside that binary.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::process::Command;

use imgate::config::FIELDS;
use imgate::node::Tuning;
use serde_json::Value;

use crate::support::{Client, Gateway, connect, exchange};

const README: &str = include_str!("../../README.md");

/// The lines in fences of the section with that heading, or of all sections.
fn lines(section: Option<&str>) -> Vec<&'static str> {
    let (mut fenced, mut here, mut found) = (false, section.is_none(), Vec::new());
    for line in README.lines() {
        if line.starts_with("```") {
            fenced = !fenced;
        } else if fenced && here {
            found.push(line);
        } else if let (Some(wanted), Some(heading)) = (section, line.strip_prefix("## ").filter(|_| !fenced)) {
            here = heading == wanted;
        }
    }
    assert!(!fenced && !found.is_empty(), "{section:?}");
    found
}

/// A line of a shell, in words: single quotes, a comment at its end, a `&` at its end.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quoted, mut begun) = (Vec::new(), String::new(), false, false);
    for c in line.chars() {
        match c {
            '\'' => (quoted, begun) = (!quoted, true),
            ' ' if !quoted => {
                if std::mem::take(&mut begun) {
                    words.push(std::mem::take(&mut word));
                }
            }
            '#' if !quoted && !begun => break,
            c => {
                word.push(c);
                begun = true;
            }
        }
    }
    assert!(!quoted, "{line}");
    words.extend(begun.then_some(word));
    words.retain(|word| word != "&");
    words
}

/// A reader with three terminals: one for `curl`, two for the chat of Ann and Bob.
struct Reader {
    address: SocketAddr,
    /// What stands for what the answers held.
    known: HashMap<&'static str, String>,
    /// Ann's session, then Bob's.
    sessions: Vec<Client>,
}

impl Reader {
    /// A line with what is known put in. Longer names first: one is part of another.
    fn filled(&self, line: &str) -> String {
        let mut names: Vec<_> = self.known.keys().collect();
        names.sort_unstable_by_key(|name| std::cmp::Reverse(name.len()));
        names.into_iter().fold(line.to_owned(), |line, name| line.replace(name, &self.known[name]))
    }

    fn curl(&mut self, words: &[String]) {
        let all =
            |flag: &'static str| words.windows(2).filter(move |pair| pair[0] == flag).map(|pair| pair[1].as_str());
        assert_eq!(words[1], "-s", "{words:?}");
        let url = words[2].strip_prefix("localhost:8081").expect("the gateway that was started");
        let headers: String = all("-H").map(|header| format!("{header}\r\n")).collect();
        let sent = all("-d").next();
        let method = all("-X").next().unwrap_or_else(|| if sent.is_some() { "POST" } else { "GET" });
        let sent = sent.unwrap_or_default();
        let request = format!(
            "{method} {url} HTTP/1.1\r\nHost: localhost:8081\r\nConnection: close\r\n{headers}\
             Content-Length: {}\r\n\r\n{sent}",
            sent.len()
        );
        let answer = exchange(self.address, request.as_bytes());
        let (head, body) = answer.split_once("\r\n\r\n").expect("an answer");
        let body: Value = serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {answer}"));
        assert!(head.starts_with("HTTP/1.1 20"), "{words:?}: {answer}");
        match url {
            "/api/v1/register" => {
                let names =
                    if self.known.contains_key("ANN") { ["BOB", "TOKEN_OF_BOB"] } else { ["ANN", "TOKEN_OF_ANN"] };
                self.known.insert(names[0], body["user"]["id"].to_string());
                self.known.insert(names[1], body["token"].as_str().expect("a token").to_owned());
            }
            "/api/v1/groups" => drop(self.known.insert("TEA", body["id"].to_string())),
            joins if joins.ends_with("/members/me") => {}
            history => {
                assert!(history.starts_with("/api/v1/history"), "{history}");
                assert_eq!(body["rows"][0]["content"], "hello Bob", "{body}");
                assert_eq!(body["rows"].as_array().map(Vec::len), Some(1), "{body}");
            }
        }
    }

    fn connect(&mut self, words: &[String]) {
        let after = |flag: &str| words.iter().position(|word| word == flag).map(|at| words[at + 1].as_str());
        let url = after("-c").expect("a URL").replace("127.0.0.1:8081", &self.address.to_string());
        let protocol = after("-s").expect("a subprotocol");
        let client = Client::open(connect(self.address), &url, &[("Sec-WebSocket-Protocol", protocol)]);
        self.sessions.push(client.expect("the upgrade is accepted"));
    }

    /// What is typed: a question for what was missed is Bob's, everything else Ann's.
    fn type_in(&mut self, line: &str) {
        let typed: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        let [ann, bob] = &mut self.sessions[..] else { panic!("two terminals") };
        if typed["cmd"] == 4 {
            bob.send_text(line);
            let answer = bob.wait_for(4);
            assert_eq!(answer["rows"][0]["content"], "hello Bob", "{answer}");
            return;
        }
        ann.send_text(line);
        let ack = ann.wait_for(1);
        assert_eq!(ack["cid"], typed["cid"], "{ack}");
        let kind = typed["cmd"].as_u64().expect("a number");
        let mut message = bob.wait_for(kind);
        // That he has come is said in the group, too.
        while !message["happened"].is_null() {
            message = bob.wait_for(kind);
        }
        assert_eq!((&message["content"], &message["seq"]), (&typed["content"], &ack["seq"]), "{message}");
        // Once more: the old ack, and no second message, as the history tells.
        ann.send_text(line);
        let again = ann.wait_for(1);
        assert_eq!((&again["id"], &again["seq"]), (&ack["id"], &ack["seq"]), "{again}");
    }
}

#[test]
fn the_first_chat_works_as_it_is_written() {
    // Users who have come by the web client before, so that the ids are not 1 and 2.
    let gateway = Gateway::start_with(2, 2, &[], Tuning::default());
    let mut reader = Reader { address: gateway.address(), known: HashMap::new(), sessions: Vec::new() };
    let mut done = 0;
    for line in lines(Some("A first chat by hand")) {
        let line = reader.filled(line);
        let words = words(&line);
        match words.first().map(String::as_str) {
            Some("curl") => reader.curl(&words),
            Some("npx") => reader.connect(&words),
            _ => reader.type_in(&line),
        }
        done += 1;
    }
    assert!(done >= 10 && reader.known.len() == 5, "{done} lines, {:?}", reader.known.keys());
    assert_ne!(reader.known["ANN"], "1");
}

#[test]
fn every_command_of_the_readme_is_one() {
    let (mut parsed, mut data) = (0, Vec::new());
    for line in lines(None) {
        let words = words(line);
        let arguments = match words.first().map(String::as_str) {
            Some("target/release/imgate") => &words[1..],
            Some("cargo") if words[1..3] == ["run", "--release"] => &words[3..],
            _ => continue,
        };
        // What is not known is told before the help is.
        let output = Command::new(env!("CARGO_BIN_EXE_imgate")).env_clear().args(arguments).arg("--help").output();
        let output = output.expect("the binary can be started");
        assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
        data.push(
            arguments.iter().position(|word| word == "--data").map(|at| arguments[at + 1].as_str()).map(str::to_owned),
        );
        parsed += 1;
    }
    assert!(parsed >= 3, "{parsed} lines");
    // The load test has a directory of its own, the same for the seed and the gateway.
    assert_eq!(data, [None, Some("load-data".to_owned()), Some("load-data".to_owned())]);
    assert!(include_str!("../../.gitignore").lines().any(|line| line == "/load-data/"));
}

#[test]
fn every_setting_of_the_readme_is_one() {
    let rows = README.lines().filter_map(|line| line.strip_prefix("| `--"));
    let mut known = 0;
    for row in rows {
        let (flag, rest) = row.split_once(' ').expect("a flag and its value");
        let field = FIELDS.iter().find(|field| field.flag() == flag).unwrap_or_else(|| panic!("--{flag}"));
        let default = rest.split('`').nth(2).expect("a default");
        assert_eq!(default, field.default.trim_matches(['[', ']', '"']), "--{flag}");
        known += 1;
    }
    assert!(known >= 7, "{known} rows");
}
