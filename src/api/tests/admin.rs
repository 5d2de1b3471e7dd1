//! The admin port.

use super::rig::{Ask, Client, PATIENCE, Rig};

fn look(rig: &Rig, path: &str) -> (u16, String) {
    let answer = Client::connect(rig.admin).ask(Ask::get(path, &[]));
    (answer.status, answer.body)
}

#[test]
fn it_says_how_the_gateway_is() {
    let rig = Rig::start();
    assert_eq!(look(&rig, "/healthz"), (200, "ok\n".to_owned()));
    assert_eq!(look(&rig, "/readyz"), (200, "ready\n".to_owned()));
    assert_eq!(look(&rig, "/metrics"), (200, "imgate_sessions 3\n".to_owned()));
    assert_eq!(look(&rig, "/user/login").0, 404, "the API is not on the admin port");
    assert_eq!(rig.ask(Ask::get("/metrics", &[])).status, 404, "nor the other way round");

    rig.reasons.lock().push("shard 1 does not answer".to_owned());
    assert_eq!(look(&rig, "/readyz"), (503, "shard 1 does not answer\n".to_owned()));
    rig.store.stop();
    rig.api.as_ref().expect("running").announce_stop();
    assert_eq!(
        look(&rig, "/readyz"),
        (503, "shard 1 does not answer\nstore: busy, or the database does not answer\nstopping\n".to_owned())
    );
    assert_eq!(look(&rig, "/healthz"), (200, "ok\n".to_owned()), "it lives as long as it turns");
}

#[test]
fn stopping_ends_idle_connections_and_frees_the_port() {
    let mut rig = Rig::start();
    let mut idle = Client::connect(rig.admin);
    assert_eq!(idle.ask(Ask::get("/healthz", &[])).status, 200);
    rig.api.take().expect("running").stop(PATIENCE);
    assert!(idle.is_ended());
    // Another test's connection may have been given the freed port for a moment.
    let clock = crate::clock::Clock::start();
    while std::net::TcpListener::bind(rig.admin).is_err() {
        assert!(clock.now().mono_ms < 10_000, "the port is not freed");
        std::thread::yield_now();
    }
}
