//! Step "disk full": the real server on a small file system of its own. Senders are refused by name, what was said
//! can be read, and when space returns it goes on by itself; what was acknowledged is there after a kill.

use crate::{
    house::House,
    run::{self, Done},
    tally::Found,
    tools,
    trial::{self, Settings, Trial},
    visitor::{Answer, Visitor},
};
use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

const FULL: u64 = 1001;
/// Longer than the server lets a moment of room pass by.
const PATIENCE: Duration = Duration::from_secs(2);
/// Several times as many as the room that is left can hold.
const TEXTS_MAX: usize = 4_000;

pub(crate) fn proof(house: &House) -> Found {
    let ready = house.release().and_then(|binary| Ok((binary, house.fresh("full")?)));
    let (binary, folder) = match ready {
        Ok(ready) => ready,
        Err(why) => return Found::failed(why),
    };
    match Mounted::tmpfs(&folder.join("data"), "size=48m") {
        Err(why) => Found::skipped(format!("no small file system here: {why}")),
        Ok(mounted) => Found::of(story(&binary, &folder, &mounted.0)),
    }
}

fn story(binary: &Path, folder: &Path, data: &Path) -> Done {
    let address = trial::free_address()?;
    let origin = format!("http://{address}");
    let settings = Settings { address, mode: "plain", public_url: "" };
    let mut server = Trial::start(binary, folder, &settings)?;
    let desk = server.set_up(&[&origin])?;
    let mut visitor = Visitor::new(address, &desk.app)?;
    visitor.connect()?;
    let mut said: Vec<String> = Vec::new();
    let text = |nth: usize| format!("{nth} {}", "x".repeat(15_000));
    let say = |visitor: &mut Visitor, said: &mut Vec<String>, patience| -> Done<Answer> {
        let text = text(said.len());
        let answer = visitor.say(&text, patience)?;
        if let Answer::Accepted { .. } = answer {
            said.push(text);
        }
        Ok(answer)
    };
    for _ in 0..3 {
        expect(say(&mut visitor, &mut said, PATIENCE)?, "a text on a disk with room", |answer| {
            matches!(answer, Answer::Accepted { .. })
        })?;
    }

    let filler = data.join("filler");
    fill(&filler)?;
    let mut other = Visitor::new(address, &desk.app)?;
    other.connect()?;
    let mut last = Answer::Silence;
    for _ in 0..TEXTS_MAX {
        last = say(&mut visitor, &mut said, PATIENCE)?;
        if !matches!(last, Answer::Accepted { .. }) {
            break;
        }
    }
    // The one that met it waits for room; whoever comes behind it is told.
    expect(last, "the text that finds no room", |answer| {
        matches!(answer, Answer::Silence | Answer::Refused(FULL))
    })?;
    expect(other.say("is there room?", PATIENCE)?, "a text to a full disk", |answer| {
        *answer == Answer::Refused(FULL)
    })?;
    let upload = visitor.upload(&vec![7; 200_000])?;
    if upload.0 != 507 {
        return Err(format!("an upload to a full disk was answered {upload:?}"));
    }
    if visitor.history()? != said {
        return Err("history cannot be read while the disk is full".to_owned());
    }

    fs::remove_file(&filler).map_err(|error| error.to_string())?;
    let until = Instant::now() + Duration::from_secs(10);
    loop {
        // The same draft again, until it is taken; by then it may have been written by itself.
        if let Answer::Accepted { .. } = say(&mut visitor, &mut said, PATIENCE)? {
            break;
        }
        if Instant::now() > until {
            return Err("space returned and writing did not".to_owned());
        }
    }
    expect(other.say("is there room?", PATIENCE)?, "a text after space returned", |answer| {
        matches!(answer, Answer::Accepted { .. })
    })?;
    if visitor.upload(&vec![7; 200_000])?.0 != 201 {
        return Err("space returned and uploads did not".to_owned());
    }

    // Full again, and killed: what is acknowledged is on the disk all the same, and a start finds its way.
    fill(&filler)?;
    server.kill()?;
    server.restart()?;
    visitor.connect()?;
    if visitor.history()? != said {
        return Err("after a kill on a full disk something acknowledged is not there".to_owned());
    }
    server.kill()?;
    match Trial::check(binary, folder)? {
        (Some(0), report) if report["sound"] == true => Ok(()),
        (code, report) => Err(format!("lodge check ended with {code:?}: {report}")),
    }
}

fn expect(answer: Answer, what: &str, wanted: impl Fn(&Answer) -> bool) -> Done {
    if wanted(&answer) { Ok(()) } else { Err(format!("{what} was answered {answer:?}")) }
}

/// Writes zeros until not one more byte fits.
fn fill(path: &Path) -> Done {
    let mut file = fs::File::create(path).map_err(|error| error.to_string())?;
    for block in [1 << 20, 4096] {
        let zeros = vec![0; block];
        while file.write(&zeros).is_ok_and(|written| written > 0) {}
    }
    Ok(())
}

/// A file system of its own, gone when this is dropped.
pub(crate) struct Mounted(pub(crate) PathBuf);

impl Mounted {
    pub(crate) fn tmpfs(at: &Path, options: &str) -> Done<Self> {
        Self::mount(at, &["-t", "tmpfs", "-o", options, "tmpfs"])
    }

    /// Shows `at` once more in its own place, where nothing can be written.
    pub(crate) fn read_only(at: &Path) -> Done<Self> {
        let place = at.to_string_lossy().into_owned();
        let mounted = Self::mount(at, &["--bind", &place])?;
        run::must(Command::new("mount").args(["-o", "remount,bind,ro", &place]))?;
        Ok(mounted)
    }

    fn mount(at: &Path, arguments: &[&str]) -> Done<Self> {
        if !tools::root() {
            return Err("mounting needs root".to_owned());
        }
        fs::create_dir_all(at).map_err(|error| error.to_string())?;
        run::must(Command::new("mount").args(arguments).arg(at))?;
        Ok(Self(at.to_owned()))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // Lazily, because a server that was killed a moment ago may still hold a file of it.
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}
