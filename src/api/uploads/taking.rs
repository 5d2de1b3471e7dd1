//! From a body to a kept file.
//!
//! Owns: the order of what is asked: place, pace, quota and room before the first byte; the format,
//! the pixels and the places in a film before it is kept; the claim before the file, so that no
//! file is ever kept without a claim.
//! Never: does less for a content that somebody else has uploaded: whoever knows a content could
//! tell by the time.
//! Bounds: see [`super`].

use std::io::{self, Write};
use std::net::IpAddr;
use std::sync::Arc;

use pictures::{PictureError, Remade};

use super::blobs::{BlobDirectory, Digest, Draft, Kept, Name};
use super::boxes;
use super::disk_space::Reservation;
use super::intake::Incoming;
use super::kind::{HEAD_BYTES, Kind, Sort};
use super::place::FilePlace;
use super::upload_slots::UploadSlot;
use super::{NotKept, Uploads};
use crate::api::services::Services;
use crate::clock;
use crate::fair::Network;
use crate::ids::UserId;
use crate::limits;
use crate::store::{Claim, FileId};

/// What has come.
struct Received {
    draft: Draft,
    kind: Kind,
    /// Whether it is made of boxes, whatever its kind.
    has_boxes: bool,
}

impl Uploads {
    /// Takes the file that `user` sends from an address. `announced`: the digest that the client
    /// says it has.
    ///
    /// # Errors
    /// See [`NotKept`]; nothing is left of it then.
    pub(in crate::api) async fn take(
        &self,
        services: &Services,
        (user, address): (UserId, IpAddr),
        intake: &mut (impl Incoming + Send),
        announced: Option<Digest>,
    ) -> Result<Kept, NotKept> {
        let most = self.bounds().user_bytes_max;
        let taken = async {
            let place = self.begin(intake, Some(user), address, self.bounds().bytes_max)?;
            if !services.attempts.upload(user, self.bounds().per_minute) {
                return Err(NotKept::TooOften);
            }
            if most > 0 && services.db.read(move |store| store.files().uploaded(user)).await? >= most {
                return Err(NotKept::OverQuota);
            }
            self.place.ready().await?;
            let (received, _held) = self.unless_given_way(place, intake, self.bounds().bytes_max).await?;
            let sent = received.draft.digest();
            if announced.is_some_and(|announced| announced != sent) {
                return Err(NotKept::Other);
            }
            // Of the user's own the outcome is known.
            if let Some(kept) = self.claimed(services, user, sent).await? {
                return Ok(kept);
            }
            let ready = self.ready(Some(user), received).await?;
            self.keep(services, Some(user), sent, ready).await
        };
        self.judged(taken.await)
    }

    /// Counts what was refused, and notes how the disk does.
    fn judged(&self, taken: Result<Kept, NotKept>) -> Result<Kept, NotKept> {
        // A place that was held is free now.
        self.counters.under_way(self.places.taken());
        match &taken {
            Ok(_) => self.note(None),
            Err(NotKept::Disk(error)) => self.note(Some(error)),
            Err(_) => {}
        }
        taken.inspect_err(|why| self.counters.refused(why.label()))
    }

    /// Takes the picture of a visitor about to register: only a small one is kept, and nobody pays
    /// for it.
    ///
    /// # Errors
    /// See [`NotKept`]; nothing is left of it then.
    #[cfg(feature = "legacy")]
    pub(in crate::api) async fn take_portrait(
        &self,
        services: &Services,
        address: IpAddr,
        intake: &mut (impl Incoming + Send),
    ) -> Result<Kept, NotKept> {
        let bytes_max = self.bounds().bytes_max.min(limits::PORTRAIT_BYTES_MAX);
        let taken = async {
            let place = self.begin(intake, None, address, bytes_max)?;
            self.place.ready().await?;
            let (received, _held) = self.unless_given_way(place, intake, bytes_max).await?;
            let Received { draft, kind, .. } = received;
            if kind.sort() != Sort::Image {
                return Err(NotKept::Guest);
            }
            let (blobs, sent) = (Arc::clone(&self.blobs), draft.digest());
            let (pixels, draft) = self.pixels(draft, kind).await?;
            let painted =
                self.picture_worker.paint(None, pixels, move || Painted::small_of(&blobs, &draft, kind)).await?;
            self.keep(services, None, sent, painted.ready(self)).await
        };
        self.judged(taken.await)
    }

    /// What became of the content with that digest when `user` uploaded it, if it is still here.
    ///
    /// # Errors
    /// The store's, the disk's.
    pub(in crate::api) async fn claimed(
        &self,
        services: &Services,
        user: UserId,
        digest: Digest,
    ) -> Result<Option<Kept>, NotKept> {
        let until_ms = self.held_until();
        let note = services.db.write(move |store| store.files().claimed(user, &digest.0, until_ms)).await?;
        // A note that cannot be read is as good as none: the file is uploaded again.
        let Some(kept) = note.and_then(|note| serde_json::from_str::<Kept>(&note).ok()) else { return Ok(None) };
        let names: Option<Vec<Name>> = std::iter::once(&kept.name).chain(&kept.thumb).map(|n| Name::parse(n)).collect();
        let Some(names) = names else { return Ok(None) };
        Ok(self.place.have(names, &self.jobs).await?.then_some(kept))
    }

    /// Until when a file that is claimed now is held without anything that refers to it, in Unix
    /// milliseconds.
    fn held_until(&self) -> u64 {
        clock::wall_ms().saturating_add(self.bounds().grace_ms.max(limits::FILE_GRACE_MS_MIN))
    }

    /// What can be said before the first byte has come; a place among those who upload.
    fn begin(
        &self,
        intake: &impl Incoming,
        who: Option<UserId>,
        address: IpAddr,
        bytes_max: u64,
    ) -> Result<UploadSlot, NotKept> {
        if self.bounds().bytes_max == 0 {
            return Err(NotKept::Off);
        }
        if intake.declared().unwrap_or(0) > bytes_max {
            return Err(NotKept::TooLarge);
        }
        let place = self.places.take(who, Network::of(address), self.clock.now().mono_ms)?;
        if place.displaced {
            self.counters.displaced();
        }
        self.counters.under_way(self.places.taken());
        Ok(place)
    }

    /// Writes the body to a draft, for as long as nobody else has the place. It is given back then,
    /// unless the file goes on to an object store, whose turns are few: then it is answered with,
    /// to be held until the file is kept.
    async fn unless_given_way(
        &self,
        place: UploadSlot,
        intake: &mut (impl Incoming + Send),
        bytes_max: u64,
    ) -> Result<(Received, Option<UploadSlot>), NotKept> {
        let received = tokio::select! {
            received = self.receive(&place, intake, bytes_max) => received,
            () = place.given_way() => Err(NotKept::Busy),
        };
        let goes_on = received.is_ok() && matches!(self.place, FilePlace::Bucket(_));
        let held = Some(place).filter(|_| goes_on);
        self.counters.under_way(self.places.taken());
        Ok((received?, held))
    }

    /// Writes the body to a draft. Answers with its format.
    async fn receive(
        &self,
        place: &UploadSlot,
        intake: &mut (impl Incoming + Send),
        bytes_max: u64,
    ) -> Result<Received, NotKept> {
        let blobs = Arc::clone(&self.blobs);
        let (free, draft) = self.jobs.run(move || Ok((blobs.room()?, blobs.draft()?))).await?;
        let promise = self.room.promise(intake.declared().unwrap_or(limits::UPLOAD_ROOM_BYTES), free)?;
        self.write(place, draft, promise, intake, bytes_max).await
    }

    /// Writes what comes to `draft`, at most `bytes_max`, and as long as there is room. Answers
    /// with its format.
    async fn write(
        &self,
        place: &UploadSlot,
        mut draft: Draft,
        mut promise: Reservation,
        intake: &mut (impl Incoming + Send),
        mut bytes_max: u64,
    ) -> Result<Received, NotKept> {
        let mut held = Vec::with_capacity(limits::FILE_CHUNK_BYTES);
        let (mut known, mut looked) = (None, 0);
        while let Some(bytes) = intake.chunk().await? {
            place.came(bytes.len());
            // What does not fit any more would have the chunk copied to one of twice its size.
            if known.is_some() && held.len() + bytes.len() > held.capacity() {
                promise.came(held.len() as u64);
                (draft, held) = self.put(draft, held).await?;
            }
            held.extend_from_slice(&bytes);
            if known.is_none() && held.len() >= HEAD_BYTES {
                let (kind, has_boxes) = (Kind::of(&held[..HEAD_BYTES]), Kind::has_boxes(&held));
                (known, bytes_max) = (Some((kind, has_boxes)), bytes_max.min(kind.bytes_max()));
            }
            let total = draft.len() + held.len() as u64;
            if total > bytes_max {
                return Err(NotKept::TooLarge);
            }
            if total - looked >= limits::UPLOAD_ROOM_BYTES || promise.left() < held.len() as u64 {
                looked = total;
                let blobs = Arc::clone(&self.blobs);
                let free = self.jobs.run(move || blobs.room()).await?;
                promise.renew(limits::UPLOAD_ROOM_BYTES, free)?;
            }
        }
        let (kind, has_boxes) = known.unwrap_or_else(|| (Kind::of(&held), Kind::has_boxes(&held)));
        let (draft, _) = self.put(draft, held).await?;
        match draft.len() {
            0 => Err(NotKept::Empty),
            _ => Ok(Received { draft, kind, has_boxes }),
        }
    }

    /// Writes `held` to `draft`, and gives both back, `held` empty.
    async fn put(&self, mut draft: Draft, mut held: Vec<u8>) -> io::Result<(Draft, Vec<u8>)> {
        let work = move || {
            draft.write_all(&held)?;
            held.clear();
            Ok((draft, held))
        };
        self.jobs.run(work).await
    }

    /// What is kept of it: a picture that was made anew, a film without its place, or the file as
    /// it is.
    async fn ready(&self, who: Option<UserId>, received: Received) -> Result<Ready, NotKept> {
        let Received { draft, kind, has_boxes } = received;
        if kind.sort() == Sort::Image {
            let blobs = Arc::clone(&self.blobs);
            let (pixels, draft) = self.pixels(draft, kind).await?;
            let painted = self.picture_worker.paint(who, pixels, move || Painted::of(&blobs, &draft, kind)).await?;
            return Ok(painted.ready(self));
        }
        let draft = if has_boxes { self.without_place(draft).await? } else { draft };
        let name = self.name(draft.digest(), kind);
        let (sha256, size, mime) = (draft.digest().to_string(), draft.len(), kind.mime().to_owned());
        let kept = Kept { name: name.to_string(), thumb: None, sha256, size, mime, width: None, height: None };
        Ok(Ready { digest: draft.digest(), kept, files: vec![(draft, name)] })
    }

    /// How many pixels a picture says that it has.
    async fn pixels(&self, draft: Draft, kind: Kind) -> Result<(u64, Draft), NotKept> {
        Ok(self
            .jobs
            .run(move || {
                Ok((
                    match kind.picture() {
                        Some(format) => pictures::price(&draft, format)?,
                        None => 0,
                    },
                    draft,
                ))
            })
            .await?)
    }

    async fn without_place(&self, mut draft: Draft) -> Result<Draft, NotKept> {
        let work = move || {
            let blanked = draft.edit(boxes::blank_places);
            Ok(blanked.map(|changed| (changed, draft)))
        };
        // One film at once: it is read from end to end, and other files are waited for meanwhile.
        let (changed, draft) = self.films.run(work).await??;
        if changed {
            self.counters.blanked();
        }
        Ok(draft)
    }

    /// The address of a content.
    fn name(&self, digest: Digest, kind: Kind) -> Name {
        Name::new(FileId(self.key.file_address(&digest.0)), kind)
    }

    /// Claims what is ready, and keeps it. `sent`: the digest of what has come.
    async fn keep(
        &self,
        services: &Services,
        user: Option<UserId>,
        sent: Digest,
        ready: Ready,
    ) -> Result<Kept, NotKept> {
        let Ready { digest, files, kept } = ready;
        let note = serde_json::to_string(&kept).map_err(io::Error::other)?;
        let mut digests = vec![sent.0, digest.0];
        // So that who passes a picture on does not have it made anew once more.
        digests.dedup();
        let bytes = files.iter().map(|(draft, _)| draft.len()).sum();
        let mut names = files.iter().map(|(_, name)| name.file());
        let file = names.next().ok_or_else(|| io::Error::other("a file without a file"))?;
        let (thumb, until_ms) = (names.next().filter(|thumb| *thumb != file), self.held_until());
        let claim = Claim { user, digests, file, thumb, bytes, note, until_ms };
        // Without a bound, too: there may be one tomorrow.
        let most = if self.bounds().user_bytes_max == 0 {
            limits::UPLOAD_USER_BYTES_MAX
        } else {
            self.bounds().user_bytes_max
        };
        let claimed = claim.clone();
        if !services.db.write(move |store| store.files().claim(&claimed, most)).await? {
            return Err(NotKept::OverQuota);
        }
        let names = files.iter().map(|(_, name)| name.clone()).collect();
        if let Err(why) = self.place.keep(files, &self.jobs).await {
            // It may have been done although that was not heard, or by another request: a client
            // that tries again. What a broken disk seems to have is not believed.
            if !matches!(why, NotKept::Disk(_)) && matches!(self.place.have(names, &self.jobs).await, Ok(true)) {
                self.counters.kept(bytes);
                return Ok(kept);
            }
            // Should this fail, too, the claim runs out by itself.
            let _ = services.db.write(move |store| store.files().unclaim(&claim)).await;
            return Err(why);
        }
        self.counters.kept(bytes);
        Ok(kept)
    }
}

/// What is to be kept.
struct Ready {
    /// Of the first file.
    digest: Digest,
    /// The file, and the small picture beside it.
    files: Vec<(Draft, Name)>,
    kept: Kept,
}

/// A picture that was made anew and is not kept yet.
struct Painted {
    out: Draft,
    small: Draft,
    made: Remade,
}

impl Painted {
    fn of(blobs: &BlobDirectory, raw: &Draft, kind: Kind) -> Result<Self, PictureError> {
        let (mut out, mut small) = (blobs.draft()?, blobs.draft()?);
        let format = kind.picture().ok_or(PictureError::Broken)?;
        let made = pictures::remake(raw, format, &mut out, &mut small)?;
        Ok(Self { out, small, made })
    }

    /// The small one alone.
    #[cfg(feature = "legacy")]
    fn small_of(blobs: &BlobDirectory, raw: &Draft, kind: Kind) -> Result<Self, PictureError> {
        let (mut out, small) = (blobs.draft()?, blobs.draft()?);
        let format = kind.picture().ok_or(PictureError::Broken)?;
        let made = pictures::remake_small(raw, format, &mut out)?;
        Ok(Self { out, small, made })
    }

    fn ready(self, uploads: &Uploads) -> Ready {
        let Self { out, small, made } = self;
        let (digest, size) = (out.digest(), out.len());
        let kind = Kind::from(made.format);
        let name = uploads.name(digest, kind);
        let thumb = made.small.map(|format| uploads.name(small.digest(), format.into()));
        let kept = Kept {
            name: name.to_string(),
            thumb: thumb.as_ref().map(Name::to_string),
            sha256: digest.to_string(),
            size,
            mime: kind.mime().to_owned(),
            width: Some(made.size.width),
            height: Some(made.size.height),
        };
        let mut files = vec![(out, name)];
        files.extend(thumb.map(|thumb| (small, thumb)));
        Ready { digest, files, kept }
    }
}
