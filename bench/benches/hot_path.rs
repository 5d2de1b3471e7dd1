//! Micro-benchmarks of the hot path: frames, parse, encode, one message through a shard, one sweep over a group.
//!
//! `cargo bench -p bench`; a result says little without the machine and the commit beside it, and absolute times not much even then: compare two
//! commits in one sitting.

use std::hint::black_box;
use std::ops::ControlFlow;

use bench::{DIRECT, GROUP, Rig};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use imgate::ids::{ConvId, MsgId, Seq, UserId};
use imgate::wire::command::Parser;
use imgate::wire::packet::Stored;
use imgate::wire::{Command, Packet, Profile};
use imgate::ws::frame::write_masked;
use imgate::ws::{Decoder, Incoming, Limits, Progress};

/// What one read of a socket holds, decoded in place. Unmasking ruins the bytes, so that each run gets a copy: its cost is in the figure, and small.
fn frames(c: &mut Criterion) {
    let mut group = c.benchmark_group("frames");
    for (name, messages) in [("1 message", 1), ("16 messages", 16)] {
        let mut wire = Vec::new();
        for _ in 0..messages {
            write_masked(&mut wire, OPCODE_TEXT, DIRECT.as_bytes(), [0x37, 0xfa, 0x21, 0x3d]);
        }
        let mut scratch = wire.clone();
        let mut decoder = Decoder::default();
        group.throughput(Throughput::Elements(messages));
        group.bench_function(name, |b| {
            b.iter(|| {
                scratch.copy_from_slice(&wire);
                let mut seen = 0;
                let sink = |incoming: Incoming<'_>| {
                    seen += usize::from(matches!(black_box(incoming), Incoming::Text(_)));
                    ControlFlow::Continue(())
                };
                let progress = decoder.feed(&mut scratch, &Limits::default(), sink);
                assert!(progress == Ok(Progress::Drained) && seen as u64 == messages, "the sample is well formed");
            });
        });
    }
    group.finish();
}

const OPCODE_TEXT: u8 = 1;

fn parse(c: &mut Criterion) {
    let mut group = c.benchmark_group("parse");
    let long = DIRECT.replace("station", &"station ".repeat(100));
    let samples = [
        ("heartbeat", r#"{"cmd":0}"#.to_owned()),
        ("direct", DIRECT.to_owned()),
        ("escaped", DIRECT.replace("station", r#"\u8f66\u7ad9 \"车站\""#)),
        ("kilobyte", long),
    ];
    for (name, message) in &samples {
        let mut parser = Parser::default();
        group.throughput(Throughput::Bytes(message.len() as u64));
        group.bench_function(*name, |b| b.iter(|| parser.parse(black_box(message.as_bytes()), Profile::V2)));
    }
    group.finish();
}

fn encode(c: &mut Criterion) {
    let user = |raw| UserId::new(raw).expect("a valid id");
    let conv = ConvId::direct(user(1), user(2));
    let stored = Stored { id: MsgId::new(123_456).expect("a valid id"), seq: Seq::new(42).expect("a valid number") };
    let Ok(Command::Post(post)) = Parser::default().parse(DIRECT.as_bytes(), Profile::V2) else {
        unreachable!("the sample is a post")
    };
    c.bench_function("encode/packet", |b| {
        b.iter(|| Packet::chat(conv, user(1), Some(stored), 1_700_000_000_000, black_box(&post.body)));
    });
}

/// Everything that one shard does for a message but the system calls, with keys that are new each time.
fn shard(c: &mut Criterion) {
    for (mode, volatile) in [("stored", false), ("volatile", true)] {
        let mut rig = Rig::new(2, false, volatile);
        let mut n = 0u64;
        c.bench_function(&format!("shard/direct, {mode}"), |b| {
            b.iter_batched(|| fresh(DIRECT, &mut n), |message| rig.say(1, &message), BatchSize::SmallInput);
        });
    }
    let mut group = c.benchmark_group("shard/group");
    for members in [100u32, 1000, 10_000] {
        let mut rig = Rig::new(members, true, false);
        let mut n = 0u64;
        group.throughput(Throughput::Elements(u64::from(members) - 1));
        group.bench_function(members.to_string(), |b| {
            b.iter_batched(|| fresh(GROUP, &mut n), |message| rig.say(1, &message), BatchSize::SmallInput);
        });
    }
    group.finish();
}

/// The sample with a `cid` of its own.
fn fresh(sample: &str, n: &mut u64) -> Vec<u8> {
    *n += 1;
    sample.replace("01J8Z3K4Q5", &format!("{n:010}")).into_bytes()
}

criterion_group!(hot_path, frames, parse, encode, shard);
criterion_main!(hot_path);
