//! The servers that are measured: what they are called, how they are started, in which language
//! they are spoken to.
//!
//! Owns: [`Server`], [`Programs`] (where their programs are) and [`Running`], which ends its
//! process when it goes.
//! Never: skips one in silence; who cannot be started has a reason.

use std::ffi::OsString;
use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use imgate::ids::{UserId, shard_of};
use imgate_client::pipe::Tls;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::clock;
use crate::load::Dialect;
use crate::load::dialect::{Imgate, Nats, Raw};
use crate::load::drive::Watch;
use crate::process;

/// How long a server may take to listen.
const START_NS_MAX: u64 = 30_000_000_000;
/// How long a server may take to end after it was asked to.
const STOP_NS_MAX: u64 = 12_000_000_000;
const PAUSE: Duration = Duration::from_millis(10);

/// A server, in one of its modes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Server {
    /// The floor, one send per delivery.
    Floor,
    /// The floor, one send per member of what a turn of its loop has read.
    FloorTurn,
    /// The floor, one send per member of what 5 ms have brought.
    FloorWait,
    /// tokio and tokio-tungstenite.
    Baseline,
    /// Node's `ws`.
    Node,
    /// Debian's nats-server over WebSocket.
    Nats,
    /// imgate as a pure router, one shard, our own protocol.
    Volatile,
    /// As before, spoken to as by the old pages: no acks.
    Legacy,
    /// As [`Server::Coalescing`] with two shards; the two ends of a direct conversation are on
    /// different ones, so that every message hops.
    TwoShards,
    /// As before, spoken to as by the old pages: no acks.
    TwoShardsLegacy,
    /// As [`Server::Volatile`] with adaptive coalescing as it is by default.
    Coalescing,
    /// As [`Server::Volatile`], but every message is in SQLite before it is delivered.
    Stored,
    /// As [`Server::Volatile`] over TLS.
    Tls,
    /// As [`Server::Volatile`] with compressed messages.
    Deflate,
    /// As [`Server::Nats`] over TLS.
    NatsTls,
}

impl Server {
    /// All, in the order of the table. The floor is the first, because it is the measure.
    pub const ALL: [Self; 15] = [
        Self::Floor,
        Self::FloorTurn,
        Self::FloorWait,
        Self::Volatile,
        Self::Legacy,
        Self::Coalescing,
        Self::TwoShards,
        Self::TwoShardsLegacy,
        Self::Stored,
        Self::Tls,
        Self::Deflate,
        Self::Baseline,
        Self::Nats,
        Self::NatsTls,
        Self::Node,
    ];

    /// Its name on the command line and in the table.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Floor => "floor",
            Self::FloorTurn => "floor-turn",
            Self::FloorWait => "floor-5ms",
            Self::Baseline => "tokio-tungstenite",
            Self::Node => "node-ws",
            Self::Nats => "nats-server",
            Self::Volatile => "imgate-volatile",
            Self::Legacy => "imgate-legacy",
            Self::TwoShards => "imgate-two-shards",
            Self::TwoShardsLegacy => "imgate-two-shards-legacy",
            Self::Coalescing => "imgate-coalescing",
            Self::Stored => "imgate-stored",
            Self::Tls => "imgate-tls",
            Self::Deflate => "imgate-deflate",
            Self::NatsTls => "nats-server-tls",
        }
    }

    /// What the table says about it.
    #[must_use]
    pub const fn describe(self) -> &'static str {
        match self {
            Self::Floor => "bare epoll, one preframed send per delivery",
            Self::FloorTurn => "bare epoll, one contiguous send per member of what one turn has read",
            Self::FloorWait => "bare epoll, one contiguous send per member of what 5 ms have brought",
            Self::Baseline => "a task per connection, tokio's broadcast channel",
            Self::Node => "Node and the `ws` package, without deflate",
            Self::Nats => "Debian's nats-server, its protocol in WebSocket",
            Self::Volatile => "a pure router, one shard, `imgate.v2` with an ack per message, coalescing off",
            Self::Legacy => "as `imgate-volatile`, spoken to as by the old pages: no acks",
            Self::TwoShards => {
                "as `imgate-coalescing` with two shards on the one core; every direct message crosses them"
            }
            Self::TwoShardsLegacy => "as `imgate-two-shards`, spoken to as by the old pages: no acks",
            Self::Coalescing => "as `imgate-volatile` with adaptive coalescing as it is by default",
            Self::Stored => "as `imgate-volatile`, but every message is in SQLite, synced, before it is delivered",
            Self::Tls => "as `imgate-volatile` over TLS 1.3, handshakes without tickets",
            Self::Deflate => "as `imgate-volatile`, members take compressed messages (RFC 7692)",
            Self::NatsTls => "as `nats-server` over TLS 1.3",
        }
    }

    /// Whether it is spoken to over TLS.
    #[must_use]
    pub const fn is_encrypted(self) -> bool {
        matches!(self, Self::Tls | Self::NatsTls)
    }
}

/// Where the programs are.
#[derive(Clone, Debug)]
pub struct Programs {
    /// Ours, beside each other.
    pub ours: PathBuf,
    /// The gateway.
    pub imgate: PathBuf,
    /// Node's interpreter.
    pub node: PathBuf,
    /// The folder of the Node server.
    pub node_server: PathBuf,
    /// Debian's server.
    pub nats: PathBuf,
}

impl Programs {
    /// Why `server` cannot be measured here; `None`: it can.
    #[must_use]
    pub fn missing(&self, server: Server) -> Option<String> {
        let lacks =
            |path: &Path, how: &str| (!is_program(path)).then(|| format!("{} is not there: {how}", path.display()));
        match server {
            Server::Floor | Server::FloorTurn | Server::FloorWait => lacks(&self.ours.join("floor"), "build bench"),
            Server::Baseline => lacks(&self.ours.join("baseline"), "build bench"),
            Server::Node => lacks(&self.node, "install Node").or_else(|| {
                let ws = self.node_server.join("node_modules/ws");
                (!ws.exists()).then(|| format!("the ws package is not there: npm ci in {}", self.node_server.display()))
            }),
            Server::Nats | Server::NatsTls => lacks(&self.nats, "apt install nats-server, or --nats PATH"),
            Server::Coalescing | Server::TwoShards | Server::TwoShardsLegacy => lacks(&self.imgate, "build imgate")
                .or_else(|| {
                    self.coalescing().is_none().then(|| "this imgate has no setting for coalescing".to_owned())
                }),
            Server::Tls => lacks(&self.imgate, "build imgate").or_else(|| {
                self.settings(|key| key == "listen_tls").is_empty().then(|| "this imgate speaks no TLS".to_owned())
            }),
            Server::Deflate => lacks(&self.imgate, "build imgate").or_else(|| {
                self.settings(|key| key == "compression")
                    .is_empty()
                    .then(|| "this imgate compresses nothing".to_owned())
            }),
            _ => lacks(&self.imgate, "build imgate"),
        }
    }

    /// The gateway's flag for the coalescing budget, as its own list of settings names it.
    fn coalescing(&self) -> Option<String> {
        self.settings(|key| key.contains("coalesc")).into_iter().next()
    }

    /// Its flags for what one user may send: an author here is as fast as a hundred.
    fn paces(&self) -> Vec<String> {
        self.settings(|key| ["user_cost", "user_messages", "user_bytes"].contains(&key))
    }

    /// The flags of the settings that `wanted` picks; an older gateway has fewer.
    fn settings(&self, wanted: impl Fn(&str) -> bool) -> Vec<String> {
        let Ok(sample) = Command::new(&self.imgate).arg("config").output() else { return Vec::new() };
        let sample = String::from_utf8_lossy(&sample.stdout);
        let keys = sample.lines().filter_map(|line| line.trim_start_matches('#').split_once(" = "));
        keys.map(|(key, _)| key).filter(|key| wanted(key)).map(|key| format!("--{}", key.replace('_', "-"))).collect()
    }

    /// Starts `server` on `cores` for `members` members of one group.
    ///
    /// # Errors
    /// It does not listen in time.
    pub fn start(&self, server: Server, members: usize, cores: &[usize]) -> Result<Running> {
        let folder = TempDir::new()?;
        let address = free_address()?;
        let mut admin = None;
        let tls = server.is_encrypted().then(|| certificate(folder.path(), address)).transpose()?;
        let (program, args, dialect): (_, Vec<OsString>, Box<dyn Dialect>) = match server {
            Server::Floor => (self.ours.join("floor"), flags(&["--listen", &address.to_string()]), Box::new(Raw)),
            Server::FloorTurn => {
                (self.ours.join("floor"), flags(&["--listen", &address.to_string(), "--coalesce"]), Box::new(Raw))
            }
            Server::FloorWait => {
                (self.ours.join("floor"), flags(&["--listen", &address.to_string(), "--wait-ms", "5"]), Box::new(Raw))
            }
            Server::Baseline => (self.ours.join("baseline"), flags(&["--listen", &address.to_string()]), Box::new(Raw)),
            Server::Node => {
                let mut args = vec![self.node_server.join("server.js").into_os_string()];
                args.extend(flags(&[&address.ip().to_string(), &address.port().to_string()]));
                (self.node.clone(), args, Box::new(Raw))
            }
            Server::Nats | Server::NatsTls => {
                (self.nats.clone(), nats_args(folder.path(), address, tls.is_some())?, Box::new(Nats))
            }
            _ => {
                let tells = *admin.insert(free_address()?);
                let (args, dialect) = self.imgate_args(server, members, folder.path(), address, tells)?;
                (self.imgate.clone(), args, Box::new(dialect))
            }
        };
        let mut running = launch(&program, &args, dialect, folder, (address, admin), cores)?;
        running.tls = tls;
        Ok(running)
    }

    fn imgate_args(
        &self,
        server: Server,
        members: usize,
        folder: &Path,
        address: SocketAddr,
        admin: SocketAddr,
    ) -> Result<(Vec<OsString>, Imgate)> {
        let data = folder.join("data").to_string_lossy().into_owned();
        let tokens = folder.join("tokens").to_string_lossy().into_owned();
        let crosses = matches!(server, Server::TwoShards | Server::TwoShardsLegacy);
        // Who is on which shard is chance; with so many more there are enough on both.
        let seeds = (if crosses { members + members / 4 + 100 } else { members }).to_string();
        let seed =
            ["--data", &data, "--log", "error", "seed", "--users", &seeds, "--groups", "1", "--group-size", &seeds];
        let seeded = Command::new(&self.imgate).args(seed).args(["--tokens", &tokens]).output()?;
        if !seeded.status.success() {
            bail!("imgate seed: {}", String::from_utf8_lossy(&seeded.stderr));
        }
        let seeded: serde_json::Value = serde_json::from_slice(&seeded.stdout).context("imgate seed prints JSON")?;
        let group = seeded["groups"][0].as_u64().context("imgate seed names its group")?;
        let users = fs::read_to_string(&tokens)?;
        let users = users.lines().filter_map(|line| line.split_once(' '));
        let users = users.filter_map(|(id, token)| Some((id.parse().ok()?, token.to_owned())));
        let users = if crosses { across_shards(users, members) } else { users.collect() };

        // Whoever listens over TLS listens plainly, too, at a port that is of no use here.
        let listen = if server.is_encrypted() { "127.0.0.1:0".to_owned() } else { address.to_string() };
        let shards = if crosses { "2" } else { "1" };
        let durability = if server == Server::Stored { "stored" } else { "volatile" };
        let mut args = flags(&["--listen", &listen, "--admin", &admin.to_string(), "--data", &data, "--log", "warn"]);
        args.extend(flags(&["--shards", shards, "--durability", durability]));
        if server.is_encrypted() {
            let file = |name: &str| folder.join(name).to_string_lossy().into_owned();
            let address = address.to_string();
            args.extend(flags(&["--listen-tls", &address, "--tls-cert", &file(CERTIFICATE), "--tls-key", &file(KEY)]));
        }
        let deflate = server == Server::Deflate;
        if deflate {
            args.extend(flags(&["--compression", "on"]));
        }
        if let Some(flag) = self.coalescing().filter(|_| !crosses && server != Server::Coalescing) {
            args.extend(flags(&[&flag, "0"]));
        }
        for flag in self.paces() {
            args.extend(flags(&[&flag, "0"]));
        }
        let v2 = !matches!(server, Server::Legacy | Server::TwoShardsLegacy);
        Ok((args, Imgate { users, group, v2, deflate }))
    }
}

/// `members` of `users` so that the ends of each pair (2i, 2i + 1) are on different ones of two
/// shards, and as many authors on each.
fn across_shards(users: impl Iterator<Item = (u64, String)>, members: usize) -> Vec<(u64, String)> {
    let shard = |user: &(u64, String)| UserId::new(user.0).map_or(0, |user| shard_of(user, 2).0);
    let (here, there): (Vec<_>, Vec<_>) = users.partition(|user| shard(user) == 0);
    let pairs = here.into_iter().zip(there).enumerate();
    let pairs = pairs.flat_map(|(i, (one, other))| if i % 2 == 0 { [one, other] } else { [other, one] });
    pairs.take(members).collect()
}

/// Starts `program` on `cores`, with its log in `folder`, and waits until it listens at `address`;
/// a gateway tells about itself at `admin`.
///
/// # Errors
/// It does not listen in time.
pub fn launch(
    program: &Path,
    args: &[OsString],
    dialect: Box<dyn Dialect>,
    folder: TempDir,
    (address, admin): (SocketAddr, Option<SocketAddr>),
    cores: &[usize],
) -> Result<Running> {
    let log = fs::File::create(folder.path().join("server.log"))?;
    let home = process::cores()?;
    // A child inherits where its parent may run.
    process::pin(cores).context("cannot pin the server")?;
    let child = Command::new(program)
        .args(args)
        .current_dir(folder.path())
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn();
    process::pin(&home)?;
    let child = child.with_context(|| format!("cannot start {}", program.display()))?;
    let mut running = Running { child, address, admin, tls: None, dialect, folder };
    running.wait()?;
    Ok(running)
}

/// Arguments.
#[must_use]
pub fn flags(words: &[&str]) -> Vec<OsString> {
    words.iter().map(OsString::from).collect()
}

/// Files of a server's folder.
const CERTIFICATE: &str = "cert.pem";
const KEY: &str = "key.pem";

/// A certificate for `address` in `folder`, and clients that believe it.
fn certificate(folder: &Path, address: SocketAddr) -> Result<Tls> {
    let made = rcgen::generate_simple_self_signed(vec![address.ip().to_string()])?;
    fs::write(folder.join(CERTIFICATE), made.cert.pem())?;
    fs::write(folder.join(KEY), made.signing_key.serialize_pem())?;
    Ok(Tls::trusting(&folder.join(CERTIFICATE), &address.to_string())?)
}

fn nats_args(folder: &Path, address: SocketAddr, encrypted: bool) -> Result<Vec<OsString>> {
    let file = folder.join("nats.conf");
    let (ip, port, client) = (address.ip(), address.port(), free_address()?.port());
    let tls = match encrypted {
        true => format!("tls: {{ cert_file: \"{CERTIFICATE}\", key_file: \"{KEY}\" }}"),
        false => "no_tls: true".to_owned(),
    };
    let text = format!(
        "listen: \"{ip}:{client}\"\nmax_connections: 100000\nwebsocket {{ listen: \"{ip}:{port}\", {tls}, compression: false }}\n"
    );
    fs::write(&file, text)?;
    Ok(vec!["-c".into(), file.into_os_string()])
}

/// A port that was free a moment ago. Not all of these servers can say which one the system has
/// given them.
pub fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

fn is_program(path: &Path) -> bool {
    let named = path.components().count() == 1;
    let found = |folder: PathBuf| folder.join(path).is_file();
    path.is_file() || named && std::env::var_os("PATH").is_some_and(|path| std::env::split_paths(&path).any(found))
}

/// A server that runs.
pub struct Running {
    child: Child,
    /// Where it listens.
    pub address: SocketAddr,
    /// Where it tells its metrics, if it does.
    pub admin: Option<SocketAddr>,
    /// What its clients' TLS sessions are made of, if it is spoken to so.
    pub tls: Option<Tls>,
    /// How it is spoken to.
    pub dialect: Box<dyn Dialect>,
    /// Its files and its log; goes with it.
    folder: TempDir,
}

impl Running {
    /// Its process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its files, until it ends.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// What to look at while it is measured.
    #[must_use]
    pub fn watch(&self) -> Watch {
        Watch { pid: self.pid(), admin: self.admin }
    }

    /// The end of what it has logged.
    #[must_use]
    pub fn log(&self) -> String {
        let log = fs::read_to_string(self.folder.path().join("server.log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(LOG_LINES)..].join("\n")
    }

    fn wait(&mut self) -> Result<()> {
        let began_ns = clock::nanos();
        while TcpStream::connect(self.address).is_err() {
            if let Some(status) = self.child.try_wait()? {
                bail!("it ended at once ({status}): {}", self.log());
            }
            if clock::nanos() - began_ns > START_NS_MAX {
                bail!("it does not listen: {}", self.log());
            }
            sleep(PAUSE);
        }
        Ok(())
    }
}

/// Lines of a server's log that go into an error.
const LOG_LINES: usize = 5;

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(pid) = Pid::from_raw(self.child.id() as i32) {
            // Gone already: all the better.
            let _ = kill_process(pid, Signal::TERM);
        }
        let began_ns = clock::nanos();
        while matches!(self.child.try_wait(), Ok(None)) {
            if clock::nanos() - began_ns > STOP_NS_MAX {
                let _ = self.child.kill();
                let _ = self.child.wait();
            }
            sleep(PAUSE);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ends_of_a_pair_are_on_different_shards() {
        let users = (1..=350).map(|id| (id, String::new()));
        let users = across_shards(users, 200);
        assert_eq!(users.len(), 200);
        let shards: Vec<u16> = users.iter().map(|user| shard_of(UserId::new(user.0).expect("an id"), 2).0).collect();
        assert!(shards.chunks(2).all(|pair| pair[0] != pair[1]), "{shards:?}");
        assert_eq!(shards.iter().step_by(2).filter(|&&shard| shard == 0).count(), 50, "authors are on both alike");
    }
}
