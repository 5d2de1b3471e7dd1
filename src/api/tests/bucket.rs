//! Uploads, downloads and removals with files in an object store.

use std::cell::{Cell, RefCell};
use std::io::Read as _;
use std::thread;

use data_encoding::HEXLOWER;
use sha2::{Digest as _, Sha256};

use super::files::{bearer, claim as claim_of, files_in, keep, made, photo, send, send_as};
use super::rig::{Answered, Ask, BOUNDS, Rig, UPLOAD_BYTES_MAX};
use crate::api::UploadBounds;
use crate::clock;
use crate::ids::UserId;
use crate::limits;
use crate::object_store::tests::{ServerMood, TestStore};
use crate::store::{Backend as _, Claim, FileId};

fn rig(server: &TestStore) -> Rig {
    Rig::with_objects(BOUNDS, server.client())
}

/// Drafts, and files that should not be there.
fn left(rig: &Rig) -> usize {
    files_in(&rig.files.path().join("files"))
}

/// Where a file is in the store.
fn path(name: &str) -> String {
    format!("{}/{}", &name[..2], &name[2..])
}

fn get(rig: &Rig, name: &str, headers: &[(&str, &str)]) -> Answered {
    rig.ask(Ask::get(&format!("/files/{name}"), headers))
}

/// The name of a mark of that file.
fn mark(name: &str, at_ms: u64) -> String {
    let (digits, _) = name.split_once('.').expect("a name");
    format!("leaving/{digits}.{at_ms:016x}{:016x}", 7)
}

#[test]
fn what_one_gateway_keeps_every_other_one_serves() {
    let server = TestStore::start();
    let (one, other) = (rig(&server), rig(&server));
    let body: Vec<u8> = (0..2 * limits::OBJECT_CHUNK_BYTES + 9).map(|n| (n % 251) as u8).collect();
    assert!((body.len() as u64) < UPLOAD_BYTES_MAX);
    let name = keep(&one, &body);
    assert_eq!((server.names(), left(&one)), (vec![path(&name)], 0), "kept there, and nothing here");
    let served = get(&other, &name, &[]);
    assert_eq!((served.status, served.bytes == body), (200, true));
    assert_eq!(served.header("content-disposition"), Some("attachment"));
    let tag = format!("\"{name}\"");
    assert_eq!((served.header("etag"), served.header("accept-ranges")), (Some(tag.as_str()), Some("bytes")));
    let len = body.len();
    for (range, status, wanted) in [
        ("bytes=2-5", 206, &body[2..6]),
        ("bytes=-3", 206, &body[len - 3..]),
        (&format!("bytes={}-", limits::OBJECT_CHUNK_BYTES - 1), 206, &body[limits::OBJECT_CHUNK_BYTES - 1..]),
        (&format!("bytes={len}-"), 416, b""),
    ] {
        let part = get(&other, &name, &[("Range", range)]);
        assert_eq!((part.status, part.bytes == wanted), (status, true), "{range}");
    }
    assert_eq!(get(&other, &name, &[("If-None-Match", &tag)]).status, 304);
    assert_eq!(get(&other, &name, &[("If-Match", "\"x\"")]).status, 412);
    let mut client = other.client();
    client.send(format!("HEAD /files/{name} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").as_bytes());
    let mut head = String::new();
    client.stream.read_to_string(&mut head).expect("a head");
    assert!(head.starts_with("HTTP/1.1 200 ") && head.contains(&format!("content-length: {len}\r\n")), "{head}");
    assert_eq!(get(&other, &name.replace(".bin", ".png"), &[]).status, 404, "another name");
}

#[test]
fn a_picture_is_kept_with_its_small_one_and_the_same_once() {
    let server = TestStore::start();
    let rig = rig(&server);
    let file = made(&send(&rig, "", &photo()));
    assert_eq!(server.names().len(), 2);
    for url in [&file["url"], &file["thumb"]] {
        let served = rig.ask(Ask::get(url.as_str().expect("a URL"), &[]));
        assert_eq!((served.status, served.header("content-type")), (200, Some("image/jpeg")));
    }
    server.asked();
    assert_eq!(made(&send(&rig, "", &photo()))["url"], file["url"]);
    assert!(!server.asked().iter().any(|asked| asked.starts_with("PUT")), "its outcome is known");
    // Somebody has removed it there: then it is put again.
    server.names().iter().for_each(|name| server.remove(name));
    assert_eq!(made(&send(&rig, "", &photo()))["url"], file["url"]);
    assert_eq!((server.names().len(), left(&rig)), (2, 0));
}

#[test]
fn a_store_that_fails_refuses_uploads_and_keeps_nothing_of_them() {
    let server = TestStore::start();
    let rig = rig(&server);
    let name = keep(&rig, b"before");
    for mood in [ServerMood::Failing(usize::MAX), ServerMood::Refusing("AccessDenied")] {
        server.mood(mood);
        let refused = send(&rig, "", b"meanwhile");
        assert_eq!((refused.status, refused.header("retry-after")), (503, Some("2")), "{mood:?}: {refused:?}");
        assert!(refused.body.contains("\"files_away\""), "{refused:?}");
        let served = get(&rig, &name, &[]);
        assert_eq!((served.status, served.header("retry-after")), (503, Some("2")), "{mood:?}: {served:?}");
        server.mood(ServerMood::Well);
        // What was refused weighs on nobody, and may be sent again when the store is tried again.
        rig.until(|| get(&rig, &name, &[]).status == 200);
        let weighs = rig.memory.connect().files().uploaded(UserId::new(1).expect("an id"));
        assert_eq!((weighs, left(&rig)), (Ok(6), 0));
    }
    keep(&rig, b"meanwhile");
}

#[test]
fn what_nothing_refers_to_goes_with_every_mark_of_it() {
    let server = TestStore::start();
    let rig = rig(&server);
    let (own, shared) = (keep(&rig, b"one user's"), keep(&rig, b"of two users"));
    let (_, bob) = rig.user("13800000002");
    made(&send_as(&rig, &format!("Authorization: Bearer {bob}\r\n"), "", b"of two users"));
    let first = UserId::new(1).expect("an id");
    assert_eq!(rig.memory.connect().people().erase(first), Ok(true), "an account ends, and its uploads with it");
    rig.until(|| server.names() == [path(&shared)]);
    assert_eq!((get(&rig, &own, &[]).status, get(&rig, &shared, &[]).status), (404, 200));
    let numbers = rig.file_counters.numbers();
    assert_eq!((numbers.removed, numbers.removed_bytes), (1, 10));
}

#[test]
fn a_removal_waits_for_a_store_that_is_away() {
    let server = TestStore::start();
    let rig = rig(&server);
    let name = keep(&rig, b"one user's");
    server.mood(ServerMood::Failing(usize::MAX));
    assert_eq!(rig.memory.connect().people().erase(UserId::new(1).expect("an id")), Ok(true));
    server.asked();
    // It is tried: marks can be neither listed nor put.
    rig.until(|| server.asked().iter().any(|asked| asked.contains("leaving/")));
    assert_eq!(server.names(), [path(&name)]);
    server.mood(ServerMood::Well);
    rig.until(|| server.names().is_empty());
}

/// Marks of others, and objects that are none, do not hide what was left undone.
#[test]
fn a_removal_that_was_left_undone_is_found_behind_many_others() {
    let server = TestStore::start();
    for n in 0..limits::OBJECT_LIST_MAX * 2 {
        server.insert(&format!("leaving/.{n:04}"), b"");
    }
    let gone = mark(&format!("{}.png", "f".repeat(64)), clock::wall_ms() - limits::FILES_LEFT_MS - 1000);
    server.insert(&gone, b"");
    let rig = rig(&server);
    rig.until(|| !server.names().contains(&gone));
    assert_eq!(server.names().len(), limits::OBJECT_LIST_MAX * 2, "what is none stays");
}

#[test]
fn an_upload_waits_until_a_removal_of_the_same_content_has_ended() {
    let server = TestStore::start();
    let rig = rig(&server);
    let name = keep(&rig, b"the same");
    // Another gateway has forgotten the file, as its mark says, and is about to remove it.
    let mark = mark(&name, clock::wall_ms());
    server.insert(&mark, b"");
    server.remove(&path(&name));
    server.asked();
    thread::scope(|scope| {
        let upload = scope.spawn(|| keep(&rig, b"the same"));
        let asked = RefCell::new(Vec::new());
        rig.until(|| {
            asked.borrow_mut().extend(server.asked());
            asked.borrow().iter().filter(|asked| asked.starts_with("GET /chat/ leaving/")).count() >= 2
        });
        let asked = asked.into_inner();
        assert!(!asked.iter().any(|asked| asked.starts_with("PUT")), "{asked:?}");
        server.remove(&mark);
        assert_eq!(upload.join().expect("an upload"), name);
    });
    assert_eq!(server.names(), [path(&name)]);
}

#[test]
fn no_removal_takes_what_was_uploaded_again_meanwhile() {
    let server = TestStore::start();
    let rig = rig(&server);
    server.mood(ServerMood::Tardy);
    let user = UserId::new(1);
    let name = keep(&rig, b"again and again");
    let (claim, digest) = (claim(&name, user), Sha256::digest(b"again and again").into());
    for round in 0..20 {
        // What was claimed is this claim then, which is taken back.
        let renewed = rig.memory.connect().files().claimed(UserId::new(1).expect("an id"), &digest, claim.until_ms);
        assert!(matches!(renewed, Ok(Some(_))), "{renewed:?}");
        rig.memory.connect().files().unclaim(&claim).expect("memory");
        // Now before the gateway forgets it, now after.
        if round % 2 == 0 {
            rig.until(|| server.names().iter().any(|name| name.starts_with("leaving/")));
        }
        assert_eq!(keep(&rig, b"again and again"), name);
        assert_eq!(get(&rig, &name, &[]).status, 200, "round {round}");
        rig.until(|| server.names() == [path(&name)]);
    }
}

#[test]
fn an_upload_that_fails_leaves_what_another_request_has_kept() {
    let server = TestStore::start();
    let rig = rig(&server);
    let bearer = bearer(&rig);
    for (body, then, status) in
        [(&b"believed"[..], ServerMood::Well, 201), (b"not heard of", ServerMood::Refusing("AccessDenied"), 503)]
    {
        server.mood(ServerMood::HoldingOne);
        let name = thread::scope(|scope| {
            let first = scope.spawn(|| send_as(&rig, &bearer, "", body));
            rig.until(|| server.holds_one());
            // The client tries again while the store does not answer.
            let name = keep(&rig, body);
            server.mood(then);
            assert_eq!(first.join().expect("an upload").status, status);
            name
        });
        server.mood(ServerMood::Well);
        let due = rig.memory.connect().files().retire(clock::wall_ms(), 9, &mut |_| false);
        assert_eq!(due.map(|step| step.seen), Ok(0), "nothing is about to go");
        rig.until(|| get(&rig, &name, &[]).status == 200);
    }
    let weighs = rig.memory.connect().files().uploaded(UserId::new(1).expect("an id"));
    assert_eq!(weighs, Ok(20), "each once");
}

#[test]
fn one_user_has_so_many_files_on_their_way_into_the_store() {
    let server = TestStore::start();
    let rig = rig(&server);
    let bearer = bearer(&rig);
    server.mood(ServerMood::HoldingPuts);
    thread::scope(|scope| {
        let (rig, bearer) = (&rig, bearer.as_str());
        let upload = |n: usize| scope.spawn(move || send_as(rig, bearer, "", format!("file {n}").as_bytes()).status);
        let held: Vec<_> = (0..limits::USER_UPLOADS_MAX).map(upload).collect();
        let puts = Cell::new(0);
        rig.until(|| {
            puts.set(puts.get() + server.asked().iter().filter(|asked| asked.starts_with("PUT")).count());
            puts.get() == limits::USER_UPLOADS_MAX
        });
        assert_eq!(send_as(rig, bearer, "", b"one more").status, 429);
        server.mood(ServerMood::Well);
        held.into_iter().for_each(|one| assert_eq!(one.join().expect("an upload"), 503));
    });
    assert_eq!(rig.file_counters.numbers().places, 0);
    keep(&rig, b"one more");
}

#[test]
fn what_is_being_removed_is_not_believed_to_be_there() {
    let server = TestStore::start();
    let rig = rig(&server);
    let name = keep(&rig, b"going");
    let token = rig.token(UserId::new(1).expect("an id"));
    let digest = HEXLOWER.encode(&Sha256::digest(b"going"));
    assert_eq!(claim_of(&rig, &token, &digest).status, 200);
    // Another gateway is about to remove the object.
    let mark = mark(&name, clock::wall_ms());
    server.insert(&mark, b"");
    let answer = claim_of(&rig, &token, &digest);
    assert!(answer.status == 404 && answer.body.contains("\"not_stored\""), "{answer:?}");
    server.remove(&mark);
    assert_eq!(claim_of(&rig, &token, &digest).status, 200);
}

#[test]
fn readers_that_do_not_read_are_in_the_way_of_none() {
    let server = TestStore::start();
    let rig = rig(&server);
    let large = format!("{}.bin", "ab".repeat(32));
    server.insert(&path(&large), &vec![7; 32 * 1024 * 1024]);
    let small = keep(&rig, b"a small one");
    let stuck: Vec<_> = (0..2 * limits::OBJECT_READS_MAX)
        .map(|_| {
            let mut client = rig.client();
            client.send(format!("GET /files/{large} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes());
            let mut first = [0];
            client.stream.read_exact(&mut first).expect("an answer begins");
            client
        })
        .collect();
    assert_eq!(get(&rig, &small, &[]).body, "a small one");
    drop(stuck);
}

/// The claim of a file.
fn claim(name: &str, user: Option<UserId>) -> Claim {
    let digits = HEXLOWER.decode(&name.as_bytes()[..64]).expect("digits");
    Claim {
        user,
        digests: vec![[1; 32]],
        file: FileId(digits.try_into().expect("32 bytes")),
        thumb: None,
        bytes: 5,
        note: String::new(),
        until_ms: u64::MAX >> 1,
    }
}

#[test]
fn a_removal_that_a_crash_has_left_is_finished() {
    let server = TestStore::start();
    let rig = rig(&server);
    let known = keep(&rig, b"known");
    let unknown = known.replace(&known[..4], "abcd");
    drop(rig);
    server.insert(&path(&unknown), b"forgotten");
    let young = mark(&unknown.replace("abcd", "dcba"), clock::wall_ms());
    for mark in [mark(&known, 0), mark(&unknown, 0), young.clone()] {
        server.insert(&mark, b"");
    }
    let rig = Rig::with_objects(BOUNDS, server.client());
    // This database knows the first one, too.
    assert_eq!(rig.memory.connect().files().claim(&claim(&known, None), 0), Ok(true));
    rig.until(|| server.names() == [path(&known), young.clone()]);
}

#[test]
fn marks_are_finished_also_where_nothing_is_removed_any_more() {
    let server = TestStore::start();
    let unknown = format!("{}.bin", "ab".repeat(32));
    server.insert(&path(&unknown), b"forgotten");
    server.insert(&mark(&unknown, 0), b"");
    let rig = Rig::with_objects(UploadBounds { grace_ms: 0, ..BOUNDS }, server.client());
    rig.until(|| server.names().is_empty());
}
