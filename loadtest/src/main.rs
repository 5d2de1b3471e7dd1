//! autoclient (skeleton).
fn main() {}
