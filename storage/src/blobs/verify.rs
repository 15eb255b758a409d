//! Reading every blob back, for `lodge check`. Changes nothing.

use std::io;
use std::path::Path;

use ring::{digest, hmac};

use super::BlobRef;
use super::extent::{self, Extent};
use super::segment;
use crate::Error;
use crate::disk::{self, Disk, File, Open};

const CHUNK_BYTES: u64 = 1 << 20;

/// What verification comes upon.
#[derive(Debug)]
pub enum Checked {
    /// A segment, before its blobs.
    Segment(u32),
    Blob(BlobRef),
    Damage(Error),
}

/// A folder that is not there has no blobs.
pub(super) fn folder(
    disk: &dyn Disk,
    folder: &Path,
    key: Option<&hmac::Key>,
    each: &mut dyn FnMut(Checked),
) -> Result<(), Error> {
    let numbers = match disk.list(folder) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        _ => segment::list(disk, folder)?,
    };
    for number in numbers {
        each(Checked::Segment(number));
        let path = segment::path(folder, number);
        let checked = disk
            .open(&path, Open::Read)
            .and_then(|file| check_segment(file.as_ref(), &path, number, key, each));
        match checked {
            // An empty segment that was removed since the folder was listed.
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => each(Checked::Damage(Error::io("read", &path, e))),
            Ok(()) => {}
        }
    }
    Ok(())
}

fn check_segment(
    file: &dyn File,
    path: &Path,
    number: u32,
    key: Option<&hmac::Key>,
    each: &mut dyn FnMut(Checked),
) -> io::Result<()> {
    let damage = |offset, what| Checked::Damage(Error::Corrupt { segment: number, offset, what });
    let size = file.size()?;
    let salt = match segment::read_header(file, number)? {
        Ok(salt) => salt,
        // A crash of its creation; nothing was ever promised in it.
        Err(_) if segment::end_of_content(file, 0, size)? == 0 => return Ok(()),
        Err(what) => {
            each(damage(0, what));
            return Ok(());
        }
    };
    let mut blobs = 0;
    segment::for_each_extent(file, &salt, size, |extent| {
        blobs += 1;
        let Extent { offset, len, address, .. } = extent;
        each(match check_content(file, &extent, key) {
            Ok(None) => Checked::Blob(BlobRef { segment: number, offset, len, address }),
            Ok(Some(what)) => damage(offset, what),
            Err(e) => Checked::Damage(Error::io("read", path, e)),
        });
        Ok(())
    })?;
    match segment::read_footer(file, &salt, size)? {
        Some(closed_with) if closed_with > blobs => {
            each(damage(size, "the blob segment holds fewer blobs than when it was closed"));
        }
        _ => {}
    }
    Ok(())
}

fn check_content(
    file: &dyn File,
    extent: &Extent,
    key: Option<&hmac::Key>,
) -> io::Result<Option<&'static str>> {
    let (mut sha, mut crc) = (digest::Context::new(&digest::SHA256), crc32fast::Hasher::new());
    let mut chunk = vec![0; CHUNK_BYTES.min(extent.len) as usize];
    let mut done = 0;
    while done < extent.len {
        let wanted = CHUNK_BYTES.min(extent.len - done) as usize;
        let bytes = &mut chunk[..wanted];
        disk::read_exact_at(file, bytes, extent.content() + done)?;
        sha.update(bytes);
        crc.update(bytes);
        done += wanted as u64;
    }
    if crc.finalize() != extent.crc {
        return Ok(Some("the blob is not what was written"));
    }
    let is_its_address = key.is_none_or(|key| extent::address(key, sha) == extent.address);
    Ok((!is_its_address).then_some("the blob does not bear the address of its content"))
}
