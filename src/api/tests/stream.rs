//! The byte stream of an HTTP connection over TLS.

use std::io;
use std::net::TcpListener;

use crate::api::stream::Stream;
use crate::mesh::Wire;
use tls_support::{Place, SUITES, said_by, seal_by_client, shake};

#[path = "../../../tls/tests/support/mod.rs"]
mod tls_support;

#[test]
fn a_key_update_is_nothing_to_read() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().expect("a runtime");
    let place = Place::new();
    for own_records in [true, false] {
        let talk = |said: &dyn Fn(&mut rustls::ClientConnection) -> Vec<u8>| {
            let mut client = place.client(SUITES[0]);
            let session = shake(&place.acceptor(own_records), &mut client, usize::MAX).expect("both").session;
            let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
            let mut far = std::net::TcpStream::connect(listener.local_addr().expect("bound")).expect("it listens");
            let (socket, _) = listener.accept().expect("it has connected");
            client.refresh_traffic_keys().expect("it is TLS 1.3");
            io::Write::write_all(&mut far, &said(&mut client)).expect("a few bytes");
            drop(far);
            runtime.block_on(async {
                let mut stream = Stream::new(Wire { socket, tls: Some(session) }).expect("tokio's");
                let more = stream.has_more().await;
                (more, stream.opened().to_vec())
            })
        };
        let update_and_end = |client: &mut rustls::ClientConnection| {
            client.send_close_notify();
            said_by(client)
        };
        assert_eq!(talk(&update_and_end), (false, Vec::new()));
        assert_eq!(talk(&|client| seal_by_client(client, b"GET")), (true, b"GET".to_vec()));
        // Half of a record is the beginning of a request.
        let half = |client: &mut rustls::ClientConnection| {
            let whole = seal_by_client(client, b"GET");
            whole[..whole.len() - 1].to_vec()
        };
        assert_eq!(talk(&half), (true, Vec::new()));
    }
}
