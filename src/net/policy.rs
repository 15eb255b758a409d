//! The headers that tell a browser what it may do with an answer: as little as it needs.

use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};

use super::request::Called;

/// What kind of answer a browser is looking at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind<'a> {
    /// JSON, texts, refusals: nothing to be shown, nothing to be kept.
    Word,
    /// A file of the bundle; any page may load the widget's.
    Asset { anyone: bool },
    /// The agents' console.
    Console,
    /// The full-page chat; pages of these origins may put it in a frame.
    Chat { framed_by: &'a [String] },
    /// A file that somebody sent.
    File,
}

/// Script, style and connections from here, pictures also from memory; no plug-in, no form, no base.
const PAGE: &str = "default-src 'none'; script-src 'self'; style-src 'self'; font-src 'self'; \
                    manifest-src 'self'; img-src 'self' blob: data:; media-src blob:; \
                    base-uri 'none'; form-action 'none'";

/// A site may list many origins; a header has to fit into what proxies take.
const FRAMED_BY_BYTES_MAX: usize = 6 * 1024;

/// Sets what every answer of this kind carries. `lasting_tls`: the operator's own certificate is shown here.
pub fn apply(headers: &mut HeaderMap, kind: Kind<'_>, called: Option<&Called>, lasting_tls: bool) {
    let mut set = |name: HeaderName, value: &str| {
        // What cannot stand in a header came from a host or an origin that was checked before.
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(name, value);
        }
    };
    set(header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    set(header::REFERRER_POLICY, "no-referrer");
    // With another port, the promise would bind whatever else lives under this name.
    if lasting_tls && called.is_some_and(|it| it.peer.secure && !has_port(&it.host)) {
        set(header::STRICT_TRANSPORT_SECURITY, "max-age=31536000");
    }
    let csp = header::CONTENT_SECURITY_POLICY;
    let resource = HeaderName::from_static("cross-origin-resource-policy");
    let opener = HeaderName::from_static("cross-origin-opener-policy");
    match kind {
        Kind::Word => {
            set(csp, "default-src 'none'; frame-ancestors 'none'");
            set(header::CACHE_CONTROL, "no-store");
            set(resource, "same-origin");
        }
        Kind::Asset { anyone } => {
            set(csp, "default-src 'none'; frame-ancestors 'none'");
            // Names are stable, so each use asks; an unchanged file costs one short answer.
            set(header::CACHE_CONTROL, "no-cache");
            set(resource, if anyone { "cross-origin" } else { "same-origin" });
            if anyone {
                set(header::ACCESS_CONTROL_ALLOW_ORIGIN, "*");
            }
        }
        Kind::Console => {
            set(
                csp,
                &format!("{PAGE}; connect-src 'self'{}; frame-ancestors 'none'", socket(called)),
            );
            set(header::CACHE_CONTROL, "no-cache");
            set(header::X_FRAME_OPTIONS, "DENY");
            set(resource, "same-origin");
            set(opener, "same-origin");
        }
        Kind::Chat { framed_by } => {
            let mut ancestors = String::from("'self'");
            for origin in framed_by.iter().filter(|it| is_source(it)) {
                if ancestors.len() + origin.len() < FRAMED_BY_BYTES_MAX {
                    ancestors.push(' ');
                    ancestors.push_str(origin);
                }
            }
            let socket = socket(called);
            set(csp, &format!("{PAGE}; connect-src 'self'{socket}; frame-ancestors {ancestors}"));
            set(header::CACHE_CONTROL, "no-store");
            set(resource, "same-origin");
        }
        Kind::File => {
            set(csp, "sandbox; default-src 'none'; frame-ancestors 'none'");
            set(header::CACHE_CONTROL, "private, no-store");
            set(resource, "same-origin");
        }
    }
}

/// Lets a page of an allowed origin read the answer. Credentials never travel: visitors hold a token.
pub fn allow_origin(headers: &mut HeaderMap, origin: &str) {
    if let Ok(origin) = HeaderValue::from_str(origin) {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    }
    let exposed = HeaderValue::from_static("retry-after, content-range, content-disposition, etag");
    headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, exposed);
}

/// The answer to a browser that asks before it sends. The header that proves our own pages is not in it.
pub fn allow_request(headers: &mut HeaderMap, private_network: bool) {
    let mut set = |name: HeaderName, value: &'static str| {
        headers.insert(name, HeaderValue::from_static(value));
    };
    set(header::ACCESS_CONTROL_ALLOW_METHODS, "GET, POST");
    set(header::ACCESS_CONTROL_ALLOW_HEADERS, "authorization, content-type, range");
    set(header::ACCESS_CONTROL_MAX_AGE, "600");
    if private_network {
        set(HeaderName::from_static("access-control-allow-private-network"), "true");
    }
}

/// Older browsers do not count a WebSocket to the page's own host as 'self'.
fn socket(called: Option<&Called>) -> String {
    called.map_or(String::new(), |called| {
        let scheme = if called.peer.secure { "wss" } else { "ws" };
        format!(" {scheme}://{}", called.host)
    })
}

fn has_port(host: &str) -> bool {
    let name = host.rsplit_once(']').map_or(host, |(_, after)| after);
    name.contains(':')
}

/// Whether an origin may stand in a policy: nothing in it can end the directive.
fn is_source(origin: &str) -> bool {
    origin.contains("://")
        && origin.bytes().all(|it| it.is_ascii_alphanumeric() || b".-_:/[]+".contains(&it))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chat(framed_by: &[String]) -> String {
        let mut headers = HeaderMap::new();
        apply(&mut headers, Kind::Chat { framed_by }, None, false);
        headers[header::CONTENT_SECURITY_POLICY].to_str().unwrap().to_owned()
    }

    #[test]
    fn only_listed_origins_frame_the_chat_and_none_can_break_out_of_the_directive() {
        let policy = chat(&["https://shop.example".into(), "http://localhost:8080".into()]);
        assert!(
            policy.ends_with("frame-ancestors 'self' https://shop.example http://localhost:8080")
        );
        for odd in
            ["https://a; script-src *", "https://a b", "*", "'none'", "https://a,b", "https://ä"]
        {
            assert!(chat(&[odd.into()]).ends_with("frame-ancestors 'self'"), "{odd}");
        }
        let many = vec![format!("https://{}.example", "x".repeat(200)); 1000];
        assert!(chat(&many).len() < FRAMED_BY_BYTES_MAX + PAGE.len() + 200);
    }

    #[test]
    fn a_port_is_seen_behind_names_and_addresses() {
        for (host, expected) in [
            ("chat.example", false),
            ("chat.example:8443", true),
            ("[::1]", false),
            ("[::1]:8443", true),
            ("192.0.2.1", false),
        ] {
            assert_eq!(has_port(host), expected, "{host}");
        }
    }

    #[test]
    fn no_page_allows_inline_script() {
        for kind in [Kind::Console, Kind::Chat { framed_by: &[] }] {
            let mut headers = HeaderMap::new();
            apply(&mut headers, kind, None, false);
            let policy = headers[header::CONTENT_SECURITY_POLICY].to_str().unwrap();
            assert!(policy.starts_with("default-src 'none'; script-src 'self';"), "{policy}");
            assert!(!policy.contains("unsafe"), "{policy}");
        }
    }
}
