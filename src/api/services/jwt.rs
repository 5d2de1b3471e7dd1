//! Tokens that another system signs (JWT, RFC 7519): a client that brings one is the user that its
//! subject stands for, and is let in with a token of our own that never leaves the gateway.
//!
//! Owns: what is asked of a token, the tokens that were looked at lately, and which user came in by
//! which key. The files of keys are read by `keys`.
//! Never: verifies a signature or judges times by itself: `jsonwebtoken` does. Never takes an
//! algorithm that the key is not for, or a token without an end.
//! Bounds: [`limits::JWT_KEYS_MAX`] keys, [`limits::JWT_BYTES_MAX`] a token,
//! [`limits::JWT_CACHE_MAX`] looked at lately, [`limits::JWT_USERS_MAX`] users and keys.

mod keys;

use std::borrow::Cow;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hashbrown::HashMap;
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, crypto, decode};
use keys::{JwtKey, KeyTag};
use parking_lot::{Mutex, RwLock};
use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use super::subjects::{self, Portrait};
use super::{Services, StoreFailure, backends};
use crate::auth::Issuer;
use crate::clock;
use crate::ids::UserId;
use crate::limits;
use crate::metrics::accounts::{AccountCounts, Foreign};

/// What is asked of tokens.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct JwtSettings {
    /// Files with keys; none: no such token is taken.
    pub keys: Vec<PathBuf>,
    /// What `iss` must be, if it matters.
    pub issuer: Option<String>,
    /// One of them must be in `aud`, if there are any.
    pub audiences: Vec<String>,
    /// How far the other system's clock may be from ours, in seconds.
    pub leeway_s: u64,
    /// The claims with the user's name for the other system, the shown name and the picture.
    pub user_claim: String,
    /// See there.
    pub name_claim: String,
    /// See there.
    pub avatar_claim: String,
}

/// A file of keys that is none.
#[derive(Debug, thiserror::Error)]
#[error("the key file {path}: {why}")]
pub struct BadKeys {
    path: PathBuf,
    why: String,
}

/// Why a client is not let in.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NotTaken {
    /// The token is not good, or not any more, for this reason.
    #[error("a bad token ({})", .0.label())]
    Bad(Foreign),
    /// Not the client's fault.
    #[error(transparent)]
    Store(#[from] StoreFailure),
}

/// The settings in force, with their keys.
struct InForce {
    settings: JwtSettings,
    keys: Vec<JwtKey>,
}

/// A token that was looked at.
#[derive(Clone)]
struct Seen {
    own: String,
    until_ms: u64,
}

/// See the module.
pub struct Jwt {
    in_force: RwLock<Arc<InForce>>,
    seen: Mutex<HashMap<[u8; 32], Seen>>,
    /// The users that came in by each key, and until when.
    users: Mutex<HashMap<(KeyTag, UserId), u64>>,
    counts: Arc<AccountCounts>,
}

impl Jwt {
    /// Reads the keys.
    ///
    /// # Errors
    /// [`BadKeys`].
    pub fn new(settings: JwtSettings, counts: Arc<AccountCounts>) -> Result<Self, BadKeys> {
        let in_force = RwLock::new(Arc::new(InForce::read(settings)?));
        Ok(Self { in_force, seen: Mutex::default(), users: Mutex::default(), counts })
    }

    /// The own token that stands for `jwt`.
    ///
    /// # Errors
    /// [`NotTaken`].
    pub async fn admit(&self, services: &Services, jwt: &str) -> Result<String, NotTaken> {
        let admitted = self.judge(services, jwt).await;
        let outcome = match &admitted {
            Ok(_) => Foreign::Ok,
            Err(NotTaken::Bad(why)) => *why,
            Err(NotTaken::Store(_)) => Foreign::Trouble,
        };
        self.counts.foreign(outcome);
        if let Err(NotTaken::Bad(why)) = &admitted {
            tracing::debug!(why = why.label(), "a token of another system is not good");
        }
        admitted
    }

    /// The other system's name for the user of `jwt`, if one of the keys has signed it and it is
    /// good now. Asks no store, so that a fuzzer can try it.
    #[must_use]
    pub fn subject(&self, jwt: &str) -> Option<String> {
        let in_force = Arc::clone(&self.in_force.read());
        let (_, claims) = in_force.verified(jwt).ok()?;
        Wish::of(&in_force.settings, &claims).map(|wish| wish.subject)
    }

    async fn judge(&self, services: &Services, jwt: &str) -> Result<String, NotTaken> {
        let now_ms = clock::wall_ms();
        let digest: [u8; 32] = Sha256::digest(jwt).into();
        if let Some(seen) = self.seen.lock().get(&digest).filter(|seen| now_ms < seen.until_ms) {
            return Ok(seen.own.clone());
        }
        let in_force = Arc::clone(&self.in_force.read());
        let (key, claims) = in_force.verified(jwt).map_err(NotTaken::Bad)?;
        let wish = Wish::of(&in_force.settings, &claims).ok_or(NotTaken::Bad(Foreign::Claim))?;
        let Wish { subject, portrait, expires_ms, issued_s } = wish;
        let (user, _) = subjects::find_or_make(services, &subject, portrait, now_ms).await?;
        if user.banned {
            return Err(NotTaken::Bad(Foreign::Banned));
        }
        if is_before(issued_s, user.token_epoch) {
            return Err(NotTaken::Bad(Foreign::LoggedOut));
        }
        let expires_ms = expires_ms.saturating_add(in_force.settings.leeway_s * 1000);
        self.note(key, user.id, expires_ms, now_ms)?;
        let own = services.key.issue(user.id, user.token_epoch, Issuer::Own, expires_ms);
        let until_ms = expires_ms.min(now_ms + limits::JWT_CACHE_MS);
        let mut seen = self.seen.lock();
        // A reload meanwhile finds the user noted and forgets what is kept here, or this finds the
        // keys replaced.
        if !self.in_force.read().has(key) {
            self.users.lock().remove(&(key, user.id));
            return Err(NotTaken::Bad(Foreign::Signature));
        }
        if seen.len() >= limits::JWT_CACHE_MAX {
            seen.retain(|_, seen| now_ms < seen.until_ms);
        }
        if seen.len() < limits::JWT_CACHE_MAX {
            seen.insert(digest, Seen { own: own.clone(), until_ms });
        }
        Ok(own)
    }

    /// Notes that a user came in by a key.
    fn note(&self, key: KeyTag, user: UserId, expires_ms: u64, now_ms: u64) -> Result<(), StoreFailure> {
        let users = &mut *self.users.lock();
        if users.len() >= limits::JWT_USERS_MAX && !users.contains_key(&(key, user)) {
            users.retain(|_, expires_ms| *expires_ms >= now_ms);
            if users.len() >= limits::JWT_USERS_MAX {
                return Err(StoreFailure::Busy);
            }
        }
        let until_ms = users.entry((key, user)).or_default();
        *until_ms = expires_ms.max(*until_ms);
        Ok(())
    }

    /// Reads the keys again, and forgets what was looked at. The users that came in by a key that
    /// is not there any more: their sessions are to end ([`Jwt::end_sessions`]).
    ///
    /// # Errors
    /// [`BadKeys`]; the old keys and settings stay.
    pub fn reload(&self, settings: JwtSettings) -> Result<Vec<UserId>, BadKeys> {
        let new = Arc::new(InForce::read(settings)?);
        let mut gone = Vec::new();
        // In one step with the keys: a token that comes too late takes its user's note away, which
        // may be that of a session that stands.
        let mut users = self.users.lock();
        *self.in_force.write() = Arc::clone(&new);
        users.retain(|(key, user), _| {
            let stays = new.has(*key);
            if !stays {
                gone.push(*user);
            }
            stays
        });
        drop(users);
        self.seen.lock().clear();
        gone.sort_unstable();
        gone.dedup();
        Ok(gone)
    }

    /// Ends the sessions of users whose key is gone. They may come back with a token of another
    /// one. Once more after [`limits::JWT_LATE_MS`], also for those who are back by then: what was
    /// admitted just before the keys were replaced may have been on its way to its shard.
    pub async fn end_sessions(services: &Services, users: Vec<UserId>) {
        Self::disconnect(services, &users).await;
        tokio::time::sleep(Duration::from_millis(limits::JWT_LATE_MS)).await;
        for user in Self::disconnect(services, &users).await {
            tracing::warn!(%user, "a user whose key was removed could not be disconnected");
        }
    }

    /// Answers for whom it could not be done.
    async fn disconnect(services: &Services, users: &[UserId]) -> Vec<UserId> {
        let mut stay = Vec::new();
        for &user in users {
            if backends::disconnect(services, user).await.is_err() {
                stay.push(user);
            }
        }
        stay
    }
}

/// What a token says.
struct Wish {
    subject: String,
    portrait: Portrait,
    expires_ms: u64,
    /// When it was made, in Unix seconds, if it says so.
    issued_s: Option<f64>,
}

impl Wish {
    fn of(settings: &JwtSettings, claims: &Map<String, Value>) -> Option<Self> {
        let text = |claim: &str| claims.get(claim).and_then(Value::as_str).map(str::to_owned);
        let subject = match claims.get(&settings.user_claim)? {
            Value::String(text) => text.clone(),
            Value::Number(number) => number.as_u64()?.to_string(),
            _ => return None,
        };
        let fits = !subject.is_empty() && subject.chars().nth(limits::SUBJECT_CHARS_MAX).is_none();
        // Verified, so it is a number; it may have a fraction (RFC 7519, section 2).
        let expires_s = claims.get("exp")?.as_f64()?;
        let expires_ms = (expires_s.clamp(0.0, EXPIRES_S_MAX) * 1000.0) as u64;
        let portrait = Portrait { nickname: text(&settings.name_claim), avatar: text(&settings.avatar_claim) };
        let issued_s = claims.get("iat").and_then(Value::as_f64);
        fits.then_some(Self { subject, portrait, expires_ms, issued_s })
    }
}

/// Whether a token of this time was made before its user was logged out everywhere, which is when
/// the epoch was raised ([`crate::store::People::log_out`]). One of the very second counts: most
/// are of the login that follows.
fn is_before(issued_s: Option<f64>, epoch: u32) -> bool {
    epoch >= EPOCH_TIMES && issued_s.is_some_and(|issued_s| issued_s < f64::from(epoch))
}

/// A token epoch from here on is a time (Unix seconds, of 2001 and later), below it a count.
const EPOCH_TIMES: u32 = 1_000_000_000;

/// `{"alg":"HS256"}` as a token has it.
const PLAIN_HEAD: &str = "eyJhbGciOiJIUzI1NiJ9";

/// What counts of a token's head (RFC 7515, section 4): what is not understood is passed over,
/// unless the head itself calls it critical; then the token is refused.
#[derive(Deserialize)]
struct JwtHeadSaid<'a> {
    #[serde(borrow)]
    alg: Cow<'a, str>,
    #[serde(default)]
    kid: Option<String>,
    #[serde(default, deserialize_with = "is_there")]
    crit: bool,
}

struct JwtHead {
    algorithm: Algorithm,
    kid: Option<String>,
}

impl JwtHead {
    fn read(base64: &str) -> Option<Self> {
        // The library would take the fields as an array, too.
        let json = URL_SAFE_NO_PAD.decode(base64).ok().filter(|json| json.trim_ascii_start().starts_with(b"{"))?;
        let said: JwtHeadSaid<'_> = serde_json::from_slice(&json).ok()?;
        let algorithm = algorithm_of(&said.alg)?;
        (!said.crit).then_some(Self { algorithm, kid: said.kid })
    }
}

/// What signs, by its name: one of RFC 7518, section 3.1, or RFC 8037, section 3.1; `Ed25519` is
/// what RFC 9864, section 2.2, calls `EdDSA` with that curve, the only one that we take.
fn algorithm_of(name: &str) -> Option<Algorithm> {
    if name == "Ed25519" { Some(Algorithm::EdDSA) } else { name.parse().ok() }
}

/// Whether a field stands there, whatever it holds.
fn is_there<'de, D: Deserializer<'de>>(from: D) -> Result<bool, D::Error> {
    IgnoredAny::deserialize(from).map(|_| true)
}

/// Beyond the year 9999 a token ends all the same.
const EXPIRES_S_MAX: f64 = 253_402_300_799.0;

impl InForce {
    fn read(settings: JwtSettings) -> Result<Self, BadKeys> {
        let mut found = Vec::new();
        for path in &settings.keys {
            let bad = |why: String| BadKeys { path: path.clone(), why };
            found.extend(keys::read(path).map_err(bad)?);
            if found.len() > limits::JWT_KEYS_MAX {
                return Err(bad(format!("more than {} keys in all", limits::JWT_KEYS_MAX)));
            }
        }
        Ok(Self { settings, keys: found })
    }

    fn has(&self, tag: KeyTag) -> bool {
        self.keys.iter().any(|key| key.tag == tag)
    }

    /// The key that verifies a token, and its claims.
    fn verified(&self, jwt: &str) -> Result<(KeyTag, Map<String, Value>), Foreign> {
        if jwt.len() > limits::JWT_BYTES_MAX {
            return Err(Foreign::Malformed);
        }
        let said = jwt.rsplit_once('.').and_then(|(said, _)| said.split_once('.'));
        let (head, claims) = said.ok_or(Foreign::Malformed)?;
        let head = JwtHead::read(head).ok_or(Foreign::Malformed)?;
        // A token that names a key is that one's. Where no key has that name, each without one is
        // tried, and with a token that names none all of them.
        let wanted = head.kid.as_deref();
        let is_known = wanted.is_some() && self.keys.iter().any(|key| key.kid.as_deref() == wanted);
        let named = |key: &&JwtKey| match key.kid.as_deref() {
            kid if is_known => kid == wanted,
            Some(_) => wanted.is_none(),
            None => true,
        };
        let has_signed = |key: &&JwtKey| {
            let (message, signature) = jwt.rsplit_once('.').unwrap_or_default();
            crypto::verify(signature, message.as_bytes(), &key.key, key.algorithm).is_ok_and(|is_good| is_good)
        };
        let mut fitting = self.keys.iter().filter(|key| key.algorithm == head.algorithm).filter(named);
        let key = fitting.find(has_signed).ok_or(Foreign::Signature)?;
        Ok((key.tag, self.good_now(claims)?))
    }

    /// The claims of a token whose signature is good, if they are.
    fn good_now(&self, claims: &str) -> Result<Map<String, Value>, Foreign> {
        // The head may have what the library's own does not take, and is judged already.
        let without_signature = format!("{PLAIN_HEAD}.{claims}.");
        let mut validation = self.validation(Algorithm::HS256);
        #[expect(deprecated, reason = "the signature was verified over the bytes that came")]
        validation.insecure_disable_signature_validation();
        let no_key = DecodingKey::from_secret(&[]);
        let token = decode::<Map<String, Value>>(without_signature, &no_key, &validation);
        token.map(|token| token.claims).map_err(|error| match error.kind() {
            ErrorKind::ExpiredSignature => Foreign::Expired,
            ErrorKind::ImmatureSignature => Foreign::Early,
            ErrorKind::InvalidIssuer => Foreign::Issuer,
            ErrorKind::InvalidAudience => Foreign::Audience,
            ErrorKind::MissingRequiredClaim(claim) if claim == "iss" => Foreign::Issuer,
            ErrorKind::MissingRequiredClaim(claim) if claim == "aud" => Foreign::Audience,
            ErrorKind::MissingRequiredClaim(_) | ErrorKind::InvalidClaimFormat(_) => Foreign::Claim,
            _ => Foreign::Malformed,
        })
    }

    fn validation(&self, algorithm: Algorithm) -> Validation {
        let mut validation = Validation::new(algorithm);
        validation.leeway = self.settings.leeway_s;
        validation.validate_nbf = true;
        let mut required = vec!["exp"];
        if let Some(issuer) = &self.settings.issuer {
            validation.set_issuer(&[issuer]);
            required.push("iss");
        }
        if self.settings.audiences.is_empty() {
            validation.validate_aud = false;
        } else {
            validation.set_audience(&self.settings.audiences);
            required.push("aud");
        }
        validation.set_required_spec_claims(&required);
        validation
    }
}

#[cfg(test)]
mod tests;
