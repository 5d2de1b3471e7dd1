//! When the token ends that a session was opened with.
//!
//! Owns: [`Expiry`], which is looked at with the session in its round, so that nothing waits in a
//! list for it. Never: early. A session ends with its token at most [`FINE_MS`] late and one round
//! of `sessions::liveness`; one whose token had more than [`FAR_MS`] to live at most [`COARSE_MS`]
//! late. Bounds: three bytes a session, which its other fields have to spare: an idle session costs
//! what it did.

/// The resolution for tokens that end soon: half a second.
const FINE_MS: u64 = 1 << 9;
/// The resolution for the others: two minutes.
const COARSE_MS: u64 = 1 << 17;
/// How long a token has to live to be one of the others: 45 days. Above the default of the setting
/// `token_ttl`.
const FAR_MS: u64 = 45 * 86_400_000;
/// The numbers wrap around after 2^23 steps: 49 days, or 34 years.
const STEPS: u64 = 1 << 23;
/// The last part of them counts as past: 3 days, or 2 years, within which an ended token must be
/// noticed.
const PAST_STEPS: u64 = STEPS / 16;
/// So many steps the clock may be set back before a token without an end would seem to be over: 18
/// hours, or half a year.
const BACK_STEPS: u64 = STEPS / 64;
/// Set for coarse numbers.
const COARSE: u64 = STEPS;

const _: () = assert!(FAR_MS < (STEPS - PAST_STEPS) * FINE_MS, "what is fine is in the future when it begins");

/// The end of a token: the low bits of its wall time in steps of one of the two resolutions.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::shard) struct Expiry([u8; 3]);

impl Expiry {
    /// Of a token that is good up to `expires_ms`, at the wall time `now_ms`.
    pub(in crate::shard) fn of(expires_ms: u64, now_ms: u64) -> Self {
        let left_ms = expires_ms.saturating_sub(now_ms);
        let (step_ms, mark) = if left_ms < FAR_MS { (FINE_MS, 0) } else { (COARSE_MS, COARSE) };
        // No connection lives for decades; one whose token does is taken for one that ends in
        // thirty years.
        let left = (left_ms / step_ms).min(STEPS - PAST_STEPS - BACK_STEPS - 2);
        // The first step that begins after the end.
        let end = expires_ms.min(now_ms.saturating_add((left + 1) * step_ms)) / step_ms + 1;
        let [a, b, c, ..] = ((end % STEPS) | mark).to_le_bytes();
        Self([a, b, c])
    }

    /// Whether the token has ended.
    pub(in crate::shard) fn is_over(self, now_ms: u64) -> bool {
        let [a, b, c] = self.0;
        let number = u64::from(u32::from_le_bytes([a, b, c, 0]));
        let step_ms = if number & COARSE == 0 { FINE_MS } else { COARSE_MS };
        let left = (number % STEPS + STEPS - now_ms / step_ms % STEPS) % STEPS;
        left == 0 || left > STEPS - PAST_STEPS
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DAY_MS: u64 = 86_400_000;

    proptest! {
        #[test]
        fn a_token_ends_when_it_says_and_hardly_later(now in 0_u64..1 << 43, left in 0..3650 * DAY_MS, part in 0_u64..1000) {
            let expires = now + left;
            let expiry = Expiry::of(expires, now);
            prop_assert!(!expiry.is_over(now) && !expiry.is_over(expires), "still good");
            prop_assert!(!expiry.is_over(now + left * part / 1000), "and all the time before");
            let late = if left < FAR_MS { FINE_MS } else { COARSE_MS };
            prop_assert!(expiry.is_over(expires + late));
            prop_assert!(expiry.is_over(expires + late + part * 2 * DAY_MS / 1000), "and for days, if nobody looks");
        }

        #[test]
        fn a_token_without_an_end_has_none(now in 0_u64..1 << 43, years in 0_u64..25) {
            for expires in [u64::MAX, now + 40_000 * DAY_MS] {
                prop_assert!(!Expiry::of(expires, now).is_over(now + years * 365 * DAY_MS));
                prop_assert!(!Expiry::of(expires, now).is_over(now.saturating_sub(100 * DAY_MS)), "a clock that is set back");
            }
        }
    }
}
