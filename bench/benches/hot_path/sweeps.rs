//! One group message to all its members, but for the sends.

use bench::gateway::{GROUP, Gateway, Plan};
use criterion::{BatchSize, Criterion, Throughput};

use crate::fresh;

pub(crate) fn group(c: &mut Criterion) {
    let mut group = c.benchmark_group("sweeps/members");
    for users in [100, 1000, 10_000, 100_000] {
        let mut gateway = Gateway::full(Plan { shards: 1, users, in_group: true, volatile: false });
        let mut n = 0;
        group.throughput(Throughput::Elements(u64::from(users) - 1));
        group.bench_function(users.to_string(), |b| {
            b.iter_batched(|| fresh(GROUP, &mut n), |message| gateway.say(1, &message), BatchSize::SmallInput);
        });
    }
    group.finish();
}
