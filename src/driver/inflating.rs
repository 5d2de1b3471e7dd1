//! Opening compressed messages before anything is understood of them.
//!
//! Owns: the count of what was opened and refused.
//! Bounds: those of [`Inflater`]; the thread has one, made for its first compressed message.

use crate::limits::DEFLATED_EXCESS_PRICE;
use crate::metrics::DriverTally;
use crate::metrics::tally::InflateRefusal;
use crate::ws::deflate::Inflater;
use crate::ws::{Incoming, Violation};

/// Opens a compressed message of at most `bytes_max` bytes; what else has come stays as it is. What
/// compression has saved on the wire is added to `saved`, and what it has wasted, which costs more.
///
/// # Errors
/// As [`Inflater::open`]; counted.
pub(super) fn open<'a>(
    inflater: &'a mut Option<Box<Inflater>>,
    tally: &mut DriverTally,
    incoming: Incoming<'a>,
    bytes_max: usize,
    saved: &mut usize,
) -> Result<Incoming<'a>, Violation> {
    let Incoming::Deflated { text, payload } = incoming else { return Ok(incoming) };
    let opened = inflater.get_or_insert_default().open(text, payload, bytes_max);
    match opened {
        Ok(message) => {
            let bytes = message.payload().len();
            tally.inflated += 1;
            let [plain, compressed] = &mut tally.inflated_bytes;
            *plain += bytes as u64;
            *compressed += payload.len() as u64;
            *saved += bytes.saturating_sub(payload.len());
            *saved += DEFLATED_EXCESS_PRICE * payload.len().saturating_sub(bytes);
        }
        Err(Violation::InflatesTooBig) => tally.inflate_refuse(InflateRefusal::Size),
        Err(Violation::InflatesTooMuch | Violation::InflatesToNothing) => tally.inflate_refuse(InflateRefusal::Ratio),
        Err(_) => tally.inflate_refuse(InflateRefusal::Damaged),
    }
    opened
}
