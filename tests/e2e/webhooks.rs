//! Webhooks of a running gateway: what happens there is told.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;

use imgate::node::Tuning;
use serde_json::{Value, json};

use crate::backends::key;
use crate::support::{Gateway, PATIENCE, ask, register};

/// An endpoint, and the events that it has taken.
struct Endpoint {
    listener: TcpListener,
    waiting: Vec<Value>,
}

impl Endpoint {
    fn start() -> Self {
        Self { listener: TcpListener::bind("127.0.0.1:0").expect("a free port"), waiting: Vec::new() }
    }

    fn url(&self) -> String {
        format!("http://{}/hook", self.listener.local_addr().expect("an address"))
    }

    /// The next event.
    fn next(&mut self) -> Value {
        while self.waiting.is_empty() {
            let (stream, _) = self.listener.accept().expect("a connection");
            stream.set_read_timeout(Some(PATIENCE)).expect("a socket option");
            let mut reader = BufReader::new(stream);
            let mut length = 0;
            loop {
                let mut line = String::new();
                reader.read_line(&mut line).expect("a line");
                if line.trim().is_empty() {
                    break;
                }
                if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                    length = value.trim().parse().expect("a length");
                }
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body).expect("a body");
            reader.into_inner().write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").expect("it reads");
            let body: Value = serde_json::from_slice(&body).expect("JSON");
            self.waiting = body["events"].as_array().expect("events").clone();
        }
        self.waiting.remove(0)
    }
}

#[test]
fn a_backend_hears_of_people_members_and_messages_to_who_is_away() {
    let mut endpoint = Endpoint::start();
    let url = endpoint.url();
    let settings = [
        ("webhook_url", url.as_str()),
        ("webhook_secret", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"),
        ("webhook_networks", "127.0.0.1"),
    ];
    let gateway = Gateway::start_with(2, 4, &settings, Tuning::default());
    let (user, _) = register(gateway.address(), "/user/register", "13800000001");
    let event = endpoint.next();
    assert_eq!((event["kind"].as_str(), event["user"].as_u64()), (Some("user.registered"), Some(user)), "{event}");

    let group = gateway.group(1, &[2]);
    for member in [1, 2] {
        let event = endpoint.next();
        assert_eq!(
            (&event["kind"], &event["group"], &event["user"]),
            (&json!("group.joined"), &json!(group), &json!(member))
        );
    }
    // On both shards: who is online hears it, and who is not is told of.
    let (mut one, _two) = (gateway.v2(1), gateway.v2(2));
    one.say_acked(10, 2, "c1", "you are here");
    one.say_acked(10, 3, "c2", "you are not");
    one.say_acked(10, 4, "c3", "nor are you");
    one.say_acked(10, 1, "c4", "a note to myself");
    for (away, content) in [(3, "you are not"), (4, "nor are you")] {
        let event = endpoint.next();
        assert_eq!(
            (&event["kind"], &event["user"], &event["peer"]),
            (&json!("message.offline"), &json!(away), &json!(1))
        );
        assert_eq!(
            (&event["seq"], &event["message"]["content"], &event["message"]["userid"]),
            (&json!(1), &json!(content), &json!(1))
        );
    }
    let (_, key) = key(&gateway, "k", "send,data,groups", "");
    let call = |method: &str, path: &str, body: Value| {
        let (status, answer) = ask(gateway.address(), method, &format!("/api/v1/server/{path}"), &key, &body);
        assert_eq!(status, 200, "{answer}");
    };
    call(
        "POST",
        "messages",
        json!({ "messages": [{ "from": 2, "to": { "user": 3 }, "message": { "media": 1, "content": "pushed" } }] }),
    );
    assert_eq!(endpoint.next()["message"]["content"], "pushed");
    call("DELETE", &format!("groups/{group}/members/2"), Value::Null);
    let event = endpoint.next();
    assert_eq!((&event["kind"], &event["user"]), (&json!("group.left"), &json!(2)), "{event}");
    call("DELETE", &format!("users/{user}"), Value::Null);
    assert_eq!(endpoint.next()["kind"], "user.deleted");
}

#[test]
fn a_webhook_that_is_down_delays_no_message() {
    // Nobody listens there any more.
    let url = Endpoint::start().url();
    let settings = [
        ("webhook_url", url.as_str()),
        ("webhook_secret", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"),
        ("webhook_networks", "127.0.0.0/8"),
    ];
    let gateway = Gateway::start_with(2, 2, &settings, Tuning::default());
    let mut one = gateway.v2(1);
    for n in 0..50 {
        one.say_acked(10, 2, &format!("c{n}"), "are you there?");
    }
    assert!(gateway.metric("imgate_webhook_failures_total") >= 1.0);
}
