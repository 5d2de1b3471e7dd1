//! The middle of what several rounds have measured.
//!
//! Owns: [`median`].

/// The middle one of `values`, or the mean of the two in the middle; `None` of none.
#[must_use]
pub fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        n if n % 2 == 1 => values.get(middle).copied(),
        _ => Some((values[middle - 1] + values[middle]) / 2.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_value_does_not_move_it() {
        assert_eq!(median(vec![]), None);
        assert_eq!(median(vec![3.0, 1e9, 1.0]), Some(3.0));
        assert_eq!(median(vec![4.0, 1.0, 2.0, 1e9]), Some(3.0));
    }
}
