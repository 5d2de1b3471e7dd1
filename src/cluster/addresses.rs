//! To which gateways something goes.
//!
//! Owns: which gateways have said that no member of a group is there; what was said a moment ago,
//! for gateways to which its readers have come meanwhile; which groups are to be answered so by
//! this gateway.
//! Never: leaves out a gateway that has not said so. What is left out wrongly all the same is found
//! by the digest.
//! Bounds: [`ADDRESSED_GROUPS_MAX`] groups; those beyond it go to everybody. [`LATELY_ROWS_MAX`]
//! and [`LATELY_BYTES_MAX`] of what was said. [`NOT_HERE_MAX`] answers; one more is not given.

use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};

use hashbrown::HashMap;
use smallvec::SmallVec;

use crate::cluster::envelope::{self, Item};
use crate::ids::{ConvId, GroupId};
use crate::limits::{
    ADDRESSED_GROUP_MS, ADDRESSED_GROUPS_MAX, LATELY_BYTES_MAX, LATELY_MS, LATELY_ROWS_MAX, NOT_HERE_AGAIN_MS,
    NOT_HERE_MAX, NOT_HERE_PIECE,
};
use crate::shard::{FarWord, Whom};

/// A set of gateways by their places: a bit each, up to 64 of them without memory of its own.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Places(SmallVec<[u64; 1]>);

impl Places {
    fn word(place: u16) -> (usize, u64) {
        (usize::from(place / 64), 1 << (place % 64))
    }

    pub(super) fn has(&self, place: u16) -> bool {
        let (word, bit) = Self::word(place);
        self.0.get(word).is_some_and(|word| word & bit != 0)
    }

    fn insert(&mut self, place: u16) {
        let (word, bit) = Self::word(place);
        if self.0.len() <= word {
            self.0.resize(word + 1, 0);
        }
        if let Some(word) = self.0.get_mut(word) {
            *word |= bit;
        }
    }

    fn remove(&mut self, place: u16) {
        let (word, bit) = Self::word(place);
        if let Some(word) = self.0.get_mut(word) {
            *word &= !bit;
        }
    }
}

#[derive(Debug, Default)]
struct Group {
    /// Where no member is.
    away: Places,
    used_ms: u64,
}

/// See the head of this file.
#[derive(Debug, Default)]
pub(super) struct Addresses {
    groups: HashMap<GroupId, Group>,
    tidied_ms: u64,
    lately: Lately,
    answers: Answers,
}

impl Addresses {
    /// The gateways to which what is said in a group need not go. `None`: to all of them it must.
    pub(super) fn away(&mut self, group: GroupId, now_ms: u64) -> Option<&Places> {
        if self.groups.len() >= ADDRESSED_GROUPS_MAX && !self.groups.contains_key(&group) {
            return None;
        }
        let group = self.groups.entry(group).or_default();
        group.used_ms = now_ms;
        Some(&group.away)
    }

    /// No member of these groups is on the gateway at `place`.
    pub(super) fn are_away(&mut self, groups: &[GroupId], place: u16) {
        for group in groups {
            // What nothing is said in is not to be kept.
            if let Some(group) = self.groups.get_mut(group) {
                group.away.insert(place);
            }
        }
    }

    /// A member of the group has come to the gateway at `place`.
    pub(super) fn arrived(&mut self, group: GroupId, place: u16) {
        if let Some(group) = self.groups.get_mut(&group) {
            group.away.remove(place);
        }
    }

    /// What the gateway at `place` has said is void.
    pub(super) fn forget(&mut self, place: u16) {
        for group in self.groups.values_mut() {
            group.away.remove(place);
        }
    }

    /// Time passes.
    pub(super) fn tidy(&mut self, now_ms: u64) {
        self.lately.tidy(now_ms);
        self.answers.tidy(now_ms);
        if self.tidied_ms + ADDRESSED_GROUP_MS / 8 <= now_ms {
            self.tidied_ms = now_ms;
            self.groups.retain(|_, group| group.used_ms + ADDRESSED_GROUP_MS > now_ms);
        }
    }

    /// Something was said that some gateways are not told.
    pub(super) fn keep(&mut self, item: &Item, now_ms: u64) {
        self.lately.keep(item, now_ms);
    }

    /// What was said a moment ago and concerns `whom`.
    pub(super) fn said_to(&self, whom: Whom) -> Vec<Item> {
        self.lately.of(whom)
    }

    /// Another gateway has sent something of a group of which no member is here.
    pub(super) fn answer(&mut self, node: u16, group: GroupId) {
        self.answers.add(node, group);
    }

    /// The answers that are to be given: to whom, of which groups. `is_here`: a member has come
    /// meanwhile.
    pub(super) fn take_answers(&mut self, number: u64, is_here: impl Fn(GroupId) -> bool) -> Vec<(u16, Item)> {
        self.answers.take(number, is_here)
    }
}

/// What was said lately: messages, and words of which the last one is not repeated.
#[derive(Debug, Default)]
struct Lately {
    items: VecDeque<(u64, Item)>,
    bytes: usize,
    /// The number of the first of them, counted from the start.
    first: u64,
    of: HashMap<Whom, VecDeque<u64>>,
}

/// Users or a group.
fn concerned(conv: ConvId) -> SmallVec<[Whom; 2]> {
    match conv {
        ConvId::Direct { lo, hi } if lo == hi => SmallVec::from_slice(&[Whom::User(lo)]),
        ConvId::Direct { lo, hi } => SmallVec::from_slice(&[Whom::User(lo), Whom::User(hi)]),
        ConvId::Group(group) => SmallVec::from_slice(&[Whom::Group(group)]),
    }
}

/// To whom something is told once more that has just come. A word that a user is typing is soon
/// repeated, and one about devices too; one that ends sessions is not for those that come after it.
fn told_again(item: &Item) -> SmallVec<[Whom; 2]> {
    match item {
        Item::Row(row) => concerned(row.conv),
        Item::Word(FarWord::Cursor { user, conv: ConvId::Group(_), .. } | FarWord::Hint { user, .. }) => {
            SmallVec::from_slice(&[Whom::User(*user)])
        }
        Item::Word(FarWord::Cursor { conv, .. }) => concerned(*conv),
        Item::Word(FarWord::GroupHint { group }) => SmallVec::from_slice(&[Whom::Group(*group)]),
        _ => SmallVec::new(),
    }
}

fn weight(item: &Item) -> usize {
    size_of::<Item>() + envelope::size(item)
}

impl Lately {
    fn keep(&mut self, item: &Item, now_ms: u64) {
        let to = told_again(item);
        if to.is_empty() {
            return;
        }
        let number = self.first + self.items.len() as u64;
        for whom in to {
            self.of.entry(whom).or_default().push_back(number);
        }
        self.bytes += weight(item);
        self.items.push_back((now_ms, item.clone()));
        while self.items.len() > LATELY_ROWS_MAX || self.bytes > LATELY_BYTES_MAX {
            self.drop_first();
        }
    }

    fn tidy(&mut self, now_ms: u64) {
        while self.items.front().is_some_and(|(at_ms, _)| at_ms + LATELY_MS <= now_ms) {
            self.drop_first();
        }
    }

    fn drop_first(&mut self) {
        let Some((_, item)) = self.items.pop_front() else { return };
        self.first += 1;
        self.bytes -= weight(&item);
        for whom in told_again(&item) {
            if let Some(numbers) = self.of.get_mut(&whom) {
                numbers.pop_front();
                if numbers.is_empty() {
                    self.of.remove(&whom);
                }
            }
        }
    }

    fn of(&self, whom: Whom) -> Vec<Item> {
        let numbers = self.of.get(&whom).into_iter().flatten();
        let at = |number: &u64| usize::try_from(number - self.first).ok();
        numbers.filter_map(|number| Some(self.items.get(at(number)?)?.1.clone())).collect()
    }
}

/// What this gateway answers.
#[derive(Debug, Default)]
struct Answers {
    due: BTreeMap<u16, BTreeSet<GroupId>>,
    len: usize,
    /// What was answered lately, in two times: an answer that was lost is given again after that.
    given: [HashSet<(u16, GroupId)>; 2],
    turned_ms: u64,
}

impl Answers {
    fn add(&mut self, node: u16, group: GroupId) {
        let was_given = self.given.iter().any(|given| given.contains(&(node, group)));
        let given: usize = self.given.iter().map(HashSet::len).sum();
        if was_given || self.len + given >= NOT_HERE_MAX {
            return;
        }
        self.len += usize::from(self.due.entry(node).or_default().insert(group));
    }

    fn take(&mut self, number: u64, is_here: impl Fn(GroupId) -> bool) -> Vec<(u16, Item)> {
        self.len = 0;
        let mut items = Vec::new();
        for (node, groups) in std::mem::take(&mut self.due) {
            let groups: Vec<GroupId> = groups.into_iter().filter(|&group| !is_here(group)).collect();
            self.given[0].extend(groups.iter().map(|&group| (node, group)));
            let pieces = groups.chunks(NOT_HERE_PIECE);
            items.extend(pieces.map(|groups| (node, Item::NotHere { number, groups: groups.to_vec() })));
        }
        items
    }

    fn tidy(&mut self, now_ms: u64) {
        if self.turned_ms + NOT_HERE_AGAIN_MS / 2 <= now_ms {
            self.turned_ms = now_ms;
            self.given.swap(0, 1);
            self.given[0].clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{MsgId, Seq, UserId};
    use crate::shard::FarRow;
    use crate::store::Row;
    use crate::wire::Hint;

    fn group(n: u64) -> GroupId {
        GroupId::new(n).expect("small")
    }

    fn user(n: u64) -> UserId {
        UserId::new(n).expect("small")
    }

    fn row(conv: ConvId, n: u64, body: &str) -> Item {
        let seq = Seq::new(n).expect("small");
        let row = Row { seq, id: MsgId::new(n).expect("small"), ts_ms: 1, sender: user(1), body: body.into() };
        Item::Row(Box::new(FarRow { conv, row, before_ms: None }))
    }

    fn numbers(of: &Addresses, whom: Whom) -> Vec<u64> {
        let number = |item: &Item| match item {
            Item::Row(row) => Some(row.row.seq.get()),
            _ => None,
        };
        of.said_to(whom).iter().filter_map(number).collect()
    }

    #[test]
    fn only_who_has_said_so_is_left_out_and_only_until_somebody_comes() {
        let mut addresses = Addresses::default();
        let is_away =
            |addresses: &mut Addresses, place| addresses.away(group(1), 5).is_some_and(|away| away.has(place));
        addresses.are_away(&[group(1)], 70);
        assert!(!is_away(&mut addresses, 70), "nothing was said in it yet");
        addresses.are_away(&[group(1), group(2)], 70);
        addresses.are_away(&[group(1)], 3);
        assert!(is_away(&mut addresses, 70) && is_away(&mut addresses, 3) && !is_away(&mut addresses, 6));
        addresses.arrived(group(1), 70);
        assert!(!is_away(&mut addresses, 70) && is_away(&mut addresses, 3));
        addresses.forget(3);
        assert!(!is_away(&mut addresses, 3));
        addresses.are_away(&[group(1)], 3);
        addresses.tidy(5 + ADDRESSED_GROUP_MS);
        assert!(!is_away(&mut addresses, 3), "what was not used for long is forgotten");
    }

    #[test]
    fn groups_beyond_the_bound_go_to_everybody() {
        let mut addresses = Addresses::default();
        let all = ADDRESSED_GROUPS_MAX as u64;
        (1..=all).for_each(|n| assert!(addresses.away(group(n), 1).is_some()));
        assert!(addresses.away(group(all + 1), 1).is_none());
        assert!(addresses.away(group(7), 1).is_some(), "one that is kept stays");
        addresses.tidy(1 + ADDRESSED_GROUP_MS);
        assert!(addresses.away(group(all + 1), 1 + ADDRESSED_GROUP_MS).is_some());
    }

    #[test]
    fn what_was_said_a_moment_ago_is_found_by_user_and_group_and_then_forgotten() {
        let mut addresses = Addresses::default();
        let direct = ConvId::direct(user(1), user(2));
        addresses.keep(&row(direct, 1, ""), 10);
        addresses.keep(&row(ConvId::direct(user(2), user(2)), 2, ""), 20);
        addresses.keep(&row(ConvId::Group(group(1)), 3, ""), 30);
        assert_eq!(numbers(&addresses, Whom::User(user(2))), [1, 2]);
        assert_eq!(numbers(&addresses, Whom::Group(group(1))), [3]);
        addresses.tidy(10 + LATELY_MS);
        assert_eq!(numbers(&addresses, Whom::User(user(1))), [0; 0]);
        assert_eq!(numbers(&addresses, Whom::User(user(2))), [2]);
        let large = "x".repeat(LATELY_BYTES_MAX / 2);
        for n in 4..8 {
            addresses.keep(&row(direct, n, &large), 40);
        }
        assert_eq!(numbers(&addresses, Whom::User(user(1))), [7], "bounded in bytes");
        for n in 10..10 + 2 * LATELY_ROWS_MAX as u64 {
            addresses.keep(&row(direct, n, ""), 40);
        }
        assert_eq!(numbers(&addresses, Whom::User(user(2))).len(), LATELY_ROWS_MAX);
        addresses.tidy(40 + LATELY_MS);
        assert!(addresses.lately.of.is_empty() && addresses.lately.bytes == 0);
    }

    #[test]
    fn words_that_nothing_repeats_are_found_and_no_other() {
        let mut addresses = Addresses::default();
        let direct = ConvId::direct(user(1), user(2));
        let seq = Seq::new(3).expect("small");
        let words = [
            FarWord::Cursor { user: user(2), conv: direct, recv: seq, read: seq },
            FarWord::Cursor { user: user(2), conv: ConvId::Group(group(1)), recv: seq, read: seq },
            FarWord::Hint { user: user(1), what: Hint::Groups, id: 1 },
            FarWord::GroupHint { group: group(1) },
            FarWord::Typing { user: user(2), conv: direct },
            FarWord::Disconnect { user: user(1) },
            FarWord::Devices { user: user(1), node: 2, asks: true, list: Box::default() },
        ]
        .map(Item::Word);
        words.iter().for_each(|word| addresses.keep(word, 10));
        assert_eq!(addresses.said_to(Whom::User(user(1))), [words[0].clone(), words[2].clone()]);
        assert_eq!(addresses.said_to(Whom::User(user(2))), [words[0].clone(), words[1].clone()]);
        assert_eq!(addresses.said_to(Whom::Group(group(1))), [words[3].clone()]);
        addresses.tidy(10 + LATELY_MS);
        assert!(addresses.lately.of.is_empty() && addresses.lately.bytes == 0);
    }

    #[test]
    fn an_answer_is_given_once_in_a_while_and_not_if_somebody_has_come() {
        let mut addresses = Addresses::default();
        let answers = |addresses: &mut Addresses| addresses.take_answers(9, |group| group.get() == 2);
        for n in [1, 2, 1] {
            addresses.answer(5, group(n));
        }
        assert_eq!(answers(&mut addresses), [(5, Item::NotHere { number: 9, groups: vec![group(1)] })]);
        addresses.answer(5, group(1));
        assert_eq!(answers(&mut addresses), [], "that was said");
        addresses.answer(6, group(1));
        assert_eq!(answers(&mut addresses).len(), 1, "but not to that one");
        addresses.tidy(NOT_HERE_AGAIN_MS);
        addresses.tidy(2 * NOT_HERE_AGAIN_MS);
        addresses.answer(5, group(1));
        assert_eq!(answers(&mut addresses).len(), 1, "it was lost, perhaps");
        for n in 1..=2 * NOT_HERE_MAX as u64 {
            addresses.answer(7, group(n));
        }
        assert!(addresses.answers.len <= NOT_HERE_MAX);
        let pieces = answers(&mut addresses);
        let fits = |item: &Item| matches!(item, Item::NotHere { groups, .. } if groups.len() <= NOT_HERE_PIECE);
        assert!(pieces.len() > 1 && pieces.iter().all(|(_, item)| fits(item)));
    }
}
