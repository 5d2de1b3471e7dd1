//! What the process takes of memory, looked at now and then.
//!
//! Owns: the thread that reads the resident size and tells the drivers, and looks at what
//! else is to be looked at so often, and what a process may take
//! when nothing is set: the larger part of what its control group or the machine has.
//! Never: lets anything go; see `driver/pressure.rs`.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use std::{fs, io, thread};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};

use crate::driver::Pressure;
use crate::limits::{MEMORY_CACHES_PERCENT, MEMORY_DEFAULT_PERCENT, MEMORY_LOOK_MS, MEMORY_MAX_MIN};
use crate::metrics::process;

/// The watch, until it is dropped.
pub(super) struct Watch {
    _stop: Sender<()>,
}

impl Watch {
    /// Looks from now on, and tells `pressure`; calls `besides` each time, which must not wait.
    ///
    /// # Errors
    /// There is no thread to be had.
    pub(super) fn start(pressure: &Arc<Pressure>, besides: impl FnMut() + Send + 'static) -> io::Result<Self> {
        let (stop, stopped) = crossbeam_channel::bounded(0);
        let pressure = Arc::clone(pressure);
        thread::Builder::new().name("memory".to_owned()).spawn(move || look(&pressure, besides, &stopped))?;
        Ok(Self { _stop: stop })
    }
}

fn look(pressure: &Pressure, mut besides: impl FnMut(), stopped: &Receiver<()>) {
    let (mut short, mut full) = (false, false);
    while stopped.recv_timeout(Duration::from_millis(MEMORY_LOOK_MS)) == Err(RecvTimeoutError::Timeout) {
        besides();
        let Some(resident) = process::resident_bytes() else { continue };
        pressure.tell(resident);
        let max = pressure.max();
        let is_short = pressure.refuses_newcomers();
        // Said once, until there was room for caches again.
        let is_full = resident >= max || full && resident >= max / 100 * MEMORY_CACHES_PERCENT;
        match (short, is_short) {
            (false, true) => tracing::error!(resident, max, "memory_max is near: newcomers are refused"),
            (true, false) => tracing::info!(resident, max, "there is memory again: newcomers are let in"),
            _ => {}
        }
        if is_full && !full {
            tracing::error!(resident, max, "memory_max is reached: the slowest readers are closed");
        }
        (short, full) = (is_short, is_full);
    }
}

/// What the process may take: `wanted` bytes, or, for 0, [`MEMORY_DEFAULT_PERCENT`] of what there
/// is.
pub(super) fn allowed(wanted: u64) -> u64 {
    if wanted > 0 {
        return wanted;
    }
    let there_is = [of_control_group(), of_machine()].into_iter().flatten().min();
    there_is.map_or(u64::MAX, |bytes| (bytes / 100 * MEMORY_DEFAULT_PERCENT).max(MEMORY_MAX_MIN))
}

/// The limit of the control group (version 2) that the process is in, and of those around it.
fn of_control_group() -> Option<u64> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let group = groups.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let limits = Path::new(group).ancestors().filter_map(|group| {
        let limit = fs::read_to_string(Path::new("/sys/fs/cgroup").join(group).join("memory.max")).ok()?;
        // "max": none.
        limit.trim().parse().ok()
    });
    limits.min()
}

fn of_machine() -> Option<u64> {
    let memory = fs::read_to_string("/proc/meminfo").ok()?;
    process::status_field(&memory, "MemTotal").map(|kib| kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_set_holds_and_else_most_of_what_there_is() {
        assert_eq!(allowed(12_345_678), 12_345_678);
        let machine = of_machine().expect("Linux tells it");
        let allowed = allowed(0);
        assert!(allowed >= MEMORY_MAX_MIN && (allowed < machine || machine < MEMORY_MAX_MIN), "{allowed} of {machine}");
    }

    #[test]
    fn a_watch_tells_what_the_process_takes() {
        let pressure = Arc::new(Pressure::new(1));
        let watch = Watch::start(&pressure, || ()).expect("a thread");
        while !pressure.is_exceeded() {
            thread::yield_now();
        }
        drop(watch);
    }
}
