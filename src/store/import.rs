//! The users, groups and friends of an old system, taken over once.
//!
//! Owns: the order (users, groups, memberships, friends), the numbers of all of them (the old ones,
//! wherever none has had them or a higher one here), and what is left out.
//! Never: changes a user who is here already; takes messages (the old systems kept none) or tokens
//! (they were guessable). May be repeated: what was taken over before is found again, by mobile
//! number, and by owner, name and time of a group.
//! Bounds: pages of [`PAGE`] rows; the numbers of all users and groups in memory.

use hashbrown::{HashMap, HashSet};

use super::folding::fold;
use super::{Backend, Befriended, Error, NewGroup, NewUser, OpenError, Write, Written, mysql};
use crate::ids::{GroupId, UserId};
use crate::limits;

/// A user of an old system.
pub(super) struct OldUser {
    pub(super) id: u64,
    pub(super) mobile: String,
    /// Lowercase hexadecimal md5 of the password and the salt.
    pub(super) digest: String,
    pub(super) salt: String,
    pub(super) avatar: String,
    pub(super) sex: String,
    pub(super) nickname: String,
    pub(super) memo: String,
    pub(super) created_ms: u64,
}

/// A group of an old system.
pub(super) struct OldGroup {
    pub(super) id: u64,
    pub(super) name: String,
    pub(super) owner: u64,
    pub(super) icon: String,
    pub(super) cate: i64,
    pub(super) memo: String,
    pub(super) created_ms: u64,
}

/// Half a friendship (`cate` 1), or a membership (`cate` 2).
pub(super) struct OldContact {
    pub(super) id: u64,
    pub(super) owner: u64,
    pub(super) other: u64,
    pub(super) cate: i64,
}

/// An old system, in pages: at most `max` rows with a higher number than `after`, in order.
pub(super) trait OldDatabase {
    fn users(&mut self, after: u64, max: u64) -> Result<Vec<OldUser>, Error>;
    fn groups(&mut self, after: u64, max: u64) -> Result<Vec<OldGroup>, Error>;
    fn contacts(&mut self, after: u64, max: u64) -> Result<Vec<OldContact>, Error>;
}

/// What became of everything.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Imported {
    /// New users.
    pub users: u64,
    /// Those of them whose old number could not be kept.
    pub users_renumbered: u64,
    /// Users whose mobile number another user has here; they stay as they are.
    pub users_here: u64,
    /// Users without a mobile number, or with that of an earlier one: there is no log-in as these.
    pub users_left_out: u64,
    /// New groups.
    pub groups: u64,
    /// Those of them whose old number could not be kept.
    pub groups_renumbered: u64,
    /// Groups that were taken over before.
    pub groups_here: u64,
    /// Groups without a name or an owner, or too many of one owner.
    pub groups_left_out: u64,
    /// New memberships, those of owners not counted.
    pub members: u64,
    /// New friendships.
    pub friends: u64,
    /// Memberships and friendships of users and groups that were left out, or beyond a limit.
    pub contacts_left_out: u64,
}

/// Beginning of the stored password of a user who was taken over: salt and digest follow, with a
/// `$` between. The first login replaces it.
pub const OLD_PASSWORD: &str = "$md5salt$";

const PAGE: u64 = 500;
/// `contact.cate` of friends.
const FRIEND: i64 = 1;
/// `contact.cate` of groups.
const MEMBER: i64 = 2;

/// Takes over what the database of fastIM or IMChat at `from` (`mysql://…`) holds.
///
/// # Errors
/// `from` cannot be opened, or one of the two databases fails; what was taken over until then
/// stays, and is found again.
pub fn import(from: &str, into: &mut dyn Backend) -> Result<Imported, OpenError> {
    if !mysql::is_ours(from) {
        // A URL may hold a password: only its scheme is repeated.
        return Err(OpenError::Unsupported(from.split(':').next().unwrap_or_default().to_owned()));
    }
    Ok(take_over(&mut mysql::Old::open(from)?, into)?)
}

fn take_over(old: &mut dyn OldDatabase, into: &mut dyn Backend) -> Result<Imported, Error> {
    let mut imported = Imported::default();
    let users = users(old, into, &mut imported)?;
    let groups = groups(old, into, &users, &mut imported)?;
    let mut after = 0;
    loop {
        let page = old.contacts(after, PAGE)?;
        let Some(last) = page.last() else { return Ok(imported) };
        after = last.id;
        contacts(&page, into, &users, &groups, &mut imported)?;
    }
}

type Users = HashMap<u64, UserId>;
type Groups = HashMap<u64, GroupId>;

fn users(old: &mut dyn OldDatabase, into: &mut dyn Backend, imported: &mut Imported) -> Result<Users, Error> {
    let (mut users, mut seen, mut after) = (Users::new(), HashSet::new(), 0);
    loop {
        let page = old.users(after, PAGE)?;
        let Some(last) = page.last() else { return Ok(users) };
        after = last.id;
        for user in page {
            let mobile = user.mobile.trim().to_owned();
            // Nothing made mobile numbers unique there; the login took the first one.
            if mobile.is_empty() || !seen.insert(fold(&mobile)) {
                imported.users_left_out += 1;
                continue;
            }
            if let Some(here) = into.people().user_by_mobile(&mobile)? {
                users.insert(user.id, here.id);
                imported.users_here += 1;
                continue;
            }
            let new = NewUser {
                mobile: cut(&mobile, limits::MOBILE_CHARS_MAX),
                password: format!("{OLD_PASSWORD}{}${}", user.salt, user.digest),
                avatar: cut(&rooted(user.avatar), limits::ICON_CHARS_MAX),
                sex: cut(&user.sex, 1),
                nickname: cut(&user.nickname, limits::NICKNAME_CHARS_MAX),
                memo: cut(&user.memo, limits::USER_MEMO_CHARS_MAX),
                created_ms: user.created_ms,
                wanted: kept(user.id).and_then(UserId::new),
            };
            match into.people().create_user(&new)? {
                Some(made) => {
                    users.insert(user.id, made.id);
                    imported.users += 1;
                    imported.users_renumbered += u64::from(made.id.get() != user.id);
                }
                None => imported.users_left_out += 1,
            }
        }
    }
}

fn groups(
    old: &mut dyn OldDatabase,
    into: &mut dyn Backend,
    users: &Users,
    imported: &mut Imported,
) -> Result<Groups, Error> {
    let (mut groups, mut taken, mut after) = (Groups::new(), HashSet::new(), 0);
    loop {
        let page = old.groups(after, PAGE)?;
        let Some(last) = page.last() else { return Ok(groups) };
        after = last.id;
        for group in page {
            let name = cut(group.name.trim(), limits::GROUP_NAME_CHARS_MAX);
            let Some(&owner) = users.get(&group.owner).filter(|_| !name.is_empty()) else {
                imported.groups_left_out += 1;
                continue;
            };
            let same =
                |one: &super::Group| one.owner == owner && one.name == name && one.created_ms == group.created_ms;
            let here = into.groups().groups_of(owner)?.into_iter().map(|(one, _)| one);
            if let Some(here) = here.into_iter().find(|one| same(one) && !taken.contains(&one.id)) {
                taken.insert(here.id);
                groups.insert(group.id, here.id);
                imported.groups_here += 1;
                continue;
            }
            let new = NewGroup {
                name,
                owner,
                icon: cut(&rooted(group.icon), limits::ICON_CHARS_MAX),
                cate: group.cate,
                memo: cut(&group.memo, limits::GROUP_MEMO_CHARS_MAX),
                created_ms: group.created_ms,
                owned_max: limits::GROUPS_OWNED_MAX,
                wanted: kept(group.id).and_then(GroupId::new),
                rule: super::Rule::Plain,
            };
            match into.groups().create_group(&new)? {
                Some(made) => {
                    taken.insert(made.id);
                    groups.insert(group.id, made.id);
                    imported.groups += 1;
                    imported.groups_renumbered += u64::from(made.id.get() != group.id);
                }
                None => imported.groups_left_out += 1,
            }
        }
    }
}

fn contacts(
    page: &[OldContact],
    into: &mut dyn Backend,
    users: &Users,
    groups: &Groups,
    imported: &mut Imported,
) -> Result<(), Error> {
    let mut joins = Vec::new();
    for contact in page {
        match (contact.cate, users.get(&contact.owner), users.get(&contact.other), groups.get(&contact.other)) {
            (FRIEND, Some(&user), Some(&other), _) => {
                match into.social().befriend(user, other, 0)? {
                    Befriended::New => imported.friends += 1,
                    // Two rows are one friendship.
                    Befriended::Already => {}
                    Befriended::NoSuchUser | Befriended::Blocked | Befriended::TooMany => {
                        imported.contacts_left_out += 1;
                    }
                }
            }
            (MEMBER, Some(&user), _, Some(&group)) => joins.push(Write::Join { group, user }),
            _ => imported.contacts_left_out += 1,
        }
    }
    for written in into.commit(&joins)? {
        match written {
            Written::Joined { already: false, .. } => imported.members += 1,
            Written::Joined { .. } => {}
            _ => imported.contacts_left_out += 1,
        }
    }
    Ok(())
}

/// An old number, unless it would use up what there is of new ones. The old pages name people and
/// groups by their numbers (IMChat's even ask for them), so they are kept wherever they are free
/// here; the rows come in their order.
fn kept(id: u64) -> Option<u64> {
    (id <= limits::IMPORTED_ID_MAX).then_some(id)
}

/// The old systems' own uploads as a path that is right on every page: fastIM's began with a dot.
fn rooted(url: String) -> String {
    match url.strip_prefix("./") {
        Some(rest) => format!("/{rest}"),
        None => url,
    }
}

fn cut(text: &str, chars_max: usize) -> String {
    text.chars().take(chars_max).collect()
}
