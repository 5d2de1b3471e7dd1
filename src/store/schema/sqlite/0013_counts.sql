-- Unread messages are counted in an index, without a look at the messages.
-- A migration is never edited once it was released; the next change is the next number.

-- The messages of a conversation are scattered over the table, as they were written: a count that looked at the sender of
-- a thousand of them read a thousand pages. The two columns make an entry some five bytes longer and writing no dearer.
-- Not UNIQUE any more, which columns beside a key cannot be: `append.rs` moves a head only from where it was.
DROP INDEX messages_by_seq;
CREATE INDEX messages_by_seq ON messages (conv, seq, sender, hidden);
