//! The routes of the old systems from outside, over the rig of `api/tests`.

mod accounts;
mod friends;
mod groups;
mod history;
mod uploads;
