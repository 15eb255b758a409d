//! Step "damage": the data directory of a server that was killed, spoiled in one way at a time. The next start serves
//! everything, or serves what it can and takes nothing, or refuses in one sentence; it never hangs, panics, shows
//! what was not said, or touches what is damaged. `lodge check` says the same.

use crate::{
    full::Mounted,
    house::{self, House},
    http,
    run::{self, Done},
    tally::Found,
    trial::{self, Desk, Outcome, Settings, Trial},
    visitor::{Answer, Visitor},
};
use serde_json::json;
use std::{
    fs,
    os::unix::fs::{FileExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

const READ_ONLY: u64 = 1004;
const PATIENCE: Duration = Duration::from_secs(10);
const TEXTS_A_LIFE: usize = 12;

/// What a start has to make of it; the words must stand in what it says.
#[derive(Clone, Copy)]
enum Wanted {
    /// Everything that was acknowledged is served and more is taken.
    Whole,
    /// As `Whole`, but the file that was sent is not what it was: it must not be given out as if it were.
    NoFile,
    ReadOnly(&'static str),
    Refused(&'static str),
}
use Wanted::{NoFile, ReadOnly, Refused, Whole};

struct Case {
    name: &'static str,
    /// Below the data directory; what a start may not touch unless it opens for writing.
    file: &'static str,
    spoil: fn(&Path) -> Done,
    wanted: Wanted,
    /// Of `lodge check`.
    code: i32,
}

const fn case(
    name: &'static str,
    file: &'static str,
    spoil: fn(&Path) -> Done,
    wanted: Wanted,
    code: i32,
) -> Case {
    Case { name, file, spoil, wanted, code }
}

const FIRST: &str = "log/00000001.seg";
const SECOND: &str = "log/00000002.seg";
const LAST: &str = "log/00000003.seg";
const INDEX: &str = "log/00000001.idx";
const BLOBS: &str = "blobs/00000000.blob";

const CASES: &[Case] = &[
    case("nothing", FIRST, |_| Ok(()), Whole, 0),
    case("a bit of a text", FIRST, |it| flip_in(it, b"text 5 "), ReadOnly("00000001"), 1),
    case("a bit of a text, later", LAST, |it| flip_in(it, b"text 27 "), ReadOnly("00000003"), 1),
    case("a bit of a batch", SECOND, |it| flip_in(it, b"LBAT"), ReadOnly("00000002"), 1),
    case("a bit of a header", SECOND, |it| flip(it, 50), ReadOnly("00000002"), 1),
    case("a segment of zeros", SECOND, zeros, ReadOnly("00000002"), 1),
    case("half a segment", FIRST, |it| cut(it, 2), ReadOnly("00000001"), 1),
    case("an empty segment", SECOND, |it| cut(it, usize::MAX), ReadOnly("00000002"), 1),
    case("no segment", SECOND, remove, ReadOnly("00000002"), 1),
    case("swapped segments", SECOND, |it| swap(it, "00000003.seg"), ReadOnly("00000002"), 1),
    case("a segment of a newer Lodge", SECOND, newer_segment, Refused("newer Lodge"), 1),
    case("a pipe for a segment", SECOND, pipe, Refused("not a regular file"), 1),
    case("a directory for a segment", SECOND, folder, Refused("not a regular file"), 1),
    case("a link for a segment", SECOND, link, Refused("not a regular file"), 1),
    case("a torn tail", LAST, tear, Whole, 0),
    case("a bit of an index", INDEX, |it| flip(it, 70), Whole, 0),
    case("an empty index", INDEX, |it| cut(it, usize::MAX), Whole, 0),
    case("a directory for an index", INDEX, folder, Whole, 0),
    case("a pipe for an index", INDEX, pipe, Whole, 0),
    case("no index", INDEX, remove, Whole, 0),
    case("a stranger's segment", "log/000000ff.seg", strange, ReadOnly("00000004"), 1),
    case("strangers' files", "log/00000001.seg.bak", strange, Whole, 0),
    case("a stranger above", "NOTES", strange, Whole, 0),
    case("a directory for a spare", "log/spare.7", folder, Refused("log/spare.7"), 0),
    case("a bit of STORE", "STORE", |it| flip(it, 30), Refused("STORE is damaged"), 2),
    case("half of STORE", "STORE", |it| cut(it, 2), Refused("STORE"), 2),
    case("STORE of zeros", "STORE", zeros, Refused("STORE"), 2),
    case("no STORE", "STORE", remove, Refused("STORE"), 2),
    case("a pipe for STORE", "STORE", pipe, Refused("not a regular file"), 2),
    case("STORE for newer readers", "STORE", |it| newer_store(it, 16), Refused("newer Lodge"), 2),
    case("STORE for newer writers", "STORE", |it| newer_store(it, 20), ReadOnly("newer Lodge"), 0),
    case("no log", "log", remove, Refused("has lost its log"), 2),
    case("a bit of SECRETS", "SECRETS", |it| flip(it, 40), Refused("it is damaged"), 1),
    case("half of SECRETS", "SECRETS", |it| cut(it, 2), Refused("it is damaged"), 1),
    case("empty SECRETS", "SECRETS", |it| cut(it, usize::MAX), Refused("it is damaged"), 1),
    case("SECRETS of zeros", "SECRETS", zeros, Refused("it is damaged"), 1),
    case("no SECRETS", "SECRETS", remove, Refused("is missing"), 1),
    case("SECRETS for everybody", "SECRETS", open_to_all, Refused("chmod 600"), 1),
    case("a directory for SECRETS", "SECRETS", folder, Refused("SECRETS"), 1),
    case("a bit of a file", BLOBS, |it| flip(it, 9_000), NoFile, 1),
    case("a bit of a file's header", BLOBS, |it| flip(it, 4_100), NoFile, 1),
    case("half the files", BLOBS, |it| cut(it, usize::MAX), NoFile, 0),
    case("no files", BLOBS, remove, NoFile, 0),
    case("a pipe for files", BLOBS, pipe, NoFile, 1),
    case("no tables", "meta", remove, Whole, 0),
    case("tables of garbage", "meta/db", strange, Whole, 0),
    case("a table's settings", "meta/conf", strange, Whole, 0),
    case("a pipe for a table", "meta/db", pipe, Whole, 0),
    case("a file for tables", "meta", strange_file, Whole, 0),
    case("a marker that stays", "meta.opening", folder, Whole, 0),
];

/// A server's whole life so far.
struct Life {
    binary: PathBuf,
    folder: PathBuf,
    desk: Desk,
    visitor: Visitor,
    said: Vec<String>,
    file: Vec<u8>,
    file_seq: u64,
}

pub(crate) fn proof(house: &House) -> Found {
    let life = match live(house) {
        Ok(life) => life,
        Err(why) => return Found::failed(why),
    };
    let mut found = Found::default();
    for case in CASES {
        let tried = life.attempt(house, case);
        found.add(Found::of(tried.map_err(|why| format!("{}: {why}", case.name))));
    }
    found.add(Found::of(life.second_server(house).map_err(|why| format!("two servers: {why}"))));
    found.add(match life.read_only_disk(house) {
        Err(why) if why.starts_with("mount") => Found::skipped(why),
        tried => Found::of(tried.map_err(|why| format!("a read-only disk: {why}"))),
    });
    found
}

/// Three lives of a server that ended with kill -9: two closed segments, one that is open, a file.
fn live(house: &House) -> Done<Life> {
    let (binary, folder) = (house.release()?, house.fresh("damage")?);
    let address = trial::free_address()?;
    let settings = Settings { address, mode: "plain", public_url: "" };
    let mut server = Trial::start(&binary, &folder, &settings)?;
    let desk = server.set_up(&[&format!("http://{address}")])?;
    let mut visitor = Visitor::new(address, &desk.app)?;
    let mut said = Vec::new();
    let file: Vec<u8> = (0..30_000_u32).map(|nth| ((nth * 31) >> 3) as u8).collect();
    let mut file_seq = 0;
    for life in 0..3 {
        if life > 0 {
            server.kill()?;
            server.restart()?;
        }
        visitor.connect()?;
        for _ in 0..TEXTS_A_LIFE {
            let text = format!("text {} {}", said.len(), "word ".repeat(40));
            match visitor.say(&text, PATIENCE)? {
                Answer::Accepted { .. } => said.push(text),
                answer => return Err(format!("a text was answered {answer:?}")),
            }
        }
        if life == 0 {
            match visitor.give(&file, PATIENCE)? {
                Answer::Accepted { seq } => file_seq = seq,
                answer => return Err(format!("a file was answered {answer:?}")),
            }
        }
        // The batch that states the last one follows when nothing was said for a moment.
        std::thread::sleep(Duration::from_millis(300));
    }
    server.kill()?;
    Ok(Life { binary, folder, desk, visitor: visitor.again(), said, file, file_seq })
}

impl Life {
    fn settings(&self) -> Settings<'_> {
        Settings { address: self.visitor.address(), mode: "plain", public_url: "" }
    }

    /// A copy to be spoiled.
    fn copy(&self, house: &House) -> Done<PathBuf> {
        let folder = house.fresh("damage-case")?;
        run::ask(Command::new("cp").arg("-a").arg(self.folder.join("data")).arg(&folder))?;
        Ok(folder)
    }

    fn attempt(&self, house: &House, case: &Case) -> Done {
        let folder = self.copy(house)?;
        let path = folder.join("data").join(case.file);
        (case.spoil)(&path)?;
        let before = content(&path);
        // First, because a start may mend what it finds.
        house::write(&folder.join("lodge.toml"), self.settings().toml(&folder))?;
        let (code, report) = Trial::check(&self.binary, &folder)?;
        if code != Some(case.code) || (code == Some(0)) != (report["sound"] == true) {
            return Err(format!("lodge check ended with {code:?}: {report}"));
        }
        let (outcome, said) = Trial::attempt(&self.binary, &folder, &self.settings())?;
        if said.contains("panicked") || said.contains("stack backtrace") {
            return Err(format!("it panicked:\n{said}"));
        }
        match (outcome, case.wanted) {
            (Outcome::Open(_server), Whole) => self.served(true, true),
            (Outcome::Open(_server), NoFile) => self.served(true, false),
            (Outcome::ReadOnly(_server, why), ReadOnly(words)) if why.contains(words) => {
                self.served(false, true)?;
                untouched(&path, before)
            }
            (Outcome::Refused { code: Some(2), said }, Refused(words))
                if said.contains(words) && one_sentence(&said) =>
            {
                untouched(&path, before)
            }
            (Outcome::Open(_), _) => Err("it opened".to_owned()),
            (Outcome::ReadOnly(_, why), _) => Err(format!("it only reads: {why}")),
            (Outcome::Refused { code, said }, _) => Err(format!("it ended with {code:?}: {said}")),
        }
    }

    /// Speaks with the server as the visitor and as the desk.
    fn served(&self, writes: bool, file: bool) -> Done {
        let mut visitor = self.visitor.again();
        visitor.connect()?;
        let history = visitor.history()?;
        if writes && history != self.said {
            return Err(format!("{} of {} texts are there", history.len(), self.said.len()));
        }
        let whole = |run: &[String]| self.said.windows(run.len().max(1)).any(|it| it == run);
        if !history.is_empty() && !whole(&history) {
            return Err("what is shown was not said in this order".to_owned());
        }
        let fetched = visitor.fetch(self.file_seq)?;
        match fetched {
            Some(bytes) if bytes != self.file => return Err("a file is not what it was".to_owned()),
            None if writes && file => return Err("the file is not there".to_owned()),
            _ => {}
        }
        let address = self.visitor.address();
        let asked = json!({ "login": self.desk.login, "password": self.desk.password });
        let origin = format!("http://{address}");
        let headers = [("X-Lodge", "1"), ("Origin", origin.as_str())];
        let signed_in = http::post(address, "/api/v1/login", &headers, &asked)?.status;
        // Whoever's account stood where the damage is cannot come in.
        if signed_in != 200 && writes {
            return Err(format!("signing in was answered {signed_in}"));
        }
        match (visitor.say("one more", PATIENCE)?, writes) {
            (Answer::Accepted { .. }, true) | (Answer::Refused(READ_ONLY), false) => {}
            (answer, _) => return Err(format!("a text was answered {answer:?}")),
        }
        let upload = visitor.upload(&self.file)?;
        match (upload.0, writes) {
            (201, true) | (503, false) => Ok(()),
            _ => Err(format!("an upload was answered {upload:?}")),
        }
    }

    fn second_server(&self, house: &House) -> Done {
        let folder = self.copy(house)?;
        let (first, _) = Trial::attempt(&self.binary, &folder, &self.settings())?;
        let Outcome::Open(_first) = first else { return Err("the first did not open".to_owned()) };
        let other = Settings { address: trial::free_address()?, ..self.settings() };
        match Trial::attempt(&self.binary, &folder, &other)? {
            (Outcome::Refused { code: Some(2), said }, _)
                if said.contains("another process") && one_sentence(&said) => {}
            (_, said) => return Err(format!("the second said: {said}")),
        }
        self.served(true, true)
    }

    fn read_only_disk(&self, house: &House) -> Done {
        let folder = self.copy(house)?;
        let _mounted = Mounted::read_only(&folder.join("data"))
            .map_err(|why| format!("mounting is forbidden here: {why}"))?;
        match Trial::attempt(&self.binary, &folder, &self.settings())? {
            (Outcome::ReadOnly(_server, why), _) if why.contains("mounted read-only") => {
                self.served(false, true)?;
            }
            (_, said) => return Err(format!("it said: {said}")),
        }
        match Trial::check(&self.binary, &folder)? {
            (Some(0), report) if report["sound"] == true => Ok(()),
            (code, report) => Err(format!("lodge check ended with {code:?}: {report}")),
        }
    }
}

/// Besides log lines, which begin with their time, one line that begins with the program's name.
pub(crate) fn one_sentence(said: &str) -> bool {
    let is_log = |line: &&str| line.starts_with(|first: char| first.is_ascii_digit());
    let plain: Vec<&str> = said.lines().filter(|line| !is_log(line)).collect();
    matches!(plain[..], [line] if line.starts_with("lodge: "))
}

/// Nothing where something else than a file stands: a pipe would be waited for.
fn content(path: &Path) -> Option<Vec<u8>> {
    let found = fs::symlink_metadata(path).ok()?;
    if found.is_file() { fs::read(path).ok() } else { None }
}

fn untouched(path: &Path, before: Option<Vec<u8>>) -> Done {
    if content(path) == before { Ok(()) } else { Err("it touched what is damaged".to_owned()) }
}

// -- ways to spoil a file

fn flip(path: &Path, at: usize) -> Done {
    let file = fs::OpenOptions::new().read(true).write(true).open(path);
    let flip = |file: fs::File| {
        let mut byte = [0];
        file.read_exact_at(&mut byte, at as u64)?;
        file.write_all_at(&[byte[0] ^ 4], at as u64)
    };
    file.and_then(flip).map_err(|error| format!("{}: {error}", path.display()))
}

fn flip_in(path: &Path, words: &[u8]) -> Done {
    let bytes = read(path)?;
    let at = bytes.windows(words.len()).position(|window| window == words);
    flip(path, at.ok_or("the words to spoil are not there")? + 2)
}

fn zeros(path: &Path) -> Done {
    let len = read(path)?.len();
    house::write(path, vec![0; len])
}

/// Keeps one part of so many.
fn cut(path: &Path, parts: usize) -> Done {
    let bytes = read(path)?;
    house::write(path, &bytes[..bytes.len() / parts])
}

fn remove(path: &Path) -> Done {
    let removed = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    removed.map_err(|error| format!("{}: {error}", path.display()))
}

fn swap(path: &Path, other: &str) -> Done {
    let other = path.with_file_name(other);
    let bytes = read(path)?;
    house::write(path, read(&other)?)?;
    house::write(&other, bytes)
}

fn strange(path: &Path) -> Done {
    house::write(path, b"what is this? ".repeat(1_000))
}

fn strange_file(path: &Path) -> Done {
    remove(path)?;
    strange(path)
}

fn folder(path: &Path) -> Done {
    if path.exists() {
        remove(path)?;
    }
    fs::create_dir(path).map_err(|error| error.to_string())
}

fn pipe(path: &Path) -> Done {
    remove(path)?;
    run::ask(Command::new("mkfifo").arg(path)).map(drop)
}

fn link(path: &Path) -> Done {
    let elsewhere = path.with_file_name("elsewhere");
    fs::rename(path, &elsewhere).map_err(|error| error.to_string())?;
    std::os::unix::fs::symlink(&elsewhere, path).map_err(|error| error.to_string())
}

fn open_to_all(path: &Path) -> Done {
    fs::set_permissions(path, fs::Permissions::from_mode(0o644)).map_err(|error| error.to_string())
}

/// Garbage behind the last batch, as a power cut leaves it.
fn tear(path: &Path) -> Done {
    let bytes = read(path)?;
    let end = bytes.iter().rposition(|byte| *byte != 0).unwrap_or(0) / 4096 * 4096 + 4096;
    let file = fs::OpenOptions::new().write(true).open(path);
    file.and_then(|file| file.write_all_at(&[0xA5; 6_000], end as u64))
        .map_err(|error| error.to_string())
}

/// The number at `at` raised, and the checksum made to agree.
fn newer_store(path: &Path, at: usize) -> Done {
    let mut bytes = read(path)?;
    bytes[at] = 9;
    sum(&mut bytes, 60);
    house::write(path, bytes)
}

fn newer_segment(path: &Path) -> Done {
    let mut bytes = read(path)?;
    bytes[8] = 9;
    sum(&mut bytes, 4092);
    house::write(path, bytes)
}

fn sum(bytes: &mut [u8], at: usize) {
    let (content, rest) = bytes.split_at_mut(at);
    rest[..4].copy_from_slice(&crc32(content).to_le_bytes());
}

/// CRC-32 of IEEE, bit by bit.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ (0xEDB8_8320 & (crc & 1).wrapping_neg())
        })
    })
}

fn read(path: &Path) -> Done<Vec<u8>> {
    fs::read(path).map_err(|error| format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_the_usual_one() {
        assert_eq!(crc32(b"123456789"), 0xCBF4_3926);
    }

    #[test]
    fn one_sentence_is_told_from_many() {
        assert!(one_sentence("2026-01-01T00:00:00Z  INFO reading\nlodge: it is damaged\n"));
        assert!(!one_sentence("lodge: it is\nlodge: damaged\n"));
        assert!(!one_sentence("thread 'main' panicked\nlodge: it is damaged\n"));
        assert!(!one_sentence(""));
    }
}
