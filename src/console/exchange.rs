//! What a JSON noun sees of HTTP: a request that was checked and taken apart, and the answer to it.
//!
//! Nothing here names a socket or an HTTP library. Invariants: `path` holds decoded segments, none of them
//! empty, `.` or `..`, none with `/`, `\` or a control character; a query key stands once; `body` is at most
//! `BODY_BYTES_MAX`; `peer` is the far end after trusted proxies.

use std::collections::BTreeMap;
use std::net::IpAddr;

use lodge_proto::refusal::{Refusal, RefusalCode};
use serde::Serialize;

pub use crate::limits::BODY_BYTES_MAX;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    Get,
    Post,
    Patch,
    Delete,
}

impl Method {
    /// Whether the request wishes to change something, and so needs proof of where it comes from.
    pub fn is_unsafe(self) -> bool {
        self != Method::Get
    }
}

/// The language that a person reads, from Accept-Language.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Language {
    #[default]
    En,
    Zh,
}

/// One request under `/api/v1`.
#[derive(Debug, Clone)]
pub struct Asked {
    pub method: Method,
    /// The segments after `/api/v1`.
    pub path: Vec<String>,
    pub query: BTreeMap<String, String>,
    /// As the browser sent it, `null` included.
    pub origin: Option<String>,
    /// The session cookie of an agent.
    pub cookie: Option<String>,
    /// Whether `X-Lodge: 1` is there, which no foreign page can send without being asked first.
    pub csrf_header: bool,
    pub peer: IpAddr,
    /// Whether the visitor's own connection is TLS, here or at a trusted proxy.
    pub secure: bool,
    /// The address as the client typed it, `name[:port]` in lower case; never a source of links.
    pub host: String,
    pub language: Language,
    pub body: Vec<u8>,
}

/// What goes back. The headers that every answer carries are net's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn json(status: u16, value: &impl Serialize) -> Answer {
        match serde_json::to_vec(value) {
            Ok(body) => {
                Answer { status, headers: vec![("content-type", "application/json".into())], body }
            }
            Err(error) => {
                tracing::error!(%error, "an answer could not be written as JSON");
                Answer { status: 500, headers: Vec::new(), body: Vec::new() }
            }
        }
    }

    /// Done, and there is nothing to say.
    pub fn empty() -> Answer {
        Answer { status: 204, headers: Vec::new(), body: Vec::new() }
    }

    pub fn refusal(refusal: &Refusal) -> Answer {
        Answer::refusal_with(status_of(refusal.code), refusal)
    }

    /// A refusal whose status says more than its number: 405, 411, 416.
    pub fn refusal_with(status: u16, refusal: &Refusal) -> Answer {
        let row = RefusalCode::TABLE.iter().find(|row| row.code == refusal.code);
        let name = row.map_or("Unknown", |row| row.name);
        let error = Explained { code: refusal.code.number(), name, text: &refusal.text };
        let mut answer = Answer::json(status, &Envelope { error });
        if refusal.retry_after_ms > 0 {
            let seconds = refusal.retry_after_ms.div_ceil(1000);
            answer.headers.push(("retry-after", seconds.to_string()));
        }
        answer
    }

    pub fn with(mut self, header: &'static str, value: impl Into<String>) -> Answer {
        self.headers.push((header, value.into()));
        self
    }
}

/// The HTTP status that goes with a refusal.
pub fn status_of(code: RefusalCode) -> u16 {
    match code {
        RefusalCode::Throttled | RefusalCode::TooMany => 429,
        RefusalCode::Full => 507,
        RefusalCode::Origin | RefusalCode::NotAllowed => 403,
        RefusalCode::UnknownConversation | RefusalCode::NoSuchSite => 404,
        RefusalCode::TextTooLong | RefusalCode::TooLarge => 413,
        RefusalCode::UnsupportedType => 415,
        _ => match code.number() {
            1000..=1999 => 503,
            2000..=2999 => 409,
            3000..=3999 => 401,
            _ => 400,
        },
    }
}

#[derive(Serialize)]
struct Envelope<'a> {
    error: Explained<'a>,
}

#[derive(Serialize)]
struct Explained<'a> {
    code: u64,
    name: &'a str,
    text: &'a str,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_says_number_name_and_text_with_a_fitting_status() {
        let answer = Answer::refusal(&Refusal::after(RefusalCode::Throttled, 1500));
        assert_eq!(answer.status, 429);
        assert!(answer.headers.contains(&("retry-after", "2".into())));
        let body: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!(body["error"]["code"], 1002);
        assert_eq!(body["error"]["name"], "Throttled");
        assert_eq!(body["error"]["text"], RefusalCode::Throttled.english());
    }

    #[test]
    fn every_refusal_is_an_error_status() {
        for row in RefusalCode::TABLE {
            assert!((400..600).contains(&status_of(row.code)), "{}", row.name);
        }
    }
}
