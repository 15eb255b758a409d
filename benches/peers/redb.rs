//! redb, a store of sorted keys, in batches: (conversation, Seq) to text.

use std::path::Path;
use std::time::Duration;

use redb::{Database, Durability, TableDefinition};

use super::{Peer, batched};
use crate::{Outcome, text};

const TEXTS: TableDefinition<(u64, u64), &str> = TableDefinition::new("texts");

struct Redb {
    db: Database,
    seqs: Vec<u64>,
}

pub(crate) fn start(dir: &Path) -> Outcome<Box<dyn Peer>> {
    Ok(Box::new(Redb { db: Database::create(dir.join("texts.redb"))?, seqs: Vec::new() }))
}

impl Peer for Redb {
    fn name(&self) -> &'static str {
        "redb"
    }

    fn round(&mut self, writers: usize, lasting: Duration) -> Outcome<f64> {
        let Redb { db, seqs } = self;
        seqs.resize(seqs.len().max(writers), 0);
        batched(writers, lasting, |batch, nth| {
            let mut transaction = db.begin_write()?;
            transaction.set_durability(Durability::Immediate)?;
            let mut texts = transaction.open_table(TEXTS)?;
            for &writer in batch {
                seqs[writer] += 1;
                texts.insert((writer as u64, seqs[writer]), text(writer, nth).as_str())?;
            }
            drop(texts);
            Ok(transaction.commit()?)
        })
    }
}
