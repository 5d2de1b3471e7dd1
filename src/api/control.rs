//! The control socket: what the operator's commands ask of a running gateway.
//!
//! Owns: the Unix socket `control.sock` in the data directory; one line of JSON comes, one goes
//! back.
//! Never: on the network, and never for another account of this machine: the file is its owner's
//! (0600), and who connects must be the gateway's own account or root.
//! Bounds: [`limits::CONTROL_CONNS_MAX`] at once, [`limits::CONTROL_LINE_BYTES_MAX`] a line,
//! [`limits::CONTROL_MS_MAX`] until it has come, [`limits::CONTROL_DEED_MS_MAX`] until it is done.

use std::fs::{self, DirBuilder, File, Permissions};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt};
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;

use super::services::Services;
use super::services::operator::{self, Deed, DeedOutcome};
use crate::ids::UserId;
use crate::limits;

/// What stands in a line.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
struct Asked {
    user: Deed,
    id: u64,
}

/// A bound socket; its file goes with it.
#[derive(Debug)]
pub struct Socket {
    listener: UnixListener,
    file: PathBuf,
}

impl Drop for Socket {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.file);
    }
}

/// Where the socket of a gateway is whose data directory is `data`.
#[must_use]
pub fn place(data: &Path) -> PathBuf {
    data.join("control.sock")
}

/// Binds it. One that a gateway has left behind that was killed is replaced. The directory is made
/// if it is missing: a gateway whose key and store are elsewhere has not made it yet.
///
/// # Errors
/// Another gateway serves there, or the operating system says no.
pub fn bind(data: &Path) -> io::Result<Socket> {
    let file = place(data);
    DirBuilder::new().recursive(true).mode(0o700).create(data)?;
    let short = Short::of(data)?;
    let listener = match UnixListener::bind(&short.path) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            if UnixStream::connect(&short.path).is_ok() {
                return Err(error);
            }
            fs::remove_file(&file)?;
            UnixListener::bind(&short.path)?
        }
        bound => bound?,
    };
    fs::set_permissions(&file, Permissions::from_mode(0o600))?;
    listener.set_nonblocking(true)?;
    Ok(Socket { listener, file })
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// A gateway may run, and was not asked: another account's, for one.
    #[error("{0}")]
    Unasked(io::Error),
    /// It was asked and has not answered: done or not done.
    #[error("{0}")]
    Unanswered(#[from] io::Error),
}

/// Asks the gateway that runs on `data`. `None`: none does, or none that listens.
///
/// # Errors
/// See [`AskError`].
pub fn ask(data: &Path, deed: Deed, user: UserId) -> Result<Option<DeedOutcome>, AskError> {
    match Short::of(data).and_then(|short| UnixStream::connect(&short.path)) {
        Ok(stream) => Ok(Some(ask_on(stream, deed, user)?)),
        // Nothing is there, or what a gateway that was killed has left.
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => Ok(None),
        Err(error) => Err(AskError::Unasked(error)),
    }
}

fn ask_on(mut stream: UnixStream, deed: Deed, user: UserId) -> io::Result<DeedOutcome> {
    let patience = Some(Duration::from_millis(limits::CONTROL_DEED_MS_MAX + limits::CONTROL_MS_MAX));
    stream.set_read_timeout(patience)?;
    stream.set_write_timeout(patience)?;
    let mut line = serde_json::to_string(&Asked { user: deed, id: user.get() })?;
    line.push('\n');
    stream.write_all(line.as_bytes())?;
    let mut answer = String::new();
    let most = limits::CONTROL_ANSWER_BYTES_MAX;
    BufReader::new(stream.take(most)).read_line(&mut answer)?;
    Ok(serde_json::from_str(&answer)?)
}

/// Serves until the gateway stops.
pub(super) async fn serve(socket: Socket, services: Arc<Services>, mut stop: watch::Receiver<bool>) {
    let Ok(listener) = socket.listener.try_clone().and_then(tokio::net::UnixListener::from_std) else {
        tracing::warn!("the control socket is not to be had");
        return;
    };
    let places = Arc::new(Semaphore::new(limits::CONTROL_CONNS_MAX));
    loop {
        let stream = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stop.wait_for(|stop| *stop) => return,
        };
        let Ok((stream, _)) = stream else {
            // No descriptor: later there may be one.
            tokio::time::sleep(Duration::from_millis(limits::ACCEPT_RETRY_MS)).await;
            continue;
        };
        if !stream.peer_cred().is_ok_and(|peer| is_trusted(peer.uid())) {
            continue;
        }
        // Beyond the bound a command is not answered, and says so.
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else { continue };
        let services = Arc::clone(&services);
        tokio::spawn(async move {
            converse(stream, &services).await;
            drop(place);
        });
    }
}

fn is_trusted(peer: u32) -> bool {
    peer == 0 || peer == rustix::process::geteuid().as_raw()
}

async fn converse(stream: tokio::net::UnixStream, services: &Services) {
    let (read, mut write) = stream.into_split();
    let mut line = String::new();
    let mut read = tokio::io::BufReader::new(read.take(limits::CONTROL_LINE_BYTES_MAX));
    let came = timeout(Duration::from_millis(limits::CONTROL_MS_MAX), read.read_line(&mut line)).await;
    let asked = came.ok().and_then(Result::ok).and_then(|_| serde_json::from_str::<Asked>(&line).ok());
    let Some((deed, user)) = asked.and_then(|asked| Some((asked.user, UserId::new(asked.id)?))) else { return };
    tracing::info!(?deed, %user, "the operator asks");
    let done = operator::on_gateway(services, deed, user);
    let done = timeout(Duration::from_millis(limits::CONTROL_DEED_MS_MAX), done).await.unwrap_or(DeedOutcome::Unsure);
    let event = match deed {
        Deed::Show => "account_shown",
        Deed::Ban => "banned",
        Deed::Unban => "unbanned",
        Deed::Delete => "account_deleted",
    };
    services.audit.say_deed(event, || {
        let is_done = matches!(done, DeedOutcome::Account(_));
        json!({ "by": "operator", "of": { "user": user.get() }, "done": is_done, "from": "control.sock" })
    });
    let Ok(mut answer) = serde_json::to_string(&done) else { return };
    answer.push('\n');
    let _ = timeout(Duration::from_millis(limits::CONTROL_MS_MAX), write.write_all(answer.as_bytes())).await;
}

/// A path of the socket that fits into an address, which has 108 bytes: below a long directory
/// through its descriptor.
struct Short {
    path: PathBuf,
    /// Keeps the descriptor.
    _directory: Option<File>,
}

impl Short {
    fn of(data: &Path) -> io::Result<Self> {
        let path = place(data);
        if path.as_os_str().len() < ADDRESS_BYTES_MAX {
            return Ok(Self { path, _directory: None });
        }
        let directory = File::open(data)?;
        let path = PathBuf::from(format!("/proc/self/fd/{}", directory.as_raw_fd()));
        Ok(Self { path: place(&path), _directory: Some(directory) })
    }
}

/// What `sun_path` holds (unix(7)), with its end.
const ADDRESS_BYTES_MAX: usize = 108;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_is_its_owners_and_goes_with_its_gateway() {
        let data = tempfile::tempdir().expect("a directory");
        let long = data.path().join("x".repeat(150));
        fs::create_dir(&long).expect("a directory");
        for data in [data.path(), &long] {
            let socket = bind(data).expect("a socket");
            let mode = fs::metadata(place(data)).expect("it is there").permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
            assert_eq!(bind(data).expect_err("served").kind(), io::ErrorKind::AddrInUse);
            drop(socket);
            assert!(!place(data).exists());
            assert!(matches!(ask(data, Deed::Show, UserId::new(1).expect("an id")), Ok(None)), "nobody is there");
        }
    }

    #[test]
    fn a_missing_directory_is_made_and_a_socket_that_was_left_behind_is_replaced() {
        let data = tempfile::tempdir().expect("a directory");
        let missing = data.path().join("not/yet");
        drop(bind(&missing).expect("a socket in a new directory"));
        assert_eq!(fs::metadata(&missing).expect("made").permissions().mode() & 0o777, 0o700);
        drop(UnixListener::bind(place(data.path())).expect("a socket"));
        assert!(place(data.path()).exists(), "as after a kill");
        drop(bind(data.path()).expect("replaced"));
    }

    #[test]
    fn a_socket_that_is_not_to_be_reached_is_not_taken_for_none() {
        let data = tempfile::tempdir().expect("a directory");
        let ask = || ask(data.path(), Deed::Delete, UserId::new(1).expect("an id"));
        drop(UnixListener::bind(place(data.path())).expect("a socket"));
        assert!(matches!(ask(), Ok(None)), "as after a kill");
        fs::remove_file(place(data.path())).expect("it is there");
        // As good as one of another account, which the system does not keep from root.
        std::os::unix::fs::symlink("control.sock", place(data.path())).expect("a link to itself");
        assert!(matches!(ask(), Err(AskError::Unasked(_))));
    }

    #[test]
    fn a_line_says_what_is_asked() {
        let line = serde_json::to_string(&Asked { user: Deed::Ban, id: 7 }).expect("JSON");
        assert_eq!(line, r#"{"user":"ban","id":7}"#);
    }
}
