//! Logins over HTTP beside the sessions: accounts of their own, one login after another on a thread
//! that may block.
//!
//! Owns: [`Logins`]. A login counts from when it was due, so a server that stalls cannot hide it.
//! Bounds: [`ACCOUNTS`] accounts; what was not due in time because the one before took too long is
//! told as skipped.

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::actor::Findings;
use super::mix::{Kind, Pace};
use crate::board::Phase;
use crate::clock::pause;
use crate::http::{Url, post};
use crate::interrupt::Interrupt;
use crate::net::Plan;
use crate::stamp::Run;

/// Accounts that log in, in turn: wrong guesses are counted by account, right ones are not.
const ACCOUNTS: u64 = 16;
/// Between two looks at the clock.
const LOOK_MS: u64 = 5;

/// Accounts, and where they log in.
pub(super) struct Logins {
    base: Url,
    accounts: Vec<(String, String)>,
}

impl Logins {
    /// Registers the accounts.
    pub(super) fn prepare(host: &str, run: Run, interrupt: &Interrupt) -> Result<Self> {
        let base = Url::parse(&format!("http://{host}"))?;
        let mut accounts = Vec::new();
        for place in 0..ACCOUNTS {
            interrupt.check()?;
            // The gateway takes 20 characters; 48 bits tell runs apart, too.
            let mobile = format!("m{:x}.{place}", run.number() >> 16);
            let password = format!("mixed-{mobile}");
            let form = [("mobile", mobile.as_str()), ("passwd", &password), ("nickname", "mixed"), ("sex", "U")];
            call(&base, "/user/register", &form).context("cannot register an account for logins")?;
            accounts.push((mobile, password));
        }
        Ok(Self { base, accounts })
    }

    /// Logs in at a pace until the measurement is over.
    pub(super) fn run(&self, plan: &Plan, mut pace: Pace) -> Findings {
        let mut findings = Findings::default();
        let found = &mut findings.kinds[Kind::Login as usize];
        while plan.board.phase() < Phase::Running {
            pause(LOOK_MS);
        }
        while let Some(offset) = pace.due_ns()
            && plan.board.phase() == Phase::Running
            && !plan.interrupt.is_set()
        {
            let due = plan.board.started_ns() + offset;
            if due > plan.clock.nanos() {
                pause(LOOK_MS.min((due - plan.clock.nanos().min(due)) / 1_000_000 + 1));
                continue;
            }
            let (mobile, password) = &self.accounts[(pace.take() % ACCOUNTS) as usize];
            match call(&self.base, "/user/login", &[("mobile", mobile), ("passwd", password)]) {
                Ok(()) => {
                    found.done += 1;
                    found.answered_after(plan.clock.nanos().saturating_sub(due));
                }
                Err(error) => {
                    plan.board.trouble(|| format!("a login: {error:#}"));
                    found.refused += 1;
                }
            }
        }
        while !plan.interrupt.is_set() && pace.due_ns().is_some() {
            pace.take();
            found.skipped += 1;
        }
        findings
    }
}

fn call(base: &Url, path: &str, form: &[(&str, &str)]) -> Result<()> {
    let answer = post(&Url { path: path.to_owned(), ..base.clone() }, None, form)?;
    let answer: Value = serde_json::from_slice(&answer).context("no JSON")?;
    if answer["code"] != 0 {
        bail!("{path} answered {answer}");
    }
    Ok(())
}
