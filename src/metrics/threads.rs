//! CPU time of the process's threads, by what they do.
//!
//! Owns: the roles: a shard each, and for the others a few words, so that the series are as many as
//! the shards and five more. Never: fails. Where the system does not tell, there are none.

use std::fs;
use std::path::Path;

/// Roles beside the shards, in the order of [`by_role`], and how the names of their threads begin.
const ROLES: [(&str, &[&str]); 4] =
    [("store", &["store"]), ("api", &["imgate-api"]), ("admin", &["imgate-admin"]), ("passwords", &["password"])];
/// What is none of these.
const OTHERS: &str = "other";
/// Ticks per second of the times in `/proc/PID/task/TID/stat`: `USER_HZ`, which is 100 on every
/// Linux.
const TICKS_PER_SECOND: f64 = 100.0;
/// Threads that are looked at; the process has some tens.
const THREADS_MAX: usize = 512;

/// CPU seconds by role: first the shards by number, then the others. Threads that have ended are
/// not in it any more, so a role's time may step back when one does; shards end with the process.
#[must_use]
pub fn by_role(shards: usize) -> Vec<(String, f64)> {
    in_folder(Path::new("/proc/self/task"), shards)
}

fn in_folder(folder: &Path, shards: usize) -> Vec<(String, f64)> {
    let mut times: Vec<(String, f64)> = (0..shards).map(|shard| (format!("shard-{shard}"), 0.0)).collect();
    times.extend(ROLES.iter().map(|(role, _)| ((*role).to_owned(), 0.0)));
    times.push((OTHERS.to_owned(), 0.0));
    let Ok(threads) = fs::read_dir(folder) else { return Vec::new() };
    for thread in threads.take(THREADS_MAX).flatten() {
        let Ok(stat) = fs::read_to_string(thread.path().join("stat")) else { continue };
        let Some((name, seconds)) = parse(&stat) else { continue };
        let role = ROLES.iter().find(|(_, starts)| starts.iter().any(|start| name.starts_with(start)));
        let role = role.map_or(name, |(role, _)| role);
        let place = times.iter().position(|(other, _)| other == role).unwrap_or(times.len() - 1);
        if let Some((_, time)) = times.get_mut(place) {
            *time += seconds;
        }
    }
    times
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

    #[test]
    fn threads_are_told_by_their_names() {
        let folder = tempfile::tempdir().expect("a directory");
        for (id, name, user, system) in [
            (1, "imgate", 5, 0),
            (2, "shard-0", 100, 50),
            (3, "shard-1", 7, 0),
            (4, "store-write-0", 20, 1),
            (5, "store-read-1", 10, 0),
            (6, "imgate-api", 3, 3),
            (7, "a (strange) one", 1, 0),
        ] {
            let path = folder.path().join(id.to_string());
            fs::create_dir(&path).expect("a directory");
            let stat = format!("{id} ({name}) S 1 1 1 0 -1 4194304 9 0 0 0 {user} {system} 0 0 20 0 7 0 1 2 3");
            fs::write(path.join("stat"), stat).expect("a file");
        }
        let times = in_folder(folder.path(), 2);
        let of = |role: &str| times.iter().find(|(name, _)| name == role).map(|(_, time)| (time * 100.0).round());
        assert_eq!(times.len(), 7, "{times:?}");
        for (role, hundredths) in
            [("shard-0", 150.0), ("shard-1", 7.0), ("store", 31.0), ("api", 6.0), ("admin", 0.0), ("other", 6.0)]
        {
            assert_eq!(of(role), Some(hundredths), "{role}");
        }
        assert!(in_folder(Path::new("/nowhere"), 2).is_empty());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_system_tells() {
        assert_eq!(by_role(3).len(), 3 + ROLES.len() + 1);
    }
}
