//! The rooms that the sockets lead to, and the answers that they give to what `House` asks.

use std::sync::Arc;

use lodge_proto::batch::Encoding;
use lodge_proto::refusal::{Refusal, RefusalCode};
use lodge_storage::{Blobs, Lane, Log};
use rkyv::rancor;

use super::body::DiskPool;
use super::house::{Answers, Boxed, Credentials, Face, House, Origin, Place};
use super::lease::Holder;
use super::upload::Uploads;
use super::websocket::Socket;
use crate::access::ids::Ids;
use crate::access::pace::Act;
use crate::access::{Access, Who};
use crate::bell::Bell;
use crate::commit::{Commit, now_ms};
use crate::desk::entry::{self, ArchivedBody, File};
use crate::lens::Lens;
use crate::signal::Signals;
use crate::telemetry::Telemetry;

/// Shared by all connections; made whole, once.
#[derive(Debug)]
pub struct Rooms {
    pub access: Arc<Access>,
    pub ids: Ids,
    pub log: Log,
    pub lens: Arc<Lens>,
    pub bell: Arc<Bell>,
    pub signals: Arc<Signals>,
    pub commit: Commit,
    pub telemetry: Arc<Telemetry>,
    pub uploads: Arc<Uploads>,
    pub blobs: Blobs,
    pub disk: DiskPool,
}

/// Who sits down at a socket, before HELLO.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seat {
    /// A page or an app of this site; HELLO brings the token.
    Site(String),
    /// The cookie has spoken.
    Agent(Who),
}

impl Rooms {
    /// What the sockets ask, answered by these rooms. `answer` is the console's, `serve` the connection's
    /// task.
    pub fn house(
        self: &Arc<Rooms>,
        answer: Box<Answers>,
        serve: impl Fn(Socket, Encoding, Seat, Arc<Rooms>) -> Boxed<()> + Send + Sync + 'static,
    ) -> House {
        let serve = Arc::new(serve);
        let [of_origin, of_face, of_holder, of_file, of_seat, of_rows] =
            std::array::from_fn(|_| self.clone());
        House {
            answer,
            origin: Box::new(move |it| of_origin.origin(it)),
            face: Box::new(move |app| of_face.face(app)),
            holder: Box::new(move |asking| of_holder.holder(asking)),
            file: Arc::new(move |asking, place| of_file.file(asking, place)),
            sit: Box::new(move |asking, encoding| {
                let seat = of_seat.seat(asking)?;
                let (rooms, serve) = (of_seat.clone(), serve.clone());
                Ok(Box::new(move |socket| serve(socket, encoding, seat, rooms)))
            }),
            // The doors open when the log has been read, and a log that fails ends the process.
            ready: Box::new(|| Ok(())),
            metrics: Box::new(move || of_rows.rows()),
            telemetry: self.telemetry.clone(),
            uploads: self.uploads.clone(),
            blobs: self.blobs.clone(),
            disk: self.disk.clone(),
        }
    }

    fn origin(&self, it: &Origin<'_>) -> Result<(), Refusal> {
        self.access.origin(it.app, it.origin, it.secure, it.host).map(drop)
    }

    fn face(&self, app: &str) -> Option<Face> {
        let site = self.lens.site_by_app(app)?;
        Some(Face { name: site.name, origins: site.settings.origins })
    }

    /// A visitor by token, else an agent by cookie.
    fn who(&self, asking: &Credentials) -> Result<Who, Refusal> {
        let now = now_ms();
        match (&asking.app, &asking.bearer, &asking.cookie) {
            (Some(app), Some(bearer), _) => self.access.visitor(app, bearer, None, now),
            (_, None, Some(cookie)) => self.access.agent(cookie, now),
            _ => Err(Refusal::new(RefusalCode::TokenInvalid)),
        }
    }

    fn holder(&self, asking: &Credentials) -> Result<Holder, Refusal> {
        self.access.allow(asking.peer, Act::Upload, now_ms())?;
        Ok(match self.who(asking)? {
            Who::Visitor { device, .. } => Holder::Device(device),
            Who::Agent { agent, .. } => Holder::Agent(agent),
        })
    }

    /// A conversation of others, one that does not exist and an Entry that is no file look the same.
    fn file(&self, asking: &Credentials, place: Place) -> Result<File, Refusal> {
        let unknown = || Refusal::new(RefusalCode::UnknownConversation);
        let who = self.who(asking)?;
        let number = self.ids.conversation_number(&place.conversation).ok_or_else(unknown)?;
        let conversation = self.lens.conversation(number).ok_or_else(unknown)?;
        let lane = match (&who, place.lane) {
            (Who::Visitor { site, person, .. }, 1)
                if conversation.site == *site && conversation.visitor == *person =>
            {
                Lane::Public
            }
            (Who::Agent { .. }, 1) => Lane::Public,
            (Who::Agent { .. }, 2) => Lane::Staff,
            _ => return Err(unknown()),
        };
        let record = self.log.at(number, lane, place.seq).map_err(|error| {
            tracing::error!(%error, "an Entry could not be read");
            Refusal::new(RefusalCode::Busy)
        })?;
        let record = record.ok_or_else(unknown)?;
        let entry = entry::read(record.kind, record.body()).ok_or_else(unknown)?;
        let ArchivedBody::File(file) = &entry.body else { return Err(unknown()) };
        rkyv::deserialize::<File, rancor::Error>(file).map_err(|_| unknown())
    }

    fn seat(&self, asking: &Credentials) -> Result<Seat, Refusal> {
        match (&asking.app, &asking.cookie) {
            (Some(app), _) => Ok(Seat::Site(app.clone())),
            (None, Some(cookie)) => self.access.agent(cookie, now_ms()).map(Seat::Agent),
            (None, None) => Err(Refusal::new(RefusalCode::TokenInvalid)),
        }
    }

    fn rows(&self) -> Vec<(&'static str, &'static str, u64)> {
        let count = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        vec![
            ("lodge_log_watermark_bytes", "counter", self.log.watermark().0),
            ("lodge_conversations", "gauge", count(self.lens.conversation_count())),
            ("lodge_conversations_open", "gauge", count(self.lens.open_count())),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::super::lease::{KEY_BYTES, Leases};
    use super::super::upload::Uploads;
    use super::*;
    use crate::access::Visit;
    use crate::bell::Settled;
    use crate::commit::{DeskThread, Device, Submission};
    use crate::desk::entry::Person;
    use crate::desk::register::{RegisterDraft, SiteSettings};
    use crate::desk::{Asked, By, Draft};
    use lodge_storage::disk::RealDisk;
    use lodge_storage::{BlobRef, Options, Store};
    use tokio::sync::Notify;

    struct Lab {
        rooms: Arc<Rooms>,
        desk: Option<DeskThread>,
        _scratch: tempfile::TempDir,
    }

    impl Lab {
        async fn open() -> Lab {
            let scratch = tempfile::tempdir().unwrap();
            let store =
                Store::open(Arc::new(RealDisk), scratch.path(), &Options::default(), &mut |_| ());
            let Store { log, blobs, secrets, .. } = store.unwrap();
            let (lens, bell) = (Arc::<Lens>::default(), Arc::<Bell>::default());
            let poisoned = |error| panic!("{error}");
            let moved = Arc::new(Notify::new());
            let (commit, desk) =
                Commit::start(&log, lens.clone(), bell.clone(), moved, poisoned).unwrap();
            let access = Arc::new(Access::open(secrets, lens.clone()).unwrap());
            let (disk, leases) = (DiskPool::new(), Leases::new(&[1; KEY_BYTES]));
            let rooms = Rooms {
                ids: access.ids(),
                access,
                log,
                lens,
                bell,
                signals: Arc::default(),
                commit,
                telemetry: Arc::default(),
                uploads: Arc::new(Uploads::new(blobs.clone(), disk.clone(), leases)),
                blobs,
                disk,
            };
            let lab = Lab { rooms: Arc::new(rooms), desk: Some(desk), _scratch: scratch };
            lab.site("shop", "https://shop.example").await;
            lab.site("bank", "https://bank.example").await;
            lab
        }

        async fn site(&self, app: &str, origin: &str) {
            let settings = SiteSettings { origins: vec![origin.into()], ..SiteSettings::default() };
            let draft = RegisterDraft::SiteCreated { app: app.into(), name: app.into(), settings };
            self.rooms.commit.register(draft).await.unwrap();
        }

        /// A visitor's token and number.
        fn visitor(&self, app: &str, device: [u8; 16]) -> (String, u64) {
            let site = self.rooms.lens.site_by_app(app).unwrap();
            let visit = Visit { device, ..Visit::default() };
            let (token, visitor) = self.rooms.access.admit(&site, visit, now_ms()).unwrap();
            (token, visitor.person)
        }

        /// Sends a file as this visitor and says where it stands.
        async fn send(&self, app: &str, person: u64, device: [u8; 16], file: File) -> Place {
            let (ear, _) = self.rooms.bell.register(Person::Visitor(person), device, 1).unwrap();
            let site = self.rooms.lens.site_by_app(app).unwrap().number;
            let by = By::Visitor {
                person,
                site,
                name: "Ada".into(),
                vouched: false,
                page: String::new(),
            };
            let draft =
                Draft { by, conversation: None, lane: Lane::Public, asked: Asked::File(file) };
            let device = Device { person: Person::Visitor(person), id: device };
            let submission = Submission { device, counter: 1, settled: 0, hash: 9, draft };
            self.rooms.commit.submit(submission).await;
            loop {
                ear.listen().await;
                if let Some(Settled { outcome, .. }) = ear.take().settled.into_iter().next() {
                    let at = outcome.unwrap();
                    let conversation = self.rooms.ids.conversation(at.conversation);
                    return Place { conversation, lane: 1, seq: at.seq };
                }
            }
        }

        async fn close(mut self) {
            if let Some(desk) = self.desk.take() {
                self.rooms.commit.stop(desk).await;
            }
        }
    }

    fn asking(app: Option<&str>, bearer: Option<&str>, cookie: Option<&str>) -> Credentials {
        Credentials {
            app: app.map(str::to_owned),
            bearer: bearer.map(str::to_owned),
            cookie: cookie.map(str::to_owned),
            peer: "192.0.2.1".parse().unwrap(),
        }
    }

    #[tokio::test]
    async fn a_file_is_found_by_its_members_alone() {
        let lab = Lab::open().await;
        let (token, person) = lab.visitor("shop", [1; 16]);
        let blob = BlobRef { segment: 0, offset: 0, len: 5, address: [2; 32] };
        let upload =
            super::super::lease::Upload { blob, mime: "image/png".into(), width: 1, height: 1 };
        let leases = Leases::new(&[1; KEY_BYTES]);
        let ticket = leases.sign(&upload, Holder::Device([1; 16]), now_ms());
        let mut file =
            lab.rooms.uploads.leases.open(&ticket, Holder::Device([1; 16]), now_ms()).unwrap();
        file.name = "cat.png".into();
        let place = lab.send("shop", person, [1; 16], file.clone()).await;

        let find = |asking: &Credentials, place| lab.rooms.file(asking, place);
        let own = asking(Some("shop"), Some(&token), None);
        assert_eq!(find(&own, place).unwrap(), file);
        let (stranger, _) = lab.visitor("shop", [3; 16]);
        let (banker, _) = lab.visitor("bank", [1; 16]);
        let refused = |asking: &Credentials, place| find(asking, place).unwrap_err().code;
        let unknown = RefusalCode::UnknownConversation;
        assert_eq!(refused(&asking(Some("shop"), Some(&stranger), None), place), unknown);
        assert_eq!(refused(&asking(Some("bank"), Some(&banker), None), place), unknown);
        assert_eq!(refused(&own, Place { lane: 2, ..place }), unknown);
        assert_eq!(refused(&own, Place { seq: place.seq + 1, ..place }), unknown);
        assert_eq!(refused(&own, Place { seq: 0, ..place }), unknown);
        assert_eq!(refused(&own, Place { conversation: [5; 16], ..place }), unknown);
        // Its first Entry says that the conversation was opened: no file.
        assert_eq!(refused(&own, Place { seq: place.seq - 1, ..place }), unknown);
        for nobody in [
            asking(Some("bank"), Some(&token), None),
            asking(None, Some(&token), None),
            asking(Some("shop"), None, None),
            asking(Some("shop"), None, Some("cookie")),
        ] {
            let code = refused(&nobody, place).number();
            assert!((3000..4000).contains(&code), "{code}: {nobody:?}");
        }
        lab.close().await;
    }

    #[tokio::test]
    async fn who_may_upload_and_sit_down() {
        let lab = Lab::open().await;
        let (token, _) = lab.visitor("shop", [4; 16]);
        let visitor = asking(Some("shop"), Some(&token), None);
        assert_eq!(lab.rooms.holder(&visitor).unwrap(), Holder::Device([4; 16]));
        assert!(lab.rooms.holder(&asking(Some("shop"), None, None)).is_err());
        let seat = lab.rooms.seat(&asking(Some("shop"), None, Some("x"))).unwrap();
        assert_eq!(seat, Seat::Site("shop".into()));
        assert!(lab.rooms.seat(&asking(None, None, Some("x"))).is_err());
        assert!(lab.rooms.seat(&asking(None, Some(&token), None)).is_err());
        lab.close().await;
    }

    #[tokio::test]
    async fn origins_and_faces_are_the_registers() {
        let lab = Lab::open().await;
        let judge = |app, origin| {
            let origin = Origin { app, origin, secure: true, host: "chat.example" };
            lab.rooms.origin(&origin).is_ok()
        };
        assert!(judge(Some("shop"), Some("https://shop.example")));
        assert!(judge(Some("shop"), Some("https://chat.example")));
        assert!(!judge(Some("bank"), Some("https://shop.example")));
        assert!(!judge(Some("none"), Some("https://shop.example")));
        assert!(!judge(None, Some("https://shop.example")));
        let face = lab.rooms.face("bank").unwrap();
        assert_eq!((face.name.as_str(), face.origins.len()), ("bank", 1));
        assert!(lab.rooms.face("none").is_none());
        assert!(lab.rooms.rows().iter().any(|(_, _, value)| *value > 0));
        lab.close().await;
    }
}
