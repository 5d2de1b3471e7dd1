//! Records that no client sends, sealed here with keys that both know: each is refused as the
//! standards say, and none does harm.

mod support;

use aws_lc_rs::aead::{AES_128_GCM, AES_256_GCM, Aad, Algorithm, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::hmac;
use imgate_tls::limits::RECORD_WIRE_BYTES_MAX;
use imgate_tls::{Alert, End, Records, Secrets, Session, Suite};
use rustls::ConnectionTrafficSecrets;
use rustls::crypto::aws_lc_rs::cipher_suite;
use support::{Place, open, open_in_minute, outgoing, shake};

const CCS: u8 = 20;
const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
const DATA: u8 = 23;

/// A peer that knows the keys and obeys no rule: an implementation of its own, for one direction.
struct Attacker {
    suite: Suite,
    key: Vec<u8>,
    iv: [u8; 12],
    secret: Vec<u8>,
    sequence: u64,
}

impl Attacker {
    fn algorithm(&self) -> &'static Algorithm {
        match self.suite {
            Suite::Tls13Aes128 | Suite::Tls12Aes128 => &AES_128_GCM,
            Suite::Tls13Aes256 | Suite::Tls12Aes256 => &AES_256_GCM,
            Suite::Tls13ChaCha | Suite::Tls12ChaCha => &CHACHA20_POLY1305,
        }
    }

    fn key(&self) -> LessSafeKey {
        LessSafeKey::new(UnboundKey::new(self.algorithm(), &self.key).expect("it has its length"))
    }

    fn nonce(&self) -> [u8; 12] {
        let mut nonce = self.iv;
        for (byte, number) in nonce[4..].iter_mut().zip(self.sequence.to_be_bytes()) {
            *byte ^= number;
        }
        nonce
    }

    /// A record of `kind` with `plain`, as the standards want it.
    fn seal(&mut self, kind: u8, plain: &[u8]) -> Vec<u8> {
        self.seal_padded(kind, plain, 0)
    }

    /// The same with padding, of TLS 1.3.
    fn seal_padded(&mut self, kind: u8, plain: &[u8], padding: usize) -> Vec<u8> {
        if self.suite.is_tls13() {
            let mut inner = plain.to_vec();
            inner.push(kind);
            inner.resize(inner.len() + padding, 0);
            return self.seal_inner(&inner, [DATA, 3, 3]);
        }
        let gcm = self.suite != Suite::Tls12ChaCha;
        let (mut body, nonce) = (plain.to_vec(), self.nonce());
        let mut aad = self.sequence.to_be_bytes().to_vec();
        aad.extend([kind, 3, 3]);
        aad.extend((plain.len() as u16).to_be_bytes());
        self.key()
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(aad), &mut body)
            .expect("it is short enough");
        self.sequence += 1;
        let explicit = if gcm { &nonce[4..] } else { &[] };
        let mut record = vec![kind, 3, 3];
        record.extend(((explicit.len() + body.len()) as u16).to_be_bytes());
        record.extend(explicit);
        record.extend(body);
        record
    }

    /// A TLS 1.3 record with anything inside.
    fn seal_inner(&mut self, inner: &[u8], header: [u8; 3]) -> Vec<u8> {
        let mut body = inner.to_vec();
        let mut record = header.to_vec();
        record.extend(((inner.len() + 16) as u16).to_be_bytes());
        self.key()
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(self.nonce()), Aad::from(&record), &mut body)
            .expect("it is short enough");
        self.sequence += 1;
        record.extend(body);
        record
    }

    /// HKDF-Expand-Label with an HMAC, as RFC 5869 and RFC 8446 write it.
    fn derive(&self, label: &str, length: usize) -> Vec<u8> {
        let algorithm = if self.suite == Suite::Tls13Aes256 { hmac::HMAC_SHA384 } else { hmac::HMAC_SHA256 };
        let mut info = (length as u16).to_be_bytes().to_vec();
        info.push(6 + label.len() as u8);
        info.extend(b"tls13 ");
        info.extend(label.as_bytes());
        info.extend([0, 1]);
        let key = hmac::Key::new(algorithm, &self.secret);
        hmac::sign(&key, &info).as_ref()[..length].to_vec()
    }

    fn update_keys(&mut self) {
        self.secret = self.derive("traffic upd", self.secret.len());
        self.key = self.derive("key", self.key.len());
        self.iv = self.derive("iv", 12).try_into().expect("it is as long as asked");
        self.sequence = 0;
    }

    /// A key update, and the new key.
    fn rekey(&mut self, asks: u8) -> Vec<u8> {
        let record = self.seal(HANDSHAKE, &[24, 0, 0, 1, asks]);
        self.update_keys();
        record
    }
}

/// Both ends of a connection with invented keys.
fn meet(suite: Suite) -> (Session, Attacker) {
    meet_at(suite, 3)
}

fn meet_at(suite: Suite, sequence: u64) -> (Session, Attacker) {
    let (key, secret) = (vec![7; suite.key_bytes()], vec![9; suite.secret_bytes()]);
    let iv = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12];
    let receive = Secrets { sequence, iv, key: &key, secret: &secret };
    let send = Secrets { sequence: 0, iv: [5; 12], key: &key, secret: &secret };
    let session = Records::new(suite, send, receive).expect("the lengths are those of the suite").into();
    (session, Attacker { suite, key, iv, secret, sequence })
}

fn tls13() -> impl Iterator<Item = Suite> {
    Suite::ALL.into_iter().filter(|suite| suite.is_tls13())
}

fn tls12() -> impl Iterator<Item = Suite> {
    Suite::ALL.into_iter().filter(|suite| !suite.is_tls13())
}

/// The session refuses `bytes` with `alert`, says so, reads nothing more and says nothing more.
fn assert_refused(mut session: Session, bytes: &[u8], alert: Alert) {
    let (plain, end) = open(&mut session, bytes);
    assert_eq!((plain.len(), end), (0, Some(End::Refused(alert))));
    assert_eq!(open(&mut session, bytes).0, b"", "it is over");
    let mut out = outgoing();
    let sealed = session.seal(b"data", &mut out);
    assert!(sealed.refused().is_some());
    // One record with two bytes: the alert.
    let length = sealed.bytes().len();
    assert!((5 + 2 + 16..=5 + 8 + 2 + 16).contains(&length), "{length} bytes");
    sealed.sent(length);
    assert!(!session.wants_write());
    assert_eq!(session.seal(&[], &mut out).bytes(), b"");
}

#[test]
fn both_implementations_agree() {
    for suite in Suite::ALL {
        let (mut session, mut attacker) = meet(suite);
        for plain in [&b"hello"[..], &[0; 300], &[0xff; 1 << 14]] {
            let record = attacker.seal(DATA, plain);
            for piece in record.chunks(1 + record.len() / 3) {
                let (heard, end) = open(&mut session, piece);
                assert_eq!(end, None);
                assert!(heard.is_empty() || heard == plain);
            }
            assert_eq!(session.kept_bytes(), 0);
        }
    }
}

#[test]
fn a_record_that_was_touched_anywhere_is_refused() {
    for suite in Suite::ALL {
        let record = meet(suite).1.seal(DATA, b"hello");
        for at in 5..record.len() {
            let (session, _) = meet(suite);
            let mut touched = record.clone();
            touched[at] ^= 0x10;
            assert_refused(session, &touched, Alert::BadRecordMac);
        }
    }
}

#[test]
fn a_record_that_comes_twice_or_too_early_is_refused() {
    for suite in Suite::ALL {
        let (mut session, mut attacker) = meet(suite);
        let (first, second) = (attacker.seal(DATA, b"one"), attacker.seal(DATA, b"two"));
        assert_refused(meet(suite).0, &second, Alert::BadRecordMac);
        assert_eq!(open(&mut session, &first), (b"one".to_vec(), None));
        assert_refused(session, &first, Alert::BadRecordMac);
    }
}

#[test]
fn what_was_heard_before_a_bad_record_is_given() {
    for suite in Suite::ALL {
        let (mut session, mut attacker) = meet(suite);
        let mut bytes = attacker.seal(DATA, b"one");
        bytes.extend(attacker.seal(DATA, b"two"));
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        assert_eq!(open(&mut session, &bytes), (b"one".to_vec(), Some(End::Refused(Alert::BadRecordMac))));
    }
}

#[test]
fn lengths_that_cannot_be_are_refused_by_the_header_alone() {
    for suite in Suite::ALL {
        let too_long = ((1u16 << 14) + 257).to_be_bytes();
        assert_refused(meet(suite).0, &[DATA, 3, 3, too_long[0], too_long[1]], Alert::RecordOverflow);
        assert_refused(meet(suite).0, &[DATA, 3, 3, 0xff, 0xff], Alert::RecordOverflow);
        for length in [0, 1, 15] {
            assert_refused(meet(suite).0, &[DATA, 3, 3, 0, length], Alert::BadRecordMac);
        }
    }
}

#[test]
fn plaintext_beyond_its_bound_is_refused_although_it_is_authentic() {
    for suite in Suite::ALL {
        let (session, mut attacker) = meet(suite);
        assert_refused(session, &attacker.seal(DATA, &vec![1; (1 << 14) + 1]), Alert::RecordOverflow);
    }
    for suite in tls13() {
        // Padding counts as well (RFC 8446, section 5.4).
        let (session, mut attacker) = meet(suite);
        assert_refused(session, &attacker.seal_padded(DATA, b"x", 1 << 14), Alert::RecordOverflow);
        let (mut session, mut attacker) = meet(suite);
        assert_eq!(open(&mut session, &attacker.seal_padded(DATA, b"x", (1 << 14) - 1)), (b"x".to_vec(), None));
    }
}

#[test]
fn a_record_without_a_type_is_refused() {
    for suite in tls13() {
        for inner in [&[][..], &[0], &[0; 400]] {
            let (session, mut attacker) = meet(suite);
            let record = attacker.seal_inner(inner, [DATA, 3, 3]);
            assert_refused(session, &record, Alert::UnexpectedMessage);
        }
    }
}

#[test]
fn other_types_are_refused() {
    for suite in Suite::ALL {
        for kind in [0, CCS, 24, 99] {
            let (session, mut attacker) = meet(suite);
            if kind != 0 {
                assert_refused(session, &attacker.seal(kind, &[1]), Alert::UnexpectedMessage);
            }
            // In the clear, as during a handshake.
            assert_refused(
                meet(suite).0,
                &[kind, 3, 3, 0, 1, 1],
                if kind == CCS && !suite.is_tls13() { Alert::BadRecordMac } else { Alert::UnexpectedMessage },
            );
        }
        // An alert in the clear could come from anybody.
        let alert = if suite.is_tls13() { Alert::UnexpectedMessage } else { Alert::BadRecordMac };
        assert_refused(meet(suite).0, &[ALERT, 3, 3, 0, 2, 1, 0], alert);
    }
}

#[test]
fn the_version_of_a_record_means_something_only_in_tls_1_2() {
    for suite in tls12() {
        let (session, mut attacker) = meet(suite);
        let mut record = attacker.seal(DATA, b"x");
        record[2] = 1;
        assert_refused(session, &record, Alert::ProtocolVersion);
    }
    for suite in tls13() {
        let (mut session, mut attacker) = meet(suite);
        let record = attacker.seal_inner(b"x\x17", [DATA, 3, 1]);
        assert_eq!(open(&mut session, &record), (b"x".to_vec(), None));
    }
}

#[test]
fn empty_records_are_borne_until_they_are_a_flood() {
    for suite in Suite::ALL {
        let (mut session, mut attacker) = meet(suite);
        for _ in 0..32 {
            assert_eq!(open(&mut session, &attacker.seal(DATA, b"")), (Vec::new(), None));
        }
        // One that says something makes up for one that does not, for as long as one likes.
        for _ in 0..100 {
            assert_eq!(open(&mut session, &attacker.seal(DATA, b"x")), (b"x".to_vec(), None));
            assert_eq!(open(&mut session, &attacker.seal(DATA, b"")), (Vec::new(), None));
        }
        assert_refused(session, &attacker.seal(DATA, b""), Alert::UnexpectedMessage);
    }
}

#[test]
fn a_message_spread_over_records_is_not_kept_beyond_one_record() {
    let place = Place::new();
    for suite in [cipher_suite::TLS13_AES_128_GCM_SHA256, cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256] {
        let mut config = place.client_config(suite);
        config.enable_secret_extraction = true;
        let mut client = support::client(config);
        // rustls' own records, which keep all of a message until it is whole.
        let mut session = shake(&place.acceptor(false), &mut client, usize::MAX).expect("both want it").session;
        let (sequence, secrets) = client.dangerous_extract_secrets().expect("the handshake is done").tx;
        let ConnectionTrafficSecrets::Aes128Gcm { key, iv } = secrets else { panic!("another suite") };
        let tls13 = suite.tls13().is_some();
        let suite = if tls13 { Suite::Tls13Aes128 } else { Suite::Tls12Aes128 };
        let iv = iv.as_ref().try_into().expect("twelve bytes");
        let mut attacker = Attacker { suite, key: key.as_ref().to_vec(), iv, secret: Vec::new(), sequence };
        // A key update or a ClientHello that says it has 60,000 bytes.
        let mut message = vec![if tls13 { 24 } else { 1 }, 0, 0xea, 0x60];
        message.resize(60_004, 0);
        let ends: Vec<_> =
            message.chunks(10_000).map(|piece| open(&mut session, &attacker.seal(HANDSHAKE, piece)).1).collect();
        assert!(ends[2..].iter().all(Option::is_some), "{ends:?}");
        assert!(session.kept_bytes() < 2 * RECORD_WIRE_BYTES_MAX, "{} bytes", session.kept_bytes());
        session.close();
        let mut out = outgoing();
        assert_eq!(session.seal(b"data", &mut out).refused(), Some(imgate_tls::SealError::Finished));
        assert!(session.seal(&[], &mut out).bytes().is_empty());
    }
}

#[test]
fn key_updates_are_followed_and_answered_once() {
    for suite in tls13() {
        let (mut session, mut attacker) = meet(suite);
        let mut bytes = attacker.seal(DATA, b"old ");
        bytes.extend(attacker.rekey(1));
        bytes.extend(attacker.seal(DATA, b"new "));
        bytes.extend(attacker.rekey(1));
        bytes.extend(attacker.rekey(0));
        bytes.extend(attacker.seal(DATA, b"newest"));
        assert_eq!(open(&mut session, &bytes), (b"old new newest".to_vec(), None));
        assert!(session.wants_write());
        let mut out = outgoing();
        let sealed = session.seal(&[], &mut out);
        assert_eq!(sealed.bytes().len(), 5 + 5 + 1 + 16, "one answer for all");
        let length = sealed.bytes().len();
        sealed.sent(length);
        assert!(!session.wants_write());
    }
}

#[test]
fn key_updates_are_a_flood_when_there_are_more_than_sixteen_in_a_minute() {
    for suite in tls13() {
        let (mut session, mut attacker) = meet(suite);
        for minute in 0..300 {
            for _ in 0..16 {
                assert_eq!(open_in_minute(&mut session, &attacker.rekey(0), minute), (Vec::new(), None));
            }
        }
        let (_, end) = open_in_minute(&mut session, &attacker.rekey(0), 299);
        assert_eq!(end, Some(End::Refused(Alert::UnexpectedMessage)));
    }
}

#[test]
fn a_key_update_may_be_spread_over_records_and_nothing_may_come_between() {
    for suite in tls13() {
        let (mut session, mut attacker) = meet(suite);
        for piece in [&[24][..], &[0, 0], &[1], &[0]] {
            assert_eq!(open(&mut session, &attacker.seal(HANDSHAKE, piece)), (Vec::new(), None));
        }
        attacker.update_keys();
        assert_eq!(open(&mut session, &attacker.seal(DATA, b"new")), (b"new".to_vec(), None));
        assert_eq!(session.kept_bytes(), 0);
        for (kind, plain) in [(DATA, &b"x"[..]), (ALERT, &[1, 0])] {
            let (mut session, mut attacker) = meet(suite);
            assert_eq!(open(&mut session, &attacker.seal(HANDSHAKE, &[24, 0])), (Vec::new(), None));
            let (_, end) = open(&mut session, &attacker.seal(kind, plain));
            assert_eq!(end, Some(End::Refused(Alert::UnexpectedMessage)));
        }
    }
}

#[test]
fn key_updates_that_are_none_are_refused() {
    for suite in tls13() {
        for (message, alert) in [
            (&[24, 0, 0, 1, 2][..], Alert::IllegalParameter),
            (&[24, 0, 0, 0], Alert::DecodeError),
            (&[24, 0, 0, 2, 0], Alert::DecodeError),
            (&[24, 1, 0, 1, 0], Alert::DecodeError),
            (&[24, 0, 0, 1, 0, 24, 0, 0, 1, 0], Alert::UnexpectedMessage),
            (&[], Alert::UnexpectedMessage),
        ] {
            let (session, mut attacker) = meet(suite);
            assert_refused(session, &attacker.seal(HANDSHAKE, message), alert);
        }
    }
    for suite in tls12() {
        let (session, mut attacker) = meet(suite);
        assert_refused(session, &attacker.seal(HANDSHAKE, &[24, 0, 0, 1, 0]), Alert::UnexpectedMessage);
    }
}

#[test]
fn handshake_messages_after_the_handshake_are_refused() {
    for suite in Suite::ALL {
        // ClientHello, NewSessionTicket, Certificate, Finished.
        for message in [1, 4, 11, 20] {
            let (session, mut attacker) = meet(suite);
            let alert =
                if message == 1 && !suite.is_tls13() { Alert::NoRenegotiation } else { Alert::UnexpectedMessage };
            assert_refused(session, &attacker.seal(HANDSHAKE, &[message, 0, 0, 1, 0]), alert);
        }
    }
}

#[test]
fn alerts_end_the_connection_or_mean_nothing() {
    for suite in Suite::ALL {
        for (alert, end) in [
            (&[1, 0][..], Some(End::Closed)),
            (&[2, 0], Some(End::Closed)),
            (&[2, 48], Some(End::Alert(48))),
            (&[1, 100], (suite.is_tls13()).then_some(End::Alert(100))),
            (&[2, 255], Some(End::Alert(255))),
            (&[1, 90], None),
            (&[1], Some(End::Refused(Alert::DecodeError))),
            (&[1, 0, 1, 0], Some(End::Refused(Alert::DecodeError))),
            (&[], Some(End::Refused(Alert::DecodeError))),
        ] {
            let (mut session, mut attacker) = meet(suite);
            assert_eq!(open(&mut session, &attacker.seal(ALERT, alert)), (Vec::new(), end), "{alert:?}");
        }
        // Those that mean nothing count as records that say nothing.
        let (session, mut attacker) = meet(suite);
        let flood: Vec<u8> = (0..33).flat_map(|_| attacker.seal(ALERT, &[1, 90])).collect();
        assert_refused(session, &flood, Alert::UnexpectedMessage);
    }
}

#[test]
fn nothing_is_heard_behind_a_close_notify() {
    for suite in Suite::ALL {
        let (mut session, mut attacker) = meet(suite);
        let mut bytes = attacker.seal(DATA, b"last");
        bytes.extend(attacker.seal(ALERT, &[1, 0]));
        bytes.extend(attacker.seal(DATA, b"never"));
        assert_eq!(open(&mut session, &bytes), (b"last".to_vec(), Some(End::Closed)));
        assert_eq!(open(&mut session, &attacker.seal(DATA, b"never")), (Vec::new(), Some(End::Closed)));
        assert_eq!(session.kept_bytes(), 0);
        // The other direction is open still.
        assert_eq!(session.seal(b"an answer", &mut outgoing()).refused(), None);
    }
}

#[test]
fn sequence_numbers_go_on_beyond_four_bytes() {
    for suite in Suite::ALL {
        let (mut session, mut attacker) = meet_at(suite, u64::from(u32::MAX) - 1);
        for _ in 0..4 {
            assert_eq!(open(&mut session, &attacker.seal(DATA, b"x")), (b"x".to_vec(), None));
        }
    }
}

/// The worst that a record layer can do: two plaintexts under one nonce. Whatever the socket takes,
/// the bytes on the wire are those of records that the peer opens in order.
#[test]
fn no_sequence_number_is_sent_with_two_plaintexts() {
    use std::collections::HashSet;
    for suite in Suite::ALL {
        let mut out = outgoing();
        for room in [4, 5, 21, 22, 23, 1000, 16_405, 16_406, 16_407, 16_413, 40_000] {
            let (mut session, _) = meet(suite);
            // Four records, or two: sealing them for each byte takes long.
            let all = if room < 1000 { 17_000 } else { 50_000 };
            let (mut wire, mut at, mut attempt) = (Vec::new(), 0, 0u8);
            while at < all || session.wants_write() {
                // What was not accepted is offered again with another text: a session may have more
                // to say by then.
                attempt = attempt.wrapping_add(1);
                let plain = vec![attempt; all - at];
                let sealed = session.seal(&plain, &mut out);
                let sent = room.min(sealed.bytes().len());
                wire.extend_from_slice(&sealed.bytes()[..sent]);
                at += sealed.sent(sent);
            }
            // The same records, opened by the other implementation in order: each number once, as one
            // opens under its own alone. Where the nonce is on the wire, no two are alike.
            let mut peer =
                Attacker { suite, key: vec![7; suite.key_bytes()], iv: [5; 12], secret: vec![], sequence: 0 };
            let (mut rest, mut heard, mut nonces) = (&wire[..], 0, HashSet::new());
            while !rest.is_empty() {
                let length = 5 + usize::from(u16::from_be_bytes([rest[3], rest[4]]));
                let (record, after) = rest.split_at(length);
                heard += peer.open(record);
                let is_on_the_wire = !suite.is_tls13() && suite != Suite::Tls12ChaCha;
                assert!(!is_on_the_wire || nonces.insert(&record[5..13]), "a nonce came twice");
                rest = after;
            }
            assert_eq!(heard, all, "{suite:?}, {room} bytes at a time");
        }
    }
}

impl Attacker {
    /// Opens a record of data; answers the bytes of its plaintext.
    fn open(&mut self, record: &[u8]) -> usize {
        let (header, body) = record.split_at(5);
        let mut nonce = self.nonce();
        let mut body = body.to_vec();
        let plain = if self.suite.is_tls13() {
            let aad = Aad::from(header.to_vec());
            self.key().open_in_place(Nonce::assume_unique_for_key(nonce), aad, &mut body).map(|plain| plain.len() - 1)
        } else {
            if self.suite != Suite::Tls12ChaCha {
                nonce[4..].copy_from_slice(&body[..8]);
                body.drain(..8);
            }
            let mut aad = self.sequence.to_be_bytes().to_vec();
            aad.extend([DATA, 3, 3]);
            aad.extend((body.len() as u16 - 16).to_be_bytes());
            let key = self.key();
            key.open_in_place(Nonce::assume_unique_for_key(nonce), Aad::from(aad), &mut body).map(|plain| plain.len())
        };
        self.sequence += 1;
        plain.expect("the record is authentic under the next number")
    }
}
