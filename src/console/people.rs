//! Who is here now.

use lodge_proto::refusal::Refusal;
use serde::Serialize;

use super::Ask;
use super::exchange::Answer;
use crate::access::ids;
use crate::desk::Person;

#[derive(Serialize)]
struct Here {
    agents: Vec<Named>,
    visitors: usize,
}

#[derive(Serialize)]
struct Named {
    id: String,
    name: String,
}

/// Any agent.
pub(super) fn online(ask: Ask<'_>) -> Result<Answer, Refusal> {
    ask.agent()?;
    let (visitors, agents) = ask.rooms.bell.online();
    let agents = agents.iter().filter_map(|number| ask.rooms.lens.agent(*number));
    let agents = agents.map(|agent| Named {
        id: ids::text(&ask.rooms.ids.person(Person::Agent(agent.number))),
        name: agent.name,
    });
    Ok(Answer::json(200, &Here { agents: agents.collect(), visitors }))
}
