//! Sealing: plaintext to ciphertext that a socket may take in part.
//!
//! Owns: the account of a send ([`Outgoing`]): which bytes are control, which record the socket
//! cut.
//! Never: sends one sequence number with two plaintexts. A record of which nothing left is taken
//! back by setting the number back, its ciphertext was seen by nobody; of a record that was cut the
//! rest is kept, and leaves first.
//! Bounds: at most one record's rest is kept, besides control records.

use crate::alert::Alert;
use crate::direction::content;
use crate::limits::{KEY_UPDATES_PER_MINUTE_MAX, RECORD_OVERHEAD_BYTES_MAX, RECORD_PLAIN_BYTES_MAX};
use crate::records::{KeyLife, Records, View};

/// The ciphertext of one send, in a buffer that is used again for the next.
#[derive(Debug)]
pub struct Outgoing {
    bytes: Vec<u8>,
    /// Bytes in front of the data: the rest of an earlier record, and records of control.
    control: usize,
    /// Bytes of plaintext behind them.
    plain: usize,
    life: KeyLife,
}

impl Outgoing {
    /// A buffer that holds `plain` bytes of plaintext when they are sealed, by keys that live so
    /// long.
    #[must_use]
    pub fn new(plain: usize, life: KeyLife) -> Self {
        let records = plain.div_ceil(RECORD_PLAIN_BYTES_MAX) + 3;
        let bytes = Vec::with_capacity(plain + records * RECORD_OVERHEAD_BYTES_MAX);
        Self { bytes, control: 0, plain: 0, life }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(crate) fn begin(&mut self) -> &mut Vec<u8> {
        self.bytes.clear();
        (self.control, self.plain) = (0, 0);
        &mut self.bytes
    }

    /// What was begun is all control.
    pub(crate) fn end_control(&mut self) {
        self.control = self.bytes.len();
    }

    /// Appends what another has sealed of `plain` bytes.
    pub(crate) fn append(&mut self, sealed: &mut Vec<u8>, plain: usize) {
        self.bytes.append(sealed);
        self.plain = plain;
    }

    pub(crate) const fn plaintext(&self) -> usize {
        self.plain
    }
}

/// Why plaintext cannot be sealed. Control records still can.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SealError {
    /// A close_notify or another alert is due or was sent: nothing may follow it.
    #[error("the connection has said its last word")]
    Finished,
    /// A TLS 1.2 key has sealed what it may, and cannot be replaced. A close_notify is due.
    #[error("the key is used up")]
    Exhausted,
}

impl Records {
    /// Seals what is due and then `plain` into `out`.
    pub(crate) fn seal(&mut self, plain: &[u8], out: &mut Outgoing) -> Result<(), SealError> {
        let mut view = self.view();
        let (records, life) = (records_of(plain.len()), out.life);
        let result = view.judge(plain, records, life);
        let bytes = out.begin();
        if let Some(rest) = view.rest.as_deref_mut() {
            bytes.append(&mut rest.unsent);
            rest.patient = false;
        }
        view.seal_control(records, life, bytes);
        out.end_control();
        if result.is_ok() && !plain.is_empty() {
            let key = view.send.expanded();
            for piece in plain.chunks(RECORD_PLAIN_BYTES_MAX) {
                view.send.seal(&key, content::DATA, piece, &mut out.bytes);
            }
            out.plain = plain.len();
        }
        result
    }

    /// The socket has taken `sent` bytes of `out`. Answers how many bytes of plaintext are done
    /// with, whether or not their ciphertext has left.
    pub(crate) fn settle(&mut self, out: &Outgoing, sent: usize) -> usize {
        let mut view = self.view();
        let (kept, plain, taken_back) = cut(out, sent, view.duties.suite.overhead_bytes());
        view.send.rewind(taken_back);
        if !kept.is_empty() {
            view.keeper().unsent = kept.to_vec();
        } else if view.rest.is_some() {
            view.tidy();
        }
        plain
    }
}

/// What a send of `sent` bytes means: the bytes that must be kept, the plaintext that is done with,
/// and the records to be taken back.
fn cut(out: &Outgoing, sent: usize, overhead: usize) -> (&[u8], usize, u64) {
    let whole = out.bytes.len();
    if sent >= whole {
        return (&[], out.plain, 0);
    }
    let records = records_of(out.plain);
    if sent <= out.control {
        return (out.bytes.get(sent..out.control).unwrap_or_default(), 0, records);
    }
    let size = RECORD_PLAIN_BYTES_MAX + overhead;
    // Records that have left as a whole or were begun.
    let begun = (sent - out.control).div_ceil(size);
    let end = whole.min(out.control + begun * size);
    let kept = out.bytes.get(sent..end).unwrap_or_default();
    (kept, out.plain.min(begun * RECORD_PLAIN_BYTES_MAX), records - begun as u64)
}

const fn records_of(plain: usize) -> u64 {
    plain.div_ceil(RECORD_PLAIN_BYTES_MAX) as u64
}

impl View<'_> {
    /// Whether `plain` may be sealed.
    fn judge(&mut self, plain: &[u8], records: u64, life: KeyLife) -> Result<(), SealError> {
        if plain.is_empty() {
            return Ok(());
        }
        if self.duties.finished || self.duties.alert.is_some() {
            return Err(SealError::Finished);
        }
        if !self.duties.suite.is_tls13() && !life.allows(self.send.sequence(), records) {
            self.duties.alert = Some(Alert::CloseNotify);
            return Err(SealError::Exhausted);
        }
        Ok(())
    }

    /// Seals what is due besides data: a new key, a last word.
    fn seal_control(&mut self, records: u64, life: KeyLife, bytes: &mut Vec<u8>) {
        if self.duties.finished {
            return;
        }
        let used_up = self.duties.suite.is_tls13() && !life.allows(self.send.sequence(), records);
        if used_up || self.duties.key_update {
            let key = self.send.expanded();
            self.send.seal(&key, content::HANDSHAKE, &KEY_UPDATE, bytes);
            self.send.update();
            self.duties.key_update = false;
        }
        if let Some(alert) = self.duties.alert {
            let key = self.send.expanded();
            self.send.seal(&key, content::ALERT, &alert.message(), bytes);
            self.duties.finished = true;
        }
    }
}

/// KeyUpdate, and none is asked for in return (RFC 8446, section 4.6.3).
const KEY_UPDATE: [u8; 5] = [24, 0, 0, 1, 0];

const _: () = assert!(KEY_UPDATES_PER_MINUTE_MAX < u8::MAX, "counted in a byte");

#[cfg(test)]
mod tests {
    use super::*;

    /// A send of `control` bytes of control and `plain` of plaintext, with 22 bytes of overhead.
    fn out(control: usize, plain: usize) -> Outgoing {
        let length = control + plain + records_of(plain) as usize * 22;
        let bytes = (0..length).map(|at| (at % 251) as u8).collect();
        Outgoing { bytes, control, plain, life: KeyLife::default() }
    }

    #[test]
    fn every_cut_keeps_the_record_that_was_begun_and_takes_back_the_others() {
        const FULL: usize = RECORD_PLAIN_BYTES_MAX;
        for (control, plain) in [(0, 1), (0, FULL), (30, FULL + 1), (7, 3 * FULL), (0, 4 * FULL), (9, 0)] {
            let out = out(control, plain);
            for sent in 0..=out.bytes.len() {
                let (kept, done, back) = cut(&out, sent, 22);
                let begun = records_of(plain) - back;
                assert_eq!(done, plain.min(begun as usize * FULL), "{sent} of {plain}");
                // What left and what is kept are the control records and whole records of data.
                let settled = sent + kept.len();
                let of_data = if begun == 0 { 0 } else { done + begun as usize * 22 };
                assert_eq!(settled, control + of_data, "{sent} of {plain}");
                assert_eq!(kept, &out.bytes[sent..settled]);
                // A record that was not begun is taken back.
                assert!(kept.len() < FULL + 22 + control);
            }
        }
    }
}
