//! What clients say, and which part does it.
//!
//! Owns: the table from a command to the part that carries it out, and what each is counted as and
//! costs.

use super::Shard;
use super::sessions::prices::Price;
use crate::ids::{ConnId, GroupId};
use crate::wire::command::RefusedCommand;
use crate::wire::{Command, Post, Profile, Target, push};

/// Index into [`crate::metrics::Tally::commands`].
const fn command_index(command: &Command) -> usize {
    match command {
        Command::Heartbeat => 0,
        Command::Post(Post { to: Target::User(_), .. }) => 1,
        Command::Post(Post { to: Target::Group(_), .. }) => 2,
        Command::Sync(_) => 3,
        Command::Cursor(_) => 4,
        Command::Convs(_) => 5,
        Command::Say(_) => 6,
        Command::Typing(_) => 7,
        Command::Watch(_) => 8,
        Command::Recall(_) => 9,
    }
}

impl Shard {
    /// A client's command.
    pub(super) fn command(&mut self, conn: ConnId, command: Command) {
        let Self { io, home, sessions, posting, social, .. } = self;
        let gap_ms = sessions.table.get(conn).map_or(0, |session| session.silent_ms(io.now_ms()));
        let Some(session) = sessions.hear(io, conn) else { return };
        let profile = session.profile;
        sessions.pay(io, conn, &Price::of(&command));
        if let Some(count) = io.tally.commands.get_mut(command_index(&command)) {
            *count += 1;
        }
        match command {
            Command::Heartbeat if profile == Profile::V2 => {
                sessions.answer(io, conn, push::heartbeat(io.now.wall_ms));
            }
            Command::Heartbeat => {}
            Command::Post(post) => {
                sessions.note_post(io, conn, gap_ms);
                posting.post(io, sessions, conn, post);
            }
            Command::Sync(sync) => posting.sync(io, sessions, conn, sync),
            Command::Cursor(cursor) => social.cursor(io, sessions, home, conn, &cursor),
            Command::Convs(convs) => posting.convs(io, sessions, conn, convs),
            Command::Typing(of) => social.typing(io, sessions, conn, of),
            Command::Watch(users) => social.watch(io, sessions, conn, users),
            Command::Recall(recall) => posting.recall(io, sessions, conn, recall),
            Command::Say(body) => {
                posting.post(io, sessions, conn, Post { to: Target::Group(GroupId::ROOM), cid: None, body });
            }
        }
        sessions.regulate(io, conn);
    }

    /// A client's message that is no command.
    pub(super) fn unreadable(&mut self, conn: ConnId, refused: &RefusedCommand) {
        let Self { io, sessions, .. } = self;
        if sessions.hear(io, conn).is_some() {
            sessions.pay(io, conn, &Price::UNREADABLE);
            sessions.tell_refusal(io, conn, refused.reject, refused.cid.as_deref(), None);
            sessions.regulate(io, conn);
        }
    }
}
