//! How many starts in a row failed for the disk's sake. After five the server comes up to be read only: whoever
//! owns it can then still show what was said, and is told what is wrong.
//!
//! The count lies beside the control socket and not in the data directory, whose disk is what is in doubt.
//! Only errors of the disk count, never a kill, a port that is taken or a setting. A start that went well
//! clears it, unless the very first write behind it fails: then it was none.
//!
//! ```text
//! failed-starts    the count, then what the last one met, each in a line
//! ```

use std::path::{Path, PathBuf};

use lodge_storage::Error;

use crate::limits::{FAILED_START_BYTES_MAX, FAILED_STARTS_MAX};

const NAME: &str = "failed-starts";

#[derive(Debug)]
pub struct Starts {
    path: PathBuf,
    before: u32,
    said: String,
}

impl Starts {
    /// Whatever stands there that is no count is none.
    pub fn beside(socket: &Path) -> Starts {
        let path = socket.with_file_name(NAME);
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        let (count, said) = text.split_once('\n').unwrap_or_default();
        let before = count.parse().unwrap_or(0);
        Starts { path, before, said: said.trim().to_owned() }
    }

    /// Why this start is only to read, if it is. The next one tries everything again.
    pub fn given_up(&self) -> Option<String> {
        // It is the operator's restart that counts from here on, or the fifth failure that comes again.
        let _ = std::fs::remove_file(&self.path);
        (self.before >= FAILED_STARTS_MAX).then(|| {
            let Starts { before, said, .. } = self;
            format!("{before} starts in a row failed, the last because: {said}")
        })
    }

    /// This start met an error of the store.
    pub fn failed(&self, error: &Error) {
        // A disk that is full is not broken, and what was refused by name is refused to a reader too.
        if !matches!(error, Error::Io { .. } | Error::Poisoned) || self.before >= FAILED_STARTS_MAX
        {
            return;
        }
        let mut said = error.to_string().replace('\n', " ");
        said.truncate(said.floor_char_boundary(FAILED_START_BYTES_MAX));
        // Where even this cannot be written the server keeps trying, as it would without it.
        let _ = std::fs::write(&self.path, format!("{}\n{said}\n", self.before + 1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error() -> Error {
        Error::io("sync", "/x".as_ref(), std::io::Error::from_raw_os_error(5))
    }

    #[test]
    fn the_start_after_five_failed_ones_only_reads_and_the_one_after_it_tries_again() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("control");
        for _ in 0..FAILED_STARTS_MAX {
            let starts = Starts::beside(&socket);
            assert_eq!(starts.given_up(), None);
            starts.failed(&error());
        }
        let why = Starts::beside(&socket).given_up().unwrap();
        assert!(why.starts_with("5 starts in a row failed, the last because: cannot sync /x"));
        assert_eq!(Starts::beside(&socket).given_up(), None);
    }

    #[test]
    fn what_is_not_the_disk_does_not_count_and_one_good_start_clears_the_count() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("control");
        for nth in 0..2 * FAILED_STARTS_MAX {
            let starts = Starts::beside(&socket);
            assert_eq!(starts.given_up(), None, "start {nth}");
            // A kill says nothing, a good start neither.
            match nth % 3 {
                0 => starts.failed(&error()),
                1 => starts.failed(&Error::Locked),
                _ => {}
            }
        }
        for garbage in ["", "x", "99999999999\nx", "-1\n", "\n\n"] {
            std::fs::write(dir.path().join(NAME), garbage).unwrap();
            assert_eq!(Starts::beside(&socket).given_up(), None, "{garbage:?}");
        }
    }
}
