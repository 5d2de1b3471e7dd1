//! A database of fastIM or IMChat, as it is: read, never written.
//!
//! Owns: the differences between the two: `passwd` and `dstobj` in one, `password` and `dstid` in
//! the other.
//! Bounds: pages of as many rows as it is asked for. Every column but the number may be NULL there.

use mysql::{Conn, Row};

use super::fault::Fault;
use super::link::WHOLE_RESULTS;
use super::statement::{Session, get_int, get_uint, int, take_text};
use super::target::Target;
use crate::store::import::{OldContact, OldDatabase, OldGroup, OldUser};
use crate::store::{Error, OpenError};

/// A connection to it.
pub(in crate::store) struct Old {
    session: Session,
    /// fastIM's names of the columns, not IMChat's.
    fastim: bool,
}

impl Old {
    /// Connects to `mysql://user:password@host:port/database`.
    ///
    /// # Errors
    /// The URL, the server, or that the database is of neither.
    pub(in crate::store) fn open(url: &str) -> Result<Self, OpenError> {
        let target = Target::parse(url).map_err(OpenError::Url)?;
        let conn = Conn::new(target.opts()).map_err(Fault::from).map_err(Error::from)?;
        let mut session = Session::new(conn, true);
        let opened = (|| {
            session.text("SET NAMES utf8mb4")?;
            session.text("SET SESSION TRANSACTION READ ONLY")?;
            // Not the time zone: its dates are of the server's.
            session
                .text(&format!("SET SESSION sql_mode = '', autocommit = 1, completion_type = 0, {WHOLE_RESULTS}"))?;
            let sql = "SELECT COUNT(CASE WHEN column_name = 'passwd' THEN 1 END), COUNT(*) FROM information_schema.columns
                       WHERE table_schema = DATABASE() AND table_name = 'user' AND column_name IN ('passwd', 'password')";
            session.first(sql, Vec::new(), |row| Ok((get_uint(row, 0)? > 0, get_uint(row, 1)? > 0)))
        })();
        match opened.map_err(Error::from)? {
            Some((fastim, true)) => Ok(Self { session, fastim }),
            _ => Err(Error::Broken("it has no table `user` as fastIM and IMChat make it".to_owned()).into()),
        }
    }
}

impl OldDatabase for Old {
    fn users(&mut self, after: u64, max: u64) -> Result<Vec<OldUser>, Error> {
        let sql = if self.fastim {
            "SELECT CAST(id AS UNSIGNED), IFNULL(mobile, ''), IFNULL(passwd, ''), IFNULL(salt, ''), IFNULL(avatar, ''),
             IFNULL(sex, ''), IFNULL(nickname, ''), IFNULL(memo, ''),
             CAST(IFNULL(UNIX_TIMESTAMP(createat), 0) AS UNSIGNED) FROM `user` WHERE id > ? ORDER BY id LIMIT ?"
        } else {
            "SELECT CAST(id AS UNSIGNED), IFNULL(mobile, ''), IFNULL(password, ''), IFNULL(salt, ''), IFNULL(avatar, ''),
             IFNULL(sex, ''), IFNULL(nickname, ''), IFNULL(memo, ''),
             CAST(IFNULL(UNIX_TIMESTAMP(createat), 0) AS UNSIGNED) FROM `user` WHERE id > ? ORDER BY id LIMIT ?"
        };
        Ok(self.session.rows(sql, vec![int(after), int(max)], user)?)
    }

    fn groups(&mut self, after: u64, max: u64) -> Result<Vec<OldGroup>, Error> {
        let sql = "SELECT CAST(id AS UNSIGNED), IFNULL(name, ''), CAST(IFNULL(ownerid, 0) AS UNSIGNED), IFNULL(icon, ''),
                   CAST(IFNULL(cate, 0) AS SIGNED), IFNULL(memo, ''),
                   CAST(IFNULL(UNIX_TIMESTAMP(createat), 0) AS UNSIGNED) FROM community WHERE id > ? ORDER BY id LIMIT ?";
        Ok(self.session.rows(sql, vec![int(after), int(max)], group)?)
    }

    fn contacts(&mut self, after: u64, max: u64) -> Result<Vec<OldContact>, Error> {
        let sql = if self.fastim {
            "SELECT CAST(id AS UNSIGNED), CAST(IFNULL(ownerid, 0) AS UNSIGNED), CAST(IFNULL(dstobj, 0) AS UNSIGNED),
             CAST(IFNULL(cate, 0) AS SIGNED) FROM contact WHERE id > ? ORDER BY id LIMIT ?"
        } else {
            "SELECT CAST(id AS UNSIGNED), CAST(IFNULL(ownerid, 0) AS UNSIGNED), CAST(IFNULL(dstid, 0) AS UNSIGNED),
             CAST(IFNULL(cate, 0) AS SIGNED) FROM contact WHERE id > ? ORDER BY id LIMIT ?"
        };
        let read = |row: &mut Row| {
            let (id, owner, other) = (get_uint(row, 0)?, get_uint(row, 1)?, get_uint(row, 2)?);
            Ok(OldContact { id, owner, other, cate: get_int(row, 3)? })
        };
        Ok(self.session.rows(sql, vec![int(after), int(max)], read)?)
    }
}

fn user(row: &mut Row) -> Result<OldUser, Fault> {
    Ok(OldUser {
        id: get_uint(row, 0)?,
        mobile: take_text(row, 1)?,
        digest: take_text(row, 2)?,
        salt: take_text(row, 3)?,
        avatar: take_text(row, 4)?,
        sex: take_text(row, 5)?,
        nickname: take_text(row, 6)?,
        memo: take_text(row, 7)?,
        created_ms: get_uint(row, 8)?.saturating_mul(1000),
    })
}

fn group(row: &mut Row) -> Result<OldGroup, Fault> {
    Ok(OldGroup {
        id: get_uint(row, 0)?,
        name: take_text(row, 1)?,
        owner: get_uint(row, 2)?,
        icon: take_text(row, 3)?,
        cate: get_int(row, 4)?,
        memo: take_text(row, 5)?,
        created_ms: get_uint(row, 6)?.saturating_mul(1000),
    })
}
