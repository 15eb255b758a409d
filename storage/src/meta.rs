//! `meta/`: small projections of the register in sled, quick to ask and never the truth.
//!
//! Every row can be made again from the log, so the answer to any doubt is to set the folder aside
//! and start empty with `applied` = 0; the owner then replays. Invariants:
//!
//! - The position up to which the log is applied is written in the same batch as the rows.
//! - The marker beside the folder exists while sled opens and after any failure of sled; whoever
//!   finds it at the next opening trusts nothing in the folder. It also covers what cannot be
//!   caught: an abort, a kill, or an allocation that a damaged length asked for.
//! - `flush` of sled 0.34 is no barrier against power loss: `checkpoint` syncs the file itself.
//! - No secrets (freed pages keep old bytes), no messages, no row larger than `ROW_BYTES_MAX`.
//!
//! This is the only file that names sled.

use std::fs::{self, File};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use crate::{Error, Position};

/// A key or a value of a row; sled moves larger values into files that it never syncs.
pub const ROW_BYTES_MAX: usize = 4096;
/// Rows in one `apply`; the caller splits a replay at positions that it may resume from.
pub const ROWS_MAX: usize = 65_536;
/// sled counts this loosely; what bounds its memory is the number of rows.
const CACHE_BYTES: u64 = 32 << 20;

/// How long the last owner may take to let go.
const HELD_MS_MAX: u64 = 5_000;
/// What the pinned version of sled says, and no error code says, when its lock is taken.
const SLED_IS_HELD: &str = "could not acquire lock";

const FOLDER: &str = "meta";
const MARKER: &str = "meta.opening";
const SET_ASIDE: &str = "meta.bad.";

/// The key of the `applied` row. No table can hold it: their keys begin with the table's byte.
const APPLIED: &[u8] = &[];

/// Which projection a row belongs to; the numbers are the caller's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Table(pub u8);

/// One change: the row's table, its key, and its new value or `None` to remove it.
pub type Row = (Table, Vec<u8>, Option<Vec<u8>>);

/// A row that was found: its key and its value.
pub type Found = (Vec<u8>, Vec<u8>);

#[derive(Debug)]
pub struct Meta {
    db: sled::Db,
    dir: PathBuf,
    epoch: u64,
    set_aside: Option<String>,
}

impl Meta {
    /// Opens the folder under `dir`, or sets it aside and begins an empty one. Rows of another
    /// history, or of positions that the log (which ends at `log_end`) does not have, are doubt too.
    pub fn open(dir: &Path, epoch: u64, log_end: Position) -> Result<Meta, Error> {
        let folder = dir.join(FOLDER);
        let marker = dir.join(MARKER);
        let left_over =
            marker.try_exists().map_err(|e| Error::io("look for the marker", &marker, e))?;
        let doubt = if left_over {
            "the last opening did not finish, or sled failed after it".to_owned()
        } else {
            mark(&marker)?;
            match open_trusting(&folder, epoch, log_end, HELD_MS_MAX) {
                Ok(db) => {
                    unmark(&marker)?;
                    return Ok(Meta { db, dir: dir.to_owned(), epoch, set_aside: None });
                }
                Err(Unopened::Held) => {
                    unmark(&marker)?;
                    return Err(Error::Locked);
                }
                Err(Unopened::Doubt(why)) => why,
            }
        };
        set_aside(dir)?;
        match open_trusting(&folder, epoch, log_end, HELD_MS_MAX) {
            Ok(db) => {
                unmark(&marker)?;
                Ok(Meta { db, dir: dir.to_owned(), epoch, set_aside: Some(doubt) })
            }
            Err(Unopened::Held) => Err(Error::Locked),
            Err(Unopened::Doubt(why)) => Err(Error::refused(format!(
                "a new, empty {} cannot be opened: {why}",
                folder.display()
            ))),
        }
    }

    /// Why this opening began empty, if it did not trust what it found.
    pub fn set_aside(&self) -> Option<&str> {
        self.set_aside.as_deref()
    }

    /// Everything below this position is in the rows.
    pub fn applied(&self) -> Result<Position, Error> {
        let applied = self.guard("read", || self.db.get(APPLIED))?;
        Ok(applied.and_then(|row| decode_applied(&row)).map_or(Position(0), |(_, at)| at))
    }

    /// Writes `rows` and `upto` so that after any crash either all of it is there or nothing.
    pub fn apply(&self, rows: &[Row], upto: Position) -> Result<(), Error> {
        if rows.len() > ROWS_MAX {
            return Err(Error::refused(format!("{} rows at once, at most {ROWS_MAX}", rows.len())));
        }
        let mut batch = sled::Batch::default();
        for (table, key, value) in rows {
            let bytes = key.len().max(value.as_ref().map_or(0, Vec::len));
            if bytes > ROW_BYTES_MAX {
                return Err(Error::refused(format!(
                    "a row of {bytes} bytes, at most {ROW_BYTES_MAX}"
                )));
            }
            match value {
                Some(value) => batch.insert(row_key(*table, key), value.as_slice()),
                None => batch.remove(row_key(*table, key)),
            }
        }
        batch.insert(APPLIED, encode_applied(self.epoch, upto).as_slice());
        self.guard("write", || self.db.apply_batch(batch))
    }

    pub fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        let value = self.guard("read", || self.db.get(row_key(table, key)))?;
        Ok(value.map(|value| value.to_vec()))
    }

    /// The first `limit` rows of `table` whose keys begin with `prefix`, in the order of their keys.
    pub fn scan(&self, table: Table, prefix: &[u8], limit: usize) -> Result<Vec<Found>, Error> {
        self.guard("scan", || {
            self.db
                .scan_prefix(row_key(table, prefix))
                .take(limit)
                .map(|row| {
                    let (key, value) = row?;
                    Ok((key.get(1..).unwrap_or_default().to_vec(), value.to_vec()))
                })
                .collect()
        })
    }

    /// Makes everything applied so far outlast a power cut.
    pub fn checkpoint(&self) -> Result<(), Error> {
        self.guard("flush", || self.db.flush())?;
        let folder = self.dir.join(FOLDER);
        for path in [folder.join("db"), folder] {
            sync(&path)?;
        }
        Ok(())
    }

    /// sled may panic on damage that it meets late. Either way the marker comes back, so that the
    /// next opening starts empty.
    fn guard<T>(&self, what: &str, act: impl FnOnce() -> sled::Result<T>) -> Result<T, Error> {
        caught(act).map_err(|why| {
            let noted = match mark(&self.dir.join(MARKER)) {
                Ok(()) => "it is set aside at the next start",
                Err(_) => "and the doubt could not be noted",
            };
            Error::refused(format!("sled cannot {what}: {why}; {noted}"))
        })
    }
}

/// Why the ordinary opening did not come about.
enum Unopened {
    /// Somebody has it open: no reason to distrust it.
    Held,
    Doubt(String),
}

fn open_trusting(
    folder: &Path,
    epoch: u64,
    log_end: Position,
    held_ms_max: u64,
) -> Result<sled::Db, Unopened> {
    let doubt = |why: &str| Err(Unopened::Doubt(why.to_owned()));
    if let Err(e) = remove_unfinished_snapshots(folder) {
        return doubt(&format!("it cannot be listed: {e}"));
    }
    let held_until = Instant::now() + Duration::from_millis(held_ms_max);
    let (db, applied) = loop {
        match caught(|| open_sled(folder)) {
            Ok(opened) => break opened,
            Err(why) if !why.contains(SLED_IS_HELD) => return doubt(&why),
            Err(_) if Instant::now() >= held_until => return Err(Unopened::Held),
            // The lock outlives the dropping of a `Db` by the time that sled's threads need.
            Err(_) => thread::sleep(Duration::from_millis(5)),
        }
    };
    let Some(applied) = applied else { return Ok(db) };
    match decode_applied(&applied) {
        None => doubt("its `applied` is not ours"),
        Some((of, _)) if of != epoch => doubt("it was made from another history"),
        Some((_, at)) if at > log_end => doubt("it is ahead of the log"),
        Some(_) => Ok(db),
    }
}

fn open_sled(folder: &Path) -> sled::Result<(sled::Db, Option<sled::IVec>)> {
    let db = sled::Config::new()
        .path(folder)
        .mode(sled::Mode::LowSpace)
        .cache_capacity(CACHE_BYTES)
        .flush_every_ms(Some(1000)) // the same thread collects garbage, so it must run
        .open()?;
    let applied = db.get(APPLIED)?;
    if applied.is_none() && !db.is_empty() {
        return Err(sled::Error::Unsupported("it has rows but no `applied`".into()));
    }
    Ok((db, applied))
}

/// sled takes a snapshot that a crash left half written for a whole one and then refuses to open.
fn remove_unfinished_snapshots(folder: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(folder) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        let kind = entry.file_type()?;
        if !kind.is_file() && !kind.is_dir() {
            // sled would panic over it.
            return Err(io::Error::other("there is something in it that is not a file"));
        }
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with("snap.") && name.ends_with(".generating") {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Renames the folder for whoever wants to look at it, in place of the one kept before.
fn set_aside(dir: &Path) -> Result<(), Error> {
    let mut newest = 0;
    for entry in fs::read_dir(dir).map_err(|e| Error::io("list", dir, e))? {
        let entry = entry.map_err(|e| Error::io("list", dir, e))?;
        let name = entry.file_name();
        let Some(n) = name.to_str().and_then(|name| name.strip_prefix(SET_ASIDE)) else { continue };
        let Ok(n) = n.parse::<u64>() else { continue };
        newest = newest.max(n);
        let path = entry.path();
        let is_dir = entry.file_type().is_ok_and(|kind| kind.is_dir());
        let removed = if is_dir { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        removed.map_err(|e| Error::io("remove", &path, e))?;
    }
    let folder = dir.join(FOLDER);
    match fs::rename(&folder, dir.join(format!("{SET_ASIDE}{}", newest.wrapping_add(1)))) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(Error::io("set aside", &folder, e)),
        _ => sync(dir),
    }
}

fn mark(marker: &Path) -> Result<(), Error> {
    File::create(marker).map_err(|e| Error::io("create", marker, e))?;
    sync_parent(marker)
}

fn unmark(marker: &Path) -> Result<(), Error> {
    fs::remove_file(marker).map_err(|e| Error::io("remove", marker, e))?;
    sync_parent(marker)
}

fn sync_parent(path: &Path) -> Result<(), Error> {
    path.parent().map_or(Ok(()), sync)
}

fn sync(path: &Path) -> Result<(), Error> {
    File::open(path).and_then(|file| file.sync_all()).map_err(|e| Error::io("sync", path, e))
}

fn row_key(table: Table, key: &[u8]) -> Vec<u8> {
    let mut row = Vec::with_capacity(1 + key.len());
    row.push(table.0);
    row.extend_from_slice(key);
    row
}

/// epoch u64 | position u64, little-endian
fn encode_applied(epoch: u64, at: Position) -> [u8; 16] {
    let mut row = [0; 16];
    row[..8].copy_from_slice(&epoch.to_le_bytes());
    row[8..].copy_from_slice(&at.0.to_le_bytes());
    row
}

fn decode_applied(row: &[u8]) -> Option<(u64, Position)> {
    let (epoch, at) = row.split_first_chunk()?;
    let at = at.try_into().ok()?;
    Some((u64::from_le_bytes(*epoch), Position(u64::from_le_bytes(at))))
}

/// Runs sled and gives its error or its panic in words.
fn caught<T>(act: impl FnOnce() -> sled::Result<T>) -> Result<T, String> {
    match catch_unwind(AssertUnwindSafe(act)) {
        Ok(done) => done.map_err(|e| e.to_string()),
        Err(panic) => {
            let said = panic.downcast_ref::<String>().map(String::as_str);
            Err(said.or(panic.downcast_ref().copied()).unwrap_or("it panicked").to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;
    use std::process::{Command, Stdio};

    use tempfile::TempDir;

    use super::*;

    const EPOCH: u64 = 7;
    const AGENTS: Table = Table(1);
    const SITES: Table = Table(2);
    const LOG_END: Position = Position(1_000_000);

    fn open(dir: &Path) -> Meta {
        Meta::open(dir, EPOCH, LOG_END).unwrap()
    }

    fn put(key: &[u8], value: &[u8]) -> Row {
        (AGENTS, key.to_vec(), Some(value.to_vec()))
    }

    /// A directory whose meta holds one row and is applied to 100.
    fn filled() -> TempDir {
        let dir = tempfile::tempdir().unwrap();
        let meta = open(dir.path());
        meta.apply(&[put(b"ann", b"1")], Position(100)).unwrap();
        meta.checkpoint().unwrap();
        dir
    }

    /// It opens all the same, empty, says why, works, and is trusted the time after.
    fn begins_empty(dir: &Path, why: &str) {
        let meta = open(dir);
        let said = meta.set_aside().unwrap_or("nothing").to_owned();
        assert!(said.contains(why), "said {said:?}, not {why:?}");
        assert_eq!(meta.applied().unwrap(), Position(0));
        assert_eq!(meta.get(AGENTS, b"ann").unwrap(), None);
        meta.apply(&[put(b"bob", b"2")], Position(200)).unwrap();
        drop(meta);
        let meta = open(dir);
        assert_eq!(meta.set_aside(), None);
        assert_eq!(meta.applied().unwrap(), Position(200));
        assert_eq!(meta.get(AGENTS, b"bob").unwrap(), Some(b"2".to_vec()));
    }

    fn names(dir: &Path) -> Vec<String> {
        let entries = fs::read_dir(dir).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn rows_come_back_by_table_and_prefix() {
        let dir = filled();
        let meta = open(dir.path());
        let site = (SITES, b"ann".to_vec(), Some(b"site".to_vec()));
        meta.apply(&[put(b"anna", b"3"), put(b"bob", b"2"), site], Position(200)).unwrap();
        assert_eq!(meta.applied().unwrap(), Position(200));
        assert_eq!(meta.get(SITES, b"ann").unwrap(), Some(b"site".to_vec()));
        let ann = (b"ann".to_vec(), b"1".to_vec());
        let anna = (b"anna".to_vec(), b"3".to_vec());
        assert_eq!(meta.scan(AGENTS, b"ann", 10).unwrap(), [ann.clone(), anna]);
        assert_eq!(meta.scan(AGENTS, b"", 1).unwrap(), [ann]);
        assert_eq!(meta.scan(Table(0), b"", 10).unwrap(), []);

        meta.apply(&[(AGENTS, b"ann".to_vec(), None)], Position(300)).unwrap();
        assert_eq!(meta.get(AGENTS, b"ann").unwrap(), None);
        assert_eq!(meta.get(SITES, b"ann").unwrap(), Some(b"site".to_vec()));
        drop(meta);
        let meta = open(dir.path());
        assert_eq!(meta.applied().unwrap(), Position(300));
        assert_eq!(names(dir.path()), ["meta"]);
    }

    #[test]
    fn rows_are_bounded() {
        let dir = filled();
        let meta = open(dir.path());
        for (bytes, taken) in
            [(ROW_BYTES_MAX - 1, true), (ROW_BYTES_MAX, true), (ROW_BYTES_MAX + 1, false)]
        {
            assert_eq!(meta.apply(&[put(b"k", &vec![b'v'; bytes])], Position(101)).is_ok(), taken);
            assert_eq!(meta.apply(&[put(&vec![b'k'; bytes], b"v")], Position(101)).is_ok(), taken);
        }
        for (count, taken) in [(ROWS_MAX - 1, true), (ROWS_MAX, true), (ROWS_MAX + 1, false)] {
            assert_eq!(meta.apply(&vec![put(b"k", b"v"); count], Position(102)).is_ok(), taken);
        }
        assert!(meta.set_aside().is_none());
        drop(meta);
        assert_eq!(open(dir.path()).set_aside(), None, "a refused row is no doubt about sled");
    }

    #[test]
    fn a_deleted_folder_is_an_empty_one() {
        let dir = filled();
        fs::remove_dir_all(dir.path().join(FOLDER)).unwrap();
        let meta = open(dir.path());
        assert_eq!(meta.set_aside(), None);
        assert_eq!(meta.applied().unwrap(), Position(0));
        assert_eq!(meta.scan(AGENTS, b"", 10).unwrap(), []);
    }

    #[test]
    fn a_left_over_marker_is_doubt() {
        let dir = filled();
        File::create(dir.path().join(MARKER)).unwrap();
        begins_empty(dir.path(), "did not finish");
        assert_eq!(names(dir.path()), ["meta", "meta.bad.1"]);
        File::create(dir.path().join(MARKER)).unwrap();
        drop(open(dir.path()));
        assert_eq!(names(dir.path()), ["meta", "meta.bad.2"], "one is kept, the newest");
    }

    #[test]
    fn rows_ahead_of_the_log_are_doubt() {
        let dir = filled();
        assert!(Meta::open(dir.path(), EPOCH, Position(100)).unwrap().set_aside().is_none());
        let meta = Meta::open(dir.path(), EPOCH, Position(99)).unwrap();
        assert_eq!(meta.set_aside(), Some("it is ahead of the log"));
        drop(meta);
        begins_empty_again(dir.path());
    }

    #[test]
    fn rows_of_another_history_are_doubt() {
        let dir = filled();
        let meta = Meta::open(dir.path(), EPOCH + 1, LOG_END).unwrap();
        assert_eq!(meta.set_aside(), Some("it was made from another history"));
        drop(meta);
        begins_empty_again(dir.path());
    }

    fn begins_empty_again(dir: &Path) {
        let meta = open(dir);
        assert_eq!(meta.applied().unwrap(), Position(0));
        assert_eq!(meta.scan(AGENTS, b"", 10).unwrap(), []);
    }

    #[test]
    fn rows_that_are_not_ours_are_doubt() {
        let dir = tempfile::tempdir().unwrap();
        let db = sled::open(dir.path().join(FOLDER)).unwrap();
        db.insert(b"theirs", b"row").unwrap();
        drop(db);
        begins_empty(dir.path(), "no `applied`");

        let dir = tempfile::tempdir().unwrap();
        let db = sled::open(dir.path().join(FOLDER)).unwrap();
        db.insert(APPLIED, b"short").unwrap();
        drop(db);
        begins_empty(dir.path(), "not ours");
    }

    #[test]
    fn a_snapshot_that_a_crash_left_unfinished_is_removed() {
        let dir = filled();
        let unfinished = dir.path().join(FOLDER).join("snap.0000000000FFFFFF.generating");
        fs::write(&unfinished, b"half").unwrap();
        let meta = open(dir.path());
        assert_eq!(meta.set_aside(), None);
        assert_eq!(meta.get(AGENTS, b"ann").unwrap(), Some(b"1".to_vec()));
        assert!(!unfinished.exists());
    }

    #[test]
    fn garbage_in_any_file_never_stops_the_opening() {
        for garbage in [&b""[..], b"x", &[0xFF; 4096], &[0; 4096], &[0x5A; 600_000]] {
            for file in ["db", "conf", "snap"] {
                let dir = filled();
                let folder = dir.path().join(FOLDER);
                for name in names(&folder).iter().filter(|name| name.starts_with(file)) {
                    fs::write(folder.join(name), garbage).unwrap();
                }
                let meta = open(dir.path());
                let there = meta.get(AGENTS, b"ann").unwrap().is_some();
                assert_eq!(there, meta.applied().unwrap() == Position(100));
                if meta.set_aside().is_some() {
                    assert!(!there);
                }
                meta.apply(&[put(b"bob", b"2")], Position(200)).unwrap();
            }
        }
    }

    #[test]
    fn something_else_by_its_name_is_set_aside() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(FOLDER), b"a file").unwrap();
        begins_empty(dir.path(), "");
        assert_eq!(names(dir.path()), ["meta", "meta.bad.1"]);
    }

    #[test]
    fn a_directory_that_is_not_there_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let gone = dir.path().join("gone");
        assert!(matches!(Meta::open(&gone, EPOCH, LOG_END), Err(Error::Io { .. })));
    }

    #[test]
    fn a_folder_that_is_held_is_waited_for_and_never_set_aside() {
        let dir = filled();
        let meta = open(dir.path());
        let held = open_trusting(&dir.path().join(FOLDER), EPOCH, LOG_END, 0);
        assert!(matches!(held, Err(Unopened::Held)));
        let path = dir.path().to_owned();
        let next = thread::spawn(move || open(&path));
        drop(meta);
        assert_eq!(next.join().unwrap().applied().unwrap(), Position(100));
        assert_eq!(names(dir.path()), ["meta"]);
    }

    #[test]
    fn a_panic_or_an_error_of_sled_is_doubt_at_the_next_start() {
        for act in [(|| panic!("page {} is gone", 3)) as fn() -> sled::Result<()>, || {
            Err(sled::Error::Corruption { at: None, bt: () })
        }] {
            let dir = filled();
            let meta = open(dir.path());
            let Err(Error::Refused { what }) = meta.guard("read", act) else {
                panic!("it was taken for good");
            };
            assert!(what.contains("set aside at the next start"), "{what}");
            drop(meta);
            begins_empty(dir.path(), "sled failed");
        }
    }

    /// A child opens, applies and checkpoints in a ring and is killed at some moment of it. What is
    /// there afterwards is one batch, whole: the row says the position that `applied` says.
    #[test]
    fn a_kill_leaves_a_whole_batch() {
        const CHILD: &str = "LODGE_META_CHILD";
        if let Some(dir) = std::env::var_os(CHILD) {
            let dir = Path::new(&dir);
            loop {
                let meta = open(dir);
                let from = meta.applied().unwrap().0;
                for at in from + 1..from + 50 {
                    let row = put(b"at", at.to_string().as_bytes());
                    meta.apply(&[row], Position(at % LOG_END.0)).unwrap();
                }
                meta.checkpoint().unwrap();
                println!("once");
            }
        }
        let dir = tempfile::tempdir().unwrap();
        for rounds in 0..12 {
            let mut child = Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "meta::tests::a_kill_leaves_a_whole_batch", "--nocapture"])
                .env(CHILD, dir.path())
                .stdout(Stdio::piped())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            let said = io::BufReader::new(child.stdout.take().unwrap());
            let mut said = io::BufRead::lines(said).map_while(Result::ok);
            for _ in 0..=rounds % 4 {
                assert!(said.any(|line| line.ends_with("once")), "the child ended by itself");
            }
            child.kill().unwrap();
            assert_eq!(child.wait().unwrap().signal(), Some(9));

            let meta = open(dir.path());
            let at = meta.applied().unwrap().0;
            let row = meta.get(AGENTS, b"at").unwrap();
            assert_eq!(row.is_none(), at == 0);
            if let Some(row) = row {
                assert_eq!(row, at.to_string().into_bytes());
            }
        }
    }
}
