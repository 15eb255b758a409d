//! HTTP/1.1 and HTTP/2: the limits of a connection, and which request goes where.
//!
//! Invariants: a head is judged before a body is read; nothing is read that is longer than it may be or
//! slower than a deadline; every answer carries the headers of its kind; a foreign page never acts with an
//! agent's cookie, whatever it asks for.

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper::{Method as Verb, Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use lodge_proto::batch::Encoding;
use lodge_proto::refusal::{Refusal, RefusalCode};
use ring::digest;
use tokio::sync::watch;
use tokio::time::timeout;

use super::body::Body;
use super::house::{Credentials, Face, House, Origin, Place as FilePlace};
use super::listener::Place;
use super::peer::Proxies;
use super::policy::{self, Kind};
use super::request::{Bad, Called, once};
use super::stream::Stream;
use super::websocket::Socket;
use super::{file, page};
use crate::console::exchange::{Answer, Asked, BODY_BYTES_MAX, Method, status_of};
use crate::telemetry::Telemetry;

/// A head must be whole within this time; a connection without a request waits no longer either.
const HEAD_MS: u64 = 10_000;
/// A JSON body must be whole within this time.
const BODY_MS: u64 = 10_000;
/// The house answers within this time, or is said to be busy.
const ANSWER_MS: u64 = 30_000;
/// A connection on which nothing moves for one to two of these is let go.
const STILL_MS: u64 = 30_000;
/// Bytes of a head, over HTTP/1.1 with its request line.
const HEAD_BYTES_MAX: usize = 16 * 1024;
const HEADERS_MAX: usize = 64;
/// Streams of one HTTP/2 connection at the same time.
const STREAMS_MAX: u32 = 32;
/// Streams that were reset and still wait for us: beyond it the connection ends ("rapid reset").
const STREAMS_RESET_MAX: usize = 20;
/// Bytes that may come for one stream, and for all, before we have taken any.
const STREAM_WINDOW_BYTES: u32 = 128 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 256 * 1024;
const FRAME_BYTES_MAX: u32 = 16 * 1024;
const SEND_BUFFER_BYTES_MAX: usize = 64 * 1024;
const HEADER_TABLE_BYTES: u32 = 4 * 1024;
const PING_MS: u64 = 25_000;
const PONG_MS: u64 = 10_000;

/// What a connection needs to know of the server.
#[derive(Debug)]
pub struct Front {
    pub house: House,
    pub proxies: Proxies,
    /// The operator's own certificate is shown here, so browsers may be told to insist on TLS.
    pub lasting_tls: bool,
    /// Every request comes through a proxy, so a near address proves nothing.
    pub behind_proxy: bool,
    pub metrics_token: String,
}

/// One connection, as its requests see it.
#[derive(Debug)]
struct Line {
    front: Arc<Front>,
    socket: IpAddr,
    secure: bool,
    /// Held until the last task of the connection ends, an upgraded one included.
    _place: Place,
}

type Reply = Response<Body>;

/// Serves a connection to its end.
pub async fn serve(
    front: Arc<Front>,
    stream: Stream,
    socket: IpAddr,
    secure: bool,
    http2: bool,
    place: Place,
    mut stop: watch::Receiver<bool>,
) {
    let progress = stream.progress();
    let line = Arc::new(Line { front, socket, secure, _place: place });
    let service = service_fn(move |request| {
        let line = line.clone();
        // Boxed: the future of a request is larger than the connection that waits for one.
        Box::pin(async move { Ok::<_, Infallible>(respond(line, request).await) })
    });
    let still = async {
        let mut before = u64::MAX;
        loop {
            let now = progress.count();
            if now == before {
                return;
            }
            before = now;
            tokio::time::sleep(Duration::from_millis(STILL_MS)).await;
        }
    };
    let stopped = async {
        // A sender that is gone means the same.
        let _ = stop.wait_for(|stop| *stop).await;
    };
    // An error is the far end's: it broke the protocol, a limit, or off.
    if http2 {
        let connection = http2_limits().serve_connection(TokioIo::new(stream), service);
        tokio::pin!(connection, still, stopped);
        tokio::select! {
            _ = connection.as_mut() => return,
            () = &mut still => return,
            () = stopped => connection.as_mut().graceful_shutdown(),
        }
        tokio::select! { _ = connection => (), () = still => () }
    } else {
        let connection = http1_limits().serve_connection(TokioIo::new(stream), service);
        let connection = connection.with_upgrades();
        tokio::pin!(connection, still, stopped);
        tokio::select! {
            _ = connection.as_mut() => return,
            () = &mut still => return,
            () = stopped => connection.as_mut().graceful_shutdown(),
        }
        tokio::select! { _ = connection => (), () = still => () }
    }
}

fn http1_limits() -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_millis(HEAD_MS))
        .max_buf_size(HEAD_BYTES_MAX)
        .max_headers(HEADERS_MAX)
        .half_close(false);
    builder
}

fn http2_limits() -> http2::Builder<TokioExecutor> {
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .max_pending_accept_reset_streams(STREAMS_RESET_MAX)
        .max_local_error_reset_streams(STREAMS_RESET_MAX)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_frame_size(FRAME_BYTES_MAX)
        .max_send_buf_size(SEND_BUFFER_BYTES_MAX)
        .max_header_list_size(HEAD_BYTES_MAX as u32)
        .header_table_size(HEADER_TABLE_BYTES)
        .keep_alive_interval(Duration::from_millis(PING_MS))
        .keep_alive_timeout(Duration::from_millis(PONG_MS));
    builder
}

async fn respond(line: Arc<Line>, mut request: Request<Incoming>) -> Reply {
    let telemetry = &line.front.house.telemetry;
    telemetry.requests.inc();
    let _counted = CountPanic(telemetry);
    let head_only = request.method() == Verb::HEAD;
    let (head, body) = request.into_parts();
    let called = Called::read(&head, line.socket, line.secure, &line.front.proxies);
    request = Request::from_parts(head, body);
    let mut reply = match called {
        Ok(called) => line.route(called, request).await,
        Err(Bad { status, refusal }) => {
            let mut reply = line.refuse(status.as_u16(), &refusal, None);
            // What follows on this connection may not begin where we think that it does.
            if request.version() < hyper::Version::HTTP_2 {
                reply.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            reply
        }
    };
    if reply.status().is_client_error() || reply.status().is_server_error() {
        telemetry.refusals.inc();
    }
    let length = reply.body().len();
    if head_only && reply.status() != StatusCode::NOT_MODIFIED {
        reply.headers_mut().insert(header::CONTENT_LENGTH, length.into());
        *reply.body_mut() = Body::empty();
    }
    reply
}

impl Line {
    async fn route(&self, called: Called, request: Request<Incoming>) -> Reply {
        match called.segments().as_slice() {
            ["api", "v1", rest @ ..] if !rest.is_empty() => {
                return Box::pin(self.api(&called, request)).await;
            }
            _ => (),
        }
        if !matches!(called.verb, Verb::GET | Verb::HEAD) {
            let refusal = Refusal::because(RefusalCode::Malformed, "This is only to be read.");
            let mut reply = self.refuse(405, &refusal, Some(&called));
            reply.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
            return reply;
        }
        let asked = request.headers();
        match called.segments().as_slice() {
            [] => self.redirect("/console/", &called),
            ["console"] if !called.slash => self.redirect("/console/", &called),
            ["console", rest @ ..] => self.console(&rest.join("/"), asked, &called),
            ["setup"] => self.console("", asked, &called),
            ["widget.js"] => self.asset("widget/widget.js", asked, &called, true),
            ["widget", rest @ ..] if !rest.is_empty() => {
                self.asset(&format!("widget/{}", rest.join("/")), asked, &called, true)
            }
            ["chat", app] => self.chat(app, &called),
            ["healthz"] => self.word(200, "alive\n", &called),
            ["readyz"] => match (self.front.house.ready)() {
                Ok(()) => self.word(200, "ready\n", &called),
                Err(why) => self.word(503, &format!("{why}\n"), &called),
            },
            ["metrics"] => self.metrics(&called),
            _ => self.nothing(&called),
        }
    }

    // -- pages

    fn console(&self, path: &str, asked: &HeaderMap, called: &Called) -> Reply {
        let file = lodge_appliance::asset(&format!("console/{path}")).filter(|_| !path.is_empty());
        if let Some(file) = file.filter(|file| !file.mime.starts_with("text/html")) {
            return self.finish(page::asset(file, asked), Kind::Asset { anyone: false }, called);
        }
        // A path with a dot names a file; any other is a place inside the console.
        if path.contains('.') && file.is_none() {
            return self.nothing(called);
        }
        match lodge_appliance::asset("console/index.html") {
            Some(index) => self.finish(page::asset(index, asked), Kind::Console, called),
            None => self.nothing(called),
        }
    }

    fn asset(&self, path: &str, asked: &HeaderMap, called: &Called, anyone: bool) -> Reply {
        match lodge_appliance::asset(path).filter(|_| !called.slash) {
            Some(file) => self.finish(page::asset(file, asked), Kind::Asset { anyone }, called),
            None => self.nothing(called),
        }
    }

    fn chat(&self, app: &str, called: &Called) -> Reply {
        let Some(Face { name, origins }) = (self.front.house.face)(app) else {
            return self.refuse(404, &Refusal::new(RefusalCode::NoSuchSite), Some(called));
        };
        let mut reply = Response::new(Body::bytes(page::chat(app, &name, called.language)));
        let html = HeaderValue::from_static("text/html; charset=utf-8");
        reply.headers_mut().insert(header::CONTENT_TYPE, html);
        self.finish(reply, Kind::Chat { framed_by: &origins }, called)
    }

    // -- probes

    fn metrics(&self, called: &Called) -> Reply {
        let near = self.socket.to_canonical().is_loopback();
        let here = near && !self.front.behind_proxy && !called.forwarded;
        let token = &self.front.metrics_token;
        let told = called.bearer.as_ref().is_some_and(|bearer| same(bearer, token));
        if !here && (token.is_empty() || !told) {
            let why = "Metrics are told on this machine, or to who knows metrics.token.";
            return self.refuse(403, &Refusal::because(RefusalCode::NotAllowed, why), Some(called));
        }
        let house = &self.front.house;
        let mut reply = self.word(200, &house.telemetry.render(&(house.metrics)()), called);
        let prometheus = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
        reply.headers_mut().insert(header::CONTENT_TYPE, prometheus);
        reply
    }

    // -- the API

    /// Judges where a request comes from, answers it, and lets an allowed page read the answer.
    async fn api(&self, called: &Called, request: Request<Incoming>) -> Reply {
        let app = called.query.get("app").map(String::as_str);
        if let Err(refusal) = self.judge(called, app, &request) {
            return self.refuse(status_of(refusal.code), &refusal, Some(called));
        }
        let private_network =
            request.headers().contains_key("access-control-request-private-network");
        let mut reply = if called.verb == Verb::OPTIONS {
            let mut reply = Response::new(Body::empty());
            *reply.status_mut() = StatusCode::NO_CONTENT;
            if app.is_some() && called.origin.is_some() {
                policy::allow_request(reply.headers_mut(), private_network);
            }
            self.finish(reply, Kind::Word, called)
        } else {
            match called.segments().as_slice() {
                ["api", "v1", "session"] => self.session(called, app, request),
                ["api", "v1", "uploads"] => self.upload(called, request).await,
                ["api", "v1", "files", rest @ ..] => {
                    self.file(called, rest, request.headers()).await
                }
                _ => self.ask(called, request).await,
            }
        };
        if let (Some(_), Some(origin)) = (app, &called.origin) {
            policy::allow_origin(reply.headers_mut(), origin);
        }
        reply.headers_mut().append(header::VARY, HeaderValue::from_static("origin"));
        reply
    }

    /// What a browser sends without an Origin is a plain read, which it shows to no foreign page; so an
    /// absent Origin is judged only where something is changed or a socket opened.
    fn judge(
        &self,
        called: &Called,
        app: Option<&str>,
        request: &Request<Incoming>,
    ) -> Result<(), Refusal> {
        let socket = request.headers().contains_key(header::UPGRADE);
        if called.origin.is_none() && !called.is_unsafe() && !socket {
            return Ok(());
        }
        let origin = called.origin.as_deref();
        (self.front.house.origin)(&Origin {
            app,
            origin,
            secure: called.peer.secure,
            host: &called.host,
        })
    }

    /// Whether an agent's cookie counts: only where our own page asks, and proves it when it changes
    /// something.
    fn own_page(&self, called: &Called) -> bool {
        let origin = Origin {
            app: None,
            origin: called.origin.as_deref(),
            secure: called.peer.secure,
            host: &called.host,
        };
        (self.front.house.origin)(&origin).is_ok()
    }

    fn credentials(&self, called: &Called) -> Credentials {
        let own = self.own_page(called) && (called.csrf_header || !called.is_unsafe());
        Credentials {
            app: called.query.get("app").cloned(),
            bearer: called.bearer.clone(),
            cookie: called.cookie.clone().filter(|_| own),
            peer: called.peer.address,
        }
    }

    async fn ask(&self, called: &Called, request: Request<Incoming>) -> Reply {
        let method = match called.verb {
            Verb::GET | Verb::HEAD => Method::Get,
            Verb::POST => Method::Post,
            Verb::PATCH => Method::Patch,
            Verb::DELETE => Method::Delete,
            _ => {
                let refusal =
                    Refusal::because(RefusalCode::Malformed, "No such method is known here.");
                return self.refuse(405, &refusal, Some(called));
            }
        };
        let body = match self.body(called, request).await {
            Ok(body) => body,
            Err(reply) => return reply,
        };
        let asked = Asked {
            method,
            path: called.path.get(2..).unwrap_or_default().to_vec(),
            query: called.query.clone(),
            origin: called.origin.clone(),
            cookie: called.cookie.clone().filter(|_| self.own_page(called)),
            csrf_header: called.csrf_header,
            peer: called.peer.address,
            secure: called.peer.secure,
            host: called.host.clone(),
            language: called.language,
            body: body.into(),
        };
        match timeout(Duration::from_millis(ANSWER_MS), (self.front.house.answer)(asked)).await {
            Ok(answer) => self.answer(answer, called),
            Err(_) => self.refuse(503, &Refusal::after(RefusalCode::Busy, 2_000), Some(called)),
        }
    }

    /// A JSON body, whole and in time.
    async fn body(&self, called: &Called, request: Request<Incoming>) -> Result<Bytes, Reply> {
        let too_large = || {
            let why = format!("A request has at most {BODY_BYTES_MAX} bytes.");
            self.refuse(413, &Refusal::because(RefusalCode::TooLarge, why), Some(called))
        };
        let malformed = |status, why: &'static str| {
            self.refuse(status, &Refusal::because(RefusalCode::Malformed, why), Some(called))
        };
        let mime = once(request.headers(), header::CONTENT_TYPE, 255).ok().flatten();
        let mime = mime.and_then(|it| it.split(';').next()).map(str::trim);
        // A form of a foreign page can send three types without being asked first; JSON is none of them.
        let json = mime.is_some_and(|it| it.eq_ignore_ascii_case("application/json"));
        let announced = hyper::body::Body::size_hint(request.body()).lower();
        if announced > BODY_BYTES_MAX as u64 {
            return Err(too_large());
        }
        let collected = Limited::new(request.into_body(), BODY_BYTES_MAX).collect();
        let bytes = match timeout(Duration::from_millis(BODY_MS), collected).await {
            Ok(Ok(collected)) => collected.to_bytes(),
            Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => {
                return Err(too_large());
            }
            Ok(Err(_)) => return Err(malformed(400, "The request ended before its end.")),
            Err(_) => return Err(malformed(408, "The request came too slowly.")),
        };
        if !bytes.is_empty() && !json {
            return Err(malformed(415, "Send application/json."));
        }
        Ok(bytes)
    }

    async fn upload(&self, called: &Called, request: Request<Incoming>) -> Reply {
        if called.verb != Verb::POST {
            let refusal = Refusal::because(RefusalCode::Malformed, "Files are sent with POST.");
            return self.refuse(405, &refusal, Some(called));
        }
        let holder = match (self.front.house.holder)(&self.credentials(called)) {
            Ok(holder) => holder,
            Err(refusal) => return self.refuse(status_of(refusal.code), &refusal, Some(called)),
        };
        let (head, body) = request.into_parts();
        let uploads = &self.front.house.uploads;
        let answer = uploads.take(holder, &head.headers, body, crate::commit::now_ms()).await;
        if answer.status == 201 {
            self.front.house.telemetry.uploads.inc();
        }
        self.answer(answer, called)
    }

    async fn file(&self, called: &Called, rest: &[&str], asked: &HeaderMap) -> Reply {
        // Absent and foreign look the same.
        let unknown = || {
            let refusal = Refusal::new(RefusalCode::UnknownConversation);
            self.refuse(404, &refusal, Some(called))
        };
        if called.is_unsafe() {
            let refusal = Refusal::because(RefusalCode::Malformed, "Files are only to be read.");
            return self.refuse(405, &refusal, Some(called));
        }
        let Some(place) = file_place(rest) else { return unknown() };
        let credentials = self.credentials(called);
        let find = self.front.house.file.clone();
        let found = self.front.house.disk.run(move || find(&credentials, place)).await;
        let file = match found {
            Ok(Ok(file)) => file,
            Ok(Err(refusal)) => {
                return self.refuse(status_of(refusal.code), &refusal, Some(called));
            }
            Err(_) => {
                return self.refuse(503, &Refusal::after(RefusalCode::Busy, 2_000), Some(called));
            }
        };
        match file::answer(&file, asked, &self.front.house.blobs, &self.front.house.disk) {
            Some(reply) => self.finish(reply, Kind::File, called),
            None => unknown(),
        }
    }

    /// Judges the upgrade ourselves: the codec looks at key and version only.
    fn session(&self, called: &Called, app: Option<&str>, mut request: Request<Incoming>) -> Reply {
        let wrong = |status, why: &'static str| {
            self.refuse(status, &Refusal::because(RefusalCode::Protocol, why), Some(called))
        };
        let headers = request.headers();
        let version = headers.get(header::SEC_WEBSOCKET_VERSION).map(HeaderValue::as_bytes);
        let key = once(headers, header::SEC_WEBSOCKET_KEY, 24).ok().flatten();
        let key = key.and_then(|it| data_encoding::BASE64.decode(it.as_bytes()).ok());
        if called.verb != Verb::GET
            || request.version() != hyper::Version::HTTP_11
            || !fastwebsockets::upgrade::is_upgrade_request(&request)
            || version != Some(b"13")
        {
            let mut reply = wrong(426, "This is a WebSocket, version 13, over HTTP/1.1.");
            let headers = reply.headers_mut();
            headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
            headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
            headers.insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
            return reply;
        }
        if key.is_none_or(|key| key.len() != 16) {
            return wrong(400, "Sec-WebSocket-Key holds sixteen bytes.");
        }
        let Some(encoding) = encoding(headers) else {
            return wrong(400, "Ask for the subprotocol lodge.v1 or lodge.v1.json.");
        };
        let mut credentials = self.credentials(called);
        if app.is_some() {
            // A visitor's page never speaks as an agent, even if one is signed in beside it.
            credentials.cookie = None;
        }
        let serving = match (self.front.house.sit)(&credentials, encoding) {
            Ok(serving) => serving,
            Err(refusal) => return self.refuse(status_of(refusal.code), &refusal, Some(called)),
        };
        let Ok((reply, upgrade)) = fastwebsockets::upgrade::upgrade(&mut request) else {
            return wrong(400, "The upgrade could not be understood.");
        };
        let telemetry = self.front.house.telemetry.clone();
        tokio::spawn(async move {
            let _counted = CountPanic(&telemetry);
            // The codec's own socket is taken apart at once: it holds a buffer and would read on its own.
            let Ok(upgraded) = upgrade.await.map(|it| it.into_inner().into_inner()) else { return };
            let Ok(parts) = upgraded.downcast::<TokioIo<Stream>>() else { return };
            serving(Socket::new(parts.io.into_inner(), &parts.read_buf)).await;
        });
        let mut reply = reply.map(|_| Body::empty());
        let subprotocol = HeaderValue::from_static(encoding.subprotocol());
        reply.headers_mut().insert(header::SEC_WEBSOCKET_PROTOCOL, subprotocol);
        reply
    }

    // -- answers

    fn answer(&self, answer: Answer, called: &Called) -> Reply {
        let mut reply = Response::new(Body::bytes(answer.body));
        *reply.status_mut() =
            StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        for (name, value) in answer.headers {
            match HeaderValue::from_str(&value) {
                Ok(value) => {
                    reply.headers_mut().append(HeaderName::from_static(name), value);
                }
                Err(_) => tracing::error!(name, "a header of an answer holds what no header may"),
            }
        }
        self.finish(reply, Kind::Word, called)
    }

    fn refuse(&self, status: u16, refusal: &Refusal, called: Option<&Called>) -> Reply {
        let answer = Answer::refusal_with(status, refusal);
        let mut reply = Response::new(Body::bytes(answer.body));
        *reply.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_REQUEST);
        for (name, value) in answer.headers {
            if let Ok(value) = HeaderValue::from_str(&value) {
                reply.headers_mut().insert(HeaderName::from_static(name), value);
            }
        }
        policy::apply(reply.headers_mut(), Kind::Word, called, self.front.lasting_tls);
        reply
    }

    fn nothing(&self, called: &Called) -> Reply {
        let refusal = Refusal::because(RefusalCode::Malformed, "There is nothing here.");
        self.refuse(404, &refusal, Some(called))
    }

    fn word(&self, status: u16, text: &str, called: &Called) -> Reply {
        let mut reply = Response::new(Body::bytes(text.to_owned()));
        *reply.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::OK);
        let plain = HeaderValue::from_static("text/plain; charset=utf-8");
        reply.headers_mut().insert(header::CONTENT_TYPE, plain);
        self.finish(reply, Kind::Word, called)
    }

    fn redirect(&self, to: &'static str, called: &Called) -> Reply {
        let mut reply = Response::new(Body::empty());
        *reply.status_mut() = StatusCode::FOUND;
        reply.headers_mut().insert(header::LOCATION, HeaderValue::from_static(to));
        self.finish(reply, Kind::Word, called)
    }

    fn finish(&self, mut reply: Reply, kind: Kind<'_>, called: &Called) -> Reply {
        policy::apply(reply.headers_mut(), kind, Some(called), self.front.lasting_tls);
        reply
    }
}

/// The first of our subprotocols that the client offers.
fn encoding(headers: &HeaderMap) -> Option<Encoding> {
    let offered = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter();
    let mut names = offered.filter_map(|it| it.to_str().ok()).flat_map(|it| it.split(','));
    names.find_map(|name| Encoding::of_subprotocol(name.trim()))
}

/// CONVERSATION/LANE/SEQ, in the one way in which each is written.
fn file_place(rest: &[&str]) -> Option<FilePlace> {
    let [conversation, lane, seq] = rest else { return None };
    let id = data_encoding::BASE64URL_NOPAD.decode(conversation.as_bytes()).ok()?;
    let lane = match *lane {
        "1" | "public" => 1,
        "2" | "staff" => 2,
        _ => return None,
    };
    let plain = seq.bytes().all(|it| it.is_ascii_digit()) && !seq.starts_with('0');
    let seq = seq.parse().ok().filter(|_| plain)?;
    Some(FilePlace { conversation: id.try_into().ok()?, lane, seq })
}

/// Compares without telling by its time how much was right.
fn same(a: &str, b: &str) -> bool {
    let hash = |text: &str| digest::digest(&digest::SHA256, text.as_bytes());
    hash(a).as_ref() == hash(b).as_ref()
}

/// A panic ends its connection and is counted as the bug that it is.
struct CountPanic<'a>(&'a Telemetry);

impl Drop for CountPanic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.panics.inc();
        }
    }
}
