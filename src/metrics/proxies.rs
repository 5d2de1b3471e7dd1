//! What proxies in front of the gateway say of their clients, and what they should have said.
//!
//! Owns: the closed lists, which are the label values, and [`ProxyCounts`] of the control plane;
//! shards count in their own tallies.
//! Never: on the way of a message: once a request, or a session.

use std::sync::atomic::{AtomicU64, Ordering};

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

labels! {
    /// What shows that a proxy, or what is configured of it, may be wrong. When it was seen last is
    /// kept: counters do not tell what was mended.
    Sighting {
        /// [`Heard::Silent`].
        Silent = "silent",
        /// [`Heard::NoClient`].
        NoClient = "no_client",
        /// [`Heard::Untrusted`].
        Untrusted = "untrusted",
        /// [`Heard::UntrustedPrivate`].
        UntrustedPrivate = "untrusted_private",
        /// [`Unsaid::Scheme`].
        Scheme = "scheme",
        /// [`Unsaid::Host`].
        Host = "host",
        /// A session of a page of another origin was refused.
        CrossOrigin = "cross_origin",
        /// A connection without the header of the PROXY protocol that it must have.
        ProxyHeader = "proxy_header",
        /// One where such a header must come, of a peer that is not trusted.
        ProxyPeer = "proxy_peer",
        /// One with such a header where none is expected.
        Preamble = "preamble",
    }
}

impl Heard {
    /// What it shows, if something.
    #[must_use]
    pub const fn sighting(self) -> Option<Sighting> {
        match self {
            Self::Direct | Self::Believed => None,
            Self::Silent => Some(Sighting::Silent),
            Self::NoClient => Some(Sighting::NoClient),
            Self::Untrusted => Some(Sighting::Untrusted),
            Self::UntrustedPrivate => Some(Sighting::UntrustedPrivate),
        }
    }
}

/// The counters.
#[derive(Debug, Default)]
pub struct ProxyCounts {
    heard: Counters<{ Heard::LABELS.len() }>,
    unsaid: Counters<{ Unsaid::LABELS.len() }>,
    /// By [`Sighting::ALL`]: Unix seconds; 0: never.
    seen_s: [AtomicU64; Sighting::LABELS.len()],
}

impl ProxyCounts {
    /// Counts a request at this time. How many of the kind there were with it.
    pub fn hear(&self, heard: Heard, wall_ms: u64) -> u64 {
        if let Some(sighting) = heard.sighting() {
            self.see(sighting, wall_ms);
        }
        self.heard.add(heard as usize)
    }

    /// Counts a request that shows what was not said.
    pub fn miss(&self, what: Unsaid, wall_ms: u64) {
        let sighting = match what {
            Unsaid::Scheme => Sighting::Scheme,
            Unsaid::Host => Sighting::Host,
        };
        self.see(sighting, wall_ms);
        self.unsaid.add(what as usize);
    }

    fn see(&self, what: Sighting, wall_ms: u64) {
        if let Some(seen_s) = self.seen_s.get(what as usize) {
            seen_s.store(wall_ms / 1000, Ordering::Relaxed);
        }
    }

    /// When each was seen last, in Unix seconds, by [`Sighting::ALL`]; 0: never.
    #[must_use]
    pub fn seen_s(&self) -> [u64; Sighting::LABELS.len()] {
        self.seen_s.each_ref().map(|seen_s| seen_s.load(Ordering::Relaxed))
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
