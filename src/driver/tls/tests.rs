//! The line of handshakes.

use std::sync::Arc;

use super::*;
use tls_support::Place;

#[path = "../../../tls/tests/support/mod.rs"]
mod tls_support;

#[test]
fn handshakes_that_have_ended_do_not_stay_in_line() {
    let mut tls = Tls::new(Place::new().acceptor(true));
    let table = Table::new(Arc::default(), 1);
    for slot in 0..100_000 {
        tls.line_up(ConnId { slot, generation: 0 }, &table);
        assert!(tls.line.len() <= 2 * HEADS_PENDING_MAX);
    }
}
