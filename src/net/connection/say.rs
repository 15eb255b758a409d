//! What a connection says: entries, conversations and persons as frames.
//!
//! Invariant: whoever or whatever a frame names by its handle was told before it, on this connection.

use lodge_proto::batch::Batch;
use lodge_proto::frame::{
    ConversationState, Down, EntryBody, MemberMark, Outcome, PersonKind, down,
};
use lodge_proto::session::HandlesFull;
use lodge_proto::{ConversationHandle, PersonHandle};
use lodge_storage::{Lane, Place, Record};

use super::{Connection, End, Eyes};
use crate::bell::{About, Settled, Signal};
use crate::commit::wire_lane;
use crate::desk::entry::{self, ArchivedBody, ArchivedEntry, Person};
use crate::desk::{By, Conversation};

impl Connection {
    pub(super) fn push_settled(&mut self, out: &mut Batch, settled: Settled) -> Result<(), End> {
        let Settled { counter, outcome } = settled;
        match outcome {
            Ok(at) => {
                let Some(it) = self.visible(at.conversation) else { return Ok(()) };
                let conversation = self.push_conversation_once(out, at.conversation, &it)?;
                out.push(&Down::from(down::Settled {
                    counter,
                    outcome: Outcome::Accepted {
                        conversation,
                        lane: wire_lane(at.lane),
                        seq: at.seq,
                        position: at.position,
                        time_ms: at.time_ms,
                    },
                }));
            }
            Err(refusal) => out.push(&Down::from(down::Settled {
                counter,
                outcome: Outcome::Refused {
                    code: refusal.code,
                    text: &refusal.text,
                    retry_after_ms: refusal.retry_after_ms,
                },
            })),
        }
        Ok(())
    }

    pub(super) fn push_signal(
        &mut self,
        out: &mut Batch,
        about: About,
        signal: Signal,
    ) -> Result<(), End> {
        match (about, signal) {
            (About::Presence { person }, Signal::Changed) => {
                // The other members of a conversation only; others have no handle yet and need none.
                let (handle, _) = self.person_handle(out, person, None)?;
                // As it is now: of one who goes and comes back at once, the signals may cross.
                let online = self.rooms.bell.is_online(person);
                out.push(&Down::from(down::Presence { person: handle, online }));
            }
            (About::Typing { conversation, person }, Signal::On(on)) => {
                let Some(it) = self.visible(conversation) else { return Ok(()) };
                let handle = self.push_conversation_once(out, conversation, &it)?;
                let (person, _) = self.person_handle(out, person, Some(&it))?;
                out.push(&Down::from(down::Typing { conversation: handle, person, on }));
            }
            (About::Mark { conversation, person }, Signal::Mark { delivered, read }) => {
                let Some(it) = self.visible(conversation) else { return Ok(()) };
                let handle = self.push_conversation_once(out, conversation, &it)?;
                let (person, _) = self.person_handle(out, person, Some(&it))?;
                out.push(&Down::from(down::Mark { conversation: handle, person, delivered, read }));
            }
            _ => {}
        }
        Ok(())
    }

    pub(super) fn push_conversation_once(
        &mut self,
        out: &mut Batch,
        number: u64,
        it: &Conversation,
    ) -> Result<ConversationHandle, End> {
        let id = self.rooms.ids.conversation(number);
        match self.session.conversation(id) {
            Ok((handle, false)) => Ok(handle),
            Ok((handle, true)) => {
                self.write_conversation(out, handle, id, number, it)?;
                Ok(handle)
            }
            Err(HandlesFull) => Err(handles_full(out)),
        }
    }

    pub(super) fn push_conversation(
        &mut self,
        out: &mut Batch,
        number: u64,
        it: &Conversation,
    ) -> Result<(), End> {
        let id = self.rooms.ids.conversation(number);
        let (handle, _) = self.session.conversation(id).map_err(|HandlesFull| handles_full(out))?;
        self.write_conversation(out, handle, id, number, it)
    }

    fn write_conversation(
        &mut self,
        out: &mut Batch,
        handle: ConversationHandle,
        id: [u8; 16],
        number: u64,
        it: &Conversation,
    ) -> Result<(), End> {
        let visitor = self.person_handle(out, Person::Visitor(it.visitor), Some(it))?.0;
        let assignee = match it.assignee {
            Some(agent) => self.person_handle(out, Person::Agent(agent), None)?.0,
            None => PersonHandle::SYSTEM,
        };
        let mut marks = Vec::new();
        for (person, mark) in self.rooms.signals.marks(number) {
            let person = self.person_handle(out, person, Some(it))?.0;
            marks.push(MemberMark { person, delivered: mark.delivered, read: mark.read });
        }
        let staff = matches!(self.eyes, Eyes::Agent { .. });
        let site = self.rooms.lens.site(it.site).map(|site| site.app).unwrap_or_default();
        out.push(&Down::from(down::Conversation {
            handle,
            id,
            site: &site,
            visitor,
            assignee,
            state: if it.open { ConversationState::Open } else { ConversationState::Closed },
            public_head: it.head(Lane::Public),
            staff_head: if staff { it.head(Lane::Staff) } else { 0 },
            public_time_ms: it.public_time_ms,
            marks,
        }));
        Ok(())
    }

    /// A person's handle; a new one is told with name and presence first.
    pub(super) fn person_handle(
        &mut self,
        out: &mut Batch,
        person: Person,
        within: Option<&Conversation>,
    ) -> Result<(PersonHandle, bool), End> {
        let (kind, name) = match person {
            Person::System => return Ok((PersonHandle::SYSTEM, false)),
            Person::Agent(agent) => {
                (PersonKind::Agent, self.rooms.lens.agent(agent).map(|it| it.name))
            }
            Person::Visitor(_) => {
                let own = match &self.eyes {
                    Eyes::Visitor { by: By::Visitor { name, .. }, .. } if person == self.person => {
                        Some(name.clone())
                    }
                    _ => None,
                };
                (PersonKind::Visitor, within.map(|it| it.visitor_name.clone()).or(own))
            }
        };
        let id = self.rooms.ids.person(person);
        let (handle, new) = self.session.person(id).map_err(|HandlesFull| handles_full(out))?;
        if new {
            let name = name.unwrap_or_default();
            let online = self.rooms.bell.is_online(person);
            out.push(&Down::from(down::Person { handle, id, kind, name: &name, online }));
        }
        Ok((handle, new))
    }

    pub(super) fn push_entry(&mut self, out: &mut Batch, record: &Record) -> Result<(), End> {
        let Place::Conversation { conversation, lane, seq } = record.place else { return Ok(()) };
        let Some(it) = self.visible(conversation) else { return Ok(()) };
        let handle = self.push_conversation_once(out, conversation, &it)?;
        let entry = entry::read(record.kind, record.body());
        let author = entry.map_or(Person::System, |entry| entry.author.get());
        let (author, _) = self.person_handle(out, author, Some(&it))?;
        let body = self.entry_body(out, record, entry, &it)?;
        out.push(&Down::from(down::Entry {
            conversation: handle,
            lane: wire_lane(lane),
            seq,
            position: record.position.0,
            time_ms: record.time_ms,
            author,
            body,
        }));
        Ok(())
    }

    fn entry_body<'a>(
        &mut self,
        out: &mut Batch,
        record: &'a Record,
        entry: Option<&'a ArchivedEntry>,
        it: &Conversation,
    ) -> Result<EntryBody<'a>, End> {
        let unknown = EntryBody::Unknown {
            // Numbers from 0x80 on name nothing on the wire, so a client shows its placeholder.
            kind: (record.kind as u8) | 0x80,
            bytes: (&[][..]).into(),
        };
        let Some(entry) = entry else { return Ok(unknown) };
        Ok(match &entry.body {
            ArchivedBody::Text(text) => EntryBody::Text { text },
            ArchivedBody::File(file) => EntryBody::File {
                name: &file.name,
                mime: &file.mime,
                size: file.size.to_native(),
                width: u64::from(file.width.to_native()),
                height: u64::from(file.height.to_native()),
                caption: &file.caption,
            },
            ArchivedBody::Closed => EntryBody::Closed {},
            ArchivedBody::Reopened => EntryBody::Reopened {},
            ArchivedBody::Opened { visitor, page, .. } => {
                let visitor = Person::Visitor(visitor.to_native());
                let visitor = self.person_handle(out, visitor, Some(it))?.0;
                EntryBody::Opened { visitor, page }
            }
            ArchivedBody::Assigned { agent, why } => {
                let agent = self.person_handle(out, Person::Agent(agent.to_native()), None)?.0;
                EntryBody::Assigned { agent, why }
            }
            ArchivedBody::Joined { agent } => {
                let agent = self.person_handle(out, Person::Agent(agent.to_native()), None)?.0;
                EntryBody::Joined { agent }
            }
            ArchivedBody::Site(_) | ArchivedBody::Agent(_) => unknown,
        })
    }
}

fn handles_full(out: &mut Batch) -> End {
    out.push(&Down::from(down::GoAway { reason: 3, delay_ms: 0 }));
    (1001, "come back with fresh handles")
}
