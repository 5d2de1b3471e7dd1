-- What a user's uploads weigh.
-- A migration is never edited once it was released; the next change is the next number.

-- Bytes of the files that the user was the first to bring.
ALTER TABLE users ADD COLUMN upload_bytes INTEGER NOT NULL DEFAULT 0;
