//! The participants: users (registered over HTTP, or from a tokens file), groups (made and joined
//! over HTTP, or found), and which of them talk to each other.
//!
//! Owns: [`assemble`], which ends with the table of conversations and every user's part in it.
//! Never: runs while the server is tormented; a failure here means that there is no result.

use std::collections::{BTreeSet, HashMap};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::book::{Conv, Name};
use super::dice::Dice;
use crate::http::{self, Url};
use crate::tokens::Tokens;

/// Direct conversations of each user besides the notes to oneself: with the next users in the list.
const FRIENDS: usize = 2;
/// Groups to which one user is a stranger and may knock at.
const STRANGE_MAX: usize = 8;

/// One user of a run.
#[derive(Clone, Debug)]
pub(crate) struct User {
    pub(crate) id: u64,
    pub(crate) token: String,
    /// The user's conversations, by place in the book.
    pub(crate) convs: Vec<u32>,
    /// From `kind` and `dstid` to the place in `convs`.
    pub(crate) places: HashMap<(u64, u64), u32>,
    /// Groups that the user is not in.
    pub(crate) strange: Vec<u32>,
}

/// What is wished for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wish<'a> {
    pub(crate) base: &'a Url,
    pub(crate) run: u64,
    pub(crate) users: usize,
    /// `None`: register new ones.
    pub(crate) tokens: Option<&'a Tokens>,
    pub(crate) groups: usize,
    pub(crate) group_size: usize,
    /// Groups that exist already, instead of new ones.
    pub(crate) group_ids: &'a [u64],
    pub(crate) seed: u64,
}

/// Makes or finds all of them. `told` is given how far it is, and may end it by an error.
pub(crate) fn assemble(
    wish: Wish<'_>,
    told: impl Fn(&'static str, usize) -> Result<()>,
) -> Result<(Vec<User>, Vec<Conv>)> {
    let mut users = Vec::with_capacity(wish.users);
    for place in 0..wish.users {
        told("users", place)?;
        let (id, token) = match wish.tokens {
            Some(tokens) => {
                let (id, token) = tokens.get(place);
                (id, token.to_owned())
            }
            None => register(wish.base, wish.run, place).context("cannot register a user")?,
        };
        users.push(User { id, token, convs: Vec::new(), places: HashMap::new(), strange: Vec::new() });
    }
    let mut names: Vec<(Name, BTreeSet<u32>)> = Vec::new();
    if wish.group_ids.is_empty() {
        for place in 0..wish.groups {
            told("groups", place)?;
            names.push(make_group(wish, &users, place).context("cannot make a group")?);
        }
    } else {
        names.extend(find_groups(wish, &users)?);
    }
    names.extend(pairs(&users));
    let mut convs = Vec::with_capacity(names.len());
    for (place, (name, members)) in names.iter().enumerate() {
        told("conversations", place)?;
        let reader = members.first().context("a conversation without members")?;
        let base = head(wish.base, &users[*reader as usize], *name)?;
        convs.push(Conv::new(*name, members.iter().copied().collect(), base));
    }
    take_part(&mut users, &convs);
    Ok((users, convs))
}

fn take_part(users: &mut [User], convs: &[Conv]) {
    for (place, conv) in convs.iter().enumerate() {
        for member in &conv.members {
            let user = &mut users[*member as usize];
            user.places.insert((conv.name.kind(), conv.name.dstid(user.id)), user.convs.len() as u32);
            user.convs.push(place as u32);
        }
        if let Name::Group(_) = conv.name {
            let strangers = users.iter_mut().enumerate().filter(|(at, _)| !conv.members.contains(&(*at as u32)));
            strangers
                .filter(|(_, user)| user.strange.len() < STRANGE_MAX)
                .for_each(|(_, user)| user.strange.push(place as u32));
        }
    }
}

/// Each with the next ones in the list, and with oneself.
fn pairs(users: &[User]) -> Vec<(Name, BTreeSet<u32>)> {
    let mut pairs: HashMap<Name, BTreeSet<u32>> = HashMap::new();
    for (place, user) in users.iter().enumerate() {
        for step in 0..=FRIENDS {
            let other = (place + step) % users.len();
            let name = Name::Direct(user.id.min(users[other].id), user.id.max(users[other].id));
            pairs.insert(name, BTreeSet::from([place as u32, other as u32]));
        }
    }
    let mut pairs: Vec<_> = pairs.into_iter().collect();
    // A seed shall give the same places each time.
    pairs.sort_unstable_by_key(|(_, members)| members.iter().copied().collect::<Vec<_>>());
    pairs
}

/// Registers a user of a run. Its id and token.
pub(crate) fn register(base: &Url, run: u64, place: usize) -> Result<(u64, String)> {
    // The gateway takes 20 characters; 48 bits tell runs apart, too.
    let mobile = format!("v{:x}.{place}", run >> 16);
    let fields = [("mobile", mobile.as_str()), ("passwd", "verify"), ("nickname", "verify"), ("sex", "U")];
    let answer = ask(base, "/user/register", None, &fields)?;
    let data = &answer["data"];
    let id = data["id"].as_u64().filter(|id| *id > 0).with_context(|| format!("no id: {answer}"))?;
    let token =
        data["token"].as_str().filter(|token| !token.is_empty()).with_context(|| format!("no token: {answer}"))?;
    Ok((id, token.to_owned()))
}

fn make_group(wish: Wish<'_>, users: &[User], place: usize) -> Result<(Name, BTreeSet<u32>)> {
    let owner_place = place % users.len();
    let owner = &users[owner_place];
    let (name, id) = (format!("v{:x}.{place}", wish.run), owner.id.to_string());
    let fields = [("name", name.as_str()), ("ownerid", &id), ("cate", "1"), ("memo", ""), ("icon", "")];
    let answer = ask(wish.base, "/contact/createcommunity", Some(&owner.token), &fields)?;
    let group = answer["data"]["id"].as_u64().filter(|id| *id > 0).with_context(|| format!("no id: {answer}"))?;
    let mut members = BTreeSet::from([owner_place as u32]);
    let mut dice = Dice::new(wish.seed, place as u64 ^ 0x67);
    while members.len() < wish.group_size.min(users.len()) {
        members.insert(dice.below(users.len() as u64) as u32);
    }
    for member in members.iter().filter(|member| **member != owner_place as u32) {
        let user = &users[*member as usize];
        let (id, group) = (user.id.to_string(), group.to_string());
        ask(wish.base, "/contact/joincommunity", Some(&user.token), &[("userid", &id), ("dstid", &group)])?;
    }
    Ok((Name::Group(group), members))
}

/// Which users are in the given groups. A group that none of them is in is an error.
fn find_groups(wish: Wish<'_>, users: &[User]) -> Result<Vec<(Name, BTreeSet<u32>)>> {
    let mut groups: Vec<_> = wish.group_ids.iter().map(|group| (Name::Group(*group), BTreeSet::new())).collect();
    for (place, user) in users.iter().enumerate() {
        let id = user.id.to_string();
        let answer = ask(wish.base, "/contact/loadcommunity", Some(&user.token), &[("userid", &id)])?;
        let rows = answer["rows"].as_array().context("no rows of groups")?;
        for id in rows.iter().filter_map(|row| row["id"].as_u64()) {
            if let Some((_, members)) = groups.iter_mut().find(|(name, _)| *name == Name::Group(id)) {
                members.insert(place as u32);
            }
        }
    }
    for (name, members) in &groups {
        ensure!(!members.is_empty(), "{name} has none of the users as a member");
    }
    Ok(groups)
}

/// The highest `seq` of a conversation.
fn head(base: &Url, user: &User, name: Name) -> Result<u64> {
    let page = page(base, user, name, "limit=1")?;
    page["data"]["head"].as_u64().with_context(|| format!("no head of {name}: {page}"))
}

/// One page of history over HTTP: `rest` says where.
pub(crate) fn page(base: &Url, user: &User, name: Name, rest: &str) -> Result<Value> {
    let path = format!("{}/message/history?kind={}&dstid={}&{rest}", prefix(base), name.kind(), name.dstid(user.id));
    let body = http::get(&Url { path, ..base.clone() }, Some(&user.token))?;
    checked(&body)
}

fn ask(base: &Url, path: &str, bearer: Option<&str>, fields: &[(&str, &str)]) -> Result<Value> {
    let url = Url { path: format!("{}{path}", prefix(base)), ..base.clone() };
    checked(&http::post(&url, bearer, fields)?).with_context(|| path.to_owned())
}

fn prefix(base: &Url) -> &str {
    base.path.trim_end_matches('/')
}

fn checked(body: &[u8]) -> Result<Value> {
    let answer: Value = serde_json::from_slice(body).context("an answer that is no JSON")?;
    if answer["code"].as_i64() != Some(0) {
        bail!("refused: {answer}");
    }
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_talks_to_the_next_ones_and_to_oneself() {
        let user =
            |id| User { id, token: String::new(), convs: Vec::new(), places: HashMap::new(), strange: Vec::new() };
        let mut users: Vec<User> = [30, 10, 20, 40, 50].map(user).into();
        let convs: Vec<Conv> = pairs(&users)
            .into_iter()
            .map(|(name, members)| Conv::new(name, members.into_iter().collect(), 0))
            .collect();
        assert_eq!(convs.len(), 15);
        take_part(&mut users, &convs);
        assert!(users.iter().all(|user| user.convs.len() == 5));
        let own = users[0].places[&(10, 30)];
        assert_eq!(convs[users[0].convs[own as usize] as usize].name, Name::Direct(30, 30));
        let other = users[0].places[&(10, 10)];
        assert_eq!(convs[users[0].convs[other as usize] as usize].name, Name::Direct(10, 30));
    }
}
