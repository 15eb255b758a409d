//! The only write path: Draft -> desk -> log -> SETTLED.
//!
//! One desk thread orders everything that crosses conversations, without locks. Its state runs ahead of
//! the disk and nothing leaves it before the watermark has passed: durable, visible, settled, rung.
//! Since a failed sync ends the process, nothing is ever undone.
//!
//! A log that may not be written (`Log::refusal`) is replayed as far as it can be read and gets no scribe:
//! every draft is refused as ReadOnly, to be kept and sent again, and what was accepted before still gets
//! its answer. Nothing is told to a device for good that damage may have made untrue.
//!
//! Must never: answer before the sync, wait for the scribe while the scribe waits for the desk (a place
//! is reserved first, and none means Busy), enter a password hash or an expression.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{SystemTime, UNIX_EPOCH};

use lodge_proto::counters::{Answer, Verdict};
use lodge_proto::refusal::{Refusal, RefusalCode};
use lodge_storage::{
    Error, Lane, Log, NewRecord, NoPlace, Place, Position, Reservation, Scribe, Written,
};
use tokio::sync::{Notify, mpsc, oneshot};

use crate::bell::{Accepted, Bell, Settled};
use crate::desk::entry::{self, Entry, Marked, Origin, Person};
use crate::desk::register::RegisterDraft;
use crate::desk::{self, Draft, Group, State};
use crate::devices::{Device, Devices};
use crate::lens::Lens;
use crate::limits;
use crate::signal::Signals;

const READ_ONLY_RETRY_MS: u64 = 30_000;

/// A draft as it came over a connection.
#[derive(Debug)]
pub struct Submission {
    pub device: Device,
    pub counter: u64,
    pub settled: u64,
    pub hash: u64,
    /// What its connection has against it is judged after its counter: the same draft may have been
    /// accepted before, when its upload was still there.
    pub draft: Result<Draft, Refusal>,
}

/// The way in to the desk thread. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Commit {
    desk: mpsc::Sender<Input>,
}

/// The desk thread, to be ended once.
#[derive(Debug)]
pub struct DeskThread {
    thread: JoinHandle<()>,
}

#[derive(Debug)]
enum Input {
    Submit(Box<Submission>),
    Register(Box<RegisterDraft>, oneshot::Sender<Result<u64, Refusal>>),
    /// The highest counter of this device that was answered.
    Highest(Device, oneshot::Sender<u64>),
    /// Somebody who could take conversations came; who is here, the bell knows.
    AgentCame,
    /// Whether there was a place for them.
    Marks(Vec<Marked>, oneshot::Sender<bool>),
    Written(Vec<Written<Ticket>>),
    /// Nothing is written any more. Only to wake the desk: `gone` says it.
    ScribeEnded,
    Stop,
}

/// The scribe's way back to the desk, which falls with it.
struct Back {
    desk: mpsc::Sender<Input>,
    gone: Arc<AtomicBool>,
}

impl Back {
    /// Only the desk thread reads this channel and it never waits for the scribe, so this cannot lock.
    fn written(&self, batch: Vec<Written<Ticket>>) {
        let _ = self.desk.blocking_send(Input::Written(batch));
    }
}

impl Drop for Back {
    fn drop(&mut self) {
        self.gone.store(true, Ordering::Release);
        // Where there is no room for it the desk has enough to wake up for.
        let _ = self.desk.try_send(Input::ScribeEnded);
    }
}

/// What travels with a group to the disk and back.
#[derive(Debug)]
struct Ticket {
    /// The durable state is made from the very bytes that were written.
    records: Vec<NewRecord>,
    reply: Reply,
    audience: Vec<Person>,
}

#[derive(Debug)]
enum Reply {
    Device { device: Device, counter: u64, answer: usize },
    Register(oneshot::Sender<Result<u64, Refusal>>, u64),
    Nobody,
}

impl Commit {
    /// Replays the log and starts the desk thread, and the scribe behind it if the log may be written.
    pub fn start(
        log: &Log,
        lens: Arc<Lens>,
        bell: Arc<Bell>,
        signals: &Signals,
        projection: Arc<Notify>,
        poisoned: impl FnOnce(Error) + Send + 'static,
    ) -> Result<(Commit, DeskThread), Error> {
        let (sender, inputs) = mpsc::channel(limits::DESK_QUEUE_MAX);
        let (state, devices) = replay(log, &lens, signals)?;
        let gone = Arc::new(AtomicBool::new(false));
        let back = Back { desk: sender.clone(), gone: Arc::clone(&gone) };
        let written = move |batch| back.written(batch);
        let scribe = match log.refusal() {
            None => Some(log.scribe(written, poisoned)?),
            Some(_) => None,
        };
        let desk = Desk { state, devices, scribe, gone, lens, bell, projection, in_flight: 0 };
        let thread = thread::Builder::new().name("desk".into()).spawn(move || desk.run(inputs));
        let thread =
            thread.map_err(|source| Error::io("start the desk thread", "desk".as_ref(), source))?;
        Ok((Commit { desk: sender }, DeskThread { thread }))
    }

    /// Hands a draft in. Its answer comes through the bell, to whichever connection its device has then.
    pub async fn submit(&self, submission: Submission) {
        // Without a desk the process is ending; the client keeps the draft and sends it again.
        let _ = self.desk.send(Input::Submit(Box::new(submission))).await;
    }

    /// Changes the register; the number of the row, once it is durable and can be asked for.
    pub async fn register(&self, draft: RegisterDraft) -> Result<u64, Refusal> {
        let (reply, answer) = oneshot::channel();
        let _ = self.desk.send(Input::Register(Box::new(draft), reply)).await;
        answer.await.unwrap_or_else(|_| Err(Refusal::new(RefusalCode::NotReady)))
    }

    /// The highest counter of this device that was answered, for HELLO_OK.
    pub async fn highest(&self, device: Device) -> u64 {
        let (reply, answer) = oneshot::channel();
        let _ = self.desk.send(Input::Highest(device, reply)).await;
        answer.await.unwrap_or(0)
    }

    /// An agent came: conversations that wait are given out.
    pub async fn agent_came(&self) {
        let _ = self.desk.send(Input::AgentCame).await;
    }

    /// Writes marks down. They ring nobody: who is here was told. False: there is no place for them now.
    pub async fn marks(&self, marks: Vec<Marked>) -> bool {
        let (reply, answer) = oneshot::channel();
        let _ = self.desk.send(Input::Marks(marks, reply)).await;
        answer.await.unwrap_or(false)
    }

    /// Takes nothing more, writes what was taken, unless the disk is full, and ends the desk thread.
    pub async fn stop(&self, desk: DeskThread) {
        let _ = self.desk.send(Input::Stop).await;
        let _ = tokio::task::spawn_blocking(move || desk.thread.join()).await;
    }
}

/// Both states from the same records, in one walk over the log.
fn replay(log: &Log, lens: &Lens, signals: &Signals) -> Result<(State, Devices), Error> {
    let mut state = State::default();
    let mut devices = Devices::default();
    for record in log.scan(Position(0)) {
        // What damage swallowed cannot be taken into account. The scan has made it the log's refusal.
        let record = match record {
            Err(Error::Corrupt { .. }) => continue,
            record => record?,
        };
        let (place, kind, time_ms) = (record.place, record.kind, record.time_ms);
        lens.apply(&record);
        let Some(entry) = entry::read(kind, record.body()) else {
            signals.restore(&entry::read_marks(kind, record.body()).unwrap_or_default());
            state.advance(place, time_ms, 0);
            continue;
        };
        state.apply(place, time_ms, 0, entry);
        let (Some(origin), Place::Conversation { conversation, lane, seq }) =
            (entry.origin.as_ref(), place)
        else {
            continue;
        };
        let device = Device { person: entry.author.get(), id: origin.device };
        let answer = Answer {
            conversation: inside(conversation),
            lane: wire_lane(lane),
            seq,
            position: record.position.0,
            time_ms,
        };
        devices.replay(
            device,
            origin.counter.to_native(),
            origin.settled.to_native(),
            origin.hash.to_native(),
            answer,
        );
    }
    Ok((state, devices))
}

struct Desk {
    state: State,
    devices: Devices,
    /// None: nothing may be written.
    scribe: Option<Scribe<Ticket>>,
    /// The scribe has ended, and everything it wrote was handed back.
    gone: Arc<AtomicBool>,
    lens: Arc<Lens>,
    bell: Arc<Bell>,
    /// Told when the register moved.
    projection: Arc<Notify>,
    /// Groups that the scribe has and that have not come back.
    in_flight: usize,
}

impl Desk {
    fn run(mut self, mut inputs: mpsc::Receiver<Input>) {
        // A desk that panics has a state that nobody may trust: the process ends and the log decides.
        let _bomb = AbortOnPanic;
        let mut stopping = false;
        loop {
            // What a full disk kept waiting does not come back from a scribe that has ended.
            let ended = stopping && self.gone.load(Ordering::Acquire);
            let input = if ended { inputs.try_recv().ok() } else { inputs.blocking_recv() };
            let Some(input) = input else { break };
            match input {
                Input::Submit(submission) if !stopping => self.submit(*submission),
                Input::Register(draft, reply) if !stopping => self.register(*draft, reply),
                Input::Marks(marks, reply) if !stopping => drop(reply.send(self.mark(marks))),
                Input::Submit(_) | Input::Register(..) | Input::Marks(..) => {}
                Input::Highest(device, reply) => {
                    let _ = reply.send(self.devices.highest(device));
                }
                Input::AgentCame => self.give_out(),
                Input::Written(batch) => self.written(batch),
                Input::ScribeEnded => {}
                Input::Stop => {
                    stopping = true;
                    if let Some(scribe) = &self.scribe {
                        scribe.shut();
                    }
                }
            }
            if stopping && self.in_flight == 0 {
                break;
            }
        }
        if let Some(scribe) = self.scribe {
            scribe.close();
        }
    }

    fn submit(&mut self, submission: Submission) {
        let Submission { device, counter, settled, hash, draft } = submission;
        let outcome = match self.devices.check(device, counter, settled, hash) {
            Verdict::InFlight => return, // its answer comes by itself, to the device's newest connection
            Verdict::Again(answer) => Ok(Accepted {
                conversation: outside_of(answer.conversation),
                lane: log_lane(answer.lane),
                seq: answer.seq,
                position: answer.position,
                time_ms: answer.time_ms,
            }),
            // What the counters miss may stand where the damage is.
            _ if self.scribe.is_none() => Err(read_only()),
            Verdict::Refused(refusal) => Err(refusal),
            Verdict::New => match self.accept(device, counter, settled, hash, draft) {
                Ok(()) => return,
                Err(refusal) => {
                    self.devices.refuse(device, counter, hash, &refusal);
                    Err(refusal)
                }
            },
        };
        self.bell.settle(device.person, &device.id, Settled { counter, outcome });
    }

    fn accept(
        &mut self,
        device: Device,
        counter: u64,
        settled: u64,
        hash: u64,
        draft: Result<Draft, Refusal>,
    ) -> Result<(), Refusal> {
        let place = self.reserve()?;
        let group = desk::admit(&self.state, &self.bell.agents(), draft?)?;
        self.devices.reserve(device, counter, hash);
        let origin = Origin { device: device.id, counter, settled, hash };
        let answer = group.answer;
        let reply = Reply::Device { device, counter, answer };
        self.hand_over(place, group, Some(origin), reply);
        Ok(())
    }

    fn register(&mut self, draft: RegisterDraft, reply: oneshot::Sender<Result<u64, Refusal>>) {
        let admitted = self.reserve().and_then(|place| {
            desk::admit_register(&self.state, draft).map(|(number, body)| (place, number, body))
        });
        let (place, number, body) = match admitted {
            Ok(admitted) => admitted,
            Err(refusal) => return drop(reply.send(Err(refusal))),
        };
        let entry = Entry { author: Person::System, origin: None, body };
        let record = entry.record(Place::Register, now_ms());
        self.take_into_account(&record);
        let ticket = Ticket {
            records: vec![record.clone()],
            reply: Reply::Register(reply, number),
            audience: Vec::new(),
        };
        self.in_flight += 1;
        place.append(vec![record], ticket);
        self.give_out();
    }

    fn mark(&mut self, marks: Vec<Marked>) -> bool {
        let Ok(place) = self.reserve() else { return false };
        let record = entry::marks_record(marks, now_ms());
        let ticket =
            Ticket { records: vec![record.clone()], reply: Reply::Nobody, audience: Vec::new() };
        self.in_flight += 1;
        place.append(vec![record], ticket);
        true
    }

    /// Gives waiting conversations to agents who are there, until nobody waits or nobody can.
    fn give_out(&mut self) {
        let online = self.bell.agents();
        while let Some(group) = desk::assign_waiting(&self.state, &online) {
            let Ok(place) = self.reserve() else { return };
            self.hand_over(place, group, None, Reply::Nobody);
        }
    }

    fn hand_over(
        &mut self,
        place: Reservation<Ticket>,
        group: Group,
        origin: Option<Origin>,
        reply: Reply,
    ) {
        let conversation = group.conversation;
        let time_ms = now_ms();
        let mut records = Vec::with_capacity(group.entries.len());
        for (index, new) in group.entries.into_iter().enumerate() {
            let head =
                self.state.conversations.get(&conversation).map_or(0, |it| it.head(new.lane));
            let place = Place::Conversation { conversation, lane: new.lane, seq: head + 1 };
            let origin = origin.filter(|_| index == group.answer);
            let entry = Entry { author: new.author, origin, body: new.body };
            let record = entry.record(place, time_ms);
            self.take_into_account(&record);
            records.push(record);
        }
        let audience = self.state.conversations.get(&conversation);
        let audience = audience.map(|it| it.members().collect()).unwrap_or_default();
        self.in_flight += 1;
        place.append(records.clone(), Ticket { records, reply, audience });
    }

    fn take_into_account(&mut self, record: &NewRecord) {
        if let Some(entry) = entry::read(record.kind, &record.body) {
            self.state.apply(record.place, record.time_ms, 0, entry);
        }
    }

    /// What was handed over is durable and readable: settle, then ring.
    fn written(&mut self, batch: Vec<Written<Ticket>>) {
        self.in_flight = self.in_flight.saturating_sub(batch.len());
        for Written { ticket, first, .. } in batch {
            let mut positions = Vec::with_capacity(ticket.records.len());
            let mut position = first.0;
            for record in &ticket.records {
                self.lens.apply_new(record, Position(position));
                positions.push(position);
                position += record.frame_bytes();
            }
            match ticket.reply {
                Reply::Device { device, counter, answer } => {
                    let record = ticket.records.get(answer).zip(positions.get(answer));
                    if let Some((record, position)) = record {
                        self.settle(device, counter, record, *position);
                    }
                }
                Reply::Register(reply, number) => {
                    self.projection.notify_one();
                    drop(reply.send(Ok(number)));
                }
                Reply::Nobody => {}
            }
            let first = ticket.records.first().map(|record| record.place);
            if let Some(Place::Conversation { conversation, .. }) = first {
                self.bell.ring(&ticket.audience, conversation, Position(position));
            }
        }
    }

    fn settle(&mut self, device: Device, counter: u64, record: &NewRecord, position: u64) {
        let Place::Conversation { conversation, lane, seq } = record.place else { return };
        let time_ms = record.time_ms;
        let answer = Answer {
            conversation: inside(conversation),
            lane: wire_lane(lane),
            seq,
            position,
            time_ms,
        };
        self.devices.accept(device, counter, answer);
        let accepted = Accepted { conversation, lane, seq, position, time_ms };
        self.bell.settle(device.person, &device.id, Settled { counter, outcome: Ok(accepted) });
    }

    fn reserve(&self) -> Result<Reservation<Ticket>, Refusal> {
        let scribe = self.scribe.as_ref().ok_or_else(read_only)?;
        scribe.reserve().map_err(|why| match why {
            NoPlace::Busy => Refusal::after(RefusalCode::Busy, 200),
            NoPlace::Full => Refusal::after(RefusalCode::Full, 1_000),
            NoPlace::Poisoned | NoPlace::Closed => Refusal::after(RefusalCode::ReadOnly, 1_000),
        })
    }
}

/// It stays so until somebody has looked at the machine, so nobody needs to knock every second.
fn read_only() -> Refusal {
    Refusal::after(RefusalCode::ReadOnly, READ_ONLY_RETRY_MS)
}

/// Ends the process when its thread unwinds.
struct AbortOnPanic;

impl Drop for AbortOnPanic {
    fn drop(&mut self) {
        if thread::panicking() {
            std::process::abort();
        }
    }
}

/// The counters keep an answer's conversation as 16 bytes; inside, these are its number.
fn inside(conversation: u64) -> [u8; 16] {
    u128::from(conversation).to_le_bytes()
}

fn outside_of(id: [u8; 16]) -> u64 {
    u128::from_le_bytes(id) as u64
}

pub fn wire_lane(lane: Lane) -> lodge_proto::frame::Lane {
    match lane {
        Lane::Public => lodge_proto::frame::Lane::Public,
        Lane::Staff => lodge_proto::frame::Lane::Staff,
    }
}

pub fn log_lane(lane: lodge_proto::frame::Lane) -> Lane {
    match lane {
        lodge_proto::frame::Lane::Public => Lane::Public,
        lodge_proto::frame::Lane::Staff => Lane::Staff,
    }
}

/// Shown to people and kept in records; order and dedup never depend on it.
pub fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use lodge_storage::disk::{Disk, RealDisk, SimDisk};
    use lodge_storage::{Options, Store};

    use super::*;
    use crate::bell::Ear;
    use crate::desk::register::{Role, SiteSettings};
    use crate::desk::{Asked, By};
    use crate::follow::{Public, Staff};

    const DEVICE: [u8; 16] = [7; 16];
    const VISITOR: Person = Person::Visitor(42);

    struct House {
        store: Store,
        commit: Commit,
        desk: Option<DeskThread>,
        lens: Arc<Lens>,
        bell: Arc<Bell>,
        signals: Signals,
        ear: Arc<Ear>,
    }

    impl House {
        fn open(dir: &Path) -> House {
            House::open_on(Arc::new(RealDisk), dir)
        }

        fn open_on(disk: Arc<dyn Disk>, dir: &Path) -> House {
            let small = Options {
                segment_bytes: 1 << 20,
                first_segment_bytes: 1 << 20,
                ..Options::default()
            };
            let store = Store::open(disk, dir, &small, &mut |_| {}).unwrap();
            let (lens, bell) = (Arc::new(Lens::default()), Arc::new(Bell::default()));
            let signals = Signals::default();
            let (ear, _) = bell.register(VISITOR, DEVICE, 1).unwrap();
            let (commit, desk) = Commit::start(
                &store.log,
                Arc::clone(&lens),
                Arc::clone(&bell),
                &signals,
                Arc::default(),
                |error| panic!("{error}"),
            )
            .unwrap();
            House { store, commit, desk: Some(desk), lens, bell, signals, ear }
        }

        async fn open_with_site(dir: &Path) -> House {
            House::open(dir).with_site().await
        }

        async fn with_site(self) -> House {
            let house = self;
            let (app, name) = ("shop".to_owned(), "Shop".to_owned());
            let settings = SiteSettings::default();
            let site = RegisterDraft::SiteCreated { app, name, settings };
            assert_eq!(house.commit.register(site).await, Ok(1));
            let (login, name) = ("ann".to_owned(), "Ann".to_owned());
            let agent = RegisterDraft::AgentCreated { login, name, role: Role::Agent };
            assert_eq!(house.commit.register(agent).await, Ok(1));
            house
        }

        async fn say(&self, counter: u64, settled: u64, text: &str) {
            let by = By::Visitor {
                person: 42,
                site: 1,
                name: String::new(),
                vouched: false,
                page: String::new(),
            };
            let draft = Draft {
                by,
                conversation: None,
                lane: Lane::Public,
                asked: Asked::Text(text.into()),
            };
            let device = Device { person: VISITOR, id: DEVICE };
            let hash = text.len() as u64;
            let draft = Ok(draft);
            self.commit.submit(Submission { device, counter, settled, hash, draft }).await;
        }

        async fn answer(&self) -> Settled {
            loop {
                self.ear.listen().await;
                if let Some(settled) = self.ear.take().settled.pop() {
                    return settled;
                }
            }
        }

        async fn close(mut self) {
            if let Some(desk) = self.desk.take() {
                self.commit.stop(desk).await;
            }
        }

        fn texts(&self) -> Vec<String> {
            let follow = Public::new(self.store.log.clone());
            let records = follow.page(1, 0, 100).unwrap();
            let text =
                |record: &lodge_storage::Record| match &entry::read(record.kind, record.body())
                    .unwrap()
                    .body
                {
                    entry::ArchivedBody::Text(text) => Some(text.as_str().to_owned()),
                    _ => None,
                };
            records.iter().filter_map(text).collect()
        }
    }

    #[tokio::test]
    async fn a_draft_is_durable_readable_and_settled_and_its_retry_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let house = House::open_with_site(dir.path()).await;
        house.say(1, 1, "hello").await;
        let first = house.answer().await;
        let accepted = first.outcome.clone().unwrap();
        assert_eq!((accepted.conversation, accepted.seq), (1, 2), "OPENED is 1");
        house.say(1, 1, "hello").await;
        assert_eq!(house.answer().await, first, "the first answer again");
        house.say(1, 1, "something else").await;
        let cloned = house.answer().await.outcome.unwrap_err();
        assert_eq!(cloned.code, RefusalCode::DeviceCloned);
        assert_eq!(house.texts(), ["hello"]);
        house.close().await;

        // After a restart the log alone answers the same.
        let house = House::open(dir.path());
        house.say(1, 1, "hello").await;
        assert_eq!(house.answer().await, first);
        house.say(2, 2, "and on").await;
        assert_eq!(house.answer().await.outcome.unwrap().seq, 3);
        assert_eq!(house.texts(), ["hello", "and on"]);
        house.close().await;
    }

    #[tokio::test]
    async fn a_full_disk_keeps_nobody_from_stopping() {
        let disk = SimDisk::new(1);
        let dir = Path::new("/store");
        let house = House::open_on(Arc::new(disk.clone()), dir).with_site().await;
        disk.set_capacity_bytes(disk.used_bytes());
        let mut said = Vec::new();
        let log = house.store.log.clone();
        loop {
            let text = format!("{} {}", said.len(), "word ".repeat(200));
            let counter = said.len() as u64 + 1;
            house.say(counter, counter, &text).await;
            // The one that finds no room waits for some, and is never answered.
            let stuck = async {
                while log.no_room().is_none() {
                    tokio::task::yield_now().await;
                }
            };
            tokio::select! {
                settled = house.answer() => assert!(settled.outcome.is_ok()),
                () = stuck => break,
            }
            said.push(text);
        }
        drop(log);
        house.close().await;

        disk.heal();
        let house = House::open_on(Arc::new(disk.clone()), dir);
        let head = house.store.log.head(1, Lane::Public);
        assert_eq!(head, said.len() as u64 + 1, "OPENED and what was answered, and nothing else");
        house.close().await;
    }

    #[tokio::test]
    async fn a_damaged_log_is_served_and_no_draft_is_refused_for_good() {
        let dir = tempfile::tempdir().unwrap();
        let house = House::open_with_site(dir.path()).await;
        let mut answers = Vec::new();
        for (counter, text) in [(1, "first"), (2, "in the hole"), (3, "third")] {
            house.say(counter, 1, text).await;
            answers.push(house.answer().await);
        }
        house.close().await;
        let path = dir.path().join("log/00000001.seg");
        let mut bytes = std::fs::read(&path).unwrap();
        let hole = bytes.windows(11).position(|it| it == b"in the hole").unwrap();
        bytes[hole] ^= 1;
        std::fs::write(&path, &bytes).unwrap();

        let house = House::open(dir.path());
        assert!(matches!(house.store.log.refusal(), Some(Error::Corrupt { segment: 1, .. })));
        assert_eq!(house.texts(), ["third"], "a page ends where the damage is");
        assert_eq!(house.lens.agents().len(), 1);
        house.say(1, 1, "first").await;
        assert_eq!(house.answer().await, answers[0], "what is known to be there is said again");
        // The second was accepted and nobody knows it any more; the fourth is new.
        for (counter, text) in [(2, "in the hole"), (4, "fourth")] {
            house.say(counter, 1, text).await;
            let refused = house.answer().await.outcome.unwrap_err();
            assert_eq!(refused.code, RefusalCode::ReadOnly, "{text}");
        }
        let (login, name) = ("bob".to_owned(), "Bob".to_owned());
        let agent = RegisterDraft::AgentCreated { login, name, role: Role::Agent };
        let refused = house.commit.register(agent).await.unwrap_err();
        assert_eq!(refused.code, RefusalCode::ReadOnly);
        house.close().await;
        assert_eq!(std::fs::read(&path).unwrap(), bytes);
    }

    #[tokio::test]
    async fn refusals_leave_no_trace_in_the_log() {
        let dir = tempfile::tempdir().unwrap();
        let house = House::open_with_site(dir.path()).await;
        let before = house.store.log.watermark();
        house.say(1, 1, "   ").await;
        let refused = house.answer().await.outcome.unwrap_err();
        assert_eq!(refused.code, RefusalCode::TextEmpty);
        house.say(3, 1, "too early").await;
        let gap = house.answer().await.outcome.unwrap_err();
        assert_eq!(gap.code, RefusalCode::CounterGap);
        assert_eq!(house.lens.conversation_count(), 0);
        assert!(house.store.log.scan(before).next().is_none());
        house.close().await;
    }

    #[tokio::test]
    async fn an_agent_who_comes_online_gets_who_waits_and_hears_of_it() {
        let dir = tempfile::tempdir().unwrap();
        let house = House::open_with_site(dir.path()).await;
        house.say(1, 1, "anybody there?").await;
        house.answer().await.outcome.unwrap();
        assert_eq!(house.lens.conversation(1).unwrap().assignee, None);
        let (agent, _) = house.bell.register(Person::Agent(1), [9; 16], 1).unwrap();
        house.commit.agent_came().await;
        agent.listen().await;
        assert!(agent.take().conversations.contains(&1));
        assert_eq!(house.lens.conversation(1).unwrap().assignee, Some(1));
        house.close().await;
    }

    /// What a visitor of their own asks, from a device of their own.
    fn said_by(person: u64, counter: u64, text: &str) -> Submission {
        let by = By::Visitor {
            person,
            site: 1,
            name: String::new(),
            vouched: false,
            page: String::new(),
        };
        let asked = Asked::Text(text.to_owned());
        let draft = Draft { by, conversation: None, lane: Lane::Public, asked };
        let device = Device { person: Person::Visitor(person), id: [person as u8; 16] };
        Submission { device, counter, settled: counter, hash: 7, draft: Ok(draft) }
    }

    /// A cursor that moved to the watermark, past records whose ring was still on its way, skipped them
    /// for ever: of two conversations written in one batch an agent saw only the first.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_follower_of_many_conversations_skips_nothing_between_two_rings() {
        const VISITORS: u64 = 40;
        const TEXTS: u64 = 50;
        let dir = tempfile::tempdir().unwrap();
        let house = House::open_with_site(dir.path()).await;
        let (ear, _) = house.bell.register(Person::Agent(1), [9; 16], 1).unwrap();
        let follow = Staff::new(house.store.log.clone());
        let follower = async {
            let (mut cursor, mut seen) = (Position(0), BTreeSet::new());
            while seen.len() < (VISITORS * TEXTS) as usize {
                ear.listen().await;
                let rung = ear.take();
                for number in rung.conversations {
                    for record in follow.since(number, cursor, rung.upto, 10_000).unwrap() {
                        let entry = entry::read(record.kind, record.body()).unwrap();
                        if let entry::ArchivedBody::Text(text) = &entry.body {
                            assert!(seen.insert(text.as_str().to_owned()), "{text} came twice");
                        }
                    }
                }
                cursor = cursor.max(rung.upto);
            }
        };
        let speakers = async {
            for counter in 1..=TEXTS {
                for person in 100..100 + VISITORS {
                    let text = format!("{person} says {counter}");
                    house.commit.submit(said_by(person, counter, &text)).await;
                }
            }
        };
        let patience = std::time::Duration::from_secs(60);
        let both = tokio::time::timeout(patience, async { tokio::join!(follower, speakers) });
        assert!(both.await.is_ok(), "an entry was never rung for, or skipped");
        house.close().await;
    }

    /// The ring of what is durable may come late, so a cursor that begins at the watermark would never
    /// see it: it begins where the lens stands, which only knows what is rung for next.
    #[tokio::test]
    async fn the_lens_stands_at_what_was_rung_for_and_never_before_its_entries() {
        let dir = tempfile::tempdir().unwrap();
        let house = House::open_with_site(dir.path()).await;
        house.say(1, 1, "hello").await;
        house.answer().await.outcome.unwrap();
        let (moved, _, upto) = house.lens.moved_since(VISITOR, 0, 10);
        assert_eq!(moved, [1]);
        assert!(upto <= house.store.log.watermark());
        let follow = Public::new(house.store.log.clone());
        let texts = follow.since(1, Position(0), upto, 10).unwrap();
        assert_eq!(texts.len(), 2, "OPENED and the text");
        let end = house.lens.moved_since(VISITOR, upto.0, 10);
        assert_eq!(end, (Vec::new(), false, upto), "nothing is behind it");
        drop((follow, texts));
        house.close().await;

        let again = House::open(dir.path());
        assert_eq!(again.lens.moved_since(VISITOR, 0, 10), (vec![1], false, upto));
        again.close().await;
    }

    /// An upload's ticket ends, and with it its draft was refused before anybody looked whether that
    /// draft had been accepted: the author was told that it failed, and sent it twice.
    #[tokio::test]
    async fn a_retry_whose_upload_is_gone_gets_its_first_answer() {
        let dir = tempfile::tempdir().unwrap();
        let house = House::open_with_site(dir.path()).await;
        house.say(1, 1, "hello").await;
        let first = house.answer().await;
        let device = Device { person: VISITOR, id: DEVICE };
        let gone = |counter, hash| {
            let draft = Err(Refusal::new(RefusalCode::UploadUnknown));
            house.commit.submit(Submission { device, counter, settled: counter, hash, draft })
        };
        gone(1, "hello".len() as u64).await;
        assert_eq!(house.answer().await, first);
        gone(2, 7).await;
        let refused = house.answer().await.outcome.unwrap_err();
        assert_eq!(refused.code, RefusalCode::UploadUnknown);
        house.say(3, 1, "and on").await;
        assert!(house.answer().await.outcome.is_ok(), "the refusal has taken its number");
        house.close().await;
    }

    /// After a restart an agent saw no "read" until the visitor came back.
    #[tokio::test]
    async fn marks_outlive_the_server_and_wake_nobody() {
        let dir = tempfile::tempdir().unwrap();
        let house = House::open_with_site(dir.path()).await;
        house.say(1, 1, "hello").await;
        house.answer().await.outcome.unwrap();
        let (_, _, before) = house.lens.moved_since(VISITOR, 0, 10);
        house.ear.take();
        let mark = crate::signal::Mark { delivered: 2, read: 2 };
        let members = [VISITOR, Person::Agent(1)];
        house.signals.mark(&house.bell, &members, 1, Person::Agent(1), 2, mark);
        assert!(house.commit.marks(house.signals.unwritten(10)).await);
        // The desk answers in order: what was written before this is durable.
        house.say(2, 2, "and on").await;
        assert_eq!(house.answer().await.outcome.unwrap().seq, 3);
        let (moved, _, _) = house.lens.moved_since(VISITOR, before.0, 10);
        assert_eq!(moved, [1], "only the text moved it");
        house.close().await;

        let again = House::open(dir.path());
        assert_eq!(again.signals.marks(1), [(Person::Agent(1), mark)]);
        assert_eq!(again.texts(), ["hello", "and on"]);
        again.close().await;
    }

    /// Two connections of one agent, one that ends and one that begins, told the desk so in any order.
    #[tokio::test]
    async fn who_is_here_is_what_the_bell_says_whatever_was_told_last() {
        let dir = tempfile::tempdir().unwrap();
        let house = House::open_with_site(dir.path()).await;
        let (old, _) = house.bell.register(Person::Agent(1), [9; 16], 1).unwrap();
        let (_new, _) = house.bell.register(Person::Agent(1), [9; 16], 2).unwrap();
        assert!(!house.bell.leave(&old).changed);
        house.say(1, 1, "anybody there?").await;
        house.answer().await.outcome.unwrap();
        assert_eq!(house.lens.conversation(1).unwrap().assignee, Some(1));
        house.close().await;
    }
}
