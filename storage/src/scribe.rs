//! The scribe: one thread that owns the active segment, and the bounded channel that leads to it.
//!
//! A batch is whatever queued while the last one was synced, so nobody waits for a timer and many
//! share one sync. A place is reserved before a decision is taken, so handing over cannot fail.
//!
//! Invariants: groups are written in the order in which they were handed over, each whole in one
//! batch; `written` speaks of a group once, after its batch is durable and readable; after
//! `poisoned` nothing is written and `written` is not called again.

use std::fmt;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::batch::{BATCH_BYTES_FULL, GROUP_BYTES_MAX};
use crate::error::Error;
use crate::frame;
use crate::log::Shared;
use crate::record::{NewRecord, Position};
use crate::writer::{Unwritten, Writer};

/// Groups that may wait, places reserved for some included.
pub const QUEUE_GROUPS_MAX: usize = 16_384;
/// Frames that may wait. Each reserved place may add one group to it.
pub const QUEUE_BYTES_MAX: usize = 16 << 20;
/// Without a spare, this much of the active segment is left to what already waits.
const ROOM_KEPT_BYTES: u64 = 1 << 20;
/// How long nothing must wait before a batch without records states the watermark.
const IDLE: Duration = Duration::from_millis(50);
/// How often a segment is tried again that could not be made.
const FULL_RETRY: Duration = Duration::from_secs(1);

/// The way to the scribe. All clones lead to the same one; when the last is dropped, what was
/// handed over is still written, but nobody waits for it: `close` does.
pub struct Scribe<T> {
    desk: Arc<Desk<T>>,
}

/// A place in the channel. Dropped unused, it is free again.
pub struct Reservation<T> {
    queue: Arc<Queue<T>>,
}

/// Why there is no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoPlace {
    /// Too much waits for the disk. Try again soon.
    Busy,
    /// The disk is full. Goes away by itself when space returns.
    Full,
    /// A write failed; only a restart helps.
    Poisoned,
    /// `shut` or `close` was called.
    Closed,
}

/// A group that is durable and can be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written<T> {
    pub ticket: T,
    /// Position of the group's first record.
    pub first: Position,
    /// The cursor behind its last one. Between them lies nothing but this group.
    pub end: Position,
}

/// What the clones of a scribe share. Dropping the last of them ends the thread.
struct Desk<T> {
    log: Arc<Shared>,
    queue: Arc<Queue<T>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

struct Queue<T> {
    state: Mutex<State<T>>,
    ready: Condvar,
}

struct State<T> {
    groups: Vec<Group<T>>,
    bytes: usize,
    reserved: usize,
    /// The scribe waits on `ready`; otherwise it looks by itself, and waking it costs a call.
    asleep: bool,
    closed: bool,
    full: bool,
    poisoned: bool,
}

struct Group<T> {
    frames: Vec<u8>,
    count: u32,
    ticket: T,
}

pub(crate) fn start<T: Send + 'static>(
    log: Arc<Shared>,
    writer: Writer,
    written: impl FnMut(Vec<Written<T>>) + Send + 'static,
    poisoned: impl FnOnce(Error) + Send + 'static,
) -> Result<Scribe<T>, Error> {
    let queue = Arc::new(Queue::new());
    let body = {
        let (log, queue) = (log.clone(), queue.clone());
        move || {
            std::thread::scope(|threads| {
                // Ends the porter and answers `Poisoned` to whoever asks, however this ends.
                let _end = End { log: &log, queue: &queue };
                let porter = std::thread::Builder::new()
                    .name("porter".into())
                    .spawn_scoped(threads, || log.porter.run(&log));
                match porter {
                    Ok(_) => write_all(&log, &queue, writer, written, poisoned),
                    Err(e) => poisoned(Error::io("start a thread for", &log.ground.dir, e)),
                }
            });
        }
    };
    let thread = std::thread::Builder::new()
        .name("scribe".into())
        .spawn(body)
        .map_err(|e| Error::io("start a thread for", &log.ground.dir, e))?;
    Ok(Scribe { desk: Arc::new(Desk { log, queue, thread: Mutex::new(Some(thread)) }) })
}

impl<T> Scribe<T> {
    /// A place for one group.
    pub fn reserve(&self) -> Result<Reservation<T>, NoPlace> {
        let log = &self.desk.log;
        let kept = ROOM_KEPT_BYTES.min(log.ground.sizes.first_segment_bytes / 8);
        let short = log.porter.is_short() && log.room.load(Ordering::Relaxed) < kept;
        let mut state = self.desk.queue.state();
        if state.poisoned {
            return Err(NoPlace::Poisoned);
        }
        if state.closed {
            return Err(NoPlace::Closed);
        }
        if state.full || short {
            return Err(NoPlace::Full);
        }
        let waiting = state.groups.len() + state.reserved;
        if waiting >= QUEUE_GROUPS_MAX || state.bytes >= QUEUE_BYTES_MAX {
            return Err(NoPlace::Busy);
        }
        state.reserved += 1;
        Ok(Reservation { queue: self.desk.queue.clone() })
    }

    /// Takes nothing more. What waits is written still, or let go on a full disk. Waits for nothing; `written` is
    /// dropped when it is done.
    pub fn shut(&self) {
        self.desk.queue.close();
    }

    /// Waits until everything that was handed over is written and stated, and the thread is gone.
    /// Reservations that are out have to come in or be dropped first. On a full disk, what waits
    /// is let go: nobody was told that it is safe. Not to be called by `written` or `poisoned`,
    /// which run on the thread that is waited for.
    pub fn close(self) {
        self.desk.queue.close();
        let mut thread = self.desk.thread.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(thread) = thread.take() {
            // A panic of the scribe was already loud, and left the queue poisoned.
            let _ = thread.join();
        }
    }
}

impl<T> Reservation<T> {
    /// Hands a group over. It is encoded here, on the caller's thread.
    ///
    /// # Panics
    /// When the group is empty, a body is longer than `BODY_BYTES_MAX`, or the group's frames are
    /// longer than `GROUP_BYTES_MAX`: whoever decides has to keep to that.
    pub fn append(self, group: Vec<NewRecord>, ticket: T) {
        assert!(!group.is_empty(), "a group holds a record");
        let bytes = group.iter().map(|record| frame::HEADER_BYTES + record.body.len()).sum();
        assert!(bytes <= GROUP_BYTES_MAX, "a group is bounded before it comes here");
        let mut frames = Vec::with_capacity(bytes);
        for record in &group {
            frame::encode(record, &mut frames);
        }
        let count = group.len() as u32;
        let mut state = self.queue.state();
        state.bytes += frames.len();
        state.groups.push(Group { frames, count, ticket });
        // Dropping `self` gives the place back: the group itself counts from here on.
        if std::mem::take(&mut state.asleep) {
            self.queue.ready.notify_one();
        }
    }
}

impl<T> Drop for Reservation<T> {
    fn drop(&mut self) {
        let mut state = self.queue.state();
        state.reserved -= 1;
        if state.closed && std::mem::take(&mut state.asleep) {
            self.queue.ready.notify_one();
        }
    }
}

impl<T> Clone for Scribe<T> {
    fn clone(&self) -> Scribe<T> {
        Scribe { desk: self.desk.clone() }
    }
}

impl<T> Drop for Desk<T> {
    fn drop(&mut self) {
        self.queue.close();
    }
}

impl<T> fmt::Debug for Scribe<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Scribe")
    }
}

impl<T> fmt::Debug for Reservation<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Reservation")
    }
}

/// The scribe's thread, until the queue is closed and empty, or the log is poisoned.
fn write_all<T>(
    log: &Shared,
    queue: &Queue<T>,
    mut writer: Writer,
    mut written: impl FnMut(Vec<Written<T>>),
    poisoned: impl FnOnce(Error),
) {
    let mut batch = Vec::new();
    let broken = loop {
        let outcome = match queue.take(&mut batch, writer.is_unstated()) {
            Taken::Groups => write_batch(log, queue, &mut writer, &mut batch),
            Taken::Idle => state(log, &mut writer).map(|()| Some(Vec::new())),
            Taken::Closed => state(log, &mut writer).map(|()| None),
        };
        match outcome {
            Ok(Some(done)) if done.is_empty() => {}
            Ok(Some(done)) => written(done),
            Ok(None) => return,
            Err(broken) => break broken,
        }
    };
    // Before anybody is told, so that whoever hears it finds the door shut.
    queue.state().poisoned = true;
    poisoned(broken);
}

/// Writes what `batch` holds, however long the disk stays full; only `shut` and `close` end that wait.
/// Then the answer is `None` and nothing more may be written: what waits was handed over later, and
/// builds on what is let go here.
fn write_batch<T>(
    log: &Shared,
    queue: &Queue<T>,
    writer: &mut Writer,
    batch: &mut Vec<Group<T>>,
) -> Result<Option<Vec<Written<T>>>, Error> {
    let count = batch.iter().map(|group| group.count).sum();
    let mut was_full = false;
    let mut first = loop {
        match writer.write(log, batch.iter().map(|group| group.frames.as_slice()), count) {
            Ok(first) => break first,
            Err(Unwritten::Broken(error)) => return Err(error),
            Err(Unwritten::NoRoom(reason)) => {
                was_full = true;
                log.set_no_room(Some(reason));
                if queue.wait_for_room() {
                    batch.clear();
                    return Ok(None);
                }
            }
        }
    };
    if was_full {
        log.set_no_room(None);
        queue.state().full = false;
    }
    let groups = batch.drain(..).map(|group| {
        let end = Position(first.0 + group.frames.len() as u64);
        let written = Written { ticket: group.ticket, first, end };
        first = end;
        written
    });
    Ok(Some(groups.collect()))
}

/// The batch that states the watermark can wait for room: it only sharpens what recovery knows.
fn state(log: &Shared, writer: &mut Writer) -> Result<(), Error> {
    match writer.state(log) {
        Err(Unwritten::Broken(error)) => Err(error),
        Ok(()) | Err(Unwritten::NoRoom(_)) => Ok(()),
    }
}

enum Taken {
    Groups,
    /// Nothing came for a while.
    Idle,
    /// Nothing will come any more.
    Closed,
}

impl<T> Queue<T> {
    fn new() -> Queue<T> {
        let state = State {
            groups: Vec::new(),
            bytes: 0,
            reserved: 0,
            asleep: false,
            closed: false,
            full: false,
            poisoned: false,
        };
        Queue { state: Mutex::new(state), ready: Condvar::new() }
    }

    /// Moves what waits into the empty `batch`, as much as one batch takes.
    fn take(&self, batch: &mut Vec<Group<T>>, until_idle: bool) -> Taken {
        let mut state = self.state();
        while state.groups.is_empty() {
            if state.closed && state.reserved == 0 {
                return Taken::Closed;
            }
            state.asleep = true;
            state = if until_idle {
                let waited = self.ready.wait_timeout(state, IDLE);
                let (state, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
                if timeout.timed_out() && state.groups.is_empty() && !state.closed {
                    return Taken::Idle;
                }
                state
            } else {
                self.ready.wait(state).unwrap_or_else(PoisonError::into_inner)
            };
        }
        state.asleep = false;
        if state.bytes <= BATCH_BYTES_FULL {
            std::mem::swap(&mut state.groups, batch);
            state.bytes = 0;
            return Taken::Groups;
        }
        let mut bytes = 0;
        let fitting = state.groups.iter().take_while(|group| {
            let fits = bytes < BATCH_BYTES_FULL;
            bytes += group.frames.len();
            fits
        });
        let fitting = fitting.count();
        batch.extend(state.groups.drain(..fitting));
        state.bytes -= batch.iter().map(|group| group.frames.len()).sum::<usize>();
        Taken::Groups
    }

    /// Says that the disk is full and waits a little. Answers whether to give up.
    fn wait_for_room(&self) -> bool {
        let mut state = self.state();
        state.full = true;
        state.asleep = false;
        let waited = self.ready.wait_timeout_while(state, FULL_RETRY, |state| !state.closed);
        waited.unwrap_or_else(PoisonError::into_inner).0.closed
    }

    fn close(&self) {
        self.state().closed = true;
        self.ready.notify_all();
    }

    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What must happen when the scribe's thread ends, also by a panic in a callback.
struct End<'a, T> {
    log: &'a Shared,
    queue: &'a Queue<T>,
}

impl<T> Drop for End<'_, T> {
    fn drop(&mut self) {
        let mut state = self.queue.state();
        if !state.closed {
            state.poisoned = true;
        }
        // Nobody will write these; their authors were never told otherwise.
        let unwritten = std::mem::take(&mut state.groups);
        drop(state);
        drop(unwritten);
        self.log.porter.stop();
    }
}
