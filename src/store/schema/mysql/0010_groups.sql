-- Who gets into a group and what they may do there; what is left of a membership that has ended.
-- A migration is never edited once it was released; the next change is the next number.
-- Run again from its beginning, it finds what it added.

-- `rule`: 0 open, as before there were rules, 1 by approval, 2 by invitation, 3 open. `members_add`: members may add their friends, not only admins.
-- `invite`: the secret of the link by which anybody joins; NULL: there is none.
ALTER TABLE chat_groups ADD COLUMN rule TINYINT UNSIGNED NOT NULL DEFAULT 0;
ALTER TABLE chat_groups ADD COLUMN members_add BOOLEAN NOT NULL DEFAULT TRUE;
ALTER TABLE chat_groups ADD COLUMN invite VARCHAR(64) NULL;
ALTER TABLE chat_groups ADD UNIQUE KEY chat_groups_by_invite (invite);

-- Whoever was never a member of a group by invitation is told that there is none; here, because a batch of writes has locked
-- this row.
ALTER TABLE convs ADD COLUMN hidden BOOLEAN NOT NULL DEFAULT FALSE;

-- 0 member, 1 admin. The owner stands in `chat_groups`.
ALTER TABLE members ADD COLUMN role TINYINT UNSIGNED NOT NULL DEFAULT 0;

-- The last membership of who is a member no more: what was said after `since` and up to `until_seq` stays readable.
CREATE TABLE IF NOT EXISTS past_members (
    group_id  BIGINT UNSIGNED NOT NULL,
    user_id   BIGINT UNSIGNED NOT NULL,
    since     BIGINT UNSIGNED NOT NULL,
    until_seq BIGINT UNSIGNED NOT NULL,
    PRIMARY KEY (group_id, user_id),
    KEY past_members_by_user (user_id, group_id)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin ROW_FORMAT = DYNAMIC;

-- Who has asked to be let in.
CREATE TABLE IF NOT EXISTS group_requests (
    group_id BIGINT UNSIGNED NOT NULL,
    user_id  BIGINT UNSIGNED NOT NULL,
    at_ms    BIGINT UNSIGNED NOT NULL,
    PRIMARY KEY (group_id, user_id),
    KEY group_requests_by_user (user_id, group_id)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin ROW_FORMAT = DYNAMIC;
