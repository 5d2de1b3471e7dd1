//! Whose a number is that is given to two gateways.
//!
//! Owns: what is asked and answered for that, and what comes of silence.
//! Never: takes, once refused, the number of one that lives: it waits longer than anything that a
//! gateway lives through, and one that could not be heard for so long asks whether its number is
//! still its own. One that begins asks for a second only: whoever gives a number twice may have it
//! spoken under twice after an outage, which both logs say.
//! Bounds: one question at a time; an answer is waited for [`TWIN_ANSWER_MS`].

use super::{Exchange, Out};
use crate::clock::Now;
use crate::cluster::envelope::{Envelope, Item, To};
use crate::limits::{TWIN_ANSWER_MS, TWIN_GONE_MS};

/// Whether a gateway may speak under its number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Admission {
    /// It has asked the others at that time, or not yet.
    Asking(Option<u64>),
    /// No other gateway has said that the number is its own.
    Given,
    /// One has, which was heard last at that time.
    Refused(u64),
}

impl Exchange {
    /// Whether this gateway has its number for itself: `None`, while that is not known.
    #[must_use]
    pub const fn admitted(&self) -> Option<bool> {
        match self.admission {
            Admission::Asking(_) => None,
            Admission::Given => Some(true),
            Admission::Refused(_) => Some(false),
        }
    }

    /// This gateway could not be heard for so long: another one may have its number by now.
    pub(super) fn doubt_admission(&mut self, away_ms: u64) {
        if away_ms >= TWIN_GONE_MS && self.admission == Admission::Given {
            self.admission = Admission::Asking(None);
        }
    }

    /// Asks whether another gateway has this one's number, or has waited for that long enough. One
    /// that was refused after it had begun, the bus having come late, asks again when the other has
    /// said that it goes, or is gone for certain.
    pub(super) fn ask_admission(&mut self, now: Now, out: &mut Vec<Out>) {
        match self.admission {
            Admission::Asking(None) if self.up && self.epoch.is_some() => {
                self.admission = Admission::Asking(Some(now.mono_ms));
                self.publish_anyhow(now, To::All, vec![Item::Start], out);
            }
            Admission::Asking(Some(asked_ms)) if asked_ms + TWIN_ANSWER_MS <= now.mono_ms => {
                self.admission = Admission::Given;
            }
            Admission::Refused(heard_ms)
                if !self.alone && heard_ms.max(self.turned_ms) + TWIN_GONE_MS <= now.mono_ms =>
            {
                self.admission = Admission::Asking(None);
            }
            Admission::Asking(_) | Admission::Given | Admission::Refused(_) => {}
        }
    }

    /// A gateway with this one's number speaks.
    pub(super) fn twin(&mut self, now: Now, envelope: &Envelope, out: &mut Vec<Out>) {
        let from = &envelope.from;
        // One's own words do not come back.
        if from.boot == self.me.boot {
            return;
        }
        self.counts.twins += 1;
        if self.epoch != Some(from.epoch) {
            return;
        }
        if let Admission::Refused(heard_ms) = &mut self.admission {
            *heard_ms = now.mono_ms;
        }
        for item in &envelope.items {
            match item {
                Item::Start => {
                    // Of two that begin together one goes on.
                    let is_mine = match self.admission {
                        Admission::Given => true,
                        Admission::Asking(asked_ms) => asked_ms.is_some() && self.me.boot < from.boot,
                        Admission::Refused(_) => false,
                    };
                    if is_mine {
                        self.publish_anyhow(now, To::All, vec![Item::Taken { boot: from.boot }], out);
                    } else if matches!(self.admission, Admission::Asking(_)) {
                        // The other one may not have heard the question: it was not there yet.
                        self.admission = Admission::Asking(None);
                    }
                }
                // Whoever repeats what was said to another start does not stop this one.
                Item::Taken { boot } if *boot == self.me.boot && self.admitted().is_none() => {
                    self.admission = Admission::Refused(now.mono_ms);
                }
                // Should it be a word that was said before, it is answered again.
                Item::Bye if self.admitted() == Some(false) => self.admission = Admission::Asking(None),
                _ => {}
            }
        }
    }
}
