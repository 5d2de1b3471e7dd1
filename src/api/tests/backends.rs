//! What backends ask for while shards are busy.

use serde_json::{Value, json};

use super::rig::{Answered, Ask, Client, LOCAL, Mood, Rig, group_of};
use crate::ids::{GroupId, ShardId};
use crate::limits;
use crate::shard::Notice;
use crate::store::{ApiKey, Backend, NewUser, Write};

const JSON: (&str, &str) = ("Content-Type", "application/json");

/// A key that may send.
fn key(rig: &Rig) -> String {
    made_key(&admin(rig, "POST", "/admin/keys?name=k&scopes=send"))["key"].as_str().expect("a key").to_owned()
}

/// Asks the admin port as the operator.
fn admin(rig: &Rig, method: &str, target: &str) -> Answered {
    let proof = format!("Bearer {}", rig.key.admin_token());
    let headers = [LOCAL, ("Authorization", proof.as_str())];
    Client::connect(rig.admin).ask(Ask { method, target, headers: &headers, body: "" })
}

fn made_key(answer: &Answered) -> Value {
    assert_eq!(answer.status, 201, "{answer:?}");
    serde_json::from_str(&answer.body).expect("JSON")
}

/// What becomes of an announcement to all sessions: the code of its refusal.
fn announce(rig: &Rig, key: &str) -> Option<String> {
    announce_several(rig, key, 1)
}

/// The same of the first of several in one call.
fn announce_several(rig: &Rig, key: &str, several: usize) -> Option<String> {
    let bearer = format!("Bearer {key}");
    let one = json!({ "to": { "all": true }, "store": false, "message": { "media": 1, "content": "at four" } });
    let wish = json!({ "messages": vec![one; several] });
    let headers = [JSON, ("Authorization", bearer.as_str())];
    let target = "/api/v1/server/messages";
    let answer = rig.ask(Ask { method: "POST", target, headers: &headers, body: &wish.to_string() });
    assert_eq!(answer.status, 200, "{answer:?}");
    let told: Value = serde_json::from_str(&answer.body).expect("JSON");
    told["results"][0]["error"]["code"].as_str().map(str::to_owned)
}

/// How often each shard was asked to say it.
fn asked(rig: &Rig) -> [usize; 4] {
    let notices = rig.homes.notices.lock();
    let of = |shard| {
        notices.iter().filter(|told| told.0 == ShardId(shard) && matches!(told.1, Notice::Announce { .. })).count()
    };
    [of(0), of(1), of(2), of(3)]
}

#[test]
fn an_announcement_is_said_again_only_where_it_was_refused() {
    let rig = Rig::start();
    let key = key(&rig);
    *rig.homes.mood.lock() = Mood::Full;
    assert_eq!(announce(&rig, &key).as_deref(), Some("busy"), "no shard has taken it, so it may be sent again");
    assert_eq!(asked(&rig), [1; 4]);
    rig.homes.notices.lock().clear();

    *rig.homes.mood.lock() = Mood::FullAt(ShardId(2));
    std::thread::scope(|scope| {
        let said = scope.spawn(|| announce(&rig, &key));
        rig.until(|| asked(&rig)[2] > 1);
        *rig.homes.mood.lock() = Mood::Willing;
        assert_eq!(said.join().expect("no panic"), None);
    });
    let [first, second, busy, last] = asked(&rig);
    assert_eq!([first, second, last], [1; 3], "each session hears it once");
    assert!(busy > 1, "{busy}");
    rig.homes.notices.lock().clear();

    *rig.homes.mood.lock() = Mood::FullAt(ShardId(0));
    assert_eq!(announce(&rig, &key).as_deref(), Some("unsure"), "the others have taken it");
    assert_eq!(asked(&rig), [1 + limits::ANNOUNCE_TRIES_MAX as usize, 1, 1, 1]);
    rig.homes.notices.lock().clear();
    assert_eq!(announce_several(&rig, &key, 5).as_deref(), Some("unsure"));
    assert_eq!(asked(&rig), [5 + limits::ANNOUNCE_TRIES_MAX as usize, 5, 5, 5], "the tries are those of the call");
}

/// The user that the gateway names as the system's.
fn system(rig: &Rig) -> Option<u64> {
    let config = rig.ask(Ask::get("/api/v1/config", &[]));
    let config: Value = serde_json::from_str(&config.body).expect("JSON");
    assert!(config.get("system").is_some(), "{config}");
    config["system"].as_u64()
}

#[test]
fn clients_are_told_who_the_system_is_once_it_has_spoken() {
    let rig = Rig::start();
    assert_eq!(system(&rig), None);
    assert_eq!(announce(&rig, &key(&rig)), None);
    let made = rig.memory.connect().people().user_by_mobile("~system").expect("memory").expect("it was made");
    assert_eq!(system(&rig), Some(made.id.get()));
}

#[test]
fn who_the_system_is_on_another_gateway_is_found_out_without_waiting() {
    let rig = Rig::start();
    let password = "!external".to_owned();
    let new = NewUser { mobile: "~system".to_owned(), password, ..NewUser::default() };
    let made = rig.memory.connect().people().create_user(&new).expect("memory").expect("it is the first one").id;
    rig.until(|| system(&rig) == Some(made.get()));
}

/// A home was busy, or the process ended: the group is dissolved, and has members still.
#[test]
fn a_dissolution_that_was_cut_short_is_ended_by_doing_it_again() {
    let rig = Rig::start();
    let key = made_key(&admin(&rig, "POST", "/admin/keys?name=k&scopes=groups"));
    let bearer = format!("Bearer {}", key["key"].as_str().expect("a key"));
    let [ann, bob] = ["1", "2"].map(|mobile| rig.user(mobile).0.id);
    let mut store = rig.memory.connect();
    let new = group_of(ann);
    let group = store.groups().create_group(&new).expect("memory").expect("made").id;
    store.commit(&[Write::Join { group, user: bob }]).expect("memory");
    let dissolve = |group: GroupId| {
        let headers = [("Authorization", bearer.as_str())];
        let target = format!("/api/v1/server/groups/{group}");
        rig.ask(Ask { method: "DELETE", target: &target, headers: &headers, body: "" }).status
    };
    *rig.homes.mood.lock() = Mood::Full;
    assert_eq!(dissolve(group), 503);
    assert_eq!(rig.memory.members(group).len(), 2);
    *rig.homes.mood.lock() = Mood::Willing;
    assert_eq!(dissolve(group), 200);
    assert_eq!(rig.memory.members(group), []);
    assert_eq!(dissolve(group), 200, "as an owner does it twice");
    assert_eq!(dissolve(GroupId::new(77).expect("an id")), 404);
}

/// The second successor would have ended with the grace of the first key.
#[test]
fn a_key_that_was_replaced_is_not_replaced_again() {
    let rig = Rig::start();
    let old = made_key(&admin(&rig, "POST", "/admin/keys?name=k&scopes=send"));
    let rotate = |key: &Value| {
        let id = key["id"].as_str().expect("a number");
        admin(&rig, "POST", &format!("/admin/keys/{id}/rotate?grace_s=60"))
    };
    let new = made_key(&rotate(&old));
    assert!(new["expires_ms"].is_null(), "{new}");
    let refused = rotate(&old);
    assert_eq!((refused.status, refused.body.contains("replaced already")), (409, true), "{refused:?}");
    assert!(made_key(&rotate(&new))["expires_ms"].is_null(), "the one in its place is");
    let keys = rig.memory.connect().api_keys().keys().expect("memory");
    assert_eq!(keys.iter().filter(|key| key.expires_ms == ApiKey::NEVER).count(), 1, "{keys:?}");
}
