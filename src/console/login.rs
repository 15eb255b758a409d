//! Signing in and out, and who one is.

use lodge_proto::refusal::Refusal;
use serde::{Deserialize, Serialize};

use super::Ask;
use super::exchange::{Answer, Language};
use crate::access::SignedIn;
use crate::access::ids;
use crate::access::pace::Act;
use crate::desk::Person;
use crate::desk::register::{Agent, Role};
use crate::limits::SESSION_MS_MAX;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wish {
    login: String,
    password: String,
}

#[derive(Serialize)]
struct Myself {
    id: String,
    login: String,
    name: String,
    role: Role,
}

#[derive(Serialize)]
struct Welcome {
    agent: Myself,
    /// The password was good this one time: `PATCH /agents/ID` sets the next one.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    choose_password: bool,
}

#[derive(Serialize)]
struct Me {
    agent: Myself,
    sites: Vec<SiteName>,
    language: Language,
}

#[derive(Serialize)]
struct SiteName {
    app: String,
    name: String,
}

/// Anybody may try, at the pace of `access`.
pub(super) async fn log_in(ask: Ask<'_>) -> Result<Answer, Refusal> {
    ask.own_page(Act::LogIn)?;
    let Wish { login, password } = ask.body()?;
    let signed = ask.rooms.access.log_in(&login, password, ask.now_ms).await?;
    let SignedIn { agent, cookie, choose_password } = signed;
    let answer = Answer::json(200, &Welcome { agent: myself(ask, agent), choose_password });
    Ok(with_cookie(answer, ask.asked.secure, &cookie))
}

/// Any agent.
pub(super) async fn log_out(ask: Ask<'_>) -> Result<Answer, Refusal> {
    let signed = ask.agent()?;
    ask.no_body()?;
    ask.rooms.access.log_out(signed.session).await?;
    // The connections of this session end at once; those of the agent's other sessions go on.
    ask.rooms.bell.review(Person::Agent(signed.agent.number));
    let gone = format!("{}=; {}; Max-Age=0", name(ask.asked.secure), kind(ask.asked.secure));
    Ok(Answer::empty().with("set-cookie", gone))
}

/// Any agent.
pub(super) fn me(ask: Ask<'_>) -> Result<Answer, Refusal> {
    let signed = ask.agent()?;
    let sites = ask.rooms.lens.sites().into_iter();
    let me = Me {
        agent: myself(ask, signed.agent),
        sites: sites.map(|site| SiteName { app: site.app, name: site.name }).collect(),
        language: ask.asked.language,
    };
    Ok(Answer::json(200, &me))
}

/// Hands the session to the browser, out of reach of scripts and of other sites' pages.
pub(super) fn with_cookie(answer: Answer, secure: bool, cookie: &str) -> Answer {
    let seconds = SESSION_MS_MAX / 1_000;
    let cookie = format!("{}={cookie}; {}; Max-Age={seconds}", name(secure), kind(secure));
    answer.with("set-cookie", cookie)
}

/// The prefix makes browsers insist on TLS, on this host and on no other.
fn name(secure: bool) -> &'static str {
    if secure { "__Host-lodge" } else { "lodge" }
}

fn kind(secure: bool) -> &'static str {
    if secure {
        "Path=/; Secure; HttpOnly; SameSite=Strict"
    } else {
        "Path=/; HttpOnly; SameSite=Strict"
    }
}

fn myself(ask: Ask<'_>, agent: Agent) -> Myself {
    let id = ids::text(&ask.rooms.ids.person(Person::Agent(agent.number)));
    Myself { id, login: agent.login, name: agent.name, role: agent.role }
}
