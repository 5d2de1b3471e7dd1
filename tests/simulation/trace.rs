//! What happened, for people: the last lines of a failing run, or all of them.
//!
//! Owns: the lines. A run that is not watched makes none; a failing seed is run again, watched.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fmt::Write as _;
use std::rc::Rc;

use imgate::shard::peer::Outcome;
use imgate::shard::{Effect, Event, PeerMsg};

/// Lines shown of a failure.
const LINES_MAX: usize = 60;

/// Where lines go.
#[derive(Clone, Default)]
pub(crate) struct Trace {
    lines: Option<Rc<RefCell<VecDeque<String>>>>,
    /// Prints every line at once.
    print: bool,
    digest: Option<Rc<RefCell<u64>>>,
}

impl Trace {
    /// Keeps the last lines; `print`: and prints all.
    pub(crate) fn watching(print: bool) -> Self {
        Self { lines: Some(Rc::default()), print, digest: None }
    }

    /// Only mixes the lines into one number.
    pub(crate) fn digesting() -> Self {
        Self { lines: None, print: false, digest: Some(Rc::default()) }
    }

    /// The number of all lines so far.
    pub(crate) fn digest(&self) -> u64 {
        self.digest.as_ref().map_or(0, |digest| *digest.borrow())
    }

    /// Notes a line, if anybody wants it.
    pub(crate) fn line(&self, make: impl FnOnce() -> String) {
        if let Some(digest) = &self.digest {
            let mut digest = digest.borrow_mut();
            for byte in make().bytes() {
                // Fowler, Noll, Vo: FNV-1a.
                *digest = (*digest ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
            }
        } else if let Some(lines) = &self.lines {
            let line = make();
            if self.print {
                println!("{line}");
            }
            let mut lines = lines.borrow_mut();
            if lines.len() == LINES_MAX {
                lines.pop_front();
            }
            lines.push_back(line);
        }
    }

    /// Notes an effect, without the bytes of its packets.
    pub(crate) fn effect(&self, node: usize, effect: &Effect) {
        self.line(|| match effect {
            Effect::Broadcast { batch, form, conns } => {
                let mut line =
                    format!("    shard {node} -> {form:?} broadcast of {} bytes:", batch.bytes_as(*form).len());
                for conn in conns {
                    let _ = write!(line, " {conn:?}");
                }
                line
            }
            Effect::Peer { to, msg } => format!("    shard {node} -> shard {}: {}", to.0, brief(msg)),
            other => format!("    shard {node} -> {other:?}"),
        });
    }

    /// Notes an event, without the bytes of its packets.
    pub(crate) fn event(&self, ms: u64, node: usize, event: &Event) {
        self.line(|| match event {
            Event::Peer { from, msg } => format!("{ms} ms, shard {node} <- shard {}: {}", from.0, brief(msg)),
            other => format!("{ms} ms, shard {node} <- {other:?}"),
        });
    }

    /// The last lines.
    pub(crate) fn tail(&self) -> String {
        self.lines
            .as_ref()
            .map_or_else(String::new, |lines| lines.borrow().iter().map(|line| format!("{line}\n")).collect())
    }
}

fn brief(msg: &PeerMsg) -> String {
    match msg {
        PeerMsg::Deliver(delivery) => format!("Deliver {:?} {:?}", delivery.conv, delivery.seq),
        PeerMsg::Posted(posted) => match &posted.outcome {
            Outcome::Done { stored, ts_ms, dup, packet, missed } => {
                format!(
                    "Posted {}: {stored:?} ts {ts_ms} dup {dup} packet {} missed {missed:?}",
                    posted.ask,
                    packet.is_some()
                )
            }
            refused => format!("Posted {}: {refused:?}", posted.ask),
        },
        other => format!("{other:?}"),
    }
}
