//! Uploads: a file comes in, is looked at, and is kept once under an address that only this gateway
//! can make.
//!
//! Owns: the way of a file from a body ([`intake`]) over its format ([`kind`]) and, for pictures,
//! the crate `pictures`, for films, [`boxes`], to the place of files ([`taking`]), which is a
//! folder of [`blobs`] or a [`bucket`] ([`place`]); the places on blocking threads for all of it;
//! the removal of files that nothing refers to any more ([`cleaning`], [`removal`]).
//! Never: holds a file in memory, believes a name, keeps anything of a body that did not come
//! whole, or lets anybody see whether somebody else has uploaded the same.
//! Bounds: uploads as in [`upload_slots`], [`limits::FILE_JOBS_MAX`] reads and writes, one picture
//! at once ([`picture_worker`]), the disk as in [`disk_space`]; sizes as in [`kind::Kind`] and the
//! configuration.

pub(super) mod blobs;
mod boxes;
mod bucket;
pub(super) mod cleaning;
mod counters;
mod disk_space;
pub(super) mod intake;
pub(super) mod kind;
pub(super) mod naming;
mod picture_worker;
pub(super) mod place;
mod removal;
mod taking;
mod upload_slots;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::RwLock;

use super::blocking::BlockingJobs;
use super::delivery::Source;
use super::services::StoreFailure;
use crate::auth::Key;
use crate::clock::Clock;
use crate::limits;
use crate::log::outage::{Outage, OutageLine};
use crate::object_store::ObjectStore;
use blobs::{BlobDirectory, Name};
use boxes::BadBoxes;
use bucket::BlobBucket;
pub use counters::FileCounters;
use disk_space::{DiskSpace, NoSpace};
use intake::Cut;
use picture_worker::PictureWorker;
use pictures::PictureError;
use place::{FilePlace, NotHad};
use upload_slots::{NoUploadSlot, UploadSlots};

/// The way in and out of the blobs.
pub(super) struct Uploads {
    /// Where files are made, and kept if they lie in a folder.
    blobs: Arc<BlobDirectory>,
    /// Where they are kept.
    place: FilePlace,
    /// Makes the addresses.
    key: Key,
    bounds: RwLock<UploadBounds>,
    places: UploadSlots,
    room: DiskSpace,
    jobs: BlockingJobs,
    /// For work on a whole film.
    films: BlockingJobs,
    picture_worker: PictureWorker,
    clock: Clock,
    counters: Arc<FileCounters>,
    /// The disk fails.
    outage: Outage,
}

/// What users may upload.
#[derive(Clone, Copy, Debug)]
pub struct UploadBounds {
    /// Bytes of a file; 0 allows none.
    pub bytes_max: u64,
    /// Bytes of all files of one user; 0: without a bound.
    pub user_bytes_max: u64,
    /// Files of one user in a minute; 0: without a bound.
    pub per_minute: u32,
    /// Milliseconds for which a file is kept that nothing refers to; 0: for ever.
    pub grace_ms: u64,
    /// Milliseconds between two looks for such files.
    pub look_ms: u64,
}

/// Why a file is not kept.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotKept {
    /// The configuration allows no uploads.
    #[error("no uploads")]
    Off,
    /// The body has no bytes, or the form no file.
    #[error("no file")]
    Empty,
    /// Larger than this sort may be.
    #[error("too large")]
    TooLarge,
    /// The body ended early, was malformed, or came too slowly.
    #[error("cut off")]
    Cut,
    /// The client announced another content.
    #[error("another content than announced")]
    Other,
    /// More than a picture, without a login.
    #[cfg(feature = "legacy")]
    #[error("not logged in")]
    Guest,
    /// The picture cannot be read.
    #[error("broken picture")]
    BrokenPicture,
    /// The picture would take too much memory.
    #[error("too many pixels")]
    TooManyPixels,
    /// The film follows its camera's place.
    #[error("a track of places")]
    PlaceTrack,
    /// The film is made of more pieces than any camera writes.
    #[error("too many pieces")]
    BadBoxes,
    /// The disk is full, or nearly.
    #[error("no room")]
    NoSpace,
    /// Too many uploads at once.
    #[error("busy")]
    Busy,
    /// The user has uploaded too many files in a short time, or sends too many at once.
    #[error("too often")]
    TooOften,
    /// The files of the user would weigh too much together.
    #[error("over the user's quota")]
    OverQuota,
    /// The store's.
    #[error(transparent)]
    Store(#[from] StoreFailure),
    /// The disk is broken.
    #[error(transparent)]
    Disk(io::Error),
    /// The object store does not take it.
    #[error("the object store does not take it")]
    Unavailable,
}

impl NotKept {
    /// Its place in [`UPLOADS_REFUSED_LABELS`](crate::metrics::names::UPLOADS_REFUSED_LABELS).
    const fn label(&self) -> usize {
        match self {
            Self::Off => 0,
            Self::Empty => 1,
            Self::TooLarge => 2,
            Self::Cut => 3,
            Self::Other => 4,
            #[cfg(feature = "legacy")]
            Self::Guest => 5,
            Self::BrokenPicture => 6,
            Self::TooManyPixels => 7,
            Self::PlaceTrack => 8,
            Self::BadBoxes => 9,
            Self::NoSpace => 10,
            Self::Busy => 11,
            Self::TooOften => 12,
            Self::OverQuota => 13,
            Self::Store(_) => 14,
            Self::Disk(_) => 15,
            Self::Unavailable => 16,
        }
    }
}

impl From<Cut> for NotKept {
    fn from(Cut: Cut) -> Self {
        Self::Cut
    }
}

impl From<NoUploadSlot> for NotKept {
    fn from(why: NoUploadSlot) -> Self {
        match why {
            NoUploadSlot::Full => Self::Busy,
            NoUploadSlot::Enough => Self::TooOften,
        }
    }
}

impl From<NoSpace> for NotKept {
    fn from(NoSpace: NoSpace) -> Self {
        Self::NoSpace
    }
}

impl From<BadBoxes> for NotKept {
    fn from(why: BadBoxes) -> Self {
        match why {
            BadBoxes::PlaceTrack => Self::PlaceTrack,
            BadBoxes::TooMany => Self::BadBoxes,
            BadBoxes::Disk(error) => error.into(),
        }
    }
}

impl From<io::Error> for NotKept {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::NoSpace,
            _ => Self::Disk(error),
        }
    }
}

impl From<PictureError> for NotKept {
    fn from(why: PictureError) -> Self {
        match why {
            PictureError::Broken => Self::BrokenPicture,
            PictureError::TooManyPixels => Self::TooManyPixels,
            PictureError::Io(error) => error.into(),
        }
    }
}

impl Uploads {
    /// Files in the directory `root`, or in `store` and only their drafts there; under addresses
    /// that are made with `key`.
    ///
    /// # Errors
    /// The directory cannot be made.
    pub(super) fn open(
        (root, store): (PathBuf, Option<Arc<ObjectStore>>),
        key: Key,
        bounds: UploadBounds,
        jobs: BlockingJobs,
        counters: Arc<FileCounters>,
    ) -> io::Result<Self> {
        let blobs = Arc::new(BlobDirectory::open(root)?);
        let place = match store {
            Some(store) => {
                blobs.tell_if_passed_over();
                FilePlace::Bucket(Arc::new(BlobBucket::new(store)?))
            }
            None => FilePlace::Folder(Arc::clone(&blobs)),
        };
        Ok(Self {
            blobs,
            place,
            key,
            bounds: RwLock::new(bounds),
            places: UploadSlots::default(),
            room: DiskSpace::default(),
            jobs,
            films: BlockingJobs::new(limits::FILM_JOBS_MAX),
            picture_worker: PictureWorker::start(Arc::clone(&counters))?,
            clock: Clock::start(),
            counters,
            outage: Outage::default(),
        })
    }

    /// Says in the log that the disk fails, or works again, if that is worth a line.
    fn note(&self, disk: Option<&io::Error>) {
        let now_ms = self.clock.now().mono_ms;
        let line = disk.map_or_else(|| self.outage.worked(now_ms), |_| self.outage.failed(now_ms));
        match (line, disk) {
            (Some(OutageLine::Begins { untold: failures } | OutageLine::Lasts { failures, .. }), Some(error)) => {
                tracing::warn!(%error, failures, "files cannot be kept or read");
            }
            (Some(OutageLine::Ended { failures, seconds }), _) => {
                tracing::info!(failures, seconds, "files can be kept and read again");
            }
            _ => {}
        }
    }

    /// Bytes of a file at most; 0: none may be uploaded.
    pub(super) fn bytes_max(&self) -> u64 {
        self.bounds().bytes_max
    }

    /// What users may upload now.
    fn bounds(&self) -> UploadBounds {
        *self.bounds.read()
    }

    /// Other bounds from now on. What is being uploaded keeps those that it has begun with.
    pub(super) fn bound(&self, bounds: UploadBounds) {
        *self.bounds.write() = bounds;
    }

    /// The file of that name, and its size. `whole`: all of it is about to be read.
    ///
    /// # Errors
    /// It cannot be had.
    pub(super) async fn find(&self, name: Name, whole: bool) -> Result<Option<(Box<dyn Source>, u64)>, NotHad> {
        self.place.find(name, whole, &self.jobs).await.inspect_err(|why| {
            if let NotHad::Disk(error) = why {
                self.note(Some(error));
            }
        })
    }
}
