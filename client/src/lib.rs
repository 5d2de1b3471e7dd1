//! A client of imgate's protocol `imgate.v2` (`docs/protocol.md`) that neither loses a message nor
//! shows one twice.
//!
//! ```no_run
//! use imgate_client::{Client, Conv, Event, Options};
//!
//! let client = Client::connect(Options::new("127.0.0.1:8081", 1, "the user's token"))?;
//! client.post(Conv::Direct(2), "hello, Bob").expect("nothing else waits");
//! while let Some(event) = client.next() {
//!     match event {
//!         Event::Message { conv, message } => {
//!             println!("{conv:?} {}: {}", message.userid, message.content());
//!         }
//!         Event::Sent { cid, seq, .. } => println!("{cid} is stored as number {seq:?}"),
//!         Event::Offline { code, again: false, .. } => panic!("closed for good: {code}"),
//!         _ => {}
//!     }
//! }
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! # What it does by itself
//!
//! - **Connects again** with growing, random pauses, as the close codes say; a pause that the
//!   gateway asks for (`retry_ms` in the close reason) is kept. [`Event::Offline`] tells whether it
//!   comes back.
//! - **Posts** under a name (`cid`) until there is an ack or a final refusal, over any number of
//!   connections. Stored once. A client that has ended tells by [`Client::unsent`] how many have
//!   neither: keep posts until [`Event::Sent`] or [`Event::Refused`], and give what is left to the
//!   next client's [`Client::post_again`].
//! - **Syncs** whatever is missing: after each connect, and when a number is left out. Events of a
//!   conversation come in the order of its numbers.
//! - **Acks** what it has received, if [`Options::receipts`] is set, and says what was read.
//! - **Resumes** where an earlier process was: keep [`Client::places`] beside what was shown (of a
//!   bare session [`Session::places`]) and give them as [`Options::places`].
//! - Asks the gateway now and then whether it is still there, and keeps at most [`limits::WINDOW`]
//!   commands unanswered.
//!
//! # What it does not do
//!
//! It logs nobody in: tokens come from HTTP (`docs/http.md`) or `imgate token`. It keeps nothing on
//! disk. It speaks TLS if [`Options::tls`] says so.
//!
//! # Layers
//!
//! [`Client`] is a thread with a bounded queue each way, for applications that block. [`Session`]
//! is the rules alone, without a socket, a clock or a thread: for other event loops, and for tests.
//! The recorded conversations of `tests/vectors` are played to it. [`link`] is one WebSocket
//! connection on a non-blocking socket, and [`pipe`] that socket with TLS or without.
//!
//! `cargo run -p imgate-client --example chat -- 127.0.0.1:8081 1 TOKEN 2` chats from a terminal.

mod client;
mod event;
mod jitter;
pub mod limits;
pub mod link;
pub mod pipe;
mod session;

pub use client::{Client, Ended, Options};
pub use event::{Conv, Event, Message};
pub use jitter::Jitter;
pub use session::{Full, Output, Session, Settings, comes_back, retry_ms};
