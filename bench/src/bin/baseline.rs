//! `baseline`: the broadcast server that one writes with tokio and tokio-tungstenite in an
//! afternoon.
//!
//! A task per connection, tokio's broadcast channel for the group, a queue per connection for
//! direct messages. It speaks as the floor does: `g…` goes to everybody else, `d` with eight digits
//! to one member, whose number is the path of its upgrade.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use bench::process;
use clap::Parser;
use futures_util::{SinkExt, StreamExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{broadcast, mpsc};
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};

/// Messages that the broadcast channel holds for its slowest receiver.
const CHANNEL_MSGS_MAX: usize = 4096;
/// Direct messages that wait for one member.
const DIRECT_MSGS_MAX: usize = 256;

/// A broadcast server of tokio and tokio-tungstenite.
#[derive(Parser)]
struct Cli {
    /// Where to listen.
    #[arg(long, default_value = "127.0.0.1:9002")]
    listen: SocketAddr,
}

struct Hall {
    group: broadcast::Sender<(u32, Utf8Bytes)>,
    members: Mutex<HashMap<u32, mpsc::Sender<Utf8Bytes>>>,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let cli = Cli::parse();
    process::raise_descriptors(0)?;
    let hall = Arc::new(Hall { group: broadcast::Sender::new(CHANNEL_MSGS_MAX), members: Mutex::default() });
    let listener = TcpListener::bind(cli.listen).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let hall = Arc::clone(&hall);
        // How a client's connection ends is its own affair.
        tokio::spawn(async move { drop(serve(stream, &hall).await) });
    }
}

async fn serve(stream: TcpStream, hall: &Hall) -> anyhow::Result<()> {
    let mut number = 0;
    #[expect(clippy::result_large_err, reason = "the callback's type is the crate's")]
    let note = |request: &Request, response: Response| {
        number = request.uri().path().trim_start_matches('/').parse().unwrap_or(0);
        Ok(response)
    };
    let socket = tokio_tungstenite::accept_hdr_async(stream, note).await?;
    let (mut sink, mut source) = socket.split();
    let (direct_in, mut direct) = mpsc::channel(DIRECT_MSGS_MAX);
    hall.members.lock().unwrap_or_else(PoisonError::into_inner).insert(number, direct_in);
    let mut group = hall.group.subscribe();
    loop {
        tokio::select! {
            heard = source.next() => match heard {
                Some(Ok(Message::Text(text))) => hand_on(hall, number, text).await,
                Some(Ok(Message::Close(_)) | Err(_)) | None => break,
                Some(Ok(_)) => {}
            },
            said = group.recv() => match said {
                Ok((author, text)) if author != number => sink.send(Message::Text(text)).await?,
                Ok(_) | Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => break,
            },
            Some(text) = direct.recv() => sink.send(Message::Text(text)).await?,
        }
    }
    hall.members.lock().unwrap_or_else(PoisonError::into_inner).remove(&number);
    Ok(())
}

async fn hand_on(hall: &Hall, author: u32, text: Utf8Bytes) {
    if !text.starts_with('d') {
        // Nobody listens: then nobody misses it.
        let _ = hall.group.send((author, text));
        return;
    }
    let number = text.get(1..9).and_then(|digits| digits.parse::<u32>().ok()).unwrap_or(u32::MAX);
    let member = hall.members.lock().unwrap_or_else(PoisonError::into_inner).get(&number).cloned();
    if let Some(member) = member {
        let _ = member.send(text).await;
    }
}
