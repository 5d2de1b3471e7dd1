//! Backups that a running gateway makes of its own database, when an operator asks at the admin
//! port.
//!
//! Owns: the folder below the data directory, the names in it, the thread of the one that is being
//! made, what became of the last one.
//! Never: makes two at once; begins or goes on with one where less than [`BACKUP_SPARE_BYTES`]
//! would be left on the disk; never removes one that is whole.
//! Bounds: one thread. A stop waits [`BACKUP_STOP_MS_MAX`] for it; what is left of one that did not
//! end by then goes when the next one begins.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, UNIX_EPOCH};

use parking_lot::{Condvar, Mutex};
use rustix::fs::statvfs;

use super::location::{BackupError, Halt, backup, backup_bytes};
use crate::clock;
use crate::limits::{BACKUP_NAME_BYTES_MAX, BACKUP_SPARE_BYTES, BACKUP_STOP_MS_MAX};
use crate::threads::Priority;

/// The folder in the data directory.
const FOLDER: &str = "backups";

/// How far the newest backup of this process is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum BackupStage {
    /// None was asked for since the start.
    #[default]
    None,
    /// It is being made.
    Running,
    /// It is whole, and safe on the disk.
    Done,
    /// There is none; [`BackupView::why`] says why.
    Failed,
}

/// The newest backup that this process was asked for.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct BackupView {
    /// How far it is.
    pub state: BackupStage,
    /// Where it is, or was to be.
    pub file: Option<PathBuf>,
    /// When it was begun, Unix milliseconds.
    pub began_ms: Option<u64>,
    /// When it was whole, or failed, Unix milliseconds.
    pub ended_ms: Option<u64>,
    /// Its bytes, once it is whole.
    pub bytes: Option<u64>,
    /// Why there is none.
    pub why: Option<String>,
}

/// Why none is begun.
#[derive(Debug, thiserror::Error)]
pub enum NotBegun {
    /// One at a time.
    #[error("a backup is being made already")]
    Running,
    /// The name asked for could be another file's than that of a backup.
    #[error(
        "a backup's name has 1 to {BACKUP_NAME_BYTES_MAX} letters, digits, `-`, `_` and `.`, begins with none of \
         `.` and `-`, and does not end in `.partial`"
    )]
    Name,
    /// Nothing is overwritten.
    #[error("{} exists already", .0.display())]
    Exists(PathBuf),
    /// The database has tools of its own, or nothing to keep.
    #[error("imgate copies no store of the kind `{0}`: use the tools of that database")]
    NotOurs(String),
    /// The disk is to stay usable for the database itself.
    #[error("it may take {wanted} bytes and leave {BACKUP_SPARE_BYTES}; {free} are free")]
    Space {
        /// What the database takes.
        wanted: u64,
        /// What is free.
        free: u64,
    },
    /// The gateway stops.
    #[error("the gateway stops")]
    Stopping,
    /// What the operating system says.
    #[error("it cannot be begun: {0}")]
    Io(#[from] io::Error),
}

/// A handle on the backups of a running gateway; clones share it.
#[derive(Clone)]
pub struct Backups {
    inner: Arc<Inner>,
}

struct Inner {
    /// The kind of the store: a URL may hold a password.
    store: String,
    data: PathBuf,
    newest: Mutex<BackupView>,
    ended: Condvar,
    brake: Arc<Brake>,
}

/// Ends a backup when the gateway stops, and when the disk has less left than it should: the log
/// beside the database grows while the copy is made.
struct Brake {
    data: PathBuf,
    stop: AtomicBool,
    short: AtomicBool,
    asked: AtomicU32,
}

impl Halt for Brake {
    fn is_told(&self) -> bool {
        // A look at the disk costs some microseconds, and a megabyte or two is written between two.
        const ASKED_PER_LOOK: u32 = 64;
        if self.asked.fetch_add(1, Ordering::Relaxed).is_multiple_of(ASKED_PER_LOOK)
            && free(&self.data).is_ok_and(|free| free < BACKUP_SPARE_BYTES)
        {
            self.short.store(true, Ordering::Relaxed);
        }
        self.stop.load(Ordering::Relaxed) || self.short.load(Ordering::Relaxed)
    }
}

impl Backups {
    /// Of the store that `url` names, with its file in `data`.
    #[must_use]
    pub fn new(url: &str, data: &Path) -> Self {
        let store = url.split(':').next().unwrap_or_default().to_owned();
        let data = data.to_owned();
        let (stop, short, asked) = (AtomicBool::new(false), AtomicBool::new(false), AtomicU32::new(0));
        let brake = Arc::new(Brake { data: data.clone(), stop, short, asked });
        let (newest, ended) = (Mutex::default(), Condvar::new());
        Self { inner: Arc::new(Inner { store, data, newest, ended, brake }) }
    }

    /// Begins one, with that name or one made of the time, and returns at once. Waits for the disk
    /// for a moment, so never on a thread that must not.
    ///
    /// # Errors
    /// See [`NotBegun`].
    pub fn begin(&self, name: Option<&str>) -> Result<BackupView, NotBegun> {
        let began_ms = clock::wall_ms();
        let name = name.map_or_else(|| name_of(began_ms), str::to_owned);
        if !is_name(&name) {
            return Err(NotBegun::Name);
        }
        let begun = BackupView { state: BackupStage::Running, began_ms: Some(began_ms), ..BackupView::default() };
        let before = {
            let mut newest = self.inner.newest.lock();
            if newest.state == BackupStage::Running {
                return Err(NotBegun::Running);
            }
            if self.inner.brake.stop.load(Ordering::Relaxed) {
                return Err(NotBegun::Stopping);
            }
            std::mem::replace(&mut *newest, begun)
        };
        // Without the lock: a disk that hangs is not to hold up a look.
        let begun = self.inner.prepare(&name).and_then(|target| {
            let inner = Arc::clone(&self.inner);
            self.inner.newest.lock().file = Some(target.clone());
            self.inner.brake.short.store(false, Ordering::Relaxed);
            std::thread::Builder::new().name("backup".to_owned()).spawn(move || inner.make(&target))?;
            Ok(())
        });
        let mut newest = self.inner.newest.lock();
        match begun {
            Ok(()) => Ok(newest.clone()),
            Err(why) => {
                *newest = before;
                self.inner.ended.notify_all();
                Err(why)
            }
        }
    }

    /// The newest one.
    #[must_use]
    pub fn view(&self) -> BackupView {
        self.inner.newest.lock().clone()
    }

    /// Begins no further one, ends the one that is being made, and waits for that, but not for
    /// long.
    pub fn stop(&self) {
        let mut newest = self.inner.newest.lock();
        self.inner.brake.stop.store(true, Ordering::Relaxed);
        let patience = Duration::from_millis(BACKUP_STOP_MS_MAX);
        let _ = self.inner.ended.wait_while_for(&mut newest, |newest| newest.state == BackupStage::Running, patience);
    }
}

impl Inner {
    /// Where it goes, if there is room.
    fn prepare(&self, name: &str) -> Result<PathBuf, NotBegun> {
        let wanted = backup_bytes(&self.store, &self.data).ok_or_else(|| NotBegun::NotOurs(self.store.clone()))?;
        let folder = self.data.join(FOLDER);
        // Only its owner may read what was said, and the users' passwords, hashed.
        DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
        remove_left(&folder)?;
        let target = folder.join(name);
        if target.symlink_metadata().is_ok() {
            return Err(NotBegun::Exists(target));
        }
        let free = free(&folder)?;
        if wanted.saturating_add(BACKUP_SPARE_BYTES) > free {
            return Err(NotBegun::Space { wanted, free });
        }
        Ok(target)
    }

    fn make(&self, target: &Path) {
        Priority::Upkeep.give_way();
        tracing::info!(file = %target.display(), "a backup begins");
        let brake = Arc::clone(&self.brake) as Arc<dyn Halt>;
        let made = backup(&self.store, &self.data, target, &brake);
        let mut newest = self.newest.lock();
        newest.ended_ms = Some(clock::wall_ms());
        match made {
            Ok(bytes) => {
                tracing::info!(file = %target.display(), bytes, "the backup is made");
                (newest.state, newest.bytes) = (BackupStage::Done, Some(bytes));
            }
            Err(BackupError::Stopped) if self.brake.short.load(Ordering::Relaxed) => {
                let why = format!("less than {BACKUP_SPARE_BYTES} bytes are left on the disk");
                tracing::error!(why, file = %target.display(), "the backup is not made");
                (newest.state, newest.why) = (BackupStage::Failed, Some(why));
            }
            Err(BackupError::Stopped) => {
                tracing::warn!(file = %target.display(), "the backup is not made: the gateway stops");
                (newest.state, newest.why) = (BackupStage::Failed, Some(BackupError::Stopped.to_string()));
            }
            Err(why) => {
                tracing::error!(%why, file = %target.display(), "the backup is not made");
                (newest.state, newest.why) = (BackupStage::Failed, Some(why.to_string()));
            }
        }
        self.ended.notify_all();
    }
}

/// Bytes that are free on the disk of `place`.
fn free(place: &Path) -> io::Result<u64> {
    let disk = statvfs(place)?;
    Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
}

/// Removes what a backup has left that was killed, SQLite's journal of it included: nothing else is
/// made in that folder meanwhile.
fn remove_left(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let is_left =
            path.extension().is_some_and(|extension| extension == "partial" || extension == "partial-journal");
        if is_left && let Err(why) = fs::remove_file(&path) {
            tracing::warn!(%why, file = %path.display(), "what an older backup has left stays");
        }
    }
    Ok(())
}

/// `imgate-2026-12-01T034500Z.db`: in the order of time, without a character that a shell or
/// another file system gives a meaning.
fn name_of(wall_ms: u64) -> String {
    let time = humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_millis(wall_ms));
    format!("imgate-{}.db", time.to_string().replace(':', ""))
}

fn is_name(name: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    (1..=BACKUP_NAME_BYTES_MAX).contains(&name.len())
        && name.bytes().all(is_plain)
        && !name.starts_with(['.', '-'])
        && !name.ends_with(".partial")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{NewUser, Options, open};

    /// A data directory with one user in it.
    fn data() -> tempfile::TempDir {
        let dir = tempfile::tempdir().expect("a folder");
        let mut opened = open("sqlite:", dir.path(), None, Options::default()).unwrap_or_else(|e| panic!("{e}"));
        let writer = opened.writers.first_mut().expect("a writer");
        let ann = NewUser { mobile: "1".to_owned(), nickname: "Ann".to_owned(), ..NewUser::default() };
        writer.people().create_user(&ann).expect("works").expect("a free number");
        dir
    }

    fn ended(backups: &Backups) -> BackupView {
        let mut newest = backups.inner.newest.lock();
        backups.inner.ended.wait_while(&mut newest, |newest| newest.state == BackupStage::Running);
        newest.clone()
    }

    #[test]
    fn a_backup_is_made_aside_and_can_be_opened() {
        let dir = data();
        let backups = Backups::new("sqlite:", dir.path());
        assert_eq!(backups.view(), BackupView::default());
        let begun = backups.begin(None).unwrap_or_else(|e| panic!("{e}"));
        let file = begun.file.clone().expect("a file");
        assert_eq!((begun.state, file.parent()), (BackupStage::Running, Some(dir.path().join("backups").as_path())));
        let done = ended(&backups);
        let bytes = fs::metadata(&file).expect("it is there").len();
        assert_eq!((done.state, done.bytes, done.why.as_deref()), (BackupStage::Done, Some(bytes), None));
        assert!(done.ended_ms >= done.began_ms && done.began_ms.is_some());

        let other = tempfile::tempdir().expect("a folder");
        fs::copy(&file, other.path().join("imgate.db")).expect("copied");
        let mut opened = open("sqlite:", other.path(), None, Options::default()).unwrap_or_else(|e| panic!("{e}"));
        let reader = opened.readers.first_mut().expect("a reader");
        assert!(reader.people().user_by_mobile("1").expect("works").is_some());
    }

    #[test]
    fn nothing_is_overwritten_and_what_a_kill_has_left_goes() {
        let dir = data();
        let backups = Backups::new("sqlite", dir.path());
        let folder = dir.path().join(FOLDER);
        fs::create_dir(&folder).expect("a folder");
        fs::write(folder.join("mine.db"), "mine").expect("a file");
        for left in ["old.db.partial", "old.db.partial-journal"] {
            fs::write(folder.join(left), "half").expect("a file");
        }
        fs::create_dir(folder.join("strange.partial")).expect("a folder that no backup has left");
        assert!(matches!(backups.begin(Some("mine.db")), Err(NotBegun::Exists(_))));
        assert!(!folder.join("old.db.partial").exists() && !folder.join("old.db.partial-journal").exists());
        backups.begin(Some("a_second-1.db")).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(ended(&backups).state, BackupStage::Done);
        assert_eq!(fs::read(folder.join("mine.db")).expect("it is there"), b"mine");
        for bad in ["", ".", "..", "../imgate.db", "a/b", "-x", ".x", "a\0", "x.partial", "ä", &"x".repeat(101)] {
            assert!(matches!(backups.begin(Some(bad)), Err(NotBegun::Name)), "{bad:?}");
        }
    }

    #[test]
    fn a_stop_ends_it_and_leaves_nothing() {
        let dir = data();
        let backups = Backups::new("sqlite:", dir.path());
        // The state in which the thread finds itself when the stop was told before it began.
        let target = backups.inner.prepare("x.db").unwrap_or_else(|e| panic!("{e}"));
        backups.stop();
        assert!(matches!(backups.begin(None), Err(NotBegun::Stopping)));
        backups.inner.make(&target);
        let failed = backups.view();
        assert_eq!((failed.state, failed.bytes), (BackupStage::Failed, None));
        assert_eq!(fs::read_dir(dir.path().join(FOLDER)).expect("a folder").count(), 0);
    }

    #[test]
    fn a_disk_without_room_ends_it_and_says_so() {
        let dir = data();
        let backups = Backups::new("sqlite:", dir.path());
        let target = backups.inner.prepare("x.db").unwrap_or_else(|e| panic!("{e}"));
        backups.inner.brake.short.store(true, Ordering::Relaxed);
        backups.inner.make(&target);
        assert!(backups.view().why.is_some_and(|why| why.contains("left on the disk")), "{:?}", backups.view());
        assert_eq!(fs::read_dir(dir.path().join(FOLDER)).expect("a folder").count(), 0);
        backups.begin(None).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(ended(&backups).state, BackupStage::Done, "another time there is room");
    }

    #[test]
    fn a_database_of_others_is_left_to_its_own_tools() {
        let dir = tempfile::tempdir().expect("a folder");
        let why = Backups::new("mysql://root:secret@db/im", dir.path()).begin(None).expect_err("not ours").to_string();
        assert!(why.contains("`mysql`") && !why.contains("secret"), "{why}");
        assert_eq!(fs::read_dir(dir.path()).expect("a folder").count(), 0, "not even the folder");
    }

    #[test]
    fn names_are_in_the_order_of_time() {
        assert_eq!(name_of(1_764_560_700_999), "imgate-2025-12-01T034500Z.db");
        assert!(is_name(&name_of(clock::wall_ms())));
    }
}
