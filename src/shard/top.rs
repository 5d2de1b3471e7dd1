//! Counting what takes the most, while an operator looks.
//!
//! Owns: [`Counting`], by user and by group.
//! Never: costs more than one look at an empty place while no operator looks.

use crate::ids::{ConvId, GroupId, UserId};
use crate::metrics::top::{Top, TopReport, Weights};

/// What is counted while an operator looks, and nothing else.
#[derive(Default)]
pub(in crate::shard) struct Counting {
    counted: Option<Box<Counted>>,
}

#[derive(Default)]
struct Counted {
    users: Top<UserId>,
    groups: Top<GroupId>,
}

impl Counting {
    /// Begins, or ends and gives what was counted.
    /// `queued`: asked for at the end of a look alone.
    pub(in crate::shard) fn look<Q: Iterator<Item = (UserId, u64)>>(
        &mut self,
        on: bool,
        queued: impl FnOnce() -> Q,
    ) -> Option<TopReport> {
        if on {
            self.counted.get_or_insert_default();
            return None;
        }
        let mut counted = self.counted.take()?;
        for (user, queued) in queued() {
            counted.users.note(user, &Weights { queued, ..Weights::default() });
        }
        Some(TopReport { users: counted.users.rows(), groups: counted.groups.rows(), networks: Vec::new() })
    }

    /// A user has paid so much of each.
    pub(in crate::shard) fn spent(&mut self, user: UserId, cost: u64, messages: u64, bytes: u64) {
        if let Some(counted) = &mut self.counted {
            counted.users.note(user, &Weights { cost, messages, bytes, ..Weights::default() });
        }
    }

    /// A user was refused something.
    pub(in crate::shard) fn refusal(&mut self, user: UserId) {
        if let Some(counted) = &mut self.counted {
            counted.users.note(user, &Weights { refused: 1, ..Weights::default() });
        }
    }

    /// A user has come.
    pub(in crate::shard) fn opened(&mut self, user: UserId) {
        if let Some(counted) = &mut self.counted {
            counted.users.note(user, &Weights { opened: 1, ..Weights::default() });
        }
    }

    /// A home hands on a message.
    pub(in crate::shard) fn delivery(&mut self, conv: ConvId, bytes: usize) {
        if let Some(counted) = &mut self.counted
            && let ConvId::Group(group) = conv
        {
            counted.groups.note(group, &Weights { messages: 1, bytes: bytes as u64, ..Weights::default() });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shard::sessions::prices::Price;

    #[test]
    fn nothing_is_counted_when_nobody_looks() {
        let mut counting = Counting::default();
        let (user, group) = (UserId::new(7).expect("an id"), GroupId::new(9).expect("an id"));
        let queued = std::iter::empty();
        let spend = |counting: &mut Counting, price: &Price| {
            counting.spent(user, price.cost, price.messages, price.bytes);
        };
        spend(&mut counting, &Price::POST);
        assert!(counting.look(false, || queued.clone()).is_none());
        assert!(counting.look(true, || queued.clone()).is_none());
        spend(&mut counting, &Price::POST);
        spend(&mut counting, &Price::of_read(100, 0, 0));
        counting.refusal(user);
        counting.opened(user);
        counting.delivery(ConvId::Group(group), 50);
        let report = counting.look(false, || [(user, 300)].into_iter()).expect("it was counted");
        let weights = Weights { cost: 4, messages: 1, bytes: 100, refused: 1, opened: 1, queued: 300 };
        assert_eq!(report.users, [(user, weights)]);
        assert_eq!(report.groups, [(group, Weights { messages: 1, bytes: 50, ..Weights::default() })]);
        spend(&mut counting, &Price::POST);
        assert!(counting.look(false, || queued.clone()).is_none(), "it has ended");
    }
}
