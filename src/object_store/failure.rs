//! Why an object store did not do what it was asked, in words for an operator.
//!
//! Owns: [`ObjectError`]: what failed, whether that says that the store is away or that the
//! settings are wrong, and what to look at for the codes that every S3 server has.
//! Never: holds a key or a signed URL, nor more of a server's text than a line.

use std::io;

use crate::metrics::objects::ObjectOutcome;

/// Characters of a server's own words that are shown.
const SAID_CHARS_MAX: usize = 200;
/// Bytes of an answer in which its code is looked for: it stands first.
const LOOKED_BYTES_MAX: usize = 4 * 1024;

/// What a server says of a signature in a query that is too old, or not good yet.
const TIMES: [&str; 2] = ["Request has expired", "Request is not valid yet"];
const CLOCK: &str = "; the clock of this machine is not the store's";

/// Why a request was not done.
#[derive(Debug, thiserror::Error)]
pub enum ObjectError {
    /// No connection, or it was lost.
    #[error("it cannot be reached: {0}")]
    Unreachable(String),
    /// No answer in time.
    #[error("it does not answer in time")]
    Late,
    /// It has just failed for others, so it was not asked.
    #[error("it has just failed, and is not asked for a moment")]
    Away,
    /// Too many requests are under way.
    #[error("too many requests to it are under way")]
    Busy,
    /// It says that it has failed itself.
    #[error("it fails: {0}")]
    Failed(Told),
    /// It does not allow this, or does not take it for what it is.
    #[error("it refuses: {0}{hint}", hint = .0.hint())]
    Refused(Told),
    /// What it says is no answer to what it was asked.
    #[error("its answer makes no sense: {0}")]
    Nonsense(&'static str),
    /// What was to be sent cannot be read.
    #[error("what is to be sent to it cannot be read: {0}")]
    Disk(io::Error),
}

/// What a server says of a failure.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Told {
    status: u16,
    /// S3's own code, empty if there was none.
    code: String,
    said: String,
}

impl std::fmt::Display for Told {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.status)?;
        if !self.code.is_empty() {
            write!(f, " {}", self.code)?;
        }
        if !self.said.is_empty() {
            write!(f, " ({})", self.said)?;
        }
        Ok(())
    }
}

impl Told {
    /// Reads an answer of a status that is no success.
    pub(super) fn read(status: u16, body: &[u8]) -> Self {
        let text = String::from_utf8_lossy(body.get(..LOOKED_BYTES_MAX).unwrap_or(body));
        let code = element(&text, "Code").filter(|code| code.bytes().all(|byte| byte.is_ascii_alphanumeric()));
        let said = element(&text, "Message").unwrap_or_default();
        let said = said.chars().filter(|c| !c.is_control()).take(SAID_CHARS_MAX).collect();
        let code = code.unwrap_or_default().chars().take(SAID_CHARS_MAX).collect();
        Self { status, code, said }
    }

    /// S3's code, empty if there was none.
    pub(super) fn code(&self) -> &str {
        &self.code
    }

    /// Which setting is wrong then, as far as the code tells.
    fn hint(&self) -> &'static str {
        match self.code.as_str() {
            // Of a signature in the query: `SIGNED` ago, or ahead of the store's clock.
            "AccessDenied" if TIMES.iter().any(|said| self.said.contains(said)) => CLOCK,
            "InvalidAccessKeyId" => "; s3_access_key is not known there",
            "SignatureDoesNotMatch" => "; s3_secret_key is not the one of s3_access_key",
            "NoSuchBucket" => "; there is no such bucket: see `files`",
            "InvalidBucketName" => "; `files` names a bucket that cannot be there",
            "AccessDenied" | "AllAccessDisabled" => {
                "; s3_access_key may not do this: it wants to list, read, write and delete in the bucket"
            }
            "AuthorizationHeaderMalformed"
            | "AuthorizationQueryParametersError"
            | "IllegalLocationConstraintException" => "; s3_region is not the bucket's",
            "PermanentRedirect" | "TemporaryRedirect" => "; s3_endpoint or s3_region is not the bucket's",
            "RequestTimeTooSkewed" => CLOCK,
            "" if self.status / 100 == 3 => "; s3_endpoint leads elsewhere",
            "" if self.status == 403 => "; s3_access_key or s3_secret_key is wrong, or may not do this",
            "" => "; is s3_endpoint that of an S3 server, and s3_path_style as it wants it?",
            _ => "",
        }
    }
}

/// The text of the first element of that name: an error of S3 is flat.
fn element<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(&format!("<{name}>"))?;
    Some(rest.split_once('<')?.0)
}

impl ObjectError {
    /// Whether nothing but another setting mends it.
    #[must_use]
    pub const fn is_refusal(&self) -> bool {
        matches!(self, Self::Refused(_))
    }

    /// Whether another try may do better at once.
    pub(super) const fn is_passing(&self) -> bool {
        matches!(self, Self::Unreachable(_) | Self::Failed(_))
    }

    /// Whether it says that the store is away.
    pub(super) const fn is_outage(&self) -> bool {
        matches!(self, Self::Unreachable(_) | Self::Late | Self::Failed(_))
    }

    /// The label of its kind.
    pub(super) const fn outcome(&self) -> ObjectOutcome {
        match self {
            Self::Unreachable(_) => ObjectOutcome::Unreachable,
            Self::Late => ObjectOutcome::Late,
            Self::Away => ObjectOutcome::Away,
            Self::Busy => ObjectOutcome::Busy,
            Self::Refused(_) => ObjectOutcome::Refused,
            Self::Failed(_) | Self::Nonsense(_) | Self::Disk(_) => ObjectOutcome::Failed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_server_says_is_told_with_what_to_look_at() {
        let xml = "<?xml version=\"1.0\"?><Error><Code>NoSuchBucket</Code><Message>The bucket\nis not here</Message>";
        let told = Told::read(404, xml.as_bytes());
        let text = ObjectError::Refused(told).to_string();
        assert_eq!(text, "it refuses: 404 NoSuchBucket (The bucketis not here); there is no such bucket: see `files`");
        let text = ObjectError::Refused(Told::read(403, b"")).to_string();
        assert_eq!(text, "it refuses: 403; s3_access_key or s3_secret_key is wrong, or may not do this");
    }

    #[test]
    fn a_wrong_clock_is_told_from_a_key_that_may_not() {
        for (said, hint) in [
            ("Request has expired", "the clock"),
            ("Request is not valid yet", "the clock"),
            ("Access Denied", "s3_access_key may not"),
        ] {
            let xml = format!("<Error><Code>AccessDenied</Code><Message>{said}</Message></Error>");
            let text = ObjectError::Refused(Told::read(403, xml.as_bytes())).to_string();
            assert!(text.contains(&format!("; {hint}")), "{text}");
        }
    }

    #[test]
    fn what_is_no_error_of_s3_is_shown_within_bounds() {
        for body in [&b"<Code>"[..], b"<Code></Code>", b"<Code>\x00\xff</Code>", b"\xff\xfe", b"<Message>x"] {
            assert_eq!(Told::read(500, body).to_string(), "500", "{body:?}");
        }
        let long = format!("<Code>{}</Code><Message>{}</Message>", "a".repeat(999), "b".repeat(9_999));
        assert!(Told::read(500, long.as_bytes()).to_string().len() < 2 * SAID_CHARS_MAX + 20);
    }
}
