//! What is kept: messages, memberships, users, groups. Plain requests over one trait.
//!
//! Owns: the vocabulary between shards, control plane and database; the [`Backend`] trait that
//! every database fulfils; the workers (`worker`) that group what has gathered into one
//! transaction.
//! Never: knows of sockets, shards' insides or JSON framing. A body is a text that it keeps and
//! gives back. SQL stands only below this folder.

mod admissions;
mod answers;
mod api_keys;
mod backups;
mod cause;
mod changes;
mod data_lock;
mod decide;
mod files;
mod folding;
mod groups;
mod import;
mod key;
mod location;
mod logins;
pub mod memory;
mod mysql;
mod newest;
mod people;
mod probe;
mod recent;
mod retention;
mod social;
mod sqlite;
mod unread;
mod unstored;
pub mod worker;

use std::sync::Arc;

pub use admissions::{Admissions, Asked, Role, Rule, Standing};
pub use answers::{Appended, Kept, Membership, Reached, TypedAnswer};
pub use api_keys::{ApiKey, ApiKeys};
pub use backups::{BackupStage, BackupView, Backups, NotBegun};
pub use cause::StoreCause;
pub use changes::{Change, Changed, Changes, Following};
pub use data_lock::DataLock;
pub use files::{Claim, FileId, Files, Retired};
pub use groups::{GroupChange, Groups, Regrouped};
pub use import::{Imported, OLD_PASSWORD, import};
pub use location::{BackupError, Halt, NeverHalt, OpenError, Opened, Options, Synchronous, Upkeep, backup, open};
pub use logins::{LoggedIn, LoginInfo, Logins, NewLogin};
pub use people::{People, UserChange};
pub use probe::{Commits, Probed, clock_offset_ms, probe};
pub use recent::{Recent, RecentConv, Since};
pub use retention::{Keep, Retention, RetentionView, Trimmed};
pub use social::{Befriended, Friend, Social};
pub use unstored::judge_unstored;

use crate::ids::{ConvId, GroupId, LoginId, MsgId, Seq, UserId};

/// The key under which a post is stored once: `(sender, key)` is unique in the database.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum PostKey {
    /// The client's `cid`: 1 to [`crate::limits::CID_BYTES_MAX`] bytes. Lives at least
    /// [`crate::limits::CID_DAYS_MIN`] days.
    Client(Box<str>),
    /// Made by the server for a post without `cid`, so that an unknown commit outcome is never
    /// stored twice.
    Server {
        /// The gateway process's node.
        node: u16,
        /// Random for each start of the process.
        boot: u64,
        /// Counts the posts of a shard of that start; the shard is in its top 16 bits.
        counter: u64,
    },
}

impl PostKey {
    /// The client's `cid`, if it is one.
    #[must_use]
    pub fn cid(&self) -> Option<&str> {
        match self {
            Self::Client(cid) => Some(cid),
            Self::Server { .. } => None,
        }
    }
}

/// A message that wants to be stored.
#[derive(Clone, Debug)]
pub struct NewMessage {
    /// Where it goes.
    pub conv: ConvId,
    /// The author: the token's user.
    pub sender: UserId,
    /// Dedupe key.
    pub key: PostKey,
    /// Wall time in Unix milliseconds at the home; kept and shown, never an order.
    pub ts_ms: u64,
    /// The client's surviving JSON fields without braces (`"cid":"x","media":1,"content":"hi"`),
    /// possibly empty.
    pub body: Arc<str>,
}

/// A message that takes an earlier one of its sender back.
#[derive(Clone, Debug)]
pub struct Recall {
    /// The message that says so. It is claimed, judged, numbered and inserted like any other.
    pub message: NewMessage,
    /// Which message of the same conversation.
    pub seq: Seq,
    /// The body that is left of that one. What has it already is recalled, and no message any more.
    pub blank: Arc<str>,
    /// How bodies begin that are no words of their author's, and that nobody takes back.
    pub spared: &'static str,
    /// How much older than `message` it may be, in milliseconds, by the time that is stored with
    /// it.
    pub within_ms: u64,
}

/// A stored message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Row {
    /// Place in the conversation.
    pub seq: Seq,
    /// Unique number.
    pub id: MsgId,
    /// Wall time in Unix milliseconds.
    pub ts_ms: u64,
    /// Author.
    pub sender: UserId,
    /// As [`NewMessage::body`].
    pub body: Arc<str>,
}

/// A change that has its place in the order of one conversation. Everything in one transaction with
/// what has gathered.
#[derive(Clone, Debug)]
pub enum Write {
    /// Store a message: claim its key, judge membership and blocks, number it, insert it.
    Append(NewMessage),
    /// Store a message, and blank the one that it recalls. The key decides first, as with
    /// [`Write::Append`].
    Recall(Box<Recall>),
    /// No change: the conversation's head at this place of the writer's order.
    Head(ConvId),
    /// Make `user` a member of `group`; already being one is success.
    Join { group: GroupId, user: UserId },
    /// End the membership; not being a member is success. The owner of a group stays, unless it is
    /// dissolved.
    Leave { group: GroupId, user: UserId },
    /// Store a message that the server makes about a group, whatever its sender is: the judge asks
    /// only whether the group is there.
    Line(NewMessage),
    /// How far `user` has received and read `conv`. A cursor never moves back: each number is kept
    /// if it is the larger one, and none is kept beyond the head. Of a conversation that is not the
    /// user's, or of a group that it has left, nothing is kept; that is success, too, and so it is
    /// with a user who was deleted. A membership that begins anew begins without a cursor.
    Cursor { user: UserId, conv: ConvId, recv: Seq, read: Seq },
}

impl Write {
    /// The conversation that decides which worker writes it.
    #[must_use]
    pub fn conv(&self) -> ConvId {
        match self {
            Self::Append(message) | Self::Line(message) => message.conv,
            Self::Recall(recall) => recall.message.conv,
            Self::Head(conv) | Self::Cursor { conv, .. } => *conv,
            Self::Join { group, .. } | Self::Leave { group, .. } => ConvId::Group(*group),
        }
    }
}

/// What became of one [`Write`] of a committed transaction.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Written {
    /// Stored for good. `before_ms`: the time ([`NewMessage::ts_ms`]) of the message before it in
    /// its conversation, zero if it is the first: tells the home whether another gateway has stored
    /// something lately.
    Stored { seq: Seq, id: MsgId, ts_ms: u64, before_ms: u64 },
    /// The key was claimed before: this is the earlier message, possibly of another conversation.
    Duplicate { conv: ConvId, seq: Seq, id: MsgId, ts_ms: u64 },
    /// The judge said no. Nothing was stored, the key was not claimed.
    Refused(Refusal),
    /// Answer to [`Write::Head`]: the highest sequence number given, zero for a fresh conversation.
    Head { head: Seq },
    /// A member from now on; may read and receive what is after `since`. `already`: was one before.
    Joined { since: Seq, already: bool },
    /// No member any more.
    Left { was_member: bool },
    /// Answer to [`Write::Cursor`].
    Kept,
}

/// Why the store's judge refuses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// The group does not exist.
    NoSuchGroup,
    /// The other user does not exist, or was deleted.
    NoSuchUser,
    /// The sender (or reader) is no member of the group.
    NotMember,
    /// The recipient has blocked the sender.
    Blocked,
    /// The user is in as many groups as [`crate::limits::GROUPS_JOINED_MAX`] allows.
    TooManyGroups,
    /// Who is to leave the group owns it.
    Owner,
    /// Another transaction holds the conversation for too long. Try again.
    Held,
    /// What is to be recalled does not exist, is not kept any more, or is recalled.
    NoSuchMessage,
    /// What is to be recalled is another user's.
    NotYours,
    /// What is to be recalled is older than [`Recall::within_ms`].
    TooLate,
}

impl Recall {
    /// What is left of the judge's no where a user takes its own message back: what it could say it
    /// may take back, also when it is blocked now or no member any more. `own`: what
    /// [`Recall::judge`] says of the row. A user that is no member learns nothing of the others'
    /// messages.
    fn forgiven(standing: Result<(), Refusal>, own: Result<(), Refusal>) -> Result<(), Refusal> {
        match (standing, own) {
            (Err(Refusal::NotMember), Err(Refusal::NotYours | Refusal::NoSuchMessage)) => Err(Refusal::NotMember),
            (Ok(()) | Err(Refusal::NotMember | Refusal::Blocked), own) => own,
            (refused, _) => refused,
        }
    }

    /// Whether it depends on the row what becomes of the judge's word.
    fn is_judged_by_row(standing: Result<(), Refusal>) -> bool {
        matches!(standing, Ok(()) | Err(Refusal::NotMember | Refusal::Blocked))
    }

    /// Whether a row of that sender, time and body may be recalled now.
    fn judge(&self, sender: UserId, ts_ms: u64, body: &str) -> Result<(), Refusal> {
        if sender != self.message.sender {
            return Err(Refusal::NotYours);
        }
        if *body == *self.blank || body.starts_with(self.spared) {
            return Err(Refusal::NoSuchMessage);
        }
        if self.message.ts_ms.saturating_sub(ts_ms) > self.within_ms {
            return Err(Refusal::TooLate);
        }
        Ok(())
    }
}

/// Which part of a conversation a user may read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Seen {
    /// What comes after this number,
    since: Seq,
    /// and up to this one; `None`: whatever comes.
    until: Option<Seq>,
}

impl Seen {
    /// All of it.
    const WHOLE: Self = Self { since: Seq::ZERO, until: None };

    /// What a member sees that joined at that number.
    const fn since(since: Seq) -> Self {
        Self { since, until: None }
    }

    /// The newest number that is seen of a conversation with that head.
    fn head(self, head: Seq) -> Seq {
        self.until.map_or(head, |until| until.min(head))
    }
}

/// Where a page starts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PageStart {
    /// Rows with `seq > after`, oldest first: sync and catching up.
    After(Seq),
    /// Rows with `seq < before`, newest first in choice but returned oldest first: history.
    /// `Seq(ID_MAX)` means "the newest".
    Before(Seq),
}

/// A read. Reads have their own queue and threads; they see every transaction that was committed
/// before they began.
#[derive(Clone, Debug)]
pub enum Read {
    /// A page of a conversation.
    Page {
        /// Which.
        conv: ConvId,
        /// For whom: must be one of the pair, or a member, or have been one; rows at or before the
        /// start of the membership are not shown, nor what was said after its end. `None`: the home
        /// itself, which sees everything.
        reader: Option<UserId>,
        /// Where it starts.
        from: PageStart,
        /// At most so many rows, `1..=SYNC_ROWS_MAX`.
        rows_max: u32,
        /// At most so many bytes of bodies, but at least one row.
        bytes_max: usize,
    },
    /// What a shard must know when a user's first session opens.
    Open {
        /// Whose.
        user: UserId,
    },
    /// A user's conversations that have messages, the newest first: direct ones, and groups that it
    /// is a member of.
    Heads {
        /// Whose.
        user: UserId,
        /// Only those that come after this one in that order ([`ConvState::ts_ms`] and the
        /// conversation): the last of the page before.
        before: Option<(u64, ConvId)>,
        /// Only those with a message that the user may read and has not received, as far as cursors
        /// are stored. The others stay in the list, but what is handed on as missed must not lose
        /// places to them: neither to what is confirmed nor to what retention has removed
        /// altogether. Of a user with thousands of conversations, among the newest
        /// [`crate::limits::HEADS_SCAN_MAX`] with a smaller user and as many with a larger one.
        missed: bool,
        /// At most so many, `1..=HEADS_MAX`.
        max: u32,
    },
}

impl Read {
    /// Whether it is about one user as a whole. Those of a batch are answered together, with a few
    /// statements for all.
    #[must_use]
    pub const fn is_of_user(&self) -> bool {
        match self {
            Self::Open { .. } | Self::Heads { .. } => true,
            Self::Page { .. } => false,
        }
    }
}

/// The answer to a [`Read`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ReadAnswer {
    /// Rows in ascending order of `seq`.
    Page(Page),
    /// To [`Read::Open`].
    Open(UserState),
    /// To [`Read::Heads`].
    Heads(Heads),
    /// The reader may not.
    Refused(Refusal),
}

/// One page.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Page {
    /// Ascending, gapless.
    pub rows: Vec<Row>,
    /// Whether there is more in the direction of the read.
    pub more: bool,
    /// The oldest sequence number that is kept and that this reader may see; 1 for a complete
    /// conversation.
    pub floor: Seq,
    /// The highest sequence number of the conversation in the same snapshot.
    pub head: Seq,
    /// Changes when the store was restored or lost its tail.
    pub epoch: u64,
}

/// What a shard knows of a user with open sessions.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct UserState {
    /// Tokens of an older epoch are void.
    pub token_epoch: u32,
    /// No session for this user.
    pub banned: bool,
    /// The user's groups, and since when (exclusive).
    pub groups: Vec<(GroupId, Seq)>,
    /// Users that this one has blocked, at most [`crate::limits::BLOCKS_MAX`], ascending.
    pub blocks: Vec<UserId>,
    /// Users that have blocked this one, at most as many, ascending.
    pub blocked_by: Vec<UserId>,
    /// The logins whose tokens are good, ascending.
    pub logins: Vec<LoginId>,
}

/// One page of a user's conversations.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Heads {
    /// Ordered by [`ConvState::ts_ms`], then by conversation, both descending.
    pub convs: Vec<ConvState>,
    /// Whether there are more behind the last one.
    pub more: bool,
    /// As [`Page::epoch`].
    pub epoch: u64,
}

/// Where a user stands in one conversation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConvState {
    /// Which.
    pub conv: ConvId,
    /// The newest message's number, at least 1.
    pub head: Seq,
    /// The newest message's time in Unix milliseconds.
    pub ts_ms: u64,
    /// As [`Page::floor`].
    pub floor: Seq,
    /// Received up to; below `floor` if never said: zero, or the start of the membership.
    pub recv: Seq,
    /// Read up to; as `recv` if never said.
    pub read: Seq,
    /// Kept messages after `read` that others wrote and that can be read (neither recalls nor what
    /// they have taken back), counted up to [`crate::limits::UNREAD_MAX`] among the first
    /// [`crate::limits::UNREAD_SCAN_MAX`]. These looks are for a page in all, the newest
    /// conversations first: where there are none left, all messages count beyond the first
    /// [`crate::limits::UNREAD_LOOKS_MIN`] numbers.
    pub unread: u64,
    /// The message `head`, if the user may read it and the answer was not asked for what is missed.
    pub newest: Option<Newest>,
}

/// The newest message of a conversation, as far as a line in a list needs it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Newest {
    /// Its number on this server.
    pub id: MsgId,
    /// Unix milliseconds.
    pub ts_ms: u64,
    /// Its author.
    pub sender: UserId,
    /// As [`Row::body`], of a long one the first [`crate::limits::PREVIEW_BYTES_MAX`] bytes.
    pub body: Arc<str>,
    /// Whether there is more of the body.
    pub cut: bool,
}

/// The world's fault.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Error {
    /// Certainly not done: refused, rolled back, never begun. Try again.
    #[error("the store is not available: {0}")]
    Unavailable(String),
    /// Certainly not done: another transaction holds what it needs. Says nothing about the
    /// database. Try again.
    #[error("another transaction is in the way: {0}")]
    Contended(String),
    /// The answer to the commit was lost: done or not done. Ask again under the same key.
    #[error("the outcome of the commit is unknown: {0}")]
    Unknown(String),
    /// The database holds what cannot be (a failed check, a newer schema). Not repaired by trying
    /// again.
    #[error("the store is damaged or foreign: {0}")]
    Broken(String),
}

impl Error {
    /// The database's own words without this verdict on them, for another verdict.
    fn into_words(self) -> String {
        let (Self::Unavailable(words) | Self::Contended(words) | Self::Unknown(words) | Self::Broken(words)) = self;
        words
    }
}

/// A user as the control plane sees it. Never holds a password in clear.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct User {
    /// Identifier.
    pub id: UserId,
    /// Login name: unique, compared without case and trailing blanks.
    pub mobile: String,
    /// A PHC string (`$argon2id$…`), or a text that no password fits.
    pub password: String,
    /// URL.
    pub avatar: String,
    /// `M`, `W`, `U` or empty.
    pub sex: String,
    /// Shown name.
    pub nickname: String,
    /// Free text about oneself.
    pub memo: String,
    /// Unix milliseconds.
    pub created_ms: u64,
    /// See [`UserState::token_epoch`].
    pub token_epoch: u32,
    /// See [`UserState::banned`].
    pub banned: bool,
}

impl User {
    /// Whether only the number is left: see [`People::erase`].
    #[must_use]
    pub fn is_erased(&self) -> bool {
        folding::is_erased(&self.mobile)
    }
}

/// A user to be made.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct NewUser {
    /// As [`User::mobile`].
    pub mobile: String,
    /// As [`User::password`].
    pub password: String,
    /// As [`User::avatar`].
    pub avatar: String,
    /// As [`User::sex`].
    pub sex: String,
    /// As [`User::nickname`].
    pub nickname: String,
    /// As [`User::memo`].
    pub memo: String,
    /// Unix milliseconds.
    pub created_ms: u64,
    /// The number from another system: kept if it is above every one that was given here, otherwise
    /// the next is given.
    pub wanted: Option<UserId>,
}

/// A group as the control plane sees it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Group {
    /// Identifier.
    pub id: GroupId,
    /// Shown name; not unique.
    pub name: String,
    /// Its maker, until it is given on.
    pub owner: UserId,
    /// URL.
    pub icon: String,
    /// Category, 0 to 4 in the legacy pages.
    pub cate: i64,
    /// Description.
    pub memo: String,
    /// Unix milliseconds.
    pub created_ms: u64,
    /// Who gets in by asking.
    pub rule: Rule,
    /// Members may add their friends, not only admins.
    pub members_add: bool,
}

/// A group to be made; its owner becomes its first member in the same transaction.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NewGroup {
    /// As [`Group::name`].
    pub name: String,
    /// As [`Group::owner`].
    pub owner: UserId,
    /// As [`Group::icon`].
    pub icon: String,
    /// As [`Group::cate`].
    pub cate: i64,
    /// As [`Group::memo`].
    pub memo: String,
    /// Unix milliseconds.
    pub created_ms: u64,
    /// Refuse when the owner has so many already.
    pub owned_max: u32,
    /// As [`NewUser::wanted`].
    pub wanted: Option<GroupId>,
    /// As [`Group::rule`].
    pub rule: Rule,
}

/// Bulk rows for load tests (`imgate seed`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Seed {
    /// Users to make, with unusable passwords.
    pub users: u64,
    /// Groups to make.
    pub groups: u64,
    /// Members of each: the new users in turn, wrapping around.
    pub group_size: u64,
    /// Unix milliseconds.
    pub created_ms: u64,
}

/// What [`Backend::seed`] made.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Seeded {
    /// The first new user; the others follow it without a hole.
    pub first_user: UserId,
    /// How many.
    pub users: u64,
    /// The new groups.
    pub groups: Vec<GroupId>,
}

/// One connection to one database, used by one thread. Every method is one transaction.
///
/// Backends: `sqlite`, `mysql`, `memory` (tests, simulation, volatile runs without a disk). All
/// pass `tests/store_contract.rs`.
pub trait Backend: Send {
    /// Applies `writes` in their order in one transaction: all or nothing, answers in the same
    /// order.
    ///
    /// # Errors
    /// [`Error::Unavailable`]: nothing of it is stored. [`Error::Unknown`]: perhaps all of it is.
    fn commit(&mut self, writes: &[Write]) -> Result<Vec<Written>, Error>;

    /// Answers `reads` in their order, each from a snapshot not older than this call.
    ///
    /// # Errors
    /// [`Error::Unavailable`] for all of them.
    fn read(&mut self, reads: &[Read]) -> Result<Vec<ReadAnswer>, Error>;

    /// Statements that this connection has run for reads about users ([`Read::is_of_user`]), since
    /// it was made. Far fewer than such reads: a batch counts as many as one of them, also where
    /// they are run for each user, because there is no way to a server.
    fn user_queries(&self) -> u64;

    /// At most `max` (and [`crate::limits::CHANGES_MAX`]) of what has changed about users after
    /// that number: epochs, bans, memberships, blocks, by whatever gateway. `None`: no rows, only
    /// where they begin now.
    ///
    /// # Errors
    /// As the database says.
    fn changes(&mut self, after: Option<u64>, max: u32) -> Result<Changes, Error>;

    /// Removes at most `max` changes that are older than [`crate::limits::CHANGES_KEPT_S`]; how
    /// many.
    ///
    /// # Errors
    /// As the database says.
    fn forget_changes(&mut self, max: u32) -> Result<u64, Error>;

    /// At most `max` (and [`crate::limits::RECENT_CONVS_MAX`]) of the conversations that have got
    /// messages since a second of the database's clock, by whatever gateway. `after`: where the
    /// page before ended ([`Recent::next`]), 0 for the first. A database that only one gateway can
    /// use is not asked.
    ///
    /// # Errors
    /// As the database says; [`Error::Broken`] where it cannot be shared.
    fn recent(&mut self, since: Since, after: u64, max: u32) -> Result<Recent, Error> {
        let _ = (since, after, max);
        Err(Error::Broken("it is one gateway's own".to_owned()))
    }

    /// What is asked of this connection from now on, until this is called again, ends after `ms`
    /// milliseconds with [`Error::Unavailable`]. A backend that cannot be slow takes no notice; one
    /// with a server may have the server end each statement.
    fn limit(&mut self, ms: u64) {
        let _ = ms;
    }

    /// The requests about users on this connection.
    fn people(&mut self) -> &mut dyn People;

    /// The requests about groups on this connection.
    fn groups(&mut self) -> &mut dyn Groups;

    /// The requests about friends and blocks on this connection.
    fn social(&mut self) -> &mut dyn Social;

    /// The requests about uploaded files on this connection.
    fn files(&mut self) -> &mut dyn Files;

    /// The requests about who gets into groups on this connection.
    fn admissions(&mut self) -> &mut dyn Admissions;

    /// The requests about logins on this connection.
    fn logins(&mut self) -> &mut dyn Logins;

    /// The requests about keys of backends on this connection.
    fn api_keys(&mut self) -> &mut dyn ApiKeys;

    /// Bulk rows in seconds. Without new users there is nobody to be in a group, so there are no
    /// groups either.
    ///
    /// # Errors
    /// As the database says; nothing is left of a failed seed.
    fn seed(&mut self, seed: &Seed) -> Result<Seeded, Error>;

    /// One step of a pass over everything that is kept: moves floors up and removes what is below
    /// them, then post keys that are old. Numbers never move, a removed message keeps its number
    /// and, as long as it lives, its key. `steps_max` bounds the rows that the step looks at or
    /// removes, so that a writer that takes a step between two commits delays nothing longer than
    /// such a batch. This connection remembers where the next step begins.
    ///
    /// # Errors
    /// As the database says; nothing of the step is done, and the pass begins again.
    fn trim(&mut self, retention: &Retention, steps_max: u32) -> Result<Trimmed, Error>;

    /// Whether the database answers, for `/readyz`: one cheap round trip; on a writing connection a
    /// write, because a full disk still reads well.
    ///
    /// # Errors
    /// Why not.
    fn ping(&mut self) -> Result<(), Error>;

    /// The time by the database's own clock, in Unix milliseconds, if that is another than this
    /// process's.
    ///
    /// # Errors
    /// As the database says.
    fn wall_ms(&mut self) -> Result<Option<u64>, Error> {
        Ok(None)
    }

    /// The busy time is over: memory that was kept for it may go.
    fn rest(&mut self) {}
}
