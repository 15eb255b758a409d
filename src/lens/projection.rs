//! The register in sled: a cursor on the log, written behind it, rebuilt when absent.
//!
//! Invariant: the rows and the Position up to which they stand go in together, so applying a record
//! twice or starting from nothing ends in the same table.

use lodge_storage::{Error, Log, Meta, Place, Row, Table};

use crate::desk::entry::{self, ArchivedBody};

const SITES: Table = Table(1);
const AGENTS: Table = Table(2);
/// Rows that go in with one batch.
const ROWS_MAX: usize = 1_000;

/// Brings the tables up to the watermark.
pub fn project(log: &Log, meta: &Meta) -> Result<(), Error> {
    let mut rows: Vec<Row> = Vec::new();
    let mut upto = meta.applied()?;
    let watermark = log.watermark();
    if upto >= watermark {
        return Ok(());
    }
    for record in log.scan(upto) {
        let record = record?;
        upto = record.end();
        if record.place != Place::Register {
            continue;
        }
        let Some(entry) = entry::read(record.kind, record.body()) else { continue };
        let (table, number) = match &entry.body {
            ArchivedBody::Site(site) => (SITES, site.number.to_native()),
            ArchivedBody::Agent(agent) => (AGENTS, agent.number.to_native()),
            _ => continue,
        };
        let key = number.to_be_bytes().to_vec();
        rows.push((table, key, Some(record.body().to_vec())));
        if rows.len() >= ROWS_MAX {
            meta.apply(&std::mem::take(&mut rows), upto)?;
        }
    }
    meta.apply(&rows, upto.max(watermark))?;
    meta.checkpoint()
}
