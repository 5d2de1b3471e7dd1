//! What a session speaks: the legacy protocol or `imgate.v2`.
//!
//! Owns: the differences between the two, as data.

/// Whether a legacy session gets its own group messages back on the connection that sent them (contract, part E).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Echo {
    /// IMChat's page shows nothing until the echo comes.
    Groups,
    /// fastIM's page shows its own message itself.
    None,
}

/// The protocol of one session, chosen at the handshake.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Profile {
    /// fastIM's and IMChat's pages: a welcome text, chat messages, and nothing else that they could misread.
    Legacy(Echo),
    /// Our own protocol: acks, refusals, sync.
    V2,
}

/// The class of device that a session runs on (`?device=`), for the policy of several devices.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(u8)]
pub enum Device {
    /// A phone.
    Phone,
    /// A tablet.
    Pad,
    /// A desktop program.
    Desktop,
    /// A browser; also who does not say.
    #[default]
    Web,
}
