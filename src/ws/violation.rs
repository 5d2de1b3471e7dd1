//! What a peer can do wrong, and the close code that tells it so.
//!
//! Owns: [`Violation`], one variant per rule.
//! Never: the chat's own close codes; those are `wire`'s, which maps [`Violation::close_code`] onto
//! them.

/// A broken rule of RFC 6455, or a limit of ours. The connection cannot go on: what follows in the
/// stream has no meaning.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Violation {
    /// A reserved bit is set although no extension gives it a meaning there (section 5.2; RFC 7692,
    /// section 6: the first frame of a message, if compression was agreed upon).
    #[error("a reserved bit is set")]
    ReservedBits,
    /// An opcode that the RFC keeps for later (section 5.2).
    #[error("opcode {0:#x} is reserved")]
    ReservedOpcode(u8),
    /// A client must mask every frame (section 5.1).
    #[error("the frame is not masked")]
    Unmasked,
    /// A control frame without FIN (section 5.5).
    #[error("a control frame is fragmented")]
    FragmentedControl,
    /// A control frame with more than 125 bytes (section 5.5).
    #[error("a control frame is longer than 125 bytes")]
    LongControl,
    /// The most significant bit of a 64-bit length must be 0 (section 5.2).
    #[error("a 64-bit length has its top bit set")]
    LengthTopBit,
    /// A continuation frame although no message is open (section 5.4).
    #[error("a continuation continues nothing")]
    OrphanContinuation,
    /// A new data frame although a fragmented message is open (section 5.4).
    #[error("a message begins inside another one")]
    InterruptedMessage,
    /// A close frame with half a status code (section 5.5.1).
    #[error("a close frame has one byte of payload")]
    ShortClose,
    /// A status code that no endpoint may send (RFC 6455, section 7.4).
    #[error("close code {0} must not be sent")]
    BadCloseCode(u16),
    /// A text message that is not UTF-8 (section 8.1).
    #[error("a text message is not UTF-8")]
    BadText,
    /// A close reason that is not UTF-8 (section 5.5.1).
    #[error("a close reason is not UTF-8")]
    BadCloseReason,
    /// More bytes than [`Limits::message_bytes`](super::Limits::message_bytes).
    #[error("a message is too big")]
    MessageTooBig,
    /// More frames than [`Limits::fragments`](super::Limits::fragments).
    #[error("a message has too many fragments")]
    TooManyFragments,
    /// A compressed message cannot be inflated (RFC 7692, section 7.2.2).
    #[error("a compressed message is damaged")]
    BadDeflate,
    /// A compressed message becomes larger than
    /// [`Limits::message_bytes`](super::Limits::message_bytes).
    #[error("a message is too big, inflated")]
    InflatesTooBig,
    /// A compressed message becomes more than
    /// [`INFLATED_RATIO_MAX`](crate::limits::INFLATED_RATIO_MAX) times as large.
    #[error("a message inflates to too much")]
    InflatesTooMuch,
    /// A compressed message is more than
    /// [`DEFLATED_RATIO_MAX`](crate::limits::DEFLATED_RATIO_MAX) times as long as what becomes of
    /// it, or has more last blocks than
    /// [`DEFLATED_STREAMS_MAX`](crate::limits::DEFLATED_STREAMS_MAX).
    #[error("a compressed message is mostly empty")]
    InflatesToNothing,
}

/// "Protocol error" (RFC 6455, section 7.4.1).
const PROTOCOL: u16 = 1002;
/// "Data that is not consistent with the type of the message" (RFC 6455, section 7.4.1).
const INVALID: u16 = 1007;
/// "A message that is too big to process" (RFC 6455, section 7.4.1).
const TOO_BIG: u16 = 1009;

impl Violation {
    /// The status code of the close frame that answers it: 1002, 1007 or 1009 (RFC 6455, section
    /// 7.4.1).
    #[must_use]
    pub const fn close_code(self) -> u16 {
        match self {
            Self::ReservedBits
            | Self::ReservedOpcode(_)
            | Self::Unmasked
            | Self::FragmentedControl
            | Self::LongControl
            | Self::LengthTopBit
            | Self::OrphanContinuation
            | Self::InterruptedMessage
            | Self::ShortClose
            | Self::BadCloseCode(_) => PROTOCOL,
            Self::BadText | Self::BadCloseReason | Self::BadDeflate => INVALID,
            Self::MessageTooBig
            | Self::TooManyFragments
            | Self::InflatesTooBig
            | Self::InflatesTooMuch
            | Self::InflatesToNothing => TOO_BIG,
        }
    }
}
