-- Where users stand: how far each has received and read a conversation, and what finds her conversations.
-- A migration is never edited once it was released; the next change is the next number.

-- Neither number moves back. `recv_seq` and `read_seq`: READ is a reserved word of MySQL, and the backends share
-- their names. The row of a group's member goes when she leaves, so that who comes back begins anew.
CREATE TABLE cursors (
    user_id  INTEGER NOT NULL,
    conv     INTEGER NOT NULL,
    recv_seq INTEGER NOT NULL,
    read_seq INTEGER NOT NULL,
    PRIMARY KEY (user_id, conv)
) STRICT, WITHOUT ROWID;

-- The time of the newest message, written together with `head`. No index has it: two more entries to move with every
-- message would cost each append more than sorting her conversations costs whoever opens a session.
ALTER TABLE convs ADD COLUMN newest_ms INTEGER NOT NULL DEFAULT 0;
UPDATE convs SET newest_ms =
    coalesce((SELECT m.ts_ms FROM messages m WHERE m.conv = convs.conv AND m.seq = convs.head), 0);

-- The direct conversations of a user who is the larger of the pair; UNIQUE (kind, a, b) finds those of the smaller.
CREATE INDEX convs_by_larger ON convs (kind, b);
