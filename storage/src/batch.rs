//! A batch: what one write and one sync carry. Frames between a header and a trailer, padded with
//! zeros to a whole block, so that no block that holds acknowledged bytes is ever written again.
//!
//! ```text
//!  0  magic         u32   "LBAT"
//!  4  len           u32   header, frames and trailer, without the padding
//!  8  count         u32   records; 0: the batch only states the watermark
//! 12  flags         u32   0
//! 16  number        u64   of this batch in its segment, from 1
//! 24  first         u64   Position of the first frame
//! 32  durable_upto  u64   Position below which everything was synced when this was built
//! 40  prev_crc      u32   trailer of the batch before; for the first, the segment header's CRC
//! 44  header_crc    u32   CRC-32 of 0..44, begun from the CRC-32 of the segment's salt
//! 48  frames
//!     crc           u32   CRC-32 of all before it, begun from prev_crc
//! ```
//!
//! Invariants: a batch is believed only in the segment whose salt began its header's CRC, only at
//! the offset that `first` names, and in a walk only behind the batch whose trailer it names. So
//! neither an earlier life of the block, nor a write that went astray, nor a body that looks like
//! a batch passes for one.

use crate::fields::{crc_from, put, u32_at, u64_at};
use crate::record::Position;

pub(crate) const BLOCK_BYTES: u64 = 4096;

const MAGIC: u32 = u32::from_le_bytes(*b"LBAT");
const MAGIC_AT: usize = 0;
const LEN_AT: usize = MAGIC_AT + 4;
const COUNT_AT: usize = LEN_AT + 4;
const FLAGS_AT: usize = COUNT_AT + 4;
const NUMBER_AT: usize = FLAGS_AT + 4;
const FIRST_AT: usize = NUMBER_AT + 8;
const DURABLE_AT: usize = FIRST_AT + 8;
const PREV_CRC_AT: usize = DURABLE_AT + 8;
const HEADER_CRC_AT: usize = PREV_CRC_AT + 4;
pub(crate) const HEADER_BYTES: usize = HEADER_CRC_AT + 4;
pub(crate) const TRAILER_BYTES: usize = 4;

/// A batch takes no further group beyond this many bytes of frames.
pub(crate) const BATCH_BYTES_FULL: usize = 4 << 20;
/// The frames of one group, which is never split.
pub const GROUP_BYTES_MAX: usize = 1 << 20;
/// So no batch is longer than this.
pub(crate) const BATCH_BYTES_MAX: usize = BATCH_BYTES_FULL + GROUP_BYTES_MAX + BLOCK_BYTES as usize;

/// What a batch says about itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Batch {
    /// Header, frames and trailer.
    pub(crate) len: usize,
    pub(crate) count: u32,
    pub(crate) number: u64,
    pub(crate) durable_upto: Position,
    pub(crate) prev_crc: u32,
    /// The trailer: what the next batch chains to.
    pub(crate) crc: u32,
}

impl Batch {
    /// The bytes that it takes in the file.
    pub(crate) fn padded_bytes(&self) -> u64 {
        padded(self.len as u64)
    }

    /// Where its frames lie, seen from its own start.
    pub(crate) fn frames(&self) -> std::ops::Range<usize> {
        HEADER_BYTES..self.len - TRAILER_BYTES
    }
}

/// What a batch is tied to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ties {
    /// CRC-32 of the segment's salt.
    pub(crate) salt_crc: u32,
    /// Position of the batch's own first byte.
    pub(crate) at: Position,
}

/// Makes `out` an empty batch that frames can be pushed to.
pub(crate) fn begin(out: &mut Vec<u8>) {
    out.clear();
    out.resize(HEADER_BYTES, 0);
}

/// Turns the frames pushed since `begin` into a whole, padded batch. Answers its trailer.
pub(crate) fn seal(
    out: &mut Vec<u8>,
    ties: Ties,
    count: u32,
    number: u64,
    durable_upto: Position,
    prev_crc: u32,
) -> u32 {
    let len = out.len() + TRAILER_BYTES;
    put(out, MAGIC_AT, MAGIC.to_le_bytes());
    put(out, LEN_AT, (len as u32).to_le_bytes());
    put(out, COUNT_AT, count.to_le_bytes());
    put(out, FLAGS_AT, 0_u32.to_le_bytes());
    put(out, NUMBER_AT, number.to_le_bytes());
    put(out, FIRST_AT, (ties.at.0 + HEADER_BYTES as u64).to_le_bytes());
    put(out, DURABLE_AT, durable_upto.0.to_le_bytes());
    put(out, PREV_CRC_AT, prev_crc.to_le_bytes());
    let header_crc = crc_from(ties.salt_crc, &out[..HEADER_CRC_AT]);
    put(out, HEADER_CRC_AT, header_crc.to_le_bytes());
    let crc = crc_from(prev_crc, out);
    out.extend_from_slice(&crc.to_le_bytes());
    out.resize(padded(len as u64) as usize, 0);
    crc
}

/// The bytes that a batch with `frame_bytes` of frames will take in the file.
pub(crate) fn padded_for(frame_bytes: usize) -> u64 {
    padded((HEADER_BYTES + frame_bytes + TRAILER_BYTES) as u64)
}

/// Reads a batch's header at the start of `bytes`; the frames behind it are not looked at.
pub(crate) fn read_header(bytes: &[u8], ties: Ties) -> Result<Batch, &'static str> {
    let header = bytes.get(..HEADER_BYTES).ok_or("a batch is cut short")?;
    if u32_at(header, MAGIC_AT) != Some(MAGIC) {
        return Err("no batch begins here");
    }
    let summed = crc_from(ties.salt_crc, &header[..HEADER_CRC_AT]);
    if u32_at(header, HEADER_CRC_AT) != Some(summed) {
        return Err("the checksum of a batch's header is wrong");
    }
    if u64_at(header, FIRST_AT) != ties.at.0.checked_add(HEADER_BYTES as u64) {
        return Err("a batch stands where it was not written");
    }
    if u32_at(header, FLAGS_AT) != Some(0) {
        return Err("a batch has flags that this build does not know");
    }
    let len = u32_at(header, LEN_AT).unwrap_or_default() as usize;
    if len < HEADER_BYTES + TRAILER_BYTES || len > bytes.len() {
        return Err("a batch is cut short");
    }
    Ok(Batch {
        len,
        count: u32_at(header, COUNT_AT).unwrap_or_default(),
        number: u64_at(header, NUMBER_AT).unwrap_or_default(),
        durable_upto: Position(u64_at(header, DURABLE_AT).unwrap_or_default()),
        prev_crc: u32_at(header, PREV_CRC_AT).unwrap_or_default(),
        crc: u32_at(bytes, len - TRAILER_BYTES).unwrap_or_default(),
    })
}

/// Reads a whole batch at the start of `bytes` and sums every byte of it.
pub(crate) fn read(bytes: &[u8], ties: Ties) -> Result<Batch, &'static str> {
    let batch = read_header(bytes, ties)?;
    let summed = bytes.get(..batch.len - TRAILER_BYTES).map(|all| crc_from(batch.prev_crc, all));
    if summed != Some(batch.crc) {
        return Err("the checksum of a batch is wrong");
    }
    Ok(batch)
}

fn padded(bytes: u64) -> u64 {
    bytes.next_multiple_of(BLOCK_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIES: Ties = Ties { salt_crc: 77, at: Position(8192) };

    fn sealed(frames: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        begin(&mut bytes);
        bytes.extend_from_slice(frames);
        seal(&mut bytes, TIES, 3, 9, Position(8192), 1234);
        bytes
    }

    #[test]
    fn a_batch_comes_back_and_fills_whole_blocks() {
        let most = BLOCK_BYTES as usize - HEADER_BYTES - TRAILER_BYTES;
        for (frame_bytes, blocks) in [(0, 1), (most - 1, 1), (most, 1), (most + 1, 2)] {
            let bytes = sealed(&vec![5; frame_bytes]);
            assert_eq!(bytes.len() as u64, blocks * BLOCK_BYTES);
            assert_eq!(bytes.len() as u64, padded_for(frame_bytes));
            let batch = read(&bytes, TIES).unwrap();
            assert_eq!(batch.frames().len(), frame_bytes);
            assert_eq!((batch.count, batch.number, batch.prev_crc), (3, 9, 1234));
            assert_eq!(batch.durable_upto, Position(8192));
        }
    }

    #[test]
    fn no_flipped_bit_goes_unseen() {
        let bytes = sealed(b"some frames");
        let len = read(&bytes, TIES).unwrap().len;
        for bit in 0..len * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(read(&flipped, TIES).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn a_batch_is_believed_only_in_its_segment_and_at_its_place() {
        let bytes = sealed(b"some frames");
        assert!(read(&bytes, Ties { salt_crc: 78, ..TIES }).is_err());
        assert!(read(&bytes, Ties { at: Position(4096), ..TIES }).is_err());
        assert!(read(&bytes, Ties { at: Position(u64::MAX), ..TIES }).is_err());
    }

    #[test]
    fn no_cut_batch_is_read() {
        let bytes = sealed(b"some frames");
        let len = read(&bytes, TIES).unwrap().len;
        for cut in 0..len {
            assert!(read(&bytes[..cut], TIES).is_err(), "{cut} bytes");
        }
    }
}
