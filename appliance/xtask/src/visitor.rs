//! A visitor who writes by hand: the readable twin of the protocol over a WebSocket, one draft at a time.
//! Nothing is sent again by itself, so that every refusal is seen.

use crate::{http, run::Done, trial};
use serde_json::{Value, json};
use std::{
    io::{BufReader, ErrorKind, Read, Write as _},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

/// Entries of one page.
const PAGE: u64 = 100;
/// A frame larger than this is none of the server's.
const FRAME_BYTES_MAX: u64 = 1 << 20;

#[derive(Debug)]
pub(crate) struct Visitor {
    address: SocketAddr,
    app: String,
    pub(crate) token: String,
    device: String,
    generation: u64,
    /// The next draft's.
    counter: u64,
    /// As the server named it.
    conversation: String,
    socket: Option<BufReader<TcpStream>>,
}

/// What became of a draft.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Accepted {
        seq: u64,
    },
    Refused(u64),
    /// Nothing was heard in the time that was given.
    Silence,
}

impl Visitor {
    pub(crate) fn new(address: SocketAddr, app: &str) -> Done<Self> {
        // 16 bytes in base64url end in a letter whose last four bits are zero.
        let device = format!("{}A", trial::secret()?.chars().take(21).collect::<String>());
        let path = format!("/api/v1/visitor/token?app={app}");
        let asked = json!({ "device": device });
        let origin = format!("http://{address}");
        let answer = http::post(address, &path, &[("X-Lodge", "1"), ("Origin", &origin)], &asked)?;
        let token = answer.json()?["token"].as_str().map(str::to_owned);
        let token =
            token.ok_or_else(|| format!("no token: {}", String::from_utf8_lossy(&answer.body)))?;
        let app = app.to_owned();
        Ok(Self {
            address,
            app,
            token,
            device,
            generation: 0,
            counter: 1,
            conversation: String::new(),
            socket: None,
        })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The same visitor on the same device, not connected.
    pub(crate) fn again(&self) -> Self {
        Self {
            address: self.address,
            app: self.app.clone(),
            token: self.token.clone(),
            device: self.device.clone(),
            conversation: self.conversation.clone(),
            socket: None,
            ..*self
        }
    }

    /// From the TCP connection to HELLO_OK.
    pub(crate) fn connect(&mut self) -> Done {
        let to = self.address;
        let failed = |error: std::io::Error| format!("the visitor's socket: {error}");
        let mut stream = TcpStream::connect_timeout(&to, Duration::from_secs(5)).map_err(failed)?;
        stream.set_read_timeout(Some(Duration::from_millis(100))).map_err(failed)?;
        let asked = format!(
            "GET /api/v1/session?app={} HTTP/1.1\r\nHost: {to}\r\nOrigin: http://{to}\r\n\
             Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
             Sec-WebSocket-Protocol: lodge.v1.json\r\n\r\n",
            self.app
        );
        stream.write_all(asked.as_bytes()).map_err(failed)?;
        let mut socket = BufReader::new(stream);
        let until = Instant::now() + Duration::from_secs(10);
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            read(&mut socket, &mut byte, until)?
                .ok_or("the visitor's socket: no answer to the upgrade")?;
            head.push(byte[0]);
        }
        if !head.starts_with(b"HTTP/1.1 101") {
            return Err(format!("no WebSocket: {}", String::from_utf8_lossy(&head)));
        }
        self.socket = Some(socket);
        self.generation += 1;
        self.send(&json!({
            "op": "hello", "version": 1, "caps": 0, "device": self.device,
            "generation": self.generation, "epoch": "AAAAAAAAAAA", "cursor": 0,
            "last_counter": self.counter - 1, "settled": self.counter, "token": self.token,
            "marks": [],
        }))?;
        match self.hear(Duration::from_secs(10), |frame| {
            (frame["op"] == "hello_ok" || frame["op"] == "refused").then(|| frame.clone())
        })? {
            Some(frame) if frame["op"] == "hello_ok" => Ok(()),
            other => Err(format!("no HELLO_OK but {other:?}")),
        }
    }

    /// Sends a text under the next counter and waits for what becomes of it. After a refusal or a
    /// silence the same counter is used again.
    pub(crate) fn say(&mut self, text: &str, patience: Duration) -> Done<Answer> {
        self.submit(&json!({ "kind": "text", "text": text }), patience)
    }

    /// Uploads a file and sends it.
    pub(crate) fn give(&mut self, bytes: &[u8], patience: Duration) -> Done<Answer> {
        let (status, answer) = self.upload(bytes)?;
        if status != 201 {
            return Err(format!("an upload was answered {status}: {answer}"));
        }
        let ticket = &answer["upload"];
        let body = json!({ "kind": "file", "upload": ticket, "name": "x.bin", "caption": "" });
        self.submit(&body, patience)
    }

    fn submit(&mut self, body: &Value, patience: Duration) -> Done<Answer> {
        let counter = self.counter;
        self.send(&json!({
            "op": "draft", "counter": counter, "settled": counter, "conversation": "mine",
            "lane": "public", "body": body,
        }))?;
        let heard = self.hear(patience, |frame| {
            (frame["op"] == "settled" && frame["counter"] == counter)
                .then(|| frame["outcome"].clone())
        })?;
        let Some(outcome) = heard else { return Ok(Answer::Silence) };
        if outcome["kind"] == "accepted" {
            self.counter += 1;
            return Ok(Answer::Accepted { seq: outcome["seq"].as_u64().unwrap_or(0) });
        }
        Ok(Answer::Refused(outcome["code"].as_u64().unwrap_or(0)))
    }

    /// The texts of the conversation that can be paged, oldest first.
    pub(crate) fn history(&mut self) -> Done<Vec<String>> {
        let (mut pages, mut before, mut request) = (Vec::new(), 0, 0);
        loop {
            request += 1;
            self.send(&json!({
                "op": "page", "request": request, "conversation": "mine", "lane": "public",
                "before": before, "limit": PAGE,
            }))?;
            let mut texts = Vec::new();
            let end = self.hear(Duration::from_secs(10), |frame| {
                if let ("entry" | "paged", Some(text)) =
                    (frame["op"].as_str().unwrap_or(""), frame["body"]["text"].as_str())
                {
                    texts.push(text.to_owned());
                }
                (frame["op"] == "page_end").then(|| frame.clone())
            })?;
            let end = end.ok_or("a page does not end")?;
            pages.push(texts);
            before = end["first"].as_u64().unwrap_or(0);
            if end["more"] != true {
                pages.reverse();
                return Ok(pages.concat());
            }
        }
    }

    /// The bytes of a file that was sent; `None` where they are not given out.
    pub(crate) fn fetch(&self, seq: u64) -> Done<Option<Vec<u8>>> {
        let path = format!("/api/v1/files/{}/public/{seq}?app={}", self.conversation, self.app);
        let bearer = format!("Bearer {}", self.token);
        let origin = format!("http://{}", self.address);
        let headers = [("Authorization", bearer.as_str()), ("Origin", &origin)];
        let answer = http::get_with(self.address, &path, &headers);
        // One that ends before its end is none.
        Ok(answer.ok().filter(|answer| answer.status == 200).map(|answer| answer.body))
    }

    /// Uploads some bytes: the status and what was answered.
    pub(crate) fn upload(&self, bytes: &[u8]) -> Done<(u16, Value)> {
        let path = format!("/api/v1/uploads?app={}&name=x.bin", self.app);
        let bearer = format!("Bearer {}", self.token);
        let origin = format!("http://{}", self.address);
        let headers = [("Authorization", bearer.as_str()), ("Origin", &origin)];
        let answer = http::post_bytes(self.address, &path, &headers, bytes)?;
        Ok((answer.status, answer.json().unwrap_or_default()))
    }

    /// Shows each frame that comes until `wanted` has found what it looks for, or the time is over.
    fn hear<T>(
        &mut self,
        patience: Duration,
        mut wanted: impl FnMut(&Value) -> Option<T>,
    ) -> Done<Option<T>> {
        let until = Instant::now() + patience;
        loop {
            let Some(text) = self.receive(until)? else { return Ok(None) };
            let frames: Vec<Value> =
                serde_json::from_str(&text).map_err(|error| format!("{error}: {text}"))?;
            for frame in &frames {
                if frame["op"] == "conversation"
                    && let Some(id) = frame["id"].as_str()
                {
                    self.conversation = id.to_owned();
                }
                if frame["op"] == "ping" {
                    self.send(&json!({ "op": "pong", "nonce": frame["nonce"] }))?;
                }
            }
            // All of a batch is shown, whatever is found in it.
            let found: Vec<T> = frames.iter().filter_map(&mut wanted).collect();
            if let Some(found) = found.into_iter().next() {
                return Ok(Some(found));
            }
        }
    }

    fn send(&mut self, frame: &Value) -> Done {
        let text = json!([frame]).to_string();
        let mut bytes = vec![0x81];
        match text.len() {
            len @ 0..126 => bytes.push(0x80 | len as u8),
            len @ 126..65_536 => {
                bytes.push(0x80 | 126);
                bytes.extend((len as u16).to_be_bytes());
            }
            len => return Err(format!("a frame of {len} bytes is not sent from here")),
        }
        // A mask of zeros is a mask, and leaves the text as it is.
        bytes.extend([0; 4]);
        bytes.extend(text.as_bytes());
        let socket = self.socket.as_mut().ok_or("the visitor is not connected")?;
        socket.get_mut().write_all(&bytes).map_err(|error| format!("the visitor's socket: {error}"))
    }

    /// The next text message; `None` when the time is over.
    fn receive(&mut self, until: Instant) -> Done<Option<String>> {
        let socket = self.socket.as_mut().ok_or("the visitor is not connected")?;
        loop {
            let mut head = [0; 2];
            if read(socket, &mut head, until)?.is_none() {
                return Ok(None);
            }
            let later = Instant::now() + Duration::from_secs(5);
            let mut rest = |bytes: &mut [u8]| {
                read(socket, bytes, later)?.ok_or("the visitor's socket: half a frame".to_owned())
            };
            let len = match head[1] & 0x7F {
                126 => {
                    let mut len = [0; 2];
                    rest(&mut len)?;
                    u64::from(u16::from_be_bytes(len))
                }
                127 => {
                    let mut len = [0; 8];
                    rest(&mut len)?;
                    u64::from_be_bytes(len)
                }
                len => u64::from(len),
            };
            if len > FRAME_BYTES_MAX {
                return Err(format!("a frame of {len} bytes"));
            }
            let mut payload = vec![0; len as usize];
            rest(&mut payload)?;
            match head[0] & 0x0F {
                1 => return String::from_utf8(payload).map(Some).map_err(|it| it.to_string()),
                8 => {
                    return Err(format!(
                        "the server closed: {}",
                        String::from_utf8_lossy(&payload)
                    ));
                }
                _ => {}
            }
        }
    }
}

/// Fills `bytes`; `None` when not even the first of them came in time.
fn read(socket: &mut BufReader<TcpStream>, bytes: &mut [u8], until: Instant) -> Done<Option<()>> {
    let mut done = 0;
    while done < bytes.len() {
        match socket.read(&mut bytes[done..]) {
            Ok(0) => return Err("the server closed the visitor's socket".to_owned()),
            Ok(read) => done += read,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                if Instant::now() >= until {
                    return match done {
                        0 => Ok(None),
                        _ => Err("the visitor's socket: half a frame".to_owned()),
                    };
                }
            }
            Err(error) => return Err(format!("the visitor's socket: {error}")),
        }
    }
    Ok(Some(()))
}
