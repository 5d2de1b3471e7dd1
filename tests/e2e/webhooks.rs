//! Webhooks of a running gateway: what happens there is told.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Instant;

use imgate::node::Tuning;
use rustix::process::Signal;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::{Value, json};

use crate::backends::key;
use crate::process::Process;
use crate::support::{Gateway, PATIENCE, ask, register};
use crate::tls::write_pair;

/// An endpoint, and the events that it has taken.
pub(crate) struct Endpoint {
    listener: TcpListener,
    waiting: Vec<Value>,
    tls: Option<Arc<ServerConfig>>,
    /// Connections that came to nothing.
    failed: usize,
}

trait Stream: Read + Write {}

impl<S: Read + Write> Stream for S {}

impl Endpoint {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        Self { listener, waiting: Vec::new(), tls: None, failed: 0 }
    }

    /// One with a certificate of `localhost`, which lies in `folder` as `stem.pem`.
    fn secure(folder: &Path, stem: &str) -> Self {
        let certificate = write_pair(folder, stem);
        let key = std::fs::read(folder.join(format!("{stem}.key"))).expect("a key");
        let key = PrivateKeyDer::from_pem_slice(&key).expect("a key");
        let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("they are safe")
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key);
        Self { tls: Some(Arc::new(config.expect("they fit"))), ..Self::start() }
    }

    pub(crate) fn url(&self) -> String {
        let address = self.listener.local_addr().expect("an address");
        match self.tls {
            Some(_) => format!("https://localhost:{}/hook", address.port()),
            None => format!("http://{address}/hook"),
        }
    }

    /// Takes one request, with its events.
    fn take(&mut self) -> std::io::Result<()> {
        let (socket, _) = self.listener.accept()?;
        socket.set_read_timeout(Some(PATIENCE))?;
        let stream: Box<dyn Stream> = match &self.tls {
            Some(config) => {
                let server = ServerConnection::new(Arc::clone(config)).map_err(std::io::Error::other)?;
                Box::new(StreamOwned::new(server, socket))
            }
            None => Box::new(socket),
        };
        let mut reader = BufReader::new(stream);
        let mut length = None;
        loop {
            let mut line = String::new();
            reader.read_line(&mut line)?;
            if line.trim().is_empty() {
                break;
            }
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = Some(value.trim().parse().expect("a length"));
            }
        }
        let mut body = vec![0; length.ok_or(std::io::ErrorKind::UnexpectedEof)?];
        reader.read_exact(&mut body)?;
        let mut stream = reader.into_inner();
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")?;
        stream.flush()?;
        let body: Value = serde_json::from_slice(&body)?;
        self.waiting = body["events"].as_array().expect("events").clone();
        Ok(())
    }

    /// The next event.
    pub(crate) fn next(&mut self) -> Value {
        while self.waiting.is_empty() {
            self.failed += usize::from(self.take().is_err());
        }
        self.waiting.remove(0)
    }
}

pub(crate) const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

#[test]
fn a_backend_hears_which_members_of_a_group_are_away() {
    let mut endpoint = Endpoint::start();
    let url = endpoint.url();
    let settings = [
        ("webhook_url", url.as_str()),
        ("webhook_secret", SECRET),
        ("webhook_networks", "127.0.0.1"),
        ("webhook_events", "message.group_offline"),
    ];
    let gateway = Gateway::start_with(2, 6, &settings, Tuning::default());
    let group = gateway.group(1, &[2, 3, 4]);
    let (mut one, mut two) = (gateway.v2(1), gateway.v2(2));
    one.say_acked(10, 5, "c1", "of no group, and not wanted");
    for (seq, text) in [(1, "who is there?"), (2, "nobody?")] {
        one.say_acked(11, group, &format!("g{seq}"), text);
        let event = endpoint.next();
        assert_eq!(event["kind"], "message.group_offline", "{event}");
        assert_eq!((&event["group"], &event["seq"], &event["more"]), (&json!(group), &json!(seq), &json!(false)));
        assert_eq!(event["users"], json!([3, 4]), "{event}");
        assert_eq!((&event["message"]["content"], &event["message"]["userid"]), (&json!(text), &json!(1)));
    }
    drop(one);
    let _three = gateway.v2(3);
    let until = Instant::now() + PATIENCE;
    // The end of a connection takes a turn to be seen.
    for n in 0.. {
        two.say_acked(11, group, &format!("h{n}"), "now you");
        let event = endpoint.next();
        if event["users"] == json!([1, 4]) {
            break;
        }
        assert!(Instant::now() < until, "{event}");
    }
    gateway.join(6, group);
    two.say_acked(11, group, "j", "and you");
    assert_eq!(endpoint.next()["users"], json!([1, 4, 6]));
}

#[test]
fn an_https_endpoint_is_believed_by_its_certificate_and_a_kill_loses_no_event() {
    let files = tempfile::tempdir().expect("a temporary directory");
    let data = tempfile::tempdir().expect("a temporary directory");
    write_pair(files.path(), "other");
    let mut endpoint = Endpoint::secure(files.path(), "one");
    let url = endpoint.url();
    let start = |trusted: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_imgate"));
        command.env("SSL_CERT_FILE", files.path().join(trusted)).env_remove("SSL_CERT_DIR");
        command.env("IMGATE_WEBHOOK_URL", &url).env("IMGATE_WEBHOOK_SECRET", SECRET);
        command.env("IMGATE_WEBHOOK_NETWORKS", "127.0.0.0/8");
        Process::launch(command, data.path())
    };
    let mut first = start("other.pem");
    let (user, _) = register(first.address, "/user/register", "13800000001");
    assert!(endpoint.take().is_err(), "its certificate is not believed");
    first.says("a webhook does not take its events");
    first.signal(Signal::KILL);
    first.ended(PATIENCE);

    let second = start("one.pem");
    let event = endpoint.next();
    assert_eq!((&event["kind"], &event["user"]), (&json!("user.registered"), &json!(user)), "{event}");
    let (other, _) = register(second.address, "/user/register", "13800000002");
    assert_eq!(endpoint.next()["user"], json!(other), "and it is told no more than once");
}

#[test]
fn a_backend_hears_of_people_members_and_messages_to_who_is_away() {
    let mut endpoint = Endpoint::start();
    let url = endpoint.url();
    let settings = [("webhook_url", url.as_str()), ("webhook_secret", SECRET), ("webhook_networks", "127.0.0.1")];
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
fn a_backend_hears_of_memberships_that_end_with_their_group_or_user_and_of_a_deletion_once() {
    let mut endpoint = Endpoint::start();
    let url = endpoint.url();
    let settings = [("webhook_url", url.as_str()), ("webhook_secret", SECRET), ("webhook_networks", "127.0.0.1")];
    let gateway = Gateway::start_with(2, 4, &settings, Tuning::default());
    let mut next = || {
        loop {
            let event = endpoint.next();
            if event["kind"] != "group.joined" {
                return event;
            }
        }
    };
    let (_, key) = key(&gateway, "k", "data,groups", "");
    let delete = |path: &str| {
        let (status, answer) = ask(gateway.address(), "DELETE", &format!("/api/v1/server/{path}"), &key, &Value::Null);
        assert_eq!(status, 200, "{answer}");
    };
    let left =
        |event: &Value| (event["kind"] == "group.left").then(|| (event["group"].as_u64(), event["user"].as_u64()));
    let group = gateway.group(1, &[2, 3]);
    delete(&format!("groups/{group}"));
    let mut gone: Vec<_> = (0..3).map(|_| left(&next()).expect("a membership").1).collect();
    gone.sort_unstable();
    assert_eq!(gone, [Some(1), Some(2), Some(3)]);

    let other = gateway.group(1, &[4]);
    for _ in 0..3 {
        delete("users/4");
    }
    delete("users/3");
    let event = next();
    assert_eq!((&event["kind"], &event["user"]), (&json!("user.deleted"), &json!(4)), "{event}");
    assert_eq!(left(&next()), Some((Some(other), Some(4))));
    let event = next();
    assert_eq!((&event["kind"], &event["user"]), (&json!("user.deleted"), &json!(3)), "told once each: {event}");
}

#[test]
fn a_webhook_that_is_down_delays_no_message() {
    // Nobody listens there any more.
    let url = Endpoint::start().url();
    let settings = [("webhook_url", url.as_str()), ("webhook_secret", SECRET), ("webhook_networks", "127.0.0.0/8")];
    let gateway = Gateway::start_with(2, 2, &settings, Tuning::default());
    let mut one = gateway.v2(1);
    for n in 0..50 {
        one.say_acked(10, 2, &format!("c{n}"), "are you there?");
    }
    // Another thread counts them.
    let began = Instant::now();
    while gateway.metric("imgate_webhook_failures_total") < 1.0 {
        assert!(began.elapsed() < PATIENCE, "no failure is counted");
    }
}
