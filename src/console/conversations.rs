//! Lists of conversations.

use lodge_proto::refusal::{Refusal, RefusalCode};
use lodge_storage::Lane;
use serde::Serialize;

use super::exchange::Answer;
use super::{Ask, malformed};
use crate::access::ids;
use crate::desk::Person;
use crate::lens::{Last, LastKind, List, Row};
use crate::limits::LIST_ROWS_MAX;

/// Rows where the question does not say.
const LIST_ROWS_USUAL: usize = 50;

#[derive(Serialize)]
struct Page {
    conversations: Vec<Shown>,
    /// Where the next page begins; null: there is none.
    next: Option<String>,
}

#[derive(Serialize)]
struct Shown {
    id: String,
    site: String,
    visitor: Visitor,
    assignee: Option<Named>,
    state: &'static str,
    public_head: u64,
    last: Option<Newest>,
    opened_ms: u64,
    unread: u64,
}

#[derive(Serialize)]
struct Visitor {
    id: String,
    name: String,
    online: bool,
    vouched: bool,
}

#[derive(Serialize)]
struct Named {
    id: String,
    name: String,
}

#[derive(Serialize)]
struct Newest {
    seq: u64,
    time_ms: u64,
    author_kind: &'static str,
    kind: &'static str,
    preview: String,
}

/// Any agent.
pub(super) fn list(ask: Ask<'_>) -> Result<Answer, Refusal> {
    let me = ask.agent()?.agent.number;
    ask.query_keys(&["list", "site", "before", "limit"])?;
    let query = |key: &str| ask.asked.query.get(key).map(String::as_str);
    let which = match query("list").unwrap_or("mine") {
        "mine" => List::Mine(me),
        "unassigned" => List::Unassigned,
        "open" => List::Open,
        "closed" => List::Closed,
        "all" => List::All,
        _ => return Err(malformed("The lists are mine, unassigned, open, closed and all.")),
    };
    let site = match query("site") {
        None => None,
        Some(app) => {
            let site = ask.rooms.lens.site_by_app(app);
            Some(site.ok_or(Refusal::new(RefusalCode::NoSuchSite))?.number)
        }
    };
    let before = query("before").map(|text| cursor(ask, text)).transpose()?;
    let limit = match query("limit") {
        None => LIST_ROWS_USUAL,
        Some(text) => text
            .parse()
            .ok()
            .filter(|limit| (1..=LIST_ROWS_MAX).contains(limit) && !text.starts_with('+'))
            .ok_or_else(|| {
                malformed(format!("The limit is a number from 1 to {LIST_ROWS_MAX}."))
            })?,
    };
    let rows = ask.rooms.lens.list(which, site, before, limit);
    let last = rows.last().filter(|_| rows.len() == limit);
    let next = last.map(|row| {
        let id = ids::text(&ask.rooms.ids.conversation(row.number));
        format!("{}.{id}", row.conversation.public_time_ms)
    });
    let conversations = rows.into_iter().map(|row| shown(ask, me, row)).collect();
    Ok(Answer::json(200, &Page { conversations, next }))
}

/// Time and id of the last row of the page before.
fn cursor(ask: Ask<'_>, text: &str) -> Result<(u64, u64), Refusal> {
    let parse = || {
        let (time_ms, id) = text.split_once('.')?;
        let number = ask.rooms.ids.conversation_number(&ids::parse(id)?)?;
        Some((time_ms.parse().ok()?, number))
    };
    parse().ok_or_else(|| malformed("\"before\" is what \"next\" of an earlier page was."))
}

fn shown(ask: Ask<'_>, me: u64, row: Row) -> Shown {
    let rooms = ask.rooms;
    let Row { number, conversation: it, last } = row;
    let visitor = Person::Visitor(it.visitor);
    let public_head = it.head(Lane::Public);
    let marks = rooms.signals.marks(number);
    let mine = marks.iter().find(|(person, _)| *person == Person::Agent(me));
    let read = mine.map_or(0, |(_, mark)| mark.read);
    let assignee = it.assignee.and_then(|agent| rooms.lens.agent(agent));
    Shown {
        id: ids::text(&rooms.ids.conversation(number)),
        site: rooms.lens.site(it.site).map(|site| site.app).unwrap_or_default(),
        visitor: Visitor {
            id: ids::text(&rooms.ids.person(visitor)),
            name: it.visitor_name,
            online: rooms.bell.is_online(visitor),
            vouched: it.vouched,
        },
        assignee: assignee.map(|agent| Named {
            id: ids::text(&rooms.ids.person(Person::Agent(agent.number))),
            name: agent.name,
        }),
        state: if it.open { "open" } else { "closed" },
        public_head,
        last: last.map(newest),
        opened_ms: it.opened_ms,
        unread: public_head.saturating_sub(read),
    }
}

fn newest(last: Last) -> Newest {
    Newest {
        seq: last.seq,
        time_ms: last.time_ms,
        author_kind: match last.author {
            Person::System => "system",
            Person::Visitor(_) => "visitor",
            Person::Agent(_) => "agent",
        },
        kind: match last.kind {
            LastKind::Text => "text",
            LastKind::File => "file",
        },
        preview: last.preview,
    }
}
