//! Slots and memory of plain HTTP: who goes when they are short, and who is served all the same.

use std::io::{ErrorKind, Write};
use std::net::IpAddr;
use std::sync::Arc;

use super::rig::{Answered, Ask, Client, FORM, LOCAL, Mood, PATIENCE, Rig};
use crate::api::SlotBounds;
use crate::api::slots::{ConnectionSlots, RequestClass};
use crate::clock::Clock;
use crate::fair::Networks;
use crate::ids::{ShardId, UserId};
use crate::limits;
use crate::metrics::http::{Evicted, Refused};
use crate::store::{Backend, Befriended, NewUser};

const FEW: SlotBounds =
    SlotBounds { slots: 8, of_network: 8, login_reserve: 2, head_reserve: 2, budget: limits::HTTP_BUDGET_DEFAULT };

fn few() -> Rig {
    Rig::with_slots(FEW, Networks::loopback())
}

/// Waits until `holds`, which must come to hold by itself.
fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let clock = Clock::start();
    while !holds() {
        assert!(clock.now().mono_ms < PATIENCE.as_millis() as u64, "{what}");
        std::thread::yield_now();
    }
}

impl Rig {
    /// Connections that are idle, waiting, working.
    fn taken(&self) -> [u64; 3] {
        assert_eq!(Client::connect(self.admin).ask(Ask::get("/metrics", &[LOCAL])).status, 200);
        self.http.taken()
    }

    /// A connection that has had an answer and waits for its next request.
    fn idle(&self, mut client: Client) -> Client {
        let idle = self.taken()[0];
        assert_eq!(client.ask(Ask::get("/", &[])).status, 200);
        until("it becomes idle", || self.taken()[0] != idle);
        client
    }

    fn is_served(&self) {
        assert_eq!(self.ask(Ask::get("/", &[])).status, 200);
    }
}

#[test]
fn the_oldest_idle_connection_goes_and_a_newcomer_is_served() {
    let rig = few();
    // A quarter of the slots stays free.
    let mut idle: Vec<_> = (0..6).map(|_| rig.idle(rig.client())).collect();
    assert_eq!(rig.http.evictions(), [0; 5]);
    let mut newest = rig.client();
    assert_eq!(newest.ask(Ask::get("/", &[])).status, 200);
    assert!(idle.remove(0).is_ended(), "the oldest");
    for client in &mut idle {
        assert_eq!(client.ask(Ask::get("/", &[])).status, 200, "the others are kept alive");
    }
    assert_eq!(rig.http.evictions()[Evicted::Idle as usize], 1);
    for _ in 0..50 {
        rig.is_served();
    }
}

#[test]
fn idle_connections_of_the_busiest_address_go_first() {
    let rig = Rig::with_slots(FEW, Networks::default());
    let mut single = rig.idle(Client::connect_from([127, 0, 0, 2], rig.public));
    let mut busy: Vec<_> = (0..5).map(|_| rig.idle(rig.client())).collect();
    let mut newcomer = Client::connect_from([127, 0, 0, 3], rig.public);
    assert_eq!(newcomer.ask(Ask::get("/", &[])).status, 200);
    assert!(busy.remove(0).is_ended(), "the oldest of those who have five");
    assert_eq!(single.ask(Ask::get("/", &[])).status, 200, "older, but alone");
}

#[test]
fn an_address_has_its_share_of_the_seats() {
    let rig = Rig::with_slots(SlotBounds { slots: 64, of_network: 4, ..FEW }, Networks::default());
    let mut first = rig.idle(rig.client());
    let mut others: Vec<_> = (0..3).map(|_| rig.idle(rig.client())).collect();
    others.push(rig.idle(Client::connect_from([127, 0, 0, 2], rig.public)));
    rig.is_served();
    assert!(first.is_ended());
    assert!(others.iter_mut().all(|client| client.ask(Ask::get("/", &[])).status == 200));
    assert_eq!(rig.http.evictions()[Evicted::Share as usize], 1);
    // A trusted proxy is many.
    let rig = Rig::with_slots(SlotBounds { slots: 64, of_network: 4, ..FEW }, Networks::loopback());
    let mut many: Vec<_> = (0..12).map(|_| rig.idle(rig.client())).collect();
    assert!(many.iter_mut().all(|client| client.ask(Ask::get("/", &[])).status == 200));
}

#[test]
fn bodies_that_never_come_give_way_to_a_newcomer() {
    let rig = few();
    let mut waiting: Vec<Client> = Vec::new();
    for n in 1..=30 {
        let mut client = rig.client();
        client.send(b"POST /user/login HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n");
        waiting.push(client);
        until("it waits for the body", || rig.taken()[1] >= n.min(8));
    }
    rig.is_served();
    let first = waiting.remove(0).answer();
    assert_eq!(first.status, 408);
    assert!(rig.http.evictions()[Evicted::Slow as usize] >= 22);
    assert_eq!(rig.post("/user/find", "id=1").at("/data/id"), 1, "bodies that come are read");
}

/// A connection with many requests whose answers nobody reads, as soon as the server waits for it.
fn deaf(rig: &Rig, request: &str) -> Client {
    let mut client = rig.client();
    client.stream.get_ref().set_nonblocking(true).expect("a socket");
    let requests = request.repeat(64);
    until("the sockets are full", || {
        let written = client.stream.get_mut().write(requests.as_bytes());
        // Whoever had to go already is no less deaf.
        let Err(error) = written else { return false };
        error.kind() != ErrorKind::WouldBlock || rig.taken()[1] > 0
    });
    client
}

#[test]
fn peers_that_do_not_read_never_hold_the_last_seats() {
    let rig = few();
    let request = Ask::get("/app/chat.js", &[]).text();
    let deaf: Vec<_> = (0..12).map(|_| deaf(&rig, &request)).collect();
    for _ in 0..20 {
        rig.is_served();
    }
    // While slots are short a connection ends with its answer, so whoever does not read holds none
    // of the last ones.
    let [_, waiting, _] = rig.taken();
    assert!((4..FEW.slots as u64).contains(&waiting), "{waiting} hold slots, {:?}", rig.http.evictions());
    drop(deaf);
}

/// A gateway with an open group, whose shard answers nothing from now on.
fn with_a_stuck_shard(rig: Rig) -> Rig {
    let (_, owner) = rig.user("owner");
    let headers = [FORM, ("Authorization", &format!("Bearer {owner}"))];
    let made = rig.ask(Ask { headers: &headers, ..Ask::form("/contact/createcommunity", "name=g") });
    assert_eq!(made.at("/data/id"), 1, "{made:?}");
    *rig.homes.mood.lock() = Mood::Stuck(ShardId(0));
    rig
}

/// A request that its shard never answers.
fn stuck(rig: &Rig, token: &str) -> Client {
    let mut client = rig.client();
    let before = rig.homes.notices.lock().len();
    let bearer = format!("Bearer {token}");
    let headers = [("Authorization", bearer.as_str())];
    client.send(Ask { method: "PUT", ..Ask::get("/api/v1/groups/1/members/me", &headers) }.text().as_bytes());
    until("the shard is asked", || rig.homes.notices.lock().len() > before);
    client
}

fn me(rig: &Rig, token: &str) -> Answered {
    rig.ask(Ask::get("/api/v1/me", &[("Authorization", &format!("Bearer {token}"))]))
}

#[test]
fn a_ninth_request_of_a_user_waits_in_vain_and_other_users_do_not() {
    let rig = with_a_stuck_shard(Rig::start());
    let ((_, anns), (_, bobs)) = (rig.user("ann"), rig.user("bob"));
    let _eight: Vec<_> = (0..limits::USER_REQUESTS_MAX).map(|_| stuck(&rig, &anns)).collect();
    assert_eq!(me(&rig, &bobs).status, 200);
    let ninth = me(&rig, &anns);
    assert_eq!((ninth.status, ninth.header("retry-after")), (429, Some("1")), "{ninth:?}");
    assert!(ninth.body.contains(r#""code":"too_many_requests""#));
    let bearer = format!("Bearer {anns}");
    let old = rig.ask(Ask { headers: &[FORM, ("Authorization", &bearer)], ..Ask::form("/contact/loadfriend", "") });
    assert_eq!(old.json(), r#"{"code":-1,"msg":"操作过于频繁,请稍后再试"}"#);
    assert_eq!(rig.http.refusals()[Refused::User as usize], 2);
    assert_eq!(rig.ask(Ask::get("/app/chat.js", &[("Authorization", &bearer)])).status, 200, "pages are nobody's");
}

#[test]
fn a_request_goes_on_when_one_of_the_eight_has_ended() {
    let rig = with_a_stuck_shard(Rig::start());
    let (_, token) = rig.user("ann");
    let mut eight: Vec<_> = (0..limits::USER_REQUESTS_MAX).map(|_| stuck(&rig, &token)).collect();
    // Whoever goes away makes room.
    drop(eight.pop());
    until("there is room", || me(&rig, &token).status == 200);
}

#[test]
fn logins_have_seats_of_their_own() {
    let rig = few();
    let login = Ask::form("/user/login", "mobile=13800000001&passwd=pw");
    assert_eq!(rig.post("/user/register", "mobile=13800000001&passwd=pw").at("/code"), 0);
    let rig = with_a_stuck_shard(rig);
    let working: Vec<_> = (0..4).map(|n| stuck(&rig, &rig.user(&format!("user {n}")).1)).collect();
    let page = rig.ask(Ask::get("/", &[]));
    assert_eq!((page.status, page.header("retry-after")), (503, Some("1")));
    assert_eq!(rig.ask(Ask::get("/api/v1/config", &[])).status, 503);
    assert_eq!(rig.ask(login).at("/code"), 0, "a login is served");
    assert_eq!(rig.http.refusals()[Refused::Reserve as usize], 2);
    drop(working);
    until("there are slots again", || rig.ask(Ask::get("/", &[])).status == 200);
}

/// The bytes of an answer leave while the next request of the connection is being looked at:
/// nothing is being worked on then, and the login that it turns out to be counts once.
#[test]
fn a_login_behind_an_answer_that_is_read_late_counts_once() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let slots = ConnectionSlots::new(FEW, Networks::default(), Arc::default());
    let from = IpAddr::from([192, 0, 2, 1]);
    let slot = Arc::new(runtime.block_on(slots.enter(from)).expect("a slot"));
    for _ in 0..FEW.slots {
        slot.waits(true);
        slot.waits(false);
        let login = slot.begin(RequestClass::Login, from).expect("a place");
        slot.waits(true);
        slot.waits(false);
        drop(login);
    }
    let working = slot.begin(RequestClass::Other, from).expect("no login is counted");
    let other = |_| {
        let other = Arc::new(runtime.block_on(slots.enter(from))?);
        other.begin(RequestClass::Other, from).ok()
    };
    let others: Vec<_> = (0..FEW.slots).map_while(other).collect();
    assert_eq!(1 + others.len(), FEW.slots - FEW.login_reserve - FEW.head_reserve);
    drop(working);
}

#[test]
fn answers_that_are_not_read_stay_within_the_budget() {
    let rig = Rig::with_slots(SlotBounds { slots: 256, budget: limits::HTTP_BUDGET_MIN, ..FEW }, Networks::loopback());
    let mut store = rig.memory.connect();
    let (ann, _) = rig.user("ann");
    for n in 0..700 {
        let memo = "<".repeat(limits::USER_MEMO_CHARS_MAX);
        let friend = NewUser { mobile: format!("f{n}"), password: "!".to_owned(), memo, ..NewUser::default() };
        let friend = store.people().create_user(&friend).expect("memory").expect("a free name").id;
        assert_eq!(store.social().befriend(ann.id, friend, 1).expect("memory"), Befriended::New);
    }
    // Each of them asks as its own user would: eight of one are not enough to fill it.
    let user_requests: Vec<_> = (0..12)
        .map(|n| {
            let (user, token) = rig.user(&format!("reader {n}"));
            for friend in 0..700 {
                let friend = UserId::new(ann.id.get() + 1 + friend).expect("an id");
                store.social().befriend(user.id, friend, 1).expect("memory");
            }
            token
        })
        .collect();
    let mut clients: Vec<Client> = Vec::new();
    let mut most = 0;
    for token in user_requests.iter().cycle().take(60) {
        let bearer = format!("Bearer {token}");
        let ask = Ask { headers: &[FORM, ("Authorization", &bearer)], ..Ask::form("/contact/loadfriend", "") };
        let mut client = rig.client();
        client.stream.get_ref().set_nonblocking(true).expect("a socket");
        let _ = client.stream.get_mut().write(ask.text().repeat(32).as_bytes());
        clients.push(client);
        rig.taken();
        most = most.max(rig.http.bytes());
        rig.is_served();
    }
    until("memory is short", || {
        rig.taken();
        most = most.max(rig.http.bytes());
        rig.http.evictions()[Evicted::Memory as usize] > 0
    });
    assert!(most <= limits::HTTP_BUDGET_MIN as u64 + limits::HTTP_LIST_BYTES_MAX as u64, "{most}");
    rig.is_served();
    drop(clients);
    until("it comes back", || {
        rig.taken();
        rig.http.bytes() < 100_000
    });
}

#[test]
fn the_admin_port_answers_beside_connections_that_say_nothing() {
    let rig = Rig::start();
    let half: Vec<_> = (0..2 * limits::ADMIN_CONNS_MAX)
        .map(|n| {
            let mut client = Client::connect(rig.admin);
            client.send(if n % 2 == 0 { b"GET /healthz HTTP/1.1\r\nX:" } else { b"" });
            client
        })
        .collect();
    for path in ["/healthz", "/readyz", "/metrics"] {
        assert_eq!(Client::connect(rig.admin).ask(Ask::get(path, &[LOCAL])).status, 200, "{path}");
    }
    drop(half);
}
