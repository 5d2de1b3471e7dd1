//! Whether the bus brings what is said to this gateway: a canary.
//!
//! A connection may stand and answer pings while nothing comes over it: a server or a proxy has
//! lost a subscription, or passes no messages on. The state of the connection does not tell.
//!
//! Owns: a second connection. Each second a word goes from the first one to the second, and one
//! from the second to where other gateways say what is for this one alone. If one of both ways
//! brings nothing for [`CANARY_MISSED_MAX`] seconds, both connections are made anew. What is for
//! all gateways is not watched: it has their signs of life, and a gateway that hears none reads the
//! database for itself.
//! Never: judges while one of the connections is away, which is known without a canary, nor before
//! both ways have brought a word once: a bus on which a gateway may not speak to itself says
//! nothing about what it brings of others.
//! Bounds: one word a second each way; attempts are twice as far apart each time, up to
//! [`CANARY_MISSED_MAX`] · 2^[`CANARY_DOUBLINGS_MAX`] seconds.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use async_nats::connection::State;
use async_nats::{Client, Subject, Subscriber};
use futures_util::StreamExt;
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::limits::{
    CANARY_DOUBLINGS_MAX, CANARY_LATE, CANARY_MISSED_MAX, CANARY_MS, CANARY_SAY_MS, CANARY_SELDOM, CANARY_UNHEARD_MAX,
    CANARY_WELL,
};

/// What a word begins with; no envelope does.
const MAGIC: [u8; 4] = *b"IMGC";
const TOKEN_BYTES: usize = 16;

/// What the two connections know of each other.
#[derive(Debug)]
pub(super) struct Canary {
    /// In each word: another gateway with the same number says other ones.
    token: [u8; TOKEN_BYTES],
    /// The number of the last word that was said: a larger one is forged.
    said: AtomicU64,
    /// The number of the last one that came back on the first connection.
    back: AtomicU64,
    /// The client of the bus has dropped what was not read in time, perhaps words as well.
    overrun: AtomicBool,
    /// Both connections stand, and a way brings nothing.
    deaf: AtomicBool,
    /// Times that both were to be connected anew for that.
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
        Self {
            token,
            said: AtomicU64::new(0),
            back: AtomicU64::new(0),
            overrun: AtomicBool::new(false),
            deaf: AtomicBool::new(false),
            renewed: AtomicU64::new(0),
        }
    }

    /// Takes a word of this canary from what came on the first connection. `false`: it is none.
    pub(super) fn take(&self, bytes: &[u8]) -> bool {
        let Some(number) = self.number(bytes) else { return false };
        self.back.fetch_max(number, Ordering::Relaxed);
        true
    }

    /// The client of the bus has dropped something.
    pub(super) fn overrun(&self) {
        self.overrun.store(true, Ordering::Relaxed);
    }

    /// The bus is connected, and does not bring what is said to this gateway.
    pub(super) fn is_deaf(&self) -> bool {
        self.deaf.load(Ordering::Relaxed)
    }

    /// How often it was to be connected anew for that.
    pub(super) fn renewed(&self) -> u64 {
        self.renewed.load(Ordering::Relaxed)
    }

    fn word(&self, number: u64) -> Vec<u8> {
        [&MAGIC[..], &self.token, &number.to_le_bytes()].concat()
    }

    /// The number of one of our words; zero if it was never said.
    fn number(&self, bytes: &[u8]) -> Option<u64> {
        let number = bytes.strip_prefix(&MAGIC)?.strip_prefix(&self.token)?;
        let number = number.try_into().ok().map(u64::from_le_bytes)?;
        Some(if number <= self.said.load(Ordering::Relaxed) { number } else { 0 })
    }

    /// Says the words and judges, for as long as it runs.
    pub(super) async fn watch(self: Arc<Self>, first: Client, second: Client, mut heard: Subscriber, ways: Ways) {
        let mut tick = interval(Duration::from_millis(CANARY_MS));
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut hearing, mut second_back, mut ticks) = (Hearing::default(), 0, 0_u64);
        loop {
            tokio::select! {
                word = heard.next() => match word {
                    Some(word) => second_back = self.number(&word.payload).unwrap_or_default().max(second_back),
                    None => return,
                },
                _ = tick.tick() => {
                    ticks += 1;
                    let connected = [&first, &second].map(|one| one.connection_state() == State::Connected);
                    let back = [self.back.load(Ordering::Relaxed), second_back];
                    self.judge(&mut hearing, connected, back, [&first, &second]).await;
                    if connected == [true; 2] && (!hearing.told || ticks.is_multiple_of(CANARY_SELDOM)) {
                        let word = self.word(self.said.fetch_add(1, Ordering::Relaxed) + 1);
                        say(&first, ways.second.clone(), word.clone()).await;
                        say(&second, ways.first.clone(), word).await;
                    }
                }
            }
        }
    }

    async fn judge(&self, hearing: &mut Hearing, connected: [bool; 2], back: [u64; 2], clients: [&Client; 2]) {
        // What the client has dropped says nothing about the bus.
        let connected = if self.overrun.swap(false, Ordering::Relaxed) { [false; 2] } else { connected };
        match hearing.look(connected, back) {
            Verdict::Well => {
                if self.deaf.swap(false, Ordering::Relaxed) {
                    tracing::info!("the bus brings again what is said to this gateway");
                }
            }
            Verdict::Wait => {}
            Verdict::Silent => tracing::warn!(
                "the bus brings nothing that this gateway says to itself over a second connection, so it cannot be \
                 watched: may it connect twice, publish and subscribe `im.>`?"
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
    /// Which ways have ever brought something,
    worked: [bool; 2],
    /// and which of them since the connections were last made.
    heard: [bool; 2],
    /// Seconds in a row in which each way brought nothing.
    missed: [u32; 2],
    /// Seconds in which nothing was known yet.
    unheard: u32,
    /// The log has it that nothing can be known.
    told: bool,
    /// Seconds in a row in which what was late came soon.
    well: u32,
    /// Attempts since then.
    attempts: u32,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Verdict {
    /// Words come both ways, as far as is known.
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
    fn look(&mut self, connected: [bool; 2], back: [u64; 2]) -> Verdict {
        let before = std::mem::replace(&mut self.back, back);
        for (way, has_come) in back.iter().zip(&before).map(|(now, before)| now > before).enumerate() {
            self.worked[way] |= has_come;
            self.heard[way] |= has_come;
            self.missed[way] = if has_come { 0 } else { self.missed[way] + 1 };
        }
        if self.worked != [true; 2] {
            // The first connection that is away is known, and explains it.
            self.unheard += u32::from(connected[0]);
            let is_silent = self.unheard >= CANARY_UNHEARD_MAX && !self.told;
            self.told |= is_silent;
            return if is_silent { Verdict::Silent } else { Verdict::Wait };
        }
        if connected != [true; 2] {
            (self.missed, self.heard) = ([0; 2], [false; 2]);
            return Verdict::Wait;
        }
        let missed = self.missed[0].max(self.missed[1]);
        if missed >= CANARY_MISSED_MAX << self.attempts {
            (self.missed, self.heard, self.well) = ([0; 2], [false; 2], 0);
            self.attempts = (self.attempts + 1).min(CANARY_DOUBLINGS_MAX);
            return Verdict::Deaf;
        }
        if self.heard != [true; 2] {
            return Verdict::Wait;
        }
        self.told = false;
        self.well = if missed <= CANARY_LATE { self.well + 1 } else { 0 };
        if self.well >= CANARY_WELL {
            self.attempts = 0;
        }
        Verdict::Well
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOTH: [bool; 2] = [true; 2];

    /// What is said of so many seconds in which nothing comes.
    fn silence(hearing: &mut Hearing, seconds: u32) -> Vec<Verdict> {
        let back = hearing.back;
        (0..seconds).map(|_| hearing.look(BOTH, back)).collect()
    }

    fn deaf(verdicts: &[Verdict]) -> Vec<usize> {
        let seconds = verdicts.iter().enumerate().filter(|(_, verdict)| **verdict == Verdict::Deaf);
        seconds.map(|(second, _)| second + 1).collect()
    }

    #[test]
    fn a_way_that_brings_nothing_any_more_is_noticed_and_attempts_get_rarer() {
        let mut hearing = Hearing::default();
        assert_eq!(hearing.look(BOTH, [1, 1]), Verdict::Well);
        // One of the two ways is enough.
        let verdicts: Vec<Verdict> = (2..9).map(|number| hearing.look(BOTH, [number, 1])).collect();
        assert_eq!(deaf(&verdicts), [7]);
        assert_eq!(deaf(&silence(&mut hearing, 1000)), [14, 42, 98, 210, 434, 658, 882], "twice as far, to 224 s");
        // One word after each attempt is no end of it.
        assert_eq!(hearing.look(BOTH, [9, 9]), Verdict::Well);
        assert_eq!(deaf(&silence(&mut hearing, 224)), [224]);
        for number in 10..10 + u64::from(CANARY_WELL) {
            assert_eq!(hearing.look(BOTH, [number; 2]), Verdict::Well);
        }
        assert_eq!(deaf(&silence(&mut hearing, 20)), [7], "from the beginning");
    }

    #[test]
    fn a_word_that_is_late_has_come_all_the_same() {
        let mut hearing = Hearing::default();
        for number in 1..100 {
            // Each third second brings what was said in the two before it as well, each way in a
            // second of its own.
            assert_ne!(hearing.look(BOTH, [number / 3 * 3 + 1, (number + 1) / 3 * 3 + 1]), Verdict::Deaf, "{number}");
        }
        assert_eq!(hearing.attempts, 0);
    }

    #[test]
    fn nothing_is_known_without_connections_or_where_no_word_has_ever_come() {
        for connected in [BOTH, [true, false]] {
            let mut hearing = Hearing::default();
            let mut silent: Vec<Verdict> = (0..500).map(|_| hearing.look(connected, [0; 2])).collect();
            silent.push(hearing.look([false; 2], [0; 2]));
            silent.extend(silence(&mut hearing, 500));
            assert_eq!(silent.iter().filter(|verdict| **verdict == Verdict::Silent).count(), 1, "said once");
            assert_eq!(deaf(&silent), [0; 0]);
            assert_eq!(hearing.look(BOTH, [1, 1]), Verdict::Well);
            for _ in 0..100 {
                assert_eq!(hearing.look([true, false], [1, 1]), Verdict::Wait);
            }
            assert_eq!(deaf(&silence(&mut hearing, 6)), [0; 0], "the time before does not count");
        }
    }

    #[test]
    fn words_are_told_from_envelopes_and_from_those_of_others() {
        let (canary, twin) = (Canary::new(), Canary::new());
        twin.said.store(9, Ordering::Relaxed);
        for strange in
            [&b"IMGB and more"[..], b"", b"IMG", b"IMGC", &twin.word(7), &[&canary.word(1)[..], b"x"].concat()]
        {
            assert!(!canary.take(strange), "{strange:?}");
        }
        canary.said.store(7, Ordering::Relaxed);
        assert!(canary.take(&canary.word(5)) && canary.take(&canary.word(3)));
        assert_eq!(canary.back.load(Ordering::Relaxed), 5, "what was recorded is no news");
        assert!(canary.take(&canary.word(8)) && canary.take(&canary.word(u64::MAX)));
        assert_eq!(canary.back.load(Ordering::Relaxed), 5, "nor is what was never said");
    }
}
