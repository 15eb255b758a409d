//! What is derived to be asked: sites, people, the directory of conversations.
//!
//! It is the desk's state once more, but at the watermark: whoever asks here sees nothing that a power
//! cut could take back. Invariants: only the desk thread writes it, in the order of the log; what an
//! answer says stands at one Position.

mod projection;

pub use projection::project;

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock, RwLockReadGuard};

use lodge_storage::{Lane, NewRecord, Place, Position, Record};

use crate::desk::entry::{self, ArchivedBody};
use crate::desk::register::{Agent, Site};
use crate::desk::{Conversation, Person, State};
use crate::limits;

/// The newest message of a conversation, for lists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Last {
    pub seq: u64,
    pub time_ms: u64,
    pub author: Person,
    pub kind: LastKind,
    /// At most `PREVIEW_CHARS_MAX` characters of the text, or the name of the file.
    pub preview: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LastKind {
    Text,
    File,
}

/// Which conversations a list shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum List {
    /// Open, and this agent has or had a part in it.
    Mine(u64),
    Unassigned,
    Open,
    Closed,
    All,
}

/// One row of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    pub number: u64,
    pub conversation: Conversation,
    pub last: Option<Last>,
}

#[derive(Debug, Default)]
struct View {
    state: State,
    last: HashMap<u64, Last>,
    /// Everything below was taken into account.
    upto: Position,
}

#[derive(Debug, Default)]
pub struct Lens {
    view: RwLock<View>,
}

impl Lens {
    /// Takes a durable record into account.
    pub fn apply(&self, record: &Record) {
        let (place, kind, time_ms) = (record.place, record.kind, record.time_ms);
        self.take(place, kind, time_ms, record.position, record.end(), record.body());
    }

    /// The same for one that is durable since this moment, and its Position.
    pub fn apply_new(&self, record: &NewRecord, position: Position) {
        let end = Position(position.0 + record.frame_bytes());
        self.take(record.place, record.kind, record.time_ms, position, end, &record.body);
    }

    fn take(
        &self,
        place: Place,
        kind: u16,
        time_ms: u64,
        position: Position,
        end: Position,
        body: &[u8],
    ) {
        let mut view = self.view.write().unwrap_or_else(PoisonError::into_inner);
        view.upto = end;
        let position = position.0;
        let Some(entry) = entry::read(kind, body) else {
            view.state.advance(place, time_ms, position);
            return;
        };
        view.state.apply(place, time_ms, position, entry);
        let Place::Conversation { conversation, lane: Lane::Public, seq } = place else { return };
        let (kind, preview) = match &entry.body {
            ArchivedBody::Text(text) => (LastKind::Text, text.as_str()),
            ArchivedBody::File(file) => (LastKind::File, file.name.as_str()),
            _ => return,
        };
        let preview = preview.chars().take(limits::PREVIEW_CHARS_MAX).collect();
        let last = Last { seq, time_ms, author: entry.author.get(), kind, preview };
        view.last.insert(conversation, last);
    }

    pub fn site(&self, number: u64) -> Option<Site> {
        self.read().state.sites.get(&number).cloned()
    }

    pub fn site_by_app(&self, app: &str) -> Option<Site> {
        self.read().state.site_by_app(app).cloned()
    }

    pub fn sites(&self) -> Vec<Site> {
        self.read().state.sites.values().cloned().collect()
    }

    pub fn agent(&self, number: u64) -> Option<Agent> {
        self.read().state.agents.get(&number).cloned()
    }

    pub fn agent_by_login(&self, login: &str) -> Option<Agent> {
        self.read().state.agent_by_login(login).cloned()
    }

    pub fn agents(&self) -> Vec<Agent> {
        self.read().state.agents.values().cloned().collect()
    }

    pub fn conversation(&self, number: u64) -> Option<Conversation> {
        self.read().state.conversations.get(&number).cloned()
    }

    pub fn current(&self, site: u64, visitor: u64) -> Option<u64> {
        self.read().state.current(site, visitor)
    }

    pub fn conversation_count(&self) -> usize {
        self.read().state.conversations.len()
    }

    pub fn open_count(&self) -> usize {
        self.read().state.open_count()
    }

    /// The conversations that a person follows whose newest Entry is at or behind the cursor, whether
    /// there were more than `limit` (the newest ones are kept), and up to where this is known.
    pub fn moved_since(
        &self,
        person: Person,
        cursor: u64,
        limit: usize,
    ) -> (Vec<u64>, bool, Position) {
        let view = self.read();
        let mut moved: Vec<(u64, u64)> = view
            .state
            .memberships(person)
            .filter_map(|number| {
                let it = view.state.conversations.get(&number)?;
                (it.newest >= cursor).then_some((it.newest, number))
            })
            .collect();
        moved.sort_unstable_by(|a, b| b.cmp(a));
        let more = moved.len() > limit;
        moved.truncate(limit);
        (moved.into_iter().map(|(_, number)| number).collect(), more, view.upto)
    }

    /// Newest first. `before` is the (time, number) of the last row of the page before.
    pub fn list(
        &self,
        list: List,
        site: Option<u64>,
        before: Option<(u64, u64)>,
        limit: usize,
    ) -> Vec<Row> {
        let view = self.read();
        let mut rows: Vec<(u64, u64)> = view
            .state
            .conversations
            .iter()
            .filter(|(_, it)| site.is_none_or(|site| it.site == site))
            .filter(|(_, it)| match list {
                List::Mine(agent) => it.open && it.agents.contains(&agent),
                List::Unassigned => it.open && it.assignee.is_none(),
                List::Open => it.open,
                List::Closed => !it.open,
                List::All => true,
            })
            .map(|(number, it)| (it.public_time_ms, *number))
            .filter(|key| before.is_none_or(|before| *key < before))
            .collect();
        let limit = limit.min(limits::LIST_ROWS_MAX);
        rows.sort_unstable_by(|a, b| b.cmp(a));
        rows.truncate(limit);
        rows.into_iter()
            .filter_map(|(_, number)| {
                let conversation = view.state.conversations.get(&number)?.clone();
                Some(Row { number, conversation, last: view.last.get(&number).cloned() })
            })
            .collect()
    }

    fn read(&self) -> RwLockReadGuard<'_, View> {
        self.view.read().unwrap_or_else(PoisonError::into_inner)
    }
}
