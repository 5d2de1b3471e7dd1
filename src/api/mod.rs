//! (Skeleton of the room `api`.)
