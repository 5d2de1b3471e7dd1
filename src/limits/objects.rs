//! Caps of what is asked of an object store, where files may lie.
//!
//! Owns: the numbers, each with its unit and its reason.
//! Never: is used but through [`crate::limits`].

/// Reads (of a piece of a file, of its length) that are asked of the store at once. Each holds a
/// piece in memory and a connection.
pub const OBJECT_READS_MAX: usize = 16;
/// Files that are put at once: twice as many as one user uploads. Each holds a connection as long
/// as the store takes it.
pub const OBJECT_WRITES_MAX: usize = 2 * super::USER_UPLOADS_MAX;
/// Lists, removals and marks that are asked of it at once. They are quick, and wait for no file
/// that is put.
pub const OBJECT_SMALL_MAX: usize = 8;
/// Bytes of a file that are read at once. A reader, however slow, holds one piece and no
/// connection; a store that answers in 10 ms gives each reader 25 MB a second.
pub const OBJECT_CHUNK_BYTES: usize = 256 * 1024;
/// Connections that are kept for the next request.
pub const OBJECT_IDLE_MAX: usize = 8;
/// How long they are kept, in milliseconds: shorter than servers keep them, so that hardly any
/// request meets a connection that has just ended.
pub const OBJECT_IDLE_MS_MAX: u64 = 4_000;
/// How long connecting to one address may take, its TLS handshake included, in milliseconds.
pub const OBJECT_CONNECT_MS_MAX: u64 = 3_000;
/// How long it may take until there is a connection for a request, in milliseconds: the look-up of
/// the name, [`OBJECT_ADDRESSES_MAX`] addresses, or one that was kept and is still busy.
pub const OBJECT_REACH_MS_MAX: u64 = 10_000;
/// Addresses of the store's name that are tried.
pub const OBJECT_ADDRESSES_MAX: usize = 3;
/// How long the store may take to answer, in milliseconds, from the last byte that it was sent.
pub const OBJECT_ANSWER_MS_MAX: u64 = 8_000;
/// The same while it takes a file: it writes it to its disks before it answers.
pub const OBJECT_PUT_MS_MAX: u64 = 30_000;
/// How long a read may take with its wait and all its tries, in milliseconds.
pub const OBJECT_READ_MS_MAX: u64 = 20_000;
/// How long a read waits for others before it is refused, in milliseconds.
pub const OBJECT_READ_WAIT_MS_MAX: u64 = 5_000;
/// How long a write does.
pub const OBJECT_WRITE_WAIT_MS_MAX: u64 = 20_000;
/// Tries of a request that met a lost connection, or an answer of 500 and above.
pub const OBJECT_TRIES_MAX: u32 = 3;
/// Pause before the second try, in milliseconds; it doubles.
pub const OBJECT_RETRY_MS: u64 = 100;
/// Requests that fail one after the other until the store counts as away.
pub const OBJECT_FAILURES_MAX: u32 = 3;
/// While it is away one request is tried in so many milliseconds, and all others are refused at
/// once.
pub const OBJECT_PAUSE_MS: u64 = 1_000;
/// Bytes of the head of an answer.
pub const OBJECT_HEAD_BYTES_MAX: usize = 16 * 1024;
/// Bytes of an answer that is no piece of a file: a list of [`OBJECT_LIST_MAX`] names, or an error.
pub const OBJECT_ANSWER_BYTES_MAX: usize = 256 * 1024;
/// Lists of one look for removals that were left undone: what other gateways are about to remove,
/// and what is none of theirs, stands there as well.
pub const OBJECT_LEFT_LISTS_MAX: usize = 100;
/// Names in one list.
pub const OBJECT_LIST_MAX: usize = 100;
/// How long a signature is good, in milliseconds: longer than any request takes to begin, and
/// short if it is ever seen in a log.
pub const OBJECT_SIGNED_MS: u64 = 900_000;
/// How long a start waits for the store, in milliseconds: one that is away does not hold up chat.
pub const OBJECT_CHECK_MS_MAX: u64 = 10_000;
/// Bytes of the setting's prefix of names.
pub const OBJECT_PREFIX_BYTES_MAX: usize = 200;
/// How long an upload waits until the removal of a file of the same content has ended, in
/// milliseconds.
pub const OBJECT_MARK_WAIT_MS_MAX: u64 = 10_000;
/// Pause between two looks whether it has.
pub const OBJECT_MARK_POLL_MS: u64 = 250;
/// How long after its mark a removal may still remove, in milliseconds: a process that stood still
/// for longer begins anew.
pub const OBJECT_MARK_GOOD_MS: u64 = 120_000;
/// Pause between two looks for removals that a crash, or an outage of the store, has left undone.
pub const OBJECT_LEFT_LOOK_MS: u64 = 600_000;
