//! (Skeleton of the room `cluster`.)
