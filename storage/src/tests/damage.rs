//! Files that are not what was written: flipped, cut, swapped, foreign, from the future, or not
//! files at all. The answer is an error, or exactly what was written; never a wrong record.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Store, as_new, everything, open, pen, small, text};
use crate::disk::{Disk, RealDisk, RecordingDisk, SimDisk, Verb};
use crate::fields::put;
use crate::{Error, Lane, NewRecord, NoPlace, Position, check};

const DIR: &str = "/store";

fn path(name: &str) -> PathBuf {
    Path::new(DIR).join("log").join(name)
}

/// A store whose first segment holds some batches, closed by `generations` opens.
fn grown(generations: u64) -> (SimDisk, Vec<NewRecord>) {
    let disk = SimDisk::new(7);
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    let mut all = Vec::new();
    for generation in 0..generations {
        let store = open(&shared, Path::new(DIR), &small()).unwrap();
        let pen = pen(&store).unwrap();
        for batch in 1..=2 {
            let seq = generation * 2 + batch;
            let group =
                vec![text(1, Lane::Public, seq, "what was said"), text(2, Lane::Staff, seq, "n")];
            all.extend(group.iter().cloned());
            pen.append(group, 0);
            pen.wait(1);
        }
        pen.scribe.close();
    }
    (disk, all)
}

fn reopen(disk: &SimDisk) -> Result<Store, Error> {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    open(&disk, Path::new(DIR), &small())
}

/// A copy of the files of `disk`, so that each spoiling starts from the same.
fn copy(disk: &SimDisk) -> SimDisk {
    let to = SimDisk::new(7);
    to.create_dir(Path::new(DIR)).unwrap();
    to.create_dir(&Path::new(DIR).join("log")).unwrap();
    for dir in [Path::new(DIR).to_owned(), Path::new(DIR).join("log")] {
        for name in disk.list(&dir).unwrap() {
            if let Some(bytes) = disk.bytes_of(&dir.join(&name)) {
                to.place(&dir.join(&name), &bytes).unwrap();
            }
        }
    }
    to
}

/// Whatever can be read is what was written, and what cannot is said. Answers whether all is there.
fn never_wrong(disk: &SimDisk, all: &[NewRecord], context: &str) -> bool {
    let store = match reopen(disk) {
        Ok(store) => store,
        Err(Error::Corrupt { .. } | Error::Refused { .. }) => return false,
        Err(other) => panic!("{context}: {other}"),
    };
    let mut damaged = false;
    let mut written = all.iter();
    for record in store.log.scan(Position(0)) {
        match record {
            Ok(record) => {
                let record = as_new(&record);
                assert!(written.any(|written| *written == record), "{context}: {record:?}");
            }
            Err(Error::Corrupt { .. }) => damaged = true,
            Err(other) => panic!("{context}: {other}"),
        }
    }
    for (conversation, lane) in [(1, Lane::Public), (2, Lane::Staff)] {
        for record in store.log.page(conversation, lane, 0, 100).unwrap_or_default() {
            let record = as_new(&record);
            assert!(all.contains(&record), "{context}: {record:?}");
        }
    }
    let found = everything(&store).unwrap_or_default();
    let whole = found == all;
    let refused = store.log.refusal().is_some();
    assert!(whole || damaged || refused, "{context}: records are gone, and nobody says so");
    if refused {
        assert!(pen(&store).is_err(), "{context}: a damaged log must not be written");
    }
    whole
}

#[test]
fn secrets_that_are_gone_from_a_store_with_history_are_not_made_again() {
    let secrets = Path::new(DIR).join("SECRETS");
    let (disk, all) = grown(1);
    let kept = disk.bytes_of(&secrets).unwrap();
    disk.unlink(&secrets).unwrap();
    let spoiled = copy(&disk);
    let first = disk.bytes_of(&path("00000001.seg")).unwrap();
    spoiled.place(&path("00000001.seg"), &[&[0; 4096], &first[4096..]].concat()).unwrap();
    for disk in [&disk, &spoiled] {
        let shared: Arc<dyn Disk> = Arc::new(disk.clone());
        for _ in 0..2 {
            let opened = reopen(disk);
            assert!(opened.is_err(), "{opened:?}");
            let why = Error::read_only("for a look");
            let looked = Store::look(why, shared.clone(), Path::new(DIR), &small(), &mut |_| {});
            assert!(looked.is_err(), "{looked:?}");
            assert_eq!(disk.bytes_of(&secrets), None, "new ones were made");
        }
    }
    let said = reopen(&disk).unwrap_err().to_string();
    assert!(said.contains("SECRETS is missing") && said.contains("restore it"), "{said}");
    let report = check(&disk, Path::new(DIR), &mut |_| {}).unwrap();
    assert_eq!(report.findings[0].file, "SECRETS");

    let restored = copy(&disk);
    restored.place(&secrets, &kept).unwrap();
    let store = reopen(&restored).unwrap();
    assert_eq!(everything(&store).unwrap(), all);
    assert_eq!(restored.bytes_of(&secrets).unwrap(), kept);

    disk.place(&secrets, b"new keys\n").unwrap();
    assert!(check(&disk, Path::new(DIR), &mut |_| {}).unwrap().is_sound());
    assert_eq!(everything(&reopen(&disk).unwrap()).unwrap(), all);
    assert_ne!(disk.bytes_of(&secrets).unwrap(), kept);
    assert!(reopen(&disk).unwrap().secrets.get("blobs.key").is_some());
}

/// The power goes before the keys were made: there is no history, so they are made now.
#[test]
fn a_store_without_history_makes_its_secrets() {
    let (disk, _) = grown(0);
    drop(reopen(&disk).unwrap());
    disk.unlink(&Path::new(DIR).join("SECRETS")).unwrap();
    for _ in 0..2 {
        assert!(reopen(&disk).unwrap().secrets.get("blobs.key").is_some());
    }
}

#[test]
fn a_flipped_bit_is_an_error_or_changes_nothing() {
    let (disk, all) = grown(2);
    for name in ["00000001.seg", "00000002.seg", "00000001.idx"] {
        let bytes = disk.bytes_of(&path(name)).unwrap();
        let mut noticed = 0;
        for at in 0..bytes.len() {
            // Every bit of what carries meaning; one bit a byte in long stretches of zeros.
            let sparse = bytes[at] == 0 && at % 64 != 0;
            let bits = if sparse { at % 8..at % 8 + 1 } else { 0..8 };
            if sparse && at % 16 != 1 {
                continue;
            }
            for bit in bits {
                let spoiled = copy(&disk);
                let mut flipped = bytes.clone();
                flipped[at] ^= 1 << bit;
                spoiled.place(&path(name), &flipped).unwrap();
                let whole = never_wrong(&spoiled, &all, &format!("{name}, byte {at}, bit {bit}"));
                noticed += u32::from(!whole);
                assert!(whole || name != "00000001.idx", "an index is only ever made again");
            }
        }
        assert!(noticed > 0 || name == "00000001.idx");
    }
}

#[test]
fn a_tail_can_be_cut_at_every_byte() {
    let (disk, all) = grown(1);
    let name = path("00000001.seg");
    let bytes = disk.bytes_of(&name).unwrap();
    for len in 0..bytes.len() {
        let spoiled = copy(&disk);
        spoiled.unlink(&path("00000001.idx")).ok();
        spoiled.place(&name, &bytes[..len]).unwrap();
        let context = format!("cut at {len}");
        if len < 4096 {
            assert!(!never_wrong(&spoiled, &all, &context));
            continue;
        }
        // The last segment: a cut tail looks like one that was never written.
        let store = reopen(&spoiled).unwrap();
        assert!(store.log.refusal().is_none(), "{context}");
        assert!(all.starts_with(&everything(&store).unwrap()), "{context}");
        drop(store);
        let again = reopen(&spoiled).unwrap();
        assert!(again.log.refusal().is_none(), "{context}, opened twice");
    }
}

#[test]
fn a_cut_of_a_segment_that_another_follows_is_damage() {
    let (disk, all) = grown(2);
    let bytes = disk.bytes_of(&path("00000001.seg")).unwrap();
    for len in (0..bytes.len()).step_by(61) {
        let spoiled = copy(&disk);
        spoiled.place(&path("00000001.seg"), &bytes[..len]).unwrap();
        let store = match reopen(&spoiled) {
            Ok(store) => store,
            Err(error) => panic!("cut at {len}: {error}"),
        };
        let refusal = store.log.refusal();
        drop(store);
        let whole = never_wrong(&spoiled, &all, &format!("cut at {len}"));
        if refusal.is_none() {
            let padding = len > bytes.len() - 4096;
            assert!(whole && padding, "cut at {len}: only padding may go unseen");
            continue;
        }
        assert!(matches!(refusal, Some(Error::Corrupt { segment: 1, .. })), "cut at {len}");
        assert!(!check(&spoiled, Path::new(DIR), &mut |_| {}).unwrap().is_sound());
    }
}

#[test]
fn damage_is_named_and_what_is_intact_can_be_read() {
    let (disk, all) = grown(3);
    let bytes = disk.bytes_of(&path("00000002.seg")).unwrap();
    let spoiled = copy(&disk);
    let mut flipped = bytes;
    // The first batch of the second segment; its index is gone as well.
    flipped[4096 + 60] ^= 1;
    spoiled.place(&path("00000002.seg"), &flipped).unwrap();
    spoiled.unlink(&path("00000002.idx")).unwrap();
    let before = spoiled.bytes_of(&path("00000003.seg")).unwrap();
    let store = reopen(&spoiled).unwrap();
    let refusal = store.log.refusal().unwrap();
    assert!(matches!(refusal, Error::Corrupt { segment: 2, offset: 4096, .. }), "{refusal}");
    // Records 5 to 6 stand in that batch: (1, seq 3) and (2, seq 3).
    let expected: Vec<_> = all[..4].iter().chain(&all[6..]).cloned().collect();
    let found: Vec<_> = store.log.scan(Position(0)).filter_map(Result::ok).collect();
    assert_eq!(found.iter().map(as_new).collect::<Vec<_>>(), expected);
    assert_eq!(store.log.head(1, Lane::Public), 6);
    assert!(matches!(store.log.at(1, Lane::Public, 3), Err(Error::Corrupt { segment: 2, .. })));
    assert_eq!(as_new(&store.log.at(1, Lane::Public, 4).unwrap().unwrap()), all[6]);
    let page = |before| store.log.page(1, Lane::Public, before, 10).map(|page| page.len());
    assert_eq!(page(0).unwrap(), 3, "a page ends at the hole");
    assert!(matches!(
        page(4),
        Err(Error::Corrupt { segment: 2, .. }) | Err(Error::Corrupt { segment: 1, .. })
    ));
    assert_eq!(page(3).unwrap(), 2, "and the other side of it can be read");
    assert_eq!(store.log.range(1, Lane::Public, 1, 10).unwrap().len(), 2);
    assert_eq!(store.log.since(1, Lane::Public, Position(0), 10).unwrap().len(), 2);
    drop(store);
    assert_eq!(spoiled.bytes_of(&path("00000003.seg")).unwrap(), before, "nothing is changed");
    let report = check(&spoiled, Path::new(DIR), &mut |_| {}).unwrap();
    let named = report
        .findings
        .iter()
        .any(|finding| (finding.file.as_str(), finding.offset) == ("log/00000002.seg", 4096));
    assert!(named, "{report:?}");
}

#[test]
fn damage_that_only_a_replay_meets_keeps_the_scribe_away() {
    let (disk, _) = grown(2);
    let spoiled = copy(&disk);
    let mut bytes = spoiled.bytes_of(&path("00000001.seg")).unwrap();
    bytes[4096 + 60] ^= 1;
    spoiled.place(&path("00000001.seg"), &bytes).unwrap();
    let store = reopen(&spoiled).unwrap();
    assert!(store.log.refusal().is_none(), "its index vouches for the segment until it is read");
    assert!(everything(&store).is_err());
    assert!(matches!(pen(&store), Err(Error::Corrupt { segment: 1, offset: 4096, .. })));
}

#[test]
fn missing_swapped_and_foreign_segments_are_damage() {
    let (disk, all) = grown(4);
    let (other, _) = {
        let disk = SimDisk::new(8);
        let shared: Arc<dyn Disk> = Arc::new(disk.clone());
        let store = open(&shared, Path::new(DIR), &small()).unwrap();
        let pen = pen(&store).unwrap();
        pen.append(vec![text(1, Lane::Public, 1, "of another house")], 0);
        pen.wait(1);
        pen.scribe.close();
        (disk, store)
    };
    let bytes = |disk: &SimDisk, name: &str| disk.bytes_of(&path(name)).unwrap();
    let spoil = |what: &dyn Fn(&SimDisk)| {
        let spoiled = copy(&disk);
        what(&spoiled);
        spoiled
    };
    let cases: [(&str, u32, SimDisk); 5] = [
        ("missing", 2, spoil(&|disk| disk.unlink(&path("00000002.seg")).unwrap())),
        ("the first missing", 1, spoil(&|disk| disk.unlink(&path("00000001.seg")).unwrap())),
        ("the last missing", 4, spoil(&|disk| disk.unlink(&path("00000004.seg")).unwrap())),
        (
            "swapped",
            2,
            spoil(&|disk| {
                let (two, three) = (bytes(disk, "00000002.seg"), bytes(disk, "00000003.seg"));
                disk.place(&path("00000002.seg"), &three).unwrap();
                disk.place(&path("00000003.seg"), &two).unwrap();
            }),
        ),
        (
            "foreign",
            1,
            spoil(&|disk| {
                disk.place(&path("00000001.seg"), &bytes(&other, "00000001.seg")).unwrap();
            }),
        ),
    ];
    // An index is left behind by the last segment only once it was closed.
    let closed = reopen(&cases[0].2).unwrap();
    drop(closed);
    for (what, segment, spoiled) in cases {
        if what == "the last missing" {
            spoiled.place(&path("00000004.idx"), b"left over").unwrap();
        }
        let store = reopen(&spoiled).unwrap();
        let refusal = store.log.refusal();
        let named = matches!(refusal, Some(Error::Corrupt { segment: s, .. }) if s == segment);
        assert!(named, "{what}: {refusal:?}");
        drop(store);
        never_wrong(&spoiled, &all, what);
        assert!(!check(&spoiled, Path::new(DIR), &mut |_| {}).unwrap().is_sound(), "{what}");
    }
}

#[test]
fn a_segment_from_the_future_is_refused_in_a_sentence() {
    let (disk, _) = grown(2);
    let mut bytes = disk.bytes_of(&path("00000002.seg")).unwrap();
    put(&mut bytes, 8, 7_u32.to_le_bytes());
    let crc = crc32fast::hash(&bytes[..4092]);
    put(&mut bytes, 4092, crc.to_le_bytes());
    disk.place(&path("00000002.seg"), &bytes).unwrap();
    let refused = reopen(&disk).unwrap_err().to_string();
    assert_eq!(refused, "segment 00000002 has version 7, which needs a newer Lodge");
}

#[test]
fn an_old_life_of_a_block_is_no_batch() {
    // The tail of the last segment holds whole batches of an earlier segment, as a recycled block
    // or a body made for the purpose might.
    let (disk, all) = grown(2);
    let spoiled = copy(&disk);
    let mut last = spoiled.bytes_of(&path("00000002.seg")).unwrap();
    let first = spoiled.bytes_of(&path("00000001.seg")).unwrap();
    last.extend_from_slice(&first[4096..]);
    last.extend_from_slice(&first[4096..]);
    spoiled.place(&path("00000002.seg"), &last).unwrap();
    let store = reopen(&spoiled).unwrap();
    assert!(store.log.refusal().is_none());
    assert_eq!(everything(&store).unwrap(), all);
}

#[test]
fn stray_files_are_left_alone() {
    let (disk, all) = grown(1);
    for name in ["notes.txt", "0000001.seg", "0000000G.seg", "00000000.seg", "1.seg", "x.idx"] {
        disk.place(&path(name), b"not ours").unwrap();
    }
    disk.place(&Path::new(DIR).join("lost+found"), b"").unwrap();
    let store = reopen(&disk).unwrap();
    assert_eq!(everything(&store).unwrap(), all);
    assert_eq!(disk.bytes_of(&path("notes.txt")).unwrap(), b"not ours");
}

#[test]
fn what_a_crash_left_half_made_is_cleared_away() {
    let (disk, all) = grown(1);
    for name in ["making", "filling", "spare.4", "00000009.idx.new"] {
        disk.place(&path(name), b"half").unwrap();
    }
    let store = reopen(&disk).unwrap();
    assert_eq!(everything(&store).unwrap(), all);
    for name in ["making", "filling", "spare.4", "00000009.idx.new"] {
        assert!(disk.bytes_of(&path(name)).is_none(), "{name}");
    }
}

#[test]
fn a_log_without_its_store_file_and_a_store_file_without_its_log_are_refused() {
    let (disk, _) = grown(1);
    let without_name = copy(&disk);
    without_name.unlink(&Path::new(DIR).join("STORE")).unwrap();
    assert!(matches!(reopen(&without_name), Err(Error::Refused { .. })));

    let without_log = SimDisk::new(7);
    without_log.create_dir(Path::new(DIR)).unwrap();
    let name = disk.bytes_of(&Path::new(DIR).join("STORE")).unwrap();
    without_log.place(&Path::new(DIR).join("STORE"), &name).unwrap();
    assert!(matches!(reopen(&without_log), Err(Error::Refused { .. })));
    assert!(check(&without_log, Path::new(DIR), &mut |_| {}).is_err());
    assert!(check(&SimDisk::new(1), Path::new(DIR), &mut |_| {}).is_err());
}

/// On a real file system: what may stand where a file of ours should.
#[test]
fn directories_pipes_and_links_are_not_files() {
    for place in ["log/00000001.seg", "STORE", "LOCK"] {
        for kind in ["directory", "pipe", "link"] {
            let dir = tempfile::tempdir().unwrap();
            let disk: Arc<dyn Disk> = Arc::new(RealDisk);
            {
                let store = open(&disk, dir.path(), &small()).unwrap();
                let pen = pen(&store).unwrap();
                pen.append(vec![text(1, Lane::Public, 1, "hello")], 0);
                pen.wait(1);
                pen.scribe.close();
            }
            let spoiled = dir.path().join(place);
            std::fs::rename(&spoiled, dir.path().join("aside")).unwrap();
            match kind {
                "directory" => std::fs::create_dir(&spoiled).unwrap(),
                "link" => std::os::unix::fs::symlink("/dev/zero", &spoiled).unwrap(),
                _ => {
                    let mode = rustix::fs::Mode::from_raw_mode(0o600);
                    let pipe = rustix::fs::FileType::Fifo;
                    rustix::fs::mknodat(rustix::fs::CWD, &spoiled, pipe, mode, 0).unwrap();
                }
            }
            let refused = open(&disk, dir.path(), &small()).unwrap_err();
            assert!(matches!(refused, Error::Io { .. }), "{kind} as {place}: {refused}");
            assert!(refused.to_string().contains("regular file"), "{kind} as {place}: {refused}");
        }
    }
}

#[test]
fn a_directory_that_cannot_be_written_is_refused_and_stays_as_it_was() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let closed = dir.path().join("closed");
    std::fs::create_dir(&closed).unwrap();
    std::fs::set_permissions(&closed, std::fs::Permissions::from_mode(0o500)).unwrap();
    if std::fs::write(closed.join("probe"), b"").is_ok() {
        // Root may write anywhere; the same refusal is met by the failing calls of `faults`.
        return;
    }
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    assert!(matches!(open(&disk, &closed, &small()), Err(Error::Io { .. })));
    assert_eq!(std::fs::read_dir(&closed).unwrap().count(), 0);
}

#[test]
fn no_place_is_given_by_a_scribe_of_a_poisoned_log() {
    let disk = SimDisk::new(3);
    let store = reopen(&disk).unwrap();
    let pen = pen(&store).unwrap();
    pen.append(vec![text(1, Lane::Public, 1, "kept")], 0);
    pen.wait(1);
    disk.set_eio_permille(1000);
    pen.append(vec![text(1, Lane::Public, 2, "lost")], 0);
    // The batch may also meet the failure while it states the first one's watermark.
    assert!(matches!(pen.answers.recv().unwrap(), Err(Error::Io { .. })));
    assert_eq!(pen.scribe.reserve().unwrap_err(), NoPlace::Poisoned);
    disk.heal();
    assert_eq!(pen.scribe.reserve().unwrap_err(), NoPlace::Poisoned, "for good");
    assert_eq!(store.log.page(1, Lane::Public, 0, 10).unwrap().len(), 1, "reads go on");
    pen.scribe.close();
    drop(store);
    disk.kill();
    let store = reopen(&disk).unwrap();
    let seqs = store.log.head(1, Lane::Public);
    assert!((1..=2).contains(&seqs));
    assert!(super::pen(&store).is_ok());
}

#[test]
fn what_is_only_looked_at_is_read_and_not_touched() {
    let (disk, all) = grown(3);
    let recording = RecordingDisk::new(Arc::new(disk));
    let shared: Arc<dyn Disk> = Arc::new(recording.clone());
    let why = Error::read_only("it failed five times");
    let store = Store::look(why, shared, Path::new(DIR), &small(), &mut |_| {}).unwrap();
    assert_eq!(everything(&store).unwrap(), all);
    assert_eq!(store.log.page(1, Lane::Public, 0, 100).unwrap().len(), 6);
    let refused = [
        pen(&store).err(),
        store.secrets.put("a", b"b").err(),
        store.blobs.begin(1).err(),
        store.log.refusal(),
    ];
    for refused in refused {
        assert_eq!(refused.unwrap().to_string(), "it failed five times");
    }
    drop(store);
    let mut calls = recording.take_calls();
    // The data directory itself, which is there.
    calls.retain(|call| ![Verb::Map, Verb::CreateDir].contains(&call.verb));
    assert_eq!(calls, []);
}

#[test]
fn a_segment_that_cannot_be_read_keeps_nobody_from_the_others() {
    let dir = tempfile::tempdir().unwrap();
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    for seq in 1..=3 {
        let store = open(&disk, dir.path(), &small()).unwrap();
        let pen = pen(&store).unwrap();
        pen.append(vec![text(1, Lane::Public, seq, "what was said")], 0);
        pen.wait(1);
        pen.scribe.close();
    }
    let second = dir.path().join("log/00000002.seg");
    std::fs::remove_file(&second).unwrap();
    std::fs::create_dir(&second).unwrap();
    assert!(matches!(open(&disk, dir.path(), &small()), Err(Error::Io { .. })));
    let why = Error::read_only("it failed five times");
    let store = Store::look(why, disk.clone(), dir.path(), &small(), &mut |_| {}).unwrap();
    assert_eq!(store.log.page(1, Lane::Public, 0, 100).unwrap().len(), 1, "the newest one");
    let report = check(&*disk, dir.path(), &mut |_| {}).unwrap();
    let files: Vec<&str> = report.findings.iter().map(|it| it.file.as_str()).collect();
    // The second finding says what the first one swallowed: a record of this conversation.
    assert_eq!(files, ["log/00000002.seg", "log/00000003.seg"], "{:?}", report.findings);
    assert!(report.read_only.is_some());
    assert_eq!(report.records, 2);
}
