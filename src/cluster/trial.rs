//! One attempt to use the bus, which tells whether it works, and why not.
//!
//! Owns: a connection of its own, which says nothing that a gateway takes for a message.
//! Never: tries again, or shows a password.
//! Bounds: some seconds.

use std::future::ready;
use std::time::Duration;

use async_nats::{Client, ConnectOptions, Event, Subject};
use futures_util::StreamExt;
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::cluster::bus::Subjects;
use crate::cluster::credentials;
use crate::cluster::envelope::To;
use crate::limits::{BUS_COMMANDS_MAX, BUS_CONNECT_MS};

/// What is said, of which a gateway makes nothing.
pub(super) const WORD: &[u8] = b"IMGT";
const PATIENCE: Duration = Duration::from_millis(BUS_CONNECT_MS);
/// How long a refusal may take from the client of the bus to here.
const REFUSAL: Duration = Duration::from_millis(100);

fn options(name: &str, servers: &[String]) -> ConnectOptions {
    credentials::given(ConnectOptions::new(), servers).name(name).connection_timeout(PATIENCE)
}

async fn connect(options: ConnectOptions, servers: &[String]) -> Result<Client, String> {
    let connecting = options.connect(servers);
    let client = timeout(2 * PATIENCE, connecting).await.map_err(|_| "no answer in time".to_owned())?;
    client.map_err(|error| error.to_string())
}

/// Why no server of the bus lets this gateway in: the client that connects again and again does not
/// say more than the kind. `None`: one does by now.
pub(super) async fn why_not(servers: &[String]) -> Option<String> {
    connect(options("imgate asks why", servers), servers).await.err()
}

/// Whether a gateway can say and hear on the bus what it needs.
pub(super) async fn of(servers: &[String], name: &str, node: u16) -> Result<(), String> {
    let (refused_in, mut refused) = mpsc::channel(BUS_COMMANDS_MAX);
    let options = options("imgate doctor", servers).event_callback(move |event| {
        if let Event::ServerError(error) = event {
            // The first one is enough.
            let _ = refused_in.try_send(error.to_string());
        }
        ready(())
    });
    let client = connect(options, servers).await?;
    let subjects = Subjects::new(name);
    let used = timeout(2 * PATIENCE, async {
        tokio::select! {
            biased;
            Some(refusal) = refused.recv() => Err(refusal),
            used = use_all(&client, &subjects, node) => used,
        }
    });
    used.await.unwrap_or_else(|_| Err(format!("it does not bring what is said to `im.{name}.>`")))?;
    // What was refused comes another way than what was said, which has come back by now.
    match timeout(REFUSAL, refused.recv()).await {
        Ok(Some(refusal)) => Err(refusal),
        Ok(None) | Err(_) => Ok(()),
    }
}

/// Subscribes to everything that a gateway does, says something to each, and waits until all has
/// come back. Gateways make nothing of it.
async fn use_all(client: &Client, subjects: &Subjects, node: u16) -> Result<(), String> {
    let probe: Subject = subjects.probe(node);
    let mut heard = Vec::new();
    for subject in [subjects.of(To::All), subjects.of(To::Node(node)), probe.clone()] {
        heard.push((client.subscribe(subject.clone()).await.map_err(|error| error.to_string())?, subject));
    }
    for (_, subject) in &heard {
        client.publish(subject.clone(), WORD.into()).await.map_err(|error| error.to_string())?;
    }
    for (mut subscriber, _) in heard {
        // Others may speak there as well.
        while subscriber.next().await.is_some_and(|message| *message.payload != *WORD) {}
    }
    Ok(())
}
