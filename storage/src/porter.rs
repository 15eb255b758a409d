//! The porter: carries spare segments in and files the indexes of closed ones, off the way of an
//! acknowledgement. One thread, which lives exactly as long as the scribe's.
//!
//! Invariants: a spare has its name only when all of it is zeros on the disk; there are never more
//! spares than `Sizes` allows; nothing here ever touches the active segment.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::disk::{self, Open};
use crate::index::{self, FiledIndex, Index};
use crate::log::Shared;
use crate::store::Sizes;
use crate::writer::Closed;

/// How long to wait after a failure, most likely a full disk.
const RETRY: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(crate) struct Porter {
    work: Mutex<Work>,
    changed: Condvar,
    /// The last spare that was wanted could not be made.
    failed: AtomicBool,
    /// Spares that are there.
    ready: AtomicUsize,
}

#[derive(Debug, Default)]
struct Work {
    spares: Vec<Spare>,
    next_spare: u32,
    spares_wanted: bool,
    /// Bounded by the disk: no segment is closed before the next one was made.
    closed: Vec<Closed>,
    stop: bool,
}

impl Work {
    fn waits(&self, sizes: &Sizes) -> bool {
        !self.closed.is_empty() || self.wants_spare(sizes)
    }

    fn wants_spare(&self, sizes: &Sizes) -> bool {
        self.spares_wanted && !self.stop && self.spares.len() < sizes.spares_max
    }
}

/// A file of zeros that waits to become a segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Spare {
    pub(crate) name: String,
    pub(crate) len: u64,
}

const SPARE_PREFIX: &str = "spare.";
/// A spare has this name until it is durable.
pub(crate) const FILLING: &str = "filling";

/// The number in a spare's name; `None` for every other name.
pub(crate) fn spare_number(name: &str) -> Option<u32> {
    name.strip_prefix(SPARE_PREFIX)?.parse().ok()
}

impl Porter {
    pub(crate) fn new(spares: Vec<Spare>) -> Porter {
        let numbers = spares.iter().filter_map(|spare| spare_number(&spare.name));
        let next_spare = numbers.max().map_or(0, |number| number.wrapping_add(1));
        let work = Work { spares, next_spare, ..Work::default() };
        Porter {
            ready: AtomicUsize::new(work.spares.len()),
            work: Mutex::new(work),
            changed: Condvar::new(),
            failed: AtomicBool::new(false),
        }
    }

    pub(crate) fn keep_spares(&self) {
        self.work().spares_wanted = true;
        self.changed.notify_all();
    }

    /// Whether the log lives from what is left in its active segment.
    pub(crate) fn is_short(&self) -> bool {
        self.failed.load(Ordering::Relaxed) && self.ready.load(Ordering::Relaxed) == 0
    }

    /// The name of a spare of at least `len` bytes, which from now on belongs to the caller.
    pub(crate) fn take_spare(&self, len: u64) -> Option<String> {
        let mut work = self.work();
        let fitting = work.spares.iter().position(|spare| spare.len >= len)?;
        let spare = work.spares.swap_remove(fitting);
        self.ready.store(work.spares.len(), Ordering::Relaxed);
        drop(work);
        self.changed.notify_all();
        Some(spare.name)
    }

    pub(crate) fn close(&self, closed: Closed) {
        self.work().closed.push(closed);
        self.changed.notify_all();
    }

    pub(crate) fn stop(&self) {
        self.work().stop = true;
        self.changed.notify_all();
    }

    /// The porter's thread. What is closed is still filed after `stop`, unless that fails.
    pub(crate) fn run(&self, log: &Shared) {
        let sizes = &log.ground.sizes;
        loop {
            let idle = |work: &mut Work| !work.stop && !work.waits(sizes);
            let waited = self.changed.wait_while(self.work(), idle);
            if !waited.unwrap_or_else(PoisonError::into_inner).waits(sizes) {
                return;
            }
            if !self.turn(log) {
                let waited = self.changed.wait_timeout_while(self.work(), RETRY, |work| !work.stop);
                if waited.unwrap_or_else(PoisonError::into_inner).0.stop {
                    return;
                }
            }
        }
    }

    /// Does what there is to do once. Answers whether all of it went well.
    pub(crate) fn turn(&self, log: &Shared) -> bool {
        let mut work = self.work();
        let spare_wanted = work.wants_spare(&log.ground.sizes);
        let closed = std::mem::take(&mut work.closed);
        drop(work);
        let unfiled = self.file(log, closed);
        let filed = unfiled.is_empty();
        self.work().closed.extend(unfiled);
        let spared = !spare_wanted || self.make_spare(log);
        filed && spared
    }

    /// Files what was closed; answers what could not be. Until then its index stays in memory.
    fn file(&self, log: &Shared, closed: Vec<Closed>) -> Vec<Closed> {
        closed.into_iter().filter(|closed| file_index(log, closed).is_err()).collect()
    }

    fn make_spare(&self, log: &Shared) -> bool {
        let name = {
            let mut work = self.work();
            let name = format!("{SPARE_PREFIX}{}", work.next_spare);
            work.next_spare = work.next_spare.wrapping_add(1);
            name
        };
        let len = log.ground.sizes.segment_bytes;
        let made = fill_spare(log, &name, len).is_ok();
        if made {
            let mut work = self.work();
            work.spares.push(Spare { name, len });
            self.ready.store(work.spares.len(), Ordering::Relaxed);
        }
        self.failed.store(!made, Ordering::Relaxed);
        made
    }

    fn work(&self) -> MutexGuard<'_, Work> {
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn fill_spare(log: &Shared, name: &str, len: u64) -> io::Result<()> {
    let (filling, spare) = (log.ground.dir.join(FILLING), log.ground.dir.join(name));
    match log.ground.disk.unlink(&filling) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let filled = (|| {
        let file = log.ground.disk.open(&filling, Open::Create)?;
        disk::fill_with_zeros(&*file, len)?;
        file.sync()?;
        log.ground.disk.rename(&filling, &spare)?;
        log.ground.disk.sync_dir(&log.ground.dir)
    })();
    if filled.is_err() {
        // On a full disk, half a spare takes the room that the log itself may need.
        let _ = log.ground.disk.unlink(&filling);
        // Nor is one that has its name already counted, and the next attempt has another.
        let _ = log.ground.disk.unlink(&spare);
    }
    filled
}

/// Puts the index of a closed segment into its file, and the file in the place of the memory.
fn file_index(log: &Shared, closed: &Closed) -> io::Result<()> {
    let Closed { segment, end, chain, batches } = closed;
    let header = &segment.header;
    let bytes = segment.with_index(|index| match index {
        Index::Hot(hot) => Some(hot.encode(header, *end, *chain, *batches)),
        Index::Filed(_) => None,
    });
    let Some(bytes) = bytes else { return Ok(()) };
    let path = log.ground.dir.join(index::file_name(header.number));
    disk::replace(&*log.ground.disk, &path, &bytes)?;
    let map = log.ground.disk.open(&path, Open::Read)?.map(bytes.len() as u64)?;
    let filed = FiledIndex::open(map, header, *end, *chain)
        .ok_or_else(|| io::Error::other("an index did not come back as it was written"))?;
    segment.change_index(|index| *index = Index::Filed(filed));
    Ok(())
}
