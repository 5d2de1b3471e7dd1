//! The chat protocol: what clients say and what they are told.
//!
//! Owns: parsing of commands (`command`, over the verbatim `fields` of their JSON), framed pushes
//! (`packet`), answers (`push`), how both are written (`encode`), refusals (`reject`), what takes a
//! message back (`recall`), what happened in a group (`line`), what differs between legacy sessions
//! and `imgate.v2` (`profile`).
//! Never: keeps state of a session, a conversation or a socket.

// Bytes of strangers are read here: nothing may panic on them.
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

pub mod command;
mod encode;
mod fields;
pub mod line;
pub mod packet;
mod preview;
pub mod profile;
pub mod push;
pub mod recall;
pub mod reject;
pub mod room;

pub use command::{Command, Post, Target};
pub use fields::is_of_command;
pub use line::Line;
pub use packet::Packet;
pub use profile::{Device, Echo, Profile};
pub use push::Hint;
pub use reject::{CloseCode, Reject};
