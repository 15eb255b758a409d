//! Step "restarts": the server is killed and started again, also in the middle of starting, and a few messages are
//! said between. All of them are there at the end, in order, and the data directory has not grown out of hand.
//! `cargo xtask torture --rounds 1000` does the same at length.

use crate::{
    house::House,
    run::Done,
    tally::Found,
    trial::{self, Settings, Trial},
    visitor::{Answer, Visitor},
};
use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

/// However many restarts and a few hundred messages: spares and first segments included.
const DATA_BYTES_MAX: u64 = 300 << 20;
const ROUNDS: u32 = 40;
/// A message comes in each round of so many.
const ROUNDS_A_MESSAGE: u32 = 5;
const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) fn proof(house: &House) -> Found {
    Found::of(rounds(house, ROUNDS).map(drop))
}

pub(crate) fn rounds(house: &House, rounds: u32) -> Done<String> {
    let binary = house.release()?;
    let folder = house.fresh("restarts")?;
    let address = trial::free_address()?;
    let settings = Settings { address, mode: "plain", public_url: "" };
    let start = Instant::now();
    let mut server = Trial::start(&binary, &folder, &settings)?;
    let desk = server.set_up(&[&format!("http://{address}")])?;
    let mut visitor = Visitor::new(address, &desk.app)?;
    let mut said = Vec::new();
    for round in 0..rounds {
        if round % ROUNDS_A_MESSAGE == 0 {
            visitor.connect()?;
            let text = format!("message of round {round}");
            match visitor.say(&text, PATIENCE)? {
                Answer::Accepted { .. } => said.push(text),
                answer => return Err(format!("round {round}: a text was answered {answer:?}")),
            }
        }
        server.kill()?;
        // One start in three is cut short, each time somewhere else.
        if round % 3 == 0 {
            server.kill_during_start(Duration::from_millis(u64::from(round * 7 % 60)))?;
        }
        server.restart().map_err(|why| format!("round {round}: {why}"))?;
    }
    visitor.connect()?;
    if visitor.history()? != said {
        return Err("something acknowledged is not there".to_owned());
    }
    // With the spares that a server makes once it is open.
    let bytes = settled_bytes(&folder.join("data"))?;
    if bytes > DATA_BYTES_MAX {
        return Err(format!("the data directory holds {bytes} bytes after {rounds} restarts"));
    }
    // Ends as systemd asks it to, with a draft on its way: it is answered or it is not, never lost.
    let text = "the last one";
    server.terminate()?;
    let answer = visitor.say(text, PATIENCE);
    server.wait()?;
    server.restart()?;
    visitor.connect()?;
    let history = visitor.history()?;
    let there = history.last().is_some_and(|last| last == text);
    if matches!(answer, Ok(Answer::Accepted { .. })) && !there {
        return Err("a draft that was answered while the server ended is not there".to_owned());
    }
    server.kill()?;
    match Trial::check(&binary, &folder)? {
        (Some(0), report) if report["sound"] == true => Ok(format!(
            "{rounds} restarts and {} messages in {:.0} s: {} MB",
            said.len(),
            start.elapsed().as_secs_f32(),
            bytes >> 20
        )),
        (code, report) => Err(format!("lodge check ended with {code:?}: {report}")),
    }
}

/// What lies in a directory, once it has stopped growing.
fn settled_bytes(data: &Path) -> Done<u64> {
    let mut before = 0;
    loop {
        let bytes = bytes_below(data).map_err(|error| error.to_string())?;
        if bytes == before {
            return Ok(bytes);
        }
        before = bytes;
        std::thread::sleep(Duration::from_millis(500));
    }
}

fn bytes_below(folder: &Path) -> std::io::Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        bytes += match entry.metadata() {
            Ok(found) if found.is_dir() => bytes_below(&entry.path())?,
            Ok(found) => found.len(),
            // Something half made that was there a moment ago.
            Err(_) => 0,
        };
    }
    Ok(bytes)
}
