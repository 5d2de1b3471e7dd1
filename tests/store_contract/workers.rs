//! The store's threads: order, one answer for each ask, group commit, failing databases, the end.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, mpsc};
use std::thread;
use std::time::Duration;

use imgate::clock::Clock;
use imgate::ids::{ConvId, Seq, ShardId};
use imgate::limits::{
    COMMIT_BYTES_MAX, COMMIT_RETRY_MS_MAX, COMMIT_WRITES_FIRST, COMMIT_WRITES_MAX, STORE_CALLS_MAX, TRIM_STEPS_MAX,
};
use imgate::store::worker::{Lane, LanePlace, Replies, Reply, Store, Ticket};
use imgate::store::{
    Admissions, ApiKeys, Changes, Error, Files, Groups, Keep, Logins, Opened, People, PostKey, Retention, Seed, Seeded,
    Social, Trimmed, Write, Written,
};

use rustix::time::{ClockId, clock_gettime};

use super::*;

/// Of a call that is nobody's.
const PLACE: LanePlace = LanePlace::of(Lane::Light);

/// A test that waits longer has failed.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

/// What one call of [`Replies::settle`] brought.
pub(super) type Settled = (ShardId, Vec<(u32, Reply)>);

/// Keeps every answer.
#[derive(Default)]
pub(super) struct Sink {
    pub(super) settled: Mutex<Vec<Settled>>,
    grown: Condvar,
}

impl Replies for Sink {
    fn settle(&self, shard: ShardId, replies: Vec<(u32, Reply)>) {
        assert!(!replies.is_empty());
        self.settled.lock().expect("no panic").push((shard, replies));
        self.grown.notify_all();
    }
}

impl Sink {
    /// Waits for `n` answers in all and returns them by ask; none may come twice.
    pub(super) fn wait(&self, n: usize) -> HashMap<Ticket, Reply> {
        let answered = |settled: &[Settled]| settled.iter().map(|(_, r)| r.len()).sum::<usize>();
        let settled = self.settled.lock().expect("no panic");
        let (settled, timeout) =
            self.grown.wait_timeout_while(settled, PATIENCE, |s| answered(s) < n).expect("no panic");
        assert!(!timeout.timed_out(), "{} of {n} answers", answered(&settled));
        assert_eq!(answered(&settled), n, "more answers than asks");
        let mut by_ask = HashMap::new();
        for (shard, replies) in settled.iter() {
            for (ask, reply) in replies {
                let twice = by_ask.insert(Ticket { shard: *shard, ask: *ask }, reply.clone());
                assert_eq!(twice, None, "two answers to one ask");
            }
        }
        by_ask
    }

    fn settles(&self) -> Vec<(ShardId, usize)> {
        self.settled.lock().expect("no panic").iter().map(|(shard, replies)| (*shard, replies.len())).collect()
    }
}

/// What a faulty backend does with one commit.
#[derive(Clone, Copy, Debug)]
enum Fault {
    Unavailable,
    Broken,
    /// The answer is lost, the commit was done.
    UnknownDone,
    /// The answer is lost, and so is the commit.
    UnknownLost,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Did {
    Commit,
    /// A step that removed so many messages.
    Trim(u64),
}

/// How a test and its faulty backends talk.
#[derive(Default)]
pub(super) struct Script {
    /// For the next commits; empty: no fault.
    faults: Mutex<VecDeque<Fault>>,
    /// Every commit and ping fails.
    down: AtomicBool,
    /// Every commit of a message fails; a ping does not, and a commit of less.
    full: AtomicBool,
    /// Microseconds of CPU time that each write of a commit takes.
    write_us: AtomicU64,
    /// What a body, or the id of a user, must not be: what holds it breaks as a whole.
    poison: Mutex<Option<String>>,
    /// Sizes of the batches given to commit and to read.
    commits: Mutex<Vec<usize>>,
    reads: Mutex<Vec<usize>>,
    /// Commits and steps of retention, as they came.
    order: Mutex<Vec<Did>>,
    /// What the next commit or read waits for, if anything, after it has said that it waits.
    gate: Mutex<Option<(mpsc::Sender<()>, mpsc::Receiver<()>)>>,
}

impl Script {
    /// The next commit, read or step of retention waits until the returned sender is dropped; the receiver tells that it waits.
    pub(super) fn close_gate(&self) -> (mpsc::Receiver<()>, mpsc::Sender<()>) {
        let (waits, told) = mpsc::channel();
        let (open, opened) = mpsc::channel();
        *self.gate.lock().expect("no panic") = Some((waits, opened));
        (told, open)
    }

    fn pass_gate(&self) {
        let gate = self.gate.lock().expect("no panic").take();
        if let Some((waits, opened)) = gate {
            let _ = waits.send(());
            let _ = opened.recv_timeout(PATIENCE);
        }
    }

    fn poison(&self, what: &str) {
        *self.poison.lock().expect("no panic") = Some(what.to_owned());
    }

    fn is_poison(&self, what: &str) -> bool {
        self.poison.lock().expect("no panic").as_deref() == Some(what)
    }

    pub(super) fn writes_take(&self, us: u64) {
        self.write_us.store(us, Ordering::SeqCst);
    }

    /// Of the commits so far, in their order, how many writes each had.
    pub(super) fn commits(&self) -> Vec<usize> {
        self.commits.lock().expect("no panic").clone()
    }

    fn work(&self, writes: usize) {
        let cpu = || Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).expect("no negative time");
        let end = cpu() + Duration::from_micros(self.write_us.load(Ordering::SeqCst) * writes as u64);
        while cpu() < end {
            std::hint::spin_loop();
        }
    }

    fn fault(&self, faults: &[Fault]) {
        self.faults.lock().expect("no panic").extend(faults);
    }
}

/// Does what the script says, then what the backend does.
pub(super) struct Faulty {
    pub(super) backend: Box<dyn Backend>,
    pub(super) script: Arc<Script>,
}

impl Backend for Faulty {
    fn commit(&mut self, writes: &[Write]) -> Result<Vec<Written>, Error> {
        self.script.commits.lock().expect("no panic").push(writes.len());
        self.script.order.lock().expect("no panic").push(Did::Commit);
        self.script.pass_gate();
        self.script.work(writes.len());
        if self.script.down.load(Ordering::SeqCst) {
            return Err(Error::Unavailable("down".into()));
        }
        if self.script.full.load(Ordering::SeqCst) && writes.iter().any(|write| matches!(write, Write::Append(_))) {
            return Err(Error::Unavailable("full".into()));
        }
        let is_poison = |write: &Write| matches!(write, Write::Append(message) if self.script.is_poison(&message.body));
        if writes.iter().any(is_poison) {
            return Err(Error::Broken("poison".into()));
        }
        let fault = self.script.faults.lock().expect("no panic").pop_front();
        match fault {
            None => self.backend.commit(writes),
            Some(Fault::Unavailable) => Err(Error::Unavailable("a fault".into())),
            Some(Fault::Broken) => Err(Error::Broken("a fault".into())),
            Some(Fault::UnknownLost) => Err(Error::Unknown("a fault".into())),
            Some(Fault::UnknownDone) => {
                self.backend.commit(writes)?;
                Err(Error::Unknown("a fault".into()))
            }
        }
    }

    fn read(&mut self, reads: &[Read]) -> Result<Vec<ReadAnswer>, Error> {
        self.script.reads.lock().expect("no panic").push(reads.len());
        self.script.pass_gate();
        if self.script.down.load(Ordering::SeqCst) {
            return Err(Error::Unavailable("down".into()));
        }
        let is_poison = |read: &Read| matches!(read, Read::Open { user } if self.script.is_poison(&user.to_string()));
        if reads.iter().any(is_poison) {
            return Err(Error::Broken("poison".into()));
        }
        self.backend.read(reads)
    }

    fn user_queries(&self) -> u64 {
        self.backend.user_queries()
    }

    fn changes(&mut self, after: Option<u64>, max: u32) -> Result<Changes, Error> {
        self.backend.changes(after, max)
    }

    fn forget_changes(&mut self, max: u32) -> Result<u64, Error> {
        self.backend.forget_changes(max)
    }

    fn people(&mut self) -> &mut dyn People {
        self.backend.people()
    }

    fn groups(&mut self) -> &mut dyn Groups {
        self.backend.groups()
    }

    fn social(&mut self) -> &mut dyn Social {
        self.backend.social()
    }

    fn files(&mut self) -> &mut dyn Files {
        self.backend.files()
    }

    fn admissions(&mut self) -> &mut dyn Admissions {
        self.backend.admissions()
    }

    fn logins(&mut self) -> &mut dyn Logins {
        self.backend.logins()
    }

    fn api_keys(&mut self) -> &mut dyn ApiKeys {
        self.backend.api_keys()
    }

    fn seed(&mut self, seed: &Seed) -> Result<Seeded, Error> {
        self.backend.seed(seed)
    }

    fn trim(&mut self, retention: &Retention, steps_max: u32) -> Result<Trimmed, Error> {
        assert_eq!(steps_max, TRIM_STEPS_MAX);
        self.script.pass_gate();
        if self.script.down.load(Ordering::SeqCst) {
            return Err(Error::Unavailable("down".into()));
        }
        let trimmed = self.backend.trim(retention, steps_max)?;
        self.script.order.lock().expect("no panic").push(Did::Trim(trimmed.messages));
        Ok(trimmed)
    }

    fn ping(&mut self) -> Result<(), Error> {
        if self.script.down.load(Ordering::SeqCst) {
            return Err(Error::Unavailable("down".into()));
        }
        self.backend.ping()
    }
}

/// A running store of two shards on memory, with users 1 to 50.
pub(super) struct Rig {
    pub(super) store: Store,
    pub(super) sink: Arc<Sink>,
    pub(super) script: Arc<Script>,
    memory: Memory,
}

impl Rig {
    pub(super) fn new(writers: usize) -> Self {
        let memory = Memory::new();
        users(&mut memory.connect(), 50);
        Self::on(memory, Arc::default(), writers, Keep::default())
    }

    /// On what is there already.
    fn on(memory: Memory, script: Arc<Script>, writers: usize, keep: Keep) -> Self {
        let faulty = || -> Box<dyn Backend> {
            Box::new(Faulty { backend: Box::new(memory.connect()), script: Arc::clone(&script) })
        };
        let writers = (0..writers).map(|_| faulty()).collect();
        let opened = Opened { writers, readers: vec![faulty()], upkeep: None, keep };
        let sink = Arc::new(Sink::default());
        let replies: Arc<dyn Replies> = sink.clone();
        let store = Store::start(opened, 2, replies, Clock::start()).expect("threads");
        Self { store, sink, script, memory }
    }

    pub(super) fn post(&self, ask: u32, conv: ConvId, sender: u64, cid: &str) -> Ticket {
        let ticket = ticket(ask);
        self.store.write(ticket, post(conv, sender, cid));
        ticket
    }

    fn commits(&self) -> Vec<usize> {
        self.script.commits.lock().expect("no panic").clone()
    }

    /// Waits until `done`; the store's threads need no help to get there.
    fn until(&self, what: &str, done: impl Fn(&Self) -> bool) {
        let clock = Clock::start();
        while !done(self) {
            assert!(clock.now().mono_ms < PATIENCE.as_millis() as u64, "waited in vain: {what}");
            thread::yield_now();
        }
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.store.stop();
    }
}

/// Asks of both shards in turn.
pub(super) fn ticket(ask: u32) -> Ticket {
    Ticket { shard: ShardId((ask % 2) as u16), ask }
}

pub(super) fn pair() -> ConvId {
    ConvId::direct(uid(1), uid(2))
}

pub(super) fn written(reply: &Reply) -> Result<Written, Error> {
    match reply {
        Reply::Written(written) => written.clone(),
        Reply::Read(_) => panic!("a read's answer to a write"),
    }
}

fn is_unavailable(reply: &Reply) -> bool {
    matches!(written(reply), Err(Error::Unavailable(_)))
}

#[test]
fn order_holds_per_conversation_and_every_ask_has_one_answer() {
    const EACH: u32 = 2_000;
    let rig = Rig::new(3);
    rig.script.fault(&[Fault::Unavailable; 5]);
    // Two threads, each with conversations of its own.
    thread::scope(|scope| {
        for who in 0..2u32 {
            let rig = &rig;
            scope.spawn(move || {
                for n in 0..EACH {
                    let conv = ConvId::direct(uid(1 + u64::from(who)), uid(10 + u64::from(n % 7)));
                    rig.post(who * EACH + n, conv, 1 + u64::from(who), &n.to_string());
                }
            });
        }
    });
    let answers = rig.sink.wait(2 * EACH as usize);
    let mut last: BTreeMap<ConvId, u64> = BTreeMap::new();
    for ask in 0..2 * EACH {
        let conv = ConvId::direct(uid(1 + u64::from(ask / EACH)), uid(10 + u64::from(ask % EACH % 7)));
        let seq = stored(&written(&answers[&ticket(ask)]).expect("stored"));
        let last = last.entry(conv).or_default();
        assert_eq!(seq, *last + 1, "asked later, numbered later");
        *last = seq;
    }
    let gauges = rig.store.gauges();
    assert_eq!((gauges.rows, gauges.writes, gauges.commit_errors), (4_000, 4_000, 5));
    assert!(gauges.commits > 0 && gauges.commit_nanos_total >= gauges.commit_nanos_last && gauges.is_ready());
}

#[test]
fn a_commit_takes_what_has_gathered() {
    let rig = Rig::new(1);
    let (waits, open) = rig.script.close_gate();
    rig.post(0, pair(), 1, "first");
    waits.recv_timeout(PATIENCE).expect("the first commit runs");
    let many = COMMIT_WRITES_MAX as u32 + 10;
    for ask in 1..=many {
        rig.post(ask, pair(), 1, &ask.to_string());
    }
    assert_eq!(rig.store.gauges().writes_queued, many as usize);
    drop(open);
    rig.sink.wait(1 + many as usize);
    // How many the later ones take depends on what the first of them has cost.
    let (commits, settles) = (rig.commits(), rig.sink.settles());
    assert_eq!(commits[..2], [1, COMMIT_WRITES_FIRST], "it is not known what a write costs");
    assert_eq!(commits.iter().sum::<usize>(), 1 + many as usize);
    assert!(commits.len() > 2 && commits.iter().all(|&writes| writes <= COMMIT_WRITES_MAX), "{commits:?}");
    let half = COMMIT_WRITES_FIRST / 2;
    let expected = [(0, 1), (0, half), (1, half)].map(|(shard, n)| (ShardId(shard), n));
    assert_eq!(settles[..3], expected, "one answer per shard and commit");
    assert!(settles.len() < 2 * commits.len(), "{settles:?} of {commits:?}");
}

#[test]
fn a_commit_is_bounded_in_bytes() {
    let rig = Rig::new(1);
    let (waits, open) = rig.script.close_gate();
    rig.post(0, pair(), 1, "first");
    waits.recv_timeout(PATIENCE).expect("the first commit runs");
    let body: Arc<str> = "x".repeat(COMMIT_BYTES_MAX / 4).into();
    for ask in 1..=6 {
        let key = PostKey::Client(ask.to_string().into());
        let message = NewMessage { conv: pair(), sender: uid(1), key, ts_ms: 0, body: Arc::clone(&body) };
        rig.store.write(ticket(ask), Write::Append(message));
    }
    drop(open);
    rig.sink.wait(7);
    assert_eq!(rig.commits(), [1, 4, 2]);
}

#[test]
fn transient_errors_are_retried_in_order() {
    let rig = Rig::new(1);
    rig.script.fault(&[Fault::Unavailable, Fault::Unavailable]);
    for ask in 0..3 {
        rig.post(ask, pair(), 1, &ask.to_string());
    }
    let answers = rig.sink.wait(3);
    for ask in 0..3 {
        assert_eq!(stored(&written(&answers[&ticket(ask)]).expect("stored")), u64::from(ask) + 1);
    }
    assert_eq!(rig.store.gauges().commit_errors, 2);
    assert!(rig.store.gauges().is_ready());
}

#[test]
fn a_failing_database_is_told_in_bounded_time_and_found_well_again() {
    let rig = Rig::new(1);
    rig.script.down.store(true, Ordering::SeqCst);
    let clock = Clock::start();
    rig.post(0, pair(), 1, "a");
    assert!(is_unavailable(&rig.sink.wait(1)[&ticket(0)]));
    let retried_ms = clock.now().mono_ms;
    assert!(retried_ms >= COMMIT_RETRY_MS_MAX / 2, "given up after {retried_ms} ms");
    assert!(!rig.store.gauges().is_ready());

    // Known to fail: answered without the retries, mostly without a try.
    let tries = rig.commits().len();
    for ask in 1..=1_000 {
        rig.post(ask, pair(), 1, &ask.to_string());
        rig.sink.wait(1 + ask as usize);
    }
    let refused_ms = clock.now().mono_ms - retried_ms;
    let more = rig.commits().len() - tries;
    assert!(more < 100, "{more} tries for 1000 asks in {refused_ms} ms");

    // Nobody asks any more; a ping finds out.
    rig.script.down.store(false, Ordering::SeqCst);
    rig.until("ready again", |rig| rig.store.gauges().is_ready());
    rig.post(1_001, pair(), 1, "a");
    let answers = rig.sink.wait(1_002);
    assert_eq!(stored(&written(&answers[&ticket(1_001)]).expect("stored")), 1, "nothing refused was stored");

    // Well again: a transient error is retried as before.
    rig.script.fault(&[Fault::Unavailable]);
    rig.post(1_002, pair(), 1, "b");
    assert_eq!(stored(&written(&rig.sink.wait(1_003)[&ticket(1_002)]).expect("stored")), 2);
}

#[test]
fn neither_pings_nor_small_commits_make_a_full_disk_ready() {
    let rig = Rig::new(1);
    rig.script.full.store(true, Ordering::SeqCst);
    let mut asks = 0;
    let mut ask = |write: Write| {
        asks += 1;
        rig.store.write(ticket(asks), write);
        written(&rig.sink.wait(asks as usize)[&ticket(asks)])
    };
    let message = || post(pair(), 1, "a");
    assert!(ask(message()).is_err());
    assert!(!rig.store.gauges().is_ready());
    let mut small = 0;
    while small < 2 {
        assert!(ask(message()).is_err());
        small += u32::from(ask(Write::Head(pair())).is_ok());
        assert!(!rig.store.gauges().is_ready(), "after {small} small commits");
    }
    rig.script.full.store(false, Ordering::SeqCst);
    while ask(message()).is_err() {}
    assert!(rig.store.gauges().is_ready(), "a message was stored");
}

#[test]
fn after_a_ping_one_commit_decides() {
    let rig = Rig::new(1);
    rig.script.fault(&[Fault::Broken, Fault::Unavailable]);
    rig.post(0, pair(), 1, "a");
    assert!(matches!(written(&rig.sink.wait(1)[&ticket(0)]), Err(Error::Broken(_))), "not retried");
    rig.until("the ping", |rig| rig.store.gauges().is_ready());
    rig.post(1, pair(), 1, "a");
    assert!(is_unavailable(&rig.sink.wait(2)[&ticket(1)]), "the doubt is not worth a retry");
    assert_eq!(rig.commits(), [1, 1]);
    assert!(!rig.store.gauges().is_ready());
}

#[test]
fn one_broken_write_is_refused_alone() {
    const ASKS: u32 = 200;
    let rig = Rig::new(1);
    rig.script.poison("133");
    let (waits, open) = rig.script.close_gate();
    rig.post(0, pair(), 1, "0");
    waits.recv_timeout(PATIENCE).expect("the first commit runs");
    for ask in 1..ASKS {
        rig.post(ask, pair(), 1, &ask.to_string());
    }
    drop(open);
    let answers = rig.sink.wait(ASKS as usize);
    let mut seq = 0;
    for ask in 0..ASKS {
        match written(&answers[&ticket(ask)]) {
            Err(Error::Broken(_)) if ask == 133 => {}
            answer => {
                seq += 1;
                assert_eq!(stored(&answer.expect("stored")), seq, "in order, without a hole");
            }
        }
    }
    assert!(rig.store.gauges().is_ready(), "it is not the database");
    assert!(rig.commits().len() < 20, "{:?}", rig.commits());

    // Alone, too; as long as other writes are stored in between.
    for n in 0..3 {
        rig.post(1_000 + 2 * n, pair(), 1, "133");
        rig.sink.wait((ASKS + 1 + 2 * n) as usize);
        assert!(rig.store.gauges().is_ready());
        rig.post(1_001 + 2 * n, pair(), 1, &format!("well {n}"));
        let answers = rig.sink.wait((ASKS + 2 + 2 * n) as usize);
        assert_eq!(stored(&written(&answers[&ticket(1_001 + 2 * n)]).expect("stored")), seq + 1 + u64::from(n));
    }
}

#[test]
fn one_broken_read_is_refused_alone() {
    let rig = Rig::new(1);
    rig.script.poison("17");
    let (waits, open) = rig.script.close_gate();
    let ask = |ask: u32| {
        rig.store.read(ticket(ask), Read::Open { user: uid(u64::from(ask)) });
        rig.store.ring();
    };
    ask(1);
    waits.recv_timeout(PATIENCE).expect("the first read runs");
    (2..=40).for_each(ask);
    drop(open);
    let answers = rig.sink.wait(40);
    for ask in 1..=40 {
        let broken = matches!(answers[&ticket(ask)], Reply::Read(Err(Error::Broken(_))));
        assert_eq!(broken, ask == 17, "{:?}", answers[&ticket(ask)]);
    }
}

#[test]
fn an_unknown_outcome_is_passed_on_and_the_key_heals_it() {
    for (fault, stored_before) in [(Fault::UnknownDone, true), (Fault::UnknownLost, false)] {
        let rig = Rig::new(1);
        rig.script.fault(&[fault]);
        rig.post(0, pair(), 1, "a");
        assert!(matches!(written(&rig.sink.wait(1)[&ticket(0)]), Err(Error::Unknown(_))));
        rig.post(1, pair(), 1, "a");
        match written(&rig.sink.wait(2)[&ticket(1)]).expect("answered") {
            Written::Duplicate { seq, .. } => assert!(stored_before && seq.get() == 1),
            Written::Stored { seq, .. } => assert!(!stored_before && seq.get() == 1),
            other => panic!("{other:?}"),
        }
        assert_eq!(rig.memory.rows(pair()).len(), 1);
    }
}

#[test]
fn after_a_long_silence_one_try_decides() {
    let rig = Rig::new(1);
    rig.script.fault(&[Fault::UnknownLost, Fault::Unavailable]);
    let (waits, open) = rig.script.close_gate();
    rig.post(0, pair(), 1, "a");
    waits.recv_timeout(PATIENCE).expect("the commit runs");
    // Nothing comes: the silence itself is what is tested.
    assert!(waits.recv_timeout(Duration::from_millis(COMMIT_RETRY_MS_MAX)).is_err());
    drop(open);
    assert!(matches!(written(&rig.sink.wait(1)[&ticket(0)]), Err(Error::Unknown(_))));
    rig.post(1, pair(), 1, "a");
    assert!(is_unavailable(&rig.sink.wait(2)[&ticket(1)]), "another wait is not made longer by retries");
    assert_eq!(rig.commits(), [1, 1]);
    assert!(!rig.store.gauges().is_ready());
}

#[test]
fn a_call_runs_between_the_writes_around_it() {
    let rig = Rig::new(1);
    let (waits, open) = rig.script.close_gate();
    rig.post(0, pair(), 1, "a");
    waits.recv_timeout(PATIENCE).expect("the first commit runs");
    rig.post(1, pair(), 1, "b");
    let (tell, told) = mpsc::channel();
    let call = move |db: &mut dyn Backend| tell.send(all(db, pair()).head).expect("awaited");
    assert_eq!(rig.store.call(PLACE, Box::new(call)), Ok(()));
    rig.post(2, pair(), 1, "c");
    drop(open);
    assert_eq!(told.recv_timeout(PATIENCE).expect("it ran").get(), 2);
    rig.sink.wait(3);
    assert_eq!(rig.commits(), [1, 1, 1]);
}

#[test]
fn calls_are_refused_beyond_their_share_and_asks_are_not() {
    let rig = Rig::new(1);
    let (waits, open) = rig.script.close_gate();
    rig.post(0, pair(), 1, "a");
    waits.recv_timeout(PATIENCE).expect("the first commit runs");
    let (tell, told) = mpsc::channel();
    for _ in 0..STORE_CALLS_MAX {
        let tell = tell.clone();
        rig.store.call(PLACE, Box::new(move |_| tell.send(()).expect("awaited"))).expect("a place");
    }
    assert!(rig.store.call(PLACE, Box::new(|_| panic!("refused, so it must not run"))).is_err());
    rig.post(1, pair(), 1, "b");
    drop(open);
    for _ in 0..STORE_CALLS_MAX {
        told.recv_timeout(PATIENCE).expect("every call that was taken runs");
    }
    rig.sink.wait(2);
    let (tell, told) = mpsc::channel();
    rig.store.call(PLACE, Box::new(move |_| tell.send(()).expect("awaited"))).expect("the places are free again");
    told.recv_timeout(PATIENCE).expect("it ran");
}

#[test]
fn reads_that_gathered_are_given_together() {
    let rig = Rig::new(1);
    let (waits, open) = rig.script.close_gate();
    let ask = |ask: u32| {
        rig.store.read(ticket(ask), Read::Open { user: uid(1 + u64::from(ask)) });
        rig.store.ring();
    };
    ask(0);
    waits.recv_timeout(PATIENCE).expect("the first read runs");
    (1..30).for_each(ask);
    let (tell, told) = mpsc::channel();
    let query =
        move |db: &mut dyn Backend| tell.send(db.people().user(uid(3)).expect("works").is_some()).expect("awaited");
    rig.store.query(PLACE, Box::new(query)).expect("a place");
    (30..40).for_each(ask);
    drop(open);
    let answers = rig.sink.wait(40);
    assert!(answers.values().all(|a| matches!(a, Reply::Read(Ok(ReadAnswer::Open(_))))));
    assert!(told.recv_timeout(PATIENCE).expect("it ran"));
    assert_eq!(*rig.script.reads.lock().expect("no panic"), [1, 39]);
    let gauges = rig.store.gauges();
    assert_eq!((gauges.reads, gauges.read_batches, gauges.user_reads, gauges.user_queries), (40, 2, 40, 2));

    rig.script.down.store(true, Ordering::SeqCst);
    ask(40);
    assert!(matches!(rig.sink.wait(41)[&ticket(40)], Reply::Read(Err(Error::Unavailable(_)))));
    assert_eq!(rig.store.gauges().read_errors, 1);
}

/// A database whose conversation of users 1 and 2 has `n` messages.
pub(super) fn filled(n: u64) -> Memory {
    let memory = Memory::new();
    let db = &mut memory.connect();
    users(db, 50);
    let writes: Vec<Write> = (0..n).map(|k| post(pair(), 1, &format!("old {k}"))).collect();
    commit(db, &writes);
    memory
}

#[test]
fn retention_goes_on_between_commits() {
    const MESSAGES: u64 = 4_500;
    let script = Arc::new(Script::default());
    let (waits, open) = script.close_gate();
    let rig = Rig::on(filled(MESSAGES), Arc::clone(&script), 1, Keep { age_ms: 0, count: 10 });
    waits.recv_timeout(PATIENCE).expect("the first step is taken without any work");
    for ask in 0..5 {
        rig.post(ask, pair(), 2, &ask.to_string());
    }
    drop(open);
    let answers = rig.sink.wait(5);
    for ask in 0..5 {
        let seq = stored(&written(&answers[&ticket(ask)]).expect("stored"));
        assert_eq!(seq, MESSAGES + 1 + u64::from(ask), "numbers go on");
    }
    rig.until("the rest is removed", |rig| rig.memory.rows(pair()).len() == 10);
    let order = script.order.lock().expect("no panic").clone();
    let step = u64::from(TRIM_STEPS_MAX) - 1;
    assert_eq!(order[..3], [Did::Trim(step), Did::Commit, Did::Trim(step)], "what waits goes first");
    assert!(order[3..].iter().all(|did| matches!(did, Did::Trim(n) if *n <= step)), "{order:?}");
    rig.until("it is counted", |rig| rig.store.gauges().trimmed_messages == MESSAGES + 5 - 10);
    // Their keys were claimed in 1970.
    rig.until("so are the keys", |rig| rig.store.gauges().trimmed_keys == MESSAGES + 5);
    assert_eq!(rig.store.gauges().upkeep_errors, 0);
}

#[test]
fn retention_of_everything_takes_no_step() {
    let rig = Rig::on(filled(100), Arc::default(), 1, Keep::default());
    rig.post(0, pair(), 1, "new");
    rig.sink.wait(1);
    assert_eq!(*rig.script.order.lock().expect("no panic"), [Did::Commit]);
}

#[test]
fn a_failing_step_of_retention_refuses_nobody() {
    let script = Arc::new(Script::default());
    script.down.store(true, Ordering::SeqCst);
    let rig = Rig::on(filled(100), Arc::clone(&script), 2, Keep { age_ms: 0, count: 10 });
    rig.until("the step fails", |rig| rig.store.gauges().upkeep_errors == 1);
    script.down.store(false, Ordering::SeqCst);
    assert!(rig.store.gauges().is_ready(), "no commit has failed");
    rig.post(0, pair(), 1, "new");
    assert_eq!(stored(&written(&rig.sink.wait(1)[&ticket(0)]).expect("stored")), 101);
    assert_eq!(rig.memory.rows(pair()).len(), 101, "the next pass is not yet due");
}

#[test]
fn stop_does_what_is_queued_and_refuses_what_comes_later() {
    let rig = Rig::new(1);
    let (waits, open) = rig.script.close_gate();
    rig.post(0, pair(), 1, "0");
    waits.recv_timeout(PATIENCE).expect("the first commit runs");
    for ask in 1..100 {
        rig.post(ask, pair(), 1, &ask.to_string());
    }
    rig.store.read(ticket(100), Read::Open { user: uid(1) });
    rig.store.ring();
    drop(open);
    rig.store.stop();
    let answers = rig.sink.wait(101);
    assert!((0..100).all(|ask| matches!(written(&answers[&ticket(ask)]), Ok(Written::Stored { .. }))));
    rig.post(101, pair(), 1, "late");
    rig.store.read(ticket(102), Read::Open { user: uid(1) });
    rig.store.ring();
    let answers = rig.sink.wait(103);
    assert!(is_unavailable(&answers[&ticket(101)]));
    assert!(matches!(answers[&ticket(102)], Reply::Read(Err(Error::Unavailable(_)))));
    assert!(rig.store.call(PLACE, Box::new(|_| panic!("too late"))).is_err());
    assert!(rig.store.query(PLACE, Box::new(|_| panic!("too late"))).is_err());
    assert_eq!(rig.memory.head(pair()), Seq::new(100).expect("in range"));
}

#[test]
fn an_ask_during_stop_has_one_answer_too() {
    const EACH: u32 = 3_000;
    let rig = Rig::new(2);
    thread::scope(|scope| {
        for who in 0..2u32 {
            let rig = &rig;
            scope.spawn(move || {
                for n in 0..EACH {
                    let ask = who * EACH + n;
                    rig.post(ask, ConvId::direct(uid(1), uid(2 + u64::from(n % 9))), 1, &ask.to_string());
                    if ask == EACH / 2 {
                        rig.store.stop();
                    }
                }
            });
        }
    });
    let answers = rig.sink.wait(2 * EACH as usize);
    let stored = answers.values().filter(|a| matches!(written(a), Ok(Written::Stored { .. }))).count();
    let refused = answers.values().filter(|a| is_unavailable(a)).count();
    assert_eq!(stored + refused, answers.len());
    let kept: usize = rig.memory.conversations().into_iter().map(|conv| rig.memory.rows(conv).len()).sum();
    assert_eq!(stored, kept, "stored is what was said to be stored");
    assert!(refused > 0, "what was asked after the end was refused");
}

#[test]
fn threads_end_with_the_last_handle() {
    let rig = Rig::new(1);
    let script = Arc::new(Script::default());
    let faulty = || -> Vec<Box<dyn Backend>> {
        vec![Box::new(Faulty { backend: Box::new(rig.memory.connect()), script: Arc::clone(&script) })]
    };
    let opened = Opened { writers: faulty(), readers: faulty(), upkeep: None, keep: Keep::default() };
    let sink = Arc::new(Sink::default());
    let replies: Arc<dyn Replies> = sink.clone();
    let store = Store::start(opened, 2, replies, Clock::start()).expect("threads");
    store.write(ticket(0), post(pair(), 1, "a"));
    drop(store);
    assert_eq!(stored(&written(&sink.wait(1)[&ticket(0)]).expect("stored")), 1);
    rig.until("the backends are gone", |_| Arc::strong_count(&script) == 1);
}

#[test]
fn it_runs_on_sqlite() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut opened = open("sqlite", dir.path(), None, Options::default()).unwrap_or_else(|e| panic!("{e}"));
    users(&mut *opened.writers[0], 9);
    let sink = Arc::new(Sink::default());
    let replies: Arc<dyn Replies> = sink.clone();
    let store = Store::start(opened, 2, replies, Clock::start()).expect("threads");
    for ask in 0..5_000 {
        store.write(ticket(ask), post(ConvId::direct(uid(1), uid(2 + u64::from(ask % 8))), 1, &ask.to_string()));
    }
    assert!(sink.wait(5_000).values().all(|a| matches!(written(a), Ok(Written::Stored { .. }))));
    let (conv, from) = (ConvId::direct(uid(1), uid(2)), PageStart::After(Seq::ZERO));
    store.read(ticket(5_000), Read::Page { conv, reader: Some(uid(2)), from, rows_max: 200, bytes_max: 1 << 20 });
    store.ring();
    match &sink.wait(5_001)[&ticket(5_000)] {
        Reply::Read(Ok(ReadAnswer::Page(page))) => assert_eq!((page.rows.len(), page.head.get()), (200, 625)),
        other => panic!("{other:?}"),
    }
    store.stop();
    assert_eq!(all(&mut *open_sqlite(dir.path(), 1).remove(0), conv).rows.len(), 625, "the lock went with the store");
}
