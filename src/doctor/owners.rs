//! The files of the data directory: whether they are of the account that it is of, and whether
//! others may read the keys.
//!
//! What root has brought back (a backup, a key) or made (a start by hand) keeps the gateway from
//! starting as its own account.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, access};

use super::{Finding, Severity};

const WHAT: &str = "files in --data";
const KEYS: [&str; 2] = ["secret.key", "secret.fallback.key"];
/// What else a gateway writes; what others have put there is theirs.
const OWN: [&str; 6] = ["imgate.db", "imgate.db-wal", "imgate.db-shm", "imgate.lock", "files", "hooks"];

/// A file of a gateway's own, as far as it is looked at.
struct OwnedFile {
    path: PathBuf,
    is_key: bool,
    is_directory: bool,
    uid: u32,
    mode: u32,
    /// Whether the account that looks can use it as a gateway does.
    is_open: bool,
}

impl OwnedFile {
    /// `None`: it is not there, or somewhere else (a secret that is mounted, a disk for files).
    fn look(data: &Path, name: &str, is_key: bool) -> Option<Self> {
        let path = data.join(name);
        let file = fs::symlink_metadata(&path).ok().filter(|file| !file.is_symlink())?;
        let wanted = if is_key { Access::READ_OK } else { Access::READ_OK | Access::WRITE_OK };
        let is_open = access(&path, wanted).is_ok();
        let (uid, mode, is_directory) = (file.uid(), file.mode() & 0o777, file.is_dir());
        Some(Self { path, is_key, is_directory, uid, mode, is_open })
    }
}

pub(super) fn findings(data: &Path) -> Vec<Finding> {
    // Of a directory that is not there, or not to be entered, others tell.
    let Ok(directory) = fs::metadata(data) else { return Vec::new() };
    let look =
        |names: &'static [&str], is_key| names.iter().filter_map(move |name| OwnedFile::look(data, name, is_key));
    let files: Vec<_> = look(&KEYS, true).chain(look(&OWN, false)).collect();
    judged((directory.uid(), directory.gid()), &files)
}

/// `owner`: account and group of the directory.
fn judged((uid, gid): (u32, u32), files: &[OwnedFile]) -> Vec<Finding> {
    let mut found = Vec::new();
    // The root of a volume is root's as a rule, and its group may write there (`fsGroup` of
    // Kubernetes): then the gateway's account is the one that has made files.
    let uid = if uid == 0 { files.iter().map(|file| file.uid).find(|uid| *uid != 0).unwrap_or(0) } else { uid };
    let others: Vec<&OwnedFile> = files.iter().filter(|file| file.uid != uid).collect();
    if !others.is_empty() {
        let of = |file: &&OwnedFile| format!("{} is of {}", file.path.display(), account(file.uid));
        let texts: Vec<String> = others.iter().map(of).collect();
        // Whether a gateway runs as the directory's account only that account knows.
        let is_shut = others.iter().any(|file| !file.is_open);
        let severity = if is_shut { Severity::Stops } else { Severity::Warning };
        let why = "a gateway that runs as the directory's account cannot use what another one has made or brought back";
        let all = if others.iter().any(|file| file.is_directory) { " -R" } else { "" };
        let paths: String = others.iter().map(|file| format!(" {}", file.path.display())).collect();
        found.push(
            Finding::bad(severity, WHAT, texts.join(", "), why)
                .wanted(account(uid))
                .mend(format!("sudo chown{all} {uid}:{gid}{paths}")),
        );
    }
    for file in files.iter().filter(|file| file.is_key && file.mode & 0o077 != 0) {
        let path = file.path.display();
        let why = "whoever reads the key can be any user";
        found.push(
            Finding::bad(Severity::Warning, WHAT, format!("{path} has mode {:o}: others may read it", file.mode), why)
                .wanted("600")
                .mend(format!("sudo chmod 600 {path}")),
        );
    }
    if found.is_empty() && !files.is_empty() {
        found.push(Finding::ok(WHAT, format!("of {}", account(uid))));
    }
    found
}

fn account(uid: u32) -> String {
    if uid == 0 { "root".to_owned() } else { format!("account {uid}") }
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn file(name: &str, uid: u32, mode: u32, is_open: bool) -> OwnedFile {
        let (is_key, is_directory) = (name.ends_with(".key"), name == "files");
        OwnedFile { path: Path::new("/data").join(name), is_key, is_directory, uid, mode, is_open }
    }

    #[test]
    fn what_another_account_has_left_is_told_with_the_command() {
        let own = [file("secret.key", 998, 0o600, true), file("imgate.db", 998, 0o644, true)];
        assert_eq!(judged((998, 997), &own)[..], [Finding::ok(WHAT, "of account 998")]);
        let roots = |is_open| {
            let mut files = vec![file("imgate.db", 0, 0o600, is_open), file("imgate.db-wal", 5, 0o600, true)];
            files.push(file("secret.key", 998, 0o600, true));
            judged((998, 997), &files).remove(0)
        };
        let found = roots(false);
        assert_eq!(found.severity, Severity::Stops, "this account cannot use it");
        assert_eq!(found.found, "/data/imgate.db is of root, /data/imgate.db-wal is of account 5");
        assert_eq!(found.mend.as_deref(), Some("sudo chown 998:997 /data/imgate.db /data/imgate.db-wal"));
        assert_eq!(roots(true).severity, Severity::Warning, "root looks, or a gateway that runs as root");
        assert_eq!(judged((998, 997), &[]), [], "before the first start");
        let volume = [file("secret.key", 65_532, 0o600, true), file("imgate.db", 65_532, 0o600, true)];
        assert_eq!(judged((0, 65_532), &volume)[0].severity, Severity::Ok, "of root, and its group may write");
        let mixed = [file("secret.key", 65_532, 0o600, true), file("imgate.db", 0, 0o600, false)];
        assert_eq!(judged((0, 65_532), &mixed)[0].mend.as_deref(), Some("sudo chown 65532:65532 /data/imgate.db"));
        let started_by_root = judged((998, 997), &[file("imgate.lock", 0, 0o600, true), file("files", 0, 0o700, true)]);
        assert_eq!(started_by_root[0].mend.as_deref(), Some("sudo chown -R 998:997 /data/imgate.lock /data/files"));
    }

    #[test]
    fn a_key_that_others_may_read_is_told() {
        let data = tempfile::tempdir().expect("a directory");
        assert_eq!(findings(data.path()), []);
        let (key, database) = (data.path().join("secret.fallback.key"), data.path().join("imgate.db"));
        for (path, mode) in [(&key, 0o600), (&database, 0o644)] {
            fs::write(path, "x").expect("a file");
            fs::set_permissions(path, Permissions::from_mode(mode)).expect("it is ours");
        }
        assert_eq!(findings(data.path())[0].severity, Severity::Ok);
        fs::set_permissions(&key, Permissions::from_mode(0o640)).expect("it is ours");
        let [found] = &findings(data.path())[..] else { panic!("one finding") };
        assert_eq!(found.severity, Severity::Warning);
        assert_eq!(found.mend, Some(format!("sudo chmod 600 {}", key.display())));
        assert_eq!(findings(&data.path().join("not/there")), []);
        fs::remove_file(&key).expect("it is ours");
        std::os::unix::fs::symlink("/", &key).expect("a link");
        assert_eq!(findings(data.path())[0].severity, Severity::Ok, "what is elsewhere is arranged there");
    }
}
