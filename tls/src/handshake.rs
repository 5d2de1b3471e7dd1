//! The handshake: rustls makes it, one record of the peer at a time, and is left when it is done.
//!
//! Owns: what came and is not read, what is to be sent, the secrets that rustls mentions.
//! Never: gives rustls a record behind the peer's Finished: those stay ciphertext for the records
//! that follow, which have the keys and count from where rustls has counted to.
//! Bounds: [`HANDSHAKE_INPUT_BYTES_MAX`] kept, [`HANDSHAKE_BYTES_MAX`] and
//! [`HANDSHAKE_RECORDS_MAX`] in all. One [`Handshake::step`] reads one record: a ClientHello costs
//! some 200 µs.

use std::sync::Arc;

use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{ConnectionState, EncodeError};
use rustls::{ConnectionTrafficSecrets, Error, ExtractedSecrets, HandshakeKind, ProtocolVersion, ServerConfig};

use crate::acceptor::Acceptor;
use crate::alert::Alert;
use crate::choice::prefers_chacha;
use crate::direction::content;
use crate::library::{Library, append};
use crate::limits::{
    HANDSHAKE_BYTES_MAX, HANDSHAKE_HEAP_BYTES, HANDSHAKE_INPUT_BYTES_MAX, HANDSHAKE_RECORDS_MAX, RECORD_HEADER_BYTES,
    RECORD_WIRE_BYTES_MAX,
};
use crate::records::{Records, Secrets as DirectionSecrets};
use crate::session::Session;
use crate::suite::Suite;
use crate::tap::{Tap, TappedSecrets};

/// A handshake on its way.
pub struct Handshake {
    connection: UnbufferedServerConnection,
    /// For a client whose order of ciphers holds.
    preferred: Arc<ServerConfig>,
    tap: Arc<Tap>,
    own_records: bool,
    secrets: TappedSecrets,
    /// What came and was not read, from its start so much as rustls has been given.
    input: Vec<u8>,
    given: usize,
    /// Records and bytes of the peer so far.
    records: u8,
    bytes: usize,
    output: Vec<u8>,
    done: bool,
}

/// How far a step has come. After each of them [`Handshake::output`] may have bytes to send.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// More must come.
    Wait,
    /// A further record is there: another step would go on.
    More,
    /// [`Handshake::finish`] makes a session of it.
    Done,
    /// It has failed. What is in the output may be sent, then the connection ends.
    Failed(Failure),
}

/// Why a handshake failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Failure {
    /// The first bytes are no TLS; true: they look like the beginning of an HTTP request.
    NotTls(bool),
    /// No version, cipher, key exchange, signature or protocol that both have.
    Incompatible,
    /// The peer has ended it: by an alert, for example because it does not trust the certificate.
    Peer,
    /// The peer has broken the rules.
    Misbehaved,
    /// The peer has sent too much, or in too many pieces.
    TooLong,
    /// Something failed here.
    Internal,
}

/// A handshake that is done.
#[derive(Debug)]
pub struct Finished {
    /// The connection from now on. What was not sent of the handshake is due first.
    pub session: Session,
    /// Whether bytes came behind the handshake: they want to be opened without waiting for more.
    pub unread: bool,
    /// Whether this is TLS 1.3.
    pub tls13: bool,
    /// Whether a ticket has saved the signature.
    pub resumed: bool,
}

/// Why a record is not given to rustls, and what its sender is told.
type Refusal = (Failure, Option<Alert>);

/// What one call of rustls led to.
enum Turn {
    Again,
    Blocked,
    Done,
    Over(Failure),
}

impl Handshake {
    pub(crate) fn new(acceptor: &Acceptor) -> Result<Self, Error> {
        Ok(Self {
            connection: UnbufferedServerConnection::new(acceptor.cheapest())?,
            preferred: acceptor.preferred(),
            tap: acceptor.tap(),
            own_records: acceptor.own_records(),
            secrets: TappedSecrets::default(),
            input: Vec::new(),
            given: 0,
            records: 0,
            bytes: 0,
            output: Vec::new(),
            done: false,
        })
    }

    /// How many bytes may be received now. None: a step must come first.
    #[must_use]
    pub fn room(&self) -> usize {
        HANDSHAKE_INPUT_BYTES_MAX.saturating_sub(self.input.len())
    }

    /// Takes bytes of the peer, as many as there is room for, and answers how many those were.
    pub fn receive(&mut self, bytes: &[u8]) -> usize {
        let taken = bytes.get(..self.room()).unwrap_or(bytes);
        self.input.extend_from_slice(taken);
        taken.len()
    }

    /// Whether the peer has sent anything.
    #[must_use]
    pub const fn is_begun(&self) -> bool {
        self.bytes > 0 || !self.input.is_empty()
    }

    /// What has come and was not used. Of a peer that does not speak TLS: what it has said.
    #[must_use]
    pub fn unused(&self) -> &[u8] {
        &self.input
    }

    /// What is to be sent.
    #[must_use]
    pub fn output(&self) -> &[u8] {
        &self.output
    }

    /// Whether the peer waits for what is in the output. Of TLS 1.3 only a ticket is left in the
    /// end: [`Handshake::finish`] lets it leave with the first answer, and one send is saved.
    #[must_use]
    pub fn is_awaited(&self) -> bool {
        !(self.done && self.own_records && self.is_tls13())
    }

    fn is_tls13(&self) -> bool {
        self.connection.protocol_version() == Some(ProtocolVersion::TLSv1_3)
    }

    /// So many bytes of the output were sent.
    pub fn sent(&mut self, bytes: usize) {
        self.output.drain(..bytes.min(self.output.len()));
    }

    /// Bytes that are kept for it, those of rustls estimated.
    #[must_use]
    pub const fn kept_bytes(&self) -> usize {
        size_of::<Self>() + HANDSHAKE_HEAP_BYTES + self.input.capacity() + self.output.capacity()
    }

    /// Goes on by one record of the peer at most.
    pub fn step(&mut self) -> Step {
        if self.done {
            return Step::Done;
        }
        match self.give_record() {
            Ok(true) => {}
            Ok(false) => return Step::Wait,
            Err((failure, alert)) => {
                self.tell(alert);
                return Step::Failed(failure);
            }
        }
        loop {
            match self.ask() {
                Turn::Again => {}
                // Or a record that cannot be one, which that step will say.
                Turn::Blocked if self.next_record() != Ok(None) => return Step::More,
                Turn::Blocked => return Step::Wait,
                Turn::Done => {
                    self.done = true;
                    return Step::Done;
                }
                Turn::Over(failure) => {
                    // rustls has an alert for the peer, and gives it when asked once more: with the
                    // same bytes, because it remembers places in them, and not any further, because
                    // it would complain of them again.
                    while self.connection.wants_write() && matches!(self.ask(), Turn::Again) {}
                    return Step::Failed(failure);
                }
            }
        }
    }

    /// Says why a beginning is refused that rustls has not seen. Only in the clear; later rustls
    /// alone has the keys.
    fn tell(&mut self, alert: Option<Alert>) {
        if let Some(alert) = alert.filter(|_| self.connection.protocol_version().is_none()) {
            self.output.extend([content::ALERT, 3, 3, 0, 2]);
            self.output.extend(alert.message());
        }
    }

    /// Gives rustls one record more, if it is whole.
    fn give_record(&mut self) -> Result<bool, Refusal> {
        let Some(length) = self.next_record()? else { return Ok(false) };
        self.records += 1;
        self.bytes += length;
        if self.records > HANDSHAKE_RECORDS_MAX || self.bytes > HANDSHAKE_BYTES_MAX {
            return Err((Failure::TooLong, Some(Alert::RecordOverflow)));
        }
        self.given += length;
        if self.records == 1 && prefers_chacha(&self.input[..self.given]) {
            let again = UnbufferedServerConnection::new(self.preferred.clone());
            self.connection = again.map_err(|_| (Failure::Internal, None))?;
        }
        Ok(true)
    }

    /// The length of the next record, if it is whole.
    fn next_record(&self) -> Result<Option<usize>, Refusal> {
        let bytes = self.input.get(self.given..).unwrap_or_default();
        let Some(&kind) = bytes.first() else { return Ok(None) };
        // What may come during a handshake; the second byte of any version is 3.
        let known = (content::CHANGE_CIPHER_SPEC..=content::DATA).contains(&kind);
        if !known || bytes.get(1).is_some_and(|&major| major != 3) {
            return Err(match self.records {
                0 => (Failure::NotTls(looks_like_http(bytes)), None),
                _ => (Failure::Misbehaved, Some(Alert::UnexpectedMessage)),
            });
        }
        let &[_, _, _, high, low, ..] = bytes else { return Ok(None) };
        let length = RECORD_HEADER_BYTES + usize::from(u16::from_be_bytes([high, low]));
        if length > RECORD_WIRE_BYTES_MAX {
            return Err((Failure::Misbehaved, Some(Alert::RecordOverflow)));
        }
        if self.given + length > HANDSHAKE_INPUT_BYTES_MAX {
            // It can never become whole beside what rustls still holds.
            return Err((Failure::TooLong, Some(Alert::RecordOverflow)));
        }
        Ok((bytes.len() >= length).then_some(length))
    }

    /// Calls rustls once.
    fn ask(&mut self) -> Turn {
        let status = self.connection.process_tls_records(&mut self.input[..self.given]);
        let discard = status.discard;
        let turn = match status.state {
            Ok(state) => advance(state, &mut self.output),
            Err(error) => Turn::Over(failure_of(&error)),
        };
        self.tap.drain(&mut self.secrets);
        self.input.drain(..discard);
        self.given -= discard;
        turn
    }

    /// Makes a session of a handshake that is done.
    ///
    /// # Errors
    /// It is not done, or rustls has negotiated what was not offered.
    pub fn finish(mut self) -> Result<Finished, Failure> {
        if !self.done || self.given > 0 {
            return Err(Failure::Internal);
        }
        let resumed = self.connection.handshake_kind() == Some(HandshakeKind::Resumed);
        let (tls13, patient) = (self.is_tls13(), !self.is_awaited());
        let unread = !self.input.is_empty();
        let session = if self.own_records {
            let version = self.connection.protocol_version().ok_or(Failure::Internal)?;
            let (extracted, _) = self.connection.dangerous_into_kernel_connection().map_err(|_| Failure::Internal)?;
            let mut records = records(version, &extracted, &self.secrets).ok_or(Failure::Internal)?;
            self.input.shrink_to_fit();
            records.begin_with(self.input, self.output, patient);
            records.into()
        } else {
            Session::library(Library::new(self.connection, self.input, self.output))
        };
        Ok(Finished { session, unread, tls13, resumed })
    }
}

/// Does what the state asks for.
fn advance(state: ConnectionState<'_, '_, ServerConnectionData>, output: &mut Vec<u8>) -> Turn {
    match state {
        ConnectionState::EncodeTlsData(mut data) => {
            append(output, |room| match data.encode(room) {
                Ok(written) => Ok(written),
                Err(EncodeError::InsufficientSize(size)) => Err(size),
                Err(EncodeError::AlreadyEncoded) => Ok(0),
            });
            Turn::Again
        }
        ConnectionState::TransmitTlsData(data) => {
            data.done();
            Turn::Again
        }
        ConnectionState::BlockedHandshake => Turn::Blocked,
        ConnectionState::WriteTraffic(_) => Turn::Done,
        ConnectionState::PeerClosed | ConnectionState::Closed => Turn::Over(Failure::Peer),
        // Early data is off, and a record of data is not given before the handshake is done.
        _ => Turn::Over(Failure::Internal),
    }
}

/// The records that go on where rustls has stopped.
fn records(version: ProtocolVersion, extracted: &ExtractedSecrets, tapped: &TappedSecrets) -> Option<Records> {
    let suite = Suite::negotiated(version, &extracted.tx.1)?;
    let secret = |tapped: &'_ Option<zeroize::Zeroizing<Vec<u8>>>| match (suite.is_tls13(), tapped) {
        (true, Some(secret)) => secret.clone(),
        _ => zeroize::Zeroizing::default(),
    };
    let (server, client) = (secret(&tapped.server), secret(&tapped.client));
    let send = direction(extracted.tx.0, &extracted.tx.1, &server)?;
    let receive = direction(extracted.rx.0, &extracted.rx.1, &client)?;
    Records::new(suite, send, receive)
}

fn direction<'a>(
    sequence: u64,
    secrets: &'a ConnectionTrafficSecrets,
    secret: &'a [u8],
) -> Option<DirectionSecrets<'a>> {
    use ConnectionTrafficSecrets::{Aes128Gcm, Aes256Gcm, Chacha20Poly1305};
    let (Aes128Gcm { key, iv } | Aes256Gcm { key, iv } | Chacha20Poly1305 { key, iv }) = secrets else { return None };
    Some(DirectionSecrets { sequence, iv: iv.as_ref().try_into().ok()?, key: key.as_ref(), secret })
}

fn failure_of(error: &Error) -> Failure {
    match error {
        Error::AlertReceived(_) => Failure::Peer,
        Error::PeerIncompatible(_) | Error::NoApplicationProtocol => Failure::Incompatible,
        Error::General(_) | Error::FailedToGetRandomBytes | Error::FailedToGetCurrentTime => Failure::Internal,
        _ => Failure::Misbehaved,
    }
}

/// A request line begins with capital letters.
fn looks_like_http(bytes: &[u8]) -> bool {
    bytes.iter().take(3).all(u8::is_ascii_uppercase)
}

impl std::fmt::Debug for Handshake {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Handshake").field("done", &self.done).finish_non_exhaustive()
    }
}
