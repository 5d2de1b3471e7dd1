//! `docs/protocol.md` says what the code does: its tables and its example are compared with the code.

use imgate::ids::{ConvId, MsgId, Seq, UserId};
use imgate::limits;
use imgate::store::{Page, Row};
use imgate::wire::command::Parser;
use imgate::wire::packet::Stored;
use imgate::wire::{CloseCode, Command, Packet, Post, Profile, Reject, Target, push};

const DOC: &str = include_str!("../../docs/protocol.md");

/// The cells of the first table under the heading `## title`, without its head.
fn table(title: &str) -> Vec<Vec<String>> {
    let section = DOC.split("\n## ").find(|section| section.starts_with(title)).expect("the section");
    let rows = section.lines().skip_while(|line| !line.starts_with('|')).take_while(|line| line.starts_with('|'));
    let cells = |row: &str| -> Vec<String> {
        row.trim_matches('|').split('|').map(|cell| cell.trim().replace('`', "")).collect()
    };
    rows.skip(2).map(cells).collect()
}

/// The first columns of a table, as far as the code knows them.
fn columns<const N: usize>(title: &str) -> Vec<[String; N]> {
    let cut = |row: Vec<String>| row.into_iter().take(N).collect::<Vec<_>>().try_into().expect("enough columns");
    table(title).into_iter().map(cut).collect()
}

#[test]
fn the_refusal_codes_are_those_of_the_code() {
    let yes_no = |yes| if yes { "yes" } else { "no" };
    let of_code =
        |r: Reject| [r.code().to_string(), r.label().to_owned(), yes_no(r.retry()).to_owned(), r.message().to_owned()];
    assert_eq!(columns("Refusal codes"), Reject::ALL.map(of_code));
}

#[test]
fn the_close_codes_are_those_of_the_code() {
    let documented = columns::<4>("Close codes");
    let without_advice: Vec<_> =
        documented.iter().map(|[code, name, _, reason]| [code.clone(), name.clone(), reason.clone()]).collect();
    let of_code = |c: CloseCode| [c.code().to_string(), c.label().to_owned(), c.reason().to_owned()];
    assert_eq!(without_advice, CloseCode::ALL.map(of_code));
    for ([code, _, reconnect, _], close) in documented.iter().zip(CloseCode::ALL) {
        let expected = match close.code() {
            4000..=4499 => "yes",
            4500..=4999 => "no",
            _ if [CloseCode::Internal, CloseCode::Incomplete].contains(&close) => "yes",
            _ => "no",
        };
        assert_eq!(reconnect, expected, "{code}");
    }
}

#[test]
fn the_limits_are_those_of_the_code() {
    let documented: Vec<u64> = columns::<2>("Limits").into_iter().map(|[_, n]| n.parse().expect("a number")).collect();
    let of_code = [
        limits::MESSAGE_BYTES_MAX as u64,
        u64::from(limits::FRAGMENTS_MAX),
        limits::MESSAGE_MS_MAX,
        limits::JSON_DEPTH_MAX as u64,
        limits::CID_BYTES_MAX as u64,
        u64::from(limits::SYNC_ROWS_MAX),
        limits::SYNC_BYTES_MAX as u64,
        limits::PREVIEW_BYTES_MAX as u64,
        u64::from(limits::ANSWERS_PENDING_MAX),
        limits::DEVICES_DEFAULT as u64,
        limits::TOKEN_CHARS_MAX as u64,
        limits::PING_AFTER_MS,
        limits::IDLE_MS,
        limits::CID_DAYS_MIN,
        limits::WATCH_USERS_MAX as u64,
    ];
    assert_eq!(documented, of_code);
}

#[test]
fn every_command_that_exists_is_documented_and_no_other() {
    let from_clients: Vec<i64> = columns::<2>("Commands of `imgate.v2`")
        .into_iter()
        .filter(|[_, from]| from != "server")
        .map(|[cmd, _]| cmd.parse().expect("a number"))
        .collect();
    for cmd in -1..200 {
        let text = format!(r#"{{"cmd":{cmd},"kind":10,"dstid":2,"recv":1,"users":[2],"seq":1}}"#);
        let known = Parser::default().parse(text.as_bytes(), Profile::V2).is_ok();
        assert_eq!(known, from_clients.contains(&cmd), "cmd {cmd}");
    }
}

/// The server of the example: two users, one conversation, a clock that goes on by a second for every message.
struct Example {
    rows: Vec<Row>,
    /// Who has posted what under which `cid`.
    cids: Vec<(UserId, Box<str>)>,
    now_ms: u64,
}

impl Example {
    fn post(&mut self, author: UserId, post: Post) -> Vec<(char, String)> {
        let me = name(author);
        let Target::User(peer) = post.to else {
            return vec![(me, text(&push::refusal(Reject::NotMember, post.cid.as_deref(), Some(post.to))))];
        };
        let key = (author, post.cid.expect("the example gives every message a cid"));
        let dup = self.cids.iter().position(|known| *known == key);
        if dup.is_none() {
            let seq = self.rows.len() as u64 + 1;
            self.rows.push(Row {
                seq: Seq::new(seq).expect("small"),
                id: MsgId::new(10_000 + seq).expect("small"),
                ts_ms: self.now_ms,
                sender: author,
                body: post.body,
            });
            self.cids.push(key.clone());
            self.now_ms += 1000;
        }
        let row = &self.rows[dup.unwrap_or(self.rows.len() - 1)];
        let stored = Stored { id: row.id, seq: row.seq };
        let ack = (me, text(&push::ack(Some(&key.1), post.to, Some(stored), row.ts_ms, dup.is_some())));
        if dup.is_some() {
            return vec![ack];
        }
        let packet = Packet::chat(ConvId::direct(author, peer), author, Some(stored), row.ts_ms, &row.body);
        vec![(name(peer), text(packet.frame())), ack]
    }

    /// What is sent to whom when `who` says `said`. A post to a group is refused: nobody here is in one.
    fn hear(&mut self, who: UserId, said: &str) -> Vec<(char, String)> {
        let me = name(who);
        match Parser::default().parse(said.as_bytes(), Profile::V2) {
            Ok(Command::Heartbeat) => vec![(me, text(&push::heartbeat(self.now_ms)))],
            Ok(Command::Post(post)) => self.post(who, post),
            Ok(Command::Sync(sync)) => {
                let imgate::store::PageStart::After(after) = sync.from else { panic!("the example catches up") };
                let page = Page {
                    rows: self.rows.iter().filter(|row| row.seq > after).cloned().collect(),
                    more: false,
                    floor: Seq::new(1).expect("small"),
                    head: Seq::new(self.rows.len() as u64).expect("small"),
                    epoch: 1,
                };
                vec![(me, text(&push::sync(sync.of, who, &page, false)))]
            }
            Ok(other) => panic!("the example does not show {other:?}"),
            Err(refused) => vec![(me, text(&push::refusal(refused.reject, refused.cid.as_deref(), None)))],
        }
    }
}

fn name(user: UserId) -> char {
    if user.get() == 1 { 'A' } else { 'B' }
}

/// The payload of a text frame.
fn text(frame: &[u8]) -> String {
    let header = match frame[1] {
        126 => 4,
        127 => 10,
        _ => 2,
    };
    String::from_utf8(frame[header..].to_vec()).expect("a text frame")
}

#[test]
fn the_example_is_what_the_code_says() {
    let lines: Vec<&str> =
        DOC.lines().filter(|line| line.starts_with(['A', 'B']) && line.contains(['→', '←'])).collect();
    let mut example = Example { rows: Vec::new(), cids: Vec::new(), now_ms: 1_795_211_606_000 };
    let mut expected: Vec<(char, String)> = Vec::new();
    let mut heard = 0;
    for line in lines {
        // The sentence that explains the marks begins like one of them.
        let Some((mark, json)) = line.split_once(' ').filter(|(_, json)| json.starts_with('{')) else { continue };
        let who = mark.chars().next().expect("a mark has a name");
        if mark.ends_with('→') {
            assert_eq!(expected, [], "before {line}");
            expected = example.hear(UserId::new(if who == 'A' { 1 } else { 2 }).expect("small"), json);
            heard += 1;
        } else {
            assert!(!expected.is_empty(), "nobody would say {line}");
            assert_eq!((who, json.to_owned()), expected.remove(0));
        }
    }
    assert_eq!(expected, [], "at the end");
    assert_eq!(heard, 7, "the example is still there");
}
