//! Two people chat, over real sockets and at least two shards: both profiles, direct and in groups.

use imgate::auth::Issuer;
use serde_json::{Value, json};

use crate::support::{Client, Gateway, register};

fn parsed(texts: &[String]) -> Vec<Value> {
    texts.iter().map(|text| serde_json::from_str(text).expect("chat messages are JSON")).collect()
}

fn contents(messages: &[Value]) -> Vec<&str> {
    messages.iter().map(|message| message["content"].as_str().expect("a content")).collect()
}

#[test]
fn two_people_register_and_talk() {
    let gateway = Gateway::start(2, 0);
    let address = gateway.address();
    let (ann, ann_token) = register(address, "/user/register", "13800000001");
    let (bob, bob_token) = register(address, "/register", "13800000002");
    assert_ne!(ann, bob);
    let mut a = Client::v2(address, &ann_token);
    let mut b = Client::legacy(address, bob, &bob_token);

    let ack = a.say_acked(10, bob, "c1", "hello");
    assert_eq!((&ack["seq"], &ack["dstid"], &ack["kind"]), (&json!(1), &json!(bob), &json!(10)));
    let heard = b.json();
    assert_eq!((&heard["content"], &heard["userid"], &heard["seq"]), (&json!("hello"), &json!(ann), &json!(1)));
    assert_eq!((&heard["id"], &heard["ts"]), (&ack["id"], &ack["ts"]));

    b.send(&json!({"dstid": ann, "cmd": 10, "userid": bob, "media": 1, "content": "hi"}));
    let answer = a.wait_for(10);
    assert_eq!((&answer["content"], &answer["userid"], &answer["seq"]), (&json!("hi"), &json!(bob), &json!(2)));
    assert_eq!(b.drain(), [""; 0], "a page shows its own direct message itself");
    a.close();
    b.close();
}

#[test]
fn a_group_talks_in_one_order_and_pages_get_the_echo_they_wait_for() {
    let gateway = Gateway::start(2, 6);
    let group = gateway.group(1, &[2, 3, 4]);
    let mut v2 = gateway.v2(1);
    let mut second_device = gateway.v2(1);
    let mut fastim = gateway.legacy(2, Issuer::FastIm);
    let mut imchat = gateway.legacy(3, Issuer::ImChat);
    let mut reader = gateway.v2(4);
    let mut stranger = gateway.v2(5);

    assert_eq!(v2.say_acked(11, group, "g1", "one")["seq"], 1);
    for client in [&mut second_device, &mut reader, &mut fastim, &mut imchat] {
        assert_eq!(client.wait_for(11)["content"], "one");
    }
    fastim.send(&json!({"cmd": 11, "dstid": group, "media": 1, "content": "two"}));
    for client in [&mut v2, &mut second_device, &mut reader, &mut imchat] {
        assert_eq!(client.wait_for(11)["content"], "two");
    }
    imchat.send(&json!({"cmd": 11, "dstid": group, "media": 1, "content": "three"}));
    for client in [&mut v2, &mut second_device, &mut reader, &mut fastim] {
        let message = client.wait_for(11);
        assert_eq!((&message["content"], &message["seq"], &message["userid"]), (&json!("three"), &json!(3), &json!(3)));
    }
    assert_eq!(imchat.wait_for(11)["content"], "three", "IMChat's page shows its own message when the echo comes");
    assert_eq!(fastim.drain(), [""; 0], "fastIM's page has shown its own message itself");
    assert_eq!(v2.drain(), [""; 0], "the author's own connection got an ack");

    stranger.say(11, group, "s1", "let me in");
    let refused = stranger.wait_for(2);
    assert_eq!((&refused["cid"], &refused["code"]), (&json!("s1"), &json!(10)));
    assert_eq!(reader.drain(), [""; 0]);
}

#[test]
fn legacy_pages_never_see_a_frame_that_they_do_not_understand() {
    let gateway = Gateway::start(2, 4);
    let group = gateway.group(1, &[2]);
    let mut page = gateway.legacy(1, Issuer::FastIm);
    page.send(&json!({"cmd": 0}));
    page.send(&json!({"cmd": 4, "kind": 10, "dstid": 2}));
    page.send(&json!({"cmd": 99}));
    page.send(&json!({"cmd": "10"}));
    page.send(&json!({"cmd": 11, "dstid": 9999, "media": 1, "content": "no such group"}));
    page.send(&json!({"cmd": 11, "dstid": group, "media": 1, "content": "a fence"}));
    // Ordered behind everything above by the member's shard and by this socket.
    let mut member = gateway.v2(2);
    member.say_acked(11, group, "m1", "and one more");
    let mut texts = Vec::new();
    while !texts.iter().any(|text: &String| text.contains("and one more")) {
        texts.push(page.text());
    }
    texts.extend(page.drain());
    for text in texts.iter().filter(|text| text.contains('}')) {
        let message: Value = serde_json::from_str(text).expect("what has a brace is JSON");
        assert!(message["cmd"] == 10 || message["cmd"] == 11, "{message}");
        assert!(message["userid"].is_u64() && message["dstid"].is_u64(), "{message}");
    }
}

#[test]
fn a_resend_gets_the_old_ack_also_after_a_restart() {
    let mut gateway = Gateway::start(2, 2);
    let mut a = gateway.v2(1);
    let first = a.say_acked(10, 2, "same", "once");
    let again = a.say_acked(10, 2, "same", "once");
    assert_eq!((&again["seq"], &again["id"], &again["dup"]), (&first["seq"], &first["id"], &json!(true)));
    drop(a);
    gateway.restart();
    let mut a = gateway.v2(1);
    let after = a.say_acked(10, 2, "same", "once");
    assert_eq!((&after["seq"], &after["id"], &after["dup"]), (&first["seq"], &first["id"], &json!(true)));
    assert_eq!(a.say_acked(10, 2, "other", "twice")["seq"], 2, "no hole");
    assert_eq!(contents(&gateway.history(1, 10, 2)), ["once", "twice"]);
}

#[test]
fn sync_reads_on_after_any_message() {
    let gateway = Gateway::start(2, 2);
    let mut a = gateway.v2(1);
    for n in 1..=5 {
        assert_eq!(a.say_acked(10, 2, &format!("c{n}"), &format!("m{n}"))["seq"], n);
    }
    let mut b = gateway.v2(2);
    b.send(&json!({"cmd": 4, "kind": 10, "dstid": 1, "after": 2, "limit": 2}));
    let page = b.wait_for(4);
    let rows = page["rows"].as_array().expect("rows");
    assert_eq!(contents(rows), ["m3", "m4"]);
    assert_eq!((&page["more"], &page["head"]), (&json!(true), &json!(5)));
    b.send(&json!({"cmd": 4, "kind": 10, "dstid": 1, "after": 4}));
    let page = b.wait_for(4);
    assert_eq!(contents(page["rows"].as_array().expect("rows")), ["m5"]);
    assert_eq!(page["more"], false);
}

#[test]
fn the_list_of_conversations_comes_unasked_and_knows_what_is_unread_after_a_restart() {
    let mut gateway = Gateway::start(3, 3);
    let mut a = gateway.v2(1);
    for n in 1..=3 {
        a.say_acked(10, 2, &format!("c{n}"), &format!("m{n}"));
    }
    let mut b = gateway.v2_at_once(2);
    let ready = b.ready();
    let of = |ready: &Value| ["dstid", "head", "read", "unread"].map(|field| ready["convs"][0][field].as_u64());
    assert_eq!(of(&ready), [1, 3, 0, 3].map(Some), "{ready}");
    b.send(&json!({"cmd": 3, "kind": 10, "dstid": 1, "read": 2}));
    let relayed = a.wait_for(3);
    assert_eq!((&relayed["userid"], &relayed["dstid"], &relayed["read"]), (&json!(2), &json!(2), &json!(2)));
    // It is relayed when it is on its way to the store, and a stop waits for what is on its way.
    gateway.restart();
    let ready = gateway.v2_at_once(2).ready();
    assert_eq!(of(&ready), [1, 3, 2, 1].map(Some), "{ready}");
}

#[test]
fn a_page_gets_what_it_missed_right_after_its_welcome() {
    let gateway = Gateway::start(2, 2);
    let mut a = gateway.v2(1);
    for n in 1..=250 {
        a.say(10, 2, &format!("c{n}"), &format!("m{n}"));
    }
    for _ in 1..=250 {
        a.wait_for(1);
    }
    let mut page = gateway.legacy(2, Issuer::FastIm);
    for n in 51..=250 {
        assert_eq!(page.json()["content"], format!("m{n}"), "the newest 200, in order");
    }
    a.say_acked(10, 2, "new", "new");
    assert_eq!(page.json()["content"], "new");
}

#[test]
fn who_joins_while_connected_receives_from_then_on() {
    let gateway = Gateway::start(2, 9);
    let group = gateway.group(1, &[]);
    let mut owner = gateway.v2(1);
    let mut joiners: Vec<Client> = (2..=9).map(|user| gateway.v2(user)).collect();
    assert_eq!(owner.say_acked(11, group, "before", "before")["seq"], 1);
    for user in 2..=9 {
        gateway.join(user, group);
    }
    // The join was answered when the user's shard and the group's home had confirmed it: whatever is posted now reaches everybody.
    assert_eq!(owner.say_acked(11, group, "after", "after")["seq"], 2);
    for joiner in &mut joiners {
        assert_eq!(joiner.wait_for(11)["content"], "after");
        joiner.send(&json!({"cmd": 4, "kind": 11, "dstid": group, "after": 0}));
        let page = joiner.wait_for(4);
        assert_eq!(contents(page["rows"].as_array().expect("rows")), ["after"], "history is clamped to the membership");
    }
}

#[test]
fn many_users_on_all_shards_talk_to_each_other() {
    const USERS: u64 = 64;
    for shards in [1, 2, 4] {
        let gateway = Gateway::start(shards, USERS);
        let mut clients: Vec<Client> = (1..=USERS).map(|user| gateway.v2(user)).collect();
        let next = |user: u64| user % USERS + 1;
        for (user, client) in (1..=USERS).zip(&mut clients) {
            client.say(10, next(user), "c", &format!("from {user}"));
        }
        for (user, client) in (1..=USERS).zip(&mut clients) {
            let before = if user == 1 { USERS } else { user - 1 };
            let (mut acked, mut heard) = (false, false);
            while !(acked && heard) {
                let message = client.json();
                match message["cmd"].as_u64() {
                    Some(1) => acked = message["dstid"] == next(user),
                    Some(10) => heard = message["content"] == format!("from {before}"),
                    _ => panic!("{message}"),
                }
            }
        }
        let handed = gateway.metric("imgate_handed_over_total");
        if shards == 1 {
            assert!(handed == 0.0, "one shard hands nothing over");
        } else {
            assert!(handed > 0.0, "64 connections and users spread independently over {shards} shards");
        }
    }
}

#[test]
fn pipelined_commands_survive_the_hand_over() {
    let gateway = Gateway::start(4, 16);
    for user in 1..=16 {
        let mut client = Client::v2_at_once(gateway.address(), &gateway.token(user, Issuer::Own));
        for n in 0..50 {
            client.say(10, user, &format!("c{n}"), "note to self");
        }
        for n in 0..50 {
            let ack = client.wait_for(1);
            assert_eq!((&ack["cid"], &ack["seq"]), (&json!(format!("c{n}")), &json!(n + 1)));
        }
    }
}

#[test]
fn all_devices_see_the_same_order() {
    let gateway = Gateway::start(2, 2);
    let mut devices: Vec<Client> = (0..4).map(|_| gateway.v2(2)).collect();
    let mut authors: Vec<Client> = (0..3).map(|_| gateway.v2(1)).collect();
    for n in 0..20 {
        for (i, author) in authors.iter_mut().enumerate() {
            author.say(10, 2, &format!("{i}-{n}"), &format!("{i}-{n}"));
        }
    }
    let mut first: Option<Vec<Value>> = None;
    for device in &mut devices {
        let got: Vec<Value> = (0..60).map(|_| device.wait_for(10)).collect();
        let seqs: Vec<u64> = got.iter().map(|message| message["seq"].as_u64().expect("a seq")).collect();
        assert_eq!(seqs, (1..=60).collect::<Vec<u64>>());
        assert_eq!(*first.get_or_insert_with(|| got.clone()), got);
    }
    let history = gateway.history(2, 10, 1);
    assert_eq!(contents(&history), contents(&first.expect("there are devices")));
    assert!(parsed(&authors[0].drain()).iter().all(|message| message["cmd"] != 2));
}
