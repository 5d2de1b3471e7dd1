//! The fake server's HTTP desk: accounts, groups and history, as far as `autoclient` asks for them.
//!
//! Owns: nothing; every answer is made from the state under the caller's lock.

use std::collections::{BTreeSet, HashMap};

use serde_json::{Value, json};

use super::{State, belongs, conversation, page};

/// Users up to this one are in group 5, as far as lists say.
const GROUP_5: u64 = 60;

/// The answer to a request. `None`: refused.
pub(super) fn answer(state: &mut State, path: &str, user: Option<u64>, fields: &HashMap<&str, &str>) -> Option<Value> {
    let number = |key: &str| fields.get(key)?.parse::<u64>().ok();
    match path {
        "/user/register" => {
            state.registered += 1;
            let id = 5_000 + state.registered;
            Some(json!({"code": 0, "msg": "", "data": {"id": id, "token": format!("token-{id}")}}))
        }
        "/api/v1/me" => {
            state.registered += 1;
            Some(json!({"id": state.registered, "nickname": ""}))
        }
        "/user/login" => {
            let right = fields.get("passwd").is_some_and(|password| !password.ends_with("-wrong"));
            Some(json!({"code": if right { 0 } else { -1 }, "msg": ""}))
        }
        "/contact/createcommunity" => {
            let group = 700 + state.groups.len() as u64;
            state.groups.insert(group, BTreeSet::from([user?]));
            Some(json!({"code": 0, "msg": "", "data": {"id": group}}))
        }
        "/contact/joincommunity" => {
            state.groups.get_mut(&number("dstid")?)?.insert(user?);
            Some(json!({"code": 0, "msg": ""}))
        }
        "/contact/loadcommunity" => {
            let user = user?;
            let mine = state.groups.iter().filter(|(_, members)| members.contains(&user));
            let mut rows: Vec<Value> = mine.map(|(group, _)| json!({"id": group})).collect();
            if state.groups.is_empty() && user <= GROUP_5 {
                rows.push(json!({"id": 5}));
            }
            let sizes = json!({ "group_map": { "5": GROUP_5 } });
            Some(json!({"code": 0, "msg": "", "rows": rows, "total": rows.len(), "data": sizes}))
        }
        "/message/history" => {
            let user = user?;
            let conv = conversation(number("kind")?, user, number("dstid")?);
            let mut page = belongs(state, conv, user).then(|| page(state, conv, number("after").unwrap_or(0)))?;
            let rows = page["rows"].take();
            Some(json!({"code": 0, "msg": "", "total": rows.as_array()?.len(), "rows": rows, "data": page}))
        }
        _ => None,
    }
}
