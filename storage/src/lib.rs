//! The memory of Lodge: one data directory, one append-only log, and what is kept beside it.
//!
//! Payloads are opaque bytes here. This crate knows records, lanes and positions; it never learns
//! what a message is, and it never meets a socket. `README.md` holds the byte tables.

mod error;
mod frame;
mod record;

pub mod disk;
mod mapping;

mod meta;
mod secrets;

pub use error::Error;
pub use mapping::Mapping;
pub use meta::{Found, Meta, ROW_BYTES_MAX, ROWS_MAX, Row, Table};
pub use record::{Lane, NewRecord, Place, Position, Record};
pub use secrets::{SECRET_BYTES_MAX, SECRET_NAME_BYTES_MAX, SECRETS_FILE_BYTES_MAX, Secrets};
