//! Uploads: a file comes in, is looked at, and is kept once under the name of its content.
//!
//! Owns: the way of a file from a body ([`intake`]) over its format ([`kind`]) and, for pictures, [`picture`], to the
//! [`stock`]; the places on blocking threads for all of it.
//! Never: holds a file in memory, believes a name, or keeps anything of a body that did not come whole.
//! Bounds: uploads as in [`seats`], [`limits::FILE_JOBS_MAX`] reads and writes, one picture at once ([`easel`]); sizes as in [`kind::Kind`] and the configuration.

mod attach;
mod canvas;
mod easel;
mod gif;
pub(super) mod intake;
mod jpeg;
pub(super) mod kind;
mod multipart;
mod picture;
mod png;
mod seats;
pub(super) mod serving;
pub(super) mod stock;

use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;

use axum::Router;
use axum::routing::any;
use tokio::sync::Semaphore;

use super::services::{Services, Trouble};
use super::{App, UploadBounds};
use crate::ids::UserId;
use crate::limits;
use easel::Easel;
use intake::{Cut, Intake};
use kind::{HEAD_BYTES, Kind, Sort};
use picture::{BadPicture, Made};
use seats::{NoSeat, Seat, Seats};
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
pub(super) fn is_upload(path: &str) -> bool {
    matches!(path, "/attach/upload" | "/api/v1/files")
}

/// The way in and out of the stock.
pub(super) struct Uploads {
    stock: Arc<dyn Stock>,
    bounds: UploadBounds,
    seats: Seats,
    desks: Desks,
    easel: Easel,
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

impl From<NoSeat> for NotKept {
    fn from(why: NoSeat) -> Self {
        match why {
            NoSeat::Full => Self::Busy,
            NoSeat::Enough => Self::TooOften,
        }
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
    /// Files in the directory `root`.
    ///
    /// # Errors
    /// The directory cannot be made.
    pub(super) fn open(root: PathBuf, bounds: UploadBounds, desks: Desks) -> io::Result<Self> {
        Ok(Self {
            stock: Arc::new(Folder::open(root)?),
            bounds,
            seats: Seats::default(),
            desks,
            easel: Easel::start()?,
        })
    }

    /// Bytes of a file at most; 0: none may be uploaded.
    pub(super) const fn bytes_max(&self) -> u64 {
        self.bounds.bytes_max
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

    /// Takes the file that `user` sends. `announced`: the digest that the client says it has.
    ///
    /// # Errors
    /// See [`NotKept`]; nothing is left of it then.
    pub(super) async fn take(
        &self,
        services: &Services,
        user: UserId,
        intake: &mut Intake,
        announced: Option<Digest>,
    ) -> Result<Kept, NotKept> {
        let _seat = self.begin(intake, Some(user), self.bounds.bytes_max)?;
        if !services.attempts.upload(user, self.bounds.per_minute) {
            return Err(NotKept::TooOften);
        }
        let most = self.bounds.user_bytes_max;
        if most > 0 && services.db.read(move |store| store.social().uploaded(user)).await? >= most {
            return Err(NotKept::OverQuota);
        }
        let (draft, kind) = self.receive(intake, self.bounds.bytes_max).await?;
        let digest = draft.digest();
        if announced.is_some_and(|announced| announced != digest) {
            return Err(NotKept::Other);
        }
        if let Some(kept) = self.known(digest).await? {
            return Ok(kept);
        }
        let stock = Arc::clone(&self.stock);
        if kind.sort() != Sort::Image {
            let bytes = draft.len();
            let keep = self.desks.run(move || finish(stock.as_ref(), draft, kind));
            return charged(services, user, bytes, most, keep).await;
        }
        let painted = self.easel.paint(move || Painted::of(stock.as_ref(), draft, kind)).await?;
        let (stock, bytes) = (Arc::clone(&self.stock), painted.bytes());
        let keep = self.desks.run(move || painted.keep(stock.as_ref()));
        charged(services, user, bytes, most, keep).await
    }

    /// Takes the picture of somebody who is about to register: only a small one is kept, and nobody pays for it.
    ///
    /// # Errors
    /// See [`NotKept`]; nothing is left of it then.
    async fn take_portrait(&self, intake: &mut Intake) -> Result<Kept, NotKept> {
        let bytes_max = self.bounds.bytes_max.min(limits::PORTRAIT_BYTES_MAX);
        let _seat = self.begin(intake, None, bytes_max)?;
        let (draft, kind) = self.receive(intake, bytes_max).await?;
        if kind.sort() != Sort::Image {
            return Err(NotKept::Guest);
        }
        let stock = Arc::clone(&self.stock);
        let painted = self.easel.paint(move || Painted::small_of(stock.as_ref(), &draft, kind)).await?;
        let stock = Arc::clone(&self.stock);
        Ok(self.desks.run(move || painted.keep(stock.as_ref())).await?)
    }

    /// What can be said before the first byte has come; a place among those who upload.
    fn begin(&self, intake: &Intake, who: Option<UserId>, bytes_max: u64) -> Result<Seat<'_>, NotKept> {
        if self.bounds.bytes_max == 0 {
            return Err(NotKept::Off);
        }
        if intake.declared().unwrap_or(0) > bytes_max {
            return Err(NotKept::TooLarge);
        }
        Ok(self.seats.take(who)?)
    }

    /// Writes the body to a draft. Answers with its format.
    async fn receive(&self, intake: &mut Intake, bytes_max: u64) -> Result<(Draft, Kind), NotKept> {
        let stock = Arc::clone(&self.stock);
        let (room, draft) = self.desks.run(move || Ok((stock.room()?, stock.draft()?))).await?;
        let left = room.checked_sub(limits::UPLOAD_SPARE_BYTES).ok_or(NotKept::NoRoom)?;
        if intake.declared().unwrap_or(0) > left {
            return Err(NotKept::NoRoom);
        }
        self.write(draft, intake, bytes_max, left).await
    }

    /// Writes what comes to `draft`, at most `bytes_max` and `left` bytes. Answers with its format.
    async fn write(
        &self,
        mut draft: Draft,
        intake: &mut Intake,
        mut bytes_max: u64,
        left: u64,
    ) -> Result<(Draft, Kind), NotKept> {
        let mut held = Vec::with_capacity(limits::FILE_CHUNK_BYTES);
        let mut kind = None;
        while let Some(bytes) = intake.chunk().await? {
            held.extend_from_slice(&bytes);
            if kind.is_none() && held.len() >= HEAD_BYTES {
                let known = Kind::of(&held[..HEAD_BYTES]);
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

/// Runs `keep` for a file of `bytes` that `user` was the first to bring, and that weighs with her others no more than
/// `most` (0: as much as it likes).
async fn charged<F>(services: &Services, user: UserId, bytes: u64, most: u64, keep: F) -> Result<Kept, NotKept>
where
    F: Future<Output = io::Result<Kept>>,
{
    // Without a bound, too: there may be one tomorrow.
    let most = if most == 0 { limits::UPLOAD_USER_BYTES_MAX } else { most };
    if !services.db.write(move |store| store.social().charge(user, bytes, most)).await? {
        return Err(NotKept::OverQuota);
    }
    let kept = keep.await;
    if kept.is_err() {
        // Should this fail, too, she has paid for nothing, but the disk is not hers.
        let _ = services.db.write(move |store| store.social().refund(user, bytes)).await;
    }
    Ok(kept?)
}

/// A picture that was made anew and is not kept yet.
struct Painted {
    /// What came, if what is kept is all of it.
    raw: Option<Draft>,
    out: Draft,
    small: Draft,
    made: Made,
}

impl Painted {
    fn of(stock: &dyn Stock, raw: Draft, kind: Kind) -> Result<Self, BadPicture> {
        let (mut out, mut small) = (stock.draft()?, stock.draft()?);
        let made = picture::remake(&raw, kind, &mut out, &mut small)?;
        Ok(Self { raw: Some(raw), out, small, made })
    }

    /// The small one alone.
    fn small_of(stock: &dyn Stock, raw: &Draft, kind: Kind) -> Result<Self, BadPicture> {
        let (mut out, small) = (stock.draft()?, stock.draft()?);
        let made = picture::remake_small(raw, kind, &mut out)?;
        Ok(Self { raw: None, out, small, made })
    }

    /// What it will take of the disk.
    const fn bytes(&self) -> u64 {
        self.out.len() + self.small.len()
    }

    fn keep(self, stock: &dyn Stock) -> io::Result<Kept> {
        let Self { raw, out, small, made } = self;
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
        if let Some(raw) = raw {
            stock.note(raw.digest(), &kept)?;
        }
        Ok(kept)
    }
}
