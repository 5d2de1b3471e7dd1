//! Two gateways on one database: each a world of its own, with its own clients, clock and weather.
//!
//! Owns: the order in which they take turns, and that each model hears of what the other one commits.
//! Every other user belongs to the first, the rest to the second; they write to each other and to the same groups. What one
//! gateway stores the other promises to show to whoever reads, in the order of the database, not to push at once.

use imgate::store::memory::Memory;

use crate::plan::Plan;
use crate::random::Random;
use crate::trace::Trace;
use crate::world::{Checked, World};

/// Runs the two plans of a seed. What was met: messages that follow one of the other gateway, and gaps read.
pub(crate) fn run(seed: u64, trace: &Trace) -> Result<[u64; 2], String> {
    let memory = Memory::new();
    let [here, there] = Plan::pair(seed);
    let mut worlds = [World::on(&memory, here, trace.clone())?, World::on(&memory, there, trace.clone())?];
    for (which, world) in worlds.iter_mut().enumerate() {
        world.database.news = Some(Vec::new());
        let users: Vec<_> = world.users.iter().copied().skip(which).step_by(2).collect();
        for (n, client) in world.clients.iter_mut().enumerate() {
            client.user = users[n % users.len()];
        }
    }
    let mut random = Random::new(seed ^ 0x6761_7465_0000);
    both(&mut worlds, World::begin)?;
    for _ in 0..worlds[0].plan.moves + worlds[1].plan.moves {
        one(&mut worlds, random.index(2), World::step_once)?;
    }
    both(&mut worlds, World::calm_down)?;
    both(&mut worlds, World::finish)?;
    let rows = worlds[0].truth.convs.values();
    let in_turn = rows.flat_map(|rows| rows.windows(2)).filter(|pair| pair[0].post.is_some() != pair[1].post.is_some());
    let in_turn = in_turn.count() as u64;
    let gaps = worlds.iter_mut().flat_map(World::met).filter(|(what, _)| *what == "gap reads").map(|(_, times)| times);
    Ok([in_turn, gaps.sum()])
}

fn both(worlds: &mut [World; 2], what: impl Fn(&mut World) -> Checked) -> Checked {
    one(worlds, 0, &what)?;
    one(worlds, 1, &what)
}

/// Lets one of them do something; the other one's model hears of what was committed.
fn one(worlds: &mut [World; 2], which: usize, what: impl Fn(&mut World) -> Checked) -> Checked {
    let done = what(&mut worlds[which]);
    let (step, ms) = (worlds[which].step, worlds[which].now.mono_ms);
    done.map_err(|why| format!("gateway {which}, step {step}, {ms} ms: {why}"))?;
    let news = worlds[which].database.news.as_mut().map(std::mem::take).unwrap_or_default();
    let other = &mut worlds[1 - which];
    for (writes, written) in news {
        other.truth.elsewhere(other.step, &writes, &written)?;
    }
    Ok(())
}
