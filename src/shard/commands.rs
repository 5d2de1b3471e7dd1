//! What clients say, and which part does it.
//!
//! Owns: the table from a command to the part that carries it out, and what each is counted as and
//! costs.

use super::Shard;
use super::sessions::prices::Price;
use crate::ids::{ConnId, GroupId};
use crate::metrics::commands::CommandKind;
use crate::wire::command::RefusedCommand;
use crate::wire::{Command, Post, Profile, Target, push};

/// What a command is counted as.
const fn kind_of(command: &Command) -> CommandKind {
    match command {
        Command::Heartbeat => CommandKind::Heartbeat,
        Command::Post(Post { to: Target::User(_), .. }) => CommandKind::Direct,
        Command::Post(Post { to: Target::Group(_), .. }) => CommandKind::Group,
        Command::Sync(_) => CommandKind::Sync,
        Command::Cursor(_) => CommandKind::Cursor,
        Command::Convs(_) => CommandKind::Convs,
        Command::Say(_) => CommandKind::Say,
        Command::Typing(_) => CommandKind::Typing,
        Command::Watch(_) => CommandKind::Watch,
        Command::Recall(_) => CommandKind::Recall,
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
        io.tally.commands[kind_of(&command) as usize] += 1;
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
