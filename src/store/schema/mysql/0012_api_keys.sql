-- Keys of backends that call the API for servers.
-- A migration is never edited once it was released; the next change is the next number.

-- `id`: drawn by lot, stands in the key. `scopes`: a bit for each thing that it may do. `hash`: of the secret.
CREATE TABLE IF NOT EXISTS api_keys (
    id         INT UNSIGNED    NOT NULL PRIMARY KEY,
    name       VARCHAR(250)    NOT NULL,
    scopes     INT UNSIGNED    NOT NULL,
    rate       INT UNSIGNED    NOT NULL,
    hash       BINARY(32)      NOT NULL,
    created_ms BIGINT UNSIGNED NOT NULL,
    expires_ms BIGINT UNSIGNED NOT NULL
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin ROW_FORMAT = DYNAMIC;
