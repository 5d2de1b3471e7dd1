//! The last word: the history over HTTP, held against the acks, against what every device was
//! shown, and against what every device ended with.
//!
//! Owns: [`audit`]. It runs when all devices have ended, so the books do not change any more.
//! Bounds: [`PAGES_MAX`] pages of a conversation; every page by the HTTP client's limits.

use std::collections::HashMap;

use anyhow::{Context, Result, bail, ensure};

use super::World;
use super::book::{Conv, Fault, How, Seen, Who};
use super::crew::Outcome;
use super::mail::{Mail, Row};
use super::people::{User, page};
use super::view::fold;
use crate::clock::pause;
use crate::http::Url;
use crate::limits::{PAGES_MAX, SYNC_ROWS};

/// Readers of each history: what one member may read, another must.
const READERS: usize = 2;
/// Stories about one conversation.
const STORIES_MAX: usize = 3;

/// Tries to read one history, a second apart: the server may just have come back.
const TRIES: u32 = 3;
/// Histories that may be unreadable, as findings; beyond it there is no result.
const UNREAD_MAX: u32 = 5;

/// What was gone through.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Audited {
    /// Rows of all histories, each conversation once.
    pub(crate) rows: u64,
    /// Rows that are not kept any more.
    pub(crate) trimmed: u64,
    /// Devices' views that were compared with the history.
    pub(crate) views: u64,
}

/// One conversation's history as a member reads it.
struct History {
    rows: Vec<Row>,
    floor: u64,
    head: u64,
}

impl History {
    /// Rows of the run that are not kept any more, by the server's word.
    const fn trimmed(&self, conv: &Conv) -> u64 {
        self.floor.saturating_sub(conv.base + 1)
    }
}

/// Compares everything. `bases`: the gateways, asked in turn. `told` hears how far it is, and says
/// whether to go on.
pub(crate) fn audit(
    world: &World,
    bases: &[Url],
    outcomes: &[Outcome],
    told: impl Fn(usize) -> bool,
) -> Result<Audited> {
    let mut sum = Audited::default();
    let mut by_conv: HashMap<u32, Vec<&Outcome>> = HashMap::new();
    for outcome in outcomes {
        by_conv.entry(outcome.conv).or_default().push(outcome);
    }
    let mut unread = 0;
    for (place, conv) in world.book.convs.iter().enumerate() {
        if !told(place) {
            break;
        }
        for (turn, reader) in conv.members.iter().rev().take(READERS).enumerate() {
            let history =
                match read_patiently(&bases[(place + turn) % bases.len()], &world.users[*reader as usize], conv) {
                    Ok(history) => history,
                    Err(error) if unread < UNREAD_MAX => {
                        unread += 1;
                        let story =
                            || format!("the history of {} cannot be read as user #{reader}: {error:#}", conv.name);
                        world.book.blame(Fault::Protocol, story);
                        continue;
                    }
                    Err(error) => return Err(error).context("too many histories cannot be read"),
                };
            let chains = go_through(world, place as u32, &history, *reader);
            compare_books(world, conv, &history);
            if turn > 0 {
                continue;
            }
            sum.rows += history.rows.len() as u64;
            sum.trimmed += history.trimmed(conv);
            for outcome in by_conv.get(&(place as u32)).into_iter().flatten() {
                sum.views += 1;
                compare_outcome(world, conv, &history, chains, outcome);
            }
        }
    }
    Ok(sum)
}

fn read_patiently(base: &Url, user: &User, conv: &Conv) -> Result<History> {
    for _ in 1..TRIES {
        if let Ok(history) = read(base, user, conv) {
            return Ok(history);
        }
        pause(1000);
    }
    read(base, user, conv)
}

fn read(base: &Url, user: &User, conv: &Conv) -> Result<History> {
    let mut history = History { rows: Vec::new(), floor: 0, head: 0 };
    let mut after = conv.base;
    for _ in 0..PAGES_MAX {
        let answer = page(base, user, conv.name, &format!("after={after}&limit={SYNC_ROWS}"))?;
        for row in answer["rows"].as_array().context("no rows")? {
            history.rows.push(Row::read(row).map_err(|missing| anyhow::anyhow!("no {missing} in {row}"))?);
        }
        let data = &answer["data"];
        let number = |key: &str| data[key].as_u64().with_context(|| format!("no {key} in {data}"));
        (history.floor, history.head) = (number("floor")?, number("head")?);
        if data["more"].as_bool() != Some(true) {
            return Ok(history);
        }
        let last = history.rows.last().map_or(0, |row| row.seq);
        ensure!(last > after, "a page that does not go on, after {after}");
        after = last;
    }
    bail!("more than {PAGES_MAX} pages")
}

/// Looks for holes, and enters every row in the book, which finds contradictions with what was
/// seen. Gives the last `seq` and the chain.
fn go_through(world: &World, place: u32, history: &History, reader: u32) -> (u64, u64) {
    let conv = &world.book.convs[place as usize];
    let who = Who { user: reader, device: 0 };
    let ids: Vec<u64> = world.users.iter().map(|user| user.id).collect();
    let mut next = (conv.base + 1).max(history.floor);
    let (mut chain, at_ms) = (0, world.book.now_ms());
    for row in &history.rows {
        if row.seq != next {
            world
                .book
                .blame(Fault::Gaps, || format!("{}: in the history seq {next} is followed by {}", conv.name, row.seq));
        }
        next = row.seq + 1;
        let mail = world.book.identify(place, row, &ids, world.run, world.habits.payload, who);
        if let Some(mail) = mail {
            world.book.observe(place, Seen { mail, seq: row.seq, id: row.id, who, how: How::History, at_ms });
        }
        chain = fold(chain, row.seq, mail.map_or(0, Mail::print));
    }
    if history.head + 1 != next && !history.rows.is_empty() {
        world.book.blame(Fault::Gaps, || {
            format!("{}: the head is {}, the history ends before {next}", conv.name, history.head)
        });
    }
    (next - 1, chain)
}

/// Every ack and everything that any device was shown is in the history, at its place.
fn compare_books(world: &World, conv: &Conv, history: &History) {
    let record = conv.record();
    let run = world.run;
    let places: HashMap<Mail, &Row> =
        history.rows.iter().filter_map(|row| Some((Mail::from_cid(&row.cid, run)?, row))).collect();
    let end = history.rows.last().map_or(conv.base, |row| row.seq);
    let retention = world.habits.retention;
    let kept = |seq: u64| seq >= history.floor || !retention;
    let mut told = 0;
    let mut blame = |fault, story: &dyn Fn() -> String| {
        told += 1;
        world.book.blame(fault, || if told > STORIES_MAX { format!("{}: and others", conv.name) } else { story() });
    };
    if history.trimmed(conv) > 0 && !retention {
        blame(Fault::Lost, &|| {
            format!("{}: all before seq {} is gone, where nothing may go (--retention)", conv.name, history.floor)
        });
    }
    // In their order, so that the story is that of the first one.
    let mut acks: Vec<&Seen> = record.acks.values().filter(|ack| kept(ack.seq)).collect();
    acks.sort_unstable_by_key(|ack| ack.seq);
    for ack in acks {
        match places.get(&ack.mail) {
            None => blame(Fault::Lost, &|| {
                let there = history.rows.iter().find(|row| row.seq == ack.seq);
                let there = there.map_or_else(
                    || format!("which ends with seq {end}"),
                    |row| format!("where cid {:?} has its place", row.cid),
                );
                format!("{}: acked and not in the history, {there}: {ack}", conv.name)
            }),
            Some(row) if (row.seq, row.id) != (ack.seq, ack.id) => {
                blame(Fault::Misacked, &|| {
                    format!("{}: the history has it at seq {}, id {}: {ack}", conv.name, row.seq, row.id)
                });
            }
            Some(_) => {}
        }
    }
    for seen in record.rows.iter().flatten().filter(|seen| kept(seen.seq) && !places.contains_key(&seen.mail)) {
        if seen.how != How::Ack && !record.acks.contains_key(&seen.mail) {
            blame(Fault::Phantom, &|| {
                format!("{}: shown and not in the history, which ends with seq {end}: {seen}", conv.name)
            });
        }
    }
}

/// A device ended with the whole history, in its order, and so did its second reading.
fn compare_outcome(world: &World, conv: &Conv, history: &History, whole: (u64, u64), outcome: &Outcome) {
    let trimmed = outcome.trimmed || history.floor > conv.base + 1;
    let same = |had: (u64, u64)| had.0 == whole.0 && (trimmed || had.1 == whole.1);
    let second = outcome.reread.is_none_or(same);
    if !same(outcome.settled) || !second {
        world.book.blame(Fault::Incomplete, || {
            let what = if second { "was shown" } else { "read again from the beginning" };
            format!(
                "{}: what user #{} device {} {what} (up to seq {}) is not the history (up to {}), or not in its order",
                conv.name, outcome.who.user, outcome.who.device, outcome.settled.0, whole.0
            )
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::http::Door;
    use crate::verify::Habits;
    use crate::verify::book::{Book, How, Name};

    const RUN: u64 = 9;

    fn world(retention: bool) -> World {
        let user = |id| User { id, token: String::new(), convs: vec![0], places: HashMap::new(), strange: Vec::new() };
        let habits = Habits {
            send_gap_ns: 1,
            churn_ns: 0,
            stalled_permille: 0,
            repeat_permille: 0,
            intrusion_permille: 0,
            payload: 50,
            devices: 1,
            lag_ms_max: None,
            retention,
        };
        let clock = Clock::start();
        let book = Book::new(vec![Conv::new(Name::Group(7), vec![0, 1], 0)], clock);
        let address = std::net::SocketAddr::from(([127, 0, 0, 1], 1));
        let doors = vec![Door { address, host: String::new() }];
        World::new(doors, RUN, 1, clock, vec![user(100), user(101)], book, habits, 1)
    }

    fn mail(n: u32) -> Mail {
        Mail { user: 0, device: 0, n, conv: 0 }
    }

    fn seen(n: u32, seq: u64, how: How) -> Seen {
        Seen { mail: mail(n), seq, id: seq + 50, who: Who { user: 1, device: 0 }, how, at_ms: 1 }
    }

    fn history(numbers: &[(u32, u64)]) -> History {
        let row = |&(n, seq): &(u32, u64)| {
            let mut value = serde_json::from_str::<serde_json::Value>(&mail(n).command(RUN, 50, 11, 7)).expect("JSON");
            (value["seq"], value["id"], value["userid"]) = (seq.into(), (seq + 50).into(), 100.into());
            Row::read(&value).expect("a row")
        };
        let rows: Vec<Row> = numbers.iter().map(row).collect();
        History { floor: 1, head: rows.last().map_or(0, |row| row.seq), rows }
    }

    /// Audits a history against what was seen and acked, and a device that ended like the first
    /// history.
    fn faults(numbers: &[(u32, u64)], shown: &[Seen], acked: &[Seen], had: &[(u32, u64)]) -> Vec<Fault> {
        faults_of(&history(numbers), false, shown, acked, had)
    }

    fn faults_of(history: &History, retention: bool, shown: &[Seen], acked: &[Seen], had: &[(u32, u64)]) -> Vec<Fault> {
        let world = world(retention);
        for seen in shown {
            world.book.observe(0, *seen);
        }
        acked.iter().for_each(|seen| {
            world.book.acked(0, *seen);
        });
        let chain = had.iter().fold(0, |chain, &(n, seq)| fold(chain, seq, mail(n).print()));
        let settled = (had.last().map_or(0, |(_, seq)| *seq), chain);
        let outcome = Outcome { who: Who { user: 1, device: 0 }, conv: 0, settled, reread: None, trimmed: false };
        let conv = &world.book.convs[0];
        let whole = go_through(&world, 0, history, 1);
        compare_books(&world, conv, history);
        compare_outcome(&world, conv, history, whole, &outcome);
        world.book.findings().0.into_keys().collect()
    }

    #[test]
    fn a_whole_history_is_in_order_and_each_damage_is_found() {
        let all = [(1, 1), (2, 2), (3, 3)];
        let shown = [seen(1, 1, How::Push), seen(2, 2, How::Sync), seen(3, 3, How::Push)];
        let acked = [seen(2, 2, How::Ack)];
        assert_eq!(faults(&all, &shown, &acked, &all), []);
        assert_eq!(faults(&all[..1], &shown[..1], &acked, &all[..1]), [Fault::Lost]);
        assert_eq!(faults(&all[..2], &shown, &acked, &all[..2]), [Fault::Phantom]);
        assert_eq!(faults(&[(1, 1), (3, 3)], &[], &[], &[(1, 1), (3, 3)]), [Fault::Gaps]);
        assert_eq!(faults(&all, &[], &[], &all[..2]), [Fault::Incomplete]);
        assert_eq!(faults(&all, &[], &[], &[(2, 1), (1, 2), (3, 3)]), [Fault::Incomplete]);
        assert_eq!(faults(&all, &[seen(1, 2, How::Push)], &[], &all), [Fault::Doubled, Fault::OutOfOrder]);
    }

    #[test]
    fn a_comparison_that_shall_end_asks_for_nothing_more() {
        // There is no gateway to ask.
        let sum = audit(&world(false), &[], &[], |_| false).expect("ended");
        assert_eq!((sum.rows, sum.views), (0, 0));
    }

    #[test]
    fn what_is_gone_is_lost_unless_something_may_go() {
        let all = [(1, 1), (2, 2), (3, 3)];
        let acked = [seen(1, 1, How::Ack), seen(2, 2, How::Ack)];
        let gone = History { floor: 3, ..history(&all[2..]) };
        assert_eq!(gone.trimmed(&Conv::new(Name::Group(7), Vec::new(), 0)), 2);
        assert_eq!(faults_of(&gone, false, &[], &acked, &all), [Fault::Lost]);
        assert_eq!(faults_of(&gone, false, &[], &[], &all), [Fault::Lost], "not even acked");
        assert_eq!(faults_of(&gone, true, &[], &acked, &all), []);
    }
}
