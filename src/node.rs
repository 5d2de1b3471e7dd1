//! Builds everything, starts the threads in order, stops them in reverse.
//!
//! (Skeleton: the signature that the command line builds on; the driver step fills it.)

use crate::config::Config;

/// Runs the gateway until it is told to stop.
///
/// # Errors
/// What kept it from starting, in words for the one who started it.
pub fn run(config: &Config) -> anyhow::Result<()> {
    anyhow::bail!("this build has no gateway for {:?} yet", config.listen)
}
