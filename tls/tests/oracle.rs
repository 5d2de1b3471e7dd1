//! rustls' client judges both record layers: whatever is cut wherever, both ends read what was said.

mod support;

use imgate_tls::{End, KeyLife, Outgoing, Session};
use proptest::prelude::*;
use rustls::ClientConnection;
use support::{Place, SUITES, open, said_by, seal_by_client, shake, tell};

/// One thing that happens on a connection.
#[derive(Clone, Debug)]
enum Deed {
    /// The client says so many bytes, which arrive in pieces of that length.
    Hear { bytes: usize, piece: usize },
    /// The server says so many bytes, and the socket takes so much at a time.
    Say { bytes: usize, room: usize },
    /// The client changes its keys; if it may, it asks for the server's.
    Rekey,
}

fn deed() -> impl Strategy<Value = Deed> {
    let bytes = prop_oneof![0..64usize, 0..5_000usize, 16_300..16_500usize, 0..66_000usize];
    let piece = prop_oneof![1..40usize, 100..20_000usize, Just(usize::MAX)];
    prop_oneof![
        (bytes.clone(), piece.clone()).prop_map(|(bytes, piece)| Deed::Hear { bytes, piece }),
        (bytes, piece).prop_map(|(bytes, room)| Deed::Say { bytes, room: room.max(50) }),
        Just(Deed::Rekey),
    ]
}

/// Bytes that tell one place from another.
fn text(bytes: usize, seed: usize) -> Vec<u8> {
    (0..bytes).map(|at| (at * 31 + at / 256 + seed) as u8).collect()
}

/// Says `plain` through a socket that takes `room` bytes at a time; answers what the client read.
fn say(session: &mut Session, client: &mut ClientConnection, plain: &[u8], room: usize, out: &mut Outgoing) -> Vec<u8> {
    let (mut at, mut heard) = (0, Vec::new());
    while at < plain.len() || session.wants_write() {
        let sealed = session.seal(&plain[at..], out);
        assert_eq!(sealed.refused(), None);
        let sent = sealed.bytes().len().min(room);
        let bytes = sealed.bytes()[..sent].to_vec();
        at += sealed.sent(sent);
        heard.extend(tell(client, &bytes).expect("every record is authentic"));
    }
    heard
}

fn play(own_records: bool, suite: usize, cut: usize, life: KeyLife, deeds: &[Deed]) {
    let place = Place::new();
    let mut client = place.client(SUITES[suite]);
    let mut session = shake(&place.acceptor(own_records), &mut client, cut).expect("both want it").session;
    let mut out = Outgoing::new(64 * 1024, life);
    for (seed, deed) in deeds.iter().enumerate() {
        match *deed {
            Deed::Hear { bytes, piece } => {
                let said = text(bytes, seed);
                let (mut heard, mut end) = (Vec::new(), None);
                for piece in seal_by_client(&mut client, &said).chunks(piece.min(60_000)) {
                    let (plain, ended) = open(&mut session, piece);
                    heard.extend(plain);
                    end = end.or(ended);
                }
                assert_eq!(end, None);
                assert!(heard == said, "{bytes} bytes were heard as {}", heard.len());
                // What the client has asked for is answered before anything else, also if the socket
                // takes it in pieces.
                assert_eq!(say(&mut session, &mut client, &[], piece, &mut out), b"");
            }
            Deed::Say { bytes, room } => {
                let said = text(bytes, seed);
                let heard = say(&mut session, &mut client, &said, room, &mut out);
                assert!(heard == said, "{bytes} bytes were heard as {}", heard.len());
            }
            Deed::Rekey if suite < 3 => client.refresh_traffic_keys().expect("it is TLS 1.3"),
            Deed::Rekey => {}
        }
    }
    if own_records {
        assert_eq!(session.kept_bytes(), 0, "nothing is kept while everything is whole");
    }
    client.send_close_notify();
    assert_eq!(open(&mut session, &said_by(&mut client)), (Vec::new(), Some(End::Closed)));
    session.close();
    assert_eq!(say(&mut session, &mut client, &[], usize::MAX, &mut out), b"");
    assert!(client.process_new_packets().expect("it is a regular end").peer_has_closed());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn own_records_say_what_was_said(
        suite in 0..6usize,
        cut in prop_oneof![1..200usize, Just(usize::MAX)],
        // As many as the peer bears in a minute; more than that is its right to refuse.
        deeds in prop::collection::vec(deed(), 1..12),
    ) {
        play(true, suite, cut, KeyLife::default(), &deeds);
    }

    #[test]
    fn the_librarys_records_say_the_same(suite in 0..6usize, deeds in prop::collection::vec(deed(), 1..8)) {
        play(false, suite, usize::MAX, KeyLife::default(), &deeds);
    }
}

#[test]
fn a_key_is_replaced_before_it_is_used_up() {
    let place = Place::new();
    for suite in &SUITES[..3] {
        let mut client = place.client(*suite);
        let mut session = shake(&place.acceptor(true), &mut client, usize::MAX).expect("both want it").session;
        let mut out = Outgoing::new(64 * 1024, KeyLife::records(16));
        // rustls' client refuses 32 key updates without data between them; here there is data.
        for seed in 0..200 {
            let said = text(100, seed);
            assert_eq!(say(&mut session, &mut client, &said, 60, &mut out), said, "message {seed}");
        }
    }
}

#[test]
fn a_key_that_cannot_be_replaced_ends_the_connection() {
    let place = Place::new();
    for suite in &SUITES[3..] {
        let mut client = place.client(*suite);
        let mut session = shake(&place.acceptor(true), &mut client, usize::MAX).expect("both want it").session;
        let mut out = Outgoing::new(64 * 1024, KeyLife::records(16));
        let mut sent = 0;
        let last = loop {
            let sealed = session.seal(b"hello", &mut out);
            let bytes = sealed.bytes().to_vec();
            let refused = sealed.refused();
            sealed.sent(bytes.len());
            if refused.is_some() {
                break bytes;
            }
            assert_eq!(tell(&mut client, &bytes).expect("it is authentic"), b"hello");
            sent += 1;
        };
        assert!((12..16).contains(&sent), "{sent} records");
        tell(&mut client, &last).expect("it is a close_notify");
        assert!(client.process_new_packets().expect("it is a regular end").peer_has_closed());
        assert!(session.seal(b"more", &mut out).refused().is_some());
    }
}
