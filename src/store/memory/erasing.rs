//! What is left of a user who was deleted.
//!
//! Never: touches a membership or a message: those are in the others' histories.

use super::State;
use crate::ids::{GroupId, UserId};
use crate::store::changes::Note;
use crate::store::folding::{ERASED_NICKNAME, ERASED_PASSWORD, erased_mobile, fold};

impl State {
    /// See [`crate::store::People::erase`].
    pub(super) fn erase(&mut self, user: UserId) -> bool {
        let Some(kept) = self.users.get_mut(&user) else { return false };
        self.mobiles.remove(&fold(&kept.mobile));
        kept.mobile = erased_mobile(user);
        self.mobiles.insert(fold(&kept.mobile), user);
        ERASED_PASSWORD.clone_into(&mut kept.password);
        ERASED_NICKNAME.clone_into(&mut kept.nickname);
        for field in [&mut kept.avatar, &mut kept.sex, &mut kept.memo] {
            field.clear();
        }
        (kept.token_epoch, kept.banned) = (kept.token_epoch + 1, true);
        self.uploads.remove(&user);
        self.logins.remove(&user);
        self.library.let_go(user);
        for friend in self.friends.remove(&user).unwrap_or_default() {
            if let Some(friends) = self.friends.get_mut(&friend) {
                friends.remove(&user);
            }
        }
        self.blocks.retain(|(owner, _)| *owner != user);
        self.blocked_by.retain(|(_, owner)| *owner != user);
        self.cursors.retain(|(of, _), _| *of != user);
        self.doors.forget(user);
        self.past_members.retain(|(_, of), _| *of != user);
        self.hand_over(user);
        self.note(user, Note::Standing);
        true
    }

    /// Groups go to the member who has been in them for longest; those without another one end.
    fn hand_over(&mut self, user: UserId) {
        let owned = self.groups.values().filter(|group| group.owner == user && !self.dissolved.contains(&group.id));
        let owned: Vec<GroupId> = owned.map(|group| group.id).collect();
        for id in owned {
            let members = self.members.get(&id).into_iter().flatten();
            let living = members.filter(|(member, _)| **member != user && self.living(**member).is_some());
            let heir = living.min_by_key(|(member, since)| (**since, **member));
            let heir = heir.map(|(member, _)| *member);
            let Some(heir) = heir else {
                self.end_group(id);
                continue;
            };
            if let Some(group) = self.groups.get_mut(&id) {
                group.owner = heir;
            }
        }
    }
}
