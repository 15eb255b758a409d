//! The JSON API: one file a noun. Nothing here names a socket; `exchange` is what it sees of HTTP.
//!
//! Invariants: who asks and for which site is what `access` verified, never what a body says; every body has
//! a closed set of fields and bounded texts; what somebody may not see looks as if it were not there.

pub mod exchange;

mod agents;
mod conversations;
mod setup;
mod sign_in;
mod sites;
mod visitor;

use std::sync::Arc;

use lodge_appliance::Trust;
use lodge_proto::refusal::{Refusal, RefusalCode};
use serde::de::DeserializeOwned;

use self::exchange::{Answer, Asked, Method};
use crate::access::ids::Ids;
use crate::access::pace::Act;
use crate::access::{Access, Who};
use crate::bell::Bell;
use crate::commit::{Commit, now_ms};
use crate::desk::register::{Agent, Role};
use crate::lens::Lens;
use crate::signal::Signals;

/// What the nouns need of the house.
#[derive(Debug)]
pub struct Rooms {
    pub access: Arc<Access>,
    pub commit: Commit,
    pub lens: Arc<Lens>,
    pub bell: Arc<Bell>,
    pub signals: Arc<Signals>,
    pub ids: Ids,
    pub trust: Trust,
    pub public_url: String,
    pub fingerprint: Option<String>,
}

type Done = Result<Answer, Refusal>;

/// Answers one request under `/api/v1`.
pub async fn answer(asked: Asked, rooms: &Rooms) -> Answer {
    let act = match asked.path.first().map(String::as_str) {
        Some("login") => Act::LogIn,
        Some("setup") if asked.method == Method::Post => Act::SetUp,
        Some("visitor") => Act::Visit,
        _ => Act::Ask,
    };
    let done = match rooms.access.allow(asked.peer, act, now_ms()) {
        Ok(()) => route(&asked, rooms).await,
        Err(refusal) => Err(refusal),
    };
    done.unwrap_or_else(|refusal| Answer::refusal(&refusal))
}

async fn route(asked: &Asked, rooms: &Rooms) -> Done {
    let path: Vec<&str> = asked.path.iter().map(String::as_str).collect();
    match (asked.method, path.as_slice()) {
        (Method::Get, ["setup"]) => setup::state(rooms),
        (Method::Post, ["setup"]) => setup::finish(asked, rooms).await,
        (Method::Post, ["login"]) => sign_in::log_in(asked, rooms).await,
        (Method::Post, ["logout"]) => sign_in::log_out(asked, rooms).await,
        (Method::Get, ["me"]) => sign_in::me(asked, rooms),
        (Method::Get, ["agents"]) => agents::list(asked, rooms),
        (Method::Post, ["agents"]) => agents::create(asked, rooms).await,
        (Method::Patch, ["agents", id]) => agents::change(asked, rooms, id).await,
        (Method::Get, ["sites"]) => sites::list(asked, rooms),
        (Method::Post, ["sites"]) => sites::create(asked, rooms).await,
        (Method::Get, ["sites", app]) => sites::one(asked, rooms, app),
        (Method::Patch, ["sites", app]) => sites::change(asked, rooms, app).await,
        (Method::Post, ["sites", app, "secrets", sort, "rotate"]) => {
            sites::rotate(asked, rooms, app, sort).await
        }
        (Method::Get, ["site"]) => sites::appearance(asked, rooms),
        (Method::Get, ["conversations"]) => conversations::list(asked, rooms),
        (Method::Get, ["people", "online"]) => conversations::online(asked, rooms),
        (Method::Post, ["visitor", "token"]) => visitor::token(asked, rooms),
        _ => Ok(Answer::refusal_with(
            404,
            &Refusal::because(RefusalCode::Malformed, "There is nothing here."),
        )),
    }
}

/// The signed-in agent. A change needs the header that no foreign page can send.
fn agent(asked: &Asked, rooms: &Rooms) -> Result<(Agent, Who), Refusal> {
    let ended = || Refusal::new(RefusalCode::SessionEnded);
    if asked.method.is_unsafe() && !asked.csrf_header {
        let why = "Changes need the header X-Lodge: 1.";
        return Err(Refusal::because(RefusalCode::NotAllowed, why));
    }
    rooms.access.origin(None, asked.origin.as_deref(), asked.secure, &asked.host)?;
    let cookie = asked.cookie.as_deref().ok_or_else(ended)?;
    let who = rooms.access.agent(cookie, now_ms())?;
    rooms.access.seen(&who, now_ms())?;
    let Who::Agent { agent, .. } = &who else { return Err(ended()) };
    Ok((rooms.lens.agent(*agent).ok_or_else(ended)?, who))
}

fn operator(asked: &Asked, rooms: &Rooms) -> Result<(Agent, Who), Refusal> {
    let (agent, who) = agent(asked, rooms)?;
    if agent.role != Role::Operator {
        return Err(Refusal::new(RefusalCode::NotAllowed));
    }
    Ok((agent, who))
}

/// Reads a body; the sentence says which field is wrong, never what stood in it.
fn body<T: DeserializeOwned>(asked: &Asked) -> Result<T, Refusal> {
    serde_json::from_slice(&asked.body).map_err(|error| {
        let why = format!(
            "The body is not what is expected here: line {}, column {}.",
            error.line(),
            error.column()
        );
        Refusal::because(RefusalCode::Malformed, why)
    })
}

/// A name as people give it to things: one line, 1 to 100 characters.
fn name(text: &str) -> Result<String, Refusal> {
    let text = text.trim();
    if text.is_empty() || text.chars().count() > 100 || text.chars().any(char::is_control) {
        let why = "A name has 1 to 100 characters on one line.";
        return Err(Refusal::because(RefusalCode::Malformed, why));
    }
    Ok(text.to_owned())
}
