//! Reading everything, in Position order: how a projection is rebuilt and how a mirror follows.
//!
//! Every batch is summed once when it is entered, so its records need no sum of their own. Damage
//! is answered once, as an error that says where, and the scan goes on behind it: the caller
//! decides whether it can use what comes after a hole.

use std::sync::Arc;

use crate::batch::{self, BATCH_BYTES_MAX, BLOCK_BYTES, Batch};
use crate::error::Error;
use crate::frame;
use crate::log::Shared;
use crate::record::{Position, Record};
use crate::segment::{self, Segment};

/// How much of a closed segment is brought into memory at once, before it is touched.
const POPULATE_BYTES: usize = 2 * BATCH_BYTES_MAX;

/// The records from a cursor up to the watermark of the call.
#[derive(Debug)]
pub struct Scan {
    log: Arc<Shared>,
    segments: Arc<Vec<Arc<Segment>>>,
    next_segment: usize,
    from: Position,
    upto: Position,
    reading: Option<Reading>,
}

/// Where the scan stands in one segment.
#[derive(Debug)]
struct Reading {
    segment: Arc<Segment>,
    /// Behind the last byte to read.
    end: usize,
    /// The next batch.
    batch: usize,
    /// The next frame of the batch that was entered, and where its frames end.
    frame: usize,
    frames_end: usize,
    /// The pages before this one are in memory.
    populated: usize,
    /// Nothing is written to this segment any more.
    closed: bool,
}

impl Scan {
    pub(crate) fn new(
        log: Arc<Shared>,
        segments: Arc<Vec<Arc<Segment>>>,
        from: Position,
        upto: Position,
    ) -> Scan {
        let next_segment = segments.partition_point(|segment| segment.end() <= from);
        Scan { log, segments, next_segment, from, upto, reading: None }
    }
}

impl Iterator for Scan {
    type Item = Result<Record, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let Some(reading) = &mut self.reading else {
                let segment = self.segments.get(self.next_segment)?.clone();
                if segment.header.base >= self.upto.0 {
                    return None;
                }
                self.next_segment += 1;
                let closed = self.next_segment < self.segments.len();
                self.reading = Some(Reading::begin(segment, closed, self.from, self.upto));
                continue;
            };
            match reading.next(self.from) {
                Some(Ok(record)) => return Some(Ok(record)),
                Some(Err(error)) => {
                    self.log.note_damage(&error);
                    return Some(Err(error));
                }
                None => {
                    if reading.closed {
                        // Whoever replays a long history should not end up owning all of it.
                        reading.segment.bytes.forget();
                    }
                    self.reading = None;
                }
            }
        }
    }
}

impl Reading {
    fn begin(segment: Arc<Segment>, closed: bool, from: Position, upto: Position) -> Reading {
        let base = segment.header.base;
        let asked = usize::try_from(upto.0.saturating_sub(base)).unwrap_or(usize::MAX);
        let wanted = usize::try_from(from.0.saturating_sub(base)).unwrap_or(usize::MAX);
        let end = segment.bytes.readable().min(asked);
        let batch = batch_holding(&segment, wanted);
        // What is being written is in memory anyway.
        let populated = if closed { 0 } else { end };
        Reading { segment, end, batch, frame: 0, frames_end: 0, populated, closed }
    }

    fn next(&mut self, from: Position) -> Option<Result<Record, Error>> {
        loop {
            while self.frame < self.frames_end {
                match self.read_frame() {
                    Ok(record) if record.position >= from => return Some(Ok(record)),
                    Ok(_) => {}
                    Err(error) => return Some(Err(error)),
                }
            }
            if self.batch >= self.end {
                return None;
            }
            if let Err(error) = self.enter_batch() {
                return Some(Err(error));
            }
        }
    }

    fn read_frame(&mut self) -> Result<Record, Error> {
        let at = self.frame;
        let bytes = self.segment.bytes.slice(at..self.frames_end).unwrap_or_default();
        match frame::decode(bytes) {
            Ok(frame) => {
                self.frame += frame.len;
                Ok(self.segment.record(at as u32, &frame))
            }
            Err(what) => {
                self.frame = self.frames_end;
                Err(self.segment.corrupt(at as u64, what))
            }
        }
    }

    /// Reads the batch at `self.batch`; on damage stands behind it, at the next one that is whole.
    fn enter_batch(&mut self) -> Result<(), Error> {
        let at = self.batch;
        let read = self.populate(at).and_then(|()| self.batch_at(at));
        match read {
            Ok(batch) => {
                self.frame = at + batch.frames().start;
                self.frames_end = at + batch.frames().end;
                self.batch = at + batch.padded_bytes() as usize;
                Ok(())
            }
            Err(what) => {
                self.batch = at + BLOCK_BYTES as usize;
                while self.batch < self.end && self.batch_at(self.batch).is_err() {
                    self.batch += BLOCK_BYTES as usize;
                }
                Err(self.segment.corrupt(at as u64, what))
            }
        }
    }

    fn batch_at(&self, at: usize) -> Result<Batch, &'static str> {
        let bytes = self.segment.bytes.slice(at..self.end).unwrap_or_default();
        batch::read(bytes, self.segment.header.ties(at as u64))
    }

    fn populate(&mut self, at: usize) -> Result<(), &'static str> {
        if self.populated >= self.end.min(at.saturating_add(BATCH_BYTES_MAX)) {
            return Ok(());
        }
        let from = self.populated.max(at);
        self.populated = at.saturating_add(POPULATE_BYTES).min(self.end);
        let pages = from..self.populated;
        self.segment.bytes.populate(pages).map_err(|_| "the disk cannot read this")
    }
}

/// The offset of the batch that holds `wanted`. Looked for backwards from there, because batches
/// begin at block boundaries and nearly all are short.
fn batch_holding(segment: &Segment, wanted: usize) -> usize {
    let block = BLOCK_BYTES as usize;
    let readable = segment.bytes.readable();
    let mut at = wanted.min(readable) / block * block;
    while at > segment::HEADER_BYTES {
        let bytes = segment.bytes.slice(at..readable).unwrap_or_default();
        if batch::read_header(bytes, segment.header.ties(at as u64)).is_ok() {
            return at;
        }
        at -= block;
    }
    segment::HEADER_BYTES
}
