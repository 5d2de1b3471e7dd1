//! The decoder against tungstenite: the same bytes must give the same messages and the same class of failure.
//!
//! Streams are valid ones, valid ones with a few bytes changed, and noise; our side gets them cut at random places, from a sink that
//! stops at random messages. `CASES=n` and `SEED=n` choose others than the 20,000 of an ordinary run, which are always the same.
//!
//! Deliberate differences, and how the comparison treats them:
//! 1. We fail as soon as a failure is certain: on the first two bytes of a header, on the byte that no UTF-8 can have. Tungstenite
//!    wants the whole frame. So when we have failed and it waits, it is given the rest of that frame as zeros.
//! 2. A header that breaks a rule *and* claims more than the limit: we name the rule (1002), tungstenite the size (1009).
//!    This includes a 64-bit length with its top bit set, which tungstenite does not know as a rule of its own.
//! 3. A close frame with a code that must not be sent is a violation here. Tungstenite hands out a close frame with code 1002
//!    instead. Both peers see the same.
//! 4. Tungstenite does not count fragments, so the limit here is out of reach; the unit tests of `ws::decoder` reach it.

use std::io::{self, Read, Write};
use std::ops::ControlFlow;

use imgate::limits::READ_SCRATCH_BYTES;
use imgate::ws::{Decoder, Incoming, Limits, Progress, Violation, frame};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use tungstenite::error::CapacityError;
use tungstenite::protocol::{Role, WebSocketConfig, WebSocketContext};
use tungstenite::{Error, Message};

/// Small, so that streams reach it, and beyond 16 bits of length all the same.
const SMALL: Limits = Limits { message_bytes: 300, fragments: u32::MAX, deflate: false };
const LARGE: Limits = Limits { message_bytes: 70_000, fragments: u32::MAX, deflate: false };

#[derive(Clone, PartialEq, Eq, Debug)]
enum Got {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<u16>),
}

/// How a stream ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum End {
    /// It may go on.
    Open,
    /// By a close frame.
    Closed,
    /// By a failure that this close code stands for: 1002, 1007 or 1009.
    Failed(u16),
}

// ---- the two sides --------------------------------------------------------------------------------

/// Gives `stream` to our decoder in the pieces `cuts`; the sink stops at the messages that `stops` names, in turn.
fn ours(stream: &[u8], cuts: &[usize], stops: &[bool], limits: &Limits) -> (Vec<Got>, Result<Progress, Violation>) {
    let mut decoder = Decoder::default();
    let mut got: Vec<Got> = Vec::new();
    let mut sink = |incoming: Incoming<'_>| {
        got.push(match incoming {
            Incoming::Text(text) => Got::Text(text.to_owned()),
            Incoming::Binary(bytes) => Got::Binary(bytes.to_vec()),
            Incoming::Ping(bytes) => Got::Ping(bytes.to_vec()),
            Incoming::Pong(bytes) => Got::Pong(bytes.to_vec()),
            Incoming::Close { code } => Got::Close(code),
            Incoming::Deflated { .. } => unreachable!("compression is not agreed upon"),
        });
        let stop = stops.get(got.len() % stops.len().max(1)).is_some_and(|&stop| stop);
        if stop { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let mut from = 0;
    for &to in cuts.iter().chain([&stream.len()]) {
        let piece = &stream[from..to];
        from = to;
        // No driver reads more than its scratch buffer holds.
        for read in piece.chunks(READ_SCRATCH_BYTES) {
            let mut outcome = decoder.feed(&mut read.to_vec(), limits, &mut sink);
            while outcome == Ok(Progress::Stopped) {
                outcome = decoder.resume(limits, &mut sink);
            }
            if outcome != Ok(Progress::Drained) {
                assert!(
                    decoder.heap_bytes() <= 128,
                    "an ended decoder owns the word that it is ended, and no bytes of the peer"
                );
                return (got, outcome);
            }
        }
    }
    (got, Ok(Progress::Drained))
}

/// A socket that has received `bytes` and takes everything.
struct Wire<'a> {
    bytes: &'a [u8],
}

impl Read for Wire<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.bytes.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.bytes.read(buf)
    }
}

impl Write for Wire<'_> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Tungstenite {
    context: WebSocketContext,
    got: Vec<Got>,
    end: End,
}

impl Tungstenite {
    fn new(limits: &Limits) -> Self {
        let size = Some(limits.message_bytes);
        let config = WebSocketConfig::default().read_buffer_size(1024).max_message_size(size).max_frame_size(size);
        Self { context: WebSocketContext::new(Role::Server, Some(config)), got: Vec::new(), end: End::Open }
    }

    fn feed(&mut self, bytes: &[u8]) {
        let mut wire = Wire { bytes };
        while self.end == End::Open {
            match self.context.read(&mut wire) {
                Ok(Message::Text(text)) => self.got.push(Got::Text(text.to_string())),
                Ok(Message::Binary(bytes)) => self.got.push(Got::Binary(bytes.to_vec())),
                Ok(Message::Ping(bytes)) => self.got.push(Got::Ping(bytes.to_vec())),
                Ok(Message::Pong(bytes)) => self.got.push(Got::Pong(bytes.to_vec())),
                Ok(Message::Close(close)) => {
                    self.got.push(Got::Close(close.map(|close| close.code.into())));
                    self.end = End::Closed;
                }
                Ok(Message::Frame(_)) => unreachable!("only for writing"),
                Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(Error::Protocol(_)) => self.end = End::Failed(1002),
                Err(Error::Utf8(_)) => self.end = End::Failed(1007),
                Err(Error::Capacity(CapacityError::MessageTooLong { .. })) => self.end = End::Failed(1009),
                Err(other) => panic!("not a failure of the peer: {other}"),
            }
        }
    }
}

/// Demands that both say the same of `stream`.
fn compare(stream: &[u8], cuts: &[usize], stops: &[bool], limits: &Limits) -> Result<(), TestCaseError> {
    let (mut got, outcome) = ours(stream, cuts, stops, limits);
    prop_assert_eq!(
        &(got.clone(), outcome),
        &ours(stream, &[], &[], limits),
        "cuts or stops changed what was understood"
    );

    let mut oracle = Tungstenite::new(limits);
    oracle.feed(stream);
    let mut end = match outcome {
        Ok(Progress::Closed) => End::Closed,
        Ok(_) => End::Open,
        Err(violation) => End::Failed(violation.close_code()),
    };
    if end != End::Open && oracle.end == End::Open {
        // Difference 1. A frame that tungstenite waits for is not longer than the limit.
        oracle.feed(&vec![0; limits.message_bytes + frame::CLIENT_HEADER_BYTES_MAX]);
    }
    if let Err(violation) = outcome {
        if oracle.end == End::Failed(1009) && may_claim_too_much(violation) {
            end = oracle.end; // Difference 2.
        }
        if matches!(violation, Violation::BadCloseCode(_)) {
            end = End::Closed; // Difference 3.
            got.push(Got::Close(Some(1002)));
        }
    }
    prop_assert_eq!((&got, end), (&oracle.got, oracle.end), "ours, tungstenite's; we said {:?}", outcome);
    Ok(())
}

/// Whether the rule is one about a header, which may claim any length besides.
fn may_claim_too_much(violation: Violation) -> bool {
    matches!(
        violation,
        Violation::ReservedBits
            | Violation::Unmasked
            | Violation::FragmentedControl
            | Violation::LongControl
            | Violation::LengthTopBit
            | Violation::OrphanContinuation
            | Violation::InterruptedMessage
    )
}

// ---- streams --------------------------------------------------------------------------------------

/// A frame of a client: first byte, payload, mask, and with how many bytes its length is written (0, 2 or 8; more if needed).
fn write_frame(out: &mut Vec<u8>, first: u8, payload: &[u8], mask: [u8; 4], length_bytes: usize) {
    let length_bytes = match payload.len() {
        0..=125 => length_bytes,
        126..=65_535 => length_bytes.max(2),
        _ => 8,
    };
    out.push(first);
    match length_bytes {
        0 => out.push(0x80 | payload.len() as u8),
        2 => {
            out.push(0xFE);
            out.extend_from_slice(&(payload.len() as u16).to_be_bytes());
        }
        _ => {
            out.push(0xFF);
            out.extend_from_slice(&(payload.len() as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(&mask);
    let start = out.len();
    out.extend_from_slice(payload);
    frame::apply_mask(&mut out[start..], mask);
}

fn text() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        8 => "[a-zé€🦀\u{10FFFF}]{0,20}".prop_map(String::into_bytes),
        2 => prop::collection::vec(any::<char>(), 0..40).prop_map(|chars| chars.into_iter().collect::<String>().into_bytes()),
        1 => prop::collection::vec(any::<u8>(), 0..20),
        1 => (prop::sample::select(&[124usize, 125, 126, 127, 299, 300, 301, 65_535, 65_536, 69_999, 70_001][..]))
            .prop_map(|len| vec![b'x'; len]),
    ]
}

fn close_payload() -> impl Strategy<Value = Vec<u8>> {
    let code = prop_oneof![
        prop::sample::select(&[1000u16, 1001, 1004, 1005, 1006, 1011, 1014, 1015, 1016, 2999, 3000, 4999, 5000][..]),
        any::<u16>(),
    ];
    prop_oneof![
        1 => Just(vec![]),
        1 => any::<u8>().prop_map(|byte| vec![byte]),
        6 => (code, "[a-zé]{0,30}").prop_map(|(code, reason)| [&code.to_be_bytes(), reason.as_bytes()].concat()),
        1 => prop::collection::vec(any::<u8>(), 2..20),
    ]
}

/// Frames of one message: itself, or pieces of it with control frames between.
fn message() -> impl Strategy<Value = Vec<(u8, Vec<u8>)>> {
    let control = prop_oneof![Just(frame::PING), Just(frame::PONG)]
        .prop_flat_map(|opcode| (Just(0x80 | opcode), prop::collection::vec(any::<u8>(), 0..=125)));
    let whole = (any::<bool>(), text())
        .prop_map(|(is_text, payload)| vec![(0x80 | if is_text { frame::TEXT } else { frame::BINARY }, payload)]);
    let pieces = (
        any::<bool>(),
        text(),
        prop::collection::vec((any::<prop::sample::Index>(), prop::option::of(control.clone())), 1..6),
    );
    let fragmented = pieces.prop_map(|(is_text, payload, places)| {
        let mut ends: Vec<usize> = places.iter().map(|(place, _)| place.index(payload.len() + 1)).collect();
        ends.sort_unstable();
        let mut frames = Vec::new();
        let mut from = 0;
        for (end, (_, between)) in ends.into_iter().zip(places) {
            let opcode = match (from == 0 && frames.is_empty(), is_text) {
                (true, true) => frame::TEXT,
                (true, false) => frame::BINARY,
                (false, _) => frame::CONTINUATION,
            };
            frames.push((opcode, payload[from..end].to_vec()));
            frames.extend(between);
            from = end;
        }
        frames.push((0x80 | frame::CONTINUATION, payload[from..].to_vec()));
        frames
    });
    let ended = close_payload().prop_map(|payload| vec![(0x80 | frame::CLOSE, payload)]);
    // Anything at all as the first byte: reserved bits and opcodes, fragments out of place, fragmented control frames.
    let odd = (any::<u8>(), prop::collection::vec(any::<u8>(), 0..140)).prop_map(|frame| vec![frame]);
    prop_oneof![12 => whole, 8 => fragmented, 6 => control.prop_map(|frame| vec![frame]), 2 => ended, 1 => odd]
}

fn frames() -> impl Strategy<Value = Vec<u8>> {
    let length_bytes = prop_oneof![8 => Just(0usize), 1 => Just(2), 1 => Just(8)];
    prop::collection::vec((message(), any::<[u8; 4]>(), length_bytes), 0..10).prop_map(|messages| {
        let mut stream = Vec::new();
        for (frames, mask, length_bytes) in messages {
            for (first, payload) in frames {
                write_frame(&mut stream, first, &payload, mask, length_bytes);
            }
        }
        stream
    })
}

/// A change of a stream: a bit turned, a byte inserted or removed, an end cut off.
#[derive(Clone, Debug)]
enum Change {
    Flip(prop::sample::Index, u8),
    Insert(prop::sample::Index, u8),
    Remove(prop::sample::Index),
    Truncate(prop::sample::Index),
}

fn change() -> impl Strategy<Value = Change> {
    let place = any::<prop::sample::Index>;
    prop_oneof![
        5 => (place(), 0..8u8).prop_map(|(at, bit)| Change::Flip(at, bit)),
        1 => (place(), any::<u8>()).prop_map(|(at, byte)| Change::Insert(at, byte)),
        1 => place().prop_map(Change::Remove),
        2 => place().prop_map(Change::Truncate),
    ]
}

fn apply(stream: &mut Vec<u8>, change: &Change) {
    if stream.is_empty() {
        return;
    }
    match change {
        Change::Flip(at, bit) => {
            let at = at.index(stream.len());
            stream[at] ^= 1 << bit;
        }
        Change::Insert(at, byte) => stream.insert(at.index(stream.len()), *byte),
        Change::Remove(at) => drop(stream.remove(at.index(stream.len()))),
        Change::Truncate(at) => stream.truncate(at.index(stream.len())),
    }
}

fn stream() -> impl Strategy<Value = Vec<u8>> {
    let changed = (frames(), prop::collection::vec(change(), 1..4)).prop_map(|(mut stream, changes)| {
        changes.iter().for_each(|change| apply(&mut stream, change));
        stream
    });
    // Noise whose first bytes are at least masked gets further.
    let noise = prop::collection::vec(any::<u8>(), 0..200).prop_map(|mut bytes| {
        if let [_, second, ..] = &mut bytes[..] {
            *second |= 0x80;
        }
        bytes
    });
    prop_oneof![5 => frames(), 4 => changed, 1 => noise]
}

// ---- the tests ------------------------------------------------------------------------------------

fn env(name: &str, default: u32) -> u32 {
    std::env::var(name).map_or(default, |value| value.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

fn runner(config: Config, seed: u32) -> TestRunner {
    let mut key = [0; 32];
    key[..size_of::<u32>()].copy_from_slice(&seed.to_le_bytes());
    TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &key))
}

#[test]
fn any_stream_means_the_same_to_tungstenite() {
    let (cases, seed) = (env("CASES", 20_000), env("SEED", 0));
    let mut runner = runner(Config { cases, failure_persistence: None, ..Config::default() }, seed);
    let cuts = prop::collection::vec(any::<prop::sample::Index>(), 0..20);
    let stops = prop::collection::vec(any::<bool>(), 0..6);
    let input = (stream(), cuts, stops, any::<bool>());
    let outcome = runner.run(&input, |(stream, cuts, stops, small)| {
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
        cuts.sort_unstable();
        let limits = if small { &SMALL } else { &LARGE };
        compare(&stream, &cuts, &stops, limits)
    });
    if let Err(failure) = outcome {
        panic!("SEED={seed}: {failure}");
    }
}

/// The comparison is worth something only if it sees every way in which a stream can end.
#[test]
fn the_streams_end_in_every_way() {
    let mut ends = std::collections::HashMap::new();
    let mut runner = runner(Config::default(), 0);
    for _ in 0..1000 {
        let stream = stream().new_tree(&mut runner).expect("a strategy without filters").current();
        let end = ours(&stream, &[], &[], &SMALL).1.map_err(Violation::close_code);
        *ends.entry(end).or_insert(0) += 1;
    }
    for end in [Ok(Progress::Drained), Ok(Progress::Closed), Err(1002), Err(1007), Err(1009)] {
        assert!(ends.get(&end).is_some_and(|&count| count >= 20), "{end:?} is too rare: {ends:?}");
    }
}

#[test]
fn every_byte_cut_alone_means_the_same() {
    let mut runner = runner(Config::default(), 1);
    for _ in 0..100 {
        let stream = stream().new_tree(&mut runner).expect("a strategy without filters").current();
        let stream = &stream[..stream.len().min(2000)];
        let cuts: Vec<usize> = (0..stream.len()).collect();
        compare(stream, &cuts, &[true, false], &SMALL).unwrap_or_else(|error| panic!("{error}: {stream:02x?}"));
    }
}
