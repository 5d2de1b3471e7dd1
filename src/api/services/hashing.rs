//! argon2id in memory that is kept.
//!
//! Owns: the algorithm and its parameters (OWASP's password storage cheat sheet names them first:
//! 19 MiB, two passes, one lane), the memory of one hashing thread, the check of an old system's
//! md5.
//! Never: gives the memory back between two passwords. An allocator keeps freed blocks of this size
//! for each thread that ever asked, and a process that has seen thirty logins would hold hundreds
//! of megabytes for good.
//! Bounds: the memory of our own parameters for each thread; a stored hash with others is computed
//! in memory of its own, of at most [`limits::PASSWORD_MEMORY_BYTES_MAX`], that is given back.

use argon2::password_hash::phc::{Output, ParamsString, PasswordHash, Salt};
use argon2::{Algorithm, Argon2, Block, Params, Version};
use data_encoding::HEXLOWER;
use md5::{Digest, Md5};

use crate::limits;
use crate::store::OLD_PASSWORD;

/// The memory of one hashing thread. Taken at the first password, then kept.
#[derive(Default)]
pub(super) struct Memory {
    blocks: Vec<Block>,
}

impl Memory {
    /// The PHC string of `password`, with a fresh salt; `None` without randomness.
    pub(super) fn hashed(&mut self, password: &str) -> Option<String> {
        let mut salt = [0; Salt::RECOMMENDED_LENGTH];
        getrandom::fill(&mut salt).ok()?;
        let argon2 = Argon2::default();
        let mut out = [0; Params::DEFAULT_OUTPUT_LEN];
        self.run(&argon2, password, &salt, &mut out)?;
        let hash = PasswordHash {
            algorithm: Algorithm::default().ident(),
            version: Some(Version::default().into()),
            params: ParamsString::try_from(argon2.params()).ok()?,
            salt: Some(Salt::new(&salt).ok()?),
            hash: Some(Output::new(&out).ok()?),
        };
        Some(hash.to_string())
    }

    /// Whether `password` fits the PHC string `stored`. Without one, or with one that cannot be
    /// read, the answer is no, after the time of computing `nobody`.
    pub(super) fn fits(&mut self, password: &str, stored: Option<&str>, nobody: &str) -> bool {
        let old = stored.and_then(|text| text.strip_prefix(OLD_PASSWORD)?.split_once('$'));
        if old.is_some_and(|(salt, digest)| is_md5(password, salt, digest)) {
            // The new hash, which follows, takes the time.
            return true;
        }
        let stored = stored.and_then(|text| PasswordHash::new(text).ok());
        if let Some(fits) = stored.and_then(|hash| self.computes(password, &hash)) {
            return fits;
        }
        if let Ok(hash) = PasswordHash::new(nobody) {
            let _: Option<bool> = self.computes(password, &hash);
        }
        false
    }

    /// Bytes that are kept.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.blocks.capacity() * Block::SIZE
    }

    /// Whether `password` has this hash; `None` when that cannot be computed.
    fn computes(&mut self, password: &str, hash: &PasswordHash) -> Option<bool> {
        let (salt, wanted) = (hash.salt.as_ref()?, hash.hash.as_ref()?);
        let algorithm = Algorithm::try_from(hash.algorithm.as_str()).ok()?;
        let version = hash.version.map_or_else(|| Ok(Version::default()), Version::try_from).ok()?;
        let argon2 = Argon2::new(algorithm, version, Params::try_from(hash).ok()?);
        let mut buffer = [0; Output::MAX_LENGTH];
        let out = buffer.get_mut(..wanted.len())?;
        self.run(&argon2, password, salt.as_ref(), out)?;
        // Compares in constant time.
        Some(Output::new(out).is_ok_and(|made| made == *wanted))
    }

    fn run(&mut self, argon2: &Argon2<'_>, password: &str, salt: &[u8], out: &mut [u8]) -> Option<()> {
        let wanted = argon2.params().block_count();
        let ours = Params::DEFAULT.block_count();
        if wanted <= ours {
            self.blocks.resize(ours, Block::default());
            let blocks = self.blocks.get_mut(..wanted)?;
            return argon2.hash_password_into_with_memory(password.as_bytes(), salt, out, blocks).ok();
        }
        if wanted * Block::SIZE > limits::PASSWORD_MEMORY_BYTES_MAX {
            tracing::warn!(kib = wanted, "a stored password wants more memory than is given to one");
            return None;
        }
        let mut blocks = vec![Block::default(); wanted];
        argon2.hash_password_into_with_memory(password.as_bytes(), salt, out, blocks.as_mut_slice()).ok()
    }
}

/// The old systems' check. In constant time, although whoever can measure it can also break md5.
fn is_md5(password: &str, salt: &str, digest: &str) -> bool {
    let made = Md5::new().chain_update(password).chain_update(salt).finalize();
    let made = HEXLOWER.encode(&made);
    let differing = made.bytes().zip(digest.bytes()).fold(0, |all, (one, other)| all | (one ^ other));
    made.len() == digest.len() && differing == 0
}

#[cfg(test)]
mod tests {
    use argon2::{PasswordHasher, PasswordVerifier};

    use super::*;

    #[test]
    fn hashes_are_those_of_the_library() {
        let mut memory = Memory::default();
        let ours = memory.hashed("pw&x+1").expect("randomness");
        assert!(ours.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{ours}");
        assert!(Argon2::default().verify_password(b"pw&x+1", &PasswordHash::new(&ours).expect("a PHC string")).is_ok());
        let theirs = Argon2::default().hash_password(b"pw&x+1").expect("randomness").to_string();
        assert!(memory.fits("pw&x+1", Some(&theirs), "") && !memory.fits("pw&x+2", Some(&theirs), ""));
    }

    #[test]
    fn hashes_with_other_parameters_are_checked_and_leave_no_memory() {
        let mut memory = Memory::default();
        let with = |m, t, p, len| {
            let params = Params::new(m, t, p, Some(len)).expect("allowed");
            Argon2::new(Algorithm::Argon2i, Version::V0x10, params)
                .hash_password(b"pw")
                .expect("randomness")
                .to_string()
        };
        for stored in [with(64, 3, 2, 16), with(2 * Params::DEFAULT_M_COST, 1, 1, 64)] {
            assert!(memory.fits("pw", Some(&stored), "") && !memory.fits("pW", Some(&stored), ""), "{stored}");
        }
        assert!(memory.bytes() <= Params::DEFAULT.block_count() * Block::SIZE, "{}", memory.bytes());
        let kib = limits::PASSWORD_MEMORY_BYTES_MAX / 1024 + 8;
        let huge = with(64, 1, 1, 32).replace("m=64", &format!("m={kib}"));
        assert!(!memory.fits("pw", Some(&huge), ""), "not even tried");
    }

    #[test]
    fn whatever_was_stored_is_an_answer() {
        let mut memory = Memory::default();
        let nobody = memory.hashed("").expect("randomness");
        for broken in ["", "!", "$", "$argon2id$", "$argon2id$v=19$m=8,t=1,p=1", "$scrypt$ln=1$c2FsdHNhbHQ$aGFzaGhhc2g"]
        {
            assert!(!memory.fits("", Some(broken), &nobody), "{broken}");
        }
    }
}
