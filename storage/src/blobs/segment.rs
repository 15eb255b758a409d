//! One file of `blobs/`: who has which part of it, and how it is closed.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::extent::{
    self, BLOCK_BYTES, EXTENT_HEADER_BYTES, Extent, FOOTER_BYTES, SALT_BYTES, SEGMENT_HEADER_BYTES,
    Salt,
};
use crate::Error;
use crate::disk::{self, Disk, File, Open};

/// A segment is filled up to here, and its footer lies behind. Bounds what an opening scans.
pub(super) const SEGMENT_BYTES: u64 = 128 << 20;
/// Blocks are claimed in steps of this, so that a small desk has a small directory. Tests
/// keep it in memory.
const STEP_BYTES: u64 = if cfg!(test) { 64 << 10 } else { 16 << 20 };
/// What blobs leave free for the log: this much, but never more than a fiftieth of the disk.
const LEFT_FREE_BYTES: u64 = 256 << 20;
const LEFT_FREE_PART: u64 = 50;
const SCAN_BYTES: usize = 1 << 20;
const SUFFIX: &str = ".blob";

#[derive(Debug)]
pub(super) struct Segment {
    number: u32,
    salt: Salt,
    path: PathBuf,
    file: Arc<dyn File>,
    /// A write or sync failed: what the disk holds of it is no longer known.
    retired: AtomicBool,
    space: Mutex<Space>,
}

#[derive(Debug)]
struct Space {
    /// Offset and length of what nobody has; neighbours are always joined.
    free: BTreeMap<u64, u64>,
    /// Up to here the file's blocks are claimed.
    reserved: u64,
    /// Extents that are being written or wait for their sync.
    held: usize,
    next_serial: u32,
    /// Serials whose headers are or will be written and that are not known to be durable.
    unsynced: BTreeSet<u32>,
    /// What was promised here.
    blobs: u64,
    /// No extent is given out any more.
    sealed: bool,
}

impl Segment {
    /// A new file, durable with its name.
    pub(super) fn create(disk: &dyn Disk, folder: &Path, number: u32) -> Result<Segment, Error> {
        let path = path(folder, number);
        check_space(disk, folder)?;
        let create = || {
            let mut salt = [0; SALT_BYTES];
            disk.random(&mut salt)?;
            let file = disk.open(&path, Open::Create)?;
            file.write_at(&extent::encode_header(number, &salt), 0)?;
            file.reserve(STEP_BYTES)?;
            file.sync()?;
            disk.sync_dir(folder)?;
            Ok((salt, file))
        };
        match create() {
            Ok((salt, file)) => Ok(Segment {
                number,
                salt,
                path,
                file,
                retired: AtomicBool::new(false),
                space: Mutex::new(Space {
                    free: BTreeMap::from([(BLOCK_BYTES, SEGMENT_BYTES - BLOCK_BYTES)]),
                    reserved: STEP_BYTES,
                    held: 0,
                    next_serial: 0,
                    unsynced: BTreeSet::new(),
                    blobs: 0,
                    sealed: false,
                }),
            }),
            Err(e) => {
                // It holds nothing, and the first error is the one to report.
                let _ = disk.unlink(&path);
                Err(Error::io("create", &path, e))
            }
        }
    }

    pub(super) fn number(&self) -> u32 {
        self.number
    }

    /// Gives out `span` bytes of whole blocks; `None` when they are not to be had here.
    pub(super) fn claim(
        &self,
        disk: &dyn Disk,
        folder: &Path,
        span: u64,
    ) -> Result<Option<u64>, Error> {
        let mut space = self.space();
        if space.sealed || self.is_retired() {
            return Ok(None);
        }
        let mut fitting = space.free.iter().filter(|(_, len)| **len >= span);
        let Some((&offset, &len)) = fitting.next() else { return Ok(None) };
        if offset + span > space.reserved {
            let reserved = (offset + span).next_multiple_of(STEP_BYTES);
            check_space(disk, folder)?;
            self.file.reserve(reserved).map_err(|e| Error::io("enlarge", &self.path, e))?;
            space.reserved = reserved;
        }
        space.free.remove(&offset);
        if len > span {
            space.free.insert(offset + span, len - span);
        }
        space.held += 1;
        Ok(Some(offset))
    }

    /// Takes an extent back that never got a header. Whether the segment is to be closed now.
    pub(super) fn abandon(&self, offset: u64, span: u64) -> bool {
        let mut space = self.space();
        let (mut offset, mut span) = (offset, span);
        if let Some((&before, &len)) = space.free.range(..offset).next_back()
            && before + len == offset
        {
            space.free.remove(&before);
            (offset, span) = (before, len + span);
        }
        if let Some(len) = space.free.remove(&(offset + span)) {
            span += len;
        }
        space.free.insert(offset, span);
        space.let_go()
    }

    /// The serial of a header that is about to be written, and the one below which all are durable.
    pub(super) fn next_serial(&self) -> (u32, u32) {
        let mut space = self.space();
        let serial = space.next_serial;
        space.next_serial += 1;
        space.unsynced.insert(serial);
        (serial, space.unsynced.first().copied().unwrap_or(serial))
    }

    /// What was written with this serial was synced, so it may be promised.
    pub(super) fn promise(&self, serial: u32) {
        let mut space = self.space();
        space.unsynced.remove(&serial);
        space.blobs += 1;
    }

    /// An extent with a header is nobody's any more. Whether the segment is to be closed now.
    pub(super) fn keep(&self) -> bool {
        self.space().let_go()
    }

    /// Ends the giving out. Whether the segment is to be closed now.
    pub(super) fn seal(&self) -> bool {
        let mut space = self.space();
        space.sealed = true;
        space.held == 0
    }

    /// Writes a part of an extent. A full disk refuses this one; any other error retires the file.
    pub(super) fn write(&self, bytes: &[u8], offset: u64) -> Result<(), Error> {
        self.check()?;
        self.file.write_at(bytes, offset).map_err(|e| {
            let error = Error::io("write", &self.path, e);
            if !matches!(error, Error::Full) {
                self.retire();
            }
            error
        })
    }

    pub(super) fn write_header(&self, extent: &Extent) -> Result<(), Error> {
        self.write(&extent.encode(&self.salt), extent.offset)
    }

    /// Makes all that was written durable. After an error nothing here is known to be, so it is
    /// never tried again.
    pub(super) fn sync(&self) -> Result<(), Error> {
        self.check()?;
        self.file.sync().map_err(|e| {
            self.retire();
            Error::io("sync", &self.path, e)
        })
    }

    /// Cuts off what was claimed and not used, and says that this is all. An error leaves the file
    /// to the next opening, which does the same.
    pub(super) fn close(&self, disk: &dyn Disk, folder: &Path) -> Result<(), Error> {
        self.check()?;
        let space = self.space();
        if space.blobs == 0 {
            return disk
                .unlink(&self.path)
                .and_then(|()| disk.sync_dir(folder))
                .map_err(|e| Error::io("remove", &self.path, e));
        }
        let end = match space.free.last_key_value() {
            Some((&offset, &len)) if offset + len == SEGMENT_BYTES => offset,
            _ => SEGMENT_BYTES,
        };
        write_footer(self.file.as_ref(), space.blobs, end, &self.salt)
            .map_err(|e| Error::io("close", &self.path, e))
    }

    fn check(&self) -> Result<(), Error> {
        if self.is_retired() {
            return Err(Error::refused(format!(
                "{} failed to reach the disk and takes no more files",
                self.path.display()
            )));
        }
        Ok(())
    }

    fn is_retired(&self) -> bool {
        self.retired.load(Ordering::Acquire)
    }

    fn retire(&self) {
        self.retired.store(true, Ordering::Release);
    }

    fn space(&self) -> MutexGuard<'_, Space> {
        self.space.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Space {
    fn let_go(&mut self) -> bool {
        self.held -= 1;
        self.sealed && self.held == 0
    }
}

pub(super) fn path(folder: &Path, number: u32) -> PathBuf {
    folder.join(format!("{number:08x}{SUFFIX}"))
}

/// The numbers of the segments, rising. Files of other names are not ours and stay.
pub(super) fn list(disk: &dyn Disk, folder: &Path) -> Result<Vec<u32>, Error> {
    let names = disk.list(folder).map_err(|e| Error::io("list", folder, e))?;
    let mut numbers: Vec<u32> = names
        .iter()
        .filter_map(|name| {
            let number = u32::from_str_radix(name.strip_suffix(SUFFIX)?, 16).ok()?;
            (*name == format!("{number:08x}{SUFFIX}")).then_some(number)
        })
        .collect();
    numbers.sort_unstable();
    Ok(numbers)
}

/// Does for a segment of an earlier process what `Segment::close` would have done, except that it
/// cuts off zeros only: whether other bytes without a header are half an upload or a blob with a
/// damaged header, nobody can tell.
pub(super) fn close_left_open(disk: &dyn Disk, folder: &Path, number: u32) -> Result<(), Error> {
    let path = path(folder, number);
    let close = || {
        let file = disk.open(&path, Open::Write)?;
        let file = file.as_ref();
        let size = file.size()?;
        let Ok(salt) = read_header(file, number)? else {
            // Its creation did not end, or its header is damaged.
            if end_of_content(file, 0, size)? == 0 {
                disk.unlink(&path)?;
                disk.sync_dir(folder)?;
            }
            return Ok(());
        };
        if read_footer(file, &salt, size)?.is_some() {
            return Ok(());
        }
        // What is read next may so far be in memory only.
        file.sync()?;
        let (mut durable, mut end) = (0, BLOCK_BYTES);
        for_each_extent(file, &salt, size, |extent| {
            durable = durable.max(extent.durable);
            end = extent.end();
            Ok(())
        })?;
        let mut blobs = 0;
        for_each_extent(file, &salt, size, |extent| {
            let counts = extent.serial < durable || content_matches(file, &extent)?;
            blobs += u64::from(counts);
            Ok(())
        })?;
        let end = end_of_content(file, end, size)?.next_multiple_of(BLOCK_BYTES);
        if blobs == 0 && end == BLOCK_BYTES {
            disk.unlink(&path)?;
            return disk.sync_dir(folder);
        }
        write_footer(file, blobs, end, &salt)
    };
    close().map_err(|e| Error::io("close", &path, e))
}

/// The salt, or what is wrong with the header.
pub(super) fn read_header(file: &dyn File, number: u32) -> io::Result<Result<Salt, &'static str>> {
    let mut header = [0; SEGMENT_HEADER_BYTES];
    match disk::read_exact_at(file, &mut header, 0) {
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => {
            Ok(Err("the blob segment is too short to have a header"))
        }
        read => read.map(|()| extent::decode_header(&header, number)),
    }
}

/// The count of blobs, if the segment is closed.
pub(super) fn read_footer(file: &dyn File, salt: &Salt, size: u64) -> io::Result<Option<u64>> {
    let Some(offset) = size.checked_sub(FOOTER_BYTES) else { return Ok(None) };
    let mut footer = [0; EXTENT_HEADER_BYTES];
    disk::read_exact_at(file, &mut footer, offset)?;
    Ok(extent::decode_footer(&footer, salt, offset))
}

/// Tells `each` of every complete extent, by reading headers only.
pub(super) fn for_each_extent(
    file: &dyn File,
    salt: &Salt,
    size: u64,
    mut each: impl FnMut(Extent) -> io::Result<()>,
) -> io::Result<()> {
    let mut offset = BLOCK_BYTES;
    while offset + EXTENT_HEADER_BYTES as u64 <= size {
        let mut header = [0; EXTENT_HEADER_BYTES];
        match disk::read_exact_at(file, &mut header, offset) {
            // Cut by its owner since the size was asked.
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            read => read?,
        }
        offset = match Extent::decode(&header, salt, offset, size) {
            Some(extent) => {
                each(extent)?;
                extent.end()
            }
            None => offset + BLOCK_BYTES,
        };
    }
    Ok(())
}

pub(super) fn content_matches(file: &dyn File, extent: &Extent) -> io::Result<bool> {
    let mut crc = crc32fast::Hasher::new();
    read_content(file, extent, |bytes| crc.update(bytes))?;
    Ok(crc.finalize() == extent.crc)
}

/// Hands the content to `each` in parts of bounded size.
pub(super) fn read_content(
    file: &dyn File,
    extent: &Extent,
    mut each: impl FnMut(&[u8]),
) -> io::Result<()> {
    let mut part = vec![0; SCAN_BYTES.min(extent.len as usize)];
    let mut done = 0;
    while done < extent.len {
        let wanted = part.len().min((extent.len - done) as usize);
        disk::read_exact_at(file, &mut part[..wanted], extent.content() + done)?;
        each(&part[..wanted]);
        done += wanted as u64;
    }
    Ok(())
}

/// Behind the last byte from `from` on that is not zero; `from` when there is none.
pub(super) fn end_of_content(file: &dyn File, from: u64, size: u64) -> io::Result<u64> {
    let (mut offset, mut end) = (from, from);
    let mut bytes = vec![0; SCAN_BYTES];
    while offset < size {
        let read = file.read_at(&mut bytes, offset)?;
        if read == 0 {
            break;
        }
        if let Some(last) = bytes[..read].iter().rposition(|byte| *byte != 0) {
            end = offset + last as u64 + 1;
        }
        offset += read as u64;
    }
    Ok(end)
}

fn write_footer(file: &dyn File, blobs: u64, end: u64, salt: &Salt) -> io::Result<()> {
    file.write_at(&extent::encode_footer(blobs, end, salt), end)?;
    file.set_len(end + FOOTER_BYTES)?;
    file.sync()
}

fn check_space(disk: &dyn Disk, folder: &Path) -> Result<(), Error> {
    let space = disk.space(folder).map_err(|e| Error::io("look for room in", folder, e))?;
    let left_free = LEFT_FREE_BYTES.min(space.total_bytes / LEFT_FREE_PART);
    if space.free_bytes < left_free.saturating_add(STEP_BYTES) { Err(Error::Full) } else { Ok(()) }
}
