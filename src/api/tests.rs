//! The control plane from outside: real HTTP over loopback sockets, raw bodies compared with the contract's transcripts.
//!
//! What stands in for the rest of the gateway: a front that accepts, reads the first bytes and hands over as a shard's
//! gate does; homes that write memberships into the same store; a gate that keeps what comes back to it.

mod rig;

mod accounts;
mod admin;
mod caller;
mod client;
mod connections;
mod cors;
mod devices;
mod doors;
mod files;
mod friends;
mod groups;
mod history;
mod http_doc;
mod logins;
mod operators;
mod seats;
mod v1;
mod v1_description;
