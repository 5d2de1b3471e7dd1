//! Readers that do not read: they cost themselves, get everything in the end, and nobody else notices.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::{Client, Gateway, PATIENCE};

/// Reads pushes until `last`, syncing where the next one is missing, as our own clients do.
fn read_until(client: &mut Client, kind: u8, dst: u64, last: u64) -> Vec<u64> {
    let mut seen = Vec::new();
    while seen.last() != Some(&last) {
        let message = client.json();
        match message["cmd"].as_u64() {
            Some(cmd) if cmd == u64::from(kind) && message["dstid"].as_u64().is_some() => seen.push(seq(&message)),
            Some(0..=2) => {}
            _ => panic!("{message} of conversation {dst}"),
        }
    }
    seen
}

fn seq(message: &Value) -> u64 {
    message["seq"].as_u64().unwrap_or_else(|| panic!("a seq: {message}"))
}

/// `STALL_ROUNDS=1000` for the long run.
#[test]
fn a_stalled_socket_reads_on_complete_and_in_order() {
    const MESSAGES: u64 = 100;
    let rounds = std::env::var("STALL_ROUNDS").map_or(3, |rounds| rounds.parse().expect("STALL_ROUNDS is a number"));
    let gateway = Gateway::start(2, 2);
    let mut author = gateway.v2(1);
    let mut slow = gateway.narrow(2);
    let body = "x".repeat(60_000);
    let mut sent = 0;
    for round in 0..rounds {
        // 6 MB are more than the kernel buffers of a connection (a send buffer grows to 4 MB) and an outbox hold.
        for n in 0..MESSAGES {
            sent += 1;
            assert_eq!(author.say_acked(10, 2, &format!("{round}-{n}"), &body)["seq"], sent);
        }
        let seen = read_until(&mut slow, 10, 1, sent);
        assert_eq!(seen, (sent - MESSAGES + 1..=sent).collect::<Vec<_>>(), "complete, in order, nothing twice");
    }
    assert!(gateway.metric("imgate_went_behind_total") >= 1.0, "the outbox was really full");
}

#[test]
fn a_stalled_member_of_a_group_reads_on_complete_and_in_order() {
    const MESSAGES: u64 = 90;
    let gateway = Gateway::start(2, 6);
    let group = gateway.group(1, &[2, 3, 4, 5, 6]);
    let mut author = gateway.v2(1);
    let mut slow: Vec<Client> = (2..=3).map(|user| gateway.narrow(user)).collect();
    let mut quick: Vec<Client> = (4..=6).map(|user| gateway.v2(user)).collect();
    let body = "y".repeat(60_000);
    for n in 1..=MESSAGES {
        assert_eq!(author.say_acked(11, group, &format!("c{n}"), &body)["seq"], n);
        for client in &mut quick {
            assert_eq!(seq(&client.wait_for(11)), n, "the quick do not wait for the slow");
        }
    }
    for client in &mut slow {
        assert_eq!(read_until(client, 11, group, MESSAGES), (1..=MESSAGES).collect::<Vec<_>>());
    }
    assert!(gateway.metric("imgate_went_behind_total") >= 2.0, "the outboxes were really full");
}

#[test]
fn a_peer_that_never_reads_costs_nobody_else() {
    let gateway = Gateway::start(2, 4);
    let group = gateway.group(1, &[2, 3, 4]);
    let mut dead = gateway.narrow(2);
    // It also asks for much and takes nothing: its commands stop being read.
    let filler = "z".repeat(20_000);
    dead.stream().set_write_timeout(Some(Duration::from_millis(200))).expect("a socket option");
    for n in 0..300 {
        let post = json!({"cmd": 10, "dstid": 2, "cid": format!("d{n}"), "media": 1, "content": filler});
        if !dead.try_send(&post) {
            break;
        }
    }
    let (mut a, mut b) = (gateway.v2(1), gateway.v2(3));
    let began = Instant::now();
    for n in 1..=50 {
        assert_eq!(a.say_acked(11, group, &format!("c{n}"), &filler)["seq"], n);
        assert_eq!(seq(&b.wait_for(11)), n);
    }
    assert!(began.elapsed() < PATIENCE, "the others are served as before");
}

#[test]
fn a_flood_of_commands_is_answered_completely_once_it_is_read() {
    const COMMANDS: u64 = 2000;
    let gateway = Gateway::start(2, 2);
    let client = gateway.narrow(1);
    let (mut writer, mut reader) = client.halves();
    let flood = std::thread::spawn(move || {
        for n in 0..COMMANDS {
            writer.say(10, 2, &format!("c{n}"), &"w".repeat(500));
        }
        writer
    });
    let mut acked = 0;
    while acked < COMMANDS {
        let message = reader.json();
        match message["cmd"].as_u64() {
            Some(1) => {
                assert_eq!((seq(&message), &message["cid"]), (acked + 1, &json!(format!("c{acked}"))));
                acked += 1;
            }
            _ => panic!("{message}"),
        }
    }
    drop(flood.join().expect("everything was taken"));
    assert_eq!(gateway.history(1, 10, 2).len() as u64, COMMANDS);
}
