//! A look at a database server for an operator: version, durability, clock. Changes nothing,
//! prepares no schema.

use mysql::Conn;

use super::fault::Fault;
use super::statement::{Session, get_uint, take_text};
use super::target::Target;
use crate::store::probe::{Commits, Probed};
use crate::store::{Error, OpenError};

/// Connects once and asks.
///
/// # Errors
/// The URL, or the server.
pub(in crate::store) fn probe(url: &str) -> Result<Probed, OpenError> {
    let target = Target::parse(url).map_err(OpenError::Url)?;
    let conn = Conn::new(target.opts()).map_err(Fault::from).map_err(Error::from)?;
    let mut session = Session::new(conn, true);
    let sql = "SELECT CAST(@@version AS CHAR), CAST(@@innodb_flush_log_at_trx_commit AS UNSIGNED), CAST(@@log_bin AS UNSIGNED),
               CAST(@@sync_binlog AS UNSIGNED), CAST(TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(3)) DIV 1000 AS UNSIGNED),
               CAST(@@global.read_only AS UNSIGNED)";
    let asked = session.first(sql, Vec::new(), |row| {
        let version = take_text(row, 0)?;
        let has_log = get_uint(row, 2)? > 0;
        let commits =
            Commits::Mysql { flush_at_commit: get_uint(row, 1)?, sync_binlog: has_log.then_some(get_uint(row, 3)?) };
        let read_only = get_uint(row, 5)? > 0;
        Ok(Probed { described: format!("{version}, {target}"), commits, read_only, wall_ms: Some(get_uint(row, 4)?) })
    });
    asked
        .map_err(Error::from)?
        .ok_or_else(|| Error::Broken("no answer to a question about the server".to_owned()).into())
}
