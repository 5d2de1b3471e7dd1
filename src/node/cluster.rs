//! The thread by which a gateway speaks with others.
//!
//! Owns: what it is told of the configuration.

use std::io;
use std::sync::Arc;

use anyhow::anyhow;

use crate::api::Others;
use crate::api::admin::Degraded;
use crate::auth::Key;
use crate::clock::Clock;
use crate::cluster::envelope::BusKey;
use crate::cluster::exchange::Exchange;
use crate::cluster::{self, ChangeFeed, Cluster, Setup};
use crate::config::{Config, Durability};
use crate::mesh::Mesh;
use crate::store::worker::Store;

/// Links the shards with other gateways, if the configuration names a bus to them, and starts the
/// thread.
pub(super) fn start<H>(
    config: &Config,
    key: &Key,
    boot: u64,
    mesh: &mut Mesh<H>,
    store: &Store,
    clock: Clock,
) -> anyhow::Result<Option<Cluster>> {
    if !is_clustered(config) {
        return Ok(None);
    }
    let (wake, notify) = cluster::waker();
    let end = mesh.join_cluster(wake);
    if let Some(server) = config.cluster.expose().iter().position(|server| !cluster::is_server(server)) {
        anyhow::bail!("the setting `cluster`: number {} is no URL of a server", server + 1);
    }
    let exchange = Exchange::new(config.node, boot, end.shards(), clock.now(), None);
    let (secret, fallback) = key.bus_secrets();
    let setup = Setup {
        servers: config.cluster.expose().to_vec(),
        name: config.cluster_name.clone(),
        key: BusKey::new((&secret, fallback.as_ref()), &config.cluster_name),
        exchange,
        end,
        wake: notify,
        store: store.clone(),
        clock,
        changes: ChangeFeed::default(),
    };
    tracing::info!(node = config.node.0, name = config.cluster_name, "one of several gateways");
    let node = config.node.0;
    Cluster::start(setup).map(Some).map_err(|error| match error.kind() {
        io::ErrorKind::AddrInUse => anyhow!(
            "another gateway of the cluster `{}` runs with the setting `node = {node}`: give each a number of its own",
            config.cluster_name
        ),
        _ => anyhow!(error).context("cannot start the thread of the cluster"),
    })
}

/// Whether other gateways are to hear of what is stored here.
pub(super) fn is_clustered(config: &Config) -> bool {
    !config.cluster.is_empty() && config.durability == Durability::Stored
}

/// The ways of the control plane to and from others that follow its changes.
pub(super) fn others(cluster: &Cluster) -> Others {
    Others { tell: cluster.tell_change(), heard: cluster.heard_change() }
}

/// What it has to say on `/readyz`.
pub(super) fn degraded(cluster: &Cluster) -> Degraded {
    let numbers = cluster.numbers();
    Arc::new(move || cluster::degraded(&numbers.lock()))
}
