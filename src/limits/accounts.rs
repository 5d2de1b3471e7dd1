//! Accounts, passwords, friends and groups: widths are those of the systems before, in characters.

/// A mobile number.
pub const MOBILE_CHARS_MAX: usize = 20;
/// A nickname.
pub const NICKNAME_CHARS_MAX: usize = 20;
/// A password, in bytes: argon2 takes any length, the head of a queue does not.
pub const PASSWORD_BYTES_MAX: usize = 256;
/// A group's name.
pub const GROUP_NAME_CHARS_MAX: usize = 30;
/// A memo of a group.
pub const GROUP_MEMO_CHARS_MAX: usize = 120;
/// A memo of a user.
pub const USER_MEMO_CHARS_MAX: usize = 140;
/// A URL of an avatar or icon.
pub const ICON_CHARS_MAX: usize = 250;
/// Groups that one user may own through the legacy route: six, although the text says five
/// (as in the systems before).
pub const GROUPS_OWNED_MAX: u32 = 6;
/// Groups that one user may be in: what one read at open may cost.
pub const GROUPS_JOINED_MAX: u32 = 2000;
/// Pause after which the system's user, which another gateway may have made, is looked for again.
pub const SYSTEM_LOOK_MS: u64 = 60_000;
/// Sessions of one user that an operator is shown: all that a policy may allow, and as many that
/// are about to open.
pub const SESSIONS_SHOWN_MAX: usize = super::SESSIONS_PER_USER_MAX + super::OPENINGS_PER_USER_MAX;
/// Logins and registrations that one address may try at once: an office, or a school class, behind
/// one address.
pub const ADDRESS_ATTEMPTS_MAX: u64 = 600;
/// Pause after which it may try one more. Ten passwords a second are a third of one core.
pub const ADDRESS_ATTEMPT_MS: u64 = 100;
/// Wrong passwords of one account at once: more than a person forgets.
pub const ACCOUNT_ATTEMPTS_MAX: u64 = 20;
/// Pause after which one more wrong password may be tried: 5 million in a year.
pub const ACCOUNT_ATTEMPT_MS: u64 = 6_000;
/// Wrong passwords of one account from all networks at once: those of a family and its guests, and
/// of an attacker that guesses from ten networks.
pub const ACCOUNT_ATTEMPTS_ALL_MAX: u64 = 200;
/// Pause after which one more is not too many.
pub const ACCOUNT_ATTEMPT_ALL_MS: u64 = 3_000;
/// Wrong passwords of an account that one network may try while those from all networks are too
/// many: a user that knows the password mistypes it once.
pub const CROWDED_ATTEMPTS_MAX: u64 = 2;
/// A new password of `/api/v1`, in characters: what NIST SP 800-63B asks for. The old pages have no
/// such rule.
pub const PASSWORD_CHARS_MIN: usize = 8;
/// Digits of a login name of `/api/v1` that is a number, at least: the shortest numbers that people
/// are called at.
pub const NUMBER_DIGITS_MIN: usize = 5;
/// The same at most: the longest telephone number (ITU-T E.164).
pub const NUMBER_DIGITS_MAX: usize = 15;
/// Spellings of a mobile number that are looked up for one login: each is a question to the
/// database.
pub const SPELLINGS_MAX: usize = 7;
/// Registrations of one network in a minute, and at once, unless the configuration says otherwise:
/// a school class.
pub const REGISTRATIONS_PER_MINUTE_DEFAULT: u32 = 60;
/// Cards of others that one user looks up by number in a minute, and at once, unless the
/// configuration says otherwise: an old page asks once for each message of a stranger, and gets up
/// to 1,000 at its login.
pub const LOOKUPS_PER_MINUTE_DEFAULT: u32 = 1_200;
/// Mobile numbers that one user looks up in a minute, and at once, unless the configuration says
/// otherwise: those of an address book, and not those of a country.
pub const MOBILE_LOOKUPS_PER_MINUTE_DEFAULT: u32 = 30;
/// The most that may be set for each of these.
pub const PER_MINUTE_MAX: u32 = 60_000;
/// Commands of the operator at the control socket at once.
pub const CONTROL_CONNS_MAX: usize = 4;
/// What such a command says: its name and a number.
pub const CONTROL_LINE_BYTES_MAX: u64 = 256;
/// What it is answered: an account, every field of which has a bound; JSON writes a character in at
/// most twelve bytes.
pub const CONTROL_ANSWER_BYTES_MAX: u64 = 64 * 1024;
/// How long a command may take to say it, and to read the answer.
pub const CONTROL_MS_MAX: u64 = 5_000;
/// How long it waits for what it has asked: the deletion of a user ends up to 2,000 memberships,
/// one commit each.
pub const CONTROL_DEED_MS_MAX: u64 = 120_000;
/// Pause between two looks for what other gateways of the same database have changed: with what the
/// looks themselves take, a ban reaches everybody within 3 s.
pub const FOLLOW_MS: u64 = 2_500;
/// The same where other gateways say that they have changed something.
pub const FOLLOW_GAP_MS: u64 = 50;
/// Such changes on their way to shards at once: one shard that is busy holds up no other.
pub const FOLLOW_TELLING_MAX: usize = 64;
/// Tries to tell a shard of such a change; one refuses only while it has very much to do.
pub const FOLLOW_TRIES_MAX: u32 = 20;
/// Pause between two such tries.
pub const FOLLOW_RETRY_MS: u64 = 1_000;
/// Memberships that a home has changed lately and remembers, so that an older reading of them is
/// not taken for news.
pub const MEMBERS_RECENT_MAX: usize = 4096;
/// For how long, in milliseconds, such a change may contradict a reading that was on its way.
pub const MEMBERS_RECENT_MS: u64 = 2_000;
/// Addresses, and accounts, of whose attempts a generation of the table knows (some 5 MiB).
pub const ATTEMPT_KEYS_MAX: usize = 65_536;
/// How long after it was sent a message may be recalled (issue 5: two minutes), by the gateways'
/// clocks.
pub const RECALL_MS_MAX: u64 = 120_000;
/// Groups that one search by name answers with.
pub const GROUPS_FOUND_MAX: u32 = 20;
/// Users in one answer of a list that goes on, and in one question for several users.
pub const USERS_LISTED_MAX: u32 = 200;
/// Memberships of a dissolved group that are ended at once; each is a write, and holds a place
/// among the notices of a shard.
pub const DISSOLVE_STEP_MAX: u32 = 128;
/// Users whom one user may block; and of those that have blocked a user, as many are known while
/// that user is online. Each costs the shards of both 8 bytes meanwhile.
pub const BLOCKS_MAX: u32 = 1000;
/// Changes of blocks that a shard remembers, so that an older reading of them does not undo one.
pub const BLOCKS_RECENT_MAX: usize = 1024;
/// For how long: as long as a reading at open may be tried again, and a little more.
pub const BLOCKS_RECENT_MS: u64 = 10_000;
/// Friends of one user: what one answer to an old page, which knows no paging, may hold.
pub const FRIENDS_MAX: u32 = 5000;
/// Admins of one group: each is shown every request.
pub const GROUP_ADMINS_MAX: usize = 50;
/// Requests of one user to be let into groups without an answer.
pub const REQUESTS_OF_USER_MAX: u32 = 100;
/// Requests to be let into one group without an answer.
pub const REQUESTS_OF_GROUP_MAX: u32 = 1_000;
/// Friends that are added to a group at once, when it is made or later: each is a commit.
pub const GROUP_ADDED_MAX: usize = 100;
/// Lines in groups about what one user has done there, at once: whoever adds [`GROUP_ADDED_MAX`]
/// friends has all of them.
pub const GROUP_LINES_MAX: u64 = 128;
/// Pause after which there may be one more: whoever comes and goes all the time writes no history
/// full.
pub const GROUP_LINE_MS: u64 = 2_000;
/// Bytes of the secret in the link to a group: it cannot be guessed.
pub const INVITE_BYTES: usize = 16;
/// Fields of one request of the old pages; what comes after them is not bound. A page sends a
/// dozen, and an empty one of two bytes costs some sixty.
pub const LEGACY_FIELDS_MAX: usize = 256;
