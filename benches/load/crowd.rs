//! The peers: visitors and agents who connect, write when it is due, and look at what they are sent.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use lodge_client::{
    Body, Device, Encoding, Entry, Http, Id, Lane, Message, Proof, Settings, Talk, Target, Told,
    random_id,
};
use lodge_proto::counters::Answer;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::{Instant, sleep, sleep_until};

use crate::ledger::{Kind, Ledger, mixed, number_in};
use crate::server::Lodge;
use crate::{IMAGES_EACH_SECOND, TEXTS_EACH_SECOND};

/// Messages due at one peer and not yet handed in.
const DUE_MAX: usize = 4096;
/// Peers that come at once: a shop's doors are narrow too.
const COMING_MAX: usize = 32;
const GATHER_MAX: Duration = Duration::from_secs(300);
/// Before an upload or a download that failed is tried again.
const AGAIN: Duration = Duration::from_millis(100);
/// The longest wait of a client before it comes back.
const RETRY_MAX: Duration = Duration::from_secs(1);
/// The tag of a visitor's first message, which is not part of the load.
const FIRST: u64 = u64::MAX;

pub struct Crowd {
    pub peers: Vec<Arc<Peer>>,
    visitors: usize,
    ledger: Arc<Ledger>,
    meeting: Arc<Meeting>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

/// One device of one person.
pub struct Peer {
    number: usize,
    app: Option<String>,
    proof: Proof,
    http: Http,
    due: mpsc::Sender<Due>,
    pages: mpsc::Sender<(Id, u64, oneshot::Sender<Page>)>,
}

/// A peer that knows who it is and has not connected yet.
struct Coming {
    number: usize,
    app: Option<String>,
    proof: Proof,
    http: Http,
    settings: Settings,
}

/// One page of a conversation's public lane.
#[derive(Debug, Default)]
pub struct Page {
    pub entries: Vec<Entry>,
    pub more: bool,
}

struct Due {
    number: u64,
    conversation: Target,
    message: Message,
}

/// Who talks with whom.
#[derive(Default)]
struct Meeting(Mutex<Met>);

#[derive(Default)]
struct Met {
    /// By visitor.
    conversations: Vec<Option<Id>>,
    visitors: HashMap<Id, usize>,
    /// The peer number of a conversation's agent.
    agents: HashMap<Id, usize>,
}

impl Crowd {
    /// Everybody connects, every visitor writes a first message and gets an agent.
    pub async fn gather(
        lodge: &Lodge,
        ledger: &Arc<Ledger>,
        visitors: usize,
        agents: usize,
    ) -> Crowd {
        let meeting = Arc::new(Meeting::default());
        meeting.met(|met| met.conversations.resize(visitors, None));
        let mut crowd = Crowd {
            peers: Vec::new(),
            visitors,
            ledger: Arc::clone(ledger),
            meeting,
            tasks: Vec::new(),
        };
        let doors = Arc::new(Semaphore::new(COMING_MAX));
        // Agents come first, so that nobody waits for one. Their numbers follow those of the visitors.
        let mut coming = Vec::new();
        for number in (visitors..visitors + agents).chain(0..visitors) {
            let server = lodge.seen_by(number);
            let cookie = number.checked_sub(visitors).map(|agent| lodge.agents[agent].clone());
            let app = cookie.is_none().then(|| lodge.app.clone());
            let doors = Arc::clone(&doors);
            let is_last_agent = number + 1 == visitors + agents;
            coming.push(tokio::spawn(async move {
                let _door = doors.acquire().await.expect("open");
                let http = Http::new(server.clone());
                let id = random_id().expect("chance");
                let proof = match (&app, cookie) {
                    (Some(app), _) => Proof::Token(token(&http, app, &id).await),
                    (None, Some(cookie)) => Proof::Cookie(cookie),
                    (None, None) => unreachable!("an agent has a cookie"),
                };
                let settings = Settings {
                    server,
                    app: app.clone(),
                    proof: proof.clone(),
                    page: String::new(),
                    device: Device::new(id),
                    encoding: Encoding::Binary,
                    retry_max: RETRY_MAX,
                };
                Coming { number, app, proof, http, settings }
            }));
            if is_last_agent {
                crowd.seat(&mut coming).await;
            }
        }
        crowd.seat(&mut coming).await;
        crowd.peers.sort_by_key(|peer| peer.number);
        let started = Instant::now();
        while !crowd.meeting.met(|met| met.is_complete()) {
            let late = crowd.meeting.met(|met| (met.visitors.len(), met.agents.len()));
            assert!(started.elapsed() < GATHER_MAX, "of {visitors} only {late:?} met");
            sleep(Duration::from_millis(20)).await;
        }
        crowd
    }

    async fn seat(&mut self, coming: &mut Vec<tokio::task::JoinHandle<Coming>>) {
        for peer in coming.drain(..) {
            let Coming { number, app, proof, http, settings } = peer.await.expect("a peer comes");
            let (talk, told, ended) = Talk::start(settings);
            let (due, due_receiver) = mpsc::channel(DUE_MAX);
            let (pages, pages_receiver) = mpsc::channel(1);
            let peer = Arc::new(Peer { number, app, proof, http, due, pages });
            let is_visitor = number < self.visitors;
            let (live, is_live) = oneshot::channel();
            let listener = Listener {
                peer: Arc::clone(&peer),
                ledger: Arc::clone(&self.ledger),
                meeting: Arc::clone(&self.meeting),
                is_visitor,
                me: None,
                live: Some(live),
                pages: pages_receiver,
                reading: None,
                talk: talk.clone(),
            };
            self.tasks.push(tokio::spawn(async move {
                listener.listen(told).await;
                if let Ok(ended) = ended.await {
                    crate::say(format_args!("peer {number} ended: {ended:?}"));
                }
            }));
            self.tasks.push(tokio::spawn(hand_in(
                talk.clone(),
                due_receiver,
                Arc::clone(&self.ledger),
            )));
            self.peers.push(peer);
            if is_visitor {
                let first = Message::Text("您好，hello".to_owned());
                talk.message(FIRST, Target::Mine, Lane::Public, first).await;
            } else {
                is_live.await.expect("an agent is online before anybody asks");
            }
        }
    }

    /// Hands every message to its sender at its moment.
    pub fn sender(&self, start: Instant, end: Instant) -> impl Future<Output = ()> + use<> {
        let peers = self.peers.clone();
        let ledger = Arc::clone(&self.ledger);
        let meeting = Arc::clone(&self.meeting);
        let visitors = self.visitors as u64;
        async move {
            let second = Duration::from_secs(1).as_nanos() as u64;
            let texts = (0..).map(|nth| (nth * second / TEXTS_EACH_SECOND, Kind::Text, nth));
            let images = (0..).map(|nth| (nth * second / IMAGES_EACH_SECOND, Kind::Image, nth));
            let (mut texts, mut images) = (texts.peekable(), images.peekable());
            loop {
                let next = match (texts.peek(), images.peek()) {
                    (Some(text), Some(image)) if text.0 <= image.0 => texts.next(),
                    _ => images.next(),
                };
                let Some((at, kind, nth)) = next else { return };
                let at = start + Duration::from_nanos(at);
                if at >= end {
                    return;
                }
                sleep_until(at).await;
                let visitor = mixed(ledger.seed() ^ (nth << 1 | u64::from(kind == Kind::Image)));
                let visitor = (visitor % visitors) as usize;
                let (conversation, agent) = meeting.met(|met| met.of(visitor));
                // Half each way.
                let (sender, target) = match nth % 2 {
                    0 => (visitor, Target::Mine),
                    _ => (agent, Target::Id(conversation)),
                };
                let peer = Arc::clone(&peers[sender]);
                let number = ledger.due(kind, sender, at);
                match kind {
                    Kind::Text => {
                        let message = Message::Text(ledger.words(number, kind));
                        peer.hand(number, target, message);
                    }
                    Kind::Image => {
                        let ledger = Arc::clone(&ledger);
                        tokio::spawn(async move { peer.send_image(number, target, &ledger).await });
                    }
                }
            }
        }
    }

    /// Who sits in this visitor's conversation, and its id.
    pub fn conversation(&self, visitor: usize) -> Id {
        self.meeting.met(|met| met.of(visitor)).0
    }

    pub fn visitors(&self) -> usize {
        self.visitors
    }

    pub async fn go(self) {
        self.tasks.iter().for_each(tokio::task::JoinHandle::abort);
        for task in self.tasks {
            // Aborted is how they are meant to end.
            let _ = task.await;
        }
    }
}

impl Peer {
    fn hand(&self, number: u64, conversation: Target, message: Message) {
        let due = Due { number, conversation, message };
        // Dropped messages would be a load that was not sent.
        self.due.try_send(due).expect("the generator keeps up with itself");
    }

    async fn send_image(&self, number: u64, conversation: Target, ledger: &Ledger) {
        let picture = Bytes::from(ledger.picture(number));
        let name = format!("{number}.png");
        let app = self.app.as_deref();
        let upload = loop {
            match self.http.upload(app, &name, picture.clone(), &self.proof).await {
                Ok(upload) => break upload,
                Err(error) => ledger.trouble("upload", &error),
            }
            sleep(AGAIN).await;
        };
        let caption = ledger.words(number, Kind::Image);
        self.hand(number, conversation, Message::File { ticket: upload.ticket, name, caption });
    }

    /// The bytes of a file that somebody sent here.
    pub async fn fetch(&self, conversation: &Id, seq: u64, ledger: &Ledger) -> Bytes {
        loop {
            let app = self.app.as_deref();
            match self.http.file(app, conversation, Lane::Public, seq, &self.proof).await {
                Ok(bytes) => return bytes,
                Err(error) => ledger.trouble("download", &error),
            }
            sleep(AGAIN).await;
        }
    }

    /// One page of a conversation, newest first from `before` down.
    pub async fn page(&self, conversation: Id, before: u64) -> Page {
        let (reply, page) = oneshot::channel();
        self.pages.send((conversation, before, reply)).await.expect("the peer is here");
        page.await.expect("the page comes")
    }
}

impl Meeting {
    fn met<R>(&self, act: impl FnOnce(&mut Met) -> R) -> R {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Met {
    fn is_complete(&self) -> bool {
        self.conversations.iter().flatten().all(|id| self.agents.contains_key(id))
            && self.visitors.len() == self.conversations.len()
    }

    fn of(&self, visitor: usize) -> (Id, usize) {
        let id = self.conversations[visitor].expect("every visitor has a conversation");
        (id, self.agents[&id])
    }
}

/// What a peer does with what it is told.
struct Listener {
    peer: Arc<Peer>,
    ledger: Arc<Ledger>,
    meeting: Arc<Meeting>,
    is_visitor: bool,
    me: Option<Id>,
    live: Option<oneshot::Sender<()>>,
    pages: mpsc::Receiver<(Id, u64, oneshot::Sender<Page>)>,
    reading: Option<(Page, oneshot::Sender<Page>)>,
    talk: Talk,
}

impl Listener {
    async fn listen(mut self, mut told: mpsc::Receiver<Told>) {
        loop {
            tokio::select! {
                told = told.recv() => match told {
                    Some(told) => self.hear(told),
                    None => return,
                },
                asked = self.pages.recv(), if self.reading.is_none() => {
                    let Some((conversation, before, reply)) = asked else { return };
                    self.reading = Some((Page::default(), reply));
                    let limit = lodge_proto::limits::PAGE_ENTRIES_MAX;
                    self.talk.page(conversation, Lane::Public, before, limit).await;
                }
            }
        }
    }

    fn hear(&mut self, told: Told) {
        match told {
            Told::Live { person } => {
                self.me = Some(person);
                self.live.take().map(|live| live.send(()));
            }
            Told::Settled { tag: FIRST, outcome } => {
                let answer: Answer = outcome.expect("a visitor's first message is taken");
                let visitor = self.peer.number;
                self.meeting.met(|met| {
                    met.conversations[visitor] = Some(answer.conversation);
                    met.visitors.insert(answer.conversation, visitor);
                });
            }
            Told::Settled { tag, outcome } => self.ledger.settled(tag, outcome),
            Told::Entry(entry) => self.look(entry),
            Told::Paged { entry, .. } => {
                if let Some((page, _)) = &mut self.reading {
                    page.entries.push(entry);
                }
            }
            Told::PageEnd { more, .. } => {
                if let Some((mut page, reply)) = self.reading.take() {
                    page.more = more;
                    // Whoever asked may have given up.
                    let _ = reply.send(page);
                }
            }
            _ => {}
        }
    }

    fn look(&self, entry: Entry) {
        if !self.is_visitor {
            let mine = |agent: &Option<Id>| agent.is_some() && *agent == self.me;
            match &entry.body {
                Body::Assigned { agent, .. } | Body::Joined { agent } if mine(agent) => {
                    let number = self.peer.number;
                    self.meeting.met(|met| met.agents.insert(entry.conversation, number));
                }
                _ => {}
            }
        }
        let is_own = entry.author == self.me;
        let is_for_me = self.is_visitor
            || self
                .meeting
                .met(|met| met.agents.get(&entry.conversation) == Some(&self.peer.number));
        if is_own || !is_for_me {
            return;
        }
        match entry.body {
            Body::Text(words) => {
                if let Some(number) = number_in(&words) {
                    let same = words == self.ledger.words(number, Kind::Text);
                    self.ledger.shown(number, same);
                }
            }
            Body::File { caption, .. } => {
                if let Some(number) = number_in(&caption) {
                    let peer = Arc::clone(&self.peer);
                    let ledger = Arc::clone(&self.ledger);
                    tokio::spawn(async move {
                        let bytes = peer.fetch(&entry.conversation, entry.seq, &ledger).await;
                        ledger.shown(number, bytes == ledger.picture(number));
                    });
                }
            }
            _ => {}
        }
    }
}

/// Hands messages in, in the order in which they came; in a task of its own, for it may have to wait.
async fn hand_in(talk: Talk, mut due: mpsc::Receiver<Due>, ledger: Arc<Ledger>) {
    while let Some(Due { number, conversation, message }) = due.recv().await {
        ledger.handed_in(number);
        if !talk.message(number, conversation, Lane::Public, message).await {
            return;
        }
    }
}

async fn token(http: &Http, app: &str, device: &Id) -> String {
    http.visitor(app, device, None).await.expect("a visitor gets a token")
}
