//! One device that stays connected: sends what it is given, says what it hears, and comes back.
//!
//! A task holds the client session and the socket. Between connections it keeps taking messages into
//! its outbox. It ends when the program lets go of its `Talk`, or when coming back would not help.

use std::collections::BTreeMap;
use std::time::Duration;

use lodge_proto::client::{Client, Device, News};
use lodge_proto::frame::DraftBody;
use lodge_proto::{Act, Encoding, Id, Refusal};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};

use crate::http::Proof;
use crate::socket::{Incoming, Socket};
use crate::told::Told;
use crate::{Error, Lane, Server, Target, chance, random_id};

/// Asked of the task and not yet taken up.
const ASKED_MAX: usize = 64;
/// Told to the program and not yet read.
const TOLD_MAX: usize = 256;
/// From the first byte to HELLO_OK.
const CONNECT_MAX: Duration = Duration::from_secs(20);
/// The first wait before coming back; it doubles up to `Settings::retry_max`.
const RETRY_MIN: Duration = Duration::from_millis(100);

#[derive(Debug)]
pub struct Settings {
    pub server: Server,
    /// The site; None for an agent.
    pub app: Option<String>,
    pub proof: Proof,
    /// Address of the page that the visitor is on, "" where there is none.
    pub page: String,
    pub device: Device,
    pub encoding: Encoding,
    /// The longest wait before coming back.
    pub retry_max: Duration,
}

/// A message to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    Text(String),
    File { ticket: String, name: String, caption: String },
    Close,
}

/// Why a talk ended.
#[derive(Debug)]
pub enum Ended {
    /// The program let go of it.
    LetGo,
    /// Coming back would not help.
    Refused(Refusal),
    Failed(Error),
}

/// The program's end of a device that stays connected. Read what is told in another task than the one that
/// asks: each waits when the other is not taken up.
#[derive(Debug, Clone)]
pub struct Talk {
    asked: mpsc::Sender<Asked>,
}

#[derive(Debug)]
enum Asked {
    Message { tag: u64, conversation: Target, lane: Lane, message: Message },
    Page { conversation: Id, lane: Lane, before: u64, limit: u64 },
    Mark { conversation: Id, delivered: u64, read: u64 },
    Typing { conversation: Target, on: bool },
}

impl Talk {
    /// Starts the task on the current runtime.
    pub fn start(
        settings: Settings,
    ) -> (Talk, mpsc::Receiver<Told>, tokio::task::JoinHandle<Ended>) {
        let (asked, asked_receiver) = mpsc::channel(ASKED_MAX);
        let (told, told_receiver) = mpsc::channel(TOLD_MAX);
        let client = Client::new(settings.encoding, settings.device);
        let tags = BTreeMap::new();
        let started = Instant::now();
        let task = Task { settings, client, tags, asked: asked_receiver, told, started };
        (Talk { asked }, told_receiver, tokio::spawn(task.run()))
    }

    /// Sends a message as soon as there is a connection. `tag` comes back in `Told::Settled`, once.
    pub async fn message(
        &self,
        tag: u64,
        conversation: Target,
        lane: Lane,
        message: Message,
    ) -> bool {
        self.ask(Asked::Message { tag, conversation, lane, message }).await
    }

    pub async fn page(&self, conversation: Id, lane: Lane, before: u64, limit: u64) -> bool {
        self.ask(Asked::Page { conversation, lane, before, limit }).await
    }

    pub async fn mark(&self, conversation: Id, delivered: u64, read: u64) -> bool {
        self.ask(Asked::Mark { conversation, delivered, read }).await
    }

    pub async fn typing(&self, conversation: Target, on: bool) -> bool {
        self.ask(Asked::Typing { conversation, on }).await
    }

    /// False when the talk has ended.
    async fn ask(&self, asked: Asked) -> bool {
        self.asked.send(asked).await.is_ok()
    }
}

struct Task {
    settings: Settings,
    client: Client,
    /// Of the drafts in the outbox, by counter.
    tags: BTreeMap<u64, u64>,
    asked: mpsc::Receiver<Asked>,
    told: mpsc::Sender<Told>,
    started: Instant,
}

/// How one connection went.
enum Over {
    End(Ended),
    /// Come back; `soon` where the connection worked or the server named a time.
    Again {
        why: String,
        after: Option<Duration>,
    },
}

impl Task {
    async fn run(mut self) -> Ended {
        let mut failures = 0u32;
        loop {
            if self.client.needs_device()
                && let Err(error) = self.renew()
            {
                return Ended::Failed(error);
            }
            let over = self.connection(&mut failures).await;
            let (why, after) = match over {
                Over::End(ended) => return ended,
                Over::Again { why, after } => (why, after),
            };
            if self.told.send(Told::Down { why }).await.is_err() {
                return Ended::LetGo;
            }
            let wait = match after.map_or_else(|| self.backoff(failures), Ok) {
                Ok(wait) => wait,
                Err(error) => return Ended::Failed(error),
            };
            failures = failures.saturating_add(1);
            if !self.rest(Instant::now() + wait).await {
                return Ended::LetGo;
            }
        }
    }

    /// One connection from its first byte to its last.
    async fn connection(&mut self, failures: &mut u32) -> Over {
        let Settings { server, app, proof, encoding, .. } = &self.settings;
        let opened = timeout(CONNECT_MAX, Socket::open(server, app.as_deref(), proof, *encoding));
        let mut socket = match opened.await {
            Ok(Ok(socket)) => socket,
            Ok(Err(error)) => return Over::Again { why: error.to_string(), after: None },
            Err(_) => return Over::Again { why: "no connection in time".into(), after: None },
        };
        let token = match proof {
            Proof::Token(token) => token.as_str(),
            Proof::Nobody | Proof::Cookie(_) => "",
        };
        let hello = self.client.open(token, &self.settings.page);
        let mut sent = socket.send(hello).await;
        let mut heard = Instant::now();
        loop {
            if let Err(error) = sent {
                return Over::Again { why: error.to_string(), after: None };
            }
            if self.client.is_live() {
                *failures = 0;
            }
            let wakes_at = self.wakes_at(heard);
            tokio::select! {
                incoming = socket.receive() => {
                    heard = Instant::now();
                    match incoming {
                        Incoming::Batch(batch) => match self.hear(&batch).await {
                            None => {}
                            Some(over) => {
                                socket.close().await;
                                return over;
                            }
                        },
                        Incoming::Ping(payload) => {
                            if let Err(error) = socket.pong(payload).await {
                                return Over::Again { why: error.to_string(), after: None };
                            }
                        }
                        Incoming::End(code) => {
                            let why = match code {
                                Some(code) => format!("closed with {code}"),
                                None => "the connection broke".to_owned(),
                            };
                            return Over::Again { why, after: None };
                        }
                    }
                }
                asked = self.asked.recv() => {
                    let let_go = match asked {
                        Some(asked) => !self.take(asked).await,
                        None => true,
                    };
                    if let_go {
                        socket.close().await;
                        return Over::End(Ended::LetGo);
                    }
                }
                () = sleep_until(wakes_at) => {
                    if heard + self.silence_max() <= Instant::now() {
                        return Over::Again { why: "the server fell silent".into(), after: None };
                    }
                }
            }
            sent = Ok(());
            while let Some(batch) = self.client.write(self.now_ms()) {
                sent = socket.send(batch).await;
                if sent.is_err() {
                    break;
                }
            }
        }
    }

    /// Reads one batch and tells the program what is in it.
    async fn hear(&mut self, batch: &[u8]) -> Option<Over> {
        let now_ms = self.now_ms();
        let mut told = Vec::new();
        let mut over = None;
        let tags = &mut self.tags;
        // Every draft was given a tag when it was queued.
        let mut tag_of = |counter| tags.remove(&counter).unwrap_or_default();
        let read = self.client.receive(batch, now_ms, &mut |news| {
            match &news {
                News::Refused(refusal) => over = Some(over_of(refusal)),
                News::GoAway { delay_ms } => {
                    let after = Some(Duration::from_millis(*delay_ms));
                    over = Some(Over::Again { why: "the server goes away".into(), after });
                }
                _ => {}
            }
            told.extend(Told::of(news, &mut tag_of));
        });
        for told in told {
            if self.told.send(told).await.is_err() {
                return Some(Over::End(Ended::LetGo));
            }
        }
        match read {
            Err(malformed) => Some(Over::Again { why: malformed.to_string(), after: None }),
            Ok(()) if over.is_none() && self.client.needs_device() => {
                Some(Over::Again { why: "going on as a new device".into(), after: None })
            }
            Ok(()) => over,
        }
    }

    /// False when nobody listens any more.
    async fn take(&mut self, asked: Asked) -> bool {
        match asked {
            Asked::Message { tag, conversation, lane, message } => {
                let body = match &message {
                    Message::Text(text) => DraftBody::Text { text },
                    Message::File { ticket, name, caption } => {
                        DraftBody::File { upload: ticket, name, caption }
                    }
                    Message::Close => DraftBody::Close {},
                };
                match self.client.draft(conversation, lane, &body) {
                    Ok(counter) => drop(self.tags.insert(counter, tag)),
                    Err(refusal) => {
                        let told = Told::Settled { tag, outcome: Err(refusal) };
                        return self.told.send(told).await.is_ok();
                    }
                }
            }
            // A page that finds no place is told as one that is empty, so that nobody waits for it.
            Asked::Page { conversation, lane, before, limit } => {
                if self.client.page(conversation, lane, before, limit).is_none() {
                    let (request, first) = (0, 0);
                    let told = Told::PageEnd { request, conversation, lane, first, more: true };
                    return self.told.send(told).await.is_ok();
                }
            }
            Asked::Mark { conversation, delivered, read } => {
                self.client.mark(conversation, delivered, read);
            }
            Asked::Typing { conversation, on } => self.client.typing(conversation, on),
        }
        true
    }

    /// Waits for the next connection; messages go into the outbox meanwhile.
    async fn rest(&mut self, until: Instant) -> bool {
        loop {
            tokio::select! {
                () = sleep_until(until) => return true,
                asked = self.asked.recv() => match asked {
                    Some(asked) => {
                        if !self.take(asked).await {
                            return false;
                        }
                    }
                    None => return false,
                },
            }
        }
    }

    fn renew(&mut self) -> Result<(), Error> {
        self.client.renew(random_id()?);
        // The outbox keeps its order under new counters.
        self.tags = (1..).zip(std::mem::take(&mut self.tags).into_values()).collect();
        Ok(())
    }

    /// Somewhere between a little and the whole of a wait that doubles, so that a thousand clients of one
    /// server that fell over do not come back in one instant.
    fn backoff(&self, failures: u32) -> Result<Duration, Error> {
        let longest = RETRY_MIN
            .saturating_mul(1u32.checked_shl(failures.min(16)).unwrap_or(u32::MAX))
            .min(self.settings.retry_max);
        let mut byte = [0; 1];
        chance(&mut byte)?;
        Ok(longest.mul_f64((f64::from(byte[0]) + 32.0) / 287.0))
    }

    fn wakes_at(&self, heard: Instant) -> Instant {
        let silent = heard + self.silence_max();
        let ready = self.client.wakes_at_ms().map(|ms| self.started + Duration::from_millis(ms));
        ready.map_or(silent, |ready| ready.min(silent))
    }

    /// Twice the heartbeat, and a little.
    fn silence_max(&self) -> Duration {
        match self.client.heartbeat_ms() {
            0 => CONNECT_MAX,
            heartbeat => {
                Duration::from_millis(heartbeat.saturating_mul(2).min(600_000)) + RETRY_MIN
            }
        }
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

fn over_of(refusal: &Refusal) -> Over {
    match refusal.code.act() {
        Act::Retry | Act::Anew => Over::Again {
            why: format!("{}: {}", refusal.code.number(), refusal.text),
            after: (refusal.retry_after_ms > 0)
                .then(|| Duration::from_millis(refusal.retry_after_ms)),
        },
        // Only a person, or the site's back end, can help.
        Act::LogIn | Act::Never => Over::End(Ended::Refused(refusal.clone())),
    }
}
