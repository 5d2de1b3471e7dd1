//! Any bytes before the first request of a listener for proxies: never a panic, a bounded header, and the same verdict
//! however the bytes are cut.

#![no_main]

use imgate::caller::preamble::parse;
use imgate::limits::PREAMBLE_BYTES_MAX;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let found = parse(bytes);
    if let Ok(Some(preamble)) = found {
        assert!(preamble.len <= PREAMBLE_BYTES_MAX && preamble.len <= bytes.len(), "{preamble:?}");
        assert_eq!(parse(&bytes[..preamble.len]), found, "what follows is the client's, and changes nothing");
    } else if found == Ok(None) {
        assert!(bytes.len() < PREAMBLE_BYTES_MAX, "no header is longer, so nothing is waited for");
    }
    for cut in 0..bytes.len().min(PREAMBLE_BYTES_MAX) {
        match parse(&bytes[..cut]) {
            Ok(None) => {}
            Ok(Some(preamble)) => assert_eq!(Ok(Some(preamble)), found),
            // Only what no further byte can help is refused.
            Err(_) => assert!(found.is_err(), "refused after {cut} bytes, and taken as a whole"),
        }
    }
});
