//! The composition root: the only place that constructs anything, from a `Config` to a running house,
//! and takes it down again in the other order.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use lodge_appliance::Trust;
use lodge_proto::refusal::{Refusal, RefusalCode};
use lodge_proto::session::Session;
use lodge_storage::disk::RealDisk;
use lodge_storage::{Error, Lane, Meta, Options, Progress, Store};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, watch};

use crate::access::pace::Act;
use crate::access::{Access, Who, keys, normal_login};
use crate::bell::Bell;
use crate::commit::{Commit, now_ms};
use crate::config::Config;
use crate::console;
use crate::control::{self, Reply, Request};
use crate::desk;
use crate::follow::{Public, Staff};
use crate::lens::{self, Lens};
use crate::limits;
use crate::net::body::DiskPool;
use crate::net::connection::{self, Seat};
use crate::net::doors::{self, Doors};
use crate::net::house::{Credentials, Face, House, Origin, Place};
use crate::net::lease::{Holder, Leases};
use crate::net::upload::Uploads;
use crate::signal::Signals;
use crate::starts::Starts;
use crate::telemetry::{self, Telemetry};

/// How long connections may take to hear that the server ends.
const DRAIN: Duration = Duration::from_secs(5);
/// Clients are told to come back at times spread over this when the server ends.
const DRAIN_SPREAD_MS: u64 = 1_000;
/// How often what only memory knows of sessions is written down.
const WRITE_DOWN: Duration = Duration::from_secs(60);
/// How often marks are written down. What a crash takes of them comes again with whoever set them.
const MARKS_EVERY: Duration = Duration::from_secs(5);
/// A third of the unit's WatchdogSec.
const WATCHDOG: Duration = Duration::from_secs(10);

/// Runs the server until it is told to stop.
pub fn run(config: &Config) -> Result<ExitCode, String> {
    telemetry::start_log_lines(&config.log.level);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("the runtime did not start: {error}"))?;
    runtime.block_on(house(config))
}

async fn house(config: &Config) -> Result<ExitCode, String> {
    let starts = Arc::new(Starts::beside(&config.control.socket));
    let mut progress = |progress: Progress| tracing::info!("{progress}");
    let (disk, sizes) = (Arc::new(RealDisk), Options::default());
    let store = match starts.given_up() {
        None => Store::open(disk, &config.data_dir, &sizes, &mut progress),
        Some(why) => {
            Store::look(Error::read_only(why), disk, &config.data_dir, &sizes, &mut progress)
        }
    };
    let store = store.inspect_err(|error| starts.failed(error));
    let Store { log, blobs, secrets } = store.map_err(|error| error.to_string())?;

    let lens = Arc::new(Lens::default());
    let bell = Arc::new(Bell::default());
    let signals = Arc::new(Signals::default());
    let telemetry = Arc::new(Telemetry::default());
    let register_moved = Arc::new(Notify::new());
    let poisoned = {
        let (starts, log) = (Arc::clone(&starts), log.clone());
        let began = log.watermark();
        move |error| {
            if log.watermark() == began {
                starts.failed(&error);
            }
            // What was answered is safe; nothing more may be answered. The next start reads the disk.
            tracing::error!(%error, "the log failed to reach the disk; ending");
            std::process::exit(70);
        }
    };
    let commit = Commit::start(
        &log,
        Arc::clone(&lens),
        Arc::clone(&bell),
        &signals,
        Arc::clone(&register_moved),
        poisoned,
    );
    let (commit, desk) =
        commit.inspect_err(|error| starts.failed(error)).map_err(|error| error.to_string())?;
    // The replay has read all there is: from here on it is known whether this server writes.
    let read_only = log.refusal();
    if let Some(why) = &read_only {
        tracing::error!(%why, "read-only: everything that can be read is served, nothing is taken");
        blobs.refuse(why.clone());
        secrets.refuse(why.clone());
    }
    let meta = read_only.is_none().then(|| projection(config, &log)).flatten();
    let access =
        Access::open(secrets.clone(), Arc::clone(&lens)).map_err(|error| error.to_string())?;
    let access = Arc::new(access);

    let doors = Doors::open(config)?;
    let url = doors.public_url().to_owned();
    let pool = DiskPool::new();
    let upload_key = keys::load_or_make(&secrets, access.chance(), "installation/upload")
        .map_err(|error| error.to_string())?;
    let rooms = Arc::new(connection::Rooms {
        access: Arc::clone(&access),
        ids: access.ids(),
        log: log.clone(),
        lens: Arc::clone(&lens),
        bell: Arc::clone(&bell),
        signals,
        commit: commit.clone(),
        leases: Leases::new(&upload_key),
        telemetry: Arc::clone(&telemetry),
    });
    let desk_rooms = Arc::new(console::Rooms {
        access: Arc::clone(&access),
        commit: commit.clone(),
        lens: Arc::clone(&lens),
        bell: Arc::clone(&bell),
        signals: Arc::clone(&rooms.signals),
        ids: access.ids(),
        trust: doors.trust(),
        public_url: url.clone(),
        fingerprint: doors.fingerprint(),
    });
    let uploads = Uploads::new(blobs.clone(), pool.clone(), Leases::new(&upload_key));
    let marks = Arc::clone(&rooms.signals);
    let house = house_of(&rooms, desk_rooms, uploads, blobs.clone(), pool);

    let way = Way { url: url.clone(), seen: Some((doors.fingerprint(), doors.trust())) };
    if read_only.is_none() {
        greet(&access, &way)?;
    }
    let answer = {
        let (access, lens) = (Arc::clone(&access), Arc::clone(&lens));
        let bell = Arc::clone(&bell);
        move |request: Request| {
            let reply = answer(&access, &way, &request);
            if let (Request::ResetOperator { login }, Ok(_)) = (&request, &reply)
                && let Some(agent) = lens.agent_by_login(&normal_login(login))
            {
                bell.review(desk::Person::Agent(agent.number));
            }
            Reply::from(reply)
        }
    };
    control::listen(&config.control.socket, answer)?;
    let (stop_doors, stopping) = watch::channel(false);
    let served = tokio::spawn(doors.serve(house, stopping));
    log.keep_spares();
    let status = read_only.as_ref().map_or("open".into(), |why| format!("read-only: {why}"));
    let _ = sd_notify::notify(&[
        sd_notify::NotifyState::Ready,
        sd_notify::NotifyState::Status(&status),
    ]);
    tracing::info!(address = %config.listen.address, %url, "open");

    let projector = meta.map(|meta| tokio::spawn(project(log.clone(), meta, register_moved)));
    let clerk = tokio::spawn(write_down(Arc::clone(&access)));
    let reader = tokio::spawn(keep_marks(Arc::clone(&marks), commit.clone()));
    let dog = tokio::spawn(watchdog());
    wait_for_the_end().await?;

    let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
    tracing::info!("closing");
    // What was taken is written and answered while its connections still live.
    bell.go_away(DRAIN_SPREAD_MS);
    reader.abort();
    write_marks(&marks, &commit).await;
    commit.stop(desk).await;
    let _ = stop_doors.send(true);
    let _ = tokio::time::timeout(DRAIN, served).await;
    dog.abort();
    clerk.abort();
    if let Some(projector) = projector {
        projector.abort();
    }
    let _ = access.write_down(now_ms());
    blobs.close();
    let _ = std::fs::remove_file(&config.control.socket);
    Ok(ExitCode::SUCCESS)
}

/// What the sockets may ask, answered by the rooms.
fn house_of(
    rooms: &Arc<connection::Rooms>,
    desk_rooms: Arc<console::Rooms>,
    uploads: Uploads,
    blobs: lodge_storage::Blobs,
    pool: DiskPool,
) -> House {
    let of = || Arc::clone(rooms);
    House {
        answer: Box::new(move |asked| {
            let rooms = Arc::clone(&desk_rooms);
            Box::pin(async move { console::answer(asked, &rooms).await })
        }),
        origin: {
            let rooms = of();
            Box::new(move |it: &Origin<'_>| {
                rooms.access.origin(it.app, it.origin, it.secure, it.host).map(drop)
            })
        },
        face: {
            let rooms = of();
            Box::new(move |app| {
                let site = rooms.lens.site_by_app(app)?;
                Some(Face { name: site.name, origins: site.settings.origins })
            })
        },
        holder: {
            let rooms = of();
            Box::new(move |it| {
                rooms.access.allow(it.peer, Act::Upload, now_ms())?;
                Ok(match who(&rooms, it)? {
                    Who::Visitor { device, .. } => Holder::Device(device),
                    Who::Agent { agent, .. } => Holder::Agent(agent),
                })
            })
        },
        file: {
            let rooms = of();
            Arc::new(move |it, place| file(&rooms, it, place))
        },
        sit: {
            let rooms = of();
            Box::new(move |it, encoding| {
                let seat = match &it.app {
                    Some(app) => Seat::Site(app.clone()),
                    None => Seat::Agent(who(&rooms, it)?),
                };
                let rooms = Arc::clone(&rooms);
                Ok(Box::new(move |socket| {
                    Box::pin(connection::serve(socket, Session::new(encoding), seat, rooms))
                }))
            })
        },
        ready: {
            let rooms = of();
            Box::new(move || {
                let why = rooms.log.refusal();
                why.map_or(Ok(()), |why| Err(format!("read-only: {why}")))
            })
        },
        metrics: {
            let rooms = of();
            Box::new(move || {
                let (visitors, agents) = rooms.bell.online();
                let count = |of: usize| of as u64;
                vec![
                    ("lodge_visitors_online", "gauge", count(visitors)),
                    ("lodge_agents_online", "gauge", count(agents.len())),
                    ("lodge_conversations", "gauge", count(rooms.lens.conversation_count())),
                    ("lodge_conversations_open", "gauge", count(rooms.lens.open_count())),
                    ("lodge_log_watermark_bytes", "counter", rooms.log.watermark().0),
                ]
            })
        },
        telemetry: Arc::clone(&rooms.telemetry),
        uploads: Arc::new(uploads),
        blobs,
        disk: pool,
    }
}

fn who(rooms: &connection::Rooms, it: &Credentials) -> Result<Who, Refusal> {
    match (&it.app, &it.bearer, &it.cookie) {
        (Some(app), Some(bearer), _) => rooms.access.visitor(app, bearer, None, now_ms()),
        (_, _, Some(cookie)) => rooms.access.agent(cookie, now_ms()),
        _ => Err(Refusal::new(RefusalCode::TokenInvalid)),
    }
}

/// The file at a place, for a member; whoever may not see it learns as much as if it were not there.
fn file(
    rooms: &connection::Rooms,
    it: &Credentials,
    place: Place,
) -> Result<desk::entry::File, Refusal> {
    let absent = || Refusal::new(RefusalCode::UnknownConversation);
    let number = rooms.ids.conversation_number(&place.conversation).ok_or_else(absent)?;
    let conversation = rooms.lens.conversation(number).ok_or_else(absent)?;
    let log = rooms.log.clone();
    let record = match (who(rooms, it)?, place.lane) {
        (Who::Visitor { site, person, .. }, 1)
            if conversation.site == site && conversation.visitor == person =>
        {
            Public::new(log).at(number, place.seq)
        }
        (Who::Agent { .. }, 1) => Staff::new(log).at(number, Lane::Public, place.seq),
        (Who::Agent { .. }, 2) => Staff::new(log).at(number, Lane::Staff, place.seq),
        _ => return Err(absent()),
    };
    let record = record.map_err(|error| {
        tracing::error!(%error, "the log could not be read");
        Refusal::new(RefusalCode::NotReady)
    })?;
    let record = record.ok_or_else(absent)?;
    let entry = desk::entry::read(record.kind, record.body()).ok_or_else(absent)?;
    match &entry.body {
        desk::entry::ArchivedBody::File(file) => {
            rkyv::deserialize::<desk::entry::File, rkyv::rancor::Error>(file).map_err(|_| absent())
        }
        _ => Err(absent()),
    }
}

/// How this server is reached, for who sets it up.
struct Way {
    url: String,
    /// The certificate's fingerprint and whether strangers trust it, where doors are open.
    seen: Option<(Option<String>, Trust)>,
}

impl Way {
    /// A new set-up address, and what to know before it is opened.
    fn to_set_up(&self, access: &Access) -> Result<String, String> {
        let token = access.make_setup_token(now_ms()).map_err(|error| error.to_string())?;
        let mut lines =
            vec![format!("Set up this server within an hour: {}/setup#{token}", self.url)];
        match &self.seen {
            None => lines.push("It does not run yet: start it first.".to_owned()),
            Some((fingerprint, trust)) => {
                let words = "Certificate fingerprint (SHA-256)";
                lines.extend(fingerprint.iter().map(|it| format!("{words}: {it}")));
                lines.push(trust.says.en.to_string());
                lines.extend(trust.steps.iter().map(|step| format!("  - {}", step.en)));
            }
        }
        Ok(lines.join("\n"))
    }
}

/// Without an operator the first thing to do is printed where the installer and the journal show it.
fn greet(access: &Access, way: &Way) -> Result<(), String> {
    if !access.has_owner() {
        println!("{}", way.to_set_up(access)?);
    }
    Ok(())
}

/// The tables in sled, which can be made again at any time: what is wrong with them keeps nobody out.
fn projection(config: &Config, log: &lodge_storage::Log) -> Option<Meta> {
    let meta = Meta::open(&config.data_dir, log.epoch(), log.watermark());
    let said = meta.inspect_err(|error| tracing::warn!(%error, "there is no projection in sled"));
    said.inspect(|meta| {
        if let Some(why) = meta.set_aside() {
            tracing::warn!(why, "the projection in sled is made again");
        }
    })
    .ok()
}

/// Follows the register into sled, behind the log.
async fn project(log: lodge_storage::Log, meta: Meta, moved: Arc<Notify>) {
    let meta = Arc::new(meta);
    loop {
        let (log, meta) = (log.clone(), Arc::clone(&meta));
        let done = tokio::task::spawn_blocking(move || lens::project(&log, &meta)).await;
        if let Ok(Err(error)) = done {
            tracing::warn!(%error, "the projection in sled stands still; the next start makes it again");
            return;
        }
        moved.notified().await;
    }
}

async fn watchdog() {
    let mut every = tokio::time::interval(WATCHDOG);
    loop {
        every.tick().await;
        let _ = sd_notify::notify(&[sd_notify::NotifyState::Watchdog]);
    }
}

async fn write_down(access: Arc<Access>) {
    let mut every = tokio::time::interval(WRITE_DOWN);
    loop {
        every.tick().await;
        let access = Arc::clone(&access);
        let done = tokio::task::spawn_blocking(move || access.write_down(now_ms())).await;
        if let Ok(Err(error)) = done {
            tracing::warn!(%error, "sessions could not be written down");
        }
    }
}

async fn keep_marks(signals: Arc<Signals>, commit: Commit) {
    let mut every = tokio::time::interval(MARKS_EVERY);
    loop {
        every.tick().await;
        write_marks(&signals, &commit).await;
    }
}

/// What finds no place waits for the next time.
async fn write_marks(signals: &Signals, commit: &Commit) {
    loop {
        let marks = signals.unwritten(limits::MARKS_RECORD_MAX);
        if marks.is_empty() {
            return;
        }
        if !commit.marks(marks.clone()).await {
            return signals.put_back(&marks);
        }
    }
}

async fn wait_for_the_end() -> Result<(), String> {
    let failed = |error: std::io::Error| format!("signals cannot be heard: {error}");
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

/// What the control socket and the commands of a stopped server answer.
fn answer(access: &Access, way: &Way, request: &Request) -> Result<String, String> {
    if let Some(why) = access.read_only() {
        return Err(format!("nothing can be changed, because this server is read-only: {why}"));
    }
    match request {
        Request::Setup if access.has_owner() => {
            Err("this server is set up; `lodge operator reset LOGIN` helps who forgot".into())
        }
        Request::Setup => way.to_set_up(access),
        Request::ResetOperator { login } => {
            let password = access
                .reset_operator(login, now_ms())
                .map_err(|refusal| refusal.text.to_string())?;
            Ok(format!("One-time password of {login}, good for an hour: {password}"))
        }
    }
}

/// Answers a command on a store that no server runs on.
pub fn alone(config: &Config, store: Store, request: &Request) -> Result<Reply, String> {
    let lens = Arc::new(Lens::default());
    for record in store.log.scan(lodge_storage::Position(0)) {
        lens.apply(&record.map_err(|error| error.to_string())?);
    }
    let access =
        Access::open(store.secrets, Arc::clone(&lens)).map_err(|error| error.to_string())?;
    let way = Way { url: doors::public_url(config), seen: None };
    Ok(Reply::from(answer(&access, &way, request)))
}
