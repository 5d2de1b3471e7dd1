//! HTTP as far as the gate needs it: one bounded request head, and the answers to connections that
//! do not get further.
//!
//! Owns: the request head (`head`), the values of its lines (`value`), its cookies (`cookie`), the
//! rule of its `Host` (`host`), the gate's own responses (`response`); whom to believe where the
//! gateway is the client itself (`authorities`).
//! Never: reads a socket or a body, judges a request that is no upgrade (that goes to the control
//! plane with its bytes), or panics on what a stranger sends.
//! Bounds: [`HEAD_BYTES_MAX`](crate::limits::HEAD_BYTES_MAX),
//! [`HEADERS_MAX`](crate::limits::HEADERS_MAX).

#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic))]

pub mod authorities;
pub mod cookie;
pub mod head;
pub mod host;
pub mod response;
pub mod value;

pub use head::{BadHead, Head};
pub use response::Response;
