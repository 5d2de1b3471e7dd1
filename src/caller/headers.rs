//! A request's headers, whoever has parsed them.

use crate::http::Head;

/// All that the judgement knows of a request. The gate's own [`Head`] has them, and the control
/// plane's header map.
pub trait Headers {
    /// The values of every header line called `name` (in lower case), in order, without surrounding
    /// blanks. Values that are not UTF-8 are left out.
    fn values(&self, name: &'static str) -> impl Iterator<Item = &str>;
}

impl Headers for Head<'_> {
    fn values(&self, name: &'static str) -> impl Iterator<Item = &str> {
        self.header_values(name)
    }
}

/// The value of the header `name` if there is exactly one.
pub(super) fn only<'a>(head: &'a impl Headers, name: &'static str) -> Option<&'a str> {
    let mut values = head.values(name);
    values.next().filter(|_| values.next().is_none())
}

/// The elements of a header that is a comma-separated list, over all its lines, without empty ones.
pub(super) fn list<'a>(head: &'a impl Headers, name: &'static str) -> Vec<&'a str> {
    let items = head.values(name).flat_map(|value| value.split(','));
    items.map(|item| item.trim_matches([' ', '\t'])).filter(|item| !item.is_empty()).collect()
}
