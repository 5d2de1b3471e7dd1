//! `GET /message/history`.

use std::sync::Arc;

use crate::api::tests::rig::{Answered, Ask, PATIENCE, Rig, group_of};
use crate::ids::{ConvId, GroupId, UserId};
use crate::store::{Backend, NewMessage, PostKey, Write};
use crate::wire::Packet;
use crate::wire::packet::Stored;

fn read(rig: &Rig, token: &str, query: &str) -> Answered {
    let bearer = format!("Bearer {token}");
    rig.ask(Ask::get(&format!("/message/history?{query}"), &[("Authorization", &bearer)]))
}

fn say(rig: &Rig, conv: ConvId, sender: UserId, n: u64) {
    let body: Arc<str> = format!(r#""cid":"c{n}","media":1,"content":"<{n}>","x":[1, 2]"#).into();
    let key = PostKey::Client(format!("c{n}").into());
    let message = NewMessage { conv, sender, key, ts_ms: 1000 + n, body };
    rig.memory.connect().commit(&[Write::Append(message)]).expect("memory");
}

/// The rows `from..=to` of the memory as the wire has them, in the envelope.
fn expected(rig: &Rig, conv: ConvId, seqs: std::ops::RangeInclusive<u64>, more: bool, floor: u64) -> String {
    let rows = rig.memory.rows(conv);
    let rows: Vec<_> = rows.iter().filter(|row| seqs.contains(&row.seq.get())).collect();
    let objects: Vec<_> = rows
        .iter()
        .map(|row| {
            let stored = Some(Stored { id: row.id, seq: row.seq });
            let packet = Packet::chat(conv, row.sender, stored, row.ts_ms, &row.body);
            String::from_utf8(packet.json().to_vec()).expect("UTF-8")
        })
        .collect();
    let (total, head) = (rows.len(), rig.memory.head(conv));
    let rows = objects.join(",");
    let data = format!(r#"{{"more":{more},"floor":{floor},"head":{head},"epoch":1}}"#);
    format!(r#"{{"code":0,"msg":"","rows":[{rows}],"total":{total},"data":{data}}}"#)
}

#[test]
fn both_of_a_pair_read_pages_of_packets() {
    let rig = Rig::start();
    let (ann, a) = rig.user("1");
    let (bob, b) = rig.user("2");
    let conv = ConvId::direct(ann.id, bob.id);
    for n in 1..=7 {
        say(&rig, conv, if n % 2 == 0 { ann.id } else { bob.id }, n);
    }
    assert_eq!(read(&rig, &a, "kind=10&dstid=2").json(), expected(&rig, conv, 1..=7, false, 1));
    assert_eq!(read(&rig, &b, "kind=10&dstid=1&limit=3").json(), expected(&rig, conv, 5..=7, true, 1));
    assert_eq!(read(&rig, &b, "kind=10&dstid=1&before=5&limit=3").json(), expected(&rig, conv, 2..=4, true, 1));
    assert_eq!(read(&rig, &b, "kind=10&dstid=1&after=0&limit=2").json(), expected(&rig, conv, 1..=2, true, 1));
    assert_eq!(read(&rig, &b, "kind=10&dstid=1&after=5&userid=2").json(), expected(&rig, conv, 6..=7, false, 1));
    assert_eq!(read(&rig, &a, "kind=10&dstid=2&after=0").at("/rows/0/content"), "<1>");
    let empty = read(&rig, &a, "kind=10&dstid=1");
    assert_eq!((empty.at("/rows"), empty.at("/total")), (serde_json::json!([]), 0.into()));
}

#[test]
fn a_group_is_read_from_the_time_of_joining() {
    let rig = Rig::start();
    let (ann, a) = rig.user("1");
    let (bob, b) = rig.user("2");
    let (_, c) = rig.user("3");
    let group = group_of(ann.id);
    let group = rig.memory.connect().groups().create_group(&group).expect("memory").expect("a group").id;
    let conv = ConvId::Group(group);
    say(&rig, conv, ann.id, 1);
    say(&rig, conv, ann.id, 2);
    rig.memory.connect().commit(&[Write::Join { group, user: bob.id }]).expect("memory");
    say(&rig, conv, ann.id, 3);
    assert_eq!(read(&rig, &a, "kind=11&dstid=1").json(), expected(&rig, conv, 1..=3, false, 1));
    assert_eq!(read(&rig, &b, "kind=11&dstid=1").json(), expected(&rig, conv, 3..=3, false, 3));
    assert_eq!(read(&rig, &c, "kind=11&dstid=1").json(), r#"{"code":-1,"msg":"您不是该会话的成员"}"#);
    assert_eq!(GroupId::new(1), Some(group));
    assert_eq!(read(&rig, &a, "kind=11&dstid=99").at("/code"), -1);
}

#[test]
fn a_peer_that_reads_late_gets_every_page_and_then_its_upgrade() {
    let rig = Rig::start();
    let (ann, a) = rig.user("1");
    let conv = ConvId::direct(ann.id, ann.id);
    let long = "x".repeat(60 * 1024);
    for n in 0..4 {
        let body = format!(r#""content":"{long}""#).into();
        let message = NewMessage { conv, sender: ann.id, key: PostKey::Client(format!("{n}").into()), ts_ms: n, body };
        rig.memory.connect().commit(&[Write::Append(message)]).expect("memory");
    }
    // About 14 MiB of answers, more than the sockets of the loopback hold, before the first is
    // read.
    let bearer = format!("Bearer {a}");
    let page = Ask::get("/message/history?kind=10&dstid=1", &[("Authorization", &bearer)]).text();
    let upgrade = Ask::get("/chat", &[("Connection", "Upgrade"), ("Upgrade", "websocket")]).text();
    let mut client = rig.client();
    client.send((page.repeat(PAGES) + &upgrade).as_bytes());
    let expected = expected(&rig, conv, 1..=4, false, 1);
    for _ in 0..PAGES {
        assert!(client.answer().json() == expected, "a page came torn");
    }
    let (_, read) = rig.returned.recv_timeout(PATIENCE).expect("the gate gets it");
    assert!(read.starts_with(b"GET /chat HTTP/1.1\r\n"));
}

const PAGES: usize = 60;

#[test]
fn what_cannot_be_read_is_told() {
    let rig = Rig::start();
    let (_, a) = rig.user("1");
    let bad = r#"{"code":-1,"msg":"参数错误"}"#;
    for query in [
        "",
        "kind=12&dstid=2",
        "kind=10",
        "kind=10&dstid=NaN",
        "kind=10&dstid=0",
        "kind=11&dstid=-1",
        "kind=10&dstid=2&before=x",
        "kind=10&dstid=2&after=-1",
        "kind=10&dstid=2&before=2&after=1",
        "kind=10&dstid=2&before=99999999999999999",
    ] {
        assert_eq!(read(&rig, &a, query).json(), bad, "{query}");
    }
    let login = r#"{"code":-1,"msg":"请先登录"}"#;
    assert_eq!(read(&rig, "nonsense", "kind=10&dstid=1").json(), login);
    assert_eq!(read(&rig, &a, "kind=10&dstid=1&userid=2").json(), login);
    assert_eq!(rig.ask(Ask::get("/message/history?kind=10&dstid=1", &[])).json(), login);
}
