-- Logins: one row for each token that can be ended alone.
-- A migration is never edited once it was released; the next change is the next number.

-- `login`: below 2^24, drawn by lot. A token that names a login without a row is void. `agent`: what the program called
-- itself that logged in. `used_ms`: moved on once an hour at most.
CREATE TABLE logins (
    user_id    INTEGER NOT NULL,
    login      INTEGER NOT NULL,
    agent      TEXT    NOT NULL,
    address    TEXT    NOT NULL,
    created_ms INTEGER NOT NULL,
    used_ms    INTEGER NOT NULL,
    expires_ms INTEGER NOT NULL,
    PRIMARY KEY (user_id, login)
) STRICT, WITHOUT ROWID;
