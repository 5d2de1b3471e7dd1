-- Who has blocked a user: asked when a session opens, so that neither of the two hears of the other.
-- A migration is never edited once it was released; the next change is the next number.

ALTER TABLE blocks ADD KEY blocks_by_blocked (blocked, owner);
