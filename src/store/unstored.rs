//! The judge of what is said and not stored.
//!
//! Owns: asking a database what the rules of [`super::decide`] want to know about one message.
//! Never: a rule of its own.

use super::decide::{GroupRules, Known, judge_direct, judge_member, other_of};
use super::{Backend, Error, Refusal, Rule};
use crate::ids::{ConvId, Seq, UserId};

/// Whether `sender` may say something in `conv` that is not stored, as [`Backend::commit`] would
/// judge it if it were. `as_server`: a group hears it whoever the sender is.
///
/// # Errors
/// As the database says.
pub fn judge_unstored(
    store: &mut dyn Backend,
    conv: ConvId,
    sender: UserId,
    as_server: bool,
) -> Result<Result<(), Refusal>, Error> {
    match conv {
        ConvId::Direct { lo, hi } => {
            let other = other_of(lo, hi, sender);
            let mut known = Known::default();
            if store.people().user(other)?.is_some_and(|user| !user.is_erased()) {
                known.users.insert(other);
            }
            // The first one behind the number before is the sender, or is not blocked.
            let blocked = store.social().blocked(other, UserId::new(sender.get() - 1), 1)?;
            known.blocks.extend(blocked.iter().map(|blocked| (other, blocked.id)));
            Ok(judge_direct(&known, lo, hi, sender))
        }
        ConvId::Group(group) => {
            let found = store.admissions().standing(group, sender)?;
            let rules = found.as_ref().map(|found| GroupRules { hidden: found.group.rule == Rule::Invitation });
            if as_server {
                return Ok(rules.map(|_| ()).ok_or(Refusal::NoSuchGroup));
            }
            // Since when does not matter here.
            let since = found.as_ref().and_then(|found| found.role).map(|_| Seq::ZERO);
            let was_member = found.is_some_and(|found| found.was_member);
            Ok(judge_member(rules, since, was_member).map(|_| ()))
        }
    }
}
