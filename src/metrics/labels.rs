//! Closed lists of outcomes that are the values of a label, and counters of them.
//!
//! Owns: [`labels`], which makes an enum with its labels, and [`Counters`].
//! Never: on the way of a message. Whoever counts with these has no thread of its own to count in,
//! so they are atomics.

use std::sync::atomic::{AtomicU64, Ordering};

/// An enum whose variants are the values of one label, in the order of the metric's series.
macro_rules! labels {
    ($(#[$doc:meta])* $name:ident { $($(#[$of:meta])* $variant:ident = $label:literal),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub enum $name {
            $($(#[$of])* $variant),*
        }

        impl $name {
            /// Every one, in the order of the metric's series.
            pub const ALL: &[Self] = &[$(Self::$variant),*];
            /// The labels in the same order.
            pub const LABELS: [&str; [$(Self::$variant),*].len()] = [$($label),*];

            /// Its own.
            #[must_use]
            pub const fn label(self) -> &'static str {
                Self::LABELS[self as usize]
            }
        }
    };
}
pub(super) use labels;

/// A counter for each of `N` outcomes.
#[derive(Debug)]
pub(super) struct Counters<const N: usize>([AtomicU64; N]);

impl<const N: usize> Default for Counters<N> {
    fn default() -> Self {
        Self(std::array::from_fn(|_| AtomicU64::new(0)))
    }
}

impl<const N: usize> Counters<N> {
    /// Counts one, by its place in the list. How many of it there were with this one: no two
    /// callers hear the same number.
    pub(super) fn add(&self, index: usize) -> u64 {
        self.0.get(index).map_or(0, |counter| counter.fetch_add(1, Ordering::Relaxed) + 1)
    }

    /// Counts many of one kind.
    pub(super) fn add_many(&self, index: usize, many: u64) {
        if let Some(counter) = self.0.get(index) {
            counter.fetch_add(many, Ordering::Relaxed);
        }
    }

    /// All of them, in their order.
    pub(super) fn read(&self) -> [u64; N] {
        self.0.each_ref().map(|counter| counter.load(Ordering::Relaxed))
    }
}
