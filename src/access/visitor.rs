//! The visitor's token: who a browser or an app is, in its own keeping, outside cookies.
//!
//! It is signed with a key of the installation and bound to one site and one device, so that a copy is of no use on
//! another device and nothing about visitors has to be stored. A name in it was typed by somebody: it is shown and
//! never opens anything. Whoever the site's back end vouched for is known only as long as `VOUCHED_MS`; then the
//! back end is asked again.
//!
//! ```text
//! offset  size   (numbers are little-endian; the text is base64url without padding)
//!      0     1   version, 1
//!      1     1   1 = vouched for, 0 = anonymous
//!      2     8   site
//!     10     8   visitor
//!     18    16   device
//!     34     8   expires, milliseconds since 1970
//!     42     1   length of the name
//!     43         the name, UTF-8
//!   end-32  32   HMAC-SHA256 over "lodge visitor token" and everything before
//! ```

use data_encoding::BASE64URL_NOPAD;
use lodge_proto::refusal::{Refusal, RefusalCode};
use ring::hmac;

use super::line;
use crate::limits::{NAME_BYTES_MAX, VISITOR_TOKEN_CHARS_MAX};

/// An anonymous visitor is known again for half a year after the last visit.
pub const ANONYMOUS_MS: u64 = 180 * 24 * 60 * 60 * 1_000;
/// A working day: a shared computer forgets who was signed in at the site.
pub const VOUCHED_MS: u64 = 8 * 60 * 60 * 1_000;

const VERSION: u8 = 1;
const HEAD_BYTES: usize = 43;
const TAG_BYTES: usize = 32;
const USE: &[u8] = b"lodge visitor token";

const _: () =
    assert!(VISITOR_TOKEN_CHARS_MAX == (HEAD_BYTES + NAME_BYTES_MAX + TAG_BYTES).div_ceil(3) * 4);
const _: () = assert!(NAME_BYTES_MAX <= u8::MAX as usize);

/// What a token says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Visitor {
    pub site: u64,
    pub person: u64,
    pub device: [u8; 16],
    pub name: String,
    pub vouched: bool,
    pub expires_ms: u64,
}

/// Signs. The name must be a line of at most `NAME_BYTES_MAX` bytes; what is longer is cut between characters.
pub fn mint(key: &hmac::Key, visitor: &Visitor) -> String {
    let name = line::cut(&visitor.name, NAME_BYTES_MAX);
    let mut bytes = Vec::with_capacity(HEAD_BYTES + name.len() + TAG_BYTES);
    bytes.extend_from_slice(&[VERSION, u8::from(visitor.vouched)]);
    bytes.extend_from_slice(&visitor.site.to_le_bytes());
    bytes.extend_from_slice(&visitor.person.to_le_bytes());
    bytes.extend_from_slice(&visitor.device);
    bytes.extend_from_slice(&visitor.expires_ms.to_le_bytes());
    bytes.push(name.len() as u8);
    bytes.extend_from_slice(name.as_bytes());
    let tag = hmac::sign(key, &signed(&bytes));
    bytes.extend_from_slice(tag.as_ref());
    BASE64URL_NOPAD.encode(&bytes)
}

/// Reads a token. The signature is compared in constant time, before anything in it is believed.
pub fn verify(key: &hmac::Key, token: &str, now_ms: u64) -> Result<Visitor, Refusal> {
    let visitor = open(key, token).ok_or(Refusal::new(RefusalCode::TokenInvalid))?;
    if now_ms >= visitor.expires_ms {
        return Err(Refusal::new(RefusalCode::TokenExpired));
    }
    Ok(visitor)
}

fn open(key: &hmac::Key, token: &str) -> Option<Visitor> {
    if token.len() > VISITOR_TOKEN_CHARS_MAX {
        return None;
    }
    let bytes = BASE64URL_NOPAD.decode(token.as_bytes()).ok()?;
    let (body, tag) = bytes.split_last_chunk::<TAG_BYTES>()?;
    hmac::verify(key, &signed(body), tag).ok()?;
    let mut rest = body;
    let [version, vouched] = take(&mut rest)?;
    let site = u64::from_le_bytes(take(&mut rest)?);
    let person = u64::from_le_bytes(take(&mut rest)?);
    let device = take(&mut rest)?;
    let expires_ms = u64::from_le_bytes(take(&mut rest)?);
    let [length] = take(&mut rest)?;
    if version != VERSION || rest.len() != usize::from(length) {
        return None;
    }
    let name = std::str::from_utf8(rest).ok()?.to_owned();
    Some(Visitor { site, person, device, name, vouched: vouched == 1, expires_ms })
}

fn signed(body: &[u8]) -> Vec<u8> {
    [USE, body].concat()
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, behind) = rest.split_first_chunk()?;
    *rest = behind;
    Some(*taken)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_764_000_000_000;

    fn key(seed: u8) -> hmac::Key {
        hmac::Key::new(hmac::HMAC_SHA256, &[seed; 32])
    }

    fn alice() -> Visitor {
        Visitor {
            site: 3,
            person: u64::MAX >> 1,
            device: [9; 16],
            name: "Алиса 爱丽丝 🦜".into(),
            vouched: true,
            expires_ms: NOW + 1_000,
        }
    }

    fn code(token: &str, now_ms: u64) -> Option<RefusalCode> {
        verify(&key(1), token, now_ms).err().map(|refusal| refusal.code)
    }

    #[test]
    fn what_was_signed_comes_back() {
        for vouched in [true, false] {
            for name in [String::new(), "é".repeat(127), alice().name] {
                let visitor = Visitor { vouched, name, ..alice() };
                let token = mint(&key(1), &visitor);
                assert!(token.len() <= VISITOR_TOKEN_CHARS_MAX);
                assert_eq!(verify(&key(1), &token, NOW), Ok(visitor));
            }
        }
    }

    #[test]
    fn it_ends_at_its_moment() {
        let token = mint(&key(1), &alice());
        assert_eq!(code(&token, NOW + 999), None);
        assert_eq!(code(&token, NOW + 1_000), Some(RefusalCode::TokenExpired));
        assert_eq!(code(&token, NOW + 2_000), Some(RefusalCode::TokenExpired));
        assert_eq!(code(&token, u64::MAX), Some(RefusalCode::TokenExpired));
    }

    #[test]
    fn each_flipped_bit_each_cut_and_each_addition_is_refused() {
        let token = mint(&key(1), &alice());
        let bytes = BASE64URL_NOPAD.decode(token.as_bytes()).unwrap();
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let flipped = BASE64URL_NOPAD.encode(&flipped);
            assert_eq!(code(&flipped, NOW), Some(RefusalCode::TokenInvalid), "bit {bit}");
        }
        for length in 0..token.len() {
            assert_eq!(code(&token[..length], NOW), Some(RefusalCode::TokenInvalid), "{length}");
        }
        for more in ["A", "=", " ", "\n", ".", "\0", "AAAA"] {
            assert_eq!(code(&format!("{token}{more}"), NOW), Some(RefusalCode::TokenInvalid));
            assert_eq!(code(&format!("{more}{token}"), NOW), Some(RefusalCode::TokenInvalid));
        }
        assert_eq!(
            code(&"A".repeat(VISITOR_TOKEN_CHARS_MAX + 1), NOW),
            Some(RefusalCode::TokenInvalid)
        );
    }

    #[test]
    fn another_key_and_another_use_of_this_key_are_refused() {
        assert_eq!(code(&mint(&key(2), &alice()), NOW), Some(RefusalCode::TokenInvalid));
        let bytes = BASE64URL_NOPAD.decode(mint(&key(1), &alice()).as_bytes()).unwrap();
        let (body, _) = bytes.split_last_chunk::<TAG_BYTES>().unwrap();
        let tag = hmac::sign(&key(1), body);
        let other = BASE64URL_NOPAD.encode(&[body, tag.as_ref()].concat());
        assert_eq!(code(&other, NOW), Some(RefusalCode::TokenInvalid));
    }

    #[test]
    fn a_longer_name_is_cut_between_characters() {
        let token = mint(&key(1), &Visitor { name: "é".repeat(200), ..alice() });
        assert_eq!(verify(&key(1), &token, NOW).unwrap().name, "é".repeat(127));
    }
}
