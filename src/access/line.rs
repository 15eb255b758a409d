//! Text of one line that people read in lists and headings: names above all.
//!
//! Control characters would speak to terminals, and direction overrides make a name read as another; neither belongs
//! in one.

use crate::limits::{NAME_BYTES_MAX, PAGE_BYTES_MAX, QUOTED_CHARS_MAX};

/// Whether this is one line without anything that is not seen.
pub fn is_line(text: &str) -> bool {
    !text.chars().any(unseen)
}

/// At most `bytes_max` bytes of it, never half a character.
pub fn cut(text: &str, bytes_max: usize) -> &str {
    let end = text.floor_char_boundary(bytes_max);
    text.get(..end).unwrap_or_default()
}

/// A name as a stranger typed it: what is not seen is left out, the rest is cut to what a name may be.
pub fn typed_name(text: &str) -> String {
    let seen: String = text.chars().filter(|it| !unseen(*it)).take(NAME_BYTES_MAX).collect();
    cut(seen.trim(), NAME_BYTES_MAX).trim_end().to_owned()
}

/// The address of a web page as a visitor's client says it, without what stands behind its #, where tokens
/// travel; a question that makes it too long is left out. "" for what is not such an address.
pub fn page(said: &str) -> &str {
    let before = |text, sign| str::split(text, sign).next().unwrap_or_default();
    let whole: &str = before(said, '#');
    let page = if whole.len() <= PAGE_BYTES_MAX { whole } else { before(whole, '?') };
    let place = page.strip_prefix("https://").or(page.strip_prefix("http://")).unwrap_or_default();
    let host = place.split(['/', '?']).next().unwrap_or_default();
    let strange = |it: char| unseen(it) || it.is_whitespace() || "\\\"<>".contains(it);
    // Whoever signs in within an address does not mean to show that.
    if host.is_empty()
        || host.contains('@')
        || page.len() > PAGE_BYTES_MAX
        || page.contains(strange)
    {
        return "";
    }
    page
}

/// What a refusal repeats of a stranger's text.
pub fn quoted(text: &str) -> String {
    text.chars().filter(|it| !unseen(*it)).take(QUOTED_CHARS_MAX).collect()
}

fn unseen(character: char) -> bool {
    // The joiners (U+200C, U+200D) stay: scripts and emoji are written with them.
    character.is_control()
        || matches!(
            character,
            '\u{ad}'
                | '\u{61c}'
                | '\u{200b}'
                | '\u{200e}'
                | '\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{feff}'
                | '\u{fff9}'..='\u{fffb}'
                | '\u{e0000}'..='\u{e007f}'
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_people_are_lines() {
        for name in ["Ada", "Zoë O’Neill", "李小龙", "محمد", "👩‍👩‍👧", "Сергей", ""]
        {
            assert!(is_line(name), "{name}");
            assert_eq!(typed_name(name), name);
        }
    }

    #[test]
    fn what_is_not_seen_is_no_part_of_a_name() {
        for unseen in
            ["\n", "\0", "\u{1b}[31m", "\u{9b}", "\u{202e}", "\u{2066}", "\u{e0041}", "\u{feff}"]
        {
            assert!(!is_line(&format!("A{unseen}B")), "{unseen:?}");
        }
        assert_eq!(typed_name(" \u{202e}A\u{1b}\0da\n "), "Ada");
        assert_eq!(typed_name("\u{200b}\u{feff}"), "");
    }

    #[test]
    fn a_page_is_shown_without_what_stands_behind_its_sign() {
        for (said, shown) in [
            ("https://shop.example/cart?item=7#identity=a.b.c", "https://shop.example/cart?item=7"),
            ("http://localhost:8080", "http://localhost:8080"),
            ("https://shop.example?", "https://shop.example?"),
            ("https://例子.example/路", "https://例子.example/路"),
            ("https://shop.example/#https://other.example", "https://shop.example/"),
        ] {
            assert_eq!(page(said), shown);
        }
        for no_page in [
            "",
            "null",
            "shop.example",
            "javascript:alert(1)",
            "data:text/html,x",
            "file:///etc/passwd",
            "https://",
            "https:///x",
            "https://?x",
            "https://#https://shop.example",
            "https://ada:secret@shop.example/",
            "https://shop.example/a b",
            "https://shop.example/a\nb",
            "https://shop.example/\u{202e}gpj",
            "https://shop.example/\"><script>",
            "https:\\\\shop.example",
        ] {
            assert_eq!(page(no_page), "", "{no_page}");
        }
        let head = "https://shop.example/";
        for length in [PAGE_BYTES_MAX - 1, PAGE_BYTES_MAX, PAGE_BYTES_MAX + 1] {
            let long = format!("{head}{}", "x".repeat(length - head.len()));
            assert_eq!(page(&long).len(), if length > PAGE_BYTES_MAX { 0 } else { length });
            let asked = format!("{head}?{}", "x".repeat(length - head.len() - 1));
            let shown = if length > PAGE_BYTES_MAX { head.len() } else { length };
            assert_eq!(page(&asked).len(), shown);
        }
    }

    #[test]
    fn a_long_name_is_cut() {
        for length in [NAME_BYTES_MAX - 1, NAME_BYTES_MAX, NAME_BYTES_MAX + 1] {
            assert_eq!(typed_name(&"x".repeat(length)).len(), length.min(NAME_BYTES_MAX));
        }
        assert_eq!(typed_name(&"爱".repeat(100)).len(), 255);
        assert_eq!(typed_name(&"é".repeat(200)).len(), 254);
    }
}
