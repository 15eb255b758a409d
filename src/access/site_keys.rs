//! The secrets of a site, by key id, so that a new one can be used before the old one is taken away.
//!
//! The AppSecret travels inside apps and therefore counts as public: it names the app and proves nobody. The
//! IdentitySecret never leaves the site's back end: whoever has it can speak for every visitor of that site. Both
//! are shown once, when they are made, and lie in SECRETS only:
//!
//! ```text
//! site/NUMBER/app/KEYID, site/NUMBER/identity/KEYID   8 bytes milliseconds since 1970, then the secret's text
//! site/NUMBER/vouches   8 bytes milliseconds since 1970: what was vouched for before counts no more
//! ```

use data_encoding::BASE64URL_NOPAD;
use lodge_proto::refusal::{Refusal, RefusalCode};
use lodge_storage::Secrets;

use super::keys::Chance;
use super::not_kept;
use crate::limits::SITE_KEYS_MAX;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sort {
    App,
    Identity,
}

impl Sort {
    pub fn word(self) -> &'static str {
        match self {
            Sort::App => "app",
            Sort::Identity => "identity",
        }
    }

    /// So that a secret found in the wrong place says what it is.
    fn prefix(self) -> &'static str {
        match self {
            Sort::App => "lodge_app_",
            Sort::Identity => "lodge_identity_",
        }
    }
}

/// A secret with its name. The text as shown is the key, byte for byte.
#[derive(Clone, PartialEq, Eq)]
pub struct SiteKey {
    pub id: String,
    pub secret: String,
    pub made_ms: u64,
}

impl SiteKey {
    pub fn make(sort: Sort, chance: &Chance, now_ms: u64) -> Result<SiteKey, Refusal> {
        let id = chance.word::<5>()?;
        let secret = BASE64URL_NOPAD.encode(&chance.bytes::<32>()?);
        Ok(SiteKey { id, secret: format!("{}{secret}", sort.prefix()), made_ms: now_ms })
    }

    /// The row of SECRETS that holds it.
    pub fn row(&self, site: u64, sort: Sort) -> (String, Vec<u8>) {
        let value = [&self.made_ms.to_le_bytes(), self.secret.as_bytes()].concat();
        (format!("{}{}", shelf(site, sort), self.id), value)
    }
}

impl std::fmt::Debug for SiteKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SiteKey({})", self.id)
    }
}

/// All keys of this sort, oldest first.
pub fn of(secrets: &Secrets, site: u64, sort: Sort) -> Vec<SiteKey> {
    let shelf = shelf(site, sort);
    let read = |name: String| {
        let value = secrets.get(&name)?;
        let (made_ms, secret) = value.split_first_chunk()?;
        let secret = String::from_utf8(secret.to_vec()).ok()?;
        let id = name.strip_prefix(&shelf)?.to_owned();
        Some(SiteKey { id, secret, made_ms: u64::from_le_bytes(*made_ms) })
    };
    let mut keys: Vec<SiteKey> = secrets.names(&shelf).into_iter().filter_map(read).collect();
    keys.sort_by_key(|key| key.made_ms);
    keys
}

/// Makes one more; the older ones go on until they are removed.
pub fn add(
    secrets: &Secrets,
    site: u64,
    sort: Sort,
    chance: &Chance,
    now_ms: u64,
) -> Result<SiteKey, Refusal> {
    if of(secrets, site, sort).len() >= SITE_KEYS_MAX {
        let why = format!(
            "This site has {SITE_KEYS_MAX} {} secrets already. Remove the one that nothing uses any more.",
            sort.word()
        );
        return Err(Refusal::because(RefusalCode::TooMany, why));
    }
    let key = SiteKey::make(sort, chance, now_ms)?;
    let (name, value) = key.row(site, sort);
    secrets.put(&name, &value).map_err(not_kept)?;
    Ok(key)
}

/// Takes a key away. The last one stays, or nobody could be vouched for and no app would be known. Whoever
/// takes an IdentitySecret away may have lost it to a thief, so nothing that it vouched for outlives it.
pub fn remove(
    secrets: &Secrets,
    site: u64,
    sort: Sort,
    id: &str,
    now_ms: u64,
) -> Result<(), Refusal> {
    let keys = of(secrets, site, sort);
    let Some(key) = keys.iter().find(|key| key.id == id) else {
        return Err(Refusal::because(
            RefusalCode::NotAllowed,
            "There is no secret with this key id.",
        ));
    };
    if keys.len() == 1 {
        let why = "This is the only secret of its sort. Make a new one first.";
        return Err(Refusal::because(RefusalCode::NotAllowed, why));
    }
    let (key, vouches) = (key.row(site, sort).0, vouches(site));
    let from = now_ms.saturating_add(1).to_le_bytes();
    let changes: [(&str, Option<&[u8]>); 2] = [(&key, None), (&vouches, Some(&from))];
    let changes = if sort == Sort::Identity { &changes[..] } else { &changes[..1] };
    secrets.put_all(changes).map_err(not_kept)
}

/// Since when the site's word for its visitors counts, in milliseconds since 1970.
pub fn vouches_count_from(secrets: &Secrets, site: u64) -> u64 {
    let row = secrets.get(&vouches(site)).and_then(|row| row.try_into().ok());
    row.map_or(0, u64::from_le_bytes)
}

fn vouches(site: u64) -> String {
    format!("site/{site}/vouches")
}

fn shelf(site: u64, sort: Sort) -> String {
    format!("site/{site}/{}/", sort.word())
}
