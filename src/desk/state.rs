//! What follows from the Entries: who is in which conversation, who has it, how far it has got.
//!
//! Invariants: `apply` never chooses and never fails; the same Entries in the same order make the same
//! state. Two of these exist: the desk's own, which runs ahead of the disk and admits drafts, and the
//! lens's, which stands at the watermark and is asked.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use lodge_storage::{Lane, Place};
use rkyv::rancor;

use super::entry::{ArchivedBody, ArchivedEntry, Person, lane_slot};
use super::register::{Agent, Site};

/// A conversation as its Entries left it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conversation {
    pub site: u64,
    pub visitor: u64,
    pub visitor_name: String,
    /// The site's back end vouched for this visitor.
    pub vouched: bool,
    /// Address of the page where it began, "" = unknown.
    pub page: String,
    pub assignee: Option<u64>,
    /// Agents who may follow it live: whoever was assigned or came in.
    pub agents: BTreeSet<u64>,
    pub open: bool,
    pub opened_ms: u64,
    /// Time of the newest public Entry.
    pub public_time_ms: u64,
    /// Newest Seq by lane.
    heads: [u64; 2],
    /// Position of the newest Entry, of either lane; 0 in a state that runs ahead of the disk.
    pub newest: u64,
}

impl Conversation {
    pub fn head(&self, lane: Lane) -> u64 {
        self.heads[lane_slot(lane)]
    }

    /// Who follows it live.
    pub fn members(&self) -> impl Iterator<Item = Person> {
        let visitor = std::iter::once(Person::Visitor(self.visitor));
        visitor.chain(self.agents.iter().copied().map(Person::Agent))
    }
}

#[derive(Debug, Default, PartialEq, Eq)]
pub struct State {
    pub sites: BTreeMap<u64, Site>,
    pub agents: BTreeMap<u64, Agent>,
    pub conversations: HashMap<u64, Conversation>,
    /// A visitor's newest conversation with a site.
    mine: HashMap<(u64, u64), u64>,
    memberships: HashMap<Person, BTreeSet<u64>>,
    /// Open conversations by assignee, for "who has the fewest".
    busy: BTreeMap<u64, usize>,
    /// Open conversations that nobody has, oldest first.
    waiting: BTreeSet<u64>,
    open: usize,
    last_conversation: u64,
}

impl State {
    pub fn site_by_app(&self, app: &str) -> Option<&Site> {
        self.sites.values().find(|site| site.app == app)
    }

    pub fn agent_by_login(&self, login: &str) -> Option<&Agent> {
        self.agents.values().find(|agent| agent.login == login)
    }

    /// The visitor's current conversation: the newest one with this site, open or closed.
    pub fn current(&self, site: u64, visitor: u64) -> Option<u64> {
        self.mine.get(&(site, visitor)).copied()
    }

    pub fn memberships(&self, person: Person) -> impl DoubleEndedIterator<Item = u64> {
        self.memberships.get(&person).into_iter().flatten().copied()
    }

    pub fn waiting(&self) -> impl Iterator<Item = u64> {
        self.waiting.iter().copied()
    }

    pub fn open_count(&self) -> usize {
        self.open
    }

    pub fn busy(&self, agent: u64) -> usize {
        self.busy.get(&agent).copied().unwrap_or(0)
    }

    /// Conversations are numbered in the order in which they were opened.
    pub fn next_conversation(&self) -> u64 {
        self.last_conversation + 1
    }

    pub fn next_site(&self) -> u64 {
        self.sites.keys().next_back().map_or(1, |last| last + 1)
    }

    pub fn next_agent(&self) -> u64 {
        self.agents.keys().next_back().map_or(1, |last| last + 1)
    }

    /// Takes one Entry into account. `position` is 0 where it is not known yet.
    pub fn apply(&mut self, place: Place, time_ms: u64, position: u64, entry: &ArchivedEntry) {
        match place {
            Place::Register => self.apply_register(entry),
            Place::Reads => {}
            Place::Conversation { conversation, lane, seq } => {
                self.apply_conversation(conversation, lane, time_ms, entry);
                self.advance(place, time_ms, position);
                debug_assert!(
                    self.conversations.get(&conversation).is_none_or(|it| it.head(lane) == seq)
                );
            }
        }
    }

    /// Counts an Entry whose kind this build does not know: it has its place all the same.
    pub fn advance(&mut self, place: Place, time_ms: u64, position: u64) {
        let Place::Conversation { conversation, lane, seq } = place else { return };
        let Some(it) = self.conversations.get_mut(&conversation) else { return };
        it.heads[lane_slot(lane)] = seq;
        it.newest = it.newest.max(position);
        if lane == Lane::Public {
            it.public_time_ms = time_ms;
        }
    }

    fn apply_register(&mut self, entry: &ArchivedEntry) {
        match &entry.body {
            ArchivedBody::Site(site) => {
                if let Ok(site) = rkyv::deserialize::<Site, rancor::Error>(site) {
                    self.sites.insert(site.number, site);
                }
            }
            ArchivedBody::Agent(agent) => {
                if let Ok(agent) = rkyv::deserialize::<Agent, rancor::Error>(agent) {
                    self.agents.insert(agent.number, agent);
                }
            }
            _ => {}
        }
    }

    fn apply_conversation(&mut self, number: u64, lane: Lane, time_ms: u64, entry: &ArchivedEntry) {
        match &entry.body {
            ArchivedBody::Opened { site, visitor, name, vouched, page } => {
                let (site, visitor) = (site.to_native(), visitor.to_native());
                let conversation = Conversation {
                    site,
                    visitor,
                    visitor_name: name.as_str().to_owned(),
                    vouched: *vouched,
                    page: page.as_str().to_owned(),
                    assignee: None,
                    agents: BTreeSet::new(),
                    open: true,
                    opened_ms: time_ms,
                    public_time_ms: time_ms,
                    heads: [0, 0],
                    newest: 0,
                };
                self.conversations.insert(number, conversation);
                self.mine.insert((site, visitor), number);
                self.memberships.entry(Person::Visitor(visitor)).or_default().insert(number);
                self.waiting.insert(number);
                self.open += 1;
                self.last_conversation = self.last_conversation.max(number);
            }
            ArchivedBody::Assigned { agent, .. } => {
                let agent = agent.to_native();
                let Some(it) = self.conversations.get_mut(&number) else { return };
                let before = it.assignee.replace(agent);
                it.agents.insert(agent);
                if it.open {
                    if let Some(before) = before {
                        lighten(&mut self.busy, before);
                    }
                    *self.busy.entry(agent).or_default() += 1;
                    self.waiting.remove(&number);
                }
                self.memberships.entry(Person::Agent(agent)).or_default().insert(number);
            }
            ArchivedBody::Joined { agent } => {
                let agent = agent.to_native();
                let Some(it) = self.conversations.get_mut(&number) else { return };
                it.agents.insert(agent);
                self.memberships.entry(Person::Agent(agent)).or_default().insert(number);
            }
            ArchivedBody::Closed => {
                let Some(it) = self.conversations.get_mut(&number) else { return };
                if std::mem::replace(&mut it.open, false) {
                    self.open = self.open.saturating_sub(1);
                    self.waiting.remove(&number);
                    if let Some(agent) = it.assignee {
                        lighten(&mut self.busy, agent);
                    }
                }
            }
            ArchivedBody::Reopened => {
                let Some(it) = self.conversations.get_mut(&number) else { return };
                if !std::mem::replace(&mut it.open, true) {
                    self.open += 1;
                    // It goes through the door again: whoever is there now takes it.
                    it.assignee = None;
                    self.waiting.insert(number);
                }
            }
            ArchivedBody::Text(_) | ArchivedBody::File(_) => debug_assert!(lane as u8 != 0),
            ArchivedBody::Site(_) | ArchivedBody::Agent(_) => {}
        }
    }
}

fn lighten(busy: &mut BTreeMap<u64, usize>, agent: u64) {
    if let Some(count) = busy.get_mut(&agent) {
        *count = count.saturating_sub(1);
        if *count == 0 {
            busy.remove(&agent);
        }
    }
}
