//! The removal of files from an object store, of which several gateways upload to and remove from.
//!
//! A folder hides a file while the database forgets it, by a rename that takes no time. An object
//! store has no rename, and a request to it may take seconds, which no transaction waits for. So
//! the file is removed after the database has forgotten it, and what must not happen is that the
//! same content is uploaded in between, and that upload removed.
//!
//! Owns: marks, small objects that say that a removal is under way: one is put before the database
//! forgets the file, and removed after the file is. Whoever uploads looks for marks when the
//! database has taken the claim, and waits until there are none. So either the claim came first,
//! and the database still knows the file when the removal looks; or the mark did, and the upload
//! waits (docs/decisions/0030).
//! Never: removes what the database knows, as it is read after the mark was put.
//! Bounds: [`limits::FILES_RETIRED_MAX`] files at once; [`limits::OBJECT_MARK_WAIT_MS_MAX`] of
//! waiting; marks that were left by a crash are found after [`limits::FILES_LEFT_MS`].

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::time::Duration;

use data_encoding::HEXLOWER;

use super::blobs::{Digest, Name};
use super::bucket::BlobBucket;
use super::cleaning::known;
use super::counters::FileCounters;
use crate::api::services::{Db, StoreFailure};
use crate::clock;
use crate::limits;
use crate::object_store::ObjectError;
use crate::store::{Backend, Error, FileId, Retired};

/// What the names of all marks begin with.
const MARKS: &str = "leaving/";
/// Digits of a mark's time and of its gateway.
const STAMP_DIGITS: usize = 32;

/// Why a step of the removal was not done. It is done again.
#[derive(Debug, thiserror::Error)]
enum NotRemoved {
    #[error("the database: {0}")]
    Store(#[from] StoreFailure),
    #[error("the object store: {0}")]
    Object(#[from] ObjectError),
    #[error("it took too long, and begins anew")]
    Stale,
}

/// That a removal is under way.
#[derive(Clone, PartialEq, Eq, Debug)]
struct RemovalMark {
    file: FileId,
    /// When it was put, by its gateway's clock.
    at_ms: u64,
    boot: u64,
}

impl RemovalMark {
    fn name(&self) -> String {
        format!("{}{:016x}{:016x}", Self::names(self.file), self.at_ms, self.boot)
    }

    /// What the names of all marks of a file begin with.
    fn names(file: FileId) -> String {
        format!("{MARKS}{}.", HEXLOWER.encode(&file.0))
    }

    /// Reads a name; `None`: somebody else has put it there.
    fn parse(name: &str) -> Option<Self> {
        let (digits, stamp) = name.strip_prefix(MARKS)?.split_once('.')?;
        let (at, boot) = stamp.split_at_checked(STAMP_DIGITS / 2)?;
        let number = |text: &str| u64::from_str_radix(text, 16).ok();
        let mark = Self { file: FileId(Digest::parse(digits)?.0), at_ms: number(at)?, boot: number(boot)? };
        (mark.name() == name).then_some(mark)
    }
}

/// A mark of this start, and until when it may be gone by.
struct OwnMark {
    mark: RemovalMark,
    good_until_ms: u64,
}

impl BlobBucket {
    /// Waits until no removal of that file is under way; to be asked when the database knows the
    /// claim.
    ///
    /// # Errors
    /// It takes too long ([`ObjectError::Busy`]), or the store's.
    pub(super) async fn await_unmarked(&self, file: FileId) -> Result<(), ObjectError> {
        let until_ms = self.clock.now().mono_ms + limits::OBJECT_MARK_WAIT_MS_MAX;
        while self.is_marked(file).await? {
            if self.clock.now().mono_ms >= until_ms {
                return Err(ObjectError::Busy);
            }
            tokio::time::sleep(Duration::from_millis(limits::OBJECT_MARK_POLL_MS)).await;
        }
        Ok(())
    }

    /// Asks the store something if its last request has failed: that an outage has ended is seen
    /// also where nobody asks for files.
    pub(super) async fn look_after_failure(&self) {
        if !self.store.counts().up() {
            // What comes of it is counted and logged there.
            let _ = self.store.list("check/", 1).await;
        }
    }

    /// Whether a removal of that file is under way.
    ///
    /// # Errors
    /// The store's.
    pub(super) async fn is_marked(&self, file: FileId) -> Result<bool, ObjectError> {
        Ok(!self.store.list(&RemovalMark::names(file), 1).await?.is_empty())
    }

    /// Finishes what was left of earlier removals, and, if `begins`, removes what nothing holds any
    /// more.
    pub(super) async fn clean(&self, db: &Db, counters: &FileCounters, begins: bool) {
        if let Err(why) = self.finish_left(db, counters).await {
            self.is_left.store(true, Ordering::Relaxed);
            tracing::debug!(%why, "removals of files are not finished");
            return;
        }
        if !begins {
            return;
        }
        loop {
            match self.step(db, counters).await {
                Ok(true) => {}
                Ok(false) => return,
                Err(why) => {
                    // The next look goes on with the marks.
                    self.is_left.store(true, Ordering::Relaxed);
                    tracing::debug!(%why, "a removal of files is not finished");
                    return;
                }
            }
        }
    }

    /// One step; whether there may be more to do.
    async fn step(&self, db: &Db, counters: &FileCounters) -> Result<bool, NotRemoved> {
        if self.store.is_away() {
            return Ok(false);
        }
        // What is due is asked first: nothing is forgotten that is not marked.
        let (looked, files) = db.write(due).await?;
        if files.is_empty() {
            return Ok(looked.seen == limits::FILES_RETIRED_MAX && looked.held > 0);
        }
        let mut marks = Vec::with_capacity(files.len());
        for file in files {
            marks.push(self.mark(file).await?);
        }
        let marked: BTreeSet<FileId> = marks.iter().map(|own| own.mark.file).collect();
        let forget = move |store: &mut dyn Backend| {
            let mut remove = |file| marked.contains(&file);
            store.files().retire(clock::wall_ms(), limits::FILES_RETIRED_MAX, &mut remove)
        };
        let forgotten = db.write(forget).await?;
        self.finish(db, marks, counters).await?;
        Ok(forgotten.removed > 0)
    }

    async fn mark(&self, file: FileId) -> Result<OwnMark, ObjectError> {
        // From before it is there, so that it is never older than it seems.
        let good_until_ms = self.clock.now().mono_ms + limits::OBJECT_MARK_GOOD_MS;
        let mark = RemovalMark { file, at_ms: clock::wall_ms(), boot: self.boot };
        self.store.put_bytes(&mark.name(), b"").await?;
        Ok(OwnMark { mark, good_until_ms })
    }

    /// Removes those of the marked files that the database does not know, and the marks.
    async fn finish(&self, db: &Db, marks: Vec<OwnMark>, counters: &FileCounters) -> Result<(), NotRemoved> {
        let files: Vec<FileId> = marks.iter().map(|own| own.mark.file).collect();
        let known = db.read(move |store| known(store, &files)).await?;
        for (OwnMark { mark, good_until_ms }, known) in marks.into_iter().zip(known) {
            if !known {
                let mut bytes = 0_u64;
                for object in self.store.list(&Name::path_of(mark.file), limits::OBJECT_LIST_MAX).await? {
                    if self.clock.now().mono_ms >= good_until_ms {
                        return Err(NotRemoved::Stale);
                    }
                    self.store.remove(&object.name).await?;
                    bytes = bytes.saturating_add(object.bytes);
                }
                counters.removed(1, bytes);
            }
            self.store.remove(&mark.name()).await?;
        }
        Ok(())
    }

    /// Finishes the removals that this gateway could not, and, now and then, those that a crash has
    /// left.
    async fn finish_left(&self, db: &Db, counters: &FileCounters) -> Result<(), NotRemoved> {
        let now_ms = self.clock.now().mono_ms;
        let is_due = now_ms >= self.next_look_ms.load(Ordering::Relaxed);
        if !is_due && !self.is_left.load(Ordering::Relaxed) {
            return Ok(());
        }
        let before_ms = clock::wall_ms().saturating_sub(limits::FILES_LEFT_MS);
        let mut after: Option<String> = None;
        for _ in 0..limits::OBJECT_LEFT_LISTS_MAX {
            let listed = self.store.list_after(MARKS, after.as_deref(), limits::OBJECT_LIST_MAX).await?;
            let marks = listed.iter().filter_map(|object| RemovalMark::parse(&object.name));
            for left in marks.filter(|mark| mark.boot == self.boot || mark.at_ms < before_ms) {
                // Under a mark of its own: the old one may be finished by somebody else just now.
                let own = self.mark(left.file).await?;
                self.finish(db, vec![own], counters).await?;
                self.store.remove(&left.name()).await?;
            }
            if listed.len() < limits::OBJECT_LIST_MAX {
                break;
            }
            after = listed.into_iter().next_back().map(|object| object.name);
        }
        self.is_left.store(false, Ordering::Relaxed);
        self.next_look_ms.store(now_ms + limits::OBJECT_LEFT_LOOK_MS, Ordering::Relaxed);
        Ok(())
    }
}

/// Looks at what is due, and forgets nothing: which files could go.
fn due(store: &mut dyn Backend) -> Result<(Retired, Vec<FileId>), Error> {
    let mut files = Vec::new();
    let mut remove = |file| {
        files.push(file);
        false
    };
    let looked = store.files().retire(clock::wall_ms(), limits::FILES_RETIRED_MAX, &mut remove)?;
    Ok((looked, files))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_read_as_it_was_written_and_nothing_else_is_one() {
        let mark = RemovalMark { file: FileId([0xab; 32]), at_ms: 1_795_211_605_947, boot: u64::MAX };
        let name = mark.name();
        assert!(name.starts_with(&RemovalMark::names(mark.file)), "{name}");
        assert_eq!(RemovalMark::parse(&name), Some(mark));
        for other in ["", "leaving/", "leaving/x.y", &name[1..], &name[..name.len() - 1], &format!("{name}0")] {
            assert_eq!(RemovalMark::parse(other), None, "{other}");
        }
        assert_eq!(RemovalMark::parse(&name.to_uppercase().replace("LEAVING", "leaving")), None);
    }
}
