//! The whole room: real secrets in a scratch directory, a lens fed by hand.

use std::path::Path;
use std::sync::Arc;

use lodge_storage::disk::{Disk, RealDisk, SimDisk};
use lodge_storage::{Place, Position};

use super::*;
use crate::desk::Person;
use crate::desk::entry::{Body, Entry};
use crate::desk::register::SiteSettings;
use crate::limits::SESSIONS_AGENT_MAX;

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
        self.lens.apply_new(&record, Position(0));
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
    let secrets = Secrets::open(Arc::new(RealDisk), dir.path(), false).unwrap();
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

#[tokio::test]
async fn people_come_in_to_read_while_the_disk_is_full() {
    let disk = SimDisk::new(1);
    let dir = Path::new("/data");
    disk.create_dir(dir).unwrap();
    let lens = Arc::new(Lens::default());
    let open = || {
        let secrets = Secrets::open(Arc::new(disk.clone()), dir, false).unwrap();
        Access::open(secrets, Arc::clone(&lens)).unwrap()
    };
    let access = open();
    let login = "ada".to_owned();
    let agent =
        Agent { number: 7, login: login.clone(), name: login, role: Role::Agent, disabled: false };
    let entry = Entry { author: Person::System, origin: None, body: Body::Agent(agent) };
    lens.apply_new(&entry.record(Place::Register, NOW), Position(0));
    let hashed = access.hash("a long password".into()).await.unwrap();
    access.set_password(7, hashed, None).await.unwrap();

    disk.set_capacity_bytes(disk.used_bytes());
    let mut cookies = Vec::new();
    for nth in 0..SESSIONS_AGENT_MAX as u64 + 2 {
        let signed = access.log_in("ada", "a long password".into(), NOW + nth).await.unwrap();
        cookies.push(signed.cookie);
    }
    let later = NOW + 100;
    let alive = |access: &Access, cookies: &[String]| {
        cookies.iter().filter(|it| access.agent(it, later).is_ok()).count()
    };
    assert_eq!(alive(&access, &cookies), SESSIONS_AGENT_MAX, "they are bounded as ever");
    assert!(matches!(access.write_down(later), Err(Error::Full)));
    assert_eq!(alive(&open(), &cookies), 0);

    disk.heal();
    access.write_down(later).unwrap();
    assert_eq!(alive(&open(), &cookies), SESSIONS_AGENT_MAX, "with room again a restart ends none");
}

#[test]
fn a_key_that_was_cut_stops_the_start_with_its_name() {
    let dir = tempfile::tempdir().unwrap();
    let secrets = Secrets::open(Arc::new(RealDisk), dir.path(), false).unwrap();
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

#[test]
fn what_looks_alike_is_somebody_else() {
    let house = House::new();
    let (shop, bank) = (house.site(1, "shop"), house.site(2, "bank"));
    let subjects = [
        "ada@example.org",
        "Ada@example.org",
        "ada@example.org.",
        "ada+x@example.org",
        "ada@ехample.org",
        "ad\u{430}@example.org",
        "ada@example.org ",
        "ada@example.org\0",
        "a\u{301}da",
        "\u{e1}da",
    ];
    let key = &house.access.keys.person;
    let mut seen = std::collections::BTreeSet::new();
    for subject in subjects {
        for site in [&shop, &bank] {
            let number = person(key, site.number, subject);
            assert!(number < 1 << 63 && seen.insert(number), "{subject:?}");
            assert_eq!(number, person(key, site.number, subject));
        }
    }
}

#[test]
fn the_sites_word_is_the_same_visitor_on_every_device_until_it_ends() {
    let house = House::new();
    let shop = house.site(1, "shop");
    let secrets = &house.access.secrets;
    let key = site_keys::add(secrets, 1, Sort::Identity, house.access.chance(), NOW).unwrap();
    let app = site_keys::add(secrets, 1, Sort::App, house.access.chance(), NOW).unwrap();
    let word = |secret: &SiteKey, sub: &str| {
        let part = |json: serde_json::Value| {
            data_encoding::BASE64URL_NOPAD.encode(json.to_string().as_bytes())
        };
        let claims = serde_json::json!({
            "aud": "shop", "sub": sub, "name": "Ada", "iat": NOW / 1_000, "exp": NOW / 1_000 + 60,
        });
        let header = serde_json::json!({ "alg": "HS256", "kid": secret.id });
        let signed = format!("{}.{}", part(header), part(claims));
        let tag = hmac::Key::new(hmac::HMAC_SHA256, secret.secret.as_bytes());
        let tag = hmac::sign(&tag, signed.as_bytes());
        format!("{signed}.{}", data_encoding::BASE64URL_NOPAD.encode(tag.as_ref()))
    };
    let ada = word(&key, "7");
    let at = |device| Visit { device, identity: Some(&ada), ..Visit::default() };
    let (token, phone) = house.access.admit(&shop, at([1; 16]), NOW).unwrap();
    let (_, laptop) = house.access.admit(&shop, at([2; 16]), NOW).unwrap();
    assert_eq!((phone.person, phone.vouched), (laptop.person, true));
    assert_eq!(phone.name, "Ada");
    assert_eq!(phone.expires_ms, NOW + visitor::VOUCHED_MS);

    // Our own token does not prolong what the site vouched for, and no typed name changes it.
    let back = Visit { token: Some(&token), name: Some("Eve"), ..here() };
    let (_, again) = house.access.admit(&shop, back, NOW + 1).unwrap();
    assert_eq!(again, phone);
    let late = house.access.admit(&shop, back, NOW + visitor::VOUCHED_MS);
    assert_eq!(code(late), RefusalCode::TokenExpired);

    // A secret that was lost is taken away, and with it everybody for whom it spoke.
    let next = site_keys::add(secrets, 1, Sort::Identity, house.access.chance(), NOW).unwrap();
    let sat = house.access.visitor("shop", &token, Some([1; 16]), NOW).unwrap();
    let stranger = house.access.admit(&shop, here(), NOW).unwrap().0;
    let anonymous = house.access.visitor("shop", &stranger, None, NOW).unwrap();
    site_keys::remove(secrets, 1, Sort::Identity, &next.id, NOW + 5).unwrap();
    assert_eq!(code(house.access.still(&sat, NOW + 5)), RefusalCode::TokenExpired);
    assert_eq!(
        code(house.access.visitor("shop", &token, None, NOW + 5)),
        RefusalCode::TokenExpired
    );
    assert_eq!(house.access.still(&anonymous, NOW + 5), Ok(()), "nobody spoke for this one");
    let (token, _) = house.access.admit(&shop, at([1; 16]), NOW + 6).unwrap();
    let sat = house.access.visitor("shop", &token, None, NOW + 6).unwrap();
    assert_eq!(house.access.still(&sat, NOW + 6), Ok(()));
    let end_ms = NOW + 6 + visitor::VOUCHED_MS;
    assert_eq!(house.access.still(&sat, end_ms - 1), Ok(()));
    assert_eq!(code(house.access.still(&sat, end_ms)), RefusalCode::TokenExpired);

    let public = word(&app, "7");
    let posing = Visit { identity: Some(&public), ..here() };
    let refusal = house.access.admit(&shop, posing, NOW).unwrap_err();
    assert!(refusal.text.contains("AppSecret"), "{}", refusal.text);
    let typed = Visit { name: Some("Ada"), ..here() };
    assert_ne!(house.access.admit(&shop, typed, NOW).unwrap().1.person, phone.person);
    let other = word(&key, "8");
    let other = Visit { identity: Some(&other), ..here() };
    assert_ne!(house.access.admit(&shop, other, NOW).unwrap().1.person, phone.person);
}

#[test]
fn an_app_secret_names_its_own_site_only_and_proves_nobody() {
    let house = House::new();
    let (shop, _bank) = (house.site(1, "shop"), house.site(2, "bank"));
    let secrets = &house.access.secrets;
    let own = site_keys::add(secrets, 1, Sort::App, house.access.chance(), NOW).unwrap();
    let foreign = site_keys::add(secrets, 2, Sort::App, house.access.chance(), NOW).unwrap();
    let identity = site_keys::add(secrets, 1, Sort::Identity, house.access.chance(), NOW).unwrap();
    let ask =
        |secret: &str| house.access.admit(&shop, Visit { secret: Some(secret), ..here() }, NOW);
    assert!(!ask(&own.secret).unwrap().1.vouched);
    for wrong in [foreign.secret.as_str(), identity.secret.as_str(), "", "lodge_app_"] {
        assert_eq!(code(ask(wrong)), RefusalCode::TokenInvalid);
    }
}

#[test]
fn secrets_of_a_site_are_bounded_and_the_last_one_stays() {
    let house = House::new();
    let (secrets, chance) = (&house.access.secrets, house.access.chance());
    let mut made = Vec::new();
    for nth in 0..crate::limits::SITE_KEYS_MAX as u64 {
        made.push(site_keys::add(secrets, 1, Sort::Identity, chance, NOW + nth).unwrap());
    }
    let beyond = site_keys::add(secrets, 1, Sort::Identity, chance, NOW);
    assert_eq!(code(beyond), RefusalCode::TooMany);
    assert!(site_keys::add(secrets, 1, Sort::App, chance, NOW).is_ok());
    assert!(site_keys::add(secrets, 11, Sort::Identity, chance, NOW).is_ok(), "another site's");
    assert_eq!(site_keys::of(secrets, 1, Sort::Identity), made);
    for key in &made[1..] {
        site_keys::remove(secrets, 1, Sort::Identity, &key.id, NOW).unwrap();
    }
    assert_eq!(
        code(site_keys::remove(secrets, 1, Sort::Identity, &made[1].id, NOW)),
        RefusalCode::NotAllowed
    );
    assert_eq!(
        code(site_keys::remove(secrets, 1, Sort::Identity, &made[0].id, NOW)),
        RefusalCode::NotAllowed
    );
    assert_eq!(site_keys::of(secrets, 1, Sort::Identity), made[..1]);
}

#[tokio::test]
async fn signing_in_and_out() {
    let house = House::new();
    house.agent(1, "ada", Role::Operator, false);
    house.password(1, "correct horse").await;
    let signed = house.access.log_in(" Ada ", "correct horse".into(), NOW).await.unwrap();
    assert!(!signed.choose_password);
    let house = house.restart();
    let who = house.access.agent(&signed.cookie, NOW + 1).unwrap();
    let Who::Agent { agent: 1, role: Role::Operator, session } = who else { panic!("{who:?}") };
    assert_eq!(house.access.still(&who, NOW + 1), Ok(()));
    house.access.log_out(session).await.unwrap();
    assert_eq!(code(house.access.agent(&signed.cookie, NOW + 1)), RefusalCode::SessionEnded);
    assert_eq!(code(house.access.still(&who, NOW + 1)), RefusalCode::SessionEnded);
    assert_eq!(code(house.access.seen(&who, NOW + 1)), RefusalCode::SessionEnded);
}

#[tokio::test]
async fn unknown_wrong_and_disabled_answer_the_same() {
    let house = House::new();
    house.agent(1, "ada", Role::Agent, false);
    house.agent(2, "bob", Role::Agent, true);
    house.agent(3, "eve", Role::Agent, false);
    house.password(1, "correct horse").await;
    house.password(2, "correct horse").await;
    let mut answers = Vec::new();
    for login in ["ada", "bob", "eve", "nobody", "", "a\0b", "Ａda", "ada/../bob", "'; --"] {
        let password = if login == "ada" { "wrong horse" } else { "correct horse" };
        let mut of_login = Vec::new();
        for _ in 0..crate::limits::FREE_FAILURES_MAX + 1 {
            of_login.push(house.access.log_in(login, password.into(), NOW).await.unwrap_err());
        }
        answers.push(of_login);
    }
    assert!(answers.windows(2).all(|two| two[0] == two[1]), "{answers:?}");
    let last = answers[0].last().unwrap();
    assert_eq!((last.code, last.retry_after_ms), (RefusalCode::Throttled, 30_000));
    let shut = house.access.log_in("ada", "correct horse".into(), NOW + 29_999).await;
    assert_eq!(
        code(shut),
        RefusalCode::Throttled,
        "the right one is refused too, or it could be found"
    );
    assert!(house.access.log_in("ada", "correct horse".into(), NOW + 30_000).await.is_ok());
}

#[tokio::test]
async fn many_tries_at_once_gain_nothing() {
    let house = House::new();
    house.agent(1, "ada", Role::Agent, false);
    house.password(1, "correct horse").await;
    let tries = (0..20).map(|nth| house.access.log_in("ada", format!("wrong horse {nth}"), NOW));
    let mut judged = 0;
    for result in join_all(tries).await {
        judged += u32::from(code(result) == RefusalCode::TokenInvalid);
    }
    assert_eq!(judged, crate::limits::FREE_FAILURES_MAX);
}

/// Polls all of them until each is done.
async fn join_all<T>(futures: impl Iterator<Item = impl Future<Output = T>>) -> Vec<T> {
    let mut waiting: Vec<_> = futures.map(Box::pin).collect();
    let mut done = Vec::new();
    std::future::poll_fn(move |context| {
        waiting.retain_mut(|future| match future.as_mut().poll(context) {
            std::task::Poll::Ready(result) => {
                done.push(result);
                false
            }
            std::task::Poll::Pending => true,
        });
        match waiting.is_empty() {
            true => std::task::Poll::Ready(std::mem::take(&mut done)),
            false => std::task::Poll::Pending,
        }
    })
    .await
}

#[tokio::test]
async fn a_disabled_account_and_another_role_are_felt_at_once() {
    let house = House::new();
    house.agent(1, "ada", Role::Operator, false);
    house.password(1, "correct horse").await;
    let signed = house.access.log_in("ada", "correct horse".into(), NOW).await.unwrap();
    let who = house.access.agent(&signed.cookie, NOW).unwrap();
    house.agent(1, "ada", Role::Agent, false);
    assert_eq!(code(house.access.still(&who, NOW)), RefusalCode::SessionEnded);
    let now = house.access.agent(&signed.cookie, NOW).unwrap();
    assert!(matches!(now, Who::Agent { role: Role::Agent, .. }));
    house.agent(1, "ada", Role::Agent, true);
    assert_eq!(code(house.access.agent(&signed.cookie, NOW)), RefusalCode::SessionEnded);
    assert_eq!(code(house.access.still(&now, NOW)), RefusalCode::SessionEnded);
}

#[tokio::test]
async fn a_reset_gives_one_sign_in_within_an_hour_and_ends_the_others() {
    let house = House::new();
    house.agent(1, "ada", Role::Operator, false);
    house.agent(2, "bob", Role::Agent, false);
    house.agent(3, "eve", Role::Operator, true);
    house.password(1, "correct horse").await;
    let before = house.access.log_in("ada", "correct horse".into(), NOW).await.unwrap();
    for login in ["bob", "eve", "nobody"] {
        assert_eq!(code(house.access.reset_operator(login, NOW)), RefusalCode::NotAllowed);
    }
    let late = house.access.reset_operator("ada", NOW).unwrap();
    let after_an_hour = house.access.log_in("ada", late, NOW + setup::SETUP_MS).await;
    assert_eq!(code(after_an_hour), RefusalCode::TokenInvalid);
    assert_eq!(code(house.access.agent(&before.cookie, NOW)), RefusalCode::SessionEnded);
    let old = house.access.log_in("ada", "correct horse".into(), NOW).await;
    assert_eq!(code(old), RefusalCode::TokenInvalid);

    let once = house.access.reset_operator("ada", NOW).unwrap();
    let house = house.restart();
    let tries = [(); 2].map(|()| house.access.log_in("ada", once.clone(), NOW + 1));
    let results = join_all(tries.into_iter()).await;
    assert_eq!(results.iter().filter(|it| it.is_ok()).count(), 1, "one time is once: {results:?}");
    assert!(results.into_iter().flatten().all(|signed| signed.choose_password));
    assert!(!house.access.has_owner());
    house.password(1, "another horse").await;
    assert!(house.access.has_owner());
    assert!(house.access.log_in("ada", "another horse".into(), NOW + 2).await.is_ok());
}

#[tokio::test]
async fn a_set_up_token_is_spent_by_the_set_up_that_ends_well_and_only_by_it() {
    let house = House::new();
    let token = house.access.make_setup_token(NOW).unwrap();
    assert!(house.access.setup_is_open(NOW));
    assert_eq!(code(house.access.set_up("guess", NOW).await.map(drop)), RefusalCode::TokenInvalid);
    let hashed = house.access.hash("correct horse".into()).await.unwrap();
    drop(house.access.set_up(&token, NOW).await.unwrap());
    let house = house.restart();
    let setting_up = house.access.set_up(&token, NOW).await.unwrap();
    let (app, identity) = setting_up.finish(1, &hashed, 5, NOW).await.unwrap();
    assert_ne!(app.secret, identity.secret);
    assert_eq!(code(house.access.set_up(&token, NOW).await.map(drop)), RefusalCode::TokenInvalid);
    assert!(!house.access.setup_is_open(NOW));
    house.agent(1, "ada", Role::Operator, false);
    let house = house.restart();
    assert!(house.access.has_owner());
    assert_eq!(house.access.site_keys(5, Sort::App), [app]);
    assert_eq!(house.access.site_keys(5, Sort::Identity), [identity]);
    assert!(house.access.log_in("ada", "correct horse".into(), NOW).await.is_ok());
}

#[test]
fn logins_have_no_look_alikes() {
    for login in ["a", "ada", "ada.l", "ada@example.org", "7", "a_b-c+d"] {
        assert!(is_login(login), "{login}");
        assert_eq!(normal_login(&format!(" {} ", login.to_uppercase())), login);
    }
    for login in ["", " ", "Ada", "аda", "a b", "-a", ".a", "@a", "a/b", "a\u{200b}", "é", "a\n"]
    {
        assert!(!is_login(login), "{login:?}");
    }
    assert!(is_login(&"a".repeat(LOGIN_BYTES_MAX)));
    assert!(!is_login(&"a".repeat(LOGIN_BYTES_MAX + 1)));
    assert!(!is_login(&normal_login(&"a".repeat(10_000))));
}

/// The lines that the README gives to back ends, run as they stand.
#[test]
fn the_readme_speaks_for_back_ends() {
    let readme = include_str!("README.md");
    let now_ms = crate::commit::now_ms();
    let identity = [SiteKey { id: "kid".into(), secret: "s3cret/é".into(), made_ms: 0 }];
    let known = Known { app: "shop", identity: &identity, public: &[] };
    let arguments = r#"("shop", "kid", "s3cret/é", "visitor-7", "李小龙")"#;
    for (language, program, flag, call) in [
        ("js", "node", "-e", "process.stdout.write(identityToken"),
        ("python", "python3", "-c", "print(identity_token"),
        ("php", "php", "-r", "print(identity_token"),
    ] {
        let block = readme.split(&format!("```{language}\n")).nth(1).unwrap();
        let block = block.split("```").next().unwrap();
        let script = format!("{block}\n{call}{arguments})");
        let script = if language == "php" { format!("{script};") } else { script };
        let ran = std::process::Command::new(program).args([flag, &script]).output();
        let Ok(ran) = ran else {
            eprintln!("skipped: {program} is not installed");
            continue;
        };
        let said = String::from_utf8_lossy(&ran.stderr);
        assert!(ran.status.success(), "{program}: {said}");
        let token = String::from_utf8(ran.stdout).unwrap();
        let vouched = identity::verify(token.trim(), known, now_ms).unwrap();
        assert_eq!((vouched.subject.as_str(), vouched.name.as_str()), ("visitor-7", "李小龙"));
    }
}
