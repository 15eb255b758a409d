//! The one-time set-up token: proof of owning the machine, for whoever opens the set-up page.
//!
//! There is no default password, so this is how the first account comes to be. It is printed on the machine, is good
//! for an hour and for one use, and only its SHA-256 is kept; a new one takes the place of the one before.
//!
//! ```text
//! setup/HASH   8 bytes (little-endian): the millisecond since 1970 at which it ends
//! ```

use data_encoding::HEXLOWER;
use lodge_proto::refusal::{Refusal, RefusalCode};
use lodge_storage::{Error, Secrets};
use ring::digest;

use super::keys::Chance;

/// How long a token is good for.
pub const SETUP_MS: u64 = 60 * 60 * 1_000;

const SHELF: &str = "setup/";

/// Makes the token that is good from now on. Waits for the disk.
pub fn make(secrets: &Secrets, chance: &Chance, now_ms: u64) -> Result<String, Error> {
    let token = chance.word::<20>().map_err(|refusal| Error::refused(refusal.text))?;
    let (name, ends) = (name(&token), now_ms.saturating_add(SETUP_MS).to_le_bytes());
    let before = secrets.names(SHELF);
    let mut changes: Vec<(&str, Option<&[u8]>)> =
        before.iter().map(|name| (name.as_str(), None)).collect();
    changes.push((&name, Some(&ends)));
    secrets.put_all(&changes)?;
    Ok(token)
}

/// The row that has to go when this token is used, if it is good.
pub fn judge(secrets: &Secrets, token: &str, now_ms: u64) -> Result<String, Refusal> {
    // Found by its hash, so the time that this takes says nothing about the token.
    let name = name(token);
    if ends(secrets, &name).is_some_and(|ends_ms| now_ms < ends_ms) {
        return Ok(name);
    }
    let why = "This set-up address is not good, or no longer: it is valid for an hour and for one use. \
               `lodge setup` prints a new one.";
    Err(Refusal::because(RefusalCode::TokenInvalid, why))
}

/// Whether there is a token that somebody could use.
pub fn is_open(secrets: &Secrets, now_ms: u64) -> bool {
    let ends = |name: String| ends(secrets, &name);
    secrets.names(SHELF).into_iter().filter_map(ends).any(|ends_ms| now_ms < ends_ms)
}

fn ends(secrets: &Secrets, name: &str) -> Option<u64> {
    Some(u64::from_le_bytes(secrets.get(name)?.try_into().ok()?))
}

fn name(token: &str) -> String {
    format!(
        "{SHELF}{}",
        HEXLOWER.encode(digest::digest(&digest::SHA256, token.as_bytes()).as_ref())
    )
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use lodge_storage::disk::RealDisk;

    use super::*;

    const NOW: u64 = 1_764_000_000_000;

    #[test]
    fn a_token_is_good_for_an_hour_and_until_the_next_one() {
        let dir = tempfile::tempdir().unwrap();
        let secrets = Secrets::open(Arc::new(RealDisk), dir.path(), false).unwrap();
        let chance = Chance::new();
        assert!(!is_open(&secrets, NOW));
        let first = make(&secrets, &chance, NOW).unwrap();
        assert!(is_open(&secrets, NOW));
        assert!(judge(&secrets, &first, NOW + SETUP_MS - 1).is_ok());
        assert_eq!(
            judge(&secrets, &first, NOW + SETUP_MS).unwrap_err().code,
            RefusalCode::TokenInvalid
        );
        assert!(!is_open(&secrets, NOW + SETUP_MS));
        let second = make(&secrets, &chance, NOW + 1).unwrap();
        assert_ne!(first, second);
        assert!(judge(&secrets, &first, NOW + 2).is_err());
        let row = judge(&secrets, &second, NOW + 2).unwrap();
        assert!(!row.contains(&second));
        for wrong in ["", &second[1..], &second.to_uppercase(), &format!("{second}="), &row] {
            assert!(judge(&secrets, wrong, NOW + 2).is_err(), "{wrong}");
        }
        let again = Secrets::open(Arc::new(RealDisk), dir.path(), false).unwrap();
        assert!(judge(&again, &second, NOW + 2).is_ok(), "a restart forgets nothing");
        secrets.remove(&row).unwrap();
        assert!(judge(&secrets, &second, NOW + 2).is_err());
    }
}
