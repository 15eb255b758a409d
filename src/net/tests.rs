//! Real sockets on loopback, with a house of cardboard behind them.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hyper::{Request, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use lodge_proto::refusal::{Refusal, RefusalCode};
use lodge_storage::disk::RealDisk;
use lodge_storage::{Options, Store};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::body::DiskPool;
use super::doors::Doors;
use super::guard::tests::frame;
use super::house::{Credentials, Face, House, Origin, Place};
use super::lease::{Holder, KEY_BYTES, Leases};
use super::sniff::tests::png_of;
use super::upload::Uploads;
use super::websocket::Message;
use crate::config::Config;
use crate::console::exchange::{Answer, Asked};
use crate::desk::entry::File;
use crate::limits::UPLOAD_BYTES_MAX;
use crate::telemetry::Telemetry;

/// Long enough for anything on a busy machine; reached only by a failure.
const PATIENCE: Duration = Duration::from_secs(60);

struct Lab {
    address: SocketAddr,
    scratch: TempDir,
    ready: Arc<AtomicBool>,
    files: Arc<Mutex<BTreeMap<u64, File>>>,
    leases: Leases,
    telemetry: Arc<Telemetry>,
    hanging: Arc<Hanging>,
    stop: watch::Sender<bool>,
}

/// Requests that the house does not answer: how many there are, and were at most.
#[derive(Debug, Default)]
struct Hanging {
    now: AtomicUsize,
    most: AtomicUsize,
}

struct Hung(Arc<Hanging>);

impl Hung {
    fn enter(hanging: Arc<Hanging>) -> Hung {
        let now = hanging.now.fetch_add(1, Ordering::Relaxed) + 1;
        hanging.most.fetch_max(now, Ordering::Relaxed);
        Hung(hanging)
    }
}

impl Drop for Hung {
    fn drop(&mut self) {
        self.0.now.fetch_sub(1, Ordering::Relaxed);
    }
}

/// An answer as it came, with lower-case header names.
#[derive(Debug)]
struct Got {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Got {
    fn parse(bytes: &[u8]) -> Got {
        let end = bytes.windows(4).position(|it| it == b"\r\n\r\n").unwrap_or_else(|| {
            panic!("no answer in {:?}", String::from_utf8_lossy(bytes));
        });
        let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Got { status, head: head.to_lowercase(), body: bytes[end + 4..].to_vec() }
    }

    fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.split("\r\n").skip(1).filter_map(|it| it.split_once(": "));
        lines.find(|(key, _)| *key == name).map(|(_, value)| value)
    }

    fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("no JSON in {self:?}"))
    }

    fn code(&self) -> u64 {
        self.json()["error"]["code"].as_u64().unwrap()
    }
}

impl Lab {
    async fn plain() -> Lab {
        Lab::open("mode = \"plain\"").await
    }

    async fn open(listen: &str) -> Lab {
        let scratch = tempfile::tempdir().unwrap();
        let config = format!(
            "data_dir = {:?}\n[listen]\naddress = \"127.0.0.1:0\"\n{listen}\n[metrics]\ntoken = \"secret\"",
            scratch.path().to_str().unwrap()
        );
        let doors = Doors::open(&Config::parse(&config).unwrap()).unwrap();
        let address = doors.addresses()[0];
        let (ready, files) = (Arc::<AtomicBool>::default(), Arc::default());
        let telemetry = Arc::<Telemetry>::default();
        let hanging = Arc::<Hanging>::default();
        let house = cardboard(scratch.path(), &ready, &files, &telemetry, &hanging);
        let (stop, stopped) = watch::channel(false);
        tokio::spawn(doors.serve(house, stopped));
        let leases = Leases::new(&[7; KEY_BYTES]);
        Lab { address, scratch, ready, files, leases, telemetry, hanging, stop }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Sends bytes as they are and takes all that comes back until the server closes.
    async fn raw(&self, bytes: impl AsRef<[u8]>) -> Vec<u8> {
        let mut tcp = self.connect().await;
        // The server may answer and close before it has read everything.
        let _ = tcp.write_all(bytes.as_ref()).await;
        read_all(&mut tcp).await
    }

    async fn ask(&self, line: &str, headers: &[(&str, &str)], body: &[u8]) -> Got {
        let mut request = format!("{line} HTTP/1.1\r\nconnection: close\r\n");
        if !headers.iter().any(|(name, _)| *name == "host") {
            request.push_str(&format!("host: {}\r\n", self.address));
        }
        for (name, value) in headers {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        if !body.is_empty() {
            request.push_str(&format!("content-length: {}\r\n", body.len()));
        }
        request.push_str("\r\n");
        Got::parse(&self.raw([request.as_bytes(), body].concat()).await)
    }

    async fn get(&self, path: &str) -> Got {
        self.ask(&format!("GET {path}"), &[], b"").await
    }

    async fn upload(&self, body: &[u8]) -> Got {
        let headers = [("authorization", "Bearer visitor"), ("origin", "https://shop.example")];
        self.ask("POST /api/v1/uploads?app=shop&name=x", &headers, body).await
    }

    /// Uploads and makes a file of the ticket, as a draft would.
    async fn keep(&self, seq: u64, name: &str, body: &[u8]) -> File {
        let got = self.upload(body).await;
        assert_eq!(got.status, 201, "{got:?}");
        let ticket = got.json()["upload"].as_str().unwrap().to_owned();
        let mut file =
            self.leases.open(&ticket, Holder::Device([1; 16]), crate::commit::now_ms()).unwrap();
        file.name = name.to_owned();
        self.files.lock().unwrap().insert(seq, file.clone());
        file
    }

    async fn download(&self, seq: u64, headers: &[(&str, &str)]) -> Got {
        let headers = [&[("authorization", "Bearer visitor")], headers].concat();
        self.ask(&format!("GET /api/v1/files/{ID}/1/{seq}?app=shop"), &headers, b"").await
    }
}

const ID: &str = "AQEBAQEBAQEBAQEBAQEBAQ";

async fn read_all(tcp: &mut (impl AsyncReadExt + Unpin)) -> Vec<u8> {
    let mut bytes = Vec::new();
    // A reset after the answer is an end, too.
    let _ = timeout(PATIENCE, tcp.read_to_end(&mut bytes)).await.expect("the server keeps it open");
    bytes
}

fn cardboard(
    scratch: &Path,
    ready: &Arc<AtomicBool>,
    files: &Arc<Mutex<BTreeMap<u64, File>>>,
    telemetry: &Arc<Telemetry>,
    hanging: &Arc<Hanging>,
) -> House {
    let hanging = hanging.clone();
    let store = Store::open(Arc::new(RealDisk), scratch, &Options::default(), &mut |_| {}).unwrap();
    let blobs = store.blobs;
    let disk = DiskPool::new();
    let uploads = Uploads::new(blobs.clone(), disk.clone(), Leases::new(&[7; KEY_BYTES]));
    let (ready, files) = (ready.clone(), files.clone());
    let who = |asking: &Credentials| match (asking.bearer.as_deref(), asking.cookie.as_deref()) {
        (Some("visitor"), _) => Ok(Holder::Device([1; 16])),
        (Some("panic"), _) => panic!("a bug, for the test that counts it"),
        (None, Some("agent")) => Ok(Holder::Agent(1)),
        _ => Err(Refusal::new(RefusalCode::TokenInvalid)),
    };
    House {
        answer: Box::new(move |asked: Asked| {
            let hanging = hanging.clone();
            Box::pin(async move {
                if asked.path == ["hang"] {
                    let _hung = Hung::enter(hanging);
                    std::future::pending::<()>().await;
                }
                let seen = serde_json::json!({
                    "method": format!("{:?}", asked.method),
                    "path": asked.path,
                    "query": asked.query,
                    "origin": asked.origin,
                    "cookie": asked.cookie,
                    "csrf": asked.csrf_header,
                    "peer": asked.peer.to_string(),
                    "secure": asked.secure,
                    "host": asked.host,
                    "body": String::from_utf8_lossy(&asked.body),
                });
                Answer::json(200, &seen)
            })
        }),
        origin: Box::new(|it: &Origin<'_>| {
            let own = format!("{}://{}", if it.secure { "https" } else { "http" }, it.host);
            let allowed = match (it.app, it.origin) {
                (_, Some(origin)) if origin == own => true,
                (Some("shop"), Some("https://shop.example")) | (None, None) => true,
                (Some("app"), None | Some("null")) => true,
                _ => false,
            };
            allowed.then_some(()).ok_or(Refusal::new(RefusalCode::Origin))
        }),
        face: Box::new(|app| {
            (app == "shop").then(|| Face {
                name: "<Shop>".into(),
                origins: vec!["https://shop.example".into()],
            })
        }),
        holder: Box::new(who),
        file: Arc::new(move |asking, place: Place| {
            who(asking)?;
            let unknown = Refusal::new(RefusalCode::UnknownConversation);
            if place.conversation != [1; 16] || place.lane != 1 {
                return Err(unknown);
            }
            files.lock().unwrap().get(&place.seq).cloned().ok_or(unknown)
        }),
        sit: Box::new(|asking, encoding| {
            if asking.app.is_none() && asking.cookie.as_deref() != Some("agent") {
                return Err(Refusal::new(RefusalCode::TokenInvalid));
            }
            let cookie = asking.cookie.clone();
            Ok(Box::new(move |mut socket| {
                Box::pin(async move {
                    socket
                        .send(format!("{encoding:?} {cookie:?}").as_bytes(), false)
                        .await
                        .unwrap();
                    loop {
                        let (echo, binary) = match socket.receive().await {
                            Ok(Message::Binary(bytes)) => (bytes.to_vec(), true),
                            Ok(Message::Text(text)) => (text.as_bytes().to_vec(), false),
                            Err(_) => return socket.close(1000, "").await,
                        };
                        if socket.send(&echo, binary).await.is_err() {
                            return;
                        }
                    }
                })
            }))
        }),
        ready: Box::new(move || {
            ready.load(Ordering::Relaxed).then_some(()).ok_or("the log is being read".into())
        }),
        metrics: Box::new(|| vec![("lodge_test", "gauge", 5)]),
        telemetry: telemetry.clone(),
        uploads: Arc::new(uploads),
        blobs,
        disk,
    }
}

// -- the parser

#[tokio::test]
async fn where_a_request_ends_is_never_a_matter_of_opinion() {
    let lab = Lab::plain().await;
    let smuggled = "GET /healthz HTTP/1.1\r\nhost: evil\r\n\r\n";
    let cases = [
        ("content-length: 4\r\ntransfer-encoding: chunked\r\n", 411),
        ("transfer-encoding: chunked\r\ncontent-length: 4\r\n", 411),
        ("transfer-encoding: chunked\r\n", 411),
        ("transfer-encoding: identity, chunked\r\n", 411),
        ("transfer-encoding: chunked, identity\r\n", 400),
        ("transfer-encoding: xchunked\r\n", 400),
        ("content-length: 4\r\ncontent-length: 5\r\n", 400),
        ("content-length: 4, 5\r\n", 400),
        ("content-length: +4\r\n", 400),
        ("content-length: -4\r\n", 400),
        ("content-length: 0x4\r\n", 400),
        ("content-length: 18446744073709551616\r\n", 400),
        ("content-length : 4\r\n", 400),
        (" folded: 4\r\n", 400),
        ("a: b\r\n folded\r\n", 400),
        ("a: b\0c\r\n", 400),
        ("host: two\r\n", 400),
    ];
    for (headers, status) in cases {
        let request = format!(
            "POST /api/v1/echo HTTP/1.1\r\nhost: {}\r\n{headers}\r\n0\r\n\r\n{smuggled}",
            lab.address
        );
        let bytes = lab.raw(&request).await;
        assert_eq!(Got::parse(&bytes).status, status, "{headers:?}");
        let answers = bytes.windows(9).filter(|it| it == b"HTTP/1.1 ").count();
        assert_eq!(answers, 1, "{headers:?}: what follows was answered, too");
    }
}

#[tokio::test]
async fn what_is_no_http_is_sent_away() {
    let lab = Lab::plain().await;
    for bytes in [
        &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..],
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET / HTTP/3.0\r\n\r\n",
        b"GET\0/ HTTP/1.1\r\nhost: a\r\n\r\n",
        b"GET /\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"\r\n\r\n\r\n\x00\xff",
    ] {
        let answer = lab.raw(bytes).await;
        assert!(answer.is_empty() || Got::parse(&answer).status >= 400, "{bytes:?}");
    }
    assert_eq!(lab.get("/healthz").await.status, 200);
}

#[tokio::test]
async fn a_head_is_as_large_as_it_may_be() {
    let lab = Lab::plain().await;
    // Two more stand in every request of the lab.
    for (count, status) in [(61, 200), (62, 200), (63, 431)] {
        let names: Vec<String> = (0..count).map(|n| format!("x-{n}")).collect();
        let headers: Vec<_> = names.iter().map(|it| (it.as_str(), "1")).collect();
        assert_eq!(lab.ask("GET /healthz", &headers, b"").await.status, status, "{count} more");
    }
    let long = "x".repeat(20 * 1024);
    assert_eq!(lab.ask("GET /healthz", &[("a", &long)], b"").await.status, 431);
    assert!(matches!(lab.get(&format!("/{long}")).await.status, 414 | 431));
    assert_eq!(lab.get(&format!("/{}", &long[..5000])).await.status, 414);
}

#[tokio::test]
async fn a_path_leads_nowhere_but_where_it_says() {
    let lab = Lab::plain().await;
    for path in [
        "/console/../../etc/passwd",
        "/console/%2e%2e/x",
        "/console/..%2fx",
        "/widget/%00.js",
        "//healthz",
        "/healthz//",
        "/widget//app.js",
        "/%2fhealthz",
        "/console/a%5cb",
    ] {
        assert_eq!(lab.get(path).await.status, 400, "{path}");
    }
    for path in [
        "/console/%252e%252e/x.js",
        "/nothing",
        "/api/v1",
        "/api/v2/x",
        "/chat",
        "/chat/a/b",
        "/widget/none.js",
    ] {
        assert_eq!(lab.get(path).await.status, 404, "{path}");
    }
    let root = lab.get("/").await;
    assert_eq!((root.status, root.header("location")), (302, Some("/console/")));
    assert_eq!(lab.ask("POST /healthz", &[], b"").await.status, 405);
    assert_eq!(lab.ask("TRACE /api/v1/me", &[], b"").await.status, 405);
    assert_eq!(lab.ask("DELETE /widget.js", &[], b"").await.status, 405);
}

#[tokio::test(start_paused = true)]
async fn who_is_too_slow_is_let_go() {
    let lab = Lab::plain().await;
    for part in ["", "GET /healthz HTT", "GET /healthz HTTP/1.1\r\nhost: a\r\nx: "] {
        let mut tcp = lab.connect().await;
        tcp.write_all(part.as_bytes()).await.unwrap();
        let answer = read_all(&mut tcp).await;
        assert!(answer.is_empty() || Got::parse(&answer).status == 408, "{part:?}");
    }
    let head = format!(
        "POST /api/v1/echo HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\ncontent-length: 10\r\n\r\nhalf",
        lab.address
    );
    let mut tcp = lab.connect().await;
    tcp.write_all(head.as_bytes()).await.unwrap();
    assert_eq!(Got::parse(&read_all(&mut tcp).await).status, 408);
}

#[tokio::test(start_paused = true)]
async fn a_connection_on_which_nothing_moves_is_let_go() {
    let lab = Lab::plain().await;
    let mut tcp = lab.connect().await;
    let request = format!("GET /healthz HTTP/1.1\r\nhost: {}\r\n\r\n", lab.address);
    tcp.write_all(request.as_bytes()).await.unwrap();
    // Kept alive after its answer, and closed when nobody asks again.
    assert_eq!(Got::parse(&read_all(&mut tcp).await).status, 200);
}

// -- JSON

#[tokio::test]
async fn a_json_request_arrives_taken_apart() {
    let lab = Lab::plain().await;
    let own = format!("http://{}", lab.address);
    let headers = [
        ("origin", own.as_str()),
        ("content-type", "application/json; charset=utf-8"),
        ("cookie", "lodge=agent"),
        ("x-lodge", "1"),
        ("x-forwarded-for", "6.6.6.6"),
        ("x-forwarded-proto", "https"),
    ];
    let got = lab.ask("PATCH /api/v1/sites/a%20b?x=%2B", &headers, b"{}").await;
    let seen = got.json();
    assert_eq!(seen["method"], "Patch");
    assert_eq!(seen["path"], serde_json::json!(["sites", "a b"]));
    assert_eq!(seen["query"]["x"], "+");
    assert_eq!((&seen["cookie"], &seen["csrf"]), (&"agent".into(), &true.into()));
    assert_eq!((&seen["peer"], &seen["secure"]), (&"127.0.0.1".into(), &false.into()));
    assert_eq!(seen["body"], "{}");
    assert_eq!(got.header("cache-control"), Some("no-store"));
    assert_eq!(got.header("content-type"), Some("application/json"));
}

#[tokio::test]
async fn a_body_is_json_and_as_long_as_it_may_be() {
    let lab = Lab::plain().await;
    let json = [("content-type", "application/json")];
    for (length, status) in [(65_535, 200), (65_536, 200), (65_537, 413)] {
        let body = vec![b' '; length];
        assert_eq!(lab.ask("POST /api/v1/echo", &json, &body).await.status, status, "{length}");
    }
    for mime in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""] {
        let got = lab.ask("POST /api/v1/echo", &[("content-type", mime)], b"{}").await;
        assert_eq!(got.status, 415, "{mime:?}");
    }
    assert_eq!(lab.ask("POST /api/v1/echo", &[], b"").await.status, 200);
}

#[tokio::test]
async fn the_grid_of_origins() {
    let lab = Lab::plain().await;
    let own = format!("http://{}", lab.address);
    // app, Origin -> is a write let through, is a read
    let cases = [
        ("shop", "https://shop.example", true, true),
        ("shop", own.as_str(), true, true),
        ("shop", "https://shop.example.evil", false, false),
        ("shop", "http://shop.example", false, false),
        ("shop", "null", false, false),
        ("shop", "", false, true),
        ("app", "null", true, true),
        ("app", "", true, true),
        ("app", "https://shop.example", false, false),
        ("", own.as_str(), true, true),
        ("", "https://shop.example", false, false),
        ("", "", true, true),
    ];
    for (app, origin, write, read) in cases {
        let query = if app.is_empty() { String::new() } else { format!("?app={app}") };
        let mut headers = Vec::new();
        if !origin.is_empty() {
            headers.push(("origin", origin));
        }
        for (verb, allowed) in [("POST", write), ("GET", read)] {
            let got = lab.ask(&format!("{verb} /api/v1/echo{query}"), &headers, b"").await;
            let case = format!("{verb} {app:?} {origin:?}");
            assert_eq!(got.status, if allowed { 200 } else { 403 }, "{case}");
            if !allowed {
                assert_eq!(got.code(), 3003, "{case}");
            }
            let told = (allowed && !app.is_empty() && !origin.is_empty()).then_some(origin);
            assert_eq!(got.header("access-control-allow-origin"), told, "{case}");
            assert_eq!(got.header("access-control-allow-credentials"), None, "{case}");
            assert_eq!(got.header("vary"), Some("origin").filter(|_| allowed), "{case}");
        }
    }
}

#[tokio::test]
async fn a_foreign_page_never_acts_as_an_agent() {
    let lab = Lab::plain().await;
    let cookie = ("cookie", "lodge=agent");
    let foreign = ("origin", "https://shop.example");
    let seen = lab.ask("POST /api/v1/echo?app=shop", &[cookie, foreign], b"").await.json();
    assert!(seen["cookie"].is_null(), "{seen}");
    // Uploads and files: the page is allowed, the cookie is not.
    let upload =
        lab.ask("POST /api/v1/uploads?app=shop", &[cookie, foreign, ("x-lodge", "1")], b"x").await;
    assert_eq!((upload.status, upload.code()), (401, 3001));
    let own = format!("http://{}", lab.address);
    let upload = lab.ask("POST /api/v1/uploads", &[cookie, ("origin", &own)], b"x").await;
    assert_eq!(upload.status, 401, "without the header that a form cannot send");
    let headers = [cookie, ("origin", own.as_str()), ("x-lodge", "1")];
    assert_eq!(lab.ask("POST /api/v1/uploads", &headers, b"x").await.status, 201);
}

#[tokio::test]
async fn a_browser_that_asks_first_is_told_what_visitors_need() {
    let lab = Lab::plain().await;
    let ask = [
        ("origin", "https://shop.example"),
        ("access-control-request-method", "POST"),
        ("access-control-request-headers", "authorization"),
        ("access-control-request-private-network", "true"),
    ];
    let got = lab.ask("OPTIONS /api/v1/uploads?app=shop", &ask, b"").await;
    assert_eq!(got.status, 204);
    assert_eq!(got.header("access-control-allow-origin"), Some("https://shop.example"));
    assert_eq!(got.header("access-control-allow-private-network"), Some("true"));
    let allowed = got.header("access-control-allow-headers").unwrap();
    assert!(allowed.contains("authorization") && !allowed.contains("x-lodge"), "{allowed}");
    let foreign = [("origin", "https://evil.example"), ("access-control-request-method", "POST")];
    let got = lab.ask("OPTIONS /api/v1/uploads?app=shop", &foreign, b"").await;
    assert_eq!(got.status, 403);
    assert!(!got.head.contains("access-control"), "{}", got.head);
    let got = lab.ask("OPTIONS /api/v1/login", &foreign, b"").await;
    assert_eq!(got.status, 403);
}

// -- pages and probes

#[tokio::test]
async fn every_answer_says_what_a_browser_may_do_with_it() {
    let lab = Lab::plain().await;
    lab.keep(1, "x.png", &png_of(2, 2)).await;
    let id = format!("/api/v1/files/{ID}/1/1?app=shop");
    for path in ["/", "/chat/shop", "/healthz", "/nothing", "//", "/api/v1/echo", &id, "/chat/none"]
    {
        let got =
            lab.ask(&format!("GET {path}"), &[("authorization", "Bearer visitor")], b"").await;
        assert_eq!(got.header("x-content-type-options"), Some("nosniff"), "{path}");
        assert_eq!(got.header("referrer-policy"), Some("no-referrer"), "{path}");
        let policy = got.header("content-security-policy").unwrap();
        assert!(policy.contains("default-src 'none'"), "{path}: {policy}");
        assert!(policy.contains("frame-ancestors"), "{path}: {policy}");
        assert_eq!(got.header("strict-transport-security"), None, "{path}: plain HTTP");
    }
    let chat = lab.get("/chat/shop").await;
    let policy = chat.header("content-security-policy").unwrap().to_owned();
    assert!(policy.ends_with("frame-ancestors 'self' https://shop.example"), "{policy}");
    assert!(policy.contains(&format!("connect-src 'self' ws://{}", lab.address)), "{policy}");
    let page = String::from_utf8(chat.body).unwrap();
    assert!(page.contains("&lt;Shop&gt;") && page.contains("data-app=\"shop\""));
    assert_eq!(lab.get("/chat/none").await.code(), 4011);
}

#[tokio::test]
async fn every_file_of_the_bundle_is_served() {
    let lab = Lab::plain().await;
    for path in lodge_appliance::assets() {
        let Some(expected) = lodge_appliance::asset(path) else { panic!("{path} is listed") };
        if path.ends_with(".html") {
            continue;
        }
        let got = lab.get(&format!("/{path}")).await;
        let served = path.starts_with("widget") || path.starts_with("console/");
        assert_eq!(got.status, if served { 200 } else { 404 }, "{path}");
        if served {
            assert_eq!(got.body, expected.bytes, "{path}");
            let head = lab.ask(&format!("HEAD /{path}"), &[], b"").await;
            let length = expected.bytes.len().to_string();
            assert_eq!(
                (head.header("content-length"), head.body.len()),
                (Some(length.as_str()), 0)
            );
        }
    }
}

#[tokio::test]
async fn probes_tell_what_they_are_for_and_to_whom() {
    let lab = Lab::plain().await;
    assert_eq!(lab.get("/healthz").await.status, 200);
    let got = lab.get("/readyz").await;
    assert_eq!((got.status, got.body.as_slice()), (503, &b"the log is being read\n"[..]));
    lab.ready.store(true, Ordering::Relaxed);
    assert_eq!(lab.get("/readyz").await.status, 200);
    let metrics = lab.get("/metrics").await;
    assert!(String::from_utf8(metrics.body).unwrap().contains("lodge_test 5"));
    // Through a proxy that forgot to be trusted, everybody would be near.
    let forwarded = [("x-forwarded-for", "192.0.2.1")];
    assert_eq!(lab.ask("GET /metrics", &forwarded, b"").await.status, 403);
    let told = [("x-forwarded-for", "192.0.2.1"), ("authorization", "Bearer secret")];
    assert_eq!(lab.ask("GET /metrics", &told, b"").await.status, 200);
    let wrong = [("x-forwarded-for", "192.0.2.1"), ("authorization", "Bearer secret2")];
    assert_eq!(lab.ask("GET /metrics", &wrong, b"").await.status, 403);
}

#[tokio::test]
async fn behind_a_proxy_its_word_counts_and_nobody_elses() {
    let lab = Lab::open("mode = \"proxy\"\ntrusted_proxies = [\"127.0.0.1\"]").await;
    let headers = [
        ("host", "chat.example"),
        ("origin", "https://chat.example"),
        ("x-forwarded-for", "6.6.6.6, 192.0.2.7"),
        ("x-forwarded-proto", "https"),
        ("cookie", "__Host-lodge=agent"),
    ];
    let seen = lab.ask("POST /api/v1/echo", &headers, b"").await.json();
    assert_eq!((&seen["peer"], &seen["secure"]), (&"192.0.2.7".into(), &true.into()));
    assert_eq!(seen["cookie"], "agent");
    assert_eq!(lab.get("/metrics").await.status, 403, "a near address is the proxy's");
    let stranger = Lab::open("mode = \"proxy\"\ntrusted_proxies = [\"192.0.2.1\"]").await;
    let request = format!("GET /healthz HTTP/1.1\r\nhost: {}\r\n\r\n", stranger.address);
    assert!(stranger.raw(request).await.is_empty());
}

// -- files

#[tokio::test]
async fn an_upload_is_as_long_as_it_may_be() {
    let lab = Lab::plain().await;
    for length in [1, 255, 256 * 1024 - 1, 256 * 1024, 256 * 1024 + 1, 700_001] {
        let body: Vec<u8> = (0..length).map(|n: usize| (n % 251) as u8).collect();
        lab.keep(1, "file", &body).await;
        let got = lab.download(1, &[]).await;
        assert_eq!((got.status, got.body == body), (200, true), "{length}");
    }
    let cap = usize::try_from(UPLOAD_BYTES_MAX).unwrap();
    let body = vec![5; cap];
    assert_eq!(lab.upload(&body).await.json()["size"], UPLOAD_BYTES_MAX);
    let announce = |length: usize| {
        format!(
            "POST /api/v1/uploads?app=shop HTTP/1.1\r\nhost: {}\r\norigin: https://shop.example\r\n\
             authorization: Bearer visitor\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n",
            lab.address
        )
    };
    // Refused by its head, before a byte of it is sent.
    let got = Got::parse(&lab.raw(announce(cap + 1)).await);
    assert_eq!((got.status, got.code()), (413, 4007));
    assert_eq!(Got::parse(&lab.raw(announce(0)).await).status, 400);
    let none = lab
        .ask(
            "POST /api/v1/uploads?app=shop",
            &[("authorization", "Bearer visitor"), ("origin", "https://shop.example")],
            b"",
        )
        .await;
    assert_eq!(none.status, 411);
    assert_eq!(lab.ask("GET /api/v1/uploads?app=shop", &[], b"").await.status, 405);
}

#[tokio::test]
async fn an_upload_that_breaks_off_leaves_its_place_and_its_room() {
    let lab = Lab::plain().await;
    let total = 400_000;
    for percent in [0, 1, 50, 99] {
        for _ in 0..8 {
            let mut tcp = lab.connect().await;
            let head = format!(
                "POST /api/v1/uploads?app=shop HTTP/1.1\r\nhost: {}\r\norigin: https://shop.example\r\n\
                 authorization: Bearer visitor\r\ncontent-length: {total}\r\n\r\n",
                lab.address
            );
            tcp.write_all(head.as_bytes()).await.unwrap();
            tcp.write_all(&vec![1; total * percent / 100]).await.unwrap();
            drop(tcp);
        }
    }
    // The places of those that broke off are given back; a device has only four.
    let done = async {
        loop {
            match lab.upload(b"after").await.status {
                201 => break,
                status => assert_eq!(status, 429),
            }
        }
    };
    timeout(PATIENCE, done).await.expect("a place is never given back");
    assert_eq!(lab.telemetry.uploads.get(), 1);
}

#[tokio::test]
async fn a_device_uploads_four_files_at_once() {
    let lab = Lab::plain().await;
    let mut open = Vec::new();
    for _ in 0..4 {
        let mut tcp = lab.connect().await;
        let head = format!(
            "POST /api/v1/uploads?app=shop HTTP/1.1\r\nhost: {}\r\norigin: https://shop.example\r\n\
             authorization: Bearer visitor\r\ncontent-length: 3\r\nconnection: close\r\n\
             expect: 100-continue\r\n\r\n",
            lab.address
        );
        tcp.write_all(head.as_bytes()).await.unwrap();
        // The server says "continue" when it begins to read, and so has a place.
        let mut word = [0; 25];
        tcp.read_exact(&mut word).await.unwrap();
        assert_eq!(&word[..12], b"HTTP/1.1 100");
        open.push(tcp);
    }
    let fifth = lab.upload(b"abc").await;
    assert_eq!((fifth.status, fifth.code()), (429, 1002));
    assert!(fifth.header("retry-after").is_some());
    for tcp in &mut open {
        tcp.write_all(b"abc").await.unwrap();
        assert_eq!(Got::parse(&read_all(tcp).await).status, 201);
    }
    assert_eq!(lab.upload(b"abc").await.status, 201);
}

#[tokio::test]
async fn nothing_that_was_sent_can_run_here() {
    let lab = Lab::plain().await;
    let svg = &b"<svg xmlns=\"http://www.w3.org/2000/svg\" onload=\"alert(1)\"/>"[..];
    let mut polyglot = png_of(4, 4);
    polyglot.extend(b"<script>alert(1)</script>");
    let gif_without_size = &b"GIF89a"[..];
    // bytes, name, shown inline as
    let cases: [(&[u8], &str, Option<&str>); 6] = [
        (&png_of(4, 4), "图.png", Some("image/png")),
        (&polyglot, "x.html", Some("image/png")),
        (svg, "x.svg", None),
        (b"<!doctype html><script>alert(1)</script>", "x.png", None),
        (b"%PDF-1.7\n", "x.pdf", None),
        (gif_without_size, "x.gif", None),
    ];
    for (bytes, name, shown) in cases {
        let file = lab.keep(1, name, bytes).await;
        let got = lab.download(1, &[]).await;
        assert_eq!(got.body, bytes, "{name}");
        let disposition = got.header("content-disposition").unwrap();
        let kind = if shown.is_some() { "inline;" } else { "attachment;" };
        assert!(disposition.starts_with(kind), "{name}: {disposition}");
        assert_eq!(got.header("content-type"), Some(shown.unwrap_or("application/octet-stream")));
        assert!(
            got.header("content-security-policy")
                .unwrap()
                .starts_with("sandbox; default-src 'none'")
        );
        assert_eq!(file.width > 0, shown.is_some(), "{name}");
    }
}

#[tokio::test]
async fn a_file_is_for_members_and_comes_in_pieces() {
    let lab = Lab::plain().await;
    let body: Vec<u8> = (0..200_000u32).map(|n| (n % 253) as u8).collect();
    lab.keep(7, "big", &body).await;
    let whole = lab.download(7, &[]).await;
    let etag = whole.header("etag").unwrap().to_owned();
    assert_eq!(whole.header("accept-ranges"), Some("bytes"));
    let part = lab.download(7, &[("range", "bytes=65530-131080")]).await;
    assert_eq!((part.status, part.body == body[65530..=131080]), (206, true));
    assert_eq!(part.header("content-range"), Some("bytes 65530-131080/200000"));
    let tail = lab.download(7, &[("range", "bytes=-5"), ("if-range", &etag)]).await;
    assert_eq!((tail.status, tail.body.as_slice()), (206, &body[199_995..]));
    let beyond = lab.download(7, &[("range", "bytes=200000-")]).await;
    assert_eq!((beyond.status, beyond.header("content-range")), (416, Some("bytes */200000")));
    let list =
        format!("bytes={}", (0..500).map(|n| format!("{n}-{n}")).collect::<Vec<_>>().join(","));
    assert_eq!(lab.download(7, &[("range", &list)]).await.body.len(), body.len());
    let known = lab.download(7, &[("if-none-match", &etag)]).await;
    assert_eq!((known.status, known.body.len()), (304, 0));
    let path = |rest: &str| format!("GET /api/v1/files/{rest}?app=shop");
    let visitor = [("authorization", "Bearer visitor")];
    for rest in [
        format!("{ID}/1/8"),
        format!("{ID}/2/7"),
        format!("{ID}/1/07"),
        format!("{ID}/1/+7"),
        format!("{ID}/1/7/x"),
        "AgEBAQEBAQEBAQEBAQEBAQ/1/7".into(),
        "x/1/7".into(),
        format!("{ID}/1/18446744073709551616"),
    ] {
        let got = lab.ask(&path(&rest), &visitor, b"").await;
        assert_eq!((got.status, got.code()), (404, 4003), "{rest}");
    }
    let got = lab.ask(&path(&format!("{ID}/1/7")), &[("authorization", "Bearer other")], b"").await;
    assert_eq!(got.status, 401);
}

// -- WebSocket

fn upgrade(lab: &Lab, query: &str, more: &str) -> String {
    format!(
        "GET /api/v1/session{query} HTTP/1.1\r\nhost: {}\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n{more}\r\n",
        lab.address
    )
}

/// Reads up to the end of the head.
async fn read_head(tcp: &mut (impl AsyncReadExt + Unpin)) -> Got {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(timeout(PATIENCE, tcp.read_u8()).await.unwrap().unwrap());
    }
    Got::parse(&head)
}

/// One unmasked frame of the server.
async fn read_frame(tcp: &mut (impl AsyncReadExt + Unpin)) -> (u8, Vec<u8>) {
    let read = async {
        let first = tcp.read_u8().await.unwrap();
        let length = match tcp.read_u8().await.unwrap() {
            126 => usize::from(tcp.read_u16().await.unwrap()),
            127 => tcp.read_u64().await.unwrap() as usize,
            length => usize::from(length),
        };
        let mut payload = vec![0; length];
        tcp.read_exact(&mut payload).await.unwrap();
        (first, payload)
    };
    timeout(PATIENCE, read).await.unwrap()
}

const SHOP: &str =
    "origin: https://shop.example\r\nsec-websocket-protocol: chat, lodge.v1.json, lodge.v1\r\n";

#[tokio::test]
async fn a_socket_echoes_even_what_came_with_the_upgrade() {
    let lab = Lab::plain().await;
    let mut tcp = lab.connect().await;
    let early =
        [upgrade(&lab, "?app=shop", SHOP).as_bytes(), &frame(0x81, "早".as_bytes())].concat();
    tcp.write_all(&early).await.unwrap();
    let head = read_head(&mut tcp).await;
    assert_eq!(head.status, 101);
    assert_eq!(head.header("sec-websocket-accept"), Some("s3pplmbitxaq9kygzzhzrbk+xoo="));
    assert_eq!(head.header("sec-websocket-protocol"), Some("lodge.v1.json"));
    assert_eq!(head.header("sec-websocket-extensions"), None);
    assert_eq!(read_frame(&mut tcp).await, (0x81, b"Json None".to_vec()));
    assert_eq!(read_frame(&mut tcp).await, (0x81, "早".into()));
    for length in [0, 125, 126, 65_535, 65_536] {
        let bytes = frame(0x82, &vec![9; length]);
        // In pieces, so that heads and payloads are cut anywhere.
        for piece in bytes.chunks(1 + length / 3) {
            tcp.write_all(piece).await.unwrap();
        }
        assert_eq!(read_frame(&mut tcp).await, (0x82, vec![9; length]));
    }
    tcp.write_all(&frame(0x82, &vec![9; 65_537])).await.unwrap();
    let (first, payload) = read_frame(&mut tcp).await;
    assert_eq!((first, &payload[..2]), (0x88, &1009u16.to_be_bytes()[..]));
}

#[tokio::test]
async fn an_upgrade_is_judged_before_it_happens() {
    let lab = Lab::plain().await;
    let own = format!("origin: http://{}\r\nsec-websocket-protocol: lodge.v1\r\n", lab.address);
    let cookie = format!("{own}cookie: lodge=agent\r\n");
    let evil = SHOP.replace("shop.example", "evil.example");
    let absent = "sec-websocket-protocol: lodge.v1\r\n";
    let foreign_agent = format!("{SHOP}cookie: lodge=agent\r\n");
    let cases = [
        ("?app=shop", SHOP, 101),
        ("?app=shop", own.as_str(), 101),
        ("?app=shop", evil.as_str(), 403),
        ("?app=shop", absent, 403),
        ("?app=app", absent, 101),
        ("", cookie.as_str(), 101),
        ("", own.as_str(), 401),
        ("", foreign_agent.as_str(), 403),
        ("?app=shop", "origin: https://shop.example\r\n", 400),
        ("?app=shop", "origin: https://shop.example\r\nsec-websocket-protocol: lodge.v2\r\n", 400),
    ];
    for (query, more, status) in cases {
        let mut tcp = lab.connect().await;
        tcp.write_all(upgrade(&lab, query, more).as_bytes()).await.unwrap();
        assert_eq!(read_head(&mut tcp).await.status, status, "{query} {more}");
    }
    let whole = upgrade(&lab, "?app=shop", SHOP);
    for (old, new, status) in [
        ("version: 13", "version: 8", 426),
        ("upgrade: websocket", "upgrade: h2c", 426),
        ("connection: Upgrade", "connection: close", 426),
        ("dGhlIHNhbXBsZSBub25jZQ==", "c2hvcnQ=", 400),
        ("dGhlIHNhbXBsZSBub25jZQ==", "", 400),
        ("GET", "POST", 426),
    ] {
        let mut tcp = lab.connect().await;
        tcp.write_all(whole.replace(old, new).as_bytes()).await.unwrap();
        assert_eq!(read_head(&mut tcp).await.status, status, "{new}");
    }
    // A visitor's page does not speak as the agent who is signed in beside it.
    let mut tcp = lab.connect().await;
    tcp.write_all(upgrade(&lab, "?app=shop", &cookie).as_bytes()).await.unwrap();
    assert_eq!(read_head(&mut tcp).await.status, 101);
    assert_eq!(read_frame(&mut tcp).await, (0x81, b"Binary None".to_vec()));
}

#[tokio::test]
async fn a_panic_ends_its_own_connection_and_is_counted() {
    let lab = Lab::plain().await;
    let request = format!(
        "POST /api/v1/uploads?app=app HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer panic\r\n\
         content-length: 1\r\n\r\nx",
        lab.address
    );
    assert!(lab.raw(request).await.is_empty());
    assert_eq!(lab.telemetry.panics.get(), 1);
    assert_eq!(lab.get("/healthz").await.status, 200);
}

// -- TLS and HTTP/2

async fn tls(lab: &Lab, alpn: &[&[u8]]) -> tokio_rustls::client::TlsStream<TcpStream> {
    use rustls::pki_types::pem::PemObject;
    let pem = std::fs::read(lab.scratch.path().join("tls/certificate.pem")).unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(rustls::pki_types::CertificateDer::from_pem_slice(&pem).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|it| it.to_vec()).collect();
    let connector = TlsConnector::from(Arc::new(config));
    connector.connect("localhost".try_into().unwrap(), lab.connect().await).await.unwrap()
}

#[tokio::test]
async fn a_socket_works_under_tls() {
    let lab = Lab::open("").await;
    let mut stream = tls(&lab, &[b"http/1.1"]).await;
    let own = format!("origin: https://{}\r\nsec-websocket-protocol: lodge.v1\r\n", lab.address);
    stream.write_all(upgrade(&lab, "?app=shop", &own).as_bytes()).await.unwrap();
    assert_eq!(read_head(&mut stream).await.status, 101);
    assert_eq!(read_frame(&mut stream).await.0, 0x81);
    let message = vec![3; 60_000];
    stream.write_all(&frame(0x82, &message)).await.unwrap();
    assert_eq!(read_frame(&mut stream).await, (0x82, message));
}

#[tokio::test]
async fn http2_carries_requests_and_uploads() {
    let lab = Lab::open("").await;
    let stream = tls(&lab, &[b"h2", b"http/1.1"]).await;
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let handshake =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
    let (mut sender, connection) = handshake.await.unwrap();
    tokio::spawn(connection);
    let body: Vec<u8> = (0..600_000u32).map(|n| (n % 241) as u8).collect();
    let request = Request::post(format!("https://{}/api/v1/uploads?app=app", lab.address))
        .header("authorization", "Bearer visitor")
        .body(http_body_util::Full::new(hyper::body::Bytes::from(body.clone())))
        .unwrap();
    let reply = sender.send_request(request).await.unwrap();
    assert_eq!(reply.status(), StatusCode::CREATED);
    assert_eq!(reply.headers()["x-content-type-options"], "nosniff");
    let mut many = tokio::task::JoinSet::new();
    for n in 0..200 {
        let request = Request::get(format!("https://{}/api/v1/echo?n={n}", lab.address))
            .body(http_body_util::Full::default())
            .unwrap();
        let reply = sender.send_request(request);
        many.spawn(async move { reply.await.unwrap().status() });
    }
    while let Some(status) = many.join_next().await {
        assert_eq!(status.unwrap(), StatusCode::OK);
    }
    let sockets = Request::get(format!("https://{}/api/v1/session?app=app", lab.address))
        .body(http_body_util::Full::default())
        .unwrap();
    assert_eq!(sender.send_request(sockets).await.unwrap().status(), StatusCode::UPGRADE_REQUIRED);
}

#[tokio::test]
async fn rapid_resets_leave_no_work_behind() {
    let lab = Lab::open("").await;
    let (mut client, connection) = h2::client::handshake(tls(&lab, &[b"h2"]).await).await.unwrap();
    let driver = tokio::spawn(connection);
    let flood = async {
        for _ in 0..5_000 {
            let Ok(mut ready) = client.ready().await else { return };
            let request =
                Request::get(format!("https://{}/api/v1/hang", lab.address)).body(()).unwrap();
            let Ok((_, mut stream)) = ready.send_request(request, true) else { return };
            stream.send_reset(h2::Reason::CANCEL);
            client = ready;
        }
    };
    timeout(PATIENCE, flood).await.expect("the server stands still");
    driver.abort();
    let done = async {
        while lab.hanging.now.load(Ordering::Relaxed) > 0 {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, done).await.expect("requests outlive their connection");
    let most = lab.hanging.most.load(Ordering::Relaxed);
    assert!(most <= 64, "{most} requests of one connection were under way");
    assert_eq!(lab.telemetry.panics.get(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_handshake_has_a_deadline() {
    let lab = Lab::open("").await;
    for part in [&b""[..], b"\x16", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"] {
        let mut tcp = lab.connect().await;
        tcp.write_all(part).await.unwrap();
        assert!(read_all(&mut tcp).await.len() < 16, "an alert at most");
    }
    let mut tcp = lab.connect().await;
    tcp.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    assert!(read_all(&mut tcp).await.len() < 16);
}

#[tokio::test]
async fn the_wordstop_ends_what_is_idle() {
    let lab = Lab::plain().await;
    let mut tcp = lab.connect().await;
    let request = format!("GET /healthz HTTP/1.1\r\nhost: {}\r\n\r\n", lab.address);
    tcp.write_all(request.as_bytes()).await.unwrap();
    assert_eq!(read_head(&mut tcp).await.status, 200);
    lab.stop.send(true).unwrap();
    read_all(&mut tcp).await;
    assert!(timeout(PATIENCE, TcpStream::connect(lab.address)).await.unwrap().is_err());
}
