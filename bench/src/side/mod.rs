//! Servers side by side: each in turn, on one core, under the same load from another.
//!
//! Owns: `server` (who there is and how it is started), `scenario` (what is done to it), `table` (the report) and `plot` (its picture).

pub mod plot;
pub mod scenario;
pub mod server;
pub mod table;

pub use scenario::{Figures, Scenario};
pub use server::{Programs, Server};
pub use table::{Run, Sheet};
