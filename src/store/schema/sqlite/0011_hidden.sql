-- What nobody can read does not count as unread.
-- A migration is never edited once it was released; the next change is the next number.

-- 1: a recall, or what is left of the message that it takes back. Beside the body, because a count looks at thousands of
-- rows and at no body. What was recalled before this migration counts until it is read, as it did.
ALTER TABLE messages ADD COLUMN hidden INTEGER NOT NULL DEFAULT 0;
