//! Uploads: a file comes in, is looked at, and is kept once under the name of its content.
//!
//! Owns: the way of a file from a body ([`intake`]) over its format ([`kind`]) and, for pictures, [`picture`], to the
//! [`stock`]; the places on blocking threads for all of it.
//! Never: holds a file in memory, believes a name, or keeps anything of a body that did not come whole.
//! Bounds: [`limits::UPLOADS_MAX`] uploads, [`limits::FILE_JOBS_MAX`] reads and writes, [`limits::IMAGE_JOBS_MAX`]
//! pictures at once; sizes as in [`kind::Kind`] and the configuration.

mod attach;
mod gif;
pub(super) mod intake;
pub(super) mod kind;
mod multipart;
mod picture;
pub(super) mod serving;
pub(super) mod stock;

use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::Request;
use axum::routing::any;
use tokio::sync::Semaphore;

use super::App;
use crate::limits;
use intake::{Cut, Intake};
use kind::{HEAD_BYTES, Kind, Sort};
use picture::BadPicture;
use stock::{Digest, Draft, Folder, Kept, Name, Object, Stock};

/// The routes. The originals look at no method, so every method is taken.
pub(super) fn routes() -> Router<App> {
    Router::new()
        .route("/attach/upload", any(attach::upload))
        .route("/files/{name}", any(serving::file))
        .route("/resource/{name}", any(serving::file))
        .route("/mnt/{name}", any(serving::file))
}

/// Whether a request may take [`limits::UPLOAD_MS_MAX`].
pub(super) fn is_upload<B>(request: &Request<B>) -> bool {
    matches!(request.uri().path(), "/attach/upload" | "/api/v1/files")
}

/// The way in and out of the stock.
pub(super) struct Uploads {
    stock: Arc<dyn Stock>,
    /// 0: nobody may upload anything.
    bytes_max: u64,
    seats: Semaphore,
    desks: Desks,
    easels: Semaphore,
}

/// Who uploads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Uploader {
    /// Somebody who is logged in.
    User,
    /// Somebody at the registration, who may bring an avatar: a picture, of less than a user's.
    Guest,
}

impl Uploader {
    fn may_upload(self, kind: Kind) -> bool {
        self == Self::User || kind.sort() == Sort::Image
    }
}

/// Places on blocking threads for reads and writes of files.
#[derive(Clone)]
pub(super) struct Desks(Arc<Semaphore>);

impl Desks {
    /// [`limits::FILE_JOBS_MAX`] places.
    pub(super) fn new() -> Self {
        Self(Arc::new(Semaphore::new(limits::FILE_JOBS_MAX)))
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
    /// The disk is full, or nearly.
    #[error("no room")]
    NoRoom,
    /// Too many uploads at once.
    #[error("busy")]
    Busy,
    /// The disk is broken.
    #[error(transparent)]
    Disk(io::Error),
}

impl From<Cut> for NotKept {
    fn from(Cut: Cut) -> Self {
        Self::Cut
    }
}

impl From<io::Error> for NotKept {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::NoRoom,
            _ => {
                tracing::warn!(%error, "a file could not be kept or read");
                Self::Disk(error)
            }
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
    /// Files in the directory `root`, of at most `bytes_max` each.
    ///
    /// # Errors
    /// The directory cannot be made.
    pub(super) fn open(root: PathBuf, bytes_max: u64, desks: Desks) -> io::Result<Self> {
        Ok(Self {
            stock: Arc::new(Folder::open(root)?),
            bytes_max,
            seats: Semaphore::new(limits::UPLOADS_MAX),
            desks,
            easels: Semaphore::new(limits::IMAGE_JOBS_MAX),
        })
    }

    /// Bytes of a file at most; 0: none may be uploaded.
    pub(super) const fn bytes_max(&self) -> u64 {
        self.bytes_max
    }

    /// Bytes of a file of `who` at most; 0: none may be uploaded.
    fn bytes_max_of(&self, who: Uploader) -> u64 {
        match who {
            Uploader::User => self.bytes_max,
            Uploader::Guest => self.bytes_max.min(limits::GUEST_PICTURE_BYTES_MAX),
        }
    }

    /// What became of an upload with that digest, if its files are there.
    ///
    /// # Errors
    /// The disk's.
    pub(super) async fn known(&self, digest: Digest) -> Result<Option<Kept>, NotKept> {
        let stock = Arc::clone(&self.stock);
        Ok(self.desks.run(move || stock.known(digest)).await?)
    }

    /// The file of that name, and its size.
    async fn find(&self, name: Name) -> io::Result<Option<(Box<dyn Object>, u64)>> {
        let stock = Arc::clone(&self.stock);
        self.desks.run(move || stock.open(&name)).await
    }

    /// Takes the file that comes in from a user. `announced`: the digest that the client says it has.
    ///
    /// # Errors
    /// See [`NotKept`]; nothing is left of it then.
    pub(super) async fn take(&self, intake: &mut Intake, announced: Option<Digest>) -> Result<Kept, NotKept> {
        self.take_from(intake, Uploader::User, announced).await
    }

    /// [`Self::take`], from `who`.
    async fn take_from(&self, intake: &mut Intake, who: Uploader, announced: Option<Digest>) -> Result<Kept, NotKept> {
        if self.bytes_max == 0 {
            return Err(NotKept::Off);
        }
        let declared = intake.declared().unwrap_or(0);
        if declared > self.bytes_max_of(who) {
            return Err(NotKept::TooLarge);
        }
        let _seat = self.seats.try_acquire().map_err(|_| NotKept::Busy)?;
        let stock = Arc::clone(&self.stock);
        let (room, draft) = self.desks.run(move || Ok((stock.room()?, stock.draft()?))).await?;
        let left = room.checked_sub(limits::UPLOAD_SPARE_BYTES).ok_or(NotKept::NoRoom)?;
        if declared > left {
            return Err(NotKept::NoRoom);
        }
        let (draft, kind) = self.write(draft, intake, who, left).await?;
        let digest = draft.digest();
        if announced.is_some_and(|announced| announced != digest) {
            return Err(NotKept::Other);
        }
        if let Some(kept) = self.known(digest).await? {
            return Ok(kept);
        }
        let stock = Arc::clone(&self.stock);
        if kind.sort() == Sort::Image {
            return self.paint(move || finish_picture(stock.as_ref(), &draft, kind)).await;
        }
        Ok(self.desks.run(move || finish(stock.as_ref(), draft, kind)).await?)
    }

    /// Writes what comes from `who` to `draft`, at most `left` bytes. Answers with its format.
    async fn write(
        &self,
        mut draft: Draft,
        intake: &mut Intake,
        who: Uploader,
        left: u64,
    ) -> Result<(Draft, Kind), NotKept> {
        let mut held = Vec::with_capacity(limits::FILE_CHUNK_BYTES);
        let (mut kind, mut bytes_max) = (None, self.bytes_max_of(who));
        while let Some(bytes) = intake.chunk().await? {
            held.extend_from_slice(&bytes);
            if kind.is_none() && held.len() >= HEAD_BYTES {
                let known = Kind::of(&held[..HEAD_BYTES]);
                if !who.may_upload(known) {
                    return Err(NotKept::Guest);
                }
                (kind, bytes_max) = (Some(known), bytes_max.min(known.bytes_max()));
            }
            let total = draft.len() + held.len() as u64;
            if total > bytes_max {
                return Err(NotKept::TooLarge);
            }
            if total > left {
                return Err(NotKept::NoRoom);
            }
            if held.len() >= limits::FILE_CHUNK_BYTES {
                (draft, held) = self.put(draft, held).await?;
            }
        }
        let kind = kind.unwrap_or_else(|| Kind::of(&held));
        let (draft, _) = self.put(draft, held).await?;
        match draft.len() {
            0 => Err(NotKept::Empty),
            _ if !who.may_upload(kind) => Err(NotKept::Guest),
            _ => Ok((draft, kind)),
        }
    }

    /// Writes `held` to `draft`, and gives both back, `held` empty.
    async fn put(&self, mut draft: Draft, mut held: Vec<u8>) -> io::Result<(Draft, Vec<u8>)> {
        let work = move || {
            draft.write_all(&held)?;
            held.clear();
            Ok((draft, held))
        };
        self.desks.run(work).await
    }

    /// Runs the making of a picture at the easel, in turn. A decoder that panics has met a broken picture.
    async fn paint<F>(&self, work: F) -> Result<Kept, NotKept>
    where
        F: FnOnce() -> Result<Kept, BadPicture> + Send + 'static,
    {
        let wait = Duration::from_millis(limits::IMAGE_WAIT_MS_MAX);
        let Ok(Ok(easel)) = tokio::time::timeout(wait, self.easels.acquire()).await else { return Err(NotKept::Busy) };
        let painted = tokio::task::spawn_blocking(work).await;
        drop(easel);
        Ok(painted.map_err(|_| NotKept::BrokenPicture)??)
    }
}

/// Keeps a file as it is.
fn finish(stock: &dyn Stock, draft: Draft, kind: Kind) -> io::Result<Kept> {
    let (digest, size) = (draft.digest(), draft.len());
    let name = Name::new(digest, kind);
    stock.keep(draft, &name)?;
    let mime = kind.mime().to_owned();
    let kept = Kept { name: name.to_string(), thumb: None, size, mime, width: None, height: None };
    stock.note(digest, &kept)?;
    Ok(kept)
}

/// Makes a picture anew and keeps that, with a small one.
fn finish_picture(stock: &dyn Stock, raw: &Draft, kind: Kind) -> Result<Kept, BadPicture> {
    let (mut out, mut small) = (stock.draft()?, stock.draft()?);
    let made = picture::remake(raw, kind, &mut out, &mut small)?;
    let (digest, size) = (out.digest(), out.len());
    let name = Name::new(digest, made.kind);
    stock.keep(out, &name)?;
    let thumb = match made.small {
        None => None,
        Some(kind) => {
            let name = Name::new(small.digest(), kind);
            stock.keep(small, &name)?;
            Some(name.to_string())
        }
    };
    let mime = made.kind.mime().to_owned();
    let (width, height) = (Some(made.size.width), Some(made.size.height));
    let kept = Kept { name: name.to_string(), thumb, size, mime, width, height };
    // Also under what it has become, so that who passes a picture on does not have it made anew once more.
    stock.note(digest, &kept)?;
    stock.note(raw.digest(), &kept)?;
    Ok(kept)
}
