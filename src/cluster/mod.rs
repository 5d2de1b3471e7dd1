//! Other nodes: there are none yet.
//!
//! Owns: [`Alone`], the only kind of neighbourhood that this version knows. Nodes linked by a
//! message broker come later. Never: promises more. Gateways that share one
//! database keep order, dedupe and history right, because the database numbers; what one of them
//! stores reaches the sessions of another when these read their conversations, not at once.

use crate::ids::NodeId;

/// A node that hears of no other.
#[derive(Clone, Copy, Debug)]
pub struct Alone {
    node: NodeId,
}

impl Alone {
    /// The node of that number, among none.
    #[must_use]
    pub const fn new(node: NodeId) -> Self {
        Self { node }
    }

    /// Its number among those that share a database: part of the keys under which posts without a
    /// client's id are stored.
    #[must_use]
    pub const fn node(self) -> NodeId {
        self.node
    }
}
