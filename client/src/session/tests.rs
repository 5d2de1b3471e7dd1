//! What the recorded conversations do not play: bounds, time that an application takes, and
//! conversations by the hundred.

use std::collections::HashMap;

use super::*;

const GROUP: Conv = Conv::Group(7);
const TS_MS: u64 = 1_795_211_600_000;

/// A session with its time, and what came out of it.
struct Stage {
    session: Session,
    now_ms: u64,
    places: HashMap<Conv, (u64, Option<u64>)>,
    frames: Vec<Value>,
    events: Vec<Event>,
    dials: u32,
    drops: u32,
}

impl Stage {
    /// A session that is connected.
    fn new(first_page: u32, receipts: bool) -> Self {
        Self::resumed(first_page, receipts, &[])
    }

    /// One that goes on where another was.
    fn resumed(first_page: u32, receipts: bool, places: &[(Conv, u64, Option<u64>)]) -> Self {
        let settings = Settings { user: 1, first_page, receipts, jitter: Jitter::Middle };
        let mut session = Session::new(settings);
        for (conv, last, epoch) in places {
            session.resume(*conv, *last, *epoch).expect("room");
        }
        let places = session.places().map(|(conv, last, epoch)| (conv, (last, epoch))).collect();
        let (frames, events) = (Vec::new(), Vec::new());
        let mut stage = Self { session, now_ms: 0, places, frames, events, dials: 0, drops: 0 };
        stage.open();
        stage
    }

    /// Takes what came out, as `Client` does, and looks whether that says where the session is.
    fn take(&mut self) {
        while let Some(output) = self.session.poll() {
            match output {
                Output::Dial => self.dials += 1,
                Output::Drop => self.drops += 1,
                Output::Send(text) => self.frames.push(serde_json::from_str(&text).expect("JSON")),
                Output::Place { conv, last, epoch } => _ = self.places.insert(conv, (last, epoch)),
                Output::Tell(event) => {
                    match &event {
                        Event::Message { conv, message } => {
                            let place = self.places.get_mut(conv).expect("it has begun");
                            place.0 = message.seq.expect("a number");
                        }
                        Event::Gap { conv, to, .. } => self.places.get_mut(conv).expect("it has begun").0 = *to,
                        Event::Reset { conv } => _ = self.places.remove(conv),
                        _ => {}
                    }
                    self.events.push(event);
                }
            }
        }
        let places: HashMap<_, _> = self.session.places().map(|(conv, last, epoch)| (conv, (last, epoch))).collect();
        assert_eq!(places, self.places, "what was told says where the session is");
    }

    fn open(&mut self) {
        self.session.opened(self.now_ms);
        self.take();
    }

    fn hear(&mut self, frame: &Value) {
        self.session.heard(self.now_ms, &frame.to_string());
        self.take();
    }

    /// The connection goes, and another one comes.
    fn reconnect(&mut self) {
        self.session.closed(self.now_ms, 1006, "");
        self.take();
        let dials = self.dials;
        while self.dials == dials {
            self.now_ms = self.session.due_ms().expect("it comes back");
            self.session.tick(self.now_ms);
            self.take();
        }
        self.open();
    }

    fn wait(&mut self, ms: u64) {
        self.now_ms += ms;
        self.session.tick(self.now_ms);
        self.take();
    }

    fn frames(&mut self) -> Vec<Value> {
        std::mem::take(&mut self.frames)
    }

    fn refusals(&mut self) -> Vec<(Option<String>, u64)> {
        let told = |event| match event {
            Event::Refused { cid, code, .. } => Some((cid, code)),
            _ => None,
        };
        std::mem::take(&mut self.events).into_iter().filter_map(told).collect()
    }

    /// The numbers of the messages that were shown.
    fn shown(&mut self) -> Vec<u64> {
        let seq = |event| match event {
            Event::Message { message, .. } => message.seq,
            _ => None,
        };
        std::mem::take(&mut self.events).into_iter().filter_map(seq).collect()
    }
}

fn row(conv: Conv, seq: u64) -> Value {
    let dstid = if conv == GROUP { 7 } else { 1 };
    json!({ "cmd": conv.kind(), "id": 100 + seq, "seq": seq, "ts": 1, "userid": conv.dstid(), "dstid": dstid, "content": "x" })
}

fn page(conv: Conv, seqs: std::ops::RangeInclusive<u64>, epoch: u64) -> Value {
    let head = *seqs.end();
    let rows: Vec<Value> = seqs.map(|seq| row(conv, seq)).collect();
    json!({ "cmd": 4, "kind": conv.kind(), "dstid": conv.dstid(), "rows": rows, "more": false, "floor": 1, "head": head, "epoch": epoch })
}

/// The larger the number of a conversation, the older its newest message.
fn list(convs: impl Iterator<Item = (Conv, u64)>, more: bool) -> Value {
    let one = |(conv, head): (Conv, u64)| {
        let (kind, dstid) = (conv.kind(), conv.dstid());
        json!({ "kind": kind, "dstid": dstid, "head": head, "ts": TS_MS - dstid, "recv": 0, "read": 0 })
    };
    json!({ "cmd": 5, "convs": convs.map(one).collect::<Vec<_>>(), "more": more, "epoch": 1 })
}

/// What asks for the page of the list behind that conversation.
fn list_behind(conv: Conv) -> Value {
    json!({ "cmd": 5, "before": TS_MS - conv.dstid(), "kind": conv.kind(), "dstid": conv.dstid() })
}

fn sync(conv: Conv, after: u64) -> Value {
    json!({ "cmd": 4, "kind": conv.kind(), "dstid": conv.dstid(), "after": after, "limit": 200 })
}

fn read_mark(seq: u64) -> Value {
    json!({ "cmd": 3, "kind": 11, "dstid": 7, "read": seq })
}

fn not_member() -> Value {
    json!({ "cmd": 2, "kind": 11, "dstid": 7, "code": 10, "msg": "not a member of this group", "retry": false })
}

/// In the group up to 3, all of it read.
fn reader(first_page: u32) -> Stage {
    let mut stage = Stage::new(first_page, false);
    stage.hear(&list([(GROUP, 3)].into_iter(), false));
    if first_page > 0 {
        stage.hear(&page(GROUP, 2..=3, 1));
    }
    stage.session.read(stage.now_ms, GROUP, 3);
    stage.take();
    assert_eq!(stage.frames().pop(), Some(read_mark(3)));
    stage.events.clear();
    stage
}

/// Who was removed from a group meanwhile may read what was said before, and may say nothing about
/// it. The refusal of a mark looks like that of the sync.
#[test]
fn a_refused_mark_is_not_taken_for_a_refused_sync() {
    let mut stage = reader(2);
    stage.reconnect();
    assert_eq!(stage.frames(), [sync(GROUP, 3)], "nothing else is said while the page is on its way");
    stage.hear(&page(GROUP, 4..=5, 1));
    assert_eq!((stage.shown(), stage.frames()), (vec![4, 5], vec![read_mark(3)]));
    stage.hear(&not_member());
    assert_eq!(stage.refusals(), []);
    stage.hear(&row(GROUP, 6));
    assert_eq!(stage.shown(), [6]);
}

#[test]
fn a_mark_waits_for_the_list_that_may_be_a_reason_to_ask() {
    let mut stage = reader(0);
    stage.reconnect();
    assert_eq!(stage.frames(), [] as [Value; 0]);
    stage.hear(&list([].into_iter(), false));
    assert_eq!(stage.frames(), [sync(GROUP, 3)], "the group is not listed, because the user has left it");
    stage.hear(&page(GROUP, 4..=5, 1));
    assert_eq!((stage.shown(), stage.frames()), (vec![4, 5], vec![read_mark(3)]));
}

#[test]
fn what_is_pushed_after_a_refusal_may_be_asked_for_again() {
    let mut stage = reader(2);
    stage.hear(&row(GROUP, 5));
    assert_eq!(stage.frames(), [sync(GROUP, 3)]);
    stage.hear(&not_member());
    assert_eq!(stage.refusals(), [(None, 10)]);
    stage.hear(&row(GROUP, 6));
    assert_eq!(stage.frames(), [sync(GROUP, 3)]);
    stage.hear(&page(GROUP, 4..=6, 1));
    assert_eq!(stage.shown(), [4, 5, 6]);
}

#[test]
fn history_that_waits_behind_a_refused_sync_is_refused_with_it_and_may_be_asked_for_again() {
    let mut stage = reader(2);
    stage.hear(&row(GROUP, 5));
    stage.session.history(0, GROUP, Some(2), 50).expect("room");
    stage.hear(&not_member());
    assert_eq!(stage.refusals(), [(None, 10), (None, 10)]);
    stage.frames();
    stage.session.history(0, GROUP, Some(2), 50).expect("room");
    stage.take();
    assert_eq!(stage.frames().len(), 1);
}

#[test]
fn an_application_that_takes_nothing_loses_no_connection_and_sends_nothing_twice() {
    let mut stage = Stage::new(2, false);
    let body = json!({ "media": 1 }).as_object().cloned().expect("an object");
    stage.session.send(0, GROUP, body, "a-1").expect("room");
    stage.take();
    let mut frames = Vec::new();
    for _ in 0..600 {
        stage.now_ms += 100;
        stage.session.deaf(stage.now_ms);
        stage.session.tick(stage.now_ms);
        stage.take();
        frames.extend(stage.frames());
    }
    let posts = frames.iter().filter(|frame| frame["cmd"] == 11).count();
    let heartbeats = frames.iter().filter(|frame| frame["cmd"] == 0).count();
    assert_eq!((stage.drops, stage.dials, posts), (0, 1, 1));
    assert!((2..=5).contains(&heartbeats), "{heartbeats} in a minute keep the connection alive");
    // It takes what it was told: silence means something again.
    while stage.drops == 0 {
        stage.now_ms = stage.session.due_ms().expect("a heartbeat");
        stage.session.tick(stage.now_ms);
        stage.take();
    }
    assert!((60_000..100_000).contains(&stage.now_ms), "{}", stage.now_ms);
}

#[test]
fn while_nothing_is_taken_it_does_not_come_back() {
    let mut stage = Stage::new(2, false);
    stage.session.closed(0, 1006, "");
    for _ in 0..600 {
        stage.now_ms += 100;
        stage.session.deaf(stage.now_ms);
        stage.session.tick(stage.now_ms);
    }
    stage.take();
    assert_eq!(stage.dials, 1);
    stage.now_ms += limits::PAUSE_MS;
    stage.session.tick(stage.now_ms);
    stage.take();
    assert_eq!(stage.dials, 2);
}

#[test]
fn pages_of_history_are_asked_for_as_the_gateway_takes_them() {
    let mut stage = Stage::new(2, false);
    for (asked, limit) in [(0, 1), (200, 200), (201, 200)] {
        stage.session.history(0, GROUP, Some(u64::MAX), asked).expect("room");
        stage.take();
        let frame = json!({ "cmd": 4, "kind": 11, "dstid": 7, "before": limits::ID_MAX, "limit": limit });
        assert_eq!(stage.frames(), [frame]);
        stage.hear(&page(GROUP, 1..=3, 1));
    }
    stage.events.clear();
    for nobody in [0, limits::ID_MAX + 1] {
        stage.session.history(0, Conv::Direct(nobody), None, 10).expect("room");
    }
    stage.take();
    assert_eq!((stage.refusals(), stage.frames()), (vec![(None, 3), (None, 3)], Vec::new()));
}

#[test]
fn what_the_gateway_could_not_read_is_refused_here() {
    let nested = |levels: usize| {
        let mut value = json!(1);
        for _ in 0..levels {
            value = json!([value]);
        }
        json!({ "x": value })
    };
    let sized = |bytes: usize| {
        let frame = json!({ "cid": "c", "cmd": 11, "content": "", "dstid": 7 }).to_string().len();
        json!({ "content": "y".repeat(bytes - frame) })
    };
    let long = "c".repeat(limits::CID_BYTES_MAX + 1);
    for (body, cid, code) in [
        (nested(31), "c", None),
        (nested(32), "c", Some(1)),
        (nested(200), "c", Some(1)),
        (sized(limits::FRAME_BYTES_MAX), "c", None),
        (sized(limits::FRAME_BYTES_MAX + 1), "c", Some(1)),
        (json!({}), &long[1..], None),
        (json!({}), &long, Some(3)),
        (json!({}), "", Some(3)),
    ] {
        let mut stage = Stage::new(2, false);
        stage.session.send(0, GROUP, body.as_object().cloned().expect("an object"), cid).expect("room");
        stage.take();
        let refusals: Vec<_> = code.map(|code| (Some(cid.to_owned()), code)).into_iter().collect();
        assert_eq!((stage.refusals(), stage.frames().len()), (refusals, usize::from(code.is_none())), "{code:?}");
        assert_eq!(stage.session.unsent(), usize::from(code.is_none()));
    }
}

#[test]
fn a_name_that_waits_is_not_sent_once_more() {
    let mut stage = Stage::new(2, false);
    for _ in 0..2 {
        stage.session.send(0, GROUP, Map::new(), "a-1").expect("room");
        stage.take();
        assert!(stage.session.waits("a-1") && !stage.session.waits("a-2"));
    }
    assert_eq!((stage.frames().len(), stage.session.unsent()), (1, 1));
}

/// The list names 200 conversations, and the user has more.
#[test]
fn a_conversation_beyond_the_list_is_synced_after_a_reconnect() {
    let listed = || (2..202).map(|user| (Conv::Direct(user), 4));
    let mut stage = Stage::new(0, false);
    stage.hear(&list(listed(), true));
    stage.hear(&row(Conv::Direct(500), 5));
    assert_eq!((stage.shown(), stage.frames()), (vec![5], Vec::new()));
    stage.reconnect();
    assert_eq!(stage.frames(), [] as [Value; 0]);
    stage.hear(&list(listed(), true));
    assert_eq!(stage.frames(), [sync(Conv::Direct(500), 5)]);
    stage.hear(&page(Conv::Direct(500), 6..=7, 1));
    assert_eq!(stage.shown(), [6, 7]);
    // A list that comes later on the same connection is no reason.
    stage.hear(&list([].into_iter(), false));
    assert_eq!(stage.frames(), [] as [Value; 0]);
}

/// To ask for thousands of pages is more than a gateway does for a user: the connection would be
/// closed before the last one, and the next one would begin with the first again.
#[test]
fn of_thousands_of_conversations_only_those_with_news_are_synced() {
    const COUNT: u64 = 3_000;
    let direct = |index: u64| Conv::Direct(2 + index);
    let places: Vec<_> = (0..COUNT).map(|index| (direct(index), 4, Some(1))).collect();
    let (early, late) = (direct(20), direct(COUNT - 1));
    for first_page in [0, 2] {
        let mut stage = Stage::resumed(first_page, false, &places);
        assert_eq!(stage.frames(), [] as [Value; 0], "the list says where news is");
        let mut lists = 0;
        for from in (0..COUNT).step_by(200) {
            let to = from + 200;
            let convs = (from..to).map(direct).map(|conv| (conv, if conv == early || conv == late { 6 } else { 4 }));
            stage.hear(&list(convs, to < COUNT));
            let mut wanted = Vec::new();
            if from == 0 {
                wanted.push(sync(early, 4));
            }
            wanted.push(if to < COUNT { list_behind(direct(to - 1)) } else { sync(late, 4) });
            assert_eq!(stage.frames(), wanted, "behind {to}");
            lists += 1;
            if to == 1_000 {
                // A page that is refused is asked for again after a pause.
                stage.hear(&json!({ "cmd": 2, "code": 20, "msg": "busy, try again", "retry": true }));
                assert_eq!(stage.frames(), [] as [Value; 0]);
                stage.now_ms = stage.session.due_ms().expect("a pause");
                stage.session.tick(stage.now_ms);
                stage.take();
                assert_eq!(stage.frames(), wanted);
            }
        }
        assert_eq!(lists, COUNT / 200);
        stage.hear(&page(early, 5..=6, 1));
        stage.hear(&page(late, 5..=6, 1));
        assert_eq!((stage.shown(), stage.frames()), (vec![5, 6, 5, 6], Vec::new()));
        assert_eq!(stage.session.unanswered, 0);
    }
}

#[test]
fn what_the_whole_list_does_not_name_is_a_group_that_was_left_or_of_another_history() {
    let direct = |user: u64| (Conv::Direct(user), 4);
    let mut places: Vec<_> = (1_000..1_100).map(|user| (Conv::Direct(user), 4, Some(1))).collect();
    let (gone, other, pushed) = (Conv::Direct(998), Conv::Direct(999), Conv::Direct(5_000));
    places.extend([(GROUP, 3, Some(1)), (gone, 4, Some(1)), (other, 4, Some(9))]);
    let mut stage = Stage::resumed(0, false, &places);
    stage.session.read(0, GROUP, 3);
    stage.hear(&list((2..202).map(direct), true));
    assert_eq!(stage.frames(), [list_behind(Conv::Direct(201))], "no mark: the group may have to be asked for");
    stage.events.clear();
    stage.hear(&list((1_000..1_100).map(direct).chain([(pushed, 4)]), false));
    assert_eq!(stage.frames(), [sync(GROUP, 3)]);
    assert_eq!(stage.events, [Event::Reset { conv: other }]);
    assert_eq!(stage.places.get(&pushed), None, "a further page begins no conversation");
    stage.hear(&page(GROUP, 4..=5, 1));
    assert_eq!((stage.shown(), stage.frames()), (vec![4, 5], vec![read_mark(3)]));
}

#[test]
fn a_message_does_not_wait_for_every_page_that_waits() {
    let places: Vec<_> =
        (0..limits::ASKED_BLINDLY_MAX as u64).map(|index| (Conv::Direct(2 + index), 4, None)).collect();
    let mut stage = Stage::resumed(2, false, &places);
    assert_eq!(stage.frames().len(), limits::WINDOW);
    for cid in ["a-1", "a-2"] {
        stage.session.send(0, GROUP, Map::new(), cid).expect("room");
    }
    for user in 2..6 {
        stage.hear(&page(Conv::Direct(user), 1..=4, 1));
    }
    let mut cmds: Vec<u64> = stage.frames().iter().filter_map(|frame| frame["cmd"].as_u64()).collect();
    cmds.sort_unstable();
    assert_eq!(cmds, [4, 4, 11, 11], "they take turns");
}

/// [`Stage::take`] compares after each step.
#[test]
fn where_the_application_is_follows_from_what_it_is_told() {
    let mut stage = Stage::new(2, true);
    stage.hear(&list([(GROUP, 3)].into_iter(), false));
    stage.hear(&page(GROUP, 2..=3, 1));
    stage.hear(&row(Conv::Direct(9), 1));
    assert_eq!(stage.places.get(&GROUP), Some(&(3, Some(1))));
    stage.reconnect();
    let mut trimmed = page(GROUP, 8..=9, 1);
    trimmed["floor"] = 8.into();
    stage.hear(&trimmed);
    assert_eq!(stage.places.get(&GROUP), Some(&(9, Some(1))));
    stage.reconnect();
    stage.hear(&page(GROUP, 1..=2, 2));
    assert_eq!(stage.places.get(&GROUP), None, "the history is another one");
    stage.hear(&page(GROUP, 1..=2, 2));
    assert_eq!(stage.places.get(&GROUP), Some(&(2, Some(2))));
    let mut stage = Stage::new(0, true);
    stage.hear(&row(GROUP, 5));
    stage.hear(&list([(GROUP, 5), (Conv::Direct(2), 4)].into_iter(), false));
    assert_eq!(stage.places.get(&Conv::Direct(2)), Some(&(4, Some(1))));
}

fn received(user: u64, seq: u64) -> Value {
    json!({ "cmd": 3, "kind": 10, "dstid": user, "recv": seq })
}

/// With 300 conversations, a message was received in each, and it was said.
fn receiver() -> (Stage, impl Fn(u64) -> Value) {
    let users = || 2..302;
    let listed = move |recv: u64| {
        let mut list = list(users().map(|user| (Conv::Direct(user), 5)), false);
        for row in list["convs"].as_array_mut().expect("rows") {
            row["recv"] = recv.into();
        }
        list
    };
    let mut stage = Stage::new(0, true);
    stage.hear(&list([].into_iter(), false));
    for user in users() {
        stage.hear(&row(Conv::Direct(user), 5));
    }
    stage.wait(limits::RECEIPTS_MS);
    assert_eq!(stage.frames(), users().map(|user| received(user, 5)).collect::<Vec<_>>());
    (stage, listed)
}

#[test]
fn what_the_list_has_heard_is_not_said_again_after_a_reconnect() {
    let (mut stage, listed) = receiver();
    stage.reconnect();
    stage.wait(limits::RECEIPTS_MS);
    assert_eq!(stage.frames(), [] as [Value; 0], "the list is waited for");
    stage.hear(&listed(5));
    stage.wait(limits::RECEIPTS_MS);
    assert_eq!(stage.frames(), [] as [Value; 0]);
    // After a crash of the gateway it may know less.
    stage.reconnect();
    stage.hear(&listed(0));
    stage.wait(limits::RECEIPTS_MS);
    assert_eq!(stage.frames().len(), 300);
}

#[test]
fn what_was_relayed_is_not_said_again_of_what_the_list_does_not_name() {
    let (mut stage, _) = receiver();
    for user in 2..300 {
        stage.hear(&json!({ "cmd": 3, "userid": 1, "kind": 10, "dstid": user, "recv": 5, "read": 0 }));
    }
    stage.reconnect();
    // There may be more behind that page.
    stage.hear(&list([].into_iter(), true));
    loop {
        let syncs = stage.frames();
        if syncs.is_empty() {
            break;
        }
        for sync in syncs {
            let (kind, dstid) = (&sync["kind"], &sync["dstid"]);
            let page = json!({ "cmd": 4, "kind": kind, "dstid": dstid, "rows": [], "more": false, "floor": 1, "head": 5, "epoch": 1 });
            stage.hear(&page);
        }
    }
    stage.wait(limits::RECEIPTS_MS);
    assert_eq!(stage.frames(), [received(300, 5), received(301, 5)]);
}

#[test]
fn words_that_were_refused_for_now_have_their_pause_whatever_else_is_said() {
    let (mut stage, _) = receiver();
    for user in 2..46 {
        stage
            .hear(&json!({ "cmd": 2, "kind": 10, "dstid": user, "code": 20, "msg": "busy, try again", "retry": true }));
    }
    stage.hear(&row(Conv::Direct(500), 5));
    stage.wait(limits::RECEIPTS_MS);
    assert_eq!(stage.frames(), [received(500, 5)]);
    stage.session.read(stage.now_ms, Conv::Direct(2), 5);
    stage.take();
    assert_eq!(stage.frames(), [] as [Value; 0]);
    stage.wait(1_000);
    let read = json!({ "cmd": 3, "kind": 10, "dstid": 2, "read": 5 });
    let mut again = stage.frames();
    again.sort_by_key(|frame| frame["dstid"].as_u64());
    assert_eq!(again, [vec![read], (3..46).map(|user| received(user, 5)).collect()].concat());
}

#[test]
fn a_word_that_was_refused_for_now_is_said_again() {
    let mut stage = Stage::new(0, true);
    let mark = |seq: u64| json!({ "cmd": 3, "kind": 10, "dstid": 2, "read": seq });
    let busy = json!({ "cmd": 2, "kind": 10, "dstid": 2, "code": 20, "msg": "busy, try again", "retry": true });
    stage.hear(&list([(Conv::Direct(2), 4)].into_iter(), false));
    stage.session.read(stage.now_ms, Conv::Direct(2), 4);
    stage.take();
    // The jitter of this session is in the middle.
    for pause_ms in [750, 1500] {
        assert_eq!(stage.frames(), [mark(4)]);
        stage.hear(&busy);
        stage.wait(pause_ms - 1);
        assert_eq!(stage.frames(), [] as [Value; 0]);
        stage.wait(1);
    }
    assert_eq!(stage.frames(), [mark(4)]);
    stage.hear(&json!({ "cmd": 3, "userid": 1, "kind": 10, "dstid": 2, "recv": 4, "read": 4 }));
    stage.hear(&busy);
    stage.wait(2_000);
    assert_eq!(stage.frames(), [] as [Value; 0], "it has come meanwhile");
    assert_eq!(stage.refusals(), []);
}
