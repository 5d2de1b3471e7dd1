//! Every bound and every pause of the client, each with its reason.

/// Commands unanswered at once: half of what the gateway reads of one session before it waits.
pub const WINDOW: usize = 32;
/// Messages without their ack that a session keeps; a further one is refused to the application.
pub const OUTBOX_MAX: usize = 1024;
/// Conversations that a session keeps the place of. A message of a further one is given to the
/// application as it comes, without a promise about its order.
pub const CONVERSATIONS_MAX: usize = 10_000;
/// Conversations that are asked for on a new connection although nothing says that they have news:
/// a second's worth of what the gateway does for a user. Of more the list of conversations tells.
pub const ASKED_BLINDLY_MAX: usize = 64;
/// Pushes of one conversation that are kept until those before them have come; a further one comes
/// with the sync.
pub const HELD_MAX: usize = 256;
/// Pages of history of one conversation that wait for their turn.
pub const HISTORY_WAITING_MAX: usize = 8;
/// Rows of a page; the gateway gives no more.
pub const SYNC_ROWS: u32 = 200;
/// Events that wait for the application. When they are not taken, the socket is not read.
pub const EVENTS_MAX: usize = 1024;
/// Calls of the application that wait for the client's thread.
pub const CALLS_MAX: usize = 1024;
/// A message of the gateway: a page of 256 KiB of bodies fits many times.
pub const MESSAGE_BYTES_MAX: usize = 4 * 1024 * 1024;
/// A message to the gateway, which ends the connection of whoever sends a longer one.
pub const FRAME_BYTES_MAX: usize = 64 * 1024;
/// How deep a message to the gateway is nested at most; it cannot read a deeper one.
pub const JSON_DEPTH_MAX: usize = 32;
/// The name of a message, in bytes.
pub const CID_BYTES_MAX: usize = 64;
/// The highest number of a user, of a group or of a message in its conversation.
pub const ID_MAX: u64 = (1 << 53) - 1;
/// Bytes that wait to be written to one connection: a whole window of the largest messages.
pub const OUT_BYTES_MAX: usize = WINDOW * FRAME_BYTES_MAX;
/// Bytes read from a socket at once: small, because one process may have many connections.
pub const READ_BYTES: usize = 8 * 1024;
/// Messages read from one connection before the application's calls have their turn.
pub const TURN_MESSAGES_MAX: usize = 64;

/// How long a connection may take from the first packet to the upgrade, in milliseconds.
pub const CONNECT_MS_MAX: u64 = 15_000;
/// How long the closing handshake may take, in milliseconds.
pub const CLOSE_MS_MAX: u64 = 2_000;
/// First pause before a message without an ack is sent again, in milliseconds; it doubles.
pub const ACK_MS: u64 = 10_000;
/// The first pause after a failure, in milliseconds; it doubles up to [`PAUSE_MS_MAX`].
pub const PAUSE_MS: u64 = 1_000;
/// How exactly the moment is kept that a gateway which stops gives a connection to come back, in
/// milliseconds.
pub const SLOT_JITTER_MS: u64 = 1_000;
/// The longest pause, in milliseconds.
pub const PAUSE_MS_MAX: u64 = 60_000;
/// A connection that stood so long was a good one, in milliseconds: the next failure is the first.
pub const GOOD_CONNECTION_MS: u64 = 30_000;
/// Silence after which the gateway is asked whether it is there, in milliseconds.
pub const HEARTBEAT_MS: u64 = 12_000;
/// How long the answer may take, in milliseconds; doubled with each connection in a row that ended
/// so, because on a slow network an answer may stand behind a long page.
pub const ANSWER_MS: u64 = 6_000;
/// The most that it may take, in milliseconds.
pub const ANSWER_MS_MAX: u64 = 48_000;
/// How long what was received is gathered before it is said, in milliseconds.
pub const RECEIPTS_MS: u64 = 300;

const _: () = assert!(WINDOW < 64, "rule 7 of docs/protocol.md");
