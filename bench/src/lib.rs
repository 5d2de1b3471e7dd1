//! Measurements of imgate: what the programs in `src/bin` and the micro-benchmarks share.
//!
//! Owns: `clock` and `process` (what is read of the machine), `scrape` (what a gateway says about
//! itself), `frame`, `floor` (the least that a server can do), `load` (the generator), `curves`
//! (lines in panels), `median` and `origin` (of figures), `side` (servers beside each other),
//! `scaling` (the same work on more shards), `gateway` and `million` (real shards without sockets).
//! Never: is linked into the gateway.

pub mod clock;
pub mod curves;
pub mod floor;
pub mod frame;
pub mod gateway;
pub mod load;
pub mod median;
pub mod million;
pub mod origin;
pub mod process;
pub mod scaling;
pub mod scrape;
pub mod side;
