//! Caps of the API for backends and of what it is told by webhooks.
//!
//! Owns: the numbers, each with its unit and its reason.
//! Never: is used but through [`crate::limits`].

/// Keys of backends. One for each program that calls, and a second one while it is replaced.
pub const API_KEYS_MAX: usize = 64;
/// Characters of a key's name.
pub const API_KEY_NAME_CHARS_MAX: usize = 60;
/// How old what is known of the keys may be, in milliseconds: a key that was ended, perhaps through
/// another gateway, opens nothing after it.
pub const API_KEYS_AGE_MS: u64 = 1_000;
/// Calls of a key in a second, unless it says otherwise. Each may carry [`API_BATCH_MAX`] messages.
pub const API_RATE_DEFAULT: u32 = 500;
/// What a key may say.
pub const API_RATE_MAX: u32 = 100_000;
/// Calls of one key under way: as many writes as one commit takes, and a backend that is stuck
/// holds no more.
pub const API_CALLS_MAX: usize = 64;
/// Messages in one call: with bodies of some 600 bytes they fill a request.
pub const API_BATCH_MAX: usize = 100;
/// Messages of one call that shards are asked to post at once: calls of all keys leave room for
/// other notices ([`super::NOTICES_MAX`]).
pub const API_POSTS_AT_ONCE: usize = 8;
/// Characters of the name that another system has for a user, as OpenID Connect bounds it.
pub const SUBJECT_CHARS_MAX: usize = 255;
/// Users in one question about presence.
pub const API_ONLINE_MAX: usize = 1_000;
/// Announcements to everybody that are on their way through one shard.
pub const ANNOUNCEMENTS_MAX: usize = 4;
/// Times that shards which are busy are asked again to take an announcement that others have taken,
/// for all announcements of a call together: they are made before its other messages are sent.
pub const ANNOUNCE_TRIES_MAX: u32 = 20;
/// Pause between two of these, in milliseconds: two seconds in all, in which a shard tells a
/// million sessions what is on its way.
pub const ANNOUNCE_RETRY_MS: u64 = 100;
/// Sessions that one turn tells an announcement: as many as a sweep tells a group.
pub const TURN_ANNOUNCED_MAX: u32 = 2_048;

/// Endpoints of webhooks. Each has a queue.
pub const HOOKS_MAX: usize = 8;
/// Events that wait for one endpoint: a minute of 160 a second.
pub const HOOK_EVENTS_MAX: usize = 10_000;
/// What they may take of memory.
pub const HOOK_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Events in one request.
pub const HOOK_BATCH_MAX: usize = 100;
/// Bytes of events in one request, unless one alone has more.
pub const HOOK_BODY_BYTES_MAX: usize = 256 * 1024;
/// How long a request may take, in milliseconds.
pub const HOOK_MS_MAX: u64 = 10_000;
/// How long connecting to one address may take, in milliseconds.
pub const HOOK_CONNECT_MS_MAX: u64 = 3_000;
/// Addresses of a name that are tried.
pub const HOOK_ADDRESSES_MAX: usize = 3;
/// Bytes of the head of an answer.
pub const HOOK_ANSWER_BYTES_MAX: usize = 16 * 1024;
/// Tries of a request; with their pauses some ten minutes, in which an endpoint can be mended.
pub const HOOK_TRIES_MAX: u32 = 15;
/// Pause before the second try, in milliseconds.
pub const HOOK_RETRY_MS: u64 = 500;
/// The longest pause, in milliseconds.
pub const HOOK_RETRY_MS_MAX: u64 = 60_000;
/// Secrets that sign at once: the old one and the new one.
pub const HOOK_SECRETS_MAX: usize = 2;
/// Bytes of a secret, as Standard Webhooks wants them.
pub const HOOK_SECRET_BYTES_MIN: usize = 24;
/// See [`HOOK_SECRET_BYTES_MIN`].
pub const HOOK_SECRET_BYTES_MAX: usize = 64;
/// Bytes of the file of what waits for one endpoint below which it is not written anew: some
/// thousand events, so that an endpoint that takes everything at once costs a rename now and then.
pub const HOOK_JOURNAL_BYTES_MIN: u64 = 1024 * 1024;
/// Bytes of events that are read of it: written down they are larger than in memory, most of all
/// the numbers of users.
pub const HOOK_JOURNAL_LIVE_BYTES_MAX: usize = 3 * HOOK_BYTES_MAX;
/// Bytes that are read of it at all.
pub const HOOK_JOURNAL_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// Batches of events after which a file that could not be written is tried again.
pub const HOOK_JOURNAL_RETRY_BATCHES: u32 = 64;
/// Files of endpoints that are not told any more, of which the log speaks.
pub const HOOK_JOURNALS_LOOKED_MAX: usize = 64;
/// Messages of groups that wait until it is known which members are away: seconds of a busy
/// gateway.
pub const HOOK_GROUP_WAITING_MAX: usize = 2_000;
/// Members of a group of which a webhook is told that they are away when a message comes.
pub const HOOK_GROUP_USERS_MAX: usize = 1_000;
/// Members that are looked at to find them: five pages.
pub const HOOK_GROUP_LOOKED_MAX: usize = 5_000;
/// Pause between the readings of members of two groups, in milliseconds: at most twenty a second
/// beside the reads of people.
pub const HOOK_GROUP_PAUSE_MS: u64 = 50;
/// Tries to find out which members are away.
pub const HOOK_GROUP_TRIES_MAX: u32 = 5;
/// Pause between two of these tries, in milliseconds.
pub const HOOK_GROUP_RETRY_MS: u64 = 1_000;
/// How long a stop waits until what waits is told, in milliseconds.
pub const HOOK_STOP_MS_MAX: u64 = 1_000;

/// Keys of another system that signs tokens, in all files.
pub const JWT_KEYS_MAX: usize = 16;
/// Bytes of such a token: a request head has not much more room.
pub const JWT_BYTES_MAX: usize = 8 * 1024;
/// Bytes of a file of keys.
pub const JWT_FILE_BYTES_MAX: u64 = 256 * 1024;
/// Keys of a file that are named in the log when they are passed over.
pub const JWT_NAMED_MAX: usize = 8;
/// Bytes of a secret that verifies tokens (RFC 7518, section 3.2).
pub const JWT_SECRET_BYTES_MIN: usize = 32;
/// How long it is remembered that a token was good, in milliseconds: the user is looked up once.
pub const JWT_CACHE_MS: u64 = 60_000;
/// Tokens that are remembered, some 15 MiB.
pub const JWT_CACHE_MAX: usize = 65_536;
/// Users, by key, that are known to have come in by one: as many as a gateway has connections.
pub const JWT_USERS_MAX: usize = 1 << 20;
/// Pause after which users whose key was removed are disconnected once more: far longer than a
/// session that was admitted takes to its shard.
pub const JWT_LATE_MS: u64 = 5_000;
