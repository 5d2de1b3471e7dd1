//! Caps of plain HTTP: connections and their memory, requests, answers, and the cookies and origins
//! of browsers.
//!
//! Owns: the numbers, each with its unit and its reason.
//! Never: is used but through [`crate::limits`].

/// Plain HTTP connections waiting for the control plane.
pub const HTTP_HANDOVERS_MAX: usize = 1024;
/// Plain HTTP connections that the control plane serves at once.
pub const HTTP_CONNS_MAX: usize = 4096;
/// The body of a form or a JSON request. The longest legitimate one (a registration) is below 2
/// KiB.
pub const HTTP_BODY_BYTES_MAX: usize = 64 * 1024;
/// How long one HTTP request may take from its head, or from the end of its body, to its response.
/// Every wait inside is shorter.
pub const HTTP_REQUEST_MS_MAX: u64 = 30_000;
/// How long a body, or a peer that does not read, may keep a request waiting, in all pauses until
/// [`HTTP_STEP_BYTES`] have passed.
pub const HTTP_STALL_MS_MAX: u64 = 30_000;
/// See [`HTTP_STALL_MS_MAX`]. Together 550 bytes per second, slower than any phone: a byte now and
/// then holds no seat.
pub const HTTP_STEP_BYTES: usize = 16 * 1024;
/// What a socket takes ahead of what it can send, until its peer has proven fast: whether a slow
/// peer reads is seen in steps of half of it, so it is not more than twice [`HTTP_STEP_BYTES`].
pub const HTTP_UNSENT_BYTES: u32 = 32 * 1024;
/// The same for a peer that has read [`HTTP_FAST_BYTES`] within [`HTTP_FAST_MS`]: such a line runs
/// dry between two small steps.
pub const HTTP_FAST_UNSENT_BYTES: u32 = 512 * 1024;
/// See [`HTTP_FAST_UNSENT_BYTES`]; more than the buffers of both sockets take of a peer
/// that does not read.
pub const HTTP_FAST_BYTES: usize = 16 * 1024 * 1024;
/// See [`HTTP_FAST_UNSENT_BYTES`].
pub const HTTP_FAST_MS: u64 = 4_000;
/// Ciphertext that is read at once from a TLS connection of plain HTTP: two records, so that an
/// upload costs few calls, and held only while bytes come.
pub const HTTP_TLS_READ_BYTES: usize = 32 * 1024;
/// How long a kept-alive connection may be idle unless the configuration says otherwise: longer
/// than the 60 s of common proxies, which would otherwise send a request into a connection that is
/// just being closed.
pub const HTTP_IDLE_MS_DEFAULT: u64 = 75_000;
/// How much longer than announced an idle connection is kept: for a request that was sent in time
/// and is still on its way.
pub const HTTP_IDLE_GRACE_MS: u64 = 3_000;
/// Seats of one address (IPv6: /64), behind which there may be an office. Proxies that are trusted
/// have as many as there are.
pub const HTTP_NETWORK_CONNS_MAX: usize = 256;
/// Seats of [`HTTP_CONNS_MAX`] that only logins and registrations may still work in: everything
/// else is told 503 before.
pub const HTTP_LOGIN_RESERVE: usize = 512;
/// Seats beyond these in which nothing may work, so that a head can always be read.
pub const HTTP_HEAD_RESERVE: usize = 512;
/// Bytes of memory of a connection with a request under way: two buffers of 8 KiB, its head and the
/// state of its handler.
pub const HTTP_CONN_BYTES: usize = 24 * 1024;
/// What TLS adds to it: [`HTTP_TLS_READ_BYTES`] with room for a record in front of them; what is
/// sealed of an ordinary answer is small beside them.
pub const HTTP_TLS_CONN_BYTES: usize = HTTP_TLS_READ_BYTES + 17 * 1024;
/// Bytes of memory of an idle connection: a socket and a task, without any buffer.
pub const HTTP_IDLE_CONN_BYTES: usize = 1024;
/// What HTTP may hold of memory unless the configuration says otherwise: 2,500 requests under way
/// (900 over TLS), or 120 of the largest answers.
pub const HTTP_BUDGET_DEFAULT: usize = 64 * 1024 * 1024;
/// What the configuration may choose at least: the largest answers of a few users.
pub const HTTP_BUDGET_MIN: usize = 8 * 1024 * 1024;
/// What the configuration may choose at most.
pub const HTTP_BUDGET_MAX: usize = 1 << 40;
/// An answer of `/api/v1`: a list goes on in the next page. Above a page of history of
/// [`super::SYNC_BYTES_MAX`].
pub const HTTP_ANSWER_BYTES_MAX: usize = 512 * 1024;
/// A whole list for an old page, which knows no paging: 5,000 friends with names and addresses of
/// usual lengths.
pub const HTTP_LIST_BYTES_MAX: usize = 2 * 1024 * 1024;
/// Rows of one page of a list, and of one read for a whole one: 1 MiB when every field is
/// as long as it may be.
pub const HTTP_LIST_ROWS_MAX: u32 = 500;
/// Requests of one user at once: a browser opens six connections to one host.
pub const USER_REQUESTS_MAX: usize = 8;
/// Further requests of one user that wait for one of these to end.
pub const USER_REQUESTS_WAITING_MAX: usize = 8;
/// How long a request waits for those of its user before it, or for memory, before it is refused.
pub const HTTP_WAIT_MS_MAX: u64 = 1_000;
/// A body that is declared so long is refused without being read at all, also by the old routes,
/// which otherwise know no status but 200.
pub const HTTP_DECLARED_BYTES_MAX: u64 = 1024 * 1024;
/// Login cookies of one request whose signatures are checked: more than [`LOGIN_COOKIES_MAX`], and
/// together 0.1 ms.
pub const COOKIES_TRIED_MAX: usize = 64;
/// Login cookies that a browser keeps of one gateway; beyond it a login removes the oldest. They
/// are 5 KB, so that proxies in front, of which many take 8 KiB for a header line, pass on those of
/// a classroom's computer.
pub const LOGIN_COOKIES_MAX: usize = 50;
/// Cookies that one response removes: 1.3 KB of its head, for which proxies have 4 KiB.
pub const COOKIES_REMOVED_MAX: usize = 16;
/// Origins of pages that may use cookies beside our own; each is compared for every such request.
pub const ORIGINS_MAX: usize = 64;
/// Reads of records that say nothing, such as key updates, between two requests over TLS: a client
/// has no reason for more than one or two.
pub const HTTP_QUIET_READS_MAX: u32 = 64;
