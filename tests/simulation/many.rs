//! What many gateways say to each other of one message, counted: exchanges alone, without shards, of which some speak and all listen.
//!
//! Owns: who is where, and the count of what the bus delivers. What a gateway hears from the others is carried in envelopes, as on the bus; those for
//! everybody reach the ones that speak, and all if there is a message in them.

use std::collections::BTreeSet;

use imgate::clock::Now;
use imgate::cluster::envelope::{Envelope, Item, To};
use imgate::cluster::exchange::{Exchange, In, Out};
use imgate::ids::{ConvId, GroupId, MsgId, NodeId, Seq, UserId};
use imgate::limits::{CLUSTER_TICK_MS, TWIN_ANSWER_MS};
use imgate::shard::{FarRow, Whom};
use imgate::store::{Recent, Row};

/// Gateways.
pub(crate) const NODES: u16 = 1000;
/// Of these, so many have users who say something.
const SPEAKERS: u16 = 10;
/// Users; every tenth is on a second gateway as well.
const USERS: u64 = 20_000;
/// Groups, and their members: neighbours, so that each group is on as many gateways.
const GROUPS: u64 = 20;
const MEMBERS: u64 = 50;
/// Messages that are counted, of each kind.
const MESSAGES: u64 = 2000;

/// The count.
#[derive(Debug, Default)]
pub(crate) struct Count {
    /// Deliveries of the bus for each message, in thousandths.
    pub(crate) direct: u64,
    /// The same of groups, of what is needed, when the gateways know each other.
    pub(crate) group: u64,
    /// Messages that did not reach a gateway with a reader.
    pub(crate) missed: u64,
}

struct Many {
    exchanges: Vec<Exchange>,
    now: Now,
    rows: u64,
    /// What the bus has delivered of messages.
    delivered: u64,
    /// Who has got the last one.
    reached: BTreeSet<u16>,
}

fn user(n: u64) -> UserId {
    UserId::new(n + 1).expect("small")
}

fn nodes_of(n: u64) -> impl Iterator<Item = u16> {
    let one = |n: u64| u16::try_from(n % u64::from(NODES)).expect("small");
    [Some(one(n)), n.is_multiple_of(10).then(|| one(n * 7 + 13))].into_iter().flatten()
}

fn members(group: u64) -> impl Iterator<Item = u64> {
    group * MEMBERS..(group + 1) * MEMBERS
}

fn is_here(node: u16, whom: Whom) -> bool {
    match whom {
        Whom::User(user) => nodes_of(user.get() - 1).any(|at| at == node),
        Whom::Group(group) => members(group.get() - 1).any(|n| nodes_of(n).any(|at| at == node)),
    }
}

impl Many {
    fn step(&mut self, node: u16, what: In) {
        let mut out = Vec::new();
        self.exchanges[usize::from(node)].step(self.now, what, &|whom| is_here(node, whom), &mut out);
        for one in out {
            if let Out::Publish(to, from, items) = one {
                self.carry(node, Envelope { from, to, items, unknown: 0 });
            }
        }
    }

    fn carry(&mut self, node: u16, envelope: Envelope) {
        let has_row = envelope.items.iter().any(|item| matches!(item, Item::Row(_)));
        let all = 0..if has_row { NODES } else { SPEAKERS };
        let to: Vec<u16> = match envelope.to {
            To::All => all.filter(|other| *other != node).collect(),
            To::Node(other) => vec![other],
        };
        for other in to {
            if has_row {
                self.delivered += 1;
                self.reached.insert(other);
            }
            self.step(other, In::Heard(envelope.clone()));
        }
    }

    fn tick(&mut self) {
        self.now =
            Now { mono_ms: self.now.mono_ms + CLUSTER_TICK_MS, wall_ms: self.now.wall_ms + CLUSTER_TICK_MS, sub_us: 0 };
        (0..NODES).for_each(|node| self.step(node, In::Tick));
    }

    /// A user on `node` says something. Gateways with a reader that it did not reach.
    fn say(&mut self, node: u16, conv: ConvId, sender: u64, readers: &BTreeSet<u16>) -> u64 {
        self.rows += 1;
        let (seq, id) = (Seq::new(self.rows).expect("small"), MsgId::new(self.rows).expect("small"));
        let row = Row { seq, id, ts_ms: self.now.wall_ms, sender: user(sender), body: "".into() };
        self.reached.clear();
        self.step(node, In::Rows(vec![Box::new(FarRow { conv, row, before_ms: None })]));
        readers.iter().filter(|reader| **reader != node && !self.reached.contains(reader)).count() as u64
    }
}

/// Has users on `NODES` gateways talk.
pub(crate) fn run() -> Count {
    let now = Now { mono_ms: 1_000, wall_ms: 1_800_000_000_000, sub_us: 0 };
    let exchanges = (0..NODES).map(|node| Exchange::new(NodeId(node), 7, 1, now, None)).collect();
    let mut many = Many { exchanges, now, rows: 0, delivered: 0, reached: BTreeSet::new() };
    for node in 0..NODES {
        many.step(node, In::Bus { up: true });
        many.step(node, In::Tick);
        let recent = Recent { epoch: 9, from_s: 10, now_s: 20, list: Vec::new(), next: None };
        many.step(node, In::Scanned { scan: 1, answer: Some(recent) });
    }
    for _ in 0..=TWIN_ANSWER_MS / CLUSTER_TICK_MS + 1 {
        many.tick();
    }
    let mut here: Vec<Vec<(UserId, bool)>> = vec![Vec::new(); usize::from(NODES)];
    for n in 0..USERS {
        nodes_of(n).for_each(|node| here[usize::from(node)].push((user(n), true)));
    }
    for (node, rows) in (0..).zip(here) {
        many.step(node, In::Arrivals(rows));
    }
    many.tick();
    let mut count = Count::default();
    many.delivered = 0;
    for n in 0..MESSAGES {
        // Somebody on a gateway that speaks, and anybody.
        let (one, other) = (n % u64::from(SPEAKERS), (n * 7919 + 5) % USERS);
        let node = u16::try_from(one).expect("small");
        let readers = nodes_of(one).chain(nodes_of(other)).collect();
        count.missed += many.say(node, ConvId::direct(user(one), user(other)), one, &readers);
    }
    count.direct = 1000 * many.delivered / MESSAGES;
    // The first message of a group goes to all, and whoever has no member says so.
    let mut talk = |times: u64| {
        let mut needed = 0;
        many.delivered = 0;
        for n in 0..times {
            let group = n % GROUPS;
            let node = u16::try_from(n % u64::from(SPEAKERS)).expect("small");
            let readers: BTreeSet<u16> = members(group).flat_map(nodes_of).collect();
            needed += readers.iter().filter(|reader| **reader != node).count() as u64;
            let conv = ConvId::Group(GroupId::new(group + 1).expect("small"));
            count.missed += many.say(node, conv, n % u64::from(SPEAKERS), &readers);
        }
        many.tick();
        1000 * many.delivered / needed
    };
    let first = talk(GROUPS);
    count.group = talk(MESSAGES / 10);
    assert!(first > 10 * count.group, "{first}: the first ones go to all");
    count
}
