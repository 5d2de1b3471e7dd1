//! Uploads: a file comes in, is looked at, and is kept once under an address that only this gateway can make.
//!
//! Owns: the way of a file from a body ([`intake`]) over its format ([`kind`]) and, for pictures, [`picture`], for films,
//! [`boxes`], to the [`stock`] ([`taking`]); the places on blocking threads for all of it; the removal of files that
//! nothing refers to any more ([`cleaning`]).
//! Never: holds a file in memory, believes a name, keeps anything of a body that did not come whole, or lets anybody see
//! whether somebody else has uploaded the same.
//! Bounds: uploads as in [`places`], [`limits::FILE_JOBS_MAX`] reads and writes, one picture at once ([`easel`]), the disk
//! as in [`room`]; sizes as in [`kind::Kind`] and the configuration.

mod attach;
mod boxes;
mod canvas;
pub(super) mod cleaning;
mod counters;
mod easel;
mod gif;
pub(super) mod intake;
mod jpeg;
pub(super) mod kind;
pub(super) mod multipart;
pub(super) mod naming;
mod picture;
mod places;
mod png;
mod room;
pub(super) mod serving;
pub(super) mod stock;
mod taking;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use axum::Router;
use axum::routing::any;
use tokio::sync::Semaphore;

use super::services::Trouble;
use super::{App, UploadBounds};
use crate::auth::Key;
use crate::clock::Clock;
use crate::limits;
use crate::log::outage::{Line, Outage};
use boxes::BadBoxes;
pub use counters::FileCounters;
use easel::Easel;
use intake::Cut;
use picture::BadPicture;
pub use picture::picture_size;
use places::{NoPlace, Places};
use room::{NoRoom, Room};
use stock::{Folder, Name, Object, Stock};

/// The routes. The originals look at no method, so every method is taken.
pub(super) fn routes() -> Router<App> {
    Router::new()
        .route("/attach/upload", any(attach::upload))
        .route("/files/{name}", any(serving::file))
        .route("/resource/{name}", any(serving::file))
        .route("/mnt/{name}", any(serving::file))
}

/// Whether a request may take [`limits::UPLOAD_MS_MAX`].
pub(super) fn is_upload(path: &str) -> bool {
    matches!(path, "/attach/upload" | "/api/v1/files")
}

/// The way in and out of the stock.
pub(super) struct Uploads {
    stock: Arc<dyn Stock>,
    /// Makes the addresses.
    key: Key,
    bounds: UploadBounds,
    places: Places,
    room: Room,
    desks: Desks,
    /// For work on a whole film.
    films: Desks,
    easel: Easel,
    clock: Clock,
    counters: Arc<FileCounters>,
    /// The disk fails.
    outage: Outage,
}

/// Places on blocking threads for reads and writes of files.
#[derive(Clone)]
pub(super) struct Desks(Arc<Semaphore>);

impl Desks {
    /// So many places.
    pub(super) fn new(places: usize) -> Self {
        Self(Arc::new(Semaphore::new(places)))
    }

    /// Runs `work` on a blocking thread, when there is a place.
    ///
    /// # Errors
    /// That of `work`; one of its own when it panicked.
    pub(super) async fn run<T, F>(&self, work: F) -> io::Result<T>
    where
        T: Send + 'static,
        F: FnOnce() -> io::Result<T> + Send + 'static,
    {
        // Never closed.
        let place = Arc::clone(&self.0).acquire_owned().await.map_err(io::Error::other)?;
        let work = move || {
            let done = work();
            drop(place);
            done
        };
        tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
    }
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
    /// More than a picture, from somebody who is not logged in.
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
    NoRoom,
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
    Trouble(#[from] Trouble),
    /// The disk is broken.
    #[error(transparent)]
    Disk(io::Error),
}

impl From<Cut> for NotKept {
    fn from(Cut: Cut) -> Self {
        Self::Cut
    }
}

impl From<NoPlace> for NotKept {
    fn from(why: NoPlace) -> Self {
        match why {
            NoPlace::Full => Self::Busy,
            NoPlace::Enough => Self::TooOften,
        }
    }
}

impl From<NoRoom> for NotKept {
    fn from(NoRoom: NoRoom) -> Self {
        Self::NoRoom
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
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::NoRoom,
            _ => Self::Disk(error),
        }
    }
}

impl From<BadPicture> for NotKept {
    fn from(why: BadPicture) -> Self {
        match why {
            BadPicture::Broken => Self::BrokenPicture,
            BadPicture::TooManyPixels => Self::TooManyPixels,
            BadPicture::Disk(error) => error.into(),
        }
    }
}

impl Uploads {
    /// Files in the directory `root`, under addresses that are made with `key`.
    ///
    /// # Errors
    /// The directory cannot be made.
    pub(super) fn open(
        root: PathBuf,
        key: Key,
        bounds: UploadBounds,
        desks: Desks,
        counters: Arc<FileCounters>,
    ) -> io::Result<Self> {
        Ok(Self {
            stock: Arc::new(Folder::open(root)?),
            key,
            bounds,
            places: Places::default(),
            room: Room::default(),
            desks,
            films: Desks::new(limits::FILM_JOBS_MAX),
            easel: Easel::start(Arc::clone(&counters))?,
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
            (Some(Line::Begins { untold: failures } | Line::Lasts { failures, .. }), Some(error)) => {
                tracing::warn!(%error, failures, "files cannot be kept or read");
            }
            (Some(Line::Ended { failures, seconds }), _) => {
                tracing::info!(failures, seconds, "files can be kept and read again");
            }
            _ => {}
        }
    }

    /// Bytes of a file at most; 0: none may be uploaded.
    pub(super) const fn bytes_max(&self) -> u64 {
        self.bounds.bytes_max
    }

    /// The file of that name, and its size.
    async fn find(&self, name: Name) -> io::Result<Option<(Box<dyn Object>, u64)>> {
        let stock = Arc::clone(&self.stock);
        self.desks.run(move || stock.open(&name)).await.inspect_err(|error| self.note(Some(error)))
    }
}
