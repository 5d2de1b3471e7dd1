//! The recorded conversations of `tests/vectors`, played to the rules of the Rust client
//! (`imgate_client::Session`); the SDK of the web client passes the same ones.

use std::fs;
use std::path::Path;

use imgate_client::{Conv, Event, Jitter, Message, Output, Session, Settings};
use serde_json::{Value, json};

/// Longer than any delay.
const TEN_MINUTES_MS: u64 = 600_000;

fn vectors() -> Vec<(String, Value)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors");
    let files = fs::read_dir(folder).expect("the folder").map(|entry| entry.expect("an entry").path());
    let mut all: Vec<(String, Value)> = files
        .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
        .map(|path| {
            let text = fs::read_to_string(&path).expect("a readable file");
            (path.display().to_string(), serde_json::from_str(&text).expect("JSON"))
        })
        .collect();
    all.sort_by(|one, other| one.0.cmp(&other.0));
    all
}

fn integer(step: &Value, field: &str) -> u64 {
    step[field].as_u64().unwrap_or_else(|| panic!("{field} in {step}"))
}

/// A session with the time that it is given, and what came out of it.
struct Client {
    session: Session,
    now_ms: u64,
    /// How often it has dialled.
    dials: u32,
    /// Frames and events since they were last taken, as the vectors write them.
    outputs: Vec<Value>,
}

impl Client {
    fn new(vector: &Value) -> Self {
        let first_page = u32::try_from(integer(vector, "first_page")).expect("a page is small");
        let receipts = vector["receipts"] == true;
        let settings = Settings { user: integer(vector, "user"), first_page, receipts, jitter: Jitter::Middle };
        let mut client = Self { session: Session::new(settings), now_ms: 0, dials: 0, outputs: Vec::new() };
        client.take();
        client
    }

    fn take(&mut self) {
        while let Some(output) = self.session.poll() {
            match output {
                Output::Dial => self.dials += 1,
                Output::Send(text) => {
                    let frame: Value = serde_json::from_str(&text).expect("a frame is JSON");
                    self.outputs.push(json!({ "client": frame }));
                }
                Output::Drop | Output::Place { .. } => {}
                Output::Tell(event) => self.outputs.extend(told(event)),
            }
        }
    }

    /// Lets time go on, and stops early when it has dialled.
    fn advance(&mut self, ms: u64) {
        let (end_ms, dials) = (self.now_ms + ms, self.dials);
        while let Some(due_ms) = self.session.due_ms().filter(|due_ms| *due_ms <= end_ms) {
            self.now_ms = self.now_ms.max(due_ms);
            self.session.tick(self.now_ms);
            self.take();
            if self.dials > dials {
                return;
            }
        }
        self.now_ms = end_ms;
    }

    /// What the application does.
    fn act(&mut self, step: &Value) {
        let conv = Conv::new(integer(step, "kind"), integer(step, "dstid")).expect("a conversation");
        let (now_ms, cid) = (self.now_ms, step["cid"].as_str().unwrap_or_default());
        let body = || step["body"].as_object().cloned().unwrap_or_default();
        let limit = || u32::try_from(integer(step, "limit")).expect("a page is small");
        let done = match step["app"].as_str().expect("a name") {
            "send" => self.session.send(now_ms, conv, body(), cid),
            "recall" => self.session.recall(now_ms, conv, integer(step, "seq"), cid),
            "read" => {
                self.session.read(now_ms, conv, integer(step, "seq"));
                Ok(())
            }
            "history" => self.session.history(now_ms, conv, step["before"].as_u64(), limit()),
            other => panic!("no such application: {other}"),
        };
        done.expect("a vector stays below every bound");
    }
}

/// An event as the vectors write it; `None`: they do not.
fn told(event: Event) -> Option<Value> {
    let seqs = |rows: Vec<Message>| rows.into_iter().filter_map(|row| row.seq).collect::<Vec<_>>();
    let (emit, conv, mut detail) = match event {
        Event::Message { conv, message } => ("message", Some(conv), Value::Object(message.body)),
        Event::Sent { cid, conv, seq } => ("sent", Some(conv), json!({ "cid": cid, "seq": seq })),
        Event::Refused { cid, conv, code } => ("refused", Some(conv), json!({ "cid": cid, "code": code })),
        Event::Receipt { userid, conv, recv, read } => {
            ("receipt", Some(conv), json!({ "userid": userid, "recv": recv, "read": read }))
        }
        Event::Reset { conv } => ("reset", Some(conv), json!({})),
        Event::Gap { conv, from, to } => ("gap", Some(conv), json!({ "from": from, "to": to })),
        Event::History { rows, more, .. } => ("history", None, json!({ "seqs": seqs(rows), "more": more })),
        Event::Online | Event::Offline { .. } | Event::Other(_) => return None,
    };
    if let Some(conv) = conv {
        (detail["kind"], detail["dstid"]) = (conv.kind().into(), conv.dstid().into());
    }
    detail["emit"] = emit.into();
    Some(detail)
}

fn input(client: &mut Client, step: &Value) -> Result<(), String> {
    let now_ms = client.now_ms;
    if step.get("open").is_some() {
        client.session.opened(now_ms);
    } else if let Some(frame) = step.get("server") {
        client.session.heard(now_ms, &frame.to_string());
    } else if let Some(text) = step.get("server_text") {
        client.session.heard(now_ms, text.as_str().expect("a text"));
    } else if step.get("app").is_some() {
        client.act(step);
    } else if let Some(ms) = step.get("after_ms") {
        client.advance(ms.as_u64().expect("a time"));
    } else if step.get("close").is_some() {
        let code = u16::try_from(integer(step, "close")).expect("a close code");
        client.session.closed(now_ms, code, step["reason"].as_str().unwrap_or_default());
    } else if let Some(times) = step.get("connects_within_ms") {
        let (from, to, dials) = (times[0].as_u64().expect("a time"), times[1].as_u64().expect("a time"), client.dials);
        client.advance(from - 1);
        if client.dials != dials {
            return Err(format!("it came back before {from} ms"));
        }
        client.advance(to - from + 1);
        if client.dials != dials + 1 {
            return Err(format!("it did not come back within {to} ms"));
        }
    } else if step.get("never_connects").is_some() {
        let dials = client.dials;
        client.advance(TEN_MINUTES_MS);
        if client.dials != dials {
            return Err("it came back".to_owned());
        }
    } else {
        return Err("this is no input".to_owned());
    }
    client.take();
    Ok(())
}

/// Whether an output is what the vector wants: a frame exactly, an event in at least these values.
fn fits(have: &Value, want: &Value) -> bool {
    match want.get("client") {
        Some(frame) => have.get("client") == Some(frame),
        None => want.as_object().expect("an object").iter().all(|(field, value)| have.get(field) == Some(value)),
    }
}

fn play(vector: &Value) -> Result<(), String> {
    let mut client = Client::new(vector);
    let mut steps = vector["steps"].as_array().expect("steps").iter().peekable();
    while let Some(step) = steps.next() {
        input(&mut client, step).map_err(|why| format!("{step}: {why}"))?;
        let mut wanted = Vec::new();
        while let Some(want) = steps.next_if(|next| next.get("client").is_some() || next.get("emit").is_some()) {
            wanted.push(want);
        }
        let outputs = std::mem::take(&mut client.outputs);
        for sort in ["client", "emit"] {
            let of_sort = |output: &Value| output.get(sort).is_some();
            let want: Vec<&Value> = wanted.iter().copied().filter(|one| of_sort(one)).collect();
            let have: Vec<&Value> = outputs.iter().filter(|one| of_sort(one)).collect();
            if want.len() != have.len() || have.iter().zip(&want).any(|(have, want)| !fits(have, want)) {
                return Err(format!("after {step}\nwanted {want:?}\nthere were {have:?}"));
            }
        }
    }
    Ok(())
}

#[test]
fn a_small_client_passes_every_vector() {
    let all = vectors();
    assert!(all.len() >= 30, "only {} vectors were found", all.len());
    let wrong: Vec<String> =
        all.iter().filter_map(|(name, vector)| Some(format!("{name}: {}", play(vector).err()?))).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

/// Without any one of its expectations a vector must fail: what a client does too much is noticed, too.
#[test]
fn every_expectation_counts() {
    for (name, vector) in vectors() {
        let steps = vector["steps"].as_array().expect("steps");
        for (at, step) in steps.iter().enumerate() {
            if step.get("client").is_none() && step.get("emit").is_none() {
                continue;
            }
            let mut less = vector.clone();
            less["steps"].as_array_mut().expect("steps").remove(at);
            assert!(play(&less).is_err(), "{name} passes without step {at}");
        }
    }
}
