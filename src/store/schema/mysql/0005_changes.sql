-- What has changed about users, for gateways that did not change it themselves.
-- A migration is never edited once it was released; the next change is the next number.
-- Run again from its beginning, it finds what it added.

-- kind 1: token epoch or ban. kind 2: a membership, `other` is the group. kind 3: a block, `other` is who is blocked.
-- A row says who must be looked at; how things stand is read together with it. Numbers are given in one order and
-- committed in another; `at_s` (Unix seconds of the database's clock) says which are old enough to be complete.
-- Rows go after some hours.
CREATE TABLE IF NOT EXISTS changes (
    id      BIGINT UNSIGNED  NOT NULL AUTO_INCREMENT PRIMARY KEY,
    user_id BIGINT UNSIGNED  NOT NULL,
    kind    TINYINT UNSIGNED NOT NULL,
    other   BIGINT UNSIGNED  NOT NULL,
    at_s    INT UNSIGNED     NOT NULL,
    KEY changes_by_age (at_s, id)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin ROW_FORMAT = DYNAMIC;
