//! What every message carries: when it was due, who wrote it, and which stretch of a run it belongs
//! to.
//!
//! Owns: [`Stamp`] as text, and finding all stamps in a payload (some servers put several messages
//! into one).

use std::fmt::Write as _;

use memchr::memmem::Finder;

/// Begins a stamp; occurs in no server's own words.
const MARK: &str = "~~";
/// Characters of a stamp: the mark, 16 of the time, 8 of the author, 4 of the stretch.
pub const STAMP_CHARS: usize = MARK.len() + 16 + 8 + 4;

/// A message's stamp.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stamp {
    /// When it was due to be sent, by [`crate::clock::nanos`].
    pub due_ns: u64,
    /// The member that posted it.
    pub author: u32,
    /// Which stretch it counts for.
    pub stretch: u16,
}

impl Stamp {
    /// Writes it to the end of `out`.
    pub fn write(self, out: &mut String) {
        // Writing to a string cannot fail.
        let _ = write!(out, "{MARK}{:016x}{:08x}{:04x}", self.due_ns, self.author, self.stretch);
    }
}

/// Finds stamps; made once, because the searcher has tables.
#[derive(Debug)]
pub struct Scanner(Finder<'static>);

impl Default for Scanner {
    fn default() -> Self {
        Self(Finder::new(MARK))
    }
}

impl Scanner {
    /// Calls `found` for every stamp in `payload`.
    pub fn scan(&self, payload: &[u8], mut found: impl FnMut(Stamp)) {
        let mut rest = payload;
        while let Some(at) = self.0.find(rest) {
            let Some(text) = rest.get(at + MARK.len()..at + STAMP_CHARS) else { return };
            if let Some(stamp) = read(text) {
                found(stamp);
            }
            rest = &rest[at + STAMP_CHARS..];
        }
    }
}

fn read(text: &[u8]) -> Option<Stamp> {
    let number = |digits: &[u8]| {
        digits.iter().try_fold(0u64, |sum, &digit| Some(sum << 4 | u64::from((digit as char).to_digit(16)?)))
    };
    Some(Stamp {
        due_ns: number(&text[..16])?,
        author: u32::try_from(number(&text[16..24])?).ok()?,
        stretch: u16::try_from(number(&text[24..])?).ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_stamp_of_a_payload_is_found() {
        let stamps = [
            Stamp { due_ns: 1, author: 2, stretch: 3 },
            Stamp { due_ns: u64::MAX, author: u32::MAX, stretch: u16::MAX },
        ];
        let mut text = "MSG g 1 150\r\n".to_owned();
        for stamp in stamps {
            stamp.write(&mut text);
            text.push_str("xxxx\r\n");
        }
        text.push_str("~~ no stamp");
        let mut found = Vec::new();
        Scanner::default().scan(text.as_bytes(), |stamp| found.push(stamp));
        assert_eq!(found, stamps);
        let mut one = String::new();
        stamps[0].write(&mut one);
        assert_eq!(one.len(), STAMP_CHARS);
    }
}
