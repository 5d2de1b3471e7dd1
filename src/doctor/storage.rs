//! The database: whether it answers, what its commits are worth, and whether its clock is ours; and
//! the object store, if files lie in one.

use super::{Finding, Severity};
use crate::clock;
use crate::config::{Config, Durability, Synchronous};
use crate::object_store::{ObjectStore, ObjectTarget};
use crate::store::{self, Probed};

/// A difference of clocks beyond which times of messages look wrong to people.
const SKEW_MS_MAX: u64 = 2_000;

pub(super) fn findings(config: &Config) -> Vec<Finding> {
    if config.durability == Durability::Volatile {
        return vec![Finding::note("store", "volatile", "durability = \"volatile\": nothing is kept")];
    }
    let before_ms = clock::wall_ms();
    match store::probe(config.store.expose(), &config.data) {
        Err(error) => {
            let why = "without it nothing is stored, and nobody can log in";
            vec![Finding::bad(Severity::Stops, "store", error.to_string(), why)]
        }
        Ok(probed) => {
            let after_ms = clock::wall_ms();
            let mut found = vec![Finding::ok("store", probed.described.clone()), durability(config, &probed)];
            found.extend(probed.read_only.then(read_only));
            found.extend(probed.wall_ms.map(|theirs| skew(before_ms, theirs, after_ms)));
            found
        }
    }
}

fn read_only() -> Finding {
    let why = "it refuses every message, and answers what is read";
    Finding::bad(Severity::Stops, "writing to the store", "read_only is on", why)
        .mend("SET GLOBAL read_only = 0 on the server")
}

/// Writes, reads and removes an object of its own.
pub(super) fn objects(target: &ObjectTarget) -> Finding {
    const WHAT: &str = "files";
    match ObjectStore::check_blocking(target.clone()) {
        Ok(()) => Finding::ok(WHAT, target.shown()),
        Err(failed) if failed.why.is_refusal() => {
            let why = "a gateway does not start with an object store that refuses what it asks";
            Finding::bad(Severity::Stops, WHAT, failed.to_string(), why).mend("files, s3_… in the configuration")
        }
        Err(failed) => {
            let why = "uploads and downloads get 503 as long as the object store does not answer";
            Finding::bad(Severity::Warning, WHAT, failed.to_string(), why)
        }
    }
}

fn durability(config: &Config, probed: &Probed) -> Finding {
    const WHAT: &str = "what an ack survives";
    let lax = |found: String, why: String, mend: &str| {
        Finding::bad(Severity::Warning, WHAT, found, why).wanted("a loss of power").mend(mend)
    };
    match &probed.commits {
        store::Commits::Sqlite => match config.sqlite_synchronous {
            Synchronous::Full => Finding::ok(WHAT, "a loss of power (sqlite_synchronous = full)"),
            Synchronous::Normal => lax(
                "a crash of the process, not a loss of power".to_owned(),
                "sqlite_synchronous = normal syncs at checkpoints only".to_owned(),
                "sqlite_synchronous = \"full\" in the configuration",
            ),
        },
        store::Commits::Memory => lax(
            "nothing: everything goes with the process".to_owned(),
            "the store is `memory:`".to_owned(),
            "store = \"sqlite:\" in the configuration",
        ),
        store::Commits::Mysql { flush_at_commit, sync_binlog } => {
            let found = format!(
                "innodb_flush_log_at_trx_commit = {flush_at_commit}, sync_binlog = {}",
                sync_binlog.map_or_else(|| "off, no binary log".to_owned(), |every| every.to_string())
            );
            if *flush_at_commit != 1 {
                return lax(
                    found,
                    "the database syncs once a second: a loss of power takes the last second's messages, which were acked".to_owned(),
                    "SET GLOBAL innodb_flush_log_at_trx_commit = 1; and in my.cnf, so that it stays",
                );
            }
            if sync_binlog.is_some_and(|every| every != 1) {
                return lax(
                    found,
                    "after a loss of power the binary log may lack what the tables have: replicas differ".to_owned(),
                    "SET GLOBAL sync_binlog = 1; and in my.cnf, so that it stays",
                );
            }
            Finding::ok(WHAT, format!("a loss of power ({found})"))
        }
    }
}

/// `theirs` was read between the two.
fn skew(before_ms: u64, theirs_ms: u64, after_ms: u64) -> Finding {
    const WHAT: &str = "time against the database's";
    let offset_ms = store::clock_offset_ms(before_ms, theirs_ms, after_ms);
    let off_ms = offset_ms.unsigned_abs();
    if off_ms <= SKEW_MS_MAX {
        return Finding::ok(WHAT, "the same");
    }
    let direction = if offset_ms < 0 { "behind" } else { "ahead" };
    let why = "times of messages differ from gateway to gateway, and tokens end early or late";
    Finding::bad(Severity::Warning, WHAT, format!("{:.1} s {direction}", off_ms as f64 / 1000.0), why)
        .wanted("the same")
        .mend("sudo timedatectl set-ntp true   # on both machines")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Layers;
    use crate::store::Commits;

    fn config(settings: &str) -> Config {
        let mut layers = Layers::default();
        layers.file_text(std::path::Path::new("x.toml"), settings).expect("a file");
        Config::from_layers(&layers).expect("a configuration")
    }

    fn told(settings: &str, commits: Commits) -> Severity {
        let probed = Probed { described: "x".to_owned(), commits, read_only: false, wall_ms: None };
        durability(&config(settings), &probed).severity
    }

    #[test]
    fn what_commits_are_worth_is_told() {
        assert_eq!(told("", Commits::Sqlite), Severity::Ok);
        assert_eq!(told("sqlite_synchronous = \"normal\"", Commits::Sqlite), Severity::Warning);
        assert_eq!(told("", Commits::Memory), Severity::Warning);
        for (flush_at_commit, sync_binlog, severity) in [
            (1, None, Severity::Ok),
            (1, Some(1), Severity::Ok),
            (1, Some(0), Severity::Warning),
            (2, None, Severity::Warning),
            (0, Some(1), Severity::Warning),
        ] {
            let commits = Commits::Mysql { flush_at_commit, sync_binlog };
            assert_eq!(told("", commits), severity, "{flush_at_commit} {sync_binlog:?}");
        }
    }

    #[test]
    fn a_clock_that_differs_is_told_with_its_direction() {
        assert_eq!(skew(10_000, 10_050, 10_100).severity, Severity::Ok);
        assert_eq!(skew(10_000, 8_500, 10_100).severity, Severity::Ok, "as far as the way there explains it");
        assert_eq!(skew(10_000, 5_000, 10_100).found, "5.0 s ahead");
        assert_eq!(skew(10_000, 70_100, 10_100).found, "60.0 s behind");
    }

    #[test]
    fn a_store_that_is_not_there_stops() {
        let data = tempfile::tempdir().expect("a directory");
        // A port of this machine at which nothing listens.
        let config = config(&format!("store = \"mysql://u:sesame@127.0.0.1:1/x\"\ndata = {:?}", data.path()));
        let found = findings(&config);
        assert_eq!((found.len(), found[0].severity), (1, Severity::Stops), "{found:?}");
        assert!(!format!("{found:?}").contains("sesame"), "a password is never shown");
    }
}
