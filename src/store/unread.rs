//! How many messages are looked at to count what is unread in one page of conversations.
//!
//! Never: looks at a message itself; a backend does.
//! Bounds: [`UNREAD_SCAN_MAX`] messages for a page, and [`UNREAD_LOOKS_MIN`] more for each of its
//! conversations.

use super::ConvState;
use crate::ids::Seq;
use crate::limits::{UNREAD_LOOKS_MIN, UNREAD_MAX, UNREAD_SCAN_MAX};

/// What is to be counted in one conversation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Count {
    /// The first number that may be unread.
    pub(super) from: Seq,
    /// So many numbers from there on are looked at; those that others wrote are unread.
    pub(super) looks: u64,
    /// So many more count as unread without a look, also the own ones: the page has no more looks
    /// left.
    pub(super) beyond: u64,
}

/// Shares the looks of a page among its conversations: a few for each, so that what is short is
/// exact, the rest in the order of the page.
pub(super) fn allot<'a>(states: impl Iterator<Item = &'a ConvState>) -> Vec<Count> {
    let mut left = UNREAD_SCAN_MAX as u64;
    let one = |state: &ConvState| {
        let base = state.read.max(state.floor.prev());
        let range = state.head.get().saturating_sub(base.get()).min(UNREAD_SCAN_MAX as u64);
        let own = range.min(UNREAD_LOOKS_MIN);
        let shared = (range - own).min(left);
        left -= shared;
        let looks = own + shared;
        Count { from: base.next(), looks, beyond: (range - looks).min(UNREAD_MAX) }
    };
    states.map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{ConvId, UserId};

    fn state(head: u64, floor: u64, read: u64) -> ConvState {
        let seq = |raw| Seq::new(raw).expect("in range");
        let user = |raw| UserId::new(raw).expect("in range");
        let conv = ConvId::direct(user(1), user(2));
        ConvState {
            conv,
            head: seq(head),
            ts_ms: 1,
            floor: seq(floor),
            recv: seq(read),
            read: seq(read),
            unread: 0,
            newest: None,
        }
    }

    fn counts(states: &[ConvState]) -> Vec<(u64, u64, u64)> {
        allot(states.iter()).iter().map(|count| (count.from.get(), count.looks, count.beyond)).collect()
    }

    #[test]
    fn what_is_short_is_looked_at_whole() {
        let most = UNREAD_SCAN_MAX as u64;
        assert_eq!(
            counts(&[state(9, 1, 9), state(9, 1, 4), state(9, 8, 4), state(9, 10, 4)]),
            [(10, 0, 0), (5, 5, 0), (8, 2, 0), (10, 0, 0)]
        );
        assert_eq!(counts(&[state(1_000_000, 1, 5)]), [(6, most, 0)], "one alone has all looks");
    }

    #[test]
    fn a_page_has_a_bound_in_all() {
        let most = UNREAD_SCAN_MAX as u64;
        let page = vec![state(1_000_000, 1, 0); 200];
        let counts = counts(&page);
        assert_eq!(counts[0], (1, most, 0));
        assert_eq!(counts[1], (1, 2 * UNREAD_LOOKS_MIN, UNREAD_MAX), "what the first one left");
        assert_eq!(counts[199], (1, UNREAD_LOOKS_MIN, UNREAD_MAX));
        assert_eq!(counts.iter().map(|(_, looks, _)| looks).sum::<u64>(), most + 200 * UNREAD_LOOKS_MIN);
    }
}
