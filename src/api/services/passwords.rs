//! Password hashing, away from everybody else.
//!
//! Owns: the hashing threads and the line in front of them, in which networks take turns, and in
//! each of these its accounts: a flood of logins waits for itself.
//! Never: runs on the runtime's own threads, or on more than half of the machine's cores; the
//! shards need the others.
//! Bounds: [`limits::PASSWORDS_MAX`] passwords in the line, of one network
//! [`limits::NETWORK_PASSWORDS_MAX`], [`limits::PASSWORD_MS_MAX`] in it; memory for as many as are
//! hashed at once ([`super::hashing`]).

use std::net::IpAddr;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use parking_lot::{Condvar, Mutex};
use tokio::sync::oneshot;

use super::StoreFailure;
use super::hashing::Memory;
use crate::fair::{BoundedTurns, Network};
use crate::ids::UserId;
use crate::limits;
use crate::store::OLD_PASSWORD;
use crate::threads::{Courtesy, Priority};

/// The hasher; clones share its line. Its threads end with the last of them.
#[derive(Clone)]
pub struct Passwords {
    hashing: Arc<HashingLine>,
}

/// For what a password is hashed. Networks take turns, and those who change their own password;
/// within a network so do its accounts: a flood of registrations or of tries on other accounts
/// keeps no login from its turn, although it comes from the same network.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Turn {
    /// A login to an account that exists.
    Account(Network, UserId),
    /// A login to an account that does not.
    Unknown(Network),
    /// A registration.
    Registration(Network),
    /// A change of the own password.
    Own(UserId),
}

impl Turn {
    /// Of a login from `address` to the account of `user`, if there is one.
    #[must_use]
    pub fn login(address: IpAddr, user: Option<UserId>) -> Self {
        let network = Network::of(address);
        user.map_or(Self::Unknown(network), |user| Self::Account(network, user))
    }

    /// Of a registration from `address`.
    #[must_use]
    pub fn registration(address: IpAddr) -> Self {
        Self::Registration(Network::of(address))
    }

    const fn side(self) -> Side {
        match self {
            Self::Account(network, _) | Self::Unknown(network) | Self::Registration(network) => Side::Network(network),
            Self::Own(user) => Side::User(user),
        }
    }
}

/// From where a password comes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Side {
    Network(Network),
    User(UserId),
}

/// The passwords that wait.
struct Waiting {
    /// One item for each of them: whose turn it is.
    sides: BoundedTurns<Side, Side>,
    /// What waits of each side in `sides`.
    jobs: HashMap<Side, BoundedTurns<Turn, Job>, RandomState>,
    closed: bool,
}

impl Waiting {
    fn new() -> Self {
        Self { sides: BoundedTurns::new(limits::PASSWORDS_MAX), jobs: HashMap::default(), closed: false }
    }

    /// # Errors
    /// The line is full of others that have no more in it.
    fn push(&mut self, turn: Turn, job: Job) -> Result<(), StoreFailure> {
        let side = turn.side();
        let jobs = self.jobs.entry(side).or_insert_with(|| BoundedTurns::new(limits::NETWORK_PASSWORDS_MAX));
        // What gives way is told by the drop of its sender.
        if jobs.push(turn, job).map_err(|_| StoreFailure::Busy)?.is_some() {
            return Ok(());
        }
        match self.sides.push(side, side) {
            Ok(None) => Ok(()),
            Ok(Some(displaced)) => {
                self.take(displaced, BoundedTurns::give_way);
                Ok(())
            }
            Err(_) => {
                self.take(side, |jobs| jobs.pop_back(turn));
                Err(StoreFailure::Busy)
            }
        }
    }

    fn pop(&mut self) -> Option<Job> {
        let (side, _) = self.sides.pop()?;
        self.take(side, |jobs| jobs.pop().map(|(_, job)| job))
    }

    fn take(&mut self, side: Side, one: impl FnOnce(&mut BoundedTurns<Turn, Job>) -> Option<Job>) -> Option<Job> {
        let jobs = self.jobs.get_mut(&side)?;
        let job = one(jobs);
        if jobs.is_empty() {
            self.jobs.remove(&side);
        }
        job
    }
}

/// What the line and the threads share.
struct Line {
    waiting: Mutex<Waiting>,
    /// Notified when something waits, and at the end.
    arrived: Condvar,
    /// Knows how many are being hashed.
    courtesy: Arc<Courtesy>,
    /// A hash that no password fits, so that an unknown user costs the same time as a wrong
    /// password.
    nobody: Box<str>,
}

enum Job {
    Hash { password: String, tell: oneshot::Sender<Option<String>> },
    Fits { password: String, stored: Option<String>, tell: oneshot::Sender<bool> },
}

/// Ends the threads when it goes.
struct HashingLine(Arc<Line>);

impl Drop for HashingLine {
    fn drop(&mut self) {
        self.0.waiting.lock().closed = true;
        self.0.arrived.notify_all();
    }
}

impl Passwords {
    /// A hasher that works on `threads` passwords at once. Takes the time of one hash.
    ///
    /// # Errors
    /// The operating system has no randomness for a salt, or no threads.
    pub fn new(threads: usize) -> Result<Self, StoreFailure> {
        // The memory of this one is the first thread's.
        let mut memory = Memory::default();
        let nobody = memory.hashed("").ok_or(StoreFailure::Broken)?.into();
        let line =
            Line { waiting: Mutex::new(Waiting::new()), arrived: Condvar::new(), courtesy: Arc::default(), nobody };
        let hashing = HashingLine(Arc::new(line));
        for number in 0..threads.max(1) {
            let (line, memory) = (Arc::clone(&hashing.0), std::mem::take(&mut memory));
            let thread = thread::Builder::new().name(format!("password-{number}"));
            let work = move || {
                Priority::Passwords.give_way();
                line.work(memory);
            };
            thread.spawn(work).map_err(|_| StoreFailure::Broken)?;
        }
        Ok(Self { hashing: Arc::new(hashing) })
    }

    /// The PHC string of `password`, with a fresh salt, hashed in the turn of `turn`.
    ///
    /// # Errors
    /// [`StoreFailure::Busy`]: the line is full, or the turn did not come in time.
    pub async fn hash(&self, turn: Turn, password: String) -> Result<String, StoreFailure> {
        let (tell, told) = oneshot::channel();
        self.hashing.0.enter(turn, Job::Hash { password, tell })?;
        answered(told).await?.ok_or(StoreFailure::Broken)
    }

    /// Whether `password` fits the PHC string `stored`. Without one, or with one that cannot be
    /// read, the answer is no, after the same time.
    ///
    /// # Errors
    /// As [`Self::hash`].
    pub async fn fits(&self, turn: Turn, password: String, stored: Option<String>) -> Result<bool, StoreFailure> {
        let (tell, told) = oneshot::channel();
        self.hashing.0.enter(turn, Job::Fits { password, stored, tell })?;
        answered(told).await
    }

    /// Passwords that wait, with those that are being hashed.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.hashing.0.waiting.lock().sides.len() + self.hashing.0.courtesy.absorbed()
    }

    /// What threads of plain HTTP ask whether to step aside.
    #[must_use]
    pub fn courtesy(&self) -> Arc<Courtesy> {
        Arc::clone(&self.hashing.0.courtesy)
    }

    /// Whether `stored` is of an old system, and to be replaced as soon as the password is known.
    #[must_use]
    pub fn is_old(stored: &str) -> bool {
        stored.starts_with(OLD_PASSWORD)
    }
}

/// What became of a job; whoever had to leave the line is told that the system is busy.
async fn answered<T>(told: oneshot::Receiver<T>) -> Result<T, StoreFailure> {
    match tokio::time::timeout(Duration::from_millis(limits::PASSWORD_MS_MAX), told).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(_)) | Err(_) => Err(StoreFailure::Busy),
    }
}

impl Job {
    /// Whether nobody waits for it any more: whoever asked has gone, or did not get a turn in time.
    fn is_forsaken(&self) -> bool {
        match self {
            Self::Hash { tell, .. } => tell.is_closed(),
            Self::Fits { tell, .. } => tell.is_closed(),
        }
    }

    fn run(self, memory: &mut Memory, nobody: &str) {
        // Telling fails when the receiver has gone.
        let _ = match self {
            Self::Hash { password, tell } => tell.send(memory.hashed(&password)).is_ok(),
            Self::Fits { password, stored, tell } => {
                tell.send(memory.fits(&password, stored.as_deref(), nobody)).is_ok()
            }
        };
    }
}

impl Line {
    fn enter(&self, turn: Turn, job: Job) -> Result<(), StoreFailure> {
        self.waiting.lock().push(turn, job)?;
        self.arrived.notify_one();
        Ok(())
    }

    /// The life of a hashing thread.
    fn work(&self, mut memory: Memory) {
        while let Some(job) = self.next() {
            if job.is_forsaken() {
                continue;
            }
            let _absorbed = self.courtesy.absorb();
            job.run(&mut memory, &self.nobody);
        }
    }

    fn next(&self) -> Option<Job> {
        let mut waiting = self.waiting.lock();
        loop {
            if waiting.closed {
                return None;
            }
            if let Some(job) = waiting.pop() {
                return Some(job);
            }
            self.arrived.wait(&mut waiting);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run<T>(work: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime").block_on(work)
    }

    fn at(last: u8) -> Turn {
        Turn::login(IpAddr::from([192, 0, 2, last]), UserId::new(1))
    }

    #[test]
    fn a_password_fits_its_own_hash_only() {
        let passwords = Passwords::new(1).expect("randomness");
        run(async {
            let stored = passwords.hash(at(1), "pw&x+1".to_owned()).await.expect("a free thread");
            assert!(stored.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{stored}");
            assert_eq!(passwords.fits(at(1), "pw&x+1".to_owned(), Some(stored.clone())).await, Ok(true));
            assert_eq!(passwords.fits(at(1), "pw&x+2".to_owned(), Some(stored)).await, Ok(false));
            assert_eq!(
                passwords.fits(at(1), String::new(), None).await,
                Ok(false),
                "not even the text behind the dummy"
            );
            assert_eq!(
                passwords.fits(at(1), "!".to_owned(), Some("!".to_owned())).await,
                Ok(false),
                "an unusable password"
            );
        });
    }

    #[test]
    fn an_old_password_fits_until_it_is_replaced() {
        let passwords = Passwords::new(1).expect("randomness");
        run(async {
            // md5("123456" + "004321")
            let stored = format!("{OLD_PASSWORD}004321${}", "8b07005ee8f863641b81e8f0636c41ba");
            assert!(Passwords::is_old(&stored) && !Passwords::is_old("$argon2id$v=19$"));
            assert_eq!(passwords.fits(at(1), "123456".to_owned(), Some(stored.clone())).await, Ok(true));
            assert_eq!(passwords.fits(at(1), "123457".to_owned(), Some(stored.clone())).await, Ok(false));
            assert_eq!(passwords.fits(at(1), stored.clone(), Some(stored)).await, Ok(false));
            for broken in [OLD_PASSWORD.to_owned(), format!("{OLD_PASSWORD}$"), format!("{OLD_PASSWORD}1$ff")] {
                assert_eq!(passwords.fits(at(1), String::new(), Some(broken)).await, Ok(false));
            }
        });
    }

    /// A line without threads: what waits in it stays.
    fn line() -> Line {
        Line {
            waiting: Mutex::new(Waiting::new()),
            arrived: Condvar::new(),
            courtesy: Arc::default(),
            nobody: "".into(),
        }
    }

    fn job() -> (Job, oneshot::Receiver<bool>) {
        let (tell, told) = oneshot::channel();
        (Job::Fits { password: String::new(), stored: None, tell }, told)
    }

    #[test]
    fn a_flood_from_one_network_waits_for_itself() {
        let line = line();
        let mut told = Vec::new();
        let mut enter = |turn: Turn| {
            let (tell, answer) = oneshot::channel();
            told.push(answer);
            line.enter(turn, Job::Fits { password: format!("{turn:?}"), stored: None, tell })
        };
        let of_one = (0..2 * limits::PASSWORDS_MAX).filter(|_| enter(at(1)).is_ok()).count();
        assert_eq!(of_one, limits::NETWORK_PASSWORDS_MAX);
        for other in 2..=60 {
            for _ in 0..limits::NETWORK_PASSWORDS_MAX {
                let _: Result<(), StoreFailure> = enter(at(other));
            }
        }
        assert_eq!(line.waiting.lock().sides.len(), limits::PASSWORDS_MAX);
        let newcomer = Turn::login(IpAddr::from([198, 51, 100, 1]), UserId::new(1));
        assert_eq!(enter(newcomer), Ok(()), "a newcomer has a place in a full line");
        let turns: Vec<_> = std::iter::from_fn(|| match line.waiting.lock().pop()? {
            Job::Fits { password, .. } | Job::Hash { password, .. } => Some(password),
        })
        .collect();
        let newcomer = turns.iter().position(|turn| *turn == format!("{newcomer:?}"));
        let networks = turns.iter().collect::<std::collections::HashSet<_>>().len();
        assert!(newcomer.is_some_and(|place| place < networks), "after one of each: {newcomer:?} of {networks}");
    }

    #[test]
    fn a_flood_keeps_no_account_of_its_own_network_from_its_turn() {
        let line = line();
        let network = IpAddr::from([192, 0, 2, 1]);
        let user = |raw| UserId::new(raw);
        let mut told = Vec::new();
        let mut enter = |turn: Turn| {
            let (tell, answer) = oneshot::channel();
            told.push(answer);
            line.enter(turn, Job::Fits { password: format!("{turn:?}"), stored: None, tell })
        };
        for n in 0..10 * limits::NETWORK_PASSWORDS_MAX as u64 {
            let floods =
                [Turn::registration(network), Turn::login(network, None), Turn::login(network, user(2 + n % 8))];
            for flood in floods {
                let _: Result<(), StoreFailure> = enter(flood);
            }
        }
        assert_eq!(line.waiting.lock().sides.len(), limits::NETWORK_PASSWORDS_MAX, "its share is full");
        let honest = Turn::login(network, user(1));
        assert_eq!(enter(honest), Ok(()));
        let order: Vec<_> = std::iter::from_fn(|| match line.waiting.lock().pop()? {
            Job::Fits { password, .. } | Job::Hash { password, .. } => Some(password),
        })
        .collect();
        assert_eq!(order.len(), limits::NETWORK_PASSWORDS_MAX, "one gave way");
        let place = order.iter().position(|turn| *turn == format!("{honest:?}"));
        assert!(place.is_some_and(|place| place <= 10), "after one of each: {place:?}");
        assert!(line.waiting.lock().jobs.is_empty());
    }

    #[test]
    fn whoever_has_gone_costs_nothing_and_the_threads_end() {
        let passwords = Passwords::new(2).expect("randomness");
        let line = Arc::downgrade(&passwords.hashing.0);
        let (gone, _) = job();
        let (stays, told) = job();
        passwords.hashing.0.enter(at(1), gone).expect("an empty line");
        passwords.hashing.0.enter(at(1), stays).expect("an empty line");
        assert_eq!(run(answered(told)), Ok(false));
        drop(passwords);
        let clock = crate::clock::Clock::start();
        while line.strong_count() > 0 {
            assert!(clock.now().mono_ms < 20_000, "the threads have not ended");
            thread::yield_now();
        }
    }
}
