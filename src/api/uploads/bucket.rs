//! Kept files in an object store, under the paths that they would have in a folder.
//!
//! Owns: the way of a draft into the store, and of a file out of it, a piece at a time.
//! Never: puts a file whose removal is under way: see [`super::removal`]. Never has more of a file
//! in memory than a piece for each reader.
//! Bounds: as in [`crate::object_store`].

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};

use bytes::Bytes;
use http_body_util::BodyExt;

use super::blobs::{Draft, Name};
use crate::api::blocking::BlockingJobs;
use crate::api::delivery::{Chunk, Reading, Source};
use crate::clock::Clock;
use crate::limits;
use crate::object_store::{ObjectContent, ObjectError, ObjectStore};

/// See the module.
pub(super) struct BlobBucket {
    pub(super) store: Arc<ObjectStore>,
    /// Tells the marks of this start from all others.
    pub(super) boot: u64,
    pub(super) clock: Clock,
    /// When marks that were left are looked for again.
    pub(super) next_look_ms: AtomicU64,
    /// A removal of ours was not finished.
    pub(super) is_left: AtomicBool,
}

impl BlobBucket {
    /// Files in `store`.
    ///
    /// # Errors
    /// There is no randomness.
    pub(super) fn new(store: Arc<ObjectStore>) -> io::Result<Self> {
        Ok(Self {
            store,
            boot: getrandom::u64().map_err(io::Error::other)?,
            clock: Clock::start(),
            next_look_ms: AtomicU64::new(0),
            is_left: AtomicBool::new(false),
        })
    }

    /// Puts a whole draft under that name. A file of that name has the same content, so either may
    /// stay.
    ///
    /// # Errors
    /// The store's, or the disk's that the draft is on.
    pub(super) async fn keep(&self, draft: Draft, name: &Name, jobs: &BlockingJobs) -> Result<(), ObjectError> {
        let put = self.put(&draft, name, jobs).await;
        // Removes it from the disk.
        let gone = move || {
            drop(draft);
            Ok(())
        };
        jobs.run(gone).await.map_err(ObjectError::Disk)?;
        put
    }

    async fn put(&self, draft: &Draft, name: &Name, jobs: &BlockingJobs) -> Result<(), ObjectError> {
        self.await_unmarked(name.file()).await?;
        let content = ObjectContent { len: draft.len(), sha256: draft.digest().0, mime: name.kind().mime() };
        let file = Arc::new(draft.file().map_err(ObjectError::Disk)?);
        let body = || {
            let source = DraftSource { file: Arc::clone(&file), jobs: jobs.clone() };
            Reading::new(Box::new(source), 0, content.len).boxed_unsync()
        };
        self.store.put(&name.path(), content, &body).await
    }

    /// Whether a file of that name is there, and no removal of it under way; to be asked when the
    /// database knows the claim, as [`BlobBucket::await_unmarked`].
    ///
    /// # Errors
    /// The store's.
    pub(super) async fn has(&self, name: &Name) -> Result<bool, ObjectError> {
        Ok(!self.is_marked(name.file()).await? && self.store.length(&name.path()).await?.is_some())
    }

    /// The file of that name, and its size. `whole`: all of it is about to be read, so its first
    /// piece is asked for at once.
    ///
    /// # Errors
    /// The store's.
    pub(super) async fn open(&self, name: &Name, whole: bool) -> Result<Option<(Box<dyn Source>, u64)>, ObjectError> {
        let path = name.path();
        let (first, len) = if whole {
            let Some(piece) = self.store.read(&path, 0, limits::OBJECT_CHUNK_BYTES).await? else { return Ok(None) };
            (Some(piece.bytes), piece.total)
        } else {
            let Some(len) = self.store.length(&path).await? else { return Ok(None) };
            (None, len)
        };
        Ok(Some((Box::new(StoredSource { store: Arc::clone(&self.store), path, first }), len)))
    }
}

/// A file in the store.
struct StoredSource {
    store: Arc<ObjectStore>,
    path: String,
    /// Its beginning, if that is here already.
    first: Option<Bytes>,
}

impl Source for StoredSource {
    fn chunk_bytes(&self) -> usize {
        limits::OBJECT_CHUNK_BYTES
    }

    fn chunk(mut self: Box<Self>, at: u64, left: u64) -> Chunk {
        Box::pin(async move {
            let wanted = usize::try_from(left).unwrap_or(usize::MAX).min(limits::OBJECT_CHUNK_BYTES);
            if let Some(mut first) = self.first.take().filter(|first| at == 0 && !first.is_empty()) {
                first.truncate(wanted);
                return Ok((self as Box<dyn Source>, first));
            }
            let read = self.store.read(&self.path, at, wanted).await.map_err(io::Error::other)?;
            // Removed meanwhile, or shorter than it was: its length was promised.
            let piece = read.filter(|piece| piece.bytes.len() == wanted).ok_or(io::ErrorKind::UnexpectedEof)?;
            Ok((self as Box<dyn Source>, piece.bytes))
        })
    }
}

/// A draft on its way into the store. Reads at places of its own: of two tries to send it, a read
/// of the first may still be under way when the second begins.
struct DraftSource {
    file: Arc<File>,
    jobs: BlockingJobs,
}

impl Source for DraftSource {
    fn chunk_bytes(&self) -> usize {
        limits::FILE_CHUNK_BYTES
    }

    fn chunk(self: Box<Self>, at: u64, left: u64) -> Chunk {
        Box::pin(async move {
            let wanted = usize::try_from(left).unwrap_or(usize::MAX).min(limits::FILE_CHUNK_BYTES);
            let file = Arc::clone(&self.file);
            let read = move || {
                let mut bytes = vec![0; wanted];
                file.read_exact_at(&mut bytes, at)?;
                Ok(bytes)
            };
            let bytes = self.jobs.run(read).await?;
            Ok((self as Box<dyn Source>, bytes.into()))
        })
    }
}
