//! What it costs to know: everything that a shard records in a turn, and for each message.
//!
//! A turn with one message in it is the dearest case: `a turn` and `a message` together, against the processor time of such a turn, which
//! `autoclient cost` tells.

use std::hint::black_box;

use criterion::Criterion;
use imgate::ids::ShardId;
use imgate::metrics::board::Board;
use imgate::metrics::{DriverTally, Tally};

pub(crate) fn recording(c: &mut Criterion) {
    let mut group = c.benchmark_group("recording");
    let board = Board::new(1);
    let mut publisher = board.publisher(ShardId(0), 0).expect("there is one shard");
    let (mut tally, mut driver) = (Tally::default(), DriverTally::default());
    let mut now_ms = 0;
    // A turn each 20 microseconds: a new millisecond, and new quantiles, as often as in a gateway.
    let mut turns = 0_u64;
    group.bench_function("a turn", |b| {
        b.iter(|| {
            turns += 1;
            now_ms = turns / 50;
            driver.turns += 1;
            driver.wakes += 1;
            driver.events += 1;
            driver.mail += 1;
            driver.asleep_ns += 1000;
            publisher.publish(black_box(20_000 + turns % 64), now_ms, &tally, &driver);
        });
    });
    let mut publisher = board.publisher(ShardId(0), 0).expect("there is one shard");
    group.bench_function("a message that is stored and goes to another shard", |b| {
        b.iter(|| {
            let ns = black_box(turns);
            turns += 1;
            tally.commands[1] += 1;
            tally.work += 4;
            tally.stored += 1;
            tally.delivered += 1;
            tally.posts.record(ns);
            driver.answers.record(ns);
            driver.deliveries.record(ns);
            driver.fanouts.record(ns);
            driver.frames += 1;
            driver.bytes_in += ns;
            publisher.hopped(ns, 1, now_ms);
            black_box((&mut tally, &mut driver));
        });
    });
    group.finish();
}
