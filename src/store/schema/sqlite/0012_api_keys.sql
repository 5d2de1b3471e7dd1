-- Keys of backends that call the API for servers.
-- A migration is never edited once it was released; the next change is the next number.

-- `id`: drawn by lot, stands in the key. `scopes`: a bit for each thing that it may do. `hash`: of the secret, 32 bytes.
CREATE TABLE api_keys (
    id         INTEGER NOT NULL PRIMARY KEY,
    name       TEXT    NOT NULL,
    scopes     INTEGER NOT NULL,
    rate       INTEGER NOT NULL,
    hash       BLOB    NOT NULL,
    created_ms INTEGER NOT NULL,
    expires_ms INTEGER NOT NULL
) STRICT;
