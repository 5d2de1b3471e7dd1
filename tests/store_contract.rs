//! What every store backend promises, run on each of them, and what the workers promise on top.

use std::path::Path;

use imgate::ids::{ConvId, GroupId, UserId};
use imgate::store::memory::Memory;
use imgate::store::{
    Backend, NewGroup, NewMessage, NewUser, Options, Page, PageStart, PostKey, Read, ReadAnswer, Rule, Seed,
    Synchronous, Write, Written, open,
};
use tempfile::TempDir;

#[path = "store_contract/accounts.rs"]
mod accounts;
#[path = "store_contract/admissions.rs"]
mod admissions;
#[path = "store_contract/api_keys.rs"]
mod api_keys;
#[path = "store_contract/changes.rs"]
mod changes;
#[path = "store_contract/crash.rs"]
mod crash;
#[path = "store_contract/erasing.rs"]
mod erasing;
#[path = "store_contract/fairness.rs"]
mod fairness;
#[path = "store_contract/files.rs"]
mod files;
#[path = "store_contract/logins.rs"]
mod logins;
#[path = "support/mariadb.rs"]
mod mariadb;
#[path = "store_contract/messages.rs"]
mod messages;
#[path = "store_contract/model.rs"]
mod model;
#[path = "store_contract/mysql.rs"]
mod on_a_server;
#[path = "store_contract/pages.rs"]
mod pages;
#[path = "store_contract/recalls.rs"]
mod recalls;
#[path = "store_contract/recent.rs"]
mod recent;
#[path = "store_contract/retention.rs"]
mod retention;
#[path = "store_contract/social.rs"]
mod social;
#[path = "store_contract/standing.rs"]
mod standing;
#[path = "store_contract/workers.rs"]
mod workers;

/// A database that can be connected to again and again.
enum Site {
    Memory(Memory),
    Sqlite(TempDir),
    /// The URL of a database on the server that the tests share.
    Mysql(String),
}

impl Site {
    fn memory() -> Self {
        Self::Memory(Memory::new())
    }

    fn sqlite() -> Self {
        Self::Sqlite(tempfile::tempdir().expect("a temporary directory"))
    }

    /// A fresh database, or `None` where there is no MariaDB.
    fn mysql() -> Option<Self> {
        let server = mariadb::Server::shared()?;
        Some(Self::Mysql(server.url(&server.database())))
    }

    /// The same on a server that is set up against us.
    fn hostile() -> Option<Self> {
        let server = mariadb::Server::hostile()?;
        Some(Self::Mysql(server.url(&server.database())))
    }

    /// `n` writing connections. Those of an earlier call must be gone (SQLite's directory is locked).
    fn connect_all(&self, n: usize) -> Vec<Box<dyn Backend>> {
        match self {
            Self::Memory(memory) => (0..n).map(|_| Box::new(memory.connect()) as Box<dyn Backend>).collect(),
            Self::Sqlite(dir) => open_sqlite(dir.path(), n),
            Self::Mysql(url) => open_mysql(url, n),
        }
    }

    fn connect(&self) -> Box<dyn Backend> {
        self.connect_all(1).remove(0)
    }
}

/// NORMAL: the contract is about what is stored, not about what a loss of power leaves.
fn open_sqlite(dir: &Path, writers: usize) -> Vec<Box<dyn Backend>> {
    let options = Options { synchronous: Synchronous::Normal, writers, readers: 1, ..Options::default() };
    open("sqlite", dir, None, options).unwrap_or_else(|e| panic!("{e}")).writers
}

/// The directory is not used.
fn open_mysql(url: &str, writers: usize) -> Vec<Box<dyn Backend>> {
    let options = Options { writers, readers: 1, ..Options::default() };
    open(url, Path::new("."), None, options).unwrap_or_else(|e| panic!("{e}")).writers
}

/// Each test on each backend. The next backend is one more module here.
macro_rules! contract {
    ($($module:ident: $($test:ident)*;)*) => {
        mod on_memory {
            $($(#[test] fn $test() { super::$module::$test(&super::Site::memory()); })*)*
        }
        mod on_sqlite {
            $($(#[test] fn $test() { super::$module::$test(&super::Site::sqlite()); })*)*
        }
        mod on_mysql {
            $($(#[test] fn $test() {
                if let Some(site) = super::Site::mysql() {
                    super::$module::$test(&site);
                }
            })*)*
        }
        mod on_a_hostile_server {
            $($(#[test] fn $test() {
                if let Some(site) = super::Site::hostile() {
                    super::$module::$test(&site);
                }
            })*)*
        }
    };
}

contract! {
    messages:
        numbers_have_no_hole
        a_batch_is_numbered_in_its_order
        an_answer_tells_the_time_of_the_message_before
        a_resend_gives_the_old_answer
        a_key_belongs_to_its_sender
        a_key_is_claimed_across_conversations
        keys_of_servers_and_clients_do_not_meet
        a_refused_append_claims_no_key
        a_resend_is_answered_before_it_is_judged
        a_key_that_is_claimed_later_in_a_batch_answers_no_earlier_refusal
        direct_messages_are_judged
        group_messages_are_judged
        a_block_ends_where_it_is_lifted
        what_another_connection_wrote_is_known
        joining_twice_and_leaving_twice_succeed
        an_owner_leaves_no_group_but_a_dissolved_one
        membership_has_its_place_in_the_batch
        a_user_joins_no_more_groups_than_allowed
        ids_are_unique_across_connections_and_restarts
        concurrent_appends_leave_no_hole
        a_restart_keeps_everything
        an_unknown_outcome_is_healed_by_the_same_key
        odd_bodies_and_times_come_back;
    recalls:
        a_recall_is_a_message_that_blanks_another
        only_ones_own_young_message_is_recalled
        what_the_server_says_of_a_user_is_not_recalled
        a_recall_is_done_once
        a_recall_in_one_batch_with_its_message
        what_one_could_say_one_may_take_back
        unread_counts_what_can_be_read;
    pages:
        a_fresh_conversation_has_an_empty_page
        pages_walk_forward
        pages_walk_backward
        pages_end_at_their_bytes
        a_page_is_never_longer_than_allowed
        a_reader_sees_the_time_of_membership
        strangers_read_nothing
        who_has_left_reads_up_to_the_leave
        many_opens_are_answered_together
        reads_follow_their_order;
    standing:
        cursors_never_move_back
        cursors_end_at_the_head
        nobody_keeps_the_cursor_of_anothers_conversation
        a_membership_begins_without_a_cursor
        own_messages_are_not_unread
        unread_is_counted_up_to_its_limit
        the_list_brings_the_newest_messages
        conversations_come_newest_first
        what_is_confirmed_takes_no_place_from_what_is_missed
        a_member_is_told_of_her_part_of_a_group
        a_dissolved_group_is_in_no_list
        a_user_with_a_thousand_conversations
        a_long_list_stays_in_order
        many_users_are_answered_with_few_statements;
    retention:
        the_newest_are_kept
        what_is_young_is_kept
        the_stricter_rule_holds
        nothing_kept_is_still_a_conversation
        what_is_empty_takes_no_place_from_what_is_kept
        steps_are_bounded_and_reach_the_end
        unread_ends_at_the_floor
        a_membership_may_begin_above_the_floor
        keys_outlive_their_messages
        readers_see_no_hole_while_floors_move;
    accounts:
        mobile_numbers_are_unique_without_case_and_trailing_blanks
        groups_are_found_by_folded_name
        an_owner_has_a_limit
        a_wanted_number_is_kept_while_it_is_above_all
        groups_are_listed_with_their_sizes
        a_seed_continues_after_what_is_there
        a_seed_without_users_makes_nothing
        it_answers_a_ping;
    social:
        friendship_goes_both_ways
        friends_have_a_limit
        blocks_are_listed_and_refuse_friendship
        users_are_found_together
        a_profile_changes_where_it_is_told_to
        passwords_and_epochs_move_together
        groups_of_one_name_come_oldest_first
        members_are_listed_page_by_page
        a_dissolved_group_is_no_more;
    changes:
        every_change_is_told_with_how_things_stand
        what_changes_nothing_is_not_told
        changes_come_page_by_page
        a_change_of_no_known_kind_holds_up_no_other
        changes_of_two_connections_are_all_told;
    erasing:
        a_deleted_user_leaves_only_what_the_others_have
        a_deleted_user_was_never_a_member
        what_was_under_way_brings_nothing_of_a_deleted_user_back;
    admissions:
        a_group_by_invitation_is_none_to_strangers
        roles_go_with_the_membership
        a_deleted_user_is_given_no_role
        a_group_has_so_many_admins
        who_is_given_groups_has_no_more_than_one_may_make
        a_link_leads_to_its_group_until_it_is_replaced
        requests_wait_until_they_are_answered
        requests_end_with_the_group_and_none_is_noted_where_it_means_nothing
        a_line_is_said_by_whoever_the_server_says;
    api_keys:
        a_key_is_kept_until_it_ends
        a_key_is_replaced_altogether_or_not_at_all
        there_are_so_many_keys_and_ended_ones_make_room;
    logins:
        a_login_is_good_until_it_is_ended
        logins_end_with_the_epoch_and_with_the_account
        a_user_has_so_many_logins_and_the_oldest_goes;
    files:
        an_upload_weighs_once_on_each_who_claims_it
        what_others_have_uploaded_is_never_told
        what_a_message_shows_stays
        a_recalled_file_stays_as_long_as_somebody_else_claims_it
        avatars_and_icons_hold_their_files
        the_icon_of_a_group_that_has_ended_holds_no_file
        a_small_picture_goes_with_its_picture
        what_could_not_be_removed_is_not_forgotten;
    model:
        random_writes_agree_with_a_plain_model;
}

fn uid(raw: u64) -> UserId {
    UserId::new(raw).expect("a test's id is in range")
}

/// Users 1 to `n`.
fn users(db: &mut dyn Backend, n: u64) {
    let seeded = db.seed(&Seed { users: n, groups: 0, group_size: 0, created_ms: 0 }).expect("seeded");
    assert_eq!(seeded.first_user, uid(1));
}

fn new_user(mobile: &str) -> NewUser {
    NewUser { mobile: mobile.to_owned(), nickname: format!("n {mobile}"), created_ms: 5, ..NewUser::default() }
}

fn new_group(name: &str, owner: UserId) -> NewGroup {
    let (icon, memo) = ("/i.png".to_owned(), "memo".to_owned());
    NewGroup {
        name: name.to_owned(),
        owner,
        icon,
        cate: 3,
        memo,
        created_ms: 7,
        owned_max: 6,
        wanted: None,
        rule: Rule::Plain,
    }
}

fn group(db: &mut dyn Backend, owner: UserId) -> GroupId {
    db.groups().create_group(&new_group("g", owner)).expect("works").expect("not too many").id
}

/// A message of `sender` under the client's key `cid`; its body is its key.
fn post(conv: ConvId, sender: u64, cid: &str) -> Write {
    let (key, body) = (PostKey::Client(cid.into()), cid.into());
    Write::Append(NewMessage { conv, sender: uid(sender), key, ts_ms: 1_000, body })
}

fn commit(db: &mut dyn Backend, writes: &[Write]) -> Vec<Written> {
    let written = db.commit(writes).expect("committed");
    assert_eq!(written.len(), writes.len());
    written
}

fn commit_one(db: &mut dyn Backend, write: Write) -> Written {
    commit(db, &[write]).remove(0)
}

/// The number of a stored message.
fn stored(written: &Written) -> u64 {
    match written {
        Written::Stored { seq, .. } => seq.get(),
        other => panic!("not stored: {other:?}"),
    }
}

fn read(db: &mut dyn Backend, conv: ConvId, reader: Option<u64>, from: PageStart, rows_max: u32) -> ReadAnswer {
    let read = Read::Page { conv, reader: reader.map(uid), from, rows_max, bytes_max: usize::MAX };
    let mut answers = db.read(&[read]).expect("read");
    assert_eq!(answers.len(), 1);
    answers.remove(0)
}

fn page(db: &mut dyn Backend, conv: ConvId, reader: Option<u64>, from: PageStart, rows_max: u32) -> Page {
    match read(db, conv, reader, from, rows_max) {
        ReadAnswer::Page(page) => page,
        other => panic!("no page: {other:?}"),
    }
}

/// Every message of a conversation, as the home sees it, read page by page.
fn all(db: &mut dyn Backend, conv: ConvId) -> Page {
    let mut whole = Page::default();
    loop {
        let after = whole.rows.last().map_or(imgate::ids::Seq::ZERO, |row| row.seq);
        let page = page(db, conv, None, PageStart::After(after), 200);
        let more = page.more;
        assert!(!more || !page.rows.is_empty(), "a page makes progress");
        whole = Page { rows: [whole.rows, page.rows].concat(), ..page };
        if !more {
            return whole;
        }
    }
}

fn seqs(page: &Page) -> Vec<u64> {
    page.rows.iter().map(|row| row.seq.get()).collect()
}
