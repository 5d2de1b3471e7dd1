//! Where kept files lie: in a folder of this machine, or in an object store.
//!
//! Owns: the choice, and what is the same for both: to keep, to find, to have.
//! Never: makes one of them pay for the other: a folder is read and written on blocking threads, an
//! object store by tasks that wait.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::NotKept;
use super::blobs::{BlobDirectory, Draft, Name};
use super::bucket::BlobBucket;
use crate::api::blocking::BlockingJobs;
use crate::api::delivery::{FileSource, Source};
use crate::limits;
use crate::object_store::ObjectError;

/// See the module.
#[derive(Clone)]
pub(super) enum FilePlace {
    Folder(Arc<BlobDirectory>),
    Bucket(Arc<BlobBucket>),
}

/// Why a file cannot be had although it may be there.
#[derive(Debug, thiserror::Error)]
pub(in crate::api) enum NotHad {
    /// The disk is broken.
    #[error(transparent)]
    Disk(#[from] io::Error),
    /// The object store does not give it.
    #[error(transparent)]
    Object(#[from] ObjectError),
}

impl From<ObjectError> for NotKept {
    fn from(why: ObjectError) -> Self {
        match why {
            ObjectError::Busy => Self::Busy,
            ObjectError::Disk(error) => error.into(),
            _ => Self::Unavailable,
        }
    }
}

impl From<NotHad> for NotKept {
    fn from(why: NotHad) -> Self {
        match why {
            NotHad::Disk(error) => error.into(),
            NotHad::Object(why) => why.into(),
        }
    }
}

impl FilePlace {
    /// Whether it is worth to begin: an upload that cannot be kept is refused before its first
    /// byte.
    ///
    /// # Errors
    /// [`NotKept::Unavailable`], while the store is away and this look finds it so.
    pub(super) async fn ready(&self) -> Result<(), NotKept> {
        match self {
            Self::Bucket(bucket) if bucket.store.is_away() => Ok(bucket.store.list("check/", 1).await.map(drop)?),
            _ => Ok(()),
        }
    }

    /// Keeps the files, durably.
    ///
    /// # Errors
    /// The first that cannot be kept.
    pub(super) async fn keep(&self, files: Vec<(Draft, Name)>, jobs: &BlockingJobs) -> Result<(), NotKept> {
        match self {
            Self::Folder(blobs) => {
                let blobs = Arc::clone(blobs);
                let keep = move || files.into_iter().try_for_each(|(draft, name)| blobs.keep(draft, &name));
                Ok(jobs.run(keep).await?)
            }
            Self::Bucket(bucket) => {
                for (draft, name) in files {
                    bucket.keep(draft, &name, jobs).await?;
                }
                Ok(())
            }
        }
    }

    /// Whether all of them are there.
    ///
    /// # Errors
    /// It cannot be found out.
    pub(super) async fn have(&self, names: Vec<Name>, jobs: &BlockingJobs) -> Result<bool, NotHad> {
        match self {
            Self::Folder(blobs) => {
                let blobs = Arc::clone(blobs);
                let all_here = move || {
                    let mut here = names.iter().map(|name| Ok(blobs.find(name)?.is_some()));
                    here.try_fold(true, |all, one: io::Result<bool>| Ok(all && one?))
                };
                Ok(jobs.run(all_here).await?)
            }
            Self::Bucket(bucket) => {
                let all_here = async {
                    for name in &names {
                        if !bucket.has(name).await? {
                            return Ok(false);
                        }
                    }
                    Ok(true)
                };
                let patience = Duration::from_millis(limits::OBJECT_READ_MS_MAX);
                tokio::time::timeout(patience, all_here).await.unwrap_or(Err(NotHad::Object(ObjectError::Late)))
            }
        }
    }

    /// The file of that name, and its size. `whole`: all of it is about to be read.
    ///
    /// # Errors
    /// It cannot be had.
    pub(super) async fn find(
        &self,
        name: Name,
        whole: bool,
        jobs: &BlockingJobs,
    ) -> Result<Option<(Box<dyn Source>, u64)>, NotHad> {
        match self {
            Self::Folder(blobs) => {
                let blobs = Arc::clone(blobs);
                let found = jobs.run(move || blobs.find(&name)).await?;
                let source = |object| Box::new(FileSource { object, jobs: jobs.clone() }) as Box<dyn Source>;
                Ok(found.map(|(object, len)| (source(object), len)))
            }
            Self::Bucket(bucket) => Ok(bucket.open(&name, whole).await?),
        }
    }
}
