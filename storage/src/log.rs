//! The log as its readers see it: segments in order, a watermark, and the records below it.
//!
//! Invariants: nothing above the watermark is shown; segments are only ever added behind the last
//! one; a reader works on the list of segments that stood when it asked.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use crate::disk::{Disk, Lock};
use crate::error::Error;
use crate::index::{Index, Key, Run};
use crate::porter::Porter;
use crate::record::{Lane, Position, Record};
use crate::scan::Scan;
use crate::scribe::{self, Scribe, Written};
use crate::segment::Segment;
use crate::store::Sizes;
use crate::writer::Writer;

/// The log of one store. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Log {
    pub(crate) shared: Arc<Shared>,
}

/// What readers, the scribe and the porter share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) ground: Ground,
    pub(crate) porter: Porter,
    /// Bytes left in the active segment.
    pub(crate) room: AtomicU64,
    /// Why the next segment cannot be made, while it cannot.
    no_room: Mutex<Option<Error>>,
    segments: RwLock<Arc<Vec<Arc<Segment>>>>,
    watermark: AtomicU64,
    /// Until the scribe takes it; never there in a log that may not be written.
    writer: Mutex<Option<Writer>>,
    /// Why nothing may be written: damage, or a store that only a newer build may write.
    refusal: Mutex<Option<Error>>,
    /// Whoever can still write keeps the directory locked.
    _lock: Arc<Lock>,
}

impl Log {
    /// Identity of this history, random when the store was made.
    pub fn epoch(&self) -> u64 {
        self.shared.ground.epoch
    }

    /// End of the durable prefix: every record before it can be read, and stays.
    pub fn watermark(&self) -> Position {
        self.shared.watermark()
    }

    /// Why this log starts no scribe, if it does not: damage that the open or a scan has met, or a
    /// store that only a newer build may write. A scribe that runs is not stopped by what is found
    /// later, but the next start will refuse.
    pub fn refusal(&self) -> Option<Error> {
        self.shared.refusal.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Why the log answers `NoPlace::Full`, while it does: mostly a full disk, but anything that
    /// keeps a segment from being made.
    pub fn no_room(&self) -> Option<Error> {
        self.shared.no_room.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The newest Seq of a lane; 0 when it has none.
    pub fn head(&self, conversation: u64, lane: Lane) -> u64 {
        let key = (conversation, lane);
        let segments = self.shared.segments();
        let newest =
            segments.iter().rev().find_map(|segment| in_run(segment, key, |run| run.span()));
        newest.map_or(0, |span| span.last_seq())
    }

    /// Up to `limit` records with a Seq below `before` (0: from the newest), ascending.
    ///
    /// Seq has no holes, so neither has a page: where damage swallowed records, a page ends, and
    /// one that would begin there is an error.
    pub fn page(
        &self,
        conversation: u64,
        lane: Lane,
        before: u64,
        limit: usize,
    ) -> Result<Vec<Record>, Error> {
        let key = (conversation, lane);
        let mut newest_first = Vec::new();
        let mut offsets = Vec::new();
        // The Seq that has to come next, going down; known once the newest one is.
        let mut wanted = None;
        for segment in self.shared.segments().iter().rev() {
            let left = limit - newest_first.len();
            if left == 0 || wanted == Some(0) {
                break;
            }
            offsets.clear();
            let span = in_run(segment, key, |run| {
                let span = run.span();
                let newest = if before == 0 { u64::MAX } else { before - 1 };
                let from = wanted.unwrap_or(newest).min(span.last_seq());
                let first = from.saturating_sub(left as u64 - 1).max(span.first_seq);
                let count =
                    usize::try_from(from.saturating_add(1).saturating_sub(first)).unwrap_or(left);
                run.offsets(first, count.min(left), &mut offsets);
                wanted.get_or_insert(from);
                span
            });
            if span.is_none() {
                continue;
            }
            for (seq, offset) in offsets.iter().rev() {
                let follows = wanted == Some(*seq);
                match segment.record_of(key, *seq, *offset) {
                    Ok(record) if follows => newest_first.push(record),
                    _ if !newest_first.is_empty() => {
                        newest_first.reverse();
                        return Ok(newest_first);
                    }
                    Ok(_) => return Err(segment.corrupt(0, RECORDS_LOST)),
                    Err(error) => return Err(error),
                }
                wanted = Some(seq.saturating_sub(1));
            }
        }
        newest_first.reverse();
        Ok(newest_first)
    }

    /// Up to `limit` records with a Seq of at least `from_seq`, ascending. Ends before damage, as
    /// a page does.
    pub fn range(
        &self,
        conversation: u64,
        lane: Lane,
        from_seq: u64,
        limit: usize,
    ) -> Result<Vec<Record>, Error> {
        let key = (conversation, lane);
        let from_seq = from_seq.max(1);
        let segments = self.shared.segments();
        // From the newest backwards to the segment where the asked Seq lies, then forwards.
        let mut start = segments.len();
        for (index, segment) in segments.iter().enumerate().rev() {
            let Some(span) = in_run(segment, key, |run| run.span()) else { continue };
            if span.last_seq() < from_seq {
                break;
            }
            start = index;
            if span.first_seq <= from_seq {
                break;
            }
        }
        forwards(&segments[start..], key, limit, Some(from_seq), |_, _| Some(from_seq))
    }

    /// Up to `limit` records of a lane at or behind `cursor`, ascending. Ends before damage, as a
    /// page does.
    pub fn since(
        &self,
        conversation: u64,
        lane: Lane,
        cursor: Position,
        limit: usize,
    ) -> Result<Vec<Record>, Error> {
        let segments = self.shared.segments();
        let start = segments.partition_point(|segment| segment.end() <= cursor);
        forwards(&segments[start..], (conversation, lane), limit, None, |segment, run| {
            run.seq_from(cursor.0.saturating_sub(segment.header.base))
        })
    }

    /// One record; `None` when the lane has no such Seq.
    pub fn at(&self, conversation: u64, lane: Lane, seq: u64) -> Result<Option<Record>, Error> {
        if seq == 0 {
            return Ok(None);
        }
        Ok(self.range(conversation, lane, seq, 1)?.pop())
    }

    /// Every record at or behind `from`, in Position order, up to the watermark of this call.
    pub fn scan(&self, from: Position) -> Scan {
        let upto = self.watermark();
        Scan::new(self.shared.clone(), self.shared.segments(), from, upto)
    }

    /// Starts the one thread that writes. `written` is called on it, once a batch, when the batch
    /// is durable and can be read. `poisoned` is called on it, once, when a write or sync of the
    /// active segment fails; nothing is written after that, and the process should end.
    pub fn scribe<T: Send + 'static>(
        &self,
        written: impl FnMut(Vec<Written<T>>) + Send + 'static,
        poisoned: impl FnOnce(Error) + Send + 'static,
    ) -> Result<Scribe<T>, Error> {
        if let Some(refusal) = self.refusal() {
            return Err(refusal);
        }
        let writer = self.shared.take_writer();
        let writer = writer.ok_or_else(|| Error::refused("the log has its scribe already"))?;
        scribe::start(self.shared.clone(), writer, written, poisoned)
    }

    /// From now on spare segments are made ahead. To be said once the house is open, because it
    /// keeps the disk busy for a moment.
    pub fn keep_spares(&self) {
        self.shared.porter.keep_spares();
    }
}

/// What `Shared` is made of; `recovery` finds it all.
pub(crate) struct Found {
    pub(crate) segments: Vec<Arc<Segment>>,
    pub(crate) watermark: Position,
    pub(crate) writer: Option<Writer>,
    pub(crate) refusal: Option<Error>,
    pub(crate) porter: Porter,
}

/// Where the log lies and whose it is.
#[derive(Debug, Clone)]
pub(crate) struct Ground {
    pub(crate) disk: Arc<dyn Disk>,
    /// The directory of the segments.
    pub(crate) dir: PathBuf,
    pub(crate) store: [u8; 16],
    pub(crate) epoch: u64,
    pub(crate) sizes: Sizes,
}

impl Shared {
    pub(crate) fn new(ground: Ground, found: Found, lock: Arc<Lock>) -> Shared {
        let room = found.writer.as_ref().map_or(0, Writer::room);
        Shared {
            ground,
            porter: found.porter,
            room: AtomicU64::new(room),
            no_room: Mutex::new(None),
            segments: RwLock::new(Arc::new(found.segments)),
            watermark: AtomicU64::new(found.watermark.0),
            writer: Mutex::new(found.writer),
            refusal: Mutex::new(found.refusal),
            _lock: lock,
        }
    }

    pub(crate) fn segments(&self) -> Arc<Vec<Arc<Segment>>> {
        self.segments.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn add_segment(&self, segment: Arc<Segment>) {
        let mut segments = self.segments.write().unwrap_or_else(PoisonError::into_inner);
        let mut longer = Vec::with_capacity(segments.len() + 1);
        longer.extend(segments.iter().cloned());
        longer.push(segment);
        *segments = Arc::new(longer);
    }

    pub(crate) fn watermark(&self) -> Position {
        Position(self.watermark.load(Ordering::Acquire))
    }

    pub(crate) fn raise_watermark(&self, to: Position) {
        self.watermark.store(to.0, Ordering::Release);
    }

    /// The pen, for whoever writes from now on.
    pub(crate) fn take_writer(&self) -> Option<Writer> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    pub(crate) fn set_no_room(&self, reason: Option<Error>) {
        *self.no_room.lock().unwrap_or_else(PoisonError::into_inner) = reason;
    }

    /// Damage that a replay meets before the scribe starts keeps the log from being written.
    pub(crate) fn note_damage(&self, error: &Error) {
        let mut refusal = self.refusal.lock().unwrap_or_else(PoisonError::into_inner);
        refusal.get_or_insert_with(|| error.clone());
    }
}

fn in_run<R>(segment: &Segment, key: Key, read: impl FnOnce(&Run<'_>) -> R) -> Option<R> {
    // Taken first: whatever lies before it is in the index already.
    let readable = segment.bytes.readable();
    segment.with_index(|index: &Index| index.run(key, readable).map(|run| read(&run)))
}

const RECORDS_LOST: &str = "records of this conversation were lost before this segment";

/// Up to `limit` records of `key` over `segments`, from the Seq that `from` names in each. `wanted`
/// is the Seq that has to come first, where that is known.
fn forwards(
    segments: &[Arc<Segment>],
    key: Key,
    limit: usize,
    mut wanted: Option<u64>,
    from: impl Fn(&Segment, &Run<'_>) -> Option<u64>,
) -> Result<Vec<Record>, Error> {
    let mut records = Vec::new();
    let mut offsets = Vec::new();
    for segment in segments {
        let left = limit - records.len();
        if left == 0 {
            break;
        }
        offsets.clear();
        in_run(segment, key, |run| {
            if let Some(seq) = from(segment, run) {
                run.offsets(seq, left, &mut offsets);
            }
        });
        for (seq, offset) in &offsets {
            let follows = wanted.is_none_or(|wanted| wanted == *seq);
            match segment.record_of(key, *seq, *offset) {
                Ok(record) if follows => records.push(record),
                _ if !records.is_empty() => return Ok(records),
                Ok(_) => return Err(segment.corrupt(0, RECORDS_LOST)),
                Err(error) => return Err(error),
            }
            wanted = Some(seq.saturating_add(1));
        }
    }
    Ok(records)
}
