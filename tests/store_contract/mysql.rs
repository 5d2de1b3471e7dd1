//! MySQL only.
