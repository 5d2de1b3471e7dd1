//! The removal of files that nothing holds any more.
//!
//! Owns: the pass, and the way of a file out: out of sight while the store forgets it, then gone.
//! Never: removes a file that a message, an avatar or an icon refers to, or a fresh claim holds:
//! the store says so in the transaction that forgets it, which locks out every new reference.
//! Should that transaction fail, the file is back. What stays hidden, because the process ended or
//! the outcome is unknown, comes back or goes as the store says when it has been so for
//! [`limits::FILES_LEFT_MS`]. Of files in an object store: [`super::removal`].
//! Bounds: [`limits::FILES_RETIRED_MAX`] files a transaction, one transaction at once; other writes
//! come in between.

use std::io;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::runtime::Handle;

use super::blobs::BlobDirectory;
use super::place::FilePlace;
use super::{FileCounters, Uploads};
use crate::api::blocking::BlockingJobs;
use crate::api::services::{Db, StoreFailure};
use crate::clock;
use crate::limits;
use crate::store::{Backend, Error, FileId, Retired};

/// Looks every `look_ms` for files that nothing holds any more, until `uploads` are no more.
pub(in crate::api) async fn clean(uploads: Weak<Uploads>, db: Db, look_ms: u64) {
    loop {
        tokio::time::sleep(Duration::from_millis(look_ms)).await;
        let Some(uploads) = uploads.upgrade() else { return };
        if let FilePlace::Bucket(bucket) = &uploads.place {
            bucket.look_after_failure().await;
        }
        let removes = uploads.bounds().grace_ms > 0;
        if let Err(error) = uploads.tidy(&db).await {
            tracing::warn!(%error, "what a crash has left of files cannot be tidied");
        }
        if let FilePlace::Bucket(bucket) = &uploads.place {
            // A mark that was left holds up uploads, whether files are removed or not.
            bucket.clean(&db, &uploads.counters, removes).await;
            continue;
        }
        if !removes {
            continue;
        }
        // What fails is tried again at the next look.
        while let Ok(retired) = uploads.retire(&db).await {
            let none_moved = retired.removed == 0 && retired.held == 0;
            if retired.seen < limits::FILES_RETIRED_MAX || none_moved {
                break;
            }
        }
    }
}

impl Uploads {
    /// Removes drafts that were left, and puts back or removes what was left hidden.
    async fn tidy(&self, db: &Db) -> io::Result<()> {
        let blobs = Arc::clone(&self.blobs);
        let left = self.jobs.run(move || blobs.tidy().and_then(|()| blobs.left_hidden())).await?;
        for some in left.chunks(limits::FILES_RETIRED_MAX as usize) {
            let (files, asked) = (some.to_vec(), some.to_vec());
            // At the next look, then.
            let Ok(known) = db.read(move |store| known(store, &asked)).await else { return Ok(()) };
            let blobs = Arc::clone(&self.blobs);
            let (back, gone): (Vec<_>, Vec<_>) = std::iter::zip(files, known).partition(|(_, known)| *known);
            let back: Vec<FileId> = back.into_iter().map(|(file, _)| file).collect();
            let put_back = back.clone();
            let settle = move || {
                let restored = put_back.into_iter().map(|file| blobs.restore(file));
                let discarded = gone.into_iter().map(|(file, _)| blobs.discard(file));
                // One that the disk refuses keeps no other from its end.
                restored.chain(discarded).fold(Ok(()), Result::and)
            };
            let settled = self.jobs.run(settle).await;
            self.hide_forgotten(db, back).await?;
            settled?;
        }
        Ok(())
    }

    /// Hides again what another gateway has let the store forget while it was put back.
    async fn hide_forgotten(&self, db: &Db, back: Vec<FileId>) -> io::Result<()> {
        let asked = back.clone();
        let Ok(known) = db.read(move |store| known(store, &asked)).await else { return Ok(()) };
        let forgotten: Vec<_> = std::iter::zip(back, known).filter(|(_, known)| !known).map(|(file, _)| file).collect();
        let blobs = Arc::clone(&self.blobs);
        // The disk's trouble is told by `hide`, and what is hidden is looked at again in an hour.
        let hide = move || {
            for file in forgotten {
                blobs.hide(file);
            }
            Ok(())
        };
        self.jobs.run(hide).await
    }

    /// One step.
    async fn retire(&self, db: &Db) -> Result<Retired, StoreFailure> {
        let way_out = WayOut {
            blobs: Arc::clone(&self.blobs),
            jobs: self.jobs.clone(),
            counters: Arc::clone(&self.counters),
            runtime: Handle::current(),
        };
        db.write(move |store| way_out.retire(store)).await
    }
}

/// What a step needs on the thread of the store.
struct WayOut {
    blobs: Arc<BlobDirectory>,
    jobs: BlockingJobs,
    counters: Arc<FileCounters>,
    runtime: Handle,
}

impl WayOut {
    fn retire(self, store: &mut dyn Backend) -> Result<Retired, Error> {
        let (mut hidden, mut bytes): (Vec<FileId>, u64) = (Vec::new(), 0);
        let mut remove = |file| match self.blobs.hide(file) {
            Some(weighs) => {
                hidden.push(file);
                bytes += weighs;
                true
            }
            None => false,
        };
        let retired = store.files().retire(clock::wall_ms(), limits::FILES_RETIRED_MAX, &mut remove);
        match retired {
            Ok(retired) => {
                self.counters.removed(retired.removed, bytes);
                let blobs = self.blobs;
                let discard = move || hidden.into_iter().try_for_each(|file| blobs.discard(file));
                // Not on this thread, which writes messages: the disk takes its time for a large
                // file.
                self.runtime.spawn(async move {
                    if let Err(error) = self.jobs.run(discard).await {
                        tracing::warn!(%error, "a file that nothing refers to could not be removed");
                    }
                });
                Ok(retired)
            }
            Err(why) => {
                undo(&self.blobs, hidden, &why);
                Err(why)
            }
        }
    }
}

/// Puts back what was hidden for a transaction that failed. Whether one of unknown outcome has
/// forgotten the files cannot be told yet: it may be under way still.
fn undo(blobs: &BlobDirectory, hidden: Vec<FileId>, why: &Error) {
    if matches!(why, Error::Unknown(_)) {
        return;
    }
    for file in hidden {
        if let Err(error) = blobs.restore(file) {
            tracing::warn!(%error, "a file that was about to be removed is back after an hour only");
        }
    }
}

/// Which of `files` the database knows.
pub(super) fn known(store: &mut dyn Backend, files: &[FileId]) -> Result<Vec<bool>, Error> {
    files.iter().map(|file| store.files().is_known(*file)).collect()
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;
    use crate::api::uploads::blobs::Name;
    use crate::api::uploads::kind::Kind;

    #[test]
    fn what_an_unknown_outcome_has_hidden_waits_for_what_the_store_says() {
        let dir = tempfile::tempdir().expect("a directory");
        let folder = BlobDirectory::open(dir.path().to_owned()).expect("a folder");
        let name = Name::new(FileId([1; 32]), Kind::Other);
        let mut draft = folder.draft().expect("a draft");
        draft.write_all(b"abc").expect("room");
        folder.keep(draft, &name).expect("room");
        for (why, is_back) in [(Error::Unavailable(String::new()), true), (Error::Unknown(String::new()), false)] {
            assert_eq!(folder.hide(name.file()), Some(3));
            undo(&folder, vec![name.file()], &why);
            assert_eq!(folder.find(&name).expect("a disk").is_some(), is_back, "{why}");
        }
    }
}
