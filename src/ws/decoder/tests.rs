//! Tests of the decoder: every class of Autobahn's cases, every place to cut, every place to stop,
//! and what an idle one owns.

use super::*;
use crate::limits::READ_SCRATCH_BYTES;

/// Small enough to reach in a test.
const LIMITS: Limits = Limits { message_bytes: 1000, fragments: 8, deflate: false };

/// A message as a test keeps it.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Got {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<u16>),
    /// Compressed: to be a text, and what came.
    Deflated(bool, Vec<u8>),
}

impl From<Incoming<'_>> for Got {
    fn from(incoming: Incoming<'_>) -> Self {
        match incoming {
            Incoming::Text(text) => Self::Text(text.to_owned()),
            Incoming::Binary(bytes) => Self::Binary(bytes.to_vec()),
            Incoming::Ping(bytes) => Self::Ping(bytes.to_vec()),
            Incoming::Pong(bytes) => Self::Pong(bytes.to_vec()),
            Incoming::Close { code } => Self::Close(code),
            Incoming::Deflated { text, payload } => Self::Deflated(text, payload.to_vec()),
        }
    }
}

fn text(text: &str) -> Got {
    Got::Text(text.to_owned())
}

/// A frame of a client with any first byte.
fn raw(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    frame::write_masked(&mut frame, first & 0x0F, payload, [0xA5, 0x0F, 0x3C, 0x81]);
    frame[0] = first;
    frame
}

fn close(code: u16, reason: &[u8]) -> Vec<u8> {
    raw(0x88, &[&code.to_be_bytes(), reason].concat())
}

/// Everything that comes out of `stream`, fed in one piece.
fn decode(stream: &[u8]) -> (Vec<Got>, Result<Progress, Violation>) {
    decode_cut(stream, &[], &LIMITS, false)
}

/// As [`decode`], cut at the places `cuts`; if `stopping`, the sink stops after each message and is
/// resumed.
fn decode_cut(
    stream: &[u8],
    cuts: &[usize],
    limits: &Limits,
    stopping: bool,
) -> (Vec<Got>, Result<Progress, Violation>) {
    let mut decoder = Decoder::default();
    let mut got = Vec::new();
    let mut outcome = Ok(Progress::Drained);
    let mut from = 0;
    for &to in cuts.iter().chain([&stream.len()]) {
        let mut scratch = stream[from..to].to_vec();
        from = to;
        outcome = decoder.feed(&mut scratch, limits, |incoming| {
            got.push(incoming.into());
            if stopping { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        while outcome == Ok(Progress::Stopped) {
            assert!(stopping);
            let before = got.len();
            outcome = decoder.resume(limits, |incoming| {
                got.push(incoming.into());
                ControlFlow::Break(())
            });
            assert!(got.len() <= before + 1, "a sink that stopped is not called again");
        }
        if outcome != Ok(Progress::Drained) {
            break;
        }
    }
    if outcome != Ok(Progress::Drained) {
        let after = decoder.feed(&mut raw(0x81, b"late"), limits, |_| panic!("handed out after the end"));
        assert_eq!(after, Ok(Progress::Closed));
        assert_eq!(decoder.resume(limits, |_| panic!("handed out after the end")), Ok(Progress::Closed));
        assert_eq!(decoder.heap_bytes(), size_of::<Partial>(), "a closed decoder owns the word that it is closed");
    }
    (got, outcome)
}

/// A stream with everything in it: whole messages, empty ones, fragments with control frames
/// between, each length encoding.
fn everything() -> (Vec<u8>, Vec<Got>) {
    let big = vec![7; 300];
    let stream = [
        raw(0x81, "grüße 🦀".as_bytes()),
        raw(0x82, b""),
        raw(0x89, b"are you there"),
        raw(0x01, &"ü".as_bytes()[..1]),
        raw(0x8A, b""),
        raw(0x00, b""),
        raw(0x89, &[1; 125]),
        raw(0x80, &"ü!".as_bytes()[1..]),
        raw(0x82, &big),
        raw(0x81, b""),
        raw(0x02, b"ab"),
        raw(0x80, &big),
        close(1000, "ende ü".as_bytes()),
        raw(0x81, b"nobody hears this"),
    ]
    .concat();
    let got = vec![
        text("grüße 🦀"),
        Got::Binary(vec![]),
        Got::Ping(b"are you there".to_vec()),
        Got::Pong(vec![]),
        Got::Ping(vec![1; 125]),
        text("ü!"),
        Got::Binary(big.clone()),
        text(""),
        Got::Binary([b"ab", &big[..]].concat()),
        Got::Close(Some(1000)),
    ];
    (stream, got)
}

#[test]
fn everything_comes_out_wherever_it_is_cut() {
    let (stream, expected) = everything();
    for cut in 0..=stream.len() {
        for stopping in [false, true] {
            let (got, outcome) = decode_cut(&stream, &[cut], &LIMITS, stopping);
            assert_eq!((&got, outcome), (&expected, Ok(Progress::Closed)), "cut at {cut}, stopping: {stopping}");
        }
    }
    let every: Vec<usize> = (0..stream.len()).collect();
    for stopping in [false, true] {
        assert_eq!(decode_cut(&stream, &every, &LIMITS, stopping), (expected.clone(), Ok(Progress::Closed)));
    }
}

#[test]
fn a_stop_at_any_message_loses_nothing_at_any_cut() {
    let (stream, expected) = everything();
    for stop_after in 1..expected.len() {
        for cut in 0..=stream.len() {
            let mut decoder = Decoder::default();
            let mut got: Vec<Got> = Vec::new();
            let mut sink = |incoming: Incoming<'_>| {
                got.push(incoming.into());
                if got.len() == stop_after { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            };
            for piece in [&stream[..cut], &stream[cut..]] {
                let mut progress = decoder.feed(&mut piece.to_vec(), &LIMITS, &mut sink);
                while progress == Ok(Progress::Stopped) {
                    assert!(decoder.heap_bytes() <= size_of::<Partial>() + 2 * stream.len());
                    progress = decoder.resume(&LIMITS, &mut sink);
                }
                assert!(progress.is_ok(), "{progress:?}");
            }
            assert_eq!(got, expected, "stopped after {stop_after}, cut at {cut}");
        }
    }
}

#[test]
fn bytes_that_come_while_stopped_keep_their_place() {
    // A driver does not do this; if it does, nothing is lost or reordered.
    let (stream, expected) = everything();
    let mut decoder = Decoder::default();
    let mut got: Vec<Got> = Vec::new();
    for piece in stream.chunks(50) {
        let progress = decoder.feed(&mut piece.to_vec(), &LIMITS, |incoming| {
            got.push(incoming.into());
            ControlFlow::Break(())
        });
        assert!(progress.is_ok());
    }
    while decoder.resume(&LIMITS, |incoming| {
        got.push(incoming.into());
        ControlFlow::Break(())
    }) == Ok(Progress::Stopped)
    {}
    assert_eq!(got, expected);
}

#[test]
fn kept_bytes_come_first() {
    let mut decoder = Decoder::default();
    let stream = [raw(0x81, b"one"), raw(0x81, b"two")].concat();
    decoder.keep(&stream[..12]);
    let mut got = Vec::new();
    let mut sink = |incoming: Incoming<'_>| {
        got.push(Got::from(incoming));
        ControlFlow::Continue(())
    };
    assert_eq!(decoder.resume(&LIMITS, &mut sink), Ok(Progress::Drained));
    assert_eq!(decoder.feed(&mut stream[12..].to_vec(), &LIMITS, &mut sink), Ok(Progress::Drained));
    assert_eq!(got, [text("one"), text("two")]);
    assert_eq!(decoder.heap_bytes(), 0);
}

#[test]
fn an_idle_decoder_owns_nothing() {
    assert_eq!(size_of::<Decoder>(), 8);
    let (stream, _) = everything();
    let open = &stream[..stream.len() - 40];
    let mut decoder = Decoder::default();
    for byte in open {
        let fed = decoder.feed(&mut [*byte], &LIMITS, |_| ControlFlow::Continue(()));
        assert_eq!(fed, Ok(Progress::Drained));
    }
    assert!(decoder.partial.is_some(), "cut inside a message, it holds the beginning");
    let mut decoder = Decoder::default();
    for mut message in [raw(0x81, b"whole"), raw(0x89, b""), [raw(0x01, b"a"), raw(0x80, b"b")].concat()] {
        for len in 1..message.len() {
            let (head, tail) = message.split_at_mut(len);
            assert_eq!(decoder.feed(&mut head.to_vec(), &LIMITS, |_| ControlFlow::Continue(())), Ok(Progress::Drained));
            assert!(decoder.heap_bytes() > 0);
            assert_eq!(decoder.feed(&mut tail.to_vec(), &LIMITS, |_| ControlFlow::Continue(())), Ok(Progress::Drained));
            assert!(decoder.partial.is_none() && decoder.heap_bytes() == 0, "cut at {len}");
        }
        // Handed out from the caller's buffer: nothing to free because nothing was taken. Stopping
        // there changes nothing.
        assert_eq!(decoder.feed(&mut message, &LIMITS, |_| ControlFlow::Break(())), Ok(Progress::Stopped));
        assert!(decoder.partial.is_none());
        assert_eq!(decoder.resume(&LIMITS, |_| panic!("there is nothing")), Ok(Progress::Drained));
    }
}

#[test]
fn a_whole_message_is_borrowed_from_the_input() {
    let mut scratch = [raw(0x81, b"first"), raw(0x82, b"second")].concat();
    let range = scratch.as_ptr_range();
    let mut decoder = Decoder::default();
    let mut seen = 0;
    let fed = decoder.feed(&mut scratch, &LIMITS, |incoming| {
        let (Incoming::Binary(bytes) | Incoming::Ping(bytes)) = (match incoming {
            Incoming::Text(text) => Incoming::Binary(text.as_bytes()),
            other => other,
        }) else {
            panic!("{incoming:?}")
        };
        assert!(range.contains(&bytes.as_ptr()));
        seen += 1;
        ControlFlow::Continue(())
    });
    assert_eq!((fed, seen), (Ok(Progress::Drained), 2));
}

#[test]
fn a_claimed_length_reserves_nothing() {
    let limits = Limits::ECHO;
    let claim = (limits.message_bytes as u64).to_be_bytes();
    let mut stream = [&[0x82, 0xFF], &claim[..], &[0; 4]].concat();
    let mut decoder = Decoder::default();
    for arrived in 0..200_usize {
        let fed = decoder.feed(&mut stream, &limits, |_| ControlFlow::Continue(()));
        assert_eq!(fed, Ok(Progress::Drained));
        let payload = arrived * 1000;
        assert!(decoder.heap_bytes() <= size_of::<Partial>() + 2 * payload, "{} for {payload}", decoder.heap_bytes());
        stream = vec![0; 1000];
    }
    // And of a message whose end is in sight, no more than its length is reserved.
    let mut decoder = Decoder::default();
    let mut frame = raw(0x82, &[1; 1000]);
    frame.truncate(900);
    assert_eq!(decoder.feed(&mut frame, &LIMITS, |_| ControlFlow::Continue(())), Ok(Progress::Drained));
    assert!(decoder.heap_bytes() <= size_of::<Partial>() + 1000);
}

#[test]
fn a_stopped_decoder_holds_one_read() {
    let one = raw(0x81, b"");
    let mut scratch = one.repeat(READ_SCRATCH_BYTES / one.len());
    let expected = scratch.len() / one.len();
    let mut decoder = Decoder::default();
    let mut got = 0;
    let mut progress = decoder.feed(&mut scratch, &LIMITS, |_| {
        got += 1;
        ControlFlow::Break(())
    });
    let most = size_of::<Partial>() + UNREAD_BYTES_MAX;
    while progress == Ok(Progress::Stopped) {
        assert!(decoder.heap_bytes() <= most);
        let unread = decoder.unread_bytes();
        assert!(
            unread == 0 || decoder.heap_bytes() <= size_of::<Partial>() + 2 * unread + one.len(),
            "memory is given back"
        );
        progress = decoder.resume(&LIMITS, |_| {
            got += 1;
            ControlFlow::Break(())
        });
    }
    assert_eq!((got, progress, decoder.heap_bytes()), (expected, Ok(Progress::Drained), 0));
}

/// Autobahn 2 to 5 and 7: each broken rule, told after the messages before it, wherever the stream
/// is cut.
#[test]
fn every_broken_rule_is_told() {
    use Violation as V;
    let unmasked = vec![0x81, 0x02, b'h', b'i'];
    let cases: Vec<(Vec<u8>, Violation, u16)> = vec![
        (raw(0xC1, b"x"), V::ReservedBits, 1002),
        (raw(0xA1, b"x"), V::ReservedBits, 1002),
        (raw(0x99, b"x"), V::ReservedBits, 1002),
        (raw(0x83, b""), V::ReservedOpcode(3), 1002),
        (raw(0x87, b"x"), V::ReservedOpcode(7), 1002),
        (raw(0x8B, b""), V::ReservedOpcode(11), 1002),
        (raw(0x8F, b"x"), V::ReservedOpcode(15), 1002),
        (unmasked, V::Unmasked, 1002),
        (raw(0x09, b"x"), V::FragmentedControl, 1002),
        (raw(0x08, b""), V::FragmentedControl, 1002),
        (raw(0x89, &[0; 126]), V::LongControl, 1002),
        (raw(0x88, &[0; 126]), V::LongControl, 1002),
        (vec![0x82, 0xFF, 0x80, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0], V::LengthTopBit, 1002),
        (raw(0x80, b"x"), V::OrphanContinuation, 1002),
        (raw(0x00, b""), V::OrphanContinuation, 1002),
        ([raw(0x01, b"x"), raw(0x81, b"y")].concat(), V::InterruptedMessage, 1002),
        ([raw(0x01, b"x"), raw(0x89, b""), raw(0x02, b"y")].concat(), V::InterruptedMessage, 1002),
        (raw(0x88, b"x"), V::ShortClose, 1002),
        (close(0, b""), V::BadCloseCode(0), 1002),
        (close(999, b""), V::BadCloseCode(999), 1002),
        (close(1004, b""), V::BadCloseCode(1004), 1002),
        (close(1005, b""), V::BadCloseCode(1005), 1002),
        (close(1006, b""), V::BadCloseCode(1006), 1002),
        (close(1015, b"x"), V::BadCloseCode(1015), 1002),
        (close(1016, b""), V::BadCloseCode(1016), 1002),
        (close(2999, b""), V::BadCloseCode(2999), 1002),
        (close(5000, b""), V::BadCloseCode(5000), 1002),
        (close(u16::MAX, b""), V::BadCloseCode(u16::MAX), 1002),
        (close(1000, b"\xff"), V::BadCloseReason, 1007),
        (raw(0x81, b"\xff"), V::BadText, 1007),
        (raw(0x81, b"\xed\xa0\x80"), V::BadText, 1007),
        (raw(0x81, b"half \xc3"), V::BadText, 1007),
        ([raw(0x01, b"half \xc3"), raw(0x80, b"")].concat(), V::BadText, 1007),
        ([raw(0x01, b"half \xc3"), raw(0x00, b"x")].concat(), V::BadText, 1007),
        (raw(0x82, &[0; 1001]), V::MessageTooBig, 1009),
        (vec![0x82, 0xFF, 0x7F, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0], V::MessageTooBig, 1009),
        ([raw(0x02, &[0; 600]), raw(0x80, &[0; 401])].concat(), V::MessageTooBig, 1009),
        ([raw(0x02, b""), raw(0x00, b"").repeat(8)].concat(), V::TooManyFragments, 1009),
    ];
    for (stream, violation, code) in cases {
        let stream = [raw(0x81, b"before"), raw(0x8A, b""), stream, raw(0x81, b"after")].concat();
        let until = stream.len() - raw(0x81, b"after").len();
        for cut in (0..until).chain([stream.len()]) {
            for stopping in [false, true] {
                let (got, outcome) = decode_cut(&stream, &[cut], &LIMITS, stopping);
                assert_eq!(outcome, Err(violation), "cut at {cut}");
                assert_eq!(got[..2], [text("before"), Got::Pong(vec![])]);
                assert!(got[2..].iter().all(|got| matches!(got, Got::Ping(_))), "{got:?}");
            }
        }
        assert_eq!(violation.close_code(), code, "{violation}");
    }
}

/// Autobahn 1, 5, 7 and 9: what is allowed to the last byte.
#[test]
fn the_limits_themselves_are_allowed() {
    let fragments = [raw(0x02, b"a"), raw(0x00, b"a").repeat(6), raw(0x80, b"a")].concat();
    assert_eq!(decode(&fragments), (vec![Got::Binary(b"a".repeat(8))], Ok(Progress::Drained)));
    let whole = raw(0x82, &[3; 1000]);
    assert_eq!(decode(&whole), (vec![Got::Binary(vec![3; 1000])], Ok(Progress::Drained)));
    let halves = [raw(0x02, &[3; 500]), raw(0x80, &[3; 500])].concat();
    assert_eq!(decode(&halves), (vec![Got::Binary(vec![3; 1000])], Ok(Progress::Drained)));
    assert_eq!(decode(&raw(0x89, &[0; 125])), (vec![Got::Ping(vec![0; 125])], Ok(Progress::Drained)));
    for code in [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 3000, 3999, 4000, 4999] {
        assert_eq!(decode(&close(code, &[b'x'; 123])), (vec![Got::Close(Some(code))], Ok(Progress::Closed)));
    }
    assert_eq!(decode(&raw(0x88, b"")), (vec![Got::Close(None)], Ok(Progress::Closed)));
}

#[test]
fn lengths_need_not_be_minimal() {
    let short_in_16 = [0x81, 0xFE, 0, 2, 0, 0, 0, 0, b'h', b'i'];
    let short_in_64 = [0x81, 0xFF, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, b'h', b'i'];
    let ping = [0x89, 0xFF, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, b'h', b'i'];
    assert_eq!(decode(&short_in_16), (vec![text("hi")], Ok(Progress::Drained)));
    assert_eq!(decode(&ping), (vec![Got::Ping(b"hi".to_vec())], Ok(Progress::Drained)));
    assert_eq!(decode(&short_in_64), (vec![text("hi")], Ok(Progress::Drained)));
}

/// Autobahn 6.4: text that can no longer become UTF-8 is told before its frame, or its message, is
/// complete.
#[test]
fn bad_text_is_told_at_its_first_byte() {
    let valid = "κόσμε".as_bytes();
    // Beyond U+10FFFF: wrong from the second byte on (6.4.1 to 6.4.4).
    let payload = [valid, b"\xf4\x90\x80\x80", b"edited"].concat();
    let bad_at = valid.len() + 1;
    let frame = raw(0x81, &payload);
    let header = frame.len() - payload.len();
    for arrived in 0..=payload.len() {
        let (got, outcome) = decode(&frame[..header + arrived]);
        let expected = if arrived > bad_at { Err(Violation::BadText) } else { Ok(Progress::Drained) };
        assert_eq!((got, outcome), (vec![], expected), "{arrived} bytes have arrived");
    }
    let fragments = [raw(0x01, &payload[..bad_at]), raw(0x00, &payload[bad_at..=bad_at])].concat();
    assert_eq!(decode(&fragments[..fragments.len() - 1]), (vec![], Ok(Progress::Drained)));
    assert_eq!(decode(&fragments), (vec![], Err(Violation::BadText)));
}

#[test]
fn text_is_valid_wherever_its_characters_are_cut() {
    let message = "aé€🦀\u{10FFFF}\u{7FF}\u{FFFD}z";
    let bytes = message.as_bytes();
    for first in 0..=bytes.len() {
        for second in first..=bytes.len() {
            let stream =
                [raw(0x01, &bytes[..first]), raw(0x00, &bytes[first..second]), raw(0x80, &bytes[second..])].concat();
            assert_eq!(decode(&stream), (vec![text(message)], Ok(Progress::Drained)), "{first} {second}");
        }
    }
}

#[test]
fn a_header_is_judged_before_its_payload() {
    // The peer claims much and sends nothing of it: it is told at once, and costs nothing.
    assert_eq!(decode(&raw(0x82, &[0; 1001])[..8]), (vec![], Err(Violation::MessageTooBig)));
    assert_eq!(decode(&[0xC1, 0x80]), (vec![], Err(Violation::ReservedBits)));
    assert_eq!(decode(&[0x81, 0x05]), (vec![], Err(Violation::Unmasked)));
    assert_eq!(decode(&[0x89, 0xFE, 0, 126]), (vec![], Err(Violation::LongControl)));
}

#[test]
fn an_allowance_of_frames_is_kept_and_loses_nothing() {
    let (stream, expected) = everything();
    for allowed in 1..8 {
        for cut in 0..=stream.len() {
            let mut decoder = Decoder::default();
            let mut got: Vec<Got> = Vec::new();
            let mut sink = |incoming: Incoming<'_>| {
                got.push(incoming.into());
                ControlFlow::Continue(())
            };
            let mut outcome = Ok(Progress::Drained);
            let mut calls = 0;
            for piece in [&stream[..cut], &stream[cut..]] {
                let mut frames = allowed;
                outcome = decoder.feed_frames(&mut piece.to_vec(), &LIMITS, &mut frames, &mut sink);
                while outcome == Ok(Progress::Stopped) {
                    assert_eq!(frames, 0, "it stops when the allowance is used up, and not before");
                    frames = allowed;
                    calls += 1;
                    outcome = decoder.resume_frames(&LIMITS, &mut frames, &mut sink);
                }
            }
            assert_eq!((&got, outcome), (&expected, Ok(Progress::Closed)), "{allowed} frames, cut at {cut}");
            // Thirteen frames up to the close frame, in two pieces.
            assert!((12 / allowed - 1..=13).contains(&calls), "{allowed} frames, cut at {cut}: {calls} calls");
        }
    }
}

#[test]
fn fragments_that_no_sink_hears_of_use_the_allowance_up() {
    let empty = raw(0x00, b"").repeat(1000);
    let mut stream = [raw(0x01, b"a"), empty].concat();
    let limits = Limits { fragments: 2000, ..LIMITS };
    let mut decoder = Decoder::default();
    let mut frames = 100;
    let outcome = decoder.feed_frames(&mut stream, &limits, &mut frames, |_| panic!("no message is whole"));
    assert_eq!((outcome, frames), (Ok(Progress::Stopped), 0));
    assert_eq!(decoder.unread_bytes(), 901 * raw(0x00, b"").len(), "the rest is kept and nothing else");
}

#[test]
fn since_when_something_is_incomplete_is_noted_for_each_message_anew() {
    let mut decoder = Decoder::default();
    let feed = |decoder: &mut Decoder, mut bytes: Vec<u8>, now_ms| {
        decoder.feed(&mut bytes, &LIMITS, |_| ControlFlow::Continue(())).expect("no violation");
        decoder.note_since(now_ms);
        decoder.since_ms()
    };
    assert_eq!(feed(&mut decoder, raw(0x81, b"whole"), 1), 0, "nothing is incomplete");
    let (ping, message) = (raw(0x89, b"are you there"), raw(0x81, b"a message"));
    // The start of a frame, byte by byte.
    assert_eq!(feed(&mut decoder, ping[..1].to_vec(), 2), 2);
    assert_eq!(feed(&mut decoder, ping[1..9].to_vec(), 3), 2);
    assert_eq!(feed(&mut decoder, [&ping[9..], &ping[..3]].concat(), 4), 4, "the next one has begun");
    assert_eq!(feed(&mut decoder, [&ping[3..], &message[..8]].concat(), 5), 5);
    // Control frames in the midst of a message do not make it younger.
    assert_eq!(feed(&mut decoder, message[8..12].to_vec(), 6), 5);
    assert_eq!(feed(&mut decoder, [&message[12..], &raw(0x01, b"a")[..]].concat(), 7), 7);
    assert_eq!(feed(&mut decoder, ping.clone(), 8), 7);
    assert_eq!(feed(&mut decoder, [&ping[..], &ping[..2]].concat(), 9), 7);
    assert_eq!(feed(&mut decoder, [&ping[2..], &raw(0x00, b"b")[..]].concat(), 10), 7);
    assert_eq!(feed(&mut decoder, [raw(0x80, b"c"), message[..10].to_vec()].concat(), 11), 11);
    assert_eq!(feed(&mut decoder, message[10..].to_vec(), 12), 0);
}

#[test]
fn a_compressed_message_comes_as_it_is() {
    let limits = LIMITS.with_deflate(true);
    // Not UTF-8, and not looked at: a text only once it is inflated.
    let stream = [
        raw(0xC1, &[0xff, 0xfe]),
        raw(0x81, b"plain"),
        raw(0x42, &[1, 2]),
        raw(0x89, b"ping"),
        raw(0x00, &[]),
        raw(0x80, &[3]),
        raw(0x41, &[0xff]),
        raw(0x80, &[0xfe]),
    ]
    .concat();
    let wanted = [
        Got::Deflated(true, vec![0xff, 0xfe]),
        Got::Text("plain".to_owned()),
        Got::Ping(b"ping".to_vec()),
        Got::Deflated(false, vec![1, 2, 3]),
        Got::Deflated(true, vec![0xff, 0xfe]),
    ];
    for piece in [1, 3, stream.len()] {
        let (mut decoder, mut got) = (Decoder::default(), Vec::new());
        for part in stream.chunks(piece) {
            let fed = decoder.feed(&mut part.to_vec(), &limits, |incoming| {
                got.push(Got::from(incoming));
                ControlFlow::Continue(())
            });
            assert_eq!(fed, Ok(Progress::Drained), "pieces of {piece}");
        }
        assert_eq!(got, wanted, "pieces of {piece}");
    }
}

#[test]
fn the_bit_of_compression_stands_only_at_a_messages_beginning() {
    let judge = |deflate: bool, frames: &[Vec<u8>]| {
        let limits = LIMITS.with_deflate(deflate);
        Decoder::default().feed(&mut frames.concat(), &limits, |_| ControlFlow::Continue(()))
    };
    let refused = Err(Violation::ReservedBits);
    assert_eq!(judge(false, &[raw(0xC1, b"x")]), refused, "it was not agreed upon");
    assert_eq!(judge(true, &[raw(0xC1, b"x")]), Ok(Progress::Drained));
    for first in [0xA1, 0x91, 0xE1, 0xD1, 0xB2, 0xC8, 0xC9, 0xCA] {
        assert_eq!(judge(true, &[raw(first, b"")]), refused, "{first:#x}");
    }
    for first in [0x01, 0x41] {
        assert_eq!(judge(true, &[raw(first, b"x"), raw(0xC0, b"y")]), refused, "a continuation");
        assert_eq!(judge(true, &[raw(first, b"x"), raw(0x40, b"y")]), refused, "a continuation");
        assert_eq!(judge(true, &[raw(first, b"x"), raw(0x80, b"y")]), Ok(Progress::Drained));
    }
}
