//! The identifiers of users, groups, conversations, messages and connections.
//!
//! Owns: the newtypes, their ranges, and the two placement functions [`shard_of`] and [`home_of`].
//! Never: does arithmetic for its callers. A number that is no identifier does not become one by
//! accident. Bounds: every number that a client can see is below 2^53 ([`ID_MAX`]), so that
//! JavaScript keeps it exact.

use std::fmt;

/// The largest identifier or sequence number: 2^53 - 1, the largest integer that a JavaScript
/// number holds exactly.
pub const ID_MAX: u64 = (1 << 53) - 1;

/// The number that `text` is, as imgate itself writes numbers: digits alone, without a sign and
/// without zeros in front. What names a user in a path then names the same user in a trail.
#[must_use]
pub fn decimal(text: &str) -> Option<u64> {
    let is_canonical = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    if is_canonical { text.parse().ok() } else { None }
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(u64);

        impl $name {
            /// The identifier `raw`, or `None` unless it lies in `1..=ID_MAX`.
            #[must_use]
            pub const fn new(raw: u64) -> Option<Self> {
                if raw >= 1 && raw <= ID_MAX { Some(Self(raw)) } else { None }
            }

            /// The bare number, for the wire and the database.
            #[must_use]
            pub const fn get(self) -> u64 {
                self.0
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

id!(
    /// A registered user.
    UserId
);
id!(
    /// A group of users.
    GroupId
);
id!(
    /// A stored message: unique in the database, never an order and never a cursor.
    MsgId
);

impl UserId {
    /// A guest without an account: the sessions of `/chatroom`. The last number, which no
    /// database gives to a user.
    pub const GUEST: Self = Self(ID_MAX);
}

impl GroupId {
    /// The room of `/chatroom`: always volatile, and never in a database, for the same reason as
    /// [`UserId::GUEST`].
    pub const ROOM: Self = Self(ID_MAX);
}

/// A login's number among the logins of its user: `1..2^24`, so that a session keeps it in three
/// bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LoginId(u32);

impl LoginId {
    /// The largest number.
    pub const MAX: u32 = (1 << 24) - 1;

    /// The number `raw`, or `None` unless it lies in `1..=MAX`.
    #[must_use]
    pub const fn new(raw: u32) -> Option<Self> {
        if raw >= 1 && raw <= Self::MAX { Some(Self(raw)) } else { None }
    }

    /// The number that any 32 bits stand for, for numbers that are drawn by lot.
    #[must_use]
    pub const fn from_bits(bits: u32) -> Self {
        Self(bits % Self::MAX + 1)
    }

    /// The bare number.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }

    /// The next number; the first one follows the last.
    #[must_use]
    pub const fn next(self) -> Self {
        Self::from_bits(self.0)
    }
}

impl fmt::Debug for LoginId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LoginId({})", self.0)
    }
}

impl fmt::Display for LoginId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A message's place in its conversation: 1, 2, 3, … without a hole. 0 means "before the first".
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Seq(u64);

impl Seq {
    /// Before the first message.
    pub const ZERO: Self = Self(0);

    /// The sequence number `raw`, or `None` above [`ID_MAX`].
    #[must_use]
    pub const fn new(raw: u64) -> Option<Self> {
        if raw <= ID_MAX { Some(Self(raw)) } else { None }
    }

    /// The bare number.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The one after. Saturates at [`ID_MAX`], which no conversation reaches (a million messages a
    /// second for 285 years).
    #[must_use]
    pub const fn next(self) -> Self {
        if self.0 < ID_MAX { Self(self.0 + 1) } else { self }
    }

    /// The one before; zero stays zero.
    #[must_use]
    pub const fn prev(self) -> Self {
        Self(self.0.saturating_sub(1))
    }
}

impl fmt::Debug for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", self.0)
    }
}

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What sort of conversation: the `cmd` of its messages and the `kind` of everything said about it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum Kind {
    /// Two users (or one with herself): `cmd` 10.
    Direct = 10,
    /// A group: `cmd` 11.
    Group = 11,
}

/// The unit of order, storage, sync and unread counts.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum ConvId {
    /// An unordered pair of users, `lo <= hi`. Made by [`ConvId::direct`] only.
    Direct { lo: UserId, hi: UserId },
    /// A group.
    Group(GroupId),
}

impl ConvId {
    /// The direct conversation of `a` and `b`, whichever comes first. `a == b` is one's notes to
    /// oneself.
    #[must_use]
    pub fn direct(a: UserId, b: UserId) -> Self {
        Self::Direct { lo: a.min(b), hi: a.max(b) }
    }

    /// Direct or group.
    #[must_use]
    pub const fn kind(self) -> Kind {
        match self {
            Self::Direct { .. } => Kind::Direct,
            Self::Group(_) => Kind::Group,
        }
    }

    /// What `reader` calls this conversation on the wire (`dstid`): the group, or the other user of
    /// the pair.
    #[must_use]
    pub fn dstid_for(self, reader: UserId) -> u64 {
        match self {
            Self::Direct { lo, hi } if reader == lo => hi.get(),
            Self::Direct { lo, .. } => lo.get(),
            Self::Group(group) => group.get(),
        }
    }

    /// The smallest and the largest conversation in their order, for ranges over all of them.
    #[must_use]
    pub const fn ends() -> (Self, Self) {
        let (first, last) = (UserId(1), UserId(ID_MAX));
        (Self::Direct { lo: first, hi: first }, Self::Group(GroupId(last.0)))
    }

    /// Whether `user` is one of the pair. A group answers `false`: its members are the store's
    /// business.
    #[must_use]
    pub fn is_between(self, user: UserId) -> bool {
        matches!(self, Self::Direct { lo, hi } if lo == user || hi == user)
    }
}

/// A shard of this node: an index below the number of shards.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ShardId(pub u16);

/// A gateway process among those that share a database. The lone node is 0.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct NodeId(pub u16);

/// A connection of one shard: the slot it lives in, and the slot's generation, so that a late
/// answer never reaches the connection that took the slot over. Meaningful only together with its
/// shard; never leaves the node.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ConnId {
    /// Index into the shard's tables of connections and sessions.
    pub slot: u32,
    /// Incremented whenever the slot is given to a new connection.
    pub generation: u32,
}

/// The name of a session's connection in trails, in the log and at the admin port: `s0-17-3`, of
/// shard, slot and generation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SessionName(pub ShardId, pub ConnId);

impl SessionName {
    /// The session that `text` names, in the form in which it is written.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.strip_prefix('s')?.split('-');
        let shard = ShardId(parts.next()?.parse().ok()?);
        let conn = ConnId { slot: parts.next()?.parse().ok()?, generation: parts.next()?.parse().ok()? };
        let name = Self(shard, conn);
        (parts.next().is_none() && name.to_string() == text).then_some(name)
    }
}

impl fmt::Display for SessionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s{}-{}-{}", self.0.0, self.1.slot, self.1.generation)
    }
}

/// Steele, Lea, Flood: "Fast Splittable Pseudorandom Number Generators" (the finaliser of
/// SplitMix64).
const fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// Maps a hash evenly onto `0..n` (Lemire: "Fast Random Integer Generation in an Interval").
fn bucket(hash: u64, n: u16) -> u16 {
    let wide = u128::from(hash) * u128::from(n);
    u16::try_from(wide >> 64).unwrap_or(0)
}

/// The shard that owns every session of `user`.
#[must_use]
pub fn shard_of(user: UserId, shards: u16) -> ShardId {
    ShardId(bucket(mix(user.get()), shards))
}

/// The shard that orders the delivery of `conv` on this node: of a direct conversation the shard of
/// its larger user, so that a direct message makes at most two hops; of a group a hash of the
/// group.
#[must_use]
pub fn home_of(conv: ConvId, shards: u16) -> ShardId {
    match conv {
        ConvId::Direct { hi, .. } => shard_of(hi, shards),
        ConvId::Group(group) => ShardId(bucket(mix(group.get() ^ GROUP_SALT), shards)),
    }
}

/// The one store worker that writes `conv`, so that its commits have one order.
#[must_use]
pub fn writer_of(conv: ConvId, writers: u16) -> usize {
    let hash = match conv {
        ConvId::Direct { lo, hi } => mix(mix(lo.get()) ^ hi.get()),
        ConvId::Group(group) => mix(group.get() ^ GROUP_SALT),
    };
    usize::from(bucket(hash, writers))
}

/// Keeps group 7 from living wherever user 7 lives.
const GROUP_SALT: u64 = 0x6772_6f75_7000_0000;

#[cfg(test)]
mod tests {
    use super::*;

    fn user(raw: u64) -> UserId {
        UserId::new(raw).expect("a test's user id is in range")
    }

    #[test]
    fn ids_end_where_javascript_ends() {
        assert_eq!(UserId::new(0), None);
        assert_eq!(UserId::new(ID_MAX).map(UserId::get), Some(ID_MAX));
        assert_eq!(UserId::new(ID_MAX + 1), None);
        assert_eq!(Seq::new(ID_MAX).map(Seq::next), Seq::new(ID_MAX));
    }

    #[test]
    fn a_number_is_written_in_one_way() {
        assert_eq!(["0", "7", "120"].map(decimal), [Some(0), Some(7), Some(120)]);
        for bad in ["", "+7", "-7", "07", "00", " 7", "7 ", "\u{ff17}", "18446744073709551616"] {
            assert_eq!(decimal(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_name_of_a_session_is_read_as_it_is_written() {
        let name = SessionName(ShardId(3), ConnId { slot: 17, generation: 4 });
        assert_eq!((name.to_string().as_str(), SessionName::parse("s3-17-4")), ("s3-17-4", Some(name)));
        for bad in ["", "s", "3-17-4", "s3-17", "s3-17-4-1", "s03-17-4", "s3-+17-4", "s3-17-", "s65536-1-1", "h5"] {
            assert_eq!(SessionName::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_pair_has_one_conversation() {
        assert_eq!(ConvId::direct(user(7), user(3)), ConvId::direct(user(3), user(7)));
        assert_eq!(ConvId::direct(user(7), user(3)).dstid_for(user(7)), 3);
        assert_eq!(ConvId::direct(user(7), user(3)).dstid_for(user(3)), 7);
        assert_eq!(ConvId::direct(user(7), user(7)).dstid_for(user(7)), 7);
    }

    #[test]
    fn users_spread_evenly() {
        for shards in [1u16, 2, 3, 8, 64] {
            let mut counts = vec![0u32; usize::from(shards)];
            for raw in 1..=64_000 {
                counts[usize::from(shard_of(user(raw), shards).0)] += 1;
            }
            let mean = 64_000 / u32::from(shards);
            assert!(counts.iter().all(|&n| n > mean * 8 / 10 && n < mean * 12 / 10), "{shards}: {counts:?}");
        }
    }

    #[test]
    fn a_direct_conversation_lives_with_its_larger_user() {
        let conv = ConvId::direct(user(3), user(9));
        assert_eq!(home_of(conv, 5), shard_of(user(9), 5));
    }
}
