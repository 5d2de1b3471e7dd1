-- The spine: users, groups, memberships, blocks, conversations, messages, claimed keys.
-- A migration is never edited once it was released; the next change is the next number.

-- Small numbers about the database itself: epoch, next_id, pulse.
CREATE TABLE meta (
    name  TEXT    NOT NULL PRIMARY KEY,
    value INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- AUTOINCREMENT: a number is never given twice, else a new user would inherit the messages of a removed one.
CREATE TABLE users (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    mobile      TEXT    NOT NULL,
    -- Folded in Rust (store/folding.rs), so that every backend compares alike.
    mobile_key  TEXT    NOT NULL UNIQUE,
    password    TEXT    NOT NULL,
    avatar      TEXT    NOT NULL,
    sex         TEXT    NOT NULL,
    nickname    TEXT    NOT NULL,
    memo        TEXT    NOT NULL,
    created_ms  INTEGER NOT NULL,
    token_epoch INTEGER NOT NULL DEFAULT 0,
    banned      INTEGER NOT NULL DEFAULT 0
) STRICT;

-- Not `groups`: that is a reserved word of MySQL 8, and the backends share their names.
CREATE TABLE chat_groups (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    name       TEXT    NOT NULL,
    name_key   TEXT    NOT NULL,
    owner      INTEGER NOT NULL,
    icon       TEXT    NOT NULL,
    cate       INTEGER NOT NULL,
    memo       TEXT    NOT NULL,
    created_ms INTEGER NOT NULL
) STRICT;
CREATE INDEX chat_groups_by_name ON chat_groups (name_key, id);
CREATE INDEX chat_groups_by_owner ON chat_groups (owner);

-- `since`: the head of the group when the user joined; what is at or before it is not the member's to read.
CREATE TABLE members (
    group_id INTEGER NOT NULL,
    user_id  INTEGER NOT NULL,
    since    INTEGER NOT NULL,
    PRIMARY KEY (group_id, user_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX members_by_user ON members (user_id, group_id, since);

CREATE TABLE blocks (
    owner   INTEGER NOT NULL,
    blocked INTEGER NOT NULL,
    PRIMARY KEY (owner, blocked)
) STRICT, WITHOUT ROWID;

-- kind 10: a and b are the smaller and the larger user. kind 11: a is the group, b is 0.
CREATE TABLE convs (
    conv  INTEGER PRIMARY KEY,
    kind  INTEGER NOT NULL,
    a     INTEGER NOT NULL,
    b     INTEGER NOT NULL,
    head  INTEGER NOT NULL,
    floor INTEGER NOT NULL,
    UNIQUE (kind, a, b)
) STRICT;

-- A rowid table (the message id is the row id, so new rows go to the end) with an index for reading was 2.5 times
-- faster to write than one clustered by (conv, seq).
CREATE TABLE messages (
    id     INTEGER PRIMARY KEY,
    conv   INTEGER NOT NULL,
    seq    INTEGER NOT NULL,
    ts_ms  INTEGER NOT NULL,
    sender INTEGER NOT NULL,
    body   TEXT    NOT NULL
) STRICT;
CREATE UNIQUE INDEX messages_by_seq ON messages (conv, seq);

-- Claimed post keys. Apart from the messages, because a key outlives retention.
CREATE TABLE claims (
    sender INTEGER NOT NULL,
    key    BLOB    NOT NULL,
    conv   INTEGER NOT NULL,
    seq    INTEGER NOT NULL,
    id     INTEGER NOT NULL,
    ts_ms  INTEGER NOT NULL,
    PRIMARY KEY (sender, key)
) STRICT, WITHOUT ROWID;
