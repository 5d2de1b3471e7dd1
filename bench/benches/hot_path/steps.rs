//! Everything that shards do for one event but the system calls: parse, step, settle, hop, gather.

use bench::gateway::{DIRECT, Gateway, Plan};
use criterion::{BatchSize, Criterion};

use crate::fresh;

pub(crate) fn direct(c: &mut Criterion) {
    for (mode, volatile) in [("stored", false), ("volatile", true)] {
        for shards in [1, 2] {
            let mut gateway = Gateway::full(Plan { shards, users: 2, in_group: false, volatile });
            let mut n = 0;
            c.bench_function(&format!("steps/direct, {mode}, {shards} shards"), |b| {
                b.iter_batched(|| fresh(DIRECT, &mut n), |message| gateway.say(1, &message), BatchSize::SmallInput);
            });
        }
    }
}

/// A session that ends and begins again, with the store's answers and one membership.
pub(crate) fn opening(c: &mut Criterion) {
    let mut gateway = Gateway::full(Plan { shards: 1, users: 1000, in_group: true, volatile: false });
    let identity = gateway.identity(7);
    c.bench_function("steps/reconnect", |b| {
        b.iter(|| {
            gateway.lose(7);
            gateway.open(7, identity);
            gateway.settle();
        });
    });
}

/// What a shard checks of itself in each turn: one session and one conversation, beside a turn with one message
/// (`steps/direct`), whose system calls cost some ten times as much.
pub(crate) fn checks(c: &mut Criterion) {
    let mut gateway = Gateway::full(Plan { shards: 1, users: 1000, in_group: true, volatile: false });
    let mut n = 0;
    for author in 1..=100 {
        gateway.say(author, &fresh(DIRECT, &mut n));
    }
    c.bench_function("steps/checks of a turn", |b| b.iter(|| gateway.check()));
}
