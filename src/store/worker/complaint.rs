//! A line in the log about something that fails again and again.
//!
//! Owns: when it was said last, and how often it was not said since.
//! Never: counts for the metrics; those count each time.
//! Bounds: one line in [`STORE_COMPLAINT_MS`].

use crate::limits::STORE_COMPLAINT_MS;

#[derive(Default)]
pub(super) struct Complaint {
    /// Monotonic milliseconds before which nothing is said.
    silent_until_ms: u64,
    untold: u64,
}

impl Complaint {
    /// Lets `say` say it, unless that was done a moment ago; it is told how many times were passed
    /// over.
    pub(super) fn about(&mut self, now_ms: u64, say: impl FnOnce(u64)) {
        if now_ms < self.silent_until_ms {
            self.untold += 1;
            return;
        }
        say(std::mem::take(&mut self.untold));
        self.silent_until_ms = now_ms + STORE_COMPLAINT_MS;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fails_all_the_time_is_said_now_and_then() {
        let mut complaint = Complaint::default();
        let mut said = Vec::new();
        for now_ms in [0, 1, STORE_COMPLAINT_MS - 1, STORE_COMPLAINT_MS, STORE_COMPLAINT_MS + 1, 3 * STORE_COMPLAINT_MS]
        {
            complaint.about(now_ms, |untold| said.push((now_ms, untold)));
        }
        assert_eq!(said, [(0, 0), (STORE_COMPLAINT_MS, 2), (3 * STORE_COMPLAINT_MS, 1)]);
    }
}
