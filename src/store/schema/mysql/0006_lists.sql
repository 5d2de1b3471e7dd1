-- Lists that cost the same however long they are: conversations by user and time, and the sizes of groups.
-- A migration is never edited once it was released; the next change is the next number.
-- Run again from its beginning, it finds what it added; `migrate.rs` takes that as done.

-- `a_ms`, `b_ms`: `newest_ms` once more, for a direct conversation whose smaller (or larger) user has many of them; NULL
-- otherwise. An index by time has an entry to move with every message: for the few who have many conversations that is
-- worth it, and for everybody else's messages it costs nothing. The list of a user is what is NULL there, which is little,
-- and the newest of the rest.
-- One statement, so that all of it is there or nothing.
ALTER TABLE convs
    ADD COLUMN a_ms BIGINT UNSIGNED NULL,
    ADD COLUMN b_ms BIGINT UNSIGNED NULL,
    ADD KEY convs_of_smaller (kind, a, a_ms, b),
    ADD KEY convs_of_larger (kind, b, b_ms, a),
    DROP KEY convs_by_larger;

UPDATE convs c JOIN (
    SELECT u FROM (SELECT a AS u FROM convs WHERE kind = 10 UNION ALL SELECT b FROM convs WHERE kind = 10 AND a < b) d
    GROUP BY u HAVING COUNT(*) >= 500
) many ON c.kind = 10 AND c.a = many.u SET c.a_ms = c.newest_ms;

UPDATE convs c JOIN (
    SELECT u FROM (SELECT a AS u FROM convs WHERE kind = 10 UNION ALL SELECT b FROM convs WHERE kind = 10 AND a < b) d
    GROUP BY u HAVING COUNT(*) >= 500
) many ON c.kind = 10 AND c.b = many.u AND c.a < c.b SET c.b_ms = c.newest_ms;

-- Changed in the transaction in which a membership begins or ends.
ALTER TABLE chat_groups ADD COLUMN member_count BIGINT UNSIGNED NOT NULL DEFAULT 0;

UPDATE chat_groups g SET g.member_count = (SELECT COUNT(*) FROM members m WHERE m.group_id = g.id);
