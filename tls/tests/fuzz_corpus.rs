//! Replays the corpus of the fuzz targets, and a few thousand inputs of a generator with a fixed seed.

mod fuzz;
#[path = "fuzz/peer.rs"]
mod peer;
mod support;

use std::path::Path;

/// All inputs that were kept for `target`.
fn corpus(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus").join(target);
    let files = std::fs::read_dir(folder).expect("there is a corpus");
    files.map(|file| std::fs::read(file.expect("it can be listed").path()).expect("it can be read")).collect()
}

/// Bytes that look random and are the same each time (splitmix64).
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) as u8
    };
    (0..length).map(|_| next()).collect()
}

#[test]
fn records_keep_their_promises() {
    let inputs = corpus("records");
    assert!(!inputs.is_empty());
    for input in inputs {
        fuzz::records(&input);
    }
    for seed in 0..600 {
        let mut input = noise(seed, 10 + seed as usize % 120);
        // Half of them without anybody in between.
        if seed % 2 == 0 {
            for deed in &mut input[1..] {
                *deed &= if *deed >> 1 & 3 > 1 && *deed >> 3 != 0 { 0b1111_1011 } else { 0xff };
            }
        }
        fuzz::records(&input);
    }
}

#[test]
fn handshakes_bear_any_bytes() {
    let place = support::Place::new();
    let acceptor = place.acceptor(true);
    let inputs = corpus("handshake");
    assert!(!inputs.is_empty());
    for input in inputs {
        fuzz::handshake(&acceptor, &input);
        // And with each byte of its beginning changed.
        for at in 1..input.len().min(200) {
            let mut touched = input.clone();
            touched[at] ^= 0x5a;
            fuzz::handshake(&acceptor, &touched);
        }
    }
    for seed in 0..200 {
        let mut input = noise(seed, 3 + seed as usize);
        input.splice(1..1, [22, 3, 1, 0, seed as u8, 1, 0, 0]);
        fuzz::handshake(&acceptor, &input);
    }
}

#[test]
fn rustls_client_accepts_what_is_said() {
    let server = peer::Server::new();
    let inputs = corpus("peer");
    assert!(!inputs.is_empty());
    for input in inputs {
        peer::peer(&server, &input);
    }
    for seed in 0..400 {
        let mut input = noise(seed, 10 + seed as usize % 110);
        // Two of three without anybody in between.
        if seed % 3 != 0 {
            for deed in &mut input[1..] {
                if matches!(*deed & 7, 5 | 6) || (*deed & 7 == 7 && *deed >> 3 > 1) {
                    *deed &= 0b1111_1001;
                }
            }
        }
        peer::peer(&server, &input);
    }
}
