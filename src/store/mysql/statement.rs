//! Statements about many rows: a few fixed sizes, prepared once per connection.
//!
//! Owns: the splitting of a list into statements, and the prepared statements.
//! Never: puts a value into the text of a statement.
//! Bounds: sizes are powers of two up to [`MYSQL_ROWS_MAX`], so there are ten of each shape and a
//! list of `n` rows is written with at most `n / MYSQL_ROWS_MAX + 9` statements and read with one
//! for each [`MYSQL_ROWS_MAX`].

use foldhash::fast::FixedState;
use hashbrown::HashMap;
use mysql::prelude::Queryable;
use mysql::{Conn, Params, Row, Statement, Value};

use super::fault::Fault;
use crate::ids::{GroupId, ID_MAX, MsgId, Seq, UserId};
use crate::limits::{MYSQL_ROWS_MAX, MYSQL_STATEMENT_BYTES_MAX};
use crate::store::Error;

/// Different statements of one connection; there are fewer, so none is ever prepared twice.
pub(super) const STATEMENTS_MAX: usize = 256;

/// A statement that speaks of any number of things.
pub(super) struct Shape {
    /// What stands before the list; its placeholders are given apart.
    pub(super) before: &'static str,
    /// One thing of the list.
    pub(super) each: &'static str,
    /// Placeholders of one thing.
    pub(super) width: usize,
    /// What stands between two.
    pub(super) between: &'static str,
    /// What stands behind the list.
    pub(super) after: &'static str,
}

impl Shape {
    fn text(&self, things: usize) -> String {
        let mut text = String::from(self.before);
        for n in 0..things {
            if n > 0 {
                text.push_str(self.between);
            }
            text.push_str(self.each);
        }
        text.push_str(self.after);
        text
    }
}

/// A statement by its [`Shape`]'s three texts, and how many things its list has.
type Name = (&'static str, &'static str, &'static str, usize);

/// A connection and what is prepared on it.
pub(super) struct Session {
    conn: Conn,
    prepared: HashMap<Name, Statement, FixedState>,
    /// Whether transactions see one snapshot by themselves.
    repeats: bool,
    /// Read when the connection was made.
    pub(super) epoch: u64,
}

impl Session {
    pub(super) fn new(conn: Conn, repeats: bool) -> Self {
        Self { conn, prepared: HashMap::default(), repeats, epoch: 0 }
    }

    /// Asks whether the server is there.
    pub(super) fn is_alive(&mut self) -> bool {
        self.conn.ping().is_ok()
    }

    /// Begins a transaction in which every statement sees what was committed before now, and
    /// nothing else.
    pub(super) fn begin_snapshot(&mut self) -> Result<(), Fault> {
        if !self.repeats {
            self.text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")?;
        }
        self.text("START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY")
    }

    /// A statement without values and without an answer.
    pub(super) fn text(&mut self, sql: &str) -> Result<(), Fault> {
        Ok(self.conn.query_drop(sql)?)
    }

    /// One statement; the number of rows that it changed.
    pub(super) fn run(&mut self, sql: &'static str, values: Vec<Value>) -> Result<u64, Fault> {
        let statement = self.prepare((sql, "", "", 0), || sql.to_owned())?;
        self.conn.exec_drop(&statement, params(values))?;
        Ok(self.conn.affected_rows())
    }

    /// What the last statement has put into `LAST_INSERT_ID(…)`.
    pub(super) fn last_insert_id(&self) -> u64 {
        self.conn.last_insert_id()
    }

    /// The rows of one statement.
    pub(super) fn rows<T>(
        &mut self,
        sql: &'static str,
        values: Vec<Value>,
        read: impl FnMut(&mut Row) -> Result<T, Fault>,
    ) -> Result<Vec<T>, Fault> {
        let statement = self.prepare((sql, "", "", 0), || sql.to_owned())?;
        self.collect(&statement, values, read)
    }

    /// The first row of one statement, which has at most one.
    pub(super) fn first<T>(
        &mut self,
        sql: &'static str,
        values: Vec<Value>,
        read: impl FnMut(&mut Row) -> Result<T, Fault>,
    ) -> Result<Option<T>, Fault> {
        Ok(self.rows(sql, values, read)?.pop())
    }

    /// Writes a list, `shape.width` values for each thing of it. Answers with the number of rows
    /// changed.
    pub(super) fn write_all(&mut self, shape: &Shape, lead: &[Value], list: Vec<Value>) -> Result<u64, Fault> {
        let mut changed = 0;
        let mut left = list.len() / shape.width;
        let mut list = list.into_iter();
        while left > 0 {
            let things = size_down(left, shape.width, list.as_slice());
            let values = lead.iter().cloned().chain(list.by_ref().take(things * shape.width)).collect();
            let statement = self.prepare((shape.before, shape.each, shape.after, things), || shape.text(things))?;
            self.conn.exec_drop(&statement, params(values))?;
            changed += self.conn.affected_rows();
            left -= things;
        }
        Ok(changed)
    }

    /// What is found for a list of things, each of them once however often it stands there. The
    /// last one is repeated until a statement is full, so a list that is written with several
    /// statements is read with one.
    pub(super) fn find_all<T>(
        &mut self,
        shape: &Shape,
        list: &[Value],
        mut read: impl FnMut(&mut Row) -> Result<T, Fault>,
    ) -> Result<Vec<T>, Fault> {
        let mut found = Vec::new();
        for (values, things) in padded(shape, list) {
            let statement = self.prepare((shape.before, shape.each, shape.after, things), || shape.text(things))?;
            found.extend(self.collect(&statement, values, &mut read)?);
        }
        Ok(found)
    }

    /// What is found for a list of tuples that a statement takes as one JSON array: always the same
    /// statement.
    pub(super) fn find_each<T, const N: usize>(
        &mut self,
        sql: &'static str,
        list: impl Iterator<Item = [u64; N]>,
        read: impl FnMut(&mut Row) -> Result<T, Fault>,
    ) -> Result<Vec<T>, Fault> {
        tuples(list).map_or(Ok(Vec::new()), |list| self.rows(sql, vec![list], read))
    }

    /// Changes what a list of tuples names, as [`Session::find_each`].
    pub(super) fn change_each<const N: usize>(
        &mut self,
        sql: &'static str,
        list: impl Iterator<Item = [u64; N]>,
    ) -> Result<u64, Fault> {
        tuples(list).map_or(Ok(0), |list| self.run(sql, vec![list]))
    }

    /// Changes what a list names, as [`Session::find_all`]: the statement must not mind that a
    /// thing is named twice.
    pub(super) fn change_all(&mut self, shape: &Shape, lead: &[Value], list: &[Value]) -> Result<u64, Fault> {
        let mut changed = 0;
        for (values, things) in padded(shape, list) {
            let statement = self.prepare((shape.before, shape.each, shape.after, things), || shape.text(things))?;
            self.conn.exec_drop(&statement, params([lead, &values].concat()))?;
            changed += self.conn.affected_rows();
        }
        Ok(changed)
    }

    fn collect<T>(
        &mut self,
        statement: &Statement,
        values: Vec<Value>,
        mut read: impl FnMut(&mut Row) -> Result<T, Fault>,
    ) -> Result<Vec<T>, Fault> {
        let rows = self.conn.exec_iter(statement, params(values))?;
        let mut found = Vec::new();
        for row in rows {
            found.push(read(&mut row?)?);
        }
        Ok(found)
    }

    fn prepare(&mut self, name: Name, text: impl FnOnce() -> String) -> Result<Statement, Fault> {
        if let Some(statement) = self.prepared.get(&name) {
            return Ok(statement.clone());
        }
        let statement = self.conn.prep(text())?;
        self.prepared.insert(name, statement.clone());
        Ok(statement)
    }
}

/// Tuples as one JSON array, unless there are none.
fn tuples<const N: usize>(list: impl Iterator<Item = [u64; N]>) -> Option<Value> {
    let tuples: Vec<String> = list.map(|tuple| format!("[{}]", tuple.map(|n| n.to_string()).join(","))).collect();
    (!tuples.is_empty()).then(|| text(&format!("[{}]", tuples.join(","))))
}

fn params(values: Vec<Value>) -> Params {
    if values.is_empty() { Params::Empty } else { Params::Positional(values) }
}

/// The largest size that `left` things fill and whose texts are not too many bytes.
fn size_down(left: usize, width: usize, list: &[Value]) -> usize {
    let mut things = 1 << left.min(MYSQL_ROWS_MAX).ilog2();
    while things > 1 && bytes_of(list.get(..things * width).unwrap_or(list)) > MYSQL_STATEMENT_BYTES_MAX {
        things /= 2;
    }
    things
}

fn bytes_of(values: &[Value]) -> usize {
    values.iter().map(|value| if let Value::Bytes(bytes) = value { bytes.len() } else { 0 }).sum()
}

/// The list in pieces whose sizes are powers of two, the last one filled up with its last thing.
fn padded<'a>(shape: &Shape, list: &'a [Value]) -> impl Iterator<Item = (Vec<Value>, usize)> + use<'a> {
    let width = shape.width;
    list.chunks(width * MYSQL_ROWS_MAX).map(move |piece| {
        let things = piece.len() / width;
        let full = things.next_power_of_two();
        let mut values = piece.to_vec();
        if let Some(last) = piece.chunks_exact(width).last() {
            for _ in things..full {
                values.extend_from_slice(last);
            }
        }
        (values, full)
    })
}

/// A number for MySQL.
pub(super) fn int(raw: u64) -> Value {
    Value::UInt(raw)
}

/// A text for MySQL.
pub(super) fn text(raw: &str) -> Value {
    Value::Bytes(raw.as_bytes().to_vec())
}

/// A new value, or NULL where the old one stays.
pub(super) fn given(value: &Option<String>) -> Value {
    value.as_deref().map_or(Value::NULL, text)
}

/// Bytes of a column; they leave the row.
pub(super) fn take_bytes(row: &mut Row, column: usize) -> Result<Vec<u8>, Fault> {
    match row.take(column) {
        Some(Value::Bytes(bytes)) => Ok(bytes),
        _ => Err(odd(column)),
    }
}

/// A text of a column; it leaves the row.
pub(super) fn take_text(row: &mut Row, column: usize) -> Result<String, Fault> {
    String::from_utf8(take_bytes(row, column)?).map_err(|_| odd(column))
}

/// A number of a column, as the binary protocol of prepared statements has it.
pub(super) fn get_uint(row: &Row, column: usize) -> Result<u64, Fault> {
    match row.as_ref(column) {
        Some(Value::UInt(raw)) => Ok(*raw),
        Some(Value::Int(raw)) => u64::try_from(*raw).map_err(|_| odd(column)),
        _ => Err(odd(column)),
    }
}

pub(super) fn get_int(row: &Row, column: usize) -> Result<i64, Fault> {
    match row.as_ref(column) {
        Some(Value::UInt(raw)) => i64::try_from(*raw).map_err(|_| odd(column)),
        Some(Value::Int(raw)) => Ok(*raw),
        _ => Err(odd(column)),
    }
}

pub(super) fn get_user(row: &Row, column: usize) -> Result<UserId, Fault> {
    let raw = get_uint(row, column)?;
    UserId::new(raw).ok_or_else(|| broken(format!("{raw} is no user id")))
}

pub(super) fn get_group(row: &Row, column: usize) -> Result<GroupId, Fault> {
    let raw = get_uint(row, column)?;
    GroupId::new(raw).ok_or_else(|| broken(format!("{raw} is no group id")))
}

pub(super) fn get_id(row: &Row, column: usize) -> Result<MsgId, Fault> {
    let raw = get_uint(row, column)?;
    MsgId::new(raw).ok_or_else(|| broken(format!("{raw} is no message id")))
}

pub(super) fn get_seq(row: &Row, column: usize) -> Result<Seq, Fault> {
    let raw = get_uint(row, column)?;
    Seq::new(raw).ok_or_else(|| broken(format!("{raw} is no sequence number (at most {ID_MAX})")))
}

pub(super) fn broken(text: String) -> Fault {
    Fault::Store(Error::Broken(text))
}

fn odd(column: usize) -> Fault {
    broken(format!("column {column} of an answer is not of its type"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: Shape = Shape { before: "X (", each: "(?,?)", width: 2, between: ",", after: ")" };

    #[test]
    fn a_shape_is_written_out() {
        assert_eq!(SHAPE.text(1), "X ((?,?))");
        assert_eq!(SHAPE.text(3), "X ((?,?),(?,?),(?,?))");
    }

    #[test]
    fn a_list_is_written_in_few_sizes() {
        let mut left = 1023;
        let mut sizes = Vec::new();
        while left > 0 {
            sizes.push(size_down(left, 1, &[]));
            left -= sizes.last().expect("not empty");
        }
        assert_eq!(sizes, [512, 256, 128, 64, 32, 16, 8, 4, 2, 1]);
    }

    #[test]
    fn a_statement_is_bounded_in_bytes() {
        let large = Value::Bytes(vec![0; MYSQL_STATEMENT_BYTES_MAX / 4]);
        let list: Vec<Value> = (0..16).flat_map(|n| [int(n), large.clone()]).collect();
        assert_eq!(size_down(16, 2, &list), 4);
        let huge = [int(1), Value::Bytes(vec![0; 2 * MYSQL_STATEMENT_BYTES_MAX])];
        assert_eq!(size_down(1, 2, &huge), 1, "at least one");
    }

    #[test]
    fn a_list_is_read_with_its_last_thing_repeated() {
        let list: Vec<Value> = (0..6).map(int).collect();
        let pieces: Vec<_> = padded(&SHAPE, &list).collect();
        assert_eq!(pieces, [((0..6).chain([4, 5]).map(int).collect(), 4)]);
        let long: Vec<Value> = (0..2 * (MYSQL_ROWS_MAX as u64 + 1)).map(int).collect();
        let sizes: Vec<usize> = padded(&SHAPE, &long).map(|(_, things)| things).collect();
        assert_eq!(sizes, [MYSQL_ROWS_MAX, 1]);
        assert_eq!(padded(&SHAPE, &[]).count(), 0);
    }
}
