//! Our records with rustls' client as the judge: see the function.
//!
//! The corpus is `tls/tests/corpus/peer`; `cargo test -p imgate-tls` replays it.

#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;

#[path = "../../tls/tests/support/mod.rs"]
mod support;
#[path = "../../tls/tests/fuzz/peer.rs"]
mod target;

static SERVER: LazyLock<target::Server> = LazyLock::new(target::Server::new);

fuzz_target!(|input: &[u8]| target::peer(&SERVER, input));
