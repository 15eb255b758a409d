//! The first minutes: one account, one site, by whoever holds the one-time token.

use lodge_appliance::Trust;
use lodge_proto::refusal::Refusal;
use serde::{Deserialize, Serialize};

use super::exchange::Answer;
use super::{Ask, login, malformed, name, sites};
use crate::access::pace::Act;
use crate::access::{is_login, normal_login};
use crate::desk::register::{RegisterDraft, Role, SiteSettings};
use crate::limits::LOGIN_BYTES_MAX;

#[derive(Serialize)]
struct State<'a> {
    /// Whether there is a token that somebody could use.
    open: bool,
    tls: Tls<'a>,
}

#[derive(Serialize)]
struct Tls<'a> {
    #[serde(flatten)]
    trust: &'a Trust,
    fingerprint: Option<&'a str>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wish {
    token: String,
    login: String,
    password: String,
    name: String,
    site_name: String,
    #[serde(default)]
    origins: Vec<String>,
}

/// Anybody may ask: it says nothing about who works here.
pub(super) fn state(ask: Ask<'_>) -> Result<Answer, Refusal> {
    ask.own_page(Act::Ask)?;
    let open = ask.rooms.access.setup_is_open(ask.now_ms);
    let tls = Tls { trust: &ask.rooms.trust, fingerprint: ask.rooms.fingerprint.as_deref() };
    Ok(Answer::json(200, &State { open, tls }))
}

/// Whoever has the token, once. Nothing is made before it was found good and all else was checked; it is spent in
/// the same step that lets the account in, so an attempt that was cut off can be made again.
pub(super) async fn set_up(ask: Ask<'_>) -> Result<Answer, Refusal> {
    ask.own_page(Act::SetUp)?;
    let Ask { rooms, now_ms, .. } = ask;
    let wish: Wish = ask.body()?;
    let setting_up = rooms.access.set_up(&wish.token, now_ms).await?;
    let login = login_of(&wish.login)?;
    let person = name("Your name", &wish.name)?;
    let site_name = name("The name of the site", &wish.site_name)?;
    let origins = sites::origins_of(&wish.origins)?;
    let hashed = rooms.access.hash(wish.password).await?;

    // An attempt that was cut off may have left the account behind; without a password it is still nobody's.
    let left = rooms.lens.agent_by_login(&login);
    let left = left.filter(|it| it.role == Role::Operator && !rooms.access.has_password(it.number));
    let agent = match left {
        Some(agent) => agent.number,
        None => {
            let draft = RegisterDraft::AgentCreated { login, name: person, role: Role::Operator };
            rooms.commit.register(draft).await?
        }
    };
    let settings = SiteSettings { origins, ..sites::usual() };
    let (app, site) = sites::register(ask, site_name, settings).await?;
    let (app_key, identity_key) = setting_up.finish(agent, &hashed, site, now_ms).await?;
    let cookie = rooms.access.begin_session(agent, now_ms).await?;
    let shown = sites::Shown::new(ask, &app, &app_key, &identity_key);
    Ok(login::with_cookie(Answer::json(201, &shown), ask.asked.secure, &cookie))
}

/// A login that an account may have.
pub(super) fn login_of(typed: &str) -> Result<String, Refusal> {
    let login = normal_login(typed);
    if !is_login(&login) {
        return Err(malformed(format!(
            "A login has 1 to {LOGIN_BYTES_MAX} letters a-z, digits and the signs . _ - @ +, and begins with a \
             letter or a digit."
        )));
    }
    Ok(login)
}
