//! A disk in memory that behaves as badly as real ones may, by seed.
//!
//! What is written stands in the cache until it is synced. `crash` is a power cut: of everything
//! unsynced, each sector and each change of a directory is kept or lost by chance. `kill` is the
//! end of the process only: the cache stays. After either, old handles answer `EIO`.
//! Faults are asked for one by one: the n-th call, a rate, a full disk, writes that go astray.
//!
//! It also keeps the rule that no file is cut while it is mapped, by panicking.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use super::{Disk, File, Lock, Open, Space};
use crate::mapping::{Heap, Mapping};

/// What a disk writes whole or not at all.
const SECTOR_BYTES: usize = 512;

const EIO: i32 = 5;
const ENOSPC: i32 = 28;

/// Numbers from a seed (SplitMix64).
#[derive(Debug, Clone)]
pub struct Chance(u64);

impl Chance {
    pub fn new(seed: u64) -> Chance {
        Chance(seed)
    }

    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// One of `0..end`; `end` is not 0.
    pub fn below(&mut self, end: u64) -> u64 {
        self.draw() % end
    }

    /// True `n` times in a thousand.
    pub fn permille(&mut self, n: u64) -> bool {
        self.below(1000) < n
    }
}

#[derive(Clone)]
pub struct SimDisk {
    world: Arc<Mutex<World>>,
}

struct World {
    chance: Chance,
    /// Handles and locks of an earlier life are dead.
    life: u64,
    dirs: BTreeMap<PathBuf, Dir>,
    inodes: HashMap<u64, Inode>,
    next_inode: u64,
    locks: HashSet<PathBuf>,
    capacity_bytes: u64,
    calls: u64,
    fail_call: Option<(u64, i32)>,
    eio_permille: u64,
    astray_permille: u64,
}

#[derive(Default)]
struct Dir {
    now: BTreeMap<String, Entry>,
    durable: BTreeMap<String, Entry>,
    pending: Vec<Change>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Entry {
    File(u64),
    Dir,
}

enum Change {
    Put(String, Entry),
    Remove(String),
    Rename { from: String, to: String, entry: Entry },
}

#[derive(Default)]
struct Inode {
    /// What a reader sees.
    now: Vec<u8>,
    /// What a power cut leaves for certain.
    durable: Vec<u8>,
    /// Written since the last sync; with where it really goes.
    pending: Vec<(Range<usize>, usize)>,
    mapped: Weak<Heap>,
    mapped_bytes: usize,
}

impl SimDisk {
    pub fn new(seed: u64) -> SimDisk {
        let mut dirs = BTreeMap::new();
        dirs.insert(PathBuf::from("/"), Dir::default());
        let world = World {
            chance: Chance::new(seed),
            life: 0,
            dirs,
            inodes: HashMap::new(),
            next_inode: 0,
            locks: HashSet::new(),
            capacity_bytes: 1 << 40,
            calls: 0,
            fail_call: None,
            eio_permille: 0,
            astray_permille: 0,
        };
        SimDisk { world: Arc::new(Mutex::new(world)) }
    }

    /// The power goes.
    pub fn crash(&self) {
        let mut world = self.world();
        world.end_life();
        let World { chance, dirs, inodes, .. } = &mut *world;
        for inode in inodes.values_mut() {
            inode.lose(chance);
        }
        for dir in dirs.values_mut() {
            dir.lose(chance);
        }
        world.collect();
    }

    /// The process ends; what it wrote stays in the cache.
    pub fn kill(&self) {
        self.world().end_life();
    }

    /// The calls so far, to be failed one by one.
    pub fn calls(&self) -> u64 {
        self.world().calls
    }

    /// Lets the `nth` call from now on (counted from 0) fail.
    pub fn fail_call(&self, nth: u64, errno: i32) {
        let mut world = self.world();
        world.fail_call = Some((world.calls + nth, errno));
    }

    pub fn set_eio_permille(&self, permille: u64) {
        self.world().eio_permille = permille;
    }

    /// How often a write reaches the disk in the wrong place, while the cache still shows it right.
    pub fn set_astray_permille(&self, permille: u64) {
        self.world().astray_permille = permille;
    }

    pub fn set_capacity_bytes(&self, bytes: u64) {
        self.world().capacity_bytes = bytes;
    }

    pub fn used_bytes(&self) -> u64 {
        self.world().used_bytes()
    }

    /// No more faults.
    pub fn heal(&self) {
        let mut world = self.world();
        world.fail_call = None;
        world.eio_permille = 0;
        world.astray_permille = 0;
        world.capacity_bytes = 1 << 40;
    }

    /// A file as it lies there, for tests that look at it or spoil it.
    pub fn bytes_of(&self, path: &Path) -> Option<Vec<u8>> {
        let world = self.world();
        match world.entry(path) {
            Some(Entry::File(inode)) => world.inodes.get(&inode).map(|inode| inode.now.clone()),
            _ => None,
        }
    }

    /// Puts a file there, durably, whatever it replaces.
    pub fn place(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let mut world = self.world();
        let inode = world.new_inode();
        world.inodes.insert(
            inode,
            Inode { now: bytes.to_vec(), durable: bytes.to_vec(), ..Inode::default() },
        );
        let (dir, name) = world.dir_of(path)?;
        dir.now.insert(name.clone(), Entry::File(inode));
        dir.durable.insert(name, Entry::File(inode));
        Ok(())
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl World {
    fn end_life(&mut self) {
        self.life += 1;
        self.locks.clear();
    }

    /// Every call passes here, and may be told to fail.
    fn call(&mut self) -> io::Result<()> {
        let nth = self.calls;
        self.calls += 1;
        if let Some((fail, errno)) = self.fail_call
            && fail == nth
        {
            return Err(io::Error::from_raw_os_error(errno));
        }
        if self.eio_permille > 0 && self.chance.permille(self.eio_permille) {
            return Err(io::Error::from_raw_os_error(EIO));
        }
        Ok(())
    }

    fn new_inode(&mut self) -> u64 {
        self.next_inode += 1;
        self.next_inode
    }

    fn used_bytes(&self) -> u64 {
        self.inodes.values().map(|inode| inode.now.len() as u64).sum()
    }

    fn grow(&self, by: usize) -> io::Result<()> {
        if self.used_bytes() + by as u64 > self.capacity_bytes {
            return Err(io::Error::from_raw_os_error(ENOSPC));
        }
        Ok(())
    }

    fn dir_of(&mut self, path: &Path) -> io::Result<(&mut Dir, String)> {
        let above = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
        let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        let dir = self.dirs.get_mut(above).ok_or(io::ErrorKind::NotFound)?;
        Ok((dir, name.to_string_lossy().into_owned()))
    }

    fn entry(&self, path: &Path) -> Option<Entry> {
        let dir = self.dirs.get(path.parent()?)?;
        dir.now.get(path.file_name()?.to_str()?).copied()
    }

    /// Forgets files without a name, and directories that were lost.
    fn collect(&mut self) {
        let dirs: Vec<PathBuf> = self.dirs.keys().cloned().collect();
        for dir in dirs {
            if dir.parent().is_some() && self.entry(&dir) != Some(Entry::Dir) {
                self.dirs.remove(&dir);
            }
        }
        let named: HashSet<u64> = self
            .dirs
            .values()
            .flat_map(|dir| dir.now.values())
            .filter_map(|entry| match entry {
                Entry::File(inode) => Some(*inode),
                Entry::Dir => None,
            })
            .collect();
        self.inodes.retain(|inode, _| named.contains(inode));
        // The cut lost that it was unlinked, but not that it was made: a file, with nothing in it.
        for inode in named {
            self.inodes.entry(inode).or_default();
        }
    }

    /// Space of an unlinked file is free once nobody names it; open handles do not matter here.
    fn drop_inode(&mut self, inode: u64) {
        let named = |entry: &Entry| *entry == Entry::File(inode);
        let anywhere = self
            .dirs
            .values()
            .any(|dir| dir.now.values().any(named) || dir.durable.values().any(named));
        if !anywhere {
            self.inodes.remove(&inode);
        }
    }
}

impl Dir {
    fn change(&mut self, change: Change) {
        change.apply(&mut self.now);
        self.pending.push(change);
    }

    fn sync(&mut self) {
        self.durable.clone_from(&self.now);
        self.pending.clear();
    }

    fn lose(&mut self, chance: &mut Chance) {
        for change in self.pending.drain(..) {
            if chance.permille(500) {
                change.apply(&mut self.durable);
            }
        }
        self.now.clone_from(&self.durable);
    }
}

impl Change {
    fn apply(&self, names: &mut BTreeMap<String, Entry>) {
        match self {
            Change::Put(name, entry) => {
                names.insert(name.clone(), *entry);
            }
            Change::Remove(name) => {
                names.remove(name);
            }
            Change::Rename { from, to, entry } => {
                names.remove(from);
                names.insert(to.clone(), *entry);
            }
        }
    }
}

impl Inode {
    fn write(&mut self, bytes: &[u8], offset: usize) {
        if self.now.len() < offset + bytes.len() {
            self.now.resize(offset + bytes.len(), 0);
        }
        self.now[offset..offset + bytes.len()].copy_from_slice(bytes);
        if let Some(heap) = self.mapped.upgrade() {
            heap.write(bytes, offset);
        }
    }

    /// Brings one unsynced write to the disk, where it really goes.
    fn persist(&mut self, from: Range<usize>, to: usize) {
        let upto = from.end.min(self.now.len());
        let from = from.start.min(upto)..upto;
        if self.durable.len() < self.now.len() {
            self.durable.resize(self.now.len(), 0);
        }
        let to = to.min(self.durable.len())..(to + from.len()).min(self.durable.len());
        let from = from.start..from.start + to.len();
        self.durable[to].copy_from_slice(&self.now[from]);
    }

    fn sync(&mut self) {
        for (from, to) in std::mem::take(&mut self.pending) {
            self.persist(from, to);
        }
        self.durable.resize(self.now.len(), 0);
    }

    /// Sector by sector, what was not synced is there or not.
    fn lose(&mut self, chance: &mut Chance) {
        if self.now.len() != self.durable.len() && chance.permille(500) {
            self.durable.resize(self.now.len(), 0);
        }
        for (from, to) in std::mem::take(&mut self.pending) {
            // A cut often takes all or nothing; sectors at random are the rarer, harder case.
            let kept = [0, 500, 1000][chance.below(3) as usize];
            for sector in from.clone().step_by(SECTOR_BYTES) {
                if chance.permille(kept) {
                    let end = (sector + SECTOR_BYTES).min(from.end);
                    self.persist(sector..end, to + (sector - from.start));
                }
            }
        }
        self.now.clone_from(&self.durable);
        self.mapped = Weak::new();
    }
}

impl Disk for SimDisk {
    fn open(&self, path: &Path, how: Open) -> io::Result<Arc<dyn File>> {
        let mut world = self.world();
        world.call()?;
        let found = world.entry(path);
        let inode = match (found, how) {
            (Some(Entry::File(_)), Open::Create) => return Err(io::ErrorKind::AlreadyExists.into()),
            (Some(Entry::Dir), _) => return Err(io::ErrorKind::InvalidInput.into()),
            (Some(Entry::File(inode)), _) => inode,
            (None, Open::Create) => {
                let inode = world.new_inode();
                let (dir, name) = world.dir_of(path)?;
                dir.change(Change::Put(name, Entry::File(inode)));
                world.inodes.insert(inode, Inode::default());
                inode
            }
            (None, _) => return Err(io::ErrorKind::NotFound.into()),
        };
        let life = world.life;
        Ok(Arc::new(SimFile { disk: self.clone(), inode, life, writable: how != Open::Read }))
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        let mut world = self.world();
        world.call()?;
        match world.entry(path) {
            Some(Entry::Dir) => return Ok(()),
            Some(Entry::File(_)) => return Err(io::ErrorKind::AlreadyExists.into()),
            None => {}
        }
        let (dir, name) = world.dir_of(path)?;
        dir.change(Change::Put(name, Entry::Dir));
        world.dirs.insert(path.to_owned(), Dir::default());
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut world = self.world();
        world.call()?;
        let dir = world.dirs.get(dir).ok_or(io::ErrorKind::NotFound)?;
        Ok(dir.now.keys().cloned().collect())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut world = self.world();
        world.call()?;
        if from.parent() != to.parent() {
            return Err(io::ErrorKind::CrossesDevices.into());
        }
        let entry = world.entry(from).ok_or(io::ErrorKind::NotFound)?;
        let replaced = world.entry(to);
        let (_, to) = world.dir_of(to)?;
        let (dir, from) = world.dir_of(from)?;
        dir.change(Change::Rename { from, to, entry });
        if let Some(Entry::File(inode)) = replaced {
            world.drop_inode(inode);
        }
        Ok(())
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        let mut world = self.world();
        world.call()?;
        let Some(Entry::File(inode)) = world.entry(path) else {
            return Err(io::ErrorKind::NotFound.into());
        };
        let (dir, name) = world.dir_of(path)?;
        dir.change(Change::Remove(name));
        world.drop_inode(inode);
        Ok(())
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let mut world = self.world();
        world.call()?;
        let dir = world.dirs.get_mut(path).ok_or(io::ErrorKind::NotFound)?;
        let gone = |(name, entry): (&String, &Entry)| match entry {
            Entry::File(inode) if dir.now.get(name) != Some(entry) => Some(*inode),
            _ => None,
        };
        let gone: Vec<u64> = dir.durable.iter().filter_map(gone).collect();
        dir.sync();
        for inode in gone {
            world.drop_inode(inode);
        }
        Ok(())
    }

    fn space(&self, _dir: &Path) -> io::Result<Space> {
        let mut world = self.world();
        world.call()?;
        let free_bytes = world.capacity_bytes.saturating_sub(world.used_bytes());
        Ok(Space { total_bytes: world.capacity_bytes, free_bytes, read_only: false })
    }

    fn lock(&self, path: &Path) -> io::Result<Lock> {
        let mut world = self.world();
        world.call()?;
        world.dir_of(path)?;
        if !world.locks.insert(path.to_owned()) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let life = world.life;
        Ok(Lock::new(Held { disk: self.clone(), path: path.to_owned(), life }))
    }

    fn random(&self, bytes: &mut [u8]) -> io::Result<()> {
        let mut world = self.world();
        world.call()?;
        for byte in bytes {
            *byte = world.chance.draw() as u8;
        }
        Ok(())
    }
}

struct Held {
    disk: SimDisk,
    path: PathBuf,
    life: u64,
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut world = self.disk.world();
        if world.life == self.life {
            world.locks.remove(&self.path);
        }
    }
}

struct SimFile {
    disk: SimDisk,
    inode: u64,
    life: u64,
    writable: bool,
}

impl SimFile {
    fn call(&self) -> io::Result<MutexGuard<'_, World>> {
        let mut world = self.disk.world();
        if world.life != self.life {
            return Err(io::Error::from_raw_os_error(EIO));
        }
        world.call()?;
        Ok(world)
    }
}

fn inode_of(world: &mut World, inode: u64) -> io::Result<&mut Inode> {
    // An unlinked file that is still open; nothing here writes to one for a purpose.
    world.inodes.get_mut(&inode).ok_or_else(|| io::ErrorKind::NotFound.into())
}

impl File for SimFile {
    fn size(&self) -> io::Result<u64> {
        let mut world = self.call()?;
        Ok(inode_of(&mut world, self.inode)?.now.len() as u64)
    }

    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut world = self.call()?;
        let short = world.chance.permille(20);
        let inode = inode_of(&mut world, self.inode)?;
        let from = inode.now.get(offset as usize..).unwrap_or_default();
        let mut len = bytes.len().min(from.len());
        if short && len > 1 {
            len /= 2;
        }
        bytes[..len].copy_from_slice(&from[..len]);
        Ok(len)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        assert!(self.writable, "a file that was opened for reading is written");
        let offset = offset as usize;
        let called = self.call().map(drop);
        let mut world = self.disk.world();
        if world.life != self.life {
            return Err(io::Error::from_raw_os_error(EIO));
        }
        let written = match called {
            Ok(()) => bytes.len(),
            // A write that fails has written any part.
            Err(_) => world.chance.below(bytes.len() as u64 + 1) as usize,
        };
        let end = offset + written;
        let grown = end.saturating_sub(inode_of(&mut world, self.inode)?.now.len());
        world.grow(grown)?;
        let mut goes_to = offset;
        let astray = world.astray_permille;
        if astray > 0 && world.chance.permille(astray) {
            let sectors = inode_of(&mut world, self.inode)?.now.len() / SECTOR_BYTES + 1;
            goes_to = world.chance.below(sectors as u64) as usize * SECTOR_BYTES;
        }
        let inode = inode_of(&mut world, self.inode)?;
        inode.write(&bytes[..written], offset);
        inode.pending.push((offset..end, goes_to));
        called
    }

    fn sync(&self) -> io::Result<()> {
        match self.call() {
            Ok(mut world) => {
                inode_of(&mut world, self.inode)?.sync();
                Ok(())
            }
            Err(e) => {
                let mut world = self.disk.world();
                if world.life == self.life {
                    // What a failed sync did not bring to the disk, the next one will not either:
                    // the kernel has marked it clean.
                    let World { chance, inodes, .. } = &mut *world;
                    if let Some(inode) = inodes.get_mut(&self.inode) {
                        for (from, to) in std::mem::take(&mut inode.pending) {
                            if chance.permille(500) {
                                inode.persist(from, to);
                            }
                        }
                    }
                }
                Err(e)
            }
        }
    }

    fn drop_cache(&self) -> io::Result<()> {
        let mut world = self.call()?;
        let inode = inode_of(&mut world, self.inode)?;
        let dirty = std::mem::take(&mut inode.pending);
        let cached = inode.now.clone();
        inode.now.clone_from(&inode.durable);
        inode.now.resize(cached.len(), 0);
        for (range, to) in dirty {
            inode.now[range.clone()].copy_from_slice(&cached[range.clone()]);
            inode.pending.push((range, to));
        }
        Ok(())
    }

    fn reserve(&self, len: u64) -> io::Result<()> {
        let mut world = self.call()?;
        let now = inode_of(&mut world, self.inode)?.now.len();
        let grown = (len as usize).saturating_sub(now);
        world.grow(grown)?;
        if grown > 0 {
            inode_of(&mut world, self.inode)?.now.resize(len as usize, 0);
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut world = self.call()?;
        let inode = inode_of(&mut world, self.inode)?;
        let is_mapped = inode.mapped.strong_count() > 0;
        assert!(!is_mapped || len as usize >= inode.mapped_bytes, "a mapped file is cut");
        inode.now.resize(len as usize, 0);
        Ok(())
    }

    fn map(&self, len: u64) -> io::Result<Mapping> {
        let mut world = self.call()?;
        let inode = inode_of(&mut world, self.inode)?;
        let bytes = inode.now.get(..len as usize).ok_or(io::ErrorKind::UnexpectedEof)?;
        let heap = Arc::new(Heap::new(bytes)?);
        inode.mapped = Arc::downgrade(&heap);
        inode.mapped_bytes = len as usize;
        Ok(Mapping::of_heap(heap))
    }
}

impl fmt::Debug for SimDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SimDisk")
    }
}

impl fmt::Debug for SimFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SimFile({})", self.inode)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::read_all;

    fn path(name: &str) -> PathBuf {
        Path::new("/").join(name)
    }

    #[test]
    fn what_was_synced_stays_and_the_rest_may_go() {
        let mut kept = HashSet::new();
        for seed in 0..50 {
            let disk = SimDisk::new(seed);
            let file = disk.open(&path("a"), Open::Create).unwrap();
            file.write_at(b"old", 0).unwrap();
            file.sync().unwrap();
            disk.sync_dir(&path("")).unwrap();
            file.write_at(b"new", 0).unwrap();
            disk.rename(&path("a"), &path("b")).unwrap();
            disk.crash();
            assert!(file.sync().is_err(), "a handle of an earlier life is dead");
            let names = disk.list(&path("")).unwrap();
            assert_eq!(names.len(), 1, "a rename is whole or not there");
            let bytes = disk.bytes_of(&path(&names[0])).unwrap();
            assert!(bytes == b"old" || bytes == b"new");
            kept.insert((names, bytes));
        }
        assert_eq!(kept.len(), 4, "every combination happens");
    }

    #[test]
    fn a_file_without_a_synced_name_may_be_lost_and_a_kill_loses_nothing() {
        let mut lost = 0;
        for seed in 0..50 {
            let disk = SimDisk::new(seed);
            let file = disk.open(&path("a"), Open::Create).unwrap();
            file.write_at(b"x", 0).unwrap();
            file.sync().unwrap();
            disk.kill();
            assert_eq!(disk.bytes_of(&path("a")).as_deref(), Some(&b"x"[..]));
            disk.crash();
            lost += u32::from(disk.bytes_of(&path("a")).is_none());
        }
        assert!((1..50).contains(&lost), "{lost} of 50 lost");
    }

    #[test]
    fn the_asked_call_fails_and_the_disk_can_be_full() {
        let disk = SimDisk::new(1);
        disk.fail_call(1, EIO);
        let file = disk.open(&path("a"), Open::Create).unwrap();
        assert_eq!(file.size().unwrap_err().raw_os_error(), Some(EIO));
        assert!(file.size().is_ok());
        disk.set_capacity_bytes(10);
        assert!(file.write_at(&[1; 10], 0).is_ok());
        assert_eq!(file.write_at(&[1], 10).unwrap_err().raw_os_error(), Some(ENOSPC));
        assert_eq!(file.reserve(11).unwrap_err().raw_os_error(), Some(ENOSPC));
        assert_eq!(read_all(&*file, 10).unwrap(), [1; 10]);
    }

    #[test]
    #[should_panic(expected = "a mapped file is cut")]
    fn a_mapped_file_is_never_cut() {
        let disk = SimDisk::new(1);
        let file = disk.open(&path("a"), Open::Create).unwrap();
        file.write_at(b"hello", 0).unwrap();
        let _mapping = file.map(5).unwrap();
        let _ = file.set_len(4);
    }
}
