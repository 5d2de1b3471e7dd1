-- What has changed about users, for gateways that did not change it themselves.
-- A migration is never edited once it was released; the next change is the next number.

-- kind 1: token epoch or ban. kind 2: a membership, `other` is the group. kind 3: a block, `other` is who is blocked.
-- A row says who must be looked at; how things stand is read together with it. AUTOINCREMENT: whoever follows remembers
-- the last number, so none is given twice. Rows go after some hours.
CREATE TABLE changes (
    id      INTEGER PRIMARY KEY AUTOINCREMENT,
    user_id INTEGER NOT NULL,
    kind    INTEGER NOT NULL,
    other   INTEGER NOT NULL,
    -- Unix seconds of this machine.
    at_s    INTEGER NOT NULL
) STRICT;
