//! Our own log, driven as the desk drives it: one thread hands groups over and is told by the
//! scribe which are durable. A writer is a conversation that waits for its last text.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use lodge_storage::disk::RealDisk;
use lodge_storage::{Lane, Log, NewRecord, Options, Place, Position, Scribe, Store};

use crate::{Outcome, text};

const KIND: u16 = 1;

pub(crate) struct Lodge {
    log: Log,
    scribe: Scribe<usize>,
    /// The writers of one batch.
    settled: Receiver<Vec<usize>>,
    /// The newest Seq of each writer's conversation.
    seqs: Vec<u64>,
    _store: Store,
}

/// What one round wrote.
pub(crate) struct Batches {
    pub(crate) records: u64,
    pub(crate) batches: u64,
    pub(crate) bytes: u64,
    pub(crate) took: Duration,
}

impl Batches {
    pub(crate) fn records_per_second(&self) -> f64 {
        self.records as f64 / self.took.as_secs_f64()
    }

    pub(crate) fn records_a_batch(&self) -> f64 {
        self.records as f64 / self.batches as f64
    }

    pub(crate) fn bytes_a_batch(&self) -> f64 {
        self.bytes as f64 / self.batches as f64
    }
}

impl Lodge {
    pub(crate) fn open(dir: &Path) -> Outcome<Lodge> {
        let store = Store::open(Arc::new(RealDisk), dir, &Options::default(), &mut |_| {})?;
        let log = store.log.clone();
        let (tell, settled) = channel();
        let scribe = log.scribe(
            move |written| {
                // Nobody listens any more when the bench is ending.
                let _ = tell.send(written.into_iter().map(|group| group.ticket).collect());
            },
            |error| eprintln!("the log: {error}"),
        )?;
        log.keep_spares();
        Ok(Lodge { log, scribe, settled, seqs: Vec::new(), _store: store })
    }

    pub(crate) fn round(&mut self, writers: usize, lasting: Duration) -> Outcome<Batches> {
        let from = self.log.watermark();
        let begun = Instant::now();
        for writer in 0..writers {
            self.append(writer)?;
        }
        let (mut records, mut batches, mut waiting) = (0, 0, writers);
        while waiting > 0 {
            let settled = self.settled.recv()?;
            batches += 1;
            records += settled.len() as u64;
            if begun.elapsed() < lasting {
                for writer in settled {
                    self.append(writer)?;
                }
            } else {
                waiting -= settled.len();
            }
        }
        let took = begun.elapsed();
        let Position(end) = self.log.watermark();
        Ok(Batches { records, batches, bytes: end - from.0, took })
    }

    pub(crate) fn append(&mut self, writer: usize) -> Outcome<()> {
        if writer >= self.seqs.len() {
            self.seqs.resize(writer + 1, 0);
        }
        self.seqs[writer] += 1;
        let seq = self.seqs[writer];
        let place =
            Place::Conversation { conversation: writer as u64 + 1, lane: Lane::Public, seq };
        let body = text(writer, seq).into_bytes();
        let record = NewRecord { place, kind: KIND, time_ms: seq, body };
        let place = self.scribe.reserve().map_err(|why| format!("no place in the log: {why:?}"))?;
        place.append(vec![record], writer);
        Ok(())
    }

    pub(crate) fn close(self) {
        self.scribe.close();
    }
}
