//! One WebSocket connection of a well-behaved user: dialled, upgraded, read, written, without
//! blocking.
//!
//! Owns: [`Line`]. Answers pings by itself.
//! Bounds: bytes that wait for the gateway by [`OUT_BYTES_MAX`]: beyond it the connection is given
//! up.

use std::io::{self, Read, Write};
use std::net::SocketAddr;

use mio::net::TcpStream;
use mio::{Interest, Registry, Token};

use super::FloodUser;
use crate::frame::{Decoder, Frame, Opcode, encode};
use crate::limits::OUT_BYTES_MAX;
use crate::net::dial;
use crate::upgrade::{Handshake, Profile};

const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

#[derive(Debug)]
enum Step {
    Connecting,
    Upgrading(Box<Handshake>),
    Open,
}

/// A connection of one user.
#[derive(Debug)]
pub(crate) struct Line {
    stream: TcpStream,
    step: Step,
    decoder: Decoder,
    out: Vec<u8>,
}

impl Line {
    /// Begins to connect.
    pub(crate) fn dial(address: SocketAddr, registry: &Registry, token: Token) -> io::Result<Self> {
        let mut stream = dial(address, None, false)?;
        registry.register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
        Ok(Self { stream, step: Step::Connecting, decoder: Decoder::default(), out: Vec::new() })
    }

    /// Whether the 101 has come.
    pub(crate) const fn is_open(&self) -> bool {
        matches!(self.step, Step::Open)
    }

    /// Writes a text. What the kernel does not take waits.
    pub(crate) fn send(&mut self, text: &str) -> Result<(), String> {
        encode(&mut self.out, Opcode::Text, text.as_bytes(), MASK);
        self.flush()
    }

    fn flush(&mut self) -> Result<(), String> {
        while !self.out.is_empty() {
            match self.stream.write(&self.out) {
                Ok(n) => drop(self.out.drain(..n)),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e.to_string()),
            }
        }
        if self.out.len() > OUT_BYTES_MAX { Err("the gateway does not read".to_owned()) } else { Ok(()) }
    }

    /// Does what the socket is ready for, and hands on every text. An error ends the connection.
    pub(crate) fn ready(
        &mut self,
        host: &str,
        user: &FloodUser,
        scratch: &mut [u8],
        mut text: impl FnMut(&str),
    ) -> Result<(), String> {
        if matches!(self.step, Step::Connecting) {
            if let Some(error) = self.stream.take_error().map_err(|e| e.to_string())? {
                return Err(error.to_string());
            }
            if self.stream.peer_addr().is_err() {
                return Ok(());
            }
            let (handshake, request) = Handshake::new(host, user.id, &user.token, Profile::V2);
            self.step = Step::Upgrading(Box::new(handshake));
            self.out = request;
        }
        self.flush()?;
        loop {
            match self.stream.read(scratch) {
                Ok(0) => return Err("the gateway ended the connection".to_owned()),
                Ok(n) => self.take(&scratch[..n], &mut text)?,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return self.flush(),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e.to_string()),
            }
        }
    }

    fn take(&mut self, bytes: &[u8], text: &mut impl FnMut(&str)) -> Result<(), String> {
        let rest = match &mut self.step {
            Step::Upgrading(handshake) => match handshake.feed(bytes).map_err(|e| e.to_string())? {
                Some(rest) => rest,
                None => return Ok(()),
            },
            Step::Connecting | Step::Open => bytes,
        };
        self.step = Step::Open;
        let Self { decoder, out, .. } = self;
        let mut closed = None;
        decoder
            .feed(rest, |frame| match frame {
                Frame::Text(one) => text(one),
                Frame::Ping(payload) => encode(out, Opcode::Pong, payload, MASK),
                Frame::Close(code, _) => closed = Some(code),
                Frame::Binary(_) | Frame::Packed(_) | Frame::Pong(_) => {}
            })
            .map_err(|fault| fault.to_string())?;
        match closed {
            Some(Some(code)) => Err(format!("the gateway closed with {code}")),
            Some(None) => Err("the gateway closed without a code".to_owned()),
            None => Ok(()),
        }
    }
}
