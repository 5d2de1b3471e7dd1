//! What becomes of plain HTTP connections and requests, counted by the control plane.
//!
//! Owns: [`HttpCounts`], and the closed lists of reasons, which are the label values.
//! Never: on the way of a message. The control plane has no thread of its own to count
//! in, so these are atomics.

use std::sync::atomic::{AtomicU64, Ordering};

use super::histogram::{Histogram, SharedHistogram};
use super::labels::{Counters, labels};
use super::names::{ROUTES_LABELS, STATUS_LABELS};

labels! {
    /// Why a connection lost its slot.
    Evicted {
        /// Slots were short, and it was idle.
        Idle = "idle",
        /// Slots were short, and its head, its body or its reading was the slowest.
        Slow = "slow",
        /// Its address had as many slots as one may have.
        Share = "share",
        /// Memory was short, and it held much for long.
        Memory = "memory",
        /// Descriptors were short.
        Descriptors = "descriptors",
    }
}

labels! {
    /// Why a request was not served, before its path was looked at.
    Refused {
        /// Every slot of its address, or every slot at all, was working.
        Slots = "seats",
        /// Too many requests were being worked on; only logins went on.
        Reserve = "reserve",
        /// Its user had too many requests under way.
        User = "user",
        /// Memory was short.
        Memory = "memory",
        /// The body was declared too large.
        TooLarge = "too_large",
        /// No `Host`, or two.
        Host = "host",
        /// A transfer coding that is not `chunked` alone, or a content coding.
        Coding = "coding",
        /// Its head did not come in time.
        HeadTooSlow = "head_too_slow",
        /// Its body did not come in time, or the answer was not ready in time.
        TooSlow = "too_slow",
        /// Its peer did not read the answer.
        NotRead = "not_read",
    }
}

/// The counters, and the gauges as they were last set.
#[derive(Debug, Default)]
pub struct HttpCounts {
    evicted: Counters<{ Evicted::LABELS.len() }>,
    refused: Counters<{ Refused::LABELS.len() }>,
    slots: [AtomicU64; 3],
    bytes: AtomicU64,
    passwords: AtomicU64,
    requests: [Counters<{ STATUS_LABELS.len() }>; ROUTES_LABELS.len()],
    seconds: [SharedHistogram; ROUTES_LABELS.len()],
}

/// A family of routes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Routes {
    /// `/api/v1`.
    V1,
    /// `/api/v1/server`: what backends ask.
    Server,
    /// What the old pages ask.
    Legacy,
    /// Uploads and what was uploaded.
    Files,
    /// The web client and its files.
    Web,
    /// Anything else.
    Other,
}

impl HttpCounts {
    /// A connection lost its slot.
    pub fn evicted(&self, why: Evicted) {
        self.evicted.add(why as usize);
    }

    /// A request was not served.
    pub fn refused(&self, why: Refused) {
        self.refused.add(why as usize);
    }

    /// A request was answered with `status` after `ns` nanoseconds.
    pub fn answered(&self, routes: Routes, status: u16, ns: u64) {
        if let Some(requests) = self.requests.get(routes as usize) {
            requests.add(usize::from((status / 100).saturating_sub(1)));
        }
        if let Some(seconds) = self.seconds.get(routes as usize) {
            seconds.record(ns);
        }
    }

    /// Requests by family and class of status.
    #[must_use]
    pub fn requests(&self) -> [[u64; STATUS_LABELS.len()]; ROUTES_LABELS.len()] {
        self.requests.each_ref().map(Counters::read)
    }

    /// Times by family.
    #[must_use]
    pub fn seconds(&self) -> [Histogram; ROUTES_LABELS.len()] {
        self.seconds.each_ref().map(SharedHistogram::read)
    }

    /// So many connections are idle, wait for their peers, are worked for; and hold so many bytes.
    pub fn slots(&self, counts: [usize; 3], bytes: usize) {
        for (gauge, count) in self.slots.iter().zip(counts) {
            gauge.store(count as u64, Ordering::Relaxed);
        }
        self.bytes.store(bytes as u64, Ordering::Relaxed);
    }

    /// So many passwords wait or are being hashed.
    pub fn passwords(&self, waiting: usize) {
        self.passwords.store(waiting as u64, Ordering::Relaxed);
    }

    /// The counters of evictions, in the order of [`Evicted::LABELS`].
    #[must_use]
    pub fn evictions(&self) -> [u64; Evicted::LABELS.len()] {
        self.evicted.read()
    }

    /// The counters of refusals, in the order of [`Refused::LABELS`].
    #[must_use]
    pub fn refusals(&self) -> [u64; Refused::LABELS.len()] {
        self.refused.read()
    }

    /// Connections in the order of [`super::names::SEAT_LABELS`].
    #[must_use]
    pub fn taken(&self) -> [u64; 3] {
        self.slots.each_ref().map(read)
    }

    /// Bytes held.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        read(&self.bytes)
    }

    /// Passwords that wait or are being hashed.
    #[must_use]
    pub fn passwords_waiting(&self) -> u64 {
        read(&self.passwords)
    }
}

fn read(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}
