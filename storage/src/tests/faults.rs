//! One failing call after the other, a disk without room, and the order in which things are made
//! durable.

use std::path::Path;
use std::sync::Arc;

use super::{as_new, everything, open, pen, small, text};
use crate::disk::{Call, Disk, RecordingDisk, SimDisk, Verb};
use crate::writer::Unwritten;
use crate::{Error, Lane, NewRecord, NoPlace, Options, Store, check, frame};

const DIR: &str = "/store";
const EIO: i32 = 5;
const ENOSPC: i32 = 28;

/// A short life on `disk`: opens, writes over two segments with the porter's help, and ends.
/// `kept` grows by what is acknowledged; what a failure leaves in doubt is the answer.
fn live(disk: &Arc<dyn Disk>, kept: &mut Vec<NewRecord>) -> Result<Vec<NewRecord>, Error> {
    let store = open(disk, Path::new(DIR), &small())?;
    assert_eq!(everything(&store)?, *kept);
    let log = &store.log.shared;
    let mut writer = log.take_writer().ok_or(Error::Full)?;
    store.log.keep_spares();
    for nth in 0..12 {
        log.porter.turn(log);
        let seq = store.log.head(1, Lane::Public) + 1;
        let record = text(1, Lane::Public, seq, &"m".repeat(5_000));
        let mut frames = Vec::new();
        frame::encode(&record, &mut frames);
        let written = loop {
            match writer.write(log, std::iter::once(frames.as_slice()), 1) {
                Err(Unwritten::NoRoom(_)) => {}
                other => break other,
            }
        };
        match written {
            Ok(_) => kept.push(record),
            Err(_) => return Ok(vec![record]),
        }
        if nth % 5 == 0 && writer.state(log).is_err() {
            return Ok(Vec::new());
        }
    }
    Ok(Vec::new())
}

#[test]
fn a_spare_that_could_not_be_made_leaves_no_file_that_nobody_counts() {
    let mut failed = true;
    for nth in 0.. {
        if !failed {
            assert!(nth > 4, "a spare takes more calls than {nth}");
            break;
        }
        let sim = SimDisk::new(nth);
        let disk: Arc<dyn Disk> = Arc::new(sim.clone());
        let store = open(&disk, Path::new(DIR), &small()).unwrap();
        let log = &store.log.shared;
        store.log.keep_spares();
        sim.fail_call(nth, EIO);
        failed = !log.porter.turn(log);
        sim.heal();
        for _ in 0..=log.ground.sizes.spares_max {
            assert!(log.porter.turn(log));
        }
        let names = sim.list(&Path::new(DIR).join("log")).unwrap();
        let spares = names.iter().filter(|name| name.starts_with("spare.")).count();
        assert_eq!(spares, log.ground.sizes.spares_max, "call {nth}: {names:?}");
    }
}

#[test]
fn whichever_call_fails_nothing_acknowledged_is_lost() {
    for errno in [EIO, ENOSPC] {
        for lives_before in [0, 1] {
            for nth in 0.. {
                let sim = SimDisk::new(nth);
                let disk: Arc<dyn Disk> = Arc::new(sim.clone());
                let mut kept = Vec::new();
                for _ in 0..lives_before {
                    assert_eq!(live(&disk, &mut kept).unwrap(), []);
                    sim.crash();
                }
                let calls = sim.calls();
                sim.fail_call(nth, errno);
                let doubtful = live(&disk, &mut kept);
                let met = sim.calls() - calls > nth;
                sim.heal();
                if nth % 2 == 0 {
                    sim.crash()
                } else {
                    sim.kill()
                }
                let context = format!("call {nth} fails with {errno}");
                let store = open(&disk, Path::new(DIR), &small())
                    .unwrap_or_else(|error| panic!("{context}: {error}"));
                assert!(store.log.refusal().is_none(), "{context}");
                let found = everything(&store).unwrap();
                let mut either = kept.clone();
                either.extend(doubtful.unwrap_or_default());
                assert!(found == kept || found == either, "{context}");
                drop(store);
                assert_eq!(check(&sim, Path::new(DIR), &mut |_| {}).unwrap().findings, []);
                if !met {
                    assert!(nth > 50, "a life makes more calls than {nth}");
                    break;
                }
            }
        }
    }
}

fn fill(store: &Store, pen: &super::Pen) -> u64 {
    loop {
        let seq = store.log.head(1, Lane::Public) + 1;
        let place = match pen.scribe.reserve() {
            Ok(place) => place,
            Err(refused) => {
                assert_eq!(refused, NoPlace::Full);
                return seq - 1;
            }
        };
        place.append(vec![text(1, Lane::Public, seq, &"f".repeat(2_000))], seq);
        // The one that meets the full disk is answered when there is room again.
        while store.log.head(1, Lane::Public) < seq {
            if store.log.no_room().is_some() {
                return seq - 1;
            }
            std::thread::yield_now();
        }
    }
}

#[test]
fn a_full_disk_refuses_reads_on_and_resumes_without_a_restart() {
    for spares in [false, true] {
        let sim = SimDisk::new(1);
        let disk: Arc<dyn Disk> = Arc::new(sim.clone());
        let store = open(&disk, Path::new(DIR), &small()).unwrap();
        let pen = pen(&store).unwrap();
        sim.set_capacity_bytes(sim.used_bytes() + (80 << 10));
        if spares {
            store.log.keep_spares();
        }
        let durable = fill(&store, &pen);
        // The first segment was there before. A spare that is half made may hold the rest for a moment.
        let least = if spares { 7 } else { 11 };
        assert!(durable >= least, "{durable} records");
        let full = loop {
            match pen.scribe.reserve() {
                Err(refused) => break refused,
                Ok(place) => drop(place),
            }
        };
        assert_eq!(full, NoPlace::Full);
        let page = store.log.page(1, Lane::Public, 0, 5).unwrap();
        assert_eq!(page.len(), 5, "reads go on");
        sim.heal();
        let place = loop {
            match pen.scribe.reserve() {
                Ok(place) => break place,
                Err(refused) => assert_eq!(refused, NoPlace::Full),
            }
            std::thread::yield_now();
        };
        let next = loop {
            let head = store.log.head(1, Lane::Public);
            if store.log.no_room().is_none() {
                break head + 1;
            }
            std::thread::yield_now();
        };
        let again = text(1, Lane::Public, next, "there is room again");
        place.append(vec![again.clone()], next);
        pen.scribe.close();
        let newest = store.log.page(1, Lane::Public, 0, 1).unwrap();
        assert_eq!(newest.iter().map(as_new).collect::<Vec<_>>(), [again]);
        drop(store);
        assert_eq!(check(&sim, Path::new(DIR), &mut |_| {}).unwrap().findings, []);
    }
}

/// The second was handed over behind the first and may build on it. Alone it would even find room.
#[test]
fn what_waits_behind_a_batch_that_is_let_go_is_let_go_as_well() {
    let sim = SimDisk::new(1);
    let disk: Arc<dyn Disk> = Arc::new(sim.clone());
    let store = open(&disk, Path::new(DIR), &small()).unwrap();
    let pen = pen(&store).unwrap();
    sim.set_capacity_bytes(sim.used_bytes() + (100 << 10));
    let [first, second] = [(); 2].map(|()| pen.scribe.reserve().unwrap());
    first.append(vec![text(1, Lane::Public, 1, &"f".repeat(200_000))], 1);
    while store.log.no_room().is_none() {
        std::thread::yield_now();
    }
    second.append(vec![text(1, Lane::Public, 2, "as I said")], 2);
    pen.scribe.close();
    assert_eq!(pen.answers.try_iter().count(), 0, "nobody was told that it is safe");
    drop(store);
    let store = open(&disk, Path::new(DIR), &small()).unwrap();
    assert_eq!(everything(&store).unwrap(), []);
}

#[test]
fn a_store_opens_on_a_full_disk_and_can_be_read() {
    let sim = SimDisk::new(1);
    let disk: Arc<dyn Disk> = Arc::new(sim.clone());
    let mut kept = Vec::new();
    live(&disk, &mut kept).unwrap();
    sim.kill();
    sim.set_capacity_bytes(sim.used_bytes());
    let options = Options { spare_bytes_max: 0, ..small() };
    for _ in 0..3 {
        let store = open(
            &disk,
            Path::new(DIR),
            &Options { first_segment_bytes: 1 << 20, ..options.clone() },
        )
        .unwrap();
        assert_eq!(everything(&store).unwrap(), kept);
        let pen = pen(&store).unwrap();
        let seq = kept.len() as u64 + 1;
        pen.append(vec![text(1, Lane::Public, seq, "let go")], 0);
        while store.log.no_room().is_none() {
            std::thread::yield_now();
        }
        assert_eq!(pen.scribe.reserve().unwrap_err(), NoPlace::Full);
        pen.scribe.close();
        assert!(pen.answers.try_recv().is_err(), "nobody was told that it is safe");
    }
}

fn calls(disk: &RecordingDisk) -> Vec<(Verb, String)> {
    let calls = disk.take_calls().into_iter().map(|Call { verb, name }| (verb, name));
    // Whether a leftover is cleared away first does not matter to the order of the rest.
    calls.filter(|(verb, _)| *verb != Verb::Unlink).collect()
}

#[test]
fn a_batch_is_one_write_and_one_sync() {
    let recording = RecordingDisk::new(Arc::new(SimDisk::new(1)));
    let disk: Arc<dyn Disk> = Arc::new(recording.clone());
    let store = open(&disk, Path::new(DIR), &small()).unwrap();
    let log = &store.log.shared;
    let mut writer = log.take_writer().unwrap();
    let mut frames = Vec::new();
    frame::encode(&text(1, Lane::Public, 1, "once"), &mut frames);
    calls(&recording);
    writer.write(log, std::iter::once(frames.as_slice()), 1).unwrap();
    let batch = [(Verb::Write, "making".to_owned()), (Verb::Sync, "making".to_owned())];
    assert_eq!(calls(&recording), batch);
    for _ in 0..3 {
        writer.state(log).unwrap();
    }
    assert_eq!(calls(&recording), batch, "one empty batch, and no second in a row");
}

#[test]
fn a_segment_is_durable_before_it_has_its_name_and_named_before_it_is_used() {
    for spare in [false, true] {
        let recording = RecordingDisk::new(Arc::new(SimDisk::new(1)));
        let disk: Arc<dyn Disk> = Arc::new(recording.clone());
        let store = open(&disk, Path::new(DIR), &small()).unwrap();
        let log = &store.log.shared;
        if spare {
            store.log.keep_spares();
            calls(&recording);
            assert!(log.porter.turn(log));
            let made = calls(&recording);
            let filling = || "filling".to_owned();
            let expected = [
                (Verb::Create, filling()),
                (Verb::Reserve, filling()),
                (Verb::Write, filling()),
                (Verb::Sync, filling()),
                (Verb::Rename, "spare.0".to_owned()),
                (Verb::SyncDir, "log".to_owned()),
            ];
            assert_eq!(made, expected);
        }
        let mut writer = log.take_writer().unwrap();
        for seq in 1.. {
            let mut frames = Vec::new();
            frame::encode(&text(1, Lane::Public, seq, &"r".repeat(9_000)), &mut frames);
            calls(&recording);
            writer.write(log, std::iter::once(frames.as_slice()), 1).unwrap();
            if log.segments().len() == 2 {
                break;
            }
        }
        let name = if spare { "spare.0" } else { "making" };
        let made = if spare { &[][..] } else { &[Verb::Create, Verb::Reserve, Verb::Write][..] };
        let mut expected: Vec<_> = made.iter().map(|verb| (*verb, name.to_owned())).collect();
        expected.extend([
            (Verb::Write, name.to_owned()),
            (Verb::Sync, name.to_owned()),
            (Verb::Rename, "00000002.seg".to_owned()),
            (Verb::SyncDir, "log".to_owned()),
            (Verb::Map, name.to_owned()),
            (Verb::Write, name.to_owned()),
            (Verb::Sync, name.to_owned()),
        ]);
        assert_eq!(calls(&recording), expected);
        assert!(log.porter.turn(log), "files the index of the first segment");
        let filed = calls(&recording);
        let new = || "00000001.idx.new".to_owned();
        let index = [
            (Verb::Create, new()),
            (Verb::Write, new()),
            (Verb::Sync, new()),
            (Verb::Rename, "00000001.idx".to_owned()),
            (Verb::SyncDir, "log".to_owned()),
        ];
        let filed: Vec<_> =
            filed.into_iter().filter(|(_, name)| !name.starts_with("fill")).collect();
        assert!(filed.windows(index.len()).any(|calls| calls == index), "{filed:?}");
    }
}
