//! What an Entry looks like inside a record: version 1, frozen.
//!
//! The record's kind is `VERSION << 8 | kind`. A body is rkyv, always read through validated access.
//! A type here is never changed: a richer Entry gets a version of its own, and readers of an unknown
//! kind keep its bytes and show a placeholder.

use lodge_storage::{Lane, NewRecord, Place};
use rkyv::rancor::Error;
use rkyv::{Archive, Deserialize, Serialize};

use super::register::{Agent, Site};

const VERSION: u16 = 1;
/// Records of marks: they are no Entries.
const MARKED: u16 = VERSION << 8 | 48;

/// Someone who says or does something. Numbers stay inside; a name is looked up or stands beside.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Archive, Serialize, Deserialize,
)]
#[rkyv(derive(Debug))]
pub enum Person {
    System,
    Visitor(u64),
    Agent(u64),
}

/// Which draft of which device an Entry answers: what makes a retry harmless after a restart too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Archive, Serialize, Deserialize)]
#[rkyv(derive(Debug))]
pub struct Origin {
    pub device: [u8; 16],
    pub counter: u64,
    pub settled: u64,
    pub hash: u64,
}

/// A file or an image that lies in the blob segments.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
#[rkyv(derive(Debug))]
pub struct File {
    pub name: String,
    pub mime: String,
    pub caption: String,
    /// Pixels, 0 = unknown.
    pub width: u32,
    /// Pixels, 0 = unknown.
    pub height: u32,
    /// `storage::BlobRef` as bytes.
    pub blob: Vec<u8>,
    pub size: u64,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
#[rkyv(derive(Debug))]
pub enum Body {
    Text(String),
    File(File),
    Closed,
    Opened {
        site: u64,
        visitor: u64,
        name: String,
        vouched: bool,
        page: String,
    },
    Assigned {
        agent: u64,
        why: String,
    },
    Joined {
        agent: u64,
    },
    Reopened,
    /// A row of the register as it stands from now on.
    Site(Site),
    /// A row of the register as it stands from now on.
    Agent(Agent),
}

impl Body {
    /// Unknown numbers are kept by readers; a number never changes its meaning.
    fn kind(&self) -> u16 {
        match self {
            Body::Text(_) => 1,
            Body::File(_) => 2,
            Body::Closed => 3,
            Body::Opened { .. } => 16,
            Body::Assigned { .. } => 17,
            Body::Joined { .. } => 18,
            Body::Reopened => 19,
            Body::Site(_) => 32,
            Body::Agent(_) => 33,
        }
    }
}

/// An accepted fact.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
#[rkyv(derive(Debug))]
pub struct Entry {
    pub author: Person,
    pub origin: Option<Origin>,
    pub body: Body,
}

impl Entry {
    /// The record that will hold this Entry.
    pub fn record(&self, place: Place, time_ms: u64) -> NewRecord {
        #[expect(clippy::expect_used, reason = "writing to memory fails only when memory does")]
        let body = rkyv::to_bytes::<Error>(self).expect("an entry is encoded").into_vec();
        NewRecord { place, kind: VERSION << 8 | self.body.kind(), time_ms, body }
    }
}

/// How far a member of a conversation has got in its public lane. No Entry: it takes no Seq, nothing is
/// decided by it, and of two the further one counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Archive, Serialize, Deserialize)]
#[rkyv(derive(Debug))]
pub struct Marked {
    pub conversation: u64,
    pub person: Person,
    pub delivered: u64,
    pub read: u64,
}

/// The record that will hold these marks.
pub fn marks_record(marks: Vec<Marked>, time_ms: u64) -> NewRecord {
    #[expect(clippy::expect_used, reason = "writing to memory fails only when memory does")]
    let body = rkyv::to_bytes::<Error>(&marks).expect("marks are encoded").into_vec();
    NewRecord { place: Place::Reads, kind: MARKED, time_ms, body }
}

/// Reads the marks of a record that holds some.
pub fn read_marks(kind: u16, body: &[u8]) -> Option<Vec<Marked>> {
    if kind != MARKED {
        return None;
    }
    let marks = rkyv::access::<rkyv::Archived<Vec<Marked>>, Error>(body).ok()?;
    rkyv::deserialize::<Vec<Marked>, Error>(marks).ok()
}

/// Reads the body of a record. `None`: written by a newer build, or not an Entry at all.
pub fn read(kind: u16, body: &[u8]) -> Option<&ArchivedEntry> {
    if kind >> 8 != VERSION || kind == MARKED {
        return None;
    }
    rkyv::access::<ArchivedEntry, Error>(body).ok()
}

impl ArchivedPerson {
    pub fn get(&self) -> Person {
        match self {
            ArchivedPerson::System => Person::System,
            ArchivedPerson::Visitor(number) => Person::Visitor(number.to_native()),
            ArchivedPerson::Agent(number) => Person::Agent(number.to_native()),
        }
    }
}

/// The slot of a lane in arrays that hold one number for each.
pub fn lane_slot(lane: Lane) -> usize {
    match lane {
        Lane::Public => 0,
        Lane::Staff => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_survives_its_record() {
        let entry = Entry {
            author: Person::Visitor(7),
            origin: Some(Origin { device: [3; 16], counter: 4, settled: 2, hash: 9 }),
            body: Body::Text("你好, is anybody there?".into()),
        };
        let record = entry.record(Place::Register, 5);
        let read = read(record.kind, &record.body).unwrap();
        assert_eq!(rkyv::deserialize::<Entry, Error>(read).unwrap(), entry);
    }

    /// What a build of this version wrote must be readable for ever.
    #[test]
    fn marks_are_read_back_and_are_no_entry() {
        let marks = vec![
            Marked { conversation: 3, person: Person::Visitor(7), delivered: 9, read: 8 },
            Marked { conversation: 4, person: Person::Agent(1), delivered: 2, read: 2 },
        ];
        let record = marks_record(marks.clone(), 5);
        assert_eq!(read_marks(record.kind, &record.body), Some(marks));
        assert!(read(record.kind, &record.body).is_none());
        for cut in 0..record.body.len() {
            assert!(read_marks(record.kind, &record.body[..cut]).is_none(), "cut at {cut}");
        }
        let entry = Entry { author: Person::System, origin: None, body: Body::Closed };
        let entry = entry.record(Place::Register, 0);
        assert!(read_marks(entry.kind, &entry.body).is_none());
    }

    #[test]
    fn bytes_of_a_newer_build_and_garbage_are_not_misread() {
        let record = Entry { author: Person::System, origin: None, body: Body::Closed }
            .record(Place::Register, 0);
        assert!(read(2 << 8 | 3, &record.body).is_none());
        for cut in 0..record.body.len() {
            assert!(read(record.kind, &record.body[..cut]).is_none(), "cut at {cut}");
        }
        for seed in 0..=255u8 {
            let noise: Vec<u8> =
                (0..64u8).map(|i| i.wrapping_mul(167) ^ seed.wrapping_mul(31)).collect();
            let _ = read(record.kind, &noise); // any answer, but no panic
        }
    }
}
