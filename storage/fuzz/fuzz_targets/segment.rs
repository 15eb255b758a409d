//! Opens a store whose second segment holds what the fuzzer made of it. Half of the time the bytes
//! are batches as they are; otherwise they are frames in a batch whose checksums are right, since
//! no fuzzer guesses those.
#![no_main]

use std::path::Path;
use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use lodge_storage::disk::{Disk, SimDisk};
use lodge_storage::{Lane, Options, Place, Position, Store, check};

const NAME: &[u8] = include_bytes!("../../golden/format-0/STORE");
const FIRST: &[u8] = include_bytes!("../../golden/format-0/log/00000001.seg");
const SECOND: &[u8] = include_bytes!("../../golden/format-0/log/00000002.seg");
const HEADER_BYTES: usize = 4096;
/// Where a segment's header states its salt, its base and its own checksum.
const SALT: std::ops::Range<usize> = 32..48;
const BASE: std::ops::Range<usize> = 48..56;
const CRC: std::ops::Range<usize> = 4092..4096;

fuzz_target!(|data: &[u8]| {
    let Some((how, data)) = data.split_first() else { return };
    let mut segment = SECOND[..HEADER_BYTES].to_vec();
    if how % 2 == 0 {
        segment.extend_from_slice(data);
    } else {
        segment.extend_from_slice(&batch(&segment, u32::from(*how) / 2, data));
    }

    let dir = Path::new("/store");
    let disk = SimDisk::new(1);
    disk.create_dir(dir).unwrap();
    disk.create_dir(&dir.join("log")).unwrap();
    disk.place(&dir.join("STORE"), NAME).unwrap();
    disk.place(&dir.join("log/00000001.seg"), FIRST).unwrap();
    disk.place(&dir.join("log/00000002.seg"), &segment).unwrap();
    check(&disk, dir, &mut |_| {}).unwrap();
    let options = Options { first_segment_bytes: 8192, ..Options::default() };
    let Ok(store) = Store::open(Arc::new(disk), dir, &options, &mut |_| {}) else { return };
    for record in store.log.scan(Position(0)).flatten() {
        assert!(record.end() <= store.log.watermark());
        if let Place::Conversation { conversation, lane, seq } = record.place
            && let Ok(Some(found)) = store.log.at(conversation, lane, seq)
        {
            assert_eq!(found.place, record.place);
        }
    }
    let _ = store.log.page(1, Lane::Public, 0, 100);
});

/// `frames` as the first batch of the segment that begins with `header`.
fn batch(header: &[u8], count: u32, frames: &[u8]) -> Vec<u8> {
    let base = u64::from_le_bytes(header[BASE].try_into().unwrap());
    let chain = u32::from_le_bytes(header[CRC].try_into().unwrap());
    let at = base + HEADER_BYTES as u64;
    let mut batch = b"LBAT".to_vec();
    batch.extend((48 + frames.len() as u32 + 4).to_le_bytes());
    batch.extend(count.to_le_bytes());
    batch.extend(0_u32.to_le_bytes());
    batch.extend(1_u64.to_le_bytes());
    batch.extend((at + 48).to_le_bytes());
    batch.extend(at.to_le_bytes());
    batch.extend(chain.to_le_bytes());
    batch.extend(crc_from(crc32fast::hash(&header[SALT]), &batch).to_le_bytes());
    batch.extend(frames);
    batch.extend(crc_from(chain, &batch).to_le_bytes());
    batch
}

fn crc_from(seed: u32, bytes: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new_with_initial(seed);
    hasher.update(bytes);
    hasher.finalize()
}
