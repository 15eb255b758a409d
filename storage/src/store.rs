//! One data directory, opened: the lock, the file `STORE` that says whose it is and who may read
//! it, and what lies beside it.
//!
//! ```text
//! LOCK    held as long as anything here can be written
//! STORE   64 bytes:
//!          0  magic       12 bytes  "Lodge store\n"
//!         12  format      u32       0: experimental
//!         16  min_reader  u32       the oldest build that may read it
//!         20  min_writer  u32       the oldest build that may write it
//!         24  uuid        16 bytes  random
//!         40  epoch       u64       random; identity of this history
//!         48  zeros
//!         60  crc         u32       CRC-32 of 0..60
//! log/    segments, their indexes, spares
//! blobs/  images and files
//! SECRETS what lets people in, and the key under which blobs are addressed
//! meta/   projections in sled; see `Meta`, which is opened by whoever replays them
//! ```
//!
//! Invariants: `STORE` is written last, so where it is, the rest was made; it is never written
//! again. Format 0 ends with the sealed log: later builds refuse it.

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::blobs::{BLOB_KEY_BYTES, Blobs};
use crate::disk::{self, Disk, Open, Space};
use crate::error::Error;
use crate::fields::{array_at, put, u32_at, u64_at};
use crate::log::{Ground, Log, Shared};
use crate::record::Position;
use crate::recovery;
use crate::secrets::Secrets;
use crate::segment;

const MAGIC: [u8; 12] = *b"Lodge store\n";
const MAGIC_AT: usize = 0;
const FORMAT_AT: usize = MAGIC_AT + 12;
const MIN_READER_AT: usize = FORMAT_AT + 4;
const MIN_WRITER_AT: usize = MIN_READER_AT + 4;
const UUID_AT: usize = MIN_WRITER_AT + 4;
const EPOCH_AT: usize = UUID_AT + 16;
const STORE_BYTES: usize = 64;
const CRC_AT: usize = STORE_BYTES - 4;

/// The format that this build writes.
pub const FORMAT: u32 = 0;
/// What this build is, compared with a store's `min_reader` and `min_writer`.
const BUILD: u32 = 0;

const LOCK_NAME: &str = "LOCK";
const STORE_NAME: &str = "STORE";
pub(crate) const LOG_NAME: &str = "log";
const BLOB_KEY_NAME: &str = "blobs.key";

type BlobKey = [u8; BLOB_KEY_BYTES];

/// Everything in one data directory. Nothing else may open it while this, or its log, lives.
#[derive(Debug)]
pub struct Store {
    pub log: Log,
    pub blobs: Blobs,
    pub secrets: Secrets,
}

/// How large things are. The default is what a real store uses; tests make everything small.
#[derive(Debug, Clone)]
pub struct Options {
    /// A segment made in idle time.
    pub segment_bytes: u64,
    /// A segment that somebody waits for: the first after an open, and any made without a spare.
    pub first_segment_bytes: u64,
    /// Spare segments may take this much, and never more than one fiftieth of the disk.
    pub spare_bytes_max: u64,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            segment_bytes: 64 << 20,
            first_segment_bytes: 8 << 20,
            spare_bytes_max: 256 << 20,
        }
    }
}

/// More of them would not make anything faster: one is taken while the other is made.
const SPARES_MAX: u64 = 2;
const SPARE_SHARE_OF_DISK: u64 = 50;

/// What an open is busy with, for whoever watches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Progress {
    Segment { nth: usize, of: usize },
}

impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Progress::Segment { nth, of } => write!(f, "reading segment {nth} of {of}"),
        }
    }
}

/// `Options`, judged by the disk they meet.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sizes {
    pub(crate) segment_bytes: u64,
    pub(crate) first_segment_bytes: u64,
    pub(crate) spares_max: usize,
}

impl Store {
    /// Opens a data directory, or makes one where there is nothing yet. After a crash this is the
    /// recovery; see `recovery` for what it decides.
    ///
    /// What is damaged, of a newer Lodge, or on a disk that is mounted read-only is opened all the
    /// same, to be read: then `Log::refusal` says why, and nothing is changed.
    pub fn open(
        disk: Arc<dyn Disk>,
        dir: &Path,
        options: &Options,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Store, Error> {
        Store::open_unless(None, disk, dir, options, progress)
    }

    /// Opens a data directory to be read only, whatever stands there: for when opening it for
    /// writing went wrong. `why` is what every attempt to write gets for an answer.
    pub fn look(
        why: Error,
        disk: Arc<dyn Disk>,
        dir: &Path,
        options: &Options,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Store, Error> {
        Store::open_unless(Some(why), disk, dir, options, progress)
    }

    fn open_unless(
        refusal: Option<Error>,
        disk: Arc<dyn Disk>,
        dir: &Path,
        options: &Options,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Store, Error> {
        disk.create_dir(dir).map_err(|e| Error::io("make the data directory", dir, e))?;
        let path = dir.join(LOCK_NAME);
        let lock = disk.lock(&path).map_err(|e| match e.kind() {
            io::ErrorKind::WouldBlock => Error::Locked,
            _ => Error::io("lock", &path, e),
        })?;
        let lock = Arc::new(lock);
        let space = disk.space(dir).map_err(|e| Error::io("measure the disk of", dir, e))?;
        let refusal = refusal.or_else(|| {
            let what = format!("the file system of {} is mounted read-only", dir.display());
            space.read_only.then(|| Error::read_only(what))
        });
        if refusal.is_none() {
            // A name that is seen may still stand in memory only, left there by a start that failed.
            disk.sync_dir(dir).map_err(|e| Error::io("sync", dir, e))?;
        }
        let named = match read_name(&*disk, dir)? {
            Some(named) => named,
            None => refusal.clone().map_or_else(|| make(&*disk, dir), Err)?,
        };
        let ground = Ground {
            sizes: options.judged_by(space),
            disk,
            dir: dir.join(LOG_NAME),
            store: named.uuid,
            epoch: named.epoch,
        };
        let refusal = refusal.or_else(|| named.refusal());
        let found = recovery::recover(&ground, refusal, progress)?;
        let disk = ground.disk.clone();
        let log = Log { shared: Arc::new(Shared::new(ground, found, lock.clone())) };
        // `SECRETS` is made before the first record can be written.
        let history = log.watermark() > Position(segment::HEADER_BYTES as u64);
        let secrets = match log.refusal() {
            None => Secrets::open(disk.clone(), dir, history)?,
            Some(why) => Secrets::look(why, disk.clone(), dir, history)?,
        };
        let key = blob_key(&*disk, &secrets)?;
        let blobs = Blobs::open(disk, dir, &key, lock, log.refusal())?;
        Ok(Store { log, blobs, secrets })
    }
}

impl Options {
    fn judged_by(&self, space: Space) -> Sizes {
        let spare_bytes = self.spare_bytes_max.min(space.total_bytes / SPARE_SHARE_OF_DISK);
        let spares = (spare_bytes / self.segment_bytes.max(1)).min(SPARES_MAX);
        Sizes {
            segment_bytes: self.segment_bytes,
            first_segment_bytes: self.first_segment_bytes,
            spares_max: spares as usize,
        }
    }
}

/// What `STORE` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Named {
    pub(crate) uuid: [u8; 16],
    pub(crate) epoch: u64,
    min_writer: u32,
}

impl Named {
    pub(crate) fn refusal(&self) -> Option<Error> {
        (self.min_writer > BUILD).then(|| {
            Error::read_only(
                "this store was written by a newer Lodge: this build can read it, not write it",
            )
        })
    }
}

/// `None` where no store was made yet. Whatever is not plainly ours is refused, not replaced.
pub(crate) fn read_name(disk: &dyn Disk, dir: &Path) -> Result<Option<Named>, Error> {
    let path = dir.join(STORE_NAME);
    let file = match disk.open(&path, Open::Read) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened.map_err(|e| Error::io("open", &path, e))?,
    };
    // One byte more than there should be, so that a longer file is seen as one.
    let bytes = match disk::read_all(&*file, STORE_BYTES as u64) {
        Err(e) if e.kind() == io::ErrorKind::FileTooLarge => Vec::new(),
        read => read.map_err(|e| Error::io("read", &path, e))?,
    };
    let named = decode(&bytes)?;
    match disk.list(&dir.join(LOG_NAME)) {
        Ok(_) => Ok(Some(named)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            Err(Error::refused("this store has lost its log: the directory `log` is not there"))
        }
        Err(e) => Err(Error::io("list", &dir.join(LOG_NAME), e)),
    }
}

fn decode(bytes: &[u8]) -> Result<Named, Error> {
    if array_at(bytes, MAGIC_AT) != Some(MAGIC) {
        return Err(Error::refused("the file STORE is not one of Lodge's"));
    }
    let summed = bytes.get(..CRC_AT).map(crc32fast::hash);
    if bytes.len() != STORE_BYTES || summed.is_none() || summed != u32_at(bytes, CRC_AT) {
        return Err(Error::refused("the file STORE is damaged"));
    }
    let min_reader = u32_at(bytes, MIN_READER_AT).unwrap_or(u32::MAX);
    if min_reader > BUILD {
        let format = u32_at(bytes, FORMAT_AT).unwrap_or_default();
        return Err(Error::refused(format!(
            "this store has format {format}, which needs a newer Lodge to read it"
        )));
    }
    Ok(Named {
        uuid: array_at(bytes, UUID_AT).unwrap_or_default(),
        epoch: u64_at(bytes, EPOCH_AT).unwrap_or_default(),
        min_writer: u32_at(bytes, MIN_WRITER_AT).unwrap_or(u32::MAX),
    })
}

fn encode(named: &Named) -> [u8; STORE_BYTES] {
    let mut bytes = [0; STORE_BYTES];
    put(&mut bytes, MAGIC_AT, MAGIC);
    put(&mut bytes, FORMAT_AT, FORMAT.to_le_bytes());
    put(&mut bytes, MIN_READER_AT, BUILD.to_le_bytes());
    put(&mut bytes, MIN_WRITER_AT, named.min_writer.to_le_bytes());
    put(&mut bytes, UUID_AT, named.uuid);
    put(&mut bytes, EPOCH_AT, named.epoch.to_le_bytes());
    let crc = crc32fast::hash(&bytes[..CRC_AT]);
    put(&mut bytes, CRC_AT, crc.to_le_bytes());
    bytes
}

/// The file of a store with this identity, for the golden files.
#[cfg(test)]
pub(crate) fn encode_golden(uuid: [u8; 16], epoch: u64) -> [u8; STORE_BYTES] {
    encode(&Named { uuid, epoch, min_writer: 0 })
}

fn make(disk: &dyn Disk, dir: &Path) -> Result<Named, Error> {
    let log = dir.join(LOG_NAME);
    disk.create_dir(&log).map_err(|e| Error::io("make", &log, e))?;
    let names = disk.list(&log).map_err(|e| Error::io("list", &log, e))?;
    if names.iter().any(|name| segment::number_of(name, ".seg").is_some()) {
        return Err(Error::refused(
            "there is a log here, but the file STORE that names it is gone",
        ));
    }
    disk.sync_dir(dir).map_err(|e| Error::io("sync", dir, e))?;
    if let Some(above) = dir.parent().filter(|above| !above.as_os_str().is_empty()) {
        disk.sync_dir(above).map_err(|e| Error::io("sync", above, e))?;
    }
    let (mut uuid, mut epoch) = ([0; 16], [0; 8]);
    let path = dir.join(STORE_NAME);
    let made = (|| {
        disk.random(&mut uuid)?;
        disk.random(&mut epoch)?;
        let named = Named { uuid, epoch: u64::from_le_bytes(epoch), min_writer: BUILD };
        disk::replace(disk, &path, &encode(&named))?;
        Ok(named)
    })();
    made.map_err(|e| Error::io("write", &path, e))
}

/// The key under which blobs are addressed, made when it is first needed.
fn blob_key(disk: &dyn Disk, secrets: &Secrets) -> Result<BlobKey, Error> {
    if let Some(key) = kept_blob_key(|name| secrets.get(name))? {
        return Ok(key);
    }
    let mut key = BlobKey::default();
    disk.random(&mut key).map_err(|e| Error::io("draw a key for", Path::new(BLOB_KEY_NAME), e))?;
    secrets.put(BLOB_KEY_NAME, &key)?;
    Ok(key)
}

pub(crate) fn kept_blob_key(
    get: impl FnOnce(&str) -> Option<Vec<u8>>,
) -> Result<Option<BlobKey>, Error> {
    let key = get(BLOB_KEY_NAME).map(BlobKey::try_from).transpose();
    key.map_err(|_| Error::refused("the key for addresses of blobs in SECRETS has a wrong length"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMED: Named = Named { uuid: [7; 16], epoch: 99, min_writer: 0 };

    #[test]
    fn the_name_comes_back_and_no_flipped_bit_goes_unseen() {
        let bytes = encode(&NAMED);
        assert_eq!(decode(&bytes).unwrap(), NAMED);
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(decode(&flipped).is_err(), "bit {bit}");
        }
        for len in 0..bytes.len() {
            assert!(decode(&bytes[..len]).is_err(), "{len} bytes");
        }
    }

    #[test]
    fn a_newer_format_is_refused_or_only_read() {
        let mut bytes = encode(&Named { min_writer: 1, ..NAMED });
        assert!(decode(&bytes).unwrap().refusal().is_some());
        put(&mut bytes, MIN_READER_AT, 1_u32.to_le_bytes());
        put(&mut bytes, FORMAT_AT, 3_u32.to_le_bytes());
        let crc = crc32fast::hash(&bytes[..CRC_AT]);
        put(&mut bytes, CRC_AT, crc.to_le_bytes());
        let refused = decode(&bytes).unwrap_err().to_string();
        assert_eq!(refused, "this store has format 3, which needs a newer Lodge to read it");
    }
}
