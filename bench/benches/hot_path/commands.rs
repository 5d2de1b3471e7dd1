//! From the bytes of a message to a command.

use std::hint::black_box;

use bench::gateway::DIRECT;
use criterion::{Criterion, Throughput};
use imgate::wire::Profile;
use imgate::wire::command::Parser;

pub(crate) fn parsing(c: &mut Criterion) {
    let mut group = c.benchmark_group("commands/parse");
    let samples = [
        ("heartbeat", r#"{"cmd":0}"#.to_owned()),
        ("direct", DIRECT.to_owned()),
        ("escaped", DIRECT.replace("station", r#"\u8f66\u7ad9 \"车站\""#)),
        ("kilobyte", DIRECT.replace("station", &"station ".repeat(100))),
    ];
    for (name, message) in &samples {
        let mut parser = Parser::default();
        group.throughput(Throughput::Bytes(message.len() as u64));
        group.bench_function(*name, |b| b.iter(|| parser.parse(black_box(message.as_bytes()), Profile::V2)));
    }
    group.finish();
}
