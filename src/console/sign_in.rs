//! Signing in and out, and who one is.

use lodge_proto::refusal::{Refusal, RefusalCode};
use serde::Deserialize;
use serde_json::json;

use super::exchange::{Answer, Asked};
use super::{Done, Rooms, agent, body};
use crate::access::{Who, ids};
use crate::commit::now_ms;
use crate::desk::Person;
use crate::desk::register::{Agent, Role};

/// Longer than any session lives; the server's own clock decides.
const COOKIE_SECONDS: u64 = 30 * 24 * 60 * 60;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wish {
    login: String,
    password: String,
}

pub async fn log_in(asked: &Asked, rooms: &Rooms) -> Done {
    rooms.access.origin(None, asked.origin.as_deref(), asked.secure, &asked.host)?;
    let wish: Wish = body(asked)?;
    let signed = rooms.access.log_in(&wish.login, wish.password, now_ms()).await?;
    let answer = json!({
        "agent": shown(rooms, &signed.agent),
        "choose_password": signed.choose_password,
    });
    Ok(with_cookie(Answer::json(200, &answer), asked, &signed.cookie))
}

pub async fn log_out(asked: &Asked, rooms: &Rooms) -> Done {
    let (_, who) = agent(asked, rooms)?;
    if let Who::Agent { agent, session, .. } = who {
        rooms.access.log_out(session).await?;
        // Connections of this session ask again; those of others go on at once.
        let ended = Refusal::new(RefusalCode::SessionEnded);
        rooms.bell.end(Person::Agent(agent), &ended, |_| true);
    }
    Ok(with_cookie(Answer::empty(), asked, ""))
}

pub fn me(asked: &Asked, rooms: &Rooms) -> Done {
    let (agent, _) = agent(asked, rooms)?;
    let sites = rooms.lens.sites();
    let sites: Vec<_> =
        sites.iter().map(|site| json!({ "app": site.app, "name": site.name })).collect();
    Ok(Answer::json(200, &json!({ "agent": shown(rooms, &agent), "sites": sites })))
}

/// Sets the session cookie; an empty one takes it away.
pub fn with_cookie(answer: Answer, asked: &Asked, cookie: &str) -> Answer {
    let (name, secure) = if asked.secure { ("__Host-lodge", "; Secure") } else { ("lodge", "") };
    let age = if cookie.is_empty() { 0 } else { COOKIE_SECONDS };
    let value =
        format!("{name}={cookie}; Path=/; HttpOnly; SameSite=Strict; Max-Age={age}{secure}");
    answer.with("set-cookie", value)
}

fn shown(rooms: &Rooms, agent: &Agent) -> serde_json::Value {
    json!({
        "id": ids::text(&rooms.ids.person(Person::Agent(agent.number))),
        "login": agent.login,
        "name": agent.name,
        "role": match agent.role { Role::Agent => "agent", Role::Operator => "operator" },
    })
}
