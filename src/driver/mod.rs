//! (Skeleton of the room `driver`.)
