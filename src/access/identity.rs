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
