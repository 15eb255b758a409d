//! Text of one line that people read in lists and headings: names above all.
//!
//! Control characters would speak to terminals, and direction overrides make a name read as another; neither belongs
//! in one.

use crate::limits::{NAME_BYTES_MAX, QUOTED_CHARS_MAX};

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
    fn a_long_name_is_cut() {
        for length in [NAME_BYTES_MAX - 1, NAME_BYTES_MAX, NAME_BYTES_MAX + 1] {
            assert_eq!(typed_name(&"x".repeat(length)).len(), length.min(NAME_BYTES_MAX));
        }
        assert_eq!(typed_name(&"爱".repeat(100)).len(), 255);
        assert_eq!(typed_name(&"é".repeat(200)).len(), 254);
    }
}
