-- Friends, and groups that are no more.
-- A migration is never edited once it was released; the next change is the next number.

-- Two rows for a friendship, one for each direction, made and removed together.
CREATE TABLE friends (
    user_id   INTEGER NOT NULL,
    friend_id INTEGER NOT NULL,
    since_ms  INTEGER NOT NULL,
    PRIMARY KEY (user_id, friend_id)
) STRICT, WITHOUT ROWID;

-- A dissolved group keeps its row, so that its number is never given again; nobody finds it.
ALTER TABLE chat_groups ADD COLUMN dissolved INTEGER NOT NULL DEFAULT 0;
