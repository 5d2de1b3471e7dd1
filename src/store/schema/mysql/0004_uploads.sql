-- What a user's uploads weigh.
-- A migration is never edited once it was released; the next change is the next number.
-- Run again from its beginning, it finds what it added; `migrate.rs` takes that as done.

-- Bytes of the files that the user was the first to bring.
ALTER TABLE users ADD COLUMN upload_bytes BIGINT UNSIGNED NOT NULL DEFAULT 0;
