//! What a message of the checker says: its `cid` names it, and everything else in it follows from
//! the `cid`, so that nothing need be remembered to find out whether it was changed on its way.
//!
//! Owns: [`Mail`], its text, and [`Row`], a message as the server shows it.

use std::fmt::Write;

use serde_json::{Value, json};

use super::dice::mix;
use crate::limits::PAYLOAD_BYTES_MAX;

/// The pieces that contents are made of: what codecs and escapers like to get wrong is among them.
const PIECES: [&str; 16] = [
    "a",
    "b ",
    "\u{e9}",
    "\"",
    "\\",
    "\n",
    "\u{1f600}",
    "<b>",
    "\u{2028}",
    "&amp;",
    "\u{1}",
    "\t",
    "{}",
    "\u{4f60}",
    "/",
    "'",
];

/// One message in this many is long.
const LONG_ONE_IN: u64 = 64;
/// How much longer than the mean a long one is.
const LONG_TIMES: usize = 30;

/// The identity of a message.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Mail {
    /// The author, by place.
    pub(crate) user: u32,
    /// The author's device that made it.
    pub(crate) device: u16,
    /// The device's own counter: 1, 2, 3, …
    pub(crate) n: u32,
    /// The conversation, by place in the book.
    pub(crate) conv: u32,
}

impl Mail {
    /// The `cid`.
    pub(crate) fn cid(self, run: u64) -> String {
        format!("{run:x}.{}.{}.{}.{}", self.user, self.device, self.n, self.conv)
    }

    /// Reads a `cid`. `None`: not of this run.
    pub(crate) fn from_cid(cid: &str, run: u64) -> Option<Self> {
        let mut parts = cid.split('.');
        if u64::from_str_radix(parts.next()?, 16).ok()? != run {
            return None;
        }
        let (user, device) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        let (n, conv) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        parts.next().is_none().then_some(Self { user, device, n, conv })
    }

    /// A number that no other message of the run has, and never 0.
    pub(crate) fn print(self) -> u64 {
        u64::from(self.user) << 44 | u64::from(self.device & 0xfff) << 32 | u64::from(self.n)
    }

    /// The content.
    pub(crate) fn content(self, run: u64, payload: usize) -> String {
        let mut state = mix(run ^ self.print());
        let long = state.is_multiple_of(LONG_ONE_IN);
        let length = (state >> 8) as usize % (2 * payload).max(1) * if long { LONG_TIMES } else { 1 };
        let length = length.min(PAYLOAD_BYTES_MAX / 4);
        let mut content = format!("vf.{}.", self.cid(run));
        while content.len() < length {
            state = mix(state);
            (0..16).for_each(|i| content.push_str(PIECES[(state >> (4 * i)) as usize % PIECES.len()]));
        }
        content
    }

    /// The whole command.
    pub(crate) fn command(self, run: u64, payload: usize, kind: u64, dstid: u64) -> String {
        let content = self.content(run, payload);
        json!({"cmd": kind, "cid": self.cid(run), "dstid": dstid, "media": 1, "content": content, "mark": {"n": [self.n]}})
            .to_string()
    }
}

/// As people read it in a counter-example.
impl std::fmt::Display for Mail {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "message {} of user #{} device {}", self.n, self.user, self.device)
    }
}

/// A message as a push, a sync or the history shows it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Row {
    pub(crate) kind: u64,
    pub(crate) id: u64,
    pub(crate) seq: u64,
    pub(crate) userid: u64,
    pub(crate) dstid: u64,
    pub(crate) cid: String,
    pub(crate) content: String,
    /// The field that the server does not know.
    pub(crate) mark: Value,
}

impl Row {
    /// Takes the fields out of the JSON object; what is missing is named.
    pub(crate) fn read(value: &Value) -> Result<Self, &'static str> {
        let number = |key: &'static str| value[key].as_u64().ok_or(key);
        let text = |key: &str| value[key].as_str().unwrap_or_default().to_owned();
        Ok(Self {
            kind: number("cmd")?,
            id: number("id")?,
            seq: number("seq")?,
            userid: number("userid")?,
            dstid: number("dstid")?,
            cid: text("cid"),
            content: text("content"),
            mark: value["mark"].clone(),
        })
    }

    /// What differs from what was sent. `None`: nothing.
    pub(crate) fn altered(&self, mail: Mail, run: u64, payload: usize) -> Option<String> {
        let mut what = String::new();
        let sent = mail.content(run, payload);
        // Writing to a String cannot fail.
        if self.content != sent {
            let at = self.content.bytes().zip(sent.bytes()).take_while(|(a, b)| a == b).count();
            let _ = write!(
                what,
                "content of {} bytes differs from the {} sent from byte {at} on",
                self.content.len(),
                sent.len()
            );
        }
        if self.mark != json!({"n": [mail.n]}) {
            let _ = write!(what, " unknown field is {}", self.mark);
        }
        (!what.is_empty()).then_some(what)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAIL: Mail = Mail { user: 3, device: 1, n: 9, conv: 4 };

    #[test]
    fn a_cid_comes_back_and_others_do_not() {
        assert_eq!(Mail::from_cid(&MAIL.cid(0xab), 0xab), Some(MAIL));
        for other in ["", "ab.1.2.3", "ac.1.2.3.4", "ab.1.2.3.4.5", "ab.x.2.3.4"] {
            assert_eq!(Mail::from_cid(other, 0xab), None, "{other}");
        }
    }

    #[test]
    fn a_change_of_the_message_is_seen() {
        let mut value: Value = serde_json::from_str(&MAIL.command(7, 200, 11, 5)).expect("JSON");
        for (key, n) in [("id", 1), ("seq", 2), ("userid", 3)] {
            value[key] = json!(n);
        }
        let row = Row::read(&value).expect("a row");
        assert_eq!(row.altered(MAIL, 7, 200), None);
        assert!(Row { mark: Value::Null, ..row.clone() }.altered(MAIL, 7, 200).is_some());
        let cut = row.content[..row.content.len() - 1].to_owned();
        assert!(Row { content: cut, ..row }.altered(MAIL, 7, 200).is_some());
        assert_eq!(Row::read(&json!({"cmd": 10, "id": 1})), Err("seq"));
    }
}
