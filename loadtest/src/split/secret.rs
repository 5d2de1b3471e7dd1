//! The secret that control and workers share, and how each shows that it has it without saying it.
//!
//! Owns: [`Secret`]. Both give a number that is used once; each proves with HMAC-SHA256 over both
//! and its own part, so that a proof is good for one connection and one direction.
//! Never: protects what is said afterwards: that is for a network of one's own, or a tunnel.

use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use data_encoding::HEXLOWER;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::limits::SECRET_LETTERS_MIN;

/// Where it is looked for without a file.
pub(crate) const SECRET_VARIABLE: &str = "AUTOCLIENT_SECRET";

/// Which end of a connection proves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum End {
    Control,
    Worker,
}

impl End {
    const fn name(self) -> &'static [u8] {
        match self {
            Self::Control => b"autoclient control",
            Self::Worker => b"autoclient worker",
        }
    }
}

/// A secret. Its letters are in no log and no report.
#[derive(Clone)]
pub(crate) struct Secret(Hmac<Sha256>);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret")
    }
}

impl Secret {
    /// Reads it from a file, or from the environment; `None`: it is in neither.
    ///
    /// # Errors
    /// The file cannot be read; the secret is too short.
    pub(crate) fn read(file: Option<&Path>) -> Result<Option<Self>> {
        let text = match file {
            Some(path) => {
                let text = std::fs::read_to_string(path);
                text.with_context(|| format!("cannot read a secret from {}", path.display()))?
            }
            None => match std::env::var(SECRET_VARIABLE) {
                Ok(text) => text,
                Err(std::env::VarError::NotPresent) => return Ok(None),
                Err(error) => return Err(error).context(SECRET_VARIABLE),
            },
        };
        Self::new(text.trim()).map(Some)
    }

    fn new(text: &str) -> Result<Self> {
        ensure!(
            text.chars().count() >= SECRET_LETTERS_MIN,
            "a secret has at least {SECRET_LETTERS_MIN} letters: take those of `openssl rand -hex 32`"
        );
        Ok(Self(Hmac::new_from_slice(text.as_bytes()).context("a secret")?))
    }

    fn mac(&self, end: End, worker: &str, control: &str) -> Hmac<Sha256> {
        let mut mac = self.0.clone();
        for part in [end.name(), worker.as_bytes(), control.as_bytes()] {
            mac.update(&(part.len() as u64).to_be_bytes());
            mac.update(part);
        }
        mac
    }

    /// What one end says: over the numbers that the worker and the control have given.
    pub(crate) fn proof(&self, end: End, worker: &str, control: &str) -> String {
        HEXLOWER.encode(&self.mac(end, worker, control).finalize().into_bytes())
    }

    /// Whether the other end has it, in a time that does not depend on where the proof is wrong.
    pub(crate) fn is_proved(&self, end: End, worker: &str, control: &str, proof: &str) -> bool {
        let proof = HEXLOWER.decode(proof.as_bytes()).unwrap_or_default();
        self.mac(end, worker, control).verify_slice(&proof).is_ok()
    }
}

/// A number that is used once.
///
/// # Errors
/// The system gives none.
pub(crate) fn nonce() -> Result<String> {
    let mut bytes = [0; 16];
    std::fs::File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut bytes)).context("/dev/urandom")?;
    Ok(HEXLOWER.encode(&bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proof_is_good_for_one_secret_one_end_and_one_connection() {
        let (ours, other) =
            (Secret::new("a secret of letters").expect("long"), Secret::new("another secret of").expect("long"));
        let (worker, control) = (nonce().expect("random"), nonce().expect("random"));
        assert_ne!(worker, control);
        let proof = ours.proof(End::Worker, &worker, &control);
        assert!(ours.is_proved(End::Worker, &worker, &control, &proof));
        assert!(!other.is_proved(End::Worker, &worker, &control, &proof));
        assert!(!ours.is_proved(End::Control, &worker, &control, &proof), "a proof that is sent back");
        assert!(!ours.is_proved(End::Worker, &control, &worker, &proof));
        for bad in ["", "00", "zz", &proof[2..], &format!("{proof}00")] {
            assert!(!ours.is_proved(End::Worker, &worker, &control, bad), "{bad}");
        }
    }

    #[test]
    fn a_secret_that_can_be_guessed_is_refused() {
        assert!(Secret::new("fifteen letters").is_err());
        assert!(!format!("{:?}", Secret::new("sixteen letters!").expect("long")).contains("sixteen"));
    }
}
