//! Servers side by side: each in turn, on one core, under the same load from another.
//!
//! Owns: `server` (who there is and how it is started), `scenario` (what is done to it), `table`
//! (the report), `plot` (its picture) and `profile` (where a server's time goes).

pub mod plot;
pub mod profile;
pub mod scenario;
pub mod server;
pub mod table;

pub use scenario::{Figures, Scenario};
pub use server::{Programs, Server};
pub use table::{Run, Sheet};
