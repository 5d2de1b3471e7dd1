//! Chats with one user from a terminal: a line is a message; after the end of the input it ends when
//! everything is sent.
//!
//! `cargo run -p imgate-client --example chat -- 127.0.0.1:8081 1 TOKEN 2`

use std::io::BufRead;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use imgate_client::{Client, Conv, Event, Options};

const MOMENT: Duration = Duration::from_millis(100);

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [server, user, token, other] = arguments.as_slice() else {
        eprintln!("chat HOST:PORT USER TOKEN OTHER-USER");
        return ExitCode::FAILURE;
    };
    let (Ok(user), Ok(other)) = (user.parse(), other.parse()) else {
        eprintln!("users are numbers");
        return ExitCode::FAILURE;
    };
    let client = match Client::connect(Options::new(server, user, token)) {
        Ok(client) => Arc::new(client),
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    };
    let (posted, typed) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    let (typist, count, done) = (Arc::clone(&client), Arc::clone(&posted), Arc::clone(&typed));
    thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            match typist.post(Conv::Direct(other), &line) {
                Ok(_) => _ = count.fetch_add(1, Ordering::Relaxed),
                Err(_) => eprintln!("not sent, too much is waiting: {line}"),
            }
        }
        done.store(true, Ordering::Release);
    });
    // Each line is answered once. A moment after the last answer it ends, whatever else comes.
    let (mut answered, mut until) = (0, None);
    loop {
        if typed.load(Ordering::Acquire) && answered == posted.load(Ordering::Relaxed) {
            until.get_or_insert_with(|| Instant::now() + MOMENT);
        }
        let left = until.map_or(MOMENT, |until| until.saturating_duration_since(Instant::now()));
        if left.is_zero() {
            return ExitCode::SUCCESS;
        }
        let Ok(event) = client.next_within(left) else { return ExitCode::SUCCESS };
        answered += usize::from(matches!(event, Some(Event::Sent { .. } | Event::Refused { cid: Some(_), .. })));
        match event {
            Some(Event::Message { conv, message }) if conv == Conv::Direct(other) => {
                println!("{}: {}", message.userid, message.content());
                let _ = message.seq.map(|seq| client.read(conv, seq));
            }
            Some(Event::Refused { code, .. }) => eprintln!("refused: {code}"),
            Some(Event::Online) => eprintln!("online"),
            Some(Event::Offline { code, reason, again }) => {
                eprintln!("offline ({code} {reason})");
                if !again {
                    return ExitCode::FAILURE;
                }
            }
            _ => {}
        }
    }
}
