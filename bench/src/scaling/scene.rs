//! What is done to a town.
//!
//! Owns: [`Scene`]: its flows, and what the model says of them.

use std::rc::Rc;

use imgate::ids::{ConvId, ShardId};

use super::flow::{Flow, FlowPace, Letter};
use super::model;
use super::town::{Group, Town};

/// Pairs of the direct scene.
const PAIRS: usize = 100;
/// Authors of the one hot group.
const HOT_AUTHORS: usize = 40;
/// Pairs that keep one shard busy, and messages that each has under way.
const HOT_PAIRS: usize = 32;
const HOT_WINDOW: u32 = 4;
/// Pairs on the other shards beside it, all together, and their messages a second.
const CALM_PAIRS: usize = 14;
const CALM_RATE: f64 = 200.0;

/// A row of the table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scene {
    /// Forty groups of twenty, over all shards: 1,000 messages a second.
    Groups,
    /// Two hundred groups of three: 3,000 messages a second.
    Trios,
    /// One group of 800 over all shards: 50 messages a second.
    HotGroup,
    /// A hundred pairs with one message under way each.
    Direct,
    /// Pairs on all shards but the first, each pair on one: 200 messages a second.
    Calm,
    /// The same, while pairs on the first shard post as fast as they can.
    CalmBesideHot,
}

impl Scene {
    /// All, in the order in which they are done.
    pub const ALL: [Self; 6] =
        [Self::Groups, Self::Trios, Self::HotGroup, Self::Direct, Self::Calm, Self::CalmBesideHot];

    /// Its name in the table.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Groups => "40 groups of 20",
            Self::Trios => "200 groups of 3",
            Self::HotGroup => "one group of 800",
            Self::Direct => "direct, saturated",
            Self::Calm => "calm shards",
            Self::CalmBesideHot => "calm shards beside a hot one",
        }
    }

    /// Whether it makes sense with so many shards: beside the only one there is none.
    #[must_use]
    pub const fn is_possible(self, shards: u16) -> bool {
        !matches!(self, Self::Calm | Self::CalmBesideHot) || shards > 1
    }

    /// Who posts what.
    #[must_use]
    pub fn flows(self, town: &Town) -> Vec<Flow> {
        let groups = |population: usize, authors: usize, rate| {
            let letters = town.groups[population].iter().flat_map(|group| group_letters(group, authors)).collect();
            vec![Flow { letters, pace: FlowPace::Rate(rate) }]
        };
        match self {
            Self::Groups => groups(0, usize::MAX, 1000.0),
            Self::Trios => groups(1, usize::MAX, 3000.0),
            Self::HotGroup => groups(2, HOT_AUTHORS, 50.0),
            Self::Direct => {
                let letters = (0..PAIRS).map(|pair| pair_letter(town, 2 * pair, 2 * pair + 1)).collect();
                vec![Flow { letters, pace: FlowPace::Window(1) }]
            }
            Self::Calm => vec![calm(town)],
            Self::CalmBesideHot => {
                let letters = pairs_on(town, ShardId(0), HOT_PAIRS);
                vec![calm(town), Flow { letters, pace: FlowPace::Window(HOT_WINDOW) }]
            }
        }
    }

    /// Hops that one message of `flow` causes by the model, in the mean; and if groups were sent to
    /// every shard.
    #[must_use]
    pub fn hops(town: &Town, flow: &Flow) -> (f64, f64) {
        let (mut hops, mut to_all) = (0, 0);
        for letter in &flow.letters {
            let author = town.users[letter.author];
            let members = || letter.members.iter().map(|&member| town.users[member]);
            let conv = match (letter.cmd, imgate::ids::GroupId::new(letter.dstid)) {
                (11, Some(group)) => ConvId::Group(group),
                _ => ConvId::direct(author, members().find(|&member| member != author).unwrap_or(author)),
            };
            let is = model::hops(author, conv, members(), town.shards);
            hops += is;
            to_all += if matches!(conv, ConvId::Group(_)) { model::hops_to_all(author, conv, town.shards) } else { is };
        }
        let count = flow.letters.len().max(1) as f64;
        (f64::from(hops) / count, f64::from(to_all) / count)
    }
}

/// Letters of the first `authors` members to all.
fn group_letters(group: &Group, authors: usize) -> Vec<Letter> {
    let members: Rc<[usize]> = group.members.clone().collect();
    let authors = group.members.clone().take(authors);
    authors.map(|author| Letter { author, cmd: 11, dstid: group.id.get(), members: Rc::clone(&members) }).collect()
}

fn pair_letter(town: &Town, author: usize, other: usize) -> Letter {
    Letter { author, cmd: 10, dstid: town.users[other].get(), members: Rc::new([author, other]) }
}

/// Pairs of which both are on `shard`, so that nothing hops.
fn pairs_on(town: &Town, shard: ShardId, most: usize) -> Vec<Letter> {
    let there = town.on_shard(shard);
    let pairs = there.chunks_exact(2).take(most);
    pairs.filter_map(|pair| Some(pair_letter(town, *pair.first()?, *pair.get(1)?))).collect()
}

fn calm(town: &Town) -> Flow {
    let each = CALM_PAIRS.div_ceil(usize::from(town.shards.max(2)) - 1);
    let letters = (1..town.shards).flat_map(|shard| pairs_on(town, ShardId(shard), each)).collect();
    Flow { letters, pace: FlowPace::Rate(CALM_RATE) }
}
