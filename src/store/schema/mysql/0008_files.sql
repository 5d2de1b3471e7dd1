-- Uploaded files: who claims one, and what refers to it.
-- A migration is never edited once it was released; the next change is the next number.
-- Run again from its beginning, it finds what it added.

-- Files that were kept under an address of their own, all of them since this migration; what was kept before is not
-- here, and stays. `due_ms`: when to look whether anything still holds it. Its row is the lock of a file.
CREATE TABLE IF NOT EXISTS files (
    file   BINARY(32)      NOT NULL PRIMARY KEY,
    thumb  BINARY(32)      NULL,
    due_ms BIGINT UNSIGNED NOT NULL,
    KEY files_by_due (due_ms),
    KEY files_by_thumb (thumb)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin ROW_FORMAT = DYNAMIC;

-- What a user has uploaded, by the digest of what was sent and by that of what is kept of it. `bytes`: what it weighs on
-- the user, once for each file.
CREATE TABLE IF NOT EXISTS file_claims (
    user_id  BIGINT UNSIGNED NOT NULL,
    digest   BINARY(32)      NOT NULL,
    file     BINARY(32)      NOT NULL,
    bytes    BIGINT UNSIGNED NOT NULL,
    until_ms BIGINT UNSIGNED NOT NULL,
    note     TEXT            NOT NULL,
    PRIMARY KEY (user_id, digest),
    KEY file_claims_by_file (file, user_id)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin ROW_FORMAT = DYNAMIC;

-- place 1: a message, a and b are its conversation and number. 2: an avatar, a is the user. 3: an icon, a is the group.
CREATE TABLE IF NOT EXISTS file_refs (
    file  BINARY(32)       NOT NULL,
    place TINYINT UNSIGNED NOT NULL,
    a     BIGINT UNSIGNED  NOT NULL,
    b     BIGINT UNSIGNED  NOT NULL,
    PRIMARY KEY (file, place, a, b),
    KEY file_refs_by_place (place, a, b)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin ROW_FORMAT = DYNAMIC;
