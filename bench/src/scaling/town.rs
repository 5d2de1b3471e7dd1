//! A gateway with its users: three populations, in groups of different sizes, all of which connect.
//!
//! Owns: [`Town`]: the process, its addresses, who is who.
//! Never: stores a message; what a store costs has a page of its own.

use std::fs;
use std::net::SocketAddr;
use std::ops::Range;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use imgate::ids::{GroupId, ShardId, UserId, shard_of};
use serde_json::Value;
use tempfile::TempDir;

use crate::load::dialect::Imgate;
use crate::side::server::{Running, flags, free_address, launch};

/// Users, groups and members of each, of a population.
const POPULATIONS: [(usize, usize, usize); 3] = [(800, 40, 20), (600, 200, 3), (800, 1, 800)];

/// A group with its members, as numbers of connections.
#[derive(Clone, Debug)]
pub struct Group {
    /// Its id.
    pub id: GroupId,
    /// Its members.
    pub members: Range<usize>,
}

/// A running gateway and its users.
pub struct Town {
    /// The process.
    pub running: Running,
    /// Where it tells its metrics.
    pub admin: SocketAddr,
    /// Its shards.
    pub shards: u16,
    /// The user of each connection.
    pub users: Vec<UserId>,
    /// The groups of each population.
    pub groups: Vec<Vec<Group>>,
}

impl Town {
    /// Connections that a town needs.
    pub const MEMBERS: usize = POPULATIONS[0].0 + POPULATIONS[1].0 + POPULATIONS[2].0;

    /// Seeds and starts `imgate` with `shards` shards on `cores`.
    ///
    /// # Errors
    /// It cannot be seeded, or does not listen in time.
    pub fn start(imgate: &Path, shards: u16, cores: &[usize]) -> Result<Self> {
        let folder = TempDir::new()?;
        let (mut users, mut groups) = (Vec::new(), Vec::new());
        for (count, groups_of_them, size) in POPULATIONS {
            let first = users.len();
            let (ids, tokens) = seed(imgate, folder.path(), (count, groups_of_them, size))?;
            users.extend(tokens);
            let members = |k: usize| first + k * size..first + (k + 1) * size;
            groups.push((0..).zip(ids).map(|(k, id)| Group { id, members: members(k) }).collect());
        }
        let (address, admin) = (free_address()?, free_address()?);
        let data = folder.path().join("data").to_string_lossy().into_owned();
        let mut args = flags(&["--listen", &address.to_string(), "--admin", &admin.to_string(), "--data", &data]);
        args.extend(flags(&["--log", "warn", "--shards", &shards.to_string(), "--durability", "volatile"]));
        args.extend(flags(&["--coalesce", "0", "--user-cost", "0", "--user-messages", "0", "--user-bytes", "0"]));
        let ids = users.iter().filter_map(|&(id, _)| UserId::new(id)).collect();
        let dialect = Box::new(Imgate { users, group: 0, v2: true, deflate: false });
        let running = launch(imgate, &args, dialect, folder, (address, Some(admin)), cores)?;
        Ok(Self { running, admin, shards, users: ids, groups })
    }

    /// The shard of a member.
    #[must_use]
    pub fn shard(&self, member: usize) -> ShardId {
        shard_of(self.users[member], self.shards)
    }

    /// Members of the first population on one shard, in their order.
    #[must_use]
    pub fn on_shard(&self, shard: ShardId) -> Vec<usize> {
        (0..POPULATIONS[0].0).filter(|&member| self.shard(member) == shard).collect()
    }
}

/// A user and its token.
type Seeded = (u64, String);

/// Makes a population; its groups, and each user with its token.
fn seed(imgate: &Path, folder: &Path, population: (usize, usize, usize)) -> Result<(Vec<GroupId>, Vec<Seeded>)> {
    let (users, groups, size) = population;
    let tokens = folder.join(format!("tokens-{groups}"));
    let seeded = Command::new(imgate)
        .arg("--data")
        .arg(folder.join("data"))
        .args(["--log", "error", "seed", "--users", &users.to_string(), "--groups", &groups.to_string()])
        .args(["--group-size", &size.to_string(), "--tokens"])
        .arg(&tokens)
        .output()?;
    if !seeded.status.success() {
        bail!("imgate seed: {}", String::from_utf8_lossy(&seeded.stderr));
    }
    let line: Value = serde_json::from_slice(&seeded.stdout).context("imgate seed prints JSON")?;
    let ids = line["groups"].as_array().context("imgate seed names its groups")?;
    let ids: Vec<GroupId> = ids.iter().filter_map(|id| GroupId::new(id.as_u64()?)).collect();
    let lines = fs::read_to_string(&tokens)?;
    let pairs = lines.lines().filter_map(|line| line.split_once(' '));
    let tokens: Vec<_> = pairs.filter_map(|(id, token)| Some((id.parse().ok()?, token.to_owned()))).collect();
    if (ids.len(), tokens.len()) != (groups, users) {
        bail!("imgate seed made {} groups and {} users", ids.len(), tokens.len());
    }
    Ok((ids, tokens))
}
