//! (Skeleton of the room `ws`.)
