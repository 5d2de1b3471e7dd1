//! What may go wrong around a gateway while it runs: its clock is set, its disk fills up, the files
//! of its certificates do not fit any more.
//!
//! Owns: what a scrape shows of it ([`Surroundings::numbers`]), the lines in the log (one when it
//! begins, one when it is over), and the thread that looks: a disk that hangs holds up neither
//! signals nor scrapes. Never: does anything about it, but for certificates, which are read again
//! when their files change. Bounds: a look each [`SURROUNDINGS_LOOK_MS`], and one at a time.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use std::{io, thread};

use crossbeam_channel::{RecvTimeoutError, Sender};
use imgate_tls::Certificates;
use parking_lot::Mutex;
use rustix::fs::statvfs;

use super::tls;
use crate::clock::{self, Clock};
use crate::limits::{CLOCK_STEP_MS, DATA_ROOM_BYTES_MIN, SURROUNDINGS_LOOK_MS};
use crate::metrics::surroundings::{CertificateNumbers, SurroundingNumbers};

/// Looks until it is dropped.
pub(super) struct SurroundingsWatch {
    _stop: Sender<()>,
}

impl SurroundingsWatch {
    /// Looks at once and from now on, and tells the log.
    ///
    /// # Errors
    /// There is no thread to be had.
    pub(super) fn start(around: &Arc<Surroundings>) -> io::Result<Self> {
        let (stop, stopped) = crossbeam_channel::bounded(0);
        let (around, mut lookout) = (Arc::clone(around), Lookout::default());
        let look = move || {
            loop {
                around.look();
                lookout.look(&around.numbers());
                let pause = Duration::from_millis(SURROUNDINGS_LOOK_MS);
                if stopped.recv_timeout(pause) != Err(RecvTimeoutError::Timeout) {
                    return;
                }
            }
        };
        thread::Builder::new().name("surroundings".to_owned()).spawn(look)?;
        Ok(Self { _stop: stop })
    }
}

/// Where to look, and what was seen last. Shared by the thread that looks and by scrapes.
#[derive(Debug)]
pub(super) struct Surroundings {
    clock: Clock,
    /// Wall time when `clock` began.
    start_ms: u64,
    data: PathBuf,
    certificates: Option<Arc<Certificates>>,
    /// Known when everything else has its descriptors.
    connections_max: AtomicU64,
    /// Bytes that are free on the disk of `data`, and all of them, and in which millisecond that
    /// was so: at the last look that came to its end.
    disk: Mutex<Option<(u64, [u64; 2])>>,
    /// By how much the clock had moved when it was last seen being set, and in which millisecond
    /// that was.
    clock_set: Mutex<(i64, Option<u64>)>,
}

impl Surroundings {
    /// Those of a gateway whose clock began at the wall time `start_ms`.
    pub(super) const fn new(
        (clock, start_ms): (Clock, u64),
        data: PathBuf,
        certificates: Option<Arc<Certificates>>,
    ) -> Self {
        let (connections_max, disk, clock_set) = (AtomicU64::new(0), Mutex::new(None), Mutex::new((0, None)));
        Self { clock, start_ms, data, certificates, connections_max, disk, clock_set }
    }

    /// So many connections there may be.
    pub(super) fn allow(&self, connections_max: usize) {
        self.connections_max.store(connections_max as u64, Ordering::Relaxed);
    }

    /// Looks at what may keep the thread that looks waiting: the disk, and the certificates' files,
    /// which are read again if they have changed.
    fn look(&self) {
        if let Some(certificates) = self.certificates.as_deref().filter(|certificates| certificates.changed()) {
            tls::reload(certificates);
        }
        self.look_at_the_clock(self.clock.now().mono_ms, self.clock_moved_ms());
        let disk = statvfs(&self.data).ok();
        let disk = disk.map(|disk| [disk.f_bavail, disk.f_blocks].map(|n| n * disk.f_frsize));
        *self.disk.lock() = disk.map(|disk| (self.clock.now().mono_ms, disk));
    }

    fn look_at_the_clock(&self, now_ms: u64, moved_ms: i64) {
        let mut clock_set = self.clock_set.lock();
        // One that is drawn near by and by moves as well, and is told when it has come so far.
        if moved_ms.abs_diff(clock_set.0) >= CLOCK_STEP_MS {
            *clock_set = (moved_ms, Some(now_ms));
        }
    }

    fn clock_set_age_ms(&self, now_ms: u64) -> Option<u64> {
        self.clock_set.lock().1.map(|then_ms| now_ms.saturating_sub(then_ms))
    }

    /// As it is now; the disk as it was at the last look, if that is not long ago: of one that
    /// hangs nothing is known. Waits for nothing.
    pub(super) fn numbers(&self) -> SurroundingNumbers {
        SurroundingNumbers {
            connections_max: self.connections_max.load(Ordering::Relaxed),
            clock_moved_ms: self.clock_moved_ms(),
            clock_set_age_ms: self.clock_set_age_ms(self.clock.now().mono_ms),
            data_disk: self.disk_at(self.clock.now().mono_ms),
            certificates: self.certificates.as_deref().map(|certificates| CertificateNumbers {
                not_after_s: certificates.not_after_s(),
                refused: certificates.refused() as u64,
            }),
        }
    }

    fn disk_at(&self, now_ms: u64) -> Option<[u64; 2]> {
        let (then_ms, disk) = (*self.disk.lock())?;
        (now_ms.saturating_sub(then_ms) <= 3 * SURROUNDINGS_LOOK_MS).then_some(disk)
    }

    /// Wall time less the time that has passed.
    fn clock_moved_ms(&self) -> i64 {
        let passed_ms = self.clock.now().mono_ms.saturating_add(self.start_ms);
        clock::wall_ms().cast_signed().saturating_sub(passed_ms.cast_signed())
    }
}

/// What was told.
#[derive(Debug, Default)]
struct Lookout {
    clock_moved_ms: i64,
    disk_is_full: bool,
}

impl Lookout {
    /// Tells the log what has changed.
    fn look(&mut self, now: &SurroundingNumbers) {
        let step_ms = now.clock_moved_ms - self.clock_moved_ms;
        // A clock that is drawn near by and by moves as well: what was told last is kept.
        if step_ms.unsigned_abs() >= CLOCK_STEP_MS {
            tracing::warn!(step_ms, "the system's clock was set: tokens and times of messages go by it");
            self.clock_moved_ms = now.clock_moved_ms;
        }
        let Some([free, size]) = now.data_disk else { return };
        let is_full = free < DATA_ROOM_BYTES_MIN;
        match (std::mem::replace(&mut self.disk_is_full, is_full), is_full) {
            (false, true) => tracing::warn!(free, size, "the disk of the data directory is nearly full"),
            (true, false) => tracing::info!(free, size, "the disk of the data directory has room again"),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lasts_is_told_once() {
        let mut lookout = Lookout::default();
        let mut told = |clock_moved_ms, free| {
            lookout.look(&SurroundingNumbers {
                clock_moved_ms,
                data_disk: Some([free, 1 << 40]),
                ..Default::default()
            });
            (lookout.clock_moved_ms, lookout.disk_is_full)
        };
        assert_eq!(told(1, DATA_ROOM_BYTES_MIN), (0, false));
        assert_eq!(told(-7_200_000, DATA_ROOM_BYTES_MIN - 1), (-7_200_000, true));
        assert_eq!(told(-7_200_000 + 1, 0), (-7_200_000, true), "told before");
        assert_eq!(told(0, DATA_ROOM_BYTES_MIN), (0, false), "set back");
    }

    #[test]
    fn a_clock_that_was_set_long_ago_is_not_told_as_if_it_were_now() {
        let around = Surroundings::new((Clock::start(), clock::wall_ms()), PathBuf::new(), None);
        around.look_at_the_clock(1_000, 1_999);
        assert_eq!(around.clock_set_age_ms(1_000), None, "that is no step");
        around.look_at_the_clock(2_000, -40_000_000);
        around.look_at_the_clock(3_000, -40_000_500);
        assert_eq!(around.clock_set_age_ms(90_000), Some(88_000), "it stays where it was set to");
        around.look_at_the_clock(100_000, 0);
        assert_eq!(around.clock_set_age_ms(100_000), Some(0), "set back");
    }

    #[test]
    fn numbers_are_those_of_this_machine() {
        let folder = tempfile::tempdir().expect("a folder");
        let surroundings =
            Surroundings::new((Clock::start(), clock::wall_ms() - 5_000), folder.path().to_owned(), None);
        surroundings.allow(7);
        assert_eq!(surroundings.numbers().data_disk, None, "not looked at");
        assert_eq!(surroundings.numbers().clock_set_age_ms, None, "not looked at");
        surroundings.look();
        let numbers = surroundings.numbers();
        assert_eq!((numbers.connections_max, numbers.certificates), (7, None));
        assert!((4_000..3_600_000).contains(&numbers.clock_moved_ms), "{numbers:?}");
        assert!(numbers.clock_set_age_ms.is_some_and(|ms| ms < 3_600_000), "{numbers:?}");
        let [free, size] = numbers.data_disk.expect("there is a folder");
        assert!(free <= size && size > 0);
        let now_ms = surroundings.clock.now().mono_ms;
        assert!(surroundings.disk_at(now_ms + 2 * SURROUNDINGS_LOOK_MS).is_some());
        assert_eq!(surroundings.disk_at(now_ms + 4 * SURROUNDINGS_LOOK_MS), None, "a disk that hangs");
        let gone = Surroundings::new((Clock::start(), 0), folder.path().join("none"), None);
        gone.look();
        assert_eq!(gone.numbers().data_disk, None);
    }
}
