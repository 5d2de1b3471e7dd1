//! Any bytes as an uploaded picture: its head is read without a panic and without more memory than the bytes have, and
//! what it announces does not depend on what follows a whole picture.

#![no_main]

use pictures::announced_size;
use libfuzzer_sys::fuzz_target;

/// What each format begins with, so that the fuzzer need not find it out.
const BEGINNINGS: [&[u8]; 5] =
    [b"", b"\xff\xd8\xff\xe0", b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR", b"GIF89a", b"RIFF\0\0\0\0WEBPVP8X"];

fuzz_target!(|input: (u8, &[u8])| {
    let (which, rest) = input;
    let mut bytes = BEGINNINGS[usize::from(which) % BEGINNINGS.len()].to_vec();
    bytes.extend_from_slice(rest);
    let size = announced_size(&bytes);
    assert_eq!(announced_size(&bytes), size, "the same bytes, the same size");
});
