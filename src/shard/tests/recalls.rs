//! Messages that are taken back: who may, who hears of it, and what is left.

use super::*;

#[test]
fn a_message_is_taken_back_in_the_order_of_its_conversation_and_old_pages_see_nothing_of_it() {
    check(
        "a: open
         a2: open
         b: open
         b2: open legacy
         a -> b: oops [x]
         a -> b: well
         a: recalls b 1 [y]
         b -> a: what was it?
         b: sync a after 0",
        "b2: text welcome!
         a: ack #1 x
         a2: push #1 a oops
         b: push #1 a oops
         b2: push #1 a oops
         a: ack #2 -
         a2: push #2 a well
         b: push #2 a well
         b2: push #2 a well
         a: ack #3 y
         a2: push #3 a recalls #1
         b: push #3 a recalls #1
         a: push #4 b what was it?
         a2: push #4 b what was it?
         b: ack #4 -
         b2: push #4 b what was it?
         b: rows #1 (recalled) #2 #3 (recalls #1) #4 head 4",
    );
}

#[test]
fn in_a_group_only_old_pages_are_passed_over() {
    check(
        "a: open
         b: open
         c: open legacy
         join a 7
         join b 7
         join c 7
         a -> #7: oops
         turn off
         a -> #7: one
         a: recalls #7 1
         a -> #7: two
         turn on",
        "c: text welcome!
         notice 1: Done
         notice 1: Done
         notice 1: Done
         a: ack #1 -
         b: push #1 a oops
         c: push #1 a oops
         a: ack #2 -
         a: ack #3 -
         a: ack #4 -
         b: push #2 a one
         b: push #3 a recalls #1
         b: push #4 a two
         c: push #2 a one
         c: push #4 a two",
    );
}

#[test]
fn what_cannot_be_taken_back_is_refused_and_changes_nothing() {
    check(
        &format!(
            "a: open
             b: open
             c: open
             join a 7
             a -> b: mine
             a -> #7: ours
             b: recalls a 1
             a: recalls b 2
             a: recalls c 1
             c: recalls #7 1
             wait {}
             a: recalls b 1
             wait 1
             a: recalls #7 1
             a: recalls b 1",
            limits::RECALL_MS_MAX
        ),
        "notice 1: Done
         a: ack #1 -
         b: push #1 a mine
         a: ack #1 -
         b: refused 16
         a: refused 17
         a: refused 17
         c: refused 10
         a: ping
         a: ack #2 -
         b: push #2 a recalls #1
         a: refused 15
         a: refused 17",
    );
}

#[test]
fn a_recall_is_done_once_however_often_it_is_asked_for() {
    check(
        "a: open
         b: open
         a -> b: oops
         lose answers
         a: recalls b 1 [x]
         a: recalls b 1 [x]
         a: recalls b 1 [y]
         a: recalls b 2",
        "a: ack #1 -
         b: push #1 a oops
         a: ack #2 x
         b: push #2 a recalls #1
         a: ack #2 x dup
         a: refused 17
         a: ack #3 -
         b: push #3 a recalls #2",
    );
}

#[test]
fn a_page_that_comes_later_is_sent_neither_what_was_taken_back_nor_that_it_was() {
    check(
        "a: open
         a -> b: oops
         a -> b: well
         a: recalls b 1
         b: open legacy
         b: gone
         b: open legacy",
        "a: ack #1 -
         a: ack #2 -
         a: ack #3 -
         b: text welcome!
         b: push #2 a well
         a: cursor of b in 10:2 3 0
         b: text welcome!",
    );
}

#[test]
fn the_control_plane_takes_back_for_a_user() {
    check(
        "a: open
         b: open
         a -> b: oops
         recall b a 1
         recall a b 1
         recall a b 1
         quiesce
         recall a b 2",
        "a: ack #1 -
         b: push #1 a oops
         notice 1: Refused(NotYours)
         a: push #2 a recalls #1
         b: push #2 a recalls #1
         notice 1: Recalled { seq: #2 }
         notice 1: Refused(NoSuchMessage)
         notice 1: Refused(Stopping)",
    );
}

#[test]
fn a_volatile_gateway_has_nothing_to_take_back() {
    check_in(
        World::new(limits::OUTBOX_BYTES_MAX, true),
        "a: open
         b: open
         a -> b: oops
         a: recalls b 1 [x]
         recall a b 1",
        "a: ack -
         b: push a oops
         a: refused 17
         notice 1: Refused(NoSuchMessage)",
    );
}
