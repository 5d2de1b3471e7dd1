//! What sessions tell each other between the messages, over real sockets and several shards: who is typing, who is there, what was taken back.

use std::collections::BTreeMap;

use imgate::auth::Issuer;
use serde_json::{Value, json};

use crate::support::{Client, Gateway};

#[test]
fn typing_is_heard_across_shards_and_by_no_old_page() {
    let gateway = Gateway::start(4, 12);
    let group = gateway.group(1, &(2..=8).collect::<Vec<u64>>());
    let mut typist = gateway.v2(1);
    let mut members: Vec<_> = (2..=8).map(|user| gateway.v2(user)).collect();
    let mut page = gateway.legacy(2, Issuer::FastIm);
    typist.send(&json!({"cmd": 6, "kind": 11, "dstid": group}));
    for member in &mut members {
        assert_eq!(member.wait_for(6), json!({"cmd": 6, "kind": 11, "dstid": group, "userid": 1}));
    }
    for user in 2..=8_u64 {
        let other = &mut members[usize::try_from(user).expect("small") - 2];
        other.send(&json!({"cmd": 6, "kind": 10, "dstid": 1}));
        assert_eq!(typist.wait_for(6), json!({"cmd": 6, "kind": 10, "dstid": user, "userid": user}));
    }
    assert_eq!(page.drain(), [""; 0], "an old page would not understand it");

    let mut stranger = gateway.v2(9);
    stranger.send(&json!({"cmd": 6, "kind": 11, "dstid": group}));
    assert_eq!(stranger.wait_for(2)["code"], 10, "only members type in a group");
}

/// Reads presences until every user of `states` was said to be so.
pub(crate) fn told(client: &mut Client, states: &[(u64, bool)]) {
    let mut wanted: BTreeMap<u64, bool> = states.iter().copied().collect();
    while !wanted.is_empty() {
        for row in client.wait_for(7)["rows"].as_array().expect("rows") {
            let user = row["userid"].as_u64().expect("an id");
            assert_eq!(row["online"].as_bool(), wanted.remove(&user), "{row}");
        }
    }
}

#[test]
fn presence_is_told_across_shards_at_once_and_on_change() {
    let gateway = Gateway::start(4, 20);
    let mut present: Vec<Client> = (2..=10).map(|user| gateway.v2(user)).collect();
    let page = gateway.legacy(11, Issuer::FastIm);
    let mut watcher = gateway.v2(1);
    watcher.send(&json!({"cmd": 7, "users": (2..=20).collect::<Vec<u64>>()}));
    told(&mut watcher, &(2..=20).map(|user| (user, user <= 11)).collect::<Vec<_>>());

    present.remove(0).close();
    told(&mut watcher, &[(2, false)]);
    drop(present);
    told(&mut watcher, &(3..=10).map(|user| (user, false)).collect::<Vec<_>>());
    page.close();
    told(&mut watcher, &[(11, false)]);
    let newcomer = gateway.v2(20);
    told(&mut watcher, &[(20, true)]);

    // The second device of the same user has a list of its own.
    let mut second = gateway.v2(1);
    second.send(&json!({"cmd": 7, "users": [20, 19, 1]}));
    told(&mut second, &[(1, true), (19, false), (20, true)]);
    watcher.send(&json!({"cmd": 7, "users": []}));
    watcher.send(&json!({"cmd": 7, "users": "all"}));
    assert_eq!(watcher.wait_for(2)["code"], 1);
    newcomer.close();
    told(&mut second, &[(20, false)]);
    let texts = watcher.drain();
    assert!(!texts.iter().any(|text| text.contains("\"cmd\":7")), "{texts:?}");
}

#[test]
fn a_message_is_taken_back_for_everybody_and_for_good() {
    let mut gateway = Gateway::start(3, 4);
    let group = gateway.group(1, &[2, 3]);
    let mut author = gateway.v2(1);
    let mut reader = gateway.v2(2);
    let mut page = gateway.legacy(3, Issuer::FastIm);
    author.say_acked(11, group, "g1", "oops");
    assert_eq!(page.json()["content"], "oops");
    author.send(&json!({"cmd": 8, "kind": 11, "dstid": group, "seq": 1, "cid": "r1"}));
    let ack = author.wait_for(1);
    assert_eq!((&ack["cid"], &ack["seq"]), (&json!("r1"), &json!(2)));
    assert_eq!(reader.wait_for(11)["content"], "oops");
    let told = reader.wait_for(11);
    assert_eq!((&told["recall"], &told["seq"], &told["userid"]), (&json!(1), &json!(2), &json!(1)));
    reader.send(&json!({"cmd": 8, "kind": 11, "dstid": group, "seq": 2, "cid": "r2"}));
    assert_eq!(reader.wait_for(2)["code"], 16);
    reader.send(&json!({"cmd": 8, "kind": 11, "dstid": group, "seq": 9, "cid": "r3"}));
    assert_eq!(reader.wait_for(2)["code"], 17);
    author.say_acked(11, group, "g2", "well");
    assert_eq!(page.json()["content"], "well", "the page is told nothing between the two");

    gateway.restart();
    let mut author = gateway.v2(1);
    author.send(&json!({"cmd": 8, "kind": 11, "dstid": group, "seq": 1, "cid": "r1"}));
    let again = author.wait_for(1);
    assert_eq!((&again["seq"], &again["dup"]), (&json!(2), &json!(true)));
    author.send(&json!({"cmd": 4, "kind": 11, "dstid": group, "after": 0}));
    let rows = author.wait_for(4)["rows"].clone();
    assert_eq!((&rows[0]["recalled"], &rows[0]["content"]), (&json!(true), &Value::Null));
    assert_eq!((&rows[1]["recall"], &rows[2]["content"]), (&json!(1), &json!("well")));
}
