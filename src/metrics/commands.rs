//! What clients ask for, as it is counted.
//!
//! Owns: the closed list, which is the label values: a command without a label cannot be counted.

use super::labels::labels;

labels! {
    /// What a command is counted as.
    CommandKind {
        /// Nothing but that the client is there.
        Heartbeat = "heartbeat",
        /// A message to a user.
        Direct = "direct",
        /// A message to a group.
        Group = "group",
        /// A page of a conversation.
        Sync = "sync",
        /// How far it has received and read.
        Cursor = "cursor",
        /// A page of its conversations.
        Convs = "convs",
        /// A guest's words.
        Say = "say",
        /// Its user types.
        Typing = "typing",
        /// Which users it wants to know to be online.
        Watch = "watch",
        /// A message is taken back.
        Recall = "recall",
    }
}
