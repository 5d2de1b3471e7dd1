//! A list that never moves: it grows by a chunk, so a million entries are never copied, and no more
//! than one chunk is empty.
//!
//! Owns: [`Chunks`], below the tables of connections and sessions. Never: gives memory back. What
//! the largest number of connections has needed serves the next ones. Bounds: those of whoever
//! pushes; an index is a `u32`.

/// Entries of a chunk: some 20 KiB of sessions, so that an allocation is neither frequent nor
/// noticeable.
const CHUNK: usize = 256;

/// A list of `T` by index.
#[derive(Debug)]
pub struct Chunks<T> {
    chunks: Vec<Vec<T>>,
}

impl<T> Chunks<T> {
    /// Nothing.
    #[must_use]
    pub const fn new() -> Self {
        Self { chunks: Vec::new() }
    }

    /// How many entries there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.chunks.last().map_or(0, |last| (self.chunks.len() - 1) * CHUNK + last.len())
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    /// The entry at `index`.
    #[must_use]
    pub fn get(&self, index: u32) -> Option<&T> {
        self.chunks.get(index as usize / CHUNK)?.get(index as usize % CHUNK)
    }

    /// As [`Chunks::get`], to change it.
    pub fn get_mut(&mut self, index: u32) -> Option<&mut T> {
        self.chunks.get_mut(index as usize / CHUNK)?.get_mut(index as usize % CHUNK)
    }

    /// Appends an entry, and says where it is.
    pub fn push(&mut self, value: T) -> u32 {
        let index = u32::try_from(self.len()).unwrap_or(u32::MAX);
        match self.chunks.last_mut() {
            Some(last) if last.len() < CHUNK => last.push(value),
            _ => {
                let mut chunk = Vec::with_capacity(CHUNK);
                chunk.push(value);
                self.chunks.push(chunk);
            }
        }
        index
    }

    /// All entries, with their indices.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        (0..).zip(self.chunks.iter().flatten())
    }
}

impl<T> Default for Chunks<T> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_stay_where_they_are() {
        let mut list = Chunks::new();
        assert!(list.is_empty());
        list.push(7);
        let first = std::ptr::from_ref(list.get(0).expect("it was pushed"));
        for n in 1..1000 {
            assert_eq!(list.push(n), n);
        }
        assert_eq!(first, std::ptr::from_ref(list.get(0).expect("it is still there")));
        assert_eq!((list.len(), list.get(999), list.get(1000)), (1000, Some(&999), None));
        *list.get_mut(255).expect("there are 1000") = 1;
        assert_eq!(list.iter().map(|(_, &n)| u64::from(n)).sum::<u64>(), 7 + 499_500 - 255 + 1);
    }
}
