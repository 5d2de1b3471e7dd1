//! rustls' own records behind the same interface, for those who want them: 3.5 KB a connection.
//!
//! Owns: one `UnbufferedServerConnection` whose handshake is done, and what was cut.
//! Never: keeps plaintext. What it has sealed cannot be taken back, so all of a send that the
//! socket does not take is kept as ciphertext. Never gives rustls other bytes than those that it
//! has not discarded yet, because it remembers places in them.
//! Bounds: one send, which is all gone before the next is sealed, and one partial record.

use std::mem;
use std::ops::Range;

use rustls::Error;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, EncodeError, EncryptError, InsufficientSizeError};

use crate::alert::Alert;
use crate::incoming::{End, Opened};
use crate::limits::{RECORD_HEADER_BYTES, RECORD_OVERHEAD_BYTES_MAX, RECORD_PLAIN_BYTES_MAX, RECORD_WIRE_BYTES_MAX};
use crate::outgoing::{Outgoing, SealError};

/// A connection that rustls goes on with.
pub(crate) struct Library {
    connection: UnbufferedServerConnection,
    unsent: Vec<u8>,
    partial: Vec<u8>,
    arriving: Arriving,
    /// No plaintext is sealed any more.
    finished: bool,
    /// So it is because of [`Library::close`].
    closed: bool,
    ended: bool,
}

/// Counts records as their bytes arrive, because one call of rustls may open many, and moves what
/// it has opened.
#[derive(Default)]
struct Arriving {
    header: [u8; RECORD_HEADER_BYTES],
    /// How many bytes of the header have come.
    have: usize,
    /// How many bytes of the record behind it have not.
    missing: usize,
    /// How many records were whole since the last question.
    whole: usize,
}

impl Arriving {
    /// These bytes have come.
    fn pass(&mut self, mut bytes: &[u8]) {
        loop {
            if self.have < RECORD_HEADER_BYTES {
                let (now, rest) = bytes.split_at(bytes.len().min(RECORD_HEADER_BYTES - self.have));
                self.header[self.have..self.have + now.len()].copy_from_slice(now);
                self.have += now.len();
                bytes = rest;
                if self.have < RECORD_HEADER_BYTES {
                    return;
                }
                self.missing = usize::from(u16::from_be_bytes([self.header[3], self.header[4]]));
            }
            let now = self.missing.min(bytes.len());
            bytes = &bytes[now..];
            self.missing -= now;
            if self.missing > 0 {
                return;
            }
            self.have = 0;
            self.whole += 1;
        }
    }
}

/// Whether there is more to ask rustls for.
enum Next {
    Ask,
    Stop(Option<End>),
}

impl Library {
    pub(crate) fn new(connection: UnbufferedServerConnection, partial: Vec<u8>, unsent: Vec<u8>) -> Self {
        let mut arriving = Arriving::default();
        arriving.pass(&partial);
        Self { connection, unsent, partial, arriving, finished: false, closed: false, ended: false }
    }

    pub(crate) const fn kept_bytes(&self) -> usize {
        self.unsent.capacity() + self.partial.capacity()
    }

    pub(crate) const fn incoming_bytes(&self) -> usize {
        self.partial.capacity()
    }

    pub(crate) const fn unsent_bytes(&self) -> usize {
        if self.unsent.is_empty() { 0 } else { self.unsent.capacity() }
    }

    pub(crate) const fn is_amid_record(&self) -> bool {
        !self.partial.is_empty()
    }

    pub(crate) const fn has_ended(&self) -> bool {
        self.ended
    }

    pub(crate) const fn wants_write(&self) -> bool {
        !self.unsent.is_empty()
    }

    /// As [`crate::Session::open`].
    pub(crate) fn open(&mut self, buffer: &mut [u8], fresh: Range<usize>) -> Opened {
        let from = fresh.start.checked_sub(self.partial.len()).expect("there is room for a record in front");
        buffer[from..fresh.start].copy_from_slice(&self.partial);
        self.partial = Vec::new();
        if self.ended {
            return Opened { plain: from..from, records: 0, end: Some(End::Closed) };
        }
        self.arriving.pass(&buffer[fresh.clone()]);
        let records = mem::take(&mut self.arriving.whole);
        if self.closed {
            // rustls would answer a wrong record with an alert behind its close_notify, and in a
            // build with its debug assertions it panics first. Nothing that comes now is of use.
            return Opened { plain: from..from, records, end: None };
        }
        let mut plain = Vec::new();
        let mut at = from;
        let end = loop {
            let (discarded, next) = self.ask(&mut buffer[at..fresh.end], &mut plain);
            at += discarded;
            if let Next::Stop(end) = next {
                break end;
            }
        };
        // rustls has an alert for a peer that it refused. It is asked for no more, because it would
        // complain of the same bytes again.
        while end.is_some() && self.connection.wants_write() {
            self.ask(&mut buffer[at..fresh.end], &mut plain);
        }
        let rest = buffer.get(at..fresh.end).unwrap_or_default();
        // rustls keeps nothing of a handshake message that is spread over records until it is
        // whole. After a handshake none is longer than a record, or has to be spread at all.
        let is_too_long = rest.len() > RECORD_WIRE_BYTES_MAX;
        let end = end.or(if is_too_long { Some(End::Refused(Alert::UnexpectedMessage)) } else { None });
        // It remembers places in bytes that are not kept: it is not asked again.
        self.finished |= is_too_long;
        if end.is_some() {
            self.ended = true;
        } else {
            self.partial = rest.to_vec();
        }
        let to = from + plain.len();
        buffer[from..to].copy_from_slice(&plain);
        Opened { plain: from..to, records, end }
    }

    /// One call of rustls, and what became of it.
    fn ask(&mut self, bytes: &mut [u8], plain: &mut Vec<u8>) -> (usize, Next) {
        let status = self.connection.process_tls_records(bytes);
        let mut discard = status.discard;
        let next = match status.state {
            Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                while let Some(Ok(record)) = traffic.next_record() {
                    plain.extend_from_slice(record.payload);
                    discard += record.discard;
                }
                Next::Ask
            }
            Ok(ConnectionState::EncodeTlsData(mut data)) => {
                append(&mut self.unsent, |room| match data.encode(room) {
                    Ok(written) => Ok(written),
                    Err(EncodeError::InsufficientSize(size)) => Err(size),
                    Err(EncodeError::AlreadyEncoded) => Ok(0),
                });
                Next::Ask
            }
            Ok(ConnectionState::TransmitTlsData(data)) => {
                data.done();
                Next::Ask
            }
            Ok(ConnectionState::PeerClosed | ConnectionState::Closed) => Next::Stop(Some(End::Closed)),
            Ok(_) => Next::Stop(None),
            Err(error) => Next::Stop(Some(end_of(&error))),
        };
        self.finished |= matches!(next, Next::Stop(Some(End::Refused(_))));
        (discard, next)
    }

    /// As [`crate::records::Records::seal`]. While something is kept no plaintext is taken besides:
    /// a peer that reads nothing would have all that is said to it kept here, without a bound.
    pub(crate) fn seal(&mut self, plain: &[u8], out: &mut Outgoing) -> Result<(), SealError> {
        let plain = if self.unsent.is_empty() { plain } else { &[] };
        let result = if plain.is_empty() { Ok(Vec::new()) } else { self.encrypt(plain) };
        out.begin().append(&mut self.unsent);
        out.end_control();
        let mut sealed = result?;
        out.append(&mut sealed, plain.len());
        Ok(())
    }

    fn encrypt(&mut self, plain: &[u8]) -> Result<Vec<u8>, SealError> {
        if self.finished {
            return Err(SealError::Finished);
        }
        let records = plain.len().div_ceil(RECORD_PLAIN_BYTES_MAX) + 1;
        let mut sealed = vec![0; plain.len() + records * RECORD_OVERHEAD_BYTES_MAX];
        loop {
            let ConnectionState::WriteTraffic(mut traffic) =
                self.connection.process_tls_records(&mut self.partial).state.map_err(|_| SealError::Finished)?
            else {
                return Err(SealError::Finished);
            };
            match traffic.encrypt(plain, &mut sealed) {
                Ok(written) => {
                    sealed.truncate(written);
                    return Ok(sealed);
                }
                Err(EncryptError::InsufficientSize(size)) => sealed.resize(size.required_size, 0),
                Err(EncryptError::EncryptExhausted) => return Err(SealError::Exhausted),
            }
        }
    }

    /// As [`crate::records::Records::settle`]. All plaintext is done with.
    pub(crate) fn settle(&mut self, out: &Outgoing, sent: usize) -> usize {
        self.unsent = out.bytes().get(sent..).unwrap_or_default().to_vec();
        out.plaintext()
    }

    /// A close_notify is due.
    pub(crate) fn close(&mut self) {
        if self.finished {
            return;
        }
        self.finished = true;
        self.closed = true;
        if let Ok(ConnectionState::WriteTraffic(mut traffic)) =
            self.connection.process_tls_records(&mut self.partial).state
        {
            append(&mut self.unsent, |room| match traffic.queue_close_notify(room) {
                Ok(written) => Ok(written),
                Err(EncryptError::InsufficientSize(size)) => Err(size),
                Err(EncryptError::EncryptExhausted) => Ok(0),
            });
        }
    }
}

/// Appends what `write` gives, in as much room as it says it wants.
pub(crate) fn append(out: &mut Vec<u8>, mut write: impl FnMut(&mut [u8]) -> Result<usize, InsufficientSizeError>) {
    let start = out.len();
    let mut room = 0;
    loop {
        out.resize(start + room, 0);
        match write(&mut out[start..]) {
            Ok(written) => return out.truncate(start + written),
            Err(size) => room = size.required_size,
        }
    }
}

/// How an error of rustls reads here.
fn end_of(error: &Error) -> End {
    match error {
        Error::AlertReceived(description) => End::Alert((*description).into()),
        Error::DecryptError => End::Refused(Alert::BadRecordMac),
        Error::PeerSentOversizedRecord => End::Refused(Alert::RecordOverflow),
        Error::InvalidMessage(_) => End::Refused(Alert::DecodeError),
        _ => End::Refused(Alert::UnexpectedMessage),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_counted_wherever_their_bytes_are_cut() {
        let wire: Vec<u8> = [0usize, 3, 300, 0, 1]
            .iter()
            .flat_map(|&length| {
                let [high, low] = u16::try_from(length).expect("short").to_be_bytes();
                [vec![23, 3, 3, high, low], vec![7; length]].concat()
            })
            .collect();
        for piece in 1..=wire.len() {
            let mut arriving = Arriving::default();
            let counts = wire.chunks(piece).map(|bytes| {
                arriving.pass(bytes);
                mem::take(&mut arriving.whole)
            });
            assert_eq!(counts.sum::<usize>(), 5, "pieces of {piece}");
            assert_eq!(arriving.have, 0);
        }
    }
}
