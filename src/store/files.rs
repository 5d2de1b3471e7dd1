//! Uploaded files as the database knows them: claims, references, and which may go.
//!
//! Owns: the vocabulary of claims and references, and how the address of a file is found in a text.
//! Never: touches a file. The keeper of files is told which one may go, in the transaction that
//! forgets it.
//! Bounds: a text refers to at most [`FILE_REFS_MAX`] files; a step looks at as many files as it is
//! allowed.
//!
//! A file is held by a claim of its uploader, until the claim runs out, and by every message,
//! avatar and icon that holds its address, for as long as they do. A reference is written in the
//! transaction that writes the text, and both of them lock the file's row, so that none can come
//! between the look and the removal.

use super::Error;
use crate::ids::UserId;
use crate::limits::FILE_REFS_MAX;

/// The address of a file: what its URL says in 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct FileId(pub [u8; 32]);

/// An upload that is about to be kept.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Claim {
    /// The uploader; `None`: no user yet.
    pub user: Option<UserId>,
    /// SHA-256 of what was sent, then of what is kept of it if that is something else.
    pub digests: Vec<[u8; 32]>,
    /// Where it is kept.
    pub file: FileId,
    /// The small picture beside it.
    pub thumb: Option<FileId>,
    /// What both of them weigh together.
    pub bytes: u64,
    /// What the uploader was told of it; comes back from [`Files::claimed`].
    pub note: String,
    /// The claim holds the file until then, in Unix milliseconds.
    pub until_ms: u64,
}

impl Claim {
    /// What it weighs on its user, which may have `paid` for the file by an earlier claim.
    pub(super) const fn weight(&self, paid: bool) -> u64 {
        if paid { 0 } else { self.bytes }
    }

    /// Its digests, and what the row of each weighs: the first one all of it.
    pub(super) fn rows(&self, paid: bool) -> impl Iterator<Item = (&[u8; 32], u64)> {
        let weights = std::iter::once(self.weight(paid)).chain(std::iter::repeat(0));
        self.digests.iter().zip(weights)
    }
}

/// What one step of [`Files::retire`] did.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Retired {
    /// Files that nothing refers to any more, which were removed.
    pub removed: u64,
    /// Files that something holds, which are looked at again when it lets go.
    pub held: u32,
    /// Files that were looked at; fewer than were allowed: there are no more for now.
    pub seen: u32,
}

/// Uploaded files, on one connection.
pub trait Files {
    /// What `user` was told when it uploaded the content with that digest, if that is still known.
    /// The claim is renewed until `until_ms`, and so is the file's. What others have uploaded is
    /// never told.
    ///
    /// # Errors
    /// As the database says.
    fn claimed(&mut self, user: UserId, digest: &[u8; 32], until_ms: u64) -> Result<Option<String>, Error>;

    /// Records an upload. It weighs on its user, once, whatever other users have uploaded the same;
    /// `false`: it would weigh more than `most` with the other files of the user, or there is no
    /// such user, or the user was deleted, and nothing was recorded.
    ///
    /// # Errors
    /// As the database says.
    fn claim(&mut self, claim: &Claim, most: u64) -> Result<bool, Error>;

    /// Takes back a claim whose file could not be kept. A later claim of the same user and file has
    /// taken its place, and is another request's: it stays.
    ///
    /// # Errors
    /// As the database says.
    fn unclaim(&mut self, claim: &Claim) -> Result<(), Error>;

    /// Whether there is such a file: an upload was recorded, and nothing has forgotten it since.
    ///
    /// # Errors
    /// As the database says.
    fn is_known(&mut self, file: FileId) -> Result<bool, Error>;

    /// One step of the removal of files that nothing holds at `now_ms`: looks at up to `files_max`
    /// that are due. `remove` takes a file out of sight, and answers whether it could; the
    /// transaction that forgets the file ends after it, and until then nothing can refer to the
    /// file anew. When this fails, what was removed must be put back.
    ///
    /// # Errors
    /// As the database says.
    fn retire(&mut self, now_ms: u64, files_max: u32, remove: &mut dyn FnMut(FileId) -> bool)
    -> Result<Retired, Error>;

    /// What the uploads of `user` weigh.
    ///
    /// # Errors
    /// As the database says.
    fn uploaded(&mut self, user: UserId) -> Result<u64, Error>;
}

/// What a step of [`Files::retire`] asks and tells a database of one file, in its transaction and
/// with the file locked.
pub(super) trait Shelf {
    type Fault;

    /// Whether a text refers to the file, or a picture has it as its small one.
    fn is_referred(&mut self, file: FileId) -> Result<bool, Self::Fault>;

    /// The end of the last claim that holds it now, in Unix milliseconds.
    fn claimed_until(&mut self, file: FileId) -> Result<Option<u64>, Self::Fault>;

    /// The file is due at that time.
    fn look_again(&mut self, file: FileId, at_ms: u64) -> Result<(), Self::Fault>;

    /// Forgets the file, gives its users back what it has weighed, and makes its small picture due.
    fn forget(&mut self, file: FileId) -> Result<(), Self::Fault>;
}

/// A step of [`Files::retire`] over `files`, of which `seen` were found to be due: what is held is
/// looked at again when it may be free, and the others go if they can be removed.
pub(super) fn retire<S: Shelf>(
    shelf: &mut S,
    seen: usize,
    files: impl IntoIterator<Item = FileId>,
    remove: &mut dyn FnMut(FileId) -> bool,
) -> Result<Retired, S::Fault> {
    let mut retired = Retired { seen: u32::try_from(seen).unwrap_or(u32::MAX), ..Retired::default() };
    for file in files {
        let held = if shelf.is_referred(file)? { Some(HELD_MS) } else { shelf.claimed_until(file)? };
        if let Some(at_ms) = held {
            shelf.look_again(file, at_ms)?;
            retired.held += 1;
        } else if remove(file) {
            shelf.forget(file)?;
            retired.removed += 1;
        }
    }
    Ok(retired)
}

/// A file that is referred to is not looked at before this time: a reference that goes makes its
/// file due.
const HELD_MS: u64 = i64::MAX as u64;

/// What a reference stands in.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u8)]
pub(super) enum Place {
    /// A message: its conversation's row, its number.
    Message = 1,
    /// A user's avatar: the user, 0.
    Avatar = 2,
    /// A group's icon: the group, 0.
    Icon = 3,
}

/// The first [`FILE_REFS_MAX`] addresses in `text`, each once, sorted: words of 64 lowercase
/// hexadecimal digits. Looks at one byte of 64 as long as it finds no digit.
pub(super) fn addresses(text: &str) -> Vec<FileId> {
    let mut found = Vec::new();
    let bytes = text.as_bytes();
    let mut at = DIGITS - 1;
    while at < bytes.len() && found.len() < FILE_REFS_MAX {
        if !is_digit(bytes[at]) {
            at += DIGITS;
            continue;
        }
        let first = bytes[..at].iter().rposition(|&byte| !is_digit(byte)).map_or(0, |before| before + 1);
        let end = bytes[at..].iter().position(|&byte| !is_digit(byte)).map_or(bytes.len(), |behind| at + behind);
        // A longer word may be an escaped character with an address behind it (`\u002f…`).
        if let Some(file) = (end - first).ge(&DIGITS).then(|| parse(&bytes[end - DIGITS..end])).flatten()
            && !found.contains(&file)
        {
            found.push(file);
        }
        at = end + DIGITS;
    }
    found.sort_unstable();
    found
}

const DIGITS: usize = 64;

const fn is_digit(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'a'..=b'f')
}

fn parse(digits: &[u8]) -> Option<FileId> {
    let value = |digit: u8| char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok());
    let mut id = [0; 32];
    for (byte, pair) in id.iter_mut().zip(digits.as_chunks::<2>().0) {
        *byte = value(pair[0])? << 4 | value(pair[1])?;
    }
    Some(FileId(id))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn hex(file: FileId) -> String {
        file.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn addresses_are_found_wherever_they_stand() {
        let (a, b) = (FileId([0xab; 32]), FileId([0x12; 32]));
        for text in [
            format!(r#"{{"url":"/files/{}.png","pic":"https://x/resource/{}.jpg"}}"#, hex(b), hex(a)),
            format!("{}.png {} {}", hex(a), hex(b), hex(a)),
            format!(r"\/files\/{} \u002ffiles\u002f{}", hex(b), hex(a)),
        ] {
            assert_eq!(addresses(&text), [b, a], "{text}");
        }
        assert_eq!(addresses(&hex(a)[1..]), []);
        assert_eq!(addresses(&hex(a).to_uppercase()), []);
        let many: String = (0..=u8::MAX).map(|n| format!("{} ", hex(FileId([n; 32])))).collect();
        assert_eq!(addresses(&many).len(), FILE_REFS_MAX);
    }

    proptest! {
        #[test]
        fn none_is_missed_and_nothing_else_is_found(
            before in "[^0-9a-f]{0,200}", id in any::<[u8; 32]>(), behind in "[^0-9a-f]{0,200}",
        ) {
            prop_assert_eq!(addresses(&format!("{before}{}{behind}", hex(FileId(id)))), vec![FileId(id)]);
            prop_assert_eq!(addresses(&format!("{before}{}{behind}", &hex(FileId(id))[..63])), vec![]);
        }

        #[test]
        fn no_text_hurts(text in any::<String>()) {
            let _ = addresses(&text);
        }
    }
}
