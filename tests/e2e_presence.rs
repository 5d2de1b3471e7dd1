//! What sessions tell each other between the messages, over real sockets and several shards: who is typing.

mod support;

use imgate::auth::Issuer;
use serde_json::json;
use support::Gateway;

#[test]
fn typing_is_heard_across_shards_and_by_no_old_page() {
    let gateway = Gateway::start(4, 12);
    let group = gateway.group(1, &(2..=8).collect::<Vec<u64>>());
    let mut typist = gateway.v2(1);
    let mut members: Vec<_> = (2..=8).map(|user| gateway.v2(user)).collect();
    let mut page = gateway.legacy(2, Issuer::FastIm);
    typist.send(&json!({"cmd": 6, "kind": 11, "dstid": group}));
    for member in &mut members {
        assert_eq!(member.wait_for(6), json!({"cmd": 6, "kind": 11, "dstid": group, "userid": 1}));
    }
    for user in 2..=8_u64 {
        let other = &mut members[usize::try_from(user).expect("small") - 2];
        other.send(&json!({"cmd": 6, "kind": 10, "dstid": 1}));
        assert_eq!(typist.wait_for(6), json!({"cmd": 6, "kind": 10, "dstid": user, "userid": user}));
    }
    assert_eq!(page.drain(), [""; 0], "an old page would not understand it");

    let mut stranger = gateway.v2(9);
    stranger.send(&json!({"cmd": 6, "kind": 11, "dstid": group}));
    assert_eq!(stranger.wait_for(2)["code"], 10, "only members type in a group");
}
