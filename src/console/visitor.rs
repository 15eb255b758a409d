//! The visitor's token.

use lodge_proto::refusal::Refusal;
use serde::{Deserialize, Serialize};

use super::exchange::Answer;
use super::{Ask, malformed};
use crate::access::pace::Act;
use crate::access::{Visit, ids};
use crate::desk::Person;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wish {
    device: String,
    secret: Option<String>,
    identity: Option<String>,
    token: Option<String>,
    name: Option<String>,
}

#[derive(Serialize)]
struct Given {
    token: String,
    visitor: String,
    name: String,
    expires_at_ms: u64,
    vouched: bool,
}

/// Any page or app of the site.
pub(super) fn token(ask: Ask<'_>) -> Result<Answer, Refusal> {
    let site = ask.site_of_page(Act::Visit)?;
    ask.query_keys(&["app"])?;
    let wish: Wish = ask.body()?;
    let device = ids::parse(&wish.device)
        .ok_or_else(|| malformed("\"device\" is 16 bytes in base64url: 22 characters."))?;
    let visit = Visit {
        device,
        secret: wish.secret.as_deref(),
        identity: wish.identity.as_deref(),
        token: wish.token.as_deref(),
        name: wish.name.as_deref(),
    };
    let (token, visitor) = ask.rooms.access.admit(&site, visit, ask.now_ms)?;
    let given = Given {
        token,
        visitor: ids::text(&ask.rooms.ids.person(Person::Visitor(visitor.person))),
        name: visitor.name,
        expires_at_ms: visitor.expires_ms,
        vouched: visitor.vouched,
    };
    Ok(Answer::json(200, &given))
}
