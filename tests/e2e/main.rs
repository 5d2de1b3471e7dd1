//! A real node and real sockets, at least two shards. One target for all of it, because each target costs a link of the whole gateway; what measures
//! memory stands beside it, in `tests/e2e_memory`.

#[path = "../support/mariadb.rs"]
mod mariadb;
#[path = "../support/nats.rs"]
mod nats;
#[path = "../support/process.rs"]
mod process;
#[path = "../support/s3.rs"]
mod s3;
#[path = "../support/mod.rs"]
mod support;

mod autoclient;
mod backends;
mod budget;
mod bus;
mod caller;
mod chat;
mod client;
mod cluster;
mod compression;
mod doctor;
mod drain;
mod files;
mod full;
mod gate;
mod greed;
mod import;
mod jwt;
mod latencies;
mod mysql;
mod objects;
mod pace;
mod playground;
mod presence;
mod reload;
mod revocation;
mod room;
mod sessions;
mod shutdown;
mod signals;
mod slow;
mod supervisor;
mod tls;
mod top;
mod trails;
mod upkeep;
mod webhooks;
mod welcome;
