//! Records of our own: what stays of a TLS connection when its handshake is done.
//!
//! Owns: keys, sequence numbers and duties of both directions, in one allocation of 152 (AES-128),
//! 184 (ChaCha20) or 216 bytes (AES-256), 88 or 120 with TLS 1.2; while a record is cut, its rest.
//! Never: sockets, clocks, randomness. Keys are zeroed when it is dropped.
//! Bounds: [`Rest`] holds one cut record each way; see [`crate::limits`].

use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::alert::Alert;
use crate::direction::Direction;
use crate::limits::KEY_RECORDS_MAX;
use crate::suite::{NONCE_BYTES, Suite};

/// The record layer of one connection.
pub struct Records(Shape);

/// One box for each size of keys, so that each costs what it needs.
enum Shape {
    Tls13Short(Box<State<16, 32>>),
    Tls13Medium(Box<State<32, 32>>),
    Tls13Long(Box<State<32, 48>>),
    Tls12Short(Box<State<16, 0>>),
    Tls12Long(Box<State<32, 0>>),
}

struct State<const K: usize, const S: usize> {
    rest: Option<Box<Rest>>,
    send: Half<K, S>,
    receive: Half<K, S>,
    duties: Duties,
}

struct Half<const K: usize, const S: usize> {
    sequence: [u8; 8],
    iv: [u8; NONCE_BYTES],
    key: [u8; K],
    secret: [u8; S],
}

/// What a cut record has left behind. Nothing is kept while everything is whole.
#[derive(Default)]
pub(crate) struct Rest {
    /// Ciphertext of which the socket took a part. It leaves before anything else.
    pub(crate) unsent: Vec<u8>,
    /// It is whole and the peer does not wait for it: it leaves with what is sealed next.
    pub(crate) patient: bool,
    /// Bytes of a record that is not whole; right after the handshake, of several.
    pub(crate) partial: Vec<u8>,
    /// Plaintext of a handshake message that is spread over records.
    pub(crate) message: Vec<u8>,
}

/// What the connection owes and has counted.
#[derive(Clone, Copy)]
pub(crate) struct Duties {
    pub(crate) suite: Suite,
    /// A key update of ours is due, because the peer asked for it.
    pub(crate) key_update: bool,
    /// An alert that is due, or was sent.
    pub(crate) alert: Option<Alert>,
    /// The alert was sealed: nothing may follow it.
    pub(crate) finished: bool,
    /// The peer has ended its side, or was refused: nothing is read any more.
    pub(crate) ended: bool,
    /// Records in a row that said nothing.
    pub(crate) empties: u8,
    /// Key updates of the peer in `minute`.
    pub(crate) key_updates: u8,
    pub(crate) minute: u8,
}

/// The state, whatever its size.
pub(crate) struct View<'a> {
    pub(crate) rest: &'a mut Option<Box<Rest>>,
    pub(crate) send: Direction<'a>,
    pub(crate) receive: Direction<'a>,
    pub(crate) duties: &'a mut Duties,
}

/// What one direction starts with.
#[derive(Clone, Copy)]
pub struct Secrets<'a> {
    /// The number of the next record.
    pub sequence: u64,
    /// The static part of nonces.
    pub iv: [u8; NONCE_BYTES],
    /// The key, as long as [`Suite::key_bytes`] says.
    pub key: &'a [u8],
    /// The traffic secret, as long as [`Suite::secret_bytes`] says.
    pub secret: &'a [u8],
}

impl Records {
    /// The records of a connection whose handshake is done: `send` is what this side seals with.
    /// `None`: a key or secret has not the length of its suite.
    #[must_use]
    pub fn new(suite: Suite, send: Secrets<'_>, receive: Secrets<'_>) -> Option<Self> {
        let shape = match suite {
            Suite::Tls13Aes128 => Shape::Tls13Short(State::boxed(suite)),
            Suite::Tls13ChaCha => Shape::Tls13Medium(State::boxed(suite)),
            Suite::Tls13Aes256 => Shape::Tls13Long(State::boxed(suite)),
            Suite::Tls12Aes128 => Shape::Tls12Short(State::boxed(suite)),
            Suite::Tls12Aes256 | Suite::Tls12ChaCha => Shape::Tls12Long(State::boxed(suite)),
        };
        // Filled where it lies, so that no copy of a key stays on the stack.
        let mut records = Self(shape);
        let view = records.view();
        for (direction, secrets) in [(view.send, send), (view.receive, receive)] {
            if direction.key.len() != secrets.key.len() || direction.secret.len() != secrets.secret.len() {
                return None;
            }
            *direction.sequence = secrets.sequence.to_be_bytes();
            *direction.iv = secrets.iv;
            direction.key.copy_from_slice(secrets.key);
            direction.secret.copy_from_slice(secrets.secret);
        }
        Some(records)
    }

    /// Version and cipher.
    #[must_use]
    pub fn suite(&self) -> Suite {
        self.duties().suite
    }

    pub(crate) fn view(&mut self) -> View<'_> {
        match &mut self.0 {
            Shape::Tls13Short(state) => state.view(),
            Shape::Tls13Medium(state) => state.view(),
            Shape::Tls13Long(state) => state.view(),
            Shape::Tls12Short(state) => state.view(),
            Shape::Tls12Long(state) => state.view(),
        }
    }

    pub(crate) fn duties(&self) -> &Duties {
        match &self.0 {
            Shape::Tls13Short(state) => &state.duties,
            Shape::Tls13Medium(state) => &state.duties,
            Shape::Tls13Long(state) => &state.duties,
            Shape::Tls12Short(state) => &state.duties,
            Shape::Tls12Long(state) => &state.duties,
        }
    }

    pub(crate) fn rest(&self) -> Option<&Rest> {
        match &self.0 {
            Shape::Tls13Short(state) => state.rest.as_deref(),
            Shape::Tls13Medium(state) => state.rest.as_deref(),
            Shape::Tls13Long(state) => state.rest.as_deref(),
            Shape::Tls12Short(state) => state.rest.as_deref(),
            Shape::Tls12Long(state) => state.rest.as_deref(),
        }
    }

    /// Bytes of cut records that are kept.
    pub(crate) fn kept_bytes(&self) -> usize {
        self.rest().map_or(0, |rest| {
            size_of::<Rest>() + rest.unsent.capacity() + rest.partial.capacity() + rest.message.capacity()
        })
    }

    /// Of them, bytes that have come.
    pub(crate) fn incoming_bytes(&self) -> usize {
        self.rest().map_or(0, |rest| rest.partial.capacity() + rest.message.capacity())
    }

    /// Of them, bytes that the peer has not taken; not those that may wait for the first answer.
    pub(crate) fn unsent_bytes(&self) -> usize {
        self.rest().filter(|rest| !rest.unsent.is_empty() && !rest.patient).map_or(0, |rest| rest.unsent.capacity())
    }

    /// Whether a part of a record is kept.
    pub(crate) fn is_amid_record(&self) -> bool {
        self.rest().is_some_and(|rest| !rest.partial.is_empty())
    }

    /// Whether nothing is read any more.
    pub(crate) fn has_ended(&self) -> bool {
        self.duties().ended
    }

    /// Whether ciphertext or an answer waits to be sent.
    pub(crate) fn wants_write(&self) -> bool {
        let duties = self.duties();
        let owes = !duties.finished && (duties.key_update || duties.alert.is_some());
        owes || self.rest().is_some_and(|rest| !rest.unsent.is_empty() && !rest.patient)
    }

    /// Takes over what came behind the handshake, and what of it was not sent yet; `patient`: that
    /// may wait for the first answer.
    pub(crate) fn begin_with(&mut self, partial: Vec<u8>, unsent: Vec<u8>, patient: bool) {
        let mut view = self.view();
        *view.rest = Some(Box::new(Rest { unsent, patient, partial, message: Vec::new() }));
        view.tidy();
    }

    /// An alert is due; the first one counts.
    pub(crate) fn owe(&mut self, alert: Alert) {
        let duties = self.view().duties;
        duties.alert.get_or_insert(alert);
    }
}

impl View<'_> {
    /// Gives back what holds nothing.
    pub(crate) fn tidy(&mut self) {
        let empty = |rest: &Rest| rest.unsent.is_empty() && rest.partial.is_empty() && rest.message.is_empty();
        if self.rest.as_deref().is_some_and(empty) {
            *self.rest = None;
        } else if let Some(rest) = self.rest.as_deref_mut().filter(|rest| rest.unsent.is_empty()) {
            rest.unsent = Vec::new();
        }
    }

    /// Room for a rest.
    pub(crate) fn keeper(&mut self) -> &mut Rest {
        self.rest.get_or_insert_default()
    }
}

impl Duties {
    const fn new(suite: Suite) -> Self {
        Self {
            suite,
            key_update: false,
            alert: None,
            finished: false,
            ended: false,
            empties: 0,
            key_updates: 0,
            minute: 0,
        }
    }
}

impl<const K: usize, const S: usize> State<K, S> {
    fn boxed(suite: Suite) -> Box<Self> {
        Box::new(Self { rest: None, send: Half::zero(), receive: Half::zero(), duties: Duties::new(suite) })
    }

    fn view(&mut self) -> View<'_> {
        let suite = self.duties.suite;
        View {
            rest: &mut self.rest,
            send: self.send.direction(suite),
            receive: self.receive.direction(suite),
            duties: &mut self.duties,
        }
    }
}

impl<const K: usize, const S: usize> Half<K, S> {
    const fn zero() -> Self {
        Self { sequence: [0; 8], iv: [0; NONCE_BYTES], key: [0; K], secret: [0; S] }
    }

    fn direction(&mut self, suite: Suite) -> Direction<'_> {
        Direction {
            suite,
            sequence: &mut self.sequence,
            iv: &mut self.iv,
            key: &mut self.key,
            secret: &mut self.secret,
        }
    }
}

impl<const K: usize, const S: usize> Zeroize for Half<K, S> {
    fn zeroize(&mut self) {
        self.sequence.zeroize();
        self.iv.zeroize();
        self.key.zeroize();
        self.secret.zeroize();
    }
}

impl<const K: usize, const S: usize> Drop for Half<K, S> {
    fn drop(&mut self) {
        self.zeroize();
    }
}

impl<const K: usize, const S: usize> ZeroizeOnDrop for Half<K, S> {}

impl std::fmt::Debug for Records {
    /// Names the suite, and no secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Records").field("suite", &self.suite()).finish_non_exhaustive()
    }
}

const _: () = {
    assert!(size_of::<Records>() == 16 && size_of::<Option<Records>>() == 16);
    assert!(size_of::<State<16, 32>>() == 152 && size_of::<State<32, 32>>() == 184);
    assert!(size_of::<State<32, 48>>() == 216);
    assert!(size_of::<State<16, 0>>() == 88 && size_of::<State<32, 0>>() == 120);
};

/// How many records a key may seal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct KeyLife(u64);

impl KeyLife {
    /// So many records, from 16 to [`KEY_RECORDS_MAX`]. Less than the default is for tests.
    #[must_use]
    pub const fn records(records: u64) -> Self {
        Self(if records < 16 {
            16
        } else if records > KEY_RECORDS_MAX {
            KEY_RECORDS_MAX
        } else {
            records
        })
    }

    /// Whether a key that has sealed `sealed` records may seal `more`, and one for a last word.
    pub(crate) const fn allows(self, sealed: u64, more: u64) -> bool {
        sealed.saturating_add(more) < self.0
    }
}

impl Default for KeyLife {
    fn default() -> Self {
        Self(KEY_RECORDS_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// That it is done when a session goes cannot be looked at without reading freed memory; that
    /// it is all that is secret can.
    #[test]
    fn nothing_of_a_key_is_left_where_it_lay() {
        const fn goes_by_itself<T: ZeroizeOnDrop>() {}
        goes_by_itself::<Half<32, 48>>();
        let mut half = Half { sequence: [1; 8], iv: [2; NONCE_BYTES], key: [3; 32], secret: [4; 48] };
        half.zeroize();
        let Half { sequence, iv, key, secret } = &half;
        for place in [&sequence[..], iv, key, secret] {
            assert!(place.iter().all(|byte| *byte == 0));
        }
    }
}
