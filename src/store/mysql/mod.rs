//! MySQL or MariaDB: one database that several gateways may share.
//!
//! Owns: the life of a transaction, and what is known when its end was not heard.
//! Never: is called from a shard's thread; every statement waits for the network. Nothing but row
//! numbers and reserved ids is remembered between transactions: another gateway may have written in
//! between.
//! Bounds: one connection for each [`Mysql`]; every wait for the server ends
//! ([`crate::limits::MYSQL_WRITE_MS`], [`crate::limits::MYSQL_ANSWER_MS`]).

mod admissions;
mod api_keys;
mod append;
mod changes;
mod erasing;
mod fault;
mod files;
mod groups;
mod link;
mod logins;
mod migrate;
mod old;
mod people;
mod probe;
mod read;
mod recent;
mod seed;
mod social;
mod standing;
mod statement;
mod target;
mod trim;

use std::sync::Arc;

use foldhash::fast::FixedState;
use hashbrown::{HashMap, HashSet};

use self::fault::Fault;
use self::link::{Link, LinkRole};
pub(super) use self::old::Old;
pub(super) use self::probe::probe;
use self::statement::{Session, get_uint, int};
use self::target::Target;
use super::location::{OpenError, Opened};
use super::{
    Admissions, ApiKeys, Backend, Changes, Error, Files, Groups, Keep, Logins, People, Read, ReadAnswer, Recent,
    Retention, Seed, Seeded, Since, Social, Trimmed, Write, Written,
};
use crate::clock::Clock;
use crate::ids::ConvId;
use crate::limits::{ID_BLOCK, MYSQL_WARY_MS};

/// Whether `url` names a database server of this sort.
pub(super) fn is_ours(url: &str) -> bool {
    url.starts_with("mysql:") || url.starts_with("mariadb:")
}

/// Connections to the database that `url` names. One is made at once, so that a database that is
/// not ours, or newer, ends the start. One that does not answer does not: it is tried again with
/// each request.
pub(super) fn open(url: &str, writers: usize, readers: usize, gateway: u32) -> Result<Opened, OpenError> {
    let target = Arc::new(Target::parse(url).map_err(OpenError::Url)?);
    let (clock, server) = (Clock::start(), Arc::default());
    let connect = |role: LinkRole, n: usize| -> Vec<Mysql> {
        let one = |_| Mysql::new(Link::new(&target, role, clock, &server), gateway);
        (0..n).map(one).collect()
    };
    let mut writers = connect(LinkRole::Writer, writers);
    if let Some(first) = writers.first_mut()
        && let Err(error @ Error::Broken(_)) = first.link.connection()
    {
        return Err(error.into());
    }
    let boxed = |list: Vec<Mysql>| list.into_iter().map(|one| Box::new(one) as Box<dyn Backend>).collect();
    Ok(Opened {
        writers: boxed(writers),
        readers: boxed(connect(LinkRole::Reader, readers)),
        upkeep: None,
        keep: Keep::default(),
    })
}

/// One connection.
struct Mysql {
    link: Link,
    /// Message ids reserved for this connection.
    ids: IdBlock,
    /// Row numbers of conversations, which never change. Forgotten with the connection.
    convs: HashMap<ConvId, u64, FixedState>,
    /// The connection that `ids` and `convs` belong to.
    connection: u64,
    /// See [`Backend::user_queries`].
    user_queries: u64,
    /// Where the next step of retention begins.
    trim: trim::Progress,
    /// Whether retention is this gateway's.
    lease: trim::Lease,
    /// Until then, in monotonic milliseconds, conversations that others hold are passed over: one
    /// was held for too long. `None`: the server cannot do that.
    wary_until_ms: Option<u64>,
    /// Rows of conversations that were looked at [`crate::limits::MYSQL_HELD_LOOKS`] times more in
    /// vain since then: they are not looked at so often again.
    in_vain: HashSet<u64, FixedState>,
}

/// Reserved ids: `next` up to `last`; empty when `next > last`.
struct IdBlock {
    next: u64,
    last: u64,
}

impl IdBlock {
    const EMPTY: Self = Self { next: 1, last: 0 };

    /// Makes sure that there are `n` more, at most [`ID_BLOCK`]. In a transaction of its own: in
    /// one with the messages the gateways would wait for each other's commits.
    fn ensure(&mut self, session: &mut Session, n: u64) -> Result<(), Fault> {
        if self.next.saturating_add(n) > self.last.saturating_add(1) {
            let first = reserve(session, "next_id", ID_BLOCK)?;
            *self = Self { next: first, last: first.saturating_add(ID_BLOCK - 1) };
        }
        Ok(())
    }
}

/// Takes `n` numbers from a counter in `meta` and returns the first. The counter's row stays locked
/// until the transaction ends, if there is one.
fn reserve(session: &mut Session, counter: &str, n: u64) -> Result<u64, Fault> {
    let missing = || statement::broken(format!("the counter {counter} is missing"));
    if n == 0 {
        // MySQL would call an UPDATE that changes nothing one that found nothing.
        let sql = "SELECT value FROM meta WHERE name = ? FOR UPDATE";
        let next = session.first(sql, vec![statement::text(counter)], |row| get_uint(row, 0))?;
        return next.ok_or_else(missing);
    }
    let sql = "UPDATE meta SET value = LAST_INSERT_ID(value + ?) WHERE name = ?";
    if session.run(sql, vec![int(n), statement::text(counter)])? == 0 {
        return Err(missing());
    }
    Ok(session.last_insert_id().saturating_sub(n))
}

/// As [`reserve`] one number: `wanted`, if it was not given yet; what lies below it is never given
/// then.
fn reserve_from(session: &mut Session, counter: &str, wanted: u64) -> Result<u64, Fault> {
    let sql = "UPDATE meta SET value = LAST_INSERT_ID(GREATEST(value, ?) + 1) WHERE name = ?";
    if session.run(sql, vec![int(wanted), statement::text(counter)])? == 0 {
        return Err(statement::broken(format!("the counter {counter} is missing")));
    }
    Ok(session.last_insert_id().saturating_sub(1))
}

impl Mysql {
    /// `gateway`: see [`super::Options::gateway`].
    fn new(link: Link, gateway: u32) -> Self {
        let trim = trim::Progress::default();
        Self {
            lease: trim::Lease::new(gateway),
            link,
            ids: IdBlock::EMPTY,
            convs: HashMap::default(),
            connection: 0,
            user_queries: 0,
            trim,
            wary_until_ms: Some(0),
            in_vain: HashSet::default(),
        }
    }

    /// Whether what others hold is passed over now.
    fn is_wary(&self) -> bool {
        self.wary_until_ms.is_some_and(|until_ms| self.link.now_ms() < until_ms)
    }

    /// Whether it could be.
    const fn may_pass_over(&self) -> bool {
        self.wary_until_ms.is_some()
    }

    fn be_wary(&mut self) {
        self.wary_until_ms = Some(self.link.now_ms() + MYSQL_WARY_MS);
        self.in_vain.clear();
    }

    fn never_pass_over(&mut self) {
        self.wary_until_ms = None;
    }

    /// The connection; what was remembered of an earlier one is forgotten, since the database may
    /// have been restored.
    fn session(&mut self) -> Result<&mut Session, Error> {
        let connection = self.link.connection()?;
        if connection != self.connection {
            self.connection = connection;
            self.convs.clear();
            self.ids = IdBlock::EMPTY;
        }
        self.link.current()
    }

    /// Runs `body` in a transaction of its own.
    fn transact<T>(&mut self, body: impl FnOnce(&mut Session) -> Result<T, Fault>) -> Result<T, Fault> {
        let session = self.session()?;
        match session.text("START TRANSACTION").and_then(|()| body(session)) {
            Err(fault) => {
                self.link.roll_back(&fault);
                Err(fault)
            }
            Ok(done) => self.finish().map(|()| done),
        }
    }

    /// Commits. From the moment in which COMMIT was sent only the server's answer tells what is
    /// stored.
    fn finish(&mut self) -> Result<(), Fault> {
        match self.link.current()?.text("COMMIT") {
            Ok(()) => Ok(()),
            Err(fault) if fault.refuses_commit() => {
                self.link.roll_back(&fault);
                Err(fault)
            }
            Err(fault) => {
                self.link.hang_up();
                Err(Fault::Store(Error::Unknown(Error::from(fault).to_string())))
            }
        }
    }

    /// Runs statements that may be run twice. A connection that turns out to be gone is made anew,
    /// once.
    fn ask<T>(&mut self, mut body: impl FnMut(&mut Session) -> Result<T, Fault>) -> Result<T, Error> {
        let kept = self.link.is_up();
        let mut outcome = body(self.session()?);
        if kept && matches!(outcome, Err(Fault::Lost(_))) {
            self.link.hang_up();
            outcome = body(self.session()?);
        }
        if let Err(fault) = &outcome {
            self.link.roll_back(fault);
        }
        Ok(outcome?)
    }
}

impl Backend for Mysql {
    fn commit(&mut self, writes: &[Write]) -> Result<Vec<Written>, Error> {
        append::commit(self, writes)
    }

    fn read(&mut self, reads: &[Read]) -> Result<Vec<ReadAnswer>, Error> {
        if reads.is_empty() {
            return Ok(Vec::new());
        }
        let mut queries = 0;
        let answers = self.ask(|session| read::read(session, reads, &mut queries));
        self.user_queries += queries;
        answers
    }

    fn user_queries(&self) -> u64 {
        self.user_queries
    }

    fn changes(&mut self, after: Option<u64>, max: u32) -> Result<Changes, Error> {
        self.ask(|session| changes::changes(session, after, max))
    }

    fn forget_changes(&mut self, max: u32) -> Result<u64, Error> {
        Ok(self.transact(|session| changes::forget(session, max))?)
    }

    fn recent(&mut self, since: Since, after: u64, max: u32) -> Result<Recent, Error> {
        self.ask(|session| recent::recent(session, since, after, max))
    }

    fn people(&mut self) -> &mut dyn People {
        self
    }

    fn groups(&mut self) -> &mut dyn Groups {
        self
    }

    fn social(&mut self) -> &mut dyn Social {
        self
    }

    fn files(&mut self) -> &mut dyn Files {
        self
    }

    fn admissions(&mut self) -> &mut dyn Admissions {
        self
    }

    fn logins(&mut self) -> &mut dyn Logins {
        self
    }

    fn api_keys(&mut self) -> &mut dyn ApiKeys {
        self
    }

    fn seed(&mut self, seed: &Seed) -> Result<Seeded, Error> {
        let plan = self.transact(|session| seed::reserve_numbers(session, seed))?;
        Ok(self.transact(|session| seed::seed(session, seed, &plan))?)
    }

    fn trim(&mut self, retention: &Retention, steps_max: u32) -> Result<Trimmed, Error> {
        trim::trim(self, retention, steps_max)
    }

    fn ping(&mut self) -> Result<(), Error> {
        let sql = if self.link.is_reader() {
            "SELECT 1 FROM meta WHERE name = 'pulse'"
        } else {
            // A full disk and a server that became read-only still read well.
            "UPDATE meta SET value = value + 1 WHERE name = 'pulse'"
        };
        self.ask(|session| session.rows(sql, Vec::new(), |_| Ok(())).map(drop))
    }

    fn wall_ms(&mut self) -> Result<Option<u64>, Error> {
        // Not by local time, of which an hour comes twice.
        let sql = "SELECT CAST(TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(3)) DIV 1000 AS UNSIGNED)";
        self.ask(|session| session.first(sql, Vec::new(), |row| get_uint(row, 0)))
    }
}
