//! Pages and files of the embedded bundle.

use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Response, StatusCode};
use lodge_appliance::Asset;

use super::body::Body;
use crate::console::exchange::Language;

/// The full-page chat: nothing but the bundle's own script and style. Everything that the page knows
/// stands in attributes, so the policy needs no exception.
pub fn chat(app: &str, name: &str, language: Language) -> String {
    let language = match language {
        Language::En => "en",
        Language::Zh => "zh",
    };
    format!(
        "<!doctype html>\n\
         <html lang=\"{language}\">\n\
         <head>\n\
         <meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1, viewport-fit=cover, \
         interactive-widget=resizes-content\">\n\
         <meta name=\"referrer\" content=\"no-referrer\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <title>{name}</title>\n\
         <link rel=\"icon\" href=\"data:,\">\n\
         <link rel=\"stylesheet\" href=\"/widget/app.css\">\n\
         <script type=\"module\" src=\"/widget/app.js\"></script>\n\
         </head>\n\
         <body data-app=\"{app}\"></body>\n\
         </html>\n",
        name = escape(name),
        app = escape(app),
    )
}

/// A file of the bundle, packed if the browser unpacks, or the word that it has not changed.
pub fn asset(asset: Asset, asked: &HeaderMap) -> Response<Body> {
    let packed = asset.gzip.filter(|_| accepts_gzip(asked));
    // The packed form is another representation, so it has a tag of its own.
    let etag = match packed {
        Some(_) => format!("{}-gz\"", asset.etag.trim_end_matches('"')),
        None => asset.etag.to_owned(),
    };
    let unchanged = matches(asked, &etag);
    let body = match packed {
        _ if unchanged => Body::empty(),
        Some(packed) => Body::bytes(packed),
        None => Body::bytes(asset.bytes),
    };
    let mut response = Response::new(body);
    if unchanged {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
    }
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(asset.mime));
    headers.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
    if let Ok(etag) = HeaderValue::from_str(&etag) {
        headers.insert(header::ETAG, etag);
    }
    if packed.is_some() && !unchanged {
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    response
}

/// Whether If-None-Match names this tag.
pub fn matches(asked: &HeaderMap, etag: &str) -> bool {
    let tags = asked.get(header::IF_NONE_MATCH).and_then(|it| it.to_str().ok()).unwrap_or_default();
    tags.split(',').map(str::trim).any(|it| it == "*" || it.trim_start_matches("W/") == etag)
}

fn accepts_gzip(asked: &HeaderMap) -> bool {
    let codings = asked.get(header::ACCEPT_ENCODING).and_then(|it| it.to_str().ok());
    codings.unwrap_or_default().split(',').any(|coding| {
        let (name, quality) = coding.split_once(';').unwrap_or((coding, ""));
        let refused = quality.trim().strip_prefix("q=").is_some_and(|it| it.parse() == Ok(0.0));
        name.trim().eq_ignore_ascii_case("gzip") && !refused
    })
}

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            letter => escaped.push(letter),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: Asset =
        Asset { bytes: b"plain", gzip: Some(b"gz"), mime: "text/css", etag: "\"abc\"" };

    fn check(asked: &[(&str, &str)], status: u16, etag: &str, length: u64) {
        let mut headers = HeaderMap::new();
        for (name, value) in asked {
            headers.append(
                header::HeaderName::from_bytes(name.as_bytes()).unwrap(),
                HeaderValue::from_str(value).unwrap(),
            );
        }
        let response = asset(FILE, &headers);
        assert_eq!(response.status(), status, "{asked:?}");
        assert_eq!(response.headers()[header::ETAG], etag, "{asked:?}");
        assert_eq!(response.body().len(), length, "{asked:?}");
    }

    #[test]
    fn a_file_is_packed_for_who_unpacks_and_sent_once() {
        check(&[], 200, "\"abc\"", 5);
        check(&[("accept-encoding", "br, gzip")], 200, "\"abc-gz\"", 2);
        check(&[("accept-encoding", "gzip;q=0")], 200, "\"abc\"", 5);
        check(&[("accept-encoding", "gzip;q=0.000, br")], 200, "\"abc\"", 5);
        check(&[("if-none-match", "\"x\", W/\"abc\"")], 304, "\"abc\"", 0);
        check(&[("if-none-match", "\"abc\""), ("accept-encoding", "gzip")], 200, "\"abc-gz\"", 2);
        check(
            &[("if-none-match", "\"abc-gz\""), ("accept-encoding", "gzip")],
            304,
            "\"abc-gz\"",
            0,
        );
    }

    #[test]
    fn a_name_is_only_ever_text() {
        let page = chat("a\"b", "</title><script>alert(1)</script>", Language::Zh);
        assert!(!page.contains("<script>alert"));
        assert!(
            page.contains("<title>&lt;/title&gt;&lt;script&gt;alert(1)&lt;/script&gt;</title>")
        );
        assert!(page.contains("data-app=\"a&quot;b\"") && page.contains("lang=\"zh\""));
    }
}
