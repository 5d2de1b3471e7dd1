-- What nobody can read does not count as unread.
-- A migration is never edited once it was released; the next change is the next number.
-- Run again from its beginning, it finds what it added; `migrate.rs` takes that as done.

-- TRUE: a recall, or what is left of the message that it takes back. Beside the body, because a count looks at thousands
-- of rows and at no body. A column at the end of a table is added at once, however long the table is; so what was
-- recalled before this migration is not looked for: it counts until it is read, as it did.
ALTER TABLE messages ADD COLUMN hidden BOOLEAN NOT NULL DEFAULT FALSE;
