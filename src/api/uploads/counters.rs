//! What the files count of themselves.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::metrics::names::UPLOADS_REFUSED_LABELS;
use crate::metrics::render::FileNumbers;

/// Shared by the control plane and the scrape.
#[derive(Default)]
pub struct FileCounters {
    places: AtomicU64,
    waiting: AtomicU64,
    kept: AtomicU64,
    kept_bytes: AtomicU64,
    refused: [AtomicU64; UPLOADS_REFUSED_LABELS.len()],
    displaced: AtomicU64,
    paint_ns: AtomicU64,
    painted: AtomicU64,
    blanked: AtomicU64,
    removed: AtomicU64,
    removed_bytes: AtomicU64,
}

impl FileCounters {
    /// The numbers now.
    #[must_use]
    pub fn numbers(&self) -> FileNumbers {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        FileNumbers {
            places: of(&self.places),
            waiting: of(&self.waiting),
            kept: of(&self.kept),
            kept_bytes: of(&self.kept_bytes),
            refused: self.refused.each_ref().map(of),
            displaced: of(&self.displaced),
            paint_ns: of(&self.paint_ns),
            painted: of(&self.painted),
            blanked: of(&self.blanked),
            removed: of(&self.removed),
            removed_bytes: of(&self.removed_bytes),
        }
    }

    /// So many uploads are under way.
    pub(super) fn under_way(&self, uploads: usize) {
        self.places.store(uploads as u64, Ordering::Relaxed);
    }

    /// So many pictures wait for their turn.
    pub(super) fn waiting(&self, pictures: usize) {
        self.waiting.store(pictures as u64, Ordering::Relaxed);
    }

    /// A file was kept.
    pub(super) fn kept(&self, bytes: u64) {
        add(&self.kept, 1);
        add(&self.kept_bytes, bytes);
    }

    /// An upload was refused, for a reason that has this place among the labels.
    pub(super) fn refused(&self, reason: usize) {
        if let Some(counter) = self.refused.get(reason) {
            add(counter, 1);
        }
    }

    /// An upload gave way to a newcomer.
    pub(super) fn displaced(&self) {
        add(&self.displaced, 1);
    }

    /// A picture was worked on.
    pub(super) fn painted(&self, ns: u64) {
        add(&self.painted, 1);
        add(&self.paint_ns, ns);
    }

    /// A file lost its place and notes.
    pub(super) fn blanked(&self) {
        add(&self.blanked, 1);
    }

    /// Files were removed that nothing held any more.
    pub(super) fn removed(&self, files: u64, bytes: u64) {
        add(&self.removed, files);
        add(&self.removed_bytes, bytes);
    }
}

fn add(counter: &AtomicU64, n: u64) {
    counter.fetch_add(n, Ordering::Relaxed);
}
