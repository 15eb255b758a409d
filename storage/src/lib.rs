//! The memory of Lodge: one data directory, one append-only log, and what is kept beside it.
//!
//! Payloads are opaque bytes here. This crate knows records, lanes and positions; it never learns
//! what a message is, and it never meets a socket. `README.md` holds the byte tables.

mod error;
mod frame;
mod meta;
mod record;

pub mod disk;
mod mapping;

pub use error::Error;
pub use mapping::Mapping;
pub use meta::{Meta, ROW_BYTES_MAX, ROWS_MAX, Row, Table};
pub use record::{Lane, NewRecord, Place, Position, Record};
