//! The right of one gateway at a time to its data directory, whatever the store is.
//!
//! Owns: when it is taken.
//! Never: for a command without a gateway; a store that is a file takes it for such a one.

use std::sync::Arc;

use anyhow::Context;

use crate::config::Config;
use crate::store::DataLock;

/// The right to the data directory, until it is dropped: two gateways on one would tell a webhook
/// everything twice and take each other's control socket.
///
/// # Errors
/// Another gateway runs on it, or it cannot be made.
pub(super) fn lock(config: &Config) -> anyhow::Result<Arc<DataLock>> {
    DataLock::take(&config.data).map(Arc::new).context("cannot start")
}

/// A configuration for tests: one shard, nothing kept, ports that the kernel chooses.
#[cfg(test)]
pub(super) fn test_config(data: &std::path::Path, settings: &[(&str, &str)]) -> Config {
    let mut layers = crate::config::Layers::default();
    let own = [
        ("listen", "127.0.0.1:0"),
        ("admin", "127.0.0.1:0"),
        ("data", data.to_str().expect("UTF-8")),
        ("store", "memory:"),
        ("shards", "1"),
    ];
    for (key, value) in own.iter().chain(settings) {
        let field = crate::config::FIELDS.iter().find(|field| field.key == *key).expect("a setting");
        layers.flag(field, vec![(*value).to_owned()]);
    }
    Config::from_layers(&layers).expect("a good configuration")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::{Node, Tuning};

    #[test]
    fn two_gateways_have_no_data_directory_in_common() {
        for store in ["memory:", "sqlite:"] {
            let folder = tempfile::tempdir().expect("a folder");
            let config = test_config(folder.path(), &[("store", store)]);
            let node = Node::start(&config, Tuning::default()).expect("it starts");
            let refused = Node::start(&config, Tuning::default()).err().expect("another one runs");
            let why = format!("{refused:#}");
            assert!(why.contains(&format!("running on the data directory {}", folder.path().display())), "{why}");
            node.stop();
            Node::start(&config, Tuning::default()).expect("the first one has gone").stop();
        }
    }

    #[test]
    fn a_store_in_a_file_has_the_lock_of_its_gateway_and_no_less_long() {
        let folder = tempfile::tempdir().expect("a folder");
        let config = test_config(folder.path(), &[("store", "sqlite:")]);
        let held = lock(&config).expect("it is free");
        drop(crate::node::open(&config, Some(&held)).expect("the caller has the lock"));
        let refused = lock(&config).expect_err("the store's end is not the gateway's");
        assert!(format!("{refused:#}").contains("running on the data directory"), "{refused:#}");
    }
}
