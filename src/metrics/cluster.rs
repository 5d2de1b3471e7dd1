//! The numbers of a gateway among others.
//!
//! Owns: [`ClusterNumbers`], as the thread of the cluster shows them.

/// What a gateway has said to the others and heard of them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ClusterNumbers {
    /// The bus is connected, brings what is said to this gateway, and refuses nothing that it
    /// needs.
    pub up: bool,
    /// What the bus refuses of that, in words.
    pub forbidden: Option<&'static str>,
    /// What was refused so far, by [`super::names::BUS_REFUSED_LABELS`].
    pub bus_refused: [u64; 3],
    /// Another gateway has this one's number, so it says nothing.
    pub refused: bool,
    /// Times that it was connected anew because it brought nothing.
    pub renewed: u64,
    /// Gateways that live, this one included.
    pub nodes: u64,
    /// Milliseconds since everything that was stored before was known here.
    pub age_ms: u64,
    /// Envelopes given to the bus.
    pub envelopes_out: u64,
    /// Envelopes that came.
    pub envelopes_in: u64,
    /// Their bytes.
    pub bytes_out: u64,
    /// The same of those that came.
    pub bytes_in: u64,
    /// Envelopes that the bus did not take.
    pub bus_full: u64,
    /// Times that the client of the bus dropped what was not read in time.
    pub slow: u64,
    /// Rows for which the queue from the shards was full.
    pub shards_dropped: u64,
    /// Words for which a queue on the way out was full.
    pub words_full: u64,
    /// The same of messages that are kept nowhere.
    pub said_full: u64,
    /// Envelopes that are none.
    pub damaged: u64,
    /// Envelopes of another version.
    pub version: u64,
    /// Envelopes of another key.
    pub tag: u64,
    /// What the exchange has counted.
    pub counts: ExchangeCounts,
}

/// What has happened to an exchange so far.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ExchangeCounts {
    /// Rows said to the others.
    pub rows_out: u64,
    /// Rows heard that concern a session here.
    pub rows_in: u64,
    /// Words said to the others.
    pub words_out: u64,
    /// Words heard that concern a session here.
    pub words_in: u64,
    /// Words that were not said because the bus was away, or not heard because a shard was busy.
    pub words_dropped: u64,
    /// Messages that are kept nowhere, said to the others.
    pub said_out: u64,
    /// Those heard that concern a session here.
    pub said_in: u64,
    /// Those that were not said because the bus was away, or not heard because a shard was busy.
    pub said_dropped: u64,
    /// Rows and words that went to all gateways.
    pub to_all: u64,
    /// Those that went to one, each as often as there was one.
    pub to_nodes: u64,
    /// Those that concern no other gateway.
    pub to_none: u64,
    /// Users of other gateways that are known.
    pub elsewhere: u64,
    /// Users of other gateways for whom there was no room.
    pub users_crowded: u64,
    /// Rows, heads and words heard that concern no session here.
    pub filtered: u64,
    /// Rows that were not said because the bus was away.
    pub unsaid: u64,
    /// Envelopes of another database, not believed.
    pub foreign: u64,
    /// Envelopes that are old, or came before.
    pub stale: u64,
    /// Envelopes of another gateway with this one's number.
    pub twins: u64,
    /// Envelopes of more gateways than there may be.
    pub crowded: u64,
    /// Items of unknown kinds.
    pub unknown: u64,
    /// What a shard had no room for.
    pub refused: u64,
    /// Answers of the database to scans of this gateway.
    pub scans: u64,
    /// Scans that failed.
    pub scans_failed: u64,
    /// Complete digests of other gateways.
    pub digests: u64,
    /// Times that a scan of its own was needed because a digest was missing.
    pub holes: u64,
}
