//! Appends, as a store's writer commits them: what has gathered in one transaction. And what a session's opening
//! asks a store of users who have been away for long.

use std::time::Duration;

use criterion::{BatchSize, Criterion, Throughput};
use imgate::ids::{ConvId, UserId};
use imgate::store::{Backend, NewMessage, Options, PostKey, Read, ReadAnswer, Seed, Synchronous, Write, Written, open};

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
        let mut opened = open(url, folder.path(), None, options).expect("a fresh database");
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

/// Pairs that talk all at once, so that each one's messages lie scattered over the table.
const PAIRS: u64 = 200;
/// Messages of each pair, of both in turn.
const EACH: u64 = 2_500;

/// One user's list of conversations, with 1,000 unread messages and more. A commit of another connection before each
/// of them, as in a busy gateway: SQLite empties a reader's cache at it.
pub(crate) fn open_unread(c: &mut Criterion) {
    let mut group = c.benchmark_group("store/open, 1000 unread");
    group.warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(2)).sample_size(20);
    for (name, url) in [("memory", "memory:"), ("sqlite", "sqlite:")] {
        let folder = tempfile::tempdir().expect("a folder for a database");
        let options = Options { synchronous: Synchronous::Normal, ..Options::default() };
        let mut opened = open(url, folder.path(), None, options).expect("a fresh database");
        let (writer, reader) = (&mut opened.writers[0], &mut opened.readers[0]);
        let seed = Seed { users: 2 * PAIRS, groups: 0, group_size: 0, created_ms: 1 };
        let first = writer.seed(&seed).expect("users").first_user;
        let mut n = 0;
        for _ in 0..EACH {
            commit(writer.as_mut(), &(0..PAIRS).map(|_| in_pair(first, &mut n)).collect::<Vec<_>>());
        }
        let mut who = 0;
        group.bench_function(name, |b| {
            b.iter_batched(
                || {
                    commit(writer.as_mut(), &[in_pair(first, &mut n)]);
                    who = (who + 1) % PAIRS;
                    UserId::new(first.get() + 2 * who).expect("in range")
                },
                |user| unread(reader.as_mut(), user),
                BatchSize::PerIteration,
            );
        });
    }
    group.finish();
}

/// The next message, of the next pair.
fn in_pair(first: UserId, n: &mut u64) -> Write {
    let (pair, round) = (*n % PAIRS, *n / PAIRS);
    let user = |offset: u64| UserId::new(first.get() + 2 * pair + offset % 2).expect("in range");
    let Write::Append(message) = append(first, n) else { unreachable!("an append") };
    Write::Append(NewMessage { conv: ConvId::direct(user(0), user(1)), sender: user(round), ..message })
}

fn unread(reader: &mut dyn Backend, user: UserId) {
    let reads = [Read::Open { user }, Read::Heads { user, before: None, missed: false, max: 200 }];
    let answers = reader.read(&reads).expect("it reads");
    let Some(ReadAnswer::Heads(heads)) = answers.last() else { unreachable!("an answer for each") };
    assert_eq!(heads.convs.iter().map(|state| state.unread).collect::<Vec<_>>(), [1000]);
}
