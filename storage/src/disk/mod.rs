//! The one seam below the format. Everything that this crate does to a disk goes through `Disk`:
//! the real one, the simulated one that forgets and lies by seed, and the one that writes down
//! what it was asked.
//!
//! Rules for callers: a create, rename or unlink is durable only after `sync_dir` of its directory;
//! a write only after `sync` of its file; after a failed `sync` nothing about that file is known.

mod real;
mod record;
mod sim;

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;

pub use real::RealDisk;
pub use record::{Call, RecordingDisk, Verb};
pub use sim::{Chance, SimDisk};

use crate::mapping::Mapping;

pub trait Disk: Send + Sync + fmt::Debug {
    /// Opens a regular file, and nothing but a regular file: a directory, pipe, device or symbolic
    /// link in its place is `InvalidInput`.
    fn open(&self, path: &Path, how: Open) -> io::Result<Arc<dyn File>>;
    /// Makes a directory of mode 0700. One that is already there is fine.
    fn create_dir(&self, path: &Path) -> io::Result<()>;
    /// The names in a directory, in no order.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;
    /// Replaces whatever stood at `to`.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    fn unlink(&self, path: &Path) -> io::Result<()>;
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    fn space(&self, dir: &Path) -> io::Result<Space>;
    /// Locks a file (made when absent) against every other process until the answer is dropped.
    /// `WouldBlock` when somebody else holds it. Where nothing can be written, one that is there is
    /// enough.
    fn lock(&self, path: &Path) -> io::Result<Lock>;
    /// Bytes that nobody can foresee; the simulated disk draws them from its seed.
    fn random(&self, bytes: &mut [u8]) -> io::Result<()>;
}

/// An open file. Offsets are explicit: there is no cursor to share.
pub trait File: Send + Sync + fmt::Debug {
    fn size(&self) -> io::Result<u64>;
    /// The permission bits. A disk that knows no permissions answers what `Open::Create` promises.
    fn mode(&self) -> io::Result<u32> {
        Ok(0o600)
    }
    /// May read less than asked; zero bytes mean the end.
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Writes all of it, or fails and leaves any part of it.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// Waits until content and length are on the disk (`fdatasync`).
    fn sync(&self) -> io::Result<()>;
    /// Lets go of what is cached and clean, so that the next read shows what the disk really holds.
    /// After a failed sync the cache may show bytes that never arrived.
    fn drop_cache(&self) -> io::Result<()>;
    /// Claims the blocks of a file of `len` bytes, so that a full disk is met here.
    fn reserve(&self, len: u64) -> io::Result<()>;
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// Maps the first `len` bytes for reading; nothing of it is readable before `publish`.
    fn map(&self, len: u64) -> io::Result<Mapping>;
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Open {
    /// An existing file, for reading only.
    Read,
    /// An existing file, for reading and writing.
    Write,
    /// A new file of mode 0600, for reading and writing; `AlreadyExists` when it is there.
    Create,
}

/// The file system under a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    pub total_bytes: u64,
    pub free_bytes: u64,
    /// It is mounted so that nothing can be written, as a kernel does to one that failed.
    pub read_only: bool,
}

/// Held as long as it lives.
pub struct Lock(#[expect(dead_code, reason = "it is held, not used")] Box<dyn Send + Sync>);

impl Lock {
    pub fn new(held: impl Send + Sync + 'static) -> Lock {
        Lock(Box::new(held))
    }
}

impl fmt::Debug for Lock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Lock")
    }
}

/// Claims `len` bytes and writes them as zeros. Claimed but unwritten blocks would cost a journal
/// write at every later sync: measured, that halves the rate of a single writer.
pub fn fill_with_zeros(file: &dyn File, len: u64) -> io::Result<()> {
    const CHUNK_BYTES: usize = 1 << 20;
    file.reserve(len)?;
    let zeros = vec![0; CHUNK_BYTES.min(usize::try_from(len).unwrap_or(CHUNK_BYTES))];
    let mut offset = 0;
    while offset < len {
        let chunk = zeros.len().min(usize::try_from(len - offset).unwrap_or(zeros.len()));
        file.write_at(&zeros[..chunk], offset)?;
        offset += chunk as u64;
    }
    Ok(())
}

/// Reads exactly `bytes.len()` bytes; `UnexpectedEof` when the file ends before.
pub fn read_exact_at(file: &dyn File, bytes: &mut [u8], offset: u64) -> io::Result<()> {
    let mut done = 0;
    while done < bytes.len() {
        match file.read_at(&mut bytes[done..], offset + done as u64) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(read) => done += read,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// The whole of a file that holds at most `bytes_max` bytes; a longer one is `FileTooLarge`.
pub fn read_all(file: &dyn File, bytes_max: u64) -> io::Result<Vec<u8>> {
    let len = file.size()?;
    if len > bytes_max {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    let len = usize::try_from(len).map_err(|_| io::ErrorKind::FileTooLarge)?;
    let mut bytes = vec![0; len];
    read_exact_at(file, &mut bytes, 0)?;
    Ok(bytes)
}

/// Puts `bytes` at `path` so that after a crash either the old or the new content stands there:
/// written beside it, synced, renamed over it, directory synced.
pub fn replace(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let dir = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let mut beside = name.to_owned();
    beside.push(".new");
    let beside = dir.join(beside);
    match disk.unlink(&beside) {
        Ok(()) => {}
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        Err(e) => return Err(e),
    }
    let written = (|| {
        let file = disk.open(&beside, Open::Create)?;
        file.write_at(bytes, 0)?;
        file.sync()?;
        disk.rename(&beside, path)
    })();
    if written.is_err() {
        // A half-written neighbour is of no use to anybody, and on a full disk it takes the room
        // that the next attempt needs. The first error is the one to report.
        let _ = disk.unlink(&beside);
    }
    written?;
    disk.sync_dir(dir)
}
