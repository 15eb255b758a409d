//! What the tests of this room share: a store that is written and read through its face.

mod damage;
mod faults;
mod golden;
mod log;
mod restarts;
mod simulation;

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};

use crate::disk::Disk;
use crate::{Error, Lane, NewRecord, Options, Place, Position, Record, Scribe, Written};

pub(crate) use crate::Store;
pub(crate) fn small() -> Options {
    Options { segment_bytes: 64 << 10, first_segment_bytes: 32 << 10, spare_bytes_max: 128 << 10 }
}

pub(crate) fn open(disk: &Arc<dyn Disk>, dir: &Path, options: &Options) -> Result<Store, Error> {
    Store::open(disk.clone(), dir, options, &mut |_| {})
}

/// A scribe whose answers come through a channel. `Err` is what poisoned it.
pub(crate) struct Pen {
    pub(crate) scribe: Scribe<u64>,
    pub(crate) answers: Receiver<Result<Vec<Written<u64>>, Error>>,
}

pub(crate) fn pen(store: &Store) -> Result<Pen, Error> {
    let (send, answers) = channel();
    let failed = send.clone();
    let scribe = store.log.scribe(
        move |written| send.send(Ok(written)).unwrap(),
        move |error| failed.send(Err(error)).unwrap(),
    )?;
    Ok(Pen { scribe, answers })
}

impl Pen {
    pub(crate) fn append(&self, group: Vec<NewRecord>, ticket: u64) {
        self.scribe.reserve().unwrap().append(group, ticket);
    }

    /// Waits until `groups` more groups are durable.
    pub(crate) fn wait(&self, groups: usize) -> Vec<Written<u64>> {
        let mut written = Vec::new();
        while written.len() < groups {
            written.extend(self.answers.recv().unwrap().unwrap());
        }
        written
    }
}

pub(crate) fn text(conversation: u64, lane: Lane, seq: u64, body: &str) -> NewRecord {
    NewRecord {
        place: Place::Conversation { conversation, lane, seq },
        kind: 1,
        time_ms: 1_700_000_000_000 + seq,
        body: body.as_bytes().to_vec(),
    }
}

pub(crate) fn as_new(record: &Record) -> NewRecord {
    NewRecord {
        place: record.place,
        kind: record.kind,
        time_ms: record.time_ms,
        body: record.body().to_vec(),
    }
}

pub(crate) fn everything(store: &Store) -> Result<Vec<NewRecord>, Error> {
    store.log.scan(Position(0)).map(|record| record.map(|record| as_new(&record))).collect()
}
