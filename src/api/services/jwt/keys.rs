//! The keys that verify tokens of another system, as files hold them: a JWK set (RFC 7517), public
//! keys and certificates as PEM (RFC 7468), or a secret.
//!
//! Owns: what a file is taken for.
//! Never: takes for a secret what may be public, however the file with it begins: with it every
//! reader of the key could sign (RFC 8725, section 2.1). Never keeps a private key.
//! Bounds: [`limits::JWT_FILE_BYTES_MAX`] a file, [`limits::JWT_KEYS_MAX`] blocks of PEM,
//! [`limits::JWT_NAMED_MAX`] keys that are passed over by name.

use std::fs;
use std::io::Read;
use std::path::Path;

use aws_lc_rs::rsa::PublicEncryptingKey;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ED25519, ParsedPublicKey, RsaPublicKeyComponents, VerificationAlgorithm,
};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use jsonwebtoken::jwk::{AlgorithmParameters, CommonParameters, EllipticCurve, Jwk};
use jsonwebtoken::{Algorithm, DecodingKey, DecodingKeyKind};
use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest, Sha256};
use x509_cert::Certificate;
use x509_cert::der::asn1::{ObjectIdentifier, UintRef};
use x509_cert::der::{self, Decode, Reader, SliceReader};
use x509_cert::spki::SubjectPublicKeyInfoOwned;

use super::algorithm_of;
use crate::limits;

/// What names a key whatever file it lies in.
pub(super) type KeyTag = [u8; 16];

/// A key, and what it is for.
#[derive(Clone)]
pub(super) struct JwtKey {
    pub(super) tag: KeyTag,
    pub(super) kid: Option<String>,
    pub(super) algorithm: Algorithm,
    pub(super) key: DecodingKey,
}

/// What was found in a file.
#[derive(Default)]
struct Found {
    keys: Vec<JwtKey>,
    /// What verifies no tokens here, and why.
    passed_over: Vec<String>,
}

const PRIVATE: &str = "a private key: only its public part belongs here";
const UNUSABLE: &str = "no key of RSA (2,048 to 8,192 bits), P-256 or Ed25519";
/// What a block of PEM begins with (RFC 7468, section 2).
const BEGIN: &str = "-----BEGIN";
/// Characters of a name in a file that are shown.
const SHOWN_CHARS_MAX: usize = 64;

/// The keys of a file, at least one.
pub(super) fn read(path: &Path) -> Result<Vec<JwtKey>, String> {
    let mut bytes = Vec::new();
    let file = fs::File::open(path).map_err(|error| error.to_string())?;
    file.take(limits::JWT_FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    if bytes.len() as u64 > limits::JWT_FILE_BYTES_MAX {
        return Err(format!("more than {} bytes", limits::JWT_FILE_BYTES_MAX));
    }
    let found = found(&bytes)?;
    if !found.passed_over.is_empty() {
        let keys = named(&found.passed_over);
        tracing::info!(path = %path.display(), keys, "keys of other systems' tokens that are passed over");
    }
    Ok(found.keys)
}

fn found(bytes: &[u8]) -> Result<Found, String> {
    let text = std::str::from_utf8(bytes).map_err(|_| "no text".to_owned())?;
    // Some editors put a byte order mark before everything.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text).trim();
    if text.starts_with('{') {
        of_set(text)
    } else if text.contains(BEGIN) {
        of_pem(text)
    } else {
        of_secret(text).map(|key| Found { keys: vec![key], ..Found::default() })
    }
}

/// So many of these as a line of the log may have.
fn named(passed_over: &[String]) -> String {
    let mut line = passed_over.iter().take(limits::JWT_NAMED_MAX).map(String::as_str).collect::<Vec<_>>().join("; ");
    let more = passed_over.len().saturating_sub(limits::JWT_NAMED_MAX);
    if more > 0 {
        line.push_str(&format!("; and {more} more"));
    }
    line
}

fn shown(name: &str) -> String {
    format!("{:?}", name.chars().take(SHOWN_CHARS_MAX).collect::<String>())
}

/// A JWK set (RFC 7517, section 5), each key by itself.
#[derive(Deserialize)]
struct KeySet {
    keys: Vec<Value>,
}

/// Keys for other uses, of kinds that are not understood, and broken ones may stand beside ours:
/// "implementations SHOULD ignore" them (RFC 7517, section 5).
fn of_set(text: &str) -> Result<Found, String> {
    let set: KeySet = serde_json::from_str(text).map_err(|error| format!("no JWK set: {error}"))?;
    let mut found = Found::default();
    for (index, value) in set.keys.iter().enumerate() {
        match of_jwk(value) {
            Ok(key) => found.keys.push(key),
            Err(why) => {
                let kid = value.get("kid").and_then(Value::as_str).map(|kid| format!(" ({})", shown(kid)));
                found.passed_over.push(format!("key {}{}: {why}", index + 1, kid.unwrap_or_default()));
            }
        }
    }
    if found.keys.is_empty() {
        let why = named(&found.passed_over);
        return Err(format!("a JWK set without a key for HS256, RS256, ES256 or EdDSA: {why}"));
    }
    Ok(found)
}

/// A key of a set, if it is one that signs in a way that we take.
fn of_jwk(value: &Value) -> Result<JwtKey, String> {
    let said = |name: &str| value.get(name).filter(|value| !value.is_null());
    let text = |name: &str| said(name).and_then(Value::as_str);
    if said("d").is_some() {
        return Err(PRIVATE.to_owned());
    }
    let is_verify = |operation: &Value| operation.as_str() == Some("verify");
    let verifies = |operations: &Value| operations.as_array().is_some_and(|list| list.iter().any(is_verify));
    if said("use").is_some_and(|one| one.as_str() != Some("sig")) || said("key_ops").is_some_and(|ops| !verifies(ops)) {
        return Err("it verifies no signatures".to_owned());
    }
    // The library would take the fields of a key as an array, too.
    let object = Some(value).filter(|value| value.is_object()).cloned().unwrap_or_default();
    let parameters: AlgorithmParameters = serde_json::from_value(object).map_err(|_| {
        let kind = [text("kty"), text("crv")].into_iter().flatten().map(shown).collect::<Vec<_>>().join(", ");
        format!("a kind that is not known, or broken: {kind}")
    })?;
    let algorithm = match &parameters {
        AlgorithmParameters::OctetKey(_) => Algorithm::HS256,
        AlgorithmParameters::RSA(_) => Algorithm::RS256,
        AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => Algorithm::ES256,
        AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => Algorithm::EdDSA,
        _ => return Err(UNUSABLE.to_owned()),
    };
    if said("alg").is_some_and(|alg| alg.as_str().and_then(algorithm_of) != Some(algorithm)) {
        return Err(format!("for another algorithm: {}", shown(text("alg").unwrap_or_default())));
    }
    let tag = tag_of(&serde_json::to_vec(&parameters).map_err(|error| error.to_string())?);
    let jwk = Jwk { common: CommonParameters::default(), algorithm: parameters };
    let key = DecodingKey::from_jwk(&jwk).map_err(|_| "a number that is no base64url".to_owned())?;
    check(algorithm, &key)?;
    Ok(JwtKey { tag, kid: text("kid").map(str::to_owned), algorithm, key })
}

/// Public keys and certificates, each in a block of its own, with any text around them.
fn of_pem(text: &str) -> Result<Found, String> {
    let (mut found, mut certificates) = (Found::default(), Vec::new());
    let mut rest = text;
    while let Some((_, block)) = rest.split_once(BEGIN) {
        let unended = || "a block of PEM that does not end".to_owned();
        let (label, block) = block.split_once("-----").ok_or_else(unended)?;
        let label = label.trim();
        if label.contains("PRIVATE") {
            return Err(PRIVATE.to_owned());
        }
        let (body, behind) = block.split_once(&format!("-----END {label}-----")).ok_or_else(unended)?;
        let broken = || format!("{} as PEM that is broken", shown(label));
        let der = STANDARD.decode(body.split_ascii_whitespace().collect::<String>()).map_err(|_| broken())?;
        match label {
            "CERTIFICATE" => certificates.push(Certificate::from_der(&der).map_err(|_| broken())?),
            "PUBLIC KEY" => {
                let info = SubjectPublicKeyInfoOwned::from_der(&der).map_err(|_| broken())?;
                found.keys.push(of_info(&info)?);
            }
            "RSA PUBLIC KEY" => found.keys.push(public(Algorithm::RS256, &der)?),
            _ => return Err(format!("{} as PEM: public keys and certificates belong here", shown(label))),
        }
        if found.keys.len() + certificates.len() > limits::JWT_KEYS_MAX {
            return Err(format!("more than {} keys in all", limits::JWT_KEYS_MAX));
        }
        rest = behind;
    }
    for (index, certificate) in certificates.iter().enumerate() {
        if has_issued_one_of(certificate, &certificates) {
            found.passed_over.push(format!("certificate {}: an authority's, which signs no tokens", index + 1));
        } else {
            found.keys.push(of_info(certificate.tbs_certificate().subject_public_key_info())?);
        }
    }
    if found.keys.is_empty() { Err(UNUSABLE.to_owned()) } else { Ok(found) }
}

/// Whether a certificate stands there only because another one, which it has issued, does: a file
/// with a whole chain names one key, not those of its authorities.
fn has_issued_one_of(certificate: &Certificate, others: &[Certificate]) -> bool {
    let subject = certificate.tbs_certificate().subject();
    let mut others = others.iter().map(Certificate::tbs_certificate);
    others.any(|other| other.issuer() == subject && other.subject() != subject)
}

const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
const EC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
const P256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
const ED25519_KEY: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");

/// A `SubjectPublicKeyInfo` (RFC 5280, section 4.1.2.7).
fn of_info(info: &SubjectPublicKeyInfoOwned) -> Result<JwtKey, String> {
    let curve = || info.algorithm.parameters.as_ref().and_then(|any| any.decode_as::<ObjectIdentifier>().ok());
    let algorithm = match info.algorithm.oid {
        RSA => Algorithm::RS256,
        EC if curve() == Some(P256) => Algorithm::ES256,
        ED25519_KEY => Algorithm::EdDSA,
        _ => return Err(UNUSABLE.to_owned()),
    };
    public(algorithm, info.subject_public_key.as_bytes().ok_or(UNUSABLE)?)
}

/// A public key from what its algorithm calls one.
fn public(algorithm: Algorithm, material: &[u8]) -> Result<JwtKey, String> {
    let key = match algorithm {
        Algorithm::RS256 => {
            let (n, e) = numbers_of_rsa(material).map_err(|_| UNUSABLE.to_owned())?;
            DecodingKey::from_rsa_raw_components(&n, &e)
        }
        Algorithm::ES256 => DecodingKey::from_ec_der(material),
        _ => DecodingKey::from_ed_der(material),
    };
    check(algorithm, &key)?;
    Ok(JwtKey { tag: tag_of(material), kid: None, algorithm, key })
}

/// Modulus and exponent of an `RSAPublicKey` (RFC 8017, appendix A.1.1).
fn numbers_of_rsa(der: &[u8]) -> Result<(Vec<u8>, Vec<u8>), der::Error> {
    SliceReader::new(der)?.sequence(|inside| {
        let (n, e) = (UintRef::decode(inside)?, UintRef::decode(inside)?);
        Ok((n.as_bytes().to_vec(), e.as_bytes().to_vec()))
    })
}

/// Whether a key can verify anything: it is looked at now, not when the first token comes.
fn check(algorithm: Algorithm, key: &DecodingKey) -> Result<(), String> {
    let is_sound = match key.kind() {
        DecodingKeyKind::SecretOrDer(secret) if algorithm == Algorithm::HS256 => {
            return if secret.len() < limits::JWT_SECRET_BYTES_MIN { Err(too_short()) } else { Ok(()) };
        }
        DecodingKeyKind::SecretOrDer(point) => {
            let is_p256 = algorithm == Algorithm::ES256;
            let rules: &'static dyn VerificationAlgorithm = if is_p256 { &ECDSA_P256_SHA256_FIXED } else { &ED25519 };
            ParsedPublicKey::new(rules, point).is_ok()
        }
        DecodingKeyKind::RsaModulusExponent { n, e } => {
            // Its bounds are those of verification.
            TryInto::<PublicEncryptingKey>::try_into(RsaPublicKeyComponents { n, e }).is_ok()
        }
    };
    if is_sound { Ok(()) } else { Err(UNUSABLE.to_owned()) }
}

fn too_short() -> String {
    format!("a secret has at least {} bytes", limits::JWT_SECRET_BYTES_MIN)
}

/// A secret is one line, and nothing that looks as if it were public.
fn of_secret(line: &str) -> Result<JwtKey, String> {
    if line.contains(char::is_control) || line.starts_with(['[', '<', '"']) || is_public(line) {
        let why = "neither a JWK set nor public keys as PEM, and no secret: that is a single line, \
                   and nothing that may be public (a list, a page, a key, an address)";
        return Err(why.to_owned());
    }
    let key = DecodingKey::from_secret(line.as_bytes());
    check(Algorithm::HS256, &key)?;
    Ok(JwtKey { tag: tag_of(line.as_bytes()), kid: None, algorithm: Algorithm::HS256, key })
}

/// Whether a line is a key of OpenSSH, the address of a key set, or base64 of something public:
/// issuers show their keys without the lines of PEM, and settings carry whole files as base64.
fn is_public(line: &str) -> bool {
    let beginnings = ["ssh-", "ecdsa-sha2-", "sk-ssh-", "sk-ecdsa-", "http://", "https://"];
    let base64 = line.trim_end_matches('=').replace('-', "+").replace('_', "/");
    let is_hidden = |bytes: Vec<u8>| {
        let is_json = || serde_json::from_slice::<Value>(&bytes).is_ok_and(|json| json.is_object() || json.is_array());
        is_der(&bytes) || String::from_utf8_lossy(&bytes).contains(BEGIN) || is_json()
    };
    beginnings.iter().any(|beginning| line.starts_with(beginning))
        || STANDARD_NO_PAD.decode(base64).is_ok_and(is_hidden)
}

/// Whether bytes are one sequence of DER, with a sequence or a number first, as public keys and
/// certificates have it. Of random bytes one in eight million is.
fn is_der(bytes: &[u8]) -> bool {
    let (len, inside) = match bytes {
        [0x30, len @ 0..=0x7f, inside @ ..] => (usize::from(*len), inside),
        [0x30, 0x81, len, inside @ ..] => (usize::from(*len), inside),
        [0x30, 0x82, high, low, inside @ ..] => (usize::from(u16::from_be_bytes([*high, *low])), inside),
        _ => return false,
    };
    inside.len() == len && matches!(inside.first(), Some(0x30 | 0x02))
}

fn tag_of(key: &[u8]) -> KeyTag {
    let digest: [u8; 32] = Sha256::digest(key).into();
    let (tag, _) = digest.split_first_chunk().unwrap_or((&[0; 16], &[]));
    *tag
}

#[cfg(test)]
mod tests;
