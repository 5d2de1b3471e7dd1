//! Which users have sessions on which gateway.
//!
//! Owns: the users here, as the others are told of them; those of each other gateway, as they have
//! told; what shards here are to be told of it.
//! Never: decides which users are online: that is the business of the users' shards.
//! Bounds: [`WHEREABOUTS_MAX`] users of other gateways. [`PRESENCE_PIECE`] users of a list at once.
//!
//! Changes are numbered, so whoever lacks one notices it, at the next heartbeat at the latest, and
//! asks for the list. A list comes in pieces, each of a range of users: what it names is there, and
//! what it does not name is not. So the pieces and the changes between them need only their order,
//! which the bus keeps for each gateway. First members of groups are said under the same numbers.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound::{Excluded, Unbounded};

use foldhash::fast::RandomState;
use hashbrown::HashMap;

use crate::clock::Now;
use crate::cluster::envelope::{Item, Listed};
use crate::ids::{GroupId, ID_MAX, ShardId, UserId, shard_of};
use crate::limits::{NOT_HERE_PIECE, PRESENCE_ASK_MS, PRESENCE_FAR_ROWS, PRESENCE_PIECE, WHEREABOUTS_MAX};
use crate::shard::FarIn;
use smallvec::SmallVec;

/// The users of another gateway.
#[derive(Debug, Default)]
struct There {
    boot: u64,
    users: BTreeSet<UserId>,
    /// The number of the last change that was heard.
    heard: Option<u64>,
    list: List,
    asked_ms: Option<u64>,
    /// There was no room for one of its users.
    crowded: bool,
    /// Times that something of it was missed.
    misses: u64,
}

impl There {
    fn miss(&mut self) {
        self.list = List::Missing;
        self.misses += 1;
    }

    /// It has said so many changes, the last one just now, or none that was not heard.
    fn note(&mut self, number: u64, is_change: bool) {
        let expected = self.heard.map(|heard| heard.saturating_add(u64::from(is_change)));
        if expected.is_some_and(|expected| expected != number) {
            self.miss();
        }
        // It has just begun, and all that it has said was heard.
        if expected.is_none() && number == u64::from(is_change) && self.users.is_empty() {
            self.list = List::Complete;
        }
        self.heard = Some(number);
    }
}

/// The gateways on which a user is: up to three of them; more are looked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct At {
    nodes: [u16; 3],
    len: u8,
}

impl At {
    fn of(nodes: impl Iterator<Item = u16>) -> Self {
        let mut at = Self { nodes: [0; 3], len: 0 };
        for node in nodes.take(4) {
            if let Some(place) = at.nodes.get_mut(usize::from(at.len)) {
                *place = node;
            }
            at.len += 1;
        }
        at
    }

    /// `None`: on more than three.
    fn few(&self) -> Option<&[u16]> {
        self.nodes.get(..usize::from(self.len))
    }
}

/// How much of another gateway's list is known.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum List {
    #[default]
    Missing,
    /// Everything behind `from` up to `upto`, perhaps around the end.
    Coming {
        from: u64,
        upto: u64,
        around: bool,
    },
    Complete,
}

/// The list of this gateway that the others are told: everything behind `from`, around the end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Telling {
    from: u64,
    around: bool,
}

/// See the head of this file.
#[derive(Debug)]
pub(super) struct Whereabouts {
    shards: u16,
    mine: BTreeSet<UserId>,
    /// Changes said so far.
    said: u64,
    /// Behind whom the next piece of the list begins.
    at: u64,
    telling: Option<Telling>,
    others: BTreeMap<u16, There>,
    /// Where each of their users is.
    where_is: HashMap<UserId, At, RandomState>,
    /// Users of all others.
    len: usize,
    /// Users of whom shards could not be told.
    untold: Vec<BTreeSet<UserId>>,
    /// Users for whom there was no room.
    pub(super) crowded: u64,
}

/// What shards are to be told.
type News = BTreeMap<ShardId, Vec<(UserId, bool)>>;

impl Whereabouts {
    pub(super) fn new(shards: u16) -> Self {
        Self {
            shards,
            mine: BTreeSet::new(),
            said: 0,
            at: 0,
            telling: None,
            others: BTreeMap::new(),
            where_is: HashMap::default(),
            len: 0,
            untold: (0..shards).map(|_| BTreeSet::new()).collect(),
            crowded: 0,
        }
    }

    /// Users of other gateways that are known.
    pub(super) const fn len(&self) -> usize {
        self.len
    }

    // ---- of this gateway ------------------------------------------------------------------------

    /// Users have come or gone here: what the others are told of it.
    pub(super) fn changed(&mut self, rows: &[(UserId, bool)]) -> Vec<Item> {
        let mut news = Vec::new();
        for &(user, on) in rows {
            let is_news = if on { self.mine.insert(user) } else { self.mine.remove(&user) };
            if is_news {
                news.push((user, on));
            }
        }
        let items = news.chunks(PRESENCE_PIECE).map(|rows| {
            self.said += 1;
            Item::Presence { number: self.said, rows: rows.to_vec() }
        });
        items.collect()
    }

    /// Whether the others were told that a user is here.
    pub(super) fn is_mine(&self, user: UserId) -> bool {
        self.mine.contains(&user)
    }

    /// What has changed, if these are all users of a shard here.
    pub(super) fn compared(&self, shard: ShardId, users: &[UserId]) -> Vec<(UserId, bool)> {
        let now: BTreeSet<UserId> = users.iter().copied().collect();
        let gone = self.mine.iter().filter(|user| shard_of(**user, self.shards) == shard && !now.contains(user));
        let rows: Vec<_> = gone.map(|&user| (user, false)).collect();
        rows.into_iter().chain(users.iter().map(|&user| (user, true))).collect()
    }

    /// First members of groups have come here: what the others are told of it. Without one, what
    /// tells them that it may be any.
    pub(super) fn members_came(&mut self, groups: &[GroupId]) -> Vec<Item> {
        let any = groups.is_empty().then_some(&[][..]);
        let items = groups.chunks(NOT_HERE_PIECE).chain(any).map(|groups| {
            self.said += 1;
            Item::MembersHere { number: self.said, groups: groups.to_vec() }
        });
        items.collect()
    }

    /// How many changes were said.
    pub(super) const fn count(&self) -> Item {
        Item::Presence { number: self.said, rows: Vec::new() }
    }

    /// The same as a number.
    pub(super) const fn said(&self) -> u64 {
        self.said
    }

    /// Another gateway wants the list.
    pub(super) const fn tell_list(&mut self) {
        self.telling = Some(Telling { from: self.at, around: false });
    }

    /// The next piece of the list, if it was asked for.
    pub(super) fn next_piece(&mut self) -> Option<Item> {
        let telling = self.telling.as_mut()?;
        let after = self.at;
        let users: Vec<UserId> = between(&self.mine, after, ID_MAX).take(PRESENCE_PIECE).collect();
        let is_last = users.len() < PRESENCE_PIECE;
        let upto = if is_last { ID_MAX } else { users.last().map_or(ID_MAX, |user| user.get()) };
        self.at = if is_last { 0 } else { upto };
        telling.around |= is_last;
        if telling.around && self.at >= telling.from {
            self.telling = None;
        }
        Some(Item::Listed(Listed { after, upto, number: self.said, users }))
    }

    // ---- of the others --------------------------------------------------------------------------

    /// The gateways that live and whose list is to be asked for.
    pub(super) fn asks(&mut self, now: Now, live: impl Iterator<Item = (u16, u64)>) -> Vec<(u16, Item)> {
        let mut asks = Vec::new();
        let has_room = self.len < WHEREABOUTS_MAX - WHEREABOUTS_MAX / 16;
        for (node, boot) in live {
            let there = self.there(node, boot);
            if has_room && std::mem::take(&mut there.crowded) {
                // Users that were left out have a place now.
                there.miss();
            }
            let waits = there.asked_ms.is_some_and(|asked_ms| now.mono_ms < asked_ms + PRESENCE_ASK_MS);
            if there.list != List::Complete && !waits {
                there.asked_ms = Some(now.mono_ms);
                asks.push((node, Item::WhoIsThere { node }));
            }
        }
        asks
    }

    fn there(&mut self, node: u16, boot: u64) -> &mut There {
        let there = self.others.entry(node).or_default();
        if there.boot != boot {
            // It has begun again. Its users may be there again in a moment: the list says it.
            (there.boot, there.heard, there.asked_ms) = (boot, None, None);
            there.miss();
        }
        there
    }

    /// Another gateway says which users have come or gone there.
    pub(super) fn heard(
        &mut self,
        (node, boot): (u16, u64),
        number: u64,
        rows: &[(UserId, bool)],
    ) -> Vec<(ShardId, FarIn)> {
        self.there(node, boot).note(number, !rows.is_empty());
        let mut news = News::new();
        for &(user, on) in rows {
            self.set(node, user, on, &mut news);
        }
        give(news)
    }

    /// Another gateway says which of a range of users are there.
    pub(super) fn listed(&mut self, now: Now, (node, boot): (u16, u64), listed: &Listed) -> Vec<(ShardId, FarIn)> {
        let there = self.there(node, boot);
        there.note(listed.number, false);
        there.list = there.list.and(listed.after, listed.upto);
        // It comes.
        there.asked_ms = Some(now.mono_ms);
        let named: BTreeSet<UserId> = listed.users.iter().copied().collect();
        let is_in = |user: UserId| user.get() > listed.after && user.get() <= listed.upto;
        let there = between(&there.users, listed.after, listed.upto);
        let gone: Vec<UserId> = there.filter(|user| !named.contains(user)).collect();
        let mut news = News::new();
        for user in gone {
            self.set(node, user, false, &mut news);
        }
        for user in named.into_iter().filter(|&user| is_in(user)) {
            self.set(node, user, true, &mut news);
        }
        give(news)
    }

    /// First members of groups have come to another gateway.
    pub(super) fn heard_members(&mut self, (node, boot): (u16, u64), number: u64) {
        self.there(node, boot).note(number, true);
    }

    /// Whether everybody on a gateway is known; if so, how often something of it was missed before.
    pub(super) fn known(&self, node: u16) -> Option<u64> {
        let there = self.others.get(&node)?;
        (there.list == List::Complete && !there.crowded).then_some(there.misses)
    }

    /// Whether a gateway has said so many changes, and all of them were heard.
    pub(super) fn has_heard(&self, (node, boot): (u16, u64), number: u64) -> bool {
        let there = self.others.get(&node).filter(|there| there.boot == boot);
        self.known(node).is_some() && there.is_some_and(|there| there.heard == Some(number))
    }

    /// The gateways on which a user is.
    pub(super) fn nodes_of(&self, user: UserId) -> SmallVec<[u16; 4]> {
        match self.where_is.get(&user).map(At::few) {
            None => SmallVec::new(),
            Some(Some(few)) => SmallVec::from_slice(few),
            Some(None) => self.look_for(user).collect(),
        }
    }

    fn look_for(&self, user: UserId) -> impl Iterator<Item = u16> {
        self.others.iter().filter(move |(_, there)| there.users.contains(&user)).map(|(&node, _)| node)
    }

    /// A gateway is gone, and everybody there with it.
    pub(super) fn forget(&mut self, node: u16) -> Vec<(ShardId, FarIn)> {
        let users = self.others.get(&node).map(|there| there.users.clone()).unwrap_or_default();
        let mut news = News::new();
        for user in users {
            self.set(node, user, false, &mut news);
        }
        self.others.remove(&node);
        give(news)
    }

    fn set(&mut self, node: u16, user: UserId, on: bool, news: &mut News) {
        let Some(there) = self.others.get_mut(&node) else { return };
        if on && self.len >= WHEREABOUTS_MAX {
            let is_news = !there.users.contains(&user);
            there.crowded |= is_news;
            self.crowded += u64::from(is_news);
            return;
        }
        let is_news = if on { there.users.insert(user) } else { there.users.remove(&user) };
        if !is_news {
            return;
        }
        self.len = if on { self.len + 1 } else { self.len - 1 };
        let before = self.where_is.get(&user).copied();
        let now = match before.as_ref().map(At::few) {
            None => At::of(on.then_some(node).into_iter()),
            Some(Some(few)) => {
                let others = few.iter().copied().filter(|&other| other != node);
                At::of(others.chain(on.then_some(node)))
            }
            Some(None) => At::of(self.look_for(user)),
        };
        if now.len == 0 {
            self.where_is.remove(&user);
        } else {
            self.where_is.insert(user, now);
        }
        if before.is_none() || now.len == 0 {
            news.entry(shard_of(user, self.shards)).or_default().push((user, on));
        }
    }

    /// Whether a user has a session on another gateway, as far as it is known.
    pub(super) fn is_elsewhere(&self, user: UserId) -> bool {
        self.where_is.contains_key(&user)
    }

    // ---- of shards ------------------------------------------------------------------------------

    /// A shard had no room for that.
    pub(super) fn refused(&mut self, shard: ShardId, rows: &[(UserId, bool)]) {
        if let Some(untold) = self.untold.get_mut(usize::from(shard.0)) {
            untold.extend(rows.iter().map(|(user, _)| user));
        }
    }

    /// Whether a shard is to be told something.
    pub(super) fn waits_for(&self, shard: ShardId) -> bool {
        self.untold.get(usize::from(shard.0)).is_some_and(|untold| !untold.is_empty())
    }

    /// What a shard is told when it has room again: how things stand by now.
    pub(super) fn take_untold(&mut self, shard: ShardId) -> Option<FarIn> {
        let untold = self.untold.get_mut(usize::from(shard.0))?;
        let users: Vec<UserId> = std::iter::from_fn(|| untold.pop_first()).take(PRESENCE_FAR_ROWS).collect();
        let rows: Box<[_]> = users.into_iter().map(|user| (user, self.is_elsewhere(user))).collect();
        (!rows.is_empty()).then_some(FarIn::Elsewhere { rows })
    }
}

impl List {
    /// With a further piece.
    const fn and(self, after: u64, upto: u64) -> Self {
        let (from, around) = match self {
            Self::Complete => return self,
            Self::Coming { from, upto, around } if upto == after || (upto == ID_MAX && after == 0) => {
                (from, around || after == 0)
            }
            // The first one, or one was lost between.
            Self::Missing | Self::Coming { .. } => (after, false),
        };
        let whole = (around && upto >= from) || (from == 0 && upto == ID_MAX);
        if whole { Self::Complete } else { Self::Coming { from, upto, around } }
    }
}

/// The users behind `after`, up to `upto`.
fn between(users: &BTreeSet<UserId>, after: u64, upto: u64) -> impl Iterator<Item = UserId> {
    let after = UserId::new(after).map_or(Unbounded, Excluded);
    users.range((after, Unbounded)).copied().take_while(move |user| user.get() <= upto)
}

fn give(news: News) -> Vec<(ShardId, FarIn)> {
    let rows = news.into_iter().flat_map(|(shard, rows)| {
        let pieces: Vec<_> =
            rows.chunks(PRESENCE_FAR_ROWS).map(|rows| (shard, FarIn::Elsewhere { rows: rows.into() })).collect();
        pieces
    });
    rows.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;

    const NODE: (u16, u64) = (2, 70);

    fn user(n: u64) -> UserId {
        UserId::new(n).expect("small")
    }

    fn now(mono_ms: u64) -> Now {
        Now { mono_ms, wall_ms: 1, sub_us: 0 }
    }

    /// What one says reaches the other, but for what `lost` says.
    fn tell(to: &mut Whereabouts, items: Vec<Item>) -> Vec<(UserId, bool)> {
        let mut told = Vec::new();
        for item in items {
            let given = match item {
                Item::Presence { number, rows } => to.heard(NODE, number, &rows),
                Item::Listed(listed) => to.listed(now(0), NODE, &listed),
                other => panic!("{other:?}"),
            };
            for (_, far) in given {
                let FarIn::Elsewhere { rows } = far else { panic!("of users only") };
                told.extend(rows);
            }
        }
        told
    }

    fn pieces(of: &mut Whereabouts) -> Vec<Item> {
        std::iter::from_fn(|| of.next_piece()).collect()
    }

    fn asks(of: &mut Whereabouts, at_ms: u64) -> usize {
        of.asks(now(at_ms), [NODE].into_iter()).len()
    }

    #[test]
    fn a_newcomer_hears_the_whole_list_and_then_what_changes() {
        let (mut one, mut two) = (Whereabouts::new(1), Whereabouts::new(1));
        let many = 2 * PRESENCE_PIECE as u64 + 5;
        let rows: Vec<_> = (1..=many).map(|n| (user(n), true)).collect();
        let said = one.changed(&rows);
        assert_eq!(said.len(), 3, "in bounded pieces");
        assert_eq!((asks(&mut two, 0), asks(&mut two, 1)), (1, 0), "it asks once in a while");
        one.tell_list();
        let first = one.next_piece().into_iter().collect();
        assert_eq!(tell(&mut two, first).len(), PRESENCE_PIECE);
        // Meanwhile a user of the first piece goes, and a third gateway asks: a circle from here.
        let gone = one.changed(&[(user(1), false), (user(many + 1), true)]);
        assert_eq!(tell(&mut two, gone), [(user(1), false), (user(many + 1), true)]);
        one.tell_list();
        let rest = pieces(&mut one);
        assert_eq!(rest.len(), 3);
        tell(&mut two, rest);
        assert_eq!((two.len() as u64, asks(&mut two, PRESENCE_ASK_MS)), (many, 0), "it knows all");
        assert!(!two.is_elsewhere(user(1)) && two.is_elsewhere(user(many + 1)));
        assert_eq!(one.changed(&[(user(2), true), (user(1), false)]), [], "that is no news");
    }

    #[test]
    fn a_shard_that_tells_all_its_users_takes_nothing_from_another() {
        let mut one = Whereabouts::new(2);
        let of = |shard: u16| (1..99).map(user).filter(move |user| shard_of(*user, 2) == ShardId(shard));
        let rows: Vec<_> = of(0).take(3).chain(of(1).take(3)).map(|user| (user, true)).collect();
        one.changed(&rows);
        let all: Vec<_> = of(1).skip(1).take(3).collect();
        let told = one.compared(ShardId(1), &all);
        let first = of(1).next().expect("there are many");
        let news = vec![(first, false), (all[2], true)];
        assert_eq!(one.changed(&told), [Item::Presence { number: 2, rows: news }], "one has gone and one has come");
    }

    #[test]
    fn whoever_lacks_a_change_notices_it_and_asks_again() {
        let (mut one, mut two) = (Whereabouts::new(1), Whereabouts::new(1));
        one.tell_list();
        let list = pieces(&mut one);
        tell(&mut two, list);
        assert_eq!(asks(&mut two, PRESENCE_ASK_MS), 0);
        one.changed(&[(user(1), true)]);
        // Lost; the heartbeat says how many there were.
        let heartbeat = vec![one.count()];
        tell(&mut two, heartbeat);
        assert_eq!(asks(&mut two, PRESENCE_ASK_MS), 1);
        one.tell_list();
        let list = pieces(&mut one);
        assert_eq!(tell(&mut two, list), [(user(1), true)]);
        assert_eq!(asks(&mut two, 3 * PRESENCE_ASK_MS), 0);
        // The next one says it, too.
        one.changed(&[(user(1), false)]);
        let later = one.changed(&[(user(2), true)]);
        tell(&mut two, later);
        assert_eq!(asks(&mut two, 3 * PRESENCE_ASK_MS), 1);
        assert!(two.is_elsewhere(user(1)), "for a moment");
        one.tell_list();
        let list = pieces(&mut one);
        assert_eq!(tell(&mut two, list), [(user(1), false)]);
    }

    #[test]
    fn who_is_on_two_gateways_is_gone_when_both_are() {
        let mut whereabouts = Whereabouts::new(1);
        let hear = |whereabouts: &mut Whereabouts, node, number, on| {
            whereabouts.heard((node, 1), number, &[(user(1), on)]).len()
        };
        assert_eq!(hear(&mut whereabouts, 1, 1, true), 1);
        assert_eq!(hear(&mut whereabouts, 2, 1, true), 0, "that is no news for a shard");
        assert_eq!(hear(&mut whereabouts, 1, 2, false), 0);
        assert!(whereabouts.is_elsewhere(user(1)));
        let gone = whereabouts.forget(2);
        assert_eq!(gone.len(), 1, "{gone:?}");
        assert_eq!((whereabouts.len(), whereabouts.is_elsewhere(user(1))), (0, false));
    }

    #[test]
    fn a_gateway_that_begins_again_keeps_its_users_until_its_list_is_here() {
        let mut whereabouts = Whereabouts::new(1);
        whereabouts.heard((2, 1), 1, &[(user(1), true), (user(2), true)]);
        whereabouts.heard((2, 9), 1, &[(user(3), true)]);
        assert_eq!(whereabouts.len(), 3);
        let listed = Listed { after: 0, upto: ID_MAX, number: 1, users: vec![user(2), user(3)] };
        let told = whereabouts.listed(now(0), (2, 9), &listed);
        assert!(
            matches!(told.as_slice(), [(_, FarIn::Elsewhere { rows })] if **rows == [(user(1), false)]),
            "{told:?}"
        );
    }

    #[test]
    fn who_was_left_out_for_want_of_room_is_asked_for_when_there_is_some() {
        let now = Clock::start().now();
        let mut whereabouts = Whereabouts::new(1);
        let asks = |whereabouts: &mut Whereabouts| whereabouts.asks(now, [NODE].into_iter()).len();
        whereabouts.heard(NODE, 1, &[(user(1), true)]);
        assert!(asks(&mut whereabouts) == 0 && whereabouts.known(NODE.0).is_some());
        let len = std::mem::replace(&mut whereabouts.len, WHEREABOUTS_MAX);
        whereabouts.heard(NODE, 2, &[(user(2), true)]);
        assert!(asks(&mut whereabouts) == 0 && whereabouts.known(NODE.0).is_none(), "there is still no room");
        whereabouts.len = len;
        assert_eq!(asks(&mut whereabouts), 1);
        let listed = Listed { after: 0, upto: ID_MAX, number: 2, users: vec![user(1), user(2)] };
        whereabouts.listed(now, NODE, &listed);
        assert!(whereabouts.known(NODE.0).is_some() && whereabouts.is_elsewhere(user(2)));
    }

    #[test]
    fn a_busy_shard_is_told_how_things_stand_when_it_has_room() {
        let mut whereabouts = Whereabouts::new(1);
        let told = whereabouts.heard(NODE, 1, &[(user(1), true), (user(2), true)]);
        let [(shard, FarIn::Elsewhere { rows })] = told.as_slice() else { panic!("{told:?}") };
        whereabouts.refused(*shard, rows);
        whereabouts.heard(NODE, 2, &[(user(1), false)]);
        assert!(whereabouts.waits_for(*shard));
        let Some(FarIn::Elsewhere { rows }) = whereabouts.take_untold(*shard) else { panic!("it waits") };
        assert_eq!(*rows, [(user(1), false), (user(2), true)]);
        assert!(!whereabouts.waits_for(*shard));
    }
}
