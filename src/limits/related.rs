//! What related limits must be to each other, checked when the program is compiled.

use super::*;

const _: () = assert!(UPLOAD_BYTES_DEFAULT <= UPLOAD_BYTES_MAX && UPLOAD_IMAGE_BYTES_MAX <= UPLOAD_BYTES_MAX, "ranges");
const _: () = assert!(MESSAGE_BYTES_MAX <= OUTBOX_BYTES_MAX, "one message always fits an outbox");
const _: () = assert!(SWEEP_BATCH_BYTES_MAX <= OUTBOX_BYTES_MAX, "one batch always fits an outbox");
const _: () = assert!(MESSAGE_BYTES_MAX * 2 <= SYNC_BYTES_MAX, "a sync page makes progress");
const _: () = assert!(SYNC_BYTES_MAX <= READS_GATHERED_BYTES_MAX, "one page always fits a batch of reads");
const _: () =
    assert!(COMMIT_RETRY_MS_MAX + SQLITE_BUSY_MS < PARK_MS_MAX, "a parked command hears of a failing store in time");
const _: () = assert!(HEADS_MAX as u64 <= REPLAY_MAX, "each conversation of a replay has a place");
const _: () = assert!(HEADS_ASKS_MAX * 4 < STORE_ASKS_MAX as usize, "opening sessions leave room for posts");
const _: () = assert!(
    MYSQL_WRITE_MS < PARK_MS_MAX && MYSQL_WRITE_MS < MYSQL_ANSWER_MS,
    "senders hear of a frozen database in time"
);
const _: () = assert!(MYSQL_LOCK_WAIT_S as u64 * 1000 < MYSQL_WRITE_MS, "who waits for a lock is told by the server");
const _: () =
    assert!(MYSQL_SCHEMA_WAIT_S as u64 * 1000 < MYSQL_WRITE_MS, "who waits for the schema is told by the server");
const _: () = assert!(
    MYSQL_STALE_MS < MYSQL_WRITER_SILENT_S as u64 * 1000 && MYSQL_WRITER_SILENT_S < MYSQL_SILENT_S,
    "a connection is tried before the server ends it"
);
const _: () = assert!(MYSQL_OPEN_S < MYSQL_WRITER_SILENT_S, "a transaction ends before a connection that rests");
/// The longest that a transaction lives whose gateway stands still in it, with the answer to its
/// COMMIT.
const MYSQL_OPEN_MS: u64 = MYSQL_OPEN_S as u64 * 1000 + MYSQL_WRITE_MS;
const _: () = assert!(MYSQL_OPEN_MS < CHANGES_SETTLE_S as u64 * 1000, "a change that comes late is read again");
const _: () = assert!(
    MYSQL_OPEN_MS + DIGEST_DEEP_MS < DIGEST_DEEP_S as u64 * 1000,
    "a message that is committed late is in the deep digest after it"
);
const _: () =
    assert!(APPENDS_UNDER_WAY_MAX < STORE_ASKS_MAX as usize / 2, "posts in the store leave room for all else");
const _: () = assert!(HEADS_ASKS_MAX < OPEN_ASKS_RESERVED, "those who have opened leave room for those who open");
const _: () = assert!(FREE_READ_BYTES < MESSAGE_BYTES_MAX, "a large message is charged for its bytes");
const _: () = assert!(COMMIT_WRITES_MAX <= SQLITE_CONVS_KNOWN_MAX / 2, "a batch finds room among what is known");
const _: () = assert!(COMMIT_WRITES_MAX as u64 <= ID_BLOCK, "one block of ids is enough for a commit");
const _: () = assert!(PING_AFTER_MS * 2 < IDLE_MS, "two pings fit into the idle deadline");
const _: () = assert!(PING_AFTER_MS_MAX * 2 < IDLE_MS_MAX, "two of the longest pauses fit into the longest one");
const _: () = assert!(PING_JITTER_MS < PING_AFTER_MS, "jitter only makes a ping earlier, never immediate");
const _: () = assert!(CONTROL_BYTES_MAX < READ_SCRATCH_BYTES, "a control frame fits one read");
const _: () = assert!(OUTBOX_BYTES_MIN <= OUTBOX_BYTES_MAX, "there is something to choose");
const _: () = assert!(QUANTUM_BYTES <= READ_SCRATCH_BYTES && HEAD_READ_BYTES <= READ_SCRATCH_BYTES, "one read fits");
const _: () = assert!(QUANTUM_BYTES <= UNREAD_BYTES_MAX && HEAD_READ_BYTES <= UNREAD_BYTES_MAX, "a rest can be kept");
const _: () = assert!(HEAD_BYTES_MAX < HEAD_READ_BYTES, "a head comes in one read");
const _: () = assert!(QUANTUM_FRAMES <= TURN_HEAVY_FRAMES_MAX && QUANTUM_FRAMES > ANSWERS_PENDING_MAX, "quanta fit");
const _: () = assert!(SWEEP_CHUNK_MAX <= TURN_SWEEP_MAX, "a turn sweeps at least one chunk");
const _: () = assert!(SWEEP_BATCH_BYTES_MAX * 8 <= SWEEP_CHUNK_BYTES_MAX, "a chunk reaches several members");
const _: () = assert!(HEAD_MS_MAX < MESSAGE_MS_MAX, "a head ends by its own deadline");
const _: () = assert!(HEADS_PER_ADDRESS_MAX * 4 <= HEADS_PENDING_MAX, "an address has a small part of the places");
const _: () = assert!(SWEEP_BATCH_BYTES_MAX <= OUTBOX_BYTES_MIN, "one batch fits the smallest outbox");
const _: () = assert!(CONNECTIONS_MAX < u32::MAX as usize, "a slot number is 32 bits");
const _: () = assert!(LOGINS_PER_USER_MAX > SESSIONS_PER_USER_MAX, "a session's login is hardly ever the oldest");
const _: () = assert!(LOGIN_COOKIES_MAX < COOKIES_TRIED_MAX, "every cookie that a browser keeps is tried");
const _: () = assert!(PREAMBLE_BYTES_MAX + HEAD_BYTES_MAX < READ_SCRATCH_BYTES, "both fit one read");
const _: () = assert!(HEAD_BYTES_MAX >= 8192, "hyper takes no smaller buffer than this");
const _: () =
    assert!(3 * STORE_CALL_MS_MAX + PASSWORD_MS_MAX + NOTICE_MS_MAX < HTTP_REQUEST_MS_MAX, "inner waits end first");
const _: () = assert!(
    OBJECT_READ_WAIT_MS_MAX + OBJECT_ANSWER_MS_MAX < OBJECT_READ_MS_MAX && OBJECT_READ_MS_MAX < HTTP_REQUEST_MS_MAX,
    "who asks for a file is told that the store does not answer"
);
const _: () =
    assert!(OBJECT_ADDRESSES_MAX as u64 * OBJECT_CONNECT_MS_MAX < OBJECT_REACH_MS_MAX, "each address has its time");
const _: () = assert!(
    OBJECT_MARK_GOOD_MS + OBJECT_WRITE_WAIT_MS_MAX + OBJECT_REACH_MS_MAX + OBJECT_ANSWER_MS_MAX < FILES_LEFT_MS,
    "a removal is not taken for one that a crash has left"
);
