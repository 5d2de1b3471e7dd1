//! What leaves: packets, once per message, and acks, once per post.

use std::hint::black_box;

use bench::gateway::DIRECT;
use criterion::Criterion;
use imgate::ids::{ConvId, MsgId, Seq, UserId};
use imgate::wire::command::Parser;
use imgate::wire::packet::Stored;
use imgate::wire::{Command, Packet, Profile, push};

pub(crate) fn encoding(c: &mut Criterion) {
    let user = |raw| UserId::new(raw).expect("a valid id");
    let conv = ConvId::direct(user(1), user(2));
    let stored = Stored { id: MsgId::new(123_456).expect("a valid id"), seq: Seq::new(42).expect("a valid number") };
    let Ok(Command::Post(post)) = Parser::default().parse(DIRECT.as_bytes(), Profile::V2) else {
        unreachable!("the sample is a post")
    };
    c.bench_function("packets/message", |b| {
        b.iter(|| Packet::chat(conv, user(1), Some(stored), 1_700_000_000_000, black_box(&post.body)));
    });
    c.bench_function("packets/ack", |b| {
        b.iter(|| push::ack(post.cid.as_deref(), black_box(post.to), Some(stored), 1_700_000_000_000, false));
    });
}
