//! The people who answer visitors.

use lodge_proto::refusal::{Refusal, RefusalCode};
use serde::Deserialize;
use serde_json::json;

use super::exchange::{Answer, Asked};
use super::{Done, Rooms, agent, body, name, operator};
use crate::access::{ids, is_login, normal_login, password};
use crate::desk::Person;
use crate::desk::register::{Agent, RegisterDraft, Role};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct New {
    login: String,
    name: String,
    role: Role,
    password: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Change {
    name: Option<String>,
    role: Option<Role>,
    password: Option<String>,
    disabled: Option<bool>,
}

pub fn list(asked: &Asked, rooms: &Rooms) -> Done {
    agent(asked, rooms)?;
    let rows: Vec<_> = rooms.lens.agents().iter().map(|it| row(rooms, it)).collect();
    Ok(Answer::json(200, &json!({ "agents": rows })))
}

pub async fn create(asked: &Asked, rooms: &Rooms) -> Done {
    operator(asked, rooms)?;
    let new: New = body(asked)?;
    let login = normal_login(&new.login);
    if !is_login(&login) {
        let why = "A login has 1 to 64 small letters, digits and . _ - @ + only.";
        return Err(Refusal::because(RefusalCode::Malformed, why));
    }
    password::acceptable(&new.password)?;
    let hashed = rooms.access.hash(new.password).await?;
    let draft = RegisterDraft::AgentCreated { login, name: name(&new.name)?, role: new.role };
    let number = rooms.commit.register(draft).await?;
    rooms.access.set_password(number, hashed, None).await?;
    shown(rooms, number, 201)
}

pub async fn change(asked: &Asked, rooms: &Rooms, id: &str) -> Done {
    operator(asked, rooms)?;
    let change: Change = body(asked)?;
    let absent = || Refusal::because(RefusalCode::NotAllowed, "There is no such account.");
    let number = ids::parse(id).and_then(|id| rooms.ids.agent_number(&id)).ok_or_else(absent)?;
    let now = rooms.lens.agent(number).ok_or_else(absent)?;
    let hashed = match change.password {
        Some(password) => {
            password::acceptable(&password)?;
            Some(rooms.access.hash(password).await?)
        }
        None => None,
    };
    let draft = RegisterDraft::AgentChanged {
        number,
        name: change.name.as_deref().map_or(Ok(now.name), name)?,
        role: change.role.unwrap_or(now.role),
        disabled: change.disabled.unwrap_or(now.disabled),
    };
    rooms.commit.register(draft).await?;
    let shut_out = hashed.is_some() || change.disabled == Some(true);
    if let Some(hashed) = hashed {
        rooms.access.set_password(number, hashed, None).await?;
    }
    if shut_out || change.role.is_some() {
        rooms.access.end_sessions(number, None).await?;
        let ended = Refusal::new(RefusalCode::SessionEnded);
        rooms.bell.end(Person::Agent(number), &ended, |_| true);
    }
    shown(rooms, number, 200)
}

fn shown(rooms: &Rooms, number: u64, status: u16) -> Done {
    let agent = rooms.lens.agent(number).ok_or(Refusal::new(RefusalCode::NotReady))?;
    Ok(Answer::json(status, &row(rooms, &agent)))
}

fn row(rooms: &Rooms, agent: &Agent) -> serde_json::Value {
    let person = Person::Agent(agent.number);
    json!({
        "id": ids::text(&rooms.ids.person(person)),
        "login": agent.login,
        "name": agent.name,
        "role": agent.role,
        "disabled": agent.disabled,
        "online": rooms.bell.is_online(person),
    })
}
