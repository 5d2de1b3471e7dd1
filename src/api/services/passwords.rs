//! Password hashing, away from everybody else.
//!
//! Owns: the algorithm (argon2id with the parameters that OWASP's password storage cheat sheet names first: 19 MiB, two
//! passes, one lane), and the line in front of it.
//! Never: runs on the runtime's own threads, or on more than half of the machine's cores; the shards need the others.
//! Bounds: [`limits::PASSWORDS_MAX`] passwords in the line, [`limits::PASSWORD_MS_MAX`] in it.

use std::sync::Arc;
use std::time::Duration;

use argon2::Argon2;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use md5::{Digest, Md5};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::Trouble;
use crate::limits;
use crate::store::OLD_PASSWORD;

/// The hasher; clones share its line.
#[derive(Clone)]
pub struct Passwords {
    /// Everybody who waits or works.
    line: Arc<Semaphore>,
    /// Everybody who works.
    desks: Arc<Semaphore>,
    /// A hash that no password fits, so that an unknown user costs the same time as a wrong password.
    nobody: Arc<str>,
}

impl Passwords {
    /// A hasher that works on `threads` passwords at once. Takes the time of one hash.
    ///
    /// # Errors
    /// The operating system has no randomness for a salt.
    pub fn new(threads: usize) -> Result<Self, Trouble> {
        Ok(Self {
            line: Arc::new(Semaphore::new(limits::PASSWORDS_MAX)),
            desks: Arc::new(Semaphore::new(threads.max(1))),
            nobody: hashed("").ok_or(Trouble::Broken)?.into(),
        })
    }

    /// The PHC string of `password`, with a fresh salt.
    ///
    /// # Errors
    /// [`Trouble::Busy`]: the line is full, or the turn did not come in time.
    pub async fn hash(&self, password: String) -> Result<String, Trouble> {
        self.at_desk(move || hashed(&password)).await?.ok_or(Trouble::Broken)
    }

    /// Whether `password` fits the PHC string `stored`. Without one, or with one that cannot be read, the answer is no,
    /// after the same time.
    ///
    /// # Errors
    /// As [`Self::hash`].
    pub async fn fits(&self, password: String, stored: Option<String>) -> Result<bool, Trouble> {
        let nobody = Arc::clone(&self.nobody);
        self.at_desk(move || {
            let old = stored.as_deref().and_then(|text| text.strip_prefix(OLD_PASSWORD)?.split_once('$'));
            let fits_old = old.is_some_and(|(salt, digest)| is_md5(&password, salt, digest));
            if fits_old {
                // The new hash, which follows, takes the time.
                return true;
            }
            let stored = stored.as_deref().and_then(|text| PasswordHash::new(text).ok());
            let known = stored.is_some();
            let Some(hash) = stored.or_else(|| PasswordHash::new(&nobody).ok()) else { return false };
            // In this order: the hash is computed also when nobody is known by it.
            Argon2::default().verify_password(password.as_bytes(), &hash).is_ok() && known
        })
        .await
    }

    /// Whether `stored` is of an old system, and to be replaced as soon as the password is known.
    #[must_use]
    pub fn is_old(stored: &str) -> bool {
        stored.starts_with(OLD_PASSWORD)
    }

    async fn at_desk<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Trouble> {
        let (place, desk) = self.wait().await?;
        // The permits go with the work: a client that goes away does not make room for another hash beside its own.
        let work = move || {
            let result = work();
            drop((desk, place));
            result
        };
        tokio::task::spawn_blocking(work).await.map_err(|_| Trouble::Broken)
    }

    async fn wait(&self) -> Result<(OwnedSemaphorePermit, OwnedSemaphorePermit), Trouble> {
        let place = Arc::clone(&self.line).try_acquire_owned().map_err(|_| Trouble::Busy)?;
        let desk = Arc::clone(&self.desks).acquire_owned();
        match tokio::time::timeout(Duration::from_millis(limits::PASSWORD_MS_MAX), desk).await {
            Ok(Ok(desk)) => Ok((place, desk)),
            Ok(Err(_)) | Err(_) => Err(Trouble::Busy),
        }
    }
}

/// The old systems' check (contract, A.6). In constant time, although whoever can measure it can also break md5.
fn is_md5(password: &str, salt: &str, digest: &str) -> bool {
    let made = Md5::new().chain_update(password).chain_update(salt).finalize();
    let made: String = made.iter().map(|byte| format!("{byte:02x}")).collect();
    let differing = made.bytes().zip(digest.bytes()).fold(0, |all, (one, other)| all | (one ^ other));
    made.len() == digest.len() && differing == 0
}

fn hashed(password: &str) -> Option<String> {
    Argon2::default().hash_password(password.as_bytes()).ok().map(|hash| hash.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run<T>(work: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime").block_on(work)
    }

    #[test]
    fn a_password_fits_its_own_hash_only() {
        let passwords = Passwords::new(1).expect("randomness");
        run(async {
            let stored = passwords.hash("pw&x+1".to_owned()).await.expect("a free desk");
            assert!(stored.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{stored}");
            assert_eq!(passwords.fits("pw&x+1".to_owned(), Some(stored.clone())).await, Ok(true));
            assert_eq!(passwords.fits("pw&x+2".to_owned(), Some(stored)).await, Ok(false));
            assert_eq!(passwords.fits(String::new(), None).await, Ok(false), "not even the text behind the dummy");
            assert_eq!(passwords.fits("!".to_owned(), Some("!".to_owned())).await, Ok(false), "an unusable password");
        });
    }

    #[test]
    fn an_old_password_fits_until_it_is_replaced() {
        let passwords = Passwords::new(1).expect("randomness");
        run(async {
            // md5("123456" + "004321")
            let stored = format!("{OLD_PASSWORD}004321${}", "8b07005ee8f863641b81e8f0636c41ba");
            assert!(Passwords::is_old(&stored) && !Passwords::is_old("$argon2id$v=19$"));
            assert_eq!(passwords.fits("123456".to_owned(), Some(stored.clone())).await, Ok(true));
            assert_eq!(passwords.fits("123457".to_owned(), Some(stored.clone())).await, Ok(false));
            assert_eq!(passwords.fits(stored.clone(), Some(stored)).await, Ok(false));
            for broken in [OLD_PASSWORD.to_owned(), format!("{OLD_PASSWORD}$"), format!("{OLD_PASSWORD}1$ff")] {
                assert_eq!(passwords.fits(String::new(), Some(broken)).await, Ok(false));
            }
        });
    }

    #[test]
    fn a_full_line_refuses_at_once() {
        let passwords = Passwords::new(1).expect("randomness");
        let everybody = u32::try_from(limits::PASSWORDS_MAX).expect("a small number");
        let _line = Arc::clone(&passwords.line).try_acquire_many_owned(everybody).expect("an empty line");
        assert_eq!(run(passwords.hash("x".to_owned())), Err(Trouble::Busy));
    }
}
