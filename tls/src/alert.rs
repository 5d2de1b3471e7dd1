//! Alerts: why a peer is told that the connection ends (RFC 8446, section 6; RFC 5246, section
//! 7.2).

/// A description of an alert. Its number is the one on the wire.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Alert {
    /// Nothing more comes.
    CloseNotify = 0,
    /// A message that may not come now.
    UnexpectedMessage = 10,
    /// A record that is not authentic: wrong tag, replayed, reordered, or too short for a tag.
    BadRecordMac = 20,
    /// A record beyond 2^14 bytes.
    RecordOverflow = 22,
    /// A field has a value that it may not have.
    IllegalParameter = 47,
    /// A message whose lengths contradict each other.
    DecodeError = 50,
    /// A record of another version.
    ProtocolVersion = 70,
    /// Something failed here.
    InternalError = 80,
    /// A TLS 1.2 client wants to shake hands again.
    NoRenegotiation = 100,
}

impl Alert {
    /// The two bytes of the message.
    pub(crate) const fn message(self) -> [u8; 2] {
        let level = match self {
            Self::CloseNotify | Self::NoRenegotiation => WARNING,
            _ => FATAL,
        };
        [level, self as u8]
    }
}

/// The level of an alert that does not end a TLS 1.2 connection.
pub(crate) const WARNING: u8 = 1;
const FATAL: u8 = 2;
/// A client's user has closed something; a close_notify follows (RFC 8446, section 6.1).
pub(crate) const USER_CANCELED: u8 = 90;
