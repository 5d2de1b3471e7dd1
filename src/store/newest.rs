//! The newest message of a conversation, as far as one line in a list of conversations needs it.
//!
//! Never: cuts a character in two.
//! Bounds: [`PREVIEW_BYTES_MAX`] bytes of a body.

use std::sync::Arc;

use super::{ConvState, Newest};
use crate::ids::{MsgId, UserId};
use crate::limits::PREVIEW_BYTES_MAX;

/// Characters that a backend fetches of a body: one more than fit, so that what was cut is known to
/// be.
pub(super) const PREVIEW_CHARS: u64 = PREVIEW_BYTES_MAX as u64 + 1;

/// Whether the user may read the newest message: a member that joined after it may not, and
/// retention may have removed it.
pub(super) fn is_shown(state: &ConvState) -> bool {
    state.floor <= state.head
}

/// Of a body, or of its first [`PREVIEW_CHARS`] characters, what is kept.
pub(super) fn newest(id: MsgId, ts_ms: u64, sender: UserId, body: &str) -> Newest {
    let mut end = body.len().min(PREVIEW_BYTES_MAX);
    while !body.is_char_boundary(end) {
        end -= 1;
    }
    let (kept, rest) = body.split_at(end);
    Newest { id, ts_ms, sender, body: Arc::from(kept), cut: !rest.is_empty() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_cut_between_characters() {
        let id = MsgId::new(1).expect("small");
        let sender = UserId::new(1).expect("small");
        let of = |body: &str| {
            let newest = newest(id, 1, sender, body);
            (newest.body.len(), newest.cut)
        };
        assert_eq!(of("\"media\":1"), (9, false));
        assert_eq!(of(&"x".repeat(PREVIEW_BYTES_MAX)), (PREVIEW_BYTES_MAX, false));
        assert_eq!(of(&"x".repeat(PREVIEW_BYTES_MAX + 1)), (PREVIEW_BYTES_MAX, true));
        assert_eq!(of(&"€".repeat(PREVIEW_BYTES_MAX)), (PREVIEW_BYTES_MAX / 3 * 3, true));
    }
}
