-- The spine: users, groups, memberships, blocks, conversations, messages, claimed keys.
-- A migration is never edited once it was released; the next change is the next number.
-- MySQL commits each of these statements by itself, so a migration that was cut off is run again from its beginning:
-- every statement must allow that. `meta` is made before the first migration.

-- Numbers come from `meta`, not from AUTO_INCREMENT: they stay dense and in order whatever auto_increment_increment is,
-- and none is ever given twice, else a new user would inherit the messages of a removed one.
CREATE TABLE IF NOT EXISTS users (
    id          BIGINT UNSIGNED NOT NULL PRIMARY KEY,
    mobile      VARCHAR(255)    NOT NULL,
    -- Folded in Rust (store/folding.rs), so that every backend compares alike.
    mobile_key  VARCHAR(255)    NOT NULL,
    password    TEXT            NOT NULL,
    avatar      TEXT            NOT NULL,
    sex         VARCHAR(255)    NOT NULL,
    nickname    TEXT            NOT NULL,
    memo        TEXT            NOT NULL,
    created_ms  BIGINT UNSIGNED NOT NULL,
    token_epoch INT UNSIGNED    NOT NULL DEFAULT 0,
    banned      BOOLEAN         NOT NULL DEFAULT FALSE,
    UNIQUE KEY users_by_mobile (mobile_key)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin ROW_FORMAT = DYNAMIC;

-- Not `groups`: that is a reserved word of MySQL 8.
CREATE TABLE IF NOT EXISTS chat_groups (
    id         BIGINT UNSIGNED NOT NULL PRIMARY KEY,
    name       TEXT            NOT NULL,
    name_key   VARCHAR(255)    NOT NULL,
    owner      BIGINT UNSIGNED NOT NULL,
    icon       TEXT            NOT NULL,
    cate       BIGINT          NOT NULL,
    memo       TEXT            NOT NULL,
    created_ms BIGINT UNSIGNED NOT NULL,
    KEY chat_groups_by_name (name_key, id),
    KEY chat_groups_by_owner (owner)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin ROW_FORMAT = DYNAMIC;

-- `since`: the head of the group when the user joined; what is at or before it is not the member's to read.
CREATE TABLE IF NOT EXISTS members (
    group_id BIGINT UNSIGNED NOT NULL,
    user_id  BIGINT UNSIGNED NOT NULL,
    since    BIGINT UNSIGNED NOT NULL,
    PRIMARY KEY (group_id, user_id),
    KEY members_by_user (user_id, group_id, since)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin ROW_FORMAT = DYNAMIC;

CREATE TABLE IF NOT EXISTS blocks (
    owner   BIGINT UNSIGNED NOT NULL,
    blocked BIGINT UNSIGNED NOT NULL,
    PRIMARY KEY (owner, blocked)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin ROW_FORMAT = DYNAMIC;

-- kind 10: a and b are the smaller and the larger user. kind 11: a is the group, b is 0; made together with the group.
-- The row of a conversation is its lock: who holds it numbers the next messages.
CREATE TABLE IF NOT EXISTS convs (
    conv  BIGINT UNSIGNED  NOT NULL AUTO_INCREMENT PRIMARY KEY,
    kind  TINYINT UNSIGNED NOT NULL,
    a     BIGINT UNSIGNED  NOT NULL,
    b     BIGINT UNSIGNED  NOT NULL,
    head  BIGINT UNSIGNED  NOT NULL,
    floor BIGINT UNSIGNED  NOT NULL,
    UNIQUE KEY convs_by_members (kind, a, b)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin ROW_FORMAT = DYNAMIC;

-- Clustered in reading order: a page of history is one or two pages of the table, and there is no second index to write.
CREATE TABLE IF NOT EXISTS messages (
    conv   BIGINT UNSIGNED NOT NULL,
    seq    BIGINT UNSIGNED NOT NULL,
    id     BIGINT UNSIGNED NOT NULL,
    ts_ms  BIGINT UNSIGNED NOT NULL,
    sender BIGINT UNSIGNED NOT NULL,
    -- TEXT ends at 65,535 bytes, and a message may be as long as that before the server adds anything.
    body   MEDIUMTEXT      NOT NULL,
    PRIMARY KEY (conv, seq)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin ROW_FORMAT = DYNAMIC;

-- Claimed post keys. Apart from the messages, because a key outlives retention; `created_s` (Unix seconds of the
-- database's clock) says when a key may go.
CREATE TABLE IF NOT EXISTS claims (
    sender    BIGINT UNSIGNED NOT NULL,
    `key`     VARBINARY(255)  NOT NULL,
    conv      BIGINT UNSIGNED NOT NULL,
    seq       BIGINT UNSIGNED NOT NULL,
    id        BIGINT UNSIGNED NOT NULL,
    ts_ms     BIGINT UNSIGNED NOT NULL,
    created_s INT UNSIGNED    NOT NULL,
    PRIMARY KEY (sender, `key`),
    KEY claims_by_age (created_s)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin ROW_FORMAT = DYNAMIC;
