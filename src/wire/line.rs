//! What the server says in a group about the group: members that came and went, its new name.
//!
//! Owns: the body of such a message. Clients cannot make one: `happened` is dropped from what they
//! send, as the server's other fields are.
//! Never: reaches an old page, which would show an empty message.

use std::sync::Arc;

use crate::ids::UserId;

/// How the body begins.
pub const LINE: &str = r#""media":1,"happened":{"what":""#;

/// What has happened. The message's author did it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Line<'a> {
    /// A user has come, or was added by the author.
    Joined { user: UserId },
    /// The author has gone.
    Left { user: UserId },
    /// The author has removed a member.
    Removed { user: UserId },
    /// The author has given the group another name.
    Renamed { name: &'a str },
}

impl Line<'_> {
    /// The body of the message that says so.
    #[must_use]
    pub fn body(self) -> Arc<str> {
        let (what, user) = match self {
            Self::Joined { user } => ("joined", user),
            Self::Left { user } => ("left", user),
            Self::Removed { user } => ("removed", user),
            Self::Renamed { name } => {
                let name = serde_json::Value::from(name);
                return format!(r#"{LINE}renamed","name":{name}}}"#).into();
            }
        };
        format!(r#"{LINE}{what}","user":{user}}}"#).into()
    }
}

/// Whether a message says what has happened in its group.
#[must_use]
pub fn is_line(body: &str) -> bool {
    body.starts_with(LINE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_json_that_says_what_has_happened() {
        let user = UserId::new(7).expect("small");
        let said = |line: Line<'_>| {
            let body = line.body();
            assert!(is_line(&body), "{body}");
            let value: serde_json::Value = serde_json::from_str(&format!("{{{body}}}")).expect("JSON");
            value["happened"].clone()
        };
        assert_eq!(said(Line::Joined { user }), serde_json::json!({ "what": "joined", "user": 7 }));
        assert_eq!(said(Line::Left { user }), serde_json::json!({ "what": "left", "user": 7 }));
        assert_eq!(said(Line::Removed { user }), serde_json::json!({ "what": "removed", "user": 7 }));
        let name = "\"<b>\n";
        assert_eq!(said(Line::Renamed { name }), serde_json::json!({ "what": "renamed", "name": name }));
        assert!(!is_line(r#""media":1,"content":"hi""#));
    }
}
