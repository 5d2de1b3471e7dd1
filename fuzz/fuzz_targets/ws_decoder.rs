//! Any bytes, cut anywhere, from a sink that stops anywhere: the decoder never panics, keeps its bounds, and means the same as
//! without cuts and stops.

#![no_main]

use std::ops::ControlFlow;

use imgate::limits::UNREAD_BYTES_MAX;
use imgate::ws::{Decoder, Incoming, Limits, Progress, Violation};
use libfuzzer_sys::fuzz_target;

const LIMITS: Limits = Limits { message_bytes: 1000, fragments: 16, deflate: true };
/// What a connection may own: a stopped read, and a message being assembled, each with its slack, and the state itself.
const HEAP_BYTES_MAX: usize = 2 * (UNREAD_BYTES_MAX + LIMITS.message_bytes) + 256;

/// The messages as text, and how it ended. Each byte of `plan` says how long a piece is, and whether the sink stops at a message.
fn decode(stream: &[u8], plan: &[u8]) -> (Vec<String>, Result<Progress, Violation>) {
    let mut decoder = Decoder::default();
    let mut got = Vec::new();
    let mut sink = |incoming: Incoming<'_>| {
        got.push(format!("{incoming:?}"));
        let stop = plan.get(got.len() % plan.len().max(1)).is_some_and(|byte| byte & 1 == 1);
        if stop { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let mut outcome = Ok(Progress::Drained);
    let mut rest = stream;
    let mut lengths = plan.iter().map(|byte| usize::from(byte >> 1) + 1).chain(std::iter::repeat(UNREAD_BYTES_MAX));
    while !rest.is_empty() && outcome == Ok(Progress::Drained) {
        let (piece, after) = rest.split_at(lengths.next().unwrap_or(1).min(rest.len()));
        rest = after;
        outcome = decoder.feed(&mut piece.to_vec(), &LIMITS, &mut sink);
        while outcome == Ok(Progress::Stopped) {
            assert!(decoder.heap_bytes() <= HEAP_BYTES_MAX);
            outcome = decoder.resume(&LIMITS, &mut sink);
        }
        assert!(decoder.heap_bytes() <= HEAP_BYTES_MAX);
    }
    (got, outcome)
}

fuzz_target!(|input: (&[u8], &[u8])| {
    let (plan, stream) = input;
    assert_eq!(decode(stream, plan), decode(stream, &[]));
});
