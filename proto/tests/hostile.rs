//! Client and server sessions in memory, virtual time, and a link that breaks at any moment: every draft
//! that was accepted stands once and in order, and every client is told exactly that.
//!
//! The desk here is a model: a list of durable rows, a list of rows on their way to the disk, and the
//! counters. A restart forgets all but the first. Old connections keep delivering what was on the wire.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "the model fails by panicking")]

use std::collections::{BTreeMap, VecDeque};

use lodge_proto::client::{Client, Device, News};
use lodge_proto::counters::{Answer, Counters, Verdict};
use lodge_proto::frame::{DraftBody, EntryBody, Lane, Outcome, PersonKind, down};
use lodge_proto::session::{Draft, Event, Session, Target};
use lodge_proto::{Batch, Down, Encoding, Epoch, Id, PersonHandle, Refusal, RefusalCode};

const ROUNDS: u64 = 300;
const STEPS: u64 = 400;
const CLIENTS: usize = 3;
/// The author of what a copied device wrote.
const COPY: usize = usize::MAX;
const CONVERSATION: Id = [7; 16];

#[test]
fn every_accepted_draft_stands_once_and_in_order() {
    for seed in 0..ROUNDS {
        let mut world = World::new(seed);
        for _ in 0..STEPS {
            world.step();
        }
        world.settle();
        world.check();
    }
}

/// The link without chance: what is under test is the model's own quiet end.
#[test]
fn a_quiet_link_settles_everything() {
    let mut world = World::new(1);
    (0..CLIENTS).for_each(|client| (0..100).for_each(|_| world.write_draft(client, false)));
    world.settle();
    world.check();
    assert_eq!(world.durable.len(), 100 * CLIENTS);
}

struct World {
    seed: u64,
    chance: u64,
    now_ms: u64,
    clients: Vec<Peer>,
    connections: Vec<Connection>,
    durable: Vec<Row>,
    /// Drafts of whoever runs a copy of a device.
    copies: Vec<Row>,
    on_their_way: Vec<Row>,
    counters: BTreeMap<Id, Counters>,
    generations: BTreeMap<Id, u64>,
}

struct Peer {
    client: Client,
    renewals: u8,
    /// The index in `connections`.
    connection: Option<usize>,
    /// Texts in the order in which they were written, by the counter of the device then in use.
    written: Vec<String>,
    waiting: BTreeMap<u64, String>,
    refused: Vec<String>,
    wrongly_refused: Vec<(String, Refusal)>,
    accepted: Vec<(String, Answer)>,
    seen: Vec<(u64, String)>,
}

struct Connection {
    session: Session,
    owner: usize,
    device: Option<Id>,
    up: VecDeque<Vec<u8>>,
    down: VecDeque<Vec<u8>>,
    /// Index of the next durable row that this connection was not sent.
    cursor: usize,
    open: bool,
}

#[derive(Clone)]
struct Row {
    device: Id,
    counter: u64,
    settled: u64,
    hash: u64,
    text: String,
    author: usize,
    answer: Answer,
}

impl World {
    fn new(seed: u64) -> World {
        let encoding = |index| if index == 0 { Encoding::Json } else { Encoding::Binary };
        let peer = |index| Peer {
            client: Client::new(encoding(index), Device::new([index as u8 + 1; 16])),
            renewals: 0,
            connection: None,
            written: Vec::new(),
            waiting: BTreeMap::new(),
            refused: Vec::new(),
            wrongly_refused: Vec::new(),
            accepted: Vec::new(),
            seen: Vec::new(),
        };
        World {
            seed,
            chance: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
            now_ms: 0,
            clients: (0..CLIENTS).map(peer).collect(),
            connections: Vec::new(),
            durable: Vec::new(),
            copies: Vec::new(),
            on_their_way: Vec::new(),
            counters: BTreeMap::new(),
            generations: BTreeMap::new(),
        }
    }

    fn pick(&mut self, below: u64) -> u64 {
        self.chance ^= self.chance << 13;
        self.chance ^= self.chance >> 7;
        self.chance ^= self.chance << 17;
        self.chance % below
    }

    fn step(&mut self) {
        self.now_ms += self.pick(40);
        let client = self.pick(CLIENTS as u64) as usize;
        match self.pick(100) {
            0..20 => {
                let bad = self.pick(8) == 0;
                self.write_draft(client, bad);
            }
            20..25 => self.break_connection(client),
            25..27 => self.restart(),
            27..40 => self.sync(),
            40..42 => self.duplicate_up(),
            42..44 => self.clone_device(client),
            _ => self.move_bytes(true),
        }
    }

    /// No more faults until nothing is left to do.
    fn settle(&mut self) {
        for _ in 0..100_000 {
            self.now_ms += 50;
            self.move_bytes(false);
            self.sync();
            let quiet = self
                .clients
                .iter()
                .all(|peer| peer.client.unsettled() == 0 && peer.seen.len() == self.durable.len());
            if quiet && self.on_their_way.is_empty() {
                return;
            }
        }
        let left: Vec<_> = self.clients.iter().map(Peer::progress).collect();
        panic!("seed {}: never quiet with {} rows: {left:?}", self.seed, self.durable.len());
    }

    fn check(&self) {
        let seed = self.seed;
        let log: Vec<(u64, String)> =
            self.durable.iter().map(|row| (row.answer.seq, row.text.clone())).collect();
        for (index, peer) in self.clients.iter().enumerate() {
            let mine = self.durable.iter().filter(|row| row.author == index);
            let mut stands: Vec<&str> = mine.map(|row| row.text.as_str()).collect();
            let mut expected: Vec<&str> = peer
                .written
                .iter()
                .filter(|text| !peer.refused.contains(text))
                .map(String::as_str)
                .collect();
            if peer.renewals > 0 {
                // What was sent behind the draft that met its copy may have been accepted before it.
                stands.sort_unstable();
                expected.sort_unstable();
            }
            assert_eq!(
                stands, expected,
                "seed {seed}: client {index}: log against what was written"
            );
            assert_eq!(peer.seen, log, "seed {seed}: client {index}: entries against the log");
            assert_eq!(peer.accepted.len(), expected.len(), "seed {seed}: client {index}");
            for (text, answer) in &peer.accepted {
                let row = self.durable.iter().find(|row| row.text == *text).unwrap();
                assert_eq!(row.answer, *answer, "seed {seed}: client {index}: {text}");
            }
            assert!(peer.wrongly_refused.is_empty(), "seed {seed}: {:?}", peer.wrongly_refused);
        }
    }

    fn write_draft(&mut self, client: usize, bad: bool) {
        let peer = &mut self.clients[client];
        let kind = if bad { "bad" } else { "good" };
        let text = format!("{client}: {kind} {}", peer.written.len());
        let conversation = if client == 0 { Target::Mine } else { Target::Id(CONVERSATION) };
        let body = DraftBody::Text { text: &text };
        if let Ok(counter) = peer.client.draft(conversation, Lane::Public, &body) {
            peer.written.push(text.clone());
            peer.waiting.insert(counter, text);
        }
    }

    /// The client gives its connection up; the server goes on hearing what was already on the wire.
    fn break_connection(&mut self, client: usize) {
        if let Some(index) = self.clients[client].connection.take() {
            self.connections[index].down.clear();
            if self.pick(2) == 0 {
                self.connections[index].open = false;
            }
        }
    }

    fn restart(&mut self) {
        self.on_their_way.clear();
        self.generations.clear();
        self.counters.clear();
        let mut rows: Vec<&Row> = self.durable.iter().chain(&self.copies).collect();
        rows.sort_by_key(|row| row.counter);
        for row in rows {
            let counters = self.counters.entry(row.device).or_default();
            counters.replay(row.counter, row.settled, row.hash, row.answer);
        }
        self.connections.iter_mut().for_each(|connection| connection.open = false);
        self.clients.iter_mut().for_each(|peer| peer.connection = None);
    }

    fn sync(&mut self) {
        for row in std::mem::take(&mut self.on_their_way) {
            if let Some(counters) = self.counters.get_mut(&row.device) {
                counters.accept(row.counter, row.answer);
            }
            if row.author == COPY {
                self.copies.push(row);
                continue;
            }
            let (device, counter, answer) = (row.device, row.counter, row.answer);
            self.durable.push(row);
            self.tell(device, counter, Ok(answer));
        }
    }

    /// A request that was tried again: the server reads the same batch twice.
    fn duplicate_up(&mut self) {
        let live: Vec<usize> = (0..self.connections.len())
            .filter(|&index| self.connections[index].device.is_some())
            .collect();
        if !live.is_empty() {
            let index = live[self.pick(live.len() as u64) as usize];
            let up = &mut self.connections[index].up;
            if let Some(first) = up.front().cloned() {
                up.push_front(first);
            }
        }
    }

    /// Somebody else used the device's next counter, for another body.
    fn clone_device(&mut self, client: usize) {
        let rarely = self.pick(4) == 0;
        let peer = &self.clients[client];
        let device = *peer.client.device();
        if rarely && peer.client.unsettled() > 0 {
            let counters = self.counters.entry(device.id).or_default();
            let counter = counters.highest() + 1;
            if counter <= device.last_counter && counters.check(counter, 0, 0xbad) == Verdict::New {
                // It stands in another conversation, which this model does not keep.
                let answer = Answer {
                    conversation: [8; 16],
                    lane: Lane::Public,
                    seq: 1,
                    position: 1,
                    time_ms: 0,
                };
                let (hash, author, text) = (0xbad, COPY, String::new());
                counters.reserve(counter, hash);
                let device = device.id;
                self.on_their_way.push(Row {
                    device,
                    counter,
                    settled: 0,
                    hash,
                    text,
                    author,
                    answer,
                });
            }
        }
    }

    fn move_bytes(&mut self, hostile: bool) {
        for client in 0..self.clients.len() {
            let skip = hostile && self.pick(3) == 0;
            if !skip {
                self.write_up(client);
                self.read_down(client);
            }
        }
        for index in 0..self.connections.len() {
            if self.connections[index].open && !(hostile && self.pick(2) == 0) {
                self.read_up(index);
                self.follow(index);
            }
        }
    }

    fn write_up(&mut self, client: usize) {
        let now_ms = self.now_ms;
        let peer = &mut self.clients[client];
        if peer.client.needs_device() {
            peer.renewals += 1;
            peer.client.renew([client as u8 + 1 + 16 * peer.renewals; 16]);
            // The outbox keeps its order under its new numbers.
            let waiting = std::mem::take(&mut peer.waiting);
            peer.waiting = (1..).zip(waiting.into_values()).collect();
            peer.connection = None;
        }
        let index = match peer.connection {
            Some(index) if self.connections[index].open => index,
            _ => {
                let hello = peer.client.open("", "");
                self.connections.push(Connection::new(client, hello));
                *peer.connection.insert(self.connections.len() - 1)
            }
        };
        if let Some(batch) = peer.client.write(now_ms) {
            self.connections[index].up.push_back(batch);
        }
    }

    fn read_down(&mut self, client: usize) {
        let now_ms = self.now_ms;
        let seed = self.seed;
        let peer = &mut self.clients[client];
        let Some(index) = peer.connection else { return };
        let Some(batch) = self.connections[index].down.pop_front() else { return };
        let Peer { client, waiting, accepted, refused, wrongly_refused, seen, .. } = peer;
        let mut gone = false;
        client
            .receive(&batch, now_ms, &mut |news| match news {
                News::Settled { counter, outcome } => {
                    let text = waiting.remove(&counter).expect("settled twice");
                    match outcome {
                        Ok(answer) => accepted.push((text, answer)),
                        Err(_) if text.contains("bad") => refused.push(text),
                        Err(refusal) => wrongly_refused.push((text, refusal)),
                    }
                }
                News::Entry(entry) => match entry.body {
                    EntryBody::Text { text } => seen.push((entry.seq, text.to_owned())),
                    other => panic!("seed {seed}: {other:?}"),
                },
                News::Refused(_) => gone = true,
                _ => {}
            })
            .unwrap();
        if gone {
            peer.connection = None;
        }
    }

    fn read_up(&mut self, index: usize) {
        let Some(batch) = self.connections[index].up.pop_front() else { return };
        let mut out = self.connections[index].session.batch();
        let mut events = Vec::new();
        let mut session =
            std::mem::replace(&mut self.connections[index].session, Session::new(Encoding::Binary));
        let read = session.receive(&batch, &mut out, &mut |event| match event {
            Event::Hello(hello) => {
                let (device, settled, cursor) = (hello.device, hello.settled, hello.cursor);
                events.push(Heard::Hello { device, settled, cursor });
            }
            Event::Draft(draft) => events.push(Heard::Draft(Kept::from(draft))),
            Event::Gap { .. } => panic!("nothing was left out, yet a client saw a gap"),
            _ => {}
        });
        let generation = session.generation();
        self.connections[index].session = session;
        read.unwrap();
        self.send(index, out);
        for event in events {
            match event {
                Heard::Hello { device, settled, cursor } => {
                    self.greet(index, device, generation, settled, cursor);
                }
                Heard::Draft(draft) => self.judge(index, generation, draft),
            }
        }
    }

    fn greet(&mut self, index: usize, device: Id, generation: u64, settled: u64, cursor: u64) {
        let newest = self.generations.entry(device).or_default();
        if generation < *newest {
            let mut out = self.connections[index].session.batch();
            lodge_proto::session::refuse(&Refusal::new(RefusalCode::Fenced), &mut out);
            self.send(index, out);
            self.connections[index].open = false;
            return;
        }
        *newest = generation;
        let counters = self.counters.entry(device).or_default();
        counters.settle(settled);
        let counter = counters.highest();
        let connection = &mut self.connections[index];
        connection.device = Some(device);
        connection.cursor = cursor as usize;
        let mut out = connection.session.batch();
        let (handle, _) = connection.session.person(device).unwrap();
        out.push(&Down::Person(down::Person {
            handle,
            id: device,
            kind: PersonKind::Visitor,
            name: "",
            online: true,
        }));
        out.push(&Down::HelloOk(down::HelloOk {
            version: 1,
            caps: 0,
            epoch: Epoch(5),
            person: handle,
            counter,
            heartbeat_ms: 25_000,
            text_max: 1,
            batch_max: 1,
            upload_max: 1,
            unsettled_max: 64,
            now_ms: 0,
            watermark: self.durable.len() as u64,
        }));
        self.send(index, out);
    }

    fn judge(&mut self, index: usize, generation: u64, draft: Kept) {
        let device = self.connections[index].device.unwrap();
        if self.generations.get(&device) != Some(&generation) {
            return;
        }
        let full = self.pick(6) == 0;
        let counters = self.counters.entry(device).or_default();
        match counters.check(draft.counter, draft.settled, draft.hash) {
            Verdict::InFlight => {}
            Verdict::Again(answer) => self.tell(device, draft.counter, Ok(answer)),
            Verdict::Refused(refusal) => self.tell(device, draft.counter, Err(refusal)),
            Verdict::New if full => {
                let busy = Refusal::after(RefusalCode::Busy, 30);
                counters.refuse(draft.counter, draft.hash, &busy);
                self.tell(device, draft.counter, Err(busy));
            }
            Verdict::New if draft.text.contains("bad") => {
                let refusal = Refusal::new(RefusalCode::NotAllowed);
                counters.refuse(draft.counter, draft.hash, &refusal);
                self.tell(device, draft.counter, Err(refusal));
            }
            Verdict::New => {
                counters.reserve(draft.counter, draft.hash);
                let ahead = self.on_their_way.iter().filter(|row| row.author != COPY).count();
                let seq = (self.durable.len() + ahead) as u64 + 1;
                let answer = Answer {
                    conversation: CONVERSATION,
                    lane: Lane::Public,
                    seq,
                    position: seq,
                    time_ms: 0,
                };
                let author = self.connections[index].owner;
                let Kept { counter, settled, hash, text } = draft;
                self.on_their_way.push(Row {
                    device,
                    counter,
                    settled,
                    hash,
                    text,
                    author,
                    answer,
                });
            }
        }
    }

    /// SETTLED goes to the newest connection of the device, whichever brought the draft.
    fn tell(&mut self, device: Id, counter: u64, outcome: Result<Answer, Refusal>) {
        let newest = self.generations.get(&device).copied();
        let Some(index) = self.connections.iter().position(|connection| {
            connection.open
                && connection.device == Some(device)
                && Some(connection.session.generation()) == newest
        }) else {
            return;
        };
        let mut out = self.connections[index].session.batch();
        let outcome = match &outcome {
            Ok(answer) => Outcome::Accepted {
                conversation: self.announce(index, &mut out),
                lane: answer.lane,
                seq: answer.seq,
                position: answer.position,
                time_ms: answer.time_ms,
            },
            Err(refusal) => Outcome::Refused {
                code: refusal.code,
                text: &refusal.text,
                retry_after_ms: refusal.retry_after_ms,
            },
        };
        out.push(&Down::Settled(down::Settled { counter, outcome }));
        self.send(index, out);
    }

    fn follow(&mut self, index: usize) {
        if self.connections[index].device.is_none() {
            return;
        }
        let from = self.connections[index].cursor;
        let upto = self.durable.len().min(from + 3);
        if from < upto {
            let mut out = self.connections[index].session.batch();
            let conversation = self.announce(index, &mut out);
            for row in &self.durable[from..upto] {
                out.push(&Down::Entry(down::Entry {
                    conversation,
                    lane: row.answer.lane,
                    seq: row.answer.seq,
                    position: row.answer.position,
                    time_ms: 0,
                    author: PersonHandle::SYSTEM,
                    body: EntryBody::Text { text: &row.text },
                }));
            }
            self.connections[index].cursor = upto;
            if self.pick(2) == 0 {
                out.push(&Down::Synced(down::Synced { cursor: upto as u64 }));
            }
            self.send(index, out);
        }
    }

    fn announce(&mut self, index: usize, out: &mut Batch) -> lodge_proto::ConversationHandle {
        let (handle, new) = self.connections[index].session.conversation(CONVERSATION).unwrap();
        if new {
            out.push(&Down::Conversation(down::Conversation {
                handle,
                id: CONVERSATION,
                site: "s",
                visitor: PersonHandle(1),
                assignee: PersonHandle(0),
                state: lodge_proto::frame::ConversationState::Open,
                public_head: 0,
                staff_head: 0,
                public_time_ms: 0,
                marks: Vec::new(),
            }));
        }
        handle
    }

    fn send(&mut self, index: usize, mut out: Batch) {
        if !out.is_empty() {
            self.connections[index].down.push_back(out.take());
        }
    }
}

enum Heard {
    Hello { device: Id, settled: u64, cursor: u64 },
    Draft(Kept),
}

struct Kept {
    counter: u64,
    settled: u64,
    hash: u64,
    text: String,
}

impl From<Draft<'_>> for Kept {
    fn from(draft: Draft<'_>) -> Kept {
        let DraftBody::Text { text } = draft.body else { panic!("only texts were written") };
        Kept {
            counter: draft.counter,
            settled: draft.settled,
            hash: draft.hash,
            text: text.to_owned(),
        }
    }
}

impl Peer {
    /// What tells a stuck client from a slow one.
    fn progress(&self) -> (usize, bool, usize, &Device) {
        let client = &self.client;
        (client.unsettled(), client.needs_device(), self.seen.len(), client.device())
    }
}

impl Connection {
    fn new(owner: usize, hello: Vec<u8>) -> Connection {
        let encoding = if owner == 0 { Encoding::Json } else { Encoding::Binary };
        Connection {
            session: Session::new(encoding),
            owner,
            device: None,
            up: VecDeque::from([hello]),
            down: VecDeque::new(),
            cursor: 0,
            open: true,
        }
    }
}
