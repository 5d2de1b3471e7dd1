//! Any bytes as a request head: never a panic, a bounded head, and the same verdict when more bytes follow a whole head.

#![no_main]

use imgate::http::Head;
use imgate::limits::HEAD_BYTES_MAX;
use imgate::ws::handshake::Upgrade;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(Some(head)) = Head::parse(bytes) else { return };
    assert!(head.len() <= HEAD_BYTES_MAX && head.len() <= bytes.len());
    let alone = Head::parse(&bytes[..head.len()]);
    assert!(matches!(alone, Ok(Some(again)) if again.path() == head.path() && again.query() == head.query()));
    let _ = (
        head.host(),
        head.bearer(),
        head.cookie("token"),
        head.query_param("token"),
        head.cookies_with_prefix("im_").count(),
    );
    if let Ok(upgrade) = Upgrade::of(&head) {
        let _ = (upgrade.offers("imgate.v2"), upgrade.offer_after("token."));
        if let Ok(accept) = upgrade.accept() {
            accept.write_response(&mut Vec::new(), None);
        }
    }
});
