//! `imgate drain`: the orderly stop of a running gateway, and the wait for its end.

use std::io::{self, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::Duration;

use anyhow::bail;
use imgate::clock::Clock;
use imgate::config::Config;

use super::ask::{address, ask_well};

/// Pause between two looks whether the gateway is gone.
const LOOK: Duration = Duration::from_millis(100);
/// How long its process may take beyond its own deadline.
const GRACE_MS: u64 = 5_000;

/// Asks for it and waits until the admin port has gone, which is bound as long as the process
/// lives.
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
    while is_bound(to) {
        let waited_ms = clock.now().mono_ms;
        if waited_ms > config.drain.deadline_ms + GRACE_MS {
            bail!("the gateway at {to} has not ended after {} s", waited_ms / 1000);
        }
        thread::sleep(LOOK);
    }
    Ok(writeln!(io::stdout(), "ended after {:.1} s", clock.now().mono_ms as f64 / 1000.0)?)
}

/// Whether something listens. One that takes no connection at the moment does.
fn is_bound(to: SocketAddr) -> bool {
    let refused = TcpStream::connect_timeout(&to, LOOK).err().map(|error| error.kind());
    refused.is_none_or(|kind| matches!(kind, io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock))
}
