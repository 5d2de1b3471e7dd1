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
/// How long a stop waits until what waits is told, in milliseconds.
pub const HOOK_STOP_MS_MAX: u64 = 1_000;
