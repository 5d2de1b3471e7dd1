//! The log: lines for people on stderr, written by a thread of their own.
//!
//! Owns: the filter and its change at run time, the queue of lines, the count of those that found no place in it;
//! which lines are said of something that fails for a while ([`outage`]).
//! Never: blocks whoever logs, and never ends the process: a reader that is slow or gone costs lines, which are counted.
//! Bounds: [`LOG_LINES_MAX`] lines wait; the rest of a stop waits for them as long as the writer's guard does (about a second).

pub mod outage;

use std::io::{self, IsTerminal};

use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::Registry;
use tracing_subscriber::reload::{self, Handle};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, fmt};

use crate::limits::LOG_LINES_MAX;

/// The running log. What waits is written when it is dropped.
pub struct Log {
    filter: Handle<EnvFilter, Registry>,
    lost: ErrorCounter,
    _writer: WorkerGuard,
}

/// Why a filter is none.
#[derive(Debug, thiserror::Error)]
#[error("`{part}` is no level; wanted: error, warn, info, debug or trace, or module=level, several with commas")]
pub struct BadFilter {
    part: String,
}

/// The words that stand for a level.
const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// Whether `text` is a filter: levels, or levels by module. A word alone that is no level would be the name of a module to the library, and silence the rest.
///
/// # Errors
/// The first part that is neither.
pub fn check(text: &str) -> Result<(), BadFilter> {
    let is_level = |word: &str| LEVELS.iter().any(|level| level.eq_ignore_ascii_case(word.trim()));
    for part in text.split(',') {
        let level = part.rsplit_once('=').map_or(part, |(_, level)| level);
        if !is_level(level) || EnvFilter::try_new(part.trim()).is_err() {
            return Err(BadFilter { part: part.to_owned() });
        }
    }
    Ok(())
}

/// Begins to write to stderr what `filter` lets through.
///
/// # Errors
/// [`check`], or the process has a log already.
pub fn start(filter: &str) -> anyhow::Result<Log> {
    check(filter)?;
    let builder = NonBlockingBuilder::default().lossy(true).buffered_lines_limit(LOG_LINES_MAX).thread_name("log");
    let (writer, guard) = builder.finish(io::stderr());
    let lost = writer.error_counter();
    let (filter, handle) = reload::Layer::new(EnvFilter::try_new(filter)?);
    let lines = fmt::layer().with_writer(writer).with_ansi(io::stderr().is_terminal());
    tracing_subscriber::registry().with(filter).with(lines).try_init()?;
    Ok(Log { filter: handle, lost, _writer: guard })
}

impl Log {
    /// Changes the filter; threads follow with their next line.
    ///
    /// # Errors
    /// [`check`]; the old filter stays.
    pub fn set_filter(&self, text: &str) -> anyhow::Result<()> {
        check(text)?;
        Ok(self.filter.reload(EnvFilter::try_new(text)?)?)
    }

    /// Counts the lines that were lost, because their reader was slower than they came.
    pub fn lost_lines(&self) -> impl Fn() -> u64 + Send + Sync + use<> {
        let lost = self.lost.clone();
        move || lost.dropped_lines() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_that_does_not_exist_is_an_error() {
        for good in ["info", "WARN", "off", "info,imgate::store=debug", "imgate=trace, hyper=error"] {
            assert!(check(good).is_ok(), "{good}");
        }
        for bad in ["verbose", "", "info,", "imgate::store", "imgate=loud", "info,imgate=", "warning"] {
            assert!(check(bad).is_err(), "{bad}");
        }
    }
}
