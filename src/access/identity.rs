//! Identity tokens: a site's back end says who its visitor is.
//!
//! The compact form of a JSON Web Token, and of all that the standard allows only this: `alg` is HS256, `kid` names
//! one of the site's IdentitySecrets, and the claims are those of `Claims`. Nothing is taken from the token before
//! its signature was compared in constant time, except the key id. What is repeated, misspelt or unknown is refused
//! by name, since the one who reads the refusal is the one who wrote the token.

use std::collections::BTreeMap;
use std::fmt;

use data_encoding::BASE64URL_NOPAD;
use lodge_proto::refusal::{Refusal, RefusalCode};
use ring::hmac;
use serde::Deserialize;
use serde::de::{self, Deserializer, IgnoredAny, MapAccess, Visitor};

use super::line::{self, quoted};
use super::site_keys::SiteKey;
use crate::limits::{
    ATTRIBUTE_BYTES_MAX, ATTRIBUTE_NAME_BYTES_MAX, ATTRIBUTES_MAX, EMAIL_BYTES_MAX,
    IDENTITY_CHARS_MAX, IDENTITY_LIFE_S_MAX, NAME_BYTES_MAX, SUBJECT_BYTES_MAX,
};

/// How far the clocks of back end and server may stand apart.
pub const CLOCK_ALLOWANCE_S: u64 = 60;

/// Whom the back end vouched for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vouched {
    /// What the site calls this visitor, byte for byte: never shown, only ever compared.
    pub subject: String,
    pub name: String,
    pub email: String,
    pub attributes: BTreeMap<String, String>,
    pub expires_ms: u64,
}

/// The keys of the site that was asked for.
#[derive(Debug, Clone, Copy)]
pub struct Known<'a> {
    pub app: &'a str,
    pub identity: &'a [SiteKey],
    /// Only to say what went wrong when somebody signs with these.
    pub public: &'a [SiteKey],
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    alg: String,
    kid: String,
    typ: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Claims {
    aud: String,
    sub: String,
    iat: u64,
    exp: u64,
    nbf: Option<u64>,
    #[serde(default)]
    name: String,
    #[serde(default)]
    email: String,
    #[serde(default)]
    attributes: Attributes,
    /// Libraries add these; they say nothing here.
    #[serde(rename = "iss")]
    _issuer: Option<IgnoredAny>,
    #[serde(rename = "jti")]
    _token_id: Option<IgnoredAny>,
}

/// Who `token` vouches for, or why nobody.
pub fn verify(token: &str, known: Known<'_>, now_ms: u64) -> Result<Vouched, Refusal> {
    if token.len() > IDENTITY_CHARS_MAX {
        return refuse(format!(
            "The identity token is longer than {IDENTITY_CHARS_MAX} characters."
        ));
    }
    let parts: Vec<&str> = token.splitn(4, '.').collect();
    let &[header, claims, signature] = parts.as_slice() else {
        return refuse("The identity token is not three parts with dots between them.");
    };
    let signed = token.get(..header.len() + 1 + claims.len()).unwrap_or_default().as_bytes();
    let signature = decode("signature", signature)?;
    let header: Header = parse("header", &decode("header", header)?)?;
    if header.alg != "HS256" {
        let alg = quoted(&header.alg);
        return refuse(format!("The identity token's alg must be HS256; it is \"{alg}\"."));
    }
    if header.typ.as_deref().is_some_and(|typ| typ != "JWT") {
        return refuse("The identity token's typ must be JWT, or be left out.");
    }
    let key = known.identity.iter().find(|key| key.id == header.kid);
    if !key.is_some_and(|key| fits(key, signed, &signature)) {
        let with_app_secret = known.public.iter().any(|key| key.id == header.kid)
            || known.public.iter().any(|key| fits(key, signed, &signature));
        return refuse(match (with_app_secret, key) {
            (true, _) => {
                "The identity token is signed with the AppSecret. That one travels inside apps and proves \
                 nobody: sign with the IdentitySecret, and keep it on your back end."
            }
            (false, None) => "The identity token's kid names no IdentitySecret of this site.",
            (false, Some(_)) => {
                "The identity token's signature does not fit the IdentitySecret that its kid names."
            }
        });
    }
    let claims: Claims = parse("claims", &decode("claims", claims)?)?;
    judge(claims, known.app, now_ms)
}

/// In constant time.
fn fits(key: &SiteKey, signed: &[u8], signature: &[u8]) -> bool {
    let key = hmac::Key::new(hmac::HMAC_SHA256, key.secret.as_bytes());
    hmac::verify(&key, signed, signature).is_ok()
}

fn judge(claims: Claims, app: &str, now_ms: u64) -> Result<Vouched, Refusal> {
    let Claims { aud, sub, iat, exp, nbf, name, email, attributes, .. } = claims;
    if aud != app {
        return refuse(format!(
            "The identity token is for the site \"{}\" (aud) and not for \"{app}\".",
            quoted(&aud)
        ));
    }
    if sub.is_empty() || sub.len() > SUBJECT_BYTES_MAX {
        return refuse(format!(
            "The identity token's sub must have 1 to {SUBJECT_BYTES_MAX} bytes."
        ));
    }
    if name.len() > NAME_BYTES_MAX || !line::is_line(&name) {
        let max = NAME_BYTES_MAX;
        return refuse(format!(
            "The identity token's name must be one line of at most {max} bytes."
        ));
    }
    if email.len() > EMAIL_BYTES_MAX || !line::is_line(&email) {
        return refuse(format!(
            "The identity token's email must be one line of at most {EMAIL_BYTES_MAX} bytes."
        ));
    }
    if exp <= iat || exp - iat > IDENTITY_LIFE_S_MAX {
        return refuse(format!(
            "The identity token must expire (exp) after it was issued (iat), at most {IDENTITY_LIFE_S_MAX} \
             seconds later; both are seconds since 1970."
        ));
    }
    let allowance_ms = CLOCK_ALLOWANCE_S * 1_000;
    let expires_ms = exp.saturating_mul(1_000);
    if now_ms >= expires_ms.saturating_add(allowance_ms) {
        let why = "The identity token has expired. Ask the back end for a new one.";
        return Err(Refusal::because(RefusalCode::TokenExpired, why));
    }
    let from_ms = iat.max(nbf.unwrap_or(0)).saturating_mul(1_000);
    if from_ms > now_ms.saturating_add(allowance_ms) {
        return refuse(format!(
            "The identity token begins (iat, nbf) more than {CLOCK_ALLOWANCE_S} seconds from now: the clocks of \
             back end and server differ."
        ));
    }
    Ok(Vouched { subject: sub, name, email, attributes: attributes.0, expires_ms })
}

fn decode(part: &str, text: &str) -> Result<Vec<u8>, Refusal> {
    BASE64URL_NOPAD.decode(text.as_bytes()).map_err(|_| {
        invalid(format!("The identity token's {part} is not base64url without padding."))
    })
}

fn parse<'a, T: Deserialize<'a>>(part: &str, json: &'a [u8]) -> Result<T, Refusal> {
    if !json.trim_ascii_start().starts_with(b"{") {
        return refuse(format!("The identity token's {part} is not a JSON object."));
    }
    serde_json::from_slice(json).map_err(|error| {
        invalid(format!("The identity token's {part}: {}.", quoted(&error.to_string())))
    })
}

fn refuse<T>(why: impl Into<String>) -> Result<T, Refusal> {
    Err(invalid(why.into()))
}

fn invalid(why: String) -> Refusal {
    Refusal::because(RefusalCode::TokenInvalid, why)
}

/// A bounded profile: names once each, values that fit a line of text.
#[derive(Default)]
struct Attributes(BTreeMap<String, String>);

impl<'de> Deserialize<'de> for Attributes {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Attributes, D::Error> {
        struct Reader;

        impl<'de> Visitor<'de> for Reader {
            type Value = Attributes;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "an object of at most {ATTRIBUTES_MAX} strings, numbers and booleans")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Attributes, A::Error> {
                let mut attributes = BTreeMap::new();
                while let Some((name, Attribute(value))) = map.next_entry::<String, Attribute>()? {
                    if name.is_empty() || name.len() > ATTRIBUTE_NAME_BYTES_MAX {
                        return Err(de::Error::custom(format!(
                            "an attribute's name must have 1 to {ATTRIBUTE_NAME_BYTES_MAX} bytes"
                        )));
                    }
                    if value.len() > ATTRIBUTE_BYTES_MAX {
                        return Err(de::Error::custom(format!(
                            "attribute {name} is longer than {ATTRIBUTE_BYTES_MAX} bytes"
                        )));
                    }
                    if attributes.len() == ATTRIBUTES_MAX {
                        return Err(de::Error::custom(format!(
                            "more than {ATTRIBUTES_MAX} attributes"
                        )));
                    }
                    if attributes.contains_key(&name) {
                        return Err(de::Error::custom(format!("attribute {name} stands twice")));
                    }
                    attributes.insert(name, value);
                }
                Ok(Attributes(attributes))
            }
        }

        from.deserialize_map(Reader)
    }
}

struct Attribute(String);

impl<'de> Deserialize<'de> for Attribute {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Attribute, D::Error> {
        struct Reader;

        impl Visitor<'_> for Reader {
            type Value = Attribute;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string, a number or a boolean")
            }

            fn visit_str<E: de::Error>(self, it: &str) -> Result<Attribute, E> {
                Ok(Attribute(it.to_owned()))
            }

            fn visit_bool<E: de::Error>(self, it: bool) -> Result<Attribute, E> {
                Ok(Attribute(it.to_string()))
            }

            fn visit_u64<E: de::Error>(self, it: u64) -> Result<Attribute, E> {
                Ok(Attribute(it.to_string()))
            }

            fn visit_i64<E: de::Error>(self, it: i64) -> Result<Attribute, E> {
                Ok(Attribute(it.to_string()))
            }

            fn visit_f64<E: de::Error>(self, it: f64) -> Result<Attribute, E> {
                Ok(Attribute(it.to_string()))
            }
        }

        from.deserialize_any(Reader)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_S: u64 = 1_764_000_000;
    const APP: &str = "shop";

    fn key(id: &str, secret: &str) -> SiteKey {
        SiteKey { id: id.into(), secret: secret.into(), made_ms: 0 }
    }

    fn sign(secret: &str, header: &str, claims: &str) -> String {
        let signed = [header, claims].map(|part| BASE64URL_NOPAD.encode(part.as_bytes())).join(".");
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
        let tag = hmac::sign(&key, signed.as_bytes());
        format!("{signed}.{}", BASE64URL_NOPAD.encode(tag.as_ref()))
    }

    const HEADER: &str = r#"{"alg":"HS256","kid":"new"}"#;

    fn claims() -> serde_json::Value {
        serde_json::json!({ "aud": APP, "sub": "visitor-7", "iat": NOW_S, "exp": NOW_S + 600 })
    }

    fn judge_at(token: &str, now_ms: u64) -> Result<Vouched, Refusal> {
        let identity = [key("old", "old secret"), key("new", "new secret")];
        let public = [key("public", "app secret")];
        verify(token, Known { app: APP, identity: &identity, public: &public }, now_ms)
    }

    fn judge(header: &str, claims: &str) -> Result<Vouched, Refusal> {
        judge_at(&sign("new secret", header, claims), NOW_S * 1_000)
    }

    /// The claims with one of them changed; null takes it away.
    fn with(name: &str, value: serde_json::Value) -> String {
        let mut claims = claims();
        match value {
            serde_json::Value::Null => drop(claims.as_object_mut().unwrap().remove(name)),
            value => claims[name] = value,
        }
        claims.to_string()
    }

    #[track_caller]
    fn refused(result: Result<Vouched, Refusal>, word: &str) {
        let refusal = result.expect_err(word);
        assert_eq!(refusal.code, RefusalCode::TokenInvalid, "{}", refusal.text);
        assert!(refusal.text.contains(word), "{word}: {}", refusal.text);
    }

    #[test]
    fn the_sites_word_is_believed() {
        let claims = serde_json::json!({
            "aud": APP, "sub": "é/7", "iat": NOW_S, "exp": NOW_S + 3_600, "nbf": NOW_S, "jti": "x", "iss": ["any"],
            "name": "李小龙", "email": "li@example.org",
            "attributes": { "plan": "gold", "visits": 12, "since": -1.5, "vip": true },
        });
        let vouched = judge(HEADER, &claims.to_string()).unwrap();
        assert_eq!((vouched.subject.as_str(), vouched.name.as_str()), ("é/7", "李小龙"));
        assert_eq!(vouched.expires_ms, (NOW_S + 3_600) * 1_000);
        let attributes: Vec<_> =
            vouched.attributes.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        assert_eq!(
            attributes,
            [("plan", "gold"), ("since", "-1.5"), ("vip", "true"), ("visits", "12")]
        );
        let typed = r#"{"typ":"JWT","alg":"HS256","kid":"new"}"#;
        assert!(judge(typed, &self::claims().to_string()).is_ok());
    }

    #[test]
    fn both_keys_are_good_until_one_is_removed() {
        let claims = claims().to_string();
        let old = sign("old secret", r#"{"alg":"HS256","kid":"old"}"#, &claims);
        assert!(judge_at(&old, NOW_S * 1_000).is_ok());
        let only_new = [key("new", "new secret")];
        let known = Known { app: APP, identity: &only_new, public: &[] };
        refused(verify(&old, known, NOW_S * 1_000), "kid names no IdentitySecret");
    }

    #[test]
    fn headers_that_are_refused() {
        let claims = claims().to_string();
        for (header, word) in [
            (r#"{"alg":"none","kid":"new"}"#, "alg must be HS256"),
            (r#"{"alg":"None","kid":"new"}"#, "alg must be HS256"),
            (r#"{"alg":"","kid":"new"}"#, "alg must be HS256"),
            (r#"{"alg":"hs256","kid":"new"}"#, "alg must be HS256"),
            (r#"{"alg":"HS256 ","kid":"new"}"#, "alg must be HS256"),
            (r#"{"alg":"HS384","kid":"new"}"#, "alg must be HS256"),
            (r#"{"alg":"RS256","kid":"new"}"#, "alg must be HS256"),
            (r#"{"alg":"ES256","kid":"new"}"#, "alg must be HS256"),
            (r#"{"alg":"ΗS256","kid":"new"}"#, "alg must be HS256"),
            (r#"{"kid":"new"}"#, "alg"),
            (r#"{"alg":"HS256"}"#, "kid"),
            (r#"{"alg":"HS256","kid":null}"#, "header"),
            (r#"{"alg":"HS256","kid":7}"#, "header"),
            (r#"{"alg":["HS256"],"kid":"new"}"#, "header"),
            (r#"{"alg":"HS256","kid":"none"}"#, "kid names no"),
            (r#"{"alg":"HS256","kid":"NEW"}"#, "kid names no"),
            (r#"{"alg":"HS256","kid":""}"#, "kid names no"),
            (r#"{"alg":"HS256","kid":"../identity/new"}"#, "kid names no"),
            (r#"{"alg":"HS256","kid":"old"}"#, "signature does not fit"),
            (r#"{"alg":"HS256","kid":"new","kid":"new"}"#, "duplicate"),
            (r#"{"alg":"HS256","alg":"none","kid":"new"}"#, "duplicate"),
            (r#"{"alg":"HS256","\u0061lg":"none","kid":"new"}"#, "duplicate"),
            (r#"{"alg":"HS256","kid":"new","jku":"https://evil.example"}"#, "jku"),
            (r#"{"alg":"HS256","kid":"new","jwk":{}}"#, "jwk"),
            (r#"{"alg":"HS256","kid":"new","crit":["x"]}"#, "crit"),
            (r#"{"alg":"HS256","kid":"new","typ":"JWE"}"#, "typ"),
            (r#"["HS256","new",null]"#, "not a JSON object"),
            (r#""HS256""#, "not a JSON object"),
            ("", "not a JSON object"),
            (r#"{"alg":"HS256","kid":"new"}{}"#, "trailing"),
            (r#"{"alg":"HS256","kid":"new""#, "header"),
        ] {
            refused(judge(header, &claims), word);
        }
    }

    #[test]
    fn one_signed_with_the_app_secret_is_told_so() {
        let claims = claims().to_string();
        for kid in ["new", "old", "public", "none"] {
            let header = format!(r#"{{"alg":"HS256","kid":"{kid}"}}"#);
            let token = sign("app secret", &header, &claims);
            refused(judge_at(&token, NOW_S * 1_000), "signed with the AppSecret");
        }
        let header = r#"{"alg":"HS256","kid":"public"}"#;
        refused(judge(header, &claims), "signed with the AppSecret");
    }

    #[test]
    fn claims_that_are_refused() {
        use serde_json::json;
        for (claims, word) in [
            (with("aud", json!("bank")), "for the site"),
            (with("aud", json!("SHOP")), "for the site"),
            (with("aud", json!("ѕhop")), "for the site"),
            (with("aud", json!(["shop"])), "claims"),
            (with("aud", json!(null)), "aud"),
            (with("sub", json!(null)), "sub"),
            (with("sub", json!("")), "sub must have"),
            (with("sub", json!(7)), "claims"),
            (with("sub", json!({ "$ne": "" })), "claims"),
            (with("sub", json!(["visitor-7"])), "claims"),
            (with("iat", json!(null)), "iat"),
            (with("exp", json!(null)), "exp"),
            (with("exp", json!("1764000600")), "claims"),
            (with("exp", json!(1764000600.5)), "claims"),
            (with("exp", json!(-1)), "claims"),
            (with("exp", json!(NOW_S)), "after it was issued"),
            (with("exp", json!(NOW_S - 1)), "after it was issued"),
            (with("exp", json!(NOW_S + 3_601)), "after it was issued"),
            (with("exp", json!(u64::MAX)), "after it was issued"),
            (with("iat", json!(0)), "after it was issued"),
            (with("nbf", json!(NOW_S + 61)), "clocks"),
            (with("nbf", json!(u64::MAX)), "clocks"),
            (with("name", json!("a\nb")), "name must be one line"),
            (with("name", json!("\u{202e}ada")), "name must be one line"),
            (with("email", json!("a\u{0}b")), "email must be one line"),
            (with("emial", json!("x")), "emial"),
            (with("role", json!("operator")), "role"),
            (with("__proto__", json!({})), "__proto__"),
            (with("attributes", json!([])), "claims"),
            (with("attributes", json!({ "a": {} })), "claims"),
            (with("attributes", json!({ "a": [] })), "claims"),
            (with("attributes", json!({ "a": null })), "claims"),
            (with("attributes", json!({ "": "x" })), "attribute's name"),
            ("[]".into(), "not a JSON object"),
            ("null".into(), "not a JSON object"),
            ("".into(), "not a JSON object"),
            ("[".repeat(2_000), "not a JSON object"),
            (with("attributes", json!("@")).replace("\"@\"", &"[".repeat(2_000)), "claims"),
            (with("exp", json!("@")).replace("\"@\"", "1e400"), "claims"),
            (with("sub", json!("@")).replace('@', "\\ud800"), "claims"),
        ] {
            refused(judge(HEADER, &claims), word);
        }
        let twice = claims().to_string().replacen('{', r#"{"sub":"visitor-8","#, 1);
        refused(judge(HEADER, &twice), "duplicate");
        let twice = with("attributes", json!("@")).replace("\"@\"", r#"{"a":"1","\u0061":"2"}"#);
        refused(judge(HEADER, &twice), "stands twice");
        let bad = [b"{\"sub\":\"\xff\"}".as_slice()].concat();
        let signed = [HEADER.as_bytes(), &bad].map(|part| BASE64URL_NOPAD.encode(part)).join(".");
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, b"new secret"), signed.as_bytes());
        let token = format!("{signed}.{}", BASE64URL_NOPAD.encode(tag.as_ref()));
        refused(judge_at(&token, NOW_S * 1_000), "claims");
    }

    #[test]
    fn every_bound_holds_at_its_edge() {
        use serde_json::json;
        let attributes = |count: usize| {
            let rows = (0..count).map(|nth| (format!("a{nth}"), json!("x")));
            json!(rows.collect::<serde_json::Map<_, _>>())
        };
        for (name, at, beyond) in [
            ("sub", json!("x".repeat(SUBJECT_BYTES_MAX)), json!("x".repeat(SUBJECT_BYTES_MAX + 1))),
            ("name", json!("x".repeat(NAME_BYTES_MAX)), json!("x".repeat(NAME_BYTES_MAX + 1))),
            ("email", json!("x".repeat(EMAIL_BYTES_MAX)), json!("x".repeat(EMAIL_BYTES_MAX + 1))),
            ("exp", json!(NOW_S + IDENTITY_LIFE_S_MAX), json!(NOW_S + IDENTITY_LIFE_S_MAX + 1)),
            ("iat", json!(NOW_S + CLOCK_ALLOWANCE_S), json!(NOW_S + CLOCK_ALLOWANCE_S + 1)),
            ("nbf", json!(NOW_S + CLOCK_ALLOWANCE_S), json!(NOW_S + CLOCK_ALLOWANCE_S + 1)),
            ("attributes", attributes(ATTRIBUTES_MAX), attributes(ATTRIBUTES_MAX + 1)),
            (
                "attributes",
                json!({ "x".repeat(ATTRIBUTE_NAME_BYTES_MAX): "x".repeat(ATTRIBUTE_BYTES_MAX) }),
                json!({ "x".repeat(ATTRIBUTE_NAME_BYTES_MAX + 1): "x" }),
            ),
            ("attributes", attributes(0), json!({ "x": "x".repeat(ATTRIBUTE_BYTES_MAX + 1) })),
        ] {
            assert!(judge(HEADER, &with(name, at)).is_ok(), "{name}");
            assert!(judge(HEADER, &with(name, beyond)).is_err(), "{name}");
        }
        let long = "x".repeat(IDENTITY_CHARS_MAX);
        refused(judge_at(&long, 0), "three parts");
        refused(judge_at(&format!("{long}x"), 0), "longer than");
    }

    #[test]
    fn it_ends_a_minute_after_its_end_by_our_clock() {
        let token = sign("new secret", HEADER, &claims().to_string());
        let last_ms = (NOW_S + 600 + CLOCK_ALLOWANCE_S) * 1_000;
        assert!(judge_at(&token, last_ms - 1).is_ok());
        for now_ms in [last_ms, last_ms + 1_000, u64::MAX] {
            let refusal = judge_at(&token, now_ms).unwrap_err();
            assert_eq!(refusal.code, RefusalCode::TokenExpired, "{now_ms}");
        }
        assert!(judge_at(&token, (NOW_S - CLOCK_ALLOWANCE_S) * 1_000).is_ok());
        refused(judge_at(&token, (NOW_S - CLOCK_ALLOWANCE_S) * 1_000 - 1), "clocks");
    }

    #[test]
    fn each_flipped_bit_each_cut_and_each_addition_is_refused() {
        let token = sign("new secret", HEADER, &claims().to_string());
        let parts: Vec<Vec<u8>> =
            token.split('.').map(|part| BASE64URL_NOPAD.decode(part.as_bytes()).unwrap()).collect();
        for part in 0..parts.len() {
            for bit in 0..parts[part].len() * 8 {
                let mut parts = parts.clone();
                parts[part][bit / 8] ^= 1 << (bit % 8);
                let flipped = parts.iter().map(|part| BASE64URL_NOPAD.encode(part));
                let flipped = flipped.collect::<Vec<_>>().join(".");
                assert!(judge_at(&flipped, NOW_S * 1_000).is_err(), "part {part}, bit {bit}");
            }
        }
        for length in 0..token.len() {
            assert!(judge_at(&token[..length], NOW_S * 1_000).is_err(), "{length}");
        }
        for more in ["A", "=", ".", " ", "\n", "\0", ".A", "é"] {
            assert!(judge_at(&format!("{token}{more}"), NOW_S * 1_000).is_err(), "{more:?}");
            assert!(judge_at(&format!("{more}{token}"), NOW_S * 1_000).is_err(), "{more:?}");
        }
        let (signed, _) = token.rsplit_once('.').unwrap();
        for signature in ["", ".", "AAAA"] {
            assert!(judge_at(&format!("{signed}.{signature}"), NOW_S * 1_000).is_err());
        }
    }
}
