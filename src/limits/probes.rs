//! Caps of what probes are told.
//!
//! Owns: the numbers, each with its unit and its reason.
//! Never: is used but through [`crate::limits`].

/// A shard whose turn has lasted so long, milliseconds, does not come back: `/healthz` says so, and
/// a supervisor that asks it starts the process anew. Far more than a machine that swaps takes, and
/// than a disk under SQLite's files is waited for.
pub const SHARD_DEAD_MS: u64 = 30_000;
