//! Words about what was received and read (`cmd` 3) of which it is not known whether they can be
//! true: of a conversation of which nothing is known here, or beyond the head that is.
//!
//! Owns: the last such word of each user and conversation until the store has said how far the
//! conversation goes. Then it is cut at the head and becomes a cursor, or is refused.
//! Never: makes a cursor of a conversation that does not exist, and never forgets the last word.
//! Bounds: [`limits::CLAIMS_MAX`], [`limits::CLAIMS_PER_USER_MAX`] of one user, and so many asks of
//! one user as [`RATE`] allows.

use crate::shard::broken::broken;
use std::collections::BTreeMap;

use foldhash::fast::RandomState;
use hashbrown::HashSet;

use crate::fair::{Rate, Rates};
use crate::ids::{ConnId, ConvId, ID_MAX, Seq, UserId};
use crate::limits;
use crate::metrics::tally::Merged;
use crate::shard::asks::Purpose;
use crate::shard::effect::Effect;
use crate::shard::io::Io;
use crate::shard::retries::Retry;
use crate::shard::sessions::Sessions;
use crate::shard::sessions::prices::Price;
use crate::shard::social::Social;
use crate::store::{self, Page, PageStart, Read, Refusal};
use crate::wire::{Reject, Target};

/// How often the store is asked for one user.
const RATE: Rate = Rate { most: limits::CLAIM_ASKS_MAX, pause_ms: limits::CLAIM_ASK_MS };

/// A word as a session has said it.
#[derive(Clone, Copy, Debug)]
struct ClaimedWord {
    conn: ConnId,
    recv: Seq,
    read: Seq,
}

impl ClaimedWord {
    /// The later of two words: nothing moves back.
    fn after(self, earlier: Self) -> Self {
        Self { conn: self.conn, recv: self.recv.max(earlier.recv), read: self.read.max(earlier.read) }
    }
}

#[derive(Debug)]
struct Claim {
    of: Target,
    word: ClaimedWord,
    /// The store was asked.
    asked: bool,
    /// What was said after that: the answer may be older.
    later: Option<ClaimedWord>,
}

/// The claims of the users of a shard.
pub(in crate::shard) struct Claims {
    claims: BTreeMap<(UserId, ConvId), Claim>,
    rates: Rates<UserId>,
    /// Users whose turn comes with a retry.
    in_line: HashSet<UserId, RandomState>,
}

impl Default for Claims {
    fn default() -> Self {
        let rates = Rates::new(limits::CLAIM_KEYS_MAX);
        Self { claims: BTreeMap::new(), rates, in_line: HashSet::default() }
    }
}

impl Claims {
    fn of(&self, user: UserId) -> impl Iterator<Item = (ConvId, &Claim)> {
        let (first, last) = ConvId::ends();
        self.claims.range((user, first)..=(user, last)).map(|(&(_, conv), claim)| (conv, claim))
    }

    /// For `check_invariants`.
    pub(in crate::shard) fn check(&self) {
        assert!(self.claims.len() <= limits::CLAIMS_MAX, "claims are bounded");
        for (&(user, _), claim) in &self.claims {
            assert!(claim.asked || self.in_line.contains(&user), "every claim is looked into");
            assert!(claim.asked || claim.later.is_none(), "what comes before the ask is one word");
        }
    }
}

impl Social {
    /// A session says how far its user has come in a conversation; it is not known here whether
    /// that can be.
    pub(in crate::shard) fn claim(
        &mut self,
        io: &mut Io,
        sessions: &mut Sessions,
        conn: ConnId,
        of: Target,
        reach: (Seq, Seq),
    ) {
        let Some(user) = sessions.table.get(conn).map(|session| session.user) else { return };
        let conv = of.conv(user);
        let word = ClaimedWord { conn, recv: reach.0, read: reach.1 };
        if let Some(claim) = self.claims.claims.get_mut(&(user, conv)) {
            io.tally.merged[Merged::Mark as usize] += 1;
            if claim.asked {
                claim.later = Some(claim.later.map_or(word, |later| word.after(later)));
            } else {
                claim.word = word.after(claim.word);
            }
            return;
        }
        let full = self.claims.claims.len() >= limits::CLAIMS_MAX;
        if full || self.claims.of(user).count() >= limits::CLAIMS_PER_USER_MAX {
            return sessions.tell_refusal(io, conn, Reject::Busy, None, Some(of));
        }
        self.look_into(io, (user, conv), of, word);
    }

    fn look_into(&mut self, io: &mut Io, (user, conv): (UserId, ConvId), of: Target, word: ClaimedWord) {
        self.claims.claims.insert((user, conv), Claim { of, word, asked: false, later: None });
        if !self.claims.in_line.contains(&user) {
            self.ask_marks(io, user);
        }
    }

    /// Asks the store about the claims of a user, as many as are allowed now; the others have their
    /// turn soon.
    pub(in crate::shard) fn ask_marks(&mut self, io: &mut Io, user: UserId) {
        self.claims.in_line.remove(&user);
        loop {
            let Some((conv, _)) = self.claims.of(user).find(|(_, claim)| !claim.asked) else { return };
            if !self.claims.rates.take(user, RATE, io.now_ms()) {
                break;
            }
            let Some(ask) = io.asks.take(Purpose::Mark { user, conv }) else { break };
            if let Some(claim) = self.claims.claims.get_mut(&(user, conv)) {
                claim.asked = true;
            }
            // No row is wanted, only where the conversation ends.
            let end = Seq::new(ID_MAX).unwrap_or_default();
            let read = Read::Page { conv, reader: Some(user), from: PageStart::After(end), rows_max: 1, bytes_max: 1 };
            io.push(Effect::Read { ask, read });
        }
        self.claims.in_line.insert(user);
        io.retry(Retry::Marks(user));
    }

    /// The store has said how far a conversation goes, or that it is not this user's.
    pub(in crate::shard) fn mark_settled(
        &mut self,
        io: &mut Io,
        sessions: &mut Sessions,
        user: UserId,
        conv: ConvId,
        reply: Result<Result<Page, Refusal>, store::Error>,
    ) {
        let Some(mut claim) = self.claims.claims.remove(&(user, conv)) else {
            broken("a claim is kept until it is judged")
        };
        let (of, word) = (claim.of, claim.word);
        let verdict = match reply {
            Ok(Ok(page)) if page.head == Seq::ZERO => Err(Reject::NoSuchMessage),
            Ok(Ok(page)) => Ok(page.head),
            Ok(Err(refusal)) => Err(refusal.into()),
            Err(_) => {
                claim.word = claim.later.take().map_or(word, |later| later.after(word));
                claim.asked = false;
                self.claims.claims.insert((user, conv), claim);
                if self.claims.in_line.insert(user) {
                    io.retry(Retry::Marks(user));
                }
                return;
            }
        };
        match verdict {
            Err(reject) => {
                sessions.tell_refusal(io, word.conn, reject, None, Some(of));
                sessions.pay(io, word.conn, &Price::VAIN_WORD);
            }
            Ok(head) => self.say_cut(io, sessions, (user, conv), of, word, head),
        }
        match (claim.later, verdict) {
            (Some(later), Ok(head)) if later.recv.max(later.read) <= head => {
                self.say_cut(io, sessions, (user, conv), of, later, head);
            }
            // Its session may have ended meanwhile, and its word counts all the same.
            (Some(later), _) => self.look_into(io, (user, conv), of, later),
            (None, _) => {}
        }
        sessions.regulate(io, word.conn);
    }

    /// Takes a word, cut at the head.
    fn say_cut(
        &mut self,
        io: &mut Io,
        sessions: &mut Sessions,
        (user, conv): (UserId, ConvId),
        of: Target,
        word: ClaimedWord,
        head: Seq,
    ) {
        let reach = (word.recv.min(head), word.read.min(head));
        if !self.cursors.say(user, conv, reach, head, io.now_ms(), io.now_ms()) {
            sessions.tell_refusal(io, word.conn, Reject::Busy, None, Some(of));
        }
    }
}
