//! Uploads and what is served of them, hostile ones among them.

use std::io::{Cursor, Read, Write as _};
use std::net::Shutdown;
use std::path::Path;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, SystemTime};

use image::codecs::jpeg::JpegEncoder;
use image::{DynamicImage, ImageEncoder, ImageFormat, Rgb, RgbImage, RgbaImage};
use serde_json::Value;

use super::rig::{Answered, Ask, BOUNDS, LEGACY, PATIENCE, Rig, UPLOAD_BYTES_MAX};
use crate::api::{Deadlines, UploadBounds};
use crate::clock;
use crate::ids::{ConvId, Seq, UserId};
use crate::limits;
use crate::store::{Backend as _, FileId, NewMessage, PostKey, Recall, Write, Written};

/// Sends a body to `/api/v1/files` as the first user.
pub(in crate::api) fn send(rig: &Rig, more: &str, body: &[u8]) -> Answered {
    send_as(rig, &bearer(rig), more, body)
}

/// Sends a body to `/api/v1/files` with that header.
pub(super) fn send_as(rig: &Rig, bearer: &str, more: &str, body: &[u8]) -> Answered {
    let mut client = rig.client();
    let head = format!("POST /api/v1/files?name=a/b%5Cc.png HTTP/1.1\r\nHost: x\r\n{bearer}{more}");
    client.send(format!("{head}Content-Length: {}\r\n\r\n", body.len()).as_bytes());
    client.send(body);
    client.answer()
}

pub(in crate::api) fn bearer(rig: &Rig) -> String {
    let first = UserId::new(1).expect("an id");
    if rig.memory.connect().people().user(first).expect("memory").is_none() {
        rig.user("13800000001");
    }
    format!("Authorization: Bearer {}\r\n", rig.token(first))
}

/// Keeps a file; its name.
pub(super) fn keep(rig: &Rig, body: &[u8]) -> String {
    let file = made(&send(rig, "", body));
    file["url"].as_str().and_then(|url| url.strip_prefix("/files/")).expect("a URL").to_owned()
}

/// The file of a 201.
pub(in crate::api) fn made(answer: &Answered) -> Value {
    assert_eq!(answer.status, 201, "{answer:?}");
    serde_json::from_str(&answer.body).expect("JSON")
}

/// The code of a refusal.
fn code(answer: &Answered) -> (u16, String) {
    let body: Value = serde_json::from_str(&answer.body).expect("JSON");
    (answer.status, body["error"]["code"].as_str().unwrap_or_default().to_owned())
}

pub(in crate::api) fn files_in(folder: &Path) -> usize {
    let entries = std::fs::read_dir(folder).expect("a directory").map(|entry| entry.expect("an entry").path());
    entries.map(|path| if path.is_dir() { files_in(&path) } else { 1 }).sum()
}

fn png(picture: &DynamicImage) -> Vec<u8> {
    let mut out = Cursor::new(Vec::new());
    picture.write_to(&mut out, ImageFormat::Png).expect("memory");
    out.into_inner()
}

/// A PNG that says that it is that large.
pub(in crate::api) fn png_of(width: u32, height: u32) -> Vec<u8> {
    let mut bytes = png(&RgbImage::new(1, 1).into());
    bytes[16..20].copy_from_slice(&width.to_be_bytes());
    bytes[20..24].copy_from_slice(&height.to_be_bytes());
    let sum = crc32(&bytes[12..29]);
    bytes[29..33].copy_from_slice(&sum.to_be_bytes());
    bytes
}

/// ISO 3309, bit by bit.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |sum, &byte| {
        (0..8).fold(sum ^ u32::from(byte), |sum, _| if sum & 1 == 1 { sum >> 1 ^ 0xedb8_8320 } else { sum >> 1 })
    })
}

/// A JPEG of 400 x 200 pixels, red at its left end, that a camera held upright took: to be turned
/// by 90 degrees.
pub(in crate::api) fn photo() -> Vec<u8> {
    let picture = RgbImage::from_fn(400, 200, |x, _| if x < 100 { Rgb([250, 0, 0]) } else { Rgb([0, 0, 250]) });
    let mut jpeg = Vec::new();
    let encoder = JpegEncoder::new_with_quality(&mut jpeg, 90);
    encoder.write_image(&picture, 400, 200, image::ExtendedColorType::Rgb8).expect("memory");
    let mut exif = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0secret: 48.1 N".to_vec();
    let len = u16::try_from(exif.len() + 2).expect("short").to_be_bytes();
    exif.splice(0..0, [0xff, 0xe1, len[0], len[1]]);
    jpeg.splice(2..2, exif);
    jpeg.extend_from_slice(b"<script>secret</script>");
    jpeg
}

fn holds(bytes: &[u8], word: &[u8]) -> bool {
    bytes.windows(word.len()).any(|window| window == word)
}

#[test]
fn a_photo_is_upright_without_its_place_and_has_a_small_one() {
    let rig = Rig::start();
    let file = made(&send(&rig, "", &photo()));
    assert_eq!((&file["type"], &file["width"], &file["height"]), (&"image/jpeg".into(), &200.into(), &400.into()));
    assert_eq!(file["name"], "c.png");
    let mut client = rig.client();
    for (url, sides) in [(&file["url"], (200, 400)), (&file["thumb"], (160, 320))] {
        let served = client.ask(Ask::get(url.as_str().expect("a URL"), &[]));
        assert_eq!((served.status, served.header("content-type")), (200, Some("image/jpeg")));
        assert!(!holds(&served.bytes, b"secret") && !holds(&served.bytes, b"Exif"), "{url}");
        let picture = image::load_from_memory(&served.bytes).expect("a picture").into_rgb8();
        assert_eq!(picture.dimensions(), sides);
        // Its left end is on top now.
        assert!(picture.get_pixel(sides.0 / 2, 5).0[0] > 200 && picture.get_pixel(sides.0 / 2, sides.1 - 5).0[2] > 200);
    }
    assert_eq!(file["size"], client.ask(Ask::get(file["url"].as_str().expect("a URL"), &[])).bytes.len());
}

#[test]
fn pictures_keep_what_is_seen_through_and_large_ones_become_smaller() {
    let rig = Rig::start();
    let file = made(&send(&rig, "", &png(&RgbaImage::new(2600, 10).into())));
    assert_eq!((&file["type"], &file["width"], &file["height"]), (&"image/png".into(), &2560.into(), &10.into()));
    let file = made(&send(&rig, "", &png(&RgbImage::new(10, 10).into())));
    assert_eq!((&file["type"], &file["thumb"]), (&"image/png".into(), &Value::Null));
    let mut webp = Cursor::new(Vec::new());
    DynamicImage::from(RgbImage::new(10, 10)).write_to(&mut webp, ImageFormat::WebP).expect("memory");
    assert_eq!(made(&send(&rig, "", webp.get_ref()))["type"], "image/jpeg");
    let mut gif = Cursor::new(Vec::new());
    DynamicImage::from(RgbaImage::new(400, 10)).write_to(&mut gif, ImageFormat::Gif).expect("memory");
    let file = made(&send(&rig, "", gif.get_ref()));
    assert_eq!((&file["type"], &file["width"]), (&"image/gif".into(), &400.into()));
    assert!(file["thumb"].as_str().is_some_and(|thumb| thumb.ends_with(".png")));
}

/// Asks whether `user` has uploaded what has that digest.
pub(super) fn claim(rig: &Rig, token: &str, digest: &str) -> Answered {
    let bearer = format!("Bearer {token}");
    let headers = [("Authorization", bearer.as_str()), ("Content-Type", "application/json")];
    let body = format!(r#"{{"sha256":"{digest}","name":"x"}}"#);
    rig.ask(Ask { method: "POST", target: "/api/v1/files/claim", headers: &headers, body: &body })
}

#[test]
fn the_same_file_is_kept_once_and_need_not_be_sent() {
    let rig = Rig::start();
    let body = photo();
    let digest = sha256(&body);
    let (_, token) = rig.user("13800000001");
    assert_eq!(code(&claim(&rig, &token, &digest)), (404, "not_stored".to_owned()));
    let file = made(&send(&rig, &format!("X-Content-Sha256: {digest}\r\n"), &body));
    let kept = files_in(&rig.files.path().join("files"));
    let known = claim(&rig, &token, &digest);
    assert_eq!(known.status, 200);
    let known: Value = serde_json::from_str(&known.body).expect("JSON");
    assert_eq!((&known["url"], &known["thumb"], &known["name"]), (&file["url"], &file["thumb"], &"x".into()));
    assert_eq!(made(&send(&rig, "", &body))["url"], file["url"]);
    // What was made of it is known as well: nothing is made anew from it.
    let again = rig.ask(Ask::get(file["url"].as_str().expect("a URL"), &[])).bytes;
    assert_eq!(file["sha256"], sha256(&again));
    assert_eq!(made(&send(&rig, "", &again))["url"], file["url"]);
    assert_eq!(files_in(&rig.files.path().join("files")), kept);
    assert_eq!(code(&send(&rig, &format!("X-Content-Sha256: {digest}\r\n"), b"x")), (400, "other_content".to_owned()));
    assert_eq!(code(&send(&rig, "X-Content-Sha256: 12\r\n", b"x")), (400, "bad_digest".to_owned()));
}

#[test]
fn nobody_can_test_whether_somebody_else_has_uploaded_a_content() {
    let rig = Rig::start();
    let (body, other) = (b"ID3 what was leaked", "13800000002");
    let file = made(&send(&rig, "", body));
    let digest = sha256(body);
    assert_eq!(file["sha256"], digest);
    // Not by its address, which is not its digest; not by a claim; not by what it weighs.
    let url = file["url"].as_str().expect("a URL");
    assert!(!url.contains(&digest));
    assert_eq!(rig.ask(Ask::get(&format!("/files/{digest}.mp3"), &[])).status, 404);
    let (bob, token) = rig.user(other);
    assert_eq!(code(&claim(&rig, &token, &digest)), (404, "not_stored".to_owned()));
    let kept = files_in(&rig.files.path().join("files"));
    let bearer = format!("Authorization: Bearer {token}\r\n");
    assert_eq!(made(&send_as(&rig, &bearer, "", body))["url"], url);
    assert_eq!(files_in(&rig.files.path().join("files")), kept, "it is kept once all the same");
    assert_eq!(claim(&rig, &token, &digest).status, 200, "whoever has sent it may know it");
    let weighs = |user| rig.memory.connect().files().uploaded(user);
    assert_eq!((weighs(UserId::new(1).expect("an id")), weighs(bob.id)), (Ok(19), Ok(19)));
    // A name in a URL is spelled in one way.
    assert_eq!(rig.ask(Ask::get(&url.replace('.', "%2e"), &[])).status, 404);
}

#[test]
fn addresses_of_old_files_stay() {
    let rig = Rig::start();
    let digest = sha256(b"from the old days");
    let folder = rig.files.path().join("files").join(&digest[..2]);
    std::fs::create_dir_all(&folder).expect("a folder");
    std::fs::write(folder.join(format!("{}.bin", &digest[2..])), b"from the old days").expect("a file");
    let url = format!("/files/{digest}.bin");
    assert_eq!(rig.ask(Ask::get(&url, &[])).body, "from the old days");
    let file = made(&send(&rig, "", b"from the old days"));
    assert_ne!(file["url"], url.as_str(), "who sends it anew gets an address like everybody");
    assert_eq!(rig.ask(Ask::get(&url, &[])).status, 200);
}

#[test]
fn a_file_goes_when_nothing_refers_to_it_any_more() {
    let rig = Rig::start();
    let file = made(&send(&rig, "", &photo()));
    let (url, thumb) = (file["url"].as_str().expect("a URL"), file["thumb"].as_str().expect("a URL"));
    let here = |url: &str| rig.ask(Ask::get(url, &[])).status == 200;
    let mut db = rig.memory.connect();
    let own = ConvId::direct(UserId::new(1).expect("an id"), UserId::new(1).expect("an id"));
    let message = |cid: &str, body: String| NewMessage {
        conv: own,
        sender: UserId::new(1).expect("an id"),
        key: PostKey::Client(cid.into()),
        ts_ms: 1_000,
        body: body.into(),
    };
    for n in 1..=2 {
        let body = format!(r#"{{"url":"{url}","pic":"{thumb}"}}"#);
        db.commit(&[Write::Append(message(&n.to_string(), body))]).expect("memory");
    }
    let take_back = |seq: u64| {
        let recall = Recall {
            message: message(&format!("back {seq}"), "back".to_owned()),
            seq: Seq::new(seq).expect("in range"),
            blank: "blank".into(),
            spared: "a line",
            within_ms: 1_000,
        };
        rig.memory.connect().commit(&[Write::Recall(Box::new(recall))]).expect("memory")
    };
    assert!(matches!(take_back(1)[..], [Written::Stored { .. }]));
    // A file that nothing has ever referred to shows that the pass has come by.
    let witness = |rig: &Rig, content: &[u8]| {
        let file = made(&send(rig, "", content));
        let url = file["url"].as_str().expect("a URL").to_owned();
        let body = format!("{url} {}", String::from_utf8_lossy(content));
        rig.memory.connect().commit(&[Write::Append(message(&url, body))]).expect("memory");
        let seq = rig.memory.head(own);
        assert!(matches!(take_back(seq.get())[..], [Written::Stored { .. }]));
        rig.until(|| rig.ask(Ask::get(&url, &[])).status == 404);
    };
    witness(&rig, b"first");
    assert!(here(url) && here(thumb), "the other message shows it");
    assert!(matches!(take_back(2)[..], [Written::Stored { .. }]));
    rig.until(|| !here(url) && !here(thumb));
    witness(&rig, b"second");
    rig.until(|| files_in(&rig.files.path().join("files")) == 0);
    assert_eq!(rig.memory.connect().files().uploaded(UserId::new(1).expect("an id")), Ok(0));
    // And it may come again.
    assert_eq!(made(&send(&rig, "", &photo()))["url"], file["url"]);
    assert!(here(url));
}

/// A stop, a crash or a broken disk comes between the forgetting of a file and its removal.
#[test]
fn what_was_left_hidden_comes_back_only_if_the_database_knows_it() {
    let rig = Rig::start();
    let root = rig.files.path().join("files");
    let hide = |name: &str| {
        let (place, old) = (root.join(&name[..2]).join(&name[2..]), 2 * Duration::from_millis(limits::FILES_LEFT_MS));
        let file = std::fs::File::options().write(true).open(&place).expect("it is kept");
        let then = SystemTime::UNIX_EPOCH + Duration::from_millis(clock::wall_ms()) - old;
        file.set_modified(then).expect("a disk");
        std::fs::rename(place, root.join("hidden").join(name)).expect("a disk");
        rig.until(|| files_in(&root.join("hidden")) == 0);
        rig.ask(Ask::get(&format!("/files/{name}"), &[])).status
    };
    let (forgotten, known) = (keep(&rig, b"what was taken back"), keep(&rig, b"what the database knows"));
    let digits = |name: &str| name.split('.').next().map(str::to_owned).unwrap_or_default();
    let is_it =
        |file: FileId, name: &str| file.0.iter().map(|byte| format!("{byte:02x}")).collect::<String>() == digits(name);
    let mut db = rig.memory.connect();
    let gone = db.files().retire(u64::MAX >> 1, 9, &mut |file| is_it(file, &forgotten)).expect("memory");
    assert_eq!(gone.removed, 1);
    assert_eq!(hide(&forgotten), 404, "it does not come back");
    assert_eq!(hide(&known), 200);
    assert_eq!(files_in(&root), 1, "nothing else is left");
}

fn sha256(bytes: &[u8]) -> String {
    use sha2::Digest as _;
    sha2::Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn pages_and_archives_are_saved_and_never_run() {
    let rig = Rig::start();
    for body in [
        &b"<!doctype html><script>alert(1)</script>"[..],
        b"<?xml version='1.0'?><svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>",
        b"%PDF-1.7\n",
        b"PK\x03\x04 a bomb that nobody unpacks here",
    ] {
        let name = keep(&rig, body);
        // The other two are the old systems'.
        for folder in ["files", "resource", "mnt"].into_iter().take(if LEGACY { 3 } else { 1 }) {
            let served = rig.ask(Ask::get(&format!("/{folder}/{name}"), &[]));
            assert_eq!((served.status, served.bytes.as_slice()), (200, body));
            assert_eq!(served.header("content-disposition"), Some("attachment"), "{name}");
            assert_eq!(served.header("x-content-type-options"), Some("nosniff"));
            assert!(served.header("content-security-policy").is_some_and(|policy| policy.starts_with("sandbox;")));
            assert!(served.header("content-type").is_some_and(|kind| kind.starts_with("application/")), "{name}");
        }
    }
}

#[test]
fn a_download_carries_the_name_that_its_url_says() {
    let rig = Rig::start();
    let of = |url: &str| rig.ask(Ask::get(url, &[])).header("content-disposition").map(str::to_owned);
    let saved = format!("/files/{}", keep(&rig, b"%PDF-1.7"));
    assert_eq!(of(&saved).as_deref(), Some("attachment"));
    assert_eq!(of(&format!("{saved}?name=a.pdf")).as_deref(), Some("attachment; filename=\"a.pdf\""));
    let report = of(&format!("{saved}?name=%E5%AD%A3%20Q3.pdf"));
    assert_eq!(report.as_deref(), Some("attachment; filename=\"_ Q3.pdf\"; filename*=UTF-8''%E5%AD%A3%20Q3.pdf"));
    assert_eq!(
        of(&format!("{saved}?name=%0d%0aSet-Cookie:%20x")).as_deref(),
        Some("attachment; filename=\"Set-Cookie: x\"")
    );
    assert_eq!(
        of(&format!("{saved}?name=%ff")).as_deref(),
        Some("attachment; filename=\"_\"; filename*=UTF-8''%EF%BF%BD")
    );
    let shown = format!("/files/{}", keep(&rig, b"ID3 a song"));
    assert_eq!(of(&shown), None);
    assert_eq!(of(&format!("{shown}?name=a.mp3")).as_deref(), Some("inline; filename=\"a.mp3\""));
}

#[test]
fn a_form_at_the_wrong_route_is_told_so_and_is_no_file() {
    let rig = Rig::start();
    for kind in ["multipart/form-data; boundary=xYz", "Multipart/Form-Data"] {
        let answer = send(&rig, &format!("Content-Type: {kind}\r\n"), b"--xYz\r\n\r\ncontent\r\n--xYz--\r\n");
        assert_eq!(code(&answer), (415, "form".to_owned()));
    }
    assert_eq!(files_in(&rig.files.path().join("files")), 0);
    made(&send(&rig, "Content-Type: application/x-www-form-urlencoded\r\n", b"what curl says by itself"));
}

#[test]
fn a_film_is_played_and_has_lost_its_place() {
    let rig = Rig::start();
    let place = b"\0\0\0\x1a\xa9xyz\0\x0e\x15\xc7+48.1+011.5/";
    let udta = [&b"\0\0\0\x22udta"[..], place].concat();
    let moov = [&b"\0\0\0\x2amoov"[..], &udta].concat();
    let film = [&b"\0\0\0\x18ftyp3gp6\0\0\0\x003gp6isom"[..], &moov, b"\0\0\0\x0cmdatfilm"].concat();
    let file = made(&send(&rig, "", &film));
    assert_eq!((&file["type"], &file["size"]), (&"video/mp4".into(), &film.len().into()));
    let served = rig.ask(Ask::get(file["url"].as_str().expect("a URL"), &[]));
    assert_eq!((served.header("content-type"), served.header("content-disposition")), (Some("video/mp4"), None));
    assert!(!holds(&served.bytes, b"48.1") && holds(&served.bytes, b"film"));
    assert_eq!(file["sha256"], sha256(&served.bytes));
    let camera = b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom";
    let stsd = b"\0\0\0\x18stsd\0\0\0\0\0\0\0\x01\0\0\0\x08gpmd";
    let parents = [b"stbl", b"minf", b"mdia", b"trak", b"moov"];
    let moov = parents.iter().fold(stsd.to_vec(), |inner, kind| {
        [&u32::try_from(inner.len() + 8).expect("small").to_be_bytes()[..], &kind[..], &inner].concat()
    });
    assert_eq!(code(&send(&rig, "", &[&camera[..], &moov].concat())), (415, "place_track".to_owned()));
}

#[test]
fn ranges_and_what_the_client_holds() {
    let rig = Rig::start();
    let url = format!("/files/{}", keep(&rig, b"ID3 0123456789"));
    let mut client = rig.client();
    let whole = client.ask(Ask::get(&url, &[]));
    assert_eq!((whole.header("content-type"), whole.header("content-disposition")), (Some("audio/mpeg"), None));
    assert_eq!(whole.header("cache-control"), Some("public, max-age=31536000, immutable"));
    let part = client.ask(Ask::get(&url, &[("Range", "bytes=4-6")]));
    assert_eq!((part.status, part.body.as_str()), (206, "012"));
    assert_eq!(part.header("content-range"), Some("bytes 4-6/14"));
    let none = client.ask(Ask::get(&url, &[("Range", "bytes=14-")]));
    assert_eq!((none.status, none.header("content-range")), (416, Some("bytes */14")));
    let other = client.ask(Ask::get(&url, &[("If-Match", "\"another\"")]));
    assert_eq!(other.status, 412);
    for refused in [&none, &other] {
        assert_eq!(refused.header("cache-control"), Some("no-store"), "it is no content of the file");
    }
    let tag = whole.header("etag").expect("a tag").to_owned();
    let held = client.ask(Ask::get(&url, &[("If-None-Match", &tag)]));
    assert_eq!((held.status, held.bytes.len()), (304, 0));
    for fine in [&part, &held] {
        assert_eq!(fine.header("cache-control"), whole.header("cache-control"));
    }
    client.send(format!("HEAD {url} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").as_bytes());
    let mut head = String::new();
    client.stream.read_to_string(&mut head).expect("text");
    assert!(head.starts_with("HTTP/1.1 200") && head.contains("content-length: 14\r\n"), "{head}");
    assert!(head.ends_with("\r\n\r\n"), "no body: {head}");
    let missing = url.replace(|c: char| c.is_ascii_digit(), "0");
    assert_eq!(rig.ask(Ask::get(&missing, &[])).status, 404);
    assert_eq!(rig.ask(Ask::get("/files/..%2f..%2fsecret.key", &[])).status, 404);
}

#[test]
fn what_cannot_be_a_picture_is_refused_and_leaves_nothing() {
    let rig = Rig::start();
    let mut torn = png(&RgbImage::new(50, 50).into());
    torn.truncate(torn.len() / 2);
    for (body, status, why) in [
        (png_of(50_000, 50_000), 413, "too_many_pixels"),
        (png_of(u32::MAX >> 1, u32::MAX >> 1), 413, "too_many_pixels"),
        (torn, 415, "bad_picture"),
        (b"\xff\xd8\xff\xe0 no picture".to_vec(), 415, "bad_picture"),
        (b"\xff\xd8\xff\xc0\0\x11\x08\xff\xff\xff\xff\x03".to_vec(), 415, "bad_picture"),
        (b"GIF89a no picture".to_vec(), 415, "bad_picture"),
        (b"RIFF\0\0\0\0WEBPVP8 ".to_vec(), 415, "bad_picture"),
        (Vec::new(), 400, "empty_file"),
    ] {
        let (got, code) = code(&send(&rig, "", &body));
        if why == "bad_picture" {
            // Garbage may read as a size as well.
            assert!([(415, "bad_picture"), (413, "too_many_pixels")].contains(&(got, &code)), "{got} {code}");
        } else {
            assert_eq!((got, code.as_str()), (status, why));
        }
    }
    assert_eq!(files_in(&rig.files.path().join("files")), 0);
}

#[test]
fn too_much_is_refused_before_it_comes_and_while_it_comes() {
    let rig = Rig::start();
    let bearer = bearer(&rig);
    // 10 GB that never come: the answer is there before the first byte.
    let mut client = rig.client();
    let head = format!("POST /api/v1/files HTTP/1.1\r\nHost: x\r\n{bearer}");
    client.send(format!("{head}Content-Length: 10000000000\r\n\r\n").as_bytes());
    assert_eq!(code(&client.answer()), (413, "too_large".to_owned()));
    // Without a length: as soon as it is too much. The client reads the answer although it has not
    // ended.
    let mut client = rig.client();
    client.send(format!("{head}Transfer-Encoding: chunked\r\n\r\n").as_bytes());
    let chunk = vec![b'x'; 64 * 1024];
    for _ in 0..=UPLOAD_BYTES_MAX / chunk.len() as u64 {
        client.send(format!("{:x}\r\n", chunk.len()).as_bytes());
        client.send(&chunk);
        client.send(b"\r\n");
    }
    let answer = client.answer();
    assert_eq!((code(&answer), answer.header("connection")), ((413, "too_large".to_owned()), Some("close")));
    assert_eq!(code(&send(&rig, "", &vec![b'x'; UPLOAD_BYTES_MAX as usize + 1])), (413, "too_large".to_owned()));
    assert_eq!(files_in(&rig.files.path().join("files")), 0);
    made(&send(&rig, "", &vec![b'x'; UPLOAD_BYTES_MAX as usize]));
}

#[test]
fn half_a_body_leaves_nothing() {
    let rig = Rig::start();
    let bearer = bearer(&rig);
    let mut client = rig.client();
    let head = format!("POST /api/v1/files HTTP/1.1\r\nHost: x\r\n{bearer}Content-Length: 1000000\r\n\r\n");
    client.send(head.as_bytes());
    client.send(&[b'x'; 500_000]);
    client.stream.get_ref().shutdown(Shutdown::Write).expect("a socket");
    // Its end is seen when the connection is closed, with an answer or without.
    let mut rest = Vec::new();
    let _ = client.stream.read_to_end(&mut rest);
    drop(client);
    // A stop waits for what is under way.
    let files = files_after_stop(rig);
    assert_eq!(files, 0);
}

fn files_after_stop(mut rig: Rig) -> usize {
    rig.api.take().expect("it runs").stop(PATIENCE);
    files_in(&rig.files.path().join("files"))
}

#[test]
fn an_upload_wants_a_login_and_the_header() {
    let rig = Rig::start();
    let post = |headers: &str| {
        let mut client = rig.client();
        let head = format!("POST /api/v1/files HTTP/1.1\r\nHost: x\r\n{headers}Content-Length: 1\r\n\r\nx");
        client.stream.get_mut().write_all(head.as_bytes()).expect("a socket");
        code(&client.answer())
    };
    assert_eq!(post(""), (401, "not_logged_in".to_owned()));
    let (user, token) = rig.user("13800000001");
    assert_eq!(post(&format!("Cookie: imgate_{}={token}\r\n", user.id)), (403, "missing_user_header".to_owned()));
    assert_eq!(files_in(&rig.files.path().join("files")), 0);
}

#[test]
fn files_weigh_up_to_a_bound_on_each_who_has_sent_them() {
    let bounds = UploadBounds { user_bytes_max: 100, ..BOUNDS };
    let rig = Rig::with_bounds(Deadlines::default(), bounds);
    made(&send(&rig, "", &[b'a'; 60]));
    assert_eq!(code(&send(&rig, "", &[b'b'; 60])), (403, "over_quota".to_owned()));
    let kept = files_in(&rig.files.path().join("files"));
    made(&send(&rig, "", &[b'c'; 40]));
    assert_eq!(code(&send(&rig, "", b"x")), (403, "over_quota".to_owned()), "told before the first byte");
    assert_eq!(files_in(&rig.files.path().join("files")), kept + 1, "what was refused left nothing");
    let (_, bob) = rig.user("13800000002");
    let bob = format!("Authorization: Bearer {bob}\r\n");
    let weighs = |raw| rig.memory.connect().files().uploaded(UserId::new(raw).expect("an id"));
    made(&send_as(&rig, &bob, "", &[b'a'; 60]));
    // Again: nothing more.
    made(&send_as(&rig, &bob, "", &[b'a'; 60]));
    assert_eq!(code(&send_as(&rig, &bob, "", &[b'd'; 41])), (403, "over_quota".to_owned()));
    assert_eq!((weighs(1), weighs(2)), (Ok(100), Ok(60)), "each pays for their own");
    // A picture weighs what is kept of it, the small one included.
    let rig = Rig::start();
    let file = made(&send(&rig, "", &photo()));
    let thumb = rig.ask(Ask::get(file["thumb"].as_str().expect("a URL"), &[])).bytes.len() as u64;
    let weighs = rig.memory.connect().files().uploaded(UserId::new(1).expect("an id"));
    assert_eq!(weighs, Ok(file["size"].as_u64().expect("a number") + thumb), "also where there is no bound");
}

#[test]
fn uploads_have_a_pace() {
    let bounds = UploadBounds { per_minute: 2, ..BOUNDS };
    let rig = Rig::with_bounds(Deadlines::default(), bounds);
    keep(&rig, b"1");
    keep(&rig, b"2");
    assert_eq!(code(&send(&rig, "", b"3")), (429, "too_often".to_owned()));
    let (_, bob) = rig.user("13800000002");
    // Every user has a pace of their own.
    made(&send_as(&rig, &format!("Authorization: Bearer {bob}\r\n"), "", b"3"));
}

#[test]
fn one_user_who_sends_slowly_leaves_room_for_others() {
    let rig = Rig::start();
    // The first user is the one who `send`s.
    bearer(&rig);
    let (_, bob) = rig.user("13800000002");
    let head = format!("POST /api/v1/files HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {bob}\r\nContent-Length: ");
    let (keep, answers) = mpsc::channel();
    let lines: Vec<_> = (0..2 * limits::USER_UPLOADS_MAX)
        .map(|_| {
            let mut client = rig.client();
            client.send(format!("{head}1000\r\n\r\nhalf").as_bytes());
            let line = client.stream.get_ref().try_clone().expect("a socket");
            let keep = keep.clone();
            thread::spawn(move || keep.send(code(&client.answer())));
            line
        })
        .collect();
    let answered = |code| {
        for _ in 0..limits::USER_UPLOADS_MAX {
            assert_eq!(answers.recv_timeout(PATIENCE).expect("an answer"), code);
        }
    };
    answered((429, "too_often".to_owned()));
    made(&send(&rig, "", b"somebody else's"));
    // Of those who have a place, the body ends now; of the others nothing is left.
    for line in lines {
        let _ = line.shutdown(Shutdown::Write);
    }
    answered((400, "cut_off".to_owned()));
    let mut client = rig.client();
    client.send(format!("{head}1\r\n\r\nx").as_bytes());
    made(&client.answer());
}

#[test]
fn a_newcomer_has_a_place_when_all_are_taken() {
    let rig = Rig::start();
    let users = limits::UPLOADS_MAX / limits::USER_UPLOADS_MAX;
    let (tell, answers) = mpsc::channel();
    let mut lines = Vec::new();
    for n in 0..users {
        let (_, token) = rig.user(&format!("139000000{n:02}"));
        for _ in 0..limits::USER_UPLOADS_MAX {
            let mut client = rig.client();
            let head = format!("POST /api/v1/files HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n");
            client.send(format!("{head}Content-Length: 1000\r\n\r\nhalf").as_bytes());
            lines.push(client.stream.get_ref().try_clone().expect("a socket"));
            let tell = tell.clone();
            thread::spawn(move || tell.send(code(&client.answer())));
        }
    }
    rig.until(|| rig.file_counters.numbers().places == limits::UPLOADS_MAX as u64);
    let (_, token) = rig.user("13800000009");
    let bearer = format!("Authorization: Bearer {token}\r\n");
    assert!(made(&send_as(&rig, &bearer, "", b"a newcomer's"))["url"].is_string());
    assert_eq!(answers.recv_timeout(PATIENCE).expect("an answer"), (503, "busy".to_owned()), "one gives way");
    assert_eq!(rig.file_counters.numbers().displaced, 1);
    lines.into_iter().for_each(|line| drop(line.shutdown(Shutdown::Write)));
    for _ in 1..limits::UPLOADS_MAX {
        assert_eq!(answers.recv_timeout(PATIENCE).expect("an answer"), (400, "cut_off".to_owned()), "the others stay");
    }
}
