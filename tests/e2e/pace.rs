//! How fast a user may go, by real sockets: whoever is over the pace is not read for a while and loses nothing, and the others notice nothing.

use std::thread;
use std::time::{Duration, Instant};

use imgate::node::Tuning;
use serde_json::json;

use crate::support::{Client, Gateway, connect};

/// Heartbeats at once, and in a second.
const BURST: u64 = 100;
const RATE: u64 = 500;

fn slow() -> Gateway {
    let (rate, burst) = (RATE.to_string(), BURST.to_string());
    Gateway::start_with(2, 2, &[("user_cost", &rate), ("user_cost_burst", &burst)], Tuning::default())
}

#[test]
fn who_is_over_the_pace_waits_and_loses_nothing() {
    const BEATS: u64 = 400;
    let gateway = slow();
    let (mut other, began) = (gateway.v2(2), Instant::now());
    let (mut writer, mut reader) = gateway.v2(1).halves();
    let flood = thread::spawn(move || {
        (0..BEATS).for_each(|_| writer.send(&json!({"cmd": 0})));
        writer
    });
    for _ in 0..20 {
        other.send(&json!({"cmd": 0}));
        assert_eq!(other.wait_for(0)["cmd"], 0, "the others are read as ever");
    }
    for _ in 0..BEATS {
        assert_eq!(reader.wait_for(0)["cmd"], 0, "every one is answered");
    }
    let least = Duration::from_millis((BEATS - BURST) * 1000 / RATE);
    assert!(began.elapsed() >= least, "{:?} are less than {least:?}", began.elapsed());
    drop(flood.join().expect("everything was taken"));
    assert!(gateway.metric("imgate_pauses_total{what=\"cost\"}") >= 1.0);
}

#[test]
fn a_guest_has_no_pace_unless_one_is_set() {
    const WORDS: u32 = 300;
    let pauses = |settings: &[(&str, &str)]| {
        let gateway = Gateway::start_with(1, 0, settings, Tuning::default());
        let url = format!("ws://{}/chatroom", gateway.address());
        let mut guest = Client::open(connect(gateway.address()), &url, &[]).expect("anybody may enter");
        // All at once, so that no machine is too slow to be faster than the pace.
        for n in 0..WORDS {
            guest.send_text(&json!({"token": "t", "content": n.to_string()}).to_string());
        }
        for n in 0..WORDS {
            guest.wait_for_text(&format!("{{\"token\":\"t\",\"content\":\"{n}\"}}\n"));
        }
        gateway.metric("imgate_pauses_total{what=\"messages\"}")
    };
    assert_eq!(pauses(&[]), 0.0);
    assert!(pauses(&[("guest_messages", "500"), ("guest_messages_burst", "50")]) >= 1.0);
}
