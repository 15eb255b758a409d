//! The whole room: real secrets in a scratch directory, a lens fed by hand.

use std::sync::Arc;

use lodge_storage::Place;
use lodge_storage::disk::RealDisk;

use super::*;
use crate::desk::register::SiteSettings;
use crate::desk::{Body, Entry, Person};

const NOW: u64 = 1_764_000_000_000;
const HERE: [u8; 16] = [1; 16];

struct House {
    dir: tempfile::TempDir,
    lens: Arc<Lens>,
    access: Access,
}

impl House {
    fn new() -> House {
        let dir = tempfile::tempdir().unwrap();
        let lens = Arc::new(Lens::default());
        let access = open(&dir, &lens);
        House { dir, lens, access }
    }

    /// As after `kill -9`: nothing was closed, all is read again.
    fn restart(self) -> House {
        let access = open(&self.dir, &self.lens);
        House { access, ..self }
    }

    fn row(&self, body: Body) {
        let entry = Entry { author: Person::System, origin: None, body };
        let record = entry.record(Place::Register, NOW);
        self.lens.apply(Place::Register, record.kind, NOW, 0, &record.body);
    }

    fn site(&self, number: u64, app: &str) -> Site {
        let (app, name) = (app.to_owned(), app.to_owned());
        let site = Site { number, app, name, settings: SiteSettings::default() };
        self.row(Body::Site(site.clone()));
        site
    }

    fn agent(&self, number: u64, login: &str, role: Role, disabled: bool) -> Agent {
        let (login, name) = (login.to_owned(), login.to_owned());
        let agent = Agent { number, login, name, role, disabled };
        self.row(Body::Agent(agent.clone()));
        agent
    }

    async fn password(&self, agent: u64, password: &str) {
        let hashed = self.access.hash(password.into()).await.unwrap();
        self.access.set_password(agent, hashed, None).await.unwrap();
    }
}

fn open(dir: &tempfile::TempDir, lens: &Arc<Lens>) -> Access {
    let secrets = Secrets::open(Arc::new(RealDisk), dir.path()).unwrap();
    Access::open(secrets, Arc::clone(lens)).unwrap()
}

fn here() -> Visit<'static> {
    Visit { device: HERE, ..Visit::default() }
}

fn code<T: std::fmt::Debug>(result: Result<T, Refusal>) -> RefusalCode {
    result.unwrap_err().code
}

#[test]
fn no_two_installations_share_a_key_and_a_restart_keeps_them() {
    let (one, two) = (House::new(), House::new());
    let id = one.access.ids().conversation(1);
    assert_ne!(id, two.access.ids().conversation(1));
    let shop = one.site(1, "shop");
    let (token, visitor) = one.access.admit(&shop, here(), NOW).unwrap();
    let one = one.restart();
    assert_eq!(one.access.ids().conversation(1), id);
    let who = one.access.visitor("shop", &token, Some(HERE), NOW).unwrap();
    assert!(matches!(who, Who::Visitor { site: 1, person, .. } if person == visitor.person));
    two.site(1, "shop");
    assert_eq!(
        code(two.access.visitor("shop", &token, Some(HERE), NOW)),
        RefusalCode::TokenInvalid
    );
}

#[test]
fn a_key_that_was_cut_stops_the_start_with_its_name() {
    let dir = tempfile::tempdir().unwrap();
    let secrets = Secrets::open(Arc::new(RealDisk), dir.path()).unwrap();
    secrets.put("installation/token", b"short").unwrap();
    let why = Access::open(secrets, Arc::default()).unwrap_err().to_string();
    assert!(why.contains("installation/token"), "{why}");
}

#[test]
fn a_token_belongs_to_one_site_and_one_device() {
    let house = House::new();
    let (shop, bank) = (house.site(1, "shop"), house.site(2, "bank"));
    let (token, _) = house.access.admit(&shop, here(), NOW).unwrap();
    let judge = |app, device| house.access.visitor(app, &token, device, NOW);
    assert!(judge("shop", Some(HERE)).is_ok());
    assert!(judge("shop", None).is_ok());
    assert_eq!(code(judge("shop", Some([2; 16]))), RefusalCode::TokenInvalid);
    assert_eq!(code(judge("bank", Some(HERE))), RefusalCode::TokenInvalid);
    assert_eq!(code(judge("bank", None)), RefusalCode::TokenInvalid);
    assert_eq!(code(judge("none", Some(HERE))), RefusalCode::NoSuchSite);
    let again = |site, device| {
        house.access.admit(site, Visit { device, token: Some(&token), ..Visit::default() }, NOW)
    };
    assert!(again(&shop, HERE).is_ok());
    assert_eq!(code(again(&shop, [2; 16])), RefusalCode::TokenInvalid);
    assert_eq!(code(again(&bank, HERE)), RefusalCode::TokenInvalid);
}

#[test]
fn an_anonymous_visitor_stays_the_same_as_long_as_they_come_back() {
    let house = House::new();
    let shop = house.site(1, "shop");
    let typed = Visit { name: Some(" Ada\u{202e} "), ..here() };
    let (token, ada) = house.access.admit(&shop, typed, NOW).unwrap();
    assert_eq!((ada.name.as_str(), ada.vouched), ("Ada", false));
    let later = NOW + visitor::ANONYMOUS_MS - 1;
    let back = Visit { token: Some(&token), ..here() };
    let (newer, again) = house.access.admit(&shop, back, later).unwrap();
    assert_eq!((again.person, again.name.as_str()), (ada.person, "Ada"));
    assert_eq!(again.expires_ms, later + visitor::ANONYMOUS_MS);
    assert!(house.access.visitor("shop", &newer, Some(HERE), later + 1).is_ok());
    assert_eq!(code(house.access.admit(&shop, back, later + 1)), RefusalCode::TokenExpired);
    let other = house.access.admit(&shop, typed, NOW).unwrap().1;
    assert_ne!(other.person, ada.person, "a name opens nobody's history");
}
