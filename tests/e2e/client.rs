//! The Rust client (`imgate-client`) against a real gateway: posts, receives, comes back, goes on where it was.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Instant;

use imgate::auth::Issuer;
use imgate_client::{Client, Conv, Ended, Event, Full, Options, limits};

use crate::support::{Gateway, PATIENCE};

fn client(gateway: &Gateway, server: SocketAddr, user: u64) -> Client {
    let mut options = Options::new(&server.to_string(), user, &gateway.token(user, Issuer::Own));
    // A conversation that is met after a cut begins with all that was said.
    options.first_page = 200;
    Client::connect(options).expect("a thread")
}

/// The events up to the first of which `last` is true; the deadline is for all of them.
fn until(client: &Client, what: &str, last: impl Fn(&Event) -> bool) -> Vec<Event> {
    let end = Instant::now() + PATIENCE;
    let mut events = Vec::new();
    loop {
        let left = end.saturating_duration_since(Instant::now());
        let event = client.next_within(left).expect("the client goes on");
        let event = event.unwrap_or_else(|| panic!("{what} does not come after {events:?}"));
        let is_last = last(&event);
        events.push(event);
        if is_last {
            return events;
        }
    }
}

fn online(client: &Client) {
    until(client, "the connection", |event| *event == Event::Online);
}

/// What was said in a conversation, by number and text, until `count` messages were shown.
fn shown(client: &Client, of: Conv, count: usize) -> Vec<(u64, String)> {
    let mut shown = Vec::new();
    while shown.len() < count {
        let events = until(client, "a message", |event| matches!(event, Event::Message { .. }));
        if let Some(Event::Message { conv, message }) = events.last()
            && *conv == of
        {
            shown.push((message.seq.expect("it is stored"), message.content().to_owned()));
        }
    }
    shown
}

/// What a network does: carries bytes to the gateway, until it is cut.
struct Relay {
    address: SocketAddr,
    streams: Arc<Mutex<Vec<TcpStream>>>,
    to: Arc<Mutex<SocketAddr>>,
}

impl Relay {
    fn new(to: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let (streams, to) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Mutex::new(to)));
        let (kept, target) = (Arc::clone(&streams), Arc::clone(&to));
        // Ends with the process.
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let address = *target.lock().expect("no panic");
                let Ok(there) = TcpStream::connect_timeout(&address, PATIENCE) else { continue };
                for (from, to) in [(&stream, &there), (&there, &stream)] {
                    let (from, to) = (from.try_clone().expect("a socket"), to.try_clone().expect("a socket"));
                    kept.lock().expect("no panic").push(from.try_clone().expect("a socket"));
                    thread::spawn(move || carry(from, to));
                }
            }
        });
        Self { address, streams, to }
    }

    /// Ends every connection.
    fn cut(&self) {
        for stream in self.streams.lock().expect("no panic").drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    fn lead_to(&self, address: SocketAddr) {
        *self.to.lock().expect("no panic") = address;
    }
}

fn carry(mut from: TcpStream, mut to: TcpStream) {
    let mut bytes = [0; 4096];
    while let Ok(read) = from.read(&mut bytes)
        && read > 0
        && to.write_all(&bytes[..read]).is_ok()
    {}
    let _ = to.shutdown(Shutdown::Both);
}

#[test]
fn two_clients_talk_and_each_is_told_what_became_of_its_messages() {
    let gateway = Gateway::start(2, 2);
    let (ann, bob) = (client(&gateway, gateway.address(), 1), client(&gateway, gateway.address(), 2));
    online(&ann);
    online(&bob);
    let cid = ann.post(Conv::Direct(2), "hello").expect("nothing waits");
    let sent = until(&ann, "the ack", |event| matches!(event, Event::Sent { .. })).pop();
    assert_eq!(sent, Some(Event::Sent { cid, conv: Conv::Direct(2), seq: Some(1) }));
    assert_eq!(shown(&bob, Conv::Direct(1), 1), [(1, "hello".to_owned())]);
    bob.read(Conv::Direct(1), 1).expect("nothing waits");
    until(&ann, "the receipt", |event| matches!(event, Event::Receipt { userid: 2, read: 1, .. }));
    let cid = ann.post(Conv::Group(77), "anybody?").expect("nothing waits");
    let refused = until(&ann, "the refusal", |event| matches!(event, Event::Refused { .. })).pop();
    assert_eq!(refused, Some(Event::Refused { cid: Some(cid), conv: Conv::Group(77), code: 11 }));
    ann.recall(Conv::Direct(2), 1).expect("nothing waits");
    let events = until(&bob, "the recall", |event| matches!(event, Event::Message { .. }));
    let Some(Event::Message { message, .. }) = events.last() else { panic!("{events:?}") };
    assert_eq!((message.seq, message.body.get("recall").and_then(|seq| seq.as_u64())), (Some(2), Some(1)));
    bob.history(Conv::Direct(1), None, 10).expect("nothing waits");
    let events = until(&bob, "the page", |event| matches!(event, Event::History { .. }));
    let Some(Event::History { rows, more: false, .. }) = events.last() else { panic!("{events:?}") };
    assert_eq!(rows.iter().filter_map(|row| row.seq).collect::<Vec<_>>(), [1, 2]);
    ann.close();
    bob.close();
}

#[test]
fn nothing_is_lost_or_shown_twice_over_cuts_and_a_restart_of_the_gateway() {
    const MESSAGES: usize = 60;
    let mut gateway = Gateway::start(2, 2);
    let relay = Relay::new(gateway.address());
    let (ann, bob) = (client(&gateway, relay.address, 1), client(&gateway, relay.address, 2));
    online(&ann);
    online(&bob);
    for n in 0..MESSAGES {
        ann.post(Conv::Direct(2), &n.to_string()).expect("few wait");
        if n == MESSAGES / 3 {
            relay.cut();
        }
        if n == 2 * MESSAGES / 3 {
            gateway.restart();
            relay.lead_to(gateway.address());
            relay.cut();
        }
    }
    let expected: Vec<(u64, String)> = (0..MESSAGES).map(|n| (n as u64 + 1, n.to_string())).collect();
    let mut texts = shown(&bob, Conv::Direct(1), MESSAGES);
    assert!(texts.is_sorted_by_key(|(seq, _)| *seq), "in the order of their numbers: {texts:?}");
    texts.sort_by_key(|(_, text)| text.parse::<usize>().expect("a number"));
    assert_eq!(
        texts.iter().map(|(_, text)| text).collect::<Vec<_>>(),
        expected.iter().map(|(_, text)| text).collect::<Vec<_>>()
    );
    assert_eq!(shown(&ann, Conv::Direct(2), MESSAGES).len(), MESSAGES, "its own are shown in their turn, too");
}

#[test]
fn a_client_goes_on_where_an_earlier_one_was() {
    let gateway = Gateway::start(2, 2);
    let ann = client(&gateway, gateway.address(), 1);
    online(&ann);
    for text in ["one", "two", "three"] {
        ann.post(Conv::Direct(2), text).expect("few wait");
    }
    let three = shown(&ann, Conv::Direct(2), 3);
    let token = gateway.token(2, Issuer::Own);
    let mut options = Options::new(&gateway.address().to_string(), 2, &token);
    options.places = vec![(Conv::Direct(1), 1, None)];
    let bob = Client::connect(options.clone()).expect("a thread");
    assert_eq!(shown(&bob, Conv::Direct(1), 2), three[1..], "the first was shown before");
    let place = bob.places();
    assert!(matches!(place[..], [(Conv::Direct(1), 3, Some(_))]), "{place:?}");
    bob.close();
    ann.post(Conv::Direct(2), "four").expect("few wait");
    let four = shown(&ann, Conv::Direct(2), 1);
    options.places = place;
    let bob = Client::connect(options).expect("a thread");
    assert_eq!(shown(&bob, Conv::Direct(1), 1), four);
}

#[test]
fn a_message_that_waits_is_not_counted_twice_and_one_that_cannot_be_read_is_refused() {
    let gateway = Gateway::start(2, 2);
    let ann = client(&gateway, gateway.address(), 1);
    let body = serde_json::json!({ "media": 1, "content": "once" }).as_object().cloned().expect("an object");
    for _ in 0..3 {
        ann.post_again(Conv::Direct(2), body.clone(), "ann-1").expect("few wait");
    }
    let deep = (0..40).fold(serde_json::json!(1), |inner, _| serde_json::json!([inner]));
    let deep = serde_json::json!({ "x": deep }).as_object().cloned().expect("an object");
    let cid = ann.post_body(Conv::Direct(2), deep).expect("few wait");
    let conv = Conv::Direct(2);
    let sent = Event::Sent { cid: "ann-1".to_owned(), conv, seq: Some(1) };
    let refused = Event::Refused { cid: Some(cid), conv, code: 1 };
    let mut answers = Vec::new();
    // An ack may come between two of the calls: then the next one is a resend.
    while !(answers.contains(&sent) && answers.contains(&refused) && ann.unsent() == 0) {
        let answer = |event: &Event| matches!(event, Event::Sent { .. } | Event::Refused { .. });
        answers.extend(until(&ann, "the answers", answer).pop());
    }
}

#[test]
fn a_close_code_that_forbids_it_is_obeyed() {
    let gateway = Gateway::start(2, 2);
    let ann = Client::connect(Options::new(&gateway.address().to_string(), 1, "no token")).expect("a thread");
    let offline = until(&ann, "the end", |event| matches!(event, Event::Offline { .. })).pop();
    assert!(matches!(offline, Some(Event::Offline { code: 4501, again: false, .. })), "{offline:?}");
    assert_eq!(ann.next_within(PATIENCE), Err(Ended), "whoever waits for events waits no longer");
    assert_eq!(ann.next(), None);
    assert_eq!(ann.post(Conv::Direct(2), "to nobody"), Err(Full));
    assert_eq!(ann.unsent(), 0);
}

#[test]
fn an_application_that_takes_no_events_is_not_read_for_and_gets_them_later() {
    let gateway = Gateway::start(2, 2);
    let (ann, bob) = (client(&gateway, gateway.address(), 1), client(&gateway, gateway.address(), 2));
    online(&ann);
    online(&bob);
    let count = 2 * limits::EVENTS_MAX;
    let mut sent = 0;
    for n in 0..count {
        while ann.post(Conv::Direct(2), &n.to_string()).is_err() {
            let events = until(&ann, "an ack", |event| matches!(event, Event::Sent { .. }));
            sent += events.iter().filter(|event| matches!(event, Event::Sent { .. })).count();
        }
    }
    while sent < count {
        until(&ann, "an ack", |event| matches!(event, Event::Sent { .. }));
        sent += 1;
    }
    let cid = bob.post(Conv::Direct(1), "said meanwhile").expect("few wait");
    let (mut seqs, mut own) = (Vec::new(), None);
    while seqs.len() <= count || own.is_none() {
        let rest = |event: &Event| matches!(event, Event::Sent { .. } | Event::Message { .. });
        match until(&bob, "the rest", rest).pop() {
            Some(Event::Message { message, .. }) => seqs.extend(message.seq),
            event => own = event,
        }
    }
    assert_eq!(seqs, (1..=count as u64 + 1).collect::<Vec<_>>());
    assert_eq!(own, Some(Event::Sent { cid, conv: Conv::Direct(1), seq: Some(count as u64 + 1) }));
}

/// More than one page of the list has to be asked for: the one with news is the last of all.
#[test]
fn of_many_conversations_the_one_with_news_is_synced_whichever_page_of_the_list_names_it() {
    const COUNT: u64 = 450;
    let gateway = Gateway::start(2, 1 + COUNT);
    let ann = client(&gateway, gateway.address(), 1);
    online(&ann);
    for user in 2..2 + COUNT {
        ann.post(Conv::Direct(user), "hello").expect("few wait");
    }
    for _ in 0..COUNT {
        until(&ann, "a message", |event| matches!(event, Event::Message { .. }));
    }
    let mut places = ann.places();
    ann.close();
    assert_eq!(places.len(), COUNT as usize);
    let oldest = places.iter_mut().find(|(conv, ..)| *conv == Conv::Direct(2)).expect("it was posted there");
    oldest.1 = 0;
    for first_page in [0, 50] {
        let mut options = Options::new(&gateway.address().to_string(), 1, &gateway.token(1, Issuer::Own));
        (options.first_page, options.places) = (first_page, places.clone());
        let again = Client::connect(options).expect("a thread");
        assert_eq!(shown(&again, Conv::Direct(2), 1), [(1, "hello".to_owned())]);
    }
}
