//! Old files stay readable, and today's writer still writes them byte for byte.
//!
//! `golden/format-0` is a whole data directory. Goldens are only ever added: when a format changes
//! on purpose, the new one gets a directory of its own, written by `LODGE_GOLDEN=write`, and this
//! one must still open (or be refused in a clear sentence, as the README says of format 0).

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{everything, open, small, text};
use crate::batch;
use crate::disk::{Disk, RealDisk};
use crate::frame;
use crate::index::HotIndex;
use crate::record::Position;
use crate::segment::{self, Header};
use crate::store;
use crate::{Lane, NewRecord, Place, check};

const STORE: [u8; 16] = *b"a golden store!!";

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/format-0")
}

/// What the golden store holds: segments of batches of records.
fn story() -> Vec<Vec<Vec<NewRecord>>> {
    let other =
        |place, kind, body: &[u8]| NewRecord { place, kind, time_ms: 42, body: body.to_vec() };
    vec![
        vec![
            vec![
                text(1, Lane::Public, 1, "Good morning. I cannot sign in."),
                text(1, Lane::Staff, 1, "third time this week"),
                other(Place::Register, 7, b"an account"),
            ],
            vec![text(u64::MAX, Lane::Public, 1, "你好"), other(Place::Reads, u16::MAX, b"")],
            vec![text(1, Lane::Public, 2, &"long ".repeat(2_000))],
        ],
        vec![vec![text(1, Lane::Public, 3, "Thank you!"), text(2, Lane::Staff, 1, "note")]],
    ]
}

/// The files that today's code makes of it, as (name, bytes).
fn written() -> Vec<(String, Vec<u8>)> {
    let mut files = vec![("STORE".to_owned(), store::encode_golden(STORE, 0x1234).to_vec())];
    let (mut base, mut prev_end, mut prev_chain) = (0, 0, 0);
    let story = story();
    for (number, batches) in (1..).zip(&story) {
        let salt = [number as u8; 16];
        let header = Header { number, store: STORE, salt, base, prev_end, prev_chain };
        let (mut file, mut chain) = header.encode();
        let mut index = HotIndex::default();
        let mut out = Vec::new();
        let mut count = 0;
        // A batch without records ends each segment, as a clean close leaves it.
        for records in batches.iter().map(Vec::as_slice).chain([&[][..]]) {
            let at = file.len() as u64;
            batch::begin(&mut out);
            for record in records {
                index.push(record.place, (file.len() + out.len()) as u32).unwrap();
                frame::encode(record, &mut out);
            }
            count += 1;
            let durable = Position(base + at);
            let records = records.len() as u32;
            chain = batch::seal(&mut out, header.ties(at), records, count, durable, chain);
            file.extend_from_slice(&out);
        }
        let end = file.len() as u64;
        let index = index.encode(&header, end, chain, count);
        files.push((format!("log/{}", segment::file_name(number)), file));
        files.push((format!("log/{}", crate::index::file_name(number)), index));
        (base, prev_end, prev_chain) = (base + end, end, chain);
    }
    files
}

#[test]
fn todays_writer_writes_the_golden_bytes() {
    let to_write = std::env::var("LODGE_GOLDEN").is_ok_and(|asked| asked == "write");
    for (name, bytes) in written() {
        let path = golden().join(&name);
        if to_write && !path.exists() {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, &bytes).unwrap();
        }
        let stored = std::fs::read(&path).unwrap();
        let differ = stored.iter().zip(&bytes).position(|(stored, made)| stored != made);
        assert_eq!(differ, None, "{name} differs at this byte");
        assert_eq!(stored.len(), bytes.len(), "{name}");
    }
}

#[test]
fn the_golden_store_opens_and_holds_what_it_held() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("log")).unwrap();
    for (name, _) in written() {
        std::fs::copy(golden().join(&name), dir.path().join(&name)).unwrap();
    }
    // Its keys are made by chance, so none are kept with it.
    let secrets = dir.path().join("SECRETS");
    std::fs::write(&secrets, "new keys\n").unwrap();
    std::fs::set_permissions(&secrets, std::fs::Permissions::from_mode(0o600)).unwrap();
    let report = check(&RealDisk, dir.path(), &mut |_| {}).unwrap();
    assert_eq!((report.findings, report.remarks), (vec![], vec![]));
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let store = open(&disk, dir.path(), &small()).unwrap();
    assert_eq!(store.log.refusal().map(|refusal| refusal.to_string()), None);
    assert_eq!(store.log.epoch(), 0x1234);
    let all: Vec<NewRecord> = story().into_iter().flatten().flatten().collect();
    assert_eq!(everything(&store).unwrap(), all);
    assert_eq!(store.log.head(1, Lane::Public), 3);
    assert_eq!(store.log.at(u64::MAX, Lane::Public, 1).unwrap().unwrap().body(), "你好".as_bytes());
}
