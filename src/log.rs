//! The log: lines on stderr, for people or as JSON, written by a thread of their own.
//!
//! Owns: the filter and its change at run time, the queue of lines, the count of those that found
//! no place in it or could not be written; which lines are said of something that fails for a while
//! ([`outage`]); trails of what happened, for machines ([`trail`]). Never: blocks whoever logs, and
//! never ends the process: a reader that is slow or gone costs lines, which are counted. Bounds:
//! [`LOG_LINES_MAX`] lines wait; the rest of a stop waits for them as long as the writer's guard
//! does (about a second).

pub mod outage;
pub mod trail;

use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tracing::level_filters::{LevelFilter, STATIC_MAX_LEVEL};
use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::Registry;
use tracing_subscriber::reload::{self, Handle};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, fmt};

use crate::limits::LOG_LINES_MAX;

/// The running log. What waits is written when it is dropped.
pub struct Log {
    filter: Handle<EnvFilter, Registry>,
    /// Lines that found no place in the queue.
    dropped: ErrorCounter,
    /// Lines that could not be written.
    failed: Arc<AtomicU64>,
    _writer: WorkerGuard,
}

/// How a line looks.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum LineFormat {
    /// Time, level, module and words.
    #[default]
    Text,
    /// The same as an object of JSON.
    Json,
}

/// Why a filter is none.
#[derive(Debug, thiserror::Error)]
pub enum BadFilter {
    /// Neither a level nor a level by module.
    #[error("`{0}` is no level; wanted: off, error, warn, info or debug, or module=level, several with commas")]
    NoLevel(String),
    /// A module that says nothing, because there is none of that name.
    #[error("no line comes from a module `{0}`; those that write some are {SAYING}")]
    NoModule(String),
    /// A level whose lines were left out when the program was built.
    #[error("`{0}`: this build has no lines below {1}")]
    NotBuilt(String, LevelFilter),
}

/// The parts of the program that write lines; the libraries that it is made of write none.
const MODULES: [&str; 9] = [
    "imgate::api",
    "imgate::caller",
    "imgate::cluster",
    "imgate::driver",
    "imgate::hooks",
    "imgate::mesh",
    "imgate::node",
    "imgate::object_store",
    "imgate::store",
];
/// [`MODULES`] in a sentence.
const SAYING: &str = "imgate::api, imgate::caller, imgate::cluster, imgate::driver, imgate::hooks, imgate::mesh, imgate::node, imgate::object_store, imgate::store";

/// Whether lines come from `module`: a beginning of their names is enough for the library.
fn is_module(module: &str) -> bool {
    let is_inside = |part: &str| module.strip_prefix(part).is_some_and(|rest| rest.starts_with("::"));
    MODULES.iter().any(|part| part.starts_with(module) || is_inside(part))
}

/// The words that stand for a level.
const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// Whether `text` is a filter: levels, or levels by module. A word alone that is no level would be
/// the name of a module to the library, and silence the rest.
///
/// # Errors
/// The first part that is neither.
pub fn check(text: &str) -> Result<(), BadFilter> {
    check_for(text, STATIC_MAX_LEVEL)
}

/// As [`check`], for a build whose lowest level is `built`. The library sees none but good filters:
/// of a level that is not built it writes to stderr by itself, which ends the process when the pipe
/// has no reader.
fn check_for(text: &str, built: LevelFilter) -> Result<(), BadFilter> {
    for part in text.split(',').map(str::trim) {
        let (module, level) = part.split_once('=').map_or((None, part), |(module, level)| (Some(module), level));
        let level = level.trim();
        // Directives about spans and their fields are the library's, not ours: there are no spans.
        let is_path = |text: &str| text.starts_with(is_word) && text.chars().all(|c| is_word(c) || c == ':');
        let is_level = LEVELS.iter().any(|known| known.eq_ignore_ascii_case(level));
        let level = level.parse::<LevelFilter>().ok().filter(|_| is_level && module.is_none_or(is_path));
        if let Some(module) = module.filter(|module| level.is_some() && !is_module(module)) {
            return Err(BadFilter::NoModule(module.to_owned()));
        }
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

/// The client of NATS says up to four times a second that its server is away (`info`), or that a
/// password is wrong (`error`). What there is to say of it the gateway says itself.
const TALKATIVE: &str = "async_nats";

/// The filter of a text.
fn parse(text: &str) -> anyhow::Result<EnvFilter> {
    check(text)?;
    let mut bare: String = text.chars().filter(|c| !c.is_whitespace()).collect();
    let level = |part: &str| part.parse::<LevelFilter>().ok();
    let hears_all = bare.split(',').filter_map(level).max() > Some(LevelFilter::OFF);
    if hears_all {
        bare = format!("{TALKATIVE}=off,{bare}");
    }
    Ok(EnvFilter::try_new(bare)?)
}

/// Begins to write to stderr what `filter` lets through, in lines of that form.
///
/// # Errors
/// [`check`], or the process has a log already.
pub fn start(filter: &str, format: LineFormat) -> anyhow::Result<Log> {
    let filter = parse(filter)?;
    let builder = NonBlockingBuilder::default().lossy(true).buffered_lines_limit(LOG_LINES_MAX).thread_name("log");
    let failed = Arc::default();
    let (writer, guard) = builder.finish(LineWriter { inner: io::stderr(), failed: Arc::clone(&failed) });
    let dropped = writer.error_counter();
    let (filter, handle) = reload::Layer::new(filter);
    let lines = fmt::layer().with_writer(writer).with_ansi(io::stderr().is_terminal());
    let lines = match format {
        LineFormat::Text => lines.boxed(),
        // There are no spans to be listed.
        LineFormat::Json => {
            lines.json().flatten_event(true).with_current_span(false).with_span_list(false).with_ansi(false).boxed()
        }
    };
    tracing_subscriber::registry().with(filter).with(lines).try_init()?;
    Ok(Log { filter: handle, dropped, failed, _writer: guard })
}

impl Log {
    /// Changes the filter; threads follow with their next line.
    ///
    /// # Errors
    /// [`check`]; the old filter stays.
    pub fn set_filter(&self, text: &str) -> anyhow::Result<()> {
        Ok(self.filter.reload(parse(text)?)?)
    }

    /// Changes the filter from another thread, as [`Log::set_filter`].
    pub fn changes(&self) -> impl Fn(&str) -> anyhow::Result<()> + Send + Sync + use<> {
        let filter = self.filter.clone();
        move |text| Ok(filter.reload(parse(text)?)?)
    }

    /// Counts the lines that were lost: their reader was slower than they came, or has gone.
    pub fn lost_lines(&self) -> impl Fn() -> u64 + Send + Sync + use<> {
        let (dropped, failed) = (self.dropped.clone(), Arc::clone(&self.failed));
        move || dropped.dropped_lines() as u64 + failed.load(Ordering::Relaxed)
    }
}

/// Counts the lines that `inner` does not take: the thread of the log throws such errors away.
struct LineWriter<W> {
    inner: W,
    failed: Arc<AtomicU64>,
}

impl<W: Write> Write for LineWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.inner.write(bytes)
    }

    /// One line.
    fn write_all(&mut self, line: &[u8]) -> io::Result<()> {
        self.inner.write_all(line).inspect_err(|_| {
            self.failed.fetch_add(1, Ordering::Relaxed);
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_cannot_be_written_are_counted() {
        let (reader, writer) = io::pipe().expect("a pipe");
        let failed = Arc::<AtomicU64>::default();
        let mut lines = LineWriter { inner: writer, failed: Arc::clone(&failed) };
        lines.write_all(b"a line\n").expect("somebody reads");
        drop(reader);
        assert!(lines.write_all(b"a line\n").is_err() && lines.write_all(b"a line\n").is_err());
        assert_eq!(failed.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn the_client_of_nats_does_not_fill_the_log() {
        let filter = |text| parse(text).expect("a filter").to_string();
        for text in ["error", "info", "debug", "warn,info,imgate::store=debug"] {
            assert!(filter(text).contains("async_nats=off"), "{text}");
        }
        for text in ["off", "imgate=info"] {
            assert!(!filter(text).contains("async_nats"), "{text}");
        }
    }

    #[test]
    fn debug_is_in_every_build() {
        assert!(STATIC_MAX_LEVEL >= LevelFilter::DEBUG);
    }

    #[test]
    fn a_level_that_does_not_exist_is_an_error() {
        for good in ["info", "WARN", "off", "info,imgate::store=debug", "imgate=trace, imgate::api=error"] {
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
    fn a_module_that_says_nothing_is_an_error() {
        for good in ["imgate=debug", "imgate::store::mysql=debug", "info,imgate::api::uploads=warn"] {
            assert!(check(good).is_ok(), "{good}");
        }
        for bad in ["imgate::stoer=debug", "info,hyper=debug", "imgat::api=debug", "imgate::storeroom=debug"] {
            let refusal = check(bad).expect_err(bad);
            assert!(matches!(refusal, BadFilter::NoModule(_)), "{bad}: {refusal}");
        }
        assert_eq!(MODULES.join(", "), SAYING);
    }

    #[test]
    fn the_modules_that_write_lines_are_those_of_the_sources() {
        fn sources(folder: &std::path::Path, found: &mut std::collections::BTreeSet<String>, part: Option<&str>) {
            for entry in std::fs::read_dir(folder).expect("the sources") {
                let path = entry.expect("an entry").path();
                let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
                let part = part.unwrap_or(&name);
                if path.is_dir() {
                    sources(&path, found, Some(part));
                } else if path.extension().is_some_and(|end| end == "rs") && part != "log" {
                    let text = std::fs::read_to_string(&path).expect("UTF-8");
                    let says = ["error!(", "warn!(", "info!(", "debug!("].map(|end| format!("tracing::{end}"));
                    if says.iter().any(|call| text.contains(call)) {
                        found.insert(format!("imgate::{part}"));
                    }
                }
            }
        }
        let mut found = std::collections::BTreeSet::new();
        sources(std::path::Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src")), &mut found, None);
        assert_eq!(found.into_iter().collect::<Vec<_>>(), MODULES);
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
