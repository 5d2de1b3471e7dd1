//! Chats with one user from a terminal: a line is a message; after the end of the input it ends when
//! everything is sent.
//!
//! `cargo run -p imgate-client --example chat -- 127.0.0.1:8081 1 TOKEN 2`

use std::io::BufRead;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use imgate_client::{Client, Conv, Event, Options};

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
    let (typist, typed) = (Arc::clone(&client), Arc::new(AtomicBool::new(false)));
    let done = Arc::clone(&typed);
    thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            if typist.post(Conv::Direct(other), &line).is_err() {
                eprintln!("not sent, too much is waiting: {line}");
            }
        }
        done.store(true, Ordering::Release);
    });
    while let Ok(event) = client.next_within(Duration::from_millis(100)) {
        let Some(event) = event else {
            if typed.load(Ordering::Acquire) && client.unsent() == 0 {
                break;
            }
            continue;
        };
        match event {
            Event::Message { conv, message } if conv == Conv::Direct(other) => {
                println!("{}: {}", message.userid, message.content());
                let _ = message.seq.map(|seq| client.read(conv, seq));
            }
            Event::Refused { code, .. } => eprintln!("refused: {code}"),
            Event::Online => eprintln!("online"),
            Event::Offline { code, reason, again } => {
                eprintln!("offline ({code} {reason})");
                if !again {
                    return ExitCode::FAILURE;
                }
            }
            _ => {}
        }
    }
    ExitCode::SUCCESS
}
