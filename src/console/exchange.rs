//! What a JSON noun sees of HTTP: a question that was read whole, and the answer to it.
//!
//! Invariant: nothing here names a socket or an HTTP library, so that every noun is tested by a function call.

use std::collections::BTreeMap;
use std::net::IpAddr;

use lodge_proto::refusal::{Refusal, RefusalCode};
use serde::Serialize;

/// Bytes of JSON that one question may carry.
pub const BODY_BYTES_MAX: usize = 64 * 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    Get,
    Post,
    Patch,
    Delete,
}

impl Method {
    /// Whether it may change something, and therefore needs to come from our own pages.
    pub fn unsafe_from_elsewhere(self) -> bool {
        self != Method::Get
    }
}

/// The languages of the product.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Language {
    #[serde(rename = "en")]
    English,
    #[serde(rename = "zh")]
    Chinese,
}

#[derive(Debug, Clone)]
pub struct Asked {
    pub method: Method,
    /// The decoded segments behind `/api/v1`.
    pub path: Vec<String>,
    pub query: BTreeMap<String, String>,
    pub origin: Option<String>,
    /// The value of the session cookie.
    pub cookie: Option<String>,
    pub bearer: Option<String>,
    /// Whether `X-Lodge: 1` was there, which no foreign page can send without being asked for it first.
    pub csrf_header: bool,
    /// Whoever asked, behind the trusted proxies.
    pub peer: IpAddr,
    /// Whether TLS carried it, here or at a trusted proxy.
    pub secure: bool,
    /// At most `BODY_BYTES_MAX`.
    pub body: Vec<u8>,
    /// As the Host header says, with its port.
    pub host: String,
    pub language: Option<Language>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn json(status: u16, body: &impl Serialize) -> Answer {
        // Only a map with keys that are no strings could fail, and an answer has none.
        let body = serde_json::to_vec(body).unwrap_or_default();
        let headers = vec![
            ("content-type", "application/json".to_owned()),
            ("cache-control", "no-store".to_owned()),
            ("x-content-type-options", "nosniff".to_owned()),
        ];
        Answer { status, headers, body }
    }

    pub fn refusal(refusal: &Refusal) -> Answer {
        Answer::refusal_as(status(refusal.code), refusal)
    }

    /// A refusal where HTTP has a better word than its number alone gives.
    pub fn refusal_as(status: u16, refusal: &Refusal) -> Answer {
        let error = Error {
            code: refusal.code.number(),
            name: name(refusal.code),
            text: &refusal.text,
            retry_after_ms: (refusal.retry_after_ms > 0).then_some(refusal.retry_after_ms),
        };
        let answer = Answer::json(status, &Refused { error });
        if refusal.retry_after_ms == 0 {
            return answer;
        }
        answer.with("retry-after", refusal.retry_after_ms.div_ceil(1_000).to_string())
    }

    #[must_use]
    pub fn with(mut self, header: &'static str, value: String) -> Answer {
        self.headers.push((header, value));
        self
    }

    /// Lets the page that asked read this answer. Never with credentials: visitors have no cookie.
    #[must_use]
    pub fn readable_by(self, origin: Option<&str>) -> Answer {
        let Some(origin) = origin else { return self };
        self.with("access-control-allow-origin", origin.to_owned())
            .with("vary", "origin".to_owned())
    }
}

#[derive(Serialize)]
struct Refused<'a> {
    error: Error<'a>,
}

#[derive(Serialize)]
struct Error<'a> {
    code: u64,
    name: &'static str,
    text: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after_ms: Option<u64>,
}

fn name(code: RefusalCode) -> &'static str {
    RefusalCode::TABLE.iter().find(|row| row.code == code).map_or("Unknown", |row| row.name)
}

/// The HTTP status that says most nearly what the number says.
pub fn status(code: RefusalCode) -> u16 {
    match code {
        RefusalCode::Throttled => 429,
        RefusalCode::Origin | RefusalCode::NotAllowed => 403,
        RefusalCode::UnknownConversation | RefusalCode::NoSuchSite | RefusalCode::UploadUnknown => {
            404
        }
        RefusalCode::TooMany | RefusalCode::AlreadySettled => 409,
        RefusalCode::TooLarge | RefusalCode::TextTooLong => 413,
        RefusalCode::UnsupportedType => 415,
        other => match other.number() {
            1000..=1999 => 503,
            2000..=2999 => 409,
            3000..=3999 => 401,
            _ => 400,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_has_an_error_status_and_says_its_number() {
        for row in RefusalCode::TABLE {
            let answer = Answer::refusal(&Refusal::after(row.code, 1_001));
            assert!((400..=599).contains(&answer.status), "{}", row.name);
            let body: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
            assert_eq!(body["error"]["code"], row.number);
            assert_eq!(body["error"]["name"], row.name);
            assert!(answer.headers.contains(&("retry-after", "2".to_owned())));
            assert!(answer.headers.contains(&("cache-control", "no-store".to_owned())));
        }
    }
}
