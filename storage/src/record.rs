//! A record as the rest of the house sees it: where it stands, where it belongs, and its bytes.
//!
//! Invariants: a `Position` orders the whole log and rises strictly; a `Record` handed out is
//! durable and its bytes never change again, because it lies below the watermark.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use crate::mapping::Mapping;

/// The place of a record in the whole log: the base of its segment plus the offset of its frame.
/// As a cursor it means "the next record at or behind here"; zero is the beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Position(pub u64);

/// A conversation has two lanes, and a record belongs to exactly one of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Lane {
    Public = 1,
    Staff = 2,
}

/// Where a record belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Place {
    /// Accounts, rules, settings: ordered by Position alone.
    Register,
    /// What staff looked at: ordered by Position alone.
    Reads,
    /// Seq counts the records of one lane from 1 without holes.
    Conversation { conversation: u64, lane: Lane, seq: u64 },
}

/// A record that is to be written. `kind` and `body` mean nothing to this crate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewRecord {
    pub place: Place,
    pub kind: u16,
    pub time_ms: u64,
    pub body: Vec<u8>,
}

impl NewRecord {
    /// What it takes in the log: the next record of its group lies this far behind it.
    pub fn frame_bytes(&self) -> u64 {
        (crate::frame::HEADER_BYTES + self.body.len()) as u64
    }
}

/// A durable record. The body borrows the mapped segment, which lives as long as the record does.
#[derive(Clone)]
pub struct Record {
    pub position: Position,
    pub place: Place,
    pub kind: u16,
    pub time_ms: u64,
    pub(crate) bytes: Arc<Mapping>,
    /// Where the body lies in `bytes`. It was checked against the readable part when it was made.
    pub(crate) body: Range<usize>,
}

impl Record {
    pub fn body(&self) -> &[u8] {
        self.bytes.slice(self.body.clone()).unwrap_or_default()
    }

    /// The cursor just behind this record.
    pub fn end(&self) -> Position {
        Position(self.position.0 + (crate::frame::HEADER_BYTES + self.body.len()) as u64)
    }
}

impl fmt::Debug for Record {
    /// The body stays out of it: text of customers must not reach a log line by accident.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Record")
            .field("position", &self.position)
            .field("place", &self.place)
            .field("kind", &self.kind)
            .field("time_ms", &self.time_ms)
            .field("body_bytes", &self.body.len())
            .finish()
    }
}
