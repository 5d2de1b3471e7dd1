//! How late a device is shown what another one has, and what it is told that it will never have.
//!
//! Never: looks away from a message only because the connection goes before it has come.

use super::*;

impl Device {
    /// Enters a message in the book and shows it, if it is the next.
    pub(super) fn see(&mut self, turn: &mut Turn<'_>, place: usize, row: &Row, how: How) {
        let (world, view, now_ms) = (turn.world, &mut self.views[place], (turn.now_ns / 1_000_000) as u32);
        let mut first_ms = now_ms;
        let mail = world.book.identify(view.conv, row, turn.ids, world.run, world.habits.payload, self.who);
        if let Some(mail) = mail {
            let seen = Seen { mail, seq: row.seq, id: row.id, who: self.who, how, at_ms: now_ms };
            first_ms = world.book.observe(view.conv, seen);
        }
        match view.see(row.seq, mail.map_or(0, Mail::print)) {
            DeviceSight::Show => {
                turn.lane.shown.add(1);
                // Readers that stall are late of their own accord.
                if let Some(lag_ms) = view.lag_ms(first_ms, now_ms).filter(|_| !self.slow) {
                    let conv = view.conv;
                    self.lagged(turn, conv, row.seq, lag_ms, "had it");
                }
            }
            DeviceSight::Skip => turn.lane.hidden.add(1),
            DeviceSight::Hole => turn.lane.holes.add(1),
        }
    }

    /// A message was shown so long after the first device had it, or had not been.
    fn lagged(&self, turn: &mut Turn<'_>, conv: u32, seq: u64, lag_ms: u32, what: &str) {
        turn.lag_ns.saturating_record(u64::from(lag_ms) * 1_000_000);
        if turn.world.habits.lag_ms_max.is_some_and(|most| lag_ms > most) {
            let (book, Who { user, device }) = (&turn.world.book, self.who);
            book.blame(Fault::Late, || {
                let (name, door) = (book.convs[conv as usize].name, &turn.world.door(self.who, self.generation).host);
                format!("{name}, seq {seq}: user #{user} device {device} at {door} {what} {lag_ms} ms after the first")
            });
        }
    }

    /// Not everything is shown at once from now on. What a view lacks at this moment it has lacked
    /// since the first device had it: that was as late, though it never comes on this connection.
    pub(super) fn unsteady(&mut self, turn: &mut Turn<'_>) {
        let (book, now_ms) = (&turn.world.book, (turn.now_ns / 1_000_000) as u32);
        for place in 0..self.views.len() {
            let view = &self.views[place];
            let (conv, next) = (&book.convs[view.conv as usize], view.last + 1);
            let first = if view.last < conv.head() && !self.slow {
                conv.record().rows.get((view.last - conv.base) as usize).copied().flatten()
            } else {
                None
            };
            if let Some(lag_ms) = first.and_then(|first| view.lag_ms(first.at_ms, now_ms)) {
                self.lagged(turn, view.conv, next, lag_ms, "did not have it");
            }
            self.views[place].steady_ms = None;
        }
    }

    /// A page says that nothing before `floor` is kept.
    pub(super) fn floor(&mut self, turn: &Turn<'_>, place: usize, floor: u64) {
        let view = &mut self.views[place];
        let conv = &turn.world.book.convs[view.conv as usize];
        if floor <= conv.base + 1 {
            return;
        }
        if floor > view.last + 1 && !turn.world.habits.retention {
            turn.world.book.blame(Fault::Lost, || {
                format!(
                    "{}: user #{} device {} has up to {} and is told that all before {floor} is gone, where nothing may go",
                    conv.name, self.who.user, self.who.device, view.last
                )
            });
        }
        view.skip_to(floor);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use mio::Poll;

    use super::*;
    use crate::clock::Clock;
    use crate::verify::Habits;
    use crate::verify::book::{Book, Conv};
    use crate::verify::crew::histogram;
    use crate::verify::people::User;

    /// One group of two users, of which the second one's device has nothing of the run.
    fn world(stalled_permille: u64, retention: bool) -> World {
        let user = |id| User { id, token: String::new(), convs: vec![0], places: HashMap::new(), strange: Vec::new() };
        let habits = Habits {
            send_gap_ns: 1,
            churn_ns: 0,
            stalled_permille,
            repeat_permille: 0,
            intrusion_permille: 0,
            payload: 50,
            devices: 1,
            lag_ms_max: Some(10_000),
            retention,
        };
        let clock = Clock::start();
        let book = Book::new(vec![Conv::new(Name::Group(7), vec![0, 1], 0)], clock);
        let doors = vec![crate::http::Door { address: ([127, 0, 0, 1], 1).into(), host: String::new() }];
        World::new(doors, 9, 1, clock, vec![user(100), user(101)], book, habits, 1)
    }

    /// What is found when the second user's device is taken through something at a time of the run.
    fn found(
        world: &World,
        device: &mut Device,
        at_ms: u64,
        what: impl Fn(&mut Device, &mut Turn<'_>),
    ) -> Vec<(Fault, u64)> {
        let poll = Poll::new().expect("epoll");
        let mut turn = Turn {
            world,
            lane: &world.lanes[0],
            registry: poll.registry(),
            ids: &[100, 101],
            ack_ns: &mut histogram(),
            lag_ns: &mut histogram(),
            parked: &mut VecDeque::new(),
            twins: &mut Vec::new(),
            stage: RunStage::Running,
            now_ns: at_ms * 1_000_000,
        };
        what(device, &mut turn);
        world.book.findings().0.into_iter().collect()
    }

    fn late(stalled_permille: u64, steady_ms: Option<u32>, off_ms: u64) -> Vec<(Fault, u64)> {
        let world = world(stalled_permille, false);
        let who = Who { user: 1, device: 0 };
        let mut device = Device::new(&world, who, 0);
        device.views[0].steady_ms = steady_ms;
        let mail = Mail { user: 0, device: 0, n: 1, conv: 0 };
        world
            .book
            .observe(0, Seen { mail, seq: 1, id: 51, who: Who { user: 0, device: 0 }, how: How::Ack, at_ms: 1000 });
        let first = found(&world, &mut device, off_ms, |device, turn| device.off(turn, true));
        assert_eq!(device.views[0].steady_ms, None);
        let again = found(&world, &mut device, off_ms + 60_000, |device, turn| device.off(turn, true));
        assert_eq!(first, again, "it is told once");
        first
    }

    #[test]
    fn what_a_connection_did_not_bring_until_it_went_is_late() {
        assert_eq!(late(0, Some(0), 14_000), [(Fault::Late, 1)]);
        assert_eq!(late(0, Some(0), 10_500), [], "9.5 s");
        assert_eq!(late(0, Some(9_000), 14_000), [], "it was connected for 5 s of it");
        assert_eq!(late(0, None, 14_000), [], "it was not connected");
        assert_eq!(late(1000, Some(0), 14_000), [], "it stalls of its own accord");
    }

    #[test]
    fn a_floor_is_believed_only_where_something_may_go() {
        for (retention, expected) in [(false, vec![(Fault::Lost, 1)]), (true, vec![])] {
            let world = world(0, retention);
            let mut device = Device::new(&world, Who { user: 1, device: 0 }, 0);
            let found = found(&world, &mut device, 1, |device, turn| {
                [1, 3, 3].into_iter().for_each(|floor| device.floor(turn, 0, floor));
            });
            assert_eq!((found, device.views[0].last), (expected, 2));
        }
    }
}
