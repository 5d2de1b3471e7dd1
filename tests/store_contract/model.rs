//! Random writes against a plain model that shares no code with any backend.

use std::collections::{BTreeMap, HashMap, HashSet};

use imgate::ids::{ConvId, GroupId, Seq, UserId};
use imgate::store::{Recall, Refusal, Retention, Write, Written};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::*;

/// Users 1 to 3 exist, 4 does not.
const USERS: u64 = 3;
/// Groups 1 and 2 exist, 3 does not.
const GROUPS: u64 = 2;
/// Messages of each conversation that now and then survive.
const KEPT: u64 = 3;

/// What is left of a recalled message; no message begins with it.
const BLANK: u8 = 200;

#[derive(Clone, Debug)]
enum Op {
    Append {
        to: To,
        sender: u64,
        cid: u8,
    },
    /// Of the message with that number, as long as it is not `BLANK`.
    Recall {
        to: To,
        sender: u64,
        cid: u8,
        seq: u64,
    },
    Head {
        to: To,
    },
    Join {
        group: u64,
        user: u64,
    },
    Leave {
        group: u64,
        user: u64,
    },
    Cursor {
        to: To,
        user: u64,
        recv: u64,
        read: u64,
    },
}

#[derive(Clone, Copy, Debug)]
enum To {
    User(u64),
    Group(u64),
}

fn gid(raw: u64) -> GroupId {
    GroupId::new(raw).expect("a test's id is in range")
}

fn op() -> impl Strategy<Value = Op> {
    let to = || prop_oneof![(1..=USERS + 1).prop_map(To::User), (1..=GROUPS + 1).prop_map(To::Group)];
    let pair = || (1..=GROUPS + 1, 1..=USERS + 1);
    prop_oneof![
        6 => (to(), 1..=USERS, 0..12u8).prop_map(|(to, sender, cid)| Op::Append { to, sender, cid }),
        3 => (to(), 1..=USERS, 0..12u8, 1..7u64)
            .prop_map(|(to, sender, cid, seq)| Op::Recall { to, sender, cid, seq }),
        1 => to().prop_map(|to| Op::Head { to }),
        2 => pair().prop_map(|(group, user)| Op::Join { group, user }),
        1 => pair().prop_map(|(group, user)| Op::Leave { group, user }),
        2 => (to(), 1..=USERS, 0..9u64, 0..9u64)
            .prop_map(|(to, user, recv, read)| Op::Cursor { to, user, recv, read }),
    ]
}

/// What an answer says, without the id, which the model cannot know.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Said {
    Stored(u64),
    Duplicate(ConvId, u64),
    Refused(Refusal),
    Head(u64),
    Joined(u64, bool),
    Left(bool),
    Kept,
}

#[derive(Default)]
struct Model {
    convs: BTreeMap<ConvId, Vec<(UserId, u8)>>,
    claims: HashMap<(u64, u8), (ConvId, u64)>,
    members: BTreeMap<(u64, u64), u64>,
    /// The last membership of who is none any more: from where to where.
    past: BTreeMap<(u64, u64), (u64, u64)>,
    /// User and conversation to what was received and read; gone with the membership.
    cursors: HashMap<(u64, ConvId), (u64, u64)>,
    /// Messages that retention took from the beginning.
    gone: HashMap<ConvId, u64>,
    /// Messages that take others back.
    recalls: HashSet<(ConvId, u64)>,
}

impl Model {
    fn head(&self, conv: ConvId) -> u64 {
        self.convs.get(&conv).map_or(0, |rows| rows.len() as u64)
    }

    /// After which message `user` may read; `None`: not at all.
    fn since(&self, conv: ConvId, user: u64) -> Option<u64> {
        match conv {
            ConvId::Direct { lo, hi } => (lo == uid(user) || hi == uid(user)).then_some(0),
            ConvId::Group(group) => self.members.get(&(group.get(), user)).copied(),
        }
    }

    fn trim(&mut self, count: u64) {
        for (&conv, rows) in &self.convs {
            let gone = self.gone.entry(conv).or_default();
            *gone = (*gone).max((rows.len() as u64).saturating_sub(count));
        }
    }

    fn gone(&self, conv: ConvId) -> u64 {
        self.gone.get(&conv).copied().unwrap_or_default()
    }

    /// What `user` is told of its conversations, by conversation: head, floor, received, read, unread.
    fn heads(&self, user: u64) -> BTreeMap<ConvId, [u64; 5]> {
        let state = |(&conv, rows): (&ConvId, &Vec<(UserId, u8)>)| {
            let since = self.since(conv, user)?;
            let (recv, read) = self.cursors.get(&(user, conv)).copied().unwrap_or_default();
            let (recv, read) = (recv.max(since), read.max(since));
            let gone = self.gone(conv);
            let unread = (1..).zip(rows).skip(read.max(gone) as usize).filter(|&(seq, &(sender, body))| {
                sender != uid(user) && body != BLANK && !self.recalls.contains(&(conv, seq))
            });
            Some((conv, [rows.len() as u64, since.max(gone) + 1, recv, read, unread.count() as u64]))
        };
        self.convs.iter().filter_map(state).collect()
    }

    fn apply(&mut self, op: &Op) -> Said {
        match *op {
            Op::Head { to } => Said::Head(self.head(conv(to, 1))),
            // As the groups are made.
            Op::Leave { group, user } if group == user && group <= GROUPS => Said::Refused(Refusal::Owner),
            Op::Leave { group, user } => {
                self.cursors.remove(&(user, ConvId::Group(gid(group))));
                let since = self.members.remove(&(group, user));
                let until = self.head(ConvId::Group(gid(group)));
                self.past.extend(since.map(|since| ((group, user), (since, until))));
                Said::Left(since.is_some())
            }
            Op::Cursor { to, user, recv, read } => {
                let conv = conv(to, user);
                let head = self.head(conv);
                if self.since(conv, user).is_some() {
                    let kept = self.cursors.entry((user, conv)).or_default();
                    *kept = (kept.0.max(recv.min(head)), kept.1.max(read.min(head)));
                }
                Said::Kept
            }
            Op::Join { group, .. } if group > GROUPS => Said::Refused(Refusal::NoSuchGroup),
            Op::Join { user, .. } if user > USERS => Said::Refused(Refusal::NoSuchUser),
            Op::Join { group, user } => match self.members.get(&(group, user)) {
                Some(&since) => Said::Joined(since, true),
                None => {
                    let since = self.head(ConvId::Group(gid(group)));
                    self.members.insert((group, user), since);
                    Said::Joined(since, false)
                }
            },
            Op::Append { to, sender, cid } => self.append(to, sender, cid, None),
            Op::Recall { to, sender, cid, seq } => self.append(to, sender, cid, Some(seq)),
        }
    }

    /// Whether the message is there, and the sender's own.
    fn may_recall(&self, to: To, sender: u64, recalled: Option<u64>) -> bool {
        let Some(seq) = recalled else { return false };
        let conv = conv(to, sender);
        let row = self.convs.get(&conv).and_then(|rows| rows.get(seq as usize - 1));
        seq > self.gone(conv) && row.is_some_and(|(author, body)| *author == uid(sender) && *body != BLANK)
    }

    fn append(&mut self, to: To, sender: u64, cid: u8, recalled: Option<u64>) -> Said {
        if let Some(&(conv, seq)) = self.claims.get(&(sender, cid)) {
            return Said::Duplicate(conv, seq);
        }
        match to {
            To::User(user) if user > USERS => return Said::Refused(Refusal::NoSuchUser),
            To::Group(group) if group > GROUPS => return Said::Refused(Refusal::NoSuchGroup),
            To::Group(group)
                if !self.members.contains_key(&(group, sender)) && !self.may_recall(to, sender, recalled) =>
            {
                return Said::Refused(Refusal::NotMember);
            }
            _ => {}
        }
        let conv = conv(to, sender);
        if let Some(seq) = recalled {
            let gone = self.gone(conv);
            let row = self.convs.get_mut(&conv).and_then(|rows| rows.get_mut(seq as usize - 1));
            match row.filter(|_| seq > gone) {
                None => return Said::Refused(Refusal::NoSuchMessage),
                Some((author, _)) if *author != uid(sender) => return Said::Refused(Refusal::NotYours),
                Some((_, BLANK)) => return Said::Refused(Refusal::NoSuchMessage),
                Some((_, body)) => *body = BLANK,
            }
        }
        self.convs.entry(conv).or_default().push((uid(sender), cid));
        let seq = self.head(conv);
        if recalled.is_some() {
            self.recalls.insert((conv, seq));
        }
        self.claims.insert((sender, cid), (conv, seq));
        Said::Stored(seq)
    }
}

fn conv(to: To, sender: u64) -> ConvId {
    match to {
        To::User(user) => ConvId::direct(uid(sender), uid(user)),
        To::Group(group) => ConvId::Group(gid(group)),
    }
}

fn write(op: &Op) -> Write {
    match *op {
        Op::Append { to, sender, cid } => post(conv(to, sender), sender, &cid.to_string()),
        Op::Recall { to, sender, cid, seq } => {
            let key = PostKey::Client(cid.to_string().into());
            let body = cid.to_string().into();
            let message = NewMessage { conv: conv(to, sender), sender: uid(sender), key, ts_ms: 1_000, body };
            let seq = Seq::new(seq).expect("in range");
            Write::Recall(Box::new(Recall {
                message,
                seq,
                blank: BLANK.to_string().into(),
                spared: "a line",
                within_ms: 0,
            }))
        }
        Op::Head { to } => Write::Head(conv(to, 1)),
        Op::Join { group, user } => Write::Join { group: gid(group), user: uid(user) },
        Op::Leave { group, user } => Write::Leave { group: gid(group), user: uid(user) },
        Op::Cursor { to, user, recv, read } => {
            let seq = |raw| Seq::new(raw).expect("in range");
            Write::Cursor { user: uid(user), conv: conv(to, user), recv: seq(recv), read: seq(read) }
        }
    }
}

fn said(written: &Written) -> Said {
    match *written {
        Written::Stored { seq, .. } => Said::Stored(seq.get()),
        Written::Duplicate { conv, seq, .. } => Said::Duplicate(conv, seq.get()),
        Written::Refused(refusal) => Said::Refused(refusal),
        Written::Head { head } => Said::Head(head.get()),
        Written::Joined { since, already } => Said::Joined(since.get(), already),
        Written::Left { was_member } => Said::Left(was_member),
        Written::Kept => Said::Kept,
    }
}

pub(super) fn random_writes_agree_with_a_plain_model(site: &Site) {
    // A case on SQLite is a new file and some ten syncs.
    let cases = if matches!(site, Site::Memory(_)) { 256 } else { 32 };
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let batches = vec(vec(op(), 1..12), 1..12);
    TestRunner::new(config)
        .run(&batches, |batches| {
            // A fresh database for each case, of the same sort.
            match site {
                Site::Memory(_) => check(&Site::memory(), &batches),
                Site::Sqlite(_) => check(&Site::sqlite(), &batches),
                Site::Mysql(_) => check(&Site::mysql().expect("there was one"), &batches),
            }
            Ok(())
        })
        .unwrap_or_else(|e| panic!("{e}"));
}

fn check(site: &Site, batches: &[Vec<Op>]) {
    let mut model = Model::default();
    let mut db = site.connect();
    users(&mut *db, USERS);
    for owner in 1..=GROUPS {
        assert_eq!(group(&mut *db, uid(owner)), gid(owner));
        model.members.insert((owner, owner), 0);
    }
    let mut ids = HashSet::new();
    for (n, batch) in batches.iter().enumerate() {
        let writes: Vec<Write> = batch.iter().map(write).collect();
        let written = commit(&mut *db, &writes);
        for (op, written) in batch.iter().zip(&written) {
            assert_eq!(said(written), model.apply(op), "{op:?}");
            if let Written::Stored { id, .. } = written {
                assert!(ids.insert(*id), "{id} twice");
            }
        }
        if n % 4 == 2 {
            let keep = Retention { count: KEPT, ..Retention::default() };
            while !db.trim(&keep, 5).expect("trimmed").done {}
            model.trim(KEPT);
        }
        if n % 4 == 3 {
            drop(db);
            db = site.connect();
        }
    }
    for (&conv, rows) in &model.convs {
        let page = all(&mut *db, conv);
        let found: Vec<(UserId, u8)> =
            page.rows.iter().map(|row| (row.sender, row.body.parse().expect("a number"))).collect();
        let gone = model.gone(conv);
        assert_eq!(found, rows[gone as usize..]);
        assert_eq!(seqs(&page), (gone + 1..=rows.len() as u64).collect::<Vec<_>>());
        assert_eq!(page.head.get(), rows.len() as u64);
    }
    check_heads(&model, &mut *db);
    for group in 1..=GROUPS {
        for user in 1..=USERS {
            let conv = ConvId::Group(gid(group));
            let answer = read(&mut *db, conv, Some(user), PageStart::After(Seq::ZERO), 200);
            let member = model.members.get(&(group, user)).map(|&since| (since, model.head(conv)));
            let span = member.or_else(|| model.past.get(&(group, user)).copied());
            let expected: Option<Vec<u64>> =
                span.map(|(since, until)| (since.max(model.gone(conv)) + 1..=until).collect());
            match (answer, expected) {
                (ReadAnswer::Page(page), Some(expected)) => assert_eq!(seqs(&page), expected),
                (ReadAnswer::Refused(refusal), None) => assert_eq!(refusal, Refusal::NotMember),
                (answer, expected) => panic!("{answer:?} instead of {expected:?}"),
            }
        }
    }
}

/// All users in one batch.
fn check_heads(model: &Model, db: &mut dyn Backend) {
    let reads: Vec<Read> =
        (1..=USERS).map(|user| Read::Heads { user: uid(user), before: None, missed: false, max: 200 }).collect();
    for (user, answer) in (1..).zip(db.read(&reads).expect("read")) {
        let ReadAnswer::Heads(heads) = answer else { panic!("{answer:?}") };
        let found: BTreeMap<ConvId, [u64; 5]> = heads
            .convs
            .iter()
            .map(|s| (s.conv, [s.head.get(), s.floor.get(), s.recv.get(), s.read.get(), s.unread]))
            .collect();
        assert_eq!(found, model.heads(user), "user {user}");
        assert!(heads.convs.is_sorted_by_key(|state| std::cmp::Reverse((state.ts_ms, state.conv))));
    }
}
