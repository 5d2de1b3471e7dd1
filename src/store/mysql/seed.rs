//! Bulk rows for load tests.
//!
//! Owns: nothing; the rows are as any other's, but with a password that no password fits.
//! Never: begins or ends a transaction; of a failed seed only numbers are lost.

use mysql::Value;

use super::fault::Fault;
use super::reserve;
use super::statement::{Session, Shape, int, take_text, text};
use crate::ids::{GroupId, Kind, UserId};
use crate::limits::MYSQL_ROWS_MAX;
use crate::store::folding::{SEEDED_MAX, fold, seeded_mobile, seeded_number};
use crate::store::{Error, Seed, Seeded};

const USERS: Shape = Shape {
    before: "INSERT INTO users (id, mobile, mobile_key, password, avatar, sex, nickname, memo, created_ms) VALUES ",
    each: "(?, ?, ?, '!', '', '', ?, '', ?)",
    width: 5,
    between: ", ",
    after: "",
};
const GROUPS: Shape = Shape {
    before: "INSERT INTO chat_groups (id, name, name_key, owner, icon, cate, memo, created_ms, member_count) VALUES ",
    each: "(?, ?, ?, ?, '', 0, '', ?, ?)",
    width: 6,
    between: ", ",
    after: "",
};
const CONVS: Shape = Shape {
    before: "INSERT INTO convs (kind, a, b, head, floor) VALUES ",
    each: "(?, ?, 0, 0, 1)",
    width: 2,
    between: ", ",
    after: "",
};
const MEMBERS: Shape = Shape {
    before: "INSERT INTO members (group_id, user_id, since) VALUES ",
    each: "(?, ?, 0)",
    width: 2,
    between: ", ",
    after: "",
};

/// The numbers of a seed. They are taken in a short transaction before the long one, which would
/// otherwise keep every gateway from making a user.
pub(super) struct Plan {
    first_user: u64,
    first_group: u64,
    /// Number in the first mobile number.
    first_mobile: u64,
    groups: u64,
    group_size: u64,
}

pub(super) fn reserve_numbers(session: &mut Session, seed: &Seed) -> Result<Plan, Fault> {
    let group_size = seed.group_size.min(seed.users);
    let groups = if group_size == 0 { 0 } else { seed.groups };
    let first_user = reserve(session, "next_user", seed.users)?;
    let first_group = reserve(session, "next_group", groups)?;
    // A user may have registered with such a number; the counter serves seeds that run at the same
    // time.
    let sql = "SELECT mobile_key FROM users WHERE mobile_key BETWEEN ? AND ? AND CHAR_LENGTH(mobile_key) = 16
               AND mobile_key NOT REGEXP '[^0-9]' ORDER BY mobile_key DESC LIMIT 1";
    let range = vec![text(&seeded_mobile(0)), text(&seeded_mobile(SEEDED_MAX))];
    let last = session.first(sql, range, |row| take_text(row, 0))?;
    let free = last.and_then(|mobile| seeded_number(&mobile)).map_or(1, |n| n + 1);
    let counted = reserve(session, "next_seeded", 0)?;
    let first_mobile = free.max(counted);
    reserve(session, "next_seeded", first_mobile - counted + seed.users)?;
    let ends = |first: u64, n: u64, max: u64| first.checked_add(n).is_some_and(|end| end <= max);
    let fits = ends(first_mobile, seed.users, SEEDED_MAX)
        && ends(first_user, seed.users, crate::ids::ID_MAX)
        && ends(first_group, groups, crate::ids::ID_MAX);
    if !fits {
        return Err(full());
    }
    Ok(Plan { first_user, first_group, first_mobile, groups, group_size })
}

/// See [`crate::store::Backend::seed`].
pub(super) fn seed(session: &mut Session, seed: &Seed, plan: &Plan) -> Result<Seeded, Fault> {
    let created = int(seed.created_ms);
    in_pieces(session, &USERS, seed.users, |n| {
        let (id, mobile) = (plan.first_user + n, text(&seeded_mobile(plan.first_mobile + n)));
        vec![int(id), mobile.clone(), mobile, text(&format!("user {id}")), created.clone()]
    })?;
    // Members of all groups in one line: member `k` of group `g` is the new user `g * size + k`,
    // wrapping around.
    let size = plan.group_size;
    let member = |place: u64| int(plan.first_user + place % seed.users);
    in_pieces(session, &GROUPS, plan.groups, |g| {
        let id = plan.first_group + g;
        let name = format!("group {id}");
        vec![int(id), text(&name), text(&fold(&name)), member(g.wrapping_mul(size)), created.clone(), int(size)]
    })?;
    in_pieces(session, &CONVS, plan.groups, |g| vec![int(Kind::Group as u64), int(plan.first_group + g)])?;
    in_pieces(session, &MEMBERS, plan.groups.saturating_mul(size), |place| {
        vec![int(plan.first_group + place / size), member(place)]
    })?;
    let ids = plan.first_group..plan.first_group + plan.groups;
    let groups = ids.map(|id| GroupId::new(id).ok_or_else(full)).collect::<Result<_, _>>()?;
    let first_user = UserId::new(plan.first_user).ok_or_else(full)?;
    Ok(Seeded { first_user, users: seed.users, groups })
}

/// Writes `n` rows, a statement's worth at a time, so that a million of them are not in memory at
/// once.
fn in_pieces(session: &mut Session, shape: &Shape, n: u64, row: impl Fn(u64) -> Vec<Value>) -> Result<(), Fault> {
    let mut piece = Vec::with_capacity(MYSQL_ROWS_MAX * shape.width);
    for index in 0..n {
        piece.extend(row(index));
        if piece.len() == MYSQL_ROWS_MAX * shape.width {
            session.write_all(shape, &[], std::mem::take(&mut piece))?;
        }
    }
    session.write_all(shape, &[], piece)?;
    Ok(())
}

fn full() -> Fault {
    Fault::Store(Error::Unavailable("no numbers left for new users or groups".to_owned()))
}
