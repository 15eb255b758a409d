//! The log against a model, over the simulated disk, one seed after the other. No threads: the
//! simulation holds the pen and does the porter's work itself, so a seed always tells one story.
//!
//! `LODGE_SEED=n` replays one seed, `LODGE_SEEDS=n` runs that many instead of the usual number.

use std::path::Path;
use std::sync::Arc;

use super::{Store, as_new, open};
use crate::disk::{Chance, Disk, SimDisk};
use crate::frame;
use crate::log::Log;
use crate::writer::Unwritten;
use crate::{Error, Lane, NewRecord, Options, Place, Position, check};

const SEEDS: u64 = 2_000;
const DIR: &str = "/store";
const EIO: i32 = 5;

/// How bad the disk is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Weather {
    /// Loses what was not synced, no more.
    Fair,
    /// Calls fail now and then.
    Errors,
    /// Hardly any room.
    Full,
    /// Writes go astray, and nothing says so.
    Astray,
}

#[test]
fn the_log_keeps_its_word_in_every_weather() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let seeds = match number("LODGE_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("LODGE_SEEDS").unwrap_or(SEEDS),
    };
    let mut told = Told::default();
    let whole = seeds.end - seeds.start >= SEEDS;
    for seed in seeds {
        let story = std::panic::AssertUnwindSafe(|| Story::new(seed).tell());
        match std::panic::catch_unwind(story) {
            Ok(one) => told.add(one),
            Err(panic) => {
                eprintln!("replay it with LODGE_SEED={seed}");
                std::panic::resume_unwind(panic);
            }
        }
    }
    if whole {
        // A simulation that never meets what it is about proves nothing.
        assert!(told.torn > 50 && told.poisoned > 50 && told.full > 50, "{told:?}");
        assert!(told.damaged > 20 && told.rolled > 50 && told.resurrected > 20, "{told:?}");
    }
}

/// What happened, so that the test can tell that it did.
#[derive(Debug, Default)]
struct Told {
    torn: u32,
    poisoned: u32,
    full: u32,
    damaged: u32,
    rolled: u32,
    resurrected: u32,
}

impl Told {
    fn add(&mut self, other: Told) {
        self.torn += other.torn;
        self.poisoned += other.poisoned;
        self.full += other.full;
        self.damaged += other.damaged;
        self.rolled += other.rolled;
        self.resurrected += other.resurrected;
    }
}

struct Story {
    chance: Chance,
    disk: SimDisk,
    weather: Weather,
    options: Options,
    /// Acknowledged, or shown after a restart: this must never go.
    kept: Vec<NewRecord>,
    /// The batch whose write failed or was cut off: all of it or nothing may turn up.
    pending: Vec<NewRecord>,
    serial: u64,
    told: Told,
}

impl Story {
    fn new(seed: u64) -> Story {
        let weather = [Weather::Fair, Weather::Errors, Weather::Full, Weather::Astray];
        let mut chance = Chance::new(seed ^ 0x5eed);
        let segment_bytes = 4096 * (5 + chance.below(12));
        let options = Options {
            segment_bytes,
            first_segment_bytes: 4096 * (4 + chance.below(8)),
            spare_bytes_max: segment_bytes * chance.below(3),
        };
        Story {
            chance,
            disk: SimDisk::new(seed),
            weather: weather[(seed % 4) as usize],
            options,
            kept: Vec::new(),
            pending: Vec::new(),
            serial: 0,
            told: Told::default(),
        }
    }

    fn tell(mut self) -> Told {
        for _ in 0..2 + self.chance.below(5) {
            let Some(store) = self.open() else { return self.told };
            if !self.compare(&store) {
                return self.told;
            }
            self.live(&store.log);
            drop(store);
            self.disk.heal();
            // The end of a poisoned process is a kill first, and perhaps a cut as well.
            if self.chance.permille(400) {
                self.disk.kill();
            } else {
                self.disk.crash();
            }
        }
        if let Some(store) = self.open() {
            self.compare(&store);
            let seen = store.log.refusal();
            drop(store);
            let report = check(&self.disk, Path::new(DIR), &mut |_| {}).unwrap();
            if self.weather == Weather::Astray {
                assert!(seen.is_none() || !report.is_sound(), "{seen:?}, and check sees nothing");
            } else {
                assert_eq!(report.findings, []);
                assert_eq!(report.records, self.kept.len() as u64);
            }
        }
        self.told
    }

    /// Opens the store, sometimes through errors, which must leave it as openable as it was.
    fn open(&mut self) -> Option<Store> {
        let disk: Arc<dyn Disk> = Arc::new(self.disk.clone());
        while self.weather == Weather::Errors && self.chance.permille(300) {
            let nth = self.chance.below(60);
            self.disk.fail_call(nth, EIO);
            drop(open(&disk, Path::new(DIR), &self.options));
            self.disk.heal();
            match self.chance.below(3) {
                0 => self.disk.crash(),
                1 => self.disk.kill(),
                _ => {}
            }
        }
        match open(&disk, Path::new(DIR), &self.options) {
            Ok(store) => Some(store),
            Err(error) => {
                assert_eq!(self.weather, Weather::Astray, "cannot open: {error}");
                self.told.damaged += 1;
                None
            }
        }
    }

    /// What stands there against what must. Answers whether the story can go on.
    fn compare(&mut self, store: &Store) -> bool {
        let scanned: Vec<Result<_, Error>> = store.log.scan(Position(0)).collect();
        let damaged = store.log.refusal();
        let found: Vec<NewRecord> =
            scanned.iter().filter_map(|record| record.as_ref().ok()).map(as_new).collect();
        if let Some(damage) = damaged {
            assert_eq!(self.weather, Weather::Astray, "{damage}");
            // Holes, but never a wrong record, and never one in the wrong place.
            let mut all = self.kept.iter().chain(&self.pending);
            for record in &found {
                assert!(all.any(|written| written == record), "this was never written: {record:?}");
            }
            self.told.damaged += 1;
            return false;
        }
        assert!(scanned.iter().all(Result::is_ok));
        let with_pending: Vec<NewRecord> = self.kept.iter().chain(&self.pending).cloned().collect();
        if self.weather == Weather::Astray {
            // A last batch that went astray cannot be told from one that was cut off.
            assert!(with_pending.starts_with(&found), "more or other than was written");
        } else if !self.pending.is_empty() && found == with_pending {
            self.told.resurrected += 1;
        } else {
            assert_eq!(found.len(), self.kept.len(), "records lost or added");
            assert_eq!(found, self.kept);
            self.told.torn += u32::from(!self.pending.is_empty());
        }
        self.kept = found;
        self.pending.clear();
        self.pages(store);
        true
    }

    fn pages(&mut self, store: &Store) {
        for _ in 0..4 {
            let (conversation, lane) = self.any_lane();
            let expected = self.lane(conversation, lane);
            assert_eq!(store.log.head(conversation, lane), expected.len() as u64);
            let before = self.chance.below(expected.len() as u64 + 2);
            let limit = self.chance.below(8) as usize;
            let upto = if before == 0 { expected.len() } else { before as usize - 1 };
            let page = store.log.page(conversation, lane, before, limit).unwrap();
            let page: Vec<NewRecord> = page.iter().map(as_new).collect();
            let upto = upto.min(expected.len());
            assert_eq!(page, expected[upto.saturating_sub(limit)..upto]);
        }
    }

    /// A process's life: batches, pauses, the porter now and then.
    fn live(&mut self, log: &Log) {
        let mut writer = log.shared.take_writer().unwrap();
        log.keep_spares();
        match self.weather {
            Weather::Errors => self.disk.set_eio_permille(15),
            Weather::Astray => self.disk.set_astray_permille(10),
            Weather::Full => {
                let room = self.chance.below(6 * self.options.segment_bytes);
                self.disk.set_capacity_bytes(self.disk.used_bytes() + room);
            }
            Weather::Fair => {}
        }
        for _ in 0..self.chance.below(25) {
            if self.chance.permille(200) {
                log.shared.porter.turn(&log.shared);
            }
            if self.chance.permille(200) {
                match writer.state(&log.shared) {
                    Err(Unwritten::Broken(_)) => {
                        self.told.poisoned += 1;
                        return;
                    }
                    Ok(()) | Err(Unwritten::NoRoom(_)) => continue,
                }
            }
            let segments = log.shared.segments().len();
            let batch = self.batch();
            let mut frames = Vec::new();
            batch.iter().for_each(|record| frame::encode(record, &mut frames));
            // The power may go while the batch is on its way.
            let cut_off = self.weather == Weather::Fair && self.chance.permille(60);
            if cut_off {
                self.disk.fail_call(1, EIO);
            }
            let count = batch.len() as u32;
            match writer.write(&log.shared, std::iter::once(frames.as_slice()), count) {
                Ok(first) => {
                    let newest = log.scan(first).map(|record| as_new(&record.unwrap()));
                    assert_eq!(newest.collect::<Vec<_>>(), batch, "durable means visible");
                    self.kept.extend(batch);
                    self.told.rolled += u32::from(log.shared.segments().len() > segments);
                }
                Err(Unwritten::NoRoom(_)) => {
                    self.told.full += 1;
                    self.forget(&batch);
                    if self.chance.permille(300) {
                        self.disk.set_capacity_bytes(1 << 40);
                    }
                }
                Err(Unwritten::Broken(_)) => {
                    self.told.poisoned += 1;
                    let readable = log.scan(Position(0)).count();
                    assert_eq!(readable, self.kept.len(), "not durable, not visible");
                    self.pending = batch;
                    return;
                }
            }
        }
        if self.chance.permille(300) {
            // A clean end.
            let _ = writer.state(&log.shared);
        }
    }

    fn batch(&mut self) -> Vec<NewRecord> {
        let count = 1 + self.chance.below(6);
        let mut batch = Vec::new();
        for _ in 0..count {
            self.serial += 1;
            let (conversation, lane) = self.any_lane();
            let in_batch = |record: &&NewRecord| matches!(record.place, Place::Conversation { conversation: c, lane: l, .. } if (c, l) == (conversation, lane));
            let before =
                self.lane(conversation, lane).len() + batch.iter().filter(in_batch).count();
            let place = match self.chance.below(10) {
                0 => Place::Register,
                1 => Place::Reads,
                _ => Place::Conversation { conversation, lane, seq: before as u64 + 1 },
            };
            let len = [10, 100, 1_000, 6_000][self.chance.below(4) as usize];
            let mut body = self.serial.to_le_bytes().to_vec();
            body.resize(8 + self.chance.below(len) as usize, self.serial as u8);
            batch.push(NewRecord { place, kind: self.serial as u16, time_ms: self.serial, body });
        }
        batch
    }

    /// A batch that found no room was never written, so its numbers can be given again.
    fn forget(&mut self, batch: &[NewRecord]) {
        self.serial -= batch.len() as u64;
    }

    fn any_lane(&mut self) -> (u64, Lane) {
        let lane = if self.chance.permille(300) { Lane::Staff } else { Lane::Public };
        (self.chance.below(5), lane)
    }

    fn lane(&self, conversation: u64, lane: Lane) -> Vec<NewRecord> {
        let here = |record: &&NewRecord| matches!(record.place, Place::Conversation { conversation: c, lane: l, .. } if (c, l) == (conversation, lane));
        self.kept.iter().filter(here).cloned().collect()
    }
}
