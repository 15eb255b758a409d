//! Typing, presence and marks: latest wins, nobody waits for them.
//!
//! A mark says how far one member has got. It is told at once and written down a little later, many in
//! one record: clients say theirs again in HELLO, so what a power cut takes of them is the last moment
//! of who does not come back. Invariants: a mark is never caused by another mark; writing marks down
//! rings nobody; each map here is bounded.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::bell::{About, Bell, Signal};
use crate::desk::Person;
use crate::desk::entry::Marked;
use crate::limits;

/// How far a member has got in the public lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Mark {
    pub delivered: u64,
    pub read: u64,
}

#[derive(Debug, Default)]
pub struct Signals {
    marks: Mutex<Marks>,
}

#[derive(Debug, Default)]
struct Marks {
    /// By conversation. Beyond the bound the oldest go: marks are a courtesy.
    of: BTreeMap<u64, Vec<(Person, Mark)>>,
    /// What moved since it was written down.
    unwritten: BTreeSet<(u64, Person)>,
}

impl Signals {
    /// Takes a mark; the others are told if it went forward. `head` is the newest public Seq: nobody
    /// has read what is not written.
    pub fn mark(
        &self,
        bell: &Bell,
        members: &[Person],
        conversation: u64,
        person: Person,
        head: u64,
        mark: Mark,
    ) {
        let read = mark.read.min(head);
        let delivered = mark.delivered.min(head).max(read);
        let Some(now) = self.advance(conversation, person, Mark { delivered, read }) else {
            return;
        };
        let about = About::Mark { conversation, person };
        bell.signal(
            &others(members, person),
            about,
            Signal::Mark { delivered: now.delivered, read: now.read },
        );
    }

    pub fn typing(
        &self,
        bell: &Bell,
        members: &[Person],
        conversation: u64,
        person: Person,
        on: bool,
    ) {
        let about = About::Typing { conversation, person };
        bell.signal(&others(members, person), about, Signal::On(on));
    }

    /// Somebody came or went: which of the two, whoever is told asks the bell.
    pub fn presence(&self, bell: &Bell, audience: &[Person], person: Person) {
        bell.signal(audience, About::Presence { person }, Signal::Changed);
    }

    pub fn marks(&self, conversation: u64) -> Vec<(Person, Mark)> {
        self.lock().of.get(&conversation).cloned().unwrap_or_default()
    }

    /// Takes up to `limit` marks that are to be written down.
    pub fn unwritten(&self, limit: usize) -> Vec<Marked> {
        let marks = &mut *self.lock();
        let mut taken = Vec::new();
        while taken.len() < limit
            && let Some((conversation, person)) = marks.unwritten.pop_first()
        {
            let mark = marks.of.get(&conversation).and_then(|of| find(of, person));
            taken.extend(mark.map(|Mark { delivered, read }| Marked {
                conversation,
                person,
                delivered,
                read,
            }));
        }
        taken
    }

    /// They could not be written down: the next time.
    pub fn put_back(&self, marks: &[Marked]) {
        let room = limits::MARKS_UNWRITTEN_MAX;
        self.lock()
            .unwritten
            .extend(marks.iter().take(room).map(|it| (it.conversation, it.person)));
    }

    /// What the log remembers.
    pub fn restore(&self, marks: &[Marked]) {
        let all = &mut *self.lock();
        for &Marked { conversation, person, delivered, read } in marks {
            all.advance(conversation, person, Mark { delivered, read });
        }
    }

    /// The new mark, if it moved.
    fn advance(&self, conversation: u64, person: Person, to: Mark) -> Option<Mark> {
        let marks = &mut *self.lock();
        let now = marks.advance(conversation, person, to)?;
        if marks.unwritten.len() < limits::MARKS_UNWRITTEN_MAX {
            marks.unwritten.insert((conversation, person));
        }
        Some(now)
    }

    /// Nothing under this lock can panic half-way through a change.
    fn lock(&self) -> MutexGuard<'_, Marks> {
        self.marks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Marks {
    fn advance(&mut self, conversation: u64, person: Person, to: Mark) -> Option<Mark> {
        if !self.of.contains_key(&conversation) && self.of.len() >= limits::OPEN_CONVERSATIONS_MAX {
            self.of.pop_first();
        }
        let of_conversation = self.of.entry(conversation).or_default();
        let slot = match of_conversation.iter().position(|(it, _)| *it == person) {
            Some(slot) => slot,
            None if of_conversation.len() >= limits::MEMBERS_MAX => return None,
            None => {
                of_conversation.push((person, Mark::default()));
                of_conversation.len() - 1
            }
        };
        let (_, mark) = of_conversation.get_mut(slot)?;
        let now =
            Mark { delivered: mark.delivered.max(to.delivered), read: mark.read.max(to.read) };
        let moved = now != *mark;
        *mark = now;
        moved.then_some(now)
    }
}

fn find(of: &[(Person, Mark)], person: Person) -> Option<Mark> {
    of.iter().find(|(it, _)| *it == person).map(|(_, mark)| *mark)
}

fn others(members: &[Person], person: Person) -> Vec<Person> {
    members.iter().copied().filter(|it| *it != person).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const VISITOR: Person = Person::Visitor(1);
    const AGENT: Person = Person::Agent(1);

    #[test]
    fn a_mark_only_goes_forward_and_never_beyond_what_is_written() {
        let (bell, signals) = (Bell::default(), Signals::default());
        let (ear, _) = bell.register(AGENT, [0; 16], 1).unwrap();
        let mark = |delivered, read| {
            signals.mark(&bell, &[VISITOR, AGENT], 7, VISITOR, 5, Mark { delivered, read });
            ear.take().signals.into_values().next()
        };
        assert_eq!(mark(3, 2), Some(Signal::Mark { delivered: 3, read: 2 }));
        assert_eq!(mark(2, 1), None, "an older mark that came late is not told");
        assert_eq!(mark(u64::MAX, u64::MAX), Some(Signal::Mark { delivered: 5, read: 5 }));
        assert_eq!(signals.marks(7), [(VISITOR, Mark { delivered: 5, read: 5 })]);
    }

    #[test]
    fn a_mark_that_moved_often_is_written_down_once_and_comes_back() {
        let (bell, signals) = (Bell::default(), Signals::default());
        for read in 1..=50 {
            let mark = Mark { delivered: read, read };
            signals.mark(&bell, &[VISITOR, AGENT], 7, VISITOR, 100, mark);
        }
        let kept = signals.unwritten(10);
        assert_eq!(kept, [Marked { conversation: 7, person: VISITOR, delivered: 50, read: 50 }]);
        assert_eq!(signals.unwritten(10), [], "it did not move since");
        signals.put_back(&kept);
        assert_eq!(signals.unwritten(10), kept, "what could not be written waits");

        let again = Signals::default();
        again.restore(&kept);
        let older = Marked { conversation: 7, person: VISITOR, delivered: 9, read: 1 };
        again.restore(&[older]);
        assert_eq!(again.marks(7), [(VISITOR, Mark { delivered: 50, read: 50 })]);
        assert_eq!(again.unwritten(10), [], "it stands in the log already");
    }

    #[test]
    fn marks_of_the_oldest_conversations_make_room_for_new_ones() {
        let signals = Signals::default();
        let mark = Mark { delivered: 1, read: 1 };
        let many = limits::OPEN_CONVERSATIONS_MAX as u64;
        for conversation in 1..=many + 1 {
            signals.advance(conversation, VISITOR, mark);
        }
        assert_eq!(signals.marks(1), []);
        assert_eq!(signals.marks(many + 1), [(VISITOR, mark)]);
        assert_eq!(signals.lock().of.len(), limits::OPEN_CONVERSATIONS_MAX);
        assert_eq!(signals.lock().unwritten.len(), limits::MARKS_UNWRITTEN_MAX);
    }
}
