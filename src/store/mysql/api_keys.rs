//! Keys of backends.
//!
//! Owns: the table `api_keys`.

use mysql::{Row, Value};

use super::Mysql;
use super::fault::Fault;
use super::statement::{Session, broken, get_uint, int, take_bytes, take_text, text};
use crate::limits::API_KEYS_MAX;
use crate::store::{ApiKey, ApiKeys, Error};

impl ApiKeys for Mysql {
    fn keys(&mut self) -> Result<Vec<ApiKey>, Error> {
        let sql = "SELECT id, name, scopes, rate, hash, created_ms, expires_ms FROM api_keys ORDER BY created_ms, id";
        self.ask(|session| session.rows(sql, Vec::new(), read_key))
    }

    fn add_key(&mut self, key: &ApiKey) -> Result<bool, Error> {
        Ok(self.transact(|session| add(session, key))?)
    }

    fn replace_key(&mut self, old: u32, ends_ms: u64, key: &ApiKey) -> Result<bool, Error> {
        Ok(self.transact(|session| {
            let sql = "SELECT id FROM api_keys WHERE id = ? AND (scopes & ?) = 0 AND expires_ms >= ? FOR UPDATE";
            let (old, mark) = (int(old.into()), int(ApiKey::REPLACED.into()));
            let asked = vec![old.clone(), mark.clone(), int(key.created_ms)];
            let stands = session.first(sql, asked, |row| get_uint(row, 0))?.is_some();
            let made = stands && add(session, key)?;
            if made {
                let sql = "UPDATE api_keys SET scopes = scopes | ?, expires_ms = LEAST(expires_ms, ?) WHERE id = ?";
                session.run(sql, vec![mark, int(ends_ms), old])?;
            }
            Ok(made)
        })?)
    }

    fn end_key(&mut self, id: u32, at_ms: u64) -> Result<bool, Error> {
        Ok(self.transact(|session| end(session, id, at_ms))?)
    }
}

/// Whether there is a key of that number, which is locked then.
fn is_kept(session: &mut Session, id: u32) -> Result<bool, Fault> {
    let sql = "SELECT id FROM api_keys WHERE id = ? FOR UPDATE";
    Ok(session.first(sql, vec![int(id.into())], |row| get_uint(row, 0))?.is_some())
}

fn end(session: &mut Session, id: u32, at_ms: u64) -> Result<bool, Fault> {
    let is_kept = is_kept(session, id)?;
    if is_kept {
        let sql = "UPDATE api_keys SET expires_ms = LEAST(expires_ms, ?) WHERE id = ?";
        session.run(sql, vec![int(at_ms), int(id.into())])?;
    }
    Ok(is_kept)
}

fn add(session: &mut Session, key: &ApiKey) -> Result<bool, Fault> {
    session.run("DELETE FROM api_keys WHERE expires_ms < ?", vec![int(key.created_ms)])?;
    let ids = session.rows("SELECT id FROM api_keys FOR UPDATE", Vec::new(), |row| get_uint(row, 0))?;
    if ids.len() >= API_KEYS_MAX || ids.contains(&key.id.into()) {
        return Ok(false);
    }
    let sql =
        "INSERT INTO api_keys (id, name, scopes, rate, hash, created_ms, expires_ms) VALUES (?, ?, ?, ?, ?, ?, ?)";
    let values = vec![
        int(key.id.into()),
        text(&key.name),
        int(key.scopes.into()),
        int(key.rate.into()),
        Value::Bytes(key.hash.to_vec()),
        int(key.created_ms),
        int(key.expires_ms),
    ];
    session.run(sql, values)?;
    Ok(true)
}

fn read_key(row: &mut Row) -> Result<ApiKey, Fault> {
    let number = |column, row: &Row| {
        let raw = get_uint(row, column)?;
        u32::try_from(raw).map_err(|_| broken(format!("{raw} is too large for a key")))
    };
    let (id, scopes, rate) = (number(0, row)?, number(2, row)?, number(3, row)?);
    Ok(ApiKey {
        id,
        name: take_text(row, 1)?,
        scopes,
        rate,
        hash: take_bytes(row, 4)?.try_into().map_err(|_| broken("a key's hash has 32 bytes".to_owned()))?,
        created_ms: get_uint(row, 5)?,
        expires_ms: get_uint(row, 6)?,
    })
}
