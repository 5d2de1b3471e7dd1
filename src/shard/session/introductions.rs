//! Old pages draw what they have missed in the order in which they learn its authors' names: for an
//! author whom a page does not know it asks `/user/find`, draws when the answer comes, and has
//! drawn later messages of known authors meanwhile.
//!
//! Owns: the pause of a legacy session's replay behind the first message of each author: until the
//! page's question has been answered, and [`limits::INTRODUCTION_TICKS`] at the latest.
//! Never: keeps a message for it. What the page lacks stays in the store; nothing is pushed past it
//! meanwhile.
//! Bounds: [`limits::INTRODUCED_MAX`] authors of one replay; one retry a session under way.

use crate::ids::UserId;
use crate::limits;

/// Whom a page has been introduced to in this replay.
#[derive(Debug, Default)]
pub(in crate::shard) struct Introductions {
    met: Vec<UserId>,
    /// Whom it asks for, and for how many more retries it is waited.
    asking: Option<(UserId, u8)>,
}

impl Introductions {
    /// Whether the page may be asking for an author.
    pub(in crate::shard) fn wait(&self) -> bool {
        self.asking.is_some()
    }

    /// A message of `author` is on its way. Whether the page is given the time to ask for that
    /// author.
    pub(in crate::shard) fn meet(&mut self, author: UserId) -> bool {
        if self.met.contains(&author) || self.met.len() >= limits::INTRODUCED_MAX {
            return false;
        }
        self.met.push(author);
        self.asking = Some((author, limits::INTRODUCTION_TICKS));
        true
    }

    /// The question has been answered: the answer is given until the next retry.
    pub(in crate::shard) fn found(&mut self, author: UserId) {
        if let Some((asked, ticks)) = &mut self.asking
            && *asked == author
        {
            *ticks = 0;
        }
    }

    /// A retry is due. Whether the replay goes on.
    pub(in crate::shard) fn tick(&mut self) -> bool {
        match &mut self.asking {
            Some((_, ticks)) if *ticks > 0 => {
                *ticks -= 1;
                false
            }
            Some(_) => {
                self.asking = None;
                true
            }
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_given_the_time_to_ask_who_an_author_is_once() {
        let user = |raw| UserId::new(raw).expect("small");
        let mut page = Introductions::default();
        assert!(page.meet(user(1)) && page.wait());
        page.found(user(2));
        let ticks = (0..).take_while(|_| !page.tick()).count();
        assert_eq!(ticks, usize::from(limits::INTRODUCTION_TICKS), "nobody asked for the author");
        assert!(!page.wait() && !page.meet(user(1)), "who is known is not asked for again");
        assert!(page.meet(user(2)));
        page.found(user(2));
        assert!(page.tick() && !page.wait(), "answered");
        for author in 3..=limits::INTRODUCED_MAX as u64 {
            assert!(page.meet(user(author)));
        }
        assert!(!page.meet(user(9_999)), "more authors than are remembered are not waited for");
    }
}
