//! Tokens in, subjects or nothing out.

use hmac::{Hmac, KeyInit, Mac};

use super::*;

const SECRET: &str = "a secret of more than thirty-two bytes";

fn jwt() -> Jwt {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), SECRET).expect("a file");
    let settings =
        JwtSettings { keys: vec![file.path().to_owned()], user_claim: "sub".to_owned(), ..JwtSettings::default() };
    Jwt::new(settings, Arc::default()).expect("it is a secret")
}

/// A token with this head and these claims, signed as HS256.
fn signed(head: &str, claims: &str) -> String {
    let said = format!("{}.{}", URL_SAFE_NO_PAD.encode(head), URL_SAFE_NO_PAD.encode(claims));
    let mut mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).expect("any length will do");
    mac.update(said.as_bytes());
    format!("{said}.{}", URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes()))
}

const CLAIMS: &str = r#"{"sub":"ann","exp":4102444800}"#;

#[test]
fn what_a_head_says_beside_what_counts_is_passed_over() {
    let jwt = jwt();
    for head in [
        r#"{"alg":"HS256"}"#,
        r#"{"typ":"JWT","cty":"","alg":"HS256","kid":"unknown"}"#,
        r#"{"alg":"HS256","eap":1,"iri":"x"}"#,
        r#"{"alg":"HS256","gty":["authorization_code"],"b":true,"x":null,"ext":{"a":[1,{"b":null}]}}"#,
        r#"{"alg":"HS256","exp":1893456000,"client":"c"}"#,
        r#"{"alg":"HS256","kid":null}"#,
        r#"{"alg":"HS256","typ":5,"x5c":"MIIC","jwk":{"kty":"AKP","pub":"x"},"zip":1,"enc":{}}"#,
        "{\n  \"kid\" : \"k\",\n  \"alg\" : \"HS256\"\n}",
        r#"{"alg":"HS\u0032\u00356"}"#,
    ] {
        assert_eq!(jwt.subject(&signed(head, CLAIMS)).as_deref(), Some("ann"), "{head}");
    }
}

#[test]
fn a_head_that_wants_more_than_is_understood_or_another_key_opens_nothing() {
    let jwt = jwt();
    for head in [
        r#"{"alg":"HS256","crit":["x"],"x":1}"#,
        r#"{"alg":"HS256","crit":["b64"],"b64":false}"#,
        r#"{"alg":"HS256","crit":[]}"#,
        r#"{"alg":"HS256","crit":null}"#,
        r#"{"alg":"none"}"#,
        r#"{"alg":"None"}"#,
        r#"{"alg":"hs256"}"#,
        r#"{"alg":"HS512"}"#,
        r#"{"alg":"RS256"}"#,
        r#"{"alg":"Ed25519"}"#,
        r#"{"alg":["HS256"]}"#,
        r#"{"alg":null}"#,
        r#"{"alg":"HS256","alg":"HS256"}"#,
        r#"{"alg":"HS256","kid":5}"#,
        r#"{"typ":"JWT"}"#,
        r#"["HS256"]"#,
        r#"{"alg":"HS256"} x"#,
        "",
    ] {
        assert_eq!(jwt.subject(&signed(head, CLAIMS)), None, "{head}");
    }
}

#[test]
fn every_byte_of_a_token_is_signed() {
    let jwt = jwt();
    let good = signed(r#"{"alg":"HS256","eap":1}"#, CLAIMS);
    assert_eq!(jwt.subject(&good).as_deref(), Some("ann"));
    let (message, signature) = good.rsplit_once('.').expect("a signature");
    let (head, claims) = message.split_once('.').expect("claims");
    let evil = URL_SAFE_NO_PAD.encode(CLAIMS.replace("ann", "bob"));
    for bad in [
        format!("{message}."),
        message.to_owned(),
        format!("{message}.{signature}="),
        format!("{message}.{signature}.{signature}"),
        format!("{head}.{evil}.{signature}"),
        format!("{}.{claims}.{signature}", URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256"}"#)),
        format!("{PLAIN_HEAD}.{claims}."),
        format!("{head}..{signature}"),
    ] {
        assert_eq!(jwt.subject(&bad), None, "{bad}");
    }
    for claims in
        [r#"{"sub":"ann","exp":1}"#, r#"{"sub":"ann"}"#, r#"{"sub":"a","sub":"b","exp":4102444800}"#, "[1]", ""]
    {
        assert_eq!(jwt.subject(&signed(r#"{"alg":"HS256"}"#, claims)), None, "{claims}");
    }
}

#[test]
fn why_a_token_is_not_good_is_told() {
    let mut jwt = jwt();
    let head = r#"{"alg":"HS256"}"#;
    let why = |jwt: &Jwt, token: &str| jwt.in_force.read().verified(token).map(|_| ()).err();
    let forged = format!("{}x", signed(head, CLAIMS));
    for (token, expected) in [
        (signed(head, CLAIMS), None),
        (signed(head, r#"{"sub":"ann","exp":1}"#), Some(Foreign::Expired)),
        (signed(head, r#"{"sub":"ann","exp":4102444800,"nbf":4102444800}"#), Some(Foreign::Early)),
        (signed(head, r#"{"sub":"ann"}"#), Some(Foreign::Claim)),
        (signed(head, "[1]"), Some(Foreign::Malformed)),
        (signed("{}", CLAIMS), Some(Foreign::Malformed)),
        (forged, Some(Foreign::Signature)),
        ("a.b".to_owned(), Some(Foreign::Malformed)),
        ("a".repeat(limits::JWT_BYTES_MAX + 1), Some(Foreign::Malformed)),
    ] {
        assert_eq!(why(&jwt, &token), expected, "{token}");
    }
    let mut wants = InForce { settings: jwt.in_force.read().settings.clone(), keys: Vec::new() };
    std::mem::swap(&mut wants.keys, &mut Arc::get_mut(jwt.in_force.get_mut()).expect("its own").keys);
    (wants.settings.issuer, wants.settings.audiences) = (Some("us".to_owned()), vec!["chat".to_owned()]);
    *jwt.in_force.get_mut() = Arc::new(wants);
    for (more, expected) in [
        (r#","iss":"us","aud":"chat""#, None),
        (r#","iss":"them","aud":"chat""#, Some(Foreign::Issuer)),
        (r#","iss":"us","aud":"mail""#, Some(Foreign::Audience)),
        (r#","iss":"us""#, Some(Foreign::Audience)),
        (r#","aud":"chat""#, Some(Foreign::Issuer)),
    ] {
        let claims = CLAIMS.replace('}', &format!("{more}}}"));
        assert_eq!(why(&jwt, &signed(head, &claims)), expected, "{claims}");
    }
}
