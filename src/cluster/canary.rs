//! Whether the bus brings what is said to this gateway: a canary.
//!
//! A connection may stand and answer pings while nothing comes over it: a server has lost a
//! subscription, or what lies between passes on one direction only. The state of the connection
//! does not tell.
//!
//! Owns: a second connection. Each second a word goes from the first one to the second, and one
//! from the second to where other gateways say what is for this one alone. If both do not come
//! back for [`CANARY_MISSED_MAX`] seconds, both are connected anew.
//! Never: judges while one of them is not connected, which is known without a canary, nor before
//! both words have come back once: a bus on which a gateway may not speak to itself says nothing
//! about what it brings of others.
//! Bounds: one word a second each way; attempts are twice as far apart each time, up to
//! [`CANARY_MISSED_MAX`] · 2^[`CANARY_DOUBLINGS_MAX`] seconds.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use async_nats::connection::State;
use async_nats::{Client, Subject, Subscriber};
use futures_util::StreamExt;
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::limits::{CANARY_DOUBLINGS_MAX, CANARY_MISSED_MAX, CANARY_MS, CANARY_SAY_MS, CANARY_UNHEARD_MAX};

/// What a word begins with; no envelope does.
const MAGIC: [u8; 4] = *b"IMGC";
const TOKEN_BYTES: usize = 16;

/// What the two connections know of each other.
#[derive(Debug)]
pub(super) struct Canary {
    /// In each word: another gateway with the same number says other ones.
    token: [u8; TOKEN_BYTES],
    /// The number of the last word that came back on the first connection.
    back: AtomicU64,
    /// Both connections stand, and a word does not come back.
    deaf: AtomicBool,
    /// Times that both were connected anew for that.
    renewed: AtomicU64,
}

/// Where the words go.
pub(super) struct Ways {
    /// What other gateways say to this one alone; the first connection hears it.
    pub(super) first: Subject,
    /// Nothing but the canary; the second one does.
    pub(super) second: Subject,
}

impl Canary {
    pub(super) fn new() -> Self {
        let mut token = [0; TOKEN_BYTES];
        // Without it a twin's words would count for ours: less is known, and nothing breaks.
        let _ = getrandom::fill(&mut token);
        Self { token, back: AtomicU64::new(0), deaf: AtomicBool::new(false), renewed: AtomicU64::new(0) }
    }

    /// Takes a canary's word from what came on the first connection. `false`: it is none.
    pub(super) fn take(&self, bytes: &[u8]) -> bool {
        if !bytes.starts_with(&MAGIC) {
            return false;
        }
        self.back.fetch_max(self.number(bytes).unwrap_or_default(), Ordering::Relaxed);
        true
    }

    /// The bus is connected, and does not bring what is said to this gateway.
    pub(super) fn is_deaf(&self) -> bool {
        self.deaf.load(Ordering::Relaxed)
    }

    /// How often it was connected anew for that.
    pub(super) fn renewed(&self) -> u64 {
        self.renewed.load(Ordering::Relaxed)
    }

    fn word(&self, number: u64) -> Vec<u8> {
        [&MAGIC[..], &self.token, &number.to_le_bytes()].concat()
    }

    /// The number of one of our words.
    fn number(&self, bytes: &[u8]) -> Option<u64> {
        let number = bytes.strip_prefix(&MAGIC)?.strip_prefix(&self.token)?;
        number.try_into().ok().map(u64::from_le_bytes)
    }

    /// Says the words and judges, for as long as it runs.
    pub(super) async fn watch(self: Arc<Self>, first: Client, second: Client, mut heard: Subscriber, ways: Ways) {
        let mut tick = interval(Duration::from_millis(CANARY_MS));
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut hearing, mut said, mut second_back) = (Hearing::default(), 0, 0);
        loop {
            tokio::select! {
                word = heard.next() => match word {
                    Some(word) => second_back = self.number(&word.payload).unwrap_or_default().max(second_back),
                    None => return,
                },
                _ = tick.tick() => {
                    let connected = [&first, &second].iter().all(|one| one.connection_state() == State::Connected);
                    self.judge(&mut hearing, connected, [self.back.load(Ordering::Relaxed), second_back], [&first, &second]).await;
                    said += 1;
                    let word = self.word(said);
                    say(&first, ways.second.clone(), word.clone()).await;
                    say(&second, ways.first.clone(), word).await;
                }
            }
        }
    }

    async fn judge(&self, hearing: &mut Hearing, connected: bool, back: [u64; 2], clients: [&Client; 2]) {
        match hearing.look(connected, back) {
            Verdict::Well => {
                if self.deaf.swap(false, Ordering::Relaxed) {
                    tracing::info!("the bus brings again what is said to this gateway");
                }
            }
            Verdict::Wait => {}
            Verdict::Silent => tracing::warn!(
                "the bus brings nothing that this gateway says to itself, so it cannot be watched: may it publish and subscribe `im.>`?"
            ),
            Verdict::Deaf => {
                tracing::warn!("the bus is connected and does not bring what is said to this gateway: connecting anew");
                self.deaf.store(true, Ordering::Relaxed);
                self.renewed.fetch_add(1, Ordering::Relaxed);
                for client in clients {
                    // One that takes no command is asked again with the next verdict.
                    let _ = timeout(Duration::from_millis(CANARY_SAY_MS), client.force_reconnect()).await;
                }
            }
        }
    }
}

/// A word that is not taken in time has not been said, and does not come back.
async fn say(client: &Client, subject: Subject, word: Vec<u8>) {
    let _ = timeout(Duration::from_millis(CANARY_SAY_MS), client.publish(subject, word.into())).await;
}

/// What the words that came back say, second by second.
#[derive(Default)]
struct Hearing {
    /// The last numbers, each way.
    back: [u64; 2],
    /// Both ways have brought something once.
    worked: bool,
    /// Seconds in which one way brought nothing.
    missed: u32,
    /// Attempts since both ways brought something.
    attempts: u32,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Verdict {
    /// Words came both ways, or may still come.
    Well,
    /// Too early to say.
    Wait,
    /// None has ever come; said once.
    Silent,
    /// None comes any more.
    Deaf,
}

impl Hearing {
    /// A second has gone by. `back`: the last number that came, each way.
    fn look(&mut self, connected: bool, back: [u64; 2]) -> Verdict {
        let has_come = back.iter().zip(&self.back).all(|(now, before)| now > before);
        self.back = back;
        if !connected {
            self.missed = 0;
            return Verdict::Wait;
        }
        if has_come {
            *self = Self { back, worked: true, ..Self::default() };
            return Verdict::Well;
        }
        self.missed += 1;
        if !self.worked {
            return if self.missed == CANARY_UNHEARD_MAX { Verdict::Silent } else { Verdict::Wait };
        }
        if self.missed < CANARY_MISSED_MAX << self.attempts {
            return Verdict::Wait;
        }
        (self.missed, self.attempts) = (0, (self.attempts + 1).min(CANARY_DOUBLINGS_MAX));
        Verdict::Deaf
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is said of so many seconds in which nothing comes.
    fn silence(hearing: &mut Hearing, seconds: u32) -> Vec<Verdict> {
        let back = hearing.back;
        (0..seconds).map(|_| hearing.look(true, back)).collect()
    }

    fn deaf(verdicts: &[Verdict]) -> Vec<usize> {
        let seconds = verdicts.iter().enumerate().filter(|(_, verdict)| **verdict == Verdict::Deaf);
        seconds.map(|(second, _)| second + 1).collect()
    }

    #[test]
    fn a_way_that_brings_nothing_any_more_is_noticed_and_attempts_get_rarer() {
        let mut hearing = Hearing::default();
        assert_eq!(hearing.look(true, [1, 1]), Verdict::Well);
        // One of the two ways is enough.
        let verdicts: Vec<Verdict> = (2..5).map(|number| hearing.look(true, [number, 1])).collect();
        assert_eq!(verdicts, [Verdict::Wait, Verdict::Wait, Verdict::Deaf]);
        assert_eq!(deaf(&silence(&mut hearing, 400)), [6, 18, 42, 90, 186, 282, 378], "twice as far apart, to 96 s");
        assert_eq!(hearing.look(true, [9, 9]), Verdict::Well);
        assert_eq!(deaf(&silence(&mut hearing, 4)), [3], "from the beginning");
    }

    #[test]
    fn a_word_that_is_late_has_come_all_the_same() {
        let mut hearing = Hearing::default();
        for number in 1..100 {
            // Each third second brings what was said in the two before it as well.
            assert_ne!(hearing.look(true, [number / 3 * 3 + 1; 2]), Verdict::Deaf, "{number}");
        }
    }

    #[test]
    fn nothing_is_known_without_connections_or_where_no_word_has_ever_come() {
        let mut hearing = Hearing::default();
        let silent = silence(&mut hearing, 1000);
        assert_eq!(silent.iter().filter(|verdict| **verdict == Verdict::Silent).count(), 1, "said once");
        assert_eq!(deaf(&silent), [0; 0]);
        assert_eq!(hearing.look(true, [1, 1]), Verdict::Well);
        for _ in 0..100 {
            assert_eq!(hearing.look(false, [1, 1]), Verdict::Wait);
        }
        assert_eq!(deaf(&silence(&mut hearing, 2)), [0; 0], "the time before does not count");
    }

    #[test]
    fn words_are_told_from_envelopes_and_from_those_of_others() {
        let (canary, twin) = (Canary::new(), Canary::new());
        assert!(!canary.take(b"IMGB and more") && !canary.take(b"") && !canary.take(b"IMG"));
        assert!(
            canary.take(&twin.word(7)) && canary.take(b"IMGC") && canary.take(&[&canary.word(9)[..], b"x"].concat())
        );
        assert_eq!(canary.back.load(Ordering::Relaxed), 0);
        assert!(canary.take(&canary.word(7)) && canary.take(&canary.word(3)));
        assert_eq!(canary.back.load(Ordering::Relaxed), 7, "what was recorded is no news");
    }
}
