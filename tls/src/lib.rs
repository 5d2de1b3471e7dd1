//! TLS for very many connections that mostly say nothing.
//!
//! rustls makes the handshake ([`Handshake`]) and is then dropped. What stays of a connection is a
//! [`Session`]: keys, IVs, sequence numbers and traffic secrets, 152 to 216 bytes, and the duties
//! of a TLS endpoint after its handshake. Nothing else is kept while no record is cut. The same
//! bytes make a connection movable: between threads today, because a session goes where its socket
//! goes.
//!
//! Everything here is sans-IO: bytes in, bytes out, time as an argument. Whoever drives it owns the
//! sockets and the buffers.
//!
//! ```text
//!   socket ──► Handshake::receive, step, output ──► finish ──► Session
//!   socket ──► Session::open   ciphertext to plaintext, in place
//!   socket ◄── Session::seal   plaintext to ciphertext, as much as one send takes
//! ```
//!
//! Reading order: `suite`, `direction` (one record), `records` (the state), `incoming`, `outgoing`,
//! `session`; `tap`, `tickets`, `certificates`, `choice`, `acceptor`, `handshake`; `library`.

pub mod limits;

mod acceptor;
mod alert;
mod certificates;
mod choice;
mod direction;
mod handshake;
mod incoming;
mod library;
mod outgoing;
mod records;
mod session;
mod suite;
mod tap;
mod tickets;

pub use acceptor::{Acceptor, Setup};
pub use alert::Alert;
pub use certificates::{CertificateError, Certificates, Pair, Reloaded};
pub use handshake::{Failure, Finished, Handshake, Step};
pub use incoming::{End, Opened};
pub use outgoing::{Outgoing, SealError};
pub use records::{KeyLife, Records, Secrets};
pub use session::{Sealed, Session};
pub use suite::Suite;
