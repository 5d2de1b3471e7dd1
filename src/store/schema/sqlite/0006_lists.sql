-- Lists that cost the same however long they are: conversations by user and time, and the sizes of groups.
-- A migration is never edited once it was released; the next change is the next number.

-- `a_ms`, `b_ms`: `newest_ms` once more, for a direct conversation whose smaller (or larger) user has many of them; NULL
-- otherwise. An index by time has an entry to move with every message: for the few who have many conversations that is
-- worth it, and for everybody else's messages it costs nothing. The list of a user is what is NULL there, which is little,
-- and the newest of the rest.
ALTER TABLE convs ADD COLUMN a_ms INTEGER;
ALTER TABLE convs ADD COLUMN b_ms INTEGER;
UPDATE convs SET a_ms = newest_ms WHERE kind = 10 AND a IN (
    SELECT u FROM (SELECT a AS u FROM convs WHERE kind = 10 UNION ALL SELECT b FROM convs WHERE kind = 10 AND a < b)
    GROUP BY u HAVING count(*) >= 500);
UPDATE convs SET b_ms = newest_ms WHERE kind = 10 AND a < b AND b IN (
    SELECT u FROM (SELECT a AS u FROM convs WHERE kind = 10 UNION ALL SELECT b FROM convs WHERE kind = 10 AND a < b)
    GROUP BY u HAVING count(*) >= 500);
CREATE INDEX convs_of_smaller ON convs (kind, a, a_ms, b);
CREATE INDEX convs_of_larger ON convs (kind, b, b_ms, a);
DROP INDEX convs_by_larger;

-- Changed in the transaction in which a membership begins or ends.
ALTER TABLE chat_groups ADD COLUMN member_count INTEGER NOT NULL DEFAULT 0;
UPDATE chat_groups SET member_count = (SELECT count(*) FROM members m WHERE m.group_id = chat_groups.id);
