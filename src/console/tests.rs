//! The whole API over a real store in a scratch directory; only the sockets are missing.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicU32, Ordering};

use lodge_appliance::Certificate;
use lodge_storage::disk::RealDisk;
use lodge_storage::{Lane, Options, Place, Position, Store};
use serde_json::{Value, json};
use tokio::sync::Notify;

use super::exchange::Language;
use super::*;
use crate::access::ids;
use crate::access::password::Hashed;
use crate::commit::DeskThread;
use crate::desk::Person;
use crate::desk::entry::{Body, Entry};
use crate::desk::register::RegisterDraft;
use crate::limits::{LIST_ROWS_MAX, ORIGINS_MAX, SITE_KEYS_MAX, WORDING_CHARS_MAX};

const NOW: u64 = 1_764_000_000_000;
const PASSWORD: &str = "correct horse";
const SHOP: &str = "https://shop.example";
const HOST: &str = "chat.example.org";

struct House {
    rooms: Rooms,
    desk: DeskThread,
    peers: AtomicU32,
    _dir: tempfile::TempDir,
}

/// What a test sees of an answer.
#[derive(Debug, Clone, PartialEq)]
struct Seen {
    status: u16,
    body: Value,
    cookie: Option<String>,
}

impl Seen {
    fn code(&self) -> u64 {
        self.body["error"]["code"].as_u64().unwrap_or(0)
    }

    fn why(&self) -> &str {
        self.body["error"]["text"].as_str().unwrap_or_default()
    }
}

/// Whoever asks.
#[derive(Debug, Clone, Copy)]
enum By<'a> {
    Nobody,
    Cookie(&'a str),
}

impl House {
    fn new() -> House {
        let dir = tempfile::tempdir().unwrap();
        let options = Options { spare_bytes_max: 0, ..Options::default() };
        let disk = Arc::new(RealDisk);
        let store = Store::open(disk, dir.path(), &options, &mut |_| ()).unwrap();
        let lens = Arc::new(Lens::default());
        let bell = Arc::new(Bell::default());
        let moved = Arc::new(Notify::new());
        let signals = Arc::new(Signals::default());
        let started = Commit::start(
            &store.log,
            Arc::clone(&lens),
            Arc::clone(&bell),
            &signals,
            moved,
            |error| panic!("{error}"),
        );
        let (commit, desk) = started.unwrap();
        let access = Arc::new(Access::open(store.secrets, Arc::clone(&lens)).unwrap());
        let rooms = Rooms {
            ids: access.ids(),
            access,
            lens,
            commit,
            bell,
            signals,
            public_url: format!("https://{HOST}"),
            trust: lodge_appliance::trust("https://chat.example.org", Certificate::SelfMade),
            fingerprint: Some("AB:CD".into()),
        };
        House { rooms, desk, peers: AtomicU32::new(0x0a00_0000), _dir: dir }
    }

    async fn end(self) {
        self.rooms.commit.stop(self.desk).await;
    }

    /// A question as our own page asks it, each from another address.
    fn asked(&self, method: Method, path: &str, body: &str, by: By<'_>) -> Asked {
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let pair = |pair: &str| pair.split_once('=').map(|(k, v)| (k.to_owned(), v.to_owned()));
        let peer = Ipv4Addr::from(self.peers.fetch_add(1, Ordering::Relaxed));
        Asked {
            method,
            path: path.split('/').map(str::to_owned).collect(),
            query: query.split('&').filter_map(pair).collect(),
            origin: Some(format!("https://{HOST}")),
            cookie: match by {
                By::Nobody => None,
                By::Cookie(cookie) => Some(cookie.to_owned()),
            },
            csrf_header: true,
            peer: IpAddr::V4(peer),
            secure: true,
            host: HOST.into(),
            language: Language::Zh,
            body: body.as_bytes().to_vec(),
        }
    }

    async fn send(&self, asked: Asked) -> Seen {
        let answer = answer_at(&asked, &self.rooms, NOW).await;
        let cookie = answer.headers.iter().find(|(name, _)| *name == "set-cookie");
        Seen {
            status: answer.status,
            cookie: cookie.map(|(_, value)| value.clone()),
            body: match answer.body.as_slice() {
                [] => Value::Null,
                body => serde_json::from_slice(body).unwrap(),
            },
        }
    }

    async fn ask(&self, method: Method, path: &str, body: Value, by: By<'_>) -> Seen {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        self.send(self.asked(method, path, &body, by)).await
    }

    async fn get(&self, path: &str, by: By<'_>) -> Seen {
        self.ask(Method::Get, path, Value::Null, by).await
    }

    /// Sets up and gives the operator's cookie and what was shown of the site.
    async fn set_up(&self) -> (String, Value) {
        let token = self.rooms.access.make_setup_token(NOW).unwrap();
        let seen = self.ask(Method::Post, "setup", wish(&token), By::Nobody).await;
        assert_eq!(seen.status, 201, "{seen:?}");
        (value_of(&seen), seen.body)
    }

    /// Makes an agent and signs in.
    async fn agent(&self, operator: &str, login: &str, role: &str) -> (String, String) {
        let wish = json!({ "login": login, "name": login, "role": role, "password": PASSWORD });
        let made = self.ask(Method::Post, "agents", wish, By::Cookie(operator)).await;
        assert_eq!(made.status, 201, "{made:?}");
        let id = made.body["id"].as_str().unwrap().to_owned();
        (self.log_in(login, PASSWORD).await, id)
    }

    async fn log_in(&self, login: &str, password: &str) -> String {
        let wish = json!({ "login": login, "password": password });
        let seen = self.ask(Method::Post, "login", wish, By::Nobody).await;
        assert_eq!(seen.status, 200, "{seen:?}");
        value_of(&seen)
    }
}

fn wish(token: &str) -> Value {
    json!({
        "token": token, "login": "Ada", "password": PASSWORD, "name": "Ada", "site_name": "Shop",
        "origins": [format!("{SHOP}/")],
    })
}

fn value_of(seen: &Seen) -> String {
    let cookie = seen.cookie.as_deref().unwrap();
    cookie.split(['=', ';']).nth(1).unwrap().to_owned()
}

#[tokio::test]
async fn set_up_makes_one_account_and_one_site_once() {
    let house = House::new();
    assert_eq!(house.get("setup", By::Nobody).await.body["open"], false);
    let token = house.rooms.access.make_setup_token(NOW).unwrap();
    let state = house.get("setup", By::Nobody).await;
    assert_eq!(state.body["open"], true);
    assert_eq!(state.body["tls"]["trusted"], "no");
    assert_eq!(state.body["tls"]["fingerprint"], "AB:CD");

    // Whatever is wrong with the rest, the token is not spent by it and nothing is made.
    for (field, wrong) in [
        ("token", json!("guess")),
        ("login", json!("a b")),
        ("login", json!("")),
        ("password", json!("short")),
        ("password", json!("x".repeat(257))),
        ("name", json!("")),
        ("name", json!("a\nb")),
        ("site_name", json!("x".repeat(101))),
        ("origins", json!(["*"])),
        ("origins", json!("https://shop.example")),
    ] {
        let mut wish = wish(&token);
        wish[field] = wrong;
        let seen = house.ask(Method::Post, "setup", wish, By::Nobody).await;
        assert!((400..500).contains(&seen.status), "{field}: {seen:?}");
    }
    assert!(house.rooms.lens.agents().is_empty() && house.rooms.lens.sites().is_empty());

    let seen = house.ask(Method::Post, "setup", wish(&token), By::Nobody).await;
    assert_eq!(seen.status, 201, "{seen:?}");
    let app = seen.body["app"].as_str().unwrap();
    assert!(seen.body["snippet"].as_str().unwrap().contains(app));
    assert_ne!(seen.body["app_secret"], seen.body["identity_secret"]);
    let me = house.get("me", By::Cookie(&value_of(&seen))).await;
    assert_eq!((me.status, &me.body["agent"]["login"]), (200, &json!("ada")));
    assert_eq!(me.body["agent"]["role"], "operator");
    assert_eq!(me.body["sites"], json!([{ "app": app, "name": "Shop" }]));
    assert_eq!(me.body["language"], "zh");

    let again = house.ask(Method::Post, "setup", wish(&token), By::Nobody).await;
    assert_eq!((again.status, again.code()), (401, 3001));
    assert_eq!(house.get("setup", By::Nobody).await.body["open"], false);
    house.end().await;
}

#[tokio::test]
async fn a_set_up_that_was_cut_off_can_be_made_again() {
    let house = House::new();
    let draft = RegisterDraft::AgentCreated {
        login: "ada".into(),
        name: "Ada".into(),
        role: Role::Operator,
    };
    let left = house.rooms.commit.register(draft).await.unwrap();
    assert!(!house.rooms.access.has_owner());
    let (cookie, _) = house.set_up().await;
    assert_eq!(house.rooms.lens.agents().len(), 1);
    assert_eq!(house.get("me", By::Cookie(&cookie)).await.status, 200);
    assert!(house.rooms.access.has_password(left) && house.rooms.access.has_owner());
    // An account with a password is somebody's: no set-up takes it over.
    let token = house.rooms.access.make_setup_token(NOW).unwrap();
    let seen = house.ask(Method::Post, "setup", wish(&token), By::Nobody).await;
    assert_eq!(seen.status, 403, "{seen:?}");
    house.end().await;
}

#[tokio::test]
async fn two_who_use_one_set_up_token_at_once_are_one() {
    let house = House::new();
    let token = house.rooms.access.make_setup_token(NOW).unwrap();
    let (one, two) = tokio::join!(
        house.ask(Method::Post, "setup", wish(&token), By::Nobody),
        house.ask(Method::Post, "setup", wish(&token), By::Nobody),
    );
    let mut statuses = [one.status, two.status];
    statuses.sort_unstable();
    assert_eq!(statuses, [201, 401]);
    assert_eq!((house.rooms.lens.agents().len(), house.rooms.lens.sites().len()), (1, 1));
    house.end().await;
}

/// Every route with whom it lets in: nobody, an agent, an operator.
#[tokio::test]
async fn every_route_has_its_roles() {
    let house = House::new();
    let (operator, site) = house.set_up().await;
    let (agent, own_id) = house.agent(&operator, "bob", "agent").await;
    let (_, other_id) = house.agent(&operator, "eve", "agent").await;
    let app = site["app"].as_str().unwrap();
    let identity = site["identity_key_id"].as_str().unwrap();
    let rename = || json!({ "name": "Renamed" });
    use Method::{Delete, Get, Patch, Post};
    let routes = [
        (Get, "setup".to_owned(), Value::Null, [200, 200, 200]),
        (Post, "setup".into(), wish("guess"), [401, 401, 401]),
        (Get, "me".into(), Value::Null, [401, 200, 200]),
        (Get, "agents".into(), Value::Null, [401, 200, 200]),
        (Post, "agents".into(), json!({}), [401, 403, 400]),
        (Patch, format!("agents/{own_id}"), rename(), [401, 200, 200]),
        (Patch, format!("agents/{own_id}"), json!({ "role": "agent" }), [401, 403, 200]),
        (Patch, format!("agents/{own_id}"), json!({ "disabled": false }), [401, 403, 200]),
        (Patch, format!("agents/{other_id}"), rename(), [401, 404, 200]),
        (Get, "sites".into(), Value::Null, [401, 403, 200]),
        (Post, "sites".into(), rename(), [401, 403, 201]),
        (Get, format!("sites/{app}"), Value::Null, [401, 403, 200]),
        (Patch, format!("sites/{app}"), rename(), [401, 403, 200]),
        (Post, format!("sites/{app}/secrets/app/rotate"), Value::Null, [401, 403, 201]),
        (Post, format!("sites/{app}/secrets/identity/rotate"), json!({}), [401, 403, 201]),
        (Delete, format!("sites/{app}/secrets/identity/{identity}"), Value::Null, [401, 403, 204]),
        (Get, "conversations".into(), Value::Null, [401, 200, 200]),
        (Get, "people/online".into(), Value::Null, [401, 200, 200]),
        (Get, format!("site?app={app}"), Value::Null, [200, 200, 200]),
        (Post, format!("visitor/token?app={app}"), json!({}), [400, 400, 400]),
        (Post, "logout".into(), Value::Null, [401, 204, 204]),
    ];
    for (method, path, body, expected) in routes {
        let by = [By::Nobody, By::Cookie(&agent), By::Cookie(&operator)];
        for (by, expected) in by.into_iter().zip(expected) {
            let seen = house.ask(method, &path, body.clone(), by).await;
            assert_eq!(seen.status, expected, "{method:?} {path} by {by:?}: {seen:?}");
        }
        let foreign = data_encoding::BASE64URL_NOPAD.encode(&[7; 32]);
        let seen = house.ask(method, &path, body, By::Cookie(&foreign)).await;
        assert_eq!(seen.status, expected[0], "{method:?} {path} with a cookie of nobody's");
    }
    house.end().await;
}

#[tokio::test]
async fn a_foreign_page_changes_nothing_and_reads_nothing() {
    let house = House::new();
    let (operator, site) = house.set_up().await;
    let app = site["app"].as_str().unwrap();
    use Method::{Delete, Get, Patch, Post};
    for (method, path) in [
        (Post, "login".to_owned()),
        (Post, "setup".into()),
        (Post, "logout".into()),
        (Get, "me".into()),
        (Post, "agents".into()),
        (Patch, "agents/x".into()),
        (Post, "sites".into()),
        (Patch, format!("sites/{app}")),
        (Post, format!("sites/{app}/secrets/app/rotate")),
        (Delete, format!("sites/{app}/secrets/app/x")),
        (Get, "conversations".into()),
        (Get, "people/online".into()),
    ] {
        for origin in ["null", SHOP, "http://chat.example.org", "https://chat.example.org:444", ""]
        {
            let mut asked = house.asked(method, &path, "{}", By::Cookie(&operator));
            asked.origin = Some(origin.into());
            let seen = house.send(asked).await;
            assert_eq!((seen.status, seen.code()), (403, 3003), "{method:?} {path} from {origin}");
        }
        if method.is_unsafe() {
            for origin in [None, Some(format!("https://{HOST}"))] {
                let mut asked = house.asked(method, &path, "{}", By::Cookie(&operator));
                asked.csrf_header = false;
                asked.origin = origin;
                let seen = house.send(asked).await;
                assert_eq!(seen.status, 403, "{method:?} {path} without the header");
                assert!(seen.why().contains("X-Lodge"), "{seen:?}");
            }
        }
    }
    assert_eq!(house.get("me", By::Cookie(&operator)).await.status, 200);
    house.end().await;
}

#[tokio::test]
async fn bodies_that_are_not_as_agreed_are_told_so() {
    let house = House::new();
    let (operator, site) = house.set_up().await;
    let app = site["app"].as_str().unwrap();
    let agent = house.get("agents", By::Cookie(&operator)).await.body["agents"][0]["id"].clone();
    use Method::{Patch, Post};
    let routes = [
        (Post, "setup".to_owned(), wish("x")),
        (Post, "login".into(), json!({ "login": "x", "password": "x" })),
        (
            Post,
            "agents".into(),
            json!({ "login": "x", "name": "x", "role": "agent", "password": PASSWORD }),
        ),
        (
            Patch,
            format!("agents/{}", agent.as_str().unwrap()),
            json!({ "name": "x", "password": PASSWORD, "role": "agent", "disabled": false }),
        ),
        (Post, "sites".into(), json!({ "name": "x" })),
        (
            Patch,
            format!("sites/{app}"),
            json!({
                "name": "x", "origins": [SHOP], "allow_null_origin": true,
                "allow_absent_origin": true, "presence": true, "colour": "#000000",
                "bubble": "left", "texts": { "en": { "title": "x" } },
            }),
        ),
        (
            Post,
            format!("visitor/token?app={app}"),
            json!({
                "device": "AAAAAAAAAAAAAAAAAAAAAA", "secret": "x", "identity": "x", "token": "x",
                "name": "x",
            }),
        ),
    ];
    let sites = house.rooms.lens.sites();
    for (method, path, whole) in routes {
        let text = whole.to_string();
        let first = whole.as_object().unwrap().keys().next().unwrap();
        let twice = text.replacen('{', &format!("{{\"{first}\":{},", whole[first]), 1);
        let mut bodies = vec![
            String::new(),
            " ".into(),
            "null".into(),
            "7".into(),
            "\"x\"".into(),
            "[]".into(),
            format!("[{text}]"),
            "{".into(),
            text[..text.len() - 1].into(),
            format!("{text}{text}"),
            format!("\u{feff}{text}"),
            twice,
            "[".repeat(20_000),
            "{\"a\":".repeat(10_000),
            "{\"name\":1e400}".into(),
            "{\"name\":\"\\ud800\"}".into(),
            text.replacen('{', "{\"number\":1,", 1),
            text.replacen('{', "{\"__proto__\":{},", 1),
        ];
        // An object, an array and a number where something else is expected, for every field.
        for field in whole.as_object().unwrap().keys() {
            for wrong in [json!({ "$ne": "" }), json!([[1]]), json!(7)] {
                let mut body = whole.clone();
                body[field] = wrong;
                bodies.push(body.to_string());
            }
        }
        for body in bodies {
            let seen = house.send(house.asked(method, &path, &body, By::Cookie(&operator))).await;
            let short: String = body.chars().take(80).collect();
            assert_eq!((seen.status, seen.code()), (400, 4000), "{path}: {short}");
            assert!(!seen.why().is_empty() && seen.why().len() < 500, "{path}: {seen:?}");
        }
        let mut asked = house.asked(method, &path, "", By::Cookie(&operator));
        asked.body = b"{\"name\":\"\xff\xfe\"}".to_vec();
        assert_eq!(house.send(asked).await.status, 400, "{path}");
    }
    assert_eq!(house.rooms.lens.sites(), sites);
    for path in ["logout".to_owned(), format!("sites/{app}/secrets/app/rotate")] {
        for body in ["[]", "7", "{\"a\":1}", "x"] {
            let seen = house.send(house.asked(Post, &path, body, By::Cookie(&operator))).await;
            assert_eq!(seen.status, 400, "{path}: {body}");
        }
    }
    house.end().await;
}

#[tokio::test]
async fn foreign_absent_and_senseless_ids_answer_the_same() {
    let house = House::new();
    let (operator, site) = house.set_up().await;
    let (agent, _) = house.agent(&operator, "bob", "agent").await;
    let (_, other) = house.agent(&operator, "eve", "agent").await;
    let absent = ids::text(&house.rooms.ids.person(Person::Agent(999)));
    let visitor = ids::text(&house.rooms.ids.person(Person::Visitor(1)));
    let random = "AAAAAAAAAAAAAAAAAAAAAA";
    let change = || json!({ "name": "x" });
    let ids =
        [other.as_str(), &absent, &visitor, random, "1", "x", "%00", "..", &"x".repeat(5_000)];
    let mut answers = Vec::new();
    for id in ids {
        let path = format!("agents/{id}");
        answers.push(house.ask(Method::Patch, &path, change(), By::Cookie(&agent)).await);
    }
    for id in &ids[1..] {
        let path = format!("agents/{id}");
        answers.push(house.ask(Method::Patch, &path, change(), By::Cookie(&operator)).await);
    }
    let app = site["app"].as_str().unwrap();
    for path in ["sites/none", "sites/Shop", &format!("sites/{}", app.to_uppercase())] {
        answers.push(house.get(path, By::Cookie(&operator)).await);
        answers.push(house.ask(Method::Patch, path, change(), By::Cookie(&operator)).await);
    }
    for path in ["sites/none/secrets/app/rotate", &format!("sites/{app}/secrets/password/rotate")] {
        answers.push(house.ask(Method::Post, path, Value::Null, By::Cookie(&operator)).await);
    }
    let identity = site["identity_key_id"].as_str().unwrap();
    let path = format!("sites/{app}/secrets/app/{identity}");
    answers.push(house.ask(Method::Delete, &path, Value::Null, By::Cookie(&operator)).await);
    for path in ["", "x", "me/x", "agents/x/y", "sites/x/y", "setup/x", "session"] {
        answers.push(house.get(path, By::Cookie(&operator)).await);
    }
    assert_eq!(answers[0].status, 404);
    assert!(answers.iter().all(|it| *it == answers[0]), "{answers:?}");
    assert_eq!(house.rooms.lens.agent_by_login("eve").unwrap().name, "eve");
    house.end().await;
}

#[tokio::test]
async fn a_method_that_is_not_meant_here_names_those_that_are() {
    let house = House::new();
    for (path, allowed) in [
        ("setup", "GET, POST"),
        ("login", "POST"),
        ("logout", "POST"),
        ("me", "GET"),
        ("agents", "GET, POST"),
        ("agents/x", "PATCH"),
        ("sites", "GET, POST"),
        ("sites/x", "GET, PATCH"),
        ("sites/x/secrets/app/rotate", "POST"),
        ("sites/x/secrets/app/y", "DELETE"),
        ("conversations", "GET"),
        ("people/online", "GET"),
        ("site", "GET"),
        ("visitor/token", "POST"),
    ] {
        for (method, word) in [
            (Method::Get, "GET"),
            (Method::Post, "POST"),
            (Method::Patch, "PATCH"),
            (Method::Delete, "DELETE"),
        ] {
            let asked = house.asked(method, path, "", By::Nobody);
            let answer = answer_at(&asked, &house.rooms, NOW);
            let answer = answer.await;
            let meant = allowed.split(", ").any(|it| it == word);
            assert_eq!(answer.status != 405, meant, "{word} {path}");
            let named = answer.headers.iter().find(|(name, _)| *name == "allow");
            assert_eq!(named.map(|(_, value)| value.as_str()), (!meant).then_some(allowed));
        }
    }
    house.end().await;
}

#[tokio::test]
async fn the_cookie_is_out_of_reach_and_ends_with_the_session() {
    let house = House::new();
    let (operator, _) = house.set_up().await;
    let wish = json!({ "login": "ada", "password": PASSWORD }).to_string();
    for (secure, expected) in [
        (true, "__Host-lodge=@; Path=/; Secure; HttpOnly; SameSite=Strict; Max-Age=604800"),
        (false, "lodge=@; Path=/; HttpOnly; SameSite=Strict; Max-Age=604800"),
    ] {
        let mut asked = house.asked(Method::Post, "login", &wish, By::Nobody);
        asked.secure = secure;
        asked.origin = None;
        let seen = house.send(asked).await;
        let cookie = seen.cookie.clone().unwrap();
        assert_eq!(cookie.replace(&value_of(&seen), "@"), expected);
    }
    let out = house.ask(Method::Post, "logout", json!({}), By::Cookie(&operator)).await;
    assert_eq!(out.status, 204);
    assert!(out.cookie.unwrap().starts_with("__Host-lodge=; "));
    let seen = house.get("me", By::Cookie(&operator)).await;
    assert_eq!((seen.status, seen.code()), (401, 3002));
    house.end().await;
}

/// Logging out in one browser ended the connections of all others.
#[tokio::test]
async fn logging_out_ends_the_connections_of_that_session_only() {
    let house = House::new();
    let (operator, _) = house.set_up().await;
    let (here, _) = house.agent(&operator, "Bob", "agent").await;
    let there = house.log_in("bob", PASSWORD).await;
    let access = &house.rooms.access;
    let [of_here, of_there] = [&here, &there].map(|cookie| access.agent(cookie, NOW).unwrap());
    let (ear, _) = house.rooms.bell.register(bob_of(&house), [1; 16], 1).unwrap();
    let out = house.ask(Method::Post, "logout", json!({}), By::Cookie(&here)).await;
    assert_eq!(out.status, 204, "{out:?}");
    assert!(ear.take().review);
    assert_eq!(access.still(&of_here, NOW).unwrap_err().code, RefusalCode::SessionEnded);
    assert_eq!(access.still(&of_there, NOW), Ok(()));
    house.end().await;
}

#[tokio::test]
async fn agents_come_change_and_go() {
    let house = House::new();
    let (operator, _) = house.set_up().await;
    let (bob, id) = house.agent(&operator, "Bob", "agent").await;
    let path = format!("agents/{id}");
    let wish = json!({ "login": "BOB", "name": "x", "role": "operator", "password": PASSWORD });
    let taken = house.ask(Method::Post, "agents", wish, By::Cookie(&operator)).await;
    assert_eq!(taken.status, 403, "{taken:?}");

    let change = |body: Value, by| house.ask(Method::Patch, &path, body, by);
    let bare = change(json!({ "password": "another horse" }), By::Cookie(&bob)).await;
    assert_eq!(bare.status, 400, "a change of one's own needs the current password");
    let wrong = json!({ "password": "another horse", "current_password": "wrong horse" });
    assert_eq!(change(wrong, By::Cookie(&bob)).await.status, 401);
    let right = json!({ "password": "another horse", "current_password": PASSWORD });
    let elsewhere = house.log_in("bob", PASSWORD).await;
    assert_eq!(change(right, By::Cookie(&bob)).await.status, 200);
    assert_eq!(house.get("me", By::Cookie(&bob)).await.status, 200);
    assert_eq!(house.get("me", By::Cookie(&elsewhere)).await.status, 401);

    let (ear, _) = house.rooms.bell.register(bob_of(&house), [1; 16], 1).unwrap();
    let connected = house.rooms.access.agent(&bob, NOW).unwrap();
    let by_operator = json!({ "password": "third horse!" });
    assert_eq!(change(by_operator, By::Cookie(&operator)).await.status, 200);
    assert_eq!(house.get("me", By::Cookie(&bob)).await.status, 401);
    assert!(ear.take().review, "its connection asks again");
    let refused = house.rooms.access.still(&connected, NOW).unwrap_err();
    assert_eq!(refused.code, RefusalCode::SessionEnded);

    let bob = house.log_in("bob", "third horse!").await;
    let seen = change(json!({ "disabled": true }), By::Cookie(&operator)).await;
    assert_eq!((seen.status, &seen.body["disabled"]), (200, &json!(true)));
    assert_eq!(house.get("me", By::Cookie(&bob)).await.status, 401);
    let wish = json!({ "login": "bob", "password": "third horse!" });
    assert_eq!(house.ask(Method::Post, "login", wish, By::Nobody).await.status, 401);
    assert_eq!(change(json!({ "disabled": false }), By::Cookie(&operator)).await.status, 200);
    assert_eq!(house.get("me", By::Cookie(&bob)).await.status, 401, "an ended session stays so");

    let agents = house.get("agents", By::Cookie(&operator)).await;
    let text = agents.body.to_string();
    assert_eq!(agents.body["agents"].as_array().unwrap().len(), 2);
    assert!(!text.contains("password") && !text.contains("horse"), "{text}");
    let own = agents.body["agents"][0]["id"].as_str().unwrap();
    for change in [json!({ "disabled": true }), json!({ "role": "agent" })] {
        let path = format!("agents/{own}");
        let seen = house.ask(Method::Patch, &path, change, By::Cookie(&operator)).await;
        assert_eq!(seen.status, 403, "the last operator stays one");
    }
    house.end().await;
}

fn bob_of(house: &House) -> Person {
    Person::Agent(house.rooms.lens.agent_by_login("bob").unwrap().number)
}

#[tokio::test]
async fn a_one_time_password_is_told_and_then_chosen_anew() {
    let house = House::new();
    house.set_up().await;
    let once = house.rooms.access.reset_operator("ada", NOW).unwrap();
    let wish = json!({ "login": "ada", "password": once });
    let seen = house.ask(Method::Post, "login", wish.clone(), By::Nobody).await;
    assert_eq!((seen.status, &seen.body["choose_password"]), (200, &json!(true)));
    let cookie = value_of(&seen);
    let path = format!("agents/{}", seen.body["agent"]["id"].as_str().unwrap());
    let chosen = json!({ "password": "chosen horse" });
    assert_eq!(house.ask(Method::Patch, &path, chosen, By::Cookie(&cookie)).await.status, 200);
    assert_eq!(house.ask(Method::Post, "login", wish, By::Nobody).await.status, 401);
    house.log_in("ada", "chosen horse").await;
    house.end().await;
}

#[tokio::test]
async fn a_sites_settings_are_bounded_and_change_one_by_one() {
    let house = House::new();
    let (operator, site) = house.set_up().await;
    let app = site["app"].as_str().unwrap();
    let path = format!("sites/{app}");
    let by = By::Cookie(&operator);
    let origins = |count: usize| -> Vec<String> {
        (0..count).map(|nth| format!("https://s{nth}.example")).collect()
    };
    let text = |length: usize| json!({ "zh": { "greeting": "好".repeat(length) } });
    for (field, at, beyond) in [
        ("name", json!("x".repeat(NAME_CHARS_MAX)), json!("x".repeat(NAME_CHARS_MAX + 1))),
        ("name", json!("店".repeat(85)), json!("店".repeat(86))),
        ("origins", json!(origins(ORIGINS_MAX)), json!(origins(ORIGINS_MAX + 1))),
        ("texts", text(WORDING_CHARS_MAX), text(WORDING_CHARS_MAX + 1)),
        ("colour", json!("#A0b1C2"), json!("#A0b1C2D")),
        ("colour", json!(""), json!("red")),
        ("bubble", json!("left"), json!("middle")),
    ] {
        let seen = house.ask(Method::Patch, &path, json!({ field: at }), by).await;
        assert_eq!(seen.status, 200, "{field}: {seen:?}");
        let before = house.get(&path, by).await;
        let seen = house.ask(Method::Patch, &path, json!({ field: beyond }), by).await;
        assert!((400..500).contains(&seen.status), "{field}: {seen:?}");
        assert_eq!(house.get(&path, by).await, before, "a refusal changes nothing");
    }
    let seen = house.ask(Method::Patch, &path, json!({ "colour": "#A0b1C2" }), by).await.body;
    assert_eq!((&seen["colour"], &seen["bubble"]), (&json!("#a0b1c2"), &json!("left")));
    assert_eq!(seen["origins"].as_array().unwrap().len(), ORIGINS_MAX);
    let same = json!({ "origins": ["https://A.example/", "https://a.example:443"] });
    let seen = house.ask(Method::Patch, &path, same, by).await.body;
    assert_eq!(seen["origins"], json!(["https://a.example"]));
    let wrong = json!({ "origins": ["https://a.example", "https://*.example"] });
    let seen = house.ask(Method::Patch, &path, wrong, by).await;
    assert!(seen.why().contains("https://*.example"), "{seen:?}");
    house.end().await;
}

#[tokio::test]
async fn secrets_are_shown_once_and_rotate() {
    let house = House::new();
    let (operator, first) = house.set_up().await;
    let by = By::Cookie(&operator);
    let app = first["app"].as_str().unwrap();
    let path = format!("sites/{app}");
    let rotate = format!("{path}/secrets/identity/rotate");
    let second = house.ask(Method::Post, &rotate, Value::Null, by);
    let second = second.await.body;
    let shown = [&first["app_secret"], &first["identity_secret"], &second["identity_secret"]];
    for path in ["sites", &path, "me", "setup"] {
        let text = house.get(path, by).await.body.to_string();
        for secret in shown {
            assert!(!text.contains(secret.as_str().unwrap()), "{path}");
        }
    }
    let listed = |site: Value| -> Vec<String> {
        let keys = site["secrets"]["identity"].as_array().unwrap();
        keys.iter().map(|key| key["key_id"].as_str().unwrap().to_owned()).collect()
    };
    let both = listed(house.get(&path, by).await.body);
    assert_eq!(both.len(), 2);
    let old = first["identity_key_id"].as_str().unwrap();
    let remove = |id: &str| format!("{path}/secrets/identity/{id}");
    assert_eq!(house.ask(Method::Delete, &remove(old), Value::Null, by).await.status, 204);
    assert_eq!(
        listed(house.get(&path, by).await.body),
        [second["identity_key_id"].as_str().unwrap()]
    );
    let last = remove(second["identity_key_id"].as_str().unwrap());
    assert_eq!(house.ask(Method::Delete, &last, Value::Null, by).await.status, 403);
    for _ in 1..SITE_KEYS_MAX {
        let path = format!("{path}/secrets/app/rotate");
        assert_eq!(house.ask(Method::Post, &path, Value::Null, by).await.status, 201);
    }
    let path = format!("{path}/secrets/app/rotate");
    assert_eq!(house.ask(Method::Post, &path, Value::Null, by).await.code(), 4012);
    house.end().await;
}

#[tokio::test]
async fn visitors_are_let_in_by_origin() {
    let house = House::new();
    let (operator, site) = house.set_up().await;
    let app = site["app"].as_str().unwrap().to_owned();
    let device = ids::text(&[9; 16]);
    let token_at = |origin: Option<&str>| {
        let path = format!("visitor/token?app={app}");
        let body = json!({ "device": device }).to_string();
        let mut asked = house.asked(Method::Post, &path, &body, By::Nobody);
        asked.origin = origin.map(str::to_owned);
        asked.csrf_header = false;
        asked
    };
    for (origin, allowed) in [
        (Some(SHOP), true),
        (Some("https://chat.example.org"), true),
        (Some("https://evil.example"), false),
        (Some("https://shop.example.evil.example"), false),
        (Some("null"), false),
        (None, false),
    ] {
        let seen = house.send(token_at(origin)).await;
        assert_eq!(seen.status, if allowed { 200 } else { 403 }, "{origin:?}: {seen:?}");
        if !allowed {
            assert_eq!(seen.code(), 3003);
            assert!(seen.why().contains(&app), "{seen:?}");
        }
    }
    let change = json!({ "allow_null_origin": true, "allow_absent_origin": true });
    let path = format!("sites/{app}");
    assert_eq!(house.ask(Method::Patch, &path, change, By::Cookie(&operator)).await.status, 200);
    for origin in [Some("null"), None] {
        assert_eq!(house.send(token_at(origin)).await.status, 200, "{origin:?}");
    }

    let face = |origin: Option<&str>| {
        let mut asked = house.asked(Method::Get, &format!("site?app={app}"), "", By::Nobody);
        asked.origin = origin.map(str::to_owned);
        asked
    };
    let seen = house.send(face(Some(SHOP))).await;
    assert_eq!((seen.status, &seen.body["reachable"]), (200, &json!(false)));
    assert!(seen.body.get("origins").is_none(), "whom else the site lets in is nobody's business");
    assert_eq!(seen.body["limits"]["text_bytes_max"], crate::limits::TEXT_BYTES_MAX);
    assert_eq!(house.send(face(None)).await.status, 200);
    assert_eq!(house.send(face(Some("https://evil.example"))).await.status, 403);
    house.rooms.bell.register(Person::Agent(1), [1; 16], 1).unwrap();
    assert_eq!(house.send(face(Some(SHOP))).await.body["reachable"], true);
    for path in ["site", "site?app=none", "site?app="] {
        let seen = house.get(path, By::Nobody).await;
        assert_eq!((seen.status, seen.code()), (404, 4011), "{path}");
    }
    let seen = house.get(&format!("site?app={app}&debug=1"), By::Nobody).await;
    assert!(seen.why().contains("debug"), "{seen:?}");
    house.end().await;
}

#[tokio::test]
async fn a_visitor_comes_back_with_the_token_and_only_on_its_device() {
    let house = House::new();
    let (_, site) = house.set_up().await;
    let path = format!("visitor/token?app={}", site["app"].as_str().unwrap());
    let device = ids::text(&[9; 16]);
    let ask = |body: Value| house.ask(Method::Post, &path, body, By::Nobody);
    let first = ask(json!({ "device": device, "name": " Ada\n" }));
    let first = first.await.body;
    assert_eq!((&first["name"], &first["vouched"]), (&json!("Ada"), &json!(false)));
    assert_eq!(first["visitor"].as_str().unwrap().len(), ids::ID_CHARS);
    let token = first["token"].as_str().unwrap();
    let back = ask(json!({ "device": device, "token": token })).await;
    assert_eq!((back.status, &back.body["visitor"]), (200, &first["visitor"]));
    let other = ask(json!({ "device": ids::text(&[8; 16]), "token": token })).await;
    assert_eq!((other.status, other.code()), (401, 3001));
    let named = ask(json!({ "device": device, "name": "Ada" })).await;
    assert_ne!(named.body["visitor"], first["visitor"], "a typed name opens nobody's history");
    for device in ["", "x", &format!("{device}="), &device[1..], "AAAAAAAAAAAAAAAAAAAAA/"] {
        let seen = ask(json!({ "device": device })).await;
        assert_eq!((seen.status, seen.code()), (400, 4000), "{device}");
    }
    for (field, wrong) in [("token", "x"), ("identity", "a.b.c"), ("secret", "x")] {
        let seen = ask(json!({ "device": device, field: wrong })).await;
        assert_eq!((seen.status, seen.code()), (401, 3001), "{field}");
    }
    house.end().await;
}

/// Lets the lens know a conversation, as a record of the log would.
fn opened(house: &House, number: u64, time_ms: u64, text: &str) {
    let site = house.rooms.lens.sites()[0].number;
    let author = Person::Visitor(1_000 + number);
    let open = Body::Opened {
        site,
        visitor: 1_000 + number,
        name: format!("Visitor {number}"),
        vouched: false,
        page: String::new(),
    };
    for (seq, body) in [(1, open), (2, Body::Text(text.to_owned()))] {
        let place = Place::Conversation { conversation: number, lane: Lane::Public, seq };
        let record = Entry { author, origin: None, body }.record(place, time_ms);
        house.rooms.lens.apply_new(&record, Position(number * 10 + seq));
    }
}

#[tokio::test]
async fn lists_are_pages_that_go_on_without_a_gap() {
    let house = House::new();
    let (operator, site) = house.set_up().await;
    let by = By::Cookie(&operator);
    let empty = house.get("conversations?list=all", by).await.body;
    assert_eq!(empty, json!({ "conversations": [], "next": null }));
    for number in 1..=7 {
        opened(&house, number, NOW + number / 2, &"好".repeat(500));
    }
    let mut seen = Vec::new();
    let mut path = "conversations?list=unassigned&limit=3".to_owned();
    loop {
        let page = house.get(&path, by).await.body;
        let rows = page["conversations"].as_array().unwrap();
        seen.extend(rows.iter().map(|row| row["visitor"]["name"].as_str().unwrap().to_owned()));
        let Some(next) = page["next"].as_str() else { break };
        path = format!("conversations?list=unassigned&limit=3&before={next}");
    }
    let expected: Vec<String> = (1..=7).rev().map(|number| format!("Visitor {number}")).collect();
    assert_eq!(seen, expected);

    let page = house.get("conversations?list=open&limit=1", by).await.body;
    let row = &page["conversations"][0];
    assert_eq!((&row["state"], &row["assignee"]), (&json!("open"), &Value::Null));
    assert_eq!((&row["public_head"], &row["unread"]), (&json!(2), &json!(2)));
    assert_eq!(row["site"], site["app"]);
    assert_eq!(row["last"]["author_kind"], "visitor");
    assert_eq!(row["last"]["preview"].as_str().unwrap().chars().count(), 120);
    assert_eq!(row["id"], ids::text(&house.rooms.ids.conversation(7)));
    for list in ["mine", "closed"] {
        let page = house.get(&format!("conversations?list={list}"), by).await.body;
        assert_eq!(page["conversations"], json!([]), "{list}");
    }
    for query in [
        "list=everything",
        "list=",
        "limit=0",
        "limit=-1",
        "limit=+1",
        "limit=1e1",
        "limit=99999999999999999999",
        &format!("limit={}", LIST_ROWS_MAX + 1),
        "before=x",
        "before=1",
        "before=1.AAAAAAAAAAAAAAAAAAAAAA",
        "before=99999999999999999999.x",
        "sort=secret",
        "List=open",
    ] {
        let seen = house.get(&format!("conversations?{query}"), by).await;
        assert_eq!((seen.status, seen.code()), (400, 4000), "{query}");
    }
    let most = house.get(&format!("conversations?list=all&limit={LIST_ROWS_MAX}"), by).await;
    assert_eq!(most.body["conversations"].as_array().unwrap().len(), 7);
    assert_eq!(house.get("conversations?site=none", by).await.code(), 4011);
    house.end().await;
}

#[tokio::test]
async fn who_is_here_is_told_by_name_and_number() {
    let house = House::new();
    let (operator, _) = house.set_up().await;
    let (cookie, id) = house.agent(&operator, "bob", "agent").await;
    let none = house.get("people/online", By::Cookie(&cookie)).await.body;
    assert_eq!(none, json!({ "agents": [], "visitors": 0 }));
    house.rooms.bell.register(bob_of(&house), [1; 16], 1).unwrap();
    for visitor in 1..=3 {
        house.rooms.bell.register(Person::Visitor(visitor), [1; 16], 1).unwrap();
    }
    let here = house.get("people/online", By::Cookie(&cookie)).await.body;
    assert_eq!(here, json!({ "agents": [{ "id": id, "name": "bob" }], "visitors": 3 }));
    house.end().await;
}

#[tokio::test]
async fn an_address_that_hurries_is_slowed_and_no_other() {
    let house = House::new();
    let body = json!({ "login": "nobody", "password": "short" }).to_string();
    let mut last = None;
    for _ in 0..=Act::LogIn.pace().burst {
        let mut asked = house.asked(Method::Post, "login", "{}", By::Nobody);
        asked.peer = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
        last = Some(answer_at(&asked, &house.rooms, NOW).await);
    }
    let last = last.unwrap();
    assert_eq!(last.status, 429);
    assert!(last.headers.iter().any(|(name, value)| *name == "retry-after" && value == "2"));
    let elsewhere = house.send(house.asked(Method::Post, "login", &body, By::Nobody)).await;
    assert_eq!(elsewhere.status, 401);
    house.end().await;
}

#[tokio::test]
async fn a_row_of_secrets_that_is_no_password_lets_nobody_in() {
    let house = House::new();
    let (operator, _) = house.set_up().await;
    assert_eq!(Hashed::decode(b""), None);
    let draft = RegisterDraft::AgentCreated {
        login: "bare".into(),
        name: "Bare".into(),
        role: Role::Operator,
    };
    house.rooms.commit.register(draft).await.unwrap();
    for password in ["", PASSWORD] {
        let wish = json!({ "login": "bare", "password": password });
        assert_eq!(house.ask(Method::Post, "login", wish, By::Nobody).await.status, 401);
    }
    assert_eq!(house.get("me", By::Cookie(&operator)).await.status, 200);
    house.end().await;
}
