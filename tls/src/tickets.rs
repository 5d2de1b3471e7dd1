//! Session tickets from a secret and the day: restarts and all nodes with that secret share them.
//!
//! Owns: the sealing of what rustls puts into a ticket.
//! Never: keeps a key. The key of a day is derived when it is needed, which is a hundredth of what
//! a handshake costs.
//! Bounds: [`TICKET_SECONDS_MAX`] as the hint to clients; the key of a day opens tickets of that
//! day and, on the next one, those of the day before.

use std::sync::Arc;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::{hkdf, rand};
use rustls::server::ProducesTickets;
use rustls::time_provider::TimeProvider;
use zeroize::Zeroizing;

use crate::limits::{TICKET_BYTES_MAX, TICKET_SECONDS_MAX};
use crate::suite::{Length, NONCE_BYTES, TAG_BYTES};

/// Makes and opens tickets.
pub(crate) struct Tickets {
    secret: Zeroizing<Vec<u8>>,
    time: Arc<dyn TimeProvider>,
}

/// A ticket is this, the day, a nonce, and what is sealed.
const VERSION: u8 = 1;
const PREFIX_BYTES: usize = 1 + 4;

impl Tickets {
    pub(crate) fn new(secret: &[u8], time: Arc<dyn TimeProvider>) -> Self {
        Self { secret: Zeroizing::new(secret.to_vec()), time }
    }

    fn today(&self) -> Option<u32> {
        u32::try_from(self.time.current_time()?.as_secs() / DAY_S).ok()
    }

    fn key(&self, day: u32) -> Option<LessSafeKey> {
        let mut key = Zeroizing::new([0; 32]);
        hkdf::Salt::new(hkdf::HKDF_SHA256, b"imgate tls tickets 1")
            .extract(&self.secret)
            .expand(&[b"day ", &day.to_be_bytes()], Length(key.len()))
            .ok()?
            .fill(&mut *key)
            .ok()?;
        Some(LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &*key).ok()?))
    }
}

impl ProducesTickets for Tickets {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        TICKET_SECONDS_MAX
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        let day = self.today()?;
        // Nodes share the key, so nonces are drawn; at a million tickets a second two are the same
        // with a chance of one in ten million a day.
        let mut nonce = [0; NONCE_BYTES];
        rand::fill(&mut nonce).ok()?;
        let mut prefix = [VERSION, 0, 0, 0, 0];
        prefix[1..].copy_from_slice(&day.to_be_bytes());
        let mut ticket = Vec::with_capacity(PREFIX_BYTES + NONCE_BYTES + plain.len() + TAG_BYTES);
        ticket.extend_from_slice(&prefix);
        ticket.extend_from_slice(&nonce);
        let start = ticket.len();
        ticket.extend_from_slice(plain);
        let nonce = Nonce::assume_unique_for_key(nonce);
        let tag = self.key(day)?.seal_in_place_separate_tag(nonce, Aad::from(prefix), &mut ticket[start..]).ok()?;
        ticket.extend_from_slice(tag.as_ref());
        Some(ticket)
    }

    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        if ticket.len() > TICKET_BYTES_MAX {
            return None;
        }
        let (prefix, rest) = ticket.split_first_chunk::<PREFIX_BYTES>()?;
        let (nonce, sealed) = rest.split_first_chunk::<NONCE_BYTES>()?;
        let &[version, day @ ..] = prefix;
        let (day, today) = (u32::from_be_bytes(day), self.today()?);
        // Tomorrow's too: the clock of another node may be a little ahead at midnight.
        if version != VERSION || !(today.saturating_sub(1)..=today.saturating_add(1)).contains(&day) {
            return None;
        }
        let mut plain = sealed.to_vec();
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let length = self.key(day)?.open_in_place(nonce, Aad::from(*prefix), &mut plain).ok()?.len();
        plain.truncate(length);
        Some(plain)
    }
}

const DAY_S: u64 = 86_400;

impl std::fmt::Debug for Tickets {
    /// Names no secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tickets")
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::Duration;

    use rustls::pki_types::UnixTime;

    use super::*;

    #[derive(Debug, Default)]
    struct Hands(AtomicU64);

    impl TimeProvider for Hands {
        fn current_time(&self) -> Option<UnixTime> {
            Some(UnixTime::since_unix_epoch(Duration::from_secs(self.0.load(Ordering::Relaxed))))
        }
    }

    fn tickets(secret: &[u8], at_s: u64) -> (Tickets, Arc<Hands>) {
        let hands = Arc::new(Hands(AtomicU64::new(at_s)));
        (Tickets::new(secret, hands.clone()), hands)
    }

    #[test]
    fn a_node_opens_what_another_sealed_until_the_next_day_ends() {
        const NOW_S: u64 = 1000 * DAY_S + 500;
        let (one, _) = tickets(b"secret", NOW_S);
        let (other, hands) = tickets(b"secret", NOW_S);
        let (stranger, _) = tickets(b"another", NOW_S);
        let ticket = one.encrypt(b"state").expect("there is a clock");
        assert_ne!(ticket, one.encrypt(b"state").expect("there is a clock"));
        assert_eq!(stranger.decrypt(&ticket), None);
        for (ahead_s, opens) in
            [(0, true), (u64::from(TICKET_SECONDS_MAX), true), (2 * DAY_S - 501, true), (2 * DAY_S - 500, false)]
        {
            hands.0.store(NOW_S + ahead_s, Ordering::Relaxed);
            assert_eq!(other.decrypt(&ticket).as_deref(), opens.then_some(&b"state"[..]), "{ahead_s} s later");
        }
    }

    #[test]
    fn a_ticket_that_was_touched_anywhere_is_none() {
        let (tickets, _) = tickets(b"secret", 1000 * DAY_S);
        let ticket = tickets.encrypt(b"state").expect("there is a clock");
        for at in 0..ticket.len() {
            let mut touched = ticket.clone();
            touched[at] ^= 1;
            assert_eq!(tickets.decrypt(&touched), None, "byte {at}");
            assert_eq!(tickets.decrypt(&ticket[..at]), None, "cut at {at}");
        }
        assert_eq!(tickets.decrypt(&[VERSION; TICKET_BYTES_MAX + 1]), None);
    }
}
