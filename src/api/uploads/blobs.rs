//! Where files are made, and kept unless there is an object store: a directory of this machine.
//!
//! Owns: names (the address and the end that says the format), drafts, and files on their way out.
//! Never: shows a file that is not whole. A draft is written beside, synced, and then renamed; one
//! that is dropped is gone. Knows nothing of digests: a name is whatever [`super::Uploads`] makes
//! of the content. Until there were addresses, it was the SHA-256; files that were kept then are
//! found under it.
//! Every call blocks; see [`super::Uploads`] for who may make one.

use std::fmt;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use data_encoding::{HEXLOWER, HEXLOWER_PERMISSIVE};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::kind::Kind;
use crate::api::delivery::Object;
use crate::store::FileId;
use crate::{clock, limits};

/// A SHA-256.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(in crate::api) struct Digest(pub(in crate::api) [u8; 32]);

impl Digest {
    /// Reads 64 digits, in capitals or not.
    pub(in crate::api) fn parse(text: &str) -> Option<Self> {
        let digits = <&[u8; 64]>::try_from(text.as_bytes()).ok()?;
        let mut bytes = [0; 32];
        HEXLOWER_PERMISSIVE.decode_mut(digits, &mut bytes).ok()?;
        Some(Self(bytes))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        HEXLOWER.encode_display(&self.0).fmt(f)
    }
}

/// The name of a kept file: where it is, and what it is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(in crate::api) struct Name {
    address: Digest,
    ext: String,
}

impl Name {
    /// Of a file of that address and format.
    pub(super) fn new(file: FileId, kind: Kind) -> Self {
        Self { address: Digest(file.0), ext: kind.ext().to_owned() }
    }

    /// The address alone.
    pub(in crate::api) const fn file(&self) -> FileId {
        FileId(self.address.0)
    }

    /// As what it is served.
    pub(super) fn kind(&self) -> Kind {
        Kind::ALL.into_iter().find(|kind| kind.ext() == self.ext).unwrap_or(Kind::Other)
    }

    /// Where a file of that name is below the place for files: `ab/cdef….ext`.
    pub(super) fn path(&self) -> String {
        format!("{}{}", Self::path_of(self.file()), self.ext)
    }

    /// What the paths of a file of that address begin with, whatever its format: up to its ending.
    pub(super) fn path_of(file: FileId) -> String {
        let digits = Digest(file.0).to_string();
        let (folder, rest) = digits.split_at(2);
        format!("{folder}/{rest}.")
    }

    /// Reads `<64 digits>.<ext>`; everything else is no name, paths in particular.
    pub(in crate::api) fn parse(text: &str) -> Option<Self> {
        let (digits, ext) = text.split_once('.')?;
        let plain = (1..=4).contains(&ext.len()) && ext.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        let address = Digest::parse(digits)?;
        (plain && digits == address.to_string()).then(|| Self { address, ext: ext.to_owned() })
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.address, self.ext)
    }
}

/// What is known of an upload. The store keeps it for whoever has uploaded it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(in crate::api) struct Kept {
    /// The [`Name`], as text.
    pub(in crate::api) name: String,
    /// The name of a small picture of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::api) thumb: Option<String>,
    /// SHA-256 of what is kept, in hexadecimal digits.
    pub(in crate::api) sha256: String,
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

    /// Changes the content in place, and its digest with it if `change` says that it has.
    ///
    /// # Errors
    /// That of `change`.
    pub(super) fn edit<E: From<io::Error>>(
        &mut self,
        change: impl FnOnce(&mut File, u64) -> Result<bool, E>,
    ) -> Result<bool, E> {
        let changed = change(&mut self.file, self.len)?;
        if changed {
            let (mut content, mut hash, mut block) = (self.reader()?, Sha256::new(), [0; 16 * 1024]);
            loop {
                match content.read(&mut block)? {
                    0 => break,
                    len => hash.update(&block[..len]),
                }
            }
            self.hash = hash;
        }
        Ok(changed)
    }

    /// The file itself, for reads at places of their own.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn file(&self) -> io::Result<File> {
        self.file.try_clone()
    }

    /// The content from its beginning. What is written afterwards comes behind what is read.
    ///
    /// # Errors
    /// The disk's.
    fn reader(&self) -> io::Result<File> {
        let mut file = self.file.try_clone()?;
        file.seek(SeekFrom::Start(0))?;
        Ok(file)
    }
}

impl pictures::Source for Draft {
    fn open(&self) -> io::Result<Box<dyn pictures::Bytes + '_>> {
        Ok(Box::new(self.reader()?))
    }

    fn bytes(&self) -> u64 {
        self.len
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

/// A directory: files in `ab/cdef….ext`, drafts in `drafts`, what is about to be removed in
/// `hidden`. Several gateways may share it.
pub(super) struct BlobDirectory {
    root: PathBuf,
}

impl BlobDirectory {
    /// The directory `root`, which is made, and tidied.
    ///
    /// # Errors
    /// It cannot be made or written to.
    pub(super) fn open(root: PathBuf) -> io::Result<Self> {
        let folder = Self { root };
        make(&folder.drafts())?;
        make(&folder.hidden())?;
        folder.tidy()?;
        Ok(folder)
    }

    /// Says in the log if there are kept files here although they are kept elsewhere.
    pub(super) fn tell_if_passed_over(&self) {
        let is_kept = |name: &str| name.len() == 2 && name.bytes().all(|byte| byte.is_ascii_hexdigit());
        let entries = fs::read_dir(&self.root).into_iter().flatten().flatten();
        if entries.into_iter().any(|entry| entry.file_name().to_str().is_some_and(is_kept)) {
            let folder = self.root.display();
            tracing::warn!(%folder, "files of this folder are not served: copy them into the bucket of `files`");
        }
    }

    fn drafts(&self) -> PathBuf {
        self.root.join("drafts")
    }

    fn place(&self, name: &Name) -> PathBuf {
        self.root.join(name.path())
    }

    fn hidden(&self) -> PathBuf {
        self.root.join("hidden")
    }

    /// Where a file of that address may be and where it is hidden, for each format.
    fn ways(&self, file: FileId) -> impl Iterator<Item = (PathBuf, PathBuf)> {
        Kind::ALL.into_iter().map(move |kind| {
            let name = Name::new(file, kind);
            (self.place(&name), self.hidden().join(name.to_string()))
        })
    }

    /// An empty draft.
    ///
    /// # Errors
    /// The disk's.
    pub(super) fn draft(&self) -> io::Result<Draft> {
        let random = getrandom::u64().map_err(|_| io::ErrorKind::Other)?;
        let path = self.drafts().join(format!("{random:016x}"));
        let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path)?;
        Ok(Draft { file, path, hash: Sha256::new(), len: 0 })
    }

    /// Makes a whole draft a file of that name, durably. A file of that name has the same content,
    /// so either may stay.
    ///
    /// # Errors
    /// The disk's; nothing is kept then.
    pub(super) fn keep(&self, draft: Draft, name: &Name) -> io::Result<()> {
        settle(&draft, &self.place(name))
    }

    /// The file of that name and its size, if there is one.
    ///
    /// # Errors
    /// The disk's.
    pub(super) fn find(&self, name: &Name) -> io::Result<Option<(Box<dyn Object>, u64)>> {
        let Some(file) = present(File::open(self.place(name)))? else { return Ok(None) };
        let len = file.metadata()?.len();
        Ok(Some((Box::new(file), len)))
    }

    /// Takes a file out of sight, whatever its format. One that is not there is out of sight
    /// already. Its bytes; `None`: it could not be done, and the file is where it was.
    pub(super) fn hide(&self, file: FileId) -> Option<u64> {
        let mut bytes = 0;
        for (place, hidden) in self.ways(file) {
            match present(conceal(&place, &hidden)) {
                Ok(None) => {}
                Ok(Some(len)) => bytes += len,
                Err(error) => {
                    tracing::warn!(%error, "a file that nothing refers to could not be removed");
                    // Whatever was hidden of it; the disk may refuse this as well, and then it is
                    // back after an hour.
                    let _ = self.restore(file);
                    return None;
                }
            }
        }
        Some(bytes)
    }

    /// Puts back what was hidden.
    ///
    /// # Errors
    /// The disk's.
    pub(super) fn restore(&self, file: FileId) -> io::Result<()> {
        self.ways(file).try_for_each(|(place, hidden)| gone(fs::rename(hidden, place)))
    }

    /// Removes drafts that a crash has left. What is younger than [`limits::FILES_LEFT_MS`] may be
    /// another gateway's.
    ///
    /// # Errors
    /// The disk's.
    pub(super) fn tidy(&self) -> io::Result<()> {
        left_behind(&self.drafts())?.into_iter().try_for_each(|draft| gone(fs::remove_file(draft)))
    }

    /// What was left hidden, by a crash or by a disk that failed: whether it comes back or goes is
    /// for the store to say. What is younger than [`limits::FILES_LEFT_MS`] is still on its way.
    ///
    /// # Errors
    /// The disk's.
    pub(super) fn left_hidden(&self) -> io::Result<Vec<FileId>> {
        let left = left_behind(&self.hidden())?;
        let name = |path: &PathBuf| path.file_name().and_then(|name| name.to_str()).and_then(Name::parse);
        Ok(left.iter().filter_map(name).map(|name| name.file()).collect())
    }

    /// Removes what was hidden.
    ///
    /// # Errors
    /// The disk's.
    pub(super) fn discard(&self, file: FileId) -> io::Result<()> {
        self.ways(file).try_for_each(|(_, hidden)| gone(fs::remove_file(hidden)))
    }

    /// Bytes that may still be kept.
    ///
    /// # Errors
    /// The disk's.
    pub(super) fn room(&self) -> io::Result<u64> {
        let disk = rustix::fs::statvfs(&self.root)?;
        Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
    }
}

/// Moves a file out of sight; its bytes. Its age is that of its hiding from then on.
fn conceal(place: &Path, hidden: &Path) -> io::Result<u64> {
    let file = File::open(place)?;
    file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_millis(clock::wall_ms()))?;
    fs::rename(place, hidden)?;
    Ok(file.metadata()?.len())
}

/// The files in `folder` that nothing has happened to for [`limits::FILES_LEFT_MS`].
fn left_behind(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let before_ms = clock::wall_ms().saturating_sub(limits::FILES_LEFT_MS);
    let before = SystemTime::UNIX_EPOCH + Duration::from_millis(before_ms);
    let mut left = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if present(entry.metadata())?.is_some_and(|known| known.modified().is_ok_and(|modified| modified < before)) {
            left.push(entry.path());
        }
    }
    Ok(left)
}

/// What is not there any more is as good as done.
fn gone(result: io::Result<()>) -> io::Result<()> {
    present(result).map(|_| ())
}

/// Syncs a draft and moves it to its place.
fn settle(draft: &Draft, place: &Path) -> io::Result<()> {
    draft.file.sync_all()?;
    let folder = place.parent().unwrap_or(place);
    make(folder)?;
    fs::rename(&draft.path, place)?;
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

    /// Keeps a file of that address.
    fn keep(folder: &BlobDirectory, n: u8, content: &[u8]) -> Name {
        let mut draft = folder.draft().expect("a draft");
        draft.write_all(content).expect("room");
        let name = Name::new(FileId([n; 32]), Kind::Other);
        folder.keep(draft, &name).expect("room");
        name
    }

    fn read(folder: &BlobDirectory, name: &Name) -> Option<String> {
        let (mut object, _) = folder.find(name).expect("a disk")?;
        let mut text = String::new();
        object.read_to_string(&mut text).expect("a disk");
        Some(text)
    }

    fn age(path: &Path, by: Duration) {
        let then = SystemTime::UNIX_EPOCH + Duration::from_millis(clock::wall_ms()) - by;
        File::options().write(true).open(path).expect("a file").set_modified(then).expect("a disk");
    }

    #[test]
    fn what_is_dropped_leaves_nothing_and_what_is_kept_is_found_by_its_name() {
        let dir = tempfile::tempdir().expect("a directory");
        let folder = BlobDirectory::open(dir.path().join("files")).expect("a folder");
        let mut draft = folder.draft().expect("a draft");
        draft.write_all(b"half").expect("room");
        drop(draft);
        assert_eq!(files_in(dir.path()), 0);
        let name = keep(&folder, 0xba, b"abc");
        let place = dir.path().join("files/ba").join(format!("{}.bin", "ba".repeat(31)));
        assert_eq!(fs::read(place).expect("it is there"), b"abc");
        assert_eq!(read(&folder, &name).as_deref(), Some("abc"));
        assert!(folder.room().expect("a disk") > 0);
    }

    #[test]
    fn a_draft_knows_its_digest_also_after_it_was_changed() {
        let dir = tempfile::tempdir().expect("a directory");
        let folder = BlobDirectory::open(dir.path().to_owned()).expect("a folder");
        let mut draft = folder.draft().expect("a draft");
        draft.write_all(b"abd").expect("room");
        let change = |file: &mut File, len: u64| {
            assert_eq!(len, 3);
            file.seek(SeekFrom::Start(2))?;
            file.write_all(b"c")?;
            io::Result::Ok(true)
        };
        assert!(draft.edit(change).expect("a disk"));
        let digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(draft.digest().to_string(), digest);
    }

    #[test]
    fn what_is_hidden_is_out_of_sight_and_comes_back_or_goes() {
        let dir = tempfile::tempdir().expect("a directory");
        let folder = BlobDirectory::open(dir.path().to_owned()).expect("a folder");
        let name = keep(&folder, 1, b"abc");
        assert_eq!((folder.hide(name.file()), read(&folder, &name)), (Some(3), None));
        assert_eq!(folder.hide(name.file()), Some(0), "it is hidden already");
        folder.restore(name.file()).expect("a disk");
        assert_eq!(read(&folder, &name).as_deref(), Some("abc"));
        folder.hide(name.file()).expect("a disk");
        folder.discard(name.file()).expect("a disk");
        folder.restore(name.file()).expect("a disk");
        assert_eq!(files_in(dir.path()), 0);
    }

    #[test]
    fn what_a_crash_has_left_is_found_and_what_another_gateway_does_is_left_alone() {
        let dir = tempfile::tempdir().expect("a directory");
        let folder = BlobDirectory::open(dir.path().to_owned()).expect("a folder");
        let (old, young) = (folder.drafts().join("old"), folder.drafts().join("young"));
        fs::write(&old, b"half").expect("room");
        fs::write(&young, b"half").expect("room");
        let crashed = keep(&folder, 1, b"abc");
        let at_work = keep(&folder, 2, b"abc");
        for name in [&crashed, &at_work] {
            folder.hide(name.file()).expect("a disk");
        }
        let long = Duration::from_millis(limits::FILES_LEFT_MS + 1000);
        age(&old, long);
        age(&folder.hidden().join(crashed.to_string()), long);
        let folder = BlobDirectory::open(dir.path().to_owned()).expect("a folder");
        assert!(!old.exists() && young.exists());
        assert_eq!(folder.left_hidden().expect("a disk"), [crashed.file()]);
        assert_eq!((read(&folder, &crashed), read(&folder, &at_work)), (None, None), "only the store knows");
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
