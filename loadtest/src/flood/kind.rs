//! Every flood: its name, how many attackers it has unless told otherwise, and what one of them
//! does.
//!
//! Owns: [`Kind`] and [`Manner`]. A new flood is a variant here, its bytes in `payload`, a row in
//! the README.

use clap::ValueEnum;

/// What the gateway is flooded with.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, ValueEnum)]
pub(crate) enum Kind {
    /// Pongs that were not asked for.
    Pongs,
    /// Pings, which want an answer.
    Pings,
    /// Messages of a thousand fragments of one byte, and of none.
    Fragments,
    /// Commands 6 about many users.
    Typing,
    /// Commands 7: two lists of 200 users in turn.
    Presence,
    /// Commands 3, about conversations that do not exist.
    Marks,
    /// Commands 4: the newest page of a group, again and again.
    Syncs,
    /// Commands 5.
    Lists,
    /// Direct messages, as fast as they are taken.
    Posts,
    /// Connections whose request head never ends; every second one sends a byte each second.
    HalfHeads,
    /// HTTP connections that have had their answer and stay.
    IdleHttp,
    /// Requests whose body never comes; every second one sends a byte each second.
    SlowBodies,
    /// Readers that stall: every second one a session that asks for pages, the others HTTP
    /// requests.
    SlowReaders,
    /// Connections that go as soon as they stand, by a reset or without a word.
    Connects,
    /// Logins, every second one with a wrong password.
    Logins,
    /// Registrations of new users.
    Registrations,
    /// Uploads of a picture of many pixels.
    Pictures,
    /// Guests of the chat room that speak as fast as they can.
    Guests,
}

/// What one attacker does with its connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Manner {
    /// A session that writes its round over and over, and reads.
    Session,
    /// A session that writes its round over and over, and never reads.
    DeafSession,
    /// A guest of the chat room that writes its round over and over, and reads.
    Guest,
    /// Writes an opening and nothing more, or a byte each second.
    Holder { trickles: bool },
    /// Writes a request, reads the answer and stays.
    Sitter,
    /// Writes requests and never reads.
    Deaf,
    /// Writes a request, reads the answer to its end, and comes again.
    Caller,
    /// Connects and goes.
    Knocker { resets: bool },
}

impl Kind {
    /// All of them, in the order in which `all` runs them.
    pub(crate) fn all() -> &'static [Self] {
        Self::value_variants()
    }

    /// As it is called on the command line and in reports.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Pongs => "pongs",
            Self::Pings => "pings",
            Self::Fragments => "fragments",
            Self::Typing => "typing",
            Self::Presence => "presence",
            Self::Marks => "marks",
            Self::Syncs => "syncs",
            Self::Lists => "lists",
            Self::Posts => "posts",
            Self::HalfHeads => "half-heads",
            Self::IdleHttp => "idle-http",
            Self::SlowBodies => "slow-bodies",
            Self::SlowReaders => "slow-readers",
            Self::Connects => "connects",
            Self::Logins => "logins",
            Self::Registrations => "registrations",
            Self::Pictures => "pictures",
            Self::Guests => "guests",
        }
    }

    /// How many attackers, unless told otherwise.
    pub(crate) const fn attackers(self) -> usize {
        match self {
            Self::Pongs | Self::Pings | Self::Fragments | Self::Typing | Self::Presence => 1_000,
            Self::Marks | Self::Syncs | Self::Lists => 1_000,
            Self::Posts | Self::Logins | Self::Registrations => 300,
            Self::HalfHeads | Self::IdleHttp => 10_000,
            Self::SlowBodies | Self::SlowReaders | Self::Guests => 5_000,
            Self::Connects => 512,
            Self::Pictures => 100,
        }
    }

    /// What attacker `place` does.
    pub(crate) const fn manner(self, place: usize) -> Manner {
        let odd = !place.is_multiple_of(2);
        match self {
            Self::Pongs | Self::Pings | Self::Fragments | Self::Typing | Self::Presence => Manner::Session,
            Self::Marks | Self::Syncs | Self::Lists | Self::Posts => Manner::Session,
            Self::HalfHeads | Self::SlowBodies => Manner::Holder { trickles: odd },
            Self::IdleHttp => Manner::Sitter,
            Self::SlowReaders if odd => Manner::DeafSession,
            Self::SlowReaders => Manner::Deaf,
            Self::Connects => Manner::Knocker { resets: odd },
            Self::Logins | Self::Registrations | Self::Pictures => Manner::Caller,
            Self::Guests => Manner::Guest,
        }
    }

    /// Whether attackers need users' tokens.
    pub(crate) const fn needs_users(self) -> bool {
        matches!(self.manner(1), Manner::Session | Manner::DeafSession) || matches!(self, Self::Pictures)
    }

    /// Whether attackers need a group with a history.
    pub(crate) const fn needs_library(self) -> bool {
        matches!(self, Self::Syncs | Self::SlowReaders)
    }
}

impl Manner {
    /// Whether the attacker gathers before the flood begins: its connecting is not what floods.
    pub(crate) const fn gathers(self) -> bool {
        matches!(self, Self::Session | Self::DeafSession | Self::Guest)
    }

    /// Whether it never reads once its connection stands.
    pub(crate) const fn is_deaf(self) -> bool {
        matches!(self, Self::DeafSession | Self::Deaf)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_command_line() {
        for kind in Kind::all() {
            let value = kind.to_possible_value().expect("none is hidden");
            assert_eq!(value.get_name(), kind.name());
            assert!(kind.attackers() < 19_000, "{}: more than a process has descriptors", kind.name());
        }
        assert_eq!(Kind::all().len(), 18);
        assert!(Kind::SlowReaders.needs_users() && !Kind::HalfHeads.needs_users() && !Kind::Guests.needs_users());
    }
}
