//! An object store that speaks S3, as a place for files.
//!
//! Owns: what is asked of it ([`ObjectStore`]): pieces and lengths of objects, whole objects in,
//! removal, lists of a few names, and whether the settings are right (`check`). One request is
//! `asking`, its connection `connection`; `health` says whether the store is worth being asked,
//! `target` where it is and by which key, `failure` why something was not done.
//! Never: holds more of an object than a piece, has a connection for a reader between two pieces,
//! or knows what the objects are. The library `rusty-s3` names, signs and reads lists; it touches
//! no socket.
//! Bounds: as in `asking`.

mod asking;
mod connection;
mod failure;
mod health;
mod target;
#[cfg(test)]
pub(crate) mod tests;

use std::io;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::header::{CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, HeaderName, HeaderValue, RANGE};
use rusty_s3::actions::ListObjectsV2;
use rusty_s3::{Bucket, Credentials, S3Action};
use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;

use self::asking::Asked;
pub use self::connection::ObjectBody;
use self::connection::{Connections, Reply};
pub use self::failure::ObjectError;
use self::health::Health;
pub use self::target::{BadTarget, ObjectTarget};
use crate::clock::Clock;
use crate::limits;
use crate::log::outage::Outage;
use crate::metrics::objects::{ObjectCounts, ObjectOperation};

/// The digest that a server compares with what came.
const CHECKSUM: &str = "x-amz-checksum-sha256";
const SIGNED: Duration = Duration::from_millis(limits::OBJECT_SIGNED_MS);

/// See the module.
pub struct ObjectStore {
    target: ObjectTarget,
    bucket: Bucket,
    credentials: Credentials,
    connections: Connections,
    reads: Semaphore,
    writes: Semaphore,
    small: Semaphore,
    deadlines: ObjectDeadlines,
    health: Health,
    outage: Outage,
    clock: Clock,
    counts: ObjectCounts,
}

/// How patient it is, in milliseconds. The defaults are the limits; tests are less patient.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ObjectDeadlines {
    /// For an answer, from the last byte that was sent.
    pub(crate) answer_ms: u64,
    /// The same for what is put.
    pub(crate) put_ms: u64,
    /// For a read's turn.
    pub(crate) read_wait_ms: u64,
    /// For a write's.
    pub(crate) write_wait_ms: u64,
}

impl Default for ObjectDeadlines {
    fn default() -> Self {
        Self {
            answer_ms: limits::OBJECT_ANSWER_MS_MAX,
            put_ms: limits::OBJECT_PUT_MS_MAX,
            read_wait_ms: limits::OBJECT_READ_WAIT_MS_MAX,
            write_wait_ms: limits::OBJECT_WRITE_WAIT_MS_MAX,
        }
    }
}

/// A piece of an object.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ObjectPiece {
    /// As many as were asked for, or up to the object's end.
    pub bytes: Bytes,
    /// Bytes of the whole object.
    pub total: u64,
}

/// What is put.
#[derive(Clone, Copy, Debug)]
pub struct ObjectContent {
    /// Its bytes.
    pub len: u64,
    /// Their SHA-256; the store refuses others.
    pub sha256: [u8; 32],
    /// As what it is kept.
    pub mime: &'static str,
}

/// An object in a list.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ListedObject {
    /// Its name, without the prefix of the setting.
    pub name: String,
    /// Its bytes, as far as the store says.
    pub bytes: u64,
}

/// What of a check did not work.
#[derive(Debug, thiserror::Error)]
#[error("{target}, {step}: {why}")]
pub struct CheckFailed {
    target: String,
    step: &'static str,
    /// Why.
    pub why: ObjectError,
}

impl ObjectStore {
    /// The store at `target`. It is not asked anything.
    ///
    /// # Errors
    /// It is asked over TLS, and the system has no authorities.
    pub fn new(target: ObjectTarget) -> io::Result<Self> {
        Self::with(target, ObjectDeadlines::default())
    }

    pub(crate) fn with(target: ObjectTarget, deadlines: ObjectDeadlines) -> io::Result<Self> {
        let (bucket, credentials) = target.parts().map_err(io::Error::other)?;
        let clock = Clock::start();
        Ok(Self {
            connections: Connections::new(bucket.base_url(), clock)?,
            reads: Semaphore::new(limits::OBJECT_READS_MAX),
            writes: Semaphore::new(limits::OBJECT_WRITES_MAX),
            small: Semaphore::new(limits::OBJECT_SMALL_MAX),
            deadlines,
            health: Health::default(),
            outage: Outage::default(),
            counts: ObjectCounts::default(),
            target,
            bucket,
            credentials,
            clock,
        })
    }

    /// What was asked of it.
    #[must_use]
    pub const fn counts(&self) -> &ObjectCounts {
        &self.counts
    }

    /// For people: where it is.
    #[must_use]
    pub fn shown(&self) -> String {
        self.target.shown()
    }

    /// Whether it counts as away: whoever has much work ahead asks before it begins.
    #[must_use]
    pub fn is_away(&self) -> bool {
        self.health.is_away()
    }

    /// Bytes of the object `name` from `first` on, at most [`limits::OBJECT_CHUNK_BYTES`] and
    /// `bytes`; `None`: there is no such object.
    ///
    /// # Errors
    /// See [`ObjectError`].
    pub async fn read(&self, name: &str, first: u64, bytes: usize) -> Result<Option<ObjectPiece>, ObjectError> {
        let bytes_max = bytes.clamp(1, limits::OBJECT_CHUNK_BYTES);
        let last = first.saturating_add(bytes_max as u64 - 1);
        let key = self.target.key(name);
        let url = self.bucket.get_object(Some(&self.credentials), &key).sign(SIGNED);
        let headers = vec![(RANGE, value(&format!("bytes={first}-{last}"))?)];
        let asked = Asked { operation: ObjectOperation::Get, is_small: false, url, headers, body: None, bytes_max };
        let Some(reply) = self.ask(asked).await? else { return Ok(None) };
        let piece = piece(reply, first, bytes_max)?;
        self.counts.came(piece.bytes.len() as u64);
        Ok(Some(piece))
    }

    /// Bytes of the object `name`; `None`: there is none.
    ///
    /// # Errors
    /// See [`ObjectError`].
    pub async fn length(&self, name: &str) -> Result<Option<u64>, ObjectError> {
        let key = self.target.key(name);
        let url = self.bucket.head_object(Some(&self.credentials), &key).sign(SIGNED);
        let asked = Asked {
            operation: ObjectOperation::Head,
            is_small: false,
            url,
            headers: Vec::new(),
            body: None,
            bytes_max: 0,
        };
        let Some(reply) = self.ask(asked).await? else { return Ok(None) };
        let bytes = reply.headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
        bytes.map(Some).ok_or(ObjectError::Nonsense("an object without a length"))
    }

    /// Puts an object, whole or not at all; one of that name is replaced. `body` makes its bytes
    /// anew for each try.
    ///
    /// # Errors
    /// See [`ObjectError`]; whether it was done is not known then.
    pub async fn put(
        &self,
        name: &str,
        content: ObjectContent,
        body: &(dyn Fn() -> ObjectBody + Send + Sync),
    ) -> Result<(), ObjectError> {
        self.put_in_turn(name, content, body, false).await
    }

    async fn put_in_turn(
        &self,
        name: &str,
        content: ObjectContent,
        body: &(dyn Fn() -> ObjectBody + Send + Sync),
        is_small: bool,
    ) -> Result<(), ObjectError> {
        let key = self.target.key(name);
        let checksum = STANDARD.encode(content.sha256);
        let mut put = self.bucket.put_object(Some(&self.credentials), &key);
        put.headers_mut().insert("content-type", content.mime);
        put.headers_mut().insert(CHECKSUM, checksum.as_str());
        let url = put.sign(SIGNED);
        let headers = vec![
            (CONTENT_TYPE, HeaderValue::from_static(content.mime)),
            (HeaderName::from_static(CHECKSUM), value(&checksum)?),
        ];
        let body = Some((body, content.len));
        self.ask(Asked { operation: ObjectOperation::Put, is_small, url, headers, body, bytes_max: 0 }).await?;
        self.counts.sent(content.len);
        Ok(())
    }

    /// Puts a small object.
    ///
    /// # Errors
    /// As [`ObjectStore::put`].
    pub async fn put_bytes(&self, name: &str, bytes: &'static [u8]) -> Result<(), ObjectError> {
        let sha256 = Sha256::digest(bytes).into();
        let content = ObjectContent { len: bytes.len() as u64, sha256, mime: "application/octet-stream" };
        let body = || Full::new(Bytes::from_static(bytes)).map_err(|never| match never {}).boxed_unsync();
        self.put_in_turn(name, content, &body, true).await
    }

    /// Removes an object; one that is not there is removed already.
    ///
    /// # Errors
    /// See [`ObjectError`].
    pub async fn remove(&self, name: &str) -> Result<(), ObjectError> {
        let key = self.target.key(name);
        let url = self.bucket.delete_object(Some(&self.credentials), &key).sign(SIGNED);
        let asked = Asked {
            operation: ObjectOperation::Delete,
            is_small: true,
            url,
            headers: Vec::new(),
            body: None,
            bytes_max: 0,
        };
        self.ask(asked).await.map(drop)
    }

    /// The first objects whose names begin with `prefix`, at most `most` and
    /// [`limits::OBJECT_LIST_MAX`].
    ///
    /// # Errors
    /// See [`ObjectError`].
    pub async fn list(&self, prefix: &str, most: usize) -> Result<Vec<ListedObject>, ObjectError> {
        self.list_after(prefix, None, most).await
    }

    /// As [`Self::list`], of those behind the name `after`.
    ///
    /// # Errors
    /// See [`ObjectError`].
    pub async fn list_after(
        &self,
        prefix: &str,
        after: Option<&str>,
        most: usize,
    ) -> Result<Vec<ListedObject>, ObjectError> {
        let most = most.min(limits::OBJECT_LIST_MAX);
        let mut list = self.bucket.list_objects_v2(Some(&self.credentials));
        list.with_prefix(self.target.key(prefix));
        list.with_max_keys(most);
        if let Some(after) = after {
            list.with_start_after(self.target.key(after));
        }
        let url = list.sign(SIGNED);
        let bytes_max = limits::OBJECT_ANSWER_BYTES_MAX;
        let asked =
            Asked { operation: ObjectOperation::List, is_small: true, url, headers: Vec::new(), body: None, bytes_max };
        let reply = self.ask(asked).await?.ok_or(ObjectError::Nonsense("no list"))?;
        let text = std::str::from_utf8(&reply.body).map_err(|_| ObjectError::Nonsense("a list that is no text"))?;
        let listed = ListObjectsV2::parse_response(text).map_err(|_| ObjectError::Nonsense("a list that is none"))?;
        let ours = listed.contents.into_iter().take(most).filter_map(|object| {
            let name = self.target.name(&object.key)?.to_owned();
            Some(ListedObject { name, bytes: object.size.unwrap_or(0) })
        });
        Ok(ours.collect())
    }

    /// Whether the bucket is there and the key may do all that is asked of it: lists, puts, reads
    /// and removes an object of its own. What is found wrong is said with the step.
    ///
    /// # Errors
    /// The first step that does not work, or [`limits::OBJECT_CHECK_MS_MAX`] have passed.
    pub async fn check(&self) -> Result<(), CheckFailed> {
        const CONTENT: &[u8] = b"imgate looks whether it can write here";
        let failed = |step, why| CheckFailed { target: self.target.shown(), step, why };
        let steps = async {
            self.list("check/", 1).await.map_err(|why| failed("listing the bucket", why))?;
            let random = getrandom::u64().map_err(|_| failed("a name", ObjectError::Nonsense("no random numbers")))?;
            let name = format!("check/{random:016x}");
            self.put_bytes(&name, CONTENT).await.map_err(|why| failed("writing an object", why))?;
            let read = self.read(&name, 0, CONTENT.len()).await.map_err(|why| failed("reading it back", why))?;
            if read.is_none_or(|piece| piece.bytes != CONTENT) {
                return Err(failed("reading it back", ObjectError::Nonsense("it is not what was written")));
            }
            self.remove(&name).await.map_err(|why| failed("removing it", why))
        };
        let patience = Duration::from_millis(limits::OBJECT_CHECK_MS_MAX);
        tokio::time::timeout(patience, steps).await.unwrap_or_else(|_| Err(failed("a check", ObjectError::Late)))
    }

    /// [`ObjectStore::check`] for a thread that may wait, with a store of its own: its connections
    /// end with it.
    ///
    /// # Errors
    /// As there.
    pub fn check_blocking(target: ObjectTarget) -> Result<(), CheckFailed> {
        let shown = target.shown();
        let made = || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(1).build()?;
            Ok::<_, io::Error>((Self::new(target)?, runtime))
        };
        let (store, runtime) = made().map_err(|error| {
            let why = ObjectError::Unreachable(error.to_string());
            CheckFailed { target: shown, step: "a check", why }
        })?;
        let outcome = runtime.block_on(store.check());
        drop(store);
        // A name service that hangs is not waited for.
        runtime.shutdown_background();
        outcome
    }
}

fn value(text: &str) -> Result<HeaderValue, ObjectError> {
    HeaderValue::from_str(text).map_err(|_| ObjectError::Nonsense("the settings make no header"))
}

/// The piece that an answer brings: what was asked for, or an object that is shorter.
fn piece(reply: Reply, first: u64, bytes_max: usize) -> Result<ObjectPiece, ObjectError> {
    const WRONG: ObjectError = ObjectError::Nonsense("another piece than was asked for");
    let Reply { status, headers, body: bytes } = reply;
    if status != 206 {
        // The whole object, from a server that knows no ranges.
        let total = bytes.len() as u64;
        return if first == 0 && bytes.len() <= bytes_max { Ok(ObjectPiece { bytes, total }) } else { Err(WRONG) };
    }
    let range = headers.get(CONTENT_RANGE).and_then(|value| value.to_str().ok());
    let parse = |text: &str| {
        let (range, total) = text.strip_prefix("bytes ")?.split_once('/')?;
        let (from, to) = range.split_once('-')?;
        Some((from.parse::<u64>().ok()?, to.parse::<u64>().ok()?, total.parse::<u64>().ok()?))
    };
    let (from, to, total) = range.and_then(parse).ok_or(WRONG)?;
    let wanted = (bytes_max as u64).min(total.saturating_sub(first));
    let is_it = from == first && to.checked_sub(from).and_then(|more| more.checked_add(1)) == Some(wanted);
    if is_it && bytes.len() as u64 == wanted { Ok(ObjectPiece { bytes, total }) } else { Err(WRONG) }
}
