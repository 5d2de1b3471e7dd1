//! Frames as they come from sockets.

use std::hint::black_box;
use std::ops::ControlFlow;

use bench::gateway::DIRECT;
use criterion::{Criterion, Throughput};
use imgate::ws::frame::{TEXT, apply_mask, write_masked};
use imgate::ws::{Decoder, Incoming, Limits, Progress};

const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// What one read of a socket holds, decoded in place. Unmasking ruins the bytes, so that each run gets a copy: its cost is in the figure, and small.
pub(crate) fn decoding(c: &mut Criterion) {
    let mut group = c.benchmark_group("frames/decode");
    for (name, messages) in [("1 message", 1), ("16 messages", 16)] {
        let mut wire = Vec::new();
        for _ in 0..messages {
            write_masked(&mut wire, TEXT, DIRECT.as_bytes(), MASK);
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

/// The mask alone: what cannot be saved.
pub(crate) fn unmasking(c: &mut Criterion) {
    let mut group = c.benchmark_group("frames/unmask");
    for bytes in [16, 150, 4096] {
        let mut payload = vec![b'a'; bytes];
        group.throughput(Throughput::Bytes(bytes as u64));
        group.bench_function(bytes.to_string(), |b| b.iter(|| apply_mask(black_box(&mut payload), MASK)));
    }
    group.finish();
}
