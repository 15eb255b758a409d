//! Opening a log: what is there, what of it can be believed, and where writing goes on.
//!
//! What it decides, in this order:
//! 1. Sync first, then let go of the cache, then read: after a kill, the tail may stand only in
//!    memory, and after a failed sync the cache shows bytes that never reached the disk. What is
//!    shown once must not be gone after the next power cut.
//! 2. The end of every segment but the last is stated by the header behind it. Anything that does
//!    not agree with it was durable once: damage.
//! 3. The last segment ends behind its last whole batch. Something whole behind a bad batch proves
//!    that the bad one was durable: damage. Nothing whole behind it: a torn tail, never
//!    acknowledged, which is cut.
//! 4. With damage, nothing is changed on disk and nothing is written: what is intact can be read,
//!    and the first damage is named.
//! 5. Otherwise the last segment is closed for good (cut, synced, indexed), or unlinked when it
//!    holds no batch, and a new one with a new salt is opened behind it.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::disk::{self, Open};
use crate::error::Error;
use crate::index::{self, FiledIndex, HotIndex, Index};
use crate::log::{Found, Ground};
use crate::porter::{self, Porter, Spare};
use crate::segment::{self, Damage, Header, NoHeader, SEGMENT_BYTES_MAX, Segment, Walk};
use crate::store::Progress;
use crate::writer::{self, Before, Writer};

pub(crate) fn recover(
    ground: &Ground,
    refusal: Option<Error>,
    progress: &mut dyn FnMut(Progress),
) -> Result<Found, Error> {
    let looking = refusal.is_some();
    if !looking {
        sync_dir(ground)?;
    }
    let listed = Listed::read(ground)?;
    let mut opening = Opening { ground, looking, segments: Vec::new(), refusal };
    if let Some((number, what)) = listed.missing {
        opening.note(Error::Corrupt { segment: number, offset: 0, what });
    }
    let headers = opening.read_headers(&listed.numbers)?;
    let last = headers.len().checked_sub(1).and_then(|last| headers.get(last)).cloned();
    let closed = headers.len().saturating_sub(1);
    for (nth, seen) in headers.iter().take(closed).enumerate() {
        progress(Progress::Segment { nth: nth + 1, of: headers.len() });
        let next = headers.get(nth + 1).filter(|next| next.number == seen.number + 1);
        let next = next.and_then(|next| next.header);
        let opened = opening.open_closed(seen, next);
        opening.unless_looking(opened)?;
    }
    let mut before = match opening.segments.last() {
        Some(segment) => {
            last.as_ref().and_then(|last| last.header).map_or(Before::NOTHING, |last| Before {
                number: segment.header.number,
                base: segment.header.base,
                end: last.prev_end,
                chain: last.prev_chain,
            })
        }
        None => Before::NOTHING,
    };
    if let Some(last) = last {
        progress(Progress::Segment { nth: headers.len(), of: headers.len() });
        let opened = opening.open_last(&last);
        if let Some(end) = opening.unless_looking(opened)?.flatten() {
            before = end;
        }
    }
    let Opening { mut segments, refusal, .. } = opening;
    if refusal.is_some() {
        let watermark = segments.last().map(|segment| segment.end()).unwrap_or_default();
        let porter = Porter::new(Vec::new());
        return Ok(Found { segments, watermark, writer: None, refusal, porter });
    }
    let spares = listed.tidy(ground)?;
    let (writer, first) = Writer::open(ground, before)?;
    segments.extend(first);
    let watermark = segments.last().map_or(before.watermark(), |segment| segment.end());
    let porter = Porter::new(spares);
    Ok(Found { segments, watermark, writer: Some(writer), refusal: None, porter })
}

/// What the directory holds. Names that are not ours are left alone.
struct Listed {
    numbers: Vec<u32>,
    spares: Vec<String>,
    /// Left behind by a crash in the middle of making something.
    unfinished: Vec<String>,
    missing: Option<(u32, &'static str)>,
}

impl Listed {
    fn read(ground: &Ground) -> Result<Listed, Error> {
        let dir = &ground.dir;
        let names = ground.disk.list(dir).map_err(|e| Error::io("list", dir, e))?;
        let numbered = |extension| {
            let mut numbers: Vec<u32> =
                names.iter().filter_map(|name| segment::number_of(name, extension)).collect();
            numbers.sort_unstable();
            numbers
        };
        let numbers = numbered(".seg");
        let gap = (1..).zip(&numbers).find(|(expected, number)| expected != *number);
        let behind = numbers.last().copied().unwrap_or_default();
        let left_over = numbered(".idx").into_iter().find(|number| *number > behind);
        let missing = match (gap, left_over) {
            (Some((expected, _)), _) => Some((expected, "the segment is missing")),
            (None, Some(number)) => Some((number, "the segment is missing, its index is there")),
            (None, None) => None,
        };
        let unfinished = |name: &&String| {
            [writer::MAKING, porter::FILLING].contains(&name.as_str())
                || segment::number_of(name, ".idx.new").is_some()
        };
        Ok(Listed {
            numbers,
            spares: names
                .iter()
                .filter(|name| porter::spare_number(name).is_some())
                .cloned()
                .collect(),
            unfinished: names.iter().filter(unfinished).cloned().collect(),
            missing,
        })
    }

    /// Unlinks what a crash left half made, and answers the spares that can be used.
    fn tidy(&self, ground: &Ground) -> Result<Vec<Spare>, Error> {
        let mut spares: Vec<Spare> = Vec::new();
        let mut unlinked = false;
        let mut unlink = |name: &str| {
            unlinked = true;
            let path = ground.dir.join(name);
            match ground.disk.unlink(&path) {
                // Making the same thing again, a moment ago, took it away.
                Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
                unlinked => unlinked.map_err(|e| Error::io("unlink", &path, e)),
            }
        };
        for name in &self.unfinished {
            unlink(name)?;
        }
        for name in &self.spares {
            let path = ground.dir.join(name);
            let len = ground
                .disk
                .open(&path, Open::Read)
                .and_then(|file| file.size())
                .map_err(|e| Error::io("open", &path, e))?;
            if len == ground.sizes.segment_bytes && spares.len() < ground.sizes.spares_max {
                spares.push(Spare { name: name.clone(), len });
            } else {
                unlink(name)?;
            }
        }
        if unlinked {
            sync_dir(ground)?;
        }
        Ok(spares)
    }
}

/// A segment's file before it is opened; no header where that is damaged.
#[derive(Debug, Clone)]
struct Seen {
    number: u32,
    path: PathBuf,
    header: Option<Header>,
}

struct Opening<'a> {
    ground: &'a Ground,
    /// Nothing was to be written from the start, so that a segment that cannot be read keeps nobody
    /// from the others.
    looking: bool,
    segments: Vec<Arc<Segment>>,
    refusal: Option<Error>,
}

impl Opening<'_> {
    fn note(&mut self, error: Error) {
        self.refusal.get_or_insert(error);
    }

    /// What went well; `None` for what did not, where that is only one segment less to be read.
    fn unless_looking<T>(&self, opened: Result<T, Error>) -> Result<Option<T>, Error> {
        match opened {
            Ok(opened) => Ok(Some(opened)),
            Err(_) if self.looking => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn damaged(&mut self, number: u32, damage: &[Damage]) {
        for Damage { offset, what } in damage {
            self.note(Error::Corrupt { segment: number, offset: *offset, what });
        }
    }

    fn read_headers(&mut self, numbers: &[u32]) -> Result<Vec<Seen>, Error> {
        let mut headers: Vec<Seen> = Vec::with_capacity(numbers.len());
        for number in numbers {
            let path = self.ground.dir.join(segment::file_name(*number));
            let read = self.unless_looking(read_header(self.ground, &path))?;
            let header = match read.unwrap_or(Err(NoHeader::Damaged("it cannot be read"))) {
                Ok(header) => belongs(&header, *number, self.ground.store)
                    .and_then(|()| {
                        continues(&header, headers.last().and_then(|seen| seen.header.as_ref()))
                    })
                    .map(|()| header),
                Err(NoHeader::Damaged(what)) => Err(what),
                Err(NoHeader::Future(version)) => {
                    return Err(Error::refused(format!(
                        "segment {number:08x} has version {version}, which needs a newer Lodge"
                    )));
                }
            };
            if let Err(what) = header {
                self.damaged(*number, &[Damage { offset: 0, what }]);
            }
            headers.push(Seen { number: *number, path, header: header.ok() });
        }
        Ok(headers)
    }

    /// Opens a segment that another one follows.
    fn open_closed(&mut self, seen: &Seen, next: Option<Header>) -> Result<(), Error> {
        let Some(header) = seen.header else { return Ok(()) };
        let stated = next.map(|next| (next.prev_end, next.prev_chain));
        let file = open(self.ground, &seen.path, Open::Read)?;
        let size = file.size().map_err(|e| Error::io("measure", &seen.path, e))?;
        if let Some((end, chain)) = stated
            && size >= end
            && let Some(index) = self.filed_index(&header, end, chain)
        {
            return self.add(&seen.path, header, &*file, end, Index::Filed(index));
        }
        let mut bytes = read_segment(&*file, &seen.path)?;
        if let Some((end, _)) = stated {
            bytes.truncate(usize::try_from(end).unwrap_or(usize::MAX));
        }
        let (walk, index) = walk_and_index(&bytes, &header);
        self.damaged(seen.number, &walk.damage);
        if stated.is_some_and(|stated| stated != (walk.end, walk.chain)) {
            let what = "the segment does not end where the next one says";
            self.damaged(seen.number, &[Damage { offset: walk.end, what }]);
        }
        let end = walk.end.min(size);
        let index = self.file(&header, &walk, index);
        self.add(&seen.path, header, &*file, end, index)
    }

    /// Opens the segment that was written last, and closes it for good. Answers where the next one
    /// goes on; `None` when this one held nothing and is gone, or nothing may be changed.
    fn open_last(&mut self, seen: &Seen) -> Result<Option<Before>, Error> {
        let Some(header) = seen.header else { return Ok(None) };
        let how = if self.refusal.is_some() { Open::Read } else { Open::Write };
        let file = open(self.ground, &seen.path, how)?;
        if how == Open::Write {
            file.sync().map_err(|e| Error::io("sync", &seen.path, e))?;
            file.drop_cache().map_err(|e| Error::io("read afresh", &seen.path, e))?;
        }
        let bytes = read_segment(&*file, &seen.path)?;
        let size = bytes.len() as u64;
        let (walk, index) = walk_and_index(&bytes, &header);
        drop(bytes);
        self.damaged(seen.number, &walk.damage);
        if self.refusal.is_some() {
            self.add(&seen.path, header, &*file, walk.end.min(size), Index::Hot(index))?;
            return Ok(None);
        }
        if walk.batches == 0 {
            drop(file);
            let disk = &self.ground.disk;
            disk.unlink(&seen.path).map_err(|e| Error::io("unlink", &seen.path, e))?;
            sync_dir(self.ground)?;
            return Ok(None);
        }
        if size != walk.end {
            // Before it is mapped, and for the last time that this file is touched.
            file.set_len(walk.end).map_err(|e| Error::io("cut", &seen.path, e))?;
            file.sync().map_err(|e| Error::io("sync", &seen.path, e))?;
        }
        let index = self.file(&header, &walk, index);
        self.add(&seen.path, header, &*file, walk.end, index)?;
        let Walk { end, chain, .. } = walk;
        Ok(Some(Before { number: header.number, base: header.base, end, chain }))
    }

    fn add(
        &mut self,
        path: &Path,
        header: Header,
        file: &dyn disk::File,
        end: u64,
        index: Index,
    ) -> Result<(), Error> {
        let bytes = file.map(end).map_err(|e| Error::io("map", path, e))?;
        bytes.publish(bytes.len());
        self.segments.push(Arc::new(Segment::new(header, bytes, index)));
        Ok(())
    }

    fn filed_index(&self, header: &Header, end: u64, chain: u32) -> Option<FiledIndex> {
        let path = self.ground.dir.join(index::file_name(header.number));
        let file = self.ground.disk.open(&path, Open::Read).ok()?;
        let size = file.size().ok().filter(|size| *size > 0 && *size <= SEGMENT_BYTES_MAX)?;
        FiledIndex::open(file.map(size).ok()?, header, end, chain)
    }

    /// Puts a fresh index into its file, unless nothing may be changed or it cannot be done: it
    /// serves from memory just as well, and the next open tries again.
    fn file(&self, header: &Header, walk: &Walk, index: HotIndex) -> Index {
        if self.refusal.is_some() {
            return Index::Hot(index);
        }
        let path = self.ground.dir.join(index::file_name(header.number));
        let bytes = index.encode(header, walk.end, walk.chain, walk.batches);
        let filed = disk::replace(&*self.ground.disk, &path, &bytes).ok();
        let filed = filed.and_then(|()| self.filed_index(header, walk.end, walk.chain));
        filed.map_or(Index::Hot(index), Index::Filed)
    }
}

/// Walks a segment and indexes what it holds. A Seq that does not follow is damage like any other.
fn walk_and_index(bytes: &[u8], header: &Header) -> (Walk, HotIndex) {
    let mut index = HotIndex::default();
    let mut unplaced: Option<Damage> = None;
    let mut walk = segment::walk(bytes, header, |offset, frame| {
        if let Err(what) = index.push_behind_damage(frame.place, offset) {
            unplaced.get_or_insert(Damage { offset: u64::from(offset), what });
        }
    });
    if walk.damage.is_empty() {
        walk.damage.extend(unplaced);
    }
    (walk, index)
}

/// The outer error is the machine's, the inner one what the bytes say.
fn read_header(ground: &Ground, path: &Path) -> Result<Result<Header, NoHeader>, Error> {
    let file = open(ground, path, Open::Read)?;
    let mut block = vec![0; segment::HEADER_BYTES];
    match disk::read_exact_at(&*file, &mut block, 0) {
        Ok(()) => Ok(Header::decode(&block)),
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => {
            Ok(Err(NoHeader::Damaged("the header is cut short")))
        }
        Err(e) => Err(Error::io("read", path, e)),
    }
}

pub(crate) fn belongs(header: &Header, number: u32, store: [u8; 16]) -> Result<(), &'static str> {
    if header.store != store {
        return Err("the segment belongs to another store");
    }
    if header.number != number {
        return Err("the segment is not the one that its name says");
    }
    Ok(())
}

pub(crate) fn continues(header: &Header, before: Option<&Header>) -> Result<(), &'static str> {
    // Where the one before is missing or has no header, that is the damage, and it is named there.
    let Some(before) = before.filter(|before| before.number.checked_add(1) == Some(header.number))
    else {
        return Ok(());
    };
    if before.base.checked_add(header.prev_end) != Some(header.base) {
        return Err("the segment does not go on where the one before it ends");
    }
    Ok(())
}

fn open(ground: &Ground, path: &Path, how: Open) -> Result<Arc<dyn disk::File>, Error> {
    ground.disk.open(path, how).map_err(|e| Error::io("open", path, e))
}

fn read_segment(file: &dyn disk::File, path: &Path) -> Result<Vec<u8>, Error> {
    disk::read_all(file, SEGMENT_BYTES_MAX).map_err(|e| Error::io("read", path, e))
}

fn sync_dir(ground: &Ground) -> Result<(), Error> {
    ground.disk.sync_dir(&ground.dir).map_err(|e| Error::io("sync", &ground.dir, e))
}
