//! The one file with `unsafe`: bytes that are written at one end and read at the other.
//!
//! A mapping has a readable prefix. It only grows, and what lies inside it never changes again; the
//! scribe writes strictly above it, and raises it after the sync. Slices are made of the readable
//! prefix only, so no `&[u8]` ever sees a byte change. Nobody may map a file and then cut it: a
//! file is cut first and mapped afterwards, and it is unlinked rather than emptied.

use std::fmt;
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A file's bytes in memory. Dropping the last owner unmaps it.
pub struct Mapping {
    memory: Memory,
    readable: AtomicUsize,
}

enum Memory {
    File(memmap2::MmapRaw),
    Heap(Arc<Heap>),
}

impl Mapping {
    /// Maps `len` bytes for reading. None of them can be read before `publish`.
    pub(crate) fn of_file(file: &std::fs::File, len: usize) -> io::Result<Mapping> {
        let raw = memmap2::MmapOptions::new().len(len).map_raw_read_only(file)?;
        Ok(Mapping { memory: Memory::File(raw), readable: AtomicUsize::new(0) })
    }

    /// The same over memory of the simulated disk.
    pub(crate) fn of_heap(heap: Arc<Heap>) -> Mapping {
        Mapping { memory: Memory::Heap(heap), readable: AtomicUsize::new(0) }
    }

    pub fn len(&self) -> usize {
        match &self.memory {
            Memory::File(raw) => raw.len(),
            Memory::Heap(heap) => heap.0.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Raises the readable prefix. The caller promises that those bytes are written for good.
    pub fn publish(&self, upto: usize) {
        assert!(upto <= self.len(), "a mapping cannot show more than it maps");
        self.readable.fetch_max(upto, Ordering::Release);
    }

    pub fn readable(&self) -> usize {
        self.readable.load(Ordering::Acquire)
    }

    /// The bytes of `range`, if all of it is readable.
    pub fn slice(&self, range: Range<usize>) -> Option<&[u8]> {
        if range.start > range.end || range.end > self.readable() {
            return None;
        }
        let start = match &self.memory {
            Memory::File(raw) => raw.as_ptr(),
            Memory::Heap(heap) => heap.0.as_ptr(),
        };
        // SAFETY: the range lies inside the mapping (checked against `readable`, which `publish`
        // keeps below `len`), which lives as long as `self`. Nothing writes below `readable`: the
        // scribe appends above it, the directory is locked and mode 0700, closed files are final.
        #[expect(unsafe_code, reason = "readers must not copy what the page cache already holds")]
        let bytes = unsafe { std::slice::from_raw_parts(start.add(range.start), range.len()) };
        Some(bytes)
    }

    /// Brings pages into memory before they are touched, so that a bad sector is an error here
    /// instead of a signal there. Kernels before 5.14 do not know how; then touching has to do.
    pub fn populate(&self, range: Range<usize>) -> io::Result<()> {
        let Memory::File(raw) = &self.memory else { return Ok(()) };
        if range.start >= range.end || range.end > raw.len() {
            return Ok(());
        }
        match raw.advise_range(memmap2::Advice::PopulateRead, range.start, range.len()) {
            Err(e) if e.kind() == io::ErrorKind::InvalidInput => Ok(()),
            other => other,
        }
    }
}

impl Mapping {
    /// Lets go of the pages; whoever touches them again gets them from the page cache.
    pub fn forget(&self) {
        let Memory::File(raw) = &self.memory else { return };
        // SAFETY: `DontNeed` would lose private or anonymous pages; this is a shared mapping of a
        // file, whose pages come back with the same content.
        #[expect(unsafe_code, reason = "replaying a long history must not keep all of it resident")]
        let advised = unsafe { raw.unchecked_advise(memmap2::UncheckedAdvice::DontNeed) };
        // It is advice: a kernel that does not take it loses nothing but memory.
        let _ = advised;
    }
}

impl fmt::Debug for Mapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mapping")
            .field("len", &self.len())
            .field("readable", &self.readable())
            .finish()
    }
}

/// Memory that the simulated disk writes while mappings of it are read.
pub(crate) struct Heap(memmap2::MmapRaw);

impl Heap {
    pub(crate) fn new(bytes: &[u8]) -> io::Result<Heap> {
        // Anonymous, because the pages that stay zeros then cost nothing.
        let heap = Heap(memmap2::MmapMut::map_anon(bytes.len())?.into());
        heap.write(bytes, 0);
        Ok(heap)
    }

    /// Shows a write to the mappings of this file; what lies beyond the mapped length is not theirs.
    pub(crate) fn write(&self, bytes: &[u8], offset: usize) {
        let room = self.0.len().saturating_sub(offset);
        let bytes = &bytes[..bytes.len().min(room)];
        if bytes.is_empty() {
            return;
        }
        // SAFETY: the range lies inside the memory. The simulated disk calls this under its lock,
        // and only with bytes above the readable prefix of every mapping: the scribe asserts that
        // before each write. So nothing is written while it is read.
        #[expect(unsafe_code, reason = "shared memory can be written through a pointer only")]
        unsafe {
            std::ptr::copy_nonoverlapping(
                bytes.as_ptr(),
                self.0.as_mut_ptr().add(offset),
                bytes.len(),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_published_can_be_read() {
        let heap = Arc::new(Heap::new(&[0; 8]).unwrap());
        let mapping = Mapping::of_heap(heap.clone());
        heap.write(&[1, 2, 3, 4], 2);
        assert_eq!(mapping.slice(0..1), None);
        mapping.publish(5);
        assert_eq!(mapping.slice(2..5), Some(&[1, 2, 3][..]));
        assert_eq!(mapping.slice(2..6), None);
        mapping.publish(3);
        assert_eq!(mapping.readable(), 5, "what was readable stays readable");
    }
}
