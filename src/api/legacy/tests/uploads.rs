//! `/attach/upload`, and what is served of it.

use crate::api::tests::files::{bearer, files_in, made, photo, png_of, send};
use crate::api::tests::rig::{Answered, Ask, BOUNDS, Client, Rig, UPLOAD_BYTES_MAX};
use crate::api::{Deadlines, UploadBounds};
use crate::ids::UserId;

/// A form of the old pages.
fn form(file_name: &str, content: &[u8]) -> Vec<u8> {
    let mut body = format!(
        "--xYz\r\nContent-Disposition: form-data; name=\"userid\"\r\n\r\n1\r\n--xYz\r\n\
         Content-Disposition: form-data; name=\"filetype\"\r\n\r\n.mp3\r\n--xYz\r\nContent-Disposition: form-data; \
         name=\"file\"; filename=\"{file_name}\"\r\nContent-Type: image/png\r\n\r\n"
    )
    .into_bytes();
    body.extend_from_slice(content);
    body.extend_from_slice(b"\r\n--xYz\r\nContent-Disposition: form-data; name=\"file\"\r\n\r\nsecond\r\n--xYz--\r\n");
    body
}

fn attach(client: &mut Client, headers: &str, body: &[u8]) -> Answered {
    let kind = "Content-Type: multipart/form-data; boundary=xYz";
    let head = format!("POST /attach/upload HTTP/1.1\r\nHost: x\r\n{kind}\r\n{headers}");
    client.send(format!("{head}Content-Length: {}\r\n\r\n", body.len()).as_bytes());
    client.send(body);
    client.answer()
}

#[test]
fn the_old_pages_upload_with_a_form() {
    let rig = Rig::start();
    let bearer = bearer(&rig);
    let voice = form("blob", b"OggS voice");
    assert_eq!(attach(&mut rig.client(), "", &voice).json(), r#"{"code":-1,"msg":"请先登录"}"#);
    let mut client = rig.client();
    let data = attach(&mut client, &bearer, &voice).at("/data");
    let url = data.as_str().expect("a URL");
    assert!(url.starts_with("/resource/") && url.ends_with(".ogg"), "{url}");
    // On the same connection: the rest of the form was read.
    let served = client.ask(Ask::get(url, &[]));
    assert_eq!((served.header("content-type"), served.body.as_str()), (Some("audio/ogg"), "OggS voice"));
    let hidden =
        attach(&mut client, &bearer, &form("../../../../x/evil.png", b"<script>alert(1)</script>")).at("/data");
    let served = client.ask(Ask::get(hidden.as_str().expect("a URL"), &[]));
    assert_eq!(served.header("content-disposition"), Some("attachment"));
    // With cookies: whoever of those who are logged in here.
    let (_, other) = rig.user("13800000002");
    let cookies = format!("Cookie: imgate_1={}; imgate_2={other}\r\n", rig.token(UserId::new(1).expect("an id")));
    assert_eq!(attach(&mut client, &cookies, &voice).at("/data"), url);
}

#[test]
fn old_pages_are_told_what_is_wrong() {
    let rig = Rig::start();
    let bearer = bearer(&rig);
    for (body, msg) in [
        (form("x.png", &[]), "请选择要上传的文件"),
        (b"--xYz\r\n\r\nno file\r\n--xYz--\r\n".to_vec(), "请选择要上传的文件"),
        (b"no form".to_vec(), "文件上传不完整"),
        (form("x.png", &vec![b'x'; UPLOAD_BYTES_MAX as usize + 1]), "文件过大"),
        (form("x.png", &png_of(50_000, 50_000)), "图片尺寸过大"),
        (form("x.png", b"\x89PNG\r\n\x1a\n"), "图片无法识别"),
    ] {
        assert_eq!(attach(&mut rig.client(), &bearer, &body).at("/msg"), msg);
    }
    assert_eq!(files_in(&rig.files.path().join("files")), 0);
    let form = Ask::form("/attach/upload", "file=x");
    assert_eq!(rig.ask(form).json(), r#"{"code":-1,"msg":"请选择要上传的文件"}"#);
}

#[test]
fn who_registers_brings_a_portrait_and_nothing_else() {
    let rig = Rig::start();
    let page = "Referer: http://gate.example/register.shtml?x=1\r\n";
    let mut client = rig.client();
    let data = attach(&mut client, page, &form("me.jpg", &photo())).at("/data");
    let served = client.ask(Ask::get(data.as_str().expect("a URL"), &[]));
    let picture = image::load_from_memory(&served.bytes).expect("a picture");
    assert_eq!((picture.width(), picture.height()), (160, 320), "a small one, upright");
    let kept = files_in(&rig.files.path().join("files"));
    for (body, msg) in [
        (form("me.png", b"<script>alert(1)</script>"), "请先登录"),
        (form("me.png", b"ID3 a song"), "请先登录"),
        (form("me.png", &png_of(50_000, 50_000)), "图片尺寸过大"),
    ] {
        assert_eq!(attach(&mut rig.client(), page, &body).at("/msg"), msg);
    }
    let elsewhere = "Referer: http://gate.example/createcom.shtml\r\n";
    for page in ["", elsewhere] {
        assert_eq!(attach(&mut rig.client(), page, &form("me.jpg", &photo())).at("/msg"), "请先登录");
    }
    assert_eq!(files_in(&rig.files.path().join("files")), kept);
    // The same picture of a user is kept as a whole all the same.
    assert_eq!(made(&send(&rig, "", &photo()))["height"], 400);
}

#[test]
fn old_pages_are_told_of_quota_and_pace() {
    let rig = Rig::with_bounds(Deadlines::default(), UploadBounds { user_bytes_max: 10, per_minute: 2, ..BOUNDS });
    let bearer = bearer(&rig);
    let mut client = rig.client();
    let mut msg = |content: &[u8]| attach(&mut client, &bearer, &form("x", content)).at("/msg");
    assert_eq!(msg(b"0123456789"), "");
    assert_eq!(msg(b"x"), "您的文件已达到存储上限");
    assert_eq!(msg(b"x"), "操作过于频繁,请稍后再试");
}
