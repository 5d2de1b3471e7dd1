//! Our records against rustls' client: a handshake, then a program of what both do.

use imgate_tls::limits::RECORD_WIRE_BYTES_MAX;
use imgate_tls::{Acceptor, KeyLife, Outgoing, Session};
use rustls::{AlertDescription, ClientConnection, Error};

use crate::support::{Place, SUITES, open, said_by, seal_by_client, shake};

/// Deeds of a program that are carried out; more of them find nothing that fewer do not.
const DEEDS_MAX: usize = 120;
/// Key updates that a client asks for: fewer than any end bears in a minute.
const KEY_UPDATES: usize = 10;

/// A server and its certificate, and acceptors of both record layers.
pub(crate) struct Server {
    place: Place,
    acceptors: [Acceptor; 2],
}

impl Server {
    pub(crate) fn new() -> Self {
        let place = Place::new();
        let acceptors = [true, false].map(|own_records| place.acceptor(own_records));
        Self { place, acceptors }
    }
}

/// One direction: what was said, what was heard of it, and what is on its way.
#[derive(Default)]
struct Way {
    said: Vec<u8>,
    heard: Vec<u8>,
    travels: Vec<u8>,
    /// A byte on its way was changed or added: from there on, anything may be refused.
    touched: bool,
}

impl Way {
    fn part(&mut self, size: usize) -> Vec<u8> {
        let part = if size == 31 { self.travels.len() } else { self.travels.len() * size / 31 };
        self.travels.drain(..part).collect()
    }

    fn touch(&mut self, size: usize, change: u8) {
        let at = self.travels.len() * size / 32;
        if let Some(byte) = self.travels.get_mut(at) {
            *byte ^= change | 1;
            self.touched = true;
        }
    }

    fn hears(&mut self, plain: &[u8]) {
        self.heard.extend_from_slice(plain);
        assert!(self.said.starts_with(&self.heard), "an end reads what was never said");
    }
}

struct Talk {
    client: ClientConnection,
    server: Session,
    out: Outgoing,
    /// To the server, and to the client.
    up: Way,
    down: Way,
    /// What rustls had to say against us.
    verdict: Option<Error>,
    client_closed: bool,
    /// With rustls' records nothing is heard behind the server's close_notify.
    server_deaf: bool,
    server_over: bool,
}

impl Talk {
    /// The server seals `plain`, and the socket takes `thirds` of it.
    fn serve(&mut self, plain: &[u8], thirds: usize) {
        let sealed = self.server.seal(plain, &mut self.out);
        let refused = sealed.refused().is_some();
        let bytes = sealed.bytes()[..sealed.bytes().len() * thirds / 3].to_vec();
        let done = sealed.sent(bytes.len());
        assert!(done == 0 || !refused, "what is refused is not done");
        self.down.said.extend_from_slice(&plain[..done]);
        self.down.travels.extend(bytes);
    }

    fn server_hears(&mut self, bytes: &[u8]) {
        let (plain, end) = open(&mut self.server, bytes);
        assert!(!self.server_over || plain.is_empty(), "it has ended");
        self.up.hears(&plain);
        let may_end = self.client_closed || self.up.touched || self.verdict.is_some();
        assert!(end.is_none() || may_end, "an honest client is refused: {end:?}");
        self.server_over |= end.is_some();
    }

    fn client_hears(&mut self, mut bytes: &[u8]) {
        // rustls panics in debug builds if it has a second alert to send, behind its close_notify.
        if self.client_closed && self.down.touched {
            return;
        }
        while !bytes.is_empty() && self.verdict.is_none() {
            // Nothing is read any more behind a close_notify.
            if self.client.read_tls(&mut bytes).expect("its buffer is emptied each time") == 0 {
                break;
            }
            self.verdict = self.client.process_new_packets().err();
            let mut plain = Vec::new();
            // An error means that there is nothing more.
            let _ = std::io::Read::read_to_end(&mut self.client.reader(), &mut plain);
            self.down.hears(&plain);
        }
        match &self.verdict {
            // What the server was told was not the client's, and the server says so.
            Some(Error::AlertReceived(alert)) if *alert != AlertDescription::CloseNotify => {
                assert!(self.up.touched || self.down.touched, "an honest client gets {alert:?}");
            }
            Some(error) => assert!(self.down.touched, "rustls refuses what we say: {error}"),
            None => {}
        }
        self.up.travels.extend(said_by(&mut self.client));
    }

    fn client_says(&mut self, plain: &[u8]) {
        if self.client_closed || self.verdict.is_some() {
            return;
        }
        self.up.travels.extend(seal_by_client(&mut self.client, plain));
        self.up.said.extend_from_slice(plain);
    }

    fn client_rekeys(&mut self) {
        if !self.client_closed && self.verdict.is_none() && self.client.refresh_traffic_keys().is_ok() {
            self.up.travels.extend(said_by(&mut self.client));
        }
    }

    fn client_closes(&mut self) {
        self.client.send_close_notify();
        self.client_closed = true;
        self.up.travels.extend(said_by(&mut self.client));
    }
}

/// A program of one byte each, after a handshake of a suite and record layer that the first byte
/// names: who says how much, how much a socket takes, where what travels is cut, key updates, ends,
/// and where somebody in between changes or adds bytes.
///
/// rustls accepts every record of ours that nobody touched, and we every one of rustls'; each end
/// reads a beginning of what the other was told to say, and all of it while nobody touches it.
pub(crate) fn peer(server: &Server, input: &[u8]) {
    let Some((&choice, program)) = input.split_first() else { return };
    let suite = usize::from(choice) % SUITES.len();
    let own_records = choice < 192;
    let mut client = server.place.client(SUITES[suite]);
    let acceptor = &server.acceptors[usize::from(!own_records)];
    let session = shake(acceptor, &mut client, usize::MAX).expect("both want it").session;
    let mut talk = Talk {
        client,
        server: session,
        out: Outgoing::new(64 * 1024, KeyLife::records(64)),
        up: Way::default(),
        down: Way::default(),
        verdict: None,
        client_closed: false,
        server_deaf: false,
        server_over: false,
    };
    let mut key_updates = 0;
    for (turn, &deed) in program.iter().take(DEEDS_MAX).enumerate() {
        let size = usize::from(deed >> 3);
        let plain = vec![turn as u8; size * size * 40];
        match deed & 7 {
            0 => talk.client_says(&plain),
            1 => talk.serve(&plain, turn % 4),
            2 => {
                let part = talk.up.part(size);
                talk.server_hears(&part);
            }
            3 => {
                let part = talk.down.part(size);
                talk.client_hears(&part);
            }
            4 if key_updates < KEY_UPDATES => {
                key_updates += 1;
                talk.client_rekeys();
            }
            4 => {}
            5 => talk.up.touch(size, deed),
            6 => talk.down.touch(size, deed),
            _ if size == 0 => {
                talk.server.close();
                talk.server_deaf = !own_records;
            }
            _ if size == 1 => talk.client_closes(),
            _ => {
                // Bytes of the program itself, as whoever knows no key would send them.
                talk.up.travels.extend(program.iter().skip(turn).take(size));
                talk.up.touched = true;
            }
        }
        assert!(talk.server.kept_bytes() <= 5 * RECORD_WIRE_BYTES_MAX);
    }
    finish(talk);
}

/// Everything arrives, and what one side owes the other then (an answer to a key update, an alert).
fn finish(mut talk: Talk) {
    for _ in 0..3 {
        let part = talk.up.part(31);
        talk.server_hears(&part);
        talk.serve(&[], 3);
        let part = talk.down.part(31);
        talk.client_hears(&part);
    }
    if talk.up.touched || talk.down.touched {
        return;
    }
    assert!(talk.down.heard == talk.down.said, "the client has not heard all");
    if !talk.server_deaf {
        assert!(talk.server_over || talk.up.heard == talk.up.said, "the server has not heard all");
        assert!(!talk.client_closed || talk.server_over, "a close_notify was not heard");
    }
}
