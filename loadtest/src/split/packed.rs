//! Histograms as text: HdrHistogram's own format V2, in base64.
//!
//! Owns: what serde calls for a field with `#[serde(with = "packed")]`, or `packed::optional`.
//! Never: takes one whose bounds are not ours: adding it could fail, and a stranger's could be of
//! any size.

use anyhow::{Result, anyhow, ensure};
use data_encoding::BASE64;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Deserializer, Serializer, V2Serializer};
use serde::de::{Deserialize, Error as _};
use serde::ser::Error as _;

use crate::tally::latencies;

/// Cookie, length, offset, digits, lowest, highest, ratio.
const HEAD_BYTES: usize = 40;
/// Where the length of what follows stands in the head: all else is the same in all of ours.
const LENGTH: std::ops::Range<usize> = 4..8;
/// A count of 2^56 or more takes nine bytes, eight of which announce another one. Nothing here
/// counts so far, and a run of zeros below zero would have no length.
const MORE_BYTES_MAX: usize = 7;

/// A histogram as text.
///
/// # Errors
/// A count is beyond 2^63.
pub(crate) fn pack(histogram: &Histogram<u64>) -> Result<String> {
    let mut bytes = Vec::new();
    V2Serializer::new().serialize(histogram, &mut bytes).map_err(|error| anyhow!("a histogram: {error}"))?;
    Ok(BASE64.encode(&bytes))
}

/// The histogram of a text.
///
/// # Errors
/// It is none, or one with other bounds than ours.
pub(crate) fn unpack(text: &str) -> Result<Histogram<u64>> {
    let bytes = BASE64.decode(text.as_bytes()).map_err(|error| anyhow!("a histogram: {error}"))?;
    let mut ours = Vec::new();
    V2Serializer::new().serialize(&latencies(), &mut ours).map_err(|error| anyhow!("a histogram: {error}"))?;
    ensure!(bytes.len() >= HEAD_BYTES, "a histogram of {} bytes", bytes.len());
    let (head, counts) = bytes.split_at(HEAD_BYTES);
    let alike = |part: std::ops::Range<usize>| head[part.clone()] == ours[part];
    ensure!(alike(0..LENGTH.start) && alike(LENGTH.end..HEAD_BYTES), "a histogram with other bounds than ours");
    let length = u32::from_be_bytes([head[4], head[5], head[6], head[7]]) as usize;
    ensure!(length == counts.len(), "a histogram of {} bytes that says {length}", counts.len());
    let endless = counts.split(|byte| *byte < 0x80).any(|more| more.len() > MORE_BYTES_MAX);
    ensure!(!endless, "a histogram with a count beyond all that can be counted");
    Deserializer::new().deserialize(&mut &bytes[..]).map_err(|error| anyhow!("a histogram: {error}"))
}

pub(crate) fn serialize<S: serde::Serializer>(histogram: &Histogram<u64>, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(&pack(histogram).map_err(S::Error::custom)?)
}

pub(crate) fn deserialize<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Histogram<u64>, D::Error> {
    unpack(&String::deserialize(from)?).map_err(D::Error::custom)
}

/// The same for a histogram that may be absent.
pub(crate) mod optional {
    use super::{Deserialize, Histogram, pack, unpack};
    use serde::de::Error as _;
    use serde::ser::{Error as _, Serialize};

    pub(crate) fn serialize<S: serde::Serializer>(
        histogram: &Option<Histogram<u64>>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        histogram.as_ref().map(pack).transpose().map_err(S::Error::custom)?.serialize(to)
    }

    pub(crate) fn deserialize<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<Histogram<u64>>, D::Error> {
        Option::<String>::deserialize(from)?.as_deref().map(unpack).transpose().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(values: &[u64]) -> Histogram<u64> {
        let mut histogram = latencies();
        values.iter().for_each(|ns| histogram.saturating_record(*ns));
        histogram
    }

    proptest! {
        #[test]
        fn a_histogram_comes_back_and_adds_up(some in prop::collection::vec(any::<u64>(), 0..50), more in prop::collection::vec(0..9_000_000_000_u64, 0..50)) {
            let (a, b) = (of(&some), of(&more));
            let mut sum = unpack(&pack(&a).expect("text")).expect("it came back");
            prop_assert_eq!(&sum, &a);
            sum.add(unpack(&pack(&b).expect("text")).expect("it came back")).expect("equal bounds");
            prop_assert_eq!(sum, of(&[some, more].concat()));
        }

        #[test]
        fn any_bytes_are_a_histogram_or_refused(mut counts in prop::collection::vec(any::<u8>(), 0..200), head in any::<bool>()) {
            let mut bytes = BASE64.decode(pack(&latencies()).expect("text").as_bytes()).expect("ours");
            bytes.truncate(HEAD_BYTES);
            if head {
                bytes[LENGTH].copy_from_slice(&(counts.len() as u32).to_be_bytes());
            }
            bytes.append(&mut counts);
            // Whatever it is, it does not panic.
            let _ = unpack(&BASE64.encode(&bytes));
        }
    }

    #[test]
    fn others_are_refused() {
        let other = Histogram::<u64>::new_with_bounds(1, u64::MAX, 5).expect("a histogram");
        assert!(unpack(&pack(&other).expect("text")).is_err(), "its bounds");
        let mut bytes = BASE64.decode(pack(&of(&[5_000])).expect("text").as_bytes()).expect("ours");
        // The smallest number, which has no counterpart above zero.
        bytes.truncate(HEAD_BYTES);
        bytes.extend([0xff; 9]);
        bytes[LENGTH].copy_from_slice(&9_u32.to_be_bytes());
        assert!(unpack(&BASE64.encode(&bytes)).expect_err("too much").to_string().contains("beyond"));
        assert!(unpack("").is_err() && unpack("!").is_err() && unpack("AAAA").is_err());
    }
}
