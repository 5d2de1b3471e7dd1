//! What supervisors and terminals send to the process, and what it means.
//!
//! Owns: the table of signals: SIGTERM, SIGINT and SIGQUIT stop in order, a second one at once (or
//! ends the announcement of the stop, and a third one is at once);
//! SIGHUP loads the configuration again; SIGUSR1, SIGUSR2 and those of timers and limits do nothing
//! and say so; SIGXFSZ does nothing, since the write that is over the limit fails by itself.
//! Never: is ended by a signal that is sent for another reason: a terminal that closes, a
//! rotation of logs.
//! Bounds: [`SIGNALS_WAITING_MAX`] wishes wait; a further one is the same as one that waits.

use std::io;
use std::thread;

use crossbeam_channel::Receiver;
use signal_hook::consts::{
    SIGALRM, SIGHUP, SIGINT, SIGIO, SIGPROF, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGVTALRM, SIGXCPU, SIGXFSZ,
};
use signal_hook::iterator::Signals;

use crate::clock::Clock;
use crate::limits::{SIGNALS_WAITING_MAX, STOP_ECHO_MS};

/// What a signal asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Wish {
    /// Stop in order.
    Stop,
    /// Load the configuration again.
    Reload,
}

/// Where signals are heard of.
pub(super) struct Heard {
    /// What they ask for.
    pub(super) wishes: Receiver<Wish>,
    /// A second stop, for a thread that waits for one at that very moment: without such a thread it
    /// ends the process.
    pub(super) hurries: Receiver<()>,
}

/// The exit code after a second signal: not 0, because sessions were cut off.
const EXIT_FORCED: i32 = 1;

/// What would end the process and asks for nothing here.
const WITHOUT_MEANING: [i32; 7] = [SIGUSR1, SIGUSR2, SIGALRM, SIGVTALRM, SIGPROF, SIGIO, SIGXCPU];

/// Listens from now on: what comes during the start waits until it is asked for.
///
/// # Errors
/// The system gives no thread, or no handlers.
pub(super) fn watch() -> io::Result<Heard> {
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGQUIT, SIGHUP, SIGXFSZ].iter().chain(&WITHOUT_MEANING))?;
    let (tell, wishes) = crossbeam_channel::bounded(SIGNALS_WAITING_MAX);
    let (hurry, hurries) = crossbeam_channel::bounded(0);
    thread::Builder::new().name("signals".to_owned()).spawn(move || {
        let clock = Clock::start();
        let mut stop_heard_ms = None;
        for signal in signals.forever() {
            let wish = match signal {
                SIGHUP => Wish::Reload,
                // Without a line: the log may be the very file that is at its limit, and the line
                // would bring the next signal.
                SIGXFSZ => continue,
                _ if WITHOUT_MEANING.contains(&signal) => {
                    tracing::info!(signal, "this signal does nothing here");
                    continue;
                }
                _ => Wish::Stop,
            };
            if wish == Wish::Stop {
                let now_ms = clock.now().mono_ms;
                let heard_ms = *stop_heard_ms.get_or_insert(now_ms);
                if now_ms.saturating_sub(heard_ms) > STOP_ECHO_MS {
                    if hurry.try_send(()).is_err() {
                        std::process::exit(EXIT_FORCED);
                    }
                    // It has an echo, too.
                    stop_heard_ms = Some(now_ms);
                }
            }
            // Full: the same wishes wait already, and whoever takes them has ended or is about to
            // look.
            let _ = tell.try_send(wish);
        }
    })?;
    Ok(Heard { wishes, hurries })
}
