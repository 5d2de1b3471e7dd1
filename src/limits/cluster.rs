//! Caps of several gateways on one database: what they say to each other, and how often the
//! database is asked what the bus between them has lost.
//!
//! Owns: numbers, re-exported by [`super`].
//! Never: anything that a gateway without the setting `cluster` uses.

/// Conversations in one answer to what was stored lately; what there is more comes in further
/// pages.
pub const RECENT_CONVS_MAX: u32 = 15 * 1024;
/// How long the store in memory remembers when something was stored, in seconds, where it is asked
/// at all.
pub const RECENT_KEPT_S: u64 = 900;

/// How old a message may be that a home hands on, by the time that is stored with it, when the home
/// knows nothing of the conversation: far longer than the digest needs to find what was lost, and
/// clocks of gateways may differ by half of it.
pub const FAR_WINDOW_MS: u64 = 90_000;
/// How long a home remembers how far it has handed on after it has forgotten the rest: longer than
/// [`FAR_WINDOW_MS`] by what clocks may differ, so that nothing is handed on twice.
pub const FAR_MEMO_MS: u64 = 120_000;
/// Conversations that one home remembers so, some 48 bytes each. Beyond it the oldest are
/// forgotten, and an old page may be shown a message twice.
pub const FAR_MEMO_MAX: usize = 1 << 20;
/// How long a message waits for those before it that are on their way on the bus, before they are
/// read from the database.
pub const FAR_PATIENCE_MS: u64 = 10;
/// Messages of other gateways that wait in one conversation for those before them; further ones are
/// read from the database.
pub const FAR_READY_MAX: usize = 64;
/// Bytes of such messages of one home, all conversations together.
pub const FAR_READY_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Messages from shards that wait for the thread of the cluster. Further ones are left to the
/// digest.
pub const FAR_OUT_MAX: usize = 16_384;
/// Of these, so many are taken in one turn of that thread.
pub const FAR_OUT_TAKEN_MAX: usize = 1024;
/// Bytes of such messages.
pub const FAR_OUT_BYTES_MAX: usize = 32 * 1024 * 1024;
/// What may be lost that waits for the thread of the cluster: typing, what was read, which list is
/// to be loaded again. Further ones are dropped.
pub const FAR_WORDS_MAX: usize = 8192;
/// Of these, so many are taken in one turn of that thread.
pub const FAR_WORDS_TAKEN_MAX: usize = 1024;
/// Messages that are kept nowhere (`/chatroom`, and what backends say to open sessions) that wait
/// for the thread of the cluster. Further ones are dropped.
pub const FAR_SAID_MAX: usize = 4096;
/// Of these, so many are taken in one turn of that thread.
pub const FAR_SAID_TAKEN_MAX: usize = 512;
/// Bytes of such messages.
pub const FAR_SAID_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Users of one shard that have come or gone and wait for the thread of the cluster, which takes
/// them every [`CLUSTER_TICK_MS`]. Beyond it the shard tells all that are there instead.
pub const FAR_CHANGED_MAX: usize = 262_144;
/// Groups of which a first member has come that wait for the thread of the cluster, which takes
/// them every [`CLUSTER_TICK_MS`]. Beyond it the others are told that it may be any group.
pub const FAR_MEMBERS_MAX: usize = 262_144;
/// Users and conversations for which a shard holds back what was read on other gateways, as long as
/// [`super::CURSOR_PACE_MS`]; one more is told at once.
pub const FAR_CURSORS_PACED_MAX: usize = 65_536;
/// Messages from the thread of the cluster that wait for one shard. Beyond it a number takes the
/// place of each message.
pub const FAR_IN_MAX: usize = 8192;
/// Places of these that only messages take, and no number: each number costs a read of the
/// database, and so does a message without a place.
pub const FAR_IN_ROWS: usize = 2048;
/// What may be lost is dropped while so many wait there.
pub const FAR_IN_WORDS_MAX: usize = 4096;
/// What is kept nowhere is dropped while so many wait there: before words, and long before rows.
pub const FAR_IN_SAID_MAX: usize = 2048;
/// Pause between two looks whether a shard for which something waits has room again: it takes
/// [`TURN_FAR_MAX`] in a turn, and is never without work meanwhile.
pub const FAR_ROOM_MS: u64 = 10;
/// Conversations whose newest number waits for room at a shard, all shards together; beyond it the
/// database is asked again.
pub const FAR_HEADS_MAX: usize = 65_536;
/// Messages of other gateways that a shard takes in one turn.
pub const TURN_FAR_MAX: usize = 256;
/// Counters by which a gateway knows for whom it has sessions, 4 MiB: a message that concerns no
/// session here wakes no shard. With a million users here every second message passes in vain.
pub const FAR_HERE_SLOTS: usize = 1 << 20;

/// Gateways of one cluster.
pub const NODES_MAX: usize = 1024;
/// Pause between two heartbeats.
pub const HEARTBEAT_MS: u64 = 1_000;
/// Silence after which a gateway counts as gone: three heartbeats were lost.
pub const NODE_SILENT_MS: u64 = 3_500;
/// Users of other gateways of whom it is known where they are, some 45 bytes each: in the list of
/// their gateway 9 to 15, where they are 19 to 34, at their shard 9 to 18. One beyond it is taken
/// for offline.
pub const WHEREABOUTS_MAX: usize = 1 << 22;
/// Groups of which a gateway knows where no member is, some 32 bytes each up to 64 gateways; what
/// is said in others goes to all gateways.
pub const ADDRESSED_GROUPS_MAX: usize = 65_536;
/// How long that is kept after the last message of the group.
pub const ADDRESSED_GROUP_MS: u64 = 600_000;
/// Groups that one message on the bus names: members that have come, or that are not there.
pub const NOT_HERE_PIECE: usize = 8192;
/// Answers that a gateway has sent something in vain, kept so that none is given again at once;
/// without an answer it only goes on.
pub const NOT_HERE_MAX: usize = 32_768;
/// After this an answer is given again that may have been lost.
pub const NOT_HERE_AGAIN_MS: u64 = 5_000;
/// How long it is remembered what was said, for the gateways that its readers have come to
/// meanwhile: longer than it takes until all have heard that they came.
pub const LATELY_MS: u64 = 1_000;
/// Messages, and words that are not repeated, of which that is kept,
pub const LATELY_ROWS_MAX: usize = 16_384;
/// and their bytes.
pub const LATELY_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Users of a list, and changes, that one gateway tells the others at once: with a million users on
/// it a newcomer knows all within 13 s, and the bus carries 640 KB/s for that.
pub const PRESENCE_PIECE: usize = 8192;
/// Users of whom one shard is told at once.
pub const PRESENCE_FAR_ROWS: usize = 256;
/// Pause between two questions for the list of a gateway of which something is lacking.
pub const PRESENCE_ASK_MS: u64 = 3_000;
/// How long a difference of clocks counts that was measured: clocks drift by less than that costs,
/// and one that was set is right again soon.
pub const CLOCKS_MS: u64 = 30_000;
/// How long it takes until the sessions of a user on several gateways are told once more, and how
/// long what gateways say of them is put together.
pub const DEVICES_AGAIN_MS: u64 = 2_000;
/// Users of one shard of whom that is kept at once.
pub const DEVICE_ROUNDS_MAX: usize = 16_384;
/// Within this time after a gateway was alone the sessions of users that are here and elsewhere are
/// told anew: what was said of them meanwhile is lost.
pub const DEVICES_ANEW_MS: u64 = 4_000;
/// Users of one shard whose sessions are told anew so.
pub const DEVICES_ANEW_MAX: usize = 65_536;
/// How long after a user's last session here has ended another gateway may still take the user for
/// one that is here, and leave it to this one to tell that the user is away: longer than two
/// heartbeats and a digest.
pub const DEPARTED_MS: u64 = 5_000;
/// Users of one gateway, and of one of its shards, of whom that is kept, some 60 bytes each.
pub const DEPARTED_MAX: usize = 65_536;
/// Silence after which the users of a gateway count as gone, unless they are on another one by
/// then: longer than a client needs to come back.
pub const PRESENCE_GONE_MS: u64 = 10_000;
/// How long a gateway that begins waits for the word that its number is another's already: a round
/// over the bus, and whatever the other is doing.
pub const TWIN_ANSWER_MS: u64 = 1_000;
/// Silence after which one that was refused its number asks for it again; one that has it, and was
/// away for so long itself, asks whether it still has. Longer than anything that a gateway lives
/// through and goes on.
pub const TWIN_GONE_MS: u64 = 60_000;
/// How long the start of a gateway waits for that at most, the way to the bus included.
pub const CLUSTER_START_MS: u64 = 8_000;
/// Pause between two digests.
pub const DIGEST_MS: u64 = 2_000;
/// The same for a gateway that scans for itself, for each gateway that there was: all together ask
/// no more often than fifty times a second.
pub const DIGEST_ALONE_MS_PER_NODE: u64 = 20;
/// The longest such pause, so that everybody hears everything within 10 s without a bus.
pub const DIGEST_ALONE_MS_MAX: u64 = 6_000;
/// How long nothing is heard of a digest before the next gateway takes it over.
pub const DIGEST_LATE_MS: u64 = 5_000;
/// How far a digest looks back, in seconds: a commit must answer within [`super::MYSQL_WRITE_MS`]
/// after its second was taken.
pub const DIGEST_BACK_S: u32 = 5;
/// Pause between two digests that look further back.
pub const DIGEST_DEEP_MS: u64 = 15_000;
/// How far these look back, in seconds: for commits that were later than that. Also how far a scan
/// over an outage begins before it.
pub const DIGEST_DEEP_S: u32 = 30;
/// The longest outage that one scan goes back over, in seconds.
pub const DIGEST_HOLE_S_MAX: u32 = 900;
/// A scan that has not answered for so long is asked again.
pub const DIGEST_ANSWER_MS: u64 = 10_000;
/// Conversations in one message of a digest: 33 bytes each, so that it is no longer than
/// [`ENVELOPE_BYTES_MAX`].
pub const DIGEST_HEADS_MAX: usize = 15 * 1024;

/// Bytes of one message on the bus: half of what NATS takes unless it is told otherwise.
pub const ENVELOPE_BYTES_MAX: usize = 512 * 1024;
/// Bytes of messages that are put into one message on the bus while more wait.
pub const ENVELOPE_FILL_BYTES: usize = 32 * 1024;
/// Messages on the bus that wait to be sent; further ones are dropped, and the digest finds what
/// was in them. As many as one turn may have for a thousand gateways.
pub const BUS_OUT_MAX: usize = 4096;
/// Bytes of these.
pub const BUS_OUT_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Of these, so many are left to messages: what may be lost is dropped while fewer are free.
pub const BUS_OUT_ROWS: usize = 2048;
/// Of these, so many more are left to words: what is kept nowhere is dropped while fewer are free.
pub const BUS_OUT_WORDS: usize = 1024;
/// Messages that wait to be read; beyond it the client of the bus drops.
pub const BUS_IN_MAX: usize = 8192;
/// Commands to the client of the bus that wait while it is not connected.
pub const BUS_COMMANDS_MAX: usize = 256;
/// Pause between two pings of the bus: a server that is gone is noticed after two.
pub const BUS_PING_MS: u64 = 2_000;
/// Pause between two words of the canary, which tells whether the bus brings what is said to this
/// gateway.
pub const CANARY_MS: u64 = 1_000;
/// So many seconds without a word that comes back are noticed: later than a server that is gone,
/// which the pings notice.
pub const CANARY_MISSED_MAX: u32 = 7;
/// How often the pause between two attempts to connect anew is doubled.
pub const CANARY_DOUBLINGS_MAX: u32 = 5;
/// After so many seconds in which no word has ever come back the log says so,
pub const CANARY_UNHEARD_MAX: u32 = 10;
/// and from then on a word is said every so many seconds.
pub const CANARY_SELDOM: u64 = 60;
/// A word that comes back after so many seconds is late, and no more than that.
pub const CANARY_LATE: u32 = 2;
/// After so many seconds in which all came back the next attempt to connect anew is the first one.
pub const CANARY_WELL: u32 = 10;
/// How long the client of the bus may take to accept a word.
pub const CANARY_SAY_MS: u64 = 200;
/// How long an attempt to connect to the bus may take.
pub const BUS_CONNECT_MS: u64 = 2_000;
/// The longest pause between two such attempts.
pub const BUS_RETRY_MS_MAX: u64 = 1_000;
/// How long what the account at NATS may not say counts as forbidden after it was last refused, and
/// after which a subscription that was refused is asked for again.
pub const BUS_FORBIDDEN_MS: u64 = 60_000;
/// How old an envelope may be by its sender's clock: what was recorded is not
/// believed again.
pub const ENVELOPE_OLD_MS: u64 = 60_000;
/// Earlier starts of a gateway that are remembered as long as something that they said may seem to
/// be young, which is two minutes and as far as their clock was ahead.
pub const STARTS_ENDED_MAX: usize = 4;
/// Pause between two looks at the time of what gateways say to each other.
pub const CLUSTER_TICK_MS: u64 = 100;
/// Servers of the bus that can be named.
pub const BUS_SERVERS_MAX: usize = 16;

const _: () = assert!(FAR_MEMO_MS > FAR_WINDOW_MS + 20_000, "clocks may differ");
const _: () = assert!(DEPARTED_MS > 2 * HEARTBEAT_MS + DIGEST_MS, "what was lost on the bus is known by then");
const _: () = assert!(FAR_MEMO_MS > super::CONV_IDLE_MS, "what is forgotten is remembered a little longer");
const _: () = assert!(DIGEST_BACK_S as u64 * 1000 > super::MYSQL_WRITE_MS, "a commit is in the digest after it");
const _: () = assert!(DIGEST_DEEP_S as u64 * 1000 + DIGEST_DEEP_MS < FAR_WINDOW_MS, "what a digest finds is handed on");
const _: () = assert!(DIGEST_DEEP_MS / 1000 + 5 < DIGEST_DEEP_S as u64, "two deep digests overlap");
const _: () = assert!(RECENT_KEPT_S >= DIGEST_HOLE_S_MAX as u64, "the store in memory knows what is asked");
const _: () = assert!(RECENT_CONVS_MAX as usize <= DIGEST_HEADS_MAX, "what a scan finds fits one message of a digest");
const _: () = assert!(2 * super::MESSAGE_BYTES_MAX < ENVELOPE_BYTES_MAX, "the largest message fits an envelope");
const _: () = assert!(FAR_IN_WORDS_MAX <= FAR_IN_MAX - FAR_IN_ROWS, "words are dropped before numbers wait");
const _: () = assert!(FAR_IN_SAID_MAX < FAR_IN_WORDS_MAX, "what is kept nowhere is dropped before words");
const _: () = assert!(BUS_OUT_WORDS + BUS_OUT_ROWS < BUS_OUT_MAX, "what is kept nowhere has places as well");
const _: () = assert!(2 * BUS_OUT_ROWS <= BUS_OUT_MAX, "words have as many places as are left to messages");
const _: () = assert!(CANARY_MISSED_MAX as u64 * CANARY_MS > 3 * BUS_PING_MS, "pings notice a server that is gone");
const _: () = assert!(TWIN_ANSWER_MS + BUS_CONNECT_MS < CLUSTER_START_MS, "a bus that is there is asked");
const _: () = assert!(TWIN_GONE_MS > PRESENCE_GONE_MS && TWIN_GONE_MS >= ENVELOPE_OLD_MS, "no word of it is believed");
const _: () = assert!(PRESENCE_GONE_MS > NODE_SILENT_MS, "a gateway is gone before its users are");
const _: () = assert!(64 + 8 * NOT_HERE_PIECE < ENVELOPE_BYTES_MAX, "groups fit an envelope");
const _: () = assert!(LATELY_MS >= 5 * CLUSTER_TICK_MS, "whoever comes is told in time");
const _: () = assert!(64 + 16 * PRESENCE_PIECE < ENVELOPE_BYTES_MAX, "a piece of a list fits an envelope");
