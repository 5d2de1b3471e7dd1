//! Words about what was received and read (`cmd` 3) of which it is not known whether they can be
//! true: of a conversation of which nothing is known here, or beyond the head that is.
//!
//! Owns: the last such word of each user and conversation until the store has said how far the
//! conversation goes. Then it is cut at the head and becomes a cursor, or is refused.
//! Never: makes a cursor of a conversation that does not exist, and never forgets the last word.
//! Bounds: [`limits::CLAIMS_MAX`], [`limits::CLAIMS_PER_USER_MAX`] of one user, and so many asks of
//! one user as [`RATE`] allows.

use std::collections::BTreeMap;

use foldhash::fast::RandomState;
use hashbrown::HashSet;

use super::Shard;
use super::asks::Purpose;
use super::deadlines::Retry;
use super::effect::{Effect, Effects};
use super::prices::Price;
use crate::clock::Now;
use crate::fair::{Rate, Rates};
use crate::ids::{ConnId, ConvId, ID_MAX, Seq, UserId};
use crate::limits;
use crate::metrics::tally::Merged;
use crate::store::{self, Page, PageStart, Read, Refusal};
use crate::wire::{Reject, Target};

/// How often the store is asked for one user.
const RATE: Rate = Rate { most: limits::CLAIM_ASKS_MAX, pause_ms: limits::CLAIM_ASK_MS };

/// A word as a session has said it.
#[derive(Clone, Copy, Debug)]
struct Word {
    conn: ConnId,
    recv: Seq,
    read: Seq,
}

impl Word {
    /// The later of two words: nothing moves back.
    fn after(self, earlier: Self) -> Self {
        Self { conn: self.conn, recv: self.recv.max(earlier.recv), read: self.read.max(earlier.read) }
    }
}

#[derive(Debug)]
struct Claim {
    of: Target,
    word: Word,
    /// The store was asked.
    asked: bool,
    /// What was said after that: the answer may be older.
    later: Option<Word>,
}

/// The claims of the users of a shard.
pub(super) struct Claims {
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
    pub(super) fn check(&self) {
        assert!(self.claims.len() <= limits::CLAIMS_MAX, "claims are bounded");
        for (&(user, _), claim) in &self.claims {
            assert!(claim.asked || self.in_line.contains(&user), "every claim is looked into");
            assert!(claim.asked || claim.later.is_none(), "what comes before the ask is one word");
        }
    }
}

impl Shard {
    /// A session says how far its user has come in a conversation; nobody here knows whether that
    /// can be.
    pub(super) fn claim(&mut self, now: Now, conn: ConnId, of: Target, reach: (Seq, Seq), fx: &mut Effects) {
        let Some(user) = self.sessions.get(conn).map(|session| session.user) else { return };
        let conv = of.conv(user);
        let word = Word { conn, recv: reach.0, read: reach.1 };
        if let Some(claim) = self.claims.claims.get_mut(&(user, conv)) {
            self.tally.merged[Merged::Mark as usize] += 1;
            if claim.asked {
                claim.later = Some(claim.later.map_or(word, |later| word.after(later)));
            } else {
                claim.word = word.after(claim.word);
            }
            return;
        }
        let full = self.claims.claims.len() >= limits::CLAIMS_MAX;
        if full || self.claims.of(user).count() >= limits::CLAIMS_PER_USER_MAX {
            return self.tell_refusal(conn, Reject::Busy, None, Some(of), fx);
        }
        self.look_into(now, (user, conv), of, word, fx);
    }

    fn look_into(&mut self, now: Now, (user, conv): (UserId, ConvId), of: Target, word: Word, fx: &mut Effects) {
        self.claims.claims.insert((user, conv), Claim { of, word, asked: false, later: None });
        if !self.claims.in_line.contains(&user) {
            self.ask_marks(now, user, fx);
        }
    }

    /// Asks the store about the claims of a user, as many as are allowed now; the others have their
    /// turn soon.
    pub(super) fn ask_marks(&mut self, now: Now, user: UserId, fx: &mut Effects) {
        self.claims.in_line.remove(&user);
        loop {
            let Some((conv, _)) = self.claims.of(user).find(|(_, claim)| !claim.asked) else { return };
            if !self.claims.rates.take(user, RATE, now.mono_ms) {
                break;
            }
            let Some(ask) = self.asks.take(Purpose::Mark { user, conv }) else { break };
            if let Some(claim) = self.claims.claims.get_mut(&(user, conv)) {
                claim.asked = true;
            }
            // No row is wanted, only where the conversation ends.
            let end = Seq::new(ID_MAX).unwrap_or_default();
            let read = Read::Page { conv, reader: Some(user), from: PageStart::After(end), rows_max: 1, bytes_max: 1 };
            fx.push(Effect::Read { ask, read });
        }
        self.claims.in_line.insert(user);
        self.retries.add(now.mono_ms, Retry::Marks(user));
    }

    /// The store has said how far a conversation goes, or that it is not this user's.
    pub(super) fn mark_settled(
        &mut self,
        now: Now,
        user: UserId,
        conv: ConvId,
        reply: Result<Result<Page, Refusal>, store::Error>,
        fx: &mut Effects,
    ) {
        let Some(mut claim) = self.claims.claims.remove(&(user, conv)) else { return };
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
                    self.retries.add(now.mono_ms, Retry::Marks(user));
                }
                return;
            }
        };
        match verdict {
            Err(reject) => {
                self.tell_refusal(word.conn, reject, None, Some(of), fx);
                self.pay(word.conn, &Price::VAIN_WORD, fx);
            }
            Ok(head) => self.say_cut(now, (user, conv), of, word, head, fx),
        }
        match (claim.later, verdict) {
            (Some(later), Ok(head)) if later.recv.max(later.read) <= head => {
                self.say_cut(now, (user, conv), of, later, head, fx);
            }
            // Its session may have ended meanwhile, and its word counts all the same.
            (Some(later), _) => self.look_into(now, (user, conv), of, later, fx),
            (None, _) => {}
        }
        self.regulate(word.conn, fx);
    }

    /// Takes a word, cut at the head.
    fn say_cut(
        &mut self,
        now: Now,
        (user, conv): (UserId, ConvId),
        of: Target,
        word: Word,
        head: Seq,
        fx: &mut Effects,
    ) {
        let reach = (word.recv.min(head), word.read.min(head));
        if !self.cursors.say(user, conv, reach, head, now.mono_ms, now.mono_ms) {
            self.tell_refusal(word.conn, Reject::Busy, None, Some(of), fx);
        }
    }
}
