//! A connection after its handshake, whichever record layer it has.
//!
//! Owns: the choice between records of our own and those of rustls, and the account of a send.
//! Never: reads or writes a socket.

use std::ops::Range;

use crate::alert::Alert;
use crate::incoming::Opened;
use crate::library::Library;
use crate::outgoing::{Outgoing, SealError};
use crate::records::Records;

/// The record layer of one connection: 16 bytes, and what they point to. It moves between threads
/// with its socket, and a record may be cut meanwhile.
pub struct Session(Kind);

enum Kind {
    Own(Records),
    Library(Box<Library>),
}

/// Sealed plaintext, of which nothing was sent yet. [`Sealed::sent`] says what became of it, also
/// when the socket took nothing: with rustls' records plaintext that was sealed is done with even
/// then. Dropped, nothing was sent, and the connection is to end.
#[derive(Debug)]
#[must_use]
pub struct Sealed<'a> {
    session: &'a mut Session,
    out: &'a Outgoing,
    refused: Option<SealError>,
    settled: bool,
}

impl Session {
    pub(crate) fn library(library: Library) -> Self {
        Self(Kind::Library(Box::new(library)))
    }

    /// Opens what has come, in place.
    ///
    /// `fresh` is what was read into `buffer` now. In front of it must be room for a partial
    /// record, [`crate::limits::RECORD_WIRE_BYTES_MAX`]. It may be empty: right after a handshake
    /// whole records may be kept already. `minute` counts minutes of a clock that does not go back.
    ///
    /// # Panics
    /// There is no room in front of `fresh`, or it is not inside `buffer`.
    pub fn open(&mut self, buffer: &mut [u8], fresh: Range<usize>, minute: u64) -> Opened {
        match &mut self.0 {
            Kind::Own(records) => records.open(buffer, fresh, minute),
            Kind::Library(library) => library.open(buffer, fresh),
        }
    }

    /// Seals what is due (the rest of a cut record, a key update, an alert), and `plain` behind it,
    /// for one send; perhaps not all of `plain` yet. Empty `plain` sends only what is due.
    pub fn seal<'a>(&'a mut self, plain: &[u8], out: &'a mut Outgoing) -> Sealed<'a> {
        let result = match &mut self.0 {
            Kind::Own(records) => records.seal(plain, out),
            Kind::Library(library) => library.seal(plain, out),
        };
        Sealed { session: self, out, refused: result.err(), settled: false }
    }

    /// Whether something is due to be sent besides new plaintext.
    #[must_use]
    pub fn wants_write(&self) -> bool {
        match &self.0 {
            Kind::Own(records) => records.wants_write(),
            Kind::Library(library) => library.wants_write(),
        }
    }

    /// Whether the peer has ended its side, or was refused.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        match &self.0 {
            Kind::Own(records) => records.has_ended(),
            Kind::Library(library) => library.has_ended(),
        }
    }

    /// Whether a part of a record has come, and not the rest yet.
    #[must_use]
    pub fn is_amid_record(&self) -> bool {
        match &self.0 {
            Kind::Own(records) => records.is_amid_record(),
            Kind::Library(library) => library.is_amid_record(),
        }
    }

    /// A close_notify is due: no plaintext is sealed any more.
    pub fn close(&mut self) {
        match &mut self.0 {
            Kind::Own(records) => records.owe(Alert::CloseNotify),
            Kind::Library(library) => library.close(),
        }
    }

    /// Bytes of cut records that are kept, besides what every idle connection has.
    #[must_use]
    pub fn kept_bytes(&self) -> usize {
        match &self.0 {
            Kind::Own(records) => records.kept_bytes(),
            Kind::Library(library) => library.kept_bytes(),
        }
    }

    /// Of [`Self::kept_bytes`], those that have come of what the peer has begun to send.
    #[must_use]
    pub fn incoming_bytes(&self) -> usize {
        match &self.0 {
            Kind::Own(records) => records.incoming_bytes(),
            Kind::Library(library) => library.incoming_bytes(),
        }
    }

    /// Of [`Self::kept_bytes`], those that the peer has not taken, although it was to.
    #[must_use]
    pub fn unsent_bytes(&self) -> usize {
        match &self.0 {
            Kind::Own(records) => records.unsent_bytes(),
            Kind::Library(library) => library.unsent_bytes(),
        }
    }
}

impl Sealed<'_> {
    /// What is to be sent.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.out.bytes()
    }

    /// Why no plaintext was sealed, if it was not. What is due was, nevertheless.
    #[must_use]
    pub const fn refused(&self) -> Option<SealError> {
        self.refused
    }

    /// The socket took `sent` bytes. Answers how many bytes of plaintext are done with: they are
    /// not to be sealed again, although the ciphertext of some may still be kept.
    pub fn sent(mut self, sent: usize) -> usize {
        self.settled = true;
        self.settle(sent)
    }

    fn settle(&mut self, sent: usize) -> usize {
        match &mut self.session.0 {
            Kind::Own(records) => records.settle(self.out, sent),
            Kind::Library(library) => library.settle(self.out, sent),
        }
    }
}

impl Drop for Sealed<'_> {
    fn drop(&mut self) {
        if !self.settled {
            self.settle(0);
        }
    }
}

impl From<Records> for Session {
    fn from(records: Records) -> Self {
        Self(Kind::Own(records))
    }
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.0 {
            Kind::Own(records) => records.fmt(f),
            Kind::Library(_) => f.write_str("Library"),
        }
    }
}

const _: () = assert!(size_of::<Option<Session>>() == 16, "a place in a table costs 16 bytes");
