//! The chat protocol: what clients say and what they are told (design, section 6; contract, A.5).
//!
//! Owns: parsing of commands (`command`), framed pushes (`packet`), answers (`push`), refusals (`reject`), what differs
//! between legacy sessions and `imgate.v2` (`profile`).
//! Never: keeps state of a session, a conversation or a socket.

pub mod command;
pub mod packet;
pub mod profile;
pub mod push;
pub mod reject;

pub use command::{Command, Post, Target};
pub use packet::Packet;
pub use profile::{Device, Echo, Profile};
pub use reject::{CloseCode, Reject};
