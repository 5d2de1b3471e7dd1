//! Any bytes in place of a client's handshake: see the function.
//!
//! The corpus is `tls/tests/corpus/handshake`; `cargo test -p imgate-tls` replays it.

#![no_main]

use std::sync::{Arc, LazyLock};

use imgate_tls::{Acceptor, Certificates, Pair, Setup};
use libfuzzer_sys::fuzz_target;

#[path = "../../tls/tests/fuzz/mod.rs"]
mod target;

static ACCEPTOR: LazyLock<Acceptor> = LazyLock::new(|| {
    let folder = tempfile::tempdir().expect("there is a temporary folder");
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("it is a name");
    let pair = Pair { certificate: folder.path().join("cert"), key: folder.path().join("key") };
    std::fs::write(&pair.certificate, made.cert.pem()).expect("the folder is ours");
    std::fs::write(&pair.key, made.signing_key.serialize_pem()).expect("the folder is ours");
    let certificates = Arc::new(Certificates::load(&[pair]).expect("they fit"));
    Acceptor::new(Setup { certificates, ticket_secret: vec![1], own_records: true }).expect("it can be made")
});

fuzz_target!(|input: &[u8]| target::handshake(&ACCEPTOR, input));
