//! The recorded conversations of `tests/vectors`, played to a small client in Rust; the SDK of the web client passes the same ones.

#[path = "vectors/reference.rs"]
mod reference;

use std::fs;
use std::path::Path;

use reference::Client;
use serde_json::Value;

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

/// What the application does.
fn act(client: &mut Client, step: &Value) {
    let (kind, dstid) = (integer(step, "kind"), integer(step, "dstid"));
    let cid = step["cid"].as_str().unwrap_or_default();
    match step["app"].as_str().expect("a name") {
        "send" => client.send(kind, dstid, &step["body"], None, cid),
        "recall" => client.send(kind, dstid, &Value::Null, Some(integer(step, "seq")), cid),
        "read" => client.read(kind, dstid, integer(step, "seq")),
        "history" => client.history(kind, dstid, step["before"].as_u64(), integer(step, "limit")),
        other => panic!("no such application: {other}"),
    }
}

fn input(client: &mut Client, step: &Value) -> Result<(), String> {
    if step.get("open").is_some() {
        client.opened();
    } else if let Some(frame) = step.get("server") {
        client.heard(&frame.to_string());
    } else if let Some(text) = step.get("server_text") {
        client.heard(text.as_str().expect("a text"));
    } else if step.get("app").is_some() {
        act(client, step);
    } else if let Some(ms) = step.get("after_ms") {
        client.advance(ms.as_u64().expect("a time"));
    } else if step.get("close").is_some() {
        client.closed(integer(step, "close"), step["reason"].as_str().unwrap_or_default());
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
    let receipts = vector["receipts"] == true;
    let mut client = Client::new(integer(vector, "user"), integer(vector, "first_page"), receipts);
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
