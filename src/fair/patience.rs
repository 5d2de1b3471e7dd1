//! How long a slow peer is waited for.

/// A least rate: `step_bytes` must come within `pause_ms` of waiting. Time in which nothing waits
/// for the other side does not count. A pause for each byte would be no bound: one now and then
/// would hold its place for ever.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    step_bytes: usize,
    pause_ms: u64,
    left_ms: u64,
    /// Bytes since it was whole.
    came: usize,
}

impl Patience {
    /// Whole patience.
    #[must_use]
    pub const fn new(step_bytes: usize, pause_ms: u64) -> Self {
        Self { step_bytes, pause_ms, left_ms: pause_ms, came: 0 }
    }

    /// For how long it lasts if nothing comes, in milliseconds.
    #[must_use]
    pub const fn left_ms(&self) -> u64 {
        self.left_ms
    }

    /// So long was waited.
    pub const fn waited(&mut self, ms: u64) {
        self.left_ms = self.left_ms.saturating_sub(ms);
    }

    /// So much came. Answers whether patience is whole again.
    pub const fn came(&mut self, bytes: usize) -> bool {
        self.came = self.came.saturating_add(bytes);
        if self.came < self.step_bytes {
            return false;
        }
        self.left_ms = self.pause_ms;
        self.came = 0;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether a peer is waited for that brings `bytes` every `ms`.
    fn lasts(bytes: usize, ms: u64) -> bool {
        let mut patience = Patience::new(1000, 100);
        (0..10_000).all(|_| {
            patience.waited(ms);
            let lasts = patience.left_ms() > 0;
            patience.came(bytes);
            lasts
        })
    }

    #[test]
    fn a_byte_now_and_then_is_too_slow_and_a_slow_line_is_not() {
        assert!(!lasts(1, 10) && !lasts(0, 1) && !lasts(1000, 100));
        assert!(lasts(1000, 99) && lasts(112, 10) && lasts(1, 0));
    }
}
