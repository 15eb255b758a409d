//! Ids shown outside: an internal number with its kind, encrypted as one AES block under a key of the installation.
//!
//! Nothing can be counted from them and no index is needed to read them back. Sixteen bytes on the wire, 22
//! characters of base64url in JSON and addresses. Only what we made decrypts to a known kind: a guess does so once
//! in 2^64 tries, and an id is never a right to see something.

use aes::Aes128;
use aes::cipher::{Array, BlockCipherDecrypt, BlockCipherEncrypt, KeyInit};
use data_encoding::BASE64URL_NOPAD;

use crate::desk::Person;

/// Characters of an id as text.
pub const ID_CHARS: usize = 22;

const CONVERSATION: u64 = 1;
const VISITOR: u64 = 2;
const AGENT: u64 = 3;
const SYSTEM: u64 = 4;

#[derive(Clone)]
pub struct Ids {
    cipher: Aes128,
}

impl Ids {
    pub fn new(key: &[u8; 16]) -> Ids {
        Ids { cipher: Aes128::new(&Array::from(*key)) }
    }

    pub fn conversation(&self, number: u64) -> [u8; 16] {
        self.outside(CONVERSATION, number)
    }

    pub fn conversation_number(&self, id: &[u8; 16]) -> Option<u64> {
        self.inside(CONVERSATION, id)
    }

    pub fn person(&self, person: Person) -> [u8; 16] {
        match person {
            Person::System => self.outside(SYSTEM, 0),
            Person::Visitor(number) => self.outside(VISITOR, number),
            Person::Agent(number) => self.outside(AGENT, number),
        }
    }

    pub fn agent_number(&self, id: &[u8; 16]) -> Option<u64> {
        self.inside(AGENT, id)
    }

    fn outside(&self, kind: u64, number: u64) -> [u8; 16] {
        let block = u128::from(kind) | u128::from(number) << 64;
        let mut block = Array::from(block.to_le_bytes());
        self.cipher.encrypt_block(&mut block);
        block.into()
    }

    fn inside(&self, kind: u64, id: &[u8; 16]) -> Option<u64> {
        let mut block = Array::from(*id);
        self.cipher.decrypt_block(&mut block);
        let block = u128::from_le_bytes(block.into());
        (block as u64 == kind).then_some((block >> 64) as u64)
    }
}

impl std::fmt::Debug for Ids {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Ids")
    }
}

/// An id as JSON and addresses carry it.
pub fn text(id: &[u8; 16]) -> String {
    BASE64URL_NOPAD.encode(id)
}

/// Strict: one text for one id.
pub fn parse(text: &str) -> Option<[u8; 16]> {
    if text.len() != ID_CHARS {
        return None;
    }
    BASE64URL_NOPAD.decode(text.as_bytes()).ok()?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_number_comes_back_under_its_own_kind_only(number: u64, key: [u8; 16]) {
            let ids = Ids::new(&key);
            let conversation = ids.conversation(number);
            prop_assert_eq!(ids.conversation_number(&conversation), Some(number));
            prop_assert_eq!(ids.agent_number(&conversation), None);
            let agent = ids.person(Person::Agent(number));
            prop_assert_eq!(ids.agent_number(&agent), Some(number));
            prop_assert_eq!(ids.conversation_number(&agent), None);
            prop_assert_ne!(ids.person(Person::Visitor(number)), agent);
            prop_assert_eq!(parse(&text(&agent)), Some(agent));
        }

        #[test]
        fn what_was_guessed_or_made_elsewhere_names_nothing(guess: [u8; 16], number: u64) {
            let ids = Ids::new(&[7; 16]);
            prop_assert_eq!(ids.conversation_number(&guess), None);
            prop_assert_eq!(ids.conversation_number(&Ids::new(&[8; 16]).conversation(number)), None);
        }

        #[test]
        fn a_text_that_is_no_id_is_refused(text in "\\PC{0,40}") {
            if let Some(id) = parse(&text) {
                prop_assert_eq!(super::text(&id), text);
            }
        }
    }

    #[test]
    fn the_block_is_what_the_design_says() {
        // AES-128 of fifteen zero bytes behind a 1, by another implementation (OpenSSL), pins the layout.
        let ids = Ids::new(&[0; 16]);
        let plain = [1, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0];
        let mut block = Array::from(plain);
        ids.cipher.encrypt_block(&mut block);
        assert_eq!(ids.conversation(5), <[u8; 16]>::from(block));
        assert_eq!(data_encoding::HEXLOWER.encode(&ids.conversation(5)), GOLDEN);
    }

    const GOLDEN: &str = "f2a2c09125df997c6c7436c669a6871f";

    #[test]
    fn one_id_has_one_text() {
        let id = [0xff; 16];
        let right = text(&id);
        assert_eq!(right.len(), ID_CHARS);
        assert_eq!(parse(&right), Some(id));
        // The last character carries four bits that mean nothing; only zeros are taken.
        assert_eq!(parse("_____________________x"), None);
        assert_eq!(parse(&format!("{right}=")), None);
        assert_eq!(parse(&right[..21]), None);
    }
}
