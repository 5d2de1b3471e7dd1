//! Users of another system come with its tokens (JWT). Node's crypto signs them.

use std::fs;
use std::path::Path;
use std::process::Command;

use imgate::node::Tuning;
use serde_json::{Value, json};

use crate::support::{Client, Gateway, V2, ask, connect};

/// Makes four keys: prints their public parts as JWKs (the secret as one, too), PEM of the RSA key and of that of Ed25519, and
/// the tokens of the claims that are given for each.
const SIGN: &str = r#"
const c = require('crypto');
const b64 = (x) => Buffer.from(x).toString('base64url');
const secret = c.createHash('sha256').update('a secret').digest();
const rsa = c.generateKeyPairSync('rsa', { modulusLength: 2048 });
const ec = c.generateKeyPairSync('ec', { namedCurve: 'P-256' });
const ed = c.generateKeyPairSync('ed25519');
const pem = rsa.publicKey.export({ type: 'spki', format: 'pem' });
const edPem = ed.publicKey.export({ type: 'spki', format: 'pem' });
const sign = {
  HS256: (d) => c.createHmac('sha256', secret).update(d).digest('base64url'),
  RS256: (d) => c.sign('sha256', Buffer.from(d), rsa.privateKey).toString('base64url'),
  ES256: (d) => c.sign('sha256', Buffer.from(d), { key: ec.privateKey, dsaEncoding: 'ieee-p1363' }).toString('base64url'),
  EdDSA: (d) => c.sign(null, Buffer.from(d), ed.privateKey).toString('base64url'),
  Ed25519: (d) => sign.EdDSA(d),
  none: () => '',
  confused: (d) => c.createHmac('sha256', pem).update(d).digest('base64url'),
  trimmed: (d) => c.createHmac('sha256', '\ufeff' + pem.trim()).update(d).digest('base64url'),
};
const token = ([alg, claims, kid]) => {
  const said = alg === 'confused' || alg === 'trimmed' ? 'HS256' : alg;
  const data = b64(JSON.stringify({ typ: 'JWT', alg: said, ...(kid === null ? {} : { kid: kid || alg }) })) + '.' + b64(JSON.stringify(claims));
  return data + '.' + sign[alg](data);
};
// `lasts` in claims: for so many seconds from now on, when the keys are there.
const wishes = JSON.parse(process.argv[1]);
for (const [, claims] of wishes) {
  if (claims?.lasts) claims.exp = Math.floor(Date.now() / 1000) + claims.lasts;
}
const keys = [
  { kty: 'oct', k: secret.toString('base64url'), kid: 'HS256', alg: 'HS256' },
  { ...rsa.publicKey.export({ format: 'jwk' }), kid: 'RS256', use: 'sig' },
  { ...ec.publicKey.export({ format: 'jwk' }), kid: 'ES256' },
  { ...ed.publicKey.export({ format: 'jwk' }), kid: 'EdDSA', alg: 'Ed25519' },
];
console.log(JSON.stringify({ keys, pem, edPem, tokens: wishes.map(token) }));
"#;

/// The keys, the PEM of the RSA key, and a token for each wish: algorithm, claims and perhaps a `kid`.
fn sign(wishes: &Value) -> (Vec<Value>, String, Vec<String>) {
    let (keys, [pem, _], tokens) = sign_for(wishes);
    (keys, pem, tokens)
}

/// As [`sign`], with the PEM of the keys of RSA and of Ed25519.
fn sign_for(wishes: &Value) -> (Vec<Value>, [String; 2], Vec<String>) {
    let output = Command::new("node").args(["-e", SIGN, &wishes.to_string()]).output().expect("node runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let said: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let texts = |value: &Value| {
        value.as_array().expect("a list").iter().map(|text| text.as_str().expect("text").to_owned()).collect()
    };
    (
        said["keys"].as_array().expect("keys").clone(),
        ["pem", "edPem"].map(|name| said[name].as_str().expect("PEM").to_owned()),
        texts(&said["tokens"]),
    )
}

fn now_s() -> u64 {
    imgate::clock::wall_ms() / 1000
}

fn write_set(path: &Path, keys: &[Value]) {
    fs::write(path, json!({ "keys": keys }).to_string()).expect("a file");
}

fn start(path: &Path, more: &[(&str, &str)]) -> Gateway {
    let mut settings =
        vec![("jwt_keys", path.to_str().expect("UTF-8")), ("jwt_leeway", "0"), ("registration", "closed")];
    settings.extend_from_slice(more);
    Gateway::start_with(2, 0, &settings, Tuning::default())
}

fn me(gateway: &Gateway, token: &str) -> (u16, Value) {
    ask(gateway.address(), "GET", "/api/v1/me", token, &Value::Null)
}

#[test]
fn tokens_of_every_kind_let_their_users_in_wherever_they_stand() {
    let folder = tempfile::tempdir().expect("a folder");
    let set = folder.path().join("keys.json");
    let claims =
        |sub: &str| json!({ "sub": sub, "name": "Ann", "picture": "https://x.example/a.png", "exp": now_s() + 600 });
    let (keys, _, tokens) = sign(&json!([
        ["HS256", claims("a")],
        ["RS256", claims("a")],
        ["ES256", claims("b")],
        ["EdDSA", claims("c"), null],
        ["Ed25519", claims("c"), "EdDSA"],
    ]));
    write_set(&set, &keys);
    let gateway = start(&set, &[]);
    let found: Vec<Value> = tokens
        .iter()
        .map(|token| me(&gateway, token))
        .map(|(status, me)| {
            assert_eq!(
                (status, me["nickname"].as_str(), me["avatar"].as_str()),
                (200, Some("Ann"), Some("https://x.example/a.png")),
                "{me}"
            );
            me["id"].clone()
        })
        .collect();
    assert!(
        found[0] == found[1] && found[1] != found[2] && found[2] != found[3] && found[3] == found[4],
        "a user is its subject: {found:?}"
    );
    // In the query, in the header, among the offered subprotocols.
    let address = gateway.address();
    let mut one = Client::v2(address, &tokens[0]);
    let bearer = format!("Bearer {}", tokens[2]);
    let mut two = Client::open(connect(address), &format!("ws://{address}/chat"), &[V2, ("Authorization", &bearer)])
        .expect("101")
        .opened();
    let offer = format!("imgate.v2, token.{}", tokens[3]);
    let mut three =
        Client::open(connect(address), &format!("ws://{address}/chat"), &[("Sec-WebSocket-Protocol", &offer)])
            .expect("101")
            .opened();
    two.say_acked(10, found[0].as_u64().expect("an id"), "c1", "hello");
    assert_eq!(one.wait_for(10)["userid"], found[2]);
    three.say_acked(10, found[0].as_u64().expect("an id"), "c1", "me, too");
    assert_eq!(one.wait_for(10)["userid"], found[3]);
}

#[test]
fn a_token_that_is_not_right_in_everything_opens_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let (set, pem) = (folder.path().join("keys.json"), folder.path().join("rsa.pem"));
    let good = |exp: u64| json!({ "sub": "a", "iss": "https://id.example", "aud": ["x", "chat"], "exp": exp });
    let with = |key: &str, value: Value| {
        let mut claims = good(now_s() + 600);
        if value.is_null() {
            claims.as_object_mut().expect("an object").remove(key);
        } else {
            claims[key] = value;
        }
        claims
    };
    let (keys, public, tokens) = sign(&json!([
        ["RS256", good(now_s() + 600), null],
        ["ES256", good(now_s() + 600)],
        ["RS256", good(now_s() - 5)],
        ["RS256", with("exp", Value::Null)],
        ["RS256", with("aud", json!("other"))],
        ["RS256", with("aud", Value::Null)],
        ["RS256", with("iss", json!("https://evil.example"))],
        ["RS256", with("iss", Value::Null)],
        ["RS256", with("sub", Value::Null)],
        ["RS256", with("sub", json!(""))],
        ["RS256", with("nbf", json!(now_s() + 300))],
        ["none", good(now_s() + 600)],
        ["confused", good(now_s() + 600), null],
        ["RS256", good(now_s() + 600), "ES256"],
        ["EdDSA", good(now_s() + 600)],
    ]));
    // The other keys are in a set; that of RSA is alone in a file of PEM, which names it by nothing.
    write_set(&set, &[keys[2].clone()]);
    fs::write(&pem, public).expect("a file");
    let (set, pem) = (set.to_str().expect("UTF-8"), pem.to_str().expect("UTF-8"));
    let data = folder.path().join("data");
    fs::create_dir(&data).expect("a folder");
    let mut layers = imgate::config::Layers::default();
    for (key, values) in [
        ("listen", vec!["127.0.0.1:0"]),
        ("admin", vec!["127.0.0.1:0"]),
        ("data", vec![data.to_str().expect("UTF-8")]),
        ("shards", vec!["2"]),
        ("jwt_keys", vec![set, pem]),
        ("jwt_leeway", vec!["0"]),
        ("jwt_issuer", vec!["https://id.example"]),
        ("jwt_audience", vec!["chat"]),
    ] {
        let field = imgate::config::FIELDS.iter().find(|field| field.key == key).expect("a setting");
        layers.flag(field, values.into_iter().map(str::to_owned).collect());
    }
    let config = imgate::config::Config::from_layers(&layers).expect("a configuration");
    let node = imgate::node::Node::start(&config, Tuning::default()).expect("it starts");
    let address = node.addresses()[0];
    let status = |token: &str| ask(address, "GET", "/api/v1/me", token, &Value::Null).0;
    assert_eq!((status(&tokens[0]), status(&tokens[1])), (200, 200));
    for (number, bad) in tokens.iter().enumerate().skip(2) {
        assert_eq!(status(bad), 401, "token {number}: {bad}");
        assert_eq!(Client::v2_at_once(address, bad).closed(), 4501, "token {number}");
    }
    let tampered = tokens[0].replacen("eyJ", "eyK", 2);
    assert_eq!(status(&tampered), 401);
    node.stop();
}

#[test]
fn a_session_ends_with_its_token() {
    let folder = tempfile::tempdir().expect("a folder");
    let set = folder.path().join("keys.json");
    // Long enough for a busy machine to start and connect.
    let (keys, _, tokens) = sign(&json!([["EdDSA", { "sub": "a", "lasts": 8 }]]));
    write_set(&set, &keys);
    let gateway = start(&set, &[]);
    let mut client = Client::v2(gateway.address(), &tokens[0]);
    assert_eq!(client.closed(), 4501);
    assert_eq!(me(&gateway, &tokens[0]).0, 401);
}

#[test]
fn logging_out_everywhere_voids_what_was_made_before() {
    let folder = tempfile::tempdir().expect("a folder");
    let set = folder.path().join("keys.json");
    let made = |iat: Option<u64>| {
        let mut claims = json!({ "sub": "a", "exp": now_s() + 600 });
        if let Some(iat) = iat {
            claims["iat"] = iat.into();
        }
        json!(["HS256", claims])
    };
    // None of them but the first is shown before, so that none is known by heart.
    let now = now_s();
    let (keys, _, tokens) = sign(&json!([made(Some(now - 9)), made(Some(now - 5)), made(Some(now + 60)), made(None)]));
    write_set(&set, &keys);
    let gateway = start(&set, &[]);
    assert_eq!(me(&gateway, &tokens[0]).0, 200);
    let wish = json!({ "everywhere": true });
    assert_eq!(ask(gateway.address(), "POST", "/api/v1/logout", &tokens[0], &wish).0, 200);
    let after: Vec<u16> = tokens.iter().map(|token| me(&gateway, token).0).collect();
    assert_eq!(after, [401, 401, 200, 200], "made before it, before it, after it, and at no time");
}

#[test]
fn a_key_that_is_removed_ends_its_tokens_and_no_others() {
    let folder = tempfile::tempdir().expect("a folder");
    let set = folder.path().join("keys.json");
    let claims = |sub: &str| json!({ "sub": sub, "uid": 4711, "exp": now_s() + 600 });
    let (keys, _, tokens) = sign(&json!([["ES256", claims("a")], ["EdDSA", claims("b")]]));
    write_set(&set, &keys);
    let mut gateway = start(&set, &[]);
    let (mut old, mut new) = (Client::v2(gateway.address(), &tokens[0]), Client::v2(gateway.address(), &tokens[1]));
    // A file that is none changes nothing.
    fs::write(&set, "{").expect("a file");
    assert!(gateway.adjust(&[("token_ttl", "1d")]).is_err_and(|why| why.contains("keys.json")));
    assert_eq!((me(&gateway, &tokens[0]).0, me(&gateway, &tokens[1]).0), (200, 200));
    write_set(&set, &keys[3..]);
    gateway.adjust(&[]).expect("a set of keys");
    assert_eq!(old.closed(), 4000, "it may come back with another token");
    assert_eq!((me(&gateway, &tokens[0]).0, me(&gateway, &tokens[1]).0), (401, 200));
    assert_eq!(Client::v2_at_once(gateway.address(), &tokens[0]).closed(), 4501);
    new.send(&json!({ "cmd": 0 }));
    assert_eq!(new.wait_for(0)["cmd"], 0, "the other one goes on");
}

#[test]
fn files_of_public_keys_are_never_secrets_and_each_key_in_them_counts() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("keys.pem");
    let claims = |sub: &str| json!({ "sub": sub, "exp": now_s() + 600 });
    let (keys, [rsa, ed], tokens) = sign_for(&json!([
        ["RS256", claims("a"), null],
        ["EdDSA", claims("b"), null],
        ["confused", claims("evil"), null],
        ["trimmed", claims("evil"), null],
    ]));
    fs::write(&file, format!("\u{feff}{rsa}")).expect("a file");
    let mut gateway = start(&file, &[]);
    let statuses = |gateway: &Gateway| tokens.iter().map(|token| me(gateway, token).0).collect::<Vec<_>>();
    assert_eq!(statuses(&gateway), [200, 401, 401, 401], "a byte order mark makes no secret of a public key");
    let mut old = Client::v2(gateway.address(), &tokens[0]);
    // The new one is added to the file, as the manual has it: both count, and no session ends.
    fs::write(&file, format!("# the old one\n{rsa}# the new one\n{ed}")).expect("a file");
    gateway.adjust(&[]).expect("two keys");
    assert_eq!(statuses(&gateway), [200, 200, 401, 401]);
    old.send(&json!({ "cmd": 0 }));
    assert_eq!(old.wait_for(0)["cmd"], 0, "its key is still there");
    // What is public and in no form that is known changes nothing.
    for public in
        [json!(keys).to_string(), format!("<html>{}</html>", keys[1]), format!("{rsa}-----BEGIN PUBLIC KEY-----")]
    {
        fs::write(&file, &public).expect("a file");
        assert!(gateway.adjust(&[]).is_err_and(|why| why.contains("keys.pem")), "{public}");
        assert_eq!(statuses(&gateway), [200, 200, 401, 401]);
    }
    // Beside a key of a kind that is not known yet ours counts.
    let stranger = json!({ "kty": "AKP", "alg": "ML-DSA-65", "pub": "AAAA", "kid": "EdDSA" });
    write_set(&file, &[stranger, keys[3].clone()]);
    gateway.adjust(&[]).expect("one key of two");
    assert_eq!(statuses(&gateway), [401, 200, 401, 401]);
}
