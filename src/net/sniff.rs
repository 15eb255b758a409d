//! What an upload really is, from its first bytes. What it calls itself is a hint for a label and no more.
//!
//! Nothing is decoded: of a picture only the size in its header is read. A type is an image's only if a
//! browser may show it inline: one of four formats, with a header that says how large it is, and not larger
//! than a phone can bear. Everything else is a file to be downloaded.

/// First bytes that are looked at; the size of a JPEG can stand behind a large preview.
pub const HEAD_BYTES_MAX: usize = 256 * 1024;
/// More than any camera makes, and still 200 MB when a browser decodes it.
const PIXELS_MAX: u64 = 50_000_000;
const SIDE_MAX: u32 = 16_384;

/// Formats that are shown inline; see `is_safe_image`.
pub const SAFE_IMAGES: [&str; 4] = ["image/png", "image/jpeg", "image/gif", "image/webp"];
pub const UNKNOWN: &str = "application/octet-stream";
/// Labels that a client may choose for bytes that say nothing about themselves.
const HINTS: [&str; 4] = ["text/plain", "text/csv", "text/markdown", "application/json"];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kind {
    pub mime: &'static str,
    /// Pixels, 0 = unknown.
    pub width: u32,
    /// Pixels, 0 = unknown.
    pub height: u32,
}

/// Judges the first bytes of a file.
pub fn kind(head: &[u8], hint: Option<&str>) -> Kind {
    let looks_like = infer::get(head).map(|it| it.mime_type());
    if let Some((mime, (width, height))) = image(head) {
        let small = width > 0
            && height > 0
            && width.max(height) <= SIDE_MAX
            && u64::from(width) * u64::from(height) <= PIXELS_MAX;
        // Two opinions: ours reads the header, the other one knows a hundred formats.
        if small && looks_like == Some(mime) {
            return Kind { mime, width, height };
        }
    }
    let file = |mime| Kind { mime, width: 0, height: 0 };
    match looks_like {
        Some(mime) if SAFE_IMAGES.contains(&mime) => file(UNKNOWN),
        Some(mime) => file(mime),
        None => {
            let hint = hint.and_then(|hint| hint.split(';').next()).map(str::trim);
            file(HINTS.into_iter().find(|it| Some(*it) == hint).unwrap_or(UNKNOWN))
        }
    }
}

/// Whether a file of this type, as it was judged above, may be shown inside a page.
pub fn is_safe_image(mime: &str) -> bool {
    SAFE_IMAGES.contains(&mime)
}

fn image(head: &[u8]) -> Option<(&'static str, (u32, u32))> {
    if let Some(rest) = head.strip_prefix(b"\x89PNG\r\n\x1a\n") {
        return Some(("image/png", png(rest)?));
    }
    if let Some(rest) = head.strip_prefix(b"\xff\xd8") {
        return Some(("image/jpeg", jpeg(rest)?));
    }
    if let Some(rest) = head.strip_prefix(b"GIF87a").or(head.strip_prefix(b"GIF89a")) {
        let [a, b, c, d, ..] = rest else { return None };
        return Some(("image/gif", (le(&[*a, *b]), le(&[*c, *d]))));
    }
    if let Some(rest) = head.strip_prefix(b"RIFF") {
        return Some(("image/webp", webp(rest.get(4..)?.strip_prefix(b"WEBP")?)?));
    }
    None
}

/// The first chunk is IHDR: length 13, name, width, height.
fn png(rest: &[u8]) -> Option<(u32, u32)> {
    let (width, rest) = rest.strip_prefix(b"\0\0\0\x0dIHDR")?.split_first_chunk()?;
    let (height, _) = rest.split_first_chunk()?;
    Some((u32::from_be_bytes(*width), u32::from_be_bytes(*height)))
}

/// Walks from marker to marker until a frame begins: length, precision, height, width.
fn jpeg(mut rest: &[u8]) -> Option<(u32, u32)> {
    loop {
        let [0xff, marker, after @ ..] = rest else { return None };
        match marker {
            // A marker may be preceded by any number of fill bytes.
            0xff => rest = rest.get(1..)?,
            0xc0..=0xcf if !matches!(marker, 0xc4 | 0xc8 | 0xcc) => {
                let [_, _, _, h1, h0, w1, w0, ..] = after else { return None };
                return Some((be(&[*w1, *w0]), be(&[*h1, *h0])));
            }
            0x00 | 0x01 | 0xd0..=0xda => return None,
            _ => {
                let (length, _) = after.split_first_chunk()?;
                rest = after.get(usize::from(u16::from_be_bytes(*length)).max(2)..)?;
            }
        }
    }
}

fn webp(rest: &[u8]) -> Option<(u32, u32)> {
    let (chunk, rest) = rest.split_first_chunk::<4>()?;
    let body = rest.get(4..)?;
    match chunk {
        // Flags and reserved bytes, then width and height less one.
        b"VP8X" => {
            let [_, _, _, _, w @ ..] = body else { return None };
            Some((le(w.get(..3)?) + 1, le(w.get(3..6)?) + 1))
        }
        // A signature, then two numbers of 14 bits, each less one.
        b"VP8L" => {
            let (bits, _) = body.strip_prefix(b"\x2f")?.split_first_chunk()?;
            let bits = u32::from_le_bytes(*bits);
            Some(((bits & 0x3fff) + 1, (bits >> 14 & 0x3fff) + 1))
        }
        // A frame tag, a start code, then two numbers of 14 bits and their scaling.
        b"VP8 " => {
            let size = body.get(3..)?.strip_prefix(b"\x9d\x01\x2a")?;
            Some((le(size.get(..2)?) & 0x3fff, le(size.get(2..4)?) & 0x3fff))
        }
        _ => None,
    }
}

/// Up to four bytes, the lowest first.
fn le(bytes: &[u8]) -> u32 {
    bytes.iter().rev().fold(0, |sum, byte| sum << 8 | u32::from(*byte))
}

/// Up to four bytes, the highest first.
fn be(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0, |sum, byte| sum << 8 | u32::from(*byte))
}

#[cfg(test)]
pub mod tests {
    use super::*;

    pub fn png_of(width: u32, height: u32) -> Vec<u8> {
        let mut bytes = b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR".to_vec();
        bytes.extend(width.to_be_bytes());
        bytes.extend(height.to_be_bytes());
        bytes.extend([8, 6, 0, 0, 0, 1, 2, 3, 4]);
        bytes
    }

    fn jpeg_of(width: u16, height: u16, preview: usize) -> Vec<u8> {
        let mut bytes = b"\xff\xd8\xff\xe0\x00\x10JFIF\0\x01\x01\0\0\x01\0\x01\0\0".to_vec();
        for _ in 0..preview {
            bytes.extend(b"\xff\xe1\xff\xff");
            bytes.extend([0xc0; 0xfffd]);
        }
        bytes.extend(b"\xff\xc4\x00\x03\x00\xff\xff\xff\xc2\x00\x0b\x08");
        bytes.extend(height.to_be_bytes());
        bytes.extend(width.to_be_bytes());
        bytes
    }

    fn gif_of(width: u16, height: u16) -> Vec<u8> {
        let mut bytes = b"GIF89a".to_vec();
        bytes.extend(width.to_le_bytes());
        bytes.extend(height.to_le_bytes());
        bytes.extend([0; 3]);
        bytes
    }

    fn webp_of(chunk: &[u8; 4], body: &[u8]) -> Vec<u8> {
        let mut bytes = b"RIFF\x40\0\0\0WEBP".to_vec();
        bytes.extend(chunk);
        bytes.extend((body.len() as u32).to_le_bytes());
        bytes.extend(body);
        bytes
    }

    fn check(head: &[u8], mime: &str, width: u32, height: u32) {
        let kind = kind(head, None);
        assert_eq!((kind.mime, kind.width, kind.height), (mime, width, height), "{head:02x?}");
    }

    #[test]
    fn the_size_of_a_picture_is_read_from_its_header() {
        check(&png_of(640, 480), "image/png", 640, 480);
        check(&jpeg_of(4000, 3000, 0), "image/jpeg", 4000, 3000);
        check(&jpeg_of(4000, 3000, 3), "image/jpeg", 4000, 3000);
        check(&gif_of(1, 2), "image/gif", 1, 2);
        check(&webp_of(b"VP8X", &[0x10, 0, 0, 0, 0x7f, 2, 0, 0xdf, 1, 0]), "image/webp", 640, 480);
        let bits = (639u32 | 479 << 14).to_le_bytes();
        check(&webp_of(b"VP8L", &[&[0x2f][..], &bits].concat()), "image/webp", 640, 480);
        let lossy = [&[0x30, 1, 0, 0x9d, 1, 0x2a][..], &[0x80, 0x02, 0xe0, 0x01]].concat();
        check(&webp_of(b"VP8 ", &lossy), "image/webp", 640, 480);
    }

    #[test]
    fn a_picture_without_a_sound_header_is_a_file() {
        for (width, height) in
            [(0, 9), (9, 0), (SIDE_MAX + 1, 1), (8_000, 6_251), (u32::MAX, u32::MAX)]
        {
            check(&png_of(width, height), UNKNOWN, 0, 0);
        }
        check(&png_of(SIDE_MAX, 1), "image/png", SIDE_MAX, 1);
        check(&png_of(8_000, 6_250), "image/png", 8_000, 6_250);
        for whole in [png_of(64, 48), jpeg_of(64, 48, 0), gif_of(64, 48)] {
            for cut in 0..whole.len() {
                let kind = kind(&whole[..cut], Some("image/png"));
                assert!(kind.width == 0 || kind == self::kind(&whole, None), "cut at {cut}");
                assert_eq!(kind.width > 0, is_safe_image(kind.mime), "cut at {cut}");
            }
        }
    }

    #[test]
    fn what_can_carry_a_script_is_never_an_image() {
        let svg =
            br#"<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"/>"#;
        let cases: [&[u8]; 7] = [
            svg,
            br#"<svg onload=alert(1)>"#,
            b"<!DOCTYPE html><script>alert(1)</script>",
            b"%PDF-1.7 /JS (app.alert(1))",
            b"PK\x03\x04zip",
            b"MZ\x90\0",
            b"",
        ];
        for bytes in cases {
            for hint in [None, Some("image/png"), Some("image/svg+xml"), Some("text/html")] {
                let kind = kind(bytes, hint);
                assert!(!is_safe_image(kind.mime), "{kind:?}");
                assert_ne!(kind.mime, "image/svg+xml", "a hint is not believed");
            }
        }
    }

    #[test]
    fn a_hint_labels_only_what_says_nothing() {
        assert_eq!(kind(b"a,b\n1,2", Some("text/csv; charset=utf-8")).mime, "text/csv");
        assert_eq!(kind(b"a,b\n1,2", Some("text/html")).mime, UNKNOWN);
        assert_eq!(kind(b"a,b\n1,2", None).mime, UNKNOWN);
        assert_eq!(kind(b"%PDF-1.7", Some("text/plain")).mime, "application/pdf");
    }

    #[test]
    fn a_polyglot_is_what_its_head_is() {
        let mut bytes = gif_of(10, 10);
        bytes.extend(b"/*<script>alert(1)</script>*/PK\x03\x04");
        check(&bytes, "image/gif", 10, 10);
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_judged_without_a_panic(
            start in 0usize..8,
            tail in proptest::collection::vec(proptest::num::u8::ANY, 0..200),
        ) {
            let starts: [&[u8]; 8] = [
                b"", b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR", b"\xff\xd8", b"\xff\xd8\xff", b"GIF89a",
                b"RIFF\0\0\0\0WEBPVP8X", b"RIFF\0\0\0\0WEBPVP8L", b"RIFF\0\0\0\0WEBPVP8 ",
            ];
            let kind = kind(&[starts[start], &tail].concat(), None);
            proptest::prop_assert_eq!(kind.width > 0 && kind.height > 0, is_safe_image(kind.mime));
        }
    }
}
