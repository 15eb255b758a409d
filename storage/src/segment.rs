//! A segment: one preallocated file of the log. Its header, its name, and how its bytes are walked.
//!
//! The header fills the first block:
//!
//! ```text
//!     0  magic       8 bytes   "LODGELOG"
//!     8  version     u32
//!    12  number      u32       from 1 without holes, also in the file's name
//!    16  store       16 bytes  identity of the store, from STORE
//!    32  salt        16 bytes  random
//!    48  base        u64       Position of the file's first byte
//!    56  prev_end    u64       where the segment before ended; 0 for the first
//!    64  prev_chain  u32       trailer of its last batch
//!    68  zeros
//!  4092  crc         u32       CRC-32 of 0..4092; the first batch chains to it
//! ```
//!
//! Invariants: `base` is the base of the segment before plus `prev_end`, so Positions have no gap;
//! a header states for good where the segment before ends; a segment that was recovered or closed
//! is never written again.

use std::sync::Arc;
use std::sync::{PoisonError, RwLock};

use crate::batch::{self, BLOCK_BYTES, Batch, Ties};
use crate::error::Error;
use crate::fields::{array_at, put, u32_at, u64_at};
use crate::frame::{self, Frame};
use crate::index::{Index, Key};
use crate::mapping::Mapping;
use crate::record::{Place, Position, Record};

/// The longest file that is taken for a segment.
pub(crate) const SEGMENT_BYTES_MAX: u64 = 1 << 30;

/// No log comes this far, so a Position within a segment of a believed header cannot overflow.
const BASE_MAX: u64 = u64::MAX / 2;

pub(crate) const VERSION: u32 = 0;
const MAGIC: [u8; 8] = *b"LODGELOG";
const MAGIC_AT: usize = 0;
const VERSION_AT: usize = MAGIC_AT + 8;
const NUMBER_AT: usize = VERSION_AT + 4;
const STORE_AT: usize = NUMBER_AT + 4;
const SALT_AT: usize = STORE_AT + 16;
const BASE_AT: usize = SALT_AT + 16;
const PREV_END_AT: usize = BASE_AT + 8;
const PREV_CHAIN_AT: usize = PREV_END_AT + 8;
pub(crate) const HEADER_BYTES: usize = BLOCK_BYTES as usize;
const CRC_AT: usize = HEADER_BYTES - 4;

/// What a segment's first block says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) number: u32,
    pub(crate) store: [u8; 16],
    pub(crate) salt: [u8; 16],
    pub(crate) base: u64,
    pub(crate) prev_end: u64,
    pub(crate) prev_chain: u32,
}

/// Why a block is no header of ours.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum NoHeader {
    Damaged(&'static str),
    /// Whole, but not for this build.
    Future(u32),
}

impl Header {
    /// The block, and the CRC that the first batch chains to.
    pub(crate) fn encode(&self) -> (Vec<u8>, u32) {
        let mut block = vec![0; HEADER_BYTES];
        put(&mut block, MAGIC_AT, MAGIC);
        put(&mut block, VERSION_AT, VERSION.to_le_bytes());
        put(&mut block, NUMBER_AT, self.number.to_le_bytes());
        put(&mut block, STORE_AT, self.store);
        put(&mut block, SALT_AT, self.salt);
        put(&mut block, BASE_AT, self.base.to_le_bytes());
        put(&mut block, PREV_END_AT, self.prev_end.to_le_bytes());
        put(&mut block, PREV_CHAIN_AT, self.prev_chain.to_le_bytes());
        let crc = crc32fast::hash(&block[..CRC_AT]);
        put(&mut block, CRC_AT, crc.to_le_bytes());
        (block, crc)
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Header, NoHeader> {
        let block =
            bytes.get(..HEADER_BYTES).ok_or(NoHeader::Damaged("the header is cut short"))?;
        if array_at(block, MAGIC_AT) != Some(MAGIC) {
            return Err(NoHeader::Damaged("the header is not that of a segment"));
        }
        if u32_at(block, CRC_AT) != Some(crc32fast::hash(&block[..CRC_AT])) {
            return Err(NoHeader::Damaged("the checksum of the header is wrong"));
        }
        let version = u32_at(block, VERSION_AT).unwrap_or_default();
        if version != VERSION {
            return Err(NoHeader::Future(version));
        }
        let base = u64_at(block, BASE_AT).unwrap_or_default();
        let prev_end = u64_at(block, PREV_END_AT).unwrap_or_default();
        if base > BASE_MAX || prev_end > SEGMENT_BYTES_MAX {
            return Err(NoHeader::Damaged("the header names an impossible place"));
        }
        Ok(Header {
            number: u32_at(block, NUMBER_AT).unwrap_or_default(),
            store: array_at(block, STORE_AT).unwrap_or_default(),
            salt: array_at(block, SALT_AT).unwrap_or_default(),
            base,
            prev_end,
            prev_chain: u32_at(block, PREV_CHAIN_AT).unwrap_or_default(),
        })
    }

    /// What a batch at `offset` of this segment is tied to.
    pub(crate) fn ties(&self, offset: u64) -> Ties {
        Ties {
            salt_crc: crc32fast::hash(&self.salt),
            at: Position(self.base.saturating_add(offset)),
        }
    }
}

/// `0000002a.seg`
pub(crate) fn file_name(number: u32) -> String {
    format!("{number:08x}.seg")
}

/// The number in a segment's name; `None` for every other name.
pub(crate) fn number_of(name: &str, extension: &str) -> Option<u32> {
    let digits = name.strip_suffix(extension)?;
    let lower_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    if digits.len() != 8 || !digits.bytes().all(lower_hex) {
        return None;
    }
    u32::from_str_radix(digits, 16).ok().filter(|number| *number > 0)
}

/// A place where bytes are not what was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Damage {
    pub(crate) offset: u64,
    pub(crate) what: &'static str,
}

/// What a walk over a whole segment found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Walk {
    /// Behind the last whole batch.
    pub(crate) end: u64,
    /// Its trailer.
    pub(crate) chain: u32,
    pub(crate) batches: u64,
    pub(crate) records: u64,
    /// Damage that something durable lies behind; the first `DAMAGES_MAX` of it. A torn tail is
    /// none: there, nothing whole lies behind `end`.
    pub(crate) damage: Vec<Damage>,
}

/// So that a ruined segment cannot fill the memory with its findings.
const DAMAGES_MAX: usize = 64;

/// Walks the batches of a segment, from its header to the last one that is whole, and shows every
/// record. A bad batch ends the walk unless a later batch proves that it was durable: then it is
/// damage, and the walk goes on there, so that what is intact can still be read.
pub(crate) fn walk(bytes: &[u8], header: &Header, mut each: impl FnMut(u32, &Frame)) -> Walk {
    let (_, header_crc) = header.encode();
    let mut walk = Walk {
        end: HEADER_BYTES as u64,
        chain: header_crc,
        batches: 0,
        records: 0,
        damage: Vec::new(),
    };
    let mut number = 0_u64;
    loop {
        let at = walk.end;
        let (offset, batch, break_in_chain) = match batch_at(bytes, header, at) {
            Ok(batch)
                if batch.prev_crc == walk.chain && number.checked_add(1) == Some(batch.number) =>
            {
                (at, batch, None)
            }
            // Its salt and place are right, so it was written here; what it followed is gone.
            Ok(batch) => (at, batch, Some("a batch does not follow the one before it")),
            Err(what) => match proof_behind(bytes, header, at, number) {
                Some((offset, batch)) => (offset, batch, Some(what)),
                None => return walk,
            },
        };
        if let Some(what) = break_in_chain {
            walk.note(at, what);
        }
        number = batch.number;
        walk.chain = batch.crc;
        walk.end = offset + batch.padded_bytes();
        walk.batches += 1;
        let mut seen = 0;
        for frame in Frames::of(bytes, offset, &batch) {
            match frame {
                Ok((offset, frame)) => {
                    seen += 1;
                    each(offset, &frame);
                }
                Err(damage) => walk.note(damage.offset, damage.what),
            }
        }
        walk.records += u64::from(seen);
        if seen != batch.count {
            walk.note(offset, "a batch does not hold as many records as it says");
        }
    }
}

impl Walk {
    fn note(&mut self, offset: u64, what: &'static str) {
        if self.damage.len() < DAMAGES_MAX {
            self.damage.push(Damage { offset, what });
        }
    }
}

/// The batch at `offset`, every byte of it summed.
pub(crate) fn batch_at(bytes: &[u8], header: &Header, offset: u64) -> Result<Batch, &'static str> {
    batch::read(tail(bytes, offset), header.ties(offset))
}

/// The first whole batch behind a bad one at `bad` that says that `bad` was durable.
fn proof_behind(bytes: &[u8], header: &Header, bad: u64, number: u64) -> Option<(u64, Batch)> {
    let mut offset = bad + BLOCK_BYTES;
    while offset < bytes.len() as u64 {
        match batch_at(bytes, header, offset) {
            Ok(batch) if batch.number > number && batch.durable_upto.0 > header.base + bad => {
                return Some((offset, batch));
            }
            _ => offset += BLOCK_BYTES,
        }
    }
    None
}

fn tail(bytes: &[u8], offset: u64) -> &[u8] {
    usize::try_from(offset).ok().and_then(|at| bytes.get(at..)).unwrap_or_default()
}

/// The frames of one batch, with their offsets in the segment. Ends at the first bad one.
pub(crate) struct Frames<'a> {
    bytes: &'a [u8],
    at: usize,
    end: usize,
}

impl<'a> Frames<'a> {
    pub(crate) fn of(bytes: &'a [u8], batch_offset: u64, batch: &Batch) -> Frames<'a> {
        let start = usize::try_from(batch_offset).unwrap_or(usize::MAX);
        let frames = batch.frames();
        Frames {
            bytes,
            at: start.saturating_add(frames.start),
            end: start.saturating_add(frames.end).min(bytes.len()),
        }
    }
}

impl Iterator for Frames<'_> {
    type Item = Result<(u32, Frame), Damage>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.at >= self.end {
            return None;
        }
        let at = self.at;
        match frame::decode(&self.bytes[at..self.end]) {
            Ok(frame) => {
                self.at += frame.len;
                Some(Ok((at as u32, frame)))
            }
            Err(what) => {
                self.at = self.end;
                Some(Err(Damage { offset: at as u64, what }))
            }
        }
    }
}

/// A segment that can be read: its mapping, of which the durable part is readable, and its index.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) header: Header,
    pub(crate) bytes: Arc<Mapping>,
    /// In memory while the segment is written, a file beside it afterwards.
    index: RwLock<Index>,
}

impl Segment {
    pub(crate) fn new(header: Header, bytes: Mapping, index: Index) -> Segment {
        Segment { header, bytes: Arc::new(bytes), index: RwLock::new(index) }
    }

    /// Position behind the readable part.
    pub(crate) fn end(&self) -> Position {
        Position(self.header.base + self.bytes.readable() as u64)
    }

    pub(crate) fn with_index<R>(&self, read: impl FnOnce(&Index) -> R) -> R {
        read(&self.index.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn change_index<R>(&self, change: impl FnOnce(&mut Index) -> R) -> R {
        change(&mut self.index.write().unwrap_or_else(PoisonError::into_inner))
    }

    /// Reads the record that the index says stands at `offset`, and believes neither before the
    /// frame's own checksum and its place agree.
    pub(crate) fn record_of(&self, key: Key, seq: u64, offset: u32) -> Result<Record, Error> {
        let damaged = |what| self.corrupt(u64::from(offset), what);
        if offset == 0 {
            return Err(damaged("a record was lost with the bytes around it"));
        }
        let start = offset as usize;
        let all = self.bytes.readable();
        let most = all.min(start.saturating_add(frame::HEADER_BYTES + frame::BODY_BYTES_MAX));
        let bytes = self.bytes.slice(start..most).ok_or_else(|| damaged("no record is here"))?;
        let frame = frame::decode(bytes).map_err(damaged)?;
        if !frame::is_intact(&bytes[..frame.len]) {
            return Err(damaged("the checksum of a record is wrong"));
        }
        let (conversation, lane) = key;
        if frame.place != (Place::Conversation { conversation, lane, seq }) {
            return Err(damaged("another record stands where the index points"));
        }
        Ok(self.record(offset, &frame))
    }

    /// A frame that was found intact, as a record.
    pub(crate) fn record(&self, offset: u32, frame: &Frame) -> Record {
        let start = offset as usize;
        Record {
            position: Position(self.header.base + u64::from(offset)),
            place: frame.place,
            kind: frame.kind,
            time_ms: frame.time_ms,
            bytes: self.bytes.clone(),
            body: start + frame::HEADER_BYTES..start + frame.len,
        }
    }

    pub(crate) fn corrupt(&self, offset: u64, what: &'static str) -> Error {
        Error::Corrupt { segment: self.header.number, offset, what }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch;

    const HEADER: Header =
        Header { number: 1, store: [1; 16], salt: [2; 16], base: 0, prev_end: 0, prev_chain: 0 };

    #[test]
    fn a_header_that_names_an_impossible_place_is_damage() {
        for (base, prev_end, taken) in [
            (BASE_MAX, SEGMENT_BYTES_MAX, true),
            (BASE_MAX + 1, 0, false),
            (u64::MAX, 0, false),
            (0, SEGMENT_BYTES_MAX + 1, false),
            (0, u64::MAX, false),
        ] {
            let (block, _) = Header { base, prev_end, ..HEADER }.encode();
            assert_eq!(Header::decode(&block).is_ok(), taken, "{base} {prev_end}");
        }
    }

    /// Its sums are right, as whoever can write the file can make them.
    #[test]
    fn a_batch_with_the_last_of_all_numbers_is_walked_over() {
        let (mut bytes, mut chain) = HEADER.encode();
        for number in [u64::MAX, 0] {
            let ties = HEADER.ties(bytes.len() as u64);
            let mut out = Vec::new();
            batch::begin(&mut out);
            chain = batch::seal(&mut out, ties, 0, number, ties.at, chain);
            bytes.extend(out);
        }
        let walk = walk(&bytes, &HEADER, |_, _| {});
        assert_eq!((walk.batches, walk.damage.len()), (2, 2));
    }
}
