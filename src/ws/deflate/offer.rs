//! What a client offers, and what is agreed upon (RFC 6455, section 9.1; RFC 7692, section 7.1).
//!
//! Owns: the reader of `Sec-WebSocket-Extensions`, the judgement of an offer, the answer.
//! Never: agrees upon anything but permessage-deflate without context takeover.
//! Bounds: those of a request head.

use std::borrow::Cow;

use super::Window;

/// The only extension that is spoken.
const NAME: &str = "permessage-deflate";

/// What was agreed upon with a client.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Agreed {
    /// The bound that the client has asked for.
    server_max_window_bits: Option<Window>,
}

/// The header is not what RFC 6455, section 9.1 allows: the connection must fail.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Malformed;

impl Agreed {
    /// With what the client inflates.
    #[must_use]
    pub fn window(self) -> Window {
        self.server_max_window_bits.unwrap_or(Window::MAX)
    }

    /// Appends the value of the header that tells the client so. Nothing is carried from message to
    /// message either way, which a server may say unasked (RFC 7692, sections 7.1.1.1 and 7.1.1.2);
    /// what the client says about its own window is of no interest: any is inflated.
    pub(in crate::ws) fn write(self, out: &mut Vec<u8>) {
        out.extend_from_slice(NAME.as_bytes());
        out.extend_from_slice(b"; server_no_context_takeover; client_no_context_takeover");
        if let Some(window) = self.server_max_window_bits {
            out.extend_from_slice(b"; server_max_window_bits=");
            out.extend_from_slice(window.bits().to_string().as_bytes());
        }
    }
}

/// The first of the offers that can be agreed upon. `values`: those of all lines of the header, in
/// their order. An extension that is not known, and an offer of ours with a parameter that is
/// unknown, given twice, or has a value that it may not have, is declined, as if it were not there
/// (RFC 7692, section 7.1).
///
/// # Errors
/// [`Malformed`].
pub fn agree<'a>(values: impl Iterator<Item = &'a str>) -> Result<Option<Agreed>, Malformed> {
    let mut agreed = None;
    for value in values {
        let mut reader = Reader { rest: value };
        loop {
            // A list may have empty elements (RFC 9110, section 5.6.1.2).
            while reader.skips(',') {}
            if reader.is_at_end() {
                break;
            }
            let offer = reader.offer()?;
            agreed = agreed.or(offer);
            if !reader.is_at_end() && !reader.skips(',') {
                return Err(Malformed);
            }
        }
    }
    Ok(agreed)
}

/// What has been read of an offer.
#[derive(Default)]
struct Offer {
    server_no_context_takeover: Option<()>,
    client_no_context_takeover: Option<()>,
    server_max_window_bits: Option<Window>,
    client_max_window_bits: Option<()>,
}

impl Offer {
    /// Takes a parameter. Answers whether it may stand there.
    fn take(&mut self, name: &str, value: Option<&str>) -> bool {
        let bits = || value.map(window);
        match (name, value) {
            ("server_no_context_takeover", None) => self.server_no_context_takeover.replace(()).is_none(),
            ("client_no_context_takeover", None) => self.client_no_context_takeover.replace(()).is_none(),
            ("client_max_window_bits", _) => bits() != Some(None) && self.client_max_window_bits.replace(()).is_none(),
            ("server_max_window_bits", _) => match bits().flatten() {
                Some(window) => self.server_max_window_bits.replace(window).is_none(),
                None => false,
            },
            _ => false,
        }
    }
}

/// A number from 8 to 15 without leading zeros (RFC 7692, section 7.1.2.1).
fn window(value: &str) -> Option<Window> {
    let is_number = value.bytes().all(|byte| byte.is_ascii_digit()) && !value.starts_with('0');
    Window::new(value.parse().ok().filter(|_| is_number)?)
}

/// Reads the value of one line.
struct Reader<'a> {
    rest: &'a str,
}

impl<'a> Reader<'a> {
    /// One element of the list: `None` if it is not ours, or not acceptable.
    fn offer(&mut self) -> Result<Option<Agreed>, Malformed> {
        let name = self.token()?;
        let (mut offer, mut good) = (Offer::default(), name == NAME);
        while self.skips(';') {
            let parameter = self.token()?;
            let value = if self.skips('=') { Some(self.value()?) } else { None };
            good = good && offer.take(parameter, value.as_deref());
        }
        Ok(good.then_some(Agreed { server_max_window_bits: offer.server_max_window_bits }))
    }

    /// A token, or a token in quotes.
    fn value(&mut self) -> Result<Cow<'a, str>, Malformed> {
        if !self.skips('"') {
            return self.token().map(Cow::Borrowed);
        }
        let mut unquoted = String::new();
        let mut chars = self.rest.char_indices();
        while let Some((at, char)) = chars.next() {
            match char {
                '"' => {
                    self.rest = self.rest.get(at + 1..).unwrap_or_default();
                    let is_token = !unquoted.is_empty() && unquoted.bytes().all(is_token_byte);
                    return if is_token { Ok(Cow::Owned(unquoted)) } else { Err(Malformed) };
                }
                '\\' => unquoted.push(chars.next().ok_or(Malformed)?.1),
                other => unquoted.push(other),
            }
        }
        Err(Malformed)
    }

    fn token(&mut self) -> Result<&'a str, Malformed> {
        self.skip_blanks();
        let end = self.rest.bytes().position(|byte| !is_token_byte(byte)).unwrap_or(self.rest.len());
        let (token, rest) = self.rest.split_at_checked(end).ok_or(Malformed)?;
        self.rest = rest;
        if token.is_empty() { Err(Malformed) } else { Ok(token) }
    }

    /// Passes `sign` if it comes next, with the blanks before it.
    fn skips(&mut self, sign: char) -> bool {
        self.skip_blanks();
        let behind = self.rest.strip_prefix(sign);
        self.rest = behind.unwrap_or(self.rest);
        behind.is_some()
    }

    fn is_at_end(&mut self) -> bool {
        self.skip_blanks();
        self.rest.is_empty()
    }

    fn skip_blanks(&mut self) {
        self.rest = self.rest.trim_start_matches([' ', '\t']);
    }
}

/// RFC 9110, section 5.6.2.
fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}
