//! The blob thread: one `fdatasync` for all uploads that finished while the last one ran.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::Receiver;

use super::BlobRef;
use super::segment::Segment;
use super::upload::Claim;
use crate::Error;
use crate::disk::Disk;

pub(super) enum Job {
    Sync(Finished),
    /// Nothing is or will be written in it.
    Close(Arc<Segment>),
    Stop,
}

/// An upload whose header is written and whose sender waits.
pub(super) struct Finished {
    pub(super) claim: Claim,
    pub(super) blob: BlobRef,
    pub(super) answer: Answer,
}

type Synced = dyn FnOnce(Result<BlobRef, Error>) + Send;

/// Given exactly once. Dropped unheard, because the thread has ended, it is a refusal.
pub(super) struct Answer(Option<Box<Synced>>);

impl Answer {
    pub(super) fn new(synced: impl FnOnce(Result<BlobRef, Error>) + Send + 'static) -> Answer {
        Answer(Some(Box::new(synced)))
    }

    pub(super) fn give(mut self, outcome: Result<BlobRef, Error>) {
        if let Some(synced) = self.0.take() {
            synced(outcome);
        }
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        if let Some(synced) = self.0.take() {
            synced(Err(stopping()));
        }
    }
}

pub(super) fn stopping() -> Error {
    Error::refused("no more files are taken: the server is stopping")
}

pub(super) fn run(disk: &dyn Disk, folder: &Path, queue: &Receiver<Job>) {
    let mut stopping = false;
    while !stopping {
        let Ok(first) = queue.recv() else { return };
        let mut batch = Vec::new();
        for job in [first].into_iter().chain(queue.try_iter()) {
            match job {
                Job::Sync(finished) => batch.push(finished),
                Job::Close(segment) => {
                    // What remains open is closed at the next start.
                    let _ = segment.close(disk, folder);
                }
                Job::Stop => stopping = true,
            }
        }
        sync_and_answer(batch);
    }
}

/// Nearly always one segment; two when one was filled up meanwhile.
fn sync_and_answer(mut batch: Vec<Finished>) {
    batch.sort_by_key(|finished| finished.blob.segment);
    let mut last = None;
    for Finished { claim, blob, answer } in batch {
        let outcome = match last.take() {
            Some((segment, outcome)) if segment == blob.segment => outcome,
            _ => claim.segment().sync(),
        };
        if outcome.is_ok() {
            claim.promise();
        }
        // Before the answer, after which nobody may have to wait for this thread any more.
        drop(claim);
        last = Some((blob.segment, outcome.clone()));
        // A bug in the answer to one upload, reported when it happened, must not end all others.
        let _ = catch_unwind(AssertUnwindSafe(|| answer.give(outcome.map(|()| blob))));
    }
}
