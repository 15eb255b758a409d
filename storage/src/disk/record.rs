//! A disk that writes down what it is asked and passes it on, so that a test can read in which
//! order things were made durable, and count the syncs.

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use super::{Disk, File, Lock, Open, Space};
use crate::mapping::Mapping;

#[derive(Debug, Clone)]
pub struct RecordingDisk {
    inner: Arc<dyn Disk>,
    calls: Arc<Mutex<Vec<Call>>>,
}

/// One call that changes or orders something. Reads are passed on silently.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    pub verb: Verb,
    /// The last part of the path.
    pub name: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    Create,
    CreateDir,
    Reserve,
    Write,
    SetLen,
    Sync,
    /// Of the new name.
    Rename,
    Unlink,
    SyncDir,
    Map,
}

impl RecordingDisk {
    pub fn new(inner: Arc<dyn Disk>) -> RecordingDisk {
        RecordingDisk { inner, calls: Arc::default() }
    }

    /// What was asked since the last time.
    pub fn take_calls(&self) -> Vec<Call> {
        std::mem::take(&mut *self.calls.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn note(&self, verb: Verb, path: &Path) {
        note(&self.calls, verb, &name_of(path));
    }
}

fn note(calls: &Mutex<Vec<Call>>, verb: Verb, name: &str) {
    let call = Call { verb, name: name.to_owned() };
    calls.lock().unwrap_or_else(PoisonError::into_inner).push(call);
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

impl Disk for RecordingDisk {
    fn open(&self, path: &Path, how: Open) -> io::Result<Arc<dyn File>> {
        if how == Open::Create {
            self.note(Verb::Create, path);
        }
        let inner = self.inner.open(path, how)?;
        Ok(Arc::new(RecordingFile { inner, name: name_of(path), calls: self.calls.clone() }))
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.note(Verb::CreateDir, path);
        self.inner.create_dir(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.inner.list(dir)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.note(Verb::Rename, to);
        self.inner.rename(from, to)
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        self.note(Verb::Unlink, path);
        self.inner.unlink(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.note(Verb::SyncDir, dir);
        self.inner.sync_dir(dir)
    }

    fn space(&self, dir: &Path) -> io::Result<Space> {
        self.inner.space(dir)
    }

    fn lock(&self, path: &Path) -> io::Result<Lock> {
        self.inner.lock(path)
    }

    fn random(&self, bytes: &mut [u8]) -> io::Result<()> {
        self.inner.random(bytes)
    }
}

/// Named as it was opened: a file that is renamed keeps its first name here.
#[derive(Debug)]
struct RecordingFile {
    inner: Arc<dyn File>,
    name: String,
    calls: Arc<Mutex<Vec<Call>>>,
}

impl File for RecordingFile {
    fn size(&self) -> io::Result<u64> {
        self.inner.size()
    }

    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        self.inner.read_at(bytes, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        note(&self.calls, Verb::Write, &self.name);
        self.inner.write_at(bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        note(&self.calls, Verb::Sync, &self.name);
        self.inner.sync()
    }

    fn drop_cache(&self) -> io::Result<()> {
        self.inner.drop_cache()
    }

    fn reserve(&self, len: u64) -> io::Result<()> {
        note(&self.calls, Verb::Reserve, &self.name);
        self.inner.reserve(len)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        note(&self.calls, Verb::SetLen, &self.name);
        self.inner.set_len(len)
    }

    fn map(&self, len: u64) -> io::Result<Mapping> {
        note(&self.calls, Verb::Map, &self.name);
        self.inner.map(len)
    }
}
