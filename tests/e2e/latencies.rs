//! How long sessions take to open and messages to arrive, as a scrape tells it.

use imgate::auth::Issuer;
use serde_json::json;

use crate::support::Gateway;

/// The sum over the shards of one part of a histogram.
fn sum(gateway: &Gateway, series: &str) -> f64 {
    (0..2).map(|shard| gateway.metric(&format!("{series}{{shard=\"{shard}\"}}"))).sum()
}

#[test]
fn each_session_and_each_message_is_measured_once() {
    let gateway = Gateway::start(2, 4);
    let group = gateway.group(1, &[2, 3, 4]);
    let mut author = gateway.v2(1);
    // The last one is told its conversations in a later turn than that in which its session opened,
    // and has waited for them.
    let mut readers = [gateway.v2(2), gateway.legacy(4, Issuer::FastIm), gateway.v2(3)];
    assert_eq!(sum(&gateway, "imgate_open_seconds_count"), 4.0, "some came in at one shard and live on the other");
    let opened = sum(&gateway, "imgate_open_seconds_sum");
    assert!(opened > 0.0 && opened < 60.0, "{opened} s");
    assert_eq!(sum(&gateway, "imgate_delivery_seconds_count"), 0.0);
    for n in 0..5 {
        author.say_acked(11, group, &format!("g{n}"), "to all");
        for reader in &mut readers {
            assert_eq!(reader.wait_for(11)["content"], "to all");
        }
    }
    author.say_acked(10, 2, "d1", "to one");
    assert_eq!(readers[0].wait_for(10)["content"], json!("to one"));
    // A turn is published before whoever waits for its messages can ask.
    author.say_acked(10, 2, "d2", "to one");
    assert_eq!(readers[0].wait_for(10)["content"], json!("to one"));
    let (delivered, known) =
        (sum(&gateway, "imgate_delivery_seconds_count"), sum(&gateway, "imgate_fanout_seconds_count"));
    assert!(
        (11.0..=12.0).contains(&delivered),
        "five on two shards, two on one; the last turn may not be told: {delivered}"
    );
    assert!((11.0..=12.0).contains(&known), "{known}");
    let took = sum(&gateway, "imgate_delivery_seconds_sum");
    assert!(took >= sum(&gateway, "imgate_fanout_seconds_sum") && took > 0.0, "{took} s");
}
