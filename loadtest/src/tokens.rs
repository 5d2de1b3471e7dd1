//! The users of a run: `id token` lines, as `imgate token` and `imgate seed` print them.
//!
//! Owns: the file's text, kept as one string with a range per user, so that 60,000 tokens are one
//! allocation.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};

use crate::limits::CONNECTIONS_MAX;

/// Users and their tokens, in the order of the file.
#[derive(Debug)]
pub(crate) struct Tokens {
    text: String,
    /// User id, and where the token lies in `text`.
    users: Vec<(u64, std::ops::Range<usize>)>,
    /// On a worker: which places of the control's file these are, rising.
    places: Option<Vec<u32>>,
}

impl Tokens {
    /// Reads a file. Empty lines and lines that begin with `#` are skipped.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let text =
            std::fs::read_to_string(path).with_context(|| format!("cannot read tokens from {}", path.display()))?;
        Self::parse(text).with_context(|| format!("in {}", path.display()))
    }

    fn parse(text: String) -> Result<Self> {
        let users = Self::lines(&text)?;
        Ok(Self { text, users, places: None })
    }

    /// As a control tells them: `place id token` lines, places rising; without a token, behind a
    /// space, where a worker only has to know the id.
    ///
    /// # Errors
    /// They are not such lines, or a place is beyond all that a run may have.
    pub(crate) fn told(text: String) -> Result<Self> {
        let (mut users, mut places, mut start) = (Vec::new(), Vec::new(), 0);
        for (number, line) in text.split_inclusive('\n').enumerate() {
            let end = start + line.trim_end_matches('\n').len();
            let mut words = text[start..end].splitn(3, ' ');
            let (place, id, token) = (words.next(), words.next(), words.next());
            let place = place.and_then(|place| place.parse().ok()).filter(|place| *place < CONNECTIONS_MAX as u32);
            let (Some(place), Some(id), Some(token)) = (place, id.and_then(|id| id.parse().ok()), token) else {
                bail!("line {}: not `place id token`", number + 1)
            };
            ensure!(places.last().is_none_or(|last| *last < place), "line {}: places rise", number + 1);
            ensure!(token.bytes().all(is_safe), "line {}: not a token", number + 1);
            users.push((id, end - token.len()..end));
            places.push(place);
            start += line.len();
        }
        Ok(Self { text, users, places: Some(places) })
    }

    /// The users of a file.
    fn lines(text: &str) -> Result<Vec<(u64, std::ops::Range<usize>)>> {
        let mut users = Vec::new();
        let mut start = 0;
        for (number, line) in text.split_inclusive('\n').enumerate() {
            let at = start;
            start += line.len();
            let line = line.trim_end();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let Some((id, token)) = line.split_once(' ') else { bail!("line {}: not `id token`", number + 1) };
            let id = id.parse().with_context(|| format!("line {}: {id:?} is not a user id", number + 1))?;
            ensure!(!token.is_empty() && token.bytes().all(is_safe), "line {}: not a token", number + 1);
            let from = at + line.len() - token.len();
            users.push((id, from..from + token.len()));
        }
        ensure!(!users.is_empty(), "no tokens");
        Ok(users)
    }

    /// How many users.
    pub(crate) fn len(&self) -> usize {
        self.users.len()
    }

    /// How many users have a token.
    pub(crate) fn own(&self) -> usize {
        self.users.iter().filter(|(_, token)| !token.is_empty()).count()
    }

    /// User and token at `index`, which wraps around. On a worker it does not; there a place that
    /// the control has not told has no user.
    pub(crate) fn get(&self, index: usize) -> (u64, &str) {
        let place = match &self.places {
            None => Some(index % self.users.len()),
            Some(places) => places.binary_search_by_key(&index, |place| *place as usize).ok(),
        };
        let user = place.and_then(|place| self.users.get(place));
        user.map_or((0, ""), |(id, token)| (*id, &self.text[token.clone()]))
    }

    /// Whether there is a user with a token at `index`.
    pub(crate) fn has(&self, index: usize) -> bool {
        !self.get(index).1.is_empty()
    }

    /// The token of a user.
    pub(crate) fn of(&self, user: u64) -> Option<&str> {
        let (_, token) = self.users.iter().find(|(id, _)| *id == user)?;
        Some(&self.text[token.clone()])
    }

    /// Fails unless there are `needed` different users.
    pub(crate) fn need(&self, needed: usize) -> Result<()> {
        ensure!(self.len() >= needed, "{needed} users are needed, the tokens file has {}", self.len());
        let mut ids: Vec<u64> = self.users[..needed].iter().map(|(id, _)| *id).collect();
        ids.sort_unstable();
        ids.dedup();
        ensure!(ids.len() == needed, "the first {needed} lines of the tokens file name a user twice");
        Ok(())
    }
}

/// The token goes into a request line: nothing else may ride along.
const fn is_safe(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_become_users() {
        let t = Tokens::parse("# made by imgate\n7 abc-_\r\n\n8 x.y\n".to_owned()).expect("two users");
        assert_eq!((t.len(), t.get(0), t.get(1), t.get(2)), (2, (7, "abc-_"), (8, "x.y"), (7, "abc-_")));
        assert_eq!((t.of(8), t.of(9)), (Some("x.y"), None));
        assert!(t.need(2).is_ok() && t.need(3).is_err());
    }

    #[test]
    fn nonsense_is_refused() {
        for bad in ["", "7", "x abc", "7 a b", "7 a\u{e9}", "7 "] {
            assert!(Tokens::parse(bad.to_owned()).is_err(), "{bad:?}");
        }
        assert!(Tokens::parse("7 a\n7 b\n".to_owned()).expect("two lines").need(2).is_err());
    }
}
