//! The end of a shard whose state contradicts itself.
//!
//! Owns: [`broken`], the one alarm, in release builds too. A state that only our own fault can
//! reach is not repaired and not passed over: the process ends and starts again from the store
//! (`docs/decisions/0003-abort-on-broken-shard-invariants.md`).
//! Never: is called for anything that a client, a peer or the store may cause.

/// Ends the process: `why` is what must always hold and does not.
#[cold]
#[inline(never)]
#[track_caller]
pub(in crate::shard) fn broken(why: &str) -> ! {
    panic!("a shard is broken: {why}")
}
