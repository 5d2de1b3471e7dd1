//! A request's headers, whoever has parsed them.

use crate::http::Head;
use crate::http::value::{elements, text};

/// All that the judgement knows of a request. The gate's own [`Head`] has them, and the control
/// plane's header map.
pub trait Headers {
    /// The values of every header line called `name` (in lower case), in order, without surrounding
    /// blanks, whatever their bytes are: what a client has written must not hide what a proxy has
    /// appended to it.
    fn values(&self, name: &'static str) -> impl Iterator<Item = &[u8]>;
}

impl Headers for Head<'_> {
    fn values(&self, name: &'static str) -> impl Iterator<Item = &[u8]> {
        self.header_values(name)
    }
}

/// The value of the header `name` if there is exactly one.
pub(super) fn only<'a>(head: &'a impl Headers, name: &'static str) -> Option<&'a str> {
    let mut values = head.values(name);
    values.next().filter(|_| values.next().is_none()).map(text)
}

/// The elements of a header that is a comma-separated list, over all its lines, without empty ones,
/// each read for itself.
pub(super) fn list<'a>(head: &'a impl Headers, name: &'static str) -> Vec<&'a str> {
    head.values(name).flat_map(elements).collect()
}
