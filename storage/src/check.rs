//! Reading a whole store to say what is wrong with it. Changes nothing and takes no lock, so it can
//! look at a store that is being written: the part that is durable does not change under it.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::path::Path;

use crate::blobs::{self, Checked};
use crate::disk::{self, Disk, Open};
use crate::error::Error;
use crate::frame;
use crate::index::{self, HotIndex};
use crate::record::Place;
use crate::recovery::{belongs, continues};
use crate::secrets;
use crate::segment::{self, Damage, Header, NoHeader, SEGMENT_BYTES_MAX, Walk};
use crate::store::{self, LOG_NAME, Named, Progress};

/// What `check` counted and found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    pub segments: u64,
    pub batches: u64,
    pub records: u64,
    pub conversations: u64,
    pub blobs: u64,
    /// Why a server would open this to be read only.
    pub read_only: Option<String>,
    /// Damage: something durable is not what it was.
    pub findings: Vec<Finding>,
    /// What the next start mends by itself: a torn tail, an index that has to be made again.
    pub remarks: Vec<Finding>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Below the data directory.
    pub file: String,
    pub offset: u64,
    pub what: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}: {}", self.file, self.offset, self.what)
    }
}

impl Report {
    pub fn is_sound(&self) -> bool {
        self.findings.is_empty()
    }
}

/// Reads every byte of a store that counts. An `Err` means that there is no store to judge.
pub fn check(
    disk: &dyn Disk,
    dir: &Path,
    progress: &mut dyn FnMut(Progress),
) -> Result<Report, Error> {
    let named = store::read_name(disk, dir)?;
    let named = named.ok_or_else(|| Error::refused("there is no store here"))?;
    let log = dir.join(LOG_NAME);
    let names = disk.list(&log).map_err(|e| Error::io("list", &log, e))?;
    let mut numbers: Vec<u32> =
        names.iter().filter_map(|name| segment::number_of(name, ".seg")).collect();
    numbers.sort_unstable();

    let mut checking = Checking {
        disk,
        log: &log,
        named: &named,
        report: Report::default(),
        next_seqs: HashMap::new(),
        before: None,
    };
    for (nth, number) in numbers.iter().enumerate() {
        progress(Progress::Segment { nth: nth + 1, of: numbers.len() });
        let expected = numbers.get(nth.wrapping_sub(1)).map_or(1, |before| before + 1);
        if *number != expected {
            checking.find(expected, 0, "the segment is missing");
        }
        checking.segment(*number, numbers.get(nth + 1).copied());
    }
    let last = numbers.last().copied().unwrap_or_default();
    let left_over = names.iter().filter_map(|name| segment::number_of(name, ".idx"));
    if let Some(number) = left_over.filter(|number| *number > last).min() {
        checking.find(number, 0, "the segment is missing, its index is there");
    }
    let mut report = checking.report;
    let damaged = report.findings.first().map(ToString::to_string);
    report.read_only = damaged.or_else(|| named.refusal().map(|why| why.to_string()));
    let conversations = checking.next_seqs.keys().map(|(conversation, _)| conversation);
    report.conversations = conversations.collect::<std::collections::HashSet<_>>().len() as u64;
    check_beside_the_log(disk, dir, &mut report)?;
    Ok(report)
}

fn check_beside_the_log(disk: &dyn Disk, dir: &Path, report: &mut Report) -> Result<(), Error> {
    let secrets = secrets::read(disk, dir, report.records > 0);
    let key = secrets.and_then(|secrets| store::kept_blob_key(|name| secrets.get(name).cloned()));
    let key = key.unwrap_or_else(|error| {
        let (file, what) = ("SECRETS".to_owned(), error.to_string());
        report.findings.push(Finding { file, offset: 0, what });
        None
    });
    blobs::verify(disk, dir, key.as_ref(), &mut |checked| match checked {
        Checked::Blob(_) => report.blobs += 1,
        Checked::Damage { segment, offset, what } => {
            let file = blobs::file_name(segment);
            report.findings.push(Finding { file, offset, what });
        }
    })
}

struct Checking<'a> {
    disk: &'a dyn Disk,
    log: &'a Path,
    named: &'a Named,
    report: Report,
    next_seqs: HashMap<index::Key, u64>,
    before: Option<Header>,
}

impl Checking<'_> {
    fn find(&mut self, number: u32, offset: u64, what: &str) {
        let file = format!("{LOG_NAME}/{}", segment::file_name(number));
        self.report.findings.push(Finding { file, offset, what: what.to_owned() });
    }

    fn remark(&mut self, file: String, offset: u64, what: &str) {
        let file = format!("{LOG_NAME}/{file}");
        self.report.remarks.push(Finding { file, offset, what: what.to_owned() });
    }

    fn segment(&mut self, number: u32, next: Option<u32>) {
        self.report.segments += 1;
        let bytes = match self.read(number) {
            Ok(bytes) => bytes,
            // One bad sector must not hide what else there is to find.
            Err(e) => {
                self.find(number, 0, &format!("it cannot be read: {e}"));
                self.before = None;
                return;
            }
        };
        let header = Header::decode(&bytes).map_err(|no_header| match no_header {
            NoHeader::Damaged(what) => what,
            NoHeader::Future(_) => "the segment needs a newer Lodge",
        });
        let header = header.and_then(|header| {
            belongs(&header, number, self.named.uuid)?;
            continues(&header, self.before.as_ref())?;
            Ok(header)
        });
        let header = match header {
            Ok(header) => header,
            Err(what) => {
                self.find(number, 0, what);
                self.before = None;
                return;
            }
        };
        self.before = Some(header);
        match next.filter(|next| *next == number + 1) {
            Some(next) => self.closed(&header, bytes, self.header_of(next)),
            None => self.last(&header, bytes),
        }
    }

    fn closed(&mut self, header: &Header, mut bytes: Vec<u8>, next: Option<Header>) {
        if let Some(next) = next {
            bytes.truncate(usize::try_from(next.prev_end).unwrap_or(usize::MAX));
        }
        let walk = self.walk(header, &bytes);
        let agrees =
            next.is_none_or(|next| (next.prev_end, next.prev_chain) == (walk.end, walk.chain));
        if !agrees {
            let what = "the segment does not end where the next one says";
            self.find(header.number, walk.end, what);
        }
    }

    fn last(&mut self, header: &Header, mut bytes: Vec<u8>) {
        // Somebody may be writing: a batch that was half there a moment ago is whole by now. Damage
        // does not go away.
        if !segment::walk(&bytes, header, |_, _| {}).damage.is_empty()
            && let Ok(again) = self.read(header.number)
        {
            bytes = again;
        }
        let walk = self.walk(header, &bytes);
        let tail = bytes.get(walk.end as usize..).unwrap_or_default();
        if tail.iter().any(|byte| *byte != 0) {
            let name = segment::file_name(header.number);
            self.remark(name, walk.end, "a torn tail, which was never acknowledged");
        }
    }

    fn walk(&mut self, header: &Header, bytes: &[u8]) -> Walk {
        let number = header.number;
        let mut findings = Vec::new();
        let mut made = HotIndex::default();
        let walk = segment::walk(bytes, header, |offset, frame| {
            let start = offset as usize;
            if !bytes.get(start..start + frame.len).is_some_and(frame::is_intact) {
                findings.push(Damage {
                    offset: u64::from(offset),
                    what: "the checksum of a record is wrong",
                });
            }
            if let Place::Conversation { conversation, lane, seq } = frame.place {
                let next = self.next_seqs.entry((conversation, lane)).or_insert(1);
                if *next != seq {
                    findings.push(Damage { offset: u64::from(offset), what: index::NOT_FOLLOWING });
                }
                *next = seq.saturating_add(1);
            }
            // What cannot be placed was found just above.
            let _ = made.push_behind_damage(frame.place, offset);
        });
        for damage in walk.damage.iter().chain(&findings) {
            self.find(number, damage.offset, damage.what);
        }
        self.report.batches += walk.batches;
        self.report.records += walk.records;
        let name = index::file_name(number);
        let path = self.log.join(&name);
        let filed = self.disk.open(&path, Open::Read);
        match filed.and_then(|file| disk::read_all(&*file, SEGMENT_BYTES_MAX)) {
            Ok(filed) if filed == made.encode(header, walk.end, walk.chain, walk.batches) => {}
            Ok(_) => self.remark(name, 0, "the index does not match its segment"),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => self.remark(name, 0, &format!("the index cannot be read: {e}")),
        }
        walk
    }

    fn read(&self, number: u32) -> io::Result<Vec<u8>> {
        let path = self.log.join(segment::file_name(number));
        let file = self.disk.open(&path, Open::Read)?;
        disk::read_all(&*file, SEGMENT_BYTES_MAX)
    }

    /// `None` when it is damaged or cannot be read, which is found when its turn comes.
    fn header_of(&self, number: u32) -> Option<Header> {
        let path = self.log.join(segment::file_name(number));
        let mut block = vec![0; segment::HEADER_BYTES];
        let file = self.disk.open(&path, Open::Read).ok()?;
        disk::read_exact_at(&*file, &mut block, 0).ok()?;
        let header = Header::decode(&block).ok();
        header.filter(|header| belongs(header, number, self.named.uuid).is_ok())
    }
}
