//! Handshakes: what is negotiated, what comes with the Finished, many at once, and bad beginnings.

mod support;

use imgate_tls::{Acceptor, End, Failure, Finished, Handshake, Step};
use rustls::client::Resumption;
use rustls::{ClientConnection, NamedGroup};
use support::{Place, SUITES, client, open, said_by, seal_by_client, send, shake, tell};

/// Both ends understand each other.
fn assert_connected(session: &mut imgate_tls::Session, client: &mut ClientConnection) {
    let bytes = seal_by_client(client, b"from the client");
    assert_eq!(open(session, &bytes), (b"from the client".to_vec(), None));
    assert_eq!(send(session, client, b"from the server"), b"from the server");
}

#[test]
fn every_suite_connects_with_both_record_layers_wherever_its_bytes_are_cut() {
    let place = Place::new();
    for own_records in [true, false] {
        let acceptor = place.acceptor(own_records);
        for suite in SUITES {
            for cut in [1, 7, 100, usize::MAX] {
                let mut client = place.client(suite);
                let mut finished = shake(&acceptor, &mut client, cut).expect("both want it");
                assert!(!finished.resumed);
                assert_eq!(finished.tls13, suite.tls13().is_some());
                assert_connected(&mut finished.session, &mut client);
            }
        }
    }
}

#[test]
fn a_key_exchange_that_quantum_computers_do_not_break_is_preferred() {
    let place = Place::new();
    let mut client = place.client(SUITES[0]);
    shake(&place.acceptor(true), &mut client, usize::MAX).expect("both want it");
    let group = client.negotiated_key_exchange_group().map(|group| group.name());
    assert_eq!(group, Some(NamedGroup::X25519MLKEM768));
}

/// The library's own client names AES-256 first, browsers AES-128, and a telephone without
/// instructions for AES ChaCha20.
#[test]
fn the_cheap_cipher_is_taken_unless_the_client_would_rather_have_chacha() {
    let place = Place::new();
    for (offers, expected) in [
        (&[1, 0, 2][..], SUITES[0]),
        (&[0, 1, 2], SUITES[0]),
        (&[2, 0, 1], SUITES[2]),
        (&[2, 1, 0], SUITES[2]),
        (&[1, 2], SUITES[1]),
        (&[4, 3, 5], SUITES[3]),
        (&[5, 4, 3], SUITES[5]),
    ] {
        for own_records in [true, false] {
            let mut client = client(place.client_config_of(offers.iter().map(|&at| SUITES[at]).collect()));
            let mut finished = shake(&place.acceptor(own_records), &mut client, usize::MAX).expect("both want it");
            assert_eq!(client.negotiated_cipher_suite(), Some(expected), "{offers:?}");
            assert_connected(&mut finished.session, &mut client);
        }
    }
}

#[test]
fn a_ticket_of_tls_1_3_leaves_with_the_first_answer_and_that_of_1_2_at_once() {
    let place = Place::new();
    for suite in SUITES {
        let mut config = place.client_config(suite);
        config.resumption = Resumption::in_memory_sessions(8);
        let meet = || {
            let mut client = client(config.clone());
            let mut handshake = place.acceptor(true).accept().expect("it can begin");
            while handshake.step() != Step::Done {
                let output = handshake.output().to_vec();
                handshake.sent(output.len());
                tell(&mut client, &output).expect("it understands");
                let said = said_by(&mut client);
                assert_eq!(handshake.receive(&said), said.len());
            }
            assert_eq!(handshake.is_awaited(), suite.tls13().is_none());
            let awaited = if handshake.is_awaited() { handshake.output().to_vec() } else { Vec::new() };
            handshake.sent(awaited.len());
            tell(&mut client, &awaited).expect("it understands");
            let mut finished = handshake.finish().expect("it is done");
            assert!(!finished.session.wants_write(), "nothing that cannot wait");
            assert_eq!(send(&mut finished.session, &mut client, b"hello"), b"hello");
            assert_eq!(finished.session.kept_bytes(), 0);
            finished.resumed
        };
        assert!(!meet(), "{suite:?}");
        assert!(meet(), "{suite:?}");
    }
}

/// Tickets are made of a secret and the day: another acceptor with that secret takes them.
#[test]
fn a_ticket_is_taken_by_a_node_with_the_same_secret_only() {
    let place = Place::new();
    for suite in SUITES {
        let mut config = place.client_config(suite);
        config.resumption = Resumption::in_memory_sessions(8);
        let meet = |secret: &[u8]| {
            let mut client = client(config.clone());
            let mut finished =
                shake(&place.acceptor_with(true, secret), &mut client, usize::MAX).expect("both want it");
            assert_connected(&mut finished.session, &mut client);
            finished.resumed
        };
        assert!(!meet(b"one"), "{suite:?}");
        assert!(meet(b"one"), "{suite:?}");
        assert!(!meet(b"another"), "{suite:?}");
    }
}

/// Early data may be replayed (RFC 8446, section 8): tickets allow none, so that a client that would
/// send some has nothing to send it with.
#[test]
fn no_ticket_lets_a_client_speak_before_the_handshake() {
    let place = Place::new();
    for own_records in [true, false] {
        let mut config = place.client_config(SUITES[0]);
        config.resumption = Resumption::in_memory_sessions(8);
        config.enable_early_data = true;
        let meet = || {
            let mut client = client(config.clone());
            let may_speak = client.early_data().is_some();
            let mut finished = shake(&place.acceptor(own_records), &mut client, usize::MAX).expect("both want it");
            assert_connected(&mut finished.session, &mut client);
            (finished.resumed, may_speak, client.is_early_data_accepted())
        };
        assert_eq!(meet(), (false, false, false));
        assert_eq!(meet(), (true, false, false), "it is resumed, and that is all");
    }
}

/// What a client sends in the same segment as its Finished: data, a key update, the end.
#[test]
fn records_behind_the_finished_are_left_to_the_session() {
    let place = Place::new();
    for own_records in [true, false] {
        let acceptor = place.acceptor(own_records);
        for suite in &SUITES[..3] {
            for rekeys in [false, true] {
                let mut client = place.client(*suite);
                let mut handshake = acceptor.accept().expect("it can begin");
                let hello = said_by(&mut client);
                handshake.receive(&hello);
                assert_eq!(handshake.step(), Step::Wait);
                tell(&mut client, handshake.output()).expect("it is what a server says");
                let flight = handshake.output().len();
                handshake.sent(flight);
                let mut bytes = seal_by_client(&mut client, b"early ");
                if rekeys {
                    client.refresh_traffic_keys().expect("it is TLS 1.3");
                }
                bytes.extend(seal_by_client(&mut client, b"bird"));
                client.send_close_notify();
                bytes.extend(said_by(&mut client));
                assert_eq!(handshake.receive(&bytes), bytes.len());
                let Finished { mut session, unread, .. } = run(&mut handshake, |handshake| {
                    // Middleboxes are soothed first, then comes the Finished.
                    std::mem::replace(handshake, acceptor.accept().expect("it can begin")).finish()
                });
                assert!(unread);
                assert_eq!(open(&mut session, &[]), (b"early bird".to_vec(), Some(End::Closed)));
                // The answer to the key update is due, and of rustls also the tickets.
                assert_eq!(session.wants_write(), rekeys || !own_records);
                assert_eq!(send(&mut session, &mut client, b"answer"), b"answer");
            }
        }
    }
}

fn run(handshake: &mut Handshake, finish: impl FnOnce(&mut Handshake) -> Result<Finished, Failure>) -> Finished {
    loop {
        match handshake.step() {
            Step::More => {}
            Step::Done => return finish(handshake).expect("it is done"),
            other => panic!("{other:?}"),
        }
    }
}

/// The secrets of TLS 1.3 come by a detour that handshakes of one thread share.
#[test]
fn handshakes_that_interleave_do_not_mix_their_secrets() {
    let place = Place::new();
    let acceptor = place.acceptor(true);
    let mut all: Vec<(Handshake, ClientConnection)> =
        (0..30).map(|i| (acceptor.accept().expect("it can begin"), place.client(SUITES[i % SUITES.len()]))).collect();
    let mut done = Vec::new();
    for round in 0.. {
        assert!(round < 10, "{} do not finish", all.len());
        // Each in another order each time.
        all.rotate_left(7);
        for (mut handshake, mut client) in std::mem::take(&mut all) {
            handshake.receive(&said_by(&mut client));
            let step = loop {
                match handshake.step() {
                    Step::More => {}
                    step => break step,
                }
            };
            let output = handshake.output().to_vec();
            handshake.sent(output.len());
            tell(&mut client, &output).expect("it is what a server says");
            match step {
                Step::Wait => all.push((handshake, client)),
                Step::Done => done.push((handshake.finish().expect("it is done").session, client)),
                other => panic!("{other:?}"),
            }
        }
        if all.is_empty() {
            break;
        }
    }
    for (session, client) in &mut done {
        // Only a key update needs the secrets.
        if client.protocol_version() == Some(rustls::ProtocolVersion::TLSv1_3) {
            client.refresh_traffic_keys().expect("it is TLS 1.3");
        }
        assert_connected(session, client);
        assert_connected(session, client);
    }
    assert_eq!(done.len(), 30);
}

#[test]
fn only_http_1_1_is_spoken() {
    let place = Place::new();
    let acceptor = place.acceptor(true);
    for (offered, failure) in [
        (&[][..], None),
        (&[&b"http/1.1"[..]], None),
        (&[&b"h2"[..], b"http/1.1"], None),
        (&[&b"h2"[..]], Some(Failure::Incompatible)),
    ] {
        for suite in [SUITES[0], SUITES[3]] {
            let mut config = place.client_config(suite);
            config.alpn_protocols = offered.iter().map(|name| name.to_vec()).collect();
            let mut client = client(config);
            let outcome = shake(&acceptor, &mut client, usize::MAX);
            assert_eq!(outcome.as_ref().err(), failure.as_ref(), "{offered:?}");
            if failure.is_none() && !offered.is_empty() {
                assert_eq!(client.alpn_protocol(), Some(&b"http/1.1"[..]));
            }
        }
    }
}

#[test]
fn a_client_that_does_not_trust_the_certificate_says_so() {
    let (place, other) = (Place::new(), Place::new());
    for suite in [SUITES[0], SUITES[3]] {
        let mut client = other.client(suite);
        assert_eq!(shake(&place.acceptor(true), &mut client, usize::MAX).err(), Some(Failure::Peer));
    }
}

/// What a handshake makes of bytes, and what it has to say.
fn begin(acceptor: &Acceptor, mut bytes: &[u8]) -> (Step, Vec<u8>) {
    let mut handshake = acceptor.accept().expect("it can begin");
    loop {
        bytes = &bytes[handshake.receive(bytes)..];
        match handshake.step() {
            Step::More => {}
            Step::Wait if !bytes.is_empty() && handshake.room() > 0 => {}
            step => return (step, handshake.output().to_vec()),
        }
    }
}

#[test]
fn beginnings_that_are_none_are_refused() {
    let place = Place::new();
    let acceptor = place.acceptor(true);
    let hello = said_by(&mut place.client(SUITES[0]));
    let failed = |bytes: &[u8]| match begin(&acceptor, bytes) {
        (Step::Failed(failure), output) => (failure, output.first().copied()),
        other => panic!("{other:?}"),
    };
    // No TLS: nothing is said, because it would not be understood.
    assert_eq!(failed(b"GET / HTTP/1.1\r\n\r\n"), (Failure::NotTls(true), None));
    assert_eq!(failed(b"P"), (Failure::NotTls(true), None));
    assert_eq!(failed(b"SSH-2.0-x"), (Failure::NotTls(true), None));
    assert_eq!(failed(b"\x00\x01"), (Failure::NotTls(false), None));
    assert_eq!(failed(b"\x80\x2e\x01\x03\x01"), (Failure::NotTls(false), None));
    assert_eq!(failed(b"\x16\x02\x00"), (Failure::NotTls(false), None));
    // TLS that breaks the rules is told by an alert, a record of type 21.
    assert_eq!(failed(b"\x17\x03\x03\x00\x01x"), (Failure::Misbehaved, Some(21)));
    assert_eq!(failed(b"\x16\x03\x01\xff\xff"), (Failure::Misbehaved, Some(21)));
    assert_eq!(failed(b"\x16\x03\x01\x00\x05\x02\x00\x00\x01\x00"), (Failure::Misbehaved, Some(21)));
    let mut broken = hello.clone();
    broken[6..9].copy_from_slice(&[0, 0, 4]);
    assert_eq!(failed(&broken).0, Failure::Misbehaved);
    // A ClientHello in crumbs, and one that is announced as longer than it may be.
    let crumbs: Vec<u8> = hello[5..].iter().flat_map(|&byte| [22, 3, 1, 0, 1, byte]).collect();
    assert_eq!(failed(&crumbs), (Failure::TooLong, Some(21)));
    let mut endless = vec![22, 3, 1, 0x40, 0, 1, 0, 0xff, 0xff];
    endless.resize(5 + (1 << 14), 0);
    endless.extend(vec![22, 3, 1, 0x40, 0]);
    assert_eq!(failed(&endless), (Failure::TooLong, Some(21)));
    // What is behind the first piece: a type that there is not, and a length that may not be.
    let told = |rest: &[u8]| begin(&acceptor, &[&[22, 3, 1, 0, 1, hello[5]][..], rest].concat()).1;
    assert_eq!(told(b"\x99\x03\x03"), [21, 3, 3, 0, 2, 2, 10], "unexpected_message");
    assert_eq!(told(b"\x16\x03\x01\xff\xff"), [21, 3, 3, 0, 2, 2, 22], "record_overflow");
    // Every start of a ClientHello waits.
    for cut in 0..hello.len() {
        assert_eq!(begin(&acceptor, &hello[..cut]), (Step::Wait, Vec::new()), "cut at {cut}");
    }
    // A few pieces are taken: some clients cut on purpose.
    let pieces: Vec<u8> = hello[5..]
        .chunks(hello.len() / 4)
        .flat_map(|piece| [&[22, 3, 1][..], &(piece.len() as u16).to_be_bytes(), piece].concat())
        .collect();
    assert!(matches!(begin(&acceptor, &pieces), (Step::Wait, output) if !output.is_empty()));
}

#[test]
fn a_handshake_that_is_not_done_is_no_session() {
    let place = Place::new();
    let acceptor = place.acceptor(true);
    assert!(acceptor.accept().expect("it can begin").finish().is_err());
    let mut client = client(place.client_config(SUITES[0]));
    let mut handshake = acceptor.accept().expect("it can begin");
    handshake.receive(&said_by(&mut client));
    handshake.step();
    assert!(handshake.kept_bytes() > 4_000);
    assert!(handshake.finish().is_err());
}

/// A peer that reads nothing is not said more and more: what does not leave stays with the caller.
#[test]
fn a_socket_that_takes_nothing_has_one_send_kept() {
    let place = Place::new();
    for own_records in [true, false] {
        let mut client = place.client(SUITES[0]);
        let mut session = shake(&place.acceptor(own_records), &mut client, usize::MAX).expect("both want it").session;
        let (words, mut out) = (vec![b'x'; 1000], support::outgoing());
        // The handshake's own rest leaves first.
        let due = session.seal(&[], &mut out);
        let mut heard = due.bytes().to_vec();
        due.sent(heard.len());
        let done: usize = (0..100).map(|_| session.seal(&words, &mut out).sent(0)).sum();
        assert!(done <= words.len(), "{done} bytes are taken, {} kept", session.kept_bytes());
        assert!(session.kept_bytes() < 2 * words.len() + 1000, "{} bytes", session.kept_bytes());
        // It goes on with what was not done.
        let mut said = done;
        while said < 5000 || session.wants_write() {
            let sealed = session.seal(&words[..(5000 - said).min(words.len())], &mut out);
            heard.extend_from_slice(sealed.bytes());
            let len = sealed.bytes().len();
            said += sealed.sent(len);
        }
        assert_eq!(tell(&mut client, &heard).expect("a server's words"), vec![b'x'; 5000], "{own_records}");
    }
}
