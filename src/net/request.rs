//! The head of a request, taken apart once and judged: what is ambiguous is refused, not interpreted.
//!
//! Invariants of `Called`: segments are decoded once, and none is empty, `.`, `..` or holds a slash, a
//! backslash or a control character; query keys stand once; headers that decide something stand once.

use std::collections::BTreeMap;
use std::net::IpAddr;

use hyper::header::{self, AsHeaderName, HeaderMap};
use hyper::http::request::Parts;
use hyper::{Method as Verb, StatusCode};
use lodge_proto::refusal::{Refusal, RefusalCode};

use super::peer::{Peer, Proxies};
use crate::console::exchange::Language;

/// Bytes of path and query.
pub const TARGET_BYTES_MAX: usize = 4096;
const SEGMENTS_MAX: usize = 16;
const QUERY_KEYS_MAX: usize = 32;
const HOST_BYTES_MAX: usize = 255;
const ORIGIN_BYTES_MAX: usize = 512;
const TOKEN_BYTES_MAX: usize = lodge_proto::limits::TOKEN_BYTES_MAX;
/// Languages that are looked at; browsers send up to a dozen.
const LANGUAGES_MAX: usize = 16;

/// Proof that a request was made by our own page: no foreign one can send it without being asked first.
pub const CSRF_HEADER: &str = "x-lodge";

#[derive(Debug, Clone)]
pub struct Called {
    pub verb: Verb,
    pub path: Vec<String>,
    /// Whether the path ended in a slash.
    pub slash: bool,
    pub query: BTreeMap<String, String>,
    pub host: String,
    pub origin: Option<String>,
    pub cookie: Option<String>,
    pub bearer: Option<String>,
    pub csrf_header: bool,
    pub peer: Peer,
    /// Whether a proxy had a hand in it, trusted or not.
    pub forwarded: bool,
    pub language: Language,
}

/// A head that is not answered, and with which status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bad {
    pub status: StatusCode,
    pub refusal: Refusal,
}

fn bad(status: StatusCode, why: &'static str) -> Bad {
    Bad { status, refusal: Refusal::because(RefusalCode::Malformed, why) }
}

fn malformed(why: &'static str) -> Bad {
    bad(StatusCode::BAD_REQUEST, why)
}

impl Called {
    pub fn read(
        head: &Parts,
        socket: IpAddr,
        secure: bool,
        proxies: &Proxies,
    ) -> Result<Called, Bad> {
        let headers = &head.headers;
        if headers.contains_key(header::TRANSFER_ENCODING) {
            // Browsers announce a length. Where a proxy and a server can disagree about the end of a
            // request, there is none.
            return Err(bad(
                StatusCode::LENGTH_REQUIRED,
                "Say Content-Length; chunks are not taken.",
            ));
        }
        let target = head.uri.path_and_query().map_or("/", |it| it.as_str());
        if target.len() > TARGET_BYTES_MAX {
            return Err(bad(StatusCode::URI_TOO_LONG, "The address is too long."));
        }
        let (path, slash) = path(head.uri.path())?;
        let query = query(head.uri.query().unwrap_or_default())?;
        let host = host(head)?;
        let values =
            |name: &'static str| headers.get_all(name).iter().filter_map(|it| it.to_str().ok());
        let peer = proxies.far_end(
            socket,
            secure,
            values("x-forwarded-for").collect::<Vec<_>>().into_iter(),
            values("x-forwarded-proto").collect::<Vec<_>>().into_iter(),
        );
        let origin = once(headers, header::ORIGIN, ORIGIN_BYTES_MAX)?.map(str::to_owned);
        let bearer = once(headers, header::AUTHORIZATION, TOKEN_BYTES_MAX + "Bearer ".len())?
            .and_then(|value| value.split_once(' '))
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
            .map(|(_, token)| token.trim().to_owned());
        Ok(Called {
            verb: head.method.clone(),
            path,
            slash,
            query,
            host,
            origin,
            cookie: cookie(headers, peer.secure),
            bearer,
            csrf_header: once(headers, CSRF_HEADER, 8)? == Some("1"),
            peer,
            forwarded: headers.contains_key("x-forwarded-for")
                || headers.contains_key(header::FORWARDED),
            language: language(headers),
        })
    }

    /// Whether the request wishes to change something.
    pub fn is_unsafe(&self) -> bool {
        !matches!(self.verb, Verb::GET | Verb::HEAD | Verb::OPTIONS)
    }

    pub fn segments(&self) -> Vec<&str> {
        self.path.iter().map(String::as_str).collect()
    }
}

/// The cookie's name: the prefix binds it to this host and to TLS, where there is TLS.
pub fn cookie_name(secure: bool) -> &'static str {
    if secure { "__Host-lodge" } else { "lodge" }
}

/// A header that may stand once, as text.
pub fn once(
    headers: &HeaderMap,
    name: impl AsHeaderName,
    bytes_max: usize,
) -> Result<Option<&str>, Bad> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(malformed("A header that decides something stands twice."));
    }
    match value.to_str() {
        Ok(text) if text.len() <= bytes_max => Ok(Some(text)),
        _ => Err(malformed("A header is too long or not text.")),
    }
}

fn path(raw: &str) -> Result<(Vec<String>, bool), Bad> {
    if raw == "/" {
        return Ok((Vec::new(), true));
    }
    let Some(raw) = raw.strip_prefix('/') else { return Err(malformed("The path begins with /.")) };
    let (raw, slash) = raw.strip_suffix('/').map_or((raw, false), |rest| (rest, true));
    let mut segments = Vec::new();
    for segment in raw.split('/') {
        if segments.len() == SEGMENTS_MAX {
            return Err(malformed("The path is too deep."));
        }
        let segment = decode(segment, false)?;
        let odd = |it: char| it.is_control() || it == '/' || it == '\\';
        if segment.is_empty() || segment == "." || segment == ".." || segment.contains(odd) {
            return Err(malformed("The path has a segment that is no name."));
        }
        segments.push(segment);
    }
    Ok((segments, slash))
}

fn query(raw: &str) -> Result<BTreeMap<String, String>, Bad> {
    let mut query = BTreeMap::new();
    for pair in raw.split('&').filter(|pair| !pair.is_empty()) {
        if query.len() == QUERY_KEYS_MAX {
            return Err(malformed("The query has too many keys."));
        }
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        if query.insert(decode(key, true)?, decode(value, true)?).is_some() {
            return Err(malformed("A key of the query stands twice."));
        }
    }
    Ok(query)
}

/// Percent-decoding, once, strictly.
fn decode(raw: &str, plus_is_space: bool) -> Result<String, Bad> {
    let mut bytes = Vec::with_capacity(raw.len());
    let mut rest = raw.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
                match (digit(rest.next()), digit(rest.next())) {
                    (Some(high), Some(low)) => (high << 4 | low) as u8,
                    _ => return Err(malformed("A % is followed by two hexadecimal digits.")),
                }
            }
            b'+' if plus_is_space => b' ',
            byte => byte,
        });
    }
    String::from_utf8(bytes).map_err(|_| malformed("The address is not UTF-8."))
}

/// The host that was typed, from the one place where it stands.
fn host(head: &Parts) -> Result<String, Bad> {
    let header = once(&head.headers, header::HOST, HOST_BYTES_MAX)?;
    let authority = head.uri.authority().map(|it| it.as_str());
    let host = match (header, authority) {
        (Some(header), Some(authority)) if !header.eq_ignore_ascii_case(authority) => {
            return Err(malformed("The address and its Host header differ."));
        }
        (Some(host), _) | (None, Some(host)) => host,
        (None, None) => return Err(malformed("There is no Host header.")),
    };
    let name = |it: u8| it.is_ascii_alphanumeric() || b".-_:[]".contains(&it);
    if host.is_empty() || host.len() > HOST_BYTES_MAX || !host.bytes().all(name) {
        return Err(malformed("The Host header is no host."));
    }
    Ok(host.to_ascii_lowercase())
}

/// The session cookie, if there is one and only one: two would mean that somebody has planted one.
fn cookie(headers: &HeaderMap, secure: bool) -> Option<String> {
    let name = cookie_name(secure);
    let mut found = headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|it| it.to_str().ok())
        .flat_map(|it| it.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .filter(|(key, _)| *key == name)
        .map(|(_, value)| value);
    let value = found.next().filter(|value| value.len() <= TOKEN_BYTES_MAX)?;
    found.next().is_none().then(|| value.to_owned())
}

/// The first language that we speak; clients put their favourite first.
fn language(headers: &HeaderMap) -> Language {
    let asked = headers.get(header::ACCEPT_LANGUAGE).and_then(|it| it.to_str().ok());
    let spoken = |tag: &str| match tag.split([';', '-']).next().map(str::trim) {
        Some(it) if it.eq_ignore_ascii_case("zh") => Some(Language::Zh),
        Some(it) if it.eq_ignore_ascii_case("en") => Some(Language::En),
        _ => None,
    };
    asked.unwrap_or_default().split(',').take(LANGUAGES_MAX).find_map(spoken).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::Request;

    fn read(uri: &str, headers: &[(&str, &str)]) -> Result<Called, Bad> {
        let mut request = Request::builder().uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (head, ()) = request.body(()).unwrap().into_parts();
        Called::read(&head, "192.0.2.1".parse().unwrap(), true, &Proxies::default())
    }

    const HOST: (&str, &str) = ("host", "Chat.example:8443");

    #[test]
    fn a_path_is_decoded_once_and_means_one_thing() {
        let good: [(&str, &[&str], bool); 6] = [
            ("/", &[], true),
            ("/console", &["console"], false),
            ("/console/", &["console"], true),
            ("/a%20b/%E4%BD%A0", &["a b", "你"], false),
            ("/a%252e", &["a%2e"], false),
            ("/...;x=1", &["...;x=1"], false),
        ];
        for (uri, segments, slash) in good {
            let called = read(uri, &[HOST]).unwrap();
            assert_eq!((called.segments().as_slice(), called.slash), (segments, slash), "{uri}");
        }
        for uri in [
            "//",
            "///",
            "//x",
            "/x//",
            "/x//y",
            "/.",
            "/..",
            "/x/../y",
            "/%2e%2e/x",
            "/%2E./x",
            "/x%2fy",
            "/x%5cy",
            "/x%00",
            "/x%0a",
            "/x%7f",
            "/%",
            "/%2",
            "/%zz",
            "/%c0%ae",
            "/%ff",
            "/%ed%a0%80",
            "/a/b/c/d/e/f/g/h/i/j/k/l/m/n/o/p/q",
            "*",
        ] {
            assert_eq!(read(uri, &[HOST]).unwrap_err().status, 400, "{uri}");
        }
    }

    #[test]
    fn an_address_is_as_long_as_it_may_be() {
        for (length, long) in
            [(TARGET_BYTES_MAX - 1, false), (TARGET_BYTES_MAX, false), (TARGET_BYTES_MAX + 1, true)]
        {
            let uri = format!("/{}", "x".repeat(length - 1));
            let status = read(&uri, &[HOST]).err().map(|it| it.status.as_u16());
            assert_eq!(status, long.then_some(414), "{length}");
        }
    }

    #[test]
    fn a_key_of_the_query_stands_once() {
        let called = read("/?app=shop&name=a+b%2B&empty&&x=", &[HOST]).unwrap();
        let pairs: Vec<_> = called.query.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        assert_eq!(pairs, [("app", "shop"), ("empty", ""), ("name", "a b+"), ("x", "")]);
        for query in ["a=1&a=2", "a=1&%61=2", "a&a", "a=%", "a=%ff"] {
            assert!(read(&format!("/?{query}"), &[HOST]).is_err(), "{query}");
        }
        let keys = |n: usize| (0..n).map(|i| format!("k{i}=1")).collect::<Vec<_>>().join("&");
        assert!(read(&format!("/?{}", keys(QUERY_KEYS_MAX)), &[HOST]).is_ok());
        assert!(read(&format!("/?{}", keys(QUERY_KEYS_MAX + 1)), &[HOST]).is_err());
    }

    #[test]
    fn there_is_one_host() {
        assert_eq!(read("/", &[HOST]).unwrap().host, "chat.example:8443");
        assert_eq!(read("https://chat.example:8443/", &[]).unwrap().host, "chat.example:8443");
        assert_eq!(read("https://chat.example:8443/", &[HOST]).unwrap().host, "chat.example:8443");
        assert!(read("https://other.example/", &[HOST]).is_err());
        assert!(read("/", &[]).is_err());
        assert!(read("/", &[HOST, HOST]).is_err());
        for host in ["", "a b", "a/b", "a@b", "a,b", "\"", "a;b"] {
            assert!(read("/", &[("host", host)]).is_err(), "{host:?}");
        }
    }

    #[test]
    fn what_decides_stands_once() {
        for name in ["origin", "authorization", "x-lodge"] {
            assert!(read("/", &[HOST, (name, "1")]).is_ok());
            assert!(read("/", &[HOST, (name, "1"), (name, "1")]).is_err(), "{name}");
        }
        let chunked = read("/", &[HOST, ("transfer-encoding", "chunked")]);
        assert_eq!(chunked.unwrap_err().status, 411);
    }

    #[test]
    fn the_cookie_is_ours_and_alone() {
        let cookie =
            |headers: &[(&str, &str)]| read("/", &[&[HOST], headers].concat()).unwrap().cookie;
        assert_eq!(cookie(&[("cookie", "a=b; __Host-lodge=x")]), Some("x".into()));
        assert_eq!(cookie(&[("cookie", "a=b"), ("cookie", "__Host-lodge=x")]), Some("x".into()));
        assert_eq!(cookie(&[("cookie", "__Host-lodge=x; __Host-lodge=y")]), None);
        assert_eq!(cookie(&[("cookie", "__Host-lodge=x"), ("cookie", "__Host-lodge=x")]), None);
        assert_eq!(cookie(&[("cookie", "lodge=x")]), None, "set without TLS");
        assert_eq!(cookie(&[("cookie", "__host-lodge=x")]), None);
    }

    #[test]
    fn a_bearer_is_a_token_behind_its_scheme() {
        let bearer = |value: &str| read("/", &[HOST, ("authorization", value)]).unwrap().bearer;
        assert_eq!(bearer("Bearer abc"), Some("abc".into()));
        assert_eq!(bearer("bearer  abc"), Some("abc".into()));
        assert_eq!(bearer("Basic abc"), None);
        assert_eq!(bearer("Bearer"), None);
        let long = format!("Bearer {}", "x".repeat(TOKEN_BYTES_MAX + 1));
        assert!(read("/", &[HOST, ("authorization", &long)]).is_err());
    }

    #[test]
    fn the_first_language_that_we_speak() {
        let language =
            |value: &str| read("/", &[HOST, ("accept-language", value)]).unwrap().language;
        assert_eq!(language("fr, zh-CN;q=0.9, en"), Language::Zh);
        assert_eq!(language("en-US,zh"), Language::En);
        assert_eq!(language("zhx"), Language::En);
        assert_eq!(language(&"fr,".repeat(3000)), Language::En);
    }
}
