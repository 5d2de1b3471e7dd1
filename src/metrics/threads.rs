//! CPU time of the process's threads, by what they do.
//!
//! Owns: the roles: a shard each, and for the others a few words, so that the series are as many as
//! the shards and five more. Never: fails. Where the system does not tell, there are none.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs;
use std::path::Path;

use parking_lot::Mutex;

/// Roles beside the shards, in the order of
/// [`ThreadTimes::by_role`], and how the names of their threads begin.
const ROLES: [(&str, &[&str]); 4] =
    [("store", &["store"]), ("api", &["imgate-api"]), ("admin", &["imgate-admin"]), ("passwords", &["password"])];
/// What is none of these.
const OTHERS: &str = "other";
/// Ticks per second of the times in `/proc/PID/task/TID/stat`: `USER_HZ`, which is 100 on every
/// Linux.
const TICKS_PER_SECOND: f64 = 100.0;
/// Threads that are looked at; the process has some tens.
const THREADS_MAX: usize = 512;

/// The CPU time that the process's threads have taken. What a thread took is kept when it ends, but
/// for what it did after the last look.
pub struct ThreadTimes {
    shards: usize,
    seen: Mutex<Seen>,
}

/// What the looks so far have seen.
#[derive(Default)]
struct Seen {
    /// Of each thread that there is, by its number.
    threads: HashMap<OsString, f64>,
    /// The sums by role, in the order of [`ThreadTimes::by_role`].
    roles: Vec<f64>,
}

impl ThreadTimes {
    /// Of a process with so many shards.
    #[must_use]
    pub fn new(shards: usize) -> Self {
        Self { shards, seen: Mutex::default() }
    }

    /// CPU seconds by role: first the shards by number, then the others. None of them ever falls: a
    /// counter that does is taken for one of a process that has started again.
    #[must_use]
    pub fn by_role(&self) -> Vec<(String, f64)> {
        self.in_folder(Path::new("/proc/self/task"))
    }

    fn in_folder(&self, folder: &Path) -> Vec<(String, f64)> {
        let mut names: Vec<String> = (0..self.shards).map(|shard| format!("shard-{shard}")).collect();
        names.extend(ROLES.iter().map(|(role, _)| (*role).to_owned()));
        names.push(OTHERS.to_owned());
        let mut seen = self.seen.lock();
        let Ok(there_are) = fs::read_dir(folder) else { return Vec::new() };
        let Seen { threads, roles } = &mut *seen;
        roles.resize(names.len(), 0.0);
        let mut now = HashMap::new();
        for thread in there_are.take(THREADS_MAX).flatten() {
            let Ok(stat) = fs::read_to_string(thread.path().join("stat")) else { continue };
            let Some((name, seconds)) = parse(&stat) else { continue };
            let id = thread.file_name();
            // One that has less than before is another one with the same number.
            let before = threads.get(&id).copied().filter(|before| *before <= seconds).unwrap_or_default();
            now.insert(id, seconds);
            let role = ROLES.iter().find(|(_, starts)| starts.iter().any(|start| name.starts_with(start)));
            let role = role.map_or(name, |(role, _)| role);
            let place = names.iter().position(|other| other == role).unwrap_or(names.len() - 1);
            if let Some(time) = roles.get_mut(place) {
                *time += seconds - before;
            }
        }
        *threads = now;
        names.into_iter().zip(roles.iter().copied()).collect()
    }
}

/// Name and CPU seconds. The name may hold anything, brackets too.
fn parse(stat: &str) -> Option<(&str, f64)> {
    let (_, rest) = stat.split_once('(')?;
    let (name, rest) = rest.rsplit_once(')')?;
    // From the state on, which is the third: user time is the 14th, system time the 15th.
    let mut fields = rest.split_whitespace().skip(11);
    let user: u32 = fields.next()?.parse().ok()?;
    let system: u32 = fields.next()?.parse().ok()?;
    Some((name, (f64::from(user) + f64::from(system)) / TICKS_PER_SECOND))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A thread as the system shows it.
    fn put(folder: &Path, (id, name, user, system): (u32, &str, u32, u32)) {
        let path = folder.join(id.to_string());
        fs::create_dir_all(&path).expect("a directory");
        let stat = format!("{id} ({name}) S 1 1 1 0 -1 4194304 9 0 0 0 {user} {system} 0 0 20 0 7 0 1 2 3");
        fs::write(path.join("stat"), stat).expect("a file");
    }

    /// Hundredths of a second of a role.
    fn of(times: &[(String, f64)], role: &str) -> Option<f64> {
        times.iter().find(|(name, _)| name == role).map(|(_, time)| (time * 100.0).round())
    }

    #[test]
    fn threads_are_told_by_their_names() {
        let folder = tempfile::tempdir().expect("a directory");
        for thread in [
            (1, "imgate", 5, 0),
            (2, "shard-0", 100, 50),
            (3, "shard-1", 7, 0),
            (4, "store-write-0", 20, 1),
            (5, "store-read-1", 10, 0),
            (6, "imgate-api", 3, 3),
            (7, "a (strange) one", 1, 0),
        ] {
            put(folder.path(), thread);
        }
        let times = ThreadTimes::new(2).in_folder(folder.path());
        assert_eq!(times.len(), 7, "{times:?}");
        for (role, hundredths) in
            [("shard-0", 150.0), ("shard-1", 7.0), ("store", 31.0), ("api", 6.0), ("admin", 0.0), ("other", 6.0)]
        {
            assert_eq!(of(&times, role), Some(hundredths), "{role}");
        }
        assert!(ThreadTimes::new(2).in_folder(Path::new("/nowhere")).is_empty());
    }

    #[test]
    fn what_a_thread_took_stays_when_it_ends() {
        let folder = tempfile::tempdir().expect("a directory");
        put(folder.path(), (4, "imgate-api", 400, 0));
        put(folder.path(), (5, "imgate-api", 200, 0));
        let times = ThreadTimes::new(1);
        assert_eq!(of(&times.in_folder(folder.path()), "api"), Some(600.0));
        fs::remove_dir_all(folder.path().join("4")).expect("it is there");
        put(folder.path(), (5, "imgate-api", 250, 1));
        assert_eq!(of(&times.in_folder(folder.path()), "api"), Some(651.0), "what is new is added");
        // The number goes to another one, of which the system says less.
        put(folder.path(), (5, "store-write-0", 30, 0));
        let now = times.in_folder(folder.path());
        assert_eq!((of(&now, "api"), of(&now, "store")), (Some(651.0), Some(30.0)));
        assert_eq!(times.seen.lock().threads.len(), 1, "those that have gone are forgotten");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_system_tells() {
        assert_eq!(ThreadTimes::new(3).by_role().len(), 3 + ROLES.len() + 1);
    }
}
