//! `autoclient tokens`: users of another system for a run, each with a token that this program
//! signs as that system would (HS256), in the lines that `--tokens` reads.
//!
//! Owns: the signing, and the question which number the gateway gives to each user.
//! Never: says the secret.

use std::fmt::Write as _;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use clap::Args;
use data_encoding::BASE64URL_NOPAD;
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;

use crate::clock::unix_seconds;
use crate::http::{self, Url};
use crate::interrupt::Interrupt;
use crate::limits::{CONNECTIONS_MAX, HS256_BYTES_MIN, TOKEN_HOURS_MAX};
use crate::options::{TARGET, allow};

/// `{"alg":"HS256","typ":"JWT"}`.
const HEAD: &str = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9";

#[derive(Args, Debug)]
pub(crate) struct Flags {
    /// The secret of the gateway's `jwt_keys`: a file with 32 bytes or more in one line.
    #[arg(long, value_name = "FILE")]
    jwt_secret: PathBuf,
    /// How many users. Those whom the gateway does not know yet are made by it.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=CONNECTIONS_MAX as i64))]
    users: u32,
    /// Their names (`sub`) are this and a number: load-1, load-2, …
    #[arg(long, default_value = "load-")]
    subject: String,
    /// The claim `iss`, where the gateway has a `jwt_issuer`.
    #[arg(long)]
    issuer: Option<String>,
    /// The claim `aud`, where the gateway has a `jwt_audience`.
    #[arg(long)]
    audience: Option<String>,
    /// How long the tokens are good for.
    #[arg(long, default_value_t = 24, value_parser = clap::value_parser!(u64).range(1..=TOKEN_HOURS_MAX))]
    hours: u64,
    /// Where the gateway listens: it is asked for the number of each user.
    #[arg(long, value_name = "HOST:PORT", default_value = TARGET)]
    target: String,
    /// Allow a target that is not this machine.
    #[arg(long)]
    i_own_the_target: bool,
}

/// Signs tokens and asks the gateway about each user. Gives the lines.
///
/// # Errors
/// The secret cannot be read or is too short; the gateway does not take the tokens.
pub(crate) fn lines(flags: &Flags, interrupt: &Interrupt) -> Result<String> {
    let secret = std::fs::read_to_string(&flags.jwt_secret);
    let secret = secret.with_context(|| format!("cannot read a secret from {}", flags.jwt_secret.display()))?;
    let secret = trimmed(&secret);
    ensure!(secret.len() >= HS256_BYTES_MIN, "a secret for HS256 has {HS256_BYTES_MIN} bytes or more");
    let key: Hmac<Sha256> = Hmac::new_from_slice(secret.as_bytes()).context("a secret")?;
    let url = Url::parse(&format!("http://{}/api/v1/me", flags.target))?;
    allow(&url, flags.i_own_the_target)?;
    let mut text = String::new();
    for place in 1..=flags.users {
        interrupt.check()?;
        let token = signed(&key, HEAD, &claims(flags, place, unix_seconds()).to_string());
        let answer = http::get(&url, Some(&token)).context("the gateway does not take the token of a user")?;
        let answer: Value = serde_json::from_slice(&answer).context("an answer that is no JSON")?;
        let id = answer["id"].as_u64().with_context(|| format!("no number of a user: {answer}"))?;
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{id} {token}");
    }
    Ok(text)
}

/// The secret in a file, as the gateway reads it: without a byte order mark and blanks around it.
fn trimmed(text: &str) -> &str {
    text.strip_prefix('\u{feff}').unwrap_or(text).trim()
}

fn claims(flags: &Flags, place: u32, now_s: u64) -> Value {
    let mut claims = json!({
        "sub": format!("{}{place}", flags.subject), "iat": now_s, "exp": now_s + flags.hours * 3_600,
    });
    for (name, value) in [("iss", &flags.issuer), ("aud", &flags.audience)] {
        if let Some(value) = value {
            claims[name] = json!(value);
        }
    }
    claims
}

/// A token (RFC 7515): the head as it is written, the claims, and the signature over both.
fn signed(key: &Hmac<Sha256>, head: &str, claims: &str) -> String {
    let input = format!("{head}.{}", BASE64URL_NOPAD.encode(claims.as_bytes()));
    let mut mac = key.clone();
    mac.update(input.as_bytes());
    format!("{input}.{}", BASE64URL_NOPAD.encode(&mac.finalize().into_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_read_as_the_gateway_reads_it() {
        for text in ["open sesame", "open sesame\n", "\u{feff}open sesame \r\n", "\u{feff}\r\n\topen sesame\n\n"] {
            assert_eq!(trimmed(text), "open sesame", "{text:?}");
        }
    }

    #[test]
    fn the_example_of_rfc_7515_is_signed_as_there() {
        let key = BASE64URL_NOPAD
            .decode(b"AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow")
            .expect("a key");
        let claims = "{\"iss\":\"joe\",\r\n \"exp\":1300819380,\r\n \"http://example.com/is_root\":true}";
        let head = "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9";
        let token = signed(&Hmac::new_from_slice(&key).expect("a key"), head, claims);
        assert!(token.ends_with(".dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"), "{token}");
        assert_eq!(BASE64URL_NOPAD.decode(HEAD.as_bytes()).expect("a head"), br#"{"alg":"HS256","typ":"JWT"}"#);
    }
}
