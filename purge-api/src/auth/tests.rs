//! Who is believed and who is not.

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair,
};
use axum::http::HeaderValue;
use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use super::*;

const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";
const NEW_SECRET: &[u8] = b"fedcba9876543210fedcba9876543210";
const NOW: UnixMillis = UnixMillis(1_800_000_000_000);
const SECONDS: u64 = NOW.0 / 1000;

fn principal(name: &str, keys: Vec<(String, KeyMaterial)>) -> PrincipalConfig {
    PrincipalConfig {
        name: name.to_owned(),
        scope: Scope::default(),
        per_second: 50,
        wide_per_second: 5,
        certificates: vec![format!("spiffe://seawall/{name}")],
        keys,
    }
}

fn hmac_keys() -> Vec<(String, KeyMaterial)> {
    vec![
        ("old".to_owned(), KeyMaterial::Hmac(SECRET.to_vec())),
        ("new".to_owned(), KeyMaterial::Hmac(NEW_SECRET.to_vec())),
    ]
}

fn authenticator(keys: Vec<(String, KeyMaterial)>) -> Authenticator {
    let principals = vec![principal("origin", keys)];
    Authenticator::new(principals, "purge.example".to_owned(), UnixMillis(0)).unwrap()
}

/// A request as it is sent, before and after somebody touches it.
#[derive(Clone)]
struct Sent {
    method: &'static str,
    host: &'static str,
    path: &'static str,
    headers: HeaderMap,
    body: &'static [u8],
}

impl Sent {
    fn plain() -> Self {
        Self {
            method: "POST",
            host: "purge.example",
            path: "/v1/purges?x=1",
            headers: HeaderMap::new(),
            body: b"{}",
        }
    }

    fn signed(mut self, key: &str, secret: &[u8], timestamp: u64, nonce: &str) -> Self {
        let value = sign(
            key,
            secret,
            &Signed {
                method: self.method,
                host: self.host,
                path_and_query: self.path,
                headers: &self.headers,
                body: self.body,
                timestamp,
                nonce,
            },
        );
        self.set("authorization", &value);
        self
    }

    fn with_token(mut self, token: &str) -> Self {
        self.set("authorization", &format!("Bearer {token}"));
        self
    }

    fn set(&mut self, name: &'static str, value: &str) {
        self.headers
            .insert(name, HeaderValue::from_str(value).unwrap());
    }

    fn ask(&self, authenticator: &Authenticator, now: UnixMillis) -> Result<String, Denied> {
        let shown = Shown {
            method: self.method,
            host: self.host,
            path_and_query: self.path,
            headers: &self.headers,
            body: self.body,
            certificate_names: &[],
        };
        authenticator
            .authenticate(&shown, now)
            .map(|caller| caller.key)
    }
}

#[test]
fn both_keys_of_a_principal_are_valid_while_one_replaces_the_other() {
    let authenticator = authenticator(hmac_keys());
    for (key, secret) in [("old", SECRET), ("new", NEW_SECRET)] {
        let sent = Sent::plain().signed(key, secret, SECONDS, "n");
        assert_eq!(sent.ask(&authenticator, NOW), Ok(key.to_owned()));
    }
    let crossed = Sent::plain().signed("old", NEW_SECRET, SECONDS, "m");
    assert_eq!(crossed.ask(&authenticator, NOW), Err(Denied::Invalid));
    let unknown = Sent::plain().signed("other", SECRET, SECONDS, "m");
    assert_eq!(unknown.ask(&authenticator, NOW), Err(Denied::Invalid));
}

#[test]
fn whatever_changes_what_a_request_means_breaks_its_signature() {
    let authenticator = authenticator(hmac_keys());
    let mut honest = Sent::plain();
    honest.set("fastly-soft-purge", "1");
    let honest = honest.signed("old", SECRET, SECONDS, "n");
    let touches: [fn(&mut Sent); 8] = [
        |sent| sent.method = "PURGE",
        |sent| sent.host = "other.example",
        |sent| sent.path = "/v1/purges?x=2",
        |sent| sent.body = b"{ }",
        |sent| sent.set("fastly-soft-purge", "0"),
        |sent| sent.set("surrogate-key", "more"),
        |sent| sent.set("seawall-confirm", "all"),
        |sent| sent.set("idempotency-key", "again"),
    ];
    for touch in touches {
        let mut touched = honest.clone();
        touch(&mut touched);
        assert_eq!(touched.ask(&authenticator, NOW), Err(Denied::Invalid));
    }
    assert!(
        honest.ask(&authenticator, NOW).is_ok(),
        "none of that used it up"
    );
}

#[test]
fn a_signed_request_works_once_and_only_now() {
    let authenticator = authenticator(hmac_keys());
    let sent = Sent::plain().signed("old", SECRET, SECONDS, "n");
    assert!(sent.ask(&authenticator, NOW).is_ok());
    assert_eq!(sent.ask(&authenticator, NOW), Err(Denied::Replayed));
    for (seconds, is_now) in [(60, true), (61, false)] {
        let early = Sent::plain().signed("old", SECRET, SECONDS + seconds, "early");
        let late = Sent::plain().signed("old", SECRET, SECONDS - seconds, "late");
        assert_eq!(early.ask(&authenticator, NOW).is_ok(), is_now);
        assert_eq!(late.ask(&authenticator, NOW).is_ok(), is_now);
    }
}

#[test]
fn what_was_signed_before_a_restart_is_not_believed_after_it() {
    let principals = || vec![principal("origin", hmac_keys())];
    let audience = || "purge.example".to_owned();
    let restarted = Authenticator::new(principals(), audience(), NOW).unwrap();
    let before = Sent::plain().signed("old", SECRET, SECONDS - 1, "n");
    assert_eq!(before.ask(&restarted, NOW), Err(Denied::BeforeStart));
    let after = Sent::plain().signed("old", SECRET, SECONDS, "n");
    assert!(after.ask(&restarted, NOW).is_ok());
}

#[test]
fn a_restart_that_forgets_nothing_refuses_nobody_honest() {
    let principals = vec![principal("origin", hmac_keys())];
    let used = Sent::plain().signed("old", SECRET, SECONDS - 1, "used");
    let remembered = Remembered {
        used: vec![
            Used {
                name: "old/used".to_owned(),
                until: UnixMillis(NOW.0 + 300_000),
            },
            Used {
                name: "gone/used".to_owned(),
                until: UnixMillis(NOW.0 + 300_000),
            },
        ],
        signatures_since: Some(UnixMillis(0)),
        tokens_since: None,
    };
    let restarted = Authenticator::new(principals, "purge.example".to_owned(), NOW)
        .unwrap()
        .remembering(remembered, NOW);
    assert_eq!(used.ask(&restarted, NOW), Err(Denied::Replayed));
    let fresh = Sent::plain().signed("old", SECRET, SECONDS - 59, "slow-clock");
    assert!(fresh.ask(&restarted, NOW).is_ok());
    assert_eq!(fresh.ask(&restarted, NOW), Err(Denied::Replayed));
}

#[test]
fn credentials_that_cannot_be_read_are_refused_without_a_panic() {
    let authenticator = authenticator(hmac_keys());
    assert_eq!(Sent::plain().ask(&authenticator, NOW), Err(Denied::Missing));
    let zeros = "0".repeat(64);
    let long = "n".repeat(129);
    let fields = [
        "",
        "Basic dTpw",
        "Seawall-HMAC-SHA256",
        "Seawall-HMAC-SHA256 key",
        "Seawall-HMAC-SHA256 key=a, key=b, timestamp=1, nonce=n, signature=0",
        "Seawall-HMAC-SHA256 key=old, timestamp=-1, nonce=n, signature=00",
        &format!("Seawall-HMAC-SHA256 key=old, timestamp=1, nonce={long}, signature={zeros}"),
        &format!("Seawall-HMAC-SHA256 key=old, timestamp=1, nonce=, signature={zeros}"),
        &format!(
            "Seawall-HMAC-SHA256 key=old, timestamp=1, nonce=n, signature={}",
            "é".repeat(32)
        ),
        &format!("Seawall-HMAC-SHA256 key=old, timestamp=1, nonce=n, extra=1, signature={zeros}"),
        "Bearer",
        "Bearer a.b.c",
        &format!("Bearer {}", "a".repeat(5000)),
    ];
    for field in fields {
        let mut sent = Sent::plain();
        sent.headers.insert(
            "authorization",
            HeaderValue::from_bytes(field.as_bytes()).unwrap(),
        );
        let denied = sent.ask(&authenticator, NOW).unwrap_err();
        assert!(matches!(denied, Denied::Malformed(_)), "{field}: {denied}");
    }
    let ancient = format!(
        "Seawall-HMAC-SHA256 key=old, timestamp={}, nonce=n, signature={zeros}",
        u64::MAX
    );
    let mut sent = Sent::plain();
    sent.set("authorization", &ancient);
    assert_eq!(sent.ask(&authenticator, NOW), Err(Denied::Invalid));
}

#[test]
fn a_rate_is_a_principals_and_not_a_keys() {
    let authenticator = authenticator(hmac_keys());
    let ask = |number: u32| {
        let (key, secret) = match number % 2 {
            0 => ("old", SECRET),
            _ => ("new", NEW_SECRET),
        };
        Sent::plain()
            .signed(key, secret, SECONDS, &number.to_string())
            .ask(&authenticator, NOW)
    };
    for number in 0..50 {
        assert!(ask(number).is_ok());
    }
    assert_eq!(ask(50), Err(Denied::RateLimited(Duration::from_millis(20))));
}

/// A token signed by hand, as anybody on the other side might make one.
fn token(header: &Value, claims: &Value, sign: impl Fn(&[u8]) -> Vec<u8>) -> String {
    let part = |value: &Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
    let text = format!("{}.{}", part(header), part(claims));
    let signature = BASE64_URL_SAFE_NO_PAD.encode(sign(text.as_bytes()));
    format!("{text}.{signature}")
}

fn pem(der: &[u8]) -> Vec<u8> {
    let text = BASE64_STANDARD.encode(der);
    format!("-----BEGIN PUBLIC KEY-----\n{text}\n-----END PUBLIC KEY-----\n").into_bytes()
}

fn claims() -> Value {
    json!({"aud": "purge.example", "iat": SECONDS, "exp": SECONDS + 600, "jti": "one"})
}

#[test]
fn a_token_of_either_kind_works_once() {
    let pair = Ed25519KeyPair::generate().unwrap();
    let der = pair.public_key().as_der().unwrap();
    let random = aws_lc_rs::rand::SystemRandom::new();
    let es256 = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
    let es256_der = es256.public_key().as_der().unwrap();
    let authenticator = authenticator(vec![
        (
            "ed".to_owned(),
            KeyMaterial::Token(TokenAlgorithm::Ed25519, pem(der.as_ref())),
        ),
        (
            "es".to_owned(),
            KeyMaterial::Token(TokenAlgorithm::Es256, pem(es256_der.as_ref())),
        ),
    ]);
    let header = json!({"alg": "EdDSA", "typ": "JWT", "kid": "ed"});
    let ed = token(&header, &claims(), |text| pair.sign(text).as_ref().to_vec());
    let header = json!({"alg": "ES256", "kid": "es"});
    let es = token(&header, &claims(), |text| {
        es256.sign(&random, text).unwrap().as_ref().to_vec()
    });
    for (name, token) in [("ed", ed), ("es", es)] {
        let sent = Sent::plain().with_token(&token);
        assert_eq!(sent.ask(&authenticator, NOW), Ok(name.to_owned()));
        assert_eq!(sent.ask(&authenticator, NOW), Err(Denied::Replayed));
    }
}

#[test]
fn tokens_with_another_algorithm_audience_or_time_are_refused() {
    let pair = Ed25519KeyPair::generate().unwrap();
    let der = pair.public_key().as_der().unwrap();
    let public = pem(der.as_ref());
    let authenticator = authenticator(vec![
        (
            "ed".to_owned(),
            KeyMaterial::Token(TokenAlgorithm::Ed25519, public.clone()),
        ),
        ("old".to_owned(), KeyMaterial::Hmac(SECRET.to_vec())),
    ]);
    let sign = |text: &[u8]| pair.sign(text).as_ref().to_vec();
    let ask = |header: Value, claims: Value, sign: &dyn Fn(&[u8]) -> Vec<u8>| {
        Sent::plain()
            .with_token(&token(&header, &claims, sign))
            .ask(&authenticator, NOW)
    };
    let ed = || json!({"alg": "EdDSA", "kid": "ed"});
    let mac = |text: &[u8]| {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &public);
        hmac::sign(&key, text).as_ref().to_vec()
    };
    // RFC 8725 2.1: the public key taken as a shared secret, and no signature at all.
    let confused = ask(json!({"alg": "HS256", "kid": "ed"}), claims(), &mac);
    assert_eq!(confused, Err(Denied::Invalid));
    let none = ask(json!({"alg": "none", "kid": "ed"}), claims(), &|_| vec![]);
    assert!(none.is_err());
    let of_hmac = ask(json!({"alg": "HS256", "kid": "old"}), claims(), &mac);
    assert_eq!(of_hmac, Err(Denied::Invalid), "a secret is not for tokens");
    let with = |name: &str, value: Value| {
        let mut claims = claims();
        claims[name] = value;
        ask(ed(), claims, &sign)
    };
    assert_eq!(with("aud", json!("other.example")), Err(Denied::Invalid));
    assert!(with("aud", json!(["x", "purge.example"])).is_ok());
    assert!(matches!(
        with("exp", json!(SECONDS + 601)),
        Err(Denied::Malformed(_))
    ));
    assert!(matches!(with("jti", json!("")), Err(Denied::Malformed(_))));
    assert!(matches!(with("jti", json!(7)), Err(Denied::Malformed(_))));
    assert_eq!(
        with("nbf", json!(SECONDS + 61)),
        Err(Denied::Stale(SECONDS))
    );
    let mut old = claims();
    old["iat"] = json!(SECONDS - 300);
    old["exp"] = json!(SECONDS - 1);
    assert_eq!(ask(ed(), old, &sign), Err(Denied::Stale(SECONDS)));
    let mut without = claims();
    without.as_object_mut().unwrap().remove("iat");
    assert!(matches!(
        ask(ed(), without, &sign),
        Err(Denied::Malformed(_))
    ));
}

#[test]
fn a_certificate_counts_by_its_listed_name_only() {
    let authenticator = authenticator(vec![]);
    let ask = |names: &[&str]| {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let shown = Shown {
            method: "GET",
            host: "purge.example",
            path_and_query: "/",
            headers: &HeaderMap::new(),
            body: b"",
            certificate_names: &names,
        };
        authenticator.authenticate(&shown, NOW).map(|c| c.key)
    };
    let listed = "spiffe://seawall/origin";
    assert_eq!(ask(&["x.example", listed]), Ok(listed.to_owned()));
    assert_eq!(ask(&["origin"]), Err(Denied::Missing));
}

#[test]
fn the_names_of_a_certificate_are_its_uris_and_dns_names() {
    let mut params = rcgen::CertificateParams::new(vec!["origin.example".to_owned()]).unwrap();
    let uri = rcgen::string::Ia5String::try_from("spiffe://seawall/origin").unwrap();
    params.subject_alt_names.push(rcgen::SanType::URI(uri));
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap();
    let names = names_of(certificate.der());
    assert_eq!(names, ["spiffe://seawall/origin", "origin.example"]);
    assert!(names_of(&vec![0x30, 0x80].into()).is_empty());
}

#[test]
fn principals_that_cannot_be_told_apart_are_refused() {
    let refused = |principals| {
        let audience = "purge.example".to_owned();
        Authenticator::new(principals, audience, NOW).unwrap_err()
    };
    let key = |id: &str| (id.to_owned(), KeyMaterial::Hmac(SECRET.to_vec()));
    let short = ("a".to_owned(), KeyMaterial::Hmac(b"short".to_vec()));
    let not_pem = KeyMaterial::Token(TokenAlgorithm::Es256, b"x".to_vec());
    let cases = [
        (
            vec![principal("a", vec![]), principal("a", vec![])],
            PrincipalsError::Name("a".to_owned()),
        ),
        (
            vec![
                principal("a", vec![key("k")]),
                principal("b", vec![key("k")]),
            ],
            PrincipalsError::Key("k".to_owned()),
        ),
        (
            vec![principal("a", vec![key("1"), key("2"), key("3")])],
            PrincipalsError::TooManyKeys("a".to_owned()),
        ),
        (
            vec![principal("a", vec![short])],
            PrincipalsError::ShortSecret("a".to_owned()),
        ),
        (
            vec![principal("a", vec![("t".to_owned(), not_pem)])],
            PrincipalsError::Malformed("t".to_owned()),
        ),
    ];
    for (principals, expected) in cases {
        assert_eq!(refused(principals), expected);
    }
    assert_eq!(format!("{:?}", key("k").1), "Hmac(..)");
}
