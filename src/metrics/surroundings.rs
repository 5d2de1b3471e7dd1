//! What is around a gateway and not in its hands: its clock, its disk, its certificates, its room.

/// What the starting thread has read for one scrape.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SurroundingNumbers {
    /// Connections that there may be, by the settings and the descriptor limit.
    pub connections_max: u64,
    /// Milliseconds by which the system's clock was set since the start.
    pub clock_moved_ms: i64,
    /// Milliseconds since it was seen being set the last time. `None`: it never was.
    pub clock_set_age_ms: Option<u64>,
    /// Bytes that are free on the disk of the data directory, and bytes of it. `None`: there is no
    /// such directory.
    pub data_disk: Option<[u64; 2]>,
    /// `None` without TLS.
    pub certificates: Option<CertificateNumbers>,
}

/// What is known of the certificates that are served.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct CertificateNumbers {
    /// When the first of them ends, in seconds since 1970.
    pub not_after_s: u64,
    /// Those whose files cannot be served as they are now.
    pub refused: u64,
}

/// What the settings allow some parts of the process, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct BudgetNumbers {
    /// What waits for readers.
    pub outbox: u64,
    /// What clients have begun to send.
    pub inbound: u64,
    /// Plain HTTP.
    pub http: u64,
}
