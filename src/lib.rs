//! imgate: a sharded, high-performance instant-messaging gateway. docs/architecture.md is the map;
//! which module may use which stands in `tests/tidy/imports.rs`.

pub mod chunks;
pub mod clock;
pub mod ids;
pub mod limits;

pub mod fair;
pub mod log;
pub mod threads;

pub mod http;
pub mod metrics;
pub mod ws;

pub mod auth;
pub mod store;
pub mod wire;

pub mod caller;

pub mod shard;

pub mod hooks;
pub mod mesh;
pub mod object_store;

pub mod api;
pub mod cluster;
pub mod config;
pub mod driver;

pub mod doctor;
pub mod node;
