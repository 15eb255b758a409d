//! The disk of this machine.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{FallocateFlags, FlockOperation, OFlags};

use super::{Disk, File, Lock, Open, Space};
use crate::mapping::Mapping;

const FILE_MODE: u32 = 0o600;
const DIR_MODE: u32 = 0o700;

#[derive(Debug, Clone, Copy, Default)]
pub struct RealDisk;

impl Disk for RealDisk {
    fn open(&self, path: &Path, how: Open) -> io::Result<Arc<dyn File>> {
        open_regular(path, how).map(|file| Arc::new(RealFile(file)) as Arc<dyn File>)
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        match fs::DirBuilder::new().mode(DIR_MODE).create(path) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
            other => other,
        }
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(dir)? {
            // None of our names is anything but ASCII, so a stray one that is not text is not ours.
            if let Ok(name) = entry?.file_name().into_string() {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        fs::File::open(dir)?.sync_all()
    }

    fn space(&self, dir: &Path) -> io::Result<Space> {
        let stat = rustix::fs::statvfs(dir)?;
        Ok(Space {
            total_bytes: stat.f_blocks.saturating_mul(stat.f_frsize),
            free_bytes: stat.f_bavail.saturating_mul(stat.f_frsize),
            read_only: stat.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY),
        })
    }

    fn lock(&self, path: &Path) -> io::Result<Lock> {
        let opened = match open_regular(path, Open::Create) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => open_regular(path, Open::Write),
            other => other,
        };
        let file = match opened {
            Err(e) if e.kind() == io::ErrorKind::ReadOnlyFilesystem => {
                open_regular(path, Open::Read)?
            }
            other => other?,
        };
        rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive)?;
        // Its directory too: whoever removes the file, as one left over, must not let a second one in.
        let dir = fs::File::open(path.parent().ok_or(io::ErrorKind::InvalidInput)?)?;
        match rustix::fs::flock(&dir, FlockOperation::NonBlockingLockExclusive) {
            Err(e @ rustix::io::Errno::WOULDBLOCK) => Err(e.into()),
            // A file system that locks only files has the file.
            _ => Ok(Lock::new((file, dir))),
        }
    }

    fn random(&self, bytes: &mut [u8]) -> io::Result<()> {
        ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), bytes)
            .map_err(|_| io::Error::other("the system gives no random bytes"))
    }
}

#[derive(Debug)]
struct RealFile(fs::File);

impl File for RealFile {
    fn size(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn mode(&self) -> io::Result<u32> {
        Ok(self.0.metadata()?.permissions().mode() & 0o7777)
    }

    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        self.0.read_at(bytes, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_all_at(bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn drop_cache(&self) -> io::Result<()> {
        Ok(rustix::fs::fadvise(&self.0, 0, None, rustix::fs::Advice::DontNeed)?)
    }

    fn reserve(&self, len: u64) -> io::Result<()> {
        match rustix::fs::fallocate(&self.0, FallocateFlags::empty(), 0, len) {
            // A file system that cannot promise blocks still gets a file of the right length.
            Err(rustix::io::Errno::OPNOTSUPP) if self.0.metadata()?.len() < len => {
                self.0.set_len(len)
            }
            Err(rustix::io::Errno::OPNOTSUPP) => Ok(()),
            other => Ok(other?),
        }
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn map(&self, len: u64) -> io::Result<Mapping> {
        // Touching a page behind the end of a file is a signal, not an error.
        if self.size()? < len {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Mapping::of_file(&self.0, usize::try_from(len).map_err(|_| io::ErrorKind::FileTooLarge)?)
    }
}

fn open_regular(path: &Path, how: Open) -> io::Result<fs::File> {
    // NONBLOCK, because opening a pipe would otherwise wait for its other end.
    let flags = OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let opened = fs::OpenOptions::new()
        .read(true)
        .write(how != Open::Read)
        .create_new(how == Open::Create)
        .mode(FILE_MODE)
        .custom_flags(flags.bits() as i32)
        .open(path);
    let not_regular = || io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file");
    match opened {
        Ok(file) if file.metadata()?.is_file() => Ok(file),
        Ok(_) => Err(not_regular()),
        Err(e) => match e.raw_os_error().map(rustix::io::Errno::from_raw_os_error) {
            Some(rustix::io::Errno::LOOP | rustix::io::Errno::ISDIR | rustix::io::Errno::NXIO) => {
                Err(not_regular())
            }
            _ => Err(e),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_whose_file_was_removed_still_keeps_a_second_one_out() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("LOCK");
        let held = RealDisk.lock(&path).unwrap();
        for _ in 0..2 {
            assert_eq!(RealDisk.lock(&path).unwrap_err().kind(), io::ErrorKind::WouldBlock);
            let _ = fs::remove_file(&path);
        }
        drop(held);
        RealDisk.lock(&path).unwrap();
    }
}
