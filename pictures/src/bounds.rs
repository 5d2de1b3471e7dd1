//! What a picture may cost: every bound of this crate, with its reason.

/// Memory that a picture may take while it is made anew: the pixels that are unpacked, what they
/// are made of, and what is kept of them. A JPEG that takes more comes at a smaller scale, a PNG
/// row by row. With a line of uploads that stays below 64 MiB.
pub const IMAGE_BYTES_MAX: u64 = 44 * 1024 * 1024;
/// What a decoder may take beside the pixels: lines, tables, a profile.
pub const IMAGE_DECODER_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Pixels of a picture that is never whole in memory: those of the largest cameras of phones. It
/// costs a core for two seconds.
pub const IMAGE_PIXELS_MAX: u64 = 64 * 1024 * 1024;
/// The longer side of a picture that comes, in pixels: what a JPEG can say.
pub const IMAGE_COMING_SIDE_MAX: u32 = 65_535;
/// One block of memory for a JPEG. glibc keeps what is smaller than the largest block that was ever
/// given back, up to 32 MiB, for its next picture; with blocks of 29 MB, that took
/// 75 MiB, and with these, 47.
pub const JPEG_BLOCK_BYTES_MAX: u64 = 20_000_000;
/// Scans of a JPEG. Encoders make ten; each costs a walk over all blocks, however short it is.
pub const JPEG_SCANS_MAX: usize = 64;
/// Segments of a JPEG, its scans among them: twice what the notes of the largest file need if they
/// are full. A decoder remembers each of a colour profile, also when a million of them
/// hold one byte.
pub const JPEG_SEGMENTS_MAX: usize = 1024;
/// The longer side of a picture that is kept, in pixels; larger ones are made smaller. Screens are
/// hardly larger.
pub const IMAGE_SIDE_MAX: u32 = 2560;
/// The longer side of the small picture, in pixels: a bubble on a sharp screen.
pub const THUMB_SIDE_MAX: u32 = 320;
/// A colour profile that a picture brings along. The usual ones have 500 bytes to 3 KiB.
pub const COLOR_PROFILE_BYTES_MAX: usize = 16 * 1024;
/// Pixels of an animation: it is not made smaller, and every reader unpacks it.
pub const GIF_PIXELS_MAX: u64 = 4 * 1024 * 1024;
/// Frames of an animation.
pub const GIF_FRAMES_MAX: u64 = 2_000;
/// Pixels of all frames of an animation together: what it costs its readers.
pub const GIF_DRAWN_PIXELS_MAX: u64 = 512 * 1024 * 1024;
/// What is read from a file, and written to one, at once.
pub const BUFFER_BYTES: usize = 64 * 1024;
