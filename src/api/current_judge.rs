//! The judge of requests as it is now: another one takes its place when the configuration was
//! loaded again.
//!
//! Never: on the way of a session. The gates have their own, and are told of another one by their
//! orders.

use std::sync::Arc;

use parking_lot::RwLock;

use crate::caller::Judge;

/// See the module.
pub(super) struct CurrentJudge(RwLock<Arc<Judge>>);

impl CurrentJudge {
    /// Begins with `judge`.
    pub(super) fn new(judge: Arc<Judge>) -> Self {
        Self(RwLock::new(judge))
    }

    /// The judge of a request that has come now.
    pub(super) fn get(&self) -> Arc<Judge> {
        Arc::clone(&self.0.read())
    }

    /// From now on `judge`.
    pub(super) fn set(&self, judge: Arc<Judge>) {
        *self.0.write() = judge;
    }
}
