//! Claims of files and references to them.
//!
//! Owns: the tables `files`, `file_claims` and `file_refs`.
//! Never: begins or ends a transaction for a text that refers to files; the writer of the text
//! does.

use std::ops::Range;

use rusqlite::Connection;

use super::{Sqlite, exists, first, get_uint, int};
use crate::ids::UserId;
use crate::store::Error;
use crate::store::files::{Claim, FileId, Files, Place, Retired, Shelf, addresses, retire};
use crate::store::folding::ERASED_LIKE;

impl Files for Sqlite {
    fn claimed(&mut self, user: UserId, digest: &[u8; 32], until_ms: u64) -> Result<Option<String>, Error> {
        let user = int(user.get());
        self.transact(|conn| {
            let sql = "SELECT c.file, c.note FROM file_claims c JOIN files f ON f.file = c.file
                       WHERE c.user_id = ?1 AND c.digest = ?2";
            let found = first(conn, sql, &[&user, digest], |row| Ok((row.get::<_, [u8; 32]>(0)?, row.get(1)?)))?;
            let Some((file, note)) = found else { return Ok(None) };
            let sql = "UPDATE file_claims SET until_ms = max(until_ms, ?3) WHERE user_id = ?1 AND file = ?2";
            conn.prepare_cached(sql)?.execute((user, file, int(until_ms)))?;
            hold(conn, FileId(file), until_ms)?;
            Ok(Some(note))
        })
    }

    fn claim(&mut self, claim: &Claim, most: u64) -> Result<bool, Error> {
        self.transact(|conn| {
            if let Some(user) = claim.user
                && !claim_for(conn, user, claim, most)?
            {
                return Ok(false);
            }
            let sql = "INSERT INTO files (file, thumb, due_ms) VALUES (?1, ?2, ?3)
                       ON CONFLICT (file) DO UPDATE SET due_ms = max(due_ms, excluded.due_ms),
                                                        thumb = coalesce(excluded.thumb, thumb)";
            let mut keep = conn.prepare_cached(sql)?;
            keep.execute((claim.file.0, claim.thumb.map(|thumb| thumb.0), int(claim.until_ms)))?;
            if let Some(thumb) = claim.thumb {
                keep.execute((thumb.0, None::<[u8; 32]>, int(claim.until_ms)))?;
            }
            Ok(true)
        })
    }

    fn unclaim(&mut self, claim: &Claim) -> Result<(), Error> {
        self.transact(|conn| {
            if let Some(user) = claim.user {
                let of_claim = "WHERE file = ?1 AND user_id = ?2 AND until_ms = ?3";
                refund(conn, of_claim, &[&claim.file.0, &int(user.get()), &int(claim.until_ms)])?;
            }
            let sql = "UPDATE files SET due_ms = 0 WHERE file = ?1 AND due_ms = ?2";
            conn.prepare_cached(sql)?.execute((claim.file.0, int(claim.until_ms)))?;
            Ok(())
        })
    }

    fn is_known(&mut self, file: FileId) -> Result<bool, Error> {
        exists(&self.conn, "SELECT 1 FROM files WHERE file = ?1", &[&file.0])
    }

    fn retire(
        &mut self,
        now_ms: u64,
        files_max: u32,
        remove: &mut dyn FnMut(FileId) -> bool,
    ) -> Result<Retired, Error> {
        let mut due: Vec<FileId> = {
            let sql = "SELECT file FROM files WHERE due_ms <= ?1 ORDER BY due_ms LIMIT ?2";
            let mut statement = self.conn.prepare_cached(sql)?;
            let rows = statement.query_map((int(now_ms), files_max), |row| row.get(0).map(FileId))?;
            rows.collect::<Result<_, _>>()?
        };
        if due.is_empty() {
            return Ok(Retired::default());
        }
        due.sort_unstable();
        self.transact(|conn| retire(&mut Now { conn, now_ms }, due.len(), due, remove))
    }

    fn uploaded(&mut self, user: UserId) -> Result<u64, Error> {
        let sql = "SELECT upload_bytes FROM users WHERE id = ?1";
        Ok(first(&self.conn, sql, &[&int(user.get())], |row| get_uint(row, 0))?.unwrap_or(0))
    }
}

/// The part of a claim that is its user's; `false` as in [`Files::claim`].
fn claim_for(conn: &Connection, user: UserId, claim: &Claim, most: u64) -> Result<bool, Error> {
    let user = int(user.get());
    let paid = exists(conn, "SELECT 1 FROM file_claims WHERE file = ?1 AND user_id = ?2", &[&claim.file.0, &user])?;
    let sql = "UPDATE users SET upload_bytes = upload_bytes + ?2 WHERE id = ?1 AND upload_bytes + ?2 <= ?3
               AND mobile NOT LIKE ?4";
    if conn.prepare_cached(sql)?.execute((user, int(claim.weight(paid)), int(most), ERASED_LIKE))? == 0 {
        return Ok(false);
    }
    // What the same content was before, if it has become another file, is no longer claimed, but
    // stays paid for.
    let sql = "INSERT INTO file_claims (user_id, digest, file, bytes, until_ms, note) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
               ON CONFLICT (user_id, digest) DO UPDATE
               SET file = excluded.file, until_ms = excluded.until_ms, note = excluded.note,
                   bytes = file_claims.bytes + excluded.bytes";
    for (digest, bytes) in claim.rows(paid) {
        let row = (user, digest, claim.file.0, int(bytes), int(claim.until_ms), &claim.note);
        conn.prepare_cached(sql)?.execute(row)?;
    }
    Ok(true)
}

fn hold(conn: &Connection, file: FileId, until_ms: u64) -> Result<(), Error> {
    let sql = "UPDATE files SET due_ms = max(due_ms, ?2) WHERE file = ?1";
    conn.prepare_cached(sql)?.execute((file.0, int(until_ms)))?;
    Ok(())
}

/// The files of a transaction, as they are held at a time.
struct Now<'a> {
    conn: &'a Connection,
    now_ms: u64,
}

impl Shelf for Now<'_> {
    type Fault = Error;

    fn is_referred(&mut self, file: FileId) -> Result<bool, Error> {
        let sql = "SELECT 1 FROM file_refs WHERE file = ?1 UNION ALL SELECT 1 FROM files WHERE thumb = ?1 LIMIT 1";
        exists(self.conn, sql, &[&file.0])
    }

    fn claimed_until(&mut self, file: FileId) -> Result<Option<u64>, Error> {
        let sql = "SELECT max(until_ms) FROM file_claims WHERE file = ?1 AND until_ms > ?2 HAVING count(*) > 0";
        first(self.conn, sql, &[&file.0, &int(self.now_ms)], |row| get_uint(row, 0))
    }

    fn look_again(&mut self, file: FileId, at_ms: u64) -> Result<(), Error> {
        let sql = "UPDATE files SET due_ms = ?2 WHERE file = ?1";
        self.conn.prepare_cached(sql)?.execute((file.0, int(at_ms)))?;
        Ok(())
    }

    fn forget(&mut self, file: FileId) -> Result<(), Error> {
        refund(self.conn, "WHERE file = ?1", &[&file.0])?;
        let sql = "UPDATE files SET due_ms = 0 WHERE file = (SELECT thumb FROM files WHERE file = ?1)";
        self.conn.prepare_cached(sql)?.execute([file.0])?;
        self.conn.prepare_cached("DELETE FROM files WHERE file = ?1")?.execute([file.0])?;
        Ok(())
    }
}

/// Removes the claims of a condition, and what they weigh.
fn refund(conn: &Connection, condition: &str, params: &[&dyn rusqlite::ToSql]) -> Result<(), Error> {
    let sql = format!(
        "UPDATE users SET upload_bytes = max(upload_bytes - weighs, 0)
         FROM (SELECT user_id, sum(bytes) AS weighs FROM file_claims {condition} GROUP BY user_id) WHERE id = user_id"
    );
    conn.prepare_cached(&sql)?.execute(params)?;
    conn.prepare_cached(&format!("DELETE FROM file_claims {condition}"))?.execute(params)?;
    Ok(())
}

/// Records what the text of a place refers to.
pub(super) fn refer(conn: &Connection, place: Place, a: i64, b: i64, text: &str) -> Result<(), Error> {
    for file in addresses(text) {
        let sql =
            "INSERT OR IGNORE INTO file_refs (file, place, a, b) SELECT file, ?2, ?3, ?4 FROM files WHERE file = ?1";
        conn.prepare_cached(sql)?.execute((file.0, place as i64, a, b))?;
    }
    Ok(())
}

/// The text of an avatar or icon was replaced, if it was.
pub(super) fn refer_anew(conn: &Connection, place: Place, a: u64, text: Option<&String>) -> Result<(), Error> {
    let Some(text) = text else { return Ok(()) };
    release(conn, place, int(a), 0..1)?;
    refer(conn, place, int(a), 0, text)
}

/// The texts of those places are no more.
pub(super) fn release(conn: &Connection, place: Place, a: i64, b: Range<i64>) -> Result<(), Error> {
    let sql = "UPDATE files SET due_ms = 0
               WHERE file IN (SELECT file FROM file_refs WHERE place = ?1 AND a = ?2 AND b >= ?3 AND b < ?4)";
    if conn.prepare_cached(sql)?.execute((place as i64, a, b.start, b.end))? > 0 {
        let sql = "DELETE FROM file_refs WHERE place = ?1 AND a = ?2 AND b >= ?3 AND b < ?4";
        conn.prepare_cached(sql)?.execute((place as i64, a, b.start, b.end))?;
    }
    Ok(())
}

/// A user is deleted: the avatar and the claims go.
pub(super) fn let_go(conn: &Connection, user: i64) -> Result<(), Error> {
    release(conn, Place::Avatar, user, 0..1)?;
    let sql = "UPDATE files SET due_ms = 0 WHERE file IN (SELECT file FROM file_claims WHERE user_id = ?1)";
    conn.prepare_cached(sql)?.execute([user])?;
    conn.prepare_cached("DELETE FROM file_claims WHERE user_id = ?1")?.execute([user])?;
    Ok(())
}

/// A message is taken back by its sender, whose own claim of what it showed ends with it.
pub(super) fn recall(conn: &Connection, conv: i64, seq: i64, sender: i64) -> Result<(), Error> {
    let sql = "UPDATE file_claims SET until_ms = 0
               WHERE user_id = ?1 AND file IN (SELECT file FROM file_refs WHERE place = 1 AND a = ?2 AND b = ?3)";
    conn.prepare_cached(sql)?.execute([sender, conv, seq])?;
    release(conn, Place::Message, conv, seq..seq + 1)
}
