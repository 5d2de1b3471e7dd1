//! Replays the corpus of the fuzz targets, each input also cut and with bytes changed, and some thousand inputs of a generator with a
//! fixed seed.

mod fuzz;
#[path = "fuzz/envelope.rs"]
mod fuzz_envelope;

use std::path::Path;

/// All inputs that were kept for `target`.
fn corpus(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus").join(target);
    let files = std::fs::read_dir(folder).expect("there is a corpus");
    files.map(|file| std::fs::read(file.expect("it can be listed").path()).expect("it can be read")).collect()
}

/// Numbers that look random and are the same each time (splitmix64).
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) as usize >> 1
    }
}

/// Gives `target` its corpus, what is near it, and noise.
fn replay(name: &str, target: fn(&[u8])) {
    let inputs = corpus(name);
    assert!(!inputs.is_empty(), "no corpus of {name}");
    let mut noise = Noise(7);
    for input in &inputs {
        target(input);
        for _ in 0..60 {
            let mut near = input[..noise.next() % (input.len() + 1)].to_vec();
            if noise.next().is_multiple_of(2) {
                near.extend_from_slice(&input[noise.next() % (input.len() + 1)..]);
            }
            for _ in 0..noise.next() % 4 {
                let length = near.len().max(1);
                if let Some(byte) = near.get_mut(noise.next() % length) {
                    *byte = noise.next() as u8;
                }
            }
            target(&near);
        }
    }
    for length in 0..600 {
        target(&(0..length % 90).map(|_| noise.next() as u8).collect::<Vec<u8>>());
    }
}

#[test]
fn commands_bear_any_bytes() {
    replay("command", fuzz::command);
}

#[test]
fn gateways_bear_any_bytes_on_the_bus() {
    replay("envelope", fuzz_envelope::envelope);
}

#[test]
fn headers_of_proxies_bear_any_bytes() {
    replay("forwarded", fuzz::forwarded);
    replay("proxy_preamble", fuzz::proxy_preamble);
}

#[test]
fn heads_bear_any_bytes() {
    replay("http_head", fuzz::http_head);
}

#[test]
fn pictures_bear_any_bytes() {
    replay("picture_head", fuzz::picture_head);
}

#[test]
fn settings_bear_any_text() {
    replay("units", fuzz::units);
}

#[test]
fn frames_bear_any_bytes() {
    replay("ws_decoder", fuzz::ws_decoder);
}

#[test]
fn compressed_messages_bear_any_bytes() {
    replay("ws_deflate", fuzz::ws_deflate);
}

#[test]
fn tokens_bear_any_text() {
    replay("jwt", fuzz::jwt);
    assert_eq!(fuzz::subject_of(br#"{"sub":"ann","exp":4102444800}"#).as_deref(), Some("ann"), "a good one is good");
}
