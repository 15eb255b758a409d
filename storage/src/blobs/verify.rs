//! Reading every blob back, for `lodge check`. Changes nothing.

use std::io;
use std::path::Path;

use ring::{digest, hmac};

use super::BlobRef;
use super::extent::{self, Extent};
use super::segment;
use crate::Error;
use crate::disk::{Disk, File, Open};

/// What verification comes upon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Checked {
    /// It is whole.
    Blob(BlobRef),
    Damage {
        segment: u32,
        offset: u64,
        what: String,
    },
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
        let path = segment::path(folder, number);
        let checked = disk
            .open(&path, Open::Read)
            .and_then(|file| check_segment(file.as_ref(), number, key, each));
        match checked {
            // An empty segment that was removed since the folder was listed.
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => each(damage(number, 0, format!("it cannot be read: {e}"))),
            Ok(()) => {}
        }
    }
    Ok(())
}

fn check_segment(
    file: &dyn File,
    number: u32,
    key: Option<&hmac::Key>,
    each: &mut dyn FnMut(Checked),
) -> io::Result<()> {
    let size = file.size()?;
    let salt = match segment::read_header(file, number)? {
        Ok(salt) => salt,
        // A crash of its creation; nothing was ever promised in it.
        Err(_) if segment::end_of_content(file, 0, size)? == 0 => return Ok(()),
        Err(what) => {
            each(damage(number, 0, what));
            return Ok(());
        }
    };
    let (mut durable, mut whole, mut bad) = (0, 0, Vec::new());
    segment::for_each_extent(file, &salt, size, |extent| {
        durable = durable.max(extent.durable);
        let Extent { offset, len, address, .. } = extent;
        match check_content(file, &extent, key) {
            Ok(None) => {
                whole += 1;
                each(Checked::Blob(BlobRef { segment: number, offset, len, address }));
            }
            Ok(Some(what)) => bad.push((extent, what)),
            Err(e) => each(damage(number, offset, format!("the blob cannot be read: {e}"))),
        }
        Ok(())
    })?;
    let promised = segment::read_footer(file, &salt, size)?.unwrap_or_default();
    let missing = promised > whole;
    if missing && bad.is_empty() {
        let what = "the blob segment holds fewer blobs than were promised in it";
        each(damage(number, size, what));
    }
    // The rest are uploads that a power cut ended before they were answered.
    for (extent, what) in bad.into_iter().filter(|(bad, _)| missing || bad.serial < durable) {
        each(damage(number, extent.offset, what));
    }
    Ok(())
}

fn damage(segment: u32, offset: u64, what: impl Into<String>) -> Checked {
    Checked::Damage { segment, offset, what: what.into() }
}

fn check_content(
    file: &dyn File,
    extent: &Extent,
    key: Option<&hmac::Key>,
) -> io::Result<Option<&'static str>> {
    let (mut sha, mut crc) = (digest::Context::new(&digest::SHA256), crc32fast::Hasher::new());
    segment::read_content(file, extent, |bytes| {
        sha.update(bytes);
        crc.update(bytes);
    })?;
    if crc.finalize() != extent.crc {
        return Ok(Some("the blob is not what was written"));
    }
    let is_its_address = key.is_none_or(|key| extent::address(key, sha) == extent.address);
    Ok((!is_its_address).then_some("the blob does not bear the address of its content"))
}
