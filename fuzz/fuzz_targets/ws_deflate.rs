//! Any bytes as a compressed message, and as what a client offers: no panic, and never more than the bound; what is inflated is
//! compressed and inflated again to the same.

#![no_main]

use imgate::ws::deflate::{Deflater, Inflater, agree};
use imgate::ws::frame;
use libfuzzer_sys::fuzz_target;

const BYTES_MAX: usize = 20_000;

fuzz_target!(|payload: &[u8]| {
    if let Ok(header) = std::str::from_utf8(payload) {
        let _ = agree([header].into_iter());
    }
    let mut inflater = Inflater::default();
    let Ok(message) = inflater.open(false, payload, BYTES_MAX).map(|incoming| incoming.payload().to_vec()) else { return };
    assert!(message.len() <= BYTES_MAX);
    if let Some(again) = Deflater::new(0).frame(frame::BINARY, &message) {
        let payload = frame::unframed(&again).1;
        if payload.len() * 100 >= message.len() {
            let opened = inflater.open(false, payload, BYTES_MAX).map(|incoming| incoming.payload().to_vec());
            assert_eq!(opened, Ok(message));
        }
    }
});
