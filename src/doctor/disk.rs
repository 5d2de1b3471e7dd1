//! The disk of the data directory: its room, and what a commit waits for.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::statvfs;

use super::{Finding, Severity, bytes};
use crate::clock::Clock;
use crate::limits::DATA_ROOM_BYTES_MIN;

/// Syncs that are timed.
const SYNCS: usize = 20;
/// No further sync is measured after this.
const SYNCS_MAX: Duration = Duration::from_secs(2);
/// Bytes before each: a page of the database's log.
const SYNC_BYTES: usize = 4096;
/// A commit that waits longer is felt by whoever sends.
const SYNC_SLOW: Duration = Duration::from_millis(20);
/// No disk is so quick: nothing was made safe.
const SYNC_UNREAL: Duration = Duration::from_micros(15);
/// Less room than this ends the service at once.
const ROOM_NOW: u64 = 64 << 20;

pub(super) fn findings(data: &Path) -> Vec<Finding> {
    let mut found = vec![room(data)];
    found.push(sync(data));
    found
}

/// The directory, or the nearest one that there is.
fn nearest(data: &Path) -> PathBuf {
    let there = data.ancestors().find(|path| path.is_dir());
    there.filter(|path| !path.as_os_str().is_empty()).unwrap_or_else(|| Path::new(".")).to_owned()
}

fn room(data: &Path) -> Finding {
    const WHAT: &str = "room for --data";
    let place = nearest(data);
    let Ok(stat) = statvfs(&place) else { return Finding::note(WHAT, "unknown", "it cannot be read here") };
    let (free, total) = (stat.f_bavail * stat.f_frsize, stat.f_blocks * stat.f_frsize);
    let found = format!("{} of {} free at {}", bytes(free), bytes(total), place.display());
    let severity = match free {
        ..ROOM_NOW => Severity::Stops,
        ROOM_NOW..DATA_ROOM_BYTES_MIN => Severity::Warning,
        _ => return Finding::ok(WHAT, found),
    };
    let why = "without room nothing is stored, and every message is refused (`busy`)";
    Finding::bad(severity, WHAT, found, why)
        .wanted(bytes(DATA_ROOM_BYTES_MIN))
        .mend("keep_age = \"90d\" in the configuration removes older messages; or another disk for --data")
}

fn sync(data: &Path) -> Finding {
    const WHAT: &str = "sync of --data";
    if !data.is_dir() {
        return Finding::note(WHAT, "not measured", "the directory does not exist yet");
    }
    let times = match timed(data) {
        Ok(times) => times,
        Err(error) => return unwritable(WHAT, data, &error),
    };
    judged(WHAT, times)
}

/// Why nothing could be written, and what mends that.
pub(super) fn unwritable(what: &'static str, data: &Path, error: &io::Error) -> Finding {
    let bad = |why| Finding::bad(Severity::Stops, what, error.to_string(), why);
    match error.kind() {
        io::ErrorKind::PermissionDenied => bad("this account cannot write there, and the gateway must")
            .mend(format!("sudo chown -R imgate: {}", data.display())),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            bad("the disk, or the quota of this account, is full: every message is refused (`busy`)")
                .mend(format!("df -h {0}; df -i {0}   # and make room there", data.display()))
        }
        io::ErrorKind::ReadOnlyFilesystem => {
            bad("it is mounted to be read only; the kernel does so after a disk error")
                .mend(format!("dmesg | tail -50; sudo mount -o remount,rw $(findmnt -nT {} -o TARGET)", data.display()))
        }
        _ => {
            bad("the file system does not write, and the gateway must").mend("dmesg | tail -50   # what the disk says")
        }
    }
}

/// From the times of some syncs to a finding.
fn judged(what: &'static str, mut times: Vec<Duration>) -> Finding {
    times.sort_unstable();
    let median = times.get(times.len() / 2).copied().unwrap_or_default();
    let worst = times.last().copied().unwrap_or_default();
    let ms = |time: Duration| format!("{:.2} ms", time.as_secs_f64() * 1000.0);
    let found = format!("{}, at worst {}", ms(median), ms(worst));
    if median > SYNC_SLOW {
        let why = "a commit waits for it, and every sender for the commit";
        return Finding::bad(Severity::Warning, what, found, why).wanted(format!("below {}", ms(SYNC_SLOW)));
    }
    if median < SYNC_UNREAL {
        let why = "no disk is so quick: memory, or a disk that promises what it has not done; a loss of power may take messages that were acked";
        return Finding::note(what, found, why);
    }
    Finding::ok(what, found)
}

fn timed(data: &Path) -> io::Result<Vec<Duration>> {
    let path = data.join(format!(".doctor-{}", std::process::id()));
    let file = OpenOptions::new().write(true).create_new(true).open(&path)?;
    let times = time_syncs(file);
    fs::remove_file(&path)?;
    times
}

fn time_syncs(mut file: File) -> io::Result<Vec<Duration>> {
    let clock = Clock::start();
    let page = [0x5a; SYNC_BYTES];
    let mut times = Vec::with_capacity(SYNCS);
    // A disk of which one sync is slow is known after a few.
    while times.len() < SYNCS && times.iter().sum::<Duration>() < SYNCS_MAX {
        file.write_all(&page)?;
        let began_ns = clock.nanos();
        file.sync_data()?;
        times.push(Duration::from_nanos(clock.nanos().saturating_sub(began_ns)));
    }
    Ok(times)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn syncs_are_judged_by_their_median() {
        let of = |us: u64| judged("x", vec![Duration::from_micros(us); 3]).severity;
        assert_eq!(
            (of(1), of(100), of(19_000), of(21_000)),
            (Severity::Note, Severity::Ok, Severity::Ok, Severity::Warning)
        );
        let one_late = [1, 1, 900].map(Duration::from_millis).to_vec();
        assert_eq!(judged("x", one_late).found, "1.00 ms, at worst 900.00 ms");
    }

    #[test]
    fn a_directory_is_measured_and_left_as_it_was() {
        let data = tempfile::tempdir().expect("a directory");
        let findings = findings(data.path());
        assert!(
            findings.iter().all(|finding| finding.found.contains("ms") || finding.found.contains("free")),
            "{findings:?}"
        );
        assert_eq!(fs::read_dir(data.path()).expect("a directory").count(), 0);
        let missing = data.path().join("not/there");
        assert_eq!(sync(&missing).found, "not measured");
        assert!(room(&missing).found.contains(&data.path().display().to_string()));
    }
}
