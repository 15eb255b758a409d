//! One visitor's or agent's connection: the protocol session bound to commit, follow and the bell.
//!
//! It holds no payload queue. It is woken, reads the log from its cursor up to a fixed watermark, and
//! writes what its reader can take; a slow reader lags alone. Invariants: the ear is registered before
//! anything is read; the cursor never passes what was not rung for; nothing is written before HELLO_OK
//! but REFUSED; visibility is judged per Entry; who may no longer be here is gone within a heartbeat.

mod say;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use lodge_proto::batch::Batch;
use lodge_proto::frame::{Down, DraftBody, down};
use lodge_proto::refusal::{Refusal, RefusalCode};
use lodge_proto::session::{self, Event, Session, Target};
use lodge_proto::{ConversationHandle, Epoch};
use lodge_storage::{Lane, Log, Place, Position, Record};
use tokio::time::{Instant, timeout};

use super::lease::{Holder, Leases};
use super::websocket::{Message, Socket};
use crate::access::ids::Ids;
use crate::access::{Access, Who, line};
use crate::bell::{Bell, Ear, Rung};
use crate::commit::{Commit, Submission, log_lane, now_ms};
use crate::desk::entry::Person;
use crate::desk::{Asked, By, Conversation, Draft};
use crate::devices::Device;
use crate::follow::{Follow, Public, Staff};
use crate::lens::Lens;
use crate::limits;
use crate::signal::{Mark, Signals};
use crate::telemetry::Telemetry;

/// A stranger must say HELLO within this time.
const HELLO_MS: u64 = 10_000;
/// Silence is judged at the earliest this long after there was something else to do.
const MOMENT_MS: u64 = 1_000;
/// A reader that takes nothing for this long is gone.
const WRITE_MS: u64 = 30_000;

/// What a connection needs of the house.
#[derive(Debug)]
pub struct Rooms {
    pub access: Arc<Access>,
    pub ids: Ids,
    pub log: Log,
    pub lens: Arc<Lens>,
    pub bell: Arc<Bell>,
    pub signals: Arc<Signals>,
    pub commit: Commit,
    pub leases: Leases,
    pub telemetry: Arc<Telemetry>,
}

/// Who sits down, before HELLO.
#[derive(Debug, Clone)]
pub enum Seat {
    /// A page or app of this site; HELLO brings the token.
    Site(String),
    /// The cookie has spoken.
    Agent(Who),
}

/// Serves a connection until either side ends it.
pub async fn serve(mut socket: Socket, mut session: Session, seat: Seat, rooms: Arc<Rooms>) {
    let greeted = greet(&mut socket, &mut session, &seat, &rooms).await;
    let Some((mut connection, work)) = greeted else { return };
    let (code, reason) = match connection.run(&mut socket, work).await {
        Ok(end) | Err(end) => end,
    };
    drop(connection);
    socket.close(code, reason).await;
}

type End = (u16, &'static str);

/// Whose eyes look.
#[derive(Debug)]
enum Eyes {
    Visitor { site: u64, by: By },
    Agent { by: By },
}

struct Connection {
    rooms: Arc<Rooms>,
    session: Session,
    eyes: Eyes,
    follow: Follow,
    /// As they were let in, to be asked whether they may stay.
    who: Who,
    person: Person,
    ear: Arc<Ear>,
    cursor: Position,
}

/// An event of the client, owned, since acting on it may wait.
enum Work {
    Draft {
        counter: u64,
        settled: u64,
        hash: u64,
        conversation: Target,
        lane: lodge_proto::frame::Lane,
        wish: Wish,
    },
    Typing {
        conversation: Target,
        on: bool,
    },
    Mark {
        conversation: Target,
        delivered: u64,
        read: u64,
    },
    Page(session::Page),
    Gap {
        conversation: Target,
        lane: lodge_proto::frame::Lane,
        have: u64,
    },
    Bye,
}

enum Wish {
    Text(String),
    File { upload: String, name: String, caption: String },
    Close,
    Unknown,
}

struct Hello {
    device: [u8; 16],
    generation: u64,
    epoch: u64,
    cursor: u64,
    token: String,
    page: String,
}

/// Waits for HELLO, finds out who it is, and answers HELLO_OK with what was missed.
async fn greet(
    socket: &mut Socket,
    session: &mut Session,
    seat: &Seat,
    rooms: &Arc<Rooms>,
) -> Option<(Connection, Vec<Work>)> {
    let mut out = session.batch();
    let mut hello = None;
    let mut work = Vec::new();
    // Only HELLO has to come soon: how long an answer may take to be read is judged where it is sent.
    let Ok(message) = timeout(Duration::from_millis(HELLO_MS), socket.receive()).await else {
        socket.goodbye(1002, "HELLO did not come").await;
        return None;
    };
    let message = message.ok()?;
    let received = session.receive(bytes_of(&message), &mut out, &mut |event| match event {
        Event::Hello(it) => {
            hello = Some(Hello {
                device: it.device,
                generation: it.generation,
                epoch: it.epoch.0,
                cursor: it.cursor,
                token: it.token.to_owned(),
                page: line::page(it.page.0).to_owned(),
            });
        }
        event => work.extend(own(event)),
    });
    if let Err(close) = received {
        let _ = send(socket, &mut out).await;
        let code = close.code();
        close_owned(socket, code).await;
        return None;
    }
    let Some(hello) = hello else {
        let refusal = Refusal::because(RefusalCode::Protocol, "HELLO comes first, and once.");
        return refuse(socket, &mut out, &refusal).await;
    };
    let who = match seat {
        Seat::Site(app) => rooms.access.visitor(app, &hello.token, Some(hello.device), now_ms()),
        Seat::Agent(who) => Ok(who.clone()),
    };
    let seated = who.and_then(|who| {
        let log = rooms.log.clone();
        let (person, eyes, follow) = match &who {
            Who::Visitor { site, person, name, vouched, .. } => {
                let by = By::Visitor {
                    person: *person,
                    site: *site,
                    name: name.clone(),
                    vouched: *vouched,
                    page: hello.page.clone(),
                };
                let follow = Follow::Public(Public::new(log));
                (Person::Visitor(*person), Eyes::Visitor { site: *site, by }, follow)
            }
            Who::Agent { agent, .. } => {
                let eyes = Eyes::Agent { by: By::Agent { person: *agent } };
                (Person::Agent(*agent), eyes, Follow::Staff(Staff::new(log)))
            }
        };
        let (ear, presence) = rooms.bell.register(person, hello.device, hello.generation)?;
        Ok((who, person, eyes, follow, ear, presence))
    });
    let (who, person, eyes, follow, ear, presence) = match seated {
        Ok(seated) => seated,
        Err(refusal) => return refuse(socket, &mut out, &refusal).await,
    };
    rooms.telemetry.connections.inc();
    let mut connection = Connection {
        rooms: Arc::clone(rooms),
        session: std::mem::replace(session, Session::new(session.encoding())),
        eyes,
        follow,
        who,
        person,
        ear,
        cursor: Position(0),
    };
    if presence.changed {
        tell_presence(rooms, person);
        if let Person::Agent(_) = person {
            rooms.commit.agent_came().await;
        }
    }
    if let Err((code, reason)) = connection.welcome(socket, &mut out, &hello).await {
        drop(connection);
        socket.goodbye(code, reason).await;
        return None;
    }
    Some((connection, work))
}

async fn refuse<T>(socket: &mut Socket, out: &mut Batch, refusal: &Refusal) -> Option<T> {
    session::refuse(refusal, out);
    let _ = send(socket, out).await;
    close_owned(socket, refusal.code.close_code()).await;
    None
}

/// However a connection ends, by a panic or a future that is dropped too, nobody is here for ever.
impl Drop for Connection {
    fn drop(&mut self) {
        self.rooms.telemetry.connections.dec();
        if !self.rooms.bell.leave(&self.ear).changed {
            return;
        }
        // Who reloads a page is back in a moment, and nobody should see them go.
        let (rooms, person) = (Arc::clone(&self.rooms), self.person);
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                tokio::time::sleep(Duration::from_millis(limits::ABSENCE_MS)).await;
                if !rooms.bell.is_online(person) {
                    tell_presence(&rooms, person);
                }
            });
        }
    }
}

impl Connection {
    async fn run(&mut self, socket: &mut Socket, work: Vec<Work>) -> Result<End, End> {
        let mut out = self.session.batch();
        let end = self.attend(socket, &mut out, work).await;
        // What ends it may have left a last word behind: GOAWAY, or answers that came before.
        let _ = send(socket, &mut out).await;
        end
    }

    async fn attend(
        &mut self,
        socket: &mut Socket,
        out: &mut Batch,
        work: Vec<Work>,
    ) -> Result<End, End> {
        self.act(socket, out, work).await?;
        send(socket, out).await?;
        let heartbeat = Duration::from_millis(limits::HEARTBEAT_MS);
        let mut heard = Instant::now();
        let mut reviewed = heard;
        let mut pinged = false;
        loop {
            let quiet_until = heard + if pinged { heartbeat * 2 } else { heartbeat };
            // After a long write what has come meanwhile is heard before the silence is judged.
            let soon = Instant::now() + Duration::from_millis(MOMENT_MS);
            let wakes_at = quiet_until.min(reviewed + heartbeat).max(soon);
            tokio::select! {
                message = socket.receive() => {
                    let Ok(message) = message else { return Ok((1000, "")) };
                    heard = Instant::now();
                    pinged = false;
                    let mut work = Vec::new();
                    let received = self.session.receive(bytes_of(&message), out, &mut |event| {
                        work.extend(own(event));
                    });
                    if let Err(close) = received {
                        return Err((close.code(), "refused"));
                    }
                    self.act(socket, out, work).await?;
                }
                () = self.ear.listen() => {
                    let rung = self.ear.take();
                    self.tell(socket, out, rung).await?;
                }
                () = tokio::time::sleep_until(wakes_at) => {
                    if pinged && Instant::now() >= quiet_until {
                        return Err((1001, "nothing was heard"));
                    }
                    if Instant::now() >= quiet_until {
                        pinged = true;
                        out.push(&Down::from(down::Ping { nonce: now_ms() }));
                    }
                }
            }
            let now = Instant::now();
            if now >= reviewed + heartbeat {
                reviewed = now;
                self.review(out)?;
            }
            send(socket, out).await?;
        }
    }

    /// Ends the connection of who may no longer be here.
    fn review(&self, out: &mut Batch) -> Result<(), End> {
        let Err(refusal) = self.rooms.access.still(&self.who, now_ms()) else { return Ok(()) };
        session::refuse(&refusal, out);
        Err((refusal.code.close_code(), "ended"))
    }

    /// HELLO_OK, then what the cursor does not cover.
    async fn welcome(
        &mut self,
        socket: &mut Socket,
        out: &mut Batch,
        hello: &Hello,
    ) -> Result<(), End> {
        let device = Device { person: self.person, id: hello.device };
        let counter = self.rooms.commit.highest(device).await;
        let epoch = self.rooms.log.epoch();
        let watermark = self.rooms.log.watermark();
        let (person, _) = self.person_handle(out, self.person, None)?;
        out.push(&Down::from(down::HelloOk {
            version: 1,
            caps: 0,
            epoch: Epoch(epoch),
            person,
            counter,
            heartbeat_ms: limits::HEARTBEAT_MS,
            text_max: limits::TEXT_BYTES_MAX as u64,
            batch_max: lodge_proto::limits::BATCH_BYTES_MAX as u64,
            upload_max: limits::UPLOAD_BYTES_MAX,
            unsettled_max: lodge_proto::limits::UNSETTLED_MAX,
            now_ms: now_ms(),
            watermark: watermark.0,
        }));
        let same_history = hello.epoch == epoch && hello.cursor <= watermark.0;
        if hello.epoch != 0 && !same_history {
            out.push(&Down::from(down::Resync { reason: 2 }));
        }
        let cursor = if same_history { hello.cursor } else { 0 };
        // What the lens does not know yet will be rung for, and this ear is there to hear it.
        let lens = &self.rooms.lens;
        let (moved, more, upto) = lens.moved_since(self.person, cursor, limits::HEADS_MAX);
        self.cursor = Position(cursor);
        if cursor == 0 || more {
            if more && cursor != 0 {
                out.push(&Down::from(down::Resync { reason: 1 }));
            }
            self.heads(socket, out, moved, upto).await?;
        } else {
            let (from, moved) = (self.cursor, moved.into_iter().collect());
            let (read, moved) =
                self.cold(move |follow| (read_all(follow, &moved, from, upto), moved)).await?;
            self.catch_up(socket, out, moved, read, upto).await?;
        }
        send(socket, out).await
    }

    /// Only how things stand; the client pages what it wants to see.
    async fn heads(
        &mut self,
        socket: &mut Socket,
        out: &mut Batch,
        conversations: Vec<u64>,
        upto: Position,
    ) -> Result<(), End> {
        for number in conversations {
            let Some(it) = self.visible(number) else { continue };
            self.push_conversation(out, number, &it)?;
            if out.is_full() {
                send(socket, out).await?;
            }
        }
        self.cursor = self.cursor.max(upto);
        out.push(&Down::from(down::Synced { cursor: self.cursor.0 }));
        Ok(())
    }

    /// Tells what was read of these conversations from the cursor on. Below `upto` lies nothing else of
    /// this person's that was not told before.
    async fn catch_up(
        &mut self,
        socket: &mut Socket,
        out: &mut Batch,
        conversations: BTreeSet<u64>,
        read: Result<Caught, lodge_storage::Error>,
        upto: Position,
    ) -> Result<(), End> {
        // What damage lies in cannot be caught up with; what is left of it can be paged.
        let Some(Caught::All(records)) = whole(read)? else {
            out.push(&Down::from(down::Resync { reason: 1 }));
            return self.heads(socket, out, conversations.into_iter().collect(), upto).await;
        };
        for record in &records {
            self.push_entry(out, record)?;
            if out.is_full() {
                send(socket, out).await?;
            }
        }
        if upto > self.cursor {
            self.cursor = upto;
            out.push(&Down::from(down::Synced { cursor: upto.0 }));
        }
        Ok(())
    }

    /// Acts on what the client said, in order.
    async fn act(
        &mut self,
        socket: &mut Socket,
        out: &mut Batch,
        work: Vec<Work>,
    ) -> Result<(), End> {
        if work.iter().any(|it| matches!(it, Work::Draft { .. } | Work::Typing { .. }))
            && self.rooms.access.seen(&self.who, now_ms()).is_err()
        {
            self.review(out)?;
        }
        for work in work {
            match work {
                Work::Draft { counter, settled, hash, conversation, lane, wish } => {
                    let device = Device { person: self.person, id: self.ear.device };
                    let draft = self.draft(conversation, lane, wish);
                    let submission = Submission { device, counter, settled, hash, draft };
                    self.rooms.commit.submit(submission).await;
                }
                Work::Typing { conversation, on } => {
                    if let Some((number, it)) = self.target(conversation) {
                        let members: Vec<Person> = it.members().collect();
                        let Rooms { signals, bell, .. } = &*self.rooms;
                        signals.typing(bell, &members, number, self.person, on);
                    }
                }
                Work::Mark { conversation, delivered, read } => {
                    if let Some((number, it)) = self.target(conversation) {
                        let members: Vec<Person> = it.members().collect();
                        if members.contains(&self.person) {
                            let head = it.head(Lane::Public);
                            let Rooms { signals, bell, .. } = &*self.rooms;
                            let mark = Mark { delivered, read };
                            signals.mark(bell, &members, number, self.person, head, mark);
                        }
                    }
                }
                Work::Page(page) => self.page(socket, out, page).await?,
                Work::Gap { conversation, lane, have } => {
                    self.gap(socket, out, conversation, lane, have).await?;
                }
                Work::Bye => return Err((1000, "bye")),
            }
        }
        Ok(())
    }

    fn draft(
        &self,
        conversation: Target,
        lane: lodge_proto::frame::Lane,
        wish: Wish,
    ) -> Result<Draft, Refusal> {
        let asked = match wish {
            Wish::Text(text) => Asked::Text(text),
            Wish::Close => Asked::Close,
            Wish::Unknown => return Err(Refusal::new(RefusalCode::UnknownKind)),
            Wish::File { upload, name, caption } => {
                let mut file = self.rooms.leases.open(&upload, self.holder(), now_ms())?;
                file.name = name;
                file.caption = caption;
                Asked::File(file)
            }
        };
        let conversation = match conversation {
            Target::Mine => None,
            Target::Id(id) => {
                let number = self.rooms.ids.conversation_number(&id);
                Some(number.ok_or(Refusal::new(RefusalCode::UnknownConversation))?)
            }
        };
        let by = match &self.eyes {
            Eyes::Visitor { by, .. } | Eyes::Agent { by, .. } => by.clone(),
        };
        Ok(Draft { by, conversation, lane: log_lane(lane), asked })
    }

    /// Whose uploads this connection may name.
    fn holder(&self) -> Holder {
        match self.person {
            Person::Agent(agent) => Holder::Agent(agent),
            _ => Holder::Device(self.ear.device),
        }
    }

    async fn page(
        &mut self,
        socket: &mut Socket,
        out: &mut Batch,
        page: session::Page,
    ) -> Result<(), End> {
        let session::Page { request, conversation, lane, before, limit } = page;
        let Some((number, it)) = self.target(conversation) else {
            // A foreign conversation and an absent one look the same: nothing is there.
            let handle = ConversationHandle(0);
            out.push(&Down::from(down::PageEnd {
                request,
                conversation: handle,
                lane,
                first: 0,
                more: false,
            }));
            return Ok(());
        };
        self.look_on(number, &it);
        let limit = usize::try_from(limit).unwrap_or(1);
        let of = log_lane(lane);
        let read = self.cold(move |follow| follow.page(number, of, before, limit)).await?;
        // A page that would begin in damage is empty: what is above it stays where it is.
        let records = whole(read)?.unwrap_or_default();
        let handle = self.push_conversation_once(out, number, &it)?;
        let mut first = 0;
        for record in &records {
            if let (0, Place::Conversation { seq, .. }) = (first, record.place) {
                first = seq;
            }
            self.push_entry(out, record)?;
            if out.is_full() {
                send(socket, out).await?;
            }
        }
        out.push(&Down::from(down::PageEnd {
            request,
            conversation: handle,
            lane,
            first,
            more: first > 1,
        }));
        Ok(())
    }

    async fn gap(
        &mut self,
        socket: &mut Socket,
        out: &mut Batch,
        conversation: Target,
        lane: lodge_proto::frame::Lane,
        have: u64,
    ) -> Result<(), End> {
        let Some((number, it)) = self.target(conversation) else { return Ok(()) };
        self.look_on(number, &it);
        let (from, limit) =
            (have.saturating_add(1), lodge_proto::limits::PAGE_ENTRIES_MAX as usize);
        let lane = log_lane(lane);
        let records = self.cold(move |follow| follow.range(number, lane, from, limit)).await?;
        for record in &whole(records)?.unwrap_or_default() {
            self.push_entry(out, record)?;
            if out.is_full() {
                send(socket, out).await?;
            }
        }
        Ok(())
    }

    /// History may be cold, so it is read where waiting for a disk stops nobody else.
    async fn cold<R: Send + 'static>(
        &self,
        read: impl FnOnce(&Follow) -> R + Send + 'static,
    ) -> Result<R, End> {
        let follow = self.follow.clone();
        let read = tokio::task::spawn_blocking(move || read(&follow)).await;
        read.map_err(|_| (1011, "history could not be read"))
    }

    /// An agent who looks into a conversation without a part in it hears of it from here on. To be said
    /// before anything is read.
    fn look_on(&self, number: u64, it: &Conversation) {
        let is_agent = matches!(self.eyes, Eyes::Agent { .. });
        if is_agent && !it.members().any(|member| member == self.person) {
            self.rooms.bell.watch(&self.ear, number);
        }
    }

    /// Tells the client what the bell rang for.
    async fn tell(&mut self, socket: &mut Socket, out: &mut Batch, rung: Rung) -> Result<(), End> {
        for settled in rung.settled {
            self.push_settled(out, settled)?;
        }
        if !rung.conversations.is_empty() {
            // What was rung for was written a moment ago: it is in memory.
            let read = read_all(&self.follow, &rung.conversations, self.cursor, rung.upto);
            self.catch_up(socket, out, rung.conversations, read, rung.upto).await?;
        }
        for (about, signal) in rung.signals {
            self.push_signal(out, about, signal)?;
        }
        if let Some(delay_ms) = rung.going_away_ms {
            out.push(&Down::from(down::GoAway { reason: 1, delay_ms }));
        }
        if let Some(refusal) = rung.ended {
            session::refuse(&refusal, out);
            return Err((refusal.code.close_code(), "ended"));
        }
        if rung.review {
            self.review(out)?;
        }
        Ok(())
    }

    /// The conversation, if this person may see it: visitors their own, agents all.
    fn visible(&self, number: u64) -> Option<Conversation> {
        let it = self.rooms.lens.conversation(number)?;
        match &self.eyes {
            Eyes::Visitor { site, .. } => {
                (it.site == *site && Person::Visitor(it.visitor) == self.person).then_some(it)
            }
            Eyes::Agent { .. } => Some(it),
        }
    }

    fn target(&self, conversation: Target) -> Option<(u64, Conversation)> {
        let number = match (conversation, &self.eyes) {
            (Target::Id(id), _) => self.rooms.ids.conversation_number(&id)?,
            (Target::Mine, Eyes::Visitor { site, .. }) => match self.person {
                Person::Visitor(visitor) => self.rooms.lens.current(*site, visitor)?,
                _ => return None,
            },
            (Target::Mine, Eyes::Agent { .. }) => return None,
        };
        Some((number, self.visible(number)?))
    }
}

/// Tells everybody who shares a conversation with this person to look again whether they are here.
fn tell_presence(rooms: &Rooms, person: Person) {
    let (of, ..) = rooms.lens.moved_since(person, 0, limits::HEADS_MAX);
    let mut audience = BTreeSet::new();
    for it in of.into_iter().filter_map(|number| rooms.lens.conversation(number)) {
        audience.extend(it.members().filter(|member| *member != person));
    }
    let audience: Vec<Person> = audience.into_iter().collect();
    rooms.signals.presence(&rooms.bell, &audience, person);
}

/// Owns an event; HELLO was handled where it is allowed.
fn own(event: Event<'_>) -> Option<Work> {
    Some(match event {
        Event::Hello(_) | Event::Pong { .. } => return None,
        Event::Draft(draft) => {
            let wish = match draft.body {
                DraftBody::Text { text } => Wish::Text(text.to_owned()),
                DraftBody::File { upload, name, caption } => Wish::File {
                    upload: upload.to_owned(),
                    name: name.to_owned(),
                    caption: caption.to_owned(),
                },
                DraftBody::Close {} => Wish::Close,
                DraftBody::Unknown { .. } => Wish::Unknown,
            };
            let session::Draft { counter, settled, hash, conversation, lane, .. } = draft;
            Work::Draft { counter, settled, hash, conversation, lane, wish }
        }
        Event::Typing { conversation, on } => Work::Typing { conversation, on },
        Event::Mark { conversation, delivered, read } => {
            Work::Mark { conversation, delivered, read }
        }
        Event::Page(page) => Work::Page(page),
        Event::Gap { conversation, lane, have } => Work::Gap { conversation, lane, have },
        Event::Bye { .. } => Work::Bye,
    })
}

fn bytes_of<'a>(message: &'a Message<'_>) -> &'a [u8] {
    match message {
        Message::Binary(bytes) => bytes,
        Message::Text(text) => text.as_bytes(),
    }
}

async fn send(socket: &mut Socket, out: &mut Batch) -> Result<(), End> {
    if out.is_empty() {
        return Ok(());
    }
    let binary = out.encoding() == lodge_proto::batch::Encoding::Binary;
    let bytes = out.take();
    match timeout(Duration::from_millis(WRITE_MS), socket.send(&bytes, binary)).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) => Err((1001, "")),
        Err(_) => Err((1013, "too slow")),
    }
}

async fn close_owned(socket: &mut Socket, code: u16) {
    socket.goodbye(code, "refused").await;
}

/// What a cursor has missed.
enum Caught {
    All(Vec<Record>),
    /// More than one catch-up tells.
    TooMuch,
}

/// Everything in these conversations from `from` on, below `upto`, merged by Position.
fn read_all(
    follow: &Follow,
    conversations: &BTreeSet<u64>,
    from: Position,
    upto: Position,
) -> Result<Caught, lodge_storage::Error> {
    let mut records: Vec<Record> = Vec::new();
    for &number in conversations {
        records.extend(follow.since(number, from, upto, limits::CATCH_UP_ENTRIES_MAX + 1)?);
        if records.len() > limits::CATCH_UP_ENTRIES_MAX {
            return Ok(Caught::TooMuch);
        }
    }
    records.sort_unstable_by_key(|record| record.position);
    Ok(Caught::All(records))
}

/// What could be read, or nothing where it is damaged: that must not end a connection, which would come
/// back and meet the same.
fn whole<R>(read: Result<R, lodge_storage::Error>) -> Result<Option<R>, End> {
    read.map(Some).or_else(|error| {
        tracing::error!(%error, "the log could not be read");
        match error {
            lodge_storage::Error::Corrupt { .. } => Ok(None),
            _ => Err((1011, "history could not be read")),
        }
    })
}
