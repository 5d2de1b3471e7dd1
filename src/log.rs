//! The log: lines for people on stderr, written by a thread of their own.
//!
//! Owns: the filter and its change at run time, the queue of lines, the count of those that found no place in it;
//! which lines are said of something that fails for a while ([`outage`]).
//! Never: blocks whoever logs, and never ends the process: a reader that is slow or gone costs lines, which are counted.
//! Bounds: [`LOG_LINES_MAX`] lines wait; the rest of a stop waits for them as long as the writer's guard does (about a second).

pub mod outage;

use std::io::{self, IsTerminal};

use tracing::level_filters::{LevelFilter, STATIC_MAX_LEVEL};
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
pub enum BadFilter {
    /// Neither a level nor a level by module.
    #[error("`{0}` is no level; wanted: off, error, warn, info or debug, or module=level, several with commas")]
    NoLevel(String),
    /// A level whose lines were left out when the program was built.
    #[error("`{0}`: this build has no lines below {1}")]
    NotBuilt(String, LevelFilter),
}

/// The words that stand for a level.
const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// Whether `text` is a filter: levels, or levels by module. A word alone that is no level would be the name of a module to the library, and silence the rest.
///
/// # Errors
/// The first part that is neither.
pub fn check(text: &str) -> Result<(), BadFilter> {
    check_for(text, STATIC_MAX_LEVEL)
}

/// As [`check`], for a build whose lowest level is `built`. The library sees none but good filters: of a level that is
/// not built it writes to stderr by itself, which ends the process when nobody reads there.
fn check_for(text: &str, built: LevelFilter) -> Result<(), BadFilter> {
    for part in text.split(',').map(str::trim) {
        let (module, level) = part.split_once('=').map_or((None, part), |(module, level)| (Some(module), level));
        let level = level.trim();
        // Directives about spans and their fields are the library's, not ours: there are no spans.
        let is_path = |text: &str| text.starts_with(is_word) && text.chars().all(|c| is_word(c) || c == ':');
        let is_level = LEVELS.iter().any(|known| known.eq_ignore_ascii_case(level));
        let level = level.parse::<LevelFilter>().ok().filter(|_| is_level && module.is_none_or(is_path));
        match level {
            None => return Err(BadFilter::NoLevel(part.to_owned())),
            Some(level) if level > built => return Err(BadFilter::NotBuilt(part.to_owned(), built)),
            Some(_) => {}
        }
    }
    Ok(())
}

const fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '-')
}

/// The filter of a text.
fn parse(text: &str) -> anyhow::Result<EnvFilter> {
    check(text)?;
    let bare: String = text.chars().filter(|c| !c.is_whitespace()).collect();
    Ok(EnvFilter::try_new(bare)?)
}

/// Begins to write to stderr what `filter` lets through.
///
/// # Errors
/// [`check`], or the process has a log already.
pub fn start(filter: &str) -> anyhow::Result<Log> {
    let filter = parse(filter)?;
    let builder = NonBlockingBuilder::default().lossy(true).buffered_lines_limit(LOG_LINES_MAX).thread_name("log");
    let (writer, guard) = builder.finish(io::stderr());
    let lost = writer.error_counter();
    let (filter, handle) = reload::Layer::new(filter);
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
        Ok(self.filter.reload(parse(text)?)?)
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
    fn debug_is_in_every_build() {
        assert!(STATIC_MAX_LEVEL >= LevelFilter::DEBUG);
    }

    #[test]
    fn a_level_that_does_not_exist_is_an_error() {
        for good in ["info", "WARN", "off", "info,imgate::store=debug", "imgate=trace, hyper=error"] {
            assert!(check(good).is_ok(), "{good}");
        }
        for bad in [
            "verbose",
            "",
            "info,",
            "imgate::store",
            "imgate=loud",
            "info,imgate=",
            "warning",
            "info,[a{b=c}]=debug",
            "=info",
            "3",
        ] {
            assert!(check(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_level_that_is_not_built_is_refused_before_the_library_sees_it() {
        for bad in ["trace", "TRACE", "info,imgate::api=trace", "imgate=Trace, info"] {
            let refusal = check_for(bad, LevelFilter::DEBUG).expect_err(bad);
            assert!(matches!(refusal, BadFilter::NotBuilt(..)), "{bad}: {refusal}");
            assert!(check_for(bad, LevelFilter::TRACE).is_ok(), "{bad}");
        }
        assert!(check_for("debug,imgate=off", LevelFilter::DEBUG).is_ok());
    }
}
