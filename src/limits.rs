//! Every hard cap, with its reason. The configuration may only choose below these.
//!
//! Owns: the numbers, and the compile-time assertions between related ones (`related`).
//! Never: a cap without a unit in its name and a sentence why.

mod accounts;
mod backends;
mod cluster;
mod deflate;
mod files;
mod http;
mod objects;
mod passages;
mod probes;
mod related;
mod stop;
mod store;
mod surroundings;

pub use accounts::*;
pub use backends::*;
pub use cluster::*;
pub use deflate::*;
pub use files::*;
pub use http::*;
pub use objects::*;
pub use passages::*;
pub use probes::*;
pub use stop::*;
pub use store::*;
pub use surroundings::*;

// ---- the process --------------------------------------------------------------------------------

/// Shard threads. Lanes grow with its square; no machine has more cores that one gateway should
/// use.
pub const SHARDS_MAX: u16 = 1024;
/// Connections of the process: what the configuration may choose. Sixteen times the promise of a
/// million, and far below 2^32 slots.
pub const CONNECTIONS_MAX: usize = 1 << 24;
/// Public addresses. Each costs a socket per shard.
pub const LISTENERS_MAX: usize = 16;
/// Networks of trusted proxies. A content delivery network has some dozens; each is compared for
/// every connection.
pub const TRUSTED_PROXIES_MAX: usize = 256;
/// A header of the PROXY protocol: 232 bytes with the longest addresses; what proxies append about
/// a client's certificate may take the rest.
pub const PREAMBLE_BYTES_MAX: usize = 4 * 1024;

/// Lines of the log that wait for a slow reader, some 2 MiB; further ones are lost and counted.
pub const LOG_LINES_MAX: usize = 8192;
/// Lines of a trail that wait for its thread; each is some 200 bytes, and at most a few times that.
pub const TRAIL_LINES_MAX: usize = 8192;
/// How long a stop waits for the last lines of a trail, in milliseconds.
pub const TRAIL_STOP_MS_MAX: u64 = 250;
/// Lines of a trail in a second: 1 MB a second, which every disk takes, and no flood of requests
/// makes more.
pub const TRAIL_LINES_PER_SECOND: u64 = 5_000;
/// Pause between two lines of an outage that lasts: an operator that looks finds a fresh one.
pub const LOG_OUTAGE_PAUSE_MS: u64 = 30_000;
/// How long nothing may have failed until what works is the end of an outage, where some calls work
/// while others fail: longer than clients wait before they try again.
pub const LOG_OUTAGE_QUIET_MS: u64 = 5_000;
/// Lines in [`LOG_OUTAGE_WINDOW_MS`] about one thing that fails and works by turns, half of them
/// for its ends.
pub const LOG_OUTAGE_LINES_MAX: u32 = 10;
/// See [`LOG_OUTAGE_LINES_MAX`].
pub const LOG_OUTAGE_WINDOW_MS: u64 = 60_000;
/// Lines about failed logins of one network at once: enough to see that passwords are guessed.
pub const LOGIN_LINES_MAX: u64 = 5;
/// Such lines of all networks at once.
pub const LOGIN_LINES_ALL_MAX: u64 = 60;
/// Pause after which there may be one more, of a network and in all; some 100 KB in an hour.
pub const LOGIN_LINE_MS: u64 = 5_000;
/// Lines of a shard at once about users that were closed for going too fast: their numbers
/// matter, not how often.
pub const TOO_FAST_LINES_MAX: u64 = 10;
/// Pause after which there may be one more.
pub const TOO_FAST_LINE_MS: u64 = 5_000;
/// The same between two lines about one user, that may come back and be closed every half a minute.
pub const TOO_FAST_USER_MS: u64 = 60_000;

// ---- the gate: what a stranger may cost ---------------------------------------------------------

/// An HTTP request head. A browser in which a hundred people have logged in sends 10 KB of login
/// cookies with each request.
pub const HEAD_BYTES_MAX: usize = 16 * 1024;
/// How long a connection may take to send its request head.
pub const HEAD_MS_MAX: u64 = 10_000;
/// Connections of one shard that have not finished their head. Beyond it the oldest of the address
/// with the most goes (408), and the newcomer stays.
pub const HEADS_PENDING_MAX: usize = 4096;
/// Of these, one address's: browsers behind one address open some dozens at once. Beyond it its own
/// oldest goes.
pub const HEADS_PER_ADDRESS_MAX: usize = 64;
/// The same while more than half of [`HEADS_PENDING_MAX`] are taken: two browsers' worth.
pub const HEADS_PER_ADDRESS_BUSY_MAX: usize = 16;
/// Steps of TLS handshakes in one turn: each costs up to 200 µs, so that open sessions wait some
/// 1.5 ms at most, and 1,000 handshakes a second are still more than a shard's part of a storm.
pub const TURN_HANDSHAKE_STEPS_MAX: usize = 8;
/// Handshakes that wait for a step in the order in which they came. When more wait the newest go
/// first: the oldest are about to give up.
pub const HANDSHAKES_PATIENT_MAX: usize = 256;
/// Bytes read at once from a connection that has not finished its head: a head, and what a client
/// may have sent behind it.
pub const HEAD_READ_BYTES: usize = 24 * 1024;
/// Bytes of one read of what has come on a connection that ends: what is not read has the kernel
/// reset the connection, and that would take along what it was told last.
pub const UNREAD_LOOK_BYTES: usize = 4096;
/// Such reads at most: a flooder that is cut off may hear a reset.
pub const UNREAD_LOOKS_MAX: usize = 16;
/// Connections that one address may make in a second, unless the configuration says otherwise: an
/// office of thousands that comes back after its line was cut.
pub const CONNECT_RATE_DEFAULT: u64 = 200;
/// The most that may be chosen for it; the allowance comes back in whole milliseconds.
pub const CONNECT_RATE_MAX: u64 = 1_000;
/// Connections that it may make at once after a rest, unless the configuration says otherwise.
pub const CONNECT_BURST_DEFAULT: u64 = 2_000;
/// Addresses of whose connects a generation of one shard's table knows (some 2 MiB).
pub const CONNECT_KEYS_MAX: usize = 32_768;
/// Connections of one address at once, unless the configuration says otherwise: as many subscribers
/// of a mobile carrier share one.
pub const ADDRESS_CONNECTIONS_DEFAULT: u32 = 10_000;
/// Counters of connections per address; addresses share them by a hash with a secret. 256 KiB in
/// all, and one of 65,535 addresses shares its counter with one that is full.
pub const ADDRESS_COUNTERS: usize = 65_536;
/// Guests of `/chatroom` at once, unless the configuration says otherwise: each message goes to all
/// of them.
pub const GUESTS_DEFAULT: usize = 10_000;
/// Of these, guests of one address, unless the configuration says otherwise: a school.
pub const GUESTS_PER_ADDRESS_DEFAULT: u32 = 1_000;
/// Descriptors that connections leave to the admin port, the store, files and the log, if the limit
/// allows: the admin port's own bound, two for each upload, the database's, and room.
pub const DESCRIPTORS_RESERVED: usize = 512;
/// What a small limit of descriptors is divided by for that reserve: a quarter of what is free at
/// start.
pub const DESCRIPTORS_RESERVED_PART: usize = 4;
/// What the kernel may hold for a session that does not read, by default, as `SO_SNDBUF`: it takes
/// one write of [`WRITE_SCRATCH_BYTES`], and beyond that a message waits better in our outbox,
/// where a thousand readers share it. Left to itself the kernel gives a slow reader up to
/// `tcp_wmem`'s 4 MiB.
pub const SEND_BUFFER_DEFAULT: usize = 64 * 1024;
/// The least that may be set: some dozens of messages, so that a reader that is a little late is
/// not blocked at once.
pub const SEND_BUFFER_MIN: usize = 16 * 1024;
/// The most that may be set; the kernel cuts it to `net.core.wmem_max`.
pub const SEND_BUFFER_MAX: usize = 4 * 1024 * 1024;
/// The same for plain HTTP, where files are sent, to few: a megabyte on its way fills a line of 10
/// MB/s over 100 ms.
pub const HTTP_SEND_BUFFER: usize = 1024 * 1024;
/// Connections that the kernel holds for a listener until they are accepted; it cuts the number to
/// `net.core.somaxconn`.
pub const LISTEN_BACKLOG: i32 = 16_384;
/// Pause before a listener that found no descriptor tries again. Long enough not to spin, short
/// enough to be unnoticed after the shortage.
pub const ACCEPT_RETRY_MS: u64 = 100;
/// Headers in a request head.
pub const HEADERS_MAX: usize = 64;
/// A token as it stands in a URL.
pub const TOKEN_CHARS_MAX: usize = 128;
/// Logins of one user whose tokens are good at once: more than a user's sessions, so that whoever
/// logs in anew each time ends no device that is in use. Beyond it the one goes that was used least
/// recently.
pub const LOGINS_PER_USER_MAX: usize = 100;
/// How exactly it is known when a login was used last, in milliseconds: one write an hour for each
/// device.
pub const LOGIN_USED_MS: u64 = 3_600_000;
/// What a program calls itself that logs in (`User-Agent`), in characters: browsers say some 120.
pub const AGENT_CHARS_MAX: usize = 250;

// ---- WebSocket ----------------------------------------------------------------------------------

/// A message from a client, all fragments together (the default; the hidden echo route allows
/// more).
pub const MESSAGE_BYTES_MAX: usize = 64 * 1024;
/// Fragments of one message, so that a million one-byte fragments cannot be a message.
pub const FRAGMENTS_MAX: u32 = 1024;
/// The hidden echo route's message size: what Autobahn's sections 9 and 10 send.
pub const ECHO_MESSAGE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Bytes of echoes that wait for a peer before it is not read any more.
pub const ECHO_QUEUE_BYTES_MAX: usize = 1024 * 1024;
/// The hidden echo route's fragments: Autobahn 9.* cuts 4 MiB into 64-byte pieces.
pub const ECHO_FRAGMENTS_MAX: u32 = 1 << 18;
/// A control frame's payload (RFC 6455, section 5.5).
pub const CONTROL_BYTES_MAX: usize = 125;
/// The shard's scratch buffer for one read. One per shard, so its size costs nothing per
/// connection.
pub const READ_SCRATCH_BYTES: usize = 64 * 1024;
/// The shard's scratch buffer in which small frames are gathered into one send: a socket's default
/// send buffer takes hardly more at once.
pub const WRITE_SCRATCH_BYTES: usize = 64 * 1024;
/// Undecoded bytes of a connection whose session takes no messages now: what the last read had
/// brought, since it is not read again.
pub const UNREAD_BYTES_MAX: usize = READ_SCRATCH_BYTES;
/// How long a message may take from its first byte to its last, whatever comes between: 64 KiB over
/// a line of 20 kbit/s.
pub const MESSAGE_MS_MAX: u64 = 30_000;
/// What is kept of what clients have begun to send, unless the configuration says otherwise: parts
/// of messages, bytes of sessions that are not read now, parts of request heads. A thousand of the
/// largest messages.
pub const INBOUND_BUDGET_DEFAULT: usize = 64 * 1024 * 1024;
/// The least that may be chosen for it: some hundred of the largest messages.
pub const INBOUND_BUDGET_MIN: usize = 4 * 1024 * 1024;
/// The most that may be chosen for it: a machine's memory is less.
pub const INBOUND_BUDGET_MAX: usize = 1 << 40;
/// Silence after which the server pings, before jitter, unless the configuration says otherwise.
/// Below the 60 s at which common proxies give up.
pub const PING_AFTER_MS: u64 = 55_000;
/// The longest that may be chosen for it, where no proxy or phone network stands in between: a
/// million sessions are some 600 pings a second then.
pub const PING_AFTER_MS_MAX: u64 = 30 * 60_000;
/// How far the ping is spread (earlier only), so that a million sessions do not ping in one second.
pub const PING_JITTER_MS: u64 = 10_000;
/// Silence after which a connection is dead: two pings have gone unanswered. Unless the
/// configuration says otherwise; and how long a session may take to open.
pub const IDLE_MS: u64 = 130_000;
/// The longest that may be chosen for it: two of the longest silences before a ping, and some time
/// for the answer.
pub const IDLE_MS_MAX: u64 = 2 * PING_AFTER_MS_MAX + 5 * 60_000;
/// How long a closing connection waits for the peer's close frame before the socket goes.
pub const CLOSE_MS_MAX: u64 = 5_000;

// ---- wire ---------------------------------------------------------------------------------------

/// A client's message id, in bytes of UTF-8 (the systems before had 64 characters; a client that
/// wants more is wrong).
pub const CID_BYTES_MAX: usize = 64;
/// Nesting of a client's JSON. Chat messages are flat; deep nesting is an attack on parsers.
pub const JSON_DEPTH_MAX: usize = 32;
/// Rows in one answer to a sync (`cmd` 4), and in one read of the store.
pub const SYNC_ROWS_MAX: u32 = 200;
/// Bytes of message bodies in one answer to a sync; at least one row is always sent.
pub const SYNC_BYTES_MAX: usize = 256 * 1024;

/// Conversations in one answer to `cmd` 5, and in one read of the store.
pub const HEADS_MAX: u32 = 200;
/// How long a browser may go without asking again whether a page of another origin may call the
/// API. Browsers cap it at two hours at most; a setting that was taken back is felt after this
/// time.
pub const PREFLIGHT_SECS: u32 = 600;
/// Bytes of a message's body that stand in the list of conversations (`cmd` 5): a line of text in
/// any script, with the fields before it. 200 of them are a third of a sync page.
pub const PREVIEW_BYTES_MAX: usize = 400;
/// Where counting unread messages ends: "1,734 new" tells a person no more, and counting costs.
pub const UNREAD_MAX: u64 = 1000;
/// Messages that the counts of one page look at, and one count at most: half a millisecond. One's
/// own are not unread but cost as much, so a count ends early only for a user with thousands of own
/// messages and none read.
pub const UNREAD_SCAN_MAX: usize = 4 * UNREAD_MAX as usize;
/// Messages that each count of a page may look at besides, so that whoever has many conversations
/// with little in each is told exact numbers.
pub const UNREAD_LOOKS_MIN: u64 = 16;
/// Direct conversations of one user beyond which those stand in an index by time. Below it sorting
/// them takes less than a millisecond, and an entry that moves with every message would cost
/// whoever writes more than that.
pub const DIRECTS_UNLISTED_MAX: u64 = 500;
/// Conversations in that index that are looked at when only those with something new are wanted:
/// some 5 ms.
pub const HEADS_SCAN_MAX: u32 = 1000;

// ---- sessions -----------------------------------------------------------------------------------

/// Pushes queued for one session before it is *behind*.
pub const OUTBOX_BYTES_MAX: usize = 256 * 1024;
/// The least that the configuration may choose for [`OUTBOX_BYTES_MAX`]: the largest message with
/// what the server adds, twice.
pub const OUTBOX_BYTES_MIN: usize = 2 * MESSAGE_BYTES_MAX;
/// What all outboxes of the process may keep alive, unless the configuration says otherwise.
pub const OUTBOX_BUDGET_DEFAULT: usize = 256 * 1024 * 1024;
/// The least that the configuration may choose for it: a few outboxes.
pub const OUTBOX_BUDGET_MIN: usize = 8 * 1024 * 1024;
/// The most that the configuration may choose for it: a machine's memory is less.
pub const OUTBOX_BUDGET_MAX: usize = 1 << 40;
/// Pause after which a shard that keeps more alive than its equal part looks again whether all
/// together keep too much: others may have grown.
pub const BUDGET_LOOK_MS: u64 = 100;
/// How long a session's socket may take nothing of what is queued before the session is closed,
/// although its peer may talk: a network that comes back later has cost the connection as well, and
/// a peer with a closed window would keep its slot and its memory for ever.
pub const STALL_MS_MAX: u64 = 180_000;
/// Reads of pages for sessions that catch up that one shard has under way, each of at most
/// [`SYNC_BYTES_MAX`]: enough for the store's readers, and 4 MiB.
pub const CATCH_UP_READS_MAX: usize = 16;
/// Sessions that share one such read, and sessions that have their turn in one step: each is given
/// up to [`SYNC_ROWS_MAX`] messages at once.
pub const CATCH_UP_TAKERS_MAX: usize = 256;
/// Bytes of pages that a shard keeps for sessions that come to their place a little later.
pub const CATCH_UP_KEPT_BYTES_MAX: usize = 8 * SYNC_BYTES_MAX;
/// Acks of one session that wait for each other: what one send takes along makes the rest as cheap
/// as it gets.
pub const ACKS_WAITING_MAX: u32 = 24;
/// Pages that a shard keeps: each is looked at when a session catches up.
pub const CATCH_UP_KEPT_MAX: usize = 64;
/// Commands of one session that are unanswered, or answered into an unflushed outbox, before it is
/// not read (K).
pub const ANSWERS_PENDING_MAX: u32 = 64;
/// Bytes of unflushed answers, with the pages of syncs under way, before the session is not read:
/// two sync pages.
pub const ANSWERS_BYTES_MAX: usize = 2 * SYNC_BYTES_MAX;
/// Conversations in which one session may be behind; beyond it the session is closed and
/// reconnects.
pub const BEHIND_CONVS_MAX: usize = 4096;
/// Own messages remembered per conversation that a session is behind in, so that a page that shows
/// its own messages itself does not get them again; beyond it the oldest is forgotten.
pub const BEHIND_OWN_MAX: usize = 256;
/// How long a legacy session's refused command is retried before it is told.
pub const PARK_MS_MAX: u64 = 5_000;
/// Pause between two tries of a parked command, or of a failed read.
pub const RETRY_MS: u64 = 100;
/// Pauses of [`RETRY_MS`] for which the replay to an old page waits behind the first message of an
/// author, unless the page's question for that author has been answered: 300 ms in all, in which a
/// browser far away gets its answer.
pub const INTRODUCTION_TICKS: u8 = 2;
/// Authors of one replay for whom it is waited; so many strangers at once cost a page 20 s at the
/// most.
pub const INTRODUCED_MAX: usize = 64;
/// Pause between two batches of reads at open of one shard, when sessions come faster than that:
/// a person does not notice it, and it makes one query of dozens.
pub const OPEN_PACE_MS: u64 = 4;
/// Pause between two looks at a listener while connections come faster than that: a thread is not
/// woken for each of them.
pub const ACCEPT_PACE_MS: u64 = 2;
/// How long the 101 of a session may wait for its first frames, to leave in one send with them: a
/// client has not even begun to think. Whose answer from the store takes longer gets its 101 alone.
pub const WELCOME_MS_MAX: u64 = 50;
/// Sessions (devices) of one user that a policy may allow: every message to the user is put into
/// each of them.
pub const SESSIONS_PER_USER_MAX: usize = 64;
/// Sessions of one user that may be about to open: they count as devices only when they are open,
/// and are asked about in the store until then. As many as a policy may allow.
pub const OPENINGS_PER_USER_MAX: usize = SESSIONS_PER_USER_MAX;
/// Sessions (devices) of one user unless the configuration says otherwise.
pub const DEVICES_DEFAULT: usize = 8;
/// Pause between two writes, and two relays, of one user's cursor in one conversation; also
/// between two pings that ask a legacy session whether it has got its messages.
pub const CURSOR_PACE_MS: u64 = 5_000;
/// Pause before a legacy session's cursor is stored; its end stores it at once.
pub const LEGACY_CURSOR_PACE_MS: u64 = 60_000;
/// Cursors of one shard that are not stored yet or pause. Beyond it v2 clients are refused, and
/// legacy pages get some messages twice at their next login.
pub const CURSORS_MAX: usize = 65_536;
/// Conversations in which a legacy session may have unconfirmed messages; of further ones it gets
/// the messages again at its next login.
pub const UNCONFIRMED_MAX: usize = 256;
/// Missed messages that a legacy session gets after its welcome, shared among its conversations.
pub const REPLAY_MAX: u64 = 200;
/// Pause between two relays of one user's typing in one conversation.
pub const TYPING_PACE_MS: u64 = 2_000;
/// Conversations in which one user's typing is relayed within that pause: a person types in no
/// more, and each costs others something.
pub const TYPING_CONVS_MAX: usize = 4;
/// Sessions of a group's members on one shard beyond which typing in the group is not relayed
/// there: in a crowd one member always types.
pub const TYPING_MEMBERS_MAX: usize = 200;
/// Members of a group on one shard beyond which a new name or icon is not hinted at: the hint goes
/// to all of them within one step. A crowd's members load their lists at the next connect.
pub const HINT_MEMBERS_MAX: usize = 4096;
/// Relays of typing of one shard within the pause; further ones are dropped.
pub const TYPINGS_MAX: usize = 16_384;
/// Users whose presence one session may watch (`cmd` 7).
pub const WATCH_USERS_MAX: usize = 200;
/// Users of a watch list that cost one unit of work (`shard::prices`): each is a handful
/// of lookups in trees.
pub const WATCH_USERS_PER_UNIT: u64 = 8;
/// Pause between two watch lists of one session that are carried out; the last one of those in
/// between waits. A client that scrolls through a list of people sends many, and only the last is
/// of interest.
pub const WATCH_PACE_MS: u64 = 1_000;
/// Sessions of one shard whose watch lists pause at once: all that come back together. The lists of
/// further ones are carried out at once.
pub const WATCHES_PACED_MAX: usize = 65_536;
/// Presences that the sessions of one shard may watch together, some 50 bytes each: five for each
/// session of the million on two shards. Beyond it a further list is refused `busy`.
pub const WATCHES_MAX: usize = 1 << 21;
/// Sessions of one shard that are told of a change of one user; further watchers are told the state
/// when they ask, and no change. Before the first answer [`TURN_PRESENCE_MAX`] may wait for it.
pub const WATCHERS_PER_USER_MAX: usize = 512;
/// Users of one shard whose changes are told to the shards that watch them; of further ones these
/// learn by asking again.
pub const WATCHED_MAX: usize = 1 << 20;
/// Users in one message about presence between shards: a whole list.
pub const PRESENCE_ROWS_MAX: usize = WATCH_USERS_MAX;
/// Pause between two announcements of one user's presence: a flapping connection is not news.
pub const PRESENCE_PACE_MS: u64 = 2_000;
/// Pause between two steps of the rounds that ask again and let go of what is over; also before an
/// ask without an answer is repeated.
pub const PRESENCE_TICK_MS: u64 = 1_000;
/// Steps of such a round: so many seconds after a lost word everybody knows.
pub const PRESENCE_TICKS: usize = 30;
/// How long a shard is told of a user's changes after it has asked: three rounds, so that two lost
/// asks do no harm.
pub const PRESENCE_LEASE_MS: u64 = 3 * PRESENCE_TICKS as u64 * PRESENCE_TICK_MS;
/// Reads of a user's conversations at open that one shard has under way; the others wait in line,
/// so that a reconnect of everybody leaves room for posts.
pub const HEADS_ASKS_MAX: usize = 512;

/// Users of one shard of whom it is known what they have spent lately, some 6 MiB; nothing is
/// counted of further ones.
pub const PACED_USERS_MAX: usize = 65_536;
/// What must have come back before a user is read again, as the time that it takes: fewer and
/// longer pauses cost less than many short ones.
pub const PACE_REST_MS: u64 = 100;
/// Pause between two looks at users that have spent nothing lately and can be forgotten.
pub const PACE_SWEEP_MS: u64 = 1_000;
/// How long a user may be over the pace on end, never at less than half a burst, before the
/// sessions that spend most are closed (4429).
pub const GREED_MS_MAX: u64 = 30_000;
/// Units of work that one user may cost in a second, unless the configuration says otherwise: about
/// a thousandth of a core, and a hundred times what a person causes.
pub const PACE_COST_DEFAULT: u64 = 2_000;
/// The same at once after a rest: what a client that comes back with everything it has may ask.
pub const PACE_COST_BURST_DEFAULT: u64 = 10_000;
/// Messages of one user in a second, unless the configuration says otherwise.
pub const PACE_MESSAGES_DEFAULT: u64 = 500;
/// The same at once after a rest: an outbox of a week without a network.
pub const PACE_MESSAGES_BURST_DEFAULT: u64 = 5_000;
/// Bytes of one user in a second, unless the configuration says otherwise: texts only, because
/// files come over HTTP.
pub const PACE_BYTES_DEFAULT: u64 = 1024 * 1024;
/// The same at once after a rest.
pub const PACE_BYTES_BURST_DEFAULT: u64 = 32 * 1024 * 1024;
/// Messages of one guest of `/chatroom` at once after a rest, if the configuration
/// sets a pace for guests.
pub const PACE_GUEST_BURST_DEFAULT: u64 = 100;
/// What the configuration may choose for any of these.
pub const PACE_MAX: u64 = 1 << 40;
/// Bytes of one read that are covered by the price of the messages in it: a user that types is
/// charged for messages alone.
pub const FREE_READ_BYTES: usize = 512;
/// Pause between two hints of one sort to one user, or to one group's members: each makes a client
/// load a list.
pub const HINT_PACE_MS: u64 = 2_000;
/// Users, by sort, and groups of one shard whose hints pause at once; further hints go at once.
pub const HINTS_PACED_MAX: usize = 16_384;
/// Lists of conversations (`cmd` 5) of one user that wait for the one under way:
/// one of each device.
pub const LISTS_WAITING_MAX: usize = 8;
/// Words about what was received and read that one user may have waiting until the store has said
/// how far the conversation goes: all that are unread in a long list, marked as read at once. A
/// further one is refused `busy`.
pub const CLAIMS_PER_USER_MAX: usize = 256;
/// The same of all users of one shard, some 8 MiB.
pub const CLAIMS_MAX: usize = 65_536;
/// Asks of the store about such words for one user at once after a rest.
pub const CLAIM_ASKS_MAX: u64 = 16;
/// Pause after which one more may follow: eight in a second.
pub const CLAIM_ASK_MS: u64 = 125;
/// Users in a generation of the table of these asks.
pub const CLAIM_KEYS_MAX: usize = 16_384;
/// Silence after which the kernel asks a guest's peer whether it is there, seconds; how often, and
/// after how many unanswered questions the connection is lost. Guests of `/chatroom` are sent no
/// pings, because some read nothing (as in the original room); the kernel at the other end answers
/// all the same.
pub const KEEPALIVE_TIME_S: u64 = 120;
/// See [`KEEPALIVE_TIME_S`].
pub const KEEPALIVE_INTERVAL_S: u64 = 20;
/// See [`KEEPALIVE_TIME_S`].
pub const KEEPALIVE_RETRIES: u32 = 4;

// ---- between threads ----------------------------------------------------------------------------

/// Posts that one shard may have outstanding at one home. Each holds a reserved place for its
/// answer.
pub const POSTS_PER_LANE_MAX: u32 = 4096;
/// Bytes of the posts that one shard may have outstanding at one home.
pub const POST_BYTES_PER_LANE_MAX: usize = 16 * 1024 * 1024;
/// Deliveries in one lane (from one shard to another) that the receiver has not taken.
pub const DELIVER_MSGS_PER_LANE_MAX: u32 = 16_384;
/// Bytes of the deliveries in one lane.
pub const DELIVER_BYTES_PER_LANE_MAX: usize = 32 * 1024 * 1024;
/// Requests of one shard that the store has not answered.
pub const STORE_ASKS_MAX: u32 = 8192;
/// Of these, places that only sessions that open can take, so that a session that comes is never
/// behind all that are here.
pub const OPEN_ASKS_RESERVED: usize = 1_024;
/// Of these, reads that clients have asked for: pages, lists, heads.
pub const READ_ASKS_MAX: usize = 2_048;
/// Of these, messages beyond which posts wait at their home, in turn by sender: two transactions,
/// so that the writers never wait for more.
pub const APPENDS_UNDER_WAY_MAX: usize = 2 * COMMIT_WRITES_MAX;
/// Of these, places of users of whom nothing else waits: one that writes now and then waits for no
/// commit to make room.
pub const FRESH_APPENDS_RESERVED: usize = 256;
/// CPU time that a writing worker may take for one commit while more waits than that, in
/// microseconds: so long a message waits for those that came before. The time of the disk is not in
/// it, because many share that.
pub const COMMIT_CPU_US_MAX: u64 = 4_000;
/// The same while users that write now and then have written lately: they wait for the rest of a
/// commit of others, which on a core that is busy takes twice its CPU time. What a commit costs
/// whatever is in it, a tenth of a millisecond, is a tenth of this.
pub const COMMIT_CPU_SHARED_US: u64 = 1_000;
/// For so long after they have.
pub const COMMIT_SHARED_MS: u64 = 250;
/// A writing worker looks so often whether a busy time is over.
pub const STORE_REST_MS: u64 = 15_000;
/// It is over when no more was written meanwhile: a hundred messages a second.
pub const STORE_REST_WRITES_MAX: u64 = 1_500;
/// Writes of a commit that are not cut for [`COMMIT_CPU_US_MAX`].
pub const COMMIT_WRITES_MIN: usize = 64;
/// Writes of a commit that are not cut for [`COMMIT_CPU_SHARED_US`].
pub const COMMIT_WRITES_SHARED_MIN: usize = 16;
/// Bytes of the appends of one shard that the store has not answered.
pub const STORE_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Requests of the control plane (joined, left, logged out, …) outstanding at one shard.
pub const NOTICES_MAX: usize = 1024;
/// Hand-overs of accepted connections waiting for one shard. Beyond it the gate answers 503.
pub const HANDOVERS_MAX: usize = 4096;
/// Batches waiting in the lanes to one shard, per sender. A sender hands in one per turn at most,
/// and what finds no place stays with it, in order.
pub const LANE_BATCHES_MAX: usize = 64;
/// Orders of the node waiting for one shard: each of a stop is given once, and what adjusts it
/// leaves room for them.
pub const ORDERS_MAX: usize = 8;
/// How long the operator's command waits for a reload, in milliseconds: it reads some files, and
/// the node does nothing else meanwhile.
pub const RELOAD_MS_MAX: u64 = 4_000;
/// Adjustments waiting for one shard. A shard takes them in its next turn; one that does not is
/// stuck, and is not adjusted any more.
pub const ADJUSTMENTS_WAITING_MAX: usize = 4;
/// Requests of the control plane waiting in one lane of the store.
pub const STORE_CALLS_MAX: usize = 1024;
/// Connections to the admin listeners: a few scrapers and probes, and no client's business.
pub const ADMIN_CONNS_MAX: usize = 64;
/// How long the control plane waits for an answer of the store.
pub const STORE_CALL_MS_MAX: u64 = 5_000;
/// How long `/readyz` waits for the store and the shards: a probe gives up early. A store that
/// takes longer is slow; see [`store::STORE_SILENT_MS`].
pub const READY_MS_MAX: u64 = 1_000;
/// A turn that lasts longer is said in the log, with the shard's number. Turns take
/// milliseconds under any load (`TURN_PART_US`); a machine that swaps or a bug comes near it.
pub const SHARD_STUCK_MS: u64 = 2_000;
/// Pause between two questions to each shard whether it turns.
pub const SHARD_ASK_MS: u64 = 1_000;
/// How long the control plane waits for an answer of a shard.
pub const NOTICE_MS_MAX: u64 = 5_000;
/// Passwords that are being hashed or wait for it. At about 30 ms each this is the longest line
/// that ends in time.
pub const PASSWORDS_MAX: usize = 128;
/// Of these, those of one address: a second of one core.
pub const NETWORK_PASSWORDS_MAX: usize = 32;
/// Memory for checking a stored password whose parameters are not ours. Our own take 19 MiB.
pub const PASSWORD_MEMORY_BYTES_MAX: usize = 256 * 1024 * 1024;
/// How long a password waits for its turn before its owner is told that the system is busy.
pub const PASSWORD_MS_MAX: u64 = 5_000;

// ---- conversations at their home ----------------------------------------------------------------

/// Conversations that one home keeps state of. Idle ones go first; when all are busy, posts are
/// refused `busy`.
pub const CONVS_ACTIVE_MAX: usize = 262_144;
/// Quiet time after which a conversation's state may go: to begin anew costs the next message
/// nothing, and a minute after a flood its memory is back.
pub const CONV_IDLE_MS: u64 = 30_000;
/// How far ahead a message's time may lie for its conversation's state to stay until then.
pub const AHEAD_MS_MAX: u64 = 600_000;
/// Groups of one home of which it knows the shards that listen, some 64 MiB; members of further
/// ones may be anywhere, and their messages go to every shard.
pub const LISTENED_GROUPS_MAX: usize = 1 << 20;
/// Groups in one announcement of a shard that a member of them is there, or none any more: 64
/// KiB, and what a home works off within a turn.
pub const INTEREST_ROWS_MAX: usize = 4096;
/// Groups that wait for such an announcement beyond which "none any more" is left out: the home
/// hears it when it sends something for no member.
pub const INTEREST_FAREWELLS_MAX: usize = 65_536;
/// Answers of posts that a home remembers, to answer a resend without the store (and, volatile, to
/// dedupe at all).
pub const RECENT_POSTS_MAX: usize = 65_536;
/// Resends that wait for the answer of the same post in flight; a further one is told `retry`.
pub const WAITERS_MAX: usize = 16;
/// Times that a home asks the store again for a post whose outcome is unknown before it tells the
/// sender `retry`.
pub const UNKNOWN_RETRIES_MAX: u32 = 3;

// ---- one turn of a shard ------------------------------------------------------------------------

/// Readiness events taken from the kernel in one poll.
pub const POLL_EVENTS_MAX: usize = 4096;
/// Time of one part of a turn (mail of one kind, accepting, reading, sweeping, writing). Four of
/// them, when all have more to do than that, are a turn of 8 ms; a flood fills one or two.
pub const TURN_PART_US: u64 = 2_000;
/// A turn that took longer, and one that leaves something to be read, make the parts of the next
/// ones short.
pub const TURN_CALM_US: u64 = 3_000;
/// For so long.
pub const TURN_PRESSED_MS: u64 = 50;
/// [`TURN_PART_US`] then: a heartbeat that comes in the middle of a turn waits for the rest of it,
/// and for the mail of the next one. Reading the light ones has a longer one.
pub const TURN_PART_PRESSED_US: u64 = 300;
/// Time for the light ones then.
pub const TURN_LIGHT_PRESSED_US: u64 = 700;
/// Time for connections that used up their quantum, in one turn: what they may hold up all others.
pub const TURN_HEAVY_US: u64 = 300;
/// Connections accepted in one turn: a backlog of [`LISTEN_BACKLOG`] is worked off within a second.
pub const TURN_ACCEPTS_MAX: u32 = 256;
/// Connections taken over from other threads in one turn: each costs as much as an accepted one.
pub const TURN_HANDOVERS_MAX: u32 = 256;
/// Bytes read from one connection in one turn. A connection that brings as much waits among others
/// of its kind for what is left: a message of the usual size is a hundredth of it.
pub const QUANTUM_BYTES: usize = 16 * 1024;
/// Frames (messages, fragments, control frames) taken from one connection in one turn, for the same
/// reason: four times as many as a session may have unanswered.
pub const QUANTUM_FRAMES: u32 = 256;
/// What [`QUANTUM_BYTES`] shrinks to, and [`QUANTUM_FRAMES`] with it, while the light connections
/// are too many for a turn: a few messages, so that a user that sends one or two is never behind
/// those that send dozens.
pub const QUANTUM_BYTES_MIN: usize = 256;
/// After so many milliseconds what a connection has brought counts half: long enough that whoever
/// sends all the time is told from whoever sends now and then, short enough that a burst is
/// forgotten within a second.
pub const RECENT_MS: u64 = 128;
/// Bytes read at once from a connection that used up its quantum: what is not decoded yet is kept,
/// for each of thousands.
pub const QUANTUM_HEAVY_BYTES: usize = 4 * 1024;
/// Bytes read in one turn from connections that leave a part of their quantum unused; the last one
/// may bring a whole quantum all the same. With that and [`TURN_HEAVY_BYTES_MAX`] 1 MiB.
pub const TURN_LIGHT_BYTES_MAX: usize = 880 * 1024;
/// Frames taken from them in one turn, likewise. With [`TURN_HEAVY_FRAMES_MAX`] 4,096: a
/// millisecond or two.
pub const TURN_LIGHT_FRAMES_MAX: u32 = 2816;
/// Bytes read in one turn from connections that used up their quantum.
pub const TURN_HEAVY_BYTES_MAX: usize = 128 * 1024;
/// Frames taken from them in one turn.
pub const TURN_HEAVY_FRAMES_MAX: u32 = 1024;
/// While a password is hashed: polls of connections of plain HTTP, of 30 microseconds each, until
/// their thread lets shards run.
pub const STEP_ASIDE_POLLS: u32 = 64;
/// Messages between threads of one kind taken in one turn.
pub const TURN_MAIL_MAX: u32 = 4096;
/// Connections of one kind ended in one turn because their time is over.
pub const TURN_EXPIRES_MAX: usize = 256;
/// Of `memory_max`, percent: what the process may take before newcomers are refused.
pub const MEMORY_NEWCOMERS_PERCENT: u64 = 90;
/// Below this much they are let in again at once.
pub const MEMORY_NEWCOMERS_AGAIN_PERCENT: u64 = 85;
/// And below the former after so many looks: ten seconds.
pub const MEMORY_CALM_LOOKS: u32 = 40;
/// The same for what is kept only to be quick.
pub const MEMORY_CACHES_PERCENT: u64 = 95;
/// Of what the control group or the machine has, percent: what the process may take when nothing is
/// set. The rest is the kernel's, which takes 3 KB for an idle connection.
pub const MEMORY_DEFAULT_PERCENT: u64 = 80;
/// Least value of `memory_max`: a gateway at rest takes a third of it.
pub const MEMORY_MAX_MIN: u64 = 64 * 1024 * 1024;
/// Greatest value of `memory_max`: more than any machine has.
pub const MEMORY_MAX_MAX: u64 = 64 << 40;
/// Between two looks at what the process takes: in this time a gigabit link brings 32 MiB.
pub const MEMORY_LOOK_MS: u64 = 250;
/// Between two times that caches or slow readers are let go: the allocator gives back what was
/// freed within a second or two, and what has not come back yet is not asked for twice.
pub const MEMORY_SHED_MS: u64 = 3_000;
/// Connections ended in one turn because what they have begun to send is too much memory.
pub const TURN_EVICTIONS_MAX: usize = 256;
/// Marks sent in one turn in each lane.
pub const TURN_MARKS_MAX: usize = 4096;
/// Cursors stored in one turn.
pub const TURN_CURSORS_MAX: usize = 1024;
/// Watch lists that have waited and are carried out in one turn: each is up to 400 steps in trees,
/// together some 3 ms, and a look through the watchers of the users that stay.
pub const TURN_WATCHES_MAX: usize = 64;
/// Hints that have waited and are told in one turn; each may go to [`HINT_MEMBERS_MAX`] sessions.
pub const TURN_HINTS_MAX: usize = 64;
/// Changes of presence announced in one turn, and asks repeated in one.
pub const TURN_PRESENCE_MAX: usize = 4096;
/// Timers (pings, idle ends) and, apart from them, retries that are served in one turn: each may
/// end in a send, so many in several turns.
pub const TURN_TIMERS_MAX: usize = 1024;
/// Slots of sessions that the round of one turn passes: a look at a session that needs nothing
/// takes some nanoseconds.
pub const TURN_LOOKS_MAX: u32 = 65_536;
/// Members that sweeps reach in one turn; a member that cannot take a group's batch as it is counts
/// once for each of its messages. Some 16 ms of sends, so that [`TURN_PART_US`] is over before,
/// unless sends are as cheap as in a simulation.
pub const TURN_SWEEP_MAX: usize = 4096;
/// Members that one step of a sweep reaches: two milliseconds of sends.
pub const SWEEP_CHUNK_MAX: usize = 512;
/// Messages that one step of a sweep gives to all of them together, if none of them can take the
/// batch as it is: a millisecond.
pub const SWEEP_CHUNK_MESSAGES_MAX: usize = 16 * 1024;
/// Bytes that one step of a sweep sends to all of them together: as long, for batches that are
/// large.
pub const SWEEP_CHUNK_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Bytes written to one connection in one turn; one that has more comes again when the others had
/// their turn.
pub const TURN_WRITE_BYTES_MAX: usize = 128 * 1024;
/// Bytes written to all connections in one turn, apart from sweeps.
pub const TURN_WRITE_ALL_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Connections written to in one turn, apart from sweeps.
pub const TURN_WRITES_MAX: u32 = 4096;
/// Bytes of one group's packets that leave as one contiguous batch.
pub const SWEEP_BATCH_BYTES_MAX: usize = 64 * 1024;
/// How long messages of a busy group may wait for each other unless the configuration says
/// otherwise: a person does not notice it in a chat, and at 200 messages a second it halves the
/// sends.
pub const COALESCE_MS_DEFAULT: u32 = 5;
/// The longest such wait that may be chosen: beyond it a talk is no talk.
pub const COALESCE_MS_MAX: u32 = 100;
/// Bytes of group messages that wait at one shard for their sweeps. Lanes are free again when a
/// message is taken, so without it a group that hears more than its members can be sent would grow
/// until the memory ends; beyond it the members are behind, as if the lane had been full.
pub const SWEEP_BACKLOG_BYTES_MAX: usize = DELIVER_BYTES_PER_LANE_MAX;

// ---- looking which users take the most ----------------------------------------------------------

/// Users, groups or networks that a shard counts while an operator looks: some 100 KB each, and
/// only then.
pub const TOP_KEYS_MAX: usize = 1_024;
/// The longest look, seconds: shards count meanwhile, and the caller waits.
pub const TOP_SECONDS_MAX: u64 = 30;
/// Rows of each list in the answer.
pub const TOP_ROWS_MAX: usize = 50;
