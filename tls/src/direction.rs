//! One direction of a connection: its key, its sequence number, and one record at a time.
//!
//! Owns: nonces. A nonce is `iv xor sequence number`, and a sequence number moves on with each
//! record.
//! Never: knows what a record means.
//! Bounds: records of 2^14 bytes of plaintext.

use aws_lc_rs::aead::{Aad, LessSafeKey, Nonce, UnboundKey};

use crate::alert::Alert;
use crate::limits::{RECORD_EXPANSION_BYTES_MAX, RECORD_HEADER_BYTES, RECORD_PLAIN_BYTES_MAX};
use crate::suite::{NONCE_BYTES, Suite, TAG_BYTES, advance};

/// Content types (RFC 8446, section 5.1).
pub(crate) mod content {
    /// The middlebox's friend; means nothing after the handshake.
    pub(crate) const CHANGE_CIPHER_SPEC: u8 = 20;
    /// See [`crate::alert`].
    pub(crate) const ALERT: u8 = 21;
    /// Messages of the handshake, and key updates.
    pub(crate) const HANDSHAKE: u8 = 22;
    /// What it is all for.
    pub(crate) const DATA: u8 = 23;
}

/// Borrowed state of one direction.
pub(crate) struct Direction<'a> {
    pub(crate) suite: Suite,
    /// The number of the next record, in network order: as bytes, so that the state has no padding.
    pub(crate) sequence: &'a mut [u8; 8],
    pub(crate) iv: &'a mut [u8; NONCE_BYTES],
    pub(crate) key: &'a mut [u8],
    pub(crate) secret: &'a mut [u8],
}

/// What the header at the start of `bytes` says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Framing {
    /// The record is not whole.
    Incomplete,
    /// It has so many bytes, header included.
    Whole(usize),
    /// Nothing that could come here.
    Wrong(Alert),
}

/// A record that was opened: its content type, and where its plaintext lies in it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Content {
    pub(crate) kind: u8,
    pub(crate) from: usize,
    pub(crate) to: usize,
}

impl Direction<'_> {
    /// The expanded key. Made anew for each batch: kept ones cost more in cache misses than this
    /// costs in cycles.
    pub(crate) fn expanded(&self) -> LessSafeKey {
        let key = UnboundKey::new(self.suite.algorithm(), self.key).expect("a key has its suite's length");
        LessSafeKey::new(key)
    }

    /// The number of the next record.
    pub(crate) const fn sequence(&self) -> u64 {
        u64::from_be_bytes(*self.sequence)
    }

    /// Takes `records` back, of which nobody has seen a byte.
    pub(crate) fn rewind(&mut self, records: u64) {
        *self.sequence = self.sequence().saturating_sub(records).to_be_bytes();
    }

    fn step(&mut self) {
        *self.sequence = self.sequence().wrapping_add(1).to_be_bytes();
    }

    /// Goes on with the next key (RFC 8446, section 4.6.3).
    pub(crate) fn update(&mut self) {
        advance(self.suite, self.secret, self.key, self.iv);
        *self.sequence = [0; 8];
    }

    /// Appends one record to `out`.
    pub(crate) fn seal(&mut self, key: &LessSafeKey, kind: u8, plain: &[u8], out: &mut Vec<u8>) {
        debug_assert!(plain.len() <= RECORD_PLAIN_BYTES_MAX);
        let nonce = xor(self.iv, *self.sequence);
        let length = self.suite.overhead_bytes() - RECORD_HEADER_BYTES + plain.len();
        let [high, low] = u16::try_from(length).unwrap_or_default().to_be_bytes();
        let tls13 = self.suite.is_tls13();
        let header = [if tls13 { content::DATA } else { kind }, 3, 3, high, low];
        out.extend_from_slice(&header);
        out.extend_from_slice(&nonce[NONCE_BYTES - self.suite.explicit_nonce_bytes()..]);
        let start = out.len();
        out.extend_from_slice(plain);
        if tls13 {
            out.push(kind);
        }
        let nonce = Nonce::assume_unique_for_key(nonce);
        let body = &mut out[start..];
        let sealed = if tls13 {
            key.seal_in_place_separate_tag(nonce, Aad::from(header), body)
        } else {
            key.seal_in_place_separate_tag(nonce, self.additional_data(kind, plain.len()), body)
        };
        out.extend_from_slice(sealed.expect("a record is far below the bound of its cipher").as_ref());
        self.step();
    }

    /// What the header at the start of `bytes` says. Wrong ones are found before the record is
    /// whole.
    pub(crate) fn framing(&self, bytes: &[u8]) -> Framing {
        let &[kind, major, minor, high, low, ..] = bytes else { return Framing::Incomplete };
        let length = usize::from(u16::from_be_bytes([high, low]));
        if self.suite.is_tls13() {
            // Also a change_cipher_spec, which may only come during the handshake.
            if kind != content::DATA {
                return Framing::Wrong(Alert::UnexpectedMessage);
            }
        } else if !(content::CHANGE_CIPHER_SPEC..=content::DATA).contains(&kind) {
            return Framing::Wrong(Alert::UnexpectedMessage);
        } else if (major, minor) != (3, 3) {
            return Framing::Wrong(Alert::ProtocolVersion);
        }
        if length > RECORD_PLAIN_BYTES_MAX + RECORD_EXPANSION_BYTES_MAX {
            return Framing::Wrong(Alert::RecordOverflow);
        }
        if length < self.suite.explicit_nonce_bytes() + TAG_BYTES {
            return Framing::Wrong(Alert::BadRecordMac);
        }
        let whole = RECORD_HEADER_BYTES + length;
        if bytes.len() < whole { Framing::Incomplete } else { Framing::Whole(whole) }
    }

    /// Opens one whole record in place.
    ///
    /// # Errors
    /// The alert that the peer deserves. The connection is over then.
    pub(crate) fn open(&mut self, key: &LessSafeKey, record: &mut [u8]) -> Result<Content, Alert> {
        let content = if self.suite.is_tls13() { self.open_tls13(key, record) } else { self.open_tls12(key, record) }?;
        if content.to - content.from > RECORD_PLAIN_BYTES_MAX {
            return Err(Alert::RecordOverflow);
        }
        self.step();
        Ok(content)
    }

    fn open_tls13(&self, key: &LessSafeKey, record: &mut [u8]) -> Result<Content, Alert> {
        let (header, body) = record.split_first_chunk_mut::<RECORD_HEADER_BYTES>().ok_or(Alert::DecodeError)?;
        let nonce = Nonce::assume_unique_for_key(xor(self.iv, *self.sequence));
        let inner = key.open_in_place(nonce, Aad::from(*header), body).map_err(|_| Alert::BadRecordMac)?;
        if inner.len() > RECORD_PLAIN_BYTES_MAX + 1 {
            return Err(Alert::RecordOverflow);
        }
        // The type is the last byte that is not padding.
        let at = inner.iter().rposition(|&byte| byte != 0).ok_or(Alert::UnexpectedMessage)?;
        let kind = inner.get(at).copied().unwrap_or_default();
        Ok(Content { kind, from: RECORD_HEADER_BYTES, to: RECORD_HEADER_BYTES + at })
    }

    fn open_tls12(&self, key: &LessSafeKey, record: &mut [u8]) -> Result<Content, Alert> {
        let explicit = self.suite.explicit_nonce_bytes();
        let from = RECORD_HEADER_BYTES + explicit;
        let kind = record.first().copied().unwrap_or_default();
        let length = record.len().checked_sub(from + TAG_BYTES).ok_or(Alert::BadRecordMac)?;
        let mut nonce = xor(self.iv, *self.sequence);
        if explicit > 0 {
            nonce = *self.iv;
            // The peer chooses this part itself; it need not be the sequence number.
            nonce[NONCE_BYTES - explicit..].copy_from_slice(&record[RECORD_HEADER_BYTES..from]);
        }
        let aad = self.additional_data(kind, length);
        key.open_in_place(Nonce::assume_unique_for_key(nonce), aad, &mut record[from..])
            .map_err(|_| Alert::BadRecordMac)?;
        Ok(Content { kind, from, to: from + length })
    }

    /// What a TLS 1.2 record is authenticated with (RFC 5246, section 6.2.3.3).
    fn additional_data(&self, kind: u8, length: usize) -> Aad<[u8; 13]> {
        let [high, low] = u16::try_from(length).unwrap_or_default().to_be_bytes();
        let mut aad = [0; 13];
        aad[..8].copy_from_slice(self.sequence);
        aad[8..].copy_from_slice(&[kind, 3, 3, high, low]);
        Aad::from(aad)
    }
}

fn xor(iv: &[u8; NONCE_BYTES], sequence: [u8; 8]) -> [u8; NONCE_BYTES] {
    let mut nonce = *iv;
    for (byte, number) in nonce[NONCE_BYTES - 8..].iter_mut().zip(sequence) {
        *byte ^= number;
    }
    nonce
}
