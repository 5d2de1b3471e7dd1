//! `imgate drain`: the orderly stop of a running gateway, and the wait for its end.

use std::io::{self, Write};
use std::time::Duration;
use std::{net::TcpStream, thread};

use anyhow::bail;
use imgate::clock::Clock;
use imgate::config::Config;

use super::ask::{address, ask_well};

/// Pause between two looks whether the gateway is gone.
const LOOK: Duration = Duration::from_millis(100);
/// How long its process may take beyond its own deadline.
const GRACE_MS: u64 = 5_000;

/// Asks for it and waits until the admin port has gone.
pub(crate) fn run(config: &Config, wait: bool) -> anyhow::Result<()> {
    let to = address(config);
    let token = imgate::node::gateways_key(config)?.admin_token();
    ask_well(to, "POST", "/admin/drain", Some(&token))?;
    let seconds = config.drain.deadline_ms.div_ceil(1000);
    writeln!(io::stdout(), "the gateway at {to} drains; it ends within {seconds} s")?;
    if !wait {
        return Ok(());
    }
    let clock = Clock::start();
    while TcpStream::connect_timeout(&to, LOOK).is_ok() {
        let waited_ms = clock.now().mono_ms;
        if waited_ms > config.drain.deadline_ms + GRACE_MS {
            bail!("the gateway at {to} has not ended after {} s", waited_ms / 1000);
        }
        thread::sleep(LOOK);
    }
    Ok(writeln!(io::stdout(), "ended after {:.1} s", clock.now().mono_ms as f64 / 1000.0)?)
}
