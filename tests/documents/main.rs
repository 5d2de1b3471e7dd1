//! Documents that say what the code does, compared with what it does.

#[path = "../support/mod.rs"]
mod support;

mod blocks;
mod protocol;
mod readme;
mod security;
