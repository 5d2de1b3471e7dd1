//! From one shard to another: lane, batch and taking; and the same with a waker that wakes a sleeping thread.

use std::hint::black_box;
use std::thread;
use std::time::Duration;

use criterion::{Criterion, Throughput};
use imgate::ids::{ConvId, GroupId, Seq, ShardId};
use imgate::mesh::{Mesh, MeshEndpoint, build};
use imgate::shard::PeerMsg;
use mio::{Events, Poll};

type Place = (Poll, MeshEndpoint<()>);

fn pair() -> (Mesh<()>, Place, Place) {
    let mut mesh = build(2).expect("descriptors for two polls");
    let there = mesh.endpoints.pop().expect("two endpoints");
    let here = mesh.endpoints.pop().expect("two endpoints");
    (mesh, here, there)
}

fn message() -> PeerMsg {
    let seq = Seq::new(1).expect("in range");
    PeerMsg::Mark { conv: ConvId::Group(GroupId::new(1).expect("in range")), from: seq, upto: seq }
}

pub(crate) fn hop(c: &mut Criterion) {
    let mut group = c.benchmark_group("mesh/hop");
    for batch in [1, 16, 256] {
        let (_mesh, mut here, mut there) = pair();
        group.throughput(Throughput::Elements(batch));
        group.bench_function(format!("{batch} a turn, receiver awake"), |b| {
            b.iter(|| {
                here.1.credits(|_, _, _| {});
                for _ in 0..batch {
                    here.1.say(ShardId(1), message());
                }
                here.1.flush(0);
                while let Some(got) = there.1.peer() {
                    black_box(got);
                }
            });
        });
    }
    group.finish();
    wake(c);
}

/// There and back between two threads that sleep in their polls: two hops, two wakes.
fn wake(c: &mut Criterion) {
    let (_mesh, mut here, there) = pair();
    let echo = thread::spawn(move || echo(there));
    let mut events = Events::with_capacity(1);
    c.bench_function("mesh/there and back, both asleep", |b| {
        b.iter(|| {
            here.1.credits(|_, _, _| {});
            here.1.say(ShardId(1), message());
            here.1.flush(0);
            while next(&mut here, &mut events, PATIENCE).is_none() {}
        });
    });
    here.1.say(ShardId(1), PeerMsg::MemberKnown { ask: 0 });
    here.1.flush(0);
    echo.join().expect("the echo ends when it is told");
}

const PATIENCE: Duration = Duration::from_secs(1);

/// Gives every message back until a settle says that it is over.
fn echo(mut place: Place) {
    let mut events = Events::with_capacity(1);
    loop {
        match next(&mut place, &mut events, PATIENCE) {
            Some(PeerMsg::MemberKnown { .. }) => return,
            Some(msg) => {
                place.1.credits(|_, _, _| {});
                place.1.say(ShardId(0), msg);
                place.1.flush(0);
            }
            None => {}
        }
    }
}

/// The next message, as the driver takes it: look, arm, look again, sleep.
fn next((poll, endpoint): &mut Place, events: &mut Events, patience: Duration) -> Option<PeerMsg> {
    if let Some((_, msg)) = endpoint.peer() {
        return Some(msg);
    }
    let sleep = if endpoint.arm() { patience } else { Duration::ZERO };
    // An interrupted poll is one that ends early.
    let _ = poll.poll(events, Some(sleep));
    endpoint.disarm();
    endpoint.peer().map(|(_, msg)| msg)
}
