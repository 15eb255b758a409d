//! The JSON API: one file a noun.
//!
//! Invariants: every route says in its first lines who may ask; who that is comes from `access`, never from a body;
//! bodies are objects whose every field is known and bounded; what does not exist and what is not yours give the
//! same answer; a secret is shown once, when it is made.

pub mod exchange;

mod agents;
mod conversations;
mod login;
mod people;
mod setup;
mod site;
mod sites;
mod visitor;

use std::sync::Arc;

use lodge_appliance::Trust;
use lodge_proto::refusal::{Refusal, RefusalCode};
use serde::de::DeserializeOwned;

use crate::access::ids::Ids;
use crate::access::pace::Act;
use crate::access::sessions::SessionId;
use crate::access::{Access, Who, line, origin};
use crate::bell::Bell;
use crate::commit::{Commit, now_ms};
use crate::desk::register::{Agent, Role, Site};
use crate::lens::Lens;
use crate::limits::NAME_CHARS_MAX;
use crate::signal::Signals;

use self::exchange::{Answer, Asked, Method};

/// What the nouns work with.
#[derive(Debug)]
pub struct Rooms {
    pub access: Arc<Access>,
    pub ids: Ids,
    pub lens: Arc<Lens>,
    pub commit: Commit,
    pub bell: Arc<Bell>,
    pub signals: Arc<Signals>,
    /// What visitors type, without a slash at its end.
    pub public_url: String,
    /// Whether a stranger's browser would accept it.
    pub trust: Trust,
    /// Of the certificate that was made here, to be compared by eye.
    pub fingerprint: Option<String>,
}

/// Answers one question under `/api/v1`.
pub async fn answer(asked: Asked, rooms: &Rooms) -> Answer {
    answer_at(&asked, rooms, now_ms()).await
}

async fn answer_at(asked: &Asked, rooms: &Rooms, now_ms: u64) -> Answer {
    let ask = Ask { asked, rooms, now_ms };
    route(ask).await.unwrap_or_else(|refusal| Answer::refusal(&refusal))
}

async fn route(ask: Ask<'_>) -> Result<Answer, Refusal> {
    use Method::{Delete, Get, Patch, Post};
    let path: Vec<&str> = ask.asked.path.iter().map(String::as_str).collect();
    let method = ask.asked.method;
    match path.as_slice() {
        ["setup"] => match method {
            Get => setup::state(ask),
            Post => setup::set_up(ask).await,
            _ => Ok(other_method("GET, POST")),
        },
        ["login"] => match method {
            Post => login::log_in(ask).await,
            _ => Ok(other_method("POST")),
        },
        ["logout"] => match method {
            Post => login::log_out(ask).await,
            _ => Ok(other_method("POST")),
        },
        ["me"] => match method {
            Get => login::me(ask),
            _ => Ok(other_method("GET")),
        },
        ["agents"] => match method {
            Get => agents::list(ask),
            Post => agents::create(ask).await,
            _ => Ok(other_method("GET, POST")),
        },
        ["agents", id] => match method {
            Patch => agents::change(ask, id).await,
            _ => Ok(other_method("PATCH")),
        },
        ["sites"] => match method {
            Get => sites::list(ask),
            Post => sites::create(ask).await,
            _ => Ok(other_method("GET, POST")),
        },
        ["sites", app] => match method {
            Get => sites::show(ask, app),
            Patch => sites::change(ask, app).await,
            _ => Ok(other_method("GET, PATCH")),
        },
        ["sites", app, "secrets", sort, "rotate"] => match method {
            Post => sites::rotate(ask, app, sort).await,
            _ => Ok(other_method("POST")),
        },
        ["sites", app, "secrets", sort, id] => match method {
            Delete => sites::remove_secret(ask, app, sort, id).await,
            _ => Ok(other_method("DELETE")),
        },
        ["conversations"] => match method {
            Get => conversations::list(ask),
            _ => Ok(other_method("GET")),
        },
        ["people", "online"] => match method {
            Get => people::online(ask),
            _ => Ok(other_method("GET")),
        },
        ["site"] => match method {
            Get => site::appearance(ask),
            _ => Ok(other_method("GET")),
        },
        ["visitor", "token"] => match method {
            Post => visitor::token(ask),
            _ => Ok(other_method("POST")),
        },
        _ => Ok(nothing_here()),
    }
}

/// One question with everything that is needed to answer it.
#[derive(Debug, Clone, Copy)]
struct Ask<'a> {
    asked: &'a Asked,
    rooms: &'a Rooms,
    now_ms: u64,
}

/// An agent who is signed in.
#[derive(Debug)]
struct Signed {
    agent: Agent,
    session: SessionId,
}

impl<'a> Ask<'a> {
    /// Lets our own pages in, at the pace of `act`, and nothing that a foreign page can cause.
    fn own_page(self, act: Act) -> Result<(), Refusal> {
        let Asked { method, origin, csrf_header, peer, secure, host, .. } = self.asked;
        self.rooms.access.allow(*peer, act, self.now_ms)?;
        origin::own_only(origin.as_deref(), &origin::own(*secure, host))?;
        if method.is_unsafe() && !csrf_header {
            let why = "A request that changes something needs the header X-Lodge: 1.";
            return Err(Refusal::because(RefusalCode::NotAllowed, why));
        }
        Ok(())
    }

    /// The agent who asks.
    fn agent(self) -> Result<Signed, Refusal> {
        self.own_page(Act::Ask)?;
        let ended = || Refusal::new(RefusalCode::SessionEnded);
        let cookie = self.asked.cookie.as_deref().ok_or_else(ended)?;
        let Who::Agent { agent, session, .. } = self.rooms.access.agent(cookie, self.now_ms)?
        else {
            return Err(ended());
        };
        let agent = self.rooms.lens.agent(agent).ok_or_else(ended)?;
        Ok(Signed { agent, session })
    }

    /// The same, for what only operators may.
    fn operator(self) -> Result<Signed, Refusal> {
        let signed = self.agent()?;
        if signed.agent.role != Role::Operator {
            return Err(Refusal::because(RefusalCode::NotAllowed, "Only an operator may do this."));
        }
        Ok(signed)
    }

    /// The site that a page or an app asks for, if it may ask from where it is.
    fn site_of_page(self, act: Act) -> Result<Site, Refusal> {
        let Asked { method, query, origin, peer, secure, host, .. } = self.asked;
        self.rooms.access.allow(*peer, act, self.now_ms)?;
        let none = || Refusal::because(RefusalCode::NoSuchSite, "Name the site: ?app=APPID.");
        let app = query.get("app").ok_or_else(none)?;
        // A plain read without Origin is shown to no foreign page, so there is nothing to judge.
        if origin.is_none() && !method.is_unsafe() {
            let site = self.rooms.lens.site_by_app(app);
            return site.ok_or(Refusal::new(RefusalCode::NoSuchSite));
        }
        let site = self.rooms.access.origin(Some(app), origin.as_deref(), *secure, host)?;
        site.ok_or_else(none)
    }

    /// The body as an object of exactly these fields.
    fn body<T: DeserializeOwned>(self) -> Result<T, Refusal> {
        let body = &self.asked.body;
        if !body.trim_ascii_start().starts_with(b"{") {
            return Err(malformed("The body is not a JSON object."));
        }
        serde_json::from_slice(body).map_err(|error| {
            let why = line::quoted(&error.to_string());
            malformed(format!("The body is not as agreed: {why}."))
        })
    }

    /// For what needs no body: none, or an empty object.
    fn no_body(self) -> Result<(), Refusal> {
        #[derive(serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Nothing {}
        if self.asked.body.is_empty() {
            return Ok(());
        }
        self.body::<Nothing>().map(|Nothing {}| ())
    }

    /// Refuses a query key that nobody reads, since whoever wrote it meant something.
    fn query_keys(self, known: &[&str]) -> Result<(), Refusal> {
        match self.asked.query.keys().find(|key| !known.contains(&key.as_str())) {
            None => Ok(()),
            Some(key) => Err(malformed(format!(
                "There is no query key \"{}\" here, only: {}.",
                line::quoted(key),
                known.join(", ")
            ))),
        }
    }
}

fn malformed(why: impl Into<std::borrow::Cow<'static, str>>) -> Refusal {
    Refusal::because(RefusalCode::Malformed, why)
}

/// The name of a person or a site, as it will be shown.
fn name(what: &str, typed: &str) -> Result<String, Refusal> {
    let name = typed.trim();
    let fits = !name.is_empty()
        && name.chars().count() <= NAME_CHARS_MAX
        && name.len() <= crate::limits::NAME_BYTES_MAX
        && line::is_line(name);
    if !fits {
        return Err(malformed(format!(
            "{what} is one line of 1 to {NAME_CHARS_MAX} characters and at most {} bytes.",
            crate::limits::NAME_BYTES_MAX
        )));
    }
    Ok(name.to_owned())
}

/// What does not exist and what is not yours.
fn nothing_here() -> Answer {
    let why = "There is nothing here, or nothing that you may see.";
    Answer::refusal_with(404, &Refusal::because(RefusalCode::NotAllowed, why))
}

fn other_method(allowed: &'static str) -> Answer {
    let why = format!("Here one may only {allowed}.");
    Answer::refusal_with(405, &malformed(why)).with("allow", allowed)
}

#[cfg(test)]
mod tests;
