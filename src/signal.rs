//! Typing, presence and marks: latest wins, never in the log, gone after a restart.
//!
//! A mark says how far one member has got. Clients say theirs again in HELLO, so nothing durable is
//! needed; a mark is never caused by another mark.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use crate::bell::{About, Bell, Signal};
use crate::desk::Person;
use crate::limits;

/// How far a member has got in the public lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Mark {
    pub delivered: u64,
    pub read: u64,
}

#[derive(Debug, Default)]
pub struct Signals {
    marks: Mutex<HashMap<u64, Vec<(Person, Mark)>>>,
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

    pub fn presence(&self, bell: &Bell, audience: &[Person], person: Person, online: bool) {
        bell.signal(audience, About::Presence { person }, Signal::On(online));
    }

    pub fn marks(&self, conversation: u64) -> Vec<(Person, Mark)> {
        let marks = self.marks.lock().unwrap_or_else(PoisonError::into_inner);
        marks.get(&conversation).cloned().unwrap_or_default()
    }

    /// The new mark, if it moved.
    fn advance(&self, conversation: u64, person: Person, to: Mark) -> Option<Mark> {
        let mut marks = self.marks.lock().unwrap_or_else(PoisonError::into_inner);
        if !marks.contains_key(&conversation) && marks.len() >= limits::OPEN_CONVERSATIONS_MAX {
            return None; // beyond the bound marks are not kept: they are a courtesy, not a fact
        }
        let of_conversation = marks.entry(conversation).or_default();
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
}
