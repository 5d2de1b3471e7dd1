//! Which conversations have got messages lately.
//!
//! Owns: the look along the index of claims by the second of their transaction.
//! Never: writes, or waits for a writer.

use super::append::get_conv;
use super::fault::Fault;
use super::statement::{Session, get_seq, get_uint, int};
use crate::limits::RECENT_CONVS_MAX;
use crate::store::recent::{Recent, RecentConv, Since};

/// The index covers the inner query, and the number of a conversation is the order of pages.
const RECENT: &str = "
    SELECT w.conv, c.kind, c.a, c.b, w.lowest, w.newest FROM (
        SELECT conv, MIN(seq) AS lowest, MAX(seq) AS newest FROM claims FORCE INDEX (claims_by_time)
        WHERE created_s >= ? AND conv > ? GROUP BY conv ORDER BY conv LIMIT ?
    ) w STRAIGHT_JOIN convs c FORCE INDEX (PRIMARY) ON c.conv = w.conv ORDER BY w.conv";

/// See [`crate::store::Backend::recent`].
pub(super) fn recent(session: &mut Session, since: Since, after: u64, max: u32) -> Result<Recent, Fault> {
    // Before the rows: what appears meanwhile is of a later second.
    let now_s = session.first("SELECT UNIX_TIMESTAMP()", Vec::new(), |row| get_uint(row, 0))?.unwrap_or_default();
    let from_s = match since {
        Since::Ago(seconds) => now_s.saturating_sub(seconds.into()),
        Since::At(second) => second,
    };
    let max = max.clamp(1, RECENT_CONVS_MAX);
    let mut last = None;
    let list = session.rows(RECENT, vec![int(from_s), int(after), int(u64::from(max))], |row| {
        last = Some(get_uint(row, 0)?);
        Ok(RecentConv { conv: get_conv(row, 1)?, lowest: get_seq(row, 4)?, newest: get_seq(row, 5)? })
    })?;
    let next = last.filter(|_| list.len() >= max as usize);
    Ok(Recent { epoch: session.epoch, from_s, now_s, list, next })
}
