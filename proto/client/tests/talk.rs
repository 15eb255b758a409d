//! A talk against the smallest server there can be: it settles what it is sent, echoes it as entries,
//! and breaks every connection after a few messages.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot start has failed")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use fastwebsockets::{Frame, OpCode, Payload, WebSocket, upgrade};
use http_body_util::Empty;
use hyper::service::service_fn;
use hyper::upgrade::Upgraded;
use hyper::{Request, Response, body::Incoming};
use hyper_util::rt::TokioIo;
use lodge_client::{
    Body, Device, Encoding, Ended, Lane, Message, Proof, RefusalCode, Server, Settings, Talk,
    Target, Told, Trust, random_id,
};
use lodge_proto::counters::{Answer, Counters, Verdict};
use lodge_proto::frame::{ConversationState, DraftBody, EntryBody, Outcome, PersonKind, down};
use lodge_proto::session::{Event, Session};
use lodge_proto::{Batch, Down, Epoch, Id, PersonHandle, Refusal};
use tokio::net::TcpListener;

const CONVERSATION: Id = [7; 16];
const MESSAGES: u64 = 200;

#[tokio::test]
async fn every_message_arrives_once_and_in_order_though_connections_break() {
    for encoding in [Encoding::Binary, Encoding::Json] {
        let desk = Desk::default();
        let (server, _listening) = start(&desk, 3).await;
        let (talk, mut told, task) = Talk::start(settings(server, encoding));
        for tag in 0..MESSAGES {
            let message = Message::Text(format!("message {tag}"));
            assert!(talk.message(tag, Target::Mine, Lane::Public, message).await);
        }
        let (mut settled, mut seen, mut downs) = (Vec::new(), Vec::new(), 0);
        while settled.len() < MESSAGES as usize || seen.len() < MESSAGES as usize {
            match told.recv().await.expect("the talk goes on") {
                Told::Settled { tag, outcome } => settled.push((tag, outcome.unwrap().seq)),
                Told::Entry(entry) => seen.push((entry.seq, entry.body)),
                Told::Down { .. } => downs += 1,
                _ => {}
            }
        }
        settled.sort_unstable();
        assert_eq!(settled, (0..MESSAGES).map(|tag| (tag, tag + 1)).collect::<Vec<_>>());
        let expected = (0..MESSAGES).map(|tag| (tag + 1, Body::Text(format!("message {tag}"))));
        assert_eq!(seen, expected.collect::<Vec<_>>());
        assert!(downs > 0, "no connection broke, so nothing was shown");
        drop(talk);
        assert!(matches!(task.await.unwrap(), Ended::LetGo));
    }
}

#[tokio::test]
async fn a_refusal_for_good_ends_the_talk() {
    let desk = Desk::default();
    desk.0.lock().unwrap().refusing = Some(RefusalCode::TokenExpired);
    let (server, _listening) = start(&desk, 3).await;
    let (_talk, _told, task) = Talk::start(settings(server, Encoding::Binary));
    match task.await.unwrap() {
        Ended::Refused(refusal) => assert_eq!(refusal.code, RefusalCode::TokenExpired),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn what_cannot_be_sent_is_refused_at_once() {
    // Nobody listens here; what is wrong with a message needs no server.
    let server = Server::new("localhost", 1, Trust::Plain).unwrap();
    let (talk, mut told, _task) = Talk::start(settings(server, Encoding::Binary));
    talk.message(5, Target::Mine, Lane::Public, Message::Text(String::new())).await;
    loop {
        match told.recv().await.unwrap() {
            Told::Settled { tag, outcome } => {
                assert_eq!((tag, outcome.unwrap_err().code), (5, RefusalCode::TextEmpty));
                return;
            }
            Told::Down { .. } => {}
            other => panic!("{other:?}"),
        }
    }
}

fn settings(server: Server, encoding: Encoding) -> Settings {
    Settings {
        server,
        app: Some("shop".into()),
        proof: Proof::Token("token".into()),
        page: String::new(),
        device: Device::new(random_id().unwrap()),
        encoding,
        retry_max: Duration::from_millis(20),
    }
}

#[derive(Clone, Default)]
struct Desk(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    counters: Counters,
    rows: Vec<String>,
    refusing: Option<RefusalCode>,
}

/// Listens, and breaks each connection after `lifetime` batches.
async fn start(desk: &Desk, lifetime: usize) -> (Server, tokio::task::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let desk = desk.clone();
    let listening = tokio::spawn(async move {
        loop {
            let (tcp, _) = listener.accept().await.unwrap();
            let desk = desk.clone();
            tokio::spawn(async move {
                let service = service_fn(move |request| upgraded(request, desk.clone(), lifetime));
                let http = hyper::server::conn::http1::Builder::new();
                let _ = http.serve_connection(TokioIo::new(tcp), service).with_upgrades().await;
            });
        }
    });
    let server = Server::new("localhost", address.port(), Trust::Plain).unwrap().at(address);
    (server, listening)
}

async fn upgraded(
    mut request: Request<Incoming>,
    desk: Desk,
    lifetime: usize,
) -> Result<Response<Empty<Bytes>>, fastwebsockets::WebSocketError> {
    let name = request.headers()["sec-websocket-protocol"].to_str().unwrap().to_owned();
    assert_eq!(request.uri().path_and_query().unwrap().as_str(), "/api/v1/session?app=shop");
    let (response, socket) = upgrade::upgrade(&mut request)?;
    tokio::spawn(async move {
        let encoding = Encoding::of_subprotocol(&name).unwrap();
        // A connection that breaks is what this test is about.
        let _ = serve(socket.await?, desk, encoding, lifetime).await;
        Ok::<_, fastwebsockets::WebSocketError>(())
    });
    Ok(response)
}

async fn serve(
    mut socket: WebSocket<TokioIo<Upgraded>>,
    desk: Desk,
    encoding: Encoding,
    lifetime: usize,
) -> Result<(), fastwebsockets::WebSocketError> {
    let mut session = Session::new(encoding);
    for _ in 0..lifetime {
        let frame = socket.read_frame().await?;
        if !matches!(frame.opcode, OpCode::Binary | OpCode::Text) {
            return Ok(());
        }
        let mut out = answer(&desk, &mut session, &frame.payload);
        let payload = Payload::Owned(out.take());
        let frame = match encoding {
            Encoding::Binary => Frame::binary(payload),
            Encoding::Json => Frame::text(payload),
        };
        socket.write_frame(frame).await?;
        socket.flush().await?;
    }
    Ok(())
}

fn answer(desk: &Desk, session: &mut Session, batch: &[u8]) -> Batch {
    let mut out = session.batch();
    let mut state = desk.0.lock().unwrap();
    let mut settled: Vec<(u64, Answer)> = Vec::new();
    let mut hello = None;
    session
        .receive(batch, &mut out, &mut |event| match event {
            Event::Hello(greeting) => hello = Some((greeting.device, greeting.cursor)),
            Event::Draft(draft) => {
                let DraftBody::Text { text } = draft.body else { panic!("only texts are sent") };
                match state.counters.check(draft.counter, draft.settled, draft.hash) {
                    Verdict::New => {
                        state.rows.push(text.to_owned());
                        let seq = state.rows.len() as u64;
                        let answer = Answer {
                            conversation: CONVERSATION,
                            lane: Lane::Public,
                            seq,
                            position: seq,
                            time_ms: 0,
                        };
                        state.counters.reserve(draft.counter, draft.hash);
                        state.counters.accept(draft.counter, answer);
                        settled.push((draft.counter, answer));
                    }
                    Verdict::Again(answer) => settled.push((draft.counter, answer)),
                    other => panic!("{other:?}"),
                }
            }
            other => panic!("{other:?}"),
        })
        .unwrap();
    if let Some(code) = state.refusing {
        lodge_proto::session::refuse(&Refusal::new(code), &mut out);
        return out;
    }
    let mut from = state.rows.len() - settled.len().min(state.rows.len());
    if let Some((device, cursor)) = hello {
        from = cursor as usize;
        let (person, _) = session.person(device).unwrap();
        out.push(&Down::Person(down::Person {
            handle: person,
            id: device,
            kind: PersonKind::Visitor,
            name: "",
            online: true,
        }));
        out.push(&Down::HelloOk(down::HelloOk {
            version: 1,
            caps: 0,
            epoch: Epoch(9),
            person,
            counter: state.counters.highest(),
            heartbeat_ms: 25_000,
            text_max: 16_384,
            batch_max: 65_536,
            upload_max: 1,
            unsettled_max: 64,
            now_ms: 0,
            watermark: 0,
        }));
    }
    let (conversation, new) = session.conversation(CONVERSATION).unwrap();
    if new {
        out.push(&Down::Conversation(down::Conversation {
            handle: conversation,
            id: CONVERSATION,
            site: "shop",
            visitor: PersonHandle(1),
            assignee: PersonHandle(0),
            state: ConversationState::Open,
            public_head: 0,
            staff_head: 0,
            public_time_ms: 0,
            marks: Vec::new(),
        }));
    }
    for (counter, Answer { lane, seq, position, time_ms, .. }) in settled {
        let outcome = Outcome::Accepted { conversation, lane, seq, position, time_ms };
        out.push(&Down::Settled(down::Settled { counter, outcome }));
    }
    for (row, seq) in state.rows.iter().zip(1..).skip(from).take(200) {
        out.push(&Down::Entry(down::Entry {
            conversation,
            lane: Lane::Public,
            seq,
            position: seq,
            time_ms: 0,
            author: PersonHandle::SYSTEM,
            body: EntryBody::Text { text: row },
        }));
    }
    out.push(&Down::Synced(down::Synced { cursor: state.rows.len() as u64 }));
    out
}
