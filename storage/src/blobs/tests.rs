use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::FileExt;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};
use std::sync::mpsc;

use tempfile::TempDir;

use super::extent::{BLOCK_BYTES, FOOTER_BYTES};
use super::segment::SEGMENT_BYTES;
use super::*;
use crate::disk::{Chance, RealDisk, SimDisk};

const KEY: [u8; BLOB_KEY_BYTES] = [7; BLOB_KEY_BYTES];

fn open(dir: &Path) -> Blobs {
    open_on(Arc::new(RealDisk), dir, &KEY).unwrap()
}

fn open_on(disk: Arc<dyn Disk>, dir: &Path, key: &[u8; BLOB_KEY_BYTES]) -> Result<Blobs, Error> {
    Blobs::open(disk, dir, key, Arc::new(Lock::new(())), None)
}

/// Bytes that are different for every seed and never zero, and that no block repeats.
fn content(seed: u64, len: usize) -> Vec<u8> {
    const PERIOD: usize = 4099;
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut byte = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8 | 1
    };
    let mut bytes: Vec<u8> = (0..len.min(PERIOD)).map(|_| byte()).collect();
    while bytes.len() < len {
        bytes.extend_from_within(..bytes.len().min(len - bytes.len()));
    }
    bytes
}

fn upload(blobs: &Blobs, bytes: &[u8]) -> Result<BlobRef, Error> {
    let mut writer = blobs.begin(bytes.len() as u64)?;
    for chunk in bytes.chunks(10_000) {
        writer.write(chunk)?;
    }
    finish(writer)
}

fn finish(writer: BlobWriter) -> Result<BlobRef, Error> {
    let (answer, answered) = mpsc::channel();
    writer.finish(move |outcome| answer.send(outcome).unwrap());
    answered.recv().unwrap()
}

fn read(blobs: &Blobs, blob: &BlobRef) -> Result<Vec<u8>, Error> {
    let mut bytes = vec![0; blob.len as usize + 1];
    let read = blobs.read(blob, 0, &mut bytes)?;
    bytes.truncate(read);
    Ok(bytes)
}

/// What verification finds: the blobs, and the damage in words.
fn verified(dir: &Path) -> (Vec<BlobRef>, Vec<String>) {
    let (mut found, mut damage) = (Vec::new(), Vec::new());
    verify(&RealDisk, dir, Some(&KEY), &mut |checked| match checked {
        Checked::Blob(blob) => found.push(blob),
        Checked::Damage { what, .. } => damage.push(what),
    })
    .unwrap();
    (found, damage)
}

fn segment_path(dir: &Path, number: u32) -> std::path::PathBuf {
    segment::path(&dir.join(FOLDER), number)
}

fn sizes(dir: &Path) -> Vec<u64> {
    let folder = dir.join(FOLDER);
    let numbers = segment::list(&RealDisk, &folder).unwrap();
    numbers.iter().map(|n| fs::metadata(segment::path(&folder, *n)).unwrap().len()).collect()
}

#[test]
fn every_length_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let blobs = open(dir.path());
    let header = EXTENT_HEADER_BYTES;
    let mut kept = Vec::new();
    for len in [
        0,
        1,
        4095 - header,
        4096 - header,
        4097 - header,
        4095,
        4096,
        4097,
        100_000,
        BLOB_BYTES_MAX as usize - 1,
        BLOB_BYTES_MAX as usize,
    ] {
        let bytes = content(len as u64, len);
        let blob = upload(&blobs, &bytes).unwrap();
        assert_eq!(blob.len, len as u64);
        assert_eq!(BlobRef::from_bytes(&blob.to_bytes()), blob);
        kept.push((blob, bytes));
    }
    assert!(matches!(blobs.begin(BLOB_BYTES_MAX + 1), Err(Error::Refused { .. })));
    assert!(matches!(blobs.begin(u64::MAX), Err(Error::Refused { .. })));
    for blobs in [blobs.clone(), {
        drop(blobs);
        open(dir.path())
    }] {
        for (blob, bytes) in &kept {
            assert_eq!(&read(&blobs, blob).unwrap(), bytes);
        }
    }
    let (found, damage) = verified(dir.path());
    assert_eq!(found, kept.iter().map(|(blob, _)| *blob).collect::<Vec<_>>());
    assert_eq!(damage, Vec::<String>::new());
}

#[test]
fn the_address_is_of_the_bytes_under_the_key() {
    let dir = tempfile::tempdir().unwrap();
    let blobs = open(dir.path());
    let one = upload(&blobs, b"picture").unwrap();
    let again = upload(&blobs, b"picture").unwrap();
    let other = upload(&blobs, b"Picture").unwrap();
    assert_eq!(one.address, again.address);
    assert_ne!(one.offset, again.offset);
    assert_ne!(one.address, other.address);
    let sha = digest(b"picture");
    let key = hmac::Key::new(hmac::HMAC_SHA256, &KEY);
    hmac::verify(&key, &sha, &one.address).unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    let blobs = open_on(Arc::new(RealDisk), elsewhere.path(), &[8; 32]).unwrap();
    assert_ne!(upload(&blobs, b"picture").unwrap().address, one.address);
}

fn digest(bytes: &[u8]) -> Vec<u8> {
    ring::digest::digest(&ring::digest::SHA256, bytes).as_ref().to_vec()
}

#[test]
fn parts_are_read_from_anywhere() {
    let dir = tempfile::tempdir().unwrap();
    let blobs = open(dir.path());
    let bytes = content(3, 9000);
    let blob = upload(&blobs, &bytes).unwrap();
    let next = upload(&blobs, &content(4, 9000)).unwrap();
    assert!(next.offset > blob.offset);
    for (offset, len, expected) in [
        (0, 10, &bytes[..10]),
        (4000, 200, &bytes[4000..4200]),
        (8990, 100, &bytes[8990..]),
        (9000, 100, &[]),
        (u64::MAX, 100, &[]),
        (5, 0, &[]),
    ] {
        let mut buf = vec![0; len];
        let read = blobs.read(&blob, offset, &mut buf).unwrap();
        assert_eq!(&buf[..read], expected);
    }
}

#[test]
fn a_reference_to_nowhere_is_damage() {
    let dir = tempfile::tempdir().unwrap();
    let blobs = open(dir.path());
    let blob = upload(&blobs, b"picture").unwrap();
    for wrong in [
        BlobRef { segment: 9, ..blob },
        BlobRef { offset: 1 << 40, ..blob },
        BlobRef { offset: u64::MAX - 3, ..blob },
        BlobRef { len: u64::MAX, offset: SEGMENT_BYTES, ..blob },
    ] {
        let mut buf = [0; 8];
        let refused = blobs.read(&wrong, 0, &mut buf);
        assert!(matches!(refused, Err(Error::Corrupt { .. })), "{refused:?}");
    }
}

#[test]
fn what_lies_in_the_place_of_a_lost_blob_is_not_read_for_it() {
    let dir = tempfile::tempdir().unwrap();
    let blobs = open(dir.path());
    let lost = upload(&blobs, &content(1, 9_000)).unwrap();
    drop(blobs);
    fs::remove_dir_all(dir.path().join(FOLDER)).unwrap();
    let blobs = open(dir.path());
    let other = upload(&blobs, &content(2, 9_000)).unwrap();
    assert_eq!((other.segment, other.offset), (lost.segment, lost.offset));
    for from in [0, 1, 8_999] {
        let part = blobs.read(&lost, from, &mut [0; 100]);
        assert!(matches!(part, Err(Error::Corrupt { .. })), "{part:?}");
        assert!(blobs.read(&other, from, &mut [0; 100]).is_ok());
    }
}

#[test]
fn more_or_less_than_announced_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let blobs = open(dir.path());
    let mut writer = blobs.begin(10).unwrap();
    writer.write(b"12345").unwrap();
    assert!(matches!(writer.write(b"678901"), Err(Error::Refused { .. })));
    writer.write(b"67890").unwrap();
    assert!(matches!(writer.write(b"1"), Err(Error::Refused { .. })));
    assert_eq!(read(&blobs, &finish(writer).unwrap()).unwrap(), b"1234567890");
    let mut writer = blobs.begin(10).unwrap();
    writer.write(b"123456789").unwrap();
    assert!(matches!(finish(writer), Err(Error::Refused { .. })));
}

#[test]
fn uploads_side_by_side_do_not_touch_each_other() {
    let dir = tempfile::tempdir().unwrap();
    let blobs = open(dir.path());
    let threads: Vec<_> = (0..16)
        .map(|seed| {
            let blobs = blobs.clone();
            std::thread::spawn(move || {
                let bytes = content(seed, 3000 * seed as usize);
                (upload(&blobs, &bytes).unwrap(), bytes)
            })
        })
        .collect();
    let kept: Vec<_> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
    for (blob, bytes) in &kept {
        assert_eq!(&read(&blobs, blob).unwrap(), bytes);
    }
    assert_eq!(verified(dir.path()).0.len(), 16);
}

#[test]
fn an_abandoned_extent_is_used_again() {
    let dir = tempfile::tempdir().unwrap();
    let blobs = open(dir.path());
    let first = upload(&blobs, b"first").unwrap();
    for _ in 0..100 {
        // Far more than the segment holds, and nearly nothing sent.
        let mut writers: Vec<_> = (0..4).map(|_| blobs.begin(BLOB_BYTES_MAX).unwrap()).collect();
        for writer in &mut writers {
            writer.write(b"half of it").unwrap();
        }
        writers.swap(0, 2);
    }
    let second = upload(&blobs, b"second").unwrap();
    assert_eq!((second.segment, second.offset), (first.segment, first.offset + BLOCK_BYTES));
    drop(blobs);
    assert_eq!(sizes(dir.path()), [3 * BLOCK_BYTES + FOOTER_BYTES]);
    let blobs = open(dir.path());
    assert_eq!(read(&blobs, &second).unwrap(), b"second");
    assert_eq!(verified(dir.path()), (vec![first, second], vec![]));
}

#[test]
fn abandoned_extents_are_stepped_over() {
    let dir = tempfile::tempdir().unwrap();
    let blobs = open(dir.path());
    let mut abandoned = blobs.begin(50_000).unwrap();
    abandoned.write(&content(1, 30_000)).unwrap();
    let kept = upload(&blobs, &content(2, 10_000)).unwrap();
    drop(abandoned);
    // As if the process had been killed here: nothing is closed.
    let copy = tempfile::tempdir().unwrap();
    fs::create_dir(copy.path().join(FOLDER)).unwrap();
    fs::copy(segment_path(dir.path(), 0), segment_path(copy.path(), 0)).unwrap();
    assert_eq!(verified(copy.path()), (vec![kept], vec![]));
    let again = open(copy.path());
    assert_eq!(read(&again, &kept).unwrap(), content(2, 10_000));
    assert_eq!(sizes(copy.path()), [kept.offset + 3 * BLOCK_BYTES + FOOTER_BYTES]);
    let next = upload(&again, b"next").unwrap();
    assert_eq!(next.segment, 1, "a segment of an earlier process is not appended to");
}

#[test]
fn an_opening_cuts_zeros_only() {
    let dir = tempfile::tempdir().unwrap();
    let blobs = open(dir.path());
    let blob = upload(&blobs, &content(2, 10_000)).unwrap();
    let copy = tempfile::tempdir().unwrap();
    fs::create_dir(copy.path().join(FOLDER)).unwrap();
    let path = segment_path(copy.path(), 0);
    fs::copy(segment_path(dir.path(), 0), &path).unwrap();
    let file = fs::File::options().write(true).open(&path).unwrap();
    file.write_all_at(&[0xFF], blob.offset + 20).unwrap();
    drop(open(copy.path()));
    assert_eq!(verified(copy.path()).0, []);
    let from = blob.offset as usize + EXTENT_HEADER_BYTES;
    let left = &fs::read(&path).unwrap()[from..from + 10_000];
    assert!(left == content(2, 10_000), "only its header was damaged");
}

/// In a segment that was left open, what a later header calls durable was promised; the last may
/// have been cut off by the power before its answer.
#[test]
fn damage_is_told_from_an_upload_that_was_cut_off() {
    let dir = tempfile::tempdir().unwrap();
    let blobs = open(dir.path());
    let [first, last] = [1, 2].map(|seed| upload(&blobs, &content(seed, 500)).unwrap());
    for (spoiled, whole, damaged) in [(first, last, 1), (last, first, 0)] {
        let copy = tempfile::tempdir().unwrap();
        fs::create_dir(copy.path().join(FOLDER)).unwrap();
        let path = segment_path(copy.path(), 0);
        fs::copy(segment_path(dir.path(), 0), &path).unwrap();
        let file = fs::File::options().write(true).open(&path).unwrap();
        let at = spoiled.offset + EXTENT_HEADER_BYTES as u64 + 100;
        file.write_all_at(&[0], at).unwrap();
        let (found, damage) = verified(copy.path());
        assert_eq!((found, damage.len()), (vec![whole], damaged));
        drop(open(copy.path()));
        let (found, damage) = verified(copy.path());
        assert_eq!((found, damage.len()), (vec![whole], damaged), "the same once it is closed");
    }
}

#[test]
fn a_segment_without_blobs_goes_away() {
    let dir = tempfile::tempdir().unwrap();
    let blobs = open(dir.path());
    drop(blobs.begin(5).unwrap());
    assert_eq!(sizes(dir.path()).len(), 1);
    drop(blobs);
    assert_eq!(sizes(dir.path()), [0; 0]);
    fs::write(segment_path(dir.path(), 3), vec![0; 100_000]).unwrap();
    fs::write(segment_path(dir.path(), 4), b"").unwrap();
    let blobs = open(dir.path());
    assert_eq!(sizes(dir.path()), [0; 0]);
    assert_eq!(upload(&blobs, b"x").unwrap().segment, 5);
}

#[test]
fn a_full_segment_is_followed_by_another() {
    let dir = tempfile::tempdir().unwrap();
    let blobs = open(dir.path());
    let bytes = content(1, BLOB_BYTES_MAX as usize);
    let kept: Vec<_> = (0..6).map(|_| upload(&blobs, &bytes).unwrap()).collect();
    let segments: Vec<_> = kept.iter().map(|blob| blob.segment).collect();
    assert_eq!(segments, [0, 0, 0, 0, 0, 1]);
    blobs.close();
    for blob in &kept {
        assert_eq!(read(&blobs, blob).unwrap(), bytes);
    }
    let span = extent::span(BLOB_BYTES_MAX);
    assert_eq!(
        sizes(dir.path()),
        [5 * span + BLOCK_BYTES + FOOTER_BYTES, span + BLOCK_BYTES + FOOTER_BYTES]
    );
    assert_eq!(verified(dir.path()), (kept, vec![]));
}

#[test]
fn after_closing_everything_is_refused_and_answered() {
    let dir = tempfile::tempdir().unwrap();
    let blobs = open(dir.path());
    let blob = upload(&blobs, b"before").unwrap();
    let mut late = blobs.begin(4).unwrap();
    late.write(b"late").unwrap();
    blobs.close();
    blobs.close();
    assert!(matches!(finish(late), Err(Error::Refused { .. })));
    assert!(matches!(blobs.begin(1), Err(Error::Refused { .. })));
    assert_eq!(read(&blobs, &blob).unwrap(), b"before");
}

#[test]
fn uploads_under_way_are_bounded() {
    let dir = tempfile::tempdir().unwrap();
    let blobs = open(dir.path());
    let mut writers: Vec<_> = (0..UPLOADS_MAX - 1).map(|_| blobs.begin(1).unwrap()).collect();
    writers.push(blobs.begin(1).unwrap());
    assert!(matches!(blobs.begin(1), Err(Error::Refused { .. })));
    writers.pop();
    drop(blobs.begin(1).unwrap());
    let (answer, answered) = mpsc::channel();
    for mut writer in writers {
        writer.write(b"x").unwrap();
        let answer = answer.clone();
        writer.finish(move |outcome| answer.send(outcome).unwrap());
    }
    drop(answer);
    assert_eq!(answered.iter().filter(Result::is_ok).count(), UPLOADS_MAX - 1);
}

#[test]
fn a_panic_in_one_answer_does_not_end_the_others() {
    let dir = tempfile::tempdir().unwrap();
    let blobs = open(dir.path());
    blobs.begin(0).unwrap().finish(|_| panic!("a bug in an answer, as this test wants it"));
    assert!(upload(&blobs, b"after it").is_ok());
}

#[test]
fn strangers_in_the_folder_stay() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()));
    let folder = dir.path().join(FOLDER);
    let names = ["0.blob", "0000000G.blob", "00000000.BLOB", "README", "000000001.blob"];
    for name in names {
        fs::write(folder.join(name), b"stranger").unwrap();
    }
    fs::create_dir(segment_path(dir.path(), 7)).unwrap();
    fs::write(segment_path(dir.path(), 8), b"a stranger by a good name").unwrap();
    let blobs = open(dir.path());
    assert_eq!(upload(&blobs, b"x").unwrap().segment, 9);
    for name in names {
        assert_eq!(fs::read(folder.join(name)).unwrap(), b"stranger");
    }
    assert_eq!(fs::read(segment_path(dir.path(), 8)).unwrap(), b"a stranger by a good name");
    assert_eq!(verified(dir.path()).1.len(), 2);
}

/// Every byte of a closed segment: damage is found, or it lies where nothing is kept.
#[test]
fn flipped_bytes_are_found() {
    let dir = tempfile::tempdir().unwrap();
    let blobs = open(dir.path());
    let kept: Vec<_> =
        [300, 0, 4090].map(|len| upload(&blobs, &content(len, len as usize)).unwrap()).into();
    drop(blobs);
    let path = segment_path(dir.path(), 0);
    let good = fs::read(&path).unwrap();
    let file = fs::File::options().write(true).open(&path).unwrap();
    let matters = |at: u64| {
        at < extent::SEGMENT_HEADER_BYTES as u64
            || kept.iter().any(|blob| {
                (blob.offset..blob.offset + EXTENT_HEADER_BYTES as u64 + blob.len).contains(&at)
            })
    };
    for at in (0..good.len()).filter(|at| matters(*at as u64) || at % 61 == 0) {
        file.write_all_at(&[good[at] ^ 0x10], at as u64).unwrap();
        let (found, damage) = verified(dir.path());
        file.write_all_at(&[good[at]], at as u64).unwrap();
        assert!(found.iter().all(|blob| kept.contains(blob)), "byte {at}");
        assert_eq!(matters(at as u64), !damage.is_empty(), "byte {at}: {damage:?}");
        assert_eq!(matters(at as u64), found.len() < kept.len(), "byte {at}");
    }
    for len in 0..good.len() as u64 {
        if len % 97 > 1 && len > 100 {
            continue;
        }
        fs::write(&path, &good[..len as usize]).unwrap();
        assert!(verified(dir.path()).0.iter().all(|blob| kept.contains(blob)));
    }
    fs::write(&path, &good).unwrap();
    assert_eq!(verified(dir.path()), (kept.clone(), vec![]));
    fs::rename(&path, segment_path(dir.path(), 1)).unwrap();
    let (found, damage) = verified(dir.path());
    assert_eq!((found.len(), damage.len()), (0, 1), "{damage:?}");
}

#[test]
fn a_blob_in_the_place_of_another_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let blobs = open(dir.path());
    let blob = upload(&blobs, b"picture").unwrap();
    drop(blobs);
    let mut damage = 0;
    verify(&RealDisk, dir.path(), Some(&[8; 32]), &mut |checked| {
        damage += usize::from(matches!(checked, Checked::Damage { .. }));
    })
    .unwrap();
    assert_eq!(damage, 1, "under another key it bears a wrong address");
    let mut found = Vec::new();
    verify(&RealDisk, dir.path(), None, &mut |checked| {
        if let Checked::Blob(blob) = checked {
            found.push(blob);
        }
    })
    .unwrap();
    assert_eq!(found, [blob], "without a key the checksum speaks");
}

const DATA: &str = "/data";
const EIO: i32 = 5;
const ENOSPC: i32 = 28;

fn sim(seed: u64) -> SimDisk {
    let disk = SimDisk::new(seed);
    disk.create_dir(Path::new(DATA)).unwrap();
    disk.sync_dir(Path::new("/")).unwrap();
    disk
}

fn open_sim(disk: &SimDisk) -> Result<Blobs, Error> {
    open_on(Arc::new(disk.clone()), Path::new(DATA), &KEY)
}

/// Uploads side by side, some of them given up, until one is refused; what was promised is kept.
fn work(blobs: &Blobs, chance: &mut Chance, kept: &mut Vec<(BlobRef, Vec<u8>)>) {
    let mut given_up = Vec::new();
    for _ in 0..1 + chance.below(12) {
        let len = [0, 1, 63, 4032, 4033, 30_000][chance.below(6) as usize];
        let bytes = content(chance.draw(), len);
        let Ok(mut writer) = blobs.begin(len as u64) else { break };
        let mut chunks = bytes.chunks(5000);
        if chance.permille(250) {
            let _ = chunks.next().map(|chunk| writer.write(chunk));
            given_up.push(writer);
            continue;
        }
        if chunks.all(|chunk| writer.write(chunk).is_ok())
            && let Ok(blob) = finish(writer)
        {
            kept.push((blob, bytes));
        }
        if chance.permille(300) {
            given_up.pop();
        }
    }
}

/// Everything promised is there, and `check` agrees.
fn holds(disk: &SimDisk, blobs: &Blobs, kept: &[(BlobRef, Vec<u8>)], why: &str) {
    for (blob, bytes) in kept {
        assert_eq!(&read(blobs, blob).unwrap(), bytes, "{why}");
    }
    let mut found = Vec::new();
    verify(disk, Path::new(DATA), Some(&KEY), &mut |checked| match checked {
        Checked::Blob(blob) => found.push(blob),
        Checked::Damage { what, .. } => panic!("{why}: {what}"),
    })
    .unwrap();
    assert!(kept.iter().all(|(blob, _)| found.contains(blob)), "{why}");
}

#[test]
fn a_promised_blob_survives_power_cuts_and_kills() {
    for seed in 0..150 {
        let why = format!("seed {seed}");
        let disk = sim(seed);
        let mut chance = Chance::new(seed);
        let mut kept = Vec::new();
        for _ in 0..5 {
            let blobs = open_sim(&disk).unwrap();
            holds(&disk, &blobs, &kept, &why);
            work(&blobs, &mut chance, &mut kept);
            match chance.below(3) {
                0 => disk.crash(),
                1 => disk.kill(),
                _ => blobs.close(),
            }
        }
    }
}

#[test]
fn every_call_may_fail_and_no_promise_is_broken() {
    for errno in [EIO, ENOSPC] {
        for nth in 0.. {
            let why = format!("call {nth} fails with {errno}");
            let disk = sim(nth);
            let mut chance = Chance::new(7);
            let mut kept = Vec::new();
            let before = disk.calls();
            disk.fail_call(nth, errno);
            if let Ok(blobs) = open_sim(&disk) {
                work(&blobs, &mut chance, &mut kept);
                work(&blobs, &mut chance, &mut kept);
            }
            let calls = disk.calls() - before;
            disk.crash();
            disk.heal();
            let blobs = open_sim(&disk).unwrap();
            holds(&disk, &blobs, &kept, &why);
            work(&blobs, &mut chance, &mut kept);
            holds(&disk, &blobs, &kept, &why);
            if calls <= nth {
                break;
            }
        }
    }
}

#[test]
fn failures_all_over_break_no_promise() {
    for seed in 0..100 {
        let why = format!("seed {seed}");
        let disk = sim(seed);
        let mut chance = Chance::new(seed);
        let mut kept = Vec::new();
        for _ in 0..3 {
            disk.set_eio_permille(chance.below(60));
            if let Ok(blobs) = open_sim(&disk) {
                work(&blobs, &mut chance, &mut kept);
            }
            disk.crash();
            disk.heal();
            holds(&disk, &open_sim(&disk).unwrap(), &kept, &why);
        }
    }
}

/// Which call fails is found by counting those of the same upload on a healthy disk.
#[test]
fn a_failed_sync_retires_the_segment_and_refuses_what_it_held() {
    let healthy = sim(1);
    let blobs = open_sim(&healthy).unwrap();
    let first = upload(&blobs, b"first").unwrap();
    let before = healthy.calls();
    upload(&blobs, b"second").unwrap();
    let calls_of_an_upload = healthy.calls() - before;

    let disk = sim(1);
    let blobs = open_sim(&disk).unwrap();
    assert_eq!(upload(&blobs, b"first").unwrap(), first);
    let mut under_way = blobs.begin(4).unwrap();
    disk.fail_call(calls_of_an_upload - 1, EIO);
    assert!(matches!(upload(&blobs, b"second"), Err(Error::Io { what: "sync", .. })));
    assert!(under_way.write(b"late").is_err(), "its bytes would be promised on a doubtful file");
    drop(under_way);
    let third = upload(&blobs, b"third").unwrap();
    assert_eq!((first.segment, third.segment), (0, 1));
    assert_eq!(read(&blobs, &first).unwrap(), b"first");
    assert_eq!(read(&blobs, &third).unwrap(), b"third");
}

#[test]
fn a_full_disk_refuses_uploads_and_takes_them_again() {
    let disk = sim(1);
    let blobs = open_sim(&disk).unwrap();
    let mut kept = Vec::new();
    disk.set_capacity_bytes(40 << 20);
    let mut refused = 0;
    for seed in 0..30 {
        let bytes = content(seed, 2 << 20);
        match upload(&blobs, &bytes) {
            Ok(blob) => kept.push((blob, bytes)),
            Err(Error::Full) => refused += 1,
            Err(other) => panic!("{other}"),
        }
    }
    assert!(refused > 0 && !kept.is_empty());
    holds(&disk, &blobs, &kept, "full");
    disk.heal();
    assert_eq!(upload(&blobs, b"again").unwrap().segment, 0, "the segment is not to blame");
    disk.set_capacity_bytes(disk.used_bytes());
    blobs.close();
    disk.kill();
    // Opening needs no room either, and what was promised is there.
    holds(&disk, &open_sim(&disk).unwrap(), &kept, "full at the opening");
}

#[test]
fn a_store_that_is_only_read_keeps_its_blobs_as_they_are() {
    let dir = tempfile::tempdir().unwrap();
    let blobs = open(dir.path());
    let blob = upload(&blobs, b"picture").unwrap();
    let copy = tempfile::tempdir().unwrap();
    fs::create_dir(copy.path().join(FOLDER)).unwrap();
    fs::copy(segment_path(dir.path(), 0), segment_path(copy.path(), 0)).unwrap();
    let before = sizes(copy.path());
    let lock = Arc::new(Lock::new(()));
    let refusal = Some(Error::refused("only read"));
    let reading = Blobs::open(Arc::new(RealDisk), copy.path(), &KEY, lock, refusal).unwrap();
    assert_eq!(read(&reading, &blob).unwrap(), b"picture");
    assert_eq!(reading.begin(1).unwrap_err().to_string(), "only read");
    reading.close();
    assert_eq!(sizes(copy.path()), before);
}

/// A child keeps blobs and prints the reference of each in the moment that it is answered. It is
/// killed; then whatever was printed is there, byte for byte.
#[test]
fn a_blob_that_was_answered_survives_a_kill() {
    const CHILD: &str = "LODGE_BLOBS_CHILD";
    if let Some(dir) = std::env::var_os(CHILD) {
        keep_printing(&open(Path::new(&dir)));
    }
    let dir = TempDir::new().unwrap();
    let mut kept = Vec::new();
    for round in 0..8 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "blobs::tests::a_blob_that_was_answered_survives_a_kill"])
            .arg("--nocapture")
            .env(CHILD, dir.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut said = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut take = |line: String| {
            let Some(line) = line.split("kept ").nth(1) else { return false };
            let Some((seed, blob)) = line.split_once(' ') else { return false };
            let Ok(blob) = data(blob).try_into() else { return false };
            kept.push((seed.parse().unwrap(), BlobRef::from_bytes(&blob)));
            true
        };
        let mut count = 0;
        while count < 20 + 10 * round {
            count += usize::from(take(said.next().expect("the child ended by itself").unwrap()));
        }
        child.kill().unwrap();
        for line in said {
            take(line.unwrap());
        }
        assert_eq!(child.wait().unwrap().signal(), Some(9));
        let blobs = open(dir.path());
        for (seed, blob) in &kept {
            assert_eq!(read(&blobs, blob).unwrap(), content(*seed, blob.len as usize));
        }
        let (found, damage) = verified(dir.path());
        assert!(damage.is_empty(), "{damage:?}");
        assert!(kept.iter().all(|(_, blob)| found.contains(blob)));
    }
}

fn keep_printing(blobs: &Blobs) -> ! {
    for thread in 0..4 {
        let blobs = blobs.clone();
        std::thread::spawn(move || {
            for seed in (thread..).step_by(4) {
                let bytes = content(seed, (seed as usize * 977) % 40_000);
                let mut writer = blobs.begin(bytes.len() as u64).unwrap();
                writer.write(&bytes).unwrap();
                if seed % 5 == 0 {
                    continue;
                }
                let (answer, answered) = mpsc::channel();
                writer.finish(move |outcome| {
                    let blob: String =
                        outcome.unwrap().to_bytes().map(|byte| format!("{byte:02x}")).concat();
                    println!("kept {seed} {blob}");
                    answer.send(()).unwrap();
                });
                answered.recv().unwrap();
            }
        });
    }
    loop {
        std::thread::park();
    }
}

fn data(hex: &str) -> Vec<u8> {
    let digits = hex.as_bytes().chunks(2);
    digits.map_while(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
}
