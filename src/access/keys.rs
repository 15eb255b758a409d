//! The keys of this installation: made by chance at the first start, kept in SECRETS, never changed by the service.
//!
//! Each has one use, so that what is signed for one is nothing for another. No key has a default: without random
//! bytes or a place to keep them the server does not start.

use data_encoding::BASE32_NOPAD;
use lodge_proto::refusal::{Refusal, RefusalCode};
use lodge_storage::{Error, Secrets};
use ring::hmac;
use ring::rand::{SecureRandom, SystemRandom};

/// Where chance comes from.
#[derive(Debug, Clone)]
pub struct Chance(SystemRandom);

impl Chance {
    pub fn new() -> Chance {
        Chance(SystemRandom::new())
    }

    /// Refused only where the machine has no random bytes to give.
    pub fn bytes<const N: usize>(&self) -> Result<[u8; N], Refusal> {
        let mut bytes = [0; N];
        self.0.fill(&mut bytes).map_err(|_| {
            Refusal::because(RefusalCode::NotReady, "The machine gives no random bytes.")
        })?;
        Ok(bytes)
    }

    /// Lower-case letters and digits that can be read out over a telephone: five bits a character.
    pub fn word<const BYTES: usize>(&self) -> Result<String, Refusal> {
        Ok(BASE32_NOPAD.encode(&self.bytes::<BYTES>()?).to_ascii_lowercase())
    }
}

pub struct Keys {
    /// Encrypts the ids that are shown outside.
    pub id: [u8; 16],
    /// Signs visitor tokens.
    pub token: hmac::Key,
    /// Makes a visitor's number of what a site calls them.
    pub person: hmac::Key,
}

impl Keys {
    /// Reads the keys, and makes those that are missing in one durable step.
    pub fn load_or_make(secrets: &Secrets, chance: &Chance) -> Result<Keys, Error> {
        let id = load_or_make::<16>(secrets, chance, "installation/id")?;
        let token = load_or_make::<32>(secrets, chance, "installation/token")?;
        let person = load_or_make::<32>(secrets, chance, "installation/person")?;
        Ok(Keys {
            id,
            token: hmac::Key::new(hmac::HMAC_SHA256, &token),
            person: hmac::Key::new(hmac::HMAC_SHA256, &person),
        })
    }
}

/// One key of the installation, for rooms that keep theirs here too (uploads, blobs).
pub fn load_or_make<const N: usize>(
    secrets: &Secrets,
    chance: &Chance,
    name: &str,
) -> Result<[u8; N], Error> {
    if let Some(key) = secrets.get(name) {
        return key.as_slice().try_into().map_err(|_| {
            Error::refused(format!("{name} has {} bytes and not {N}: restore SECRETS", key.len()))
        });
    }
    let key = chance.bytes::<N>().map_err(|refusal| Error::refused(refusal.text))?;
    secrets.put(name, &key)?;
    Ok(key)
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Keys")
    }
}
