//! Compression against other implementations: flate2 for what is sent and for what comes,
//! libdeflate's inflater as the judge of what is no compressed message.

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};
use libdeflater::Decompressor;
use proptest::prelude::*;

use super::*;
use crate::limits::{DEFLATED_STREAMS_MAX, INFLATED_FREE_BYTES, INFLATED_RATIO_MAX, MESSAGE_BYTES_MAX};
use crate::ws::{Incoming, Violation};

// ---- what is agreed upon ------------------------------------------------------------------------

const BASE: &str = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";

/// The answer to these lines of the header; `None`: no extension.
fn answer(lines: &[&str]) -> Result<Option<String>, Malformed> {
    Ok(agree(lines.iter().copied())?.map(|agreed| {
        let mut out = Vec::new();
        agreed.write(&mut out);
        String::from_utf8(out).expect("a header is ASCII")
    }))
}

#[test]
fn legal_offers_are_agreed_upon() {
    for offer in [
        "permessage-deflate",
        "permessage-deflate; client_max_window_bits",
        "permessage-deflate; client_max_window_bits=10",
        "permessage-deflate;client_max_window_bits=\"10\"",
        "permessage-deflate ; server_no_context_takeover ;\tclient_no_context_takeover",
        "permessage-deflate; client_max_window_bits=\"\\1\\5\"",
        ", permessage-deflate,,",
        "permessage-bzip2, permessage-deflate",
        "x-webkit-deflate-frame; no_context_takeover, permessage-deflate; client_no_context_takeover",
    ] {
        assert_eq!(answer(&[offer]), Ok(Some(BASE.to_owned())), "{offer}");
    }
    for bits in 8..=15 {
        let offer = format!("permessage-deflate; server_max_window_bits={bits}; client_max_window_bits");
        let agreed = agree([offer.as_str()].into_iter()).expect("well formed").expect("acceptable");
        assert_eq!(agreed.window().bits(), bits);
        assert_eq!(answer(&[&offer]), Ok(Some(format!("{BASE}; server_max_window_bits={bits}"))));
    }
}

#[test]
fn what_may_not_be_offered_is_declined() {
    for offer in [
        "",
        "permessage-deflat",
        "Permessage-Deflate",
        "permessage-deflate; window=15",
        "permessage-deflate; server_no_context_takeover=1",
        "permessage-deflate; client_no_context_takeover=true",
        "permessage-deflate; server_max_window_bits",
        "permessage-deflate; server_max_window_bits=7",
        "permessage-deflate; server_max_window_bits=16",
        "permessage-deflate; server_max_window_bits=015",
        "permessage-deflate; server_max_window_bits=+9",
        "permessage-deflate; server_max_window_bits=9.5",
        "permessage-deflate; server_max_window_bits=99999999999999999999",
        "permessage-deflate; client_max_window_bits=7",
        "permessage-deflate; client_max_window_bits=08",
        "permessage-deflate; client_max_window_bits=x",
        "permessage-deflate; server_no_context_takeover; server_no_context_takeover",
        "permessage-deflate; client_no_context_takeover; client_no_context_takeover",
        "permessage-deflate; client_max_window_bits; client_max_window_bits=9",
        "permessage-deflate; server_max_window_bits=9; server_max_window_bits=9",
    ] {
        assert_eq!(answer(&[offer]), Ok(None), "{offer}");
    }
    assert_eq!(answer(&[]), Ok(None));
}

#[test]
fn the_first_acceptable_offer_is_taken() {
    let nine = format!("{BASE}; server_max_window_bits=9");
    let offers = "permessage-deflate; server_max_window_bits=7, permessage-deflate; server_max_window_bits=9, permessage-deflate";
    assert_eq!(answer(&[offers]), Ok(Some(nine.clone())));
    let lines =
        ["foo; a=b", "permessage-deflate; x", "permessage-deflate; server_max_window_bits=9", "permessage-deflate"];
    assert_eq!(answer(&lines), Ok(Some(nine)), "over all lines of the header");
}

#[test]
fn what_is_no_list_of_extensions_fails() {
    for value in [
        ";",
        "permessage-deflate;",
        "permessage-deflate; =9",
        "permessage-deflate; server_max_window_bits=",
        "permessage-deflate; server_max_window_bits=\"9",
        "permessage-deflate; server_max_window_bits=\"\"",
        "permessage-deflate; server_max_window_bits=\"9 \"",
        "permessage-deflate; server_max_window_bits=\"9\\",
        "permessage-deflate client_max_window_bits",
        "permessage-deflate, (",
        "größer",
    ] {
        assert_eq!(answer(&[value]), Err(Malformed), "{value}");
        assert_eq!(answer(&["permessage-deflate", value]), Err(Malformed), "{value}");
    }
}

proptest! {
    #[test]
    fn no_header_is_too_strange(value in "[ -~\\t]{0,60}", more in any::<String>()) {
        let _ = answer(&[&value, &more]);
    }
}

// ---- what comes ---------------------------------------------------------------------------------

/// A compressed message as a client with zlib makes it (RFC 7692, section 7.2.1).
fn deflated(message: &[u8], level: u32) -> Vec<u8> {
    let mut out = Vec::with_capacity(message.len() * 2 + 64);
    let mut compress = Compress::new(Compression::new(level), false);
    compress.compress_vec(message, &mut out, FlushCompress::Sync).expect("a vector has room");
    assert!(out.ends_with(&[0, 0, 0xff, 0xff]), "a flush ends with an empty stored block");
    out.truncate(out.len() - 4);
    out
}

fn opened(text: bool, payload: &[u8]) -> Result<Vec<u8>, Violation> {
    let mut inflater = Inflater::default();
    let incoming = inflater.open(text, payload, MESSAGE_BYTES_MAX)?;
    assert_eq!(matches!(incoming, Incoming::Text(_)), text);
    Ok(incoming.payload().to_vec())
}

/// What libdeflate, which knows nothing of messages, makes of `payload` with `end` behind it.
fn judged(payload: &[u8], end: &[u8]) -> Option<Vec<u8>> {
    let whole = [payload, &[0, 0, 0xff, 0xff], end].concat();
    let mut out = vec![0; 1 << 20];
    let len = Decompressor::new().deflate_decompress(&whole, &mut out).ok()?;
    out.truncate(len);
    Some(out)
}

#[test]
fn the_rfcs_examples_are_opened() {
    // RFC 7692, sections 7.2.3.1 to 7.2.3.5.
    let compressed: &[u8] = &[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];
    let stored: &[u8] = &[0x00, 0x05, 0x00, 0xfa, 0xff, 0x48, 0x65, 0x6c, 0x6c, 0x6f, 0x00];
    let final_block: &[u8] = &[0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00];
    let two_blocks: &[u8] = &[0xf2, 0x48, 0x05, 0x00, 0x00, 0x00, 0xff, 0xff, 0xca, 0xc9, 0xc9, 0x07, 0x00];
    for payload in [compressed, stored, final_block, two_blocks] {
        assert_eq!(opened(true, payload), Ok(b"Hello".to_vec()), "{payload:x?}");
    }
    // Section 7.2.3.6, and what zlib leaves of an empty message.
    assert_eq!(opened(true, &[0x00]), Ok(Vec::new()));
    assert_eq!(opened(false, &[]), Ok(Vec::new()));
}

#[test]
fn a_block_marked_as_last_need_not_be_the_last() {
    let hello = [0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];
    let twice = [&hello[..], &hello, &[0x00]].concat();
    assert_eq!(opened(true, &twice), Ok(b"HelloHello".to_vec()));
    // A stored block with the mark, then one without.
    let stored = [&[0x01, 0x02, 0x00, 0xfd, 0xff][..], b"ab", &[0x00, 0x01, 0x00, 0xfe, 0xff], b"c", &[0x00]].concat();
    assert_eq!(opened(false, &stored), Ok(b"abc".to_vec()));
}

#[test]
fn what_is_damaged_is_refused() {
    let bad = Err(Violation::BadDeflate);
    let whole = deflated(b"a message of some length, a message of some length", 6);
    for cut in 1..whole.len() {
        let outcome = opened(false, &whole[..cut]);
        assert!(outcome == bad || outcome == Ok(b"".to_vec()) && cut == 0, "cut at {cut}: {outcome:?}");
    }
    assert_eq!(opened(false, &[0x07]), bad, "no such type of block");
    assert_eq!(opened(false, &[0xff; 20]), bad);
    assert_eq!(opened(false, &[0x00, 0x06, 0x00, 0xf9, 0xff, 0x48]), bad, "less than was said");
    assert_eq!(opened(false, &[0x00, 0x05, 0x00, 0x00, 0x00, 0x48, 0x65, 0x6c, 0x6c, 0x6f, 0x00]), bad);
    assert_eq!(opened(false, &[0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00]), bad, "the last block alone");
    // A distance beyond the beginning: fixed codes, a match first.
    assert_eq!(opened(false, &[0x02, 0x02, 0x00]), bad);
    assert_eq!(opened(true, &deflated(&[0xff, 0xfe], 6)), Err(Violation::BadText));
    assert_eq!(opened(false, &deflated(&[0xff, 0xfe], 6)), Ok(vec![0xff, 0xfe]));
}

#[test]
fn a_message_has_its_bound_to_the_byte() {
    let message = noise(80_000);
    for (len, most, good) in [(1000, 1000, true), (1001, 1000, false), (65_536, 65_536, true), (65_537, 65_536, false)]
    {
        let payload = deflated(&message[..len], 6);
        let mut inflater = Inflater::default();
        let outcome = inflater.open(false, &payload, most).map(|incoming| incoming.payload().len());
        assert_eq!(outcome, if good { Ok(len) } else { Err(Violation::InflatesTooBig) }, "{len} of {most}");
        // The next message is another one.
        let next = inflater.open(true, &deflated(b"next", 1), most);
        assert_eq!(next, Ok(Incoming::Text("next")));
    }
}

#[test]
fn a_little_cannot_become_much() {
    let bomb = deflated(&vec![b'a'; MESSAGE_BYTES_MAX], 9);
    assert!(bomb.len() * INFLATED_RATIO_MAX < MESSAGE_BYTES_MAX, "{}", bomb.len());
    assert_eq!(opened(true, &bomb), Err(Violation::InflatesTooMuch));
    let page = deflated(&vec![b' '; INFLATED_FREE_BYTES], 9);
    assert_eq!(opened(true, &page).map(|page| page.len()), Ok(INFLATED_FREE_BYTES), "{} bytes", page.len());
    // A bomb is not unpacked to be refused: what it took is what it may take.
    let endless = deflated(&vec![0; 64 << 20], 9);
    let mut inflater = Inflater::default();
    assert_eq!(inflater.open(false, &endless, MESSAGE_BYTES_MAX), Err(Violation::InflatesTooBig));
    assert!(inflater.room() <= 2 * MESSAGE_BYTES_MAX + 1, "{}", inflater.room());
}

#[test]
fn blocks_of_nothing_are_refused_before_they_cost_much() {
    // Four empty blocks with fixed codes, one that is marked as the last, and an empty stored
    // block.
    for block in [&[0x02, 0x08, 0x20, 0x80, 0x00][..], &[0x03, 0x00], &[0x00, 0x00, 0x00, 0xff, 0xff]] {
        let payload = block.repeat(MESSAGE_BYTES_MAX / block.len());
        assert_eq!(opened(false, &payload), Err(Violation::InflatesToNothing), "{block:02x?}");
        // A few are what some senders write between two flushes.
        let few = [block.repeat(20), deflated(b"hello", 9)].concat();
        assert_eq!(opened(false, &few), Ok(b"hello".to_vec()), "{block:02x?}");
    }
}

#[test]
fn last_blocks_are_counted_and_the_proof_is_none_of_them() {
    // A byte in a last block of its own.
    let mut block = Vec::with_capacity(200);
    Compress::new(Compression::best(), false).compress_vec(b"x", &mut block, FlushCompress::Finish).expect("room");
    // The end that a sender leaves away is of a block that is not the last.
    let message = |blocks: u32| [block.repeat(blocks as usize), vec![0]].concat();
    assert_eq!(opened(false, &message(DEFLATED_STREAMS_MAX)), Ok(vec![b'x'; DEFLATED_STREAMS_MAX as usize]));
    assert_eq!(opened(false, &message(DEFLATED_STREAMS_MAX + 1)), Err(Violation::InflatesToNothing));
}

#[test]
fn a_block_may_refer_across_a_last_one() {
    // Two streams, of which the second refers to what is in the first.
    let whole = b"a message that says the same twice, a message that says the same twice";
    let (first, second) = whole.split_at(36);
    let mut state = Compress::new(Compression::best(), false);
    state.set_dictionary(first).expect("a raw stream takes one");
    let mut rest = Vec::with_capacity(200);
    state.compress_vec(second, &mut rest, FlushCompress::Finish).expect("there is room");
    let mut last = Vec::with_capacity(200);
    Compress::new(Compression::best(), false).compress_vec(first, &mut last, FlushCompress::Finish).expect("room");
    assert!(rest.len() < 16, "it refers: {} bytes", rest.len());
    let payload = [&last[..], &rest, &[0]].concat();
    assert_eq!(opened(false, &payload), Ok(whole.to_vec()));
}

#[test]
fn a_long_message_leaves_no_memory_behind() {
    let message = noise(4_000_000);
    let mut inflater = Inflater::default();
    let long = inflater.open(false, &deflated(&message, 1), 16 << 20).map(|incoming| incoming.payload() == message);
    assert_eq!(long, Ok(true));
    assert!(inflater.room() > 4_000_000);
    assert_eq!(inflater.open(true, &[0], 100), Ok(Incoming::Text("")));
    assert!(inflater.room() <= 2 * MESSAGE_BYTES_MAX, "{}", inflater.room());
}

// ---- what is sent -------------------------------------------------------------------------------

/// The message inside a compressed frame, as a client with zlib and a window of 2^`bits` reads it.
fn read(frame: &[u8], opcode: u8) -> Vec<u8> {
    assert_eq!(frame[0], 0xC0 | opcode);
    let mut payload = frame::unframed(frame).1.to_vec();
    payload.extend_from_slice(&[0, 0, 0xff, 0xff]);
    let mut out = Vec::with_capacity(1 << 17);
    let mut inflate = Decompress::new(false);
    let mut rest = &payload[..];
    loop {
        let before = inflate.total_in();
        let status = inflate.decompress_vec(rest, &mut out, FlushDecompress::Sync).expect("a compressed message");
        rest = &rest[usize::try_from(inflate.total_in() - before).expect("small")..];
        if rest.is_empty() {
            return out;
        }
        assert_eq!(status, Status::StreamEnd, "only a last block stops it");
        inflate.reset(false);
    }
}

/// What cannot be compressed.
fn noise(len: usize) -> Vec<u8> {
    let mut state = 1_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    (0..len.div_ceil(8)).flat_map(|_| next()).take(len).collect()
}

fn prose(len: usize) -> Vec<u8> {
    let words = ["and ", "the gateway ", "says ", "to all members ", "of a group, ", "again; ", "hello ", "0123 "];
    let mut at = 7_u32;
    let mut out = Vec::new();
    while out.len() < len {
        at = at.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        out.extend_from_slice(words[(at >> 29) as usize].as_bytes());
    }
    out.truncate(len);
    out
}

#[test]
fn what_is_sent_is_read_by_zlib_and_by_us() {
    let mut deflater = Deflater::new(512);
    let mut counts = DeflateCounts::default();
    for len in [512, 513, 1024, 5000, 65_000, 70_000] {
        let message = prose(len);
        let frame = deflater.frame(1, &message).expect("prose becomes shorter");
        assert_eq!(read(&frame, 1), message);
        assert_eq!(opened(true, frame::unframed(&frame).1).ok(), (len < MESSAGE_BYTES_MAX).then_some(message));
        counts.messages += 1;
        counts.bytes += len as u64;
        counts.deflated_bytes += frame::unframed(&frame).1.len() as u64;
    }
    assert_eq!(deflater.counts(), counts);
}

#[test]
fn what_is_not_worth_it_is_not_compressed() {
    let mut deflater = Deflater::new(512);
    assert_eq!(deflater.frame(1, &prose(511)), None);
    assert_eq!(deflater.counts(), DeflateCounts::default(), "it was not even looked at");
    assert_eq!(deflater.frame(1, &noise(1000)), None);
    assert_eq!(deflater.counts(), DeflateCounts { vain: 1, ..DeflateCounts::default() });
}

#[test]
fn an_answer_is_compressed_for_a_window_that_holds_it() {
    let mut deflater = Deflater::new(512);
    let mut plain = Vec::new();
    let message = prose(3000);
    frame::write_header(&mut plain, 1, message.len());
    plain.extend_from_slice(&message);
    let plain = plain.into_boxed_slice();
    let window = |bits| Window::new(bits).expect("a window");
    for bits in 8..=11 {
        assert_eq!(deflater.again(plain.clone(), window(bits)), plain, "2^{bits} bytes do not hold 3000");
    }
    for bits in 12..=15 {
        assert_eq!(read(&deflater.again(plain.clone(), window(bits)), 1), message);
    }
    let mut long = Vec::new();
    frame::write_header(&mut long, 1, 20_000);
    long.extend_from_slice(&prose(20_000));
    let long = long.into_boxed_slice();
    assert_eq!(deflater.again(long.clone(), Window::MAX), long, "too long for the shard");
}

proptest! {
    #[test]
    fn any_message_comes_back(
        message in prop::collection::vec(any::<u8>(), 0..3000), few in any::<bool>(), level in 0..10_u32,
    ) {
        let message: Vec<u8> = if few { message.iter().map(|byte| byte % 3 + b'a').collect() } else { message };
        prop_assert_eq!(opened(false, &deflated(&message, level)), Ok(message.clone()));
        let mut frame = Vec::new();
        Deflater::new(0).append_always(&mut frame, 2, &message);
        prop_assert_eq!(&read(&frame, 2), &message);
        prop_assert_eq!(opened(false, frame::unframed(&frame).1), Ok(message.clone()));
        if let Some(frame) = Deflater::new(0).frame(2, &message) {
            prop_assert!(frame.len() < message.len());
            prop_assert_eq!(read(&frame, 2), message);
        }
    }

    /// Libdeflate ends at the first block that is marked as the last; where there is none it takes
    /// the same messages.
    #[test]
    fn libdeflate_agrees_about_damage(
        message in prop::collection::vec(0..6_u8, 1..400), at in any::<prop::sample::Index>(), flip in 1..=255_u8, cut in any::<bool>(),
    ) {
        let mut payload = deflated(&message, 6);
        let at = at.index(payload.len());
        if cut {
            payload.truncate(at.max(1));
        } else {
            payload[at] ^= flip;
        }
        if judged(&payload, &[]).is_none() {
            let (ours, theirs) = (opened(false, &payload).ok(), judged(&payload, &[1, 0, 0, 0xff, 0xff]));
            prop_assert!(ours.is_none() || ours == theirs);
            prop_assert!(ours.is_some() || theirs.as_ref() != Some(&message));
        }
    }

    #[test]
    fn any_bytes_are_refused_or_bounded(payload in prop::collection::vec(any::<u8>(), 0..300), most in 0..5000_usize) {
        let mut inflater = Inflater::default();
        if let Ok(incoming) = inflater.open(false, &payload, most) {
            prop_assert!(incoming.payload().len() <= most);
        }
    }
}
