//! The admin port.

use std::time::{Duration, Instant};

use super::rig::{Ask, Client, LOCAL, Mood, PATIENCE, Rig};
use crate::ids::{ShardId, shard_of};
use crate::limits;
use crate::store::Keep;

fn look(rig: &Rig, path: &str) -> (u16, String) {
    let answer = Client::connect(rig.admin).ask(Ask::get(path, &[LOCAL]));
    (answer.status, answer.body)
}

#[test]
fn it_says_how_the_gateway_is() {
    let rig = Rig::start();
    assert_eq!(look(&rig, "/healthz"), (200, "ok\n".to_owned()));
    assert_eq!(look(&rig, "/readyz"), (200, "ready\n".to_owned()));
    let well = "Readiness { shard: false, store: false, stopping: false, memory: false }";
    assert_eq!(look(&rig, "/metrics"), (200, format!("imgate_sessions 3\n# Text {well}\n")));
    let open = [LOCAL, ("Accept", "application/openmetrics-text; version=1.0.0")];
    let scrape = Client::connect(rig.admin).ask(Ask::get("/metrics", &open));
    assert_eq!(scrape.body, format!("imgate_sessions 3\n# OpenMetrics {well}\n"));
    assert_eq!(scrape.header("content-type"), Some("application/openmetrics-text; version=1.0.0; charset=utf-8"));
    assert_eq!(look(&rig, "/user/login").0, 404, "the API is not on the admin port");
    assert_eq!(rig.ask(Ask::get("/metrics", &[])).status, 404, "nor the other way round");

    *rig.homes.mood.lock() = Mood::Stuck(ShardId(1));
    assert_eq!(look(&rig, "/readyz"), (503, "shard 1 does not answer\n".to_owned()));
    rig.store.stop();
    rig.api.as_ref().expect("running").announce_stop();
    assert_eq!(
        look(&rig, "/readyz"),
        (
            503,
            "shard 1 does not answer\nstore: busy, or the database does not answer or takes no messages\nstopping\n"
                .to_owned()
        )
    );
    assert_eq!(look(&rig, "/healthz"), (200, "ok\n".to_owned()), "it lives as long as it turns");
    let ill = "Readiness { shard: true, store: true, stopping: true, memory: false }";
    assert_eq!(look(&rig, "/metrics"), (200, format!("imgate_sessions 3\n# Text {ill}\n")), "a scrape says why");
}

#[test]
fn a_supervisor_is_told_of_a_shard_that_does_not_come_back() {
    let rig = Rig::start();
    *rig.homes.dead.lock() = Some(ShardId(2));
    assert_eq!(look(&rig, "/healthz"), (503, "shard 2 does not turn any more\n".to_owned()));
    *rig.homes.dead.lock() = None;
    assert_eq!(look(&rig, "/healthz"), (200, "ok\n".to_owned()));
}

#[test]
fn the_admin_port_outlives_the_public_one() {
    let mut rig = Rig::start();
    let mut idle = rig.client();
    assert_eq!(idle.ask(Ask::get("/", &[])).status, 200);
    let (cut, admin) = rig.api.take().expect("running").stop_public(PATIENCE);
    assert!(cut == 0 && idle.is_ended(), "nothing was asked");
    let (status, why) = look(&rig, "/readyz");
    assert!(status == 503 && why.contains("stopping"), "{why}");
    assert_eq!(admin.stop(PATIENCE), 0);
}

#[test]
fn a_stuck_shard_does_not_hide_who_loads_the_others() {
    let rig = Rig::start();
    let proof = format!("Bearer {}", rig.key.admin_token());
    let top = || {
        let began = Instant::now();
        let headers = [LOCAL, ("Authorization", proof.as_str())];
        let answer = Client::connect(rig.admin).ask(Ask::get("/admin/top?seconds=1", &headers));
        assert_eq!(answer.status, 200, "{}", answer.body);
        let answer: serde_json::Value = serde_json::from_str(&answer.body).expect("JSON");
        (answer["silent_shards"].to_string(), began.elapsed())
    };
    assert_eq!(top().0, "[]");
    *rig.homes.mood.lock() = Mood::Stuck(ShardId(1));
    let (silent, took) = top();
    assert_eq!(silent, "[1]");
    // Four rounds of the pulse: the shard is waited for in the first.
    assert!(took < Duration::from_secs(1) + 3 * Duration::from_millis(limits::READY_MS_MAX), "{took:?}");
}

#[test]
fn shards_that_have_ended_or_take_no_notice_do_not_answer() {
    let rig = Rig::start();
    let all = (0..4).map(|shard| format!("shard {shard} does not answer\n")).collect::<String>();
    for mood in [Mood::Gone, Mood::Full] {
        *rig.homes.mood.lock() = mood;
        assert_eq!(look(&rig, "/readyz"), (503, all.clone()));
    }
    *rig.homes.mood.lock() = Mood::Willing;
    assert_eq!(look(&rig, "/readyz"), (200, "ready\n".to_owned()));
}

#[test]
fn a_database_that_takes_its_time_is_ready_and_one_that_is_silent_is_not() {
    let silent = (503, "store: busy, or the database does not answer or takes no messages\n".to_owned());
    let rig = Rig::start();
    let hanging = rig.memory.hanging();
    assert_eq!(look(&rig, "/readyz"), silent, "it has never answered");
    drop(hanging);
    until(&rig, |answer| *answer == (200, "ready\n".to_owned()));

    let hanging = rig.memory.hanging();
    let slow = (200, "ready\nslow: the database takes more than a second to answer\n".to_owned());
    assert_eq!(look(&rig, "/readyz"), slow);
    until(&rig, |answer| {
        if *answer == silent {
            true
        } else {
            assert_eq!(*answer, slow);
            false
        }
    });
    drop(hanging);
    until(&rig, |answer| *answer == (200, "ready\n".to_owned()));
}

#[test]
fn everybody_online_is_listed_page_by_page_over_all_shards() {
    let rig = Rig::start();
    let proof = format!("Bearer {}", rig.key.admin_token());
    let (mut all, mut pages, mut path) = (Vec::new(), 0, "/admin/online".to_owned());
    loop {
        let headers = [LOCAL, ("Authorization", proof.as_str())];
        let answer = Client::connect(rig.admin).ask(Ask::get(&path, &headers));
        let page: serde_json::Value = serde_json::from_str(&answer.body).expect("JSON");
        all.extend(page["users"].as_array().expect("a list").iter().filter_map(serde_json::Value::as_u64));
        pages += 1;
        let Some(next) = page["next"].as_str() else { break };
        path = format!("/admin/online?after={next}");
    }
    assert_eq!(all, (1..=40).collect::<Vec<u64>>());
    assert_eq!(pages, 3, "no page asks for all");
}

#[test]
fn sessions_are_shown_also_while_the_database_hangs_and_a_stuck_shard_is_named() {
    let rig = Rig::start();
    let (ann, _) = rig.user("ann");
    let shard = shard_of(ann.id, 4);
    let proof = format!("Bearer {}", rig.key.admin_token());
    let ask = |method, target: &str| {
        let headers = [LOCAL, ("Authorization", proof.as_str())];
        let answer = Client::connect(rig.admin).ask(Ask { method, target, headers: &headers, body: "" });
        (answer.status, answer.body)
    };
    let all = format!("/admin/users/{}/sessions", ann.id);
    let hanging = rig.memory.hanging();
    let began = Instant::now();
    let (status, listed) = ask("GET", &all);
    let waited = began.elapsed();
    drop(hanging);
    let listed: serde_json::Value = serde_json::from_str(&listed).expect("JSON");
    let one = &listed["sessions"][0];
    assert_eq!((status, &one["login"]), (200, &serde_json::json!({ "id": 5 })), "{listed}");
    assert!(waited < Duration::from_millis(limits::STORE_CALL_MS_MAX), "{waited:?}");
    assert_eq!((&one["transport"], &one["address"]), (&"tls_deflate".into(), &"192.0.2.1".into()), "{one}");
    assert_eq!((&one["held_back"], &one["device"]), (&"pace".into(), &"phone".into()), "{one}");
    let id = one["id"].as_str().expect("an id");
    assert_eq!(id, format!("s{}-7-1", shard.0));
    assert_eq!(ask("DELETE", &format!("{all}/{id}")), (200, r#"{"ended":1}"#.to_owned()));
    assert_eq!(ask("DELETE", &format!("{all}/s{}-7-2", shard.0)).0, 404);
    let told = rig.homes.notices.lock().len();
    assert_eq!(ask("DELETE", &format!("{all}/s{}-7-1", shard.0 ^ 1)).0, 404, "no shard but the user's is asked");
    assert_eq!(rig.homes.notices.lock().len(), told);
    *rig.homes.mood.lock() = Mood::Gone;
    let unsure = "sessions may have been ended or not; ask again";
    let asked =
        [("GET", all.clone(), "ask again"), ("DELETE", all.clone(), unsure), ("DELETE", format!("{all}/{id}"), unsure)];
    for (method, path, so) in asked {
        assert_eq!(ask(method, &path), (503, format!("shard {} does not answer: {so}\n", shard.0)));
    }
}

/// The database of the test is none that imgate copies.
#[test]
fn a_backup_and_a_pass_of_retention_are_begun_or_it_is_said_why_not() {
    let rig = Rig::start();
    let proof = format!("Bearer {}", rig.key.admin_token());
    let ask = |method, target: &str| {
        let headers = [LOCAL, ("Authorization", proof.as_str())];
        let answer = Client::connect(rig.admin).ask(Ask { method, target, headers: &headers, body: "" });
        (answer.status, answer.body)
    };
    let (status, none) = ask("GET", "/admin/backup");
    let none: serde_json::Value = serde_json::from_str(&none).expect("JSON");
    assert_eq!((status, &none["state"], &none["file"]), (200, &"none".into(), &serde_json::Value::Null));
    let (status, why) = ask("POST", "/admin/backup");
    assert!(status == 422 && why.contains("`memory`"), "{status} {why}");
    let (status, why) = ask("POST", "/admin/backup?name=..%2Fimgate.db");
    assert!(status == 400 && why.contains("letters"), "{status} {why}");
    let everything = "everything is kept: keep_age and keep_count are 0\n".to_owned();
    assert_eq!(ask("POST", "/admin/retention"), (409, everything));
    rig.store.keep(Keep { age_ms: 0, count: 300 });
    let (status, begun) = ask("POST", "/admin/retention");
    let begun: serde_json::Value = serde_json::from_str(&begun).expect("JSON");
    assert_eq!((status, &begun["keep_count"], &begun["elsewhere"]), (202, &300.into(), &false.into()));
}

/// Looks at `/readyz` until it is so.
fn until(rig: &Rig, mut so: impl FnMut(&(u16, String)) -> bool) {
    let began = Instant::now();
    loop {
        let answer = look(rig, "/readyz");
        if so(&answer) {
            return;
        }
        assert!(began.elapsed() < PATIENCE, "still {answer:?}");
    }
}

#[test]
fn stopping_ends_idle_connections_and_frees_the_port() {
    let mut rig = Rig::start();
    let mut idle = Client::connect(rig.admin);
    assert_eq!(idle.ask(Ask::get("/healthz", &[LOCAL])).status, 200);
    rig.api.take().expect("running").stop(PATIENCE);
    assert!(idle.is_ended());
    // Another test's connection may have been given the freed port for a moment.
    let clock = crate::clock::Clock::start();
    while std::net::TcpListener::bind(rig.admin).is_err() {
        assert!(clock.now().mono_ms < 10_000, "the port is not freed");
        std::thread::yield_now();
    }
}

#[test]
fn no_page_of_the_internet_reads_the_admin_port_of_this_machine() {
    let rig = Rig::start();
    let status = |host: &str| Client::connect(rig.admin).ask(Ask::get("/metrics", &[("Host", host)])).status;
    for own in
        ["127.0.0.1:8082", "[::1]:8082", "localhost", "LOCALHOST:8082", "imgate:8082", "gate.local", "10.1.2.3", ""]
    {
        assert_eq!(status(own), 200, "{own}");
    }
    for foreign in ["evil.example", "127.0.0.1.evil.example:8082", "localhost.evil.example", "rebind.attacker"] {
        assert_eq!(status(foreign), 421, "{foreign}");
    }
}

#[test]
fn only_the_operators_token_drains() {
    let rig = Rig::start();
    let ask = |proof: &str| {
        let headers = [LOCAL, ("Authorization", proof)];
        let ask = Ask { method: "POST", target: "/admin/drain", headers: &headers, body: "" };
        Client::connect(rig.admin).ask(ask).status
    };
    let (_, of_user) = rig.user("13800000001");
    for proof in ["", "Bearer x", &format!("Bearer {of_user}"), &rig.key.admin_token()] {
        assert_eq!(ask(proof), 401, "{proof}");
    }
    assert!(rig.drained.try_recv().is_err(), "nothing was asked for");
    let proof = format!("Bearer {}", rig.key.admin_token());
    assert_eq!(ask(&proof), 202);
    assert_eq!(ask(&proof), 202, "twice is once");
    for scheme in ["bearer ", "BEARER ", "Bearer  "] {
        assert_eq!(ask(&format!("{scheme}{}", rig.key.admin_token())), 202, "{scheme:?}: as at every other door");
    }
    assert_eq!((rig.drained.try_recv(), rig.drained.try_recv().is_err()), (Ok(()), true));
}
