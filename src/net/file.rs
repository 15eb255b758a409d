//! Sends a file that somebody was sent: to members, by range, as something that is downloaded.
//!
//! Invariant: nothing of it can run here. Only the four kinds of pictures that `sniff` has judged are shown
//! inline, under their own type; everything else goes out as bytes without a type, to be saved.

use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Response, StatusCode};
use lodge_storage::{BLOB_REF_BYTES, BlobRef, Blobs};

use super::body::{Body, DiskPool};
use super::page::matches;
use super::sniff;
use crate::desk::entry::File;

/// Bytes of a name in a header, before they are percent-encoded.
const NAME_BYTES_MAX: usize = lodge_proto::limits::NAME_BYTES_MAX;

/// The answer for a file whose reader was found to be a member. `None`: the entry names no blob.
pub fn answer(
    file: &File,
    asked: &HeaderMap,
    blobs: &Blobs,
    pool: &DiskPool,
) -> Option<Response<Body>> {
    let blob = BlobRef::from_bytes(<&[u8; BLOB_REF_BYTES]>::try_from(file.blob.as_slice()).ok()?);
    let etag = etag(&blob);
    let mut response = Response::new(Body::empty());
    let set = |headers: &mut HeaderMap, name, value: &str| {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(name, value);
        }
    };
    let headers = response.headers_mut();
    set(headers, header::ETAG, &etag);
    set(headers, header::ACCEPT_RANGES, "bytes");
    if matches(asked, &etag) {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        return Some(response);
    }
    let shown = sniff::is_safe_image(&file.mime);
    set(headers, header::CONTENT_TYPE, if shown { &file.mime } else { sniff::UNKNOWN });
    set(headers, header::CONTENT_DISPOSITION, &disposition(&file.name, shown));
    let (status, at, end) = match range(asked, &etag, blob.len) {
        Range::Whole => (StatusCode::OK, 0, blob.len),
        Range::Part { first, end } => {
            let last = end.saturating_sub(1);
            set(headers, header::CONTENT_RANGE, &format!("bytes {first}-{last}/{}", blob.len));
            (StatusCode::PARTIAL_CONTENT, first, end)
        }
        Range::Beyond => {
            set(headers, header::CONTENT_RANGE, &format!("bytes */{}", blob.len));
            (StatusCode::RANGE_NOT_SATISFIABLE, 0, 0)
        }
    };
    *response.status_mut() = status;
    *response.body_mut() = Body::blob(pool.clone(), blobs.clone(), blob, at, end);
    Some(response)
}

/// A name that may be shown and saved: no path, no control character, nothing that turns text around.
pub fn clean_name(name: &str) -> String {
    let odd = |it: char| {
        it.is_control()
            || matches!(it, '/' | '\\' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
    };
    let name: String = name.chars().filter(|it| !odd(*it)).collect();
    let name = name.trim().trim_start_matches('.');
    let end = name.floor_char_boundary(NAME_BYTES_MAX);
    match name.get(..end) {
        Some(name) if !name.is_empty() => name.to_owned(),
        _ => "file".to_owned(),
    }
}

fn etag(blob: &BlobRef) -> String {
    let [short @ .., _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _] = blob.address;
    format!("\"{}\"", data_encoding::HEXLOWER.encode(&short))
}

/// RFC 6266: a plain name for the old, the real one for all others.
fn disposition(name: &str, inline: bool) -> String {
    let name = clean_name(name);
    let plain: String = name
        .chars()
        .map(|it| if it.is_ascii_alphanumeric() || ".-_ ".contains(it) { it } else { '_' })
        .collect();
    let mut encoded = String::new();
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || b".-_".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    let kind = if inline { "inline" } else { "attachment" };
    format!("{kind}; filename=\"{plain}\"; filename*=UTF-8''{encoded}")
}

#[derive(Debug, PartialEq, Eq)]
enum Range {
    Whole,
    Part { first: u64, end: u64 },
    Beyond,
}

/// One range; a list, or what is no range, gets the whole file, as RFC 9110 allows.
fn range(asked: &HeaderMap, etag: &str, length: u64) -> Range {
    let mut values = asked.get_all(header::RANGE).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return Range::Whole };
    if asked.get(header::IF_RANGE).is_some_and(|it| it.as_bytes() != etag.as_bytes()) {
        return Range::Whole;
    }
    let number = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|it| it.is_ascii_digit());
        // More digits than a number holds mean: beyond any file.
        digits.then(|| text.parse::<u64>().unwrap_or(u64::MAX))
    };
    let bounds = value.to_str().ok().and_then(|it| it.strip_prefix("bytes=")?.split_once('-'));
    match bounds.map(|(first, last)| (first.trim(), last.trim())) {
        Some(("", last)) => match number(last) {
            Some(0) => Range::Beyond,
            Some(count) => part(length.saturating_sub(count), length, length),
            None => Range::Whole,
        },
        Some((first, "")) => {
            number(first).map_or(Range::Whole, |first| part(first, length, length))
        }
        Some((first, last)) => match (number(first), number(last)) {
            (Some(first), Some(last)) if first <= last => {
                part(first, last.saturating_add(1).min(length), length)
            }
            _ => Range::Whole,
        },
        None => Range::Whole,
    }
}

fn part(first: u64, end: u64, length: u64) -> Range {
    if first >= length { Range::Beyond } else { Range::Part { first, end } }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(value: &str, expected: Range) {
        let mut asked = HeaderMap::new();
        asked.insert(header::RANGE, HeaderValue::from_str(value).unwrap());
        assert_eq!(range(&asked, "\"e\"", 100), expected, "{value}");
    }

    #[test]
    fn one_range_is_served_and_lists_are_not() {
        let part = |first, end| Range::Part { first, end };
        check("bytes=0-0", part(0, 1));
        check("bytes=0-99", part(0, 100));
        check("bytes=0-100", part(0, 100));
        check("bytes=99-", part(99, 100));
        check("bytes=100-", Range::Beyond);
        check("bytes=100-200", Range::Beyond);
        check("bytes=-1", part(99, 100));
        check("bytes=-100", part(0, 100));
        check("bytes=-101", part(0, 100));
        check("bytes=-0", Range::Beyond);
        check("bytes=5-18446744073709551615", part(5, 100));
        check("bytes=5-99999999999999999999999", part(5, 100));
        check("bytes=99999999999999999999999-", Range::Beyond);
        for odd in [
            "bytes=5-4",
            "bytes=a-b",
            "bytes=-",
            "bytes=",
            "bytes=+1-2",
            "lines=1-2",
            "bytes=1-2-3",
        ] {
            check(odd, Range::Whole);
        }
        check("bytes=0-1,5-6", Range::Whole);
        check(&format!("bytes={}0-1", "0-1,".repeat(1000)), Range::Whole);
    }

    #[test]
    fn a_range_of_another_version_is_the_whole() {
        let mut asked = HeaderMap::new();
        asked.insert(header::RANGE, HeaderValue::from_static("bytes=1-2"));
        asked.insert(header::IF_RANGE, HeaderValue::from_static("\"e\""));
        assert_eq!(range(&asked, "\"e\"", 100), Range::Part { first: 1, end: 3 });
        assert_eq!(range(&asked, "\"f\"", 100), Range::Whole);
        asked.append(header::RANGE, HeaderValue::from_static("bytes=3-4"));
        assert_eq!(range(&asked, "\"e\"", 100), Range::Whole);
    }

    #[test]
    fn a_name_cannot_leave_its_header_or_its_folder() {
        for (name, expected) in [
            ("照片.png", "照片.png"),
            ("../../etc/passwd", "etcpasswd"),
            ("a\r\nSet-Cookie: x", "aSet-Cookie: x"),
            ("cod\u{202e}gpj.exe", "codgpj.exe"),
            ("a\u{200b}.htaccess", "a.htaccess"),
            (".htaccess", "htaccess"),
            ("", "file"),
            ("...", "file"),
        ] {
            assert_eq!(clean_name(name), expected, "{name:?}");
        }
        let value = disposition("a\"; x=\"照\r\n.png", false);
        assert_eq!(
            value,
            "attachment; filename=\"a__ x___.png\"; filename*=UTF-8''a%22%3B%20x%3D%22%E7%85%A7.png"
        );
        assert!(HeaderValue::from_str(&value).is_ok());
        assert_eq!(clean_name(&"长".repeat(1000)).len(), 255);
    }
}
