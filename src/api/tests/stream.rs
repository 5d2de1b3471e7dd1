//! The byte stream of an HTTP connection over TLS.

use std::io::{self, Read};
use std::net::TcpListener;
use std::thread;

use tokio::io::AsyncWriteExt;

use crate::api::stream::Stream;
use crate::mesh::Wire;
use tls_support::{Place, SUITES, said_by, seal_by_client, shake, tell};

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

/// Sockets that are full again and again, some of them behind the last byte of a record.
#[test]
fn what_is_written_comes_once_and_in_order() {
    const BYTES: usize = 4 << 20;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().expect("a runtime");
    let place = Place::new();
    let words: Vec<u8> = (0..BYTES as u64 / 8).flat_map(u64::to_be_bytes).collect();
    for own_records in [true, false] {
        let mut client = place.client(SUITES[0]);
        let session = shake(&place.acceptor(own_records), &mut client, usize::MAX).expect("both").session;
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let mut far = std::net::TcpStream::connect(listener.local_addr().expect("bound")).expect("it listens");
        let (socket, _) = listener.accept().expect("it has connected");
        socket2::SockRef::from(&socket).set_send_buffer_size(1).expect("the least that there is");
        let reading = thread::spawn(move || {
            let (mut heard, mut wire) = (Vec::new(), vec![0; 3000]);
            while let n @ 1.. = far.read(&mut wire).expect("its words") {
                heard.extend(tell(&mut client, &wire[..n]).expect("its records"));
            }
            heard
        });
        runtime.block_on(async {
            let mut stream = Stream::new(Wire { socket, tls: Some(session) }).expect("tokio's");
            stream.write_all(&words).await.expect("it is read");
            stream.shutdown().await.expect("it is read");
        });
        let heard = reading.join().expect("no panic");
        let differs = std::iter::zip(&heard, &words).position(|(heard, said)| heard != said);
        assert_eq!((heard.len(), differs), (BYTES, None), "records of our own: {own_records}");
    }
}
