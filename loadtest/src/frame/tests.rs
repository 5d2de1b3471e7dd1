//! The codec against tungstenite: the same bytes, cut anywhere, are the same messages; what we send
//! it understands.

use std::io::{self, Cursor, Read, Write};

use proptest::prelude::*;
use tungstenite::protocol::frame::coding::{CloseCode, Control, Data, OpCode};
use tungstenite::protocol::frame::{Frame as Oracle, FrameHeader};
use tungstenite::protocol::{CloseFrame, Role};
use tungstenite::{Message, WebSocket};

use super::*;

/// A message that owns its bytes.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Owned {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<u16>),
}

impl From<Frame<'_>> for Owned {
    fn from(frame: Frame<'_>) -> Self {
        match frame {
            Frame::Text(s) => Self::Text(s.to_owned()),
            Frame::Binary(b) => Self::Binary(b.to_vec()),
            Frame::Ping(b) => Self::Ping(b.to_vec()),
            Frame::Pong(b) => Self::Pong(b.to_vec()),
            Frame::Close(code, _) => Self::Close(code),
            Frame::Packed(_) => unreachable!("nothing was agreed upon"),
        }
    }
}

impl From<Message> for Owned {
    fn from(message: Message) -> Self {
        match message {
            Message::Text(s) => Self::Text(s.to_string()),
            Message::Binary(b) => Self::Binary(b.to_vec()),
            Message::Ping(b) => Self::Ping(b.to_vec()),
            Message::Pong(b) => Self::Pong(b.to_vec()),
            Message::Close(frame) => Self::Close(frame.map(|f| f.code.into())),
            Message::Frame(_) => unreachable!("tungstenite does not read raw frames"),
        }
    }
}

/// Reads from memory, swallows what is written.
struct Wire(Cursor<Vec<u8>>);

impl Read for Wire {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.0.read(buffer)? {
            0 => Err(io::ErrorKind::WouldBlock.into()),
            n => Ok(n),
        }
    }
}

impl Write for Wire {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        Ok(buffer.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// How a stream of bytes ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum End {
    /// Everything was understood, or more bytes are wanted.
    Open,
    Failed,
}

fn by_tungstenite(bytes: &[u8], role: Role) -> (Vec<Owned>, End) {
    let mut socket = WebSocket::from_raw_socket(Wire(Cursor::new(bytes.to_vec())), role, None);
    let mut seen = Vec::new();
    loop {
        match socket.read() {
            Ok(message) => {
                let close = matches!(message, Message::Close(_));
                seen.push(message.into());
                if close {
                    return (seen, End::Open);
                }
            }
            Err(tungstenite::Error::Io(e)) if e.kind() == io::ErrorKind::WouldBlock => return (seen, End::Open),
            Err(_) => return (seen, End::Failed),
        }
    }
}

fn by_us(bytes: &[u8], cuts: &[prop::sample::Index]) -> (Vec<Owned>, End) {
    let mut places: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
    places.extend([0, bytes.len()]);
    places.sort_unstable();
    let mut decoder = Decoder::default();
    let mut seen = Vec::new();
    for piece in places.windows(2) {
        if decoder.feed(&bytes[piece[0]..piece[1]], |frame| seen.push(frame.into())).is_err() {
            return (seen, End::Failed);
        }
    }
    if !matches!(seen.last(), Some(Owned::Close(_))) {
        let idle = decoder.held.is_none();
        let pending = decoder.held.is_some_and(|h| !h.bytes.is_empty() || h.kind.is_some());
        assert!(idle || pending, "memory is held only for something incomplete");
    }
    (seen, End::Open)
}

fn put(out: &mut Vec<u8>, payload: Vec<u8>, opcode: OpCode, last: bool) {
    let header = FrameHeader { is_final: last, opcode, ..FrameHeader::default() };
    Oracle::from_payload(header, payload.into()).format(out).expect("a vector takes everything");
}

/// The frames of one message, in as many fragments as asked, with a ping between them.
fn message_bytes() -> impl Strategy<Value = Vec<u8>> {
    let text = prop_oneof![".{0,40}", "[a-z]{100,400}", "[a-z]{65530,65545}"];
    let data = (text, any::<bool>(), 1_usize..4).prop_map(|(text, binary, fragments)| {
        let mut out = Vec::new();
        let kind = if binary { Data::Binary } else { Data::Text };
        let bytes = text.into_bytes();
        let size = bytes.len() / fragments + 1;
        let pieces: Vec<&[u8]> = if bytes.is_empty() { vec![&[]] } else { bytes.chunks(size).collect() };
        for (i, piece) in pieces.iter().enumerate() {
            let opcode = OpCode::Data(if i == 0 { kind } else { Data::Continue });
            put(&mut out, piece.to_vec(), opcode, i + 1 == pieces.len());
            if i == 0 && pieces.len() > 1 {
                put(&mut out, b"between".to_vec(), OpCode::Control(Control::Ping), true);
            }
        }
        out
    });
    let control = (any::<bool>(), prop::collection::vec(any::<u8>(), 0..126)).prop_map(|(ping, payload)| {
        let mut out = Vec::new();
        put(&mut out, payload, OpCode::Control(if ping { Control::Ping } else { Control::Pong }), true);
        out
    });
    let close = prop::option::of((1000_u16..1004, "[a-z]{0,20}")).prop_map(|close| {
        let mut out = Vec::new();
        let frame = close.map(|(code, reason)| CloseFrame { code: CloseCode::from(code), reason: reason.into() });
        Oracle::close(frame).format(&mut out).expect("a vector takes everything");
        out
    });
    prop_oneof![8 => data, 3 => control, 1 => close]
}

fn stream() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(message_bytes(), 0..8).prop_map(|parts| parts.concat())
}

fn cuts() -> impl Strategy<Value = Vec<prop::sample::Index>> {
    prop::collection::vec(any::<prop::sample::Index>(), 0..12)
}

proptest! {
    #[test]
    fn the_same_bytes_cut_anywhere_are_the_same_messages(bytes in stream(), cuts in cuts()) {
        prop_assert_eq!(by_us(&bytes, &cuts), by_tungstenite(&bytes, Role::Client));
    }

    #[test]
    fn broken_bytes_fail_as_they_do_in_tungstenite(
        mut bytes in stream(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cuts in cuts(),
    ) {
        for (place, value) in damage {
            if !bytes.is_empty() {
                let place = place.index(bytes.len());
                bytes[place] = value;
            }
        }
        let (mut ours, our_end) = by_us(&bytes, &cuts);
        let (mut theirs, their_end) = by_tungstenite(&bytes, Role::Client);
        // Tungstenite turns a forbidden close code into a close frame of its own; for us it is a
        // fault.
        if our_end == End::Failed && matches!(theirs.last(), Some(Owned::Close(Some(1002)))) {
            theirs.pop();
        }
        // We judge a header before its payload has come, tungstenite a text before its last
        // fragment has; both may therefore be ahead of the other by a verdict, never by a message.
        if our_end == End::Open && their_end == End::Open {
            prop_assert_eq!(&ours, &theirs);
        }
        let both = ours.len().min(theirs.len());
        if our_end != their_end || our_end == End::Failed {
            ours.truncate(both);
            theirs.truncate(both);
            prop_assert_eq!(&ours, &theirs);
        }
    }

    #[test]
    fn what_we_send_is_what_a_server_reads(
        texts in prop::collection::vec(prop_oneof![".{0,60}", "[a-z]{120,130}", "[a-z]{65530,65540}"], 0..6),
        mask in any::<[u8; 4]>(),
    ) {
        let mut bytes = Vec::new();
        let mut expected = Vec::new();
        for text in texts {
            encode(&mut bytes, Opcode::Text, text.as_bytes(), mask);
            encode(&mut bytes, Opcode::Ping, b"are you there", mask);
            expected.extend([Owned::Text(text), Owned::Ping(b"are you there".to_vec())]);
        }
        encode(&mut bytes, Opcode::Close, &1000_u16.to_be_bytes(), mask);
        expected.push(Owned::Close(Some(1000)));
        prop_assert_eq!(by_tungstenite(&bytes, Role::Server), (expected, End::Open));
    }
}

#[test]
fn each_fault_has_its_name() {
    let fault = |bytes: &[u8]| Decoder::default().feed(bytes, |_| ()).expect_err("a fault");
    assert_eq!(fault(&[0xc1, 0]), FrameFault::ReservedBit);
    assert_eq!(fault(&[0x83, 0]), FrameFault::Opcode(3));
    assert_eq!(fault(&[0x81, 0x80, 0, 0, 0, 0]), FrameFault::Masked);
    assert_eq!(fault(&[0x09, 0]), FrameFault::Control);
    assert_eq!(fault(&[0x89, 126]), FrameFault::Control);
    assert_eq!(fault(&[0x80, 0]), FrameFault::Fragment);
    assert_eq!(fault(&[0x01, 0, 0x81, 0]), FrameFault::Fragment);
    assert_eq!(fault(&[0x82, 127, 0, 0, 0, 1, 0, 0, 0, 0]), FrameFault::TooBig);
    assert_eq!(fault(&[0x81, 1, 0xff]), FrameFault::Utf8);
    assert_eq!(fault(&[0x88, 1, 3]), FrameFault::Close);
    assert_eq!(fault(&[0x88, 2, 3, 0xed]), FrameFault::Close);
}

#[test]
fn a_compressed_message_is_one_only_where_that_was_agreed_upon() {
    // RFC 7692, section 7.2.3.1: whole, and in two fragments.
    for bytes in [&b"\xc1\x07\xf2\x48\xcd\xc9\xc9\x07\x00"[..], b"\x41\x03\xf2\x48\xcd\x80\x04\xc9\xc9\x07\x00"] {
        for cut in 0..bytes.len() {
            let (mut decoder, mut packed) = (Decoder::default(), Vec::new());
            let (a, b) = bytes.split_at(cut);
            for part in [a, b] {
                let fed = decoder.feed_as(true, part, |frame| match frame {
                    Frame::Packed(payload) => packed.push(payload.to_vec()),
                    other => panic!("{other:?}"),
                });
                assert_eq!(fed, Ok(()));
            }
            assert_eq!(packed, [[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00]]);
        }
        assert_eq!(Decoder::default().feed(bytes, |_| ()), Err(FrameFault::ReservedBit));
    }
    // A control frame is never compressed.
    assert_eq!(Decoder::default().feed_as(true, b"\xc9\x00", |_| ()), Err(FrameFault::ReservedBit));
}
