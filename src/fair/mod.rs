//! Fairness without a place of its own: pure data structures by which queues, budgets and lanes are
//! shared per user and per address.
//!
//! Owns: [`Network`] (the addresses that count as one), [`Networks`] (a list of them, as an
//! operator writes it), [`Rates`] (how often each key may do something), [`WaitingLine`] (what
//! waits, and what goes when too many do), [`Holdings`] (which key holds how much of a budget, and
//! since when), [`Turns`] (a queue in which every key has its turn), [`BoundedTurns`] (the same
//! with a bound, at which the longest queue gives way), [`Purse`] (what one payer has spent
//! lately), [`Brake`] (the last value of each key, at most once in a pause), [`SlotTable`] (which
//! holder gives way when places are short), [`Patience`] (a least rate), [`Departures`] (which keys
//! have gone a moment ago). Never: knows what is shared, reads a clock or blocks. Time is an
//! argument. Bounds: every table has one, which its maker gives; what is forgotten is forgotten in
//! favour of its key.

mod bounded_turns;
mod brake;
mod departures;
mod holdings;
mod line;
mod network;
mod networks;
mod patience;
mod purse;
mod rates;
mod slots;
mod turns;

pub use bounded_turns::BoundedTurns;
pub use brake::{Brake, Braked};
pub use departures::Departures;
pub use holdings::{Holding, Holdings};
pub use line::WaitingLine;
pub use network::Network;
pub use networks::Networks;
pub use patience::Patience;
pub use purse::{Flow, Purse};
pub use rates::{Rate, Rates};
pub use slots::{Hold, SlotId, SlotTable};
pub use turns::Turns;
