//! A message as it leaves the server: encoded and framed once, shared by everybody who gets it.
//!
//! Owns: [`Packet`], the only maker of a chat message's frame. Immutable after it is made.
//! (Skeleton: signatures that the other rooms build on; the wire step fills it.)

use crate::ids::{ConvId, MsgId, Seq, UserId};

/// What a stored message has and a volatile one has not.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stored {
    /// Its number in the database.
    pub id: MsgId,
    /// Its place in the conversation.
    pub seq: Seq,
}

/// One chat message: a complete unmasked, unfragmented WebSocket text frame.
#[derive(Debug)]
pub struct Packet {
    /// Header and JSON, contiguous. (Alternative encodings - deflate, escaped for `/chatroom` - join it here, made lazily, once.)
    plain: Box<[u8]>,
    /// Length of the frame header at the start of `plain`.
    header: u8,
}

impl Packet {
    /// Encodes `{"id":…,"seq":…,"ts":…,"userid":…,"cmd":…,"dstid":…,BODY}` (`id` and `seq` only if stored) behind its frame header.
    /// `dstid` is the group, or the user of the pair who is not the sender.
    #[must_use]
    pub fn chat(conv: ConvId, sender: UserId, stored: Option<Stored>, ts_ms: u64, body: &str) -> Self {
        let _ = (conv, sender, stored, ts_ms, body);
        Self { plain: Box::new([]), header: 0 }
    }

    /// The whole frame, ready for a socket.
    #[must_use]
    pub fn frame(&self) -> &[u8] {
        &self.plain
    }

    /// The JSON inside, for rows of a sync answer and for tests.
    #[must_use]
    pub fn json(&self) -> &[u8] {
        self.plain.get(usize::from(self.header)..).unwrap_or_default()
    }
}
