//! Where the records of each (conversation, lane) lie in one segment.
//!
//! While a segment is written its index is in memory; when it is closed the same content is put in
//! a file beside it and mapped. The file is never evidence about the log: it is believed only when
//! its checksums and the segment's salt, end and chain agree, and is made again otherwise.
//!
//! ```text
//!  0  magic      8 bytes   "LODGEIDX"
//!  8  version    u32
//! 12  segment    u32       its number
//! 16  salt       16 bytes  its salt
//! 32  end        u64       behind its last batch
//! 40  chain      u32       trailer of its last batch
//! 44  runs       u32
//! 48  offsets    u32
//! 52  batches    u32
//! 56  body_crc   u32       CRC-32 of everything behind the header
//! 60  crc        u32       CRC-32 of 0..60
//! 64  runs, sorted by (conversation, lane), 32 bytes each:
//!      0  conversation  u64
//!      8  first_seq     u64
//!     16  first         u32   of its offsets, as an index into all offsets
//!     20  count         u32
//!     24  lane          u8    then 7 zeros
//!     offsets, u32 each, of frames in the segment; 0: that record was lost to damage
//! ```
//!
//! Invariants: Seq has no holes within a lane, so a run needs its first Seq only; a record enters
//! the index before it is written and is found only once it is durable, so a Seq that does not
//! follow is met before it reaches the disk.

use std::collections::HashMap;

use crate::fields::{array_at, put, u32_at, u64_at};
use crate::mapping::Mapping;
use crate::record::{Lane, Place};
use crate::segment::Header;

pub(crate) type Key = (u64, Lane);

pub(crate) const VERSION: u32 = 0;
const MAGIC: [u8; 8] = *b"LODGEIDX";
const MAGIC_AT: usize = 0;
const VERSION_AT: usize = MAGIC_AT + 8;
const SEGMENT_AT: usize = VERSION_AT + 4;
const SALT_AT: usize = SEGMENT_AT + 4;
const END_AT: usize = SALT_AT + 16;
const CHAIN_AT: usize = END_AT + 8;
const RUNS_AT: usize = CHAIN_AT + 4;
const OFFSETS_AT: usize = RUNS_AT + 4;
const BATCHES_AT: usize = OFFSETS_AT + 4;
const BODY_CRC_AT: usize = BATCHES_AT + 4;
const CRC_AT: usize = BODY_CRC_AT + 4;
const HEADER_BYTES: usize = CRC_AT + 4;

const RUN_CONVERSATION_AT: usize = 0;
const RUN_FIRST_SEQ_AT: usize = RUN_CONVERSATION_AT + 8;
const RUN_FIRST_AT: usize = RUN_FIRST_SEQ_AT + 8;
const RUN_COUNT_AT: usize = RUN_FIRST_AT + 4;
const RUN_LANE_AT: usize = RUN_COUNT_AT + 4;
const RUN_BYTES: usize = RUN_LANE_AT + 8;

pub(crate) const NOT_FOLLOWING: &str = "a record's seq does not follow the one before it";

/// The records of one lane that one segment holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) first_seq: u64,
    pub(crate) count: u64,
}

impl Span {
    pub(crate) fn last_seq(&self) -> u64 {
        self.first_seq.saturating_add(self.count).saturating_sub(1)
    }
}

#[derive(Debug)]
pub(crate) enum Index {
    Hot(HotIndex),
    Filed(FiledIndex),
}

impl Index {
    /// The records of `key` that lie before `readable`.
    pub(crate) fn run(&self, key: Key, readable: usize) -> Option<Run<'_>> {
        match self {
            Index::Hot(hot) => hot.runs.get(&key)?.before(readable),
            Index::Filed(filed) => filed.find(key).map(|run| Run::Filed(filed, run)),
        }
    }
}

/// One lane's records in one segment.
pub(crate) enum Run<'a> {
    Hot { first_seq: u64, offsets: &'a [u32] },
    Filed(&'a FiledIndex, FiledRun),
}

impl Run<'_> {
    pub(crate) fn span(&self) -> Span {
        match self {
            Run::Hot { first_seq, offsets } => {
                Span { first_seq: *first_seq, count: offsets.len() as u64 }
            }
            Run::Filed(_, run) => run.span,
        }
    }

    /// Pushes (seq, offset) of up to `limit` records from `from_seq` on.
    pub(crate) fn offsets(&self, from_seq: u64, limit: usize, out: &mut Vec<(u64, u32)>) {
        let span = self.span();
        let from_seq = from_seq.max(span.first_seq);
        let skip = from_seq - span.first_seq;
        let left = usize::try_from(span.count.saturating_sub(skip)).unwrap_or(usize::MAX);
        for step in 0..left.min(limit) as u64 {
            if let Some(offset) = self.offset(skip + step) {
                out.push((from_seq.saturating_add(step), offset));
            }
        }
    }

    /// The first Seq whose record stands at or behind `offset`.
    pub(crate) fn seq_from(&self, offset: u64) -> Option<u64> {
        let span = self.span();
        let (mut low, mut high) = (0, span.count);
        while low < high {
            let middle = low + (high - low) / 2;
            match self.offset(middle) {
                // Offsets rise, except that a lost record has none: then only a walk tells.
                Some(0) => return self.seq_from_slowly(span, offset),
                Some(found) if u64::from(found) < offset => low = middle + 1,
                _ => high = middle,
            }
        }
        (low < span.count).then(|| span.first_seq.saturating_add(low))
    }

    fn seq_from_slowly(&self, span: Span, offset: u64) -> Option<u64> {
        (0..span.count)
            .find(|nth| self.offset(*nth).is_some_and(|found| u64::from(found) >= offset))
            .map(|nth| span.first_seq.saturating_add(nth))
    }

    fn offset(&self, nth: u64) -> Option<u32> {
        let nth = usize::try_from(nth).ok()?;
        match self {
            Run::Hot { offsets, .. } => offsets.get(nth).copied(),
            Run::Filed(filed, run) => filed.offset(run, nth),
        }
    }
}

/// The index of a segment that is being written, or that was just read.
#[derive(Debug, Default)]
pub(crate) struct HotIndex {
    runs: HashMap<Key, HotRun>,
    offsets: usize,
}

#[derive(Debug)]
struct HotRun {
    first_seq: u64,
    offsets: Vec<u32>,
}

impl HotRun {
    fn next_seq(&self) -> u64 {
        self.first_seq.saturating_add(self.offsets.len() as u64)
    }

    /// The index runs ahead of the disk: what is not yet durable is not yet there.
    fn before(&self, readable: usize) -> Option<Run<'_>> {
        let durable = match self.offsets.last() {
            Some(last) if (*last as usize) < readable => self.offsets.len(),
            _ => self.offsets.partition_point(|offset| (*offset as usize) < readable),
        };
        let offsets = self.offsets.get(..durable)?;
        (durable > 0).then_some(Run::Hot { first_seq: self.first_seq, offsets })
    }
}

impl HotIndex {
    /// Adds a record. Register and reads are found by Position alone and stand in no index.
    pub(crate) fn push(&mut self, place: Place, offset: u32) -> Result<(), &'static str> {
        let Place::Conversation { conversation, lane, seq } = place else { return Ok(()) };
        let run = self
            .runs
            .entry((conversation, lane))
            .or_insert_with(|| HotRun { first_seq: seq, offsets: Vec::new() });
        if seq != run.next_seq() {
            return Err(NOT_FOLLOWING);
        }
        run.offsets.push(offset);
        self.offsets += 1;
        Ok(())
    }

    /// Adds a record behind damage that swallowed others of its lane: their places stay empty.
    pub(crate) fn push_behind_damage(
        &mut self,
        place: Place,
        offset: u32,
    ) -> Result<(), &'static str> {
        if let Place::Conversation { conversation, lane, seq } = place
            && let Some(run) = self.runs.get_mut(&(conversation, lane))
        {
            let lost = seq.saturating_sub(run.next_seq());
            // No segment can have held more records than its bytes make headers.
            let lost_max = crate::segment::SEGMENT_BYTES_MAX / crate::frame::HEADER_BYTES as u64;
            if lost > 0 && lost < lost_max {
                run.offsets.extend((0..lost).map(|_| 0));
                self.offsets += lost as usize;
            }
        }
        self.push(place, offset)
    }

    /// The file of this index, for the closed segment that `header`, `end` and `chain` name.
    pub(crate) fn encode(&self, header: &Header, end: u64, chain: u32, batches: u64) -> Vec<u8> {
        let mut runs: Vec<(&Key, &HotRun)> = self.runs.iter().collect();
        runs.sort_unstable_by_key(|(key, _)| **key);
        let body_bytes = runs.len() * RUN_BYTES + self.offsets * 4;
        let mut file = vec![0; HEADER_BYTES];
        file.reserve_exact(body_bytes);
        let mut first = 0_u32;
        for ((conversation, lane), run) in &runs {
            let mut row = [0; RUN_BYTES];
            put(&mut row, RUN_CONVERSATION_AT, conversation.to_le_bytes());
            put(&mut row, RUN_FIRST_SEQ_AT, run.first_seq.to_le_bytes());
            put(&mut row, RUN_FIRST_AT, first.to_le_bytes());
            put(&mut row, RUN_COUNT_AT, (run.offsets.len() as u32).to_le_bytes());
            put(&mut row, RUN_LANE_AT, [*lane as u8]);
            file.extend_from_slice(&row);
            first += run.offsets.len() as u32;
        }
        for (_, run) in &runs {
            for offset in &run.offsets {
                file.extend_from_slice(&offset.to_le_bytes());
            }
        }
        put(&mut file, MAGIC_AT, MAGIC);
        put(&mut file, VERSION_AT, VERSION.to_le_bytes());
        put(&mut file, SEGMENT_AT, header.number.to_le_bytes());
        put(&mut file, SALT_AT, header.salt);
        put(&mut file, END_AT, end.to_le_bytes());
        put(&mut file, CHAIN_AT, chain.to_le_bytes());
        put(&mut file, RUNS_AT, (runs.len() as u32).to_le_bytes());
        put(&mut file, OFFSETS_AT, (self.offsets as u32).to_le_bytes());
        put(&mut file, BATCHES_AT, (batches as u32).to_le_bytes());
        let body_crc = crc32fast::hash(&file[HEADER_BYTES..]);
        put(&mut file, BODY_CRC_AT, body_crc.to_le_bytes());
        let crc = crc32fast::hash(&file[..CRC_AT]);
        put(&mut file, CRC_AT, crc.to_le_bytes());
        file
    }
}

/// The index of a closed segment, mapped.
#[derive(Debug)]
pub(crate) struct FiledIndex {
    file: Mapping,
    runs: usize,
    offsets: usize,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct FiledRun {
    span: Span,
    first: usize,
}

/// `0000002a.idx`
pub(crate) fn file_name(number: u32) -> String {
    format!("{number:08x}.idx")
}

impl FiledIndex {
    /// Believes a mapped file only if it is whole and speaks of this segment in this state.
    pub(crate) fn open(file: Mapping, header: &Header, end: u64, chain: u32) -> Option<FiledIndex> {
        file.publish(file.len());
        let bytes = file.slice(0..file.len())?;
        let head = bytes.get(..HEADER_BYTES)?;
        let body = bytes.get(HEADER_BYTES..)?;
        let runs = u32_at(head, RUNS_AT)? as usize;
        let offsets = u32_at(head, OFFSETS_AT)? as usize;
        let believed = array_at(head, MAGIC_AT)? == MAGIC
            && u32_at(head, VERSION_AT)? == VERSION
            && u32_at(head, CRC_AT)? == crc32fast::hash(&head[..CRC_AT])
            && u32_at(head, SEGMENT_AT)? == header.number
            && array_at(head, SALT_AT)? == header.salt
            && u64_at(head, END_AT)? == end
            && u32_at(head, CHAIN_AT)? == chain
            && Some(body.len())
                == runs.checked_mul(RUN_BYTES)?.checked_add(offsets.checked_mul(4)?)
            && u32_at(head, BODY_CRC_AT)? == crc32fast::hash(body);
        believed.then_some(FiledIndex { file, runs, offsets })
    }

    fn find(&self, key: Key) -> Option<FiledRun> {
        let (mut low, mut high) = (0, self.runs);
        while low < high {
            let middle = low + (high - low) / 2;
            let at = HEADER_BYTES + middle * RUN_BYTES;
            let row = self.file.slice(at..at + RUN_BYTES)?;
            let found = (u64_at(row, RUN_CONVERSATION_AT)?, *row.get(RUN_LANE_AT)?);
            match found.cmp(&(key.0, key.1 as u8)) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
                std::cmp::Ordering::Equal => {
                    let span = Span {
                        first_seq: u64_at(row, RUN_FIRST_SEQ_AT)?,
                        count: u64::from(u32_at(row, RUN_COUNT_AT)?),
                    };
                    let first = u32_at(row, RUN_FIRST_AT)? as usize;
                    // Checksums do not keep a row from claiming offsets that are not there.
                    let end = first.checked_add(usize::try_from(span.count).ok()?)?;
                    let possible = span.count > 0 && end <= self.offsets;
                    return possible.then_some(FiledRun { span, first });
                }
            }
        }
        None
    }

    fn offset(&self, run: &FiledRun, nth: usize) -> Option<u32> {
        let at = HEADER_BYTES + self.runs * RUN_BYTES + run.first.checked_add(nth)? * 4;
        u32_at(self.file.slice(at..at + 4)?, 0)
    }
}
