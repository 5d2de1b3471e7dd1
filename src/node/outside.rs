//! What a gateway is given by the process that it runs in.

use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::json;

use super::LostLines;
use crate::api::admin::{SetLog, ShowSettings};
use crate::config::{Layers, Shown, in_force};
use crate::log::Log;

/// The log, and where the settings come from.
#[derive(Clone)]
pub(super) struct Outside {
    pub(super) lost_lines: LostLines,
    pub(super) set_log: SetLog,
    /// The settings that are in force.
    pub(super) settings: Arc<Mutex<Vec<Shown>>>,
}

impl Outside {
    /// Of a process that has a log and was started with `layers`.
    pub(super) fn of(log: &Log, layers: &Layers) -> Self {
        let settings = Arc::new(Mutex::new(in_force(layers, layers)));
        Self { lost_lines: Arc::new(log.lost_lines()), set_log: Arc::new(log.changes()), settings }
    }

    /// Of one that is no more than a test.
    pub(super) fn none() -> Self {
        Self { lost_lines: Arc::new(|| 0), set_log: Arc::new(|_| Ok(())), settings: Arc::default() }
    }

    pub(super) fn show_settings(&self) -> ShowSettings {
        let settings = Arc::clone(&self.settings);
        let object = |one: &Shown| json!({ "key": one.key, "value": one.value, "origin": one.origin });
        Arc::new(move || json!({ "settings": settings.lock().iter().map(object).collect::<Vec<_>>() }))
    }
}
