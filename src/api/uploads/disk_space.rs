//! DiskSpace on the disk, promised to uploads before they come.
//!
//! Owns: how many bytes are promised and have not come yet.
//! Never: asks the disk; whoever wants room says what is free.
//! Bounds: [`limits::UPLOAD_SPARE_BYTES`] stay free, whatever comes at once.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::limits;

/// See the module.
#[derive(Clone, Default)]
pub(super) struct DiskSpace(Arc<Mutex<u64>>);

/// DiskSpace that is promised; given back when dropped.
#[must_use]
pub(super) struct Reservation {
    room: DiskSpace,
    left: u64,
}

/// There is no room.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct NoSpace;

impl DiskSpace {
    /// Promises `bytes` of the `free` ones.
    ///
    /// # Errors
    /// [`NoSpace`]: then less than the spare would be left.
    pub(super) fn promise(&self, bytes: u64, free: u64) -> Result<Reservation, NoSpace> {
        self.reserve(bytes, free)?;
        Ok(Reservation { room: self.clone(), left: bytes })
    }

    fn reserve(&self, bytes: u64, free: u64) -> Result<(), NoSpace> {
        let mut promised = self.0.lock();
        let wanted = limits::UPLOAD_SPARE_BYTES.saturating_add(*promised).saturating_add(bytes);
        if wanted > free {
            return Err(NoSpace);
        }
        *promised += bytes;
        Ok(())
    }
}

impl Reservation {
    /// So many bytes have come: the disk has fewer, and so has the promise.
    pub(super) fn came(&mut self, bytes: u64) {
        let bytes = bytes.min(self.left);
        self.left -= bytes;
        *self.room.0.lock() -= bytes;
    }

    /// Bytes that may still come.
    pub(super) const fn left(&self) -> u64 {
        self.left
    }

    /// Promises at least `bytes` in all, of the `free` ones; looks anew also if that is promised
    /// already, for others may have written to the disk.
    ///
    /// # Errors
    /// As [`DiskSpace::promise`].
    pub(super) fn renew(&mut self, bytes: u64, free: u64) -> Result<(), NoSpace> {
        let more = bytes.saturating_sub(self.left);
        self.room.reserve(more, free)?;
        self.left += more;
        Ok(())
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        *self.room.0.lock() -= self.left;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPARE: u64 = limits::UPLOAD_SPARE_BYTES;

    #[test]
    fn what_is_promised_to_one_is_not_there_for_another() {
        let room = DiskSpace::default();
        let first = room.promise(60, SPARE + 100).expect("room");
        assert!(room.promise(41, SPARE + 100).is_err());
        let second = room.promise(40, SPARE + 100).expect("room");
        drop(first);
        assert!(room.promise(60, SPARE + 100).is_ok());
        drop(second);
        assert_eq!(*room.0.lock(), 0);
    }

    #[test]
    fn what_has_come_is_the_disks() {
        let room = DiskSpace::default();
        let mut promise = room.promise(60, SPARE + 100).expect("room");
        promise.came(50);
        assert_eq!((promise.left(), *room.0.lock()), (10, 10));
        assert_eq!(promise.renew(40, SPARE + 50), Ok(()));
        assert_eq!((promise.left(), *room.0.lock()), (40, 40));
        assert_eq!(promise.renew(40, SPARE + 39), Err(NoSpace), "somebody else has written");
        promise.came(99);
        assert_eq!((promise.left(), *room.0.lock()), (0, 0), "more than was promised");
    }
}
