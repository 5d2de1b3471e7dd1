//! What a supervisor (systemd) is told: that the gateway is ready, reloads, stops, and that its
//! shards answer.
//!
//! Owns: the datagrams of `sd_notify(3)`, and the thread that shows life as often as the supervisor
//! wants. Never: fails. Without `NOTIFY_SOCKET` nothing is told; a supervisor that does not listen
//! changes nothing. Bounds: what is said once waits [`SUPERVISOR_WAIT_MS_MAX`] for room; a shard
//! has half of the watchdog's time to answer; one that does not is what the watchdog is for.

use std::ffi::OsStr;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::Arc;
use std::time::Duration;
use std::{env, io, thread};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TryRecvError};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::api::services::ShardAccess;
use crate::clock::{self, Clock};
use crate::ids::ShardId;
use crate::limits::{SUPERVISOR_LOOK_MS, SUPERVISOR_WAIT_MS_MAX};
use crate::shard::{Answer, Notice};

/// The way to the supervisor, if there is one.
pub(super) struct Supervisor {
    socket: Option<UnixDatagram>,
}

impl Supervisor {
    /// The one that the environment names.
    pub(super) fn of_environment() -> Self {
        let socket = env::var_os("NOTIFY_SOCKET").and_then(|name| match connect(&name) {
            Ok(socket) => Some(socket),
            Err(error) => {
                tracing::warn!(%error, "the supervisor (NOTIFY_SOCKET) cannot be told anything");
                None
            }
        });
        Self { socket }
    }

    /// Tells what is said once. A queue that is full is waited for: a start of which the supervisor
    /// does not hear is ended when its time is over.
    fn tell(&self, state: &str) {
        let Some(socket) = &self.socket else { return };
        let clock = Clock::start();
        while let Err(error) = socket.send(state.as_bytes()) {
            let left_ms = SUPERVISOR_WAIT_MS_MAX.saturating_sub(clock.now().mono_ms);
            if error.kind() != io::ErrorKind::WouldBlock || left_ms == 0 {
                tracing::warn!(%error, state, "the supervisor (NOTIFY_SOCKET) takes nothing");
                return;
            }
            let within = Timespec { tv_sec: 0, tv_nsec: SUPERVISOR_LOOK_MS as i64 * 1_000_000 };
            // Whether there is room is learned from the next try.
            let _ = poll(&mut [PollFd::new(socket, PollFlags::OUT)], Some(&within));
        }
    }

    /// Shows life. The next sign comes soon, so that none is waited for.
    fn lives(&self) {
        if let Some(socket) = &self.socket {
            let _ = socket.send(b"WATCHDOG=1");
        }
    }

    /// Everything is there.
    pub(super) fn ready(&self) {
        self.tell("READY=1\nSTATUS=serving");
    }

    /// The configuration is loaded again; [`Supervisor::ready`] ends it. Which request for it this
    /// answers is told by the time (`sd_notify(3)`): a unit of `Type=notify-reload` waits for it.
    pub(super) fn reloading(&self) {
        let now_us = clock::system_monotonic_us();
        self.tell(&format!("RELOADING=1\nMONOTONIC_USEC={now_us}\nSTATUS=loading the configuration again"));
    }

    /// The stop has begun.
    pub(super) fn stopping(&self) {
        self.tell("STOPPING=1\nSTATUS=stopping");
    }

    /// How the stop has ended.
    pub(super) fn status(&self, status: &dyn std::fmt::Display) {
        self.tell(&format!("STATUS={status}"));
    }
}

fn connect(name: &OsStr) -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    match name.as_bytes().strip_prefix(b"@") {
        Some(name) => socket.connect_addr(&SocketAddr::from_abstract_name(name)?)?,
        None => socket.connect(name)?,
    }
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// Shows life until it is dropped.
pub(super) struct Watchdog {
    _stop: Sender<()>,
}

impl Watchdog {
    /// Begins, if the supervisor watches this process.
    ///
    /// # Errors
    /// There is no thread to be had.
    pub(super) fn start(homes: Arc<dyn ShardAccess>, shards: u16) -> io::Result<Option<Self>> {
        let Some(period) = period(env::var("WATCHDOG_USEC").ok(), env::var("WATCHDOG_PID").ok()) else {
            return Ok(None);
        };
        let supervisor = Supervisor::of_environment();
        let (stop, stopped) = crossbeam_channel::bounded(0);
        thread::Builder::new()
            .name("watchdog".to_owned())
            .spawn(move || watch(&supervisor, homes.as_ref(), shards, period, &stopped))?;
        Ok(Some(Self { _stop: stop }))
    }
}

/// Half of what the supervisor waits for, if it watches this process at all.
fn period(usec: Option<String>, pid: Option<String>) -> Option<Duration> {
    let is_ours = pid.is_none_or(|pid| pid.parse() == Ok(std::process::id()));
    let usec = usec?.parse().ok().filter(|usec: &u64| *usec > 0 && is_ours)?;
    Some(Duration::from_micros(usec / 2))
}

fn watch(supervisor: &Supervisor, homes: &dyn ShardAccess, shards: u16, period: Duration, stopped: &Receiver<()>) {
    let mut was_well = true;
    loop {
        let is_well = all_answer(homes, shards, period / 2);
        if is_well {
            supervisor.lives();
        } else if stopped.try_recv() == Err(TryRecvError::Disconnected) {
            // An orderly stop: the shards have ended.
            return;
        } else if was_well {
            tracing::error!("a shard does not answer: the supervisor is not told that all is well");
        }
        was_well = is_well;
        if stopped.recv_timeout(period / 2) != Err(RecvTimeoutError::Timeout) {
            return;
        }
    }
}

/// Whether every shard answers within `patience`.
fn all_answer(homes: &dyn ShardAccess, shards: u16, patience: Duration) -> bool {
    let (tell, told) = crossbeam_channel::bounded(usize::from(shards));
    for shard in (0..shards).map(ShardId) {
        let tell = tell.clone();
        let heard = Box::new(move |_: Answer| {
            let _ = tell.try_send(());
        });
        if homes.ask(shard, Notice::Hello, heard).is_err() {
            return false;
        }
    }
    drop(tell);
    let clock = Clock::start();
    let within = u64::try_from(patience.as_millis()).unwrap_or(u64::MAX);
    (0..shards).all(|_| {
        let left_ms = within.saturating_sub(clock.now().mono_ms);
        told.recv_timeout(Duration::from_millis(left_ms)).is_ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mesh::Full;

    #[test]
    fn only_the_process_that_is_watched_shows_life() {
        let own = std::process::id().to_string();
        let of = |usec: &str, pid: Option<&str>| period(Some(usec.to_owned()), pid.map(str::to_owned));
        assert_eq!(of("30000000", None), Some(Duration::from_secs(15)));
        assert_eq!(of("30000000", Some(&own)), Some(Duration::from_secs(15)));
        for (usec, pid) in [("30000000", Some("1")), ("0", None), ("soon", None)] {
            assert_eq!(of(usec, pid), None, "{usec} {pid:?}");
        }
        assert_eq!(period(None, None), None);
    }

    /// Answers for the first so many shards.
    struct First(u16);

    impl ShardAccess for First {
        fn ask(&self, shard: ShardId, _: Notice, then: Box<dyn FnOnce(Answer) + Send>) -> Result<(), Full> {
            if shard.0 < self.0 {
                then(Answer::Done);
            }
            Ok(())
        }

        fn shards(&self) -> u16 {
            4
        }
    }

    #[test]
    fn one_silent_shard_is_one_too_many() {
        let patience = Duration::from_millis(50);
        assert!(all_answer(&First(4), 4, patience));
        assert!(!all_answer(&First(3), 4, patience));
    }

    #[test]
    fn a_supervisor_is_told_by_path_and_by_abstract_name() {
        let folder = tempfile::tempdir().expect("a directory");
        let path = folder.path().join("notify");
        let name = format!("imgate-test-{}", path.display());
        let by_name = SocketAddr::from_abstract_name(name.as_bytes()).expect("a name");
        let listeners = [
            (UnixDatagram::bind(&path).expect("a socket"), path.clone().into_os_string()),
            (UnixDatagram::bind_addr(&by_name).expect("a socket"), format!("@{name}").into()),
        ];
        for (listener, name) in listeners {
            let supervisor = Supervisor { socket: connect(&name).ok() };
            supervisor.ready();
            let mut taken = [0; 64];
            let len = listener.recv(&mut taken).expect("a datagram");
            assert_eq!(&taken[..len], b"READY=1\nSTATUS=serving");
        }
        assert!(connect(OsStr::new("/nowhere/at/all")).is_err());
        Supervisor { socket: None }.stopping();
    }

    #[test]
    fn a_supervisor_whose_queue_is_full_hears_what_is_said_once() {
        let folder = tempfile::tempdir().expect("a directory");
        let path = folder.path().join("notify");
        let listener = UnixDatagram::bind(&path).expect("a socket");
        listener.set_read_timeout(Some(Duration::from_secs(20))).expect("a socket option");
        let supervisor = Supervisor { socket: connect(path.as_os_str()).ok() };
        let socket = supervisor.socket.as_ref().expect("it listens");
        while socket.send(b"WATCHDOG=1").is_ok() {}
        supervisor.lives();
        thread::scope(|scope| {
            scope.spawn(|| supervisor.ready());
            let mut taken = [0; 64];
            let heard = || {
                let len = listener.recv(&mut taken).expect("a datagram");
                taken[..len].to_vec()
            };
            let said = std::iter::repeat_with(heard).find(|said| said != b"WATCHDOG=1");
            assert_eq!(said.as_deref(), Some(&b"READY=1\nSTATUS=serving"[..]));
        });
    }
}
