//! History: pages of one conversation for one of its members.
//!
//! Never: shows what the reader may not see; the store clamps every page to the time of membership.

use super::{Services, StoreFailure};
use crate::ids::{ConvId, UserId};
use crate::limits;
use crate::store::worker::{Lane, LanePlace};
use crate::store::{Page, PageStart, Read, ReadAnswer, Refusal};

/// Why there is no page.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NoPage {
    /// The reader may not.
    #[error("refused")]
    Refused(Refusal),
    /// Not the client's fault.
    #[error(transparent)]
    Store(#[from] StoreFailure),
}

/// A page of `conv` as `reader` may see it, of at most `rows` rows (clamped to
/// `1..=`[`limits::SYNC_ROWS_MAX`]) and [`limits::SYNC_BYTES_MAX`] bytes.
///
/// # Errors
/// See [`NoPage`].
pub async fn page(
    services: &Services,
    reader: UserId,
    conv: ConvId,
    from: PageStart,
    rows: u32,
) -> Result<Page, NoPage> {
    let read = Read::Page {
        conv,
        reader: Some(reader),
        from,
        rows_max: rows.clamp(1, limits::SYNC_ROWS_MAX),
        bytes_max: limits::SYNC_BYTES_MAX,
    };
    let place = LanePlace::of_user(Lane::Heavy, reader);
    match services.db.read_in(place, move |store| store.read(&[read])).await?.pop() {
        Some(ReadAnswer::Page(page)) => Ok(page),
        Some(ReadAnswer::Refused(why)) => Err(NoPage::Refused(why)),
        // One read has one answer of its own kind; anything else is the backend's fault.
        Some(ReadAnswer::Open(_) | ReadAnswer::Heads(_)) | None => Err(StoreFailure::Broken.into()),
    }
}
