//! Caps of the store: transactions, reads, databases, retention.
//!
//! Owns: the numbers, each with its unit and its reason.
//! Never: is used but through [`crate::limits`].

use super::STORE_CALL_MS_MAX;

/// Writes in one transaction (what has gathered while the last commit ran).
pub const COMMIT_WRITES_MAX: usize = 1024;
/// The same as long as it is not known what a write costs here: the first burst after a start does
/// not make one commit of 80 ms that everybody waits for.
pub const COMMIT_WRITES_FIRST: usize = 64;
/// Bytes of bodies in one transaction: many small writes fit, and a row of large ones does not hold
/// up the others long.
pub const COMMIT_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Reads given to the database together when sessions open; with a snapshot each, more would only
/// delay the first.
pub const READS_GATHERED_MAX: usize = 256;
/// The same of small reads: look-ups, lists of conversations, what a home reads.
pub const READS_LIGHT_MAX: usize = 64;
/// The same of pages and lists: whoever comes next waits for no more of them.
pub const READS_HEAVY_MAX: usize = 8;
/// How long a read may wait in a queue before it is refused instead of begun: whoever asked has
/// been told something else by then, or asks again.
pub const READ_WAIT_MS_MAX: u64 = STORE_CALL_MS_MAX;
/// How long a batch of reads, or one call on a reading connection, may run before the database ends
/// it. Each is bounded in rows, so only a database in trouble takes so long.
pub const READ_RUN_MS_MAX: u64 = 5_000;
/// Calls of the control plane that run between two commits while more waits than one batch takes.
pub const COMMIT_CALLS_MAX: usize = 8;
/// Bytes that the pages of one batch of reads may ask for together.
pub const READS_GATHERED_BYTES_MAX: usize = 8 * 1024 * 1024;
/// How long a worker retries one commit before it says so; below the park time of a legacy command
/// (`PARK_MS_MAX`).
pub const COMMIT_RETRY_MS_MAX: u64 = 2_000;
/// A batch that another transaction is in the way of is tried again as a whole for so long; then in
/// parts, so that what is in nothing's way does not wait.
pub const CONTENDED_RETRY_MS_MAX: u64 = 300;
/// Pause before the first retry of a commit; doubles with each.
pub const COMMIT_RETRY_MS_MIN: u64 = 10;
/// Tries to find what breaks a batch, each with a part of it: four bad ones among
/// [`COMMIT_WRITES_MAX`] are found.
pub const ISOLATION_TRIES_MAX: u32 = 64;
/// A failure that comes again and again is in the log once in so many milliseconds, with the number
/// of those left out.
pub const STORE_COMPLAINT_MS: u64 = 10_000;
/// Pause between two probes of a database that is known to fail; asks in between are refused at
/// once.
pub const STORE_PROBE_MS: u64 = 250;
/// How long a database whose commit has failed counts as failing although it takes a ping: unless a
/// message is stored meanwhile. A full disk takes a small write now and then.
pub const STORE_DOUBT_MS: u64 = 5_000;
/// How long a ping of the database is waited for at all; the next one is another one.
pub const STORE_PING_MS_MAX: u64 = 60_000;
/// How long the database may take for a ping until `/readyz` says that it does not answer; before
/// that it is slow, and a gateway that is slow is better than none.
pub const STORE_SILENT_MS: u64 = 5_000;
/// How long SQLite waits for another connection's lock before it says busy.
pub const SQLITE_BUSY_MS: u64 = 1_000;
/// How long a connection to MySQL may take to be made: the network is near or it is broken.
pub const MYSQL_CONNECT_MS: u64 = 3_000;
/// How long MySQL may take to answer one statement or to take it.
pub const MYSQL_ANSWER_MS: u64 = 10_000;
/// The same for a connection that writes, because senders wait for it: below the park time of a
/// legacy command (`PARK_MS_MAX`). A commit whose answer is later has an unknown outcome.
pub const MYSQL_WRITE_MS: u64 = 4_000;
/// How long InnoDB waits for a row's lock, in whole seconds. Another gateway holds a conversation
/// for one commit, so a lock that is held longer is one of a client that is gone, or of a tool; and
/// everything else in the batch waits with it.
pub const MYSQL_LOCK_WAIT_S: u32 = 1;
/// For so long after a lock was waited for in vain, conversations that others hold are passed over,
/// and what is written to them is refused: everything else would wait with each try.
pub const MYSQL_WARY_MS: u64 = 5_000;
/// How often a batch looks again, in that time, at conversations that others hold, and the pause
/// before each look: an ordinary commit of another gateway takes some milliseconds, and what is
/// free by then is not refused. Once, where a row behind those waited for is locked already.
pub const MYSQL_HELD_LOOKS: u32 = 4;
/// See [`MYSQL_HELD_LOOKS`]. All looks together last less than [`MYSQL_LOCK_WAIT_S`].
pub const MYSQL_HELD_LOOK_MS: u64 = 5;
/// Silence after which the server ends a connection, in seconds.
pub const MYSQL_SILENT_S: u32 = 60;
/// The same of a connection that writes.
pub const MYSQL_WRITER_SILENT_S: u32 = 25;
/// Silence within a transaction after which MariaDB ends a connection that writes, in seconds:
/// others wait for the locks of a gateway that stands still or whose machine is gone, and take it
/// for granted that what was written is seen soon or never ([`CHANGES_SETTLE_S`],
/// [`super::DIGEST_DEEP_S`]). MySQL has nothing of that kind.
pub const MYSQL_OPEN_S: u32 = 5;
/// Silence after which a connection is tried before it is used: well before the server ends it.
pub const MYSQL_STALE_MS: u64 = 20_000;
/// Pause after the first failed connection to MySQL; doubles with each.
pub const MYSQL_RECONNECT_MS_MIN: u64 = 50;
/// Pause between two tries to connect at most: so long after the server is back a gateway may still
/// say that it is not.
pub const MYSQL_RECONNECT_MS_MAX: u64 = 1_000;
/// How long a gateway waits for another one that is changing the schema, in seconds; it tries again
/// afterwards.
pub const MYSQL_SCHEMA_WAIT_S: u32 = 3;
/// Rows of one statement. Twelve thousand placeholders at most, where MySQL allows 65,535; larger
/// ones were not faster.
pub const MYSQL_ROWS_MAX: usize = 512;
/// Bytes of bodies in one statement: below every `max_allowed_packet` that was ever a default (4
/// MiB and more).
pub const MYSQL_STATEMENT_BYTES_MAX: usize = 1024 * 1024;
/// Rows of a page that are fetched before their size is known.
pub const MYSQL_PAGE_STEP: u32 = 32;
/// Conversations of which a writing connection remembers the row number (some 10 MiB); beyond it
/// all are forgotten.
pub const MYSQL_CONVS_CACHED_MAX: usize = 131_072;
/// Pages of SQLite's write-ahead log after which a commit checkpoints by itself (64 MiB). The
/// upkeep thread does it before; under a load that never pauses only the writer can finish it, and
/// then little is left.
pub const WAL_PAGES_MAX: u32 = 16_384;
/// Pages of the log after which the upkeep has the writer begin it anew (32 MiB), long before a
/// commit would have to move by itself what the upkeep has not.
pub const WAL_REWIND_PAGES: u32 = WAL_PAGES_MAX / 2;
/// Checkpoints of one round of upkeep, each of what was written during the one before it.
pub const CHECKPOINT_PASSES_MAX: usize = 4;
/// A checkpoint that moved no more pages than that has left as little to the writer.
pub const CHECKPOINT_REST_PAGES: u32 = 64;
/// Pause between two rounds of the store's upkeep (checkpoints).
pub const UPKEEP_MS: u64 = 500;
/// Rows that one step of retention looks at or removes: as much work as a full commit, because a
/// commit may wait for it.
pub const TRIM_STEPS_MAX: u32 = 1000;
/// Pause between two steps of retention that find little to remove, so that looking costs a few
/// percent of a writer.
pub const TRIM_PAUSE_MS: u64 = 100;
/// Changes about users (epochs, bans, memberships, blocks) in one answer to a gateway that follows
/// them.
pub const CHANGES_MAX: u32 = 1000;
/// How long such a change is kept, in seconds: a gateway that cannot read the database for longer
/// begins anew.
pub const CHANGES_KEPT_S: u32 = 6 * 60 * 60;
/// How long a change may appear after its number was given, in seconds, where several gateways
/// write: it waits for nothing but its COMMIT, and whoever follows reads what is younger again.
pub const CHANGES_SETTLE_S: u32 = 10;
/// Changes that the backend without a disk keeps: some 3 MiB.
pub const CHANGES_KEPT_MAX: usize = 65_536;
/// Pause between two looks for changes that are too old.
pub const CHANGES_PAUSE_MS: u64 = 60_000;
/// One of several gateways on a database has retention; one that is gone loses it after so many
/// seconds: more than a pass and its pause take.
pub const RETENTION_LEASE_S: u64 = 180;
/// Pause between two passes of retention over everything; also after a step that failed.
pub const TRIM_PASS_MS: u64 = 60_000;
/// Numbers of users, groups and messages that a restored database skips, because others had got
/// them between the backup and the loss: a token of then must not fit a user of now. More than a
/// gateway gives away in a day.
pub const RESTORE_SKIP: u64 = 1_000_000;
/// Conversations of which a writing connection to SQLite remembers the head (some 10 MiB); beyond
/// it all are forgotten.
pub const SQLITE_CONVS_KNOWN_MAX: usize = 131_072;
/// Connections of one sort (writing, reading) to one database.
pub const STORE_CONNS_MAX: usize = 64;
/// Of these, those that write, by setting: a database server takes some 150 connections of all
/// gateways together.
pub const STORE_WRITERS_MAX: usize = 8;
/// Message ids reserved in the database at once.
pub const ID_BLOCK: u64 = 10_000;
/// How long a `cid` is remembered at least.
pub const CID_DAYS_MIN: u64 = 7;
/// What the express thread may take for one batch before others are called to what has come
/// meanwhile. What is in memory takes a tenth of that; more is a disk, a server, or a core that
/// others have.
pub const EXPRESS_LATE_MS: u64 = 10;
/// Room that a backup leaves on the disk that it shares with the database.
pub const BACKUP_SPARE_BYTES: u64 = 512 * 1024 * 1024;
/// Bytes of a backup's name.
pub const BACKUP_NAME_BYTES_MAX: usize = 100;
/// How long a stop waits for a backup that was told to end: only its sync cannot be interrupted.
pub const BACKUP_STOP_MS_MAX: u64 = 1_000;
