//! `blobs/`: images and files, streamed into extents of preallocated segments and read back from
//! where they lie.
//!
//! An upload says its length, gets an extent, and writes into it beside all others; nothing is
//! copied or moved afterwards. Finishing writes the extent's header and hands it to the one blob
//! thread, which syncs everything that finished meanwhile with one `fdatasync` and then answers.
//! Invariants:
//!
//! - A `BlobRef` exists only for bytes that are durable. Whoever logs one does so afterwards.
//! - An extent whose header was written is never written or given away again.
//! - A failed write or sync retires its segment: nothing more is promised in it, and what was
//!   promised before stays readable. The log is not touched by it.
//! - A segment that a process left open is cut behind its last byte that is not zero and closed by
//!   the next one. None is appended to by a later process.

mod extent;
mod segment;
mod sync;
mod upload;
mod verify;

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;

use ring::hmac;

use crate::Error;
use crate::disk::{self, Disk, Lock, Open};

use extent::{ADDRESS_BYTES, EXTENT_HEADER_BYTES, Extent};
use upload::Room;
pub use upload::{BlobWriter, UPLOADS_MAX};
pub(crate) use verify::Checked;

/// The largest file that can be kept.
pub const BLOB_BYTES_MAX: u64 = 25 << 20;
pub const BLOB_KEY_BYTES: usize = 32;
pub const BLOB_REF_BYTES: usize = 4 + 8 + 8 + ADDRESS_BYTES;

const FOLDER: &str = "blobs";

/// Where a blob lies and what it is: `address` is HMAC-SHA256, under a key of the installation, of
/// the SHA-256 of the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BlobRef {
    pub segment: u32,
    pub offset: u64,
    pub len: u64,
    pub address: [u8; ADDRESS_BYTES],
}

impl BlobRef {
    /// segment u32 | offset u64 | len u64 | address, little-endian
    pub fn to_bytes(&self) -> [u8; BLOB_REF_BYTES] {
        let mut bytes = [0; BLOB_REF_BYTES];
        bytes[..4].copy_from_slice(&self.segment.to_le_bytes());
        bytes[4..12].copy_from_slice(&self.offset.to_le_bytes());
        bytes[12..20].copy_from_slice(&self.len.to_le_bytes());
        bytes[20..].copy_from_slice(&self.address);
        bytes
    }

    pub fn from_bytes(bytes: &[u8; BLOB_REF_BYTES]) -> BlobRef {
        BlobRef {
            segment: u32::from_le_bytes(extent::field(bytes, 0)),
            offset: u64::from_le_bytes(extent::field(bytes, 4)),
            len: u64::from_le_bytes(extent::field(bytes, 12)),
            address: extent::field(bytes, 20),
        }
    }
}

/// Cheap to clone.
#[derive(Clone)]
pub struct Blobs {
    room: Arc<Room>,
}

impl Blobs {
    /// Opens `blobs/` under `dir` and closes what the last process left open. A segment that cannot
    /// be read is left as it is: uploads go into a new one anyway, and `check` says what is wrong.
    /// With a `refusal` nothing is changed, and every upload gets it for an answer.
    pub(crate) fn open(
        disk: Arc<dyn Disk>,
        dir: &Path,
        key: &[u8; BLOB_KEY_BYTES],
        lock: Arc<Lock>,
        refusal: Option<Error>,
    ) -> Result<Blobs, Error> {
        let folder = dir.join(FOLDER);
        let key = hmac::Key::new(hmac::HMAC_SHA256, key);
        let mut next = 0;
        if refusal.is_none() {
            disk.create_dir(&folder)
                .and_then(|()| disk.sync_dir(dir))
                .map_err(|e| Error::io("create", &folder, e))?;
            for number in segment::list(&*disk, &folder)? {
                // One failing file must not keep the whole desk closed.
                let _ = segment::close_left_open(&*disk, &folder, number);
                next = next.max(number.saturating_add(1));
            }
        }
        Ok(Blobs { room: Room::open(disk, folder, key, next, lock, refusal)? })
    }

    /// Claims room for exactly `len` bytes. Touches the disk: not for an async worker.
    pub fn begin(&self, len: u64) -> Result<BlobWriter, Error> {
        BlobWriter::begin(&self.room, len)
    }

    /// Reads from byte `offset` of the blob on into `buf`; less than all of `buf` only at the end
    /// of the blob. Never a byte of another blob. Touches the disk: not for an async worker.
    pub fn read(&self, blob: &BlobRef, offset: u64, buf: &mut [u8]) -> Result<usize, Error> {
        let left = usize::try_from(blob.len.saturating_sub(offset)).unwrap_or(usize::MAX);
        let wanted = buf.len().min(left);
        if wanted == 0 {
            return Ok(0);
        }
        let (file, extent) = self.find(blob)?;
        disk::read_exact_at(&*file, &mut buf[..wanted], extent.content() + offset)
            .map_err(|e| self.failed(blob, e))?;
        Ok(wanted)
    }

    /// Reads all of a blob and says whether it is what was written. Whoever gives one out whole asks
    /// first, because `read` cannot know. Touches the disk: not for an async worker.
    pub fn verify(&self, blob: &BlobRef) -> Result<(), Error> {
        let (file, extent) = self.find(blob)?;
        if segment::content_matches(&*file, &extent).map_err(|e| self.failed(blob, e))? {
            Ok(())
        } else {
            Err(damaged(blob, "the blob is not what was written"))
        }
    }

    /// The blob, if it is the one that lies there. Where the folder was lost, or restored from before
    /// the log, its place may be another blob's by now, which is another person's.
    fn find(&self, blob: &BlobRef) -> Result<(Arc<dyn disk::File>, Extent), Error> {
        let failed = |e| self.failed(blob, e);
        let path = segment::path(self.room.folder(), blob.segment);
        let file = self.room.disk().open(&path, Open::Read).map_err(failed)?;
        let size = file.size().map_err(failed)?;
        let salt = segment::read_header(&*file, blob.segment).map_err(failed)?;
        let salt = salt.map_err(|what| damaged(blob, what))?;
        // Seen first, because nobody can read at an offset that is none.
        if size.checked_sub(EXTENT_HEADER_BYTES as u64).is_none_or(|last| blob.offset > last) {
            return Err(damaged(blob, "the blob segment ends too early"));
        }
        let mut header = [0; EXTENT_HEADER_BYTES];
        disk::read_exact_at(&*file, &mut header, blob.offset).map_err(failed)?;
        let extent = Extent::decode(&header, &salt, blob.offset, size)
            .filter(|extent| (extent.len, extent.address) == (blob.len, blob.address))
            .ok_or_else(|| damaged(blob, "the header of the blob is damaged"))?;
        Ok((file, extent))
    }

    fn failed(&self, blob: &BlobRef, error: io::Error) -> Error {
        match error.kind() {
            io::ErrorKind::NotFound => damaged(blob, "the blob segment is missing"),
            io::ErrorKind::UnexpectedEof => damaged(blob, "the blob segment ends too early"),
            _ => Error::io("read", &segment::path(self.room.folder(), blob.segment), error),
        }
    }

    /// From now on every upload gets this for an answer: damage was met after this was opened.
    pub fn refuse(&self, why: Error) {
        self.room.refuse(why);
    }

    /// Answers the uploads that have finished, refuses all others from now on, and closes the
    /// segment. Clones may live on and read.
    pub fn close(&self) {
        self.room.close();
    }
}

impl fmt::Debug for Blobs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Blobs").field("folder", &self.room.folder()).finish_non_exhaustive()
    }
}

fn damaged(blob: &BlobRef, what: &'static str) -> Error {
    Error::Corrupt { segment: blob.segment, offset: blob.offset, what }
}

/// Reads every blob of a store that need not be open, and tells `each` of those that are whole and of
/// everything that is not. Without the key, the checksums alone speak.
pub(crate) fn verify(
    disk: &dyn Disk,
    dir: &Path,
    key: Option<&[u8; BLOB_KEY_BYTES]>,
    each: &mut dyn FnMut(Checked),
) -> Result<(), Error> {
    let key = key.map(|key| hmac::Key::new(hmac::HMAC_SHA256, key));
    verify::folder(disk, &dir.join(FOLDER), key.as_ref(), each)
}

/// Below the data directory.
pub(crate) fn file_name(segment: u32) -> String {
    segment::path(Path::new(FOLDER), segment).display().to_string()
}

#[cfg(test)]
mod tests;
