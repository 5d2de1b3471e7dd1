//! The life of one connection: made when it is needed, kept for as long as it works, made again
//! with growing pauses.
//!
//! Owns: the session settings, the pauses, and what the log says of a server that comes and goes.
//! Never: waits for a pause; a request that comes too early is told why there is no connection.
//! Bounds: [`MYSQL_CONNECT_MS`](crate::limits::MYSQL_CONNECT_MS) for a connection; pauses from
//! [`MYSQL_RECONNECT_MS_MIN`] to [`MYSQL_RECONNECT_MS_MAX`].

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use mysql::{Conn, Opts, OptsBuilder};

use super::fault::{Fault, UNKNOWN_VARIABLE};
use super::migrate;
use super::statement::{Session, take_text};
use super::target::Target;
use crate::clock::Clock;
use crate::limits::{
    MYSQL_ANSWER_MS, MYSQL_LOCK_WAIT_S, MYSQL_OPEN_S, MYSQL_RECONNECT_MS_MAX, MYSQL_RECONNECT_MS_MIN, MYSQL_SILENT_S,
    MYSQL_STALE_MS, MYSQL_WRITE_MS, MYSQL_WRITER_SILENT_S, READ_RUN_MS_MAX,
};
use crate::log::outage::{Outage, OutageLine};
use crate::store::Error;

/// What a connection is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum LinkRole {
    Writer,
    /// Its transactions are read-only, so that a write by mistake is refused.
    Reader,
}

/// What all connections to one server know of it.
#[derive(Default)]
pub(super) struct Server {
    /// What the log says of it.
    outage: Outage,
    /// Connections that were made.
    made: AtomicU64,
}

/// A connection, or the reason why there is none.
pub(super) struct Link {
    target: Arc<Target>,
    role: LinkRole,
    clock: Clock,
    server: Arc<Server>,
    session: Option<Session>,
    /// Connections made so far.
    connections: u64,
    /// When the session was last used.
    used_ms: u64,
    /// Pause after the next failure.
    pause_ms: u64,
    /// No try before this time, unless another connection was made since.
    retry_ms: u64,
    /// [`Server::made`] at the last failure.
    made_before: u64,
    /// Why the last try failed; `None` after one that did not.
    trouble: Option<Error>,
}

impl Link {
    /// Monotonic milliseconds.
    pub(super) fn now_ms(&self) -> u64 {
        self.clock.now().mono_ms
    }

    pub(super) fn new(target: &Arc<Target>, role: LinkRole, clock: Clock, server: &Arc<Server>) -> Self {
        Self {
            target: Arc::clone(target),
            role,
            clock,
            server: Arc::clone(server),
            session: None,
            connections: 0,
            used_ms: 0,
            pause_ms: MYSQL_RECONNECT_MS_MIN,
            retry_ms: 0,
            made_before: 0,
            trouble: None,
        }
    }

    pub(super) fn is_reader(&self) -> bool {
        self.role == LinkRole::Reader
    }

    /// Whether there is a connection now, so that a caller can tell a new one.
    pub(super) fn is_up(&self) -> bool {
        self.session.is_some()
    }

    /// Makes sure that there is a connection, and says which one it is: the number grows with each
    /// new one.
    ///
    /// # Errors
    /// [`Error::Unavailable`]: there is none, and why. [`Error::Broken`]: the database is not ours
    /// or newer.
    pub(super) fn connection(&mut self) -> Result<u64, Error> {
        let now_ms = self.clock.now().mono_ms;
        let stale = now_ms.saturating_sub(self.used_ms) >= MYSQL_STALE_MS;
        // The server may have ended it, or a firewall may have forgotten it.
        if stale && self.session.as_mut().is_some_and(|session| !session.is_alive()) {
            self.hang_up();
        }
        self.used_ms = now_ms;
        if self.session.is_none() {
            self.session = Some(self.connect(now_ms)?);
            self.connections += 1;
        }
        Ok(self.connections)
    }

    /// The connection that was there a moment ago. Never another one: a transaction ends where it
    /// began.
    ///
    /// # Errors
    /// It is gone.
    pub(super) fn current(&mut self) -> Result<&mut Session, Error> {
        self.session.as_mut().ok_or_else(|| Error::Unavailable("the connection is gone".to_owned()))
    }

    /// Ends the connection. What it has not committed the server rolls back.
    pub(super) fn hang_up(&mut self) {
        self.session = None;
    }

    /// Leaves no transaction open after a failed statement.
    pub(super) fn roll_back(&mut self, fault: &Fault) {
        let lost = fault.ends_connection();
        if let Some(session) = &mut self.session
            && (lost || session.text("ROLLBACK").is_err())
        {
            self.hang_up();
        }
    }

    fn connect(&mut self, now_ms: u64) -> Result<Session, Error> {
        // A caller that one connection has told of a ready database is not refused by another one
        // in its pause.
        let made = self.server.made.load(Ordering::Relaxed);
        if now_ms < self.retry_ms && made == self.made_before {
            return Err(self.trouble.clone().unwrap_or_else(|| Error::Unavailable("no connection".to_owned())));
        }
        match self.try_connect() {
            Ok(session) => {
                self.trouble = None;
                self.server.made.fetch_add(1, Ordering::Relaxed);
                if let Some(OutageLine::Ended { failures, seconds }) =
                    self.server.outage.worked(self.clock.now().mono_ms)
                {
                    tracing::info!(server = %self.target, failures, seconds, "connected to the database again");
                }
                self.pause_ms = MYSQL_RECONNECT_MS_MIN;
                Ok(session)
            }
            Err(error) => {
                let failed_ms = self.clock.now().mono_ms;
                if self.server.outage.failed(failed_ms).is_some() {
                    tracing::warn!(server = %self.target, role = ?self.role, %error, "no connection to the database");
                }
                // Counted from the end of the try, which may have been long.
                self.retry_ms = failed_ms.saturating_add(self.pause_ms);
                self.made_before = made;
                self.pause_ms = (self.pause_ms * 2).min(MYSQL_RECONNECT_MS_MAX);
                self.trouble = Some(error.clone());
                Err(error)
            }
        }
    }

    fn try_connect(&self) -> Result<Session, Error> {
        let conn = match Conn::new(patient(self.target.opts(), self.role)).map_err(Fault::from) {
            Ok(conn) => conn,
            Err(Fault::Lost(text) | Fault::Late(text)) => {
                return Err(Error::Unavailable(format!("no connection: {text}")));
            }
            Err(fault) => return Err(fault.into()),
        };
        let mut session = Session::new(conn, self.is_reader());
        for sql in settings(self.role) {
            session.text(&sql)?;
        }
        match session.text(NO_CACHE) {
            // A server without such a cache.
            Err(fault) if fault.is(UNKNOWN_VARIABLE) => {}
            outcome => outcome?,
        }
        session.epoch = migrate::prepare(&mut session)?;
        if self.is_reader() {
            // With Galera a page read on another node could lack what was acked: "registered, then
            // read" would lose a message.
            let galera = session.rows("SHOW VARIABLES LIKE 'wsrep_on'", Vec::new(), |row| take_text(row, 1))?;
            if galera.iter().any(|value| value == "ON") {
                session.text("SET SESSION wsrep_sync_wait = 1")?;
            }
            session.text("SET SESSION TRANSACTION READ ONLY")?;
            session.text(&statement_limit())?;
        }
        Ok(session)
    }
}

/// How long a connection waits for an answer, the one to its greeting included.
fn patient(opts: Opts, role: LinkRole) -> Opts {
    let answer_ms = match role {
        LinkRole::Writer => MYSQL_WRITE_MS,
        LinkRole::Reader => MYSQL_ANSWER_MS,
    };
    let answer = Some(Duration::from_millis(answer_ms));
    OptsBuilder::from_opts(opts)
        .read_timeout(answer)
        .write_timeout(answer)
        .tcp_user_timeout_ms(u32::try_from(answer_ms).ok())
        .into()
}

/// Everything that we rely on and the server's own configuration could have otherwise. Each is
/// given as a value: `DEFAULT` would be what the server was told. `tests/store_contract.rs` runs
/// once with all of them set against us.
fn settings(role: LinkRole) -> [String; 4] {
    // A page is read with several statements that must see the same; a commit must see what was
    // committed while it waited. Nobody waits for a reader's transaction, so it may rest.
    let (isolation, silent_s, open_s) = match role {
        LinkRole::Writer => ("READ COMMITTED", MYSQL_WRITER_SILENT_S, MYSQL_OPEN_S),
        LinkRole::Reader => ("REPEATABLE READ", MYSQL_SILENT_S, 0),
    };
    [
        // Exact comparison, so that keys are compared as bytes.
        "SET NAMES utf8mb4 COLLATE utf8mb4_bin".to_owned(),
        // A reader, too, may be the one that makes the tables; it says READ ONLY after that.
        format!("SET SESSION TRANSACTION ISOLATION LEVEL {isolation}, READ WRITE"),
        format!(
            "SET SESSION sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION', autocommit = 1, completion_type = 0, \
             innodb_lock_wait_timeout = {MYSQL_LOCK_WAIT_S}, lock_wait_timeout = {MYSQL_LOCK_WAIT_S}, \
             wait_timeout = {silent_s}, net_read_timeout = {MYSQL_SILENT_S}, \
             net_write_timeout = {MYSQL_SILENT_S}, time_zone = '+00:00', unique_checks = 1, foreign_key_checks = 1, \
             max_sort_length = 1024, {WHOLE_RESULTS}"
        ),
        // Also where nothing is written yet: rows are locked.
        format!(
            "SET @imgate = 0 /*M!100300 , SESSION max_statement_time = 0, \
             SESSION idle_transaction_timeout = {open_s}, SESSION idle_readonly_transaction_timeout = {open_s}, \
             SESSION idle_write_transaction_timeout = {open_s}, \
             SESSION max_session_mem_used = 9223372036854775807 */ /*!80000 , SESSION max_execution_time = 0 */"
        ),
    ]
}

/// MariaDB's cache of answers is told of a commit after the tables are: a snapshot of after the
/// commit would be given answers of before it.
const NO_CACHE: &str = "SET SESSION query_cache_type = 0";

/// A statement finds and changes all rows that it names, and `IS NULL` means that.
pub(super) const WHOLE_RESULTS: &str =
    "sql_safe_updates = 0, sql_select_limit = 18446744073709551615, sql_big_selects = 1, sql_auto_is_null = 0";

/// Has the server end a statement that runs for too long: in words that MariaDB alone reads, and in
/// words that MySQL alone does.
fn statement_limit() -> String {
    let seconds = READ_RUN_MS_MAX.div_ceil(1000);
    format!(
        "SET @imgate = 0 /*M!100100 , SESSION max_statement_time = {seconds} */ \
         /*!80000 , SESSION max_execution_time = {READ_RUN_MS_MAX} */"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_writes_is_not_kept_waiting_as_long_as_who_reads() {
        let target = Target::parse("mysql://im@db/chat").expect("good");
        for (role, answer_ms) in [(LinkRole::Writer, MYSQL_WRITE_MS), (LinkRole::Reader, MYSQL_ANSWER_MS)] {
            let (opts, answer) = (patient(target.opts(), role), Duration::from_millis(answer_ms));
            assert_eq!((opts.get_read_timeout(), opts.get_write_timeout()), (Some(&answer), Some(&answer)));
            assert_eq!(opts.get_tcp_user_timeout_ms().map(u64::from), Some(answer_ms));
            assert_eq!((opts.get_user(), opts.get_db_name()), (Some("im"), Some("chat")));
        }
    }
}
