//! Hostile uploads to the real binary: a clear answer each, nothing kept that acts, and memory that stays where it was.

use std::fs;
use std::io::{Cursor, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::path::Path;
use std::thread;

use image::{DynamicImage, ImageFormat, RgbImage, RgbaImage};
use jpeg_encoder::{ColorType, Encoder, SamplingFactor};
use serde_json::Value;

use crate::alone;
use crate::process::Process;
use crate::support::{connect, register};

const MIB: u64 = 1024 * 1024;
/// What all uploads together may take, one by one and all at once.
const MORE_MAX: u64 = 64 * MIB;

/// A line of `/proc/PID/status`, in bytes.
fn memory(process: &Process, name: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", process.pid())).expect("Linux");
    let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("a line");
    line.trim_matches([':', ' ', '\t', 'k', 'B']).parse::<u64>().expect("a number") * 1024
}

/// Begins to measure: what is resident now, and from now on the most that ever was.
fn resident(process: &Process) -> u64 {
    fs::write(format!("/proc/{}/clear_refs", process.pid()), "5").expect("our own child");
    memory(process, "VmRSS")
}

/// Status and body of the answer to a body with `head`.
fn send(to: SocketAddr, token: &str, head: &str, body: &[u8]) -> (u16, String) {
    let mut stream = connect(to);
    let head = format!(
        "POST {head} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nConnection: close\r\nContent-Length: "
    );
    stream.write_all(format!("{head}{}\r\n\r\n", body.len()).as_bytes()).expect("sent");
    // A refusal may come before the last byte is taken.
    let _ = stream.write_all(body);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let text = String::from_utf8_lossy(&answer).into_owned();
    let status = text.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status line");
    (status, text)
}

/// The body of an answer in the words of the API.
fn code(answer: &(u16, String)) -> (u16, String) {
    let (status, text) = answer;
    let body = text.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    let body: Value = serde_json::from_str(body).expect("JSON");
    (*status, body["error"]["code"].as_str().unwrap_or_default().to_owned())
}

/// Bytes that nobody can pack.
fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    std::iter::repeat_with(next).flatten().take(len).collect()
}

fn jpeg(width: u16, height: u16, quality: u8, progressive: bool) -> Vec<u8> {
    let mut out = Vec::new();
    let mut encoder = Encoder::new(&mut out, quality);
    encoder.set_sampling_factor(SamplingFactor::F_2_2);
    encoder.set_progressive(progressive);
    let pixels = noise(usize::from(width) * usize::from(height) * 3);
    encoder.encode(&pixels, width, height, ColorType::Rgb).expect("memory");
    out
}

/// What the camera has noted: that it was held upright, and the place.
const NOTES: &[u8] =
    b"\xff\xe1\0\x38Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0at 48.8584 N, 2.2945 E";
const PLACE: &[u8] = b"48.8584 N";

/// A JPEG with `notes` behind its begin.
fn noted(bytes: &[u8], notes: &[u8]) -> Vec<u8> {
    [&bytes[..2], notes, &bytes[2..]].concat()
}

/// Where the last scan begins.
fn last_scan(bytes: &[u8]) -> usize {
    bytes.windows(2).rposition(|two| two == [0xff, 0xda]).expect("a scan")
}

/// A progressive JPEG that ends before its last scan: what came of that channel is copied by the decoder.
fn unfinished(width: u16, height: u16) -> Vec<u8> {
    let mut bytes = jpeg(width, height, 40, true);
    bytes.truncate(last_scan(&bytes));
    [bytes, vec![0xff, 0xd9]].concat()
}

/// A JPEG with its last scan a hundred times.
fn scans(width: u16, height: u16) -> Vec<u8> {
    let bytes = jpeg(width, height, 5, true);
    let (end, scan) = (bytes.len() - 2, &bytes[last_scan(&bytes)..bytes.len() - 2]);
    [&bytes[..end], &scan.repeat(100), &bytes[end..]].concat()
}

/// A JPEG for a printer, in four inks.
fn printed(width: u16, height: u16) -> Vec<u8> {
    let mut out = Vec::new();
    let inks = noise(usize::from(width) * usize::from(height) * 4);
    Encoder::new(&mut out, 20).encode(&inks, width, height, ColorType::CmykAsYcck).expect("memory");
    out
}

/// `bytes` that say of their samples that they are of so many bits.
fn deep(mut bytes: Vec<u8>, bits: u8) -> Vec<u8> {
    let frame = bytes.windows(2).position(|two| two == [0xff, 0xc0]).expect("a frame");
    bytes[frame + 4] = bits;
    bytes
}

fn encoded(picture: &DynamicImage, format: ImageFormat) -> Vec<u8> {
    let mut out = Cursor::new(Vec::new());
    picture.write_to(&mut out, format).expect("memory");
    out.into_inner()
}

/// A PNG of grey rows that are packed a thousandfold, of that size and really so.
fn bomb(width: u32, height: u32) -> Vec<u8> {
    let mut out = Vec::new();
    let mut encoder = png::Encoder::new(&mut out, width, height);
    encoder.set_color(png::ColorType::Grayscale);
    let mut writer = encoder.write_header().expect("memory");
    let mut rows = writer.stream_writer().expect("memory");
    let row = vec![0; width as usize];
    for _ in 0..height {
        rows.write_all(&row).expect("memory");
    }
    rows.finish().expect("memory");
    writer.finish().expect("memory");
    out
}

/// Every upload, the status it gets and the code of its refusal.
fn hostile() -> Vec<(&'static str, Vec<u8>, u16, &'static str)> {
    let rgb = |side: u32| RgbImage::from_raw(side, side, noise(side as usize * side as usize * 3)).expect("a picture");
    let rgba = RgbaImage::from_raw(2200, 2200, noise(2200 * 2200 * 4)).expect("a picture");
    let phone = jpeg(6000, 4000, 40, false);
    // A million pieces of a colour profile, of a byte each.
    let pieces = b"\xff\xe2\0\x11ICC_PROFILE\0\x01\xffx".repeat(1_000_000);
    let zip = [&b"PK\x03\x04"[..], &vec![0; 4 * MIB as usize]].concat();
    vec![
        ("page.png", b"<!doctype html><script>alert(1)</script>".to_vec(), 201, ""),
        ("drawing.svg", b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>".to_vec(), 201, ""),
        ("bomb.zip", zip, 201, ""),
        ("bomb.png", bomb(50_000, 50), 201, ""),
        ("eight-thousand.png", bomb(8192, 8192), 201, ""),
        ("seen-through.png", encoded(&rgba.into(), ImageFormat::Png), 201, ""),
        ("lossless.webp", encoded(&rgb(1900).into(), ImageFormat::WebP), 201, ""),
        ("too-large.webp", encoded(&rgb(2400).into(), ImageFormat::WebP), 413, "too_many_pixels"),
        ("film.gif", encoded(&rgb(2048).into(), ImageFormat::Gif), 201, ""),
        ("phone.jpg", noted(&phone, NOTES), 201, ""),
        ("half-a-phone.jpg", phone[..phone.len() / 2].to_vec(), 415, "bad_picture"),
        ("deep.jpg", deep(phone, 16), 415, "bad_picture"),
        ("notes.jpg", noted(&jpeg(64, 64, 40, false), &pieces), 415, "bad_picture"),
        ("printed.jpg", printed(4000, 3000), 201, ""),
        ("in-steps.jpg", jpeg(3600, 2700, 40, true), 201, ""),
        ("unfinished.jpg", unfinished(2900, 2200), 201, ""),
        ("scans.jpg", scans(2000, 1500), 415, "bad_picture"),
        ("large-in-steps.jpg", jpeg(6000, 4000, 20, true), 413, "too_many_pixels"),
        ("library.jpg", jpeg(3600, 2700, 40, false), 201, ""),
    ]
}

fn files_in(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("a directory").map(|entry| entry.expect("an entry").path());
    entries.flat_map(|path| if path.is_dir() { files_in(&path) } else { vec![path.display().to_string()] }).collect()
}

#[test]
fn uploads_cost_64_mib_one_by_one_and_all_at_once() {
    let _alone = alone();
    let data = tempfile::tempdir().expect("a temporary directory");
    let process = Process::start(data.path());
    // One user may not send so many at once.
    let mobiles = (1..=8).map(|n| format!("1380000000{n}"));
    let tokens: Vec<_> = mobiles.map(|mobile| register(process.address, "/user/register", &mobile).1).collect();
    let uploads = hostile();
    let before = resident(&process);
    let check = |token: &str, (name, body, status, why): &(&str, Vec<u8>, u16, &str)| {
        let answer = send(process.address, token, &format!("/api/v1/files?name=../../{name}"), body);
        assert_eq!(code(&answer), (*status, (*why).to_owned()), "{name}, {} bytes", body.len());
        if *status == 201 {
            assert!(answer.1.contains(&format!("\"name\":\"{name}\"")), "{}", answer.1);
            assert!(*name != "phone.jpg" || answer.1.contains("\"width\":1707,\"height\":2560"), "{}", answer.1);
        }
    };
    for upload in &uploads {
        check(&tokens[0], upload);
        let more = memory(&process, "VmHWM").saturating_sub(before);
        assert!(more <= MORE_MAX, "{}: {} MiB more than {} MiB", upload.0, more / MIB, before / MIB);
        println!("{}: {} MiB more at most so far", upload.0, more / MIB);
    }
    // What was refused left nothing, and what was kept is called by what it is.
    let kept = files_in(&data.path().join("files"));
    let ends = [".png", ".jpg", ".gif", ".zip", ".bin", ".json"];
    assert!(kept.iter().all(|path| ends.iter().any(|end| path.ends_with(end)) && !path.contains("drafts")), "{kept:?}");
    let says_where = |path: &String| memchr::memmem::find(&fs::read(path).expect("a file"), PLACE).is_some();
    assert!(!kept.iter().any(says_where), "where a picture was taken is nobody's business");

    // Again, changed a little so that they are new, and all of them at once with bodies that never come.
    thread::scope(|scope| {
        for (upload, token) in uploads.iter().zip(tokens.iter().cycle()) {
            let changed = (upload.0, [&upload.1[..], b" "].concat(), upload.2, upload.3);
            scope.spawn(move || check(token, &changed));
        }
        for token in &tokens {
            let process = &process;
            scope.spawn(move || {
                let answer = send_less(process.address, token, 10_000_000_000);
                assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
                // Half a body: an answer or the end of the connection.
                let answer = send_less(process.address, token, 2_000_000);
                assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400 "), "{answer}");
            });
        }
    });
    let more = memory(&process, "VmHWM").saturating_sub(before);
    assert!(more <= MORE_MAX, "all at once: {} MiB more than {} MiB", more / MIB, before / MIB);
    println!("all at once: {} MiB more than {} MiB", more / MIB, before / MIB);
    let drafts = files_in(&data.path().join("files/drafts"));
    assert!(drafts.is_empty(), "{drafts:?}");
}

/// Announces a body of that length and sends a megabyte of it.
fn send_less(to: SocketAddr, token: &str, length: u64) -> String {
    let mut stream = connect(to);
    let head =
        format!("POST /api/v1/files HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nContent-Length: {length}");
    stream.write_all(format!("{head}\r\n\r\n").as_bytes()).expect("sent");
    let _ = stream.write_all(&vec![b'x'; MIB as usize]);
    let _ = stream.shutdown(Shutdown::Write);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}
