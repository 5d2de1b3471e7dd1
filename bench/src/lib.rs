//! Micro-benchmarks (skeleton).
