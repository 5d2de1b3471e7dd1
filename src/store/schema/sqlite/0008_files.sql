-- Uploaded files: who claims one, and what refers to it.
-- A migration is never edited once it was released; the next change is the next number.

-- Files that were kept under an address of their own, all of them since this migration; what was kept before is not
-- here, and stays. `due_ms`: when to look whether anything still holds it.
CREATE TABLE files (
    file   BLOB    NOT NULL PRIMARY KEY,
    thumb  BLOB,
    due_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX files_by_due ON files (due_ms);
CREATE INDEX files_by_thumb ON files (thumb) WHERE thumb IS NOT NULL;

-- What a user has uploaded, by the digest of what was sent and by that of what is kept of it. `bytes`: what it weighs on
-- the user, once for each file.
CREATE TABLE file_claims (
    user_id  INTEGER NOT NULL,
    digest   BLOB    NOT NULL,
    file     BLOB    NOT NULL,
    bytes    INTEGER NOT NULL,
    until_ms INTEGER NOT NULL,
    note     TEXT    NOT NULL,
    PRIMARY KEY (user_id, digest)
) STRICT, WITHOUT ROWID;
CREATE INDEX file_claims_by_file ON file_claims (file, user_id);

-- place 1: a message, a and b are its conversation and number. 2: an avatar, a is the user. 3: an icon, a is the group.
CREATE TABLE file_refs (
    file  BLOB    NOT NULL,
    place INTEGER NOT NULL,
    a     INTEGER NOT NULL,
    b     INTEGER NOT NULL,
    PRIMARY KEY (file, place, a, b)
) STRICT, WITHOUT ROWID;
CREATE INDEX file_refs_by_place ON file_refs (place, a, b);
