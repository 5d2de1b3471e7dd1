//! (Skeleton of the room `ws`.)

pub mod frame;
