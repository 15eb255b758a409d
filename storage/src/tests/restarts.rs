//! Restarts: in a loop they fill nothing, and a kill -9 loses nothing that was acknowledged.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use super::{everything, open, pen, text};
use crate::disk::{Chance, Disk, RealDisk, SimDisk};
use crate::{Lane, Options, Place, Store, check, frame};

const ROUNDS: u64 = 1_000;
const MESSAGES: u64 = 200;
/// What may be left, at the full size of a store and at the one below.
const BYTES_MAX: u64 = (300 << 20) / SCALE;
/// Everything that is preallocated is this much smaller here: a thousand times eight megabytes of
/// zeros would only keep the disk busy.
const SCALE: u64 = 32;

fn scaled() -> Options {
    let Options { segment_bytes, first_segment_bytes, spare_bytes_max } = Options::default();
    Options {
        segment_bytes: segment_bytes / SCALE,
        first_segment_bytes: first_segment_bytes / SCALE,
        spare_bytes_max: spare_bytes_max / SCALE,
    }
}

/// Opens, writes every fifth time, and is gone without a word.
fn round(disk: &Arc<dyn Disk>, dir: &Path, nth: u64) {
    let store = open(disk, dir, &scaled()).unwrap();
    let log = &store.log.shared;
    let mut writer = log.take_writer().unwrap();
    if nth < 2 {
        // The first two get as far as making their spares.
        store.log.keep_spares();
        assert!(log.porter.turn(log));
    }
    if nth.is_multiple_of(ROUNDS / MESSAGES) {
        let seq = store.log.head(1, Lane::Public) + 1;
        let mut frames = Vec::new();
        frame::encode(&text(1, Lane::Public, seq, "still here"), &mut frames);
        writer.write(log, std::iter::once(frames.as_slice()), 1).unwrap();
    }
}

fn ends_well(store: &Store, used_bytes: u64) {
    assert_eq!(store.log.head(1, Lane::Public), MESSAGES);
    assert_eq!(everything(store).unwrap().len() as u64, MESSAGES);
    assert!(used_bytes < BYTES_MAX, "{used_bytes} bytes");
}

#[test]
fn a_thousand_restarts_fill_nothing_on_the_simulated_disk() {
    let sim = SimDisk::new(1);
    let disk: Arc<dyn Disk> = Arc::new(sim.clone());
    let dir = Path::new("/store");
    for nth in 0..ROUNDS {
        round(&disk, dir, nth);
        if nth % 2 == 0 { sim.kill() } else { sim.crash() }
    }
    ends_well(&open(&disk, dir, &scaled()).unwrap(), sim.used_bytes());
}

#[test]
fn a_thousand_restarts_fill_nothing_on_a_real_disk() {
    use std::os::unix::fs::MetadataExt;
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let dir = tempfile::tempdir().unwrap();
    for nth in 0..ROUNDS {
        round(&disk, dir.path(), nth);
    }
    let store = open(&disk, dir.path(), &scaled()).unwrap();
    let files = std::fs::read_dir(dir.path().join("log")).unwrap();
    let used = files.map(|file| file.unwrap().metadata().unwrap().blocks() * 512).sum();
    ends_well(&store, used);
}

/// Set for the child that the test below starts from this same binary.
const CHILD_DIR: &str = "LODGE_TEST_KILL_DIR";

#[test]
#[ignore = "the child of the test below"]
fn child_that_is_killed() {
    let Ok(dir) = std::env::var(CHILD_DIR) else { return };
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let store = open(&disk, Path::new(&dir), &Options::default()).unwrap();
    store.log.keep_spares();
    let pen = pen(&store).unwrap();
    let mut seqs: BTreeMap<u64, u64> = (0..20)
        .map(|conversation| (conversation, store.log.head(conversation, Lane::Public)))
        .collect();
    let mut waiting = 0;
    let mut out = std::io::stdout();
    loop {
        for (conversation, seq) in &mut seqs {
            *seq += 1;
            let body = format!("message {seq} of conversation {conversation}");
            pen.append(vec![text(*conversation, Lane::Public, *seq, &body)], *conversation);
            waiting += 1;
        }
        while waiting > 60 {
            for written in pen.answers.recv().unwrap().unwrap() {
                // The acknowledgement leaves the process before anything else happens.
                writeln!(out, "durable {} {}", written.ticket, written.end.0).unwrap();
                waiting -= 1;
            }
            out.flush().unwrap();
        }
    }
}

#[test]
fn kill_9_loses_nothing_that_was_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let mut chance = Chance::new(u64::from(std::process::id()));
    for round in 0..12 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "tests::restarts::child_that_is_killed", "--ignored", "--nocapture"])
            .env(CHILD_DIR, dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let upto = 1 + chance.below(3_000);
        let mut acknowledged: BTreeMap<u64, u64> = BTreeMap::new();
        let mut last_end = 0;
        let mut seen = 0;
        let mut note = |line: &str| {
            let mut words = line.split(' ');
            if words.next() != Some("durable") {
                return false;
            }
            let Some(conversation) = words.next().and_then(|word| word.parse().ok()) else {
                return false;
            };
            let Some(end) = words.next().and_then(|word| word.parse::<u64>().ok()) else {
                return false;
            };
            *acknowledged.entry(conversation).or_default() += 1;
            last_end = last_end.max(end);
            true
        };
        while seen < upto {
            let line = lines.next().expect("the child ended by itself").unwrap();
            seen += u64::from(note(&line));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        // What was in the pipe was acknowledged too; the last line may be cut.
        let mut rest: Vec<String> = lines.map_while(Result::ok).collect();
        rest.pop();
        rest.iter().for_each(|line| {
            note(line);
        });

        let store = open(&disk, dir.path(), &Options::default()).unwrap();
        assert!(store.log.refusal().is_none(), "round {round}");
        assert!(store.log.watermark().0 >= last_end, "round {round}");
        let mut seqs: BTreeMap<u64, u64> = BTreeMap::new();
        for record in everything(&store).unwrap() {
            let Place::Conversation { conversation, seq, .. } = record.place else {
                unreachable!()
            };
            let before = seqs.entry(conversation).or_default();
            assert_eq!(seq, *before + 1, "round {round}");
            *before = seq;
            let body = format!("message {seq} of conversation {conversation}");
            assert_eq!(record.body, body.as_bytes());
        }
        let (acks, found): (u64, u64) = (acknowledged.values().sum(), seqs.values().sum());
        assert!(found >= acks && acks >= upto, "round {round}: {found} found of {acks}");
    }
    assert_eq!(check(&RealDisk, dir.path(), &mut |_| {}).unwrap().findings, []);
}
