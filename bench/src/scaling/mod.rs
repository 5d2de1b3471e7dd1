//! The same work on 1, 2, 4 and 8 shards: what a delivery costs, and what crosses between shards.
//!
//! Owns: `town` (the users and groups of a gateway that is started for it), `scene` (what is done),
//! `flow` (who posts when), `model` (what the counters should say) and `sheet` (the report).

pub mod flow;
pub mod model;
pub mod scene;
pub mod sheet;
pub mod town;

pub use scene::Scene;
pub use sheet::{ScalingRun, ScalingSheet};
pub use town::Town;
