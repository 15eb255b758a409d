//! The memory of Lodge: one data directory, one append-only log, and what is kept beside it.
//!
//! Payloads are opaque bytes here. This crate knows records, lanes and positions; it never learns
//! what a message is, and it never meets a socket. `README.md` holds the byte tables.

mod error;
mod record;
mod store;

// The log, by its life: read, written, filed, recovered, checked.
mod check;
mod log;
mod porter;
mod recovery;
mod scan;
mod scribe;
mod writer;

// Its bytes, from the smallest up.
mod batch;
mod fields;
mod frame;
mod index;
mod segment;

pub mod disk;
mod mapping;

// Beside the log.
mod blobs;
mod meta;
mod secrets;

pub use batch::GROUP_BYTES_MAX;
pub use blobs::{
    BLOB_BYTES_MAX, BLOB_KEY_BYTES, BLOB_REF_BYTES, BlobRef, BlobWriter, Blobs, UPLOADS_MAX,
};
pub use check::{Finding, Report, check};
pub use error::Error;
pub use frame::BODY_BYTES_MAX;
pub use log::Log;
pub use mapping::Mapping;
pub use meta::{Found, Meta, ROW_BYTES_MAX, ROWS_MAX, Row, Table};
pub use record::{Lane, NewRecord, Place, Position, Record};
pub use scan::Scan;
pub use scribe::{NoPlace, QUEUE_BYTES_MAX, QUEUE_GROUPS_MAX, Reservation, Scribe, Written};
pub use secrets::{SECRET_BYTES_MAX, SECRET_NAME_BYTES_MAX, SECRETS_FILE_BYTES_MAX, Secrets};
pub use store::{FORMAT, Options, Progress, Store};

#[cfg(test)]
mod tests;
