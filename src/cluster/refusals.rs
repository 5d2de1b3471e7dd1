//! What the server of the bus refuses this gateway, and whether a gateway can do without it.
//!
//! Owns: the subjects that a gateway needs, and which of them its account may not use, as the
//! server has said last.
//! Never: believes a refusal for ever. Subscriptions are asked for again every
//! [`BUS_FORBIDDEN_MS`], and what may not be said is refused again when it is said again.
//! Bounds: [`NEEDS`].

use async_nats::ServerError;

use crate::limits::{BUS_CONNECT_MS, BUS_FORBIDDEN_MS};

/// What a gateway needs to hear and to say, and what it is told on `/readyz` without one of them.
const NEEDS: [&str; 4] = [
    "degraded: the account at NATS may not subscribe to `im.NAME.1.all`, messages of other gateways are up to 10 s late",
    "degraded: the account at NATS may not subscribe to `im.NAME.1.n.NODE`, messages of other gateways are up to 3 s late",
    "degraded: the account at NATS may not publish to `im.NAME.1.all`, other gateways hear of this one late",
    "degraded: the account at NATS may not publish to `im.NAME.1.n.*`, other gateways hear of this one up to 3 s late",
];
/// Of these, so many are subscriptions.
const HEARD: usize = 2;

/// See the head of this file.
#[derive(Debug)]
pub(super) struct Refusals {
    /// What is for all gateways,
    all: String,
    /// for this one,
    own: String,
    /// and for any single one: with its number behind it.
    one: String,
    /// Until when each of [`NEEDS`] counts as refused.
    until_ms: [u64; NEEDS.len()],
    /// When the subscriptions were last asked for.
    asked_ms: u64,
    /// Refusals of what a gateway needs, so far,
    pub(super) needed: u64,
    /// and of anything else.
    pub(super) other: u64,
}

impl Refusals {
    pub(super) fn new(all: String, own: String, one: String) -> Self {
        Self { all, own, one, until_ms: [0; NEEDS.len()], asked_ms: 0, needed: 0, other: 0 }
    }

    /// The server has refused something.
    pub(super) fn note(&mut self, now_ms: u64, error: &ServerError) {
        let which = match error {
            ServerError::Other(text) => self.which(text),
            _ => None,
        };
        let Some(which) = which else {
            self.other += 1;
            return;
        };
        self.needed += 1;
        // A subscription is refused once; what is said, each time.
        self.until_ms[which] = if which < HEARD { u64::MAX } else { now_ms + BUS_FORBIDDEN_MS };
    }

    /// Which of [`NEEDS`] a refusal is about: `Permissions Violation for Subscription to "…"`.
    fn which(&self, text: &str) -> Option<usize> {
        let (before, quoted) = text.split_once('"')?;
        let (subject, _) = quoted.split_once('"')?;
        let before = before.to_ascii_lowercase();
        if !before.contains("permissions violation") {
            return None;
        }
        match (before.contains("subscription"), before.contains("publish")) {
            (true, false) if subject == self.all => Some(0),
            (true, false) if subject == self.own => Some(1),
            (false, true) if subject == self.all => Some(2),
            (false, true) if subject.starts_with(&self.one) => Some(3),
            _ => None,
        }
    }

    /// The subscriptions were asked for again, because the connection was made anew or because it
    /// was time: they are there, unless the server says soon that they are not.
    pub(super) fn asked(&mut self, now_ms: u64) {
        self.asked_ms = now_ms;
        for until_ms in &mut self.until_ms[..HEARD] {
            *until_ms = (*until_ms).min(now_ms + BUS_CONNECT_MS);
        }
    }

    /// Whether a subscription that was refused is to be asked for again.
    pub(super) fn is_time_to_ask(&self, now_ms: u64) -> bool {
        self.until_ms[..HEARD].contains(&u64::MAX) && now_ms >= self.asked_ms + BUS_FORBIDDEN_MS
    }

    /// What a gateway needs and may not, in words for `/readyz`.
    pub(super) fn forbidden(&self, now_ms: u64) -> Option<&'static str> {
        let in_force = |until_ms: &u64| *until_ms > now_ms;
        self.until_ms.iter().position(in_force).map(|which| NEEDS[which])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusals() -> Refusals {
        let text = |end: &str| format!("im.test.1.{end}");
        Refusals::new(text("all"), text("n.7"), text("n."))
    }

    fn refuse(refusals: &mut Refusals, now_ms: u64, text: &str) -> Option<&'static str> {
        refusals.note(now_ms, &ServerError::Other(text.to_owned()));
        refusals.forbidden(now_ms)
    }

    #[test]
    fn what_a_gateway_needs_is_told_from_what_it_can_do_without() {
        let needed = [
            ("Permissions Violation for Subscription to \"im.test.1.all\"", 0),
            ("Permissions Violation for Subscription to \"im.test.1.n.7\"", 1),
            ("Permissions Violation for Subscription to \"im.test.1.n.7\" (sid \"2\")", 1),
            ("Permissions Violation for Publish to \"im.test.1.all\"", 2),
            ("Permissions Violation for Publish to \"im.test.1.n.3\"", 3),
        ];
        for (text, which) in needed {
            let mut refusals = refusals();
            assert_eq!(refuse(&mut refusals, 5, text), Some(NEEDS[which]), "{text}");
            assert_eq!((refusals.needed, refusals.other), (1, 0));
        }
        for text in [
            "Permissions Violation for Subscription to \"im.test.1.probe.7\"",
            "Permissions Violation for Subscription to \"im.test.1.n.3\"",
            "Permissions Violation for Publish to \"im.test.1.probe.7\"",
            "Permissions Violation for Subscription to \"",
            "maximum connections exceeded",
            "Something \"im.test.1.all\"",
        ] {
            let mut refusals = refusals();
            assert_eq!(refuse(&mut refusals, 5, text), None, "{text}");
            assert_eq!((refusals.needed, refusals.other), (0, 1), "{text}");
        }
    }

    #[test]
    fn a_subscription_is_refused_until_the_server_takes_it() {
        let (mut refusals, text) = (refusals(), "Permissions Violation for Subscription to \"im.test.1.n.7\"");
        refusals.asked(1_000);
        refuse(&mut refusals, 1_001, text);
        assert!(!refusals.is_time_to_ask(BUS_FORBIDDEN_MS));
        let mut at_ms = 1_000 + BUS_FORBIDDEN_MS;
        assert!(refusals.is_time_to_ask(at_ms));
        refusals.asked(at_ms);
        assert!(refusals.forbidden(at_ms + 1).is_some(), "no word of it yet");
        refuse(&mut refusals, at_ms + 2, text);
        assert!(refusals.forbidden(at_ms + BUS_CONNECT_MS).is_some(), "refused again");
        at_ms += BUS_FORBIDDEN_MS;
        refusals.asked(at_ms);
        assert_eq!(refusals.forbidden(at_ms + BUS_CONNECT_MS), None);
        assert!(!refusals.is_time_to_ask(at_ms + BUS_FORBIDDEN_MS));
    }

    #[test]
    fn what_may_not_be_said_is_refused_for_as_long_as_it_is_said() {
        let mut refusals = refusals();
        refuse(&mut refusals, 1_000, "Permissions Violation for Publish to \"im.test.1.all\"");
        refusals.asked(2_000);
        assert!(refusals.forbidden(999 + BUS_FORBIDDEN_MS).is_some());
        assert_eq!(refusals.forbidden(1_000 + BUS_FORBIDDEN_MS), None);
        assert!(!refusals.is_time_to_ask(u64::MAX), "asking does not help");
    }
}
