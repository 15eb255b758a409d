//! The pen: puts batches behind one another, and opens the next segment when one is full.
//! Synchronous and without a thread, so that a simulation can drive it step by step.
//!
//! Invariants: one write and one sync a batch; no block is written twice; once a next segment was
//! tried, nothing more goes into this one, because the next header may already state its end.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::batch;
use crate::disk::{self, File, Open};
use crate::error::Error;
use crate::frame;
use crate::index::{HotIndex, Index};
use crate::log::{Ground, Shared};
use crate::record::Position;
use crate::segment::{self, Header, Segment};

#[derive(Debug)]
pub(crate) struct Writer {
    active: Option<Active>,
    /// What the next segment's header will say about the one before it.
    before: Before,
    /// The batch that is being built; kept for its memory.
    out: Vec<u8>,
}

/// The end of the segments that are closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Before {
    pub(crate) number: u32,
    pub(crate) base: u64,
    pub(crate) end: u64,
    pub(crate) chain: u32,
}

impl Before {
    /// Before the first segment.
    pub(crate) const NOTHING: Before = Before { number: 0, base: 0, end: 0, chain: 0 };

    pub(crate) fn watermark(&self) -> Position {
        Position(self.base + self.end)
    }
}

/// The segment that is being written.
#[derive(Debug)]
struct Active {
    file: Arc<dyn File>,
    segment: Arc<Segment>,
    len: u64,
    /// Where the next batch goes.
    offset: u64,
    chain: u32,
    batches: u64,
    /// No batch says yet that the last one is durable.
    unstated: bool,
    /// The next segment's header may already name this one's end.
    closed: bool,
}

/// A closed segment whose index is still to be filed.
#[derive(Debug)]
pub(crate) struct Closed {
    pub(crate) segment: Arc<Segment>,
    pub(crate) end: u64,
    pub(crate) chain: u32,
    pub(crate) batches: u64,
}

/// Why a batch was not written.
#[derive(Debug)]
pub(crate) enum Unwritten {
    /// No further segment can be made now. Nothing was changed; try again.
    NoRoom(Error),
    /// The active segment is in an unknown state. Never try again.
    Broken(Error),
}

impl Writer {
    /// Goes on behind `before`. The first segment is made here if it can be; otherwise by the
    /// first batch that finds room.
    pub(crate) fn open(
        ground: &Ground,
        before: Before,
    ) -> Result<(Writer, Option<Arc<Segment>>), Error> {
        let mut writer = Writer { active: None, before, out: Vec::new() };
        let path = ground.dir.join(MAKING);
        match make(ground, before, None, ground.sizes.first_segment_bytes) {
            Ok(active) => {
                let segment = active.segment.clone();
                writer.active = Some(active);
                Ok((writer, Some(segment)))
            }
            Err(e) if crate::error::is_full(&e) => Ok((writer, None)),
            Err(e) => Err(Error::io("make a segment at", &path, e)),
        }
    }

    /// Bytes left in the active segment.
    pub(crate) fn room(&self) -> u64 {
        self.active.as_ref().map_or(0, |active| active.len - active.offset)
    }

    /// Whether the last batch still waits for another that says it is durable.
    pub(crate) fn is_unstated(&self) -> bool {
        self.active.as_ref().is_some_and(|active| active.unstated && !active.closed)
    }

    /// Writes one batch of `count` records and waits until it is durable and readable. Answers the
    /// Position of its first frame.
    pub(crate) fn write<'a>(
        &mut self,
        log: &Shared,
        groups: impl Iterator<Item = &'a [u8]>,
        count: u32,
    ) -> Result<Position, Unwritten> {
        let mut out = std::mem::take(&mut self.out);
        batch::begin(&mut out);
        for frames in groups {
            out.extend_from_slice(frames);
        }
        let written = self.put(log, &mut out, count);
        out.shrink_to(batch::BATCH_BYTES_MAX);
        self.out = out;
        written
    }

    /// States the watermark in a batch without records, if there is anything to state.
    pub(crate) fn state(&mut self, log: &Shared) -> Result<(), Unwritten> {
        if !self.is_unstated() || self.room() < batch::padded_for(0) {
            return Ok(());
        }
        self.write(log, std::iter::empty(), 0).map(|_| ())
    }

    fn put(&mut self, log: &Shared, out: &mut Vec<u8>, count: u32) -> Result<Position, Unwritten> {
        let padded = batch::padded_for(out.len() - batch::HEADER_BYTES);
        if self.room() < padded || self.active.as_ref().is_some_and(|active| active.closed) {
            self.next_segment(log, padded).map_err(Unwritten::NoRoom)?;
        }
        let Some(active) = &mut self.active else { return Err(Unwritten::NoRoom(Error::Full)) };
        let position = active.put(out, count).map_err(Unwritten::Broken)?;
        log.raise_watermark(active.segment.end());
        log.room.store(active.len - active.offset, Ordering::Relaxed);
        Ok(position)
    }

    fn next_segment(&mut self, log: &Shared, batch_bytes: u64) -> Result<(), Error> {
        if let Some(active) = &mut self.active {
            active.closed = true;
            self.before = Before {
                number: active.segment.header.number,
                base: active.segment.header.base,
                end: active.offset,
                chain: active.chain,
            };
        }
        let ground = &log.ground;
        let needed = segment::HEADER_BYTES as u64 + batch_bytes;
        let spare = log.porter.take_spare(needed);
        let len = ground.sizes.first_segment_bytes.max(needed);
        let making = ground.dir.join(MAKING);
        let next = make(ground, self.before, spare.as_deref(), len)
            .map_err(|e| Error::io("make a segment at", &making, e))?;
        log.add_segment(next.segment.clone());
        if let Some(active) = self.active.replace(next) {
            log.porter.close(Closed {
                segment: active.segment,
                end: active.offset,
                chain: active.chain,
                batches: active.batches,
            });
        }
        Ok(())
    }
}

impl Active {
    fn put(&mut self, out: &mut Vec<u8>, count: u32) -> Result<Position, Error> {
        let header = &self.segment.header;
        let at = Position(header.base + self.offset);
        let frames_end = out.len();
        self.index(&out[batch::HEADER_BYTES..frames_end])?;
        // Every batch before this one was synced before this one was begun.
        let crc =
            batch::seal(out, header.ties(self.offset), count, self.batches + 1, at, self.chain);
        assert!(
            self.segment.bytes.readable() as u64 <= self.offset,
            "what readers may see is never written again"
        );
        let path = segment::file_name(header.number);
        let failed = |what| move |e| Error::io(what, path.as_ref(), e);
        self.file.write_at(out, self.offset).map_err(failed("append to"))?;
        let path = segment::file_name(header.number);
        let failed = |what| move |e| Error::io(what, path.as_ref(), e);
        self.file.sync().map_err(failed("sync"))?;
        self.offset += out.len() as u64;
        self.chain = crc;
        self.batches += 1;
        self.unstated = count > 0;
        self.segment.bytes.publish(self.offset as usize);
        Ok(Position(at.0 + batch::HEADER_BYTES as u64))
    }

    /// Readers find these only once they are durable; see `index`.
    fn index(&self, frames: &[u8]) -> Result<(), Error> {
        let mut at = 0;
        let first = self.offset as usize + batch::HEADER_BYTES;
        self.segment.change_index(|index| {
            let Index::Hot(hot) = index else {
                return Err(Error::refused("a closed segment takes no records"));
            };
            while at < frames.len() {
                let frame = frame::decode(&frames[at..]).map_err(Error::refused)?;
                hot.push(frame.place, (first + at) as u32).map_err(Error::refused)?;
                at += frame.len;
            }
            Ok(())
        })
    }
}

/// A segment has this name until its header is durable.
pub(crate) const MAKING: &str = "making";

/// Makes the segment behind `before`, of a spare or from nothing: header synced before the name
/// says that it is a segment, and the name synced before anything is appended.
fn make(ground: &Ground, before: Before, spare: Option<&str>, len: u64) -> io::Result<Active> {
    let disk = &*ground.disk;
    let making = ground.dir.join(spare.unwrap_or(MAKING));
    let file = match spare {
        Some(_) => disk.open(&making, Open::Write)?,
        None => match disk.unlink(&making) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => disk.open(&making, Open::Create)?,
        },
    };
    let made = (|| {
        let len = match spare {
            Some(_) => file.size()?,
            None => {
                disk::fill_with_zeros(&*file, len)?;
                len
            }
        };
        let mut salt = [0; 16];
        disk.random(&mut salt)?;
        let header = Header {
            number: before.number.checked_add(1).ok_or(io::ErrorKind::FileTooLarge)?,
            store: ground.store,
            salt,
            base: before.watermark().0,
            prev_end: before.end,
            prev_chain: before.chain,
        };
        let (block, chain) = header.encode();
        file.write_at(&block, 0)?;
        file.sync()?;
        disk.rename(&making, &ground.dir.join(segment::file_name(header.number)))?;
        disk.sync_dir(&ground.dir)?;
        let bytes = file.map(len)?;
        let offset = block.len() as u64;
        bytes.publish(block.len());
        let index = Index::Hot(HotIndex::default());
        let segment = Arc::new(Segment::new(header, bytes, index));
        Ok(Active {
            file: file.clone(),
            segment,
            len,
            offset,
            chain,
            batches: 0,
            unstated: false,
            closed: false,
        })
    })();
    if made.is_err() {
        // Half a segment only takes the room that the next attempt needs; if it was renamed, the
        // next attempt replaces it.
        let _ = disk.unlink(&making);
    }
    made
}
