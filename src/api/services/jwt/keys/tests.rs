//! Files of keys in, keys or reasons out.

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, PKCS_ECDSA_P256_SHA256};
use rcgen::{PKCS_ECDSA_P384_SHA384, PKCS_ED25519, SignatureAlgorithm};
use serde_json::json;

use super::*;

fn made(algorithm: &'static SignatureAlgorithm) -> KeyPair {
    KeyPair::generate_for(algorithm).expect("a key")
}

fn named_after(name: &str) -> CertificateParams {
    let mut wanted = CertificateParams::default();
    wanted.distinguished_name.push(DnType::CommonName, name);
    wanted
}

/// The algorithms of the keys of a file, or why it is refused.
fn algorithms(file: &[u8]) -> Result<Vec<Algorithm>, String> {
    found(file).map(|found| found.keys.iter().map(|key| key.algorithm).collect())
}

fn tags(file: &str) -> Vec<KeyTag> {
    found(file.as_bytes()).unwrap_or_else(|why| panic!("{why}: {file}")).keys.iter().map(|key| key.tag).collect()
}

fn point(key: &KeyPair) -> (String, String) {
    let base64 = base64::engine::general_purpose::URL_SAFE_NO_PAD;
    let (x, y) = key.public_key_raw()[1..].split_at(32);
    (base64.encode(x), base64.encode(y))
}

/// What stands between the lines of PEM, in one line.
fn bare_of(pem: &str) -> String {
    pem.lines().filter(|line| !line.starts_with('-')).collect()
}

#[test]
fn a_public_key_is_the_same_key_however_the_file_with_it_begins() {
    let key = made(&PKCS_ECDSA_P256_SHA256);
    let pem = key.public_key_pem();
    let certificate = named_after("x").self_signed(&key).expect("a certificate").pem();
    let same = tags(&pem);
    assert_eq!((same.len(), algorithms(pem.as_bytes())), (1, Ok(vec![Algorithm::ES256])));
    for other in [
        format!("\u{feff}{pem}"),
        format!("\u{feff}\r\n# the issuer of 2026\r\n{}", pem.replace('\n', "\r\n")),
        format!("{}\nwords behind it\n", pem.trim_end()),
        certificate.clone(),
        format!("Certificate:\n    Data:\n        Version: 3 (0x2)\n{certificate}"),
    ] {
        assert_eq!(tags(&other), same, "{other}");
    }
}

#[test]
fn every_key_of_a_file_counts() {
    let (old, new, third) = (made(&PKCS_ECDSA_P256_SHA256), made(&PKCS_ED25519), made(&PKCS_ECDSA_P256_SHA256));
    let third = named_after("x").self_signed(&third).expect("a certificate").pem();
    let file = format!("# old\n{}# new\n{}{third}", old.public_key_pem(), new.public_key_pem());
    assert_eq!(algorithms(file.as_bytes()), Ok(vec![Algorithm::ES256, Algorithm::EdDSA, Algorithm::ES256]));
    assert_eq!(tags(&file)[..2], [tags(&old.public_key_pem()), tags(&new.public_key_pem())].concat());
    let many = old.public_key_pem().repeat(limits::JWT_KEYS_MAX + 1);
    assert!(algorithms(many.as_bytes()).is_err_and(|why| why.contains("more than 16 keys")));
}

#[test]
fn a_chain_of_certificates_names_one_key_and_not_those_of_its_authorities() {
    let authority = made(&PKCS_ED25519);
    let mut wanted = named_after("an authority");
    wanted.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let root = wanted.self_signed(&authority).expect("a certificate").pem();
    let key = made(&PKCS_ECDSA_P256_SHA256);
    let leaf = named_after("a signer").signed_by(&key, &Issuer::new(wanted, authority)).expect("a certificate").pem();
    for chain in [format!("{leaf}{root}"), format!("{root}{leaf}"), leaf] {
        assert_eq!(tags(&chain), tags(&key.public_key_pem()), "{chain}");
    }
}

#[test]
fn what_is_public_is_never_a_secret() {
    let key = made(&PKCS_ECDSA_P256_SHA256);
    let (pem, (x, y)) = (key.public_key_pem(), point(&key));
    let jwk = json!({ "kty": "EC", "crv": "P-256", "x": x, "y": y });
    let set = json!({ "keys": [jwk] }).to_string();
    assert_eq!(algorithms(format!("\u{feff}{set}").as_bytes()), Ok(vec![Algorithm::ES256]));
    let bare = bare_of(&pem);
    for public in [
        json!([jwk]).to_string(),
        jwk.to_string(),
        json!(set).to_string(),
        json!(pem).to_string(),
        "<!DOCTYPE html><html><body>404 Not Found: the key set</body></html>".to_owned(),
        bare.clone(),
        format!("\u{feff}{bare}\n"),
        bare.trim_end_matches('=').replace('+', "-").replace('/', "_"),
        bare_of(&made(&PKCS_ED25519).public_key_pem()),
        STANDARD.encode(&pem),
        STANDARD.encode(format!("\u{feff}{pem}")),
        STANDARD.encode(&set),
        pem.lines().filter(|line| !line.starts_with('-')).collect::<Vec<_>>().join("\n"),
        pem.replace('\n', "\\n"),
        pem.encode_utf16().flat_map(u16::to_le_bytes).map(char::from).collect(),
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIDSjJw1lVzMvIKi0H4rWqPOJSjcyAsTHqT7ayQ== me@here".to_owned(),
        "https://id.example/realms/chat/protocol/openid-connect/certs".to_owned(),
        "-----BEGIN PUBLIC KEY-----".to_owned(),
        "-----BEGIN".to_owned(),
        format!("{pem}-----BEGIN PUBLIC KEY-----\nMFkw\n-----END PUBLIC KEY-----\n"),
    ] {
        let judged = algorithms(public.as_bytes());
        assert!(judged.as_ref().is_err_and(|why| !why.is_empty()), "{judged:?}: {public}");
    }
}

#[test]
fn a_key_that_can_verify_nothing_is_refused_with_its_file() {
    let (good, other) = (made(&PKCS_ED25519), made(&PKCS_ECDSA_P384_SHA384));
    for file in [
        other.public_key_pem(),
        format!("{}{}", good.public_key_pem(), other.public_key_pem()),
        format!(
            "{}-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n",
            good.public_key_pem()
        ),
        // RSA of 512 bits.
        "-----BEGIN PUBLIC KEY-----\nMFwwDQYJKoZIhvcNAQEBBQADSwAwSAJBAKj34GkxFhD90vcNLYLInFEX6Ppy1tPf\n\
         9Cnzj4p4WGeKLs1Pt8QuKUpRKfFLfRYC9AIKjbJTWit+CqvjWYzvQwECAwEAAQ==\n-----END PUBLIC KEY-----\n"
            .to_owned(),
    ] {
        assert!(algorithms(file.as_bytes()).is_err(), "{file}");
    }
}

#[test]
fn a_private_key_is_refused_wherever_it_stands() {
    let (key, other) = (made(&PKCS_ED25519), made(&PKCS_ECDSA_P256_SHA256));
    let (public, private) = (key.public_key_pem(), key.serialize_pem());
    let (x, y) = point(&other);
    for file in [
        private.clone(),
        format!("\u{feff}{private}"),
        format!("{public}# and the other one\n{private}"),
        format!("{private}{public}"),
        private.replace("PRIVATE", "ENCRYPTED PRIVATE"),
        json!({ "keys": [{ "kty": "EC", "crv": "P-256", "x": x, "y": y, "d": x }] }).to_string(),
    ] {
        assert!(algorithms(file.as_bytes()).is_err_and(|why| why.contains("a private key")), "{file}");
    }
}

#[test]
fn a_secret_is_one_line_of_thirty_two_bytes() {
    let secret = "not-so-secret-but-long-enough-to-be-one";
    let same = tags(secret);
    assert_eq!(algorithms(secret.as_bytes()), Ok(vec![Algorithm::HS256]));
    for other in [format!("\u{feff}{secret}"), format!("{secret}\r\n"), format!("\u{feff}{secret}\n\n")] {
        assert_eq!(tags(&other), same, "{other:?}");
    }
    // What `openssl rand` writes, and a JWT's own alphabet.
    for good in [STANDARD.encode([7; 32]), STANDARD.encode([0x30; 32]), "0123456789abcdef".repeat(4)] {
        assert_eq!(algorithms(good.as_bytes()), Ok(vec![Algorithm::HS256]), "{good}");
    }
    for bad in ["", "\u{feff}", &secret[..31], "thirty-two bytes on two lines,\nbut no secret"] {
        assert!(algorithms(bad.as_bytes()).is_err(), "{bad:?}");
    }
}

#[test]
fn strangers_in_a_set_are_passed_over_and_named() {
    let key = made(&PKCS_ECDSA_P256_SHA256);
    let (x, y) = point(&key);
    let ours =
        json!({ "kty": "EC", "crv": "P-256", "x": x, "y": y, "kid": "ours", "use": "sig", "x5c": 1, "key_ops": null });
    let strangers = [
        (json!({ "kty": "AKP", "alg": "ML-DSA-65", "pub": "AAAA", "kid": "pq" }), "\"AKP\""),
        (json!({ "kty": "EC", "crv": "secp256k1", "x": x, "y": y, "alg": "ES256K" }), "\"secp256k1\""),
        (json!({ "kty": "OKP", "crv": "X25519", "x": x, "use": "enc" }), "no signatures"),
        (json!({ "kty": "OKP", "crv": "Ed448", "x": x, "alg": "EdDSA" }), "\"Ed448\""),
        (json!({ "kty": "OKP", "crv": "Ed25519", "x": x, "alg": "Ed448" }), "\"Ed448\""),
        (json!({ "kty": "EC", "crv": "P-256", "x": x, "y": y, "alg": "Ed25519" }), "\"Ed25519\""),
        (json!({ "kty": "RSA", "e": "AQAB", "kid": "broken" }), "broken"),
        (json!({ "kty": "RSA", "n": "AQAB", "e": "AQAB" }), UNUSABLE),
        (json!({ "kty": "RSA", "n": "not base64!", "e": "AQAB" }), "no base64url"),
        (json!({ "kty": "EC", "crv": "P-256", "x": y, "y": y }), UNUSABLE),
        (json!({ "kty": "EC", "crv": "P-384", "x": x, "y": y }), UNUSABLE),
        (json!({ "kty": "EC", "crv": "P-256", "x": x, "y": y, "alg": "ECDH-ES" }), "ECDH-ES"),
        (json!({ "kty": "EC", "crv": "P-256", "x": x, "y": y, "use": "tls" }), "no signatures"),
        (json!({ "kty": "EC", "crv": "P-256", "x": x, "y": y, "key_ops": ["deriveKey"] }), "no signatures"),
        (json!({ "kty": "EC", "crv": "P-256", "x": x, "y": y, "d": x }), PRIVATE),
        (json!({ "kty": "oct", "k": "c2hvcnQ" }), "32 bytes"),
        (json!("no key at all"), "not known"),
        (json!(["EC", "P-256", x, y]), "not known"),
    ];
    for (stranger, told) in &strangers {
        let set = json!({ "keys": [stranger, ours] }).to_string();
        let found = found(set.as_bytes()).unwrap_or_else(|why| panic!("{why}: {set}"));
        assert_eq!(found.keys.iter().map(|key| key.kid.as_deref()).collect::<Vec<_>>(), [Some("ours")], "{set}");
        assert!(matches!(&found.passed_over[..], [one] if one.contains(told)), "{:?}: {told}", found.passed_over);
    }
    // None of a set is too few, and no set is told in more than a line.
    let all: Vec<Value> = strangers.iter().map(|(stranger, _)| stranger.clone()).collect();
    let refused = algorithms(json!({ "keys": all }).to_string().as_bytes()).expect_err("no key");
    assert!(refused.contains("key 1 (\"pq\")") && refused.ends_with("; and 10 more"), "{refused}");
    assert!(algorithms(br#"{"keys":[]}"#).is_err() && algorithms(b"{}").is_err());
}
