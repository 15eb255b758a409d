//! What can go wrong, by what the caller can do about it.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Every refusal of this crate. Cheap to clone, because one failure may have to be told to many.
#[derive(Debug, Clone)]
pub enum Error {
    /// The machine said no: look at the disk and its permissions.
    Io { what: &'static str, path: PathBuf, source: Arc<io::Error> },
    /// Bytes that were once durable are not what was written: restore, or live with the hole.
    Corrupt { segment: u32, offset: u64, what: &'static str },
    /// No room for another segment or blob. Goes away by itself when space returns.
    Full,
    /// Another process holds this data directory.
    Locked,
    /// A write or sync of the active segment failed; only a restart, which reads the disk, helps.
    Poisoned,
    /// What is here can be read, and nothing of it may be written: the sentence says why.
    ReadOnly { what: String },
    /// This is not something that this build may open or write: the sentence says why.
    Refused { what: String },
}

impl Error {
    /// Names what was tried and where. A full disk keeps its own name whoever meets it.
    pub fn io(what: &'static str, path: &Path, source: io::Error) -> Error {
        if is_full(&source) {
            return Error::Full;
        }
        Error::Io { what, path: path.to_owned(), source: Arc::new(source) }
    }

    pub fn read_only(what: impl Into<String>) -> Error {
        Error::ReadOnly { what: what.into() }
    }

    pub fn refused(what: impl Into<String>) -> Error {
        Error::Refused { what: what.into() }
    }
}

/// Whether the disk, or this user's share of it, has no room left.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Io { what, path, source } => {
                write!(f, "cannot {what} {}: {source}", path.display())
            }
            Error::Corrupt { segment, offset, what } => {
                write!(f, "segment {segment:08x} is damaged at offset {offset}: {what}")
            }
            Error::Full => f.write_str("the disk is full"),
            Error::Locked => f.write_str("another process holds this data directory"),
            Error::Poisoned => f.write_str("the log failed to reach the disk and takes no more"),
            Error::ReadOnly { what } | Error::Refused { what } => f.write_str(what),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Error::Io { source, .. } => Some(source.as_ref()),
            _ => None,
        }
    }
}
