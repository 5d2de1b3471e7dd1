//! Fuzz targets as plain functions: `fuzz/` gives them to libFuzzer, `fuzz_corpus.rs` replays what
//! was found. A target panics when what it promises does not hold.

use imgate_tls::limits::RECORD_WIRE_BYTES_MAX;
use imgate_tls::{Acceptor, KeyLife, Outgoing, Records, Secrets, Session, Step, Suite};

/// Both ends of a connection with invented keys, of a suite that `choice` names.
fn pair(choice: u8) -> (Session, Session) {
    let suite = Suite::ALL[usize::from(choice) % Suite::ALL.len()];
    let (key, secret) = (vec![7; suite.key_bytes()], vec![9; suite.secret_bytes()]);
    let side = |iv: u8| Secrets { sequence: 0, iv: [iv; 12], key: &key, secret: &secret };
    let end = |send, receive| Records::new(suite, side(send), side(receive)).expect("the lengths fit").into();
    (end(1, 2), end(2, 1))
}

/// What `session` reads of `bytes`; whether it has ended.
fn open(session: &mut Session, bytes: &[u8]) -> (Vec<u8>, bool) {
    let mut buffer = vec![0; RECORD_WIRE_BYTES_MAX];
    buffer.extend_from_slice(bytes);
    let fresh = RECORD_WIRE_BYTES_MAX..buffer.len();
    let opened = session.open(&mut buffer, fresh, 1);
    (buffer[opened.plain].to_vec(), opened.end.is_some())
}

/// A program of one byte each for two ends: who says how much, how much a socket takes, where what
/// travels is cut, and where somebody in between changes a byte.
///
/// As long as nobody changes a byte, each end reads what the other was told to say. Afterwards it
/// reads a beginning of that, and nothing else ever.
pub(crate) fn records(input: &[u8]) {
    let Some((&choice, program)) = input.split_first() else { return };
    let (one, other) = pair(choice);
    let mut ends = [one, other];
    let mut out = Outgoing::new(64 * 1024, KeyLife::records(64));
    // What each has said and read, and what travels to it.
    let (mut said, mut read, mut travels) = ([vec![], vec![]], [vec![], vec![]], [vec![], vec![]]);
    let (mut touched, mut over) = (false, [false; 2]);
    for (turn, &deed) in program.iter().take(200).enumerate() {
        let (me, peer) = if deed & 1 == 0 { (0, 1) } else { (1, 0) };
        let size = usize::from(deed >> 3);
        match deed >> 1 & 3 {
            0 => {
                let plain = vec![turn as u8; size * size * 40];
                let sealed = ends[me].seal(&plain, &mut out);
                let refused = sealed.refused().is_some();
                let sent = sealed.bytes().len() * (turn % 4) / 3;
                let bytes = sealed.bytes()[..sent.min(sealed.bytes().len())].to_vec();
                let done = sealed.sent(bytes.len());
                assert!(done == 0 || !refused);
                said[me].extend_from_slice(&plain[..done]);
                travels[peer].extend(bytes);
            }
            1 => {
                let whole = travels[me].len();
                let rest = travels[me].split_off(if size == 31 { whole } else { whole * size / 31 });
                let (plain, ended) = open(&mut ends[me], &std::mem::replace(&mut travels[me], rest));
                assert!(!over[me] || plain.is_empty(), "it has ended");
                read[me].extend(plain);
                over[me] |= ended;
            }
            2 => {
                let at = travels[me].len() * size / 32;
                if let Some(byte) = travels[me].get_mut(at) {
                    *byte ^= deed | 1;
                    touched = true;
                }
            }
            _ if size == 0 => ends[me].close(),
            _ => {
                // Bytes of the program itself, as whoever knows no key would send them.
                travels[me].extend(program.iter().skip(turn).take(size));
                touched = true;
            }
        }
        assert!(said[peer].starts_with(&read[me]), "an end reads what was never said");
        assert!(ends[me].kept_bytes() <= 5 * RECORD_WIRE_BYTES_MAX);
    }
    for (me, peer) in [(0, 1), (1, 0)] {
        let last = ends[peer].seal(&[], &mut out);
        let bytes = last.bytes().to_vec();
        last.sent(bytes.len());
        travels[me].extend(bytes);
        let (plain, _) = open(&mut ends[me], &std::mem::take(&mut travels[me]));
        read[me].extend(plain);
        // An end that was closed by the other reads nothing more, and nothing more is said.
        assert!(touched || over[me] || read[me] == said[peer], "something was lost");
        assert!(said[peer].starts_with(&read[me]));
    }
}

/// Any bytes in pieces of any length: a handshake never panics, and never says that it is done.
pub(crate) fn handshake(acceptor: &Acceptor, input: &[u8]) {
    let Some((&cut, mut bytes)) = input.split_first() else { return };
    let mut handshake = acceptor.accept().expect("it can begin");
    while !bytes.is_empty() {
        let piece = &bytes[..bytes.len().min(usize::from(cut) + 1)];
        let taken = handshake.receive(piece);
        bytes = &bytes[taken..];
        loop {
            match handshake.step() {
                Step::More => {}
                Step::Wait => break,
                Step::Done => unreachable!("nobody finishes a handshake without its secrets"),
                Step::Failed(_) => return,
            }
        }
        assert!(handshake.kept_bytes() < 64 * 1024);
        if taken == 0 {
            assert!(handshake.room() > 0, "it would stand still");
        }
    }
}
