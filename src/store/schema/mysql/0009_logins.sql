-- Logins: one row for each token that can be ended alone.
-- A migration is never edited once it was released; the next change is the next number.

-- `login`: below 2^24, drawn by lot. A token that names a login without a row is void. `agent`: what the program called
-- itself that logged in. `used_ms`: moved on once an hour at most.
CREATE TABLE IF NOT EXISTS logins (
    user_id    BIGINT UNSIGNED NOT NULL,
    login      INT UNSIGNED    NOT NULL,
    agent      TEXT            NOT NULL,
    address    VARCHAR(64)     NOT NULL,
    created_ms BIGINT UNSIGNED NOT NULL,
    used_ms    BIGINT UNSIGNED NOT NULL,
    expires_ms BIGINT UNSIGNED NOT NULL,
    PRIMARY KEY (user_id, login)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin ROW_FORMAT = DYNAMIC;
