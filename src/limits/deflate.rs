//! Compression of messages (RFC 7692).

/// A message from which on its compressed form is made: below, prose becomes hardly a quarter
/// smaller, for 10 microseconds of a shard.
pub const COMPRESSION_MIN_BYTES_DEFAULT: usize = 512;
/// The least that the configuration may choose: what is shorter does not become smaller.
pub const COMPRESSION_MIN_BYTES_MIN: usize = 64;
/// An answer to one session up to which it is compressed on the shard, which takes a tenth of a
/// millisecond for so much; a longer one goes as it is. Also what is compressed of a page for
/// sessions that catch up.
pub const COMPRESSED_ANSWER_BYTES_MAX: usize = 16 * 1024;
/// What a compressed message may become although so little came, whatever its ratio: a page of
/// blanks is no attack.
pub const INFLATED_FREE_BYTES: usize = 16 * 1024;
/// Times its own length that a compressed message may become beyond [`INFLATED_FREE_BYTES`].
/// Written text becomes 3 to 10 times as long; the format allows 1,032.
pub const INFLATED_RATIO_MAX: usize = 100;
/// How much of a compressed message is inflated until there is to be something of it: the tables of
/// one block are 300 bytes at most, and a sender may begin blocks as it likes.
pub const DEFLATED_LOOK_BYTES: usize = 4096;
/// Times that a compressed message may be longer than what becomes of it, beyond
/// [`DEFLATED_LOOK_BYTES`]. A block of nothing costs up to 100 ns for each of its bytes, where text
/// costs 5: 64 KiB of such blocks were a turn by themselves.
pub const DEFLATED_RATIO_MAX: usize = 8;
/// Last blocks in one message. A sender that compresses each fragment by itself has as many as a
/// message has fragments.
pub const DEFLATED_STREAMS_MAX: u32 = 64;
/// What each byte that a compressed message is longer than the message counts as, for the turn, the
/// pace and the price.
pub const DEFLATED_EXCESS_PRICE: usize = 32;
/// Room for inflated messages that a shard keeps; what more a long one has taken is given back.
pub const INFLATED_KEPT_BYTES: usize = 64 * 1024 + 1;
