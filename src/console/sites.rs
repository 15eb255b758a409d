//! Sites: what an operator sets, and the part of it that every visitor may see.

use lodge_proto::refusal::{Refusal, RefusalCode};
use serde::Deserialize;
use serde_json::json;

use super::exchange::{Answer, Asked};
use super::{Done, Rooms, agent, body, name, operator};
use crate::access::origin;
use crate::access::site_keys::Sort;
use crate::commit::now_ms;
use crate::desk::register::{Bubble, RegisterDraft, Site, SiteSettings, Texts, Wording};
use crate::limits;

const ORIGINS_MAX: usize = 50;
/// Bytes of one of the site's own sentences.
const WORDING_BYTES_MAX: usize = 1_000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct New {
    name: String,
    #[serde(default)]
    origins: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Change {
    name: Option<String>,
    origins: Option<Vec<String>>,
    allow_null_origin: Option<bool>,
    allow_absent_origin: Option<bool>,
    presence: Option<bool>,
    colour: Option<String>,
    bubble: Option<Bubble>,
    texts: Option<Texts>,
}

pub fn list(asked: &Asked, rooms: &Rooms) -> Done {
    agent(asked, rooms)?;
    let rows: Vec<_> = rooms.lens.sites().iter().map(|site| row(rooms, site)).collect();
    Ok(Answer::json(200, &json!({ "sites": rows })))
}

pub fn one(asked: &Asked, rooms: &Rooms, app: &str) -> Done {
    agent(asked, rooms)?;
    Ok(Answer::json(200, &row(rooms, &known(rooms, app)?)))
}

pub async fn create(asked: &Asked, rooms: &Rooms) -> Done {
    operator(asked, rooms)?;
    let new: New = body(asked)?;
    let settings = SiteSettings { origins: origins(&new.origins)?, ..usual() };
    let app = new_app(rooms)?;
    let draft = RegisterDraft::SiteCreated { app: app.clone(), name: name(&new.name)?, settings };
    let number = rooms.commit.register(draft).await?;
    let app_key = rooms.access.add_site_key(number, Sort::App, now_ms()).await?;
    let identity = rooms.access.add_site_key(number, Sort::Identity, now_ms()).await?;
    let made = json!({
        "app": app,
        "app_secret": app_key.secret,
        "identity_secret": identity.secret,
        "identity_key_id": identity.id,
        "snippet": snippet(rooms, &app),
    });
    Ok(Answer::json(201, &made))
}

pub async fn change(asked: &Asked, rooms: &Rooms, app: &str) -> Done {
    operator(asked, rooms)?;
    let change: Change = body(asked)?;
    let Site { number, name: old_name, settings: now, .. } = known(rooms, app)?;
    let colour = change.colour.unwrap_or(now.colour);
    let digits = colour.strip_prefix('#').unwrap_or_default();
    if digits.len() != 6 || !digits.bytes().all(|it| it.is_ascii_hexdigit()) {
        let why = "A colour is written #rrggbb.";
        return Err(Refusal::because(RefusalCode::Malformed, why));
    }
    let texts = change.texts.unwrap_or(now.texts);
    for Wording { title, greeting, away, placeholder } in [&texts.en, &texts.zh] {
        if [title, greeting, away, placeholder].iter().any(|it| it.len() > WORDING_BYTES_MAX) {
            return Err(Refusal::new(RefusalCode::TextTooLong));
        }
    }
    let settings = SiteSettings {
        origins: change.origins.map_or(Ok(now.origins), |it| origins(&it))?,
        allow_null_origin: change.allow_null_origin.unwrap_or(now.allow_null_origin),
        allow_absent_origin: change.allow_absent_origin.unwrap_or(now.allow_absent_origin),
        presence: change.presence.unwrap_or(now.presence),
        colour,
        bubble: change.bubble.unwrap_or(now.bubble),
        texts,
    };
    let name = change.name.as_deref().map_or(Ok(old_name), name)?;
    rooms.commit.register(RegisterDraft::SiteChanged { number, name, settings }).await?;
    Ok(Answer::json(200, &row(rooms, &known(rooms, app)?)))
}

/// A new secret beside the old ones, shown this once.
pub async fn rotate(asked: &Asked, rooms: &Rooms, app: &str, sort: &str) -> Done {
    operator(asked, rooms)?;
    let site = known(rooms, app)?;
    let sort = match sort {
        "app" => Sort::App,
        "identity" => Sort::Identity,
        _ => return Err(Refusal::new(RefusalCode::Malformed)),
    };
    let key = rooms.access.add_site_key(site.number, sort, now_ms()).await?;
    Ok(Answer::json(201, &json!({ "key_id": key.id, "secret": key.secret })))
}

/// How the widget shall look: for every visitor, so nothing else of the site is in it.
pub fn appearance(asked: &Asked, rooms: &Rooms) -> Done {
    let app = asked.query.get("app").ok_or(Refusal::new(RefusalCode::NoSuchSite))?;
    rooms.access.origin(Some(app), asked.origin.as_deref(), asked.secure, &asked.host)?;
    let Site { app, name, settings, .. } = known(rooms, app)?;
    let (_, agents) = rooms.bell.online();
    let shown = json!({
        "app": app,
        "name": name,
        "colour": settings.colour,
        "bubble": settings.bubble,
        "texts": settings.texts,
        "presence": settings.presence,
        "languages": ["en", "zh"],
        "reachable": !agents.is_empty(),
        "limits": {
            "text_bytes_max": limits::TEXT_BYTES_MAX,
            "upload_bytes_max": limits::UPLOAD_BYTES_MAX,
            "image_types": ["image/png", "image/jpeg", "image/gif", "image/webp"],
        },
    });
    Ok(Answer::json(200, &shown))
}

/// What a new site begins with.
pub fn usual() -> SiteSettings {
    SiteSettings { colour: "#2f6f5e".into(), ..SiteSettings::default() }
}

/// Origins as browsers send them; each is said to be wrong by name.
pub fn origins(written: &[String]) -> Result<Vec<String>, Refusal> {
    if written.len() > ORIGINS_MAX {
        return Err(Refusal::new(RefusalCode::TooMany));
    }
    written.iter().map(|it| origin::normal(it)).collect()
}

/// An AppID is chosen by chance, so that it says nothing and is nobody else's.
pub fn new_app(rooms: &Rooms) -> Result<String, Refusal> {
    rooms.access.chance().word::<10>()
}

pub fn snippet(rooms: &Rooms, app: &str) -> String {
    format!("<script src=\"{}/widget.js\" data-app=\"{app}\" async></script>", rooms.public_url)
}

fn known(rooms: &Rooms, app: &str) -> Result<Site, Refusal> {
    rooms.lens.site_by_app(app).ok_or(Refusal::new(RefusalCode::NoSuchSite))
}

fn row(rooms: &Rooms, site: &Site) -> serde_json::Value {
    let Site { app, name, settings, .. } = site;
    json!({
        "app": app,
        "name": name,
        "origins": settings.origins,
        "allow_null_origin": settings.allow_null_origin,
        "allow_absent_origin": settings.allow_absent_origin,
        "presence": settings.presence,
        "colour": settings.colour,
        "bubble": settings.bubble,
        "texts": settings.texts,
        "snippet": snippet(rooms, app),
    })
}
