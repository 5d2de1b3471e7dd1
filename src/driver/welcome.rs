//! The 101 of a session, which leaves in one send with what the session is told first.
//!
//! Owns: the responses that wait, and for how long. On loopback a send costs four to nine microseconds whatever it carries, and who is told her conversations some
//! milliseconds after the 101 can be told them with it.
//! Never: lets anything else leave before the 101.
//! Bounds: [`crate::limits::WELCOME_MS_MAX`]; one response of some 200 bytes for each session that opens.

use hashbrown::HashMap;

use super::Driver;
use super::conn::{Conn, State};
use super::deadlines::Deadlines;
use super::flush::Flushed;
use super::table::Table;
use super::transport::Took;
use crate::ids::ConnId;
use crate::limits::TURN_EXPIRES_MAX;
use crate::metrics::tally::GateRefusal;
use crate::wire::Profile;

/// The responses that wait.
pub(super) struct Welcomes {
    /// By slot. Whether a connection is in here is known by itself: [`Conn::is_unwelcomed`].
    words: HashMap<u32, Vec<u8>>,
    deadlines: Deadlines,
    /// Nothing is kept, so v2 clients have no list of conversations.
    volatile: bool,
}

impl Welcomes {
    /// Of a gateway that keeps no messages if it is `volatile`; a 101 waits for `ms_max` at most.
    pub(super) fn new(volatile: bool, ms_max: u64) -> Self {
        Self { words: HashMap::new(), deadlines: Deadlines::new(ms_max), volatile }
    }

    /// Whether a session that is spoken to like this will be told something unasked, so that its 101 can wait for that.
    pub(super) const fn waits(&self, profile: Profile) -> bool {
        match profile {
            Profile::Legacy(_) => true,
            Profile::V2 => !self.volatile,
            Profile::Room => false,
        }
    }

    /// Keeps the response of a connection.
    pub(super) fn put(&mut self, now_ms: u64, id: ConnId, response: Vec<u8>, table: &Table) {
        self.words.insert(id.slot, response);
        self.deadlines.push(now_ms, id, |id| is_unwelcomed(table, id));
    }

    /// Gives back the response of a connection that waits no longer, or is gone.
    pub(super) fn take(&mut self, id: ConnId, table: &Table) -> Vec<u8> {
        self.deadlines.skip(|id| is_unwelcomed(table, id));
        self.words.remove(&id.slot).unwrap_or_default()
    }

    /// When the first of them has waited long enough.
    pub(super) fn next_ms(&self) -> Option<u64> {
        self.deadlines.next_ms()
    }
}

fn is_unwelcomed(table: &Table, id: ConnId) -> bool {
    table.get(id).is_some_and(Conn::is_unwelcomed)
}

impl Driver {
    /// Writes the 101 and as much of the outbox as goes with it. How far it came, and with how many bytes of the outbox.
    pub(super) fn welcome(&mut self, id: ConnId) -> (Flushed, usize) {
        let mut words = self.take_welcome(id);
        let response = words.len();
        if let Some(outbox) = self.shard.outbox(id) {
            words.extend_from_slice(outbox.gather(&mut self.write_scratch));
        }
        let written = self.write_words(id, &words);
        let Some(told) = written.checked_sub(response) else {
            self.doom(id);
            return (Flushed::Broken, 0);
        };
        if told > 0
            && let Some(outbox) = self.shard.outbox(id)
        {
            outbox.consume(told);
        }
        (if written == words.len() { Flushed::All } else { Flushed::Blocked }, told)
    }

    /// Writes the 101 of those who have waited long enough, without anything else: the store may not have said yet who they are.
    pub(super) fn welcome_overdue(&mut self) {
        for _ in 0..TURN_EXPIRES_MAX {
            let Some(id) = self.welcomes.deadlines.due(self.now.mono_ms) else { break };
            if is_unwelcomed(&self.table, id) {
                let words = self.take_welcome(id);
                if self.write_words(id, &words) < words.len() {
                    self.doom(id);
                }
            }
        }
    }

    /// The 101 of a connection that has waited for it; from now on it does not wait.
    pub(super) fn take_welcome(&mut self, id: ConnId) -> Vec<u8> {
        if let Some(conn) = self.table.get_mut(id)
            && let State::Open(open) = &mut conn.state
        {
            open.unwelcomed = false;
        }
        self.welcomes.take(id, &self.table)
    }

    /// Writes the first words of a connection, counted. Answers how many bytes its socket took: nothing was ever written to it, so its buffer takes a 101, or it is
    /// broken.
    pub(super) fn write_words(&mut self, id: ConnId, words: &[u8]) -> usize {
        let Some(conn) = self.table.get_mut(id) else { return 0 };
        let written = match conn.transport.write(words) {
            Took::All => words.len(),
            Took::Part(n) => n,
            Took::Broken => 0,
        };
        let tally = self.shard.tally();
        tally.sends += 1;
        tally.bytes_out += written as u64;
        if written == 0 {
            tally.gate_refuse(GateRefusal::Gone);
        }
        written
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;

    use super::*;
    use crate::driver::addresses::Origin;
    use crate::driver::conn::Open;
    use crate::driver::transport::Transport;
    use crate::limits::WELCOME_MS_MAX;
    use crate::wire::Echo;

    /// A session whose 101 waits.
    fn arrive(table: &mut Table) -> ConnId {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback can be bound");
        let address = listener.local_addr().expect("a bound socket has an address");
        let socket = std::net::TcpStream::connect(address).expect("a place in the line");
        socket.set_nonblocking(true).expect("a socket that obeys");
        let open = Open::new(Profile::V2, &[], 0, true);
        table.insert(Transport::from_socket(socket), Origin::NONE, State::Open(open))
    }

    fn welcomed(table: &mut Table, id: ConnId) {
        if let Some(Conn { state: State::Open(open), .. }) = table.get_mut(id) {
            open.unwelcomed = false;
        }
    }

    #[test]
    fn only_who_will_be_told_something_waits() {
        let (stored, volatile) = (Welcomes::new(false, WELCOME_MS_MAX), Welcomes::new(true, WELCOME_MS_MAX));
        assert!(stored.waits(Profile::V2) && !volatile.waits(Profile::V2), "the list of conversations");
        assert!(
            stored.waits(Profile::Legacy(Echo::None)) && volatile.waits(Profile::Legacy(Echo::None)),
            "the welcome"
        );
        assert!(!stored.waits(Profile::Room) && !volatile.waits(Profile::Room), "a guest is told nothing");
    }

    #[test]
    fn who_is_welcomed_or_gone_leaves_nothing_behind() {
        let mut table = Table::new(Arc::new(AtomicUsize::new(0)), 8);
        let mut welcomes = Welcomes::new(false, WELCOME_MS_MAX);
        let ids = [arrive(&mut table), arrive(&mut table), arrive(&mut table)];
        for (at_ms, id) in (100..).zip(ids) {
            welcomes.put(at_ms, id, vec![id.slot as u8; 3], &table);
        }
        assert_eq!(welcomes.next_ms(), Some(100 + WELCOME_MS_MAX));

        welcomed(&mut table, ids[1]);
        assert_eq!(welcomes.take(ids[1], &table), [ids[1].slot as u8; 3]);
        assert_eq!(welcomes.next_ms(), Some(100 + WELCOME_MS_MAX), "the first still waits");

        table.remove(ids[0]);
        assert_eq!(welcomes.take(ids[0], &table), [ids[0].slot as u8; 3]);
        assert_eq!(welcomes.next_ms(), Some(102 + WELCOME_MS_MAX), "nobody is woken for those before the third");

        assert_eq!(welcomes.deadlines.due(102 + WELCOME_MS_MAX), Some(ids[2]));
        welcomed(&mut table, ids[2]);
        assert_eq!(welcomes.take(ids[2], &table), [ids[2].slot as u8; 3]);
        assert_eq!(welcomes.next_ms(), None);
        assert!(welcomes.take(ids[2], &table).is_empty() && welcomes.words.is_empty(), "each is said once");
    }
}
