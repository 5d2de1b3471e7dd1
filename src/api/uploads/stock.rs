//! Where files are kept: a directory of this machine, behind a trait, so that an object store can take its place.
//!
//! Owns: names (the SHA-256 of the content and the end that says its format), drafts, and what is known of each upload.
//! Never: shows a file that is not whole. A draft is written beside, synced, and then renamed; one that is dropped is gone.
//! Every call blocks; see [`super::Uploads`] for who may make one.

use std::fmt;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::kind::Kind;

/// A SHA-256.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(in crate::api) struct Digest([u8; 32]);

impl Digest {
    /// Reads 64 digits, in capitals or not.
    pub(in crate::api) fn parse(text: &str) -> Option<Self> {
        let digits = <&[u8; 64]>::try_from(text.as_bytes()).ok()?;
        let value = |digit: u8| char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok());
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = value(pair[0])? << 4 | value(pair[1])?;
        }
        Some(Self(bytes))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// The name of a kept file: what it holds, and what it is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(in crate::api) struct Name {
    digest: Digest,
    ext: String,
}

impl Name {
    /// Of a file of that content and format.
    pub(super) fn new(digest: Digest, kind: Kind) -> Self {
        Self { digest, ext: kind.ext().to_owned() }
    }

    /// Reads `<64 digits>.<ext>`; everything else is no name, paths in particular.
    pub(in crate::api) fn parse(text: &str) -> Option<Self> {
        let (digits, ext) = text.split_once('.')?;
        let plain = (1..=4).contains(&ext.len()) && ext.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        let digest = Digest::parse(digits)?;
        (plain && digits == digest.to_string()).then(|| Self { digest, ext: ext.to_owned() })
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.digest, self.ext)
    }
}

/// What is known of an upload. Kept under the digest of what was sent and under that of what is kept of it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(in crate::api) struct Kept {
    /// The [`Name`], as text.
    pub(in crate::api) name: String,
    /// The name of a small picture of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::api) thumb: Option<String>,
    /// Bytes of what is kept.
    pub(in crate::api) size: u64,
    /// As what it is served.
    pub(in crate::api) mime: String,
    /// Pixels, of a picture.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::api) width: Option<u32>,
    /// Pixels, of a picture.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::api) height: Option<u32>,
}

/// An opened file, as far as it is served.
pub(in crate::api) trait Object: Read + Seek + Send {}

impl<T: Read + Seek + Send> Object for T {}

/// A place for files. All calls block.
pub(super) trait Stock: Send + Sync {
    /// An empty draft.
    ///
    /// # Errors
    /// The disk's.
    fn draft(&self) -> io::Result<Draft>;

    /// Makes a whole draft a file of that name, durably. A file of that name has the same content, so either may stay.
    ///
    /// # Errors
    /// The disk's; nothing is kept then.
    fn keep(&self, draft: Draft, name: &Name) -> io::Result<()>;

    /// The file of that name and its size, if there is one.
    ///
    /// # Errors
    /// The disk's.
    fn open(&self, name: &Name) -> io::Result<Option<(Box<dyn Object>, u64)>>;

    /// Remembers what became of the upload with that digest.
    ///
    /// # Errors
    /// The disk's.
    fn note(&self, digest: Digest, kept: &Kept) -> io::Result<()>;

    /// What became of the upload with that digest, if its files are still there.
    ///
    /// # Errors
    /// The disk's.
    fn known(&self, digest: Digest) -> io::Result<Option<Kept>>;

    /// Bytes that may still be kept.
    ///
    /// # Errors
    /// The disk's.
    fn room(&self) -> io::Result<u64>;
}

/// A file in the making, with the digest of what was written. Gone when it is dropped.
pub(super) struct Draft {
    file: File,
    path: PathBuf,
    hash: Sha256,
    len: u64,
}

impl Draft {
    /// Bytes so far.
    pub(super) const fn len(&self) -> u64 {
        self.len
    }

    /// Of what was written so far.
    pub(super) fn digest(&self) -> Digest {
        Digest(self.hash.clone().finalize().into())
    }

    /// The content from its beginning. What is written afterwards comes behind what is read.
    ///
    /// # Errors
    /// The disk's.
    pub(super) fn reader(&self) -> io::Result<File> {
        let mut file = self.file.try_clone()?;
        file.seek(SeekFrom::Start(0))?;
        Ok(file)
    }
}

impl Write for Draft {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.hash.update(&bytes[..written]);
        self.len += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // Kept ones have moved away.
        drop(fs::remove_file(&self.path));
    }
}

/// A directory: files in `ab/cdef….ext`, what is known of uploads in `known/ab/cdef….json`, drafts in `drafts`.
pub(super) struct Folder {
    root: PathBuf,
}

impl Folder {
    /// The directory `root`, which is made; drafts that a crash has left are removed.
    ///
    /// # Errors
    /// It cannot be made or written to.
    pub(super) fn open(root: PathBuf) -> io::Result<Self> {
        let folder = Self { root };
        make(&folder.drafts())?;
        for left in fs::read_dir(folder.drafts())? {
            fs::remove_file(left?.path())?;
        }
        Ok(folder)
    }

    fn drafts(&self) -> PathBuf {
        self.root.join("drafts")
    }

    /// The two digits of the folder, and the rest of the name.
    fn place(root: PathBuf, digest: Digest, ext: &str) -> (PathBuf, String) {
        let digits = digest.to_string();
        let (folder, rest) = digits.split_at(2);
        (root.join(folder), format!("{rest}.{ext}"))
    }

    fn of_note(&self, digest: Digest) -> (PathBuf, String) {
        Self::place(self.root.join("known"), digest, "json")
    }
}

impl Stock for Folder {
    fn draft(&self) -> io::Result<Draft> {
        let random = getrandom::u64().map_err(|_| io::ErrorKind::Other)?;
        let path = self.drafts().join(format!("{random:016x}"));
        let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path)?;
        Ok(Draft { file, path, hash: Sha256::new(), len: 0 })
    }

    fn keep(&self, draft: Draft, name: &Name) -> io::Result<()> {
        let (folder, file) = Self::place(self.root.clone(), name.digest, &name.ext);
        settle(&draft, &folder, &file)
    }

    fn open(&self, name: &Name) -> io::Result<Option<(Box<dyn Object>, u64)>> {
        let (folder, file) = Self::place(self.root.clone(), name.digest, &name.ext);
        let Some(file) = present(File::open(folder.join(file)))? else { return Ok(None) };
        let len = file.metadata()?.len();
        Ok(Some((Box::new(file), len)))
    }

    fn note(&self, digest: Digest, kept: &Kept) -> io::Result<()> {
        let mut draft = self.draft()?;
        draft.write_all(&serde_json::to_vec(kept).map_err(io::Error::other)?)?;
        let (folder, file) = self.of_note(digest);
        settle(&draft, &folder, &file)
    }

    fn known(&self, digest: Digest) -> io::Result<Option<Kept>> {
        let (folder, file) = self.of_note(digest);
        let Some(text) = present(fs::read(folder.join(file)))? else { return Ok(None) };
        // A note that cannot be read is as good as none: the file is uploaded again.
        let Ok(kept) = serde_json::from_slice::<Kept>(&text) else { return Ok(None) };
        for name in std::iter::once(&kept.name).chain(&kept.thumb) {
            let Some(name) = Name::parse(name) else { return Ok(None) };
            if self.open(&name)?.is_none() {
                return Ok(None);
            }
        }
        Ok(Some(kept))
    }

    fn room(&self) -> io::Result<u64> {
        let disk = rustix::fs::statvfs(&self.root)?;
        Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
    }
}

/// Syncs a draft and moves it to its place.
fn settle(draft: &Draft, folder: &Path, file: &str) -> io::Result<()> {
    draft.file.sync_all()?;
    make(folder)?;
    fs::rename(&draft.path, folder.join(file))?;
    // The name is only durable when its folder is.
    File::open(folder)?.sync_all()
}

fn make(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

fn present<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files_in(folder: &Path) -> usize {
        let entries = fs::read_dir(folder).expect("a directory").map(|entry| entry.expect("an entry").path());
        entries.map(|path| if path.is_dir() { files_in(&path) } else { 1 }).sum()
    }

    #[test]
    fn what_is_dropped_leaves_nothing_and_what_is_kept_is_found_by_its_content() {
        let dir = tempfile::tempdir().expect("a directory");
        let folder = Folder::open(dir.path().join("files")).expect("a folder");
        let mut draft = folder.draft().expect("a draft");
        draft.write_all(b"half").expect("room");
        drop(draft);
        assert_eq!(files_in(dir.path()), 0);

        let mut draft = folder.draft().expect("a draft");
        draft.write_all(b"abc").expect("room");
        let digest = draft.digest();
        assert_eq!(digest.to_string(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        let name = Name::new(digest, Kind::Other);
        folder.keep(draft, &name).expect("room");
        let place = dir.path().join("files/ba/7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad.bin");
        assert_eq!(fs::read(place).expect("it is there"), b"abc");
        let (mut object, len) = folder.open(&name).expect("a disk").expect("it is there");
        let mut text = String::new();
        object.read_to_string(&mut text).expect("a disk");
        assert_eq!((text.as_str(), len), ("abc", 3));
    }

    #[test]
    fn an_upload_is_known_as_long_as_its_files_are_there() {
        let dir = tempfile::tempdir().expect("a directory");
        let folder = Folder::open(dir.path().to_owned()).expect("a folder");
        let draft = folder.draft().expect("a draft");
        let digest = draft.digest();
        let name = Name::new(digest, Kind::Other);
        let (mime, size) = (Kind::Other.mime().to_owned(), 0);
        let kept = Kept { name: name.to_string(), thumb: None, size, mime, width: None, height: None };
        folder.note(digest, &kept).expect("room");
        assert_eq!(folder.known(digest).expect("a disk"), None);
        folder.keep(draft, &name).expect("room");
        assert_eq!(folder.known(digest).expect("a disk"), Some(kept));
        assert!(folder.room().expect("a disk") > 0);
    }

    #[test]
    fn drafts_of_a_crash_are_removed_at_the_start() {
        let dir = tempfile::tempdir().expect("a directory");
        let folder = Folder::open(dir.path().to_owned()).expect("a folder");
        fs::write(folder.drafts().join("left"), b"half").expect("room");
        drop(Folder::open(dir.path().to_owned()).expect("a folder"));
        assert_eq!(files_in(dir.path()), 0);
    }

    #[test]
    fn only_names_are_names() {
        let digits = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        let name = Name::parse(&format!("{digits}.png")).expect("a name");
        assert_eq!(name.to_string(), format!("{digits}.png"));
        for wrong in ["", ".png", "../etc/passwd", digits, &format!("{digits}.p/g"), &format!("{digits}.png.html")] {
            assert!(Name::parse(wrong).is_none(), "{wrong}");
        }
        assert!(Name::parse(&format!("{}.png", digits.to_uppercase())).is_none(), "one name for one file");
        assert!(Digest::parse(&digits.to_uppercase()).is_some());
    }
}
