//! (Skeleton of the room `http`.)
