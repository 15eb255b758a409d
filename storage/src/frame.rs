//! The frame of one record: a header of fixed layout, then the body.
//!
//! ```text
//!  0  crc           u32   CRC-32 of everything behind it, up to the end of the frame
//!  4  len           u32   bytes of the whole frame
//!  8  kind          u16   means something to the owner of the body only
//! 10  suite         u8    how the body is sealed; 0: plain
//! 11  class         u8    1 public lane, 2 staff lane, 3 register, 4 reads
//! 12  conversation  u64   0 for register and reads
//! 20  seq           u64   from 1; 0 for register and reads
//! 28  time_ms       u64
//! 36  body
//! ```
//!
//! Invariant: a frame carries its own CRC beside that of its batch, so that one record can be read
//! and believed without reading the batch around it.

use crate::fields::{put, u16_at, u32_at, u64_at};
use crate::record::{Lane, NewRecord, Place};

const CRC_AT: usize = 0;
const LEN_AT: usize = CRC_AT + 4;
const KIND_AT: usize = LEN_AT + 4;
const SUITE_AT: usize = KIND_AT + 2;
const CLASS_AT: usize = SUITE_AT + 1;
const CONVERSATION_AT: usize = CLASS_AT + 1;
const SEQ_AT: usize = CONVERSATION_AT + 8;
const TIME_AT: usize = SEQ_AT + 8;
pub(crate) const HEADER_BYTES: usize = TIME_AT + 8;

/// The longest body of one record.
pub const BODY_BYTES_MAX: usize = 512 << 10;

const SUITE_PLAIN: u8 = 0;
const CLASS_REGISTER: u8 = 3;
const CLASS_READS: u8 = 4;

/// What a frame's header says. The body is what lies behind `HEADER_BYTES`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) len: usize,
    pub(crate) place: Place,
    pub(crate) kind: u16,
    pub(crate) time_ms: u64,
}

pub(crate) fn encode(record: &NewRecord, out: &mut Vec<u8>) {
    assert!(record.body.len() <= BODY_BYTES_MAX, "a body is bounded before it comes here");
    let (class, conversation, seq) = match record.place {
        Place::Conversation { conversation, lane, seq } => (lane as u8, conversation, seq),
        Place::Register => (CLASS_REGISTER, 0, 0),
        Place::Reads => (CLASS_READS, 0, 0),
    };
    let len = HEADER_BYTES + record.body.len();
    let mut header = [0; HEADER_BYTES];
    put(&mut header, LEN_AT, (len as u32).to_le_bytes());
    put(&mut header, KIND_AT, record.kind.to_le_bytes());
    put(&mut header, SUITE_AT, [SUITE_PLAIN]);
    put(&mut header, CLASS_AT, [class]);
    put(&mut header, CONVERSATION_AT, conversation.to_le_bytes());
    put(&mut header, SEQ_AT, seq.to_le_bytes());
    put(&mut header, TIME_AT, record.time_ms.to_le_bytes());
    let start = out.len();
    out.extend_from_slice(&header);
    out.extend_from_slice(&record.body);
    let crc = crc32fast::hash(&out[start + LEN_AT..]);
    put(&mut out[start..], CRC_AT, crc.to_le_bytes());
}

/// Reads the header at the start of `bytes`. Says nothing about the CRC: see `is_intact`.
pub(crate) fn decode(bytes: &[u8]) -> Result<Frame, &'static str> {
    let frame = read_fields(bytes).ok_or("a record's frame is cut short")?;
    let (len, suite, class, conversation, seq) = frame;
    let len = usize::try_from(len).map_err(|_| "a record's length is impossible")?;
    let possible = HEADER_BYTES..=HEADER_BYTES + BODY_BYTES_MAX;
    if !possible.contains(&len) || len > bytes.len() {
        return Err("a record's length is impossible");
    }
    if suite != SUITE_PLAIN {
        return Err("a record is sealed in a way that this build does not know");
    }
    let in_lane = |lane| match seq {
        0 => Err("a record of a conversation has no seq"),
        seq => Ok(Place::Conversation { conversation, lane, seq }),
    };
    let place = match class {
        class if class == Lane::Public as u8 => in_lane(Lane::Public)?,
        class if class == Lane::Staff as u8 => in_lane(Lane::Staff)?,
        CLASS_REGISTER if conversation == 0 && seq == 0 => Place::Register,
        CLASS_READS if conversation == 0 && seq == 0 => Place::Reads,
        _ => return Err("a record's class is impossible"),
    };
    let kind = u16_at(bytes, KIND_AT).unwrap_or_default();
    let time_ms = u64_at(bytes, TIME_AT).unwrap_or_default();
    Ok(Frame { len, place, kind, time_ms })
}

/// Whether `frame`, which is exactly one frame, is what was written.
pub(crate) fn is_intact(frame: &[u8]) -> bool {
    let summed = frame.get(LEN_AT..).map(crc32fast::hash);
    summed.is_some() && summed == u32_at(frame, CRC_AT)
}

/// len, suite, class, conversation, seq.
fn read_fields(bytes: &[u8]) -> Option<(u32, u8, u8, u64, u64)> {
    let header = bytes.get(..HEADER_BYTES)?;
    Some((
        u32_at(header, LEN_AT)?,
        *header.get(SUITE_AT)?,
        *header.get(CLASS_AT)?,
        u64_at(header, CONVERSATION_AT)?,
        u64_at(header, SEQ_AT)?,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(place: Place, body: Vec<u8>) -> NewRecord {
        NewRecord { place, kind: 7, time_ms: 1_234, body }
    }

    fn encoded(record: &NewRecord) -> Vec<u8> {
        let mut bytes = Vec::new();
        encode(record, &mut bytes);
        bytes
    }

    #[test]
    fn every_place_comes_back() {
        let staff = Place::Conversation { conversation: u64::MAX, lane: Lane::Staff, seq: 1 };
        let public = Place::Conversation { conversation: 0, lane: Lane::Public, seq: u64::MAX };
        for place in [staff, public, Place::Register, Place::Reads] {
            let bytes = encoded(&record(place, b"hello".to_vec()));
            assert!(is_intact(&bytes));
            let expected = Frame { len: HEADER_BYTES + 5, place, kind: 7, time_ms: 1_234 };
            assert_eq!(decode(&bytes), Ok(expected));
        }
    }

    #[test]
    fn the_longest_body_fits_and_a_longer_one_is_refused() {
        for over in [0, 1] {
            let longest = encoded(&record(Place::Register, vec![1; BODY_BYTES_MAX - 1 + over]));
            assert!(decode(&longest).is_ok());
        }
        let mut longer = encoded(&record(Place::Register, vec![1; BODY_BYTES_MAX]));
        longer.push(1);
        let len = longer.len() as u32;
        put(&mut longer, LEN_AT, len.to_le_bytes());
        assert_eq!(decode(&longer), Err("a record's length is impossible"));
    }

    #[test]
    fn no_flipped_bit_goes_unseen() {
        let place = Place::Conversation { conversation: 9, lane: Lane::Public, seq: 3 };
        let bytes = encoded(&record(place, b"twelve bytes".to_vec()));
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(decode(&flipped).is_err() || !is_intact(&flipped), "bit {bit}");
        }
    }

    #[test]
    fn no_cut_frame_is_read() {
        let bytes = encoded(&record(Place::Reads, b"twelve bytes".to_vec()));
        for len in 0..bytes.len() {
            assert!(decode(&bytes[..len]).is_err(), "{len} bytes");
        }
    }

    #[test]
    fn impossible_headers_are_named() {
        let good = encoded(&record(Place::Register, Vec::new()));
        let cases: [(usize, u8, &str); 5] = [
            (SUITE_AT, 1, "a record is sealed in a way that this build does not know"),
            (CLASS_AT, 0, "a record's class is impossible"),
            (CLASS_AT, 5, "a record's class is impossible"),
            (SEQ_AT, 1, "a record's class is impossible"),
            (CLASS_AT, 1, "a record of a conversation has no seq"),
        ];
        for (at, byte, what) in cases {
            let mut bad = good.clone();
            bad[at] = byte;
            assert_eq!(decode(&bad), Err(what));
        }
    }
}
