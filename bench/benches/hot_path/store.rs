//! Appends, as a store's writer commits them: what has gathered in one transaction.

use std::time::Duration;

use criterion::{BatchSize, Criterion, Throughput};
use imgate::ids::{ConvId, UserId};
use imgate::store::{Backend, NewMessage, Options, PostKey, Seed, Synchronous, Write, Written, open};

pub(crate) fn batch(c: &mut Criterion) {
    let mut group = c.benchmark_group("store/append");
    // Every run leaves its rows behind.
    group.warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(2)).sample_size(20);
    let full = Options { synchronous: Synchronous::Full, ..Options::default() };
    let normal = Options { synchronous: Synchronous::Normal, ..Options::default() };
    for (name, url, options) in
        [("memory", "memory:", full), ("sqlite, normal", "sqlite:", normal), ("sqlite, full", "sqlite:", full)]
    {
        let folder = tempfile::tempdir().expect("a folder for a database");
        let mut opened = open(url, folder.path(), options).expect("a fresh database");
        let backend = opened.writers.first_mut().expect("one writer");
        let seed = Seed { users: USERS, groups: 0, group_size: 0, created_ms: 1 };
        let first = backend.seed(&seed).expect("users").first_user;
        let mut n = 0;
        for rows in [1, 16, 256, 1024] {
            group.throughput(Throughput::Elements(rows));
            group.bench_function(format!("{name}, {rows}"), |b| {
                let fresh = || (0..rows).map(|_| append(first, &mut n)).collect::<Vec<_>>();
                b.iter_batched(fresh, |writes| commit(backend.as_mut(), &writes), BatchSize::SmallInput);
            });
        }
    }
    group.finish();
}

/// Direct conversations between so many users.
const USERS: u64 = 100;

fn append(first: UserId, n: &mut u64) -> Write {
    *n += 1;
    let user = |offset: u64| UserId::new(first.get() + offset % USERS).expect("in range");
    let (sender, peer) = (user(*n), user(*n * 7 + 1));
    Write::Append(NewMessage {
        conv: ConvId::direct(sender, peer),
        sender,
        key: PostKey::Server { node: 0, boot: 7, counter: *n },
        ts_ms: 1_700_000_000_000 + *n,
        body: r#""media":1,"content":"shall we meet at the station at half past?""#.into(),
    })
}

fn commit(backend: &mut dyn Backend, writes: &[Write]) -> Vec<Written> {
    let written = backend.commit(writes).expect("the disk takes it");
    assert!(written.iter().all(|one| matches!(one, Written::Stored { .. })), "refusals are fast and worthless");
    written
}
