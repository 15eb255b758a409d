//! The calls that are not frames: who one is, and the bytes of files.
//!
//! HTTP/1.1 with a few connections kept open. Answers are bounded; nothing is followed or cached.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{AUTHORIZATION, COOKIE, HOST, HeaderValue, ORIGIN, SET_COOKIE};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};

use crate::{Error, Id, Lane, RefusalCode, Server};

/// The largest answer that is read: a file of the largest size, and room for change.
const ANSWER_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Connections that wait open for the next call.
const IDLE_MAX: usize = 64;
/// A call that takes longer has failed.
const CALL_MAX: Duration = Duration::from_secs(60);

/// A refusal over HTTP: the server's number, beside the status that it came with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    pub status: u16,
    pub code: RefusalCode,
    pub text: String,
}

/// What the server made of an upload; `ticket` goes into the draft.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upload {
    pub ticket: String,
    pub mime: String,
    pub size: u64,
}

/// How a call proves who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Proof {
    Nobody,
    /// A visitor's token.
    Token(String),
    /// An agent's session, as `name=value`.
    Cookie(String),
}

/// Calls to one server.
#[derive(Debug)]
pub struct Http {
    server: Server,
    idle: Mutex<Vec<SendRequest<Full<Bytes>>>>,
}

impl Http {
    pub fn new(server: Server) -> Http {
        Http { server, idle: Mutex::new(Vec::new()) }
    }

    /// A new visitor of a site, or the one whose token is given: the token that HELLO carries.
    pub async fn visitor(
        &self,
        app: &str,
        device: &Id,
        token: Option<&str>,
    ) -> Result<String, Error> {
        let mut body = json!({ "device": data_encoding::BASE64URL_NOPAD.encode(device) });
        if let Some(token) = token {
            body["token"] = Value::from(token);
        }
        let path = format!("/api/v1/visitor/token?app={app}");
        let answer = self.json(Method::POST, &path, &Proof::Nobody, &body).await?;
        text_of(&answer.1, "token")
    }

    /// An agent's session: the cookie as `name=value`.
    pub async fn login(&self, login: &str, password: &str) -> Result<String, Error> {
        let body = json!({ "login": login, "password": password });
        let (cookie, _) = self.json(Method::POST, "/api/v1/login", &Proof::Nobody, &body).await?;
        cookie.ok_or_else(|| Error::Http("the answer to login sets no cookie".into()))
    }

    /// Any JSON call: the cookie that the answer sets, and its body.
    pub async fn json(
        &self,
        method: Method,
        path: &str,
        proof: &Proof,
        body: &Value,
    ) -> Result<(Option<String>, Value), Error> {
        let request = self
            .request(method, path, proof)?
            .header("content-type", "application/json")
            .body(Full::from(body.to_string()))?;
        let (response, body) = self.call(request).await?;
        let cookie = response.headers().get(SET_COOKIE).and_then(|cookie| cookie.to_str().ok());
        let cookie = cookie.and_then(|cookie| cookie.split(';').next()).map(str::to_owned);
        let value = if body.is_empty() { Value::Null } else { parsed(&body)? };
        Ok((cookie, value))
    }

    pub async fn upload(
        &self,
        app: Option<&str>,
        name: &str,
        bytes: Bytes,
        proof: &Proof,
    ) -> Result<Upload, Error> {
        let app = app.map(|app| format!("app={app}&")).unwrap_or_default();
        let path = format!("/api/v1/uploads?{app}name={name}");
        let request = self.request(Method::POST, &path, proof)?.body(Full::new(bytes))?;
        let answer = parsed(&self.call(request).await?.1)?;
        Ok(Upload {
            ticket: text_of(&answer, "upload")?,
            mime: text_of(&answer, "mime")?,
            size: answer["size"].as_u64().unwrap_or(0),
        })
    }

    /// Whatever stands at a path, where the answer is a good one.
    pub async fn get(&self, path: &str, proof: &Proof) -> Result<Bytes, Error> {
        let request = self.request(Method::GET, path, proof)?.body(Full::default())?;
        Ok(self.call(request).await?.1)
    }

    /// The bytes of the file that an entry names.
    pub async fn file(
        &self,
        app: Option<&str>,
        conversation: &Id,
        lane: Lane,
        seq: u64,
        proof: &Proof,
    ) -> Result<Bytes, Error> {
        let app = app.map(|app| format!("?app={app}")).unwrap_or_default();
        let conversation = data_encoding::BASE64URL_NOPAD.encode(conversation);
        let path = format!("/api/v1/files/{conversation}/{}/{seq}{app}", lane.name());
        self.get(&path, proof).await
    }

    fn request(
        &self,
        method: Method,
        path: &str,
        proof: &Proof,
    ) -> Result<hyper::http::request::Builder, Error> {
        let authority = self.server.authority();
        let origin = format!("{}://{authority}", self.server.scheme());
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, authority)
            .header(ORIGIN, origin)
            .header("x-lodge", "1");
        Ok(match proof {
            Proof::Nobody => request,
            Proof::Token(token) => {
                let bearer = HeaderValue::try_from(format!("Bearer {token}"))
                    .map_err(|_| Error::Http("the token does not fit a header".into()))?;
                request.header(AUTHORIZATION, bearer)
            }
            Proof::Cookie(cookie) => request.header(COOKIE, cookie),
        })
    }

    async fn call(&self, request: Request<Full<Bytes>>) -> Result<(Response<()>, Bytes), Error> {
        tokio::time::timeout(CALL_MAX, self.call_patiently(request))
            .await
            .map_err(|_| Error::Http("no answer in time".into()))?
    }

    async fn call_patiently(
        &self,
        request: Request<Full<Bytes>>,
    ) -> Result<(Response<()>, Bytes), Error> {
        let mut sender = match self.take_idle() {
            Some(sender) => sender,
            None => self.connect().await?,
        };
        // A connection that was closed while it waited hands the request back.
        let answer = match sender.try_send_request(request).await {
            Ok(answer) => answer,
            Err(mut failed) => match failed.take_message() {
                Some(request) => {
                    sender = self.connect().await?;
                    sender.send_request(request).await?
                }
                None => return Err(failed.into_error().into()),
            },
        };
        let (head, body) = answer.into_parts();
        let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await;
        let body = body.map_err(|error| Error::Http(error.to_string()))?.to_bytes();
        self.keep_idle(sender);
        if head.status.is_success() {
            Ok((Response::from_parts(head, ()), body))
        } else {
            Err(Error::Refused(refused(head.status, &body)))
        }
    }

    async fn connect(&self) -> Result<SendRequest<Full<Bytes>>, Error> {
        let stream = TokioIo::new(self.server.connect().await?);
        let (sender, connection) = http1::handshake(stream).await?;
        // It ends with the connection; whoever waits for an answer hears of it there.
        tokio::spawn(async move { drop(connection.await) });
        Ok(sender)
    }

    fn take_idle(&self) -> Option<SendRequest<Full<Bytes>>> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(sender) = idle.pop() {
            if sender.is_ready() {
                return Some(sender);
            }
        }
        None
    }

    fn keep_idle(&self, sender: SendRequest<Full<Bytes>>) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < IDLE_MAX && !sender.is_closed() {
            // Newly used ones at the end, so that the others may grow old and be closed.
            idle.push(sender);
        }
    }
}

fn parsed(body: &[u8]) -> Result<Value, Error> {
    serde_json::from_slice(body).map_err(|error| Error::Http(error.to_string()))
}

fn text_of(answer: &Value, key: &str) -> Result<String, Error> {
    let text = answer[key].as_str();
    text.map(str::to_owned).ok_or_else(|| Error::Http(format!("the answer has no {key}")))
}

fn refused(status: StatusCode, body: &[u8]) -> Refused {
    let value: Value = serde_json::from_slice(body).unwrap_or_default();
    let error = &value["error"];
    Refused {
        status: status.as_u16(),
        code: RefusalCode::from_number(error["code"].as_u64().unwrap_or(0)),
        text: error["text"].as_str().unwrap_or_default().to_owned(),
    }
}
