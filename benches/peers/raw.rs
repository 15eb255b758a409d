//! What the disk gives: the bytes of our batches, written and synced by nobody in particular.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::Outcome;
use crate::lodge::Batches;

const FILE_BYTES: u64 = 256 << 20;
const BLOCK_BYTES: u64 = 4096;

pub(crate) struct Raw {
    file: File,
    bytes: Vec<u8>,
    offset: u64,
}

impl Raw {
    pub(crate) fn open(path: &Path) -> Outcome<Raw> {
        let file = File::create_new(path)?;
        let bytes = vec![0x4C; 8 << 20];
        for offset in (0..FILE_BYTES).step_by(bytes.len()) {
            file.write_all_at(&bytes, offset)?;
        }
        file.sync_all()?;
        Ok(Raw { file, bytes, offset: 0 })
    }

    /// Records a second in batches that are as large as `ours` were on average.
    pub(crate) fn round(&mut self, ours: &Batches, lasting: Duration) -> Outcome<f64> {
        let len = (ours.bytes_a_batch() as u64).next_multiple_of(BLOCK_BYTES);
        let bytes = self.bytes.get(..len as usize).ok_or("a batch of more than 8 MiB")?;
        let begun = Instant::now();
        let mut batches = 0;
        while begun.elapsed() < lasting {
            if self.offset + len > FILE_BYTES {
                self.offset = 0;
            }
            self.file.write_all_at(bytes, self.offset)?;
            self.file.sync_data()?;
            self.offset += len;
            batches += 1;
        }
        Ok(f64::from(batches) * ours.records_a_batch() / begun.elapsed().as_secs_f64())
    }
}
