//! The people who work here.

use lodge_proto::refusal::{Refusal, RefusalCode};
use serde::{Deserialize, Serialize};

use super::exchange::Answer;
use super::{Ask, Signed, malformed, name, nothing_here, setup};
use crate::access::ids;
use crate::desk::Person;
use crate::desk::register::{Agent, RegisterDraft, Role};

#[derive(Serialize)]
struct Row {
    id: String,
    login: String,
    name: String,
    role: Role,
    disabled: bool,
    online: bool,
}

#[derive(Serialize)]
struct List {
    agents: Vec<Row>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wish {
    login: String,
    name: String,
    role: Role,
    password: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Change {
    name: Option<String>,
    password: Option<String>,
    /// Whoever is no operator proves with it that they are not just somebody at an open screen.
    current_password: Option<String>,
    role: Option<Role>,
    disabled: Option<bool>,
}

/// Any agent: one sees with whom one works.
pub(super) fn list(ask: Ask<'_>) -> Result<Answer, Refusal> {
    ask.agent()?;
    let agents = ask.rooms.lens.agents().into_iter().map(|agent| row(ask, agent)).collect();
    Ok(Answer::json(200, &List { agents }))
}

/// Operators.
pub(super) async fn create(ask: Ask<'_>) -> Result<Answer, Refusal> {
    ask.operator()?;
    let Wish { login, name: typed, role, password } = ask.body()?;
    let login = setup::login_of(&login)?;
    let name = name("The name", &typed)?;
    let hashed = ask.rooms.access.hash(password).await?;
    let draft = RegisterDraft::AgentCreated { login, name, role };
    let number = ask.rooms.commit.register(draft).await?;
    ask.rooms.access.set_password(number, hashed, None).await?;
    Ok(shown(ask, 201, number))
}

/// Operators; everybody their own name and, with the current one, password.
pub(super) async fn change(ask: Ask<'_>, id: &str) -> Result<Answer, Refusal> {
    let Signed { agent: by, session } = ask.agent()?;
    let number = ids::parse(id).and_then(|id| ask.rooms.ids.agent_number(&id));
    let operator = by.role == Role::Operator;
    let Some(agent) = number
        .filter(|number| operator || *number == by.number)
        .and_then(|number| ask.rooms.lens.agent(number))
    else {
        return Ok(nothing_here());
    };
    let change: Change = ask.body()?;
    if !operator && (change.role.is_some() || change.disabled.is_some()) {
        return Err(Refusal::because(RefusalCode::NotAllowed, "Only an operator may do this."));
    }
    let own = agent.number == by.number;
    let name = match &change.name {
        Some(typed) => name("The name", typed)?,
        None => agent.name.clone(),
    };
    let hashed = match change.password {
        None => None,
        Some(password) => {
            if !operator && ask.rooms.access.has_password(agent.number) {
                let current = change.current_password.ok_or_else(|| {
                    malformed("To change your password, send your current_password too.")
                })?;
                ask.rooms.access.confirm(&agent, current, ask.now_ms).await?;
            }
            Some(ask.rooms.access.hash(password).await?)
        }
    };
    let role = change.role.unwrap_or(agent.role);
    let disabled = change.disabled.unwrap_or(agent.disabled);
    if (&name, role, disabled) != (&agent.name, agent.role, agent.disabled) {
        let draft = RegisterDraft::AgentChanged { number: agent.number, name, role, disabled };
        ask.rooms.commit.register(draft).await?;
    }
    if let Some(hashed) = &hashed {
        let keep = own.then_some(session);
        ask.rooms.access.set_password(agent.number, hashed.clone(), keep).await?;
    }
    if disabled && !agent.disabled {
        ask.rooms.access.end_sessions(agent.number, None).await?;
    }
    // What was let in on the old terms comes back on the new ones, or not at all.
    ask.rooms.bell.review(Person::Agent(agent.number));
    Ok(shown(ask, 200, agent.number))
}

fn shown(ask: Ask<'_>, status: u16, number: u64) -> Answer {
    match ask.rooms.lens.agent(number) {
        Some(agent) => Answer::json(status, &row(ask, agent)),
        None => nothing_here(),
    }
}

fn row(ask: Ask<'_>, agent: Agent) -> Row {
    let person = Person::Agent(agent.number);
    Row {
        id: ids::text(&ask.rooms.ids.person(person)),
        login: agent.login,
        name: agent.name,
        role: agent.role,
        disabled: agent.disabled,
        online: ask.rooms.bell.is_online(person),
    }
}
