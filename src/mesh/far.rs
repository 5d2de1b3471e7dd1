//! Where shards and the thread of the cluster meet.
//!
//! Owns: the queues from all shards to that thread, one for messages, one for messages that are
//! kept nowhere, and one for words that may be lost; one to each shard, and the counters by which
//! it knows for whom there are sessions here.
//! Never: waits, and never exists without other gateways. Never lets what may be lost take the
//! place of what may not.
//! Bounds: [`FAR_OUT_MAX`], [`FAR_OUT_BYTES_MAX`], [`FAR_SAID_MAX`], [`FAR_SAID_BYTES_MAX`] and
//! [`FAR_WORDS_MAX`] out, [`FAR_IN_MAX`] for each shard in, of which [`FAR_IN_ROWS`] are left to
//! messages. What a full queue refuses is counted, and found in the database if it is there.

use std::hash::BuildHasher;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};

use crossbeam_channel::{Receiver, Sender, bounded};
use foldhash::fast::FixedState;
use hashbrown::{HashMap, HashSet};
use parking_lot::Mutex;

use super::Mesh;
use super::waker::ShardWaker;
use crate::ids::{GroupId, ShardId, UserId};
use crate::limits::{
    FAR_CHANGED_MAX, FAR_HERE_SLOTS, FAR_IN_MAX, FAR_IN_ROWS, FAR_IN_SAID_MAX, FAR_IN_WORDS_MAX, FAR_MEMBERS_MAX,
    FAR_OUT_BYTES_MAX, FAR_OUT_MAX, FAR_SAID_BYTES_MAX, FAR_SAID_MAX, FAR_WORDS_MAX,
};
use crate::shard::{FarIn, FarOut, FarRow, FarSaid, FarWord, Whom};

/// For whom there are sessions on this gateway: counters that several of them share, so it may say
/// yes where there is none, and never no where there is one.
#[derive(Debug)]
pub struct Here {
    slots: Box<[AtomicU32]>,
}

impl Here {
    fn new() -> Self {
        Self { slots: (0..FAR_HERE_SLOTS).map(|_| AtomicU32::new(0)).collect() }
    }

    fn slot(&self, whom: Whom) -> Option<&AtomicU32> {
        let hash = FixedState::with_seed(0x6865_7265).hash_one(whom);
        self.slots.get(usize::try_from(hash).unwrap_or(usize::MAX) % self.slots.len())
    }

    fn note(&self, whom: Whom, on: bool) {
        let Some(slot) = self.slot(whom) else { return };
        if on {
            slot.fetch_add(1, Ordering::SeqCst);
        } else {
            slot.fetch_sub(1, Ordering::SeqCst);
        }
    }

    /// Whether a session of that user, or of a member of that group, may be here.
    #[must_use]
    pub fn has(&self, whom: Whom) -> bool {
        self.slot(whom).is_some_and(|slot| slot.load(Ordering::SeqCst) > 0)
    }
}

/// What is on its way from shards to the thread of the cluster.
#[derive(Debug, Default)]
struct Load {
    bytes: AtomicUsize,
    dropped: AtomicU64,
    said_bytes: AtomicUsize,
    said_dropped: AtomicU64,
    words_dropped: AtomicU64,
}

/// Wakes the thread of the cluster; cheap, and never waits.
pub type Wake = Arc<dyn Fn() + Send + Sync>;

/// The users of a shard that have come or gone since the thread of the cluster has looked, and how
/// it stands.
type Changed = Arc<Mutex<Users>>;

#[derive(Debug)]
enum Users {
    /// At most [`FAR_CHANGED_MAX`] of them.
    Changed(HashMap<UserId, bool>),
    /// There were more: the shard is to tell all that are there.
    Lost,
    /// It has told them.
    All(HashSet<UserId>),
}

impl Default for Users {
    fn default() -> Self {
        Self::Changed(HashMap::new())
    }
}

impl Users {
    fn note(&mut self, user: UserId, on: bool) {
        match self {
            Self::Changed(users) => {
                users.insert(user, on);
                if users.len() > FAR_CHANGED_MAX {
                    *self = Self::Lost;
                }
            }
            Self::Lost => {}
            Self::All(users) if on => {
                users.insert(user);
            }
            Self::All(users) => {
                users.remove(&user);
            }
        }
    }
}

/// What has become of the users of all shards since the last look.
#[derive(Debug, Default)]
pub struct Movements {
    /// Those that have come or gone.
    pub changed: Vec<(UserId, bool)>,
    /// Shards that have told all that are there.
    pub all: Vec<(ShardId, Vec<UserId>)>,
}

/// The groups of which a first member has come to a shard since then; `None`: so many that it may
/// be any.
type Members = Arc<Mutex<Option<HashSet<GroupId>>>>;

/// A shard's end.
pub(super) struct FarEndpoint {
    out: Sender<Box<FarRow>>,
    said: Sender<Box<FarSaid>>,
    words: Sender<FarWord>,
    wake: Wake,
    /// Something was put into a queue since the last [`FarEndpoint::ring`].
    told: bool,
    load: Arc<Load>,
    here: Arc<Here>,
    changed: Changed,
    members: Members,
    inbox: Receiver<FarIn>,
}

impl FarEndpoint {
    pub(super) fn tell(&mut self, what: FarOut) {
        let row = match what {
            FarOut::Here { whom, on } => {
                // First: the thread that hears of the newcomer may look at once, and would tell the
                // others that none is here.
                self.here.note(whom, on);
                match whom {
                    Whom::User(user) => {
                        self.changed.lock().note(user, on);
                    }
                    Whom::Group(group) if on => note_member(&self.members, group),
                    Whom::Group(_) => {}
                }
                return;
            }
            FarOut::Word(word) => {
                if self.words.try_send(word).is_err() {
                    self.load.words_dropped.fetch_add(1, Ordering::Relaxed);
                }
                self.told = true;
                return;
            }
            FarOut::Said(said) => {
                let bytes = said_size(&said);
                give(&self.said, said, (bytes, FAR_SAID_BYTES_MAX), &self.load.said_bytes, &self.load.said_dropped);
                self.told = true;
                return;
            }
            FarOut::Census { users } => {
                *self.changed.lock() = Users::All(users.into_iter().collect());
                return;
            }
            FarOut::Row(row) => row,
        };
        let bytes = size(&row);
        give(&self.out, row, (bytes, FAR_OUT_BYTES_MAX), &self.load.bytes, &self.load.dropped);
        self.told = true;
    }

    /// Wakes the thread of the cluster for all that was told in a turn: woken for the first row of
    /// a commit, it would send an envelope for that alone.
    pub(super) fn ring(&mut self) {
        if std::mem::take(&mut self.told) {
            (self.wake)();
        }
    }

    pub(super) fn next(&self) -> Option<FarIn> {
        self.inbox.try_recv().ok()
    }

    pub(super) fn has_mail(&self) -> bool {
        !self.inbox.is_empty()
    }
}

fn note_member(members: &Members, group: GroupId) {
    let mut members = members.lock();
    if let Some(groups) = members.as_mut() {
        groups.insert(group);
        if groups.len() > FAR_MEMBERS_MAX {
            *members = None;
        }
    }
}

/// Puts something into a queue, or counts that there was no room for it or its bytes.
fn give<T>(to: &Sender<T>, what: T, (bytes, most): (usize, usize), held: &AtomicUsize, dropped: &AtomicU64) {
    let before = held.fetch_add(bytes, Ordering::Relaxed);
    if before + bytes > most || to.try_send(what).is_err() {
        held.fetch_sub(bytes, Ordering::Relaxed);
        dropped.fetch_add(1, Ordering::Relaxed);
    }
}

fn said_size(said: &FarSaid) -> usize {
    size_of::<FarSaid>() + said.body.len()
}

fn size(row: &FarRow) -> usize {
    size_of::<FarRow>() + row.row.body.len()
}

/// What shards have told, to be read by the thread of the cluster.
pub struct Outgoing {
    rows: Receiver<Box<FarRow>>,
    said: Receiver<Box<FarSaid>>,
    words: Receiver<FarWord>,
    load: Arc<Load>,
}

impl Outgoing {
    /// At most `max` of the rows that wait.
    #[must_use]
    pub fn take(&self, max: usize) -> Vec<Box<FarRow>> {
        let rows: Vec<_> = self.rows.try_iter().take(max).collect();
        let bytes: usize = rows.iter().map(|row| size(row)).sum();
        self.load.bytes.fetch_sub(bytes, Ordering::Relaxed);
        rows
    }

    /// At most `max` of the messages that are kept nowhere.
    #[must_use]
    pub fn take_said(&self, max: usize) -> Vec<Box<FarSaid>> {
        let said: Vec<_> = self.said.try_iter().take(max).collect();
        let bytes: usize = said.iter().map(|said| said_size(said)).sum();
        self.load.said_bytes.fetch_sub(bytes, Ordering::Relaxed);
        said
    }

    /// At most `max` of the words that wait.
    #[must_use]
    pub fn take_words(&self, max: usize) -> Vec<FarWord> {
        self.words.try_iter().take(max).collect()
    }

    /// Rows that found the queue full so far.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.load.dropped.load(Ordering::Relaxed)
    }

    /// The same of messages that are kept nowhere.
    #[must_use]
    pub fn said_dropped(&self) -> u64 {
        self.load.said_dropped.load(Ordering::Relaxed)
    }

    /// The same of words.
    #[must_use]
    pub fn words_dropped(&self) -> u64 {
        self.load.words_dropped.load(Ordering::Relaxed)
    }
}

/// The cluster's end.
pub struct FarEnd {
    /// What shards tell.
    pub out: Outgoing,
    /// For whom there are sessions here.
    pub here: Arc<Here>,
    to: Vec<Sender<FarIn>>,
    changed: Vec<Changed>,
    members: Members,
    wakers: Arc<[ShardWaker]>,
}

impl FarEnd {
    /// How many shards there are.
    #[must_use]
    pub fn shards(&self) -> u16 {
        u16::try_from(self.to.len()).unwrap_or(u16::MAX)
    }

    /// The users that have got their first session here, or have none any more, since the last
    /// call. A shard of which they are not known is asked.
    #[must_use]
    pub fn take_movements(&self) -> Movements {
        let mut movements = Movements::default();
        for (shard, changed) in (0..).map(ShardId).zip(&self.changed) {
            let mut users = changed.lock();
            if matches!(*users, Users::Lost) {
                // Refused: it is asked again next time.
                let _ = self.give(shard, FarIn::Census);
                continue;
            }
            match std::mem::take(&mut *users) {
                Users::Changed(users) => movements.changed.extend(users),
                Users::All(users) => movements.all.push((shard, users.into_iter().collect())),
                Users::Lost => {}
            }
        }
        movements
    }

    /// The groups of which a first member has come to a shard since the last call, if there are
    /// any. An empty list: so many that it may be any.
    #[must_use]
    pub fn take_members(&self) -> Option<Vec<GroupId>> {
        let members = self.members.lock().replace(HashSet::new());
        members.map_or(Some(Vec::new()), |groups| (!groups.is_empty()).then(|| groups.into_iter().collect()))
    }

    /// Gives something to a shard; it is woken by [`FarEnd::wake`].
    ///
    /// # Errors
    /// Gives it back when [`FAR_IN_MAX`] wait there already, what is no message when fewer do, or
    /// the shard has ended.
    pub fn give(&self, shard: ShardId, what: FarIn) -> Result<(), FarIn> {
        let Some(to) = self.to.get(usize::from(shard.0)) else { return Err(what) };
        let most = match &what {
            FarIn::Row(_) => FAR_IN_MAX,
            FarIn::Head { .. }
            | FarIn::Elsewhere { .. }
            | FarIn::Census
            | FarIn::Covered
            | FarIn::Ahead { .. }
            | FarIn::Alone { .. } => FAR_IN_MAX - FAR_IN_ROWS,
            FarIn::Word(_) => FAR_IN_WORDS_MAX,
            FarIn::Said(_) => FAR_IN_SAID_MAX,
        };
        // The thread of the cluster alone puts something in, so there is no more than it sees.
        if to.len() >= most {
            return Err(what);
        }
        to.try_send(what).map_err(crossbeam_channel::TrySendError::into_inner)
    }

    /// How many numbers a shard has room for.
    #[must_use]
    pub fn room(&self, shard: ShardId) -> usize {
        let waiting = self.to.get(usize::from(shard.0)).map_or(FAR_IN_MAX, Sender::len);
        (FAR_IN_MAX - FAR_IN_ROWS).saturating_sub(waiting)
    }

    /// Wakes the shards that have mail.
    pub fn wake(&self) {
        for (to, waker) in self.to.iter().zip(self.wakers.iter()) {
            if !to.is_empty() {
                waker.wake();
            }
        }
    }
}

impl<H> Mesh<H> {
    /// Links the shards with other gateways, before their threads begin; `wake` is called when
    /// there is something to take.
    pub fn join_cluster(&mut self, wake: Wake) -> FarEnd {
        let ((out, rows), (words, words_out)) = (bounded(FAR_OUT_MAX), bounded(FAR_WORDS_MAX));
        let (said, said_out) = bounded(FAR_SAID_MAX);
        let (load, here) = (Arc::new(Load::default()), Arc::new(Here::new()));
        let members: Members = Arc::new(Mutex::new(Some(HashSet::new())));
        let (mut to, mut all_changed) = (Vec::new(), Vec::new());
        for (_, endpoint) in &mut self.endpoints {
            let (sender, inbox) = bounded(FAR_IN_MAX);
            to.push(sender);
            let changed = Changed::default();
            all_changed.push(Arc::clone(&changed));
            endpoint.far = Some(FarEndpoint {
                out: out.clone(),
                said: said.clone(),
                words: words.clone(),
                wake: Arc::clone(&wake),
                told: false,
                load: Arc::clone(&load),
                here: Arc::clone(&here),
                changed,
                members: Arc::clone(&members),
                inbox,
            });
        }
        let wakers = self.endpoints.first().map_or_else(|| Arc::from([]), |(_, endpoint)| Arc::clone(&endpoint.wakers));
        FarEnd {
            out: Outgoing { rows, said: said_out, words: words_out, load },
            here,
            to,
            changed: all_changed,
            members,
            wakers,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mesh::build;

    fn user(n: usize) -> UserId {
        UserId::new(n as u64 + 1).expect("small")
    }

    #[test]
    fn the_thread_of_the_cluster_is_woken_once_for_a_turn() {
        let mut mesh = build::<()>(1).expect("descriptors");
        let woken = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&woken);
        let end = mesh.join_cluster(Arc::new(move || {
            count.fetch_add(1, Ordering::Relaxed);
        }));
        let (_, endpoint) = &mut mesh.endpoints[0];
        for n in 0..3 {
            endpoint.tell_far(FarOut::Word(FarWord::Disconnect { user: user(n) }));
        }
        assert_eq!(woken.load(Ordering::Relaxed), 0, "the turn goes on");
        endpoint.flush(0);
        endpoint.flush(0);
        assert_eq!((woken.load(Ordering::Relaxed), end.out.take_words(9).len()), (1, 3));
    }

    #[test]
    fn more_changes_than_are_kept_end_in_a_list_of_all() {
        let mut users = Users::default();
        (0..FAR_CHANGED_MAX).for_each(|n| users.note(user(n), true));
        users.note(user(0), false);
        assert!(matches!(&users, Users::Changed(changed) if changed.len() == FAR_CHANGED_MAX && !changed[&user(0)]));
        users.note(user(FAR_CHANGED_MAX), true);
        assert!(matches!(users, Users::Lost), "one too many");
        users.note(user(1), false);
        assert!(matches!(users, Users::Lost), "until the shard has told all");
        users = Users::All([user(1), user(2)].into_iter().collect());
        users.note(user(1), false);
        users.note(user(3), true);
        let Users::All(all) = users else { panic!("it is a list") };
        assert_eq!(all, [user(2), user(3)].into_iter().collect::<HashSet<_>>(), "as it stands by now");
    }

    /// Otherwise the thread of the cluster tells the others that a member is here, hears of the
    /// group, and answers that none is, for good.
    #[test]
    fn whoever_is_told_that_somebody_has_come_finds_them_here() {
        let mut mesh = build::<()>(2).expect("descriptors");
        let end = mesh.join_cluster(Arc::new(|| {}));
        let (group, user) = (Whom::Group(GroupId::new(5).expect("small")), Whom::User(user(5)));
        // While it cannot be told it is so already.
        let locks = (end.members.lock(), end.changed[1].lock());
        let endpoints = std::mem::take(&mut mesh.endpoints).into_iter().zip([group, user]);
        let shards: Vec<_> = endpoints
            .map(|((_, mut endpoint), whom)| {
                std::thread::spawn(move || endpoint.tell_far(FarOut::Here { whom, on: true }))
            })
            .collect();
        let began = std::time::Instant::now();
        while !(end.here.has(group) && end.here.has(user)) {
            assert!(began.elapsed().as_secs() < 10, "it is told first");
            std::thread::yield_now();
        }
        drop(locks);
        shards.into_iter().for_each(|shard| shard.join().expect("it ends"));
        assert_eq!((end.take_members().map(|all| all.len()), end.take_movements().changed.len()), (Some(1), 1));
    }
}
