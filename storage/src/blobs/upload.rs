//! The life of an upload: a place among those under way, an extent, bytes, a header, an answer.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use ring::{digest, hmac};

use super::extent::{self, EXTENT_HEADER_BYTES, Extent};
use super::segment::Segment;
use super::sync::{self, Answer, Finished, Job};
use super::{BLOB_BYTES_MAX, BlobRef};
use crate::Error;
use crate::disk::{Disk, Lock};

/// Uploads that are begun and not yet answered.
pub const UPLOADS_MAX: usize = 1024;

/// What all uploads share.
pub(super) struct Room {
    disk: Arc<dyn Disk>,
    folder: PathBuf,
    key: hmac::Key,
    filling: Mutex<Filling>,
    places_taken: AtomicUsize,
    /// Holds at most one job an upload, one a segment, and the last.
    jobs: Sender<Job>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// The one segment that extents are taken from, made when the first upload needs it.
struct Filling {
    segment: Option<Arc<Segment>>,
    next: u32,
    /// Why no more uploads are taken.
    refusal: Option<Error>,
}

impl Room {
    /// `next` is a number that no segment has had.
    pub(super) fn open(
        disk: Arc<dyn Disk>,
        folder: PathBuf,
        key: hmac::Key,
        next: u32,
        lock: Arc<Lock>,
        refusal: Option<Error>,
    ) -> Result<Arc<Room>, Error> {
        let (jobs, queue) = channel();
        let thread = thread::Builder::new().name("blobs".to_owned()).spawn({
            let (disk, folder) = (disk.clone(), folder.clone());
            move || {
                // Until the last byte is written, nobody else may open this directory.
                let _lock = lock;
                sync::run(disk.as_ref(), &folder, &queue);
            }
        });
        let thread = thread.map_err(|e| Error::io("start the thread of", &folder, e))?;
        Ok(Arc::new(Room {
            disk,
            folder,
            key,
            filling: Mutex::new(Filling { segment: None, next, refusal }),
            places_taken: AtomicUsize::new(0),
            jobs,
            thread: Mutex::new(Some(thread)),
        }))
    }

    pub(super) fn disk(&self) -> &dyn Disk {
        self.disk.as_ref()
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(super) fn refuse(&self, why: Error) {
        let mut filling = self.filling.lock().unwrap_or_else(PoisonError::into_inner);
        filling.refusal.get_or_insert(why);
    }

    pub(super) fn close(&self) {
        let mut filling = self.filling.lock().unwrap_or_else(PoisonError::into_inner);
        filling.refusal.get_or_insert_with(sync::stopping);
        if let Some(segment) = filling.segment.take() {
            self.retire_from_filling(segment);
        }
        drop(filling);
        self.ask(Job::Stop);
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        // The last owner of the room may be an answer that this very thread gives.
        if let Some(blobs) = thread.filter(|blobs| blobs.thread().id() != thread::current().id()) {
            // It has nothing to say: a panic was reported when it happened.
            let _ = blobs.join();
        }
    }

    fn claim(&self, span: u64) -> Result<(Arc<Segment>, u64), Error> {
        let mut filling = self.filling.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(refusal) = &filling.refusal {
            return Err(refusal.clone());
        }
        if let Some(segment) = filling.segment.clone() {
            if let Some(offset) = segment.claim(self.disk(), &self.folder, span)? {
                return Ok((segment, offset));
            }
            filling.segment = None;
            self.retire_from_filling(segment);
        }
        let segment = Arc::new(Segment::create(self.disk(), &self.folder, filling.next)?);
        filling.next = filling
            .next
            .checked_add(1)
            .ok_or_else(|| Error::refused("there are no numbers left for blob segments"))?;
        filling.segment = Some(segment.clone());
        let offset = segment.claim(self.disk(), &self.folder, span)?;
        offset
            .map(|offset| (segment, offset))
            .ok_or_else(|| Error::refused("no blob segment can hold a file of this size"))
    }

    fn retire_from_filling(&self, segment: Arc<Segment>) {
        if segment.seal() {
            self.ask(Job::Close(segment));
        }
    }

    /// A job that comes after the thread has ended is dropped, which answers it.
    fn ask(&self, job: Job) {
        let _ = self.jobs.send(job);
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.close();
    }
}

/// A place among `UPLOADS_MAX`, until it is dropped.
struct UploadPlace {
    room: Arc<Room>,
}

impl UploadPlace {
    fn take(room: &Arc<Room>) -> Result<UploadPlace, Error> {
        let one_more = |taken: usize| (taken < UPLOADS_MAX).then_some(taken + 1);
        room.places_taken
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more)
            .map(|_| UploadPlace { room: room.clone() })
            .map_err(|taken| Error::refused(format!("{taken} files are being sent, try again")))
    }
}

impl Drop for UploadPlace {
    fn drop(&mut self) {
        self.room.places_taken.fetch_sub(1, Ordering::Relaxed);
    }
}

/// An extent that one upload has. Dropped before its header is written, it is free again.
pub(super) struct Claim {
    place: UploadPlace,
    segment: Arc<Segment>,
    offset: u64,
    span: u64,
    /// Once it may have a header.
    serial: Option<u32>,
}

impl Claim {
    fn new(room: &Arc<Room>, span: u64) -> Result<Claim, Error> {
        let place = UploadPlace::take(room)?;
        let (segment, offset) = room.claim(span)?;
        Ok(Claim { place, segment, offset, span, serial: None })
    }

    pub(super) fn segment(&self) -> &Arc<Segment> {
        &self.segment
    }

    /// To be called after a sync that began after the header was written.
    pub(super) fn promise(&self) {
        if let Some(serial) = self.serial {
            self.segment.promise(serial);
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let was_the_last = match self.serial {
            Some(_) => self.segment.keep(),
            None => self.segment.abandon(self.offset, self.span),
        };
        if was_the_last {
            self.place.room.ask(Job::Close(self.segment.clone()));
        }
    }
}

/// One upload under way. Dropping it abandons it.
pub struct BlobWriter {
    claim: Claim,
    len: u64,
    written: u64,
    sha: digest::Context,
    crc: crc32fast::Hasher,
}

impl BlobWriter {
    pub(super) fn begin(room: &Arc<Room>, len: u64) -> Result<BlobWriter, Error> {
        if len > BLOB_BYTES_MAX {
            return Err(Error::refused(format!(
                "a file has at most {BLOB_BYTES_MAX} bytes, not {len}"
            )));
        }
        let claim = Claim::new(room, extent::span(len))?;
        let sha = digest::Context::new(&digest::SHA256);
        Ok(BlobWriter { claim, len, written: 0, sha, crc: crc32fast::Hasher::new() })
    }

    /// Appends to the upload. After an error there is nothing left to do but to drop it.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        if bytes.len() as u64 > self.len - self.written {
            return Err(Error::refused(format!(
                "the file is longer than the {} bytes that were announced",
                self.len
            )));
        }
        let at = self.claim.offset + EXTENT_HEADER_BYTES as u64 + self.written;
        self.claim.segment.write(bytes, at)?;
        self.sha.update(bytes);
        self.crc.update(bytes);
        self.written += bytes.len() as u64;
        Ok(())
    }

    /// Calls `synced` once: on the blob thread when the bytes are durable, or there or here when
    /// they will not be.
    pub fn finish(self, synced: impl FnOnce(Result<BlobRef, Error>) + Send + 'static) {
        let BlobWriter { mut claim, len, written, sha, crc } = self;
        if written != len {
            return synced(Err(Error::refused(format!(
                "the file ended after {written} of the {len} bytes that were announced"
            ))));
        }
        let room = claim.place.room.clone();
        let address = extent::address(&room.key, sha);
        let (serial, durable) = claim.segment.next_serial();
        claim.serial = Some(serial);
        let (offset, crc) = (claim.offset, crc.finalize());
        let extent = Extent { offset, len, address, serial, durable, crc };
        if let Err(e) = claim.segment.write_header(&extent) {
            return synced(Err(e));
        }
        let blob = BlobRef { segment: claim.segment.number(), offset, len, address };
        room.ask(Job::Sync(Finished { claim, blob, answer: Answer::new(synced) }));
    }
}

impl fmt::Debug for BlobWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BlobWriter({} of {} bytes)", self.written, self.len)
    }
}
