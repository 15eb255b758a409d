//! The desk against its own promises, by seed: what `admit` chooses stands in the Entries, so Entries
//! alone make the same state again.

use std::collections::{BTreeMap, BTreeSet};

use lodge_proto::refusal::RefusalCode;
use lodge_storage::{Lane, NewRecord, Place};
use proptest::prelude::*;

use super::entry::{self, Body, Entry, Person};
use super::register::{RegisterDraft, Role, SiteSettings};
use super::{Asked, By, Draft, Group, State, admit, admit_register, assign_waiting};
use crate::limits;

/// A desk without a disk: admits, applies, and keeps the records.
#[derive(Default)]
struct World {
    state: State,
    online: BTreeSet<u64>,
    records: Vec<NewRecord>,
}

impl World {
    /// One site and this many agents.
    fn with_agents(agents: usize) -> World {
        let mut world = World::default();
        let (app, name) = ("site".to_owned(), "A shop".to_owned());
        world.register(RegisterDraft::SiteCreated { app, name, settings: SiteSettings::default() });
        for n in 0..agents {
            let (login, name) = (format!("agent{n}"), format!("Agent {n}"));
            world.register(RegisterDraft::AgentCreated { login, name, role: Role::Agent });
        }
        world
    }

    fn register(&mut self, draft: RegisterDraft) -> u64 {
        let (number, body) = admit_register(&self.state, draft).unwrap();
        self.write(Place::Register, Entry { author: Person::System, origin: None, body });
        number
    }

    fn send(
        &mut self,
        by: By,
        conversation: Option<u64>,
        asked: Asked,
    ) -> Result<u64, RefusalCode> {
        let draft = Draft { by, conversation, lane: Lane::Public, asked };
        let group = admit(&self.state, &self.online, draft).map_err(|refusal| refusal.code)?;
        let number = group.conversation;
        self.take(group);
        Ok(number)
    }

    fn say(&mut self, visitor: u64, text: &str) -> Result<u64, RefusalCode> {
        self.send(visitor_of(visitor), None, Asked::Text(text.into()))
    }

    fn online(&mut self, agent: u64) {
        self.online.insert(agent);
        while let Some(group) = assign_waiting(&self.state, &self.online) {
            self.take(group);
        }
    }

    fn take(&mut self, group: Group) {
        assert!(group.answer < group.entries.len());
        for new in group.entries {
            let head =
                self.state.conversations.get(&group.conversation).map_or(0, |it| it.head(new.lane));
            let conversation = group.conversation;
            let place = Place::Conversation { conversation, lane: new.lane, seq: head + 1 };
            self.write(place, Entry { author: new.author, origin: None, body: new.body });
        }
    }

    fn write(&mut self, place: Place, entry: Entry) {
        let record = entry.record(place, self.records.len() as u64);
        apply(&mut self.state, &record);
        self.records.push(record);
    }
}

fn apply(state: &mut State, record: &NewRecord) {
    let entry = entry::read(record.kind, &record.body).unwrap();
    state.apply(record.place, record.time_ms, 0, entry);
}

fn visitor_of(person: u64) -> By {
    By::Visitor { person, site: 1, name: String::new(), vouched: false, page: String::new() }
}

#[test]
fn the_first_message_opens_and_goes_to_the_agent_with_the_fewest() {
    let mut world = World::with_agents(2);
    world.online(1);
    world.online(2);
    let first = world.say(10, "hello").unwrap();
    let second = world.say(11, "你好").unwrap();
    let assignee = |world: &World, number| world.state.conversations[&number].assignee;
    assert_eq!((assignee(&world, first), assignee(&world, second)), (Some(1), Some(2)));
    assert_eq!(world.say(10, "again").unwrap(), first, "no second conversation while one goes on");
    world.send(By::Agent { person: 1 }, Some(first), Asked::Close).unwrap();
    let third = world.say(12, "hi").unwrap();
    assert_eq!(assignee(&world, third), Some(1), "a closed conversation weighs nothing");
}

#[test]
fn who_comes_while_nobody_is_there_waits_and_is_given_out_oldest_first() {
    let mut world = World::with_agents(1);
    let first = world.say(10, "a").unwrap();
    let second = world.say(11, "b").unwrap();
    assert_eq!(world.state.waiting().collect::<Vec<_>>(), [first, second]);
    world.online(1);
    assert_eq!(world.state.waiting().count(), 0);
    assert_eq!(world.state.busy(1), 2);
}

#[test]
fn a_closed_conversation_goes_on_when_somebody_writes() {
    let mut world = World::with_agents(1);
    world.online(1);
    let number = world.say(10, "a").unwrap();
    world.send(By::Agent { person: 1 }, Some(number), Asked::Close).unwrap();
    assert!(!world.state.conversations[&number].open);
    assert_eq!(world.say(10, "one more thing").unwrap(), number);
    let it = &world.state.conversations[&number];
    assert!(it.open && it.assignee == Some(1));
    assert_eq!(world.state.busy(1), 1);
}

#[test]
fn nobody_writes_where_they_do_not_belong() {
    let mut world = World::with_agents(1);
    let number = world.say(10, "a").unwrap();
    let foreign = world.send(visitor_of(11), Some(number), Asked::Text("b".into()));
    let absent = world.send(visitor_of(11), Some(99), Asked::Text("b".into()));
    assert_eq!(foreign, absent, "a foreign conversation and none look the same");
    assert_eq!(foreign, Err(RefusalCode::UnknownConversation));
    let staff = Draft {
        by: visitor_of(10),
        conversation: Some(number),
        lane: Lane::Staff,
        asked: Asked::Text("note".into()),
    };
    let refused = admit(&world.state, &world.online, staff).unwrap_err();
    assert_eq!(refused.code, RefusalCode::NotAllowed);
    let nobody = world.send(By::Agent { person: 9 }, Some(number), Asked::Text("c".into()));
    assert_eq!(nobody, Err(RefusalCode::NotAllowed));
}

#[test]
fn text_is_taken_up_to_its_limit() {
    let mut world = World::with_agents(0);
    for (bytes, expected) in [
        (limits::TEXT_BYTES_MAX - 1, None),
        (limits::TEXT_BYTES_MAX, None),
        (limits::TEXT_BYTES_MAX + 1, Some(RefusalCode::TextTooLong)),
    ] {
        assert_eq!(world.say(10, &"x".repeat(bytes)).err(), expected, "{bytes} bytes");
    }
    assert_eq!(world.say(10, " \n\u{3000}").err(), Some(RefusalCode::TextEmpty));
}

#[test]
fn the_last_operator_cannot_be_lost() {
    let mut world = World::default();
    let (login, name) = ("owner".to_owned(), "Owner".to_owned());
    let role = Role::Operator;
    let number = world.register(RegisterDraft::AgentCreated { login, name: name.clone(), role });
    let disable = RegisterDraft::AgentChanged { number, name: name.clone(), role, disabled: true };
    assert!(admit_register(&world.state, disable).is_err());
    let demote = RegisterDraft::AgentChanged { number, name, role: Role::Agent, disabled: false };
    assert!(admit_register(&world.state, demote).is_err());
}

#[derive(Debug, Clone)]
enum Step {
    Say { visitor: u64, close: bool },
    Answer { agent: u64, conversation: u64, close: bool },
    Online { agent: u64, online: bool },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (1..6u64, any::<bool>()).prop_map(|(visitor, close)| Step::Say { visitor, close }),
        (1..4u64, 0..7u64, any::<bool>()).prop_map(|(agent, conversation, close)| Step::Answer {
            agent,
            conversation,
            close
        }),
        (1..4u64, any::<bool>()).prop_map(|(agent, online)| Step::Online { agent, online }),
    ]
}

proptest! {
    #[test]
    fn the_same_entries_make_the_same_state(steps in prop::collection::vec(step(), 1..80)) {
        let mut world = World::with_agents(3);
        for step in steps {
            match step {
                Step::Say { visitor, close } => {
                    let asked = if close { Asked::Close } else { Asked::Text("t".into()) };
                    let _ = world.send(visitor_of(visitor), None, asked);
                }
                Step::Answer { agent, conversation, close } => {
                    let asked = if close { Asked::Close } else { Asked::Text("t".into()) };
                    let _ = world.send(By::Agent { person: agent }, Some(conversation), asked);
                }
                Step::Online { agent, online: true } => world.online(agent),
                Step::Online { agent, online: false } => { world.online.remove(&agent); }
            }
        }
        let mut again = State::default();
        let mut heads: BTreeMap<(u64, Lane), u64> = BTreeMap::new();
        for record in &world.records {
            apply(&mut again, record);
            if let Place::Conversation { conversation, lane, seq } = record.place {
                let head = heads.entry((conversation, lane)).or_default();
                prop_assert_eq!(seq, *head + 1, "a lane counts from 1 without holes");
                *head = seq;
            }
        }
        prop_assert_eq!(&again, &world.state);
        for agent in 1..4 {
            let open = again.conversations.values();
            let open = open.filter(|it| it.open && it.assignee == Some(agent)).count();
            prop_assert_eq!(open, again.busy(agent));
        }
        let waiting = again.conversations.iter().filter(|(_, it)| it.open && it.assignee.is_none());
        let waiting: BTreeSet<u64> = waiting.map(|(number, _)| *number).collect();
        prop_assert_eq!(waiting, again.waiting().collect::<BTreeSet<_>>());
        if !world.online.is_empty() {
            prop_assert_eq!(again.waiting().count(), 0, "nobody waits while somebody is there");
        }
    }
}

#[test]
fn an_entry_of_an_unknown_kind_keeps_its_place() {
    let mut world = World::with_agents(0);
    let number = world.say(10, "a").unwrap();
    let head = world.state.conversations[&number].head(Lane::Public);
    let place = Place::Conversation { conversation: number, lane: Lane::Public, seq: head + 1 };
    assert!(entry::read(0x7f01, b"from the future").is_none());
    world.state.advance(place, 5, 0);
    assert_eq!(world.state.conversations[&number].head(Lane::Public), head + 1);
    let body = Body::Text("after".into());
    let place = Place::Conversation { conversation: number, lane: Lane::Public, seq: head + 2 };
    world.write(place, Entry { author: Person::Visitor(10), origin: None, body });
    assert_eq!(world.state.conversations[&number].head(Lane::Public), head + 2);
}
