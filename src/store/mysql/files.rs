//! Claims of files and references to them.
//!
//! Owns: the tables `files`, `file_claims` and `file_refs`.
//! Never: begins or ends a transaction for a text that refers to files; the writer of the text
//! does.
//!
//! The row of a file is its lock: a transaction that refers to a file, lets go of it or removes it
//! locks the rows of all files concerned first, in the order of their addresses, and behind
//! everything else that its transaction locks. A deletion locks in two rounds, what pictures hold
//! and what was claimed; where that crosses with another one, the database ends one of them.

use mysql::Value;

use super::Mysql;
use super::fault::Fault;
use super::statement::{Session, Shape, broken, get_uint, int, take_bytes, take_text, text};
use crate::ids::{GroupId, UserId};
use crate::store::Error;
use crate::store::files::{Claim, FileId, Files, Place, Retired, Shelf, addresses, retire};
use crate::store::folding::ERASED_LIKE;

const LOCK_FILES: Shape = Shape {
    before: "SELECT file FROM files FORCE INDEX (PRIMARY) WHERE file IN (",
    each: "?",
    width: 1,
    between: ", ",
    after: ") ORDER BY file FOR UPDATE",
};
const NEW_REFS: Shape = Shape {
    before: "INSERT IGNORE INTO file_refs (file, place, a, b) VALUES ",
    each: "(?, ?, ?, ?)",
    width: 4,
    between: ", ",
    after: "",
};

/// The text of a place.
pub(super) struct Text<'a> {
    pub(super) place: Place,
    pub(super) a: u64,
    pub(super) b: u64,
    pub(super) text: &'a str,
}

/// Places whose text is no more: of `a`, from `from` up to `to` (exclusive).
#[derive(Clone, Copy)]
pub(super) struct Gone {
    pub(super) place: Place,
    pub(super) a: u64,
    pub(super) from: u64,
    pub(super) to: u64,
    /// Whose claim of what it showed ends with it.
    pub(super) recalled_by: Option<UserId>,
}

impl Gone {
    /// The one text of an avatar or icon.
    pub(super) const fn only(place: Place, a: u64) -> Self {
        Self { place, a, from: 0, to: 1, recalled_by: None }
    }

    fn values(self) -> Vec<Value> {
        vec![int(self.place as u64), int(self.a), int(self.from), int(self.to)]
    }
}

/// Forgets the references of `gone` and records those of `texts`, in this order.
pub(super) fn refer(session: &mut Session, gone: &[Gone], texts: &[Text<'_>]) -> Result<(), Fault> {
    let wanted: Vec<(FileId, &Text<'_>)> =
        texts.iter().flat_map(|text| addresses(text.text).into_iter().map(move |file| (file, text))).collect();
    let mut left: Vec<Vec<FileId>> = Vec::with_capacity(gone.len());
    for gone in gone {
        let sql = "SELECT file FROM file_refs WHERE place = ? AND a = ? AND b >= ? AND b < ?";
        left.push(session.rows(sql, gone.values(), |row| file_of(take_bytes(row, 0)?))?);
    }
    let known = lock(session, wanted.iter().map(|(file, _)| *file).chain(left.iter().flatten().copied()))?;
    for (gone, files) in gone.iter().zip(left).filter(|(_, files)| !files.is_empty()) {
        for file in files {
            session.run("UPDATE files SET due_ms = 0 WHERE file = ?", vec![bytes(file)])?;
            if let Some(user) = gone.recalled_by {
                let sql = "UPDATE file_claims SET until_ms = 0 WHERE user_id = ? AND file = ?";
                session.run(sql, vec![int(user.get()), bytes(file)])?;
            }
        }
        session.run("DELETE FROM file_refs WHERE place = ? AND a = ? AND b >= ? AND b < ?", gone.values())?;
    }
    let list = wanted
        .iter()
        .filter(|(file, _)| known.binary_search(file).is_ok())
        .flat_map(|(file, text)| [bytes(*file), int(text.place as u64), int(text.a), int(text.b)]);
    session.write_all(&NEW_REFS, &[], list.collect())?;
    Ok(())
}

/// A user is deleted: the avatar and the claims go, and the icons of groups that have ended.
pub(super) fn let_go(session: &mut Session, user: UserId, ended: &[GroupId]) -> Result<(), Fault> {
    let icons = ended.iter().map(|group| Gone::only(Place::Icon, group.get()));
    let gone: Vec<Gone> = icons.chain([Gone::only(Place::Avatar, user.get())]).collect();
    refer(session, &gone, &[])?;
    let sql = "SELECT DISTINCT file FROM file_claims WHERE user_id = ?";
    let claimed = session.rows(sql, vec![int(user.get())], |row| file_of(take_bytes(row, 0)?))?;
    for file in lock(session, claimed.into_iter())? {
        session.run("UPDATE files SET due_ms = 0 WHERE file = ?", vec![bytes(file)])?;
    }
    session.run("DELETE FROM file_claims WHERE user_id = ?", vec![int(user.get())])?;
    Ok(())
}

/// Locks those of the files that there are; sorted.
fn lock(session: &mut Session, files: impl Iterator<Item = FileId>) -> Result<Vec<FileId>, Fault> {
    let mut files: Vec<FileId> = files.collect();
    if files.is_empty() {
        return Ok(files);
    }
    files.sort_unstable();
    files.dedup();
    let list: Vec<Value> = files.into_iter().map(bytes).collect();
    let mut found = session.find_all(&LOCK_FILES, &list, |row| file_of(take_bytes(row, 0)?))?;
    found.sort_unstable();
    Ok(found)
}

fn bytes(file: FileId) -> Value {
    Value::Bytes(file.0.to_vec())
}

fn file_of(bytes: Vec<u8>) -> Result<FileId, Fault> {
    let bytes = bytes.try_into().map_err(|_| broken("an address of a file has not 32 bytes".to_owned()))?;
    Ok(FileId(bytes))
}

impl Files for Mysql {
    fn claimed(&mut self, user: UserId, digest: &[u8; 32], until_ms: u64) -> Result<Option<String>, Error> {
        let (user, digest) = (int(user.get()), Value::Bytes(digest.to_vec()));
        Ok(self.transact(|session| {
            let sql = "SELECT c.file, c.note FROM file_claims c JOIN files f ON f.file = c.file
                       WHERE c.user_id = ? AND c.digest = ?";
            let found = session.first(sql, vec![user.clone(), digest], |row| {
                Ok((file_of(take_bytes(row, 0)?)?, take_text(row, 1)?))
            })?;
            let Some((file, note)) = found else { return Ok(None) };
            // Gone since a moment ago, perhaps.
            if lock(session, [file].into_iter())?.is_empty() {
                return Ok(None);
            }
            let sql = "UPDATE file_claims SET until_ms = GREATEST(until_ms, ?) WHERE user_id = ? AND file = ?";
            session.run(sql, vec![int(until_ms), user, bytes(file)])?;
            let sql = "UPDATE files SET due_ms = GREATEST(due_ms, ?) WHERE file = ?";
            session.run(sql, vec![int(until_ms), bytes(file)])?;
            Ok(Some(note))
        })?)
    }

    fn claim(&mut self, claim: &Claim, most: u64) -> Result<bool, Error> {
        Ok(self.transact(|session| {
            if let Some(user) = claim.user
                && !claim_for(session, user, claim, most)?
            {
                return Ok(false);
            }
            let mut kept = vec![(claim.file, claim.thumb)];
            kept.extend(claim.thumb.map(|thumb| (thumb, None)));
            kept.sort_unstable();
            for (file, thumb) in kept {
                let sql = "INSERT INTO files (file, thumb, due_ms) VALUES (?, ?, ?)
                           ON DUPLICATE KEY UPDATE due_ms = GREATEST(due_ms, ?), thumb = COALESCE(?, thumb)";
                let (thumb, until) = (thumb.map_or(Value::NULL, bytes), int(claim.until_ms));
                session.run(sql, vec![bytes(file), thumb.clone(), until.clone(), until, thumb])?;
            }
            Ok(true)
        })?)
    }

    fn unclaim(&mut self, claim: &Claim) -> Result<(), Error> {
        Ok(self.transact(|session| {
            lock(session, [claim.file].into_iter())?;
            if let Some(user) = claim.user {
                let values = vec![bytes(claim.file), int(user.get()), int(claim.until_ms)];
                let sql = "SELECT user_id, bytes FROM file_claims WHERE file = ? AND user_id = ? AND until_ms = ?";
                refund(session, sql, values.clone())?;
                let sql = "DELETE FROM file_claims WHERE file = ? AND user_id = ? AND until_ms = ?";
                session.run(sql, values)?;
            }
            let sql = "UPDATE files SET due_ms = 0 WHERE file = ? AND due_ms = ?";
            session.run(sql, vec![bytes(claim.file), int(claim.until_ms)])?;
            Ok(())
        })?)
    }

    fn is_known(&mut self, file: FileId) -> Result<bool, Error> {
        Ok(self
            .ask(|session| {
                session.first("SELECT 1 FROM files WHERE file = ?", vec![bytes(file)], |row| get_uint(row, 0))
            })?
            .is_some())
    }

    fn retire(
        &mut self,
        now_ms: u64,
        files_max: u32,
        remove: &mut dyn FnMut(FileId) -> bool,
    ) -> Result<Retired, Error> {
        let sql = "SELECT file FROM files WHERE due_ms <= ? ORDER BY due_ms LIMIT ?";
        let values = vec![int(now_ms), int(u64::from(files_max))];
        let due = self.ask(|session| session.rows(sql, values.clone(), |row| file_of(take_bytes(row, 0)?)))?;
        if due.is_empty() {
            return Ok(Retired::default());
        }
        Ok(self.transact(|session| {
            // Nothing is read before they are locked, so what is read then is what holds now.
            let files = lock(session, due.iter().copied())?;
            retire(&mut Now { session, now_ms }, due.len(), files, remove)
        })?)
    }

    fn uploaded(&mut self, user: UserId) -> Result<u64, Error> {
        let (sql, values) = ("SELECT upload_bytes FROM users WHERE id = ?", vec![int(user.get())]);
        let weighs = self.ask(|session| session.first(sql, values.clone(), |row| get_uint(row, 0)))?;
        Ok(weighs.unwrap_or(0))
    }
}

/// The part of a claim that is its user's; `false` as in [`Files::claim`].
fn claim_for(session: &mut Session, user: UserId, claim: &Claim, most: u64) -> Result<bool, Fault> {
    // Locked first, so that of two at once the second one sees what the first one has added.
    let id = int(user.get());
    let sql = "SELECT upload_bytes FROM users WHERE id = ? AND mobile NOT LIKE ? FOR UPDATE";
    let Some(weighs) = session.first(sql, vec![id.clone(), text(ERASED_LIKE)], |row| get_uint(row, 0))? else {
        return Ok(false);
    };
    let sql = "SELECT COUNT(*) FROM file_claims WHERE file = ? AND user_id = ?";
    let paid = session.first(sql, vec![bytes(claim.file), id.clone()], |row| get_uint(row, 0))? != Some(0);
    let Some(sum) = weighs.checked_add(claim.weight(paid)).filter(|sum| *sum <= most) else { return Ok(false) };
    session.run("UPDATE users SET upload_bytes = ? WHERE id = ?", vec![int(sum), id.clone()])?;
    for (digest, own) in claim.rows(paid) {
        let sql = "INSERT INTO file_claims (user_id, digest, file, bytes, until_ms, note) VALUES (?, ?, ?, ?, ?, ?)
                   ON DUPLICATE KEY UPDATE file = ?, bytes = bytes + ?, until_ms = ?, note = ?";
        let (file, until, note) = (bytes(claim.file), int(claim.until_ms), text(&claim.note));
        let row = [file, int(own), until, note];
        let values = [id.clone(), Value::Bytes(digest.to_vec())].into_iter().chain(row.clone()).chain(row);
        session.run(sql, values.collect())?;
    }
    Ok(true)
}

/// The files of a transaction, as they are held at a time.
struct Now<'a> {
    session: &'a mut Session,
    now_ms: u64,
}

impl Shelf for Now<'_> {
    type Fault = Fault;

    fn is_referred(&mut self, file: FileId) -> Result<bool, Fault> {
        let sql =
            "SELECT EXISTS (SELECT 1 FROM file_refs WHERE file = ?) OR EXISTS (SELECT 1 FROM files WHERE thumb = ?)";
        Ok(self.session.first(sql, vec![bytes(file), bytes(file)], |row| get_uint(row, 0))? != Some(0))
    }

    fn claimed_until(&mut self, file: FileId) -> Result<Option<u64>, Fault> {
        let sql = "SELECT until_ms FROM file_claims WHERE file = ? AND until_ms > ? ORDER BY until_ms DESC LIMIT 1";
        self.session.first(sql, vec![bytes(file), int(self.now_ms)], |row| get_uint(row, 0))
    }

    fn look_again(&mut self, file: FileId, at_ms: u64) -> Result<(), Fault> {
        self.session.run("UPDATE files SET due_ms = ? WHERE file = ?", vec![int(at_ms), bytes(file)])?;
        Ok(())
    }

    fn forget(&mut self, file: FileId) -> Result<(), Fault> {
        let session = &mut *self.session;
        refund(session, "SELECT user_id, bytes FROM file_claims WHERE file = ?", vec![bytes(file)])?;
        session.run("DELETE FROM file_claims WHERE file = ?", vec![bytes(file)])?;
        let sql = "SELECT thumb FROM files WHERE file = ? AND thumb IS NOT NULL";
        let thumb = session.first(sql, vec![bytes(file)], |row| take_bytes(row, 0))?;
        session.run("DELETE FROM files WHERE file = ?", vec![bytes(file)])?;
        if let Some(thumb) = thumb {
            session.run("UPDATE files SET due_ms = 0 WHERE file = ?", vec![Value::Bytes(thumb)])?;
        }
        Ok(())
    }
}

/// Takes what `claims` weigh off their users.
fn refund(session: &mut Session, claims: &'static str, values: Vec<Value>) -> Result<(), Fault> {
    let mut weighs = session.rows(claims, values, |row| Ok((get_uint(row, 0)?, get_uint(row, 1)?)))?;
    weighs.sort_unstable();
    for (user, own) in weighs {
        let sql = "UPDATE users SET upload_bytes = upload_bytes - LEAST(upload_bytes, ?) WHERE id = ?";
        session.run(sql, vec![int(own), int(user)])?;
    }
    Ok(())
}

/// An avatar or icon was replaced, if it was.
pub(super) fn refer_anew(session: &mut Session, place: Place, a: u64, new: Option<&str>) -> Result<(), Fault> {
    let Some(text) = new else { return Ok(()) };
    refer(session, &[Gone::only(place, a)], &[Text { place, a, b: 0, text }])
}
