-- Where users stand: how far each has received and read a conversation, and what finds her conversations.
-- A migration is never edited once it was released; the next change is the next number.
-- Run again from its beginning, it finds what it added; `migrate.rs` takes that as done.

-- Neither number moves back. The row of a group's member goes when she leaves, so that who comes back begins anew.
CREATE TABLE IF NOT EXISTS cursors (
    user_id  BIGINT UNSIGNED NOT NULL,
    conv     BIGINT UNSIGNED NOT NULL,
    recv_seq BIGINT UNSIGNED NOT NULL,
    read_seq BIGINT UNSIGNED NOT NULL,
    PRIMARY KEY (user_id, conv)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin ROW_FORMAT = DYNAMIC;

-- The time of the newest message, written together with `head`. No index has it: more entries to move with every
-- message would cost each append more than sorting her conversations costs whoever opens a session.
-- `convs_by_larger`: the direct conversations of a user who is the larger of the pair.
-- One statement, so that both are there or neither.
ALTER TABLE convs
    ADD COLUMN newest_ms BIGINT UNSIGNED NOT NULL DEFAULT 0,
    ADD KEY convs_by_larger (kind, b);

UPDATE convs c JOIN messages m ON m.conv = c.conv AND m.seq = c.head SET c.newest_ms = m.ts_ms;
