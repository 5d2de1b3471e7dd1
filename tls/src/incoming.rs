//! Opening: ciphertext to plaintext, in place, and what a peer may do besides sending data.
//!
//! Owns: the duties of a TLS endpoint after its handshake: key updates, alerts, the end, and the
//! refusal of everything else.
//! Never: panics, whatever comes; gives plaintext of a record that is not authentic.
//! Bounds: [`EMPTY_RECORDS_MAX`], [`KEY_UPDATES_PER_MINUTE_MAX`]; a partial record is kept.

use std::ops::Range;

use crate::alert::{Alert, USER_CANCELED, WARNING};
use crate::direction::{Content, Framing, content};
use crate::limits::{EMPTY_RECORDS_MAX, KEY_UPDATES_PER_MINUTE_MAX};
use crate::records::{Records, View};

/// What has come.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Opened {
    /// Where the plaintext lies in the buffer, contiguous. It comes before `end`.
    pub plain: Range<usize>,
    /// How many records that were, with and without plaintext: opening one costs the same.
    pub records: usize,
    /// The connection has ended, for this reason. Nothing is read any more.
    pub end: Option<End>,
}

/// Why nothing more is read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// The peer's close_notify.
    Closed,
    /// The peer's alert, with its number.
    Alert(u8),
    /// The peer has broken the rules. The alert is due to be sent.
    Refused(Alert),
}

impl Records {
    /// Opens what is kept and the fresh bytes behind it. `buffer` has room for the former in front
    /// of the latter. `minute` counts minutes of any clock that does not go back.
    pub(crate) fn open(&mut self, buffer: &mut [u8], fresh: Range<usize>, minute: u64) -> Opened {
        let mut view = self.view();
        let from = view.restore(buffer, fresh.start);
        if view.duties.ended {
            return Opened { plain: from..from, records: 0, end: Some(End::Closed) };
        }
        let (mut at, mut to) = (from, from);
        let (mut records, mut end) = (0, None);
        let mut key = None;
        while end.is_none() {
            let Some(bytes) = buffer.get_mut(at..fresh.end).filter(|bytes| !bytes.is_empty()) else { break };
            let whole = match view.receive.framing(bytes) {
                Framing::Incomplete => break,
                Framing::Whole(whole) => whole,
                Framing::Wrong(alert) => {
                    end = Some(End::Refused(alert));
                    break;
                }
            };
            let record = &mut bytes[..whole];
            match view.receive.open(key.get_or_insert_with(|| view.receive.expanded()), record) {
                Ok(Content { kind: content::DATA, from, to: until }) if view.message_is_whole() => {
                    end = view.count(from == until).err();
                    buffer.copy_within(at + from..at + until, to);
                    to += until - from;
                }
                Ok(content) => {
                    end = view.hear(content.kind, &record[content.from..content.to], minute).err();
                    // It may have been a key update.
                    key = None;
                }
                Err(alert) => end = Some(End::Refused(alert)),
            }
            at += whole;
            records += 1;
        }
        view.finish_read(buffer.get(at..fresh.end).unwrap_or_default(), end);
        Opened { plain: from..to, records, end }
    }
}

impl View<'_> {
    /// Puts what is kept in front of `start`; answers where it begins.
    fn restore(&mut self, buffer: &mut [u8], start: usize) -> usize {
        let Some(rest) = self.rest.as_deref_mut() else { return start };
        let from = start.checked_sub(rest.partial.len()).expect("there is room for a record in front");
        buffer[from..start].copy_from_slice(&rest.partial);
        // Its memory serves again if the record is still not whole.
        rest.partial.clear();
        from
    }

    /// Keeps what is not whole, unless the connection has ended.
    fn finish_read(&mut self, unread: &[u8], end: Option<End>) {
        if let Some(end) = end {
            self.duties.ended = true;
            if let End::Refused(alert) = end {
                self.duties.alert.get_or_insert(alert);
            }
        } else if !unread.is_empty() {
            self.keeper().partial.extend_from_slice(unread);
        }
        self.tidy();
        if let Some(rest) = self.rest.as_deref_mut().filter(|rest| rest.partial.is_empty()) {
            rest.partial = Vec::new();
        }
    }

    /// No handshake message is spread over records at the moment: others may come between (RFC
    /// 8446, section 5.1).
    fn message_is_whole(&self) -> bool {
        self.rest.as_deref().is_none_or(|rest| rest.message.is_empty())
    }

    /// A record that said something, or not. One that did makes up for one that did not: a peer may
    /// send an empty record in front of each other one, and not thirty.
    fn count(&mut self, empty: bool) -> Result<(), End> {
        self.duties.empties = if empty { self.duties.empties + 1 } else { self.duties.empties.saturating_sub(1) };
        if self.duties.empties > EMPTY_RECORDS_MAX {
            return Err(End::Refused(Alert::UnexpectedMessage));
        }
        Ok(())
    }

    /// Hears a record that is no data.
    fn hear(&mut self, kind: u8, plain: &[u8], minute: u64) -> Result<(), End> {
        match kind {
            content::HANDSHAKE => self.hear_handshake(plain, minute).map_err(End::Refused),
            content::ALERT if self.message_is_whole() => self.hear_alert(plain),
            _ => Err(End::Refused(Alert::UnexpectedMessage)),
        }
    }

    fn hear_alert(&mut self, plain: &[u8]) -> Result<(), End> {
        let &[level, description] = plain else { return Err(End::Refused(Alert::DecodeError)) };
        let harmless = if self.duties.suite.is_tls13() { description == USER_CANCELED } else { level == WARNING };
        match description {
            0 => Err(End::Closed),
            _ if harmless => self.count(true),
            _ => Err(End::Alert(description)),
        }
    }

    /// The only message that may come after the handshake is TLS 1.3's key update.
    fn hear_handshake(&mut self, plain: &[u8], minute: u64) -> Result<(), Alert> {
        let begun = self.rest.as_deref().map_or(0, |rest| rest.message.len());
        match plain.first() {
            None => return Err(Alert::UnexpectedMessage),
            Some(&CLIENT_HELLO) if !self.duties.suite.is_tls13() => return Err(Alert::NoRenegotiation),
            Some(&KEY_UPDATE) if self.duties.suite.is_tls13() => {}
            Some(_) if begun > 0 => {}
            Some(_) => return Err(Alert::UnexpectedMessage),
        }
        // It is the last of its record, because what follows has another key.
        if begun + plain.len() > KEY_UPDATE_BYTES {
            return Err(Alert::UnexpectedMessage);
        }
        let message = &mut self.keeper().message;
        message.extend_from_slice(plain);
        match message[..] {
            [_, 0, 0, 1, asks] => {
                *message = Vec::new();
                self.update_key(asks, minute)
            }
            [_] | [_, 0] | [_, 0, 0] | [_, 0, 0, 1] => Ok(()),
            _ => Err(Alert::DecodeError),
        }
    }

    fn update_key(&mut self, asks: u8, minute: u64) -> Result<(), Alert> {
        if asks > 1 {
            return Err(Alert::IllegalParameter);
        }
        // A clock's minute within some four hours tells it from its neighbours.
        let minute = (minute % 256) as u8;
        if self.duties.minute != minute {
            (self.duties.minute, self.duties.key_updates) = (minute, 0);
        }
        self.duties.key_updates += 1;
        if self.duties.key_updates > KEY_UPDATES_PER_MINUTE_MAX {
            return Err(Alert::UnexpectedMessage);
        }
        self.receive.update();
        // Several requests that were not answered yet are answered once.
        self.duties.key_update |= asks == 1;
        Ok(())
    }
}

const CLIENT_HELLO: u8 = 1;
const KEY_UPDATE: u8 = 24;
const KEY_UPDATE_BYTES: usize = 5;
