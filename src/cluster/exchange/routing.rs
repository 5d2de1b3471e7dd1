//! What this gateway says, and to which of the others.
//!
//! Owns: the way of what shards tell to the gateways that it concerns: those that have one of the
//! users, or have not said that no member of the group is there, and those of which that is not
//! known. More than half of all: everybody, once.
//! Never: leaves a gateway out for any other reason.

use std::collections::BTreeMap;

use smallvec::SmallVec;

use crate::clock::Now;
use crate::cluster::envelope::{self, Item, To};
use crate::cluster::exchange::{Exchange, Out, PlantedFault};
use crate::ids::{ConvId, GroupId, UserId};
use crate::limits::{ENVELOPE_FILL_BYTES, PRESENCE_GONE_MS};
use crate::shard::{FarRow, FarSaid, FarWord, Whom};

/// Another gateway that may hear.
#[derive(Clone, Copy, Debug)]
struct Other {
    node: u16,
    place: u16,
    /// Everybody there is known.
    known: bool,
}

/// Where something goes.
#[derive(Debug)]
enum Targets {
    All,
    Nodes(SmallVec<[u16; 4]>),
}

/// What is about to be said, by addressee.
#[derive(Debug, Default)]
struct Outbound {
    all: Vec<Item>,
    nodes: BTreeMap<u16, Vec<Item>>,
}

/// Whom something concerns.
enum Concern {
    Users(UserId, UserId),
    Group(GroupId),
}

fn of_conv(conv: ConvId) -> Concern {
    match conv {
        ConvId::Direct { lo, hi } => Concern::Users(lo, hi),
        ConvId::Group(group) => Concern::Group(group),
    }
}

/// `None`: everybody. A word that ends sessions is rare, and is not said again to where its user
/// has come meanwhile.
fn of_word(word: &FarWord) -> Option<Concern> {
    Some(match word {
        FarWord::Cursor { user, conv: ConvId::Group(_), .. }
        | FarWord::Hint { user, .. }
        | FarWord::Devices { user, .. } => Concern::Users(*user, *user),
        FarWord::Cursor { conv, .. } | FarWord::Typing { conv, .. } => of_conv(*conv),
        FarWord::GroupHint { group } => Concern::Group(*group),
        FarWord::Disconnect { .. } => return None,
    })
}

impl Exchange {
    #[expect(clippy::vec_box, reason = "each row comes in its box and goes on in it")]
    pub(super) fn tell(&mut self, now: Now, rows: Vec<Box<FarRow>>, out: &mut Vec<Out>) {
        if !self.may_speak() {
            self.counts.unsaid += rows.len() as u64;
            return;
        }
        self.counts.rows_out += rows.len() as u64;
        self.say(now, rows.into_iter().map(|row| (Some(of_conv(row.conv)), Item::Row(row))), out);
    }

    pub(super) fn tell_words(&mut self, now: Now, words: Vec<FarWord>, out: &mut Vec<Out>) {
        if !self.may_speak() {
            self.counts.words_dropped += words.len() as u64;
            return;
        }
        self.counts.words_out += words.len() as u64;
        self.say(now, words.into_iter().map(|word| (of_word(&word), Item::Word(word))), out);
    }

    /// Says each to the gateways that it concerns; `None`: to all.
    fn say(&mut self, now: Now, items: impl Iterator<Item = (Option<Concern>, Item)>, out: &mut Vec<Out>) {
        let (others, mut outbound) = (self.others(now), Outbound::default());
        for (concern, item) in items {
            let targets = concern.map_or(Targets::All, |concern| self.targets(now, &others, &concern));
            self.address(now, targets, item, &mut outbound);
        }
        self.publish_outbound(now, outbound, out);
    }

    /// To all: on two subjects they might overtake each other.
    #[expect(clippy::vec_box, reason = "as rows")]
    pub(super) fn tell_said(&mut self, now: Now, said: Vec<Box<FarSaid>>, out: &mut Vec<Out>) {
        if !self.may_speak() {
            self.counts.said_dropped += said.len() as u64;
            return;
        }
        self.counts.said_out += said.len() as u64;
        self.publish_all(now, To::All, said.into_iter().map(Item::Said), out);
    }

    /// A user, or the first member of a group, has come to another gateway: what was said a moment
    /// ago went past it.
    pub(super) fn catch_up(&mut self, now: Now, node: u16, come: impl Iterator<Item = Whom>, out: &mut Vec<Out>) {
        let said: Vec<_> = come.flat_map(|whom| self.addresses.said_to(whom)).collect();
        if !said.is_empty() && self.may_speak() {
            self.counts.to_nodes += said.len() as u64;
            self.publish_all(now, To::Node(node), said.into_iter(), out);
        }
    }

    /// Whoever has sent something in vain is told.
    pub(super) fn answer_in_vain(&mut self, now: Now, is_here: impl Fn(Whom) -> bool, out: &mut Vec<Out>) {
        let number = self.whereabouts.said();
        for (node, item) in self.addresses.take_answers(number, |group| is_here(Whom::Group(group))) {
            self.publish(now, To::Node(node), vec![item], out);
        }
    }

    /// The gateways that may hear.
    fn others(&self, now: Now) -> Vec<Other> {
        let hears = self
            .peers
            .iter()
            .filter(|(_, peer)| !peer.gone && peer.heard_ms.max(self.turned_ms) + PRESENCE_GONE_MS > now.mono_ms);
        let other = |(&node, place)| Other { node, place, known: self.whereabouts.known(node).is_some() };
        hears.map(|(node, peer)| other((node, peer.place))).collect()
    }

    fn targets(&mut self, now: Now, others: &[Other], concern: &Concern) -> Targets {
        let mut nodes = SmallVec::<[u16; 4]>::new();
        match *concern {
            Concern::Users(one, two) => {
                nodes.extend(others.iter().filter(|other| !other.known).map(|other| other.node));
                let mut add = |user| {
                    for node in self.whereabouts.nodes_of(user) {
                        if !nodes.contains(&node) {
                            nodes.push(node);
                        }
                    }
                };
                add(one);
                if two != one {
                    add(two);
                }
            }
            Concern::Group(group) => {
                let Some(away) = self.addresses.away(group, now.mono_ms) else { return Targets::All };
                nodes.extend(others.iter().filter(|other| !other.known || !away.has(other.place)).map(|one| one.node));
            }
        }
        // Alone, as far as it is known: whoever hears it all the same is welcome.
        if others.is_empty() || 2 * nodes.len() > others.len() { Targets::All } else { Targets::Nodes(nodes) }
    }

    fn address(&mut self, now: Now, targets: Targets, item: Item, outbound: &mut Outbound) {
        match targets {
            Targets::All => {
                self.counts.to_all += 1;
                outbound.all.push(item);
            }
            Targets::Nodes(nodes) => {
                self.addresses.keep(&item, now.mono_ms);
                self.counts.to_nodes += nodes.len() as u64;
                self.counts.to_none += u64::from(nodes.is_empty());
                let Some((last, rest)) = nodes.split_last() else { return };
                for node in rest {
                    outbound.nodes.entry(*node).or_default().push(item.clone());
                }
                outbound.nodes.entry(*last).or_default().push(item);
            }
        }
    }

    fn publish_outbound(&mut self, now: Now, outbound: Outbound, out: &mut Vec<Out>) {
        self.publish_all(now, To::All, outbound.all.into_iter(), out);
        for (node, items) in outbound.nodes {
            self.publish_all(now, To::Node(node), items.into_iter(), out);
        }
    }

    fn publish_all(&mut self, now: Now, to: To, all: impl Iterator<Item = Item>, out: &mut Vec<Out>) {
        let (mut items, mut bytes) = (Vec::new(), 0);
        for item in all {
            bytes += envelope::size(&item);
            items.push(item);
            if bytes >= ENVELOPE_FILL_BYTES {
                self.publish(now, to, std::mem::take(&mut items), out);
                bytes = 0;
            }
        }
        if !items.is_empty() {
            self.publish(now, to, items, out);
        }
    }

    /// Another gateway has said something of its users. `before`: how well these were known.
    pub(super) fn note_known(&mut self, node: u16, before: Option<u64>) {
        let known = self.whereabouts.known(node);
        let place = self.peers.get(&node).map(|peer| peer.place);
        if let Some(place) = place.filter(|_| known.is_some() && known != before) {
            // What was said of groups before may have been taken back unheard.
            self.addresses.forget(place);
        }
    }

    /// First members of these groups, or of any, have come to another gateway.
    pub(super) fn members_came(&mut self, now: Now, node: u16, groups: &[GroupId], out: &mut Vec<Out>) {
        let Some(place) = self.peers.get(&node).map(|peer| peer.place) else { return };
        if self.has_fault(PlantedFault::StaleAddress) {
            return;
        }
        if groups.is_empty() {
            return self.addresses.forget(place);
        }
        for &group in groups {
            self.addresses.arrived(group, place);
        }
        self.catch_up(now, node, groups.iter().map(|&group| Whom::Group(group)), out);
    }
}
