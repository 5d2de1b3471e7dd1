//! From a token to an identity.
//!
//! Owns: the token format, its signature, and the only maker of an [`Identity`]. Never: asks the
//! store. Epoch and ban are checked in the batched read at open (docs/architecture.md, connect).
//! Never prints a secret. Bounds: a token is 72 or 76 characters, whatever it says (`LAYOUTS`); a
//! key file is read no further than one byte beyond a key.

mod api_keys;

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

pub use self::api_keys::{API_KEY_PREFIX, ShownKey};
use crate::ids::{LoginId, UserId};
use crate::limits::TOKEN_CHARS_MAX;

/// How the claims of a token lie. A further layout gets a further number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Layout {
    /// The first byte.
    version: u8,
    claims_bytes: usize,
}

impl Layout {
    /// Claims, then the signature over them.
    const fn bytes(self) -> usize {
        self.claims_bytes + SIGNATURE_BYTES
    }

    /// In base64url without padding. The bytes are a multiple of three, so every character counts
    /// in full.
    const fn chars(self) -> usize {
        self.bytes() / 3 * 4
    }
}

/// Version (1), user (8), epoch (4), issuer (1), expiry (8); integers big-endian. For tokens that
/// belong to no login.
const PLAIN: Layout = Layout { version: 1, claims_bytes: 22 };
/// The same, then the number of the login (3).
const OF_LOGIN: Layout = Layout { version: 2, claims_bytes: 25 };
/// All of them; each has a length of its own.
const LAYOUTS: [Layout; 2] = [PLAIN, OF_LOGIN];
/// HMAC-SHA256, not shortened.
const SIGNATURE_BYTES: usize = 32;
/// The longest token.
const TOKEN_BYTES: usize = OF_LOGIN.bytes();
/// What a signature is for, so that the same key can sign other things one day.
const TOKEN_PURPOSE: &[u8] = b"imgate token\0";
/// What the tag of a key is for.
const TAG_PURPOSE: &[u8] = b"imgate tag\0";
/// Bytes of a key's tag: two gateways on one host have the same one once in 16 million.
const TAG_BYTES: usize = 3;
/// What the secret of TLS tickets is made with.
const TICKET_PURPOSE: &[u8] = b"imgate tls\0";
/// The same for the bus between gateways.
const BUS_PURPOSE: &[u8] = b"imgate bus\0";
/// What the address of a file is made with.
const FILE_PURPOSE: &[u8] = b"imgate file\0";
/// What the operator's token is made with.
const ADMIN_PURPOSE: &[u8] = b"imgate admin\0";
/// What a derived key is for.
const SECRET_PURPOSE: &[u8] = b"imgate secret\0";
/// Bytes of a signing key, and of the file that holds one.
const KEY_BYTES: usize = 32;
/// The shortest `IMGATE_SECRET`. A token is enough to try secrets at leisure.
pub const SECRET_CHARS_MIN: usize = 16;

const _: () = assert!(PLAIN.bytes().is_multiple_of(3) && TOKEN_BYTES.is_multiple_of(3));
const _: () = assert!(PLAIN.bytes() < TOKEN_BYTES && OF_LOGIN.chars() <= TOKEN_CHARS_MAX);

/// Which login made a token: decides the echo policy of legacy sessions.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Issuer {
    /// fastIM's routes (`/user/login`, `/user/register`), `imgate token`: no echo to the sending
    /// connection.
    FastIm = 1,
    /// IMChat's routes (`/login`, `/register`): the page waits for the echo of its own group
    /// messages.
    ImChat = 2,
    /// Our own API.
    Own = 3,
}

impl Issuer {
    const fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            1 => Some(Self::FastIm),
            2 => Some(Self::ImChat),
            3 => Some(Self::Own),
            _ => None,
        }
    }
}

/// A proven user: only [`Key::verify`] makes one, so "logged in" is a type. But for
/// [`Identity::GUEST`], which is no user.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Identity {
    user: UserId,
    epoch: u32,
    issuer: Issuer,
    expires_ms: u64,
    login: Option<LoginId>,
}

impl Identity {
    /// Proves nothing, and opens nothing but the room of `/chatroom` (docs/protocol.md). No token
    /// says this: see [`Key::verify`].
    pub const GUEST: Self =
        Self { user: UserId::GUEST, epoch: 0, issuer: Issuer::Own, expires_ms: u64::MAX, login: None };

    /// The user.
    #[must_use]
    pub const fn user(&self) -> UserId {
        self.user
    }

    /// The user's token epoch at the time of issue; "log out everywhere" raises the stored one.
    #[must_use]
    pub const fn epoch(&self) -> u32 {
        self.epoch
    }

    /// Which login issued the token.
    #[must_use]
    pub const fn issuer(&self) -> Issuer {
        self.issuer
    }

    /// Unix milliseconds after which the token is void; in this very millisecond it is still good.
    #[must_use]
    pub const fn expires_ms(&self) -> u64 {
        self.expires_ms
    }

    /// The login that the token was made for, which can be ended alone. `None` for what `imgate
    /// token` makes, and earlier versions made.
    #[must_use]
    pub const fn login(&self) -> Option<LoginId> {
        self.login
    }
}

/// Why a token is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum BadToken {
    /// Not our format, or of another version.
    #[error("the token is malformed")]
    Malformed,
    /// The signature does not fit: another key, or tampered with.
    #[error("the token's signature is wrong")]
    Signature,
    /// Its time is over.
    #[error("the token has expired")]
    Expired,
}

/// Why there is no signing key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file could not be read or made.
    #[error("the key file {path}: {error}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The file is no key of ours. It is not replaced: that would void every token.
    #[error(
        "the key file {path} has {bytes} bytes instead of {KEY_BYTES}; restore it, or remove it to void all tokens"
    )]
    Length {
        /// Which.
        path: PathBuf,
        /// How many bytes it has (counted no further than one beyond a key).
        bytes: usize,
    },
    /// The secret can be guessed.
    #[error("the secret is too short: at least {SECRET_CHARS_MIN} characters are needed")]
    Short,
    /// The operating system gave no randomness.
    #[error("no random numbers: {0}")]
    Random(getrandom::Error),
}

/// The signing key, shared by the nodes of a cluster, and while it is replaced a second one, by
/// which is only read.
#[derive(Clone)]
pub struct Key {
    secret: [u8; KEY_BYTES],
    /// What this one signed is accepted, too.
    fallback: Option<[u8; KEY_BYTES]>,
}

/// Never shows the secret: a key may stand in a structure that is logged.
impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(secret)")
    }
}

/// A key and where it came from.
#[derive(Clone, Debug)]
pub struct LoadedKey {
    /// The key.
    pub key: Key,
    /// How it came about, for the log at start.
    pub origin: KeyOrigin,
}

/// How a key file was found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum KeyOrigin {
    /// There was none; it has been made.
    Created,
    /// It was there, for its owner only.
    Private,
    /// It was there, and its mode lets others at it: worth a warning, but no reason not to start,
    /// since mounted secrets of containers often look so.
    Exposed {
        /// The permission bits.
        mode: u32,
    },
}

impl Key {
    /// A key from 32 secret bytes.
    #[must_use]
    pub const fn new(secret: [u8; KEY_BYTES]) -> Self {
        Self { secret, fallback: None }
    }

    /// The same key, which accepts what `other` has signed, too: while a secret is replaced logins
    /// last, and gateways of a cluster that have different ones of both know each other.
    #[must_use]
    pub const fn accepting(self, other: &Self) -> Self {
        Self { secret: self.secret, fallback: Some(other.secret) }
    }

    /// The key that belongs to a secret text (`IMGATE_SECRET`): the same on every node that is told
    /// the same text.
    ///
    /// # Errors
    /// [`KeyError::Short`] below [`SECRET_CHARS_MIN`] characters.
    pub fn from_secret(text: &str) -> Result<Self, KeyError> {
        if text.chars().count() < SECRET_CHARS_MIN {
            return Err(KeyError::Short);
        }
        let digest = Sha256::new().chain_update(SECRET_PURPOSE).chain_update(text);
        Ok(Self::new(digest.finalize().into()))
    }

    /// The key in the file `path`, if there is such a file.
    ///
    /// # Errors
    /// [`KeyError`]; a file that is no key is an error and stays as it is.
    pub fn load_if_there(path: &Path) -> Result<Option<LoadedKey>, KeyError> {
        match File::open(path) {
            Ok(file) => Self::load(file, path).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(KeyError::File { path: path.to_owned(), error }),
        }
    }

    /// The key in the file `path`; a missing file is made, readable for its owner only (0600). The
    /// folder must exist. Two processes that start at once get the same key.
    ///
    /// # Errors
    /// [`KeyError`]; a file that is no key is an error and stays as it is.
    pub fn load_or_create(path: &Path) -> Result<LoadedKey, KeyError> {
        let failed = |error| KeyError::File { path: path.to_owned(), error };
        if let Some(loaded) = Self::load_if_there(path)? {
            return Ok(loaded);
        }
        let mut secret = [0; KEY_BYTES];
        getrandom::fill(&mut secret).map_err(KeyError::Random)?;
        match publish(path, &secret) {
            Ok(()) => Ok(LoadedKey { key: Self::new(secret), origin: KeyOrigin::Created }),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                Self::load(File::open(path).map_err(failed)?, path)
            }
            Err(error) => Err(failed(error)),
        }
    }

    fn load(file: File, path: &Path) -> Result<LoadedKey, KeyError> {
        let failed = |error| KeyError::File { path: path.to_owned(), error };
        let mode = file.metadata().map_err(failed)?.permissions().mode() & 0o777;
        let mut bytes = Vec::with_capacity(KEY_BYTES + 1);
        // One byte more than a key, so that a longer file is noticed and a huge one costs nothing.
        io::Read::read_to_end(&mut io::Read::take(file, KEY_BYTES as u64 + 1), &mut bytes).map_err(failed)?;
        let secret = bytes
            .try_into()
            .map_err(|bytes: Vec<u8>| KeyError::Length { path: path.to_owned(), bytes: bytes.len() })?;
        let origin = if mode & 0o077 == 0 { KeyOrigin::Private } else { KeyOrigin::Exposed { mode } };
        Ok(LoadedKey { key: Self::new(secret), origin })
    }

    /// A token for `user` that belongs to no login, at most [`crate::limits::TOKEN_CHARS_MAX`]
    /// characters of base64url.
    #[must_use]
    pub fn issue(&self, user: UserId, epoch: u32, issuer: Issuer, expires_ms: u64) -> String {
        self.sign(PLAIN, &Identity { user, epoch, issuer, expires_ms, login: None })
    }

    /// The token of a login: as [`Key::issue`], and void as soon as the store does not know the
    /// login any more.
    #[must_use]
    pub fn issue_login(&self, user: UserId, epoch: u32, issuer: Issuer, expires_ms: u64, login: LoginId) -> String {
        self.sign(OF_LOGIN, &Identity { user, epoch, issuer, expires_ms, login: Some(login) })
    }

    fn sign(&self, layout: Layout, claims: &Identity) -> String {
        let mut token = Vec::with_capacity(layout.bytes());
        token.push(layout.version);
        token.extend_from_slice(&claims.user.get().to_be_bytes());
        token.extend_from_slice(&claims.epoch.to_be_bytes());
        token.push(claims.issuer as u8);
        token.extend_from_slice(&claims.expires_ms.to_be_bytes());
        if let Some(login) = claims.login {
            let [_, number @ ..] = login.get().to_be_bytes();
            token.extend_from_slice(&number);
        }
        let signature = self.mac(&token).finalize().into_bytes();
        token.extend_from_slice(&signature);
        URL_SAFE_NO_PAD.encode(token)
    }

    /// The identity that `token` proves at wall time `now_ms`.
    ///
    /// # Errors
    /// [`BadToken`] says why not. The comparison takes the same time for every wrong signature.
    pub fn verify(&self, token: &str, now_ms: u64) -> Result<Identity, BadToken> {
        let layout = LAYOUTS.into_iter().find(|layout| layout.chars() == token.len()).ok_or(BadToken::Malformed)?;
        let mut bytes = [0; TOKEN_BYTES];
        let bytes = bytes.get_mut(..layout.bytes()).ok_or(BadToken::Malformed)?;
        let decoded = URL_SAFE_NO_PAD.decode_slice(token, bytes);
        if decoded != Ok(layout.bytes()) || bytes.first() != Some(&layout.version) {
            return Err(BadToken::Malformed);
        }
        let (claims, signature) = bytes.split_at(layout.claims_bytes);
        let is_signed = |secret| mac(secret, TOKEN_PURPOSE, claims).verify_slice(signature).is_ok();
        if !self.secrets().any(is_signed) {
            return Err(BadToken::Signature);
        }
        // From here on we said it ourselves, but perhaps with a newer binary: what this one does
        // not know is refused.
        let identity = claims_of(claims).filter(|who| who.user != UserId::GUEST).ok_or(BadToken::Malformed)?;
        if now_ms > identity.expires_ms { Err(BadToken::Expired) } else { Ok(identity) }
    }

    /// What tells this key from others without saying anything of it: six hexadecimal digits.
    #[must_use]
    pub fn tag(&self) -> String {
        tag_of(&self.secret)
    }

    /// The tag of the key that is accepted, too.
    #[must_use]
    pub fn fallback_tag(&self) -> Option<String> {
        self.fallback.as_ref().map(tag_of)
    }

    /// The address of the file whose content has the SHA-256 `digest`: the same on every gateway
    /// with this key, and not to be told without the key, whatever is known of the content.
    #[must_use]
    pub fn file_address(&self, digest: &[u8; 32]) -> [u8; 32] {
        self.mac_for(FILE_PURPOSE, digest).finalize().into_bytes().into()
    }

    /// What an operator shows at the admin port. Only the key makes it.
    #[must_use]
    pub fn admin_token(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.mac_for(ADMIN_PURPOSE, &[]).finalize().into_bytes())
    }

    /// Whether `shown` is [`Key::admin_token`], of this key or of the one that is accepted, too.
    /// The comparison takes the same time for every wrong one.
    #[must_use]
    pub fn is_admin_token(&self, shown: &str) -> bool {
        let mut bytes = [0; SIGNATURE_BYTES];
        URL_SAFE_NO_PAD.decode_slice(shown, &mut bytes) == Ok(SIGNATURE_BYTES)
            && self.secrets().any(|secret| mac(secret, ADMIN_PURPOSE, &[]).verify_slice(&bytes).is_ok())
    }

    /// The secret of TLS session tickets: a ticket of one node is good at every node with this key.
    #[must_use]
    pub fn ticket_secret(&self) -> [u8; 32] {
        self.mac_for(TICKET_PURPOSE, &[]).finalize().into_bytes().into()
    }

    /// The secret by which gateways know each other on the bus between them, and that of the key
    /// that is accepted, too.
    #[must_use]
    pub fn bus_secrets(&self) -> ([u8; 32], Option<[u8; 32]>) {
        let of = |secret| mac(secret, BUS_PURPOSE, &[]).finalize().into_bytes().into();
        (of(&self.secret), self.fallback.as_ref().map(of))
    }

    fn secrets(&self) -> impl Iterator<Item = &[u8; KEY_BYTES]> {
        std::iter::once(&self.secret).chain(&self.fallback)
    }

    fn mac(&self, claims: &[u8]) -> Hmac<Sha256> {
        mac(&self.secret, TOKEN_PURPOSE, claims)
    }

    fn mac_for(&self, purpose: &[u8], said: &[u8]) -> Hmac<Sha256> {
        mac(&self.secret, purpose, said)
    }
}

fn tag_of(secret: &[u8; KEY_BYTES]) -> String {
    let digest = mac(secret, TAG_PURPOSE, &[]).finalize().into_bytes();
    digest.iter().take(TAG_BYTES).map(|byte| format!("{byte:02x}")).collect()
}

fn mac(secret: &[u8; KEY_BYTES], purpose: &[u8], said: &[u8]) -> Hmac<Sha256> {
    // RFC 2104, section 2 pads a key with zeros to the block of the hash; done here, it is a size
    // that cannot be wrong.
    let mut block = hmac::digest::Key::<Hmac<Sha256>>::default();
    block[..KEY_BYTES].copy_from_slice(secret);
    <Hmac<Sha256> as KeyInit>::new(&block).chain_update(purpose).chain_update(said)
}

/// What the claims of a verified token say; `None` for what this version does not know.
fn claims_of(claims: &[u8]) -> Option<Identity> {
    let (_version, rest) = claims.split_first()?;
    let (user, rest) = rest.split_first_chunk()?;
    let (epoch, rest) = rest.split_first_chunk()?;
    let (issuer, rest) = rest.split_first()?;
    let (expires_ms, rest) = rest.split_first_chunk()?;
    let login = match rest {
        [] => None,
        &[a, b, c] => Some(LoginId::new(u32::from_be_bytes([0, a, b, c]))?),
        _ => return None,
    };
    Some(Identity {
        user: UserId::new(u64::from_be_bytes(*user))?,
        epoch: u32::from_be_bytes(*epoch),
        issuer: Issuer::from_byte(*issuer)?,
        expires_ms: u64::from_be_bytes(*expires_ms),
        login,
    })
}

/// Makes the file `path` with `secret` in it, whole or not at all: written beside it under a name
/// of its own, then linked to its place, which fails if another process was faster. A crash in
/// between leaves no half key that the next start would stumble over.
fn publish(path: &Path, secret: &[u8]) -> io::Result<()> {
    let mut draft = path.as_os_str().to_owned();
    draft.push(format!(".{:016x}.new", getrandom::u64().map_err(io::Error::other)?));
    let draft = PathBuf::from(draft);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
    let linked = file.write_all(secret).and_then(|()| file.sync_all()).and_then(|()| fs::hard_link(&draft, path));
    let removed = fs::remove_file(&draft);
    linked?;
    removed?;
    // The name must survive a power loss as the content does: tokens signed with it are out in the
    // world.
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => File::open(folder)?.sync_all(),
        _ => File::open(".")?.sync_all(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ids::ID_MAX;

    fn user(raw: u64) -> UserId {
        UserId::new(raw).expect("a test's user")
    }

    #[test]
    fn an_address_of_a_file_belongs_to_a_key_and_is_no_signature() {
        let (key, digest) = (Key::new([7; 32]), [9; 32]);
        assert_eq!(key.file_address(&digest), Key::new([7; 32]).file_address(&digest));
        assert_ne!(key.file_address(&digest), Key::new([8; 32]).file_address(&digest));
        assert_ne!(key.file_address(&digest), key.file_address(&[8; 32]));
        let signature: [u8; 32] = key.mac(&digest).finalize().into_bytes().into();
        assert_ne!(key.file_address(&digest), signature);
    }

    #[test]
    fn an_operators_token_belongs_to_a_key_and_is_nobody_elses() {
        let key = Key::new([7; 32]);
        let token = key.admin_token();
        assert!(key.is_admin_token(&token));
        assert!(!Key::new([8; 32]).is_admin_token(&token));
        let of_user = key.issue(user(1), 0, Issuer::Own, u64::MAX);
        for other in ["", "x", &token[1..], &format!("{token}A"), &"A".repeat(token.len()), &of_user] {
            assert!(!key.is_admin_token(other), "{other}");
        }
        assert_eq!(key.verify(&token, 0), Err(BadToken::Malformed));
    }

    #[test]
    fn a_token_says_who_it_was_made_for() {
        let key = Key::new([7; 32]);
        for issuer in [Issuer::FastIm, Issuer::ImChat, Issuer::Own] {
            let token = key.issue(user(ID_MAX - 1), u32::MAX, issuer, u64::MAX);
            assert_eq!(token.len(), PLAIN.chars());
            let identity = key.verify(&token, 5).expect("just issued");
            assert_eq!(
                (identity.user(), identity.epoch(), identity.issuer(), identity.expires_ms()),
                (user(ID_MAX - 1), u32::MAX, issuer, u64::MAX)
            );
            assert_eq!(identity.login(), None);
            for number in [1, 0x01_0203, LoginId::MAX] {
                let login = LoginId::new(number).expect("in range");
                let token = key.issue_login(user(ID_MAX - 1), u32::MAX, issuer, u64::MAX, login);
                assert_eq!(token.len(), OF_LOGIN.chars());
                let of_login = key.verify(&token, 5).expect("just issued");
                assert_eq!(of_login, Identity { login: Some(login), ..identity });
            }
        }
    }

    #[test]
    fn the_format_does_not_change_by_accident() {
        // Made with Python's hmac and base64 modules: tokens in the world outlive a binary.
        let token = Key::new([7; 32]).issue(user(42), 3, Issuer::FastIm, 1_800_000_000_000);
        assert_eq!(token, "AQAAAAAAAAAqAAAAAwEAAAGjGFxQAF-gv96hhdHrT-PP5kDg5oVmMiUGwZ7nzuFRWaemM2hi");
        let login = LoginId::new(0x0a_0b_0c).expect("in range");
        let token = Key::new([7; 32]).issue_login(user(42), 3, Issuer::Own, 1_800_000_000_000, login);
        assert_eq!(token, "AgAAAAAAAAAqAAAAAwMAAAGjGFxQAAoLDMzxLgKVYrGQMf6Ft2_CKi-7wRezpw_Lz1nt9m5wp4_d");
    }

    #[test]
    fn a_token_is_good_in_its_last_millisecond() {
        let key = Key::new([7; 32]);
        let token = key.issue(user(1), 0, Issuer::Own, 1000);
        assert!(key.verify(&token, 1000).is_ok());
        assert_eq!(key.verify(&token, 1001), Err(BadToken::Expired));
    }

    #[test]
    fn other_keys_and_unknown_claims() {
        let key = Key::new([7; 32]);
        let token = key.issue(user(1), 0, Issuer::Own, 1000);
        assert_eq!(Key::new([8; 32]).verify(&token, 0), Err(BadToken::Signature));
        // Properly signed, but with an issuer, a user and a version that this binary does not know.
        for (at, value) in [(13, 9), (8, 0), (0, 2)] {
            let mut bytes = URL_SAFE_NO_PAD.decode(&token).expect("base64");
            bytes.truncate(PLAIN.claims_bytes);
            bytes[at] = value;
            let signature = key.mac(&bytes).finalize().into_bytes();
            bytes.extend_from_slice(&signature);
            assert_eq!(key.verify(&URL_SAFE_NO_PAD.encode(&bytes), 0), Err(BadToken::Malformed), "byte {at}");
        }
        for token in
            ["", "x", &"A".repeat(OF_LOGIN.chars() + 4), &"=".repeat(PLAIN.chars()), &"é".repeat(PLAIN.chars() / 2)]
        {
            assert_eq!(key.verify(token, 0), Err(BadToken::Malformed));
        }
    }

    #[test]
    fn while_a_secret_is_replaced_both_are_accepted_and_one_signs() {
        let (old, new) = (Key::new([7; 32]), Key::new([8; 32]));
        let both = new.clone().accepting(&old);
        let tokens = [&old, &new, &both].map(|key| key.issue(user(1), 0, Issuer::Own, 1000));
        assert_eq!(tokens[2], tokens[1]);
        assert!(tokens.iter().all(|token| both.verify(token, 0).is_ok()));
        assert_eq!(both.verify(&tokens[0], 1001), Err(BadToken::Expired));
        let strangers = Key::new([9; 32]).issue(user(1), 0, Issuer::Own, 1000);
        assert_eq!(both.verify(&strangers, 0), Err(BadToken::Signature));
        for (key, admin) in [(&old, true), (&new, true), (&Key::new([9; 32]), false)] {
            assert_eq!(both.is_admin_token(&key.admin_token()), admin);
        }
        assert_eq!(both.admin_token(), new.admin_token());
        assert_eq!((both.tag(), both.fallback_tag()), (new.tag(), Some(old.tag())));
        assert_eq!(both.bus_secrets(), (new.bus_secrets().0, Some(old.bus_secrets().0)));
        assert_eq!((new.fallback_tag(), new.bus_secrets().1), (None, None));
    }

    #[test]
    fn secrets_become_keys() {
        let key = Key::from_secret("a secret of some length").expect("long enough");
        let token = key.issue(user(1), 0, Issuer::Own, 1000);
        assert!(Key::from_secret("a secret of some length").expect("the same").verify(&token, 0).is_ok());
        assert!(Key::from_secret("a secret of same length").expect("another").verify(&token, 0).is_err());
        assert!(matches!(Key::from_secret("fifteen letters"), Err(KeyError::Short)));
        assert!(Key::from_secret("sixteen letters!").is_ok());
    }

    #[test]
    fn a_key_does_not_show_itself() {
        assert_eq!(format!("{:?}", Key::new([7; 32])), "Key(secret)");
    }

    #[test]
    fn a_key_file_is_made_once_and_found_again() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("secret.key");
        let made = Key::load_or_create(&path).expect("made");
        assert_eq!(made.origin, KeyOrigin::Created);
        assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
        let found = Key::load_or_create(&path).expect("found");
        assert_eq!((found.origin, found.key.secret), (KeyOrigin::Private, made.key.secret));
        assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 1, "no draft is left");
        let other = Key::load_or_create(&folder.path().join("other.key")).expect("made");
        assert_ne!(other.key.secret, made.key.secret);

        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).expect("mine");
        assert_eq!(Key::load_or_create(&path).expect("found").origin, KeyOrigin::Exposed { mode: 0o640 });
    }

    #[test]
    fn who_is_slower_takes_the_key_of_the_faster() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("secret.key");
        let keys: Vec<_> = std::thread::scope(|scope| {
            let starts: Vec<_> = (0..8).map(|_| scope.spawn(|| Key::load_or_create(&path).expect("a key"))).collect();
            starts.into_iter().map(|start| start.join().expect("no panic")).collect()
        });
        assert_eq!(keys.iter().filter(|loaded| loaded.origin == KeyOrigin::Created).count(), 1);
        assert!(keys.iter().all(|loaded| loaded.key.secret == keys[0].key.secret));
        let error = publish(&path, &[1; 32]).expect_err("taken");
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 1, "no draft is left");
    }

    #[test]
    fn a_file_that_is_no_key_is_told_and_kept() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("secret.key");
        for (content, told) in [(&b""[..], 0), (&[1; 31], 31), (&[1; 33], 33), (&[1; 5000], 33)] {
            fs::write(&path, content).expect("mine");
            match Key::load_or_create(&path) {
                Err(KeyError::Length { bytes, .. }) => assert_eq!(bytes, told),
                other => panic!("{other:?}"),
            }
            assert_eq!(fs::read(&path).expect("kept"), content);
        }
        assert!(matches!(Key::load_or_create(&folder.path().join("no/key")), Err(KeyError::File { .. })));
    }

    proptest! {
        #[test]
        fn any_flipped_bit_voids_a_token(id in 1..=ID_MAX, epoch: u32, expires: u64, number in 1..=LoginId::MAX, bit in 0..TOKEN_BYTES * 8) {
            let key = Key::new([7; 32]);
            let login = LoginId::new(number).expect("in range");
            let token = key.issue_login(user(id), epoch, Issuer::FastIm, expires, login);
            prop_assert!(key.verify(&token, expires).is_ok());
            let mut bytes = URL_SAFE_NO_PAD.decode(&token).unwrap_or_default();
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(key.verify(&URL_SAFE_NO_PAD.encode(&bytes), 0).is_err());
        }

        #[test]
        fn any_changed_character_voids_a_token(at in 0..PLAIN.chars(), with in "[A-Za-z0-9_=+/-]") {
            let key = Key::new([7; 32]);
            let token = key.issue(user(5), 0, Issuer::FastIm, u64::MAX);
            let mut changed = token.clone();
            changed.replace_range(at..=at, &with);
            prop_assert_eq!(key.verify(&changed, 0).is_ok(), changed == token);
        }

        #[test]
        fn garbage_is_an_error(token in any::<String>(), base64ish in "[A-Za-z0-9_-]{72}|[A-Za-z0-9_-]{76}") {
            let key = Key::new([7; 32]);
            prop_assert!(key.verify(&token, 0).is_err());
            prop_assert!(key.verify(&base64ish, 0).is_err());
        }
    }
}
