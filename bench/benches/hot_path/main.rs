//! Micro-benchmarks of the hot path, a file for each noun: frames, commands, packets, one message through a shard, the mesh, sweeps, the store,
//! what recording costs, TLS.
//!
//! `cargo bench -p bench`, or one of them: `cargo bench -p bench -- mesh`. A result says little without the machine and the commit beside it, and absolute
//! times not much even then: compare two commits in one sitting.

mod commands;
mod frames;
mod mesh;
mod packets;
mod recording;
mod steps;
mod store;
mod sweeps;
mod tls;

use criterion::{criterion_group, criterion_main};

/// The sample with a `cid` of its own.
fn fresh(sample: &str, n: &mut u64) -> Vec<u8> {
    *n += 1;
    sample.replace("01J8Z3K4Q5", &format!("{n:010}")).into_bytes()
}

criterion_group!(
    hot_path,
    frames::decoding,
    frames::unmasking,
    commands::parsing,
    packets::encoding,
    steps::direct,
    steps::opening,
    steps::checks,
    mesh::hop,
    sweeps::group,
    store::batch,
    store::open_unread,
    recording::recording,
    tls::handshakes,
    tls::records
);
criterion_main!(hot_path);
