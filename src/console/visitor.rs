//! The token with which a visitor's device comes in.

use data_encoding::BASE64URL_NOPAD;
use lodge_proto::refusal::{Refusal, RefusalCode};
use serde::Deserialize;
use serde_json::json;

use super::exchange::{Answer, Asked};
use super::{Done, Rooms, body};
use crate::access::{Visit, ids};
use crate::commit::now_ms;
use crate::desk::Person;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wish {
    /// 16 bytes as base64url.
    device: String,
    secret: Option<String>,
    identity: Option<String>,
    token: Option<String>,
    name: Option<String>,
}

pub fn token(asked: &Asked, rooms: &Rooms) -> Done {
    let app = asked.query.get("app").ok_or(Refusal::new(RefusalCode::NoSuchSite))?;
    let origin = asked.origin.as_deref();
    let site = rooms.access.origin(Some(app), origin, asked.secure, &asked.host)?;
    let site = site.ok_or(Refusal::new(RefusalCode::NoSuchSite))?;
    let wish: Wish = body(asked)?;
    let device = BASE64URL_NOPAD.decode(wish.device.as_bytes()).ok();
    let device = device.and_then(|it| <[u8; 16]>::try_from(it).ok()).ok_or_else(|| {
        Refusal::because(RefusalCode::Malformed, "device is 16 bytes as base64url.")
    })?;
    let visit = Visit {
        device,
        secret: wish.secret.as_deref(),
        identity: wish.identity.as_deref(),
        token: wish.token.as_deref(),
        name: wish.name.as_deref(),
    };
    let (token, visitor) = rooms.access.admit(&site, visit, now_ms())?;
    let given = json!({
        "token": token,
        "visitor": ids::text(&rooms.ids.person(Person::Visitor(visitor.person))),
        "name": visitor.name,
        "expires_at_ms": visitor.expires_ms,
        "vouched": visitor.vouched,
    });
    Ok(Answer::json(200, &given))
}
