//! The log through its face: what is written comes back, in every way of asking, before and after
//! a restart, over more segments than one.

use std::path::Path;
use std::sync::Arc;

use super::{Store, as_new, everything, open, pen, small, text};
use crate::disk::{Disk, RealDisk, SimDisk};
use crate::{
    BODY_BYTES_MAX, Error, GROUP_BYTES_MAX, Lane, NewRecord, NoPlace, Options, Place, Position,
    QUEUE_GROUPS_MAX, Record, check,
};

/// The same test on both disks.
fn on_both(test: impl Fn(Arc<dyn Disk>, &Path)) {
    let dir = tempfile::tempdir().unwrap();
    test(Arc::new(RealDisk), &dir.path().join("store"));
    test(Arc::new(SimDisk::new(1)), Path::new("/store"));
}

/// 40 conversations, both lanes, register and reads between them: in order of the log.
fn story() -> Vec<Vec<NewRecord>> {
    let mut groups = Vec::new();
    for seq in 1..=30 {
        for conversation in 0..40 {
            let mut group = vec![text(conversation, Lane::Public, seq, &"x".repeat(seq as usize))];
            if conversation % 3 == 0 {
                group.push(text(conversation, Lane::Staff, seq, "only for us"));
            }
            if conversation == 7 {
                let place = if seq % 2 == 0 { Place::Register } else { Place::Reads };
                group.push(NewRecord { place, kind: 9, time_ms: 5, body: vec![seq as u8] });
            }
            groups.push(group);
        }
    }
    groups
}

fn write(store: &Store, groups: &[Vec<NewRecord>]) {
    let pen = pen(store).unwrap();
    for (ticket, group) in groups.iter().enumerate() {
        pen.append(group.clone(), ticket as u64);
        if ticket % 17 == 0 {
            // Now and then, so that there are many batches.
            while pen.answers.recv().unwrap().unwrap().last().unwrap().ticket != ticket as u64 {}
        }
    }
    pen.scribe.close();
}

fn lane_of(groups: &[Vec<NewRecord>], asked: (u64, Lane)) -> Vec<NewRecord> {
    let in_lane = |record: &&NewRecord| match record.place {
        Place::Conversation { conversation, lane, .. } => (conversation, lane) == asked,
        _ => false,
    };
    groups.iter().flatten().filter(in_lane).cloned().collect()
}

fn compared(records: Result<Vec<Record>, Error>) -> Vec<NewRecord> {
    records.unwrap().iter().map(as_new).collect()
}

fn holds(store: &Store, groups: &[Vec<NewRecord>]) {
    let all: Vec<NewRecord> = groups.iter().flatten().cloned().collect();
    assert_eq!(everything(store).unwrap(), all);
    for conversation in 0..41 {
        for lane in [Lane::Public, Lane::Staff] {
            let expected = lane_of(groups, (conversation, lane));
            let log = &store.log;
            assert_eq!(log.head(conversation, lane), expected.len() as u64);
            assert_eq!(compared(log.page(conversation, lane, 0, 1000)), expected);
            for limit in [0, 1, 7] {
                for from in [1, 2, 15, 30, 31] {
                    let behind = expected.iter().skip(from - 1);
                    let ahead: Vec<_> = behind.take(limit).cloned().collect();
                    assert_eq!(compared(log.range(conversation, lane, from as u64, limit)), ahead);
                    let before = expected.get(..from - 1).unwrap_or(&expected);
                    let before = &before[before.len().saturating_sub(limit)..];
                    if from > 1 {
                        let page = compared(log.page(conversation, lane, from as u64, limit));
                        assert_eq!(page, before);
                    }
                }
            }
            for record in log.page(conversation, lane, 0, 1000).unwrap() {
                let Place::Conversation { seq, .. } = record.place else { unreachable!() };
                let at = log.at(conversation, lane, seq).unwrap().unwrap();
                assert_eq!(as_new(&at), as_new(&record));
                let here = log.since(conversation, lane, record.position, 2).unwrap();
                assert_eq!(here[0].position, record.position);
                let behind = compared(log.since(conversation, lane, record.end(), 1000));
                assert_eq!(behind, expected[seq as usize..]);
            }
            assert!(log.at(conversation, lane, 1 + expected.len() as u64).unwrap().is_none());
            assert!(log.at(conversation, lane, 0).unwrap().is_none());
        }
    }
}

#[test]
fn everything_comes_back_before_and_after_a_restart() {
    on_both(|disk, dir| {
        let groups = story();
        let (epoch, watermark) = {
            let store = open(&disk, dir, &small()).unwrap();
            write(&store, &groups);
            holds(&store, &groups);
            (store.log.epoch(), store.log.watermark())
        };
        for _ in 0..2 {
            let store = open(&disk, dir, &small()).unwrap();
            assert_eq!(store.log.epoch(), epoch);
            assert!(store.log.watermark() >= watermark);
            holds(&store, &groups);
        }
        let report = check(&*disk, dir, &mut |_| {}).unwrap();
        assert_eq!(report.findings, []);
        assert_eq!(report.remarks, []);
        assert_eq!(report.records, groups.iter().flatten().count() as u64);
        assert_eq!(report.conversations, 40);
        assert!(report.segments > 3, "{} segments", report.segments);
    });
}

#[test]
fn a_scan_goes_on_from_any_cursor() {
    on_both(|disk, dir| {
        let store = open(&disk, dir, &small()).unwrap();
        write(&store, &story());
        let all: Vec<Record> = store.log.scan(Position(0)).map(Result::unwrap).collect();
        for (nth, record) in all.iter().enumerate().step_by(37) {
            let from = store.log.scan(record.position).next().unwrap().unwrap();
            assert_eq!(from.position, record.position);
            let behind = store.log.scan(record.end()).next().map(|next| next.unwrap().position);
            assert_eq!(behind, all.get(nth + 1).map(|next| next.position));
        }
        assert!(store.log.scan(store.log.watermark()).next().is_none());
        assert!(store.log.scan(Position(u64::MAX)).next().is_none());
    });
}

#[test]
fn written_names_the_positions_of_each_group_in_order() {
    on_both(|disk, dir| {
        let store = open(&disk, dir, &small()).unwrap();
        let pen = pen(&store).unwrap();
        for seq in 1..=100 {
            let pair = vec![text(1, Lane::Public, seq, "a"), text(2, Lane::Public, seq, "bb")];
            pen.append(pair, seq);
        }
        let written = pen.wait(100);
        for (group, seq) in written.iter().zip(1..) {
            assert_eq!(group.ticket, seq);
            let first = store.log.at(1, Lane::Public, seq).unwrap().unwrap();
            let second = store.log.at(2, Lane::Public, seq).unwrap().unwrap();
            assert_eq!(first.position, group.first);
            assert_eq!(first.end(), second.position);
            assert_eq!(second.end(), group.end);
            assert!(group.end <= store.log.watermark());
        }
        pen.scribe.close();
    });
}

#[test]
fn a_directory_is_open_once() {
    on_both(|disk, dir| {
        let store = open(&disk, dir, &small()).unwrap();
        assert!(matches!(open(&disk, dir, &small()), Err(Error::Locked)));
        let scribe = pen(&store).unwrap().scribe;
        drop(store);
        assert!(matches!(open(&disk, dir, &small()), Err(Error::Locked)), "it can still write");
        scribe.close();
        open(&disk, dir, &small()).unwrap();
    });
}

#[test]
fn there_is_one_scribe_and_after_close_no_place() {
    on_both(|disk, dir| {
        let store = open(&disk, dir, &small()).unwrap();
        let pen = pen(&store).unwrap();
        assert!(super::pen(&store).is_err());
        let other = pen.scribe.clone();
        pen.append(vec![text(1, Lane::Public, 1, "last words")], 0);
        pen.scribe.close();
        assert_eq!(other.reserve().unwrap_err(), NoPlace::Closed);
        other.close();
        assert_eq!(store.log.head(1, Lane::Public), 1);
    });
}

#[test]
fn places_are_bounded_and_come_back() {
    let disk: Arc<dyn Disk> = Arc::new(SimDisk::new(1));
    let store = open(&disk, Path::new("/store"), &small()).unwrap();
    let pen = pen(&store).unwrap();
    let mut places: Vec<_> = (1..QUEUE_GROUPS_MAX).map(|_| pen.scribe.reserve().unwrap()).collect();
    places.push(pen.scribe.reserve().unwrap());
    assert_eq!(pen.scribe.reserve().unwrap_err(), NoPlace::Busy);
    places.pop();
    places.push(pen.scribe.reserve().unwrap());
    assert_eq!(pen.scribe.reserve().unwrap_err(), NoPlace::Busy);
    drop(places);
    pen.append(vec![text(1, Lane::Public, 1, "there is room again")], 0);
    pen.wait(1);
    pen.scribe.close();
}

#[test]
fn the_largest_group_is_one_batch_even_in_small_segments() {
    on_both(|disk, dir| {
        let frame_header = 36;
        let half = GROUP_BYTES_MAX / 2 - frame_header;
        assert_eq!(half + frame_header, BODY_BYTES_MAX);
        let body = |bytes: usize| "z".repeat(bytes);
        let store = open(&disk, dir, &small()).unwrap();
        let pen = pen(&store).unwrap();
        let groups = [
            vec![text(1, Lane::Public, 1, &body(half - 1)), text(1, Lane::Public, 2, &body(half))],
            vec![text(1, Lane::Public, 3, &body(half)), text(1, Lane::Public, 4, &body(half))],
        ];
        for group in &groups {
            pen.append(group.clone(), 0);
        }
        pen.wait(2);
        let place = pen.scribe.reserve().unwrap();
        let over =
            vec![text(1, Lane::Public, 5, &body(half)), text(1, Lane::Public, 6, &body(half + 1))];
        let refused = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            place.append(over, 0);
        }));
        assert!(refused.is_err());
        pen.scribe.close();
        let all: Vec<NewRecord> = groups.iter().flatten().cloned().collect();
        assert_eq!(everything(&store).unwrap(), all);
    });
}

#[test]
fn a_seq_that_does_not_follow_never_reaches_the_disk() {
    on_both(|disk, dir| {
        let store = open(&disk, dir, &small()).unwrap();
        let pen = pen(&store).unwrap();
        pen.append(vec![text(1, Lane::Public, 1, "one")], 0);
        pen.wait(1);
        pen.append(vec![text(1, Lane::Public, 3, "three")], 1);
        assert!(matches!(pen.answers.recv().unwrap(), Err(Error::Refused { .. })));
        assert_eq!(pen.scribe.reserve().unwrap_err(), NoPlace::Poisoned);
        pen.scribe.close();
        drop(store);
        let store = open(&disk, dir, &small()).unwrap();
        assert_eq!(everything(&store).unwrap(), [text(1, Lane::Public, 1, "one")]);
        assert!(store.log.refusal().is_none());
    });
}

#[test]
fn a_new_store_with_everything_as_large_as_it_really_is() {
    let dir = tempfile::tempdir().unwrap();
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let store = open(&disk, dir.path(), &Options::default()).unwrap();
    write(&store, &story());
    holds(&store, &story());
}
