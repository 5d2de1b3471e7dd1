//! What a flood needs before it begins: accounts that can log in, and a group with a history that
//! attackers may read.
//!
//! Owns: [`accounts`] and [`library`]. Everything goes over the routes that every client uses.
//! Bounds: [`LIBRARY_MESSAGES`] messages, one group, [`THREADS`] connections at the same time.

use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use tungstenite::client::IntoClientRequest;
use tungstenite::http::HeaderValue;
use tungstenite::{Message, WebSocket, client};

use super::payload::mobile;
use super::{Account, FloodUser, Target};
use crate::http::{Url, post};
use crate::interrupt::Interrupt;

/// The group's name, by which a later run finds it again: a user may own only a few.
const LIBRARY: &str = "autoclient flood";
/// A full page of the history,
const LIBRARY_MESSAGES: usize = 200;
/// of about 200 KiB.
const MESSAGE_BYTES: usize = 1_000;
/// Messages under way: below what the gateway takes of one session.
const WINDOW: usize = 32;
/// Connections over which users join at the same time.
const THREADS: usize = 4;
/// How long the gateway may take for an answer.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Registers `count` users that know their passwords.
pub(crate) fn accounts(target: &Target, salt: u64, count: usize, interrupt: &Interrupt) -> Result<Vec<Account>> {
    let url = Url { path: "/user/register".to_owned(), ..target.public.clone() };
    let one = |n: u64| {
        interrupt.check()?;
        let mobile = mobile(salt, n);
        let account = Account { password: format!("flood-{mobile}"), mobile };
        let form = [("mobile", account.mobile.as_str()), ("passwd", &account.password), ("nickname", "flood")];
        let answer = parse(&post(&url, None, &form)?)?;
        ensure!(answer["code"] == 0, "the gateway does not register: {answer}");
        Ok(account)
    };
    (0..count as u64).map(one).collect::<Result<_>>().context("cannot register accounts for logins")
}

/// A group of which all `users` are members, the first one its owner, with a history of a full
/// page.
pub(crate) fn library(target: &Target, users: &[FloodUser], interrupt: &Interrupt) -> Result<u64> {
    let owner = users.first().context("a library needs users")?;
    let group = match own_group(target, owner)? {
        Some(group) => group,
        None => {
            let answer = ask(target, "/contact/createcommunity", owner, &[("name", LIBRARY)])?;
            answer["data"]["id"].as_u64().with_context(|| format!("the gateway makes no group: {answer}"))?
        }
    };
    fill(target, owner, group).context("cannot write the group's history")?;
    let share = users.len().div_ceil(THREADS);
    std::thread::scope(|scope| {
        let join = |users: &[FloodUser]| {
            let id = group.to_string();
            users.iter().try_for_each(|user| {
                interrupt.check()?;
                let answer = ask(target, "/contact/joincommunity", user, &[("dstid", &id)])?;
                ensure!(answer["code"] == 0, "user {} cannot join the group: {answer}", user.id);
                Ok(())
            })
        };
        let threads: Vec<_> = users.chunks(share).map(|users| scope.spawn(move || join(users))).collect();
        threads.into_iter().try_for_each(|thread| match thread.join() {
            Ok(result) => result,
            Err(_) => bail!("a thread that joins users to the group panicked"),
        })
    })?;
    Ok(group)
}

/// The group that an earlier run has made.
fn own_group(target: &Target, owner: &FloodUser) -> Result<Option<u64>> {
    let answer = ask(target, "/contact/loadcommunity", owner, &[])?;
    let rows = answer["rows"].as_array().map_or(&[][..], Vec::as_slice);
    Ok(rows.iter().find(|row| row["name"] == LIBRARY).and_then(|row| row["id"].as_u64()))
}

fn ask(target: &Target, path: &str, user: &FloodUser, form: &[(&str, &str)]) -> Result<Value> {
    let url = Url { path: path.to_owned(), ..target.public.clone() };
    parse(&post(&url, Some(&user.token), form)?)
}

fn parse(body: &[u8]) -> Result<Value> {
    serde_json::from_slice(body).context("an answer that is no JSON")
}

/// Posts a page of messages, a window at a time.
fn fill(target: &Target, owner: &FloodUser, group: u64) -> Result<()> {
    let mut socket = connect(target, owner)?;
    let text = format!(r#"{{"cmd":11,"dstid":{group},"media":1,"content":"{}"}}"#, "x".repeat(MESSAGE_BYTES));
    let (mut sent, mut acked) = (0, 0);
    while acked < LIBRARY_MESSAGES {
        while sent < LIBRARY_MESSAGES && sent - acked < WINDOW {
            // The cid has no run in it: what an earlier run has posted is acked and not stored
            // again.
            let numbered = text.replacen('{', &format!(r#"{{"cid":"library-{group}-{sent}","#), 1);
            socket.send(Message::text(numbered))?;
            sent += 1;
        }
        let Message::Text(answer) = socket.read()? else { continue };
        let answer: Value = serde_json::from_str(&answer).unwrap_or_default();
        match answer["cmd"].as_u64() {
            Some(1) => acked += 1,
            Some(2) => bail!("refused: {answer}"),
            _ => {}
        }
    }
    // Whether the goodbye is answered does not matter.
    let _ = socket.close(None);
    Ok(())
}

fn connect(target: &Target, user: &FloodUser) -> Result<WebSocket<TcpStream>> {
    let stream = TcpStream::connect_timeout(&target.address, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    let FloodUser { id, token } = user;
    let mut request = format!("ws://{}/chat?id={id}&token={token}", target.public.host).into_client_request()?;
    request.headers_mut().insert("Sec-WebSocket-Protocol", HeaderValue::from_static("imgate.v2"));
    match client(request, stream) {
        Ok((socket, _)) => Ok(socket),
        Err(error) => bail!("no session: {error}"),
    }
}
