//! Keys of backends.
//!
//! Owns: the table `api_keys`.

use rusqlite::Connection;

use super::{Error, Sqlite, all, exists, first, get_uint, int};
use crate::limits::API_KEYS_MAX;
use crate::store::{ApiKey, ApiKeys};

impl ApiKeys for Sqlite {
    fn keys(&mut self) -> Result<Vec<ApiKey>, Error> {
        let sql = "SELECT id, name, scopes, rate, hash, created_ms, expires_ms FROM api_keys ORDER BY created_ms, id";
        all(&self.conn, sql, &[], |row| {
            Ok(ApiKey {
                id: row.get(0)?,
                name: row.get(1)?,
                scopes: row.get(2)?,
                rate: row.get(3)?,
                hash: row.get(4)?,
                created_ms: get_uint(row, 5)?,
                expires_ms: get_uint(row, 6)?,
            })
        })
    }

    fn add_key(&mut self, key: &ApiKey) -> Result<bool, Error> {
        self.transact(|conn| add(conn, key))
    }

    fn replace_key(&mut self, old: u32, ends_ms: u64, key: &ApiKey) -> Result<bool, Error> {
        self.transact(|conn| {
            let sql = "SELECT 1 FROM api_keys WHERE id = ?1 AND (scopes & ?2) = 0 AND expires_ms >= ?3";
            let stands = exists(conn, sql, &[&old, &ApiKey::REPLACED, &int(key.created_ms)])?;
            let made = stands && add(conn, key)?;
            if made {
                conn.prepare_cached("UPDATE api_keys SET scopes = scopes | ?2 WHERE id = ?1")?
                    .execute((old, ApiKey::REPLACED))?;
                end(conn, old, ends_ms)?;
            }
            Ok(made)
        })
    }

    fn end_key(&mut self, id: u32, at_ms: u64) -> Result<bool, Error> {
        self.transact(|conn| end(conn, id, at_ms))
    }
}

fn end(conn: &Connection, id: u32, at_ms: u64) -> Result<bool, Error> {
    let sql = "UPDATE api_keys SET expires_ms = MIN(expires_ms, ?2) WHERE id = ?1";
    Ok(conn.prepare_cached(sql)?.execute((id, int(at_ms)))? > 0)
}

fn add(conn: &Connection, key: &ApiKey) -> Result<bool, Error> {
    conn.prepare_cached("DELETE FROM api_keys WHERE expires_ms < ?1")?.execute([int(key.created_ms)])?;
    let kept = first(conn, "SELECT COUNT(*) FROM api_keys", &[], |row| get_uint(row, 0))?.unwrap_or_default();
    if kept >= API_KEYS_MAX as u64 || exists(conn, "SELECT 1 FROM api_keys WHERE id = ?1", &[&key.id])? {
        return Ok(false);
    }
    let sql = "INSERT INTO api_keys (id, name, scopes, rate, hash, created_ms, expires_ms)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
    let (created, expires) = (int(key.created_ms), int(key.expires_ms));
    conn.prepare_cached(sql)?.execute((key.id, &key.name, key.scopes, key.rate, key.hash, created, expires))?;
    Ok(true)
}
