//! The client's end of a session, without the connection.
//!
//! Whoever moves the bytes opens a connection, writes what `open` gives, feeds what comes to `receive`,
//! and calls `write` whenever something may have become ready. It survives any number of connections.
//! Invariants: a draft leaves the outbox only when it is answered for good; drafts are sent in the order of
//! their counters; an entry reaches the application once and in order within its lane; a new device
//! is taken only when no draft of the old one can still be on its way.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::batch::{Batch, Encoding};
use crate::codec;
use crate::counters::Answer;
use crate::frame::{Down, DraftBody, EntryBody, Lane, Outcome, OwnMark, PersonKind, Up, down, up};
use crate::json;
use crate::limits::{
    BATCH_BYTES_FULL, HANDLES_MAX, LANES_MAX, MARKS_MAX, OUTBOX_MAX, PAGES_MAX, UNSETTLED_MAX,
};
use crate::refusal::{Act, Refusal, RefusalCode};
use crate::session::Target;
use crate::wire::{ConversationHandle, Epoch, Grown, Id, Malformed, PersonHandle, Ref, Wire as _};

/// Waited before a draft is sent again when the server does not say how long.
pub const RETRY_MS: u64 = 200;
/// Marks are written at most this often.
pub const MARK_INTERVAL_MS: u64 = 1000;

/// What a client keeps over its own restarts, beside the outbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Device {
    pub id: Id,
    /// Of the last connection; the next one is higher.
    pub generation: u64,
    pub epoch: Epoch,
    pub cursor: u64,
    /// The highest counter that was allotted.
    pub last_counter: u64,
}

impl Device {
    /// A device that was never connected; the id is random.
    pub fn new(id: Id) -> Device {
        Device { id, generation: 0, epoch: Epoch(0), cursor: 0, last_counter: 0 }
    }
}

/// What the application learns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News<'a> {
    /// HELLO_OK: the connection works.
    Live {
        person: Id,
        now_ms: u64,
    },
    /// A draft was answered for good and has left the outbox.
    Settled {
        counter: u64,
        outcome: Result<Answer, Refusal>,
    },
    /// The next entry of its lane: once, in order.
    Entry(Entry<'a>),
    /// An entry of a page that was asked for; the same entry may also come as `Entry`.
    Paged {
        request: u64,
        entry: Entry<'a>,
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
        head: down::Conversation<'a>,
    },
    Person {
        id: Id,
        kind: PersonKind,
        name: &'a str,
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
    /// Everything below the cursor is here; to be kept in one step with the entries.
    Synced {
        cursor: u64,
    },
    /// What is held has a hole: heads follow, history is paged.
    Resync,
    /// Connect again within about this time.
    GoAway {
        delay_ms: u64,
    },
    /// The server ends the connection.
    Refused(Refusal),
}

/// An entry with handles resolved to ids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry<'a> {
    pub conversation: Id,
    pub lane: Lane,
    pub seq: u64,
    pub position: u64,
    pub time_ms: u64,
    /// None: the system.
    pub author: Option<Id>,
    pub body: EntryBody<'a>,
    /// The person that the body names.
    pub about: Option<Id>,
}

#[derive(Debug)]
pub struct Client {
    encoding: Encoding,
    device: Device,
    /// Rising counters; every draft that has no answer for good.
    outbox: VecDeque<Queued>,
    /// Sent on this connection up to here, exclusive.
    next: u64,
    /// No draft is sent before.
    paused_until_ms: u64,
    anew: Option<Anew>,
    lanes: BTreeMap<(Id, Lane), Held>,
    marks: BTreeMap<Id, OwnProgress>,
    marked_ms: u64,
    pages: BTreeMap<u64, Page>,
    last_request: u64,
    connection: Connection,
}

/// What is true of one connection only.
#[derive(Debug, Default)]
struct Connection {
    live: bool,
    heartbeat_ms: u64,
    unsettled_max: u64,
    conversations: BTreeMap<ConversationHandle, Id>,
    handles: BTreeMap<Id, ConversationHandle>,
    persons: BTreeMap<PersonHandle, Id>,
    /// Lanes that were asked for again and have not come yet.
    gaps: BTreeSet<(Id, Lane)>,
    /// Frames that answer what came.
    replies: Vec<Up<'static>>,
}

/// Why this device cannot go on as itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Anew {
    /// Somebody else speaks as this device.
    Copied,
    /// The server's history was restored from a backup: the cursor belongs to another one.
    Restored,
}

#[derive(Debug)]
struct Queued {
    counter: u64,
    conversation: Target,
    lane: Lane,
    body: Vec<u8>,
    /// On any connection: then the server may have it.
    sent: bool,
    /// The server knows another draft under this counter: an answer, but no end.
    cloned: bool,
}

#[derive(Debug, Clone, Copy)]
struct Held {
    high: u64,
    position: u64,
}

#[derive(Debug, Default, Clone, Copy)]
struct OwnProgress {
    delivered: u64,
    read: u64,
    unsaid: bool,
}

#[derive(Debug, Clone, Copy)]
struct Page {
    conversation: Id,
    lane: Lane,
    before: u64,
    limit: u64,
    asked: bool,
}

impl Client {
    pub fn new(encoding: Encoding, device: Device) -> Client {
        Client {
            encoding,
            device,
            outbox: VecDeque::new(),
            next: 0,
            paused_until_ms: 0,
            anew: None,
            lanes: BTreeMap::new(),
            marks: BTreeMap::new(),
            marked_ms: 0,
            pages: BTreeMap::new(),
            last_request: 0,
            connection: Connection::default(),
        }
    }

    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Drafts without an answer.
    pub fn unsettled(&self) -> usize {
        self.outbox.len()
    }

    pub fn is_live(&self) -> bool {
        self.connection.live
    }

    /// The server is heard from at least this often; 0 before HELLO_OK.
    pub fn heartbeat_ms(&self) -> u64 {
        self.connection.heartbeat_ms
    }

    /// A connection was opened: forgets the one before and returns the batch that must go first.
    /// `page` is where the visitor is, "" where there is no page.
    pub fn open(&mut self, token: &str, page: &str) -> Vec<u8> {
        self.connection = Connection::default();
        self.next = 0;
        self.pages.values_mut().for_each(|page| page.asked = false);
        self.device.generation = self.device.generation.saturating_add(1);
        let marks = self.marks.iter().take(MARKS_MAX).map(|(&id, progress)| OwnMark {
            conversation: Ref::Id(id),
            delivered: progress.delivered,
            read: progress.read,
        });
        let hello = up::Hello {
            version: crate::VERSION,
            caps: 0,
            device: self.device.id,
            generation: self.device.generation,
            epoch: self.device.epoch,
            cursor: self.device.cursor,
            last_counter: self.device.last_counter,
            settled: self.settled(),
            token,
            marks: marks.collect(),
            page: Grown(page),
        };
        let mut batch = Batch::new(self.encoding);
        batch.push(&Up::Hello(hello));
        batch.take()
    }

    /// Queues a draft and returns its counter. Whoever stores outboxes stores both in one step. A refusal
    /// means that nothing was queued.
    pub fn draft(
        &mut self,
        conversation: Target,
        lane: Lane,
        body: &DraftBody<'_>,
    ) -> Result<u64, Refusal> {
        if let Some(code) = body.flaw() {
            return Err(Refusal::new(code));
        }
        if self.outbox.len() >= OUTBOX_MAX {
            return Err(Refusal::new(RefusalCode::TooManyUnsettled));
        }
        let mut spelled = Vec::new();
        body.put_json(&mut spelled);
        if self.encoding == Encoding::Json && spelled.len() >= BATCH_BYTES_FULL {
            // Control characters cost six bytes in the twin; its batch must fit all the same.
            return Err(Refusal::new(RefusalCode::TextTooLong));
        }
        self.device.last_counter += 1;
        let counter = self.device.last_counter;
        let body = body.to_bytes();
        let queued = Queued { counter, conversation, lane, body, sent: false, cloned: false };
        self.outbox.push_back(queued);
        Ok(counter)
    }

    /// Asks for older entries; asked again by itself when the connection breaks.
    pub fn page(&mut self, conversation: Id, lane: Lane, before: u64, limit: u64) -> Option<u64> {
        if self.pages.len() >= PAGES_MAX {
            return None;
        }
        self.last_request += 1;
        let page = Page { conversation, lane, before, limit, asked: false };
        self.pages.insert(self.last_request, page);
        Some(self.last_request)
    }

    /// What this device holds and showed; only ever rises, and is said when there is time.
    pub fn mark(&mut self, conversation: Id, delivered: u64, read: u64) {
        let progress = self.marks.entry(conversation).or_default();
        let before = (progress.delivered, progress.read);
        progress.delivered = progress.delivered.max(delivered);
        progress.read = progress.read.max(read);
        progress.unsaid |= before != (progress.delivered, progress.read);
    }

    /// Latest wins, and never kept: without a live connection nothing is said.
    pub fn typing(&mut self, conversation: Target, on: bool) {
        if self.connection.live {
            let conversation = self.name(conversation);
            self.connection.replies.push(Up::Typing(up::Typing { conversation, on }));
        }
    }

    /// Reads one batch. `Err`: the server broke the language; close, and come back.
    pub fn receive(
        &mut self,
        batch: &[u8],
        now_ms: u64,
        on: &mut dyn FnMut(News<'_>),
    ) -> Result<(), Malformed> {
        match self.encoding {
            Encoding::Binary => {
                codec::decode_down(batch).try_for_each(|frame| self.take(frame?, now_ms, on))
            }
            Encoding::Json => {
                let batch = json::parse_down(batch)?;
                json::down_frames(&batch).try_for_each(|frame| self.take(frame?, now_ms, on))
            }
        }
    }

    /// What may leave now, or None. Call it after `receive`, after anything was asked, and when the
    /// time of `wakes_at_ms` has come.
    pub fn write(&mut self, now_ms: u64) -> Option<Vec<u8>> {
        let mut out = Batch::new(self.encoding);
        for reply in std::mem::take(&mut self.connection.replies) {
            out.push(&reply);
        }
        if self.connection.live {
            self.write_pages(&mut out);
            self.write_marks(now_ms, &mut out);
            self.write_drafts(now_ms, &mut out);
        }
        (!out.is_empty()).then(|| out.take())
    }

    /// When `write` should be called even if nothing happens.
    pub fn wakes_at_ms(&self) -> Option<u64> {
        let drafts = self.is_sending().then_some(self.paused_until_ms);
        let marks = self
            .marks
            .values()
            .any(|mark| mark.unsaid)
            .then_some(self.marked_ms.saturating_add(MARK_INTERVAL_MS));
        if self.connection.live { drafts.into_iter().chain(marks).min() } else { None }
    }

    /// The old device cannot go on: call `renew` with a fresh random id, then connect again.
    pub fn needs_device(&self) -> bool {
        let cloned = self.outbox.iter().any(|queued| queued.cloned);
        // A draft that may be on its way must be answered first, or it would be accepted twice.
        let waiting = self.outbox.iter().any(|queued| queued.sent && !queued.cloned);
        self.anew.is_some() || (cloned && !waiting)
    }

    /// Goes on as another device: the outbox is kept and numbered anew.
    pub fn renew(&mut self, id: Id) {
        let history = match self.anew.take() {
            Some(Anew::Restored) => {
                self.lanes.clear();
                Device::new(id)
            }
            Some(Anew::Copied) | None => self.device,
        };
        self.device =
            Device { id, generation: 0, last_counter: self.outbox.len() as u64, ..history };
        for (queued, counter) in self.outbox.iter_mut().zip(1..) {
            *queued = Queued {
                counter,
                sent: false,
                cloned: false,
                conversation: queued.conversation,
                lane: queued.lane,
                body: std::mem::take(&mut queued.body),
            };
        }
        self.connection = Connection::default();
    }

    /// Below this counter the device holds every answer.
    fn settled(&self) -> u64 {
        let waiting = self.outbox.iter().find(|queued| !queued.cloned);
        waiting.map_or(self.device.last_counter + 1, |queued| queued.counter)
    }

    fn is_sending(&self) -> bool {
        self.anew.is_none() && self.to_send().next().is_some()
    }

    /// Drafts that were not sent on this connection. Of a device that was copied only those whose fate is
    /// unknown; the others wait for the new device.
    fn to_send(&self) -> impl Iterator<Item = &Queued> {
        let cloned = self.outbox.iter().any(|queued| queued.cloned);
        self.outbox.iter().filter(move |queued| {
            queued.counter >= self.next && !queued.cloned && (queued.sent || !cloned)
        })
    }

    fn write_drafts(&mut self, now_ms: u64, out: &mut Batch) {
        if now_ms < self.paused_until_ms || !self.is_sending() {
            return;
        }
        let settled = self.settled();
        let end = settled.saturating_add(self.connection.unsettled_max.clamp(1, UNSETTLED_MAX));
        let mut next = self.next;
        for queued in self.to_send() {
            if queued.counter >= end || out.is_full() {
                break;
            }
            // It was written by `draft`, so it can be read.
            if let Ok(body) = DraftBody::from_bytes(&queued.body) {
                let conversation = self.name(queued.conversation);
                let (counter, lane) = (queued.counter, queued.lane);
                out.push(&Up::Draft(up::Draft { counter, settled, conversation, lane, body }));
            }
            next = queued.counter + 1;
        }
        self.next = next;
        for queued in self.outbox.iter_mut().take_while(|queued| queued.counter < next) {
            queued.sent = true;
        }
    }

    fn write_pages(&mut self, out: &mut Batch) {
        for (&request, page) in &mut self.pages {
            if !std::mem::replace(&mut page.asked, true) {
                out.push(&Up::Page(up::Page {
                    request,
                    conversation: named(&self.connection.handles, Target::Id(page.conversation)),
                    lane: page.lane,
                    before: page.before,
                    limit: page.limit,
                }));
            }
        }
    }

    fn write_marks(&mut self, now_ms: u64, out: &mut Batch) {
        if now_ms < self.marked_ms.saturating_add(MARK_INTERVAL_MS) {
            return;
        }
        let unsaid = self.marks.iter_mut().filter(|(_, progress)| progress.unsaid);
        for (&id, progress) in unsaid.take(MARKS_MAX) {
            progress.unsaid = false;
            self.marked_ms = now_ms;
            out.push(&Up::Mark(up::Mark {
                conversation: named(&self.connection.handles, Target::Id(id)),
                delivered: progress.delivered,
                read: progress.read,
            }));
        }
    }

    fn take(
        &mut self,
        frame: Down<'_>,
        now_ms: u64,
        on: &mut dyn FnMut(News<'_>),
    ) -> Result<(), Malformed> {
        match frame {
            Down::HelloOk(hello) => self.greeted(&hello, on)?,
            Down::Refused(down::Refused { code, text, retry_after_ms }) => {
                match code {
                    RefusalCode::EpochChanged => self.anew = Some(Anew::Restored),
                    RefusalCode::DeviceCloned => self.anew = Some(Anew::Copied),
                    _ => {}
                }
                let text = text.to_owned().into();
                on(News::Refused(Refusal { code, text, retry_after_ms }));
            }
            Down::Ping(down::Ping { nonce }) => {
                self.connection.replies.push(Up::Pong(up::Pong { nonce }));
            }
            Down::Pong(_) => {}
            Down::GoAway(goaway) => on(News::GoAway { delay_ms: goaway.delay_ms }),
            Down::Throttle(throttle) => self.pause(now_ms, throttle.after_ms),
            Down::Settled(settled) => self.settle(settled, now_ms, on)?,
            Down::Entry(entry) => self.entry(entry, on)?,
            Down::Conversation(head) => {
                let (handle, id) = (head.handle, head.id);
                let connection = &mut self.connection;
                if handle.0 < ConversationHandle::FIRST {
                    return Err(Malformed::UnknownValue);
                }
                if connection.conversations.len() >= HANDLES_MAX
                    && !connection.conversations.contains_key(&handle)
                {
                    return Err(Malformed::TooManyElements);
                }
                connection.conversations.insert(handle, id);
                connection.handles.insert(id, handle);
                on(News::Conversation { id, head });
            }
            Down::Person(down::Person { handle, id, kind, name, online }) => {
                let persons = &mut self.connection.persons;
                if persons.len() >= HANDLES_MAX && !persons.contains_key(&handle) {
                    return Err(Malformed::TooManyElements);
                }
                persons.insert(handle, id);
                on(News::Person { id, kind, name, online });
            }
            Down::Typing(typing) => on(News::Typing {
                conversation: self.conversation(typing.conversation)?,
                person: self.person(typing.person),
                on: typing.on,
            }),
            Down::Presence(down::Presence { person, online }) => {
                on(News::Presence { person: self.person(person), online });
            }
            Down::Mark(mark) => on(News::Mark {
                conversation: self.conversation(mark.conversation)?,
                person: self.person(mark.person),
                delivered: mark.delivered,
                read: mark.read,
            }),
            Down::PageEnd(down::PageEnd { request, first, more, .. }) => {
                // What was asked for is known here; a conversation that is not ours has no handle.
                if let Some(Page { conversation, lane, .. }) = self.pages.remove(&request) {
                    on(News::PageEnd { request, conversation, lane, first, more });
                }
            }
            Down::Synced(down::Synced { cursor }) => {
                // What was dropped behind a gap must come again, here or on the next connection.
                if self.connection.gaps.is_empty() {
                    self.device.cursor = self.device.cursor.max(cursor);
                    self.forget_old_lanes();
                    on(News::Synced { cursor });
                }
            }
            Down::Resync(_) => {
                // Each lane begins again with the next entry that comes.
                self.lanes.clear();
                self.connection.gaps.clear();
                on(News::Resync);
            }
        }
        Ok(())
    }

    fn greeted(
        &mut self,
        hello: &down::HelloOk,
        on: &mut dyn FnMut(News<'_>),
    ) -> Result<(), Malformed> {
        if self.device.epoch != Epoch(0) && self.device.epoch != hello.epoch {
            self.anew = Some(Anew::Restored);
            return Ok(());
        }
        // Counters that we never allotted.
        if hello.counter > self.device.last_counter {
            self.anew = Some(Anew::Copied);
            return Ok(());
        }
        self.device.epoch = hello.epoch;
        self.connection.live = true;
        self.connection.heartbeat_ms = hello.heartbeat_ms;
        self.connection.unsettled_max = hello.unsettled_max;
        let person = self.person(hello.person).ok_or(Malformed::UnknownValue)?;
        on(News::Live { person, now_ms: hello.now_ms });
        Ok(())
    }

    fn settle(
        &mut self,
        settled: down::Settled<'_>,
        now_ms: u64,
        on: &mut dyn FnMut(News<'_>),
    ) -> Result<(), Malformed> {
        let counter = settled.counter;
        // An answer that is told a second time finds its draft gone.
        let Some(index) = self.outbox.iter().position(|queued| queued.counter == counter) else {
            return Ok(());
        };
        let outcome = match settled.outcome {
            Outcome::Accepted { conversation, lane, seq, position, time_ms } => {
                let conversation = self.conversation(conversation)?;
                Ok(Answer { conversation, lane, seq, position, time_ms })
            }
            Outcome::Refused { code, text, retry_after_ms } => {
                let refusal = Refusal { code, text: text.to_owned().into(), retry_after_ms };
                match code.act() {
                    Act::Never => Err(refusal),
                    Act::Anew if code == RefusalCode::DeviceCloned => {
                        if let Some(queued) = self.outbox.get_mut(index) {
                            queued.cloned = true;
                        }
                        return Ok(());
                    }
                    Act::Retry | Act::Anew | Act::LogIn => {
                        self.next = self.next.min(counter);
                        self.pause(now_ms, retry_after_ms);
                        return Ok(());
                    }
                }
            }
        };
        self.outbox.remove(index);
        on(News::Settled { counter, outcome });
        Ok(())
    }

    fn entry(
        &mut self,
        entry: down::Entry<'_>,
        on: &mut dyn FnMut(News<'_>),
    ) -> Result<(), Malformed> {
        let conversation = self.conversation(entry.conversation)?;
        let (lane, seq, position) = (entry.lane, entry.seq, entry.position);
        let entry = Entry {
            conversation,
            lane,
            seq,
            position,
            time_ms: entry.time_ms,
            author: self.person(entry.author),
            about: entry.body.about().and_then(|person| self.person(person)),
            body: entry.body,
        };
        let page = self.pages.iter().find(|(_, page)| {
            page.asked
                && (page.conversation, page.lane) == (conversation, lane)
                && (page.before == 0 || seq < page.before)
        });
        let paged = page.map(|(&request, _)| request);
        if let Some(request) = paged {
            on(News::Paged { request, entry: entry.clone() });
        }
        let place = (conversation, lane);
        match self.lanes.get(&place).map(|held| held.high) {
            // A page says nothing about where the live part of a lane begins.
            None if paged.is_some() => {}
            Some(high) if seq <= high => {}
            Some(high) if seq > high.saturating_add(1) => {
                if self.connection.gaps.insert(place) {
                    let conversation = self.name(Target::Id(conversation));
                    let gap = up::Gap { conversation, lane, have: high };
                    self.connection.replies.push(Up::Gap(gap));
                }
            }
            _ => {
                self.lanes.insert(place, Held { high: seq, position });
                self.connection.gaps.remove(&place);
                on(News::Entry(entry));
            }
        }
        Ok(())
    }

    /// The server sends again only what stands at or behind the cursor, so lanes that ended before it
    /// need no memory against duplicates.
    fn forget_old_lanes(&mut self) {
        if self.lanes.len() > LANES_MAX {
            let cursor = self.device.cursor;
            self.lanes.retain(|_, held| held.position >= cursor);
        }
    }

    fn pause(&mut self, now_ms: u64, after_ms: u64) {
        let after_ms = if after_ms == 0 { RETRY_MS } else { after_ms };
        self.paused_until_ms = self.paused_until_ms.max(now_ms.saturating_add(after_ms));
    }

    fn conversation(&self, handle: ConversationHandle) -> Result<Id, Malformed> {
        self.connection.conversations.get(&handle).copied().ok_or(Malformed::UnknownValue)
    }

    fn person(&self, handle: PersonHandle) -> Option<Id> {
        self.connection.persons.get(&handle).copied()
    }

    fn name(&self, conversation: Target) -> Ref {
        named(&self.connection.handles, conversation)
    }
}

/// The shortest way to name a conversation on this connection.
fn named(handles: &BTreeMap<Id, ConversationHandle>, conversation: Target) -> Ref {
    match conversation {
        Target::Mine => Ref::Mine,
        Target::Id(id) => handles.get(&id).map_or(Ref::Id(id), |&handle| Ref::Handle(handle)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::counters::draft_hash;
    use crate::frame::ConversationState;

    const CONVERSATION: Id = [7; 16];
    const HANDLE: ConversationHandle = ConversationHandle(2);

    fn client() -> Client {
        let mut client = Client::new(Encoding::Binary, Device::new([1; 16]));
        client.open("", "");
        hear(&mut client, 0, &welcome(Epoch(1), 0));
        assert!(client.is_live());
        client
    }

    fn welcome(epoch: Epoch, counter: u64) -> Vec<Down<'static>> {
        vec![
            Down::Person(down::Person {
                handle: PersonHandle(1),
                id: [1; 16],
                kind: PersonKind::Visitor,
                name: "",
                online: true,
            }),
            Down::HelloOk(down::HelloOk {
                version: 1,
                caps: 0,
                epoch,
                person: PersonHandle(1),
                counter,
                heartbeat_ms: 25_000,
                text_max: 16_384,
                batch_max: 65_536,
                upload_max: 0,
                unsettled_max: 64,
                now_ms: 0,
                watermark: 0,
            }),
            Down::Conversation(down::Conversation {
                handle: HANDLE,
                id: CONVERSATION,
                site: "s",
                visitor: PersonHandle(1),
                assignee: PersonHandle(0),
                state: ConversationState::Open,
                public_head: 0,
                staff_head: 0,
                public_time_ms: 0,
                marks: Vec::new(),
            }),
        ]
    }

    fn entry(seq: u64) -> Down<'static> {
        Down::Entry(down::Entry {
            conversation: HANDLE,
            lane: Lane::Public,
            seq,
            position: seq * 10,
            time_ms: 0,
            author: PersonHandle::SYSTEM,
            body: EntryBody::Text { text: "t" },
        })
    }

    fn refused(counter: u64, code: RefusalCode, retry_after_ms: u64) -> Down<'static> {
        let outcome = Outcome::Refused { code, text: "", retry_after_ms };
        Down::Settled(down::Settled { counter, outcome })
    }

    /// Feeds frames and says what the application learnt, by name and Seq or counter.
    fn hear(client: &mut Client, now_ms: u64, frames: &[Down<'_>]) -> Vec<(&'static str, u64)> {
        let mut batch = Batch::new(Encoding::Binary);
        frames.iter().for_each(|frame| batch.push(frame));
        let mut news = Vec::new();
        let mut on = |it: News<'_>| match it {
            News::Entry(entry) => news.push(("entry", entry.seq)),
            News::Paged { entry, .. } => news.push(("paged", entry.seq)),
            News::PageEnd { first, .. } => news.push(("page end", first)),
            News::Settled { counter, .. } => news.push(("settled", counter)),
            News::Synced { cursor } => news.push(("synced", cursor)),
            News::Refused(refusal) => news.push(("refused", refusal.code.number())),
            _ => {}
        };
        client.receive(&batch.take(), now_ms, &mut on).unwrap();
        news
    }

    /// What leaves at this moment, by name and what tells it apart.
    fn said(client: &mut Client, now_ms: u64) -> Vec<(&'static str, u64)> {
        let batch = client.write(now_ms).unwrap_or_default();
        codec::decode_up(&batch)
            .map(|frame| match frame.unwrap() {
                Up::Draft(draft) => ("draft", draft.counter),
                Up::Gap(gap) => ("gap", gap.have),
                Up::Mark(mark) => ("mark", mark.read),
                Up::Page(page) => ("page", page.request),
                Up::Pong(pong) => ("pong", pong.nonce),
                other => (other.name(), 0),
            })
            .collect()
    }

    fn write_text(client: &mut Client, text: &str) -> Result<u64, Refusal> {
        client.draft(Target::Mine, Lane::Public, &DraftBody::Text { text })
    }

    #[test]
    fn an_entry_is_told_once_and_a_hole_is_asked_for() {
        let mut client = client();
        let news = hear(&mut client, 0, &[entry(4), entry(5), entry(5), entry(4)]);
        assert_eq!(news, [("entry", 4), ("entry", 5)]);
        // 6 is missing: 7 and 8 are not shown, and the cursor does not pass them.
        let synced = Down::Synced(down::Synced { cursor: 90 });
        assert_eq!(hear(&mut client, 0, &[entry(7), entry(8), synced.clone()]), []);
        assert_eq!(said(&mut client, 0), [("gap", 5)]);
        assert_eq!(client.device().cursor, 0);
        let news = hear(&mut client, 0, &[entry(6), entry(7), entry(8), synced]);
        assert_eq!(news, [("entry", 6), ("entry", 7), ("entry", 8), ("synced", 90)]);
        assert_eq!(client.device().cursor, 90);
    }

    #[test]
    fn a_page_is_told_as_a_page_and_asked_again_on_the_next_connection() {
        let mut client = client();
        hear(&mut client, 0, &[entry(9)]);
        let request = client.page(CONVERSATION, Lane::Public, 9, 3).unwrap();
        assert_eq!(said(&mut client, 0), [("page", request)]);
        assert_eq!(said(&mut client, 0), []);
        client.open("", "");
        hear(&mut client, 0, &welcome(Epoch(1), 0));
        assert_eq!(said(&mut client, 0), [("page", request)]);
        let end = Down::PageEnd(down::PageEnd {
            request,
            conversation: ConversationHandle(0),
            lane: Lane::Public,
            first: 6,
            more: true,
        });
        let news =
            hear(&mut client, 0, &[entry(6), entry(7), entry(8), entry(10), end.clone(), end]);
        let expected = [("paged", 6), ("paged", 7), ("paged", 8), ("entry", 10), ("page end", 6)];
        assert_eq!(news, expected);
    }

    #[test]
    fn drafts_are_sent_in_order_up_to_the_limit_and_no_further() {
        let mut client = client();
        for _ in 0..UNSETTLED_MAX + 1 {
            write_text(&mut client, "t").unwrap();
        }
        let sent = said(&mut client, 0);
        assert_eq!(sent.len() as u64, UNSETTLED_MAX);
        assert_eq!(sent.first(), Some(&("draft", 1)));
        assert_eq!(said(&mut client, 0), []);
        let gone = refused(1, RefusalCode::NotAllowed, 0);
        assert_eq!(hear(&mut client, 0, &[gone]), [("settled", 1)]);
        assert_eq!(said(&mut client, 0), [("draft", UNSETTLED_MAX + 1)]);
    }

    #[test]
    fn what_may_be_tried_again_is_sent_again_with_all_that_came_behind() {
        let mut client = client();
        (0..3).for_each(|_| drop(write_text(&mut client, "t")));
        assert_eq!(said(&mut client, 0).len(), 3);
        let busy = [refused(2, RefusalCode::Busy, 50), refused(3, RefusalCode::CounterGap, 0)];
        assert_eq!(hear(&mut client, 1_000, &busy), []);
        assert_eq!(said(&mut client, 1_049), []);
        assert_eq!(client.wakes_at_ms(), Some(1_000 + RETRY_MS));
        assert_eq!(said(&mut client, 1_000 + RETRY_MS), [("draft", 2), ("draft", 3)]);
    }

    #[test]
    fn an_outbox_ends_at_its_limit() {
        let mut client = client();
        for nth in 1..=OUTBOX_MAX as u64 {
            assert_eq!(write_text(&mut client, "t"), Ok(nth));
        }
        let refusal = write_text(&mut client, "t").unwrap_err();
        assert_eq!(refusal.code, RefusalCode::TooManyUnsettled);
    }

    #[test]
    fn what_would_break_the_connection_is_not_queued() {
        let mut twin = Client::new(Encoding::Json, Device::new([1; 16]));
        let controls = "\u{1}".repeat(crate::limits::TEXT_BYTES_MAX);
        assert_eq!(write_text(&mut twin, &controls).unwrap_err().code, RefusalCode::TextTooLong);
        assert_eq!(write_text(&mut client(), &controls), Ok(1));
        assert_eq!(write_text(&mut twin, "").unwrap_err().code, RefusalCode::TextEmpty);
    }

    #[test]
    fn a_copied_draft_waits_for_the_others_and_then_for_a_new_device() {
        let mut client = client();
        write_text(&mut client, "first").unwrap();
        write_text(&mut client, "second").unwrap();
        assert_eq!(said(&mut client, 0).len(), 2);
        assert_eq!(hear(&mut client, 0, &[refused(2, RefusalCode::DeviceCloned, 0)]), []);
        assert!(!client.needs_device(), "the first may be accepted yet");
        write_text(&mut client, "third").unwrap();
        assert_eq!(said(&mut client, 0), [], "nothing new goes out under a copied device");
        hear(&mut client, 0, &[refused(1, RefusalCode::NotAllowed, 0)]);
        assert!(client.needs_device());
        client.renew([2; 16]);
        assert!(!client.needs_device());
        assert_eq!((client.device().last_counter, client.device().epoch), (2, Epoch(1)));
        client.open("", "");
        hear(&mut client, 0, &welcome(Epoch(1), 0));
        assert_eq!(said(&mut client, 0), [("draft", 1), ("draft", 2)]);
    }

    #[test]
    fn a_restored_history_is_begun_anew_and_the_outbox_is_kept() {
        let mut client = client();
        hear(&mut client, 0, &[entry(1), Down::Synced(down::Synced { cursor: 10 })]);
        write_text(&mut client, "t").unwrap();
        client.open("", "");
        hear(&mut client, 0, &welcome(Epoch(2), 0));
        assert!(client.needs_device() && !client.is_live());
        client.renew([2; 16]);
        assert_eq!((client.device().cursor, client.device().epoch), (0, Epoch(0)));
        client.open("", "");
        hear(&mut client, 0, &welcome(Epoch(2), 0));
        assert_eq!(said(&mut client, 0), [("draft", 1)]);
        assert_eq!(hear(&mut client, 0, &[entry(1)]), [("entry", 1)]);
    }

    #[test]
    fn counters_that_were_never_allotted_mean_a_copy() {
        let mut client = Client::new(Encoding::Binary, Device::new([1; 16]));
        client.open("", "");
        hear(&mut client, 0, &welcome(Epoch(1), 1));
        assert!(client.needs_device());
    }

    #[test]
    fn marks_only_rise_and_are_said_once_a_second() {
        let mut client = client();
        client.mark(CONVERSATION, 5, 3);
        assert_eq!(said(&mut client, MARK_INTERVAL_MS), [("mark", 3)]);
        client.mark(CONVERSATION, 4, 2);
        assert_eq!(client.wakes_at_ms(), None, "nothing new was said");
        client.mark(CONVERSATION, 9, 9);
        assert_eq!(said(&mut client, 2 * MARK_INTERVAL_MS - 1), []);
        assert_eq!(client.wakes_at_ms(), Some(2 * MARK_INTERVAL_MS));
        assert_eq!(said(&mut client, 2 * MARK_INTERVAL_MS), [("mark", 9)]);
        let hello = client.open("", "");
        let Some(Ok(Up::Hello(hello))) = codec::decode_up(&hello).next() else {
            panic!("no HELLO")
        };
        assert_eq!(hello.marks.first().map(|mark| (mark.delivered, mark.read)), Some((9, 9)));
    }

    #[test]
    fn a_draft_names_a_conversation_by_its_handle_and_means_the_same() {
        let mut client = client();
        let body = DraftBody::Text { text: "t" };
        client.draft(Target::Id(CONVERSATION), Lane::Public, &body).unwrap();
        let batch = client.write(0).unwrap();
        let Some(Ok(Up::Draft(draft))) = codec::decode_up(&batch).next() else {
            panic!("no DRAFT")
        };
        assert_eq!(draft.conversation, Ref::Handle(HANDLE));
        let hash = draft_hash(Target::Id(CONVERSATION), draft.lane, &draft.body);
        assert_eq!(hash, draft_hash(Target::Id(CONVERSATION), Lane::Public, &body));
    }

    #[test]
    fn a_server_that_breaks_the_language_is_left() {
        for frame in [
            entry(1),
            Down::Typing(down::Typing { conversation: HANDLE, person: PersonHandle(1), on: true }),
        ] {
            let mut client = Client::new(Encoding::Binary, Device::new([1; 16]));
            client.open("", "");
            let mut batch = Batch::new(Encoding::Binary);
            batch.push(&frame);
            let read = client.receive(&batch.take(), 0, &mut |_| {});
            assert_eq!(read, Err(Malformed::UnknownValue), "a handle that was never given");
        }
    }
}
