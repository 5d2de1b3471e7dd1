//! How the conversation itself says that one of its messages was taken back (`cmd` 8).
//!
//! Owns: the two bodies that only the server makes: of the message that says so, and of what is
//! left of the old one. Clients cannot make them: `recall` and `recalled` are dropped from what
//! they send, as the server's other fields are.
//! Never: reaches an old page, which would show an empty message.

use std::sync::Arc;

use crate::ids::Seq;

/// What is left of a message that was recalled.
pub const BLANK: &str = r#""media":1,"recalled":true"#;

/// How the body begins that names the message it recalls.
const RECALL: &str = r#""media":1,"recall":"#;

/// The body of the message that recalls the message `seq` of its conversation.
#[must_use]
pub fn body(seq: Seq) -> Arc<str> {
    format!("{RECALL}{}", seq.get()).into()
}

/// Whether a message is for sessions of our own protocol only: it recalls another one, was
/// recalled, or says what has happened in a group.
#[must_use]
pub fn is_hidden(body: &str) -> bool {
    body.starts_with(RECALL) || body == BLANK || super::line::is_line(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_only_the_server_makes_is_hidden_from_old_pages() {
        let body = body(Seq::new(7).expect("small"));
        assert_eq!(&*body, r#""media":1,"recall":7"#);
        assert!(is_hidden(&body) && is_hidden(BLANK));
        assert!(!is_hidden(r#""media":1,"content":"hi""#) && !is_hidden(""));
    }
}
