//! What proxies in front of the gateway say of their clients, and what they should have said.
//!
//! Owns: the closed lists, which are the label values, and [`ProxyCounts`] of the control plane;
//! shards count in their own tallies.
//! Never: on the way of a message: once a request, or a session.

use super::labels::{Counters, labels};

labels! {
    /// What a request says of the client that it comes from.
    Heard {
        /// Nothing.
        Direct = "direct",
        /// Nothing, although a trusted proxy has sent it.
        Silent = "silent",
        /// The client's address, and it is believed.
        Believed = "believed",
        /// Something, but no address of a client.
        NoClient = "no_client",
        /// Something that is not believed: the peer is no trusted proxy.
        Untrusted = "untrusted",
        /// The same, of a peer with a private address, as proxies have.
        UntrustedPrivate = "untrusted_private",
    }
}

labels! {
    /// What nothing says, although the page of a browser shows it.
    Unsaid {
        /// That the browser's side is encrypted.
        Scheme = "scheme",
        /// The host, or the port, that the browser asks.
        Host = "host",
    }
}

/// The counters.
#[derive(Debug, Default)]
pub struct ProxyCounts {
    heard: Counters<{ Heard::LABELS.len() }>,
    unsaid: Counters<{ Unsaid::LABELS.len() }>,
}

impl ProxyCounts {
    /// Counts a request. How many of the kind there were, as far as it is known now.
    pub fn hear(&self, heard: Heard) -> u64 {
        self.heard.add(heard as usize);
        self.heard().get(heard as usize).copied().unwrap_or_default()
    }

    /// Counts a request that shows what was not said.
    pub fn miss(&self, what: Unsaid) {
        self.unsaid.add(what as usize);
    }

    /// By [`Heard::ALL`].
    #[must_use]
    pub fn heard(&self) -> [u64; Heard::LABELS.len()] {
        self.heard.read()
    }

    /// By [`Unsaid::ALL`].
    #[must_use]
    pub fn unsaid(&self) -> [u64; Unsaid::LABELS.len()] {
        self.unsaid.read()
    }
}
