//! What a program is told, owned, so that it can be kept and passed on.

use lodge_proto::client::{self, News};
use lodge_proto::counters::Answer;
use lodge_proto::frame::{ConversationState, EntryBody};
use lodge_proto::{Id, Refusal};

use crate::{Lane, PersonKind};

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    /// Connected: HELLO_OK came.
    Live {
        person: Id,
    },
    /// The connection is gone; the next one is being tried.
    Down {
        why: String,
    },
    /// A message was answered for good. `tag` is what it was sent with.
    Settled {
        tag: u64,
        outcome: Result<Answer, Refusal>,
    },
    /// The next entry of its lane: once, in order.
    Entry(Entry),
    Paged {
        request: u64,
        entry: Entry,
    },
    PageEnd {
        request: u64,
        conversation: Id,
        lane: Lane,
        first: u64,
        more: bool,
    },
    Conversation {
        id: Id,
        assigned: bool,
        open: bool,
        public_head: u64,
        staff_head: u64,
    },
    Person {
        id: Id,
        kind: PersonKind,
        name: String,
        online: bool,
    },
    Typing {
        conversation: Id,
        person: Option<Id>,
        on: bool,
    },
    Presence {
        person: Option<Id>,
        online: bool,
    },
    Mark {
        conversation: Id,
        person: Option<Id>,
        delivered: u64,
        read: u64,
    },
    Synced {
        cursor: u64,
    },
    Resync,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub conversation: Id,
    pub lane: Lane,
    pub seq: u64,
    pub position: u64,
    pub time_ms: u64,
    /// None: the system.
    pub author: Option<Id>,
    pub body: Body,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    Text(String),
    File {
        name: String,
        mime: String,
        size: u64,
        width: u64,
        height: u64,
        caption: String,
    },
    Closed,
    Opened {
        visitor: Option<Id>,
        page: String,
    },
    Assigned {
        agent: Option<Id>,
        why: String,
    },
    Joined {
        agent: Option<Id>,
    },
    Reopened,
    /// From a newer server.
    Unknown {
        kind: u8,
    },
}

impl Told {
    /// None: what only the connection needs to know.
    pub(crate) fn of(news: News<'_>, tag_of: &mut dyn FnMut(u64) -> u64) -> Option<Told> {
        Some(match news {
            News::Live { person, .. } => Told::Live { person },
            News::Settled { counter, outcome } => Told::Settled { tag: tag_of(counter), outcome },
            News::Entry(entry) => Told::Entry(entry.into()),
            News::Paged { request, entry } => Told::Paged { request, entry: entry.into() },
            News::PageEnd { request, conversation, lane, first, more } => {
                Told::PageEnd { request, conversation, lane, first, more }
            }
            News::Conversation { id, head } => Told::Conversation {
                id,
                assigned: head.assignee.0 != 0,
                open: head.state == ConversationState::Open,
                public_head: head.public_head,
                staff_head: head.staff_head,
            },
            News::Person { id, kind, name, online } => {
                Told::Person { id, kind, name: name.to_owned(), online }
            }
            News::Typing { conversation, person, on } => Told::Typing { conversation, person, on },
            News::Presence { person, online } => Told::Presence { person, online },
            News::Mark { conversation, person, delivered, read } => {
                Told::Mark { conversation, person, delivered, read }
            }
            News::Synced { cursor } => Told::Synced { cursor },
            News::Resync => Told::Resync,
            News::GoAway { .. } | News::Refused(_) => return None,
        })
    }
}

impl From<client::Entry<'_>> for Entry {
    fn from(entry: client::Entry<'_>) -> Entry {
        let about = entry.about;
        Entry {
            conversation: entry.conversation,
            lane: entry.lane,
            seq: entry.seq,
            position: entry.position,
            time_ms: entry.time_ms,
            author: entry.author,
            body: match entry.body {
                EntryBody::Text { text } => Body::Text(text.to_owned()),
                EntryBody::File { name, mime, size, width, height, caption } => Body::File {
                    name: name.to_owned(),
                    mime: mime.to_owned(),
                    size,
                    width,
                    height,
                    caption: caption.to_owned(),
                },
                EntryBody::Closed {} => Body::Closed,
                EntryBody::Opened { page, .. } => {
                    Body::Opened { visitor: about, page: page.to_owned() }
                }
                EntryBody::Assigned { why, .. } => {
                    Body::Assigned { agent: about, why: why.to_owned() }
                }
                EntryBody::Joined { .. } => Body::Joined { agent: about },
                EntryBody::Reopened {} => Body::Reopened,
                EntryBody::Unknown { kind, .. } => Body::Unknown { kind },
            },
        }
    }
}
