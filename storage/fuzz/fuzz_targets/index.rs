//! Opens the golden store with an index that the fuzzer made, its checksums set right. Whatever it
//! says, a record that is answered is the one that was asked for.
#![no_main]

use std::path::Path;
use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use lodge_storage::disk::{Disk, SimDisk};
use lodge_storage::{Lane, Options, Place, Position, Record, Store};

const NAME: &[u8] = include_bytes!("../../golden/format-0/STORE");
const FIRST: &[u8] = include_bytes!("../../golden/format-0/log/00000001.seg");
const INDEX: &[u8] = include_bytes!("../../golden/format-0/log/00000001.idx");
const SECOND: &[u8] = include_bytes!("../../golden/format-0/log/00000002.seg");
/// The part of the header that ties an index to its segment; the counts follow, then the checksums.
const TIED: std::ops::Range<usize> = 0..44;
const BODY_CRC_AT: usize = 56;
const CRC_AT: usize = 60;
const HEADER_BYTES: usize = 64;

fuzz_target!(|data: &[u8]| {
    let mut index = data.to_vec();
    if index.len() < HEADER_BYTES {
        return;
    }
    index[TIED].copy_from_slice(&INDEX[TIED]);
    let body_crc = crc32fast::hash(&index[HEADER_BYTES..]);
    index[BODY_CRC_AT..CRC_AT].copy_from_slice(&body_crc.to_le_bytes());
    let crc = crc32fast::hash(&index[..CRC_AT]);
    index[CRC_AT..HEADER_BYTES].copy_from_slice(&crc.to_le_bytes());

    let dir = Path::new("/store");
    let disk = SimDisk::new(1);
    disk.create_dir(dir).unwrap();
    disk.create_dir(&dir.join("log")).unwrap();
    disk.place(&dir.join("STORE"), NAME).unwrap();
    disk.place(&dir.join("log/00000001.seg"), FIRST).unwrap();
    disk.place(&dir.join("log/00000001.idx"), &index).unwrap();
    disk.place(&dir.join("log/00000002.seg"), SECOND).unwrap();
    let options = Options { first_segment_bytes: 8192, ..Options::default() };
    let store = Store::open(Arc::new(disk), dir, &options, &mut |_| {}).unwrap();
    let all: Vec<Record> = store.log.scan(Position(0)).map(Result::unwrap).collect();
    for (conversation, lane) in [(1, Lane::Public), (1, Lane::Staff), (u64::MAX, Lane::Public)] {
        let log = &store.log;
        let asked = [
            log.page(conversation, lane, 0, 1000),
            log.page(conversation, lane, 2, 1000),
            log.range(conversation, lane, 1, 1000),
            log.since(conversation, lane, Position(5000), 1000),
        ];
        for record in asked.into_iter().flatten().flatten() {
            let Place::Conversation { conversation: c, lane: l, .. } = record.place else {
                panic!("a record of no conversation");
            };
            assert_eq!((c, l), (conversation, lane));
            let same = |one: &&Record| one.position == record.position;
            assert_eq!(all.iter().find(same).unwrap().body(), record.body());
        }
    }
});
