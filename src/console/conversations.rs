//! Lists of conversations, and who is here. What is said in them comes over the session.

use lodge_proto::refusal::{Refusal, RefusalCode};
use lodge_storage::Lane;
use serde_json::json;

use super::exchange::{Answer, Asked};
use super::{Done, Rooms, agent};
use crate::access::ids;
use crate::desk::Person;
use crate::lens::{LastKind, List, Row};
use crate::limits;

const ROWS_USUAL: usize = 50;

pub fn list(asked: &Asked, rooms: &Rooms) -> Done {
    let (agent, _) = agent(asked, rooms)?;
    let malformed = |why: &'static str| Refusal::because(RefusalCode::Malformed, why);
    let list = match asked.query.get("list").map_or("mine", String::as_str) {
        "mine" => List::Mine(agent.number),
        "unassigned" => List::Unassigned,
        "open" => List::Open,
        "closed" => List::Closed,
        "all" => List::All,
        _ => return Err(malformed("list is mine, unassigned, open, closed or all.")),
    };
    let site = match asked.query.get("site") {
        Some(app) => {
            let site = rooms.lens.site_by_app(app).ok_or(Refusal::new(RefusalCode::NoSuchSite))?;
            Some(site.number)
        }
        None => None,
    };
    let limit = match asked.query.get("limit") {
        Some(limit) => limit.parse().ok().filter(|it| (1..=limits::LIST_ROWS_MAX).contains(it)),
        None => Some(ROWS_USUAL),
    };
    let limit = limit.ok_or_else(|| malformed("limit is 1 to 100."))?;
    let before = match asked.query.get("before") {
        Some(cursor) => {
            Some(place(rooms, cursor).ok_or_else(|| malformed("before is no cursor."))?)
        }
        None => None,
    };
    let rows = rooms.lens.list(list, site, before, limit);
    let next = rows.last().filter(|_| rows.len() == limit).map(|row| {
        let id = ids::text(&rooms.ids.conversation(row.number));
        format!("{}.{id}", row.conversation.public_time_ms)
    });
    let rows: Vec<_> = rows.iter().map(|row| shown(rooms, agent.number, row)).collect();
    Ok(Answer::json(200, &json!({ "conversations": rows, "next": next })))
}

pub fn online(asked: &Asked, rooms: &Rooms) -> Done {
    agent(asked, rooms)?;
    let (visitors, agents) = rooms.bell.online();
    let agents: Vec<_> = agents.into_iter().filter_map(|number| named(rooms, number)).collect();
    Ok(Answer::json(200, &json!({ "agents": agents, "visitors": visitors })))
}

/// The place behind a row, as `next` named it.
fn place(rooms: &Rooms, cursor: &str) -> Option<(u64, u64)> {
    let (time_ms, id) = cursor.split_once('.')?;
    Some((time_ms.parse().ok()?, rooms.ids.conversation_number(&ids::parse(id)?)?))
}

fn shown(rooms: &Rooms, agent: u64, row: &Row) -> serde_json::Value {
    let it = &row.conversation;
    let visitor = Person::Visitor(it.visitor);
    let head = it.head(Lane::Public);
    let marks = rooms.signals.marks(row.number);
    let read = marks.iter().find(|(person, _)| *person == Person::Agent(agent));
    let last = row.last.as_ref().map(|last| {
        json!({
            "seq": last.seq,
            "time_ms": last.time_ms,
            "author_kind": match last.author {
                Person::System => "system",
                Person::Visitor(_) => "visitor",
                Person::Agent(_) => "agent",
            },
            "kind": match last.kind { LastKind::Text => "text", LastKind::File => "file" },
            "preview": last.preview,
        })
    });
    let site = rooms.lens.site(it.site).map(|site| site.app);
    json!({
        "id": ids::text(&rooms.ids.conversation(row.number)),
        "site": site,
        "visitor": {
            "id": ids::text(&rooms.ids.person(visitor)),
            "name": it.visitor_name,
            "online": rooms.bell.is_online(visitor),
            "vouched": it.vouched,
        },
        "assignee": it.assignee.and_then(|number| named(rooms, number)),
        "state": if it.open { "open" } else { "closed" },
        "public_head": head,
        "last": last,
        "opened_ms": it.opened_ms,
        "unread": head.saturating_sub(read.map_or(0, |(_, mark)| mark.read)),
    })
}

fn named(rooms: &Rooms, number: u64) -> Option<serde_json::Value> {
    let agent = rooms.lens.agent(number)?;
    let id = ids::text(&rooms.ids.person(Person::Agent(number)));
    Some(json!({ "id": id, "name": agent.name }))
}
