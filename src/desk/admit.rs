//! From what is asked to what is accepted: the only place where the desk chooses.
//!
//! Every choice ends up in an Entry. Time, presence and numbers are arguments.

use std::collections::BTreeSet;

use lodge_proto::refusal::{Refusal, RefusalCode};
use lodge_storage::Lane;

use super::entry::{Body, File, Person};
use super::register::{Agent, RegisterDraft, Role, Site};
use super::state::{Conversation, State};
use crate::limits;

/// Who asks, as `access` established it. Never taken from the draft itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum By {
    Visitor { person: u64, site: u64, name: String, vouched: bool, page: String },
    Agent { person: u64 },
}

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asked {
    Text(String),
    File(File),
    Close,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draft {
    pub by: By,
    /// `None`: the visitor's current conversation, opened by this very draft if there is none.
    pub conversation: Option<u64>,
    pub lane: Lane,
    pub asked: Asked,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewEntry {
    pub lane: Lane,
    pub author: Person,
    pub body: Body,
}

/// Entries of one conversation that stand or fall together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    pub conversation: u64,
    pub entries: Vec<NewEntry>,
    /// Which of them answers the draft.
    pub answer: usize,
}

impl Group {
    fn push(&mut self, lane: Lane, author: Person, body: Body) {
        self.entries.push(NewEntry { lane, author, body });
    }
}

/// Judges a draft. `online` are the agents who could take a conversation now.
pub fn admit(state: &State, online: &BTreeSet<u64>, draft: Draft) -> Result<Group, Refusal> {
    let body = match draft.asked {
        Asked::Text(text) if text.trim().is_empty() => return refuse(RefusalCode::TextEmpty),
        Asked::Text(text) if text.len() > limits::TEXT_BYTES_MAX => {
            return refuse(RefusalCode::TextTooLong);
        }
        Asked::Text(text) => Body::Text(text),
        Asked::File(file) => Body::File(file),
        Asked::Close => Body::Closed,
    };
    match draft.by {
        By::Visitor { .. } => {
            from_visitor(state, online, draft.by, draft.conversation, draft.lane, body)
        }
        By::Agent { person } => from_agent(state, person, draft.conversation, draft.lane, body),
    }
}

/// Gives the conversations that nobody has to agents who are there, a bounded number at a time.
pub fn assign_waiting(state: &State, online: &BTreeSet<u64>) -> Option<Group> {
    let number = state.waiting().next()?;
    let mut group = Group { conversation: number, entries: Vec::new(), answer: 0 };
    assign(state, online, &mut group);
    (!group.entries.is_empty()).then_some(group)
}

/// Judges a change of the register; the number of the row it makes or changes comes with it.
pub fn admit_register(state: &State, draft: RegisterDraft) -> Result<(u64, Body), Refusal> {
    match draft {
        RegisterDraft::SiteCreated { app, name, settings } => {
            if state.site_by_app(&app).is_some() {
                return Err(Refusal::because(RefusalCode::NotAllowed, "This AppID is taken."));
            }
            if state.sites.len() >= limits::SITES_MAX {
                return refuse(RefusalCode::TooMany);
            }
            let number = state.next_site();
            Ok((number, Body::Site(Site { number, app, name, settings })))
        }
        RegisterDraft::SiteChanged { number, name, settings } => {
            let site = state.sites.get(&number).ok_or(Refusal::new(RefusalCode::NoSuchSite))?;
            Ok((number, Body::Site(Site { number, app: site.app.clone(), name, settings })))
        }
        RegisterDraft::AgentCreated { login, name, role } => {
            if state.agent_by_login(&login).is_some() {
                return Err(Refusal::because(RefusalCode::NotAllowed, "This login is taken."));
            }
            if state.agents.len() >= limits::AGENTS_MAX {
                return refuse(RefusalCode::TooMany);
            }
            let number = state.next_agent();
            Ok((number, Body::Agent(Agent { number, login, name, role, disabled: false })))
        }
        RegisterDraft::AgentChanged { number, name, role, disabled } => {
            let Some(agent) = state.agents.get(&number) else {
                return Err(Refusal::because(RefusalCode::NotAllowed, "There is no such account."));
            };
            let loses_operator =
                agent.role == Role::Operator && (role != Role::Operator || disabled);
            let others = state.agents.values().any(|other| {
                other.number != number && other.role == Role::Operator && !other.disabled
            });
            if loses_operator && !agent.disabled && !others {
                let why = "Somebody must remain who may change settings.";
                return Err(Refusal::because(RefusalCode::NotAllowed, why));
            }
            let login = agent.login.clone();
            Ok((number, Body::Agent(Agent { number, login, name, role, disabled })))
        }
    }
}

fn from_visitor(
    state: &State,
    online: &BTreeSet<u64>,
    by: By,
    conversation: Option<u64>,
    lane: Lane,
    body: Body,
) -> Result<Group, Refusal> {
    let By::Visitor { person, site, name, vouched, page } = by else {
        return refuse(RefusalCode::NotAllowed);
    };
    if lane != Lane::Public {
        return refuse(RefusalCode::NotAllowed);
    }
    if !state.sites.contains_key(&site) {
        return refuse(RefusalCode::NoSuchSite);
    }
    let author = Person::Visitor(person);
    let known = conversation.or_else(|| state.current(site, person));
    let Some(number) = known else {
        if body == Body::Closed {
            return refuse(RefusalCode::UnknownConversation);
        }
        if state.open_count() >= limits::OPEN_CONVERSATIONS_MAX {
            return refuse(RefusalCode::Busy);
        }
        let number = state.next_conversation();
        let mut group = Group { conversation: number, entries: Vec::new(), answer: 1 };
        group.push(
            Lane::Public,
            author,
            Body::Opened { site, visitor: person, name, vouched, page },
        );
        group.push(Lane::Public, author, body);
        assign(state, online, &mut group);
        return Ok(group);
    };
    // A foreign conversation and one that does not exist give the same answer.
    let it = state
        .conversations
        .get(&number)
        .filter(|it| it.visitor == person && it.site == site)
        .ok_or(Refusal::new(RefusalCode::UnknownConversation))?;
    let mut group = Group { conversation: number, entries: Vec::new(), answer: 0 };
    if !it.open && body != Body::Closed {
        group.push(Lane::Public, author, Body::Reopened);
        group.answer = 1;
        group.push(Lane::Public, author, body);
        assign(state, online, &mut group);
    } else {
        group.push(Lane::Public, author, body);
    }
    Ok(group)
}

fn from_agent(
    state: &State,
    person: u64,
    conversation: Option<u64>,
    lane: Lane,
    body: Body,
) -> Result<Group, Refusal> {
    let active = state.agents.get(&person).is_some_and(|agent| !agent.disabled);
    if !active {
        return refuse(RefusalCode::NotAllowed);
    }
    if lane == Lane::Staff {
        // Notes have rules of their own that are not part of this build.
        return refuse(RefusalCode::NotAllowed);
    }
    let number = conversation.ok_or(Refusal::new(RefusalCode::UnknownConversation))?;
    let it =
        state.conversations.get(&number).ok_or(Refusal::new(RefusalCode::UnknownConversation))?;
    let author = Person::Agent(person);
    let mut group = Group { conversation: number, entries: Vec::new(), answer: 0 };
    if body != Body::Closed {
        come_in(it, person, &mut group)?;
    }
    group.answer = group.entries.len();
    group.push(Lane::Public, author, body);
    Ok(group)
}

/// An agent who answers is in the conversation, has it if nobody does, and opens it if it was closed.
fn come_in(it: &Conversation, agent: u64, group: &mut Group) -> Result<(), Refusal> {
    let author = Person::Agent(agent);
    if !it.open {
        group.push(Lane::Public, author, Body::Reopened);
    }
    if !it.agents.contains(&agent) {
        if it.agents.len() + 1 >= limits::MEMBERS_MAX {
            return refuse(RefusalCode::TooMany);
        }
        group.push(Lane::Public, author, Body::Joined { agent });
    }
    if it.assignee.is_none() || !it.open {
        let why = "answered first".to_owned();
        group.push(Lane::Staff, Person::System, Body::Assigned { agent, why });
    }
    Ok(())
}

/// The online agent with the fewest open conversations; the lower number where two have as few.
fn assign(state: &State, online: &BTreeSet<u64>, group: &mut Group) {
    let free = online
        .iter()
        .copied()
        .filter(|agent| state.agents.get(agent).is_some_and(|it| !it.disabled))
        .min_by_key(|&agent| (state.busy(agent), agent));
    let Some(agent) = free else { return };
    let why = format!("fewest open conversations: {}", state.busy(agent));
    group.push(Lane::Staff, Person::System, Body::Assigned { agent, why });
    let joined =
        state.conversations.get(&group.conversation).is_some_and(|it| it.agents.contains(&agent));
    if !joined {
        group.push(Lane::Public, Person::System, Body::Joined { agent });
    }
}

fn refuse<T>(code: RefusalCode) -> Result<T, Refusal> {
    Err(Refusal::new(code))
}
