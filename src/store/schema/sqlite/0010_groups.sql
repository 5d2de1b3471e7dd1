-- Who gets into a group and what they may do there; what is left of a membership that has ended.
-- A migration is never edited once it was released; the next change is the next number.

-- `rule`: 0 open, as before there were rules, 1 by approval, 2 by invitation, 3 open. `members_add`: members may add their friends, not only admins.
-- `invite`: the secret of the link by which anybody joins; NULL: there is none.
ALTER TABLE chat_groups ADD COLUMN rule INTEGER NOT NULL DEFAULT 0;
ALTER TABLE chat_groups ADD COLUMN members_add INTEGER NOT NULL DEFAULT 1;
ALTER TABLE chat_groups ADD COLUMN invite TEXT;
CREATE UNIQUE INDEX chat_groups_by_invite ON chat_groups (invite) WHERE invite IS NOT NULL;

-- 0 member, 1 admin. The owner stands in `chat_groups`.
ALTER TABLE members ADD COLUMN role INTEGER NOT NULL DEFAULT 0;

-- The last membership of who is a member no more: what was said after `since` and up to `until_seq` stays readable.
CREATE TABLE past_members (
    group_id  INTEGER NOT NULL,
    user_id   INTEGER NOT NULL,
    since     INTEGER NOT NULL,
    until_seq INTEGER NOT NULL,
    PRIMARY KEY (group_id, user_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX past_members_by_user ON past_members (user_id, group_id);

-- Who has asked to be let in.
CREATE TABLE group_requests (
    group_id INTEGER NOT NULL,
    user_id  INTEGER NOT NULL,
    at_ms    INTEGER NOT NULL,
    PRIMARY KEY (group_id, user_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX group_requests_by_user ON group_requests (user_id, group_id);
