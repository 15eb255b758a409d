//! `SECRETS`: what lets people in (password hashes, site secrets, token keys), in one small file of
//! mode 0600 beside the log. Never in the log, never in sled.
//!
//! Invariants: the file is replaced whole and is durable before a change is answered; memory shows
//! a change only then; a file that is not exactly what was written, or that others may read, is
//! refused at open and never overwritten. None is no secrets only where there is no history: see
//! `Secrets::open`.
//!
//! ```text
//! offset  size
//!      0     8  "LODGESEC"
//!      8     4  version, 1
//!     12     4  count of secrets
//!     16        each, in rising order of names:
//!                  2  length of the name     4  length of the value     the name     the value
//!   end-4     4  CRC32 of everything before
//! ```
//! Numbers are little-endian.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use crate::Error;
use crate::disk::{self, Disk, Open};

/// 1 to this many bytes of UTF-8.
pub const SECRET_NAME_BYTES_MAX: usize = 200;
/// Room for a private key with its chain of certificates.
pub const SECRET_BYTES_MAX: usize = 64 << 10;
/// The whole file, since every change writes all of it.
pub const SECRETS_FILE_BYTES_MAX: usize = 16 << 20;

const NAME: &str = "SECRETS";
/// Where `disk::replace` builds the next content; a crash may leave one.
const NAME_OF_NEXT: &str = "SECRETS.new";
const MAGIC: &[u8; 8] = b"LODGESEC";
const VERSION: u32 = 1;
const OTHERS: u32 = 0o077;
const CRC_BYTES: usize = 4;
/// The whole of a file by which the operator asks for new secrets in the place of lost ones. Words,
/// because an empty file, one of zeros or half of one is what an accident leaves.
const BEGIN_ANEW: &[u8] = b"new keys";

type Map = BTreeMap<String, Vec<u8>>;

/// Cheap to clone. Readers never wait for the disk.
#[derive(Clone)]
pub struct Secrets {
    inner: Arc<Inner>,
}

struct Inner {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    now: RwLock<Map>,
    /// Why nothing may be changed, if nothing may.
    refusal: RwLock<Option<Error>>,
    /// Held over the replacement of the file, so that changes come one after the other.
    changing: Mutex<()>,
}

impl Secrets {
    /// Reads the file in `dir`. None is no secrets, but where there is `history` it was lost: new
    /// ones would shut everybody out without a word.
    pub fn open(disk: Arc<dyn Disk>, dir: &Path, history: bool) -> Result<Secrets, Error> {
        let secrets = Secrets::of(None, disk.clone(), dir, history)?;
        let next = dir.join(NAME_OF_NEXT);
        match disk.unlink(&next).and_then(|()| disk.sync_dir(dir)) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                return Err(Error::io("remove", &next, e));
            }
            _ => {}
        }
        Ok(secrets)
    }

    /// Reads the file in `dir` and touches nothing; `why` is what every change gets for an answer.
    pub(crate) fn look(
        why: Error,
        disk: Arc<dyn Disk>,
        dir: &Path,
        history: bool,
    ) -> Result<Secrets, Error> {
        Secrets::of(Some(why), disk, dir, history)
    }

    fn of(
        refusal: Option<Error>,
        disk: Arc<dyn Disk>,
        dir: &Path,
        history: bool,
    ) -> Result<Secrets, Error> {
        let now = RwLock::new(read(disk.as_ref(), dir, history)?);
        let refusal = RwLock::new(refusal);
        let (path, changing) = (dir.join(NAME), Mutex::new(()));
        Ok(Secrets { inner: Arc::new(Inner { disk, path, now, refusal, changing }) })
    }

    /// From now on nothing is changed: damage was met after this was opened.
    pub fn refuse(&self, why: Error) {
        let mut refusal = self.inner.refusal.write().unwrap_or_else(PoisonError::into_inner);
        refusal.get_or_insert(why);
    }

    /// Why nothing may be changed, if nothing may.
    pub fn refusal(&self) -> Option<Error> {
        self.inner.refusal.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn get(&self, name: &str) -> Option<Vec<u8>> {
        self.now(|map| map.get(name).cloned())
    }

    /// The names that begin with `prefix`, in order.
    pub fn names(&self, prefix: &str) -> Vec<String> {
        self.now(|map| {
            let from = map.range::<str, _>((Bound::Included(prefix), Bound::Unbounded));
            let names = from.map(|(name, _)| name);
            names.take_while(|name| name.starts_with(prefix)).cloned().collect()
        })
    }

    pub fn put(&self, name: &str, secret: &[u8]) -> Result<(), Error> {
        self.put_all(&[(name, Some(secret))])
    }

    pub fn remove(&self, name: &str) -> Result<(), Error> {
        self.put_all(&[(name, None)])
    }

    /// Puts (or, for `None`, removes) all of these or none of them.
    pub fn put_all(&self, changes: &[(&str, Option<&[u8]>)]) -> Result<(), Error> {
        let _changing = self.inner.changing.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(why) = self.refusal() {
            return Err(why);
        }
        let mut next = self.now(Map::clone);
        for &(name, secret) in changes {
            match secret {
                Some(secret) => next.insert(name.to_owned(), secret.to_owned()),
                None => next.remove(name),
            };
        }
        let bytes = encode(&next)?;
        disk::replace(self.inner.disk.as_ref(), &self.inner.path, &bytes)
            .map_err(|e| Error::io("replace", &self.inner.path, e))?;
        *self.inner.now.write().unwrap_or_else(PoisonError::into_inner) = next;
        Ok(())
    }

    fn now<T>(&self, look: impl FnOnce(&Map) -> T) -> T {
        look(&self.inner.now.read().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Counts, never contents: this may end in a log line.
impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secrets({})", self.now(Map::len))
    }
}

/// The content of the file in `dir`, without changing anything there.
pub(crate) fn read(disk: &dyn Disk, dir: &Path, history: bool) -> Result<Map, Error> {
    let path = dir.join(NAME);
    let file = match disk.open(&path, Open::Read) {
        Err(e) if e.kind() == io::ErrorKind::NotFound && history => {
            return Err(Error::refused(format!(
                "{} is missing, and with it every password and key of this store: restore it from \
                 a backup, or write the words `new keys` into it to begin anew without them",
                path.display()
            )));
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Map::new()),
        other => other.map_err(|e| Error::io("open", &path, e))?,
    };
    let mode = file.mode().map_err(|e| Error::io("look at", &path, e))?;
    if mode & OTHERS != 0 {
        return Err(Error::refused(format!(
            "{} is open to others than its owner (mode {mode:04o}): change what it protects if \
             they may have read it, then `chmod 600` it",
            path.display()
        )));
    }
    let bytes = match disk::read_all(file.as_ref(), SECRETS_FILE_BYTES_MAX as u64) {
        Err(e) if e.kind() == io::ErrorKind::FileTooLarge => Err("it is too long".to_owned()),
        other => Ok(other.map_err(|e| Error::io("read", &path, e))?),
    };
    bytes.and_then(|bytes| decode(&bytes)).map_err(|why| {
        Error::refused(format!("{} cannot be used: {why}; restore it", path.display()))
    })
}

fn encode(map: &Map) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    let count = u32::try_from(map.len()).map_err(|_| Error::refused("too many secrets"))?;
    bytes.extend_from_slice(&count.to_le_bytes());
    for (name, secret) in map {
        if !(1..=SECRET_NAME_BYTES_MAX).contains(&name.len()) {
            return Err(Error::refused(format!(
                "the name of a secret has 1 to {SECRET_NAME_BYTES_MAX} bytes, not {}",
                name.len()
            )));
        }
        if secret.len() > SECRET_BYTES_MAX {
            return Err(Error::refused(format!(
                "a secret has at most {SECRET_BYTES_MAX} bytes, not {}",
                secret.len()
            )));
        }
        bytes.extend_from_slice(&(name.len() as u16).to_le_bytes());
        bytes.extend_from_slice(&(secret.len() as u32).to_le_bytes());
        bytes.extend_from_slice(name.as_bytes());
        bytes.extend_from_slice(secret);
    }
    if bytes.len() + CRC_BYTES > SECRETS_FILE_BYTES_MAX {
        return Err(Error::refused(format!(
            "all secrets together have at most {SECRETS_FILE_BYTES_MAX} bytes"
        )));
    }
    let crc = crc32fast::hash(&bytes);
    bytes.extend_from_slice(&crc.to_le_bytes());
    Ok(bytes)
}

fn decode(bytes: &[u8]) -> Result<Map, String> {
    if bytes.trim_ascii_end() == BEGIN_ANEW {
        return Ok(Map::new());
    }
    let damaged = || "it is damaged".to_owned();
    let (content, crc) = bytes.split_last_chunk().ok_or_else(damaged)?;
    if crc32fast::hash(content) != u32::from_le_bytes(*crc) {
        return Err(damaged());
    }
    let mut rest = content.strip_prefix(MAGIC).ok_or("it is not a file of secrets")?;
    let version = u32::from_le_bytes(take(&mut rest).ok_or_else(damaged)?);
    if version != VERSION {
        return Err(format!("it has version {version}, and this build knows {VERSION}"));
    }
    let count = u32::from_le_bytes(take(&mut rest).ok_or_else(damaged)?);
    let mut map = Map::new();
    for _ in 0..count {
        let (name, secret) = take_secret(&mut rest).ok_or_else(damaged)?;
        if map.last_key_value().is_some_and(|(last, _)| *last >= name) {
            return Err(damaged());
        }
        map.insert(name, secret);
    }
    if rest.is_empty() { Ok(map) } else { Err(damaged()) }
}

fn take_secret(rest: &mut &[u8]) -> Option<(String, Vec<u8>)> {
    let name_len = u16::from_le_bytes(take(rest)?);
    let secret_len = usize::try_from(u32::from_le_bytes(take(rest)?)).ok()?;
    let (name, behind) = rest.split_at_checked(name_len.into())?;
    let (secret, behind) = behind.split_at_checked(secret_len)?;
    *rest = behind;
    Some((String::from_utf8(name.to_vec()).ok()?, secret.to_vec()))
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, behind) = rest.split_first_chunk()?;
    *rest = behind;
    Some(*taken)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use tempfile::TempDir;

    use super::*;
    use crate::disk::{RealDisk, SimDisk};

    const EIO: i32 = 5;

    fn open(dir: &Path) -> Result<Secrets, Error> {
        Secrets::open(Arc::new(RealDisk), dir, false)
    }

    fn filled() -> TempDir {
        let dir = tempfile::tempdir().unwrap();
        let secrets = open(dir.path()).unwrap();
        secrets.put("agent.1", b"hash").unwrap();
        secrets.put_all(&[("site.1", Some(b"key")), ("site.2", Some(b""))]).unwrap();
        dir
    }

    fn refusal(dir: &Path) -> String {
        match open(dir) {
            Err(Error::Refused { what }) => what,
            other => panic!("{other:?} is not a refusal"),
        }
    }

    /// A file with a checksum that agrees, whatever stands before it.
    fn write(dir: &Path, mut content: Vec<u8>) {
        content.extend(crc32fast::hash(&content).to_le_bytes());
        fs::write(dir.join(NAME), content).unwrap();
        fs::set_permissions(dir.join(NAME), fs::Permissions::from_mode(0o600)).unwrap();
    }

    #[test]
    fn what_was_put_is_there_after_opening_again() {
        let dir = filled();
        let secrets = open(dir.path()).unwrap();
        assert_eq!(secrets.get("agent.1"), Some(b"hash".to_vec()));
        assert_eq!(secrets.get("site.2"), Some(vec![]));
        assert_eq!(secrets.get("site"), None);
        assert_eq!(secrets.names("site."), ["site.1", "site.2"]);
        assert_eq!(secrets.names("").len(), 3);
        assert_eq!(secrets.names("z"), Vec::<String>::new());

        secrets.put_all(&[("site.1", None), ("site.3", Some(b"new"))]).unwrap();
        secrets.remove("agent.1").unwrap();
        secrets.remove("never.there").unwrap();
        for secrets in [secrets, open(dir.path()).unwrap()] {
            assert_eq!(secrets.names(""), ["site.2", "site.3"]);
            assert_eq!(secrets.get("site.3"), Some(b"new".to_vec()));
        }
    }

    #[test]
    fn nobody_else_may_read_it() {
        let dir = filled();
        let path = dir.path().join(NAME);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
        for (mode, taken) in
            [(0o600, true), (0o400, true), (0o640, false), (0o604, false), (0o666, false)]
        {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(open(dir.path()).is_ok(), taken, "{mode:o}");
        }
        assert!(refusal(dir.path()).contains("mode 0666"));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        open(dir.path()).unwrap().put("agent.1", b"other").unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
    }

    #[test]
    fn a_flipped_or_missing_byte_is_refused_and_left_alone() {
        let dir = filled();
        let path = dir.path().join(NAME);
        let good = fs::read(&path).unwrap();
        let mut bad = Vec::new();
        for at in 0..good.len() {
            bad.push(good[..at].to_vec());
            for bit in 0..8 {
                let mut flipped = good.clone();
                flipped[at] ^= 1 << bit;
                bad.push(flipped);
            }
        }
        bad.push([&good[..], b"x"].concat());
        bad.push([&good[..], &good[..]].concat());
        bad.push(vec![0; SECRETS_FILE_BYTES_MAX + 1]);
        for bytes in bad {
            fs::write(&path, &bytes).unwrap();
            assert!(refusal(dir.path()).contains("restore it"));
            assert_eq!(fs::read(&path).unwrap(), bytes);
        }
        fs::write(&path, &good).unwrap();
        assert_eq!(open(dir.path()).unwrap().names("").len(), 3);
    }

    #[test]
    fn content_that_was_made_up_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let file = |version: u32, count: u32, secrets: &[u8]| {
            [&MAGIC[..], &version.to_le_bytes(), &count.to_le_bytes(), secrets].concat()
        };
        let secret = |name: &[u8], value: &[u8]| {
            let mut bytes = (name.len() as u16).to_le_bytes().to_vec();
            bytes.extend((value.len() as u32).to_le_bytes());
            [&bytes, name, value].concat()
        };
        write(dir.path(), file(1, 1, &secret(b"a", b"b")));
        assert_eq!(open(dir.path()).unwrap().get("a"), Some(b"b".to_vec()));
        for (why, content) in [
            ("not a file of secrets", b"LODGELOG and more".to_vec()),
            ("version 2", file(2, 0, b"")),
            ("damaged", MAGIC.to_vec()),
            ("damaged", file(1, 1, b"")),
            ("damaged", file(1, u32::MAX, &secret(b"a", b"b"))),
            ("damaged", file(1, 0, &secret(b"a", b"b"))),
            ("damaged", file(1, 1, &[0xFF; 40])),
            ("damaged", file(1, 1, &secret(b"\xFF", b"b"))),
            ("damaged", file(1, 2, &secret(b"a", b"b").repeat(2))),
            ("damaged", file(1, 2, &[secret(b"b", b"b"), secret(b"a", b"b")].concat())),
        ] {
            write(dir.path(), content);
            let said = refusal(dir.path());
            assert!(said.contains(why), "{said}");
        }
    }

    #[test]
    fn only_the_words_for_it_begin_anew() {
        let dir = filled();
        for (bytes, taken) in [
            (&b"new keys"[..], true),
            (b"new keys\n", true),
            (b"new keys\r\n", true),
            (b"", false),
            (b"\n", false),
            (b"new key", false),
            (b"new keys\0\0", false),
            (&[0; 4096], false),
        ] {
            fs::write(dir.path().join(NAME), bytes).unwrap();
            let opened = Secrets::open(Arc::new(RealDisk), dir.path(), true);
            assert_eq!(opened.is_ok(), taken, "{bytes:?}");
            assert_eq!(fs::read(dir.path().join(NAME)).unwrap(), bytes);
            assert!(opened.is_err() || opened.unwrap().names("").is_empty());
        }
    }

    #[test]
    fn a_directory_in_its_place_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join(NAME)).unwrap();
        assert!(matches!(open(dir.path()), Err(Error::Io { .. })));
    }

    #[test]
    fn everything_is_bounded() {
        let dir = tempfile::tempdir().unwrap();
        let secrets = open(dir.path()).unwrap();
        for (bytes, taken) in [
            (0, false),
            (1, true),
            (SECRET_NAME_BYTES_MAX - 1, true),
            (SECRET_NAME_BYTES_MAX, true),
            (SECRET_NAME_BYTES_MAX + 1, false),
        ] {
            assert_eq!(secrets.put(&"n".repeat(bytes), b"").is_ok(), taken, "{bytes}");
        }
        for (bytes, taken) in
            [(SECRET_BYTES_MAX - 1, true), (SECRET_BYTES_MAX, true), (SECRET_BYTES_MAX + 1, false)]
        {
            assert_eq!(secrets.put("n", &vec![7; bytes]).is_ok(), taken, "{bytes}");
        }
        // Fill the file to its last byte: what is left over goes into one secret more.
        let names: Vec<_> = secrets.names("");
        let none: Vec<_> = names.iter().map(|name| (name.as_str(), None)).collect();
        secrets.put_all(&none).unwrap();
        let full = vec![7; SECRET_BYTES_MAX];
        let each = 2 + 4 + 4 + SECRET_BYTES_MAX;
        let room = SECRETS_FILE_BYTES_MAX - (MAGIC.len() + 4 + 4) - CRC_BYTES;
        let names: Vec<_> = (0..room / each).map(|n| format!("{n:04}")).collect();
        let all: Vec<_> = names.iter().map(|name| (name.as_str(), Some(&full[..]))).collect();
        secrets.put_all(&all).unwrap();
        let rest = room % each - (2 + 4 + 4);
        for (bytes, taken) in [(rest - 1, true), (rest, true), (rest + 1, false)] {
            assert_eq!(secrets.put("last", &vec![7; bytes]).is_ok(), taken);
        }
        assert_eq!(fs::metadata(dir.path().join(NAME)).unwrap().len(), 16 << 20);
        assert_eq!(open(dir.path()).unwrap().get("last").map(|last| last.len()), Some(rest));
    }

    #[test]
    fn an_unfinished_replacement_is_cleared_away() {
        let dir = filled();
        fs::write(dir.path().join(NAME_OF_NEXT), b"half").unwrap();
        let secrets = open(dir.path()).unwrap();
        assert_eq!(secrets.names("").len(), 3);
        assert!(!dir.path().join(NAME_OF_NEXT).exists());
    }

    const DATA: &str = "/data";

    fn sim(seed: u64) -> SimDisk {
        let disk = SimDisk::new(seed);
        disk.create_dir(Path::new(DATA)).unwrap();
        disk.sync_dir(Path::new("/")).unwrap();
        let secrets = open_sim(&disk).unwrap();
        secrets.put_all(&[("a", Some(b"old")), ("b", Some(b"old"))]).unwrap();
        disk
    }

    fn open_sim(disk: &SimDisk) -> Result<Secrets, Error> {
        Secrets::open(Arc::new(disk.clone()), Path::new(DATA), false)
    }

    /// The power goes at each call in turn: afterwards all of a change is there or nothing of it,
    /// all of it if it was answered, and nothing lies about.
    #[test]
    fn a_change_is_whole_wherever_it_was_cut() {
        let mut nth = 0;
        let mut failed = true;
        while failed {
            failed = false;
            for seed in 0..40 {
                let disk = sim(seed);
                let secrets = open_sim(&disk).unwrap();
                disk.fail_call(nth, EIO);
                let changed = secrets.put_all(&[("a", Some(b"new")), ("b", Some(b"new"))]);
                failed |= changed.is_err();
                let shown = secrets.get("a").unwrap();
                assert_eq!(shown == b"new", changed.is_ok(), "call {nth}, seed {seed}");
                disk.heal();
                disk.crash();
                let secrets = open_sim(&disk).unwrap();
                let (a, b) = (secrets.get("a").unwrap(), secrets.get("b").unwrap());
                assert_eq!(a, b, "call {nth}, seed {seed}");
                assert!(changed.is_err() || a == b"new", "call {nth}, seed {seed}");
                assert_eq!(disk.list(Path::new(DATA)).unwrap(), [NAME]);
                secrets.put("a", b"after").unwrap();
            }
            nth += 1;
        }
        assert!(nth > 4, "a replacement takes more calls than {nth}");
    }

    #[test]
    fn a_full_disk_refuses_the_change_and_keeps_the_rest() {
        let disk = sim(1);
        let secrets = open_sim(&disk).unwrap();
        disk.set_capacity_bytes(disk.used_bytes());
        assert!(matches!(secrets.put("c", b"new"), Err(Error::Full)));
        assert_eq!(disk.list(Path::new(DATA)).unwrap(), [NAME]);
        disk.heal();
        secrets.put("c", b"new").unwrap();
        assert_eq!(open_sim(&disk).unwrap().names(""), ["a", "b", "c"]);
    }

    #[test]
    fn printing_it_tells_nothing() {
        let dir = filled();
        assert_eq!(format!("{:?}", open(dir.path()).unwrap()), "Secrets(3)");
    }
}
