//! The two error types of webpki 0.22 that the `mysql` crate names, without the library behind
//! them.

use std::error;
use std::fmt;

/// A name of a server that is no name of a host, and no address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidDnsNameError;

impl fmt::Display for InvalidDnsNameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name of the server is no name of a host")
    }
}

impl error::Error for InvalidDnsNameError {}

/// What is wrong with a certificate. `mysql` passes it on, but nothing makes one: rustls judges
/// certificates, and has errors of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {}

impl fmt::Display for Error {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {}
    }
}

impl error::Error for Error {}
