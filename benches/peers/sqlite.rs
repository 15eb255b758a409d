//! SQLite with a write-ahead log, synced at every commit, in batches.

use std::path::Path;
use std::time::Duration;

use rusqlite::Connection;

use super::{Peer, batched};
use crate::{Outcome, text};

struct Sqlite {
    db: Connection,
}

pub(crate) fn start(dir: &Path) -> Outcome<Box<dyn Peer>> {
    let db = Connection::open(dir.join("texts.db"))?;
    db.execute_batch(
        "PRAGMA journal_mode = WAL;
         PRAGMA synchronous = FULL;
         CREATE TABLE message (
             id INTEGER PRIMARY KEY AUTOINCREMENT, kefu_id TEXT NOT NULL,
             visitor_id TEXT NOT NULL, content TEXT NOT NULL, created_at TEXT NOT NULL,
             mes_type TEXT NOT NULL, status TEXT NOT NULL);
         CREATE INDEX by_kefu ON message (kefu_id);
         CREATE INDEX by_visitor ON message (visitor_id);",
    )?;
    Ok(Box::new(Sqlite { db }))
}

impl Peer for Sqlite {
    fn name(&self) -> &'static str {
        "sqlite"
    }

    fn round(&mut self, writers: usize, lasting: Duration) -> Outcome<f64> {
        let db = &mut self.db;
        batched(writers, lasting, |batch, nth| {
            let transaction = db.transaction()?;
            let mut insert = transaction.prepare_cached(
                "INSERT INTO message
                     (kefu_id, visitor_id, content, created_at, mes_type, status)
                 VALUES (?1, ?2, ?3, datetime(), 'visitor', 'unread')",
            )?;
            for &writer in batch {
                let (agent, visitor) = super::ids(writer);
                insert.execute((agent, visitor, text(writer, nth)))?;
            }
            drop(insert);
            Ok(transaction.commit()?)
        })
    }
}
