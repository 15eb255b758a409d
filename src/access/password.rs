//! Passwords: hashed with argon2id, a bounded number at a time, and never compared in any other way.
//!
//! Whoever signs in with an unknown login waits for a hash like everybody else. A hash costs 19 MiB and some tens of
//! milliseconds, so only `HASHES_AT_ONCE` run and `HASHES_WAITING_MAX` wait; the next one is told to come back.
//!
//! ```text
//! agent/NUMBER/password
//! offset  size   (numbers are little-endian)
//!      0     1   version, 1
//!      1     4   memory in KiB     5  4  passes     9  4  lanes
//!     13     8   milliseconds since 1970 at which it ends, 0 = never (a one-time password ends)
//!     21    16   salt
//!     37    32   argon2id (version 0x13) of the password
//! ```

use argon2::{Algorithm, Argon2, Params, Version};
use lodge_proto::refusal::{Refusal, RefusalCode};
use ring::hmac;
use tokio::sync::Semaphore;

use crate::limits::{HASHES_WAITING_MAX, PASSWORD_BYTES_MAX};

/// Characters.
pub const PASSWORD_CHARS_MIN: usize = 10;
pub const HASHES_AT_ONCE: usize = 2;

/// The second choice of OWASP and the default of RFC 9106's implementation: 19 MiB, two passes, one lane.
const MEMORY_KIB: u32 = 19 * 1024;
const PASSES: u32 = 2;
const LANES: u32 = 1;

const VERSION: u8 = 1;
const SALT_BYTES: usize = 16;
const HASH_BYTES: usize = 32;

/// A password's hash as SECRETS keeps it.
#[derive(Clone, PartialEq, Eq)]
pub struct Hashed {
    memory_kib: u32,
    passes: u32,
    lanes: u32,
    /// 0 = never.
    pub ends_ms: u64,
    salt: [u8; SALT_BYTES],
    hash: [u8; HASH_BYTES],
}

impl Hashed {
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![VERSION];
        bytes.extend_from_slice(&self.memory_kib.to_le_bytes());
        bytes.extend_from_slice(&self.passes.to_le_bytes());
        bytes.extend_from_slice(&self.lanes.to_le_bytes());
        bytes.extend_from_slice(&self.ends_ms.to_le_bytes());
        bytes.extend_from_slice(&self.salt);
        bytes.extend_from_slice(&self.hash);
        bytes
    }

    pub fn decode(bytes: &[u8]) -> Option<Hashed> {
        let mut rest = bytes;
        let [version] = take(&mut rest)?;
        let memory_kib = u32::from_le_bytes(take(&mut rest)?);
        let passes = u32::from_le_bytes(take(&mut rest)?);
        let lanes = u32::from_le_bytes(take(&mut rest)?);
        let ends_ms = u64::from_le_bytes(take(&mut rest)?);
        let salt = take(&mut rest)?;
        let hash = take(&mut rest)?;
        (version == VERSION && rest.is_empty()).then_some(Hashed {
            memory_kib,
            passes,
            lanes,
            ends_ms,
            salt,
            hash,
        })
    }

    /// What a login without a password is compared with: it costs the same and fits nothing.
    fn nobody() -> Hashed {
        Hashed {
            memory_kib: MEMORY_KIB,
            passes: PASSES,
            lanes: LANES,
            ends_ms: 0,
            salt: [0; SALT_BYTES],
            hash: [0; HASH_BYTES],
        }
    }
}

impl std::fmt::Debug for Hashed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hashed")
    }
}

/// Whether a new password may be used at all.
pub fn acceptable(password: &str) -> Result<(), Refusal> {
    bounded(password)?;
    if password.chars().count() < PASSWORD_CHARS_MIN {
        let why = format!("A password has at least {PASSWORD_CHARS_MIN} characters.");
        return Err(Refusal::because(RefusalCode::Malformed, why));
    }
    Ok(())
}

/// Where all hashes are made.
#[derive(Debug)]
pub struct Hasher {
    running: Semaphore,
    waiting: Semaphore,
}

impl Hasher {
    pub fn new() -> Hasher {
        Hasher {
            running: Semaphore::new(HASHES_AT_ONCE),
            waiting: Semaphore::new(HASHES_AT_ONCE + HASHES_WAITING_MAX),
        }
    }

    /// Hashes a new password. `ends_ms` = 0: it never ends.
    pub async fn hash(
        &self,
        password: String,
        salt: [u8; SALT_BYTES],
        ends_ms: u64,
    ) -> Result<Hashed, Refusal> {
        acceptable(&password)?;
        let blank = Hashed { ends_ms, salt, ..Hashed::nobody() };
        let hash = self.work(password, blank.clone()).await?;
        Ok(Hashed { hash, ..blank })
    }

    /// Whether the password fits. Where there is none to compare with it never does, and takes as long.
    pub async fn fits(&self, password: String, stored: Option<Hashed>) -> Result<bool, Refusal> {
        bounded(&password)?;
        let known = stored.is_some();
        let stored = stored.unwrap_or_else(Hashed::nobody);
        let hash = self.work(password, stored.clone()).await?;
        Ok(equal(&hash, &stored.hash) & known)
    }

    async fn work(&self, password: String, like: Hashed) -> Result<[u8; HASH_BYTES], Refusal> {
        let busy = || Refusal::after(RefusalCode::Busy, 1_000);
        let _place = self.waiting.try_acquire().map_err(|_| busy())?;
        let _turn = self.running.acquire().await.map_err(|_| busy())?;
        let work =
            tokio::task::spawn_blocking(move || derive(password.as_bytes(), &like.salt, &like));
        work.await.ok().flatten().ok_or_else(busy)
    }
}

/// The same on the thread that asks, for commands. `ends_ms` = 0: it never ends.
pub fn hash_now(password: &str, salt: [u8; SALT_BYTES], ends_ms: u64) -> Result<Hashed, Refusal> {
    acceptable(password)?;
    let blank = Hashed { ends_ms, salt, ..Hashed::nobody() };
    let hash = derive(password.as_bytes(), &salt, &blank);
    let hash = hash.ok_or(Refusal::new(RefusalCode::Busy))?;
    Ok(Hashed { hash, ..blank })
}

fn derive(password: &[u8], salt: &[u8], like: &Hashed) -> Option<[u8; HASH_BYTES]> {
    let params = Params::new(like.memory_kib, like.passes, like.lanes, Some(HASH_BYTES)).ok()?;
    let mut hash = [0; HASH_BYTES];
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    argon2.hash_password_into(password, salt, &mut hash).ok()?;
    Some(hash)
}

fn bounded(password: &str) -> Result<(), Refusal> {
    if password.len() > PASSWORD_BYTES_MAX {
        let why = format!("A password has at most {PASSWORD_BYTES_MAX} bytes.");
        return Err(Refusal::because(RefusalCode::TooLarge, why));
    }
    Ok(())
}

/// In constant time: ring compares MACs, so both sides become one under the same key.
fn equal(a: &[u8], b: &[u8]) -> bool {
    let key = hmac::Key::new(hmac::HMAC_SHA256, b"lodge password comparison");
    hmac::verify(&key, a, hmac::sign(&key, b).as_ref()).is_ok()
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, behind) = rest.split_first_chunk()?;
    *rest = behind;
    Some(*taken)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_password_fits_itself_and_nothing_else() {
        let hasher = Hasher::new();
        let stored = hasher.hash("correct horse".into(), [1; 16], 7).await.unwrap();
        assert_eq!(Hashed::decode(&stored.encode()), Some(stored.clone()));
        for (password, fits) in [
            ("correct horse", true),
            ("Correct horse", false),
            ("correct horse ", false),
            ("", false),
        ] {
            let found = hasher.fits(password.into(), Some(stored.clone())).await;
            assert_eq!(found, Ok(fits), "{password:?}");
        }
        assert_eq!(hasher.fits("correct horse".into(), None).await, Ok(false));
        let salted = hasher.hash("correct horse".into(), [2; 16], 7).await.unwrap();
        assert_ne!(stored.hash, salted.hash);
    }

    #[test]
    fn the_hash_is_argon2id() {
        // A vector of the reference implementation (phc-winner-argon2, test.c).
        let blank = Hashed { memory_kib: 65_536, ..Hashed::nobody() };
        let hash = derive(b"password", b"somesalt", &blank).unwrap();
        let known = "09316115d5cf24ed5a15a31a3ba326e5cf32edc24702987c02b6566f61913cf7";
        assert_eq!(data_encoding::HEXLOWER.encode(&hash), known);
    }

    #[test]
    fn lengths_are_bounded_at_both_ends() {
        for (length, ok) in [
            (PASSWORD_CHARS_MIN - 1, false),
            (PASSWORD_CHARS_MIN, true),
            (PASSWORD_BYTES_MAX, true),
            (PASSWORD_BYTES_MAX + 1, false),
        ] {
            assert_eq!(acceptable(&"x".repeat(length)).is_ok(), ok, "{length}");
        }
        assert!(acceptable(&"密".repeat(PASSWORD_CHARS_MIN)).is_ok());
        assert!(acceptable(&"密".repeat(PASSWORD_BYTES_MAX / 3 + 1)).is_err());
    }

    #[tokio::test]
    async fn a_very_long_password_costs_no_hash() {
        let hasher = Hasher::new();
        hasher.running.close();
        let refused = hasher.fits("x".repeat(1 << 20), None).await.unwrap_err();
        assert_eq!(refused.code, RefusalCode::TooLarge);
        assert_eq!(hasher.fits("x".into(), None).await.unwrap_err().code, RefusalCode::Busy);
    }

    #[tokio::test]
    async fn who_finds_no_place_to_wait_is_told_to_come_back() {
        let hasher = Hasher::new();
        let places = u32::try_from(HASHES_AT_ONCE + HASHES_WAITING_MAX).unwrap();
        let all_but_one = hasher.waiting.acquire_many(places - 1).await.unwrap();
        assert_eq!(hasher.fits("long enough".into(), None).await, Ok(false));
        let last = hasher.waiting.acquire().await.unwrap();
        let refused = hasher.fits("long enough".into(), None).await.unwrap_err();
        assert_eq!((refused.code, refused.retry_after_ms), (RefusalCode::Busy, 1_000));
        drop((all_but_one, last));
        assert_eq!(hasher.fits("long enough".into(), None).await, Ok(false));
    }

    #[test]
    fn a_row_that_was_cut_or_lengthened_is_none() {
        let row = Hashed::nobody().encode();
        for length in 0..row.len() {
            assert_eq!(Hashed::decode(&row[..length]), None, "{length}");
        }
        assert_eq!(Hashed::decode(&[&row[..], &[0]].concat()), None);
        assert_eq!(Hashed::decode(&[&[2], &row[1..]].concat()), None);
    }
}
