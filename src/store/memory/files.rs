//! Claims of files and references to them, in memory.
//!
//! Never: lets a change be seen in halves; one lock is one transaction.

use std::collections::{BTreeMap, BTreeSet};

use super::{Connection, State};
use crate::ids::{ConvId, GroupId, Seq, UserId};
use crate::store::Error;
use crate::store::files::{Claim, FileId, Files, Retired, Shelf, addresses, retire};

/// The tables of files.
#[derive(Default)]
pub(super) struct Library {
    files: BTreeMap<FileId, Kept>,
    claims: BTreeMap<(UserId, [u8; 32]), Claimed>,
    refs: BTreeSet<(FileId, Referrer)>,
    by_place: BTreeMap<Referrer, Vec<FileId>>,
}

struct Kept {
    thumb: Option<FileId>,
    /// When to look whether anything still holds it.
    due_ms: u64,
}

struct Claimed {
    file: FileId,
    bytes: u64,
    until_ms: u64,
    note: String,
}

/// What a reference stands in.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Referrer {
    Message(ConvId, Seq),
    Avatar(UserId),
    Icon(GroupId),
}

impl Library {
    /// Records what the text of a place refers to.
    pub(super) fn refer(&mut self, place: Referrer, text: &str) {
        let known: Vec<FileId> = addresses(text).into_iter().filter(|file| self.files.contains_key(file)).collect();
        if !known.is_empty() {
            self.refs.extend(known.iter().map(|&file| (file, place)));
            self.by_place.insert(place, known);
        }
    }

    /// The text of a place was replaced, if it was.
    pub(super) fn refer_anew(&mut self, place: Referrer, text: Option<&String>) {
        if let Some(text) = text {
            self.release(place);
            self.refer(place, text);
        }
    }

    /// The text of a place is no more. What it referred to.
    pub(super) fn release(&mut self, place: Referrer) -> Vec<FileId> {
        let files = self.by_place.remove(&place).unwrap_or_default();
        for &file in &files {
            self.refs.remove(&(file, place));
            self.due(file, |_| 0);
        }
        files
    }

    /// A message is taken back by its sender, whose own claim of what it showed ends with it.
    pub(super) fn recall(&mut self, conv: ConvId, seq: Seq, sender: UserId) {
        let files = self.release(Referrer::Message(conv, seq));
        let own = self.claims.iter_mut().filter(|((user, _), claim)| *user == sender && files.contains(&claim.file));
        own.for_each(|(_, claim)| claim.until_ms = 0);
    }

    /// A user is deleted: the avatar and the claims go.
    pub(super) fn let_go(&mut self, user: UserId) {
        self.release(Referrer::Avatar(user));
        let own: Vec<FileId> =
            self.claims.extract_if(.., |(by, _), _| *by == user).map(|(_, known)| known.file).collect();
        own.into_iter().for_each(|file| self.due(file, |_| 0));
    }

    fn due(&mut self, file: FileId, change: impl FnOnce(u64) -> u64) {
        if let Some(kept) = self.files.get_mut(&file) {
            kept.due_ms = change(kept.due_ms);
        }
    }

    fn keep(&mut self, file: FileId, thumb: Option<FileId>, until_ms: u64) {
        let kept = self.files.entry(file).or_insert(Kept { thumb, due_ms: until_ms });
        kept.due_ms = kept.due_ms.max(until_ms);
        kept.thumb = thumb.or(kept.thumb);
    }

    /// Removes the claims of a file, of one user and time alone if that is `only`; their users, and
    /// what they weigh.
    fn unclaim(&mut self, file: FileId, only: Option<(UserId, u64)>) -> Vec<(UserId, u64)> {
        let gone = self.claims.extract_if(.., |(by, _), claim| {
            claim.file == file && only.is_none_or(|only| only == (*by, claim.until_ms))
        });
        gone.map(|((by, _), claim)| (by, claim.bytes)).collect()
    }
}

impl State {
    fn refund(&mut self, file: FileId, only: Option<(UserId, u64)>) {
        for (by, bytes) in self.library.unclaim(file, only) {
            let weighs = self.uploads.entry(by).or_default();
            *weighs = weighs.saturating_sub(bytes);
        }
    }

    fn claim_for(&mut self, user: UserId, claim: &Claim, most: u64) -> bool {
        let paid = self.library.claims.iter().any(|((by, _), known)| *by == user && known.file == claim.file);
        let weighs = self.uploads.get(&user).copied().unwrap_or(0);
        let sum = weighs.checked_add(claim.weight(paid)).filter(|sum| *sum <= most);
        let Some(sum) = sum.filter(|_| self.living(user).is_some()) else { return false };
        self.uploads.insert(user, sum);
        for (&digest, bytes) in claim.rows(paid) {
            let earlier = self.library.claims.get(&(user, digest)).map_or(0, |known| known.bytes);
            let (until_ms, note) = (claim.until_ms, claim.note.clone());
            let known = Claimed { file: claim.file, bytes: earlier + bytes, until_ms, note };
            self.library.claims.insert((user, digest), known);
        }
        true
    }
}

impl Files for Connection {
    fn claimed(&mut self, user: UserId, digest: &[u8; 32], until_ms: u64) -> Result<Option<String>, Error> {
        let library = &mut self.state.lock().library;
        let Some((file, note)) = library.claims.get(&(user, *digest)).map(|known| (known.file, known.note.clone()))
        else {
            return Ok(None);
        };
        let own = library.claims.iter_mut().filter(|((by, _), known)| *by == user && known.file == file);
        own.for_each(|(_, known)| known.until_ms = known.until_ms.max(until_ms));
        library.due(file, |due_ms| due_ms.max(until_ms));
        Ok(Some(note))
    }

    fn claim(&mut self, claim: &Claim, most: u64) -> Result<bool, Error> {
        let mut state = self.state.lock();
        if claim.user.is_some_and(|user| !state.claim_for(user, claim, most)) {
            return Ok(false);
        }
        state.library.keep(claim.file, claim.thumb, claim.until_ms);
        if let Some(thumb) = claim.thumb {
            state.library.keep(thumb, None, claim.until_ms);
        }
        Ok(true)
    }

    fn unclaim(&mut self, claim: &Claim) -> Result<(), Error> {
        let mut state = self.state.lock();
        if let Some(user) = claim.user {
            state.refund(claim.file, Some((user, claim.until_ms)));
        }
        state.library.due(claim.file, |due_ms| if due_ms == claim.until_ms { 0 } else { due_ms });
        Ok(())
    }

    fn is_known(&mut self, file: FileId) -> Result<bool, Error> {
        Ok(self.state.lock().library.files.contains_key(&file))
    }

    fn retire(
        &mut self,
        now_ms: u64,
        files_max: u32,
        remove: &mut dyn FnMut(FileId) -> bool,
    ) -> Result<Retired, Error> {
        let mut state = self.state.lock();
        let due = state.library.files.iter().filter(|(_, kept)| kept.due_ms <= now_ms).map(|(file, _)| *file);
        let due: Vec<FileId> = due.take(files_max as usize).collect();
        retire(&mut Now { state: &mut state, now_ms }, due.len(), due, remove)
    }

    fn uploaded(&mut self, user: UserId) -> Result<u64, Error> {
        Ok(self.state.lock().uploads.get(&user).copied().unwrap_or(0))
    }
}

/// The files under the lock, as they are held at a time.
struct Now<'a> {
    state: &'a mut State,
    now_ms: u64,
}

impl Shelf for Now<'_> {
    type Fault = Error;

    fn is_referred(&mut self, file: FileId) -> Result<bool, Error> {
        let library = &self.state.library;
        let referred = library.refs.iter().any(|(other, _)| *other == file);
        Ok(referred || library.files.values().any(|kept| kept.thumb == Some(file)))
    }

    fn claimed_until(&mut self, file: FileId) -> Result<Option<u64>, Error> {
        let claims = self.state.library.claims.values();
        let held = claims.filter(|claim| claim.file == file && claim.until_ms > self.now_ms);
        Ok(held.map(|claim| claim.until_ms).max())
    }

    fn look_again(&mut self, file: FileId, at_ms: u64) -> Result<(), Error> {
        self.state.library.due(file, |_| at_ms);
        Ok(())
    }

    fn forget(&mut self, file: FileId) -> Result<(), Error> {
        self.state.refund(file, None);
        if let Some(thumb) = self.state.library.files.remove(&file).and_then(|kept| kept.thumb) {
            self.state.library.due(thumb, |_| 0);
        }
        Ok(())
    }
}
