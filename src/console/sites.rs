//! Sites and their settings, as operators see them; their secrets, shown once.

use lodge_proto::refusal::{Refusal, RefusalCode};
use serde::{Deserialize, Serialize};

use super::exchange::Answer;
use super::{Ask, malformed, name, nothing_here};
use crate::access::origin;
use crate::access::site_keys::{SiteKey, Sort};
use crate::desk::register::{Bubble, RegisterDraft, Site, SiteSettings, Texts, Wording};
use crate::limits::{ORIGINS_MAX, WORDING_CHARS_MAX};

/// A site with what may be seen of its secrets.
#[derive(Serialize)]
struct Row {
    app: String,
    name: String,
    #[serde(flatten)]
    settings: SiteSettings,
    snippet: String,
    secrets: Keys,
}

#[derive(Serialize)]
struct Keys {
    app: Vec<Key>,
    identity: Vec<Key>,
}

#[derive(Serialize)]
struct Key {
    key_id: String,
    made_ms: u64,
}

#[derive(Serialize)]
struct List {
    sites: Vec<Row>,
}

/// A new site's secrets, this one time.
#[derive(Serialize)]
pub(super) struct Shown {
    app: String,
    app_secret: String,
    app_key_id: String,
    identity_secret: String,
    identity_key_id: String,
    snippet: String,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Rotated {
    App { app_secret: String, app_key_id: String },
    Identity { identity_secret: String, identity_key_id: String },
}

/// What is not said stays as it is.
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

impl Shown {
    pub(super) fn new(ask: Ask<'_>, app: &str, app_key: &SiteKey, identity_key: &SiteKey) -> Shown {
        Shown {
            app: app.to_owned(),
            app_secret: app_key.secret.clone(),
            app_key_id: app_key.id.clone(),
            identity_secret: identity_key.secret.clone(),
            identity_key_id: identity_key.id.clone(),
            snippet: snippet(ask, app),
        }
    }
}

/// Operators.
pub(super) fn list(ask: Ask<'_>) -> Result<Answer, Refusal> {
    ask.operator()?;
    let sites = ask.rooms.lens.sites().into_iter().map(|site| row(ask, site)).collect();
    Ok(Answer::json(200, &List { sites }))
}

/// Operators.
pub(super) fn show(ask: Ask<'_>, app: &str) -> Result<Answer, Refusal> {
    ask.operator()?;
    Ok(shown(ask, app))
}

/// Operators.
pub(super) async fn create(ask: Ask<'_>) -> Result<Answer, Refusal> {
    ask.operator()?;
    let change: Change = ask.body()?;
    let site_name = change.name.as_deref().unwrap_or_default();
    let site_name = name("The name of the site", site_name)?;
    let settings = settings_of(usual(), change)?;
    let (app, number) = register(ask, site_name, settings).await?;
    let access = &ask.rooms.access;
    let app_key = access.add_site_key(number, Sort::App, ask.now_ms).await?;
    let identity_key = access.add_site_key(number, Sort::Identity, ask.now_ms).await?;
    Ok(Answer::json(201, &Shown::new(ask, &app, &app_key, &identity_key)))
}

/// Operators.
pub(super) async fn change(ask: Ask<'_>, app: &str) -> Result<Answer, Refusal> {
    ask.operator()?;
    let Some(site) = ask.rooms.lens.site_by_app(app) else { return Ok(nothing_here()) };
    let change: Change = ask.body()?;
    let name = match &change.name {
        Some(typed) => name("The name of the site", typed)?,
        None => site.name.clone(),
    };
    let settings = settings_of(site.settings.clone(), change)?;
    if (&name, &settings) != (&site.name, &site.settings) {
        let draft = RegisterDraft::SiteChanged { number: site.number, name, settings };
        ask.rooms.commit.register(draft).await?;
    }
    Ok(shown(ask, app))
}

/// Operators. The older secrets go on until they are removed.
pub(super) async fn rotate(ask: Ask<'_>, app: &str, sort: &str) -> Result<Answer, Refusal> {
    ask.operator()?;
    ask.no_body()?;
    let (Some(site), Some(sort)) = (ask.rooms.lens.site_by_app(app), sort_of(sort)) else {
        return Ok(nothing_here());
    };
    let key = ask.rooms.access.add_site_key(site.number, sort, ask.now_ms).await?;
    let rotated = match sort {
        Sort::App => Rotated::App { app_secret: key.secret, app_key_id: key.id },
        Sort::Identity => {
            Rotated::Identity { identity_secret: key.secret, identity_key_id: key.id }
        }
    };
    Ok(Answer::json(201, &rotated))
}

/// Operators.
pub(super) async fn remove_secret(
    ask: Ask<'_>,
    app: &str,
    sort: &str,
    id: &str,
) -> Result<Answer, Refusal> {
    ask.operator()?;
    ask.no_body()?;
    let (Some(site), Some(sort)) = (ask.rooms.lens.site_by_app(app), sort_of(sort)) else {
        return Ok(nothing_here());
    };
    if !ask.rooms.access.site_keys(site.number, sort).iter().any(|key| key.id == id) {
        return Ok(nothing_here());
    }
    ask.rooms.access.remove_site_key(site.number, sort, id.to_owned(), ask.now_ms).await?;
    Ok(Answer::empty())
}

/// Adds the site to the register under an AppID of its own.
pub(super) async fn register(
    ask: Ask<'_>,
    name: String,
    settings: SiteSettings,
) -> Result<(String, u64), Refusal> {
    let app = ask.rooms.access.chance().word::<10>()?;
    let draft = RegisterDraft::SiteCreated { app: app.clone(), name, settings };
    let number = ask.rooms.commit.register(draft).await?;
    Ok((app, number))
}

/// What a new site begins with.
pub(super) fn usual() -> SiteSettings {
    SiteSettings { colour: "#2f6f5e".to_owned(), ..SiteSettings::default() }
}

/// The origins as browsers send them, each once.
pub(super) fn origins_of(written: &[String]) -> Result<Vec<String>, Refusal> {
    if written.len() > ORIGINS_MAX {
        let why = format!("A site has at most {ORIGINS_MAX} origins.");
        return Err(Refusal::because(RefusalCode::TooMany, why));
    }
    let mut origins: Vec<String> = Vec::with_capacity(written.len());
    for written in written {
        let normal = origin::normal(written.trim())?;
        if !origins.contains(&normal) {
            origins.push(normal);
        }
    }
    Ok(origins)
}

fn settings_of(now: SiteSettings, change: Change) -> Result<SiteSettings, Refusal> {
    let texts = change.texts.unwrap_or(now.texts);
    for Wording { title, greeting, away, placeholder } in [&texts.en, &texts.zh] {
        for text in [title, greeting, away, placeholder] {
            let lines = text.lines().all(crate::access::line::is_line);
            if text.chars().count() > WORDING_CHARS_MAX || !lines {
                return Err(malformed(format!(
                    "Each text has at most {WORDING_CHARS_MAX} characters, and none that is not seen."
                )));
            }
        }
    }
    Ok(SiteSettings {
        origins: match change.origins {
            Some(written) => origins_of(&written)?,
            None => now.origins,
        },
        allow_null_origin: change.allow_null_origin.unwrap_or(now.allow_null_origin),
        allow_absent_origin: change.allow_absent_origin.unwrap_or(now.allow_absent_origin),
        presence: change.presence.unwrap_or(now.presence),
        colour: match change.colour {
            Some(written) => colour_of(&written)?,
            None => now.colour,
        },
        bubble: change.bubble.unwrap_or(now.bubble),
        texts,
    })
}

/// `#rrggbb`, or nothing for the widget's own.
fn colour_of(written: &str) -> Result<String, Refusal> {
    let digits = written.strip_prefix('#').filter(|digits| digits.len() == 6);
    let sound = digits.is_some_and(|digits| digits.bytes().all(|it| it.is_ascii_hexdigit()));
    if !sound && !written.is_empty() {
        return Err(malformed("A colour is written #rrggbb."));
    }
    Ok(written.to_ascii_lowercase())
}

fn sort_of(word: &str) -> Option<Sort> {
    [Sort::App, Sort::Identity].into_iter().find(|sort| sort.word() == word)
}

fn shown(ask: Ask<'_>, app: &str) -> Answer {
    match ask.rooms.lens.site_by_app(app) {
        Some(site) => Answer::json(200, &row(ask, site)),
        None => nothing_here(),
    }
}

fn row(ask: Ask<'_>, site: Site) -> Row {
    let keys = |sort| {
        let keys = ask.rooms.access.site_keys(site.number, sort).into_iter();
        keys.map(|key| Key { key_id: key.id, made_ms: key.made_ms }).collect()
    };
    Row {
        snippet: snippet(ask, &site.app),
        secrets: Keys { app: keys(Sort::App), identity: keys(Sort::Identity) },
        app: site.app,
        name: site.name,
        settings: site.settings,
    }
}

/// What goes into a page.
fn snippet(ask: Ask<'_>, app: &str) -> String {
    let url = &ask.rooms.public_url;
    format!("<script async src=\"{url}/widget.js\" data-app=\"{app}\"></script>")
}
