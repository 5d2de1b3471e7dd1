//! The control plane from outside: real HTTP over loopback sockets, raw bodies compared with the
//! transcripts.
//!
//! What stands in for the rest of the gateway: a front that accepts, reads the first bytes and
//! hands over as a shard's gate does; homes that write memberships into the same store; a gate that
//! keeps what comes back to it.

pub(super) mod rig;

mod admin;
mod backends;
mod bucket;
mod caller;
mod client;
// They speak through the routes of the old systems.
#[cfg(feature = "legacy")]
mod connections;
mod cors;
mod devices;
mod doors;
pub(super) mod files;
mod http_doc;
mod logins;
mod operators;
#[cfg(feature = "legacy")]
mod slots;
mod stream;
mod v1;
mod v1_description;
