-- Friends, and groups that are no more.
-- A migration is never edited once it was released; the next change is the next number.
-- Run again from its beginning, it finds what it added; `migrate.rs` takes that as done.

-- Two rows for a friendship, one for each direction, made and removed together.
CREATE TABLE IF NOT EXISTS friends (
    user_id   BIGINT UNSIGNED NOT NULL,
    friend_id BIGINT UNSIGNED NOT NULL,
    since_ms  BIGINT UNSIGNED NOT NULL,
    PRIMARY KEY (user_id, friend_id)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin ROW_FORMAT = DYNAMIC;

-- A dissolved group keeps its row; nobody finds it.
ALTER TABLE chat_groups ADD COLUMN dissolved BOOLEAN NOT NULL DEFAULT FALSE;

-- The same, where a batch of writes looks anyway: in the row that it locks.
ALTER TABLE convs ADD COLUMN closed BOOLEAN NOT NULL DEFAULT FALSE;
