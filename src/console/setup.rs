//! The first quarter-hour: who owns this, and for which site.

use serde::Deserialize;
use serde_json::json;

use super::exchange::{Answer, Asked};
use super::{Done, Rooms, body, name, sign_in, sites};
use crate::access::{is_login, normal_login, password};
use crate::commit::now_ms;
use crate::desk::register::{RegisterDraft, Role, SiteSettings};
use lodge_proto::refusal::{Refusal, RefusalCode};

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

/// Whether this server waits to be set up, and whether strangers' browsers would trust its address.
pub fn state(rooms: &Rooms) -> Done {
    let open = rooms.lens.agents().is_empty() && rooms.access.setup_is_open(now_ms());
    Ok(Answer::json(200, &json!({ "open": open, "tls": trust(rooms) })))
}

pub async fn finish(asked: &Asked, rooms: &Rooms) -> Done {
    rooms.access.origin(None, asked.origin.as_deref(), asked.secure, &asked.host)?;
    let wish: Wish = body(asked)?;
    let setting_up = rooms.access.set_up(&wish.token, now_ms()).await?;
    let login = normal_login(&wish.login);
    if !is_login(&login) {
        let why = "A login has 1 to 64 small letters, digits and . _ - @ + only.";
        return Err(Refusal::because(RefusalCode::Malformed, why));
    }
    password::acceptable(&wish.password)?;
    let (own_name, site_name) = (name(&wish.name)?, name(&wish.site_name)?);
    let settings = SiteSettings { origins: sites::origins(&wish.origins)?, ..sites::usual() };
    let hashed = rooms.access.hash(wish.password).await?;
    let role = Role::Operator;
    let agent = match rooms.lens.agent_by_login(&login) {
        // A set-up that was cut off between its two steps goes on.
        Some(agent) if !rooms.access.has_password(agent.number) => agent.number,
        Some(_) => return Err(Refusal::because(RefusalCode::NotAllowed, "This login is taken.")),
        None => {
            rooms
                .commit
                .register(RegisterDraft::AgentCreated { login, name: own_name, role })
                .await?
        }
    };
    let app = sites::new_app(rooms)?;
    let created = RegisterDraft::SiteCreated { app: app.clone(), name: site_name, settings };
    let site = rooms.commit.register(created).await?;
    let (app_key, identity) = setting_up.finish(agent, &hashed, site, now_ms()).await?;
    let cookie = rooms.access.begin_session(agent, now_ms()).await?;
    let made = json!({
        "app": app,
        "app_secret": app_key.secret,
        "identity_secret": identity.secret,
        "identity_key_id": identity.id,
        "snippet": sites::snippet(rooms, &app),
    });
    Ok(sign_in::with_cookie(Answer::json(201, &made), asked, &cookie))
}

fn trust(rooms: &Rooms) -> serde_json::Value {
    use lodge_appliance::{Trusted, Words};
    let words = |it: &Words| json!({ "en": it.en, "zh": it.zh });
    json!({
        "address": rooms.trust.address,
        "trusted": match rooms.trust.trusted {
            Trusted::Here => "here",
            Trusted::Depends => "depends",
            Trusted::No => "no",
        },
        "says": words(&rooms.trust.says),
        "steps": rooms.trust.steps.iter().map(words).collect::<Vec<_>>(),
        "fingerprint": rooms.fingerprint,
    })
}
