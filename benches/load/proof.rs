//! Reads every conversation back and holds it against the ledger.

use std::collections::HashMap;
use std::sync::Arc;

use lodge_client::{Body, Entry, Id};
use tokio::sync::Semaphore;

use crate::crowd::Crowd;
use crate::ledger::{Kind, Ledger, Line, number_in};

/// Conversations that are read at the same time.
const READING_MAX: usize = 16;
const COMPLAINTS_MAX: usize = 20;

#[derive(Debug, Default)]
pub struct Proof {
    /// Entries that were read.
    pub entries: u64,
    /// Acknowledged and not there.
    pub lost: u64,
    /// There more than once.
    pub doubled: u64,
    /// There, but not behind what its author sent before it.
    pub reordered: u64,
    /// There, but not as it was sent, or not where it was said to be.
    pub differ: u64,
    pub complaints: Vec<String>,
}

pub async fn read_back(crowd: &Crowd, ledger: &Arc<Ledger>) -> Proof {
    let lines = ledger.lines();
    let mut proof = Proof::default();
    let mut standing: HashMap<u64, (Id, u64)> = HashMap::new();
    let places = Arc::new(Semaphore::new(READING_MAX));
    let reading: Vec<_> = (0..crowd.visitors())
        .map(|visitor| {
            let (peer, id) = (Arc::clone(&crowd.peers[visitor]), crowd.conversation(visitor));
            let (places, ledger) = (Arc::clone(&places), Arc::clone(ledger));
            tokio::spawn(async move {
                let _place = places.acquire().await.expect("open");
                let mut entries: Vec<Entry> = Vec::new();
                loop {
                    let before = entries.first().map_or(0, |first| first.seq);
                    let mut page = peer.page(id, before).await;
                    let more = page.more;
                    page.entries.append(&mut entries);
                    entries = page.entries;
                    if !more {
                        break;
                    }
                }
                let mut wrong = Vec::new();
                for entry in &entries {
                    if let Body::File { caption, .. } = &entry.body
                        && let Some(number) = number_in(caption)
                        && peer.fetch(&id, entry.seq, &ledger).await != ledger.picture(number)
                    {
                        wrong.push(number);
                    }
                }
                (visitor, id, entries, wrong)
            })
        })
        .collect();
    for task in reading {
        let (visitor, id, entries, wrong) = task.await.expect("a conversation can be read");
        proof.entries += entries.len() as u64;
        for number in wrong {
            proof.differ(format!("the bytes of image {number} differ"));
        }
        for (entry, expected) in entries.iter().zip(1..) {
            if entry.seq != expected {
                proof.differ(format!("visitor {visitor}: Seq {} stands at {expected}", entry.seq));
                break;
            }
        }
        proof.judge(ledger, &lines, id, &entries, &mut standing);
    }
    for (number, line) in lines.iter().enumerate() {
        let Some(answer) = line.answer else { continue };
        match standing.get(&(number as u64)) {
            None => {
                proof.lost += 1;
                proof.complain(format!("message {number} was acknowledged and is not there"));
            }
            Some(&place) if place != (answer.conversation, answer.seq) => {
                proof.differ(format!("message {number} stands elsewhere than was said"));
            }
            Some(_) => {}
        }
    }
    proof
}

impl Proof {
    fn judge(
        &mut self,
        ledger: &Ledger,
        lines: &[Line],
        id: Id,
        entries: &[Entry],
        standing: &mut HashMap<u64, (Id, u64)>,
    ) {
        let mut newest: HashMap<usize, usize> = HashMap::new();
        for entry in entries {
            let (words, kind) = match &entry.body {
                Body::Text(words) => (words, Kind::Text),
                Body::File { caption, .. } => (caption, Kind::Image),
                _ => continue,
            };
            let Some(number) = number_in(words) else { continue };
            let Some(line) = lines.get(number as usize) else {
                self.differ(format!("message {number} was never sent"));
                continue;
            };
            if standing.insert(number, (id, entry.seq)).is_some() {
                self.doubled += 1;
                self.complain(format!("message {number} stands twice"));
            }
            if kind != line.kind || *words != ledger.words(number, line.kind) {
                self.differ(format!("message {number} differs"));
            }
            let nth = line.nth.unwrap_or(usize::MAX);
            let newest = newest.entry(line.sender).or_default();
            if nth < *newest {
                self.reordered += 1;
                self.complain(format!("message {number} stands behind a later one"));
            }
            *newest = nth.max(*newest);
        }
    }

    fn differ(&mut self, complaint: String) {
        self.differ += 1;
        self.complain(complaint);
    }

    fn complain(&mut self, complaint: String) {
        if self.complaints.len() < COMPLAINTS_MAX {
            self.complaints.push(complaint);
        }
    }
}
