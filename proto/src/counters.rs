//! Exactly once: what a server remembers of one device's drafts.
//!
//! A device numbers its drafts from 1 and says with each below which counter it holds every answer
//! (`settled`). Invariants: a counter is accepted at most once; drafts are accepted in the order of their
//! counters; a first answer never changes; memory is bounded by `UNSETTLED_MAX`. Refusals need no
//! durable memory: a counter that history passed by without an entry was refused.

use std::collections::VecDeque;

use sha2::{Digest, Sha256};

use crate::frame::{DraftBody, Lane};
use crate::limits::UNSETTLED_MAX;
use crate::refusal::{Act, Refusal, RefusalCode};
use crate::session::Target;
use crate::wire::Id;

/// Where an accepted draft stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer {
    pub conversation: Id,
    pub lane: Lane,
    pub seq: u64,
    pub position: u64,
    pub time_ms: u64,
}

/// What to do with a draft that came in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Never seen: judge it, then `reserve`, `accept` or `refuse` it.
    New,
    /// Accepted before: give the first answer again.
    Again(Answer),
    /// On its way to the disk: its answer comes by itself.
    InFlight,
    /// Refuse it; the counters do not change.
    Refused(Refusal),
}

/// The counters of one device.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counters {
    /// The highest counter that was answered or is on its way.
    highest: u64,
    /// Below this the device holds every answer.
    settled: u64,
    /// Rising counters, all at or above `settled`.
    window: VecDeque<Slot>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Slot {
    counter: u64,
    hash: u64,
    fate: Fate,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Fate {
    InFlight,
    Accepted(Answer),
    /// Kept in memory only.
    Refused(Refusal),
}

impl Counters {
    /// What the log remembers: called for a device's accepted drafts in the order of the log.
    pub fn replay(&mut self, counter: u64, settled: u64, hash: u64, answer: Answer) {
        self.settle(settled);
        self.highest = self.highest.max(counter);
        self.keep(counter, hash, Fate::Accepted(answer));
    }

    /// The highest counter that was answered; what HELLO_OK says.
    pub fn highest(&self) -> u64 {
        self.highest
    }

    /// Whether nothing of this device is on its way to the disk.
    pub fn is_idle(&self) -> bool {
        self.window.iter().all(|slot| slot.fate != Fate::InFlight)
    }

    /// Forgets what the device will not ask for again.
    pub fn settle(&mut self, settled: u64) {
        self.settled = self.settled.max(settled);
        while self
            .window
            .front()
            .is_some_and(|slot| slot.counter < self.settled && slot.fate != Fate::InFlight)
        {
            self.window.pop_front();
        }
    }

    /// Judges a draft by its number alone.
    pub fn check(&mut self, counter: u64, settled: u64, hash: u64) -> Verdict {
        self.settle(settled);
        if let Some(slot) = self.window.iter().find(|slot| slot.counter == counter) {
            return match &slot.fate {
                _ if slot.hash != hash => Verdict::Refused(Refusal::new(RefusalCode::DeviceCloned)),
                Fate::InFlight => Verdict::InFlight,
                Fate::Accepted(answer) => Verdict::Again(*answer),
                Fate::Refused(refusal) => Verdict::Refused(refusal.clone()),
            };
        }
        let refused = if counter == 0 {
            RefusalCode::Malformed
        } else if counter < self.settled {
            RefusalCode::AlreadySettled
        } else if counter <= self.highest {
            RefusalCode::Forgotten
        } else if counter - self.settled.max(1) >= UNSETTLED_MAX
            || self.window.len() as u64 >= UNSETTLED_MAX
        {
            RefusalCode::TooManyUnsettled
        } else if counter - 1 == self.highest || counter <= self.settled {
            return Verdict::New;
        } else {
            RefusalCode::CounterGap
        };
        Verdict::Refused(Refusal::new(refused))
    }

    /// A draft that was `New` is on its way to the disk.
    pub fn reserve(&mut self, counter: u64, hash: u64) {
        self.highest = self.highest.max(counter);
        self.keep(counter, hash, Fate::InFlight);
    }

    /// It is durable. Answers that the device already counts as settled are not kept.
    pub fn accept(&mut self, counter: u64, answer: Answer) {
        if let Some(slot) = self.window.iter_mut().find(|slot| slot.counter == counter) {
            slot.fate = Fate::Accepted(answer);
        }
        self.settle(self.settled);
    }

    /// A draft that was `New` is refused. One that may be tried again leaves no trace: the device sends
    /// it under the same counter, and what it sent behind it meets `CounterGap` until then.
    pub fn refuse(&mut self, counter: u64, hash: u64, refusal: &Refusal) {
        if refusal.code.act() == Act::Never {
            self.highest = self.highest.max(counter);
            self.keep(counter, hash, Fate::Refused(refusal.clone()));
        }
    }

    fn keep(&mut self, counter: u64, hash: u64, fate: Fate) {
        if self.window.len() as u64 >= UNSETTLED_MAX {
            self.window.pop_front();
        }
        self.window.push_back(Slot { counter, hash, fate });
    }
}

/// Says whether two drafts are the same: the first 8 bytes, little-endian, of SHA-256 over
/// `[0x00, id(16)]` or `[0x01]` for Mine, then lane, kind and the fields of the kind in the binary
/// encoding, in whichever encoding the draft came. A handle counts as the id that it stands for.
pub fn draft_hash(conversation: Target, lane: Lane, body: &DraftBody<'_>) -> u64 {
    let mut canonical = Vec::new();
    match conversation {
        Target::Id(id) => {
            canonical.push(0);
            canonical.extend_from_slice(&id);
        }
        Target::Mine => canonical.push(1),
    }
    canonical.extend_from_slice(&[lane as u8, body.kind()]);
    body.put_fields(&mut canonical);
    let digest: [u8; 32] = Sha256::digest(&canonical).into();
    digest.iter().take(8).rev().fold(0, |hash, &byte| hash << 8 | u64::from(byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: u64 = 7;

    fn answer(seq: u64) -> Answer {
        Answer { conversation: [9; 16], lane: Lane::Public, seq, position: seq, time_ms: seq }
    }

    fn refused(code: RefusalCode) -> Verdict {
        Verdict::Refused(Refusal::new(code))
    }

    fn accepted(counters: &mut Counters, counter: u64, settled: u64) {
        assert_eq!(counters.check(counter, settled, HASH), Verdict::New, "counter {counter}");
        counters.reserve(counter, HASH);
        counters.accept(counter, answer(counter));
    }

    #[test]
    fn the_same_draft_again_gets_the_first_answer() {
        let mut counters = Counters::default();
        assert_eq!(counters.check(1, 1, HASH), Verdict::New);
        counters.reserve(1, HASH);
        assert_eq!(counters.check(1, 1, HASH), Verdict::InFlight);
        counters.accept(1, answer(1));
        assert_eq!(counters.check(1, 1, HASH), Verdict::Again(answer(1)));
    }

    #[test]
    fn the_same_counter_with_another_body_is_a_clone() {
        let mut counters = Counters::default();
        accepted(&mut counters, 1, 1);
        assert_eq!(counters.check(1, 1, HASH + 1), refused(RefusalCode::DeviceCloned));
    }

    #[test]
    fn what_the_device_called_settled_is_never_judged_again() {
        let mut counters = Counters::default();
        accepted(&mut counters, 1, 1);
        assert_eq!(counters.check(1, 2, HASH), refused(RefusalCode::AlreadySettled));
        // A late copy that still carries the old number changes nothing.
        assert_eq!(counters.check(1, 1, HASH), refused(RefusalCode::AlreadySettled));
    }

    #[test]
    fn a_gap_is_taken_only_when_settled_covers_it() {
        let mut counters = Counters::default();
        accepted(&mut counters, 1, 1);
        assert_eq!(counters.check(5, 4, HASH), refused(RefusalCode::CounterGap));
        accepted(&mut counters, 5, 5);
        assert_eq!(counters.check(4, 4, HASH), refused(RefusalCode::AlreadySettled));
    }

    #[test]
    fn a_refusal_is_repeated_while_it_is_remembered_and_forgotten_is_still_a_refusal() {
        let mut counters = Counters::default();
        accepted(&mut counters, 1, 1);
        let too_long = Refusal::new(RefusalCode::TextTooLong);
        counters.refuse(2, HASH, &too_long);
        accepted(&mut counters, 3, 1);
        assert_eq!(counters.check(2, 1, HASH), Verdict::Refused(too_long));

        let mut restarted = Counters::default();
        restarted.replay(1, 1, HASH, answer(1));
        restarted.replay(3, 1, HASH, answer(3));
        assert_eq!(restarted.check(2, 1, HASH), refused(RefusalCode::Forgotten));
        assert_eq!(restarted.check(3, 1, HASH), Verdict::Again(answer(3)));
    }

    #[test]
    fn what_may_be_tried_again_keeps_its_place_in_the_order() {
        let mut counters = Counters::default();
        accepted(&mut counters, 1, 1);
        counters.refuse(2, HASH, &Refusal::after(RefusalCode::Busy, 50));
        assert_eq!(counters.check(3, 2, HASH), refused(RefusalCode::CounterGap));
        accepted(&mut counters, 2, 2);
        accepted(&mut counters, 3, 2);
    }

    #[test]
    fn the_window_ends_at_its_limit() {
        for (sent, last) in [
            (UNSETTLED_MAX - 1, Verdict::New),
            (UNSETTLED_MAX, refused(RefusalCode::TooManyUnsettled)),
            (UNSETTLED_MAX + 1, refused(RefusalCode::TooManyUnsettled)),
        ] {
            let mut counters = Counters::default();
            for counter in 1..=sent.min(UNSETTLED_MAX) {
                accepted(&mut counters, counter, 1);
            }
            assert_eq!(counters.check(sent + 1, 1, HASH), last, "after {sent}");
            assert!(counters.window.len() as u64 <= UNSETTLED_MAX);
        }
    }

    #[test]
    fn drafts_on_their_way_are_bounded_even_for_a_device_that_calls_them_settled() {
        let mut counters = Counters::default();
        for counter in 1..=UNSETTLED_MAX {
            assert_eq!(counters.check(counter, counter, HASH), Verdict::New);
            counters.reserve(counter, HASH);
        }
        let next = UNSETTLED_MAX + 1;
        assert_eq!(counters.check(next, next, HASH), refused(RefusalCode::TooManyUnsettled));
    }

    #[test]
    fn numbers_at_the_end_of_their_range_are_judged_like_others() {
        let mut counters = Counters::default();
        assert_eq!(counters.check(0, 0, HASH), refused(RefusalCode::Malformed));
        assert_eq!(counters.check(u64::MAX, 1, HASH), refused(RefusalCode::TooManyUnsettled));
        accepted(&mut counters, u64::MAX, u64::MAX);
        assert_eq!(counters.check(u64::MAX, u64::MAX, HASH), Verdict::Again(answer(u64::MAX)));
    }

    #[test]
    fn the_hash_tells_every_part_of_a_draft_apart() {
        let text = |text| DraftBody::Text { text };
        let hashes = [
            draft_hash(Target::Mine, Lane::Public, &text("a")),
            draft_hash(Target::Mine, Lane::Staff, &text("a")),
            draft_hash(Target::Mine, Lane::Public, &text("b")),
            draft_hash(Target::Id([0; 16]), Lane::Public, &text("a")),
            draft_hash(Target::Id([1; 16]), Lane::Public, &text("a")),
            draft_hash(Target::Mine, Lane::Public, &DraftBody::Close {}),
        ];
        let distinct: std::collections::BTreeSet<u64> = hashes.into_iter().collect();
        assert_eq!(distinct.len(), hashes.len());
    }
}
