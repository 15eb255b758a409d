//! The bell: who is here, and that there is something to read.
//!
//! Each connection has an `Ear`. Ringing puts no payload in it: only which conversations moved, the
//! answers to its own drafts (bounded, each belongs to an unsettled counter) and latest-wins signals.
//! A follower registers its ear first and reads afterwards, so nothing falls between.
//!
//! Must never: hold a message, block the desk thread, grow without bound.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lodge_proto::refusal::{Refusal, RefusalCode};
use lodge_storage::{Lane, Position};
use tokio::sync::Notify;

use crate::desk::Person;
use crate::limits;

/// Where an accepted draft stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Accepted {
    pub conversation: u64,
    pub lane: Lane,
    pub seq: u64,
    pub position: u64,
    pub time_ms: u64,
}

/// The answer to one draft.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settled {
    pub counter: u64,
    pub outcome: Result<Accepted, Refusal>,
}

/// What a signal is about; a newer one about the same takes its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum About {
    Typing { conversation: u64, person: Person },
    Presence { person: Person },
    Mark { conversation: u64, person: Person },
}

impl About {
    /// The conversation that it happens in, and whose doing it is.
    fn within(&self) -> Option<(u64, Person)> {
        match *self {
            About::Typing { conversation, person } | About::Mark { conversation, person } => {
                Some((conversation, person))
            }
            About::Presence { .. } => None,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    On(bool),
    /// What it is about is to be looked at again.
    Changed,
    Mark {
        delivered: u64,
        read: u64,
    },
}

/// What a connection finds when it is woken.
#[derive(Debug, Default)]
pub struct Rung {
    pub settled: Vec<Settled>,
    pub conversations: BTreeSet<u64>,
    /// Everything of this person's conversations below it was rung for, here or in a `Rung` before.
    /// What else is durable by now has a ring on its way, so no cursor may pass this.
    pub upto: Position,
    pub signals: BTreeMap<About, Signal>,
    /// Why this connection has to end, if it has to.
    pub ended: Option<Refusal>,
    /// Something changed about who may be here: ask again whether this connection may.
    pub review: bool,
    /// The server is going down: come back after this many milliseconds.
    pub going_away_ms: Option<u64>,
}

impl Rung {
    fn is_empty(&self) -> bool {
        self.settled.is_empty()
            && self.conversations.is_empty()
            && self.signals.is_empty()
            && self.ended.is_none()
            && !self.review
            && self.going_away_ms.is_none()
    }
}

/// One connection's end of the bell.
#[derive(Debug)]
pub struct Ear {
    pub person: Person,
    pub device: [u8; 16],
    pub generation: u64,
    rung: Mutex<Rung>,
    notify: Notify,
    /// What it watches, newest last; changed under the bell's lock only.
    watching: Mutex<Vec<u64>>,
}

impl Ear {
    /// Waits until there is something. Safe to drop at any time: nothing is taken.
    pub async fn listen(&self) {
        loop {
            let heard = self.notify.notified();
            if !lock(&self.rung).is_empty() {
                return;
            }
            heard.await;
        }
    }

    pub fn take(&self) -> Rung {
        std::mem::take(&mut *lock(&self.rung))
    }

    fn ring(&self, change: impl FnOnce(&mut Rung)) {
        change(&mut lock(&self.rung));
        self.notify.notify_one();
    }
}

/// All ears of this process.
#[derive(Debug, Default)]
pub struct Bell {
    here: Mutex<Here>,
}

#[derive(Debug, Default)]
struct Here {
    ears: HashMap<Person, Vec<Arc<Ear>>>,
    /// The agents among them, to be handed out without a copy.
    agents: Arc<BTreeSet<u64>>,
    /// Who looks into a conversation without a part in it.
    watchers: HashMap<u64, Vec<Arc<Ear>>>,
}

impl Here {
    /// The ears of an audience, and of who watches.
    fn hearing(
        &self,
        audience: &[Person],
        watched: Option<u64>,
    ) -> impl Iterator<Item = &Arc<Ear>> {
        let members = audience.iter().filter_map(|person| self.ears.get(person)).flatten();
        members.chain(watched.and_then(|it| self.watchers.get(&it)).into_iter().flatten())
    }

    fn unwatch(&mut self, ear: &Arc<Ear>, conversation: u64) {
        if let Some(watchers) = self.watchers.get_mut(&conversation) {
            watchers.retain(|other| !Arc::ptr_eq(other, ear));
            if watchers.is_empty() {
                self.watchers.remove(&conversation);
            }
        }
    }
}

/// What changed when somebody came or went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Presence {
    /// The first ear of this person, or the last one.
    pub changed: bool,
}

impl Bell {
    /// Registers a connection. Older generations of the same device are ended; a newer one that is
    /// already here refuses this one.
    pub fn register(
        &self,
        person: Person,
        device: [u8; 16],
        generation: u64,
    ) -> Result<(Arc<Ear>, Presence), Refusal> {
        let Here { ears, agents, .. } = &mut *lock(&self.here);
        let of_person = ears.entry(person).or_default();
        if of_person.iter().any(|ear| ear.device == device && ear.generation > generation) {
            return Err(Refusal::new(RefusalCode::Fenced));
        }
        let changed = of_person.is_empty();
        of_person.retain(|ear| {
            let fenced = ear.device == device;
            if fenced {
                ear.ring(|rung| rung.ended = Some(Refusal::new(RefusalCode::Fenced)));
            }
            !fenced
        });
        if of_person.len() >= limits::CONNECTIONS_PERSON_MAX {
            return Err(Refusal::new(RefusalCode::TooMany));
        }
        let ear = Arc::new(Ear {
            person,
            device,
            generation,
            rung: Mutex::default(),
            notify: Notify::new(),
            watching: Mutex::default(),
        });
        of_person.push(Arc::clone(&ear));
        if let (true, Person::Agent(agent)) = (changed, person) {
            Arc::make_mut(agents).insert(agent);
        }
        Ok((ear, Presence { changed }))
    }

    /// The connection is gone.
    pub fn leave(&self, ear: &Arc<Ear>) -> Presence {
        let mut here = lock(&self.here);
        for conversation in std::mem::take(&mut *lock(&ear.watching)) {
            here.unwatch(ear, conversation);
        }
        let Here { ears, agents, .. } = &mut *here;
        let Some(of_person) = ears.get_mut(&ear.person) else { return Presence { changed: false } };
        let before = of_person.len();
        of_person.retain(|other| !Arc::ptr_eq(other, ear));
        let changed = before > 0 && of_person.is_empty();
        if changed {
            ears.remove(&ear.person);
            if let Person::Agent(agent) = ear.person {
                Arc::make_mut(agents).remove(&agent);
            }
        }
        Presence { changed }
    }

    pub fn is_online(&self, person: Person) -> bool {
        lock(&self.here).ears.contains_key(&person)
    }

    /// How many visitors are here, and which agents.
    pub fn online(&self) -> (usize, Arc<BTreeSet<u64>>) {
        let here = lock(&self.here);
        (here.ears.len() - here.agents.len(), Arc::clone(&here.agents))
    }

    pub fn agents(&self) -> Arc<BTreeSet<u64>> {
        Arc::clone(&lock(&self.here).agents)
    }

    /// From now on this ear hears of a conversation that its person has no part in.
    pub fn watch(&self, ear: &Arc<Ear>, conversation: u64) {
        let mut here = lock(&self.here);
        let mut watching = lock(&ear.watching);
        if watching.contains(&conversation) {
            return;
        }
        if watching.len() >= limits::WATCHED_MAX {
            here.unwatch(ear, watching.remove(0));
        }
        watching.push(conversation);
        here.watchers.entry(conversation).or_default().push(Arc::clone(ear));
    }

    /// Something became readable in a conversation, up to `upto`. Rung in the order of the log.
    pub fn ring(&self, audience: &[Person], conversation: u64, upto: Position) {
        for ear in lock(&self.here).hearing(audience, Some(conversation)) {
            ear.ring(|rung| {
                rung.conversations.insert(conversation);
                rung.upto = rung.upto.max(upto);
            });
        }
    }

    /// Answers a device, on whichever connection it has now; without one it will ask again.
    pub fn settle(&self, person: Person, device: &[u8; 16], settled: Settled) {
        let ears = &lock(&self.here).ears;
        let of_device = ears.get(&person).into_iter().flatten().find(|ear| ear.device == *device);
        if let Some(ear) = of_device {
            ear.ring(|rung| {
                if rung.settled.len() < limits::ANSWERS_WAITING_MAX {
                    rung.settled.push(settled);
                }
            });
        }
    }

    /// Latest wins; where too many wait, the newcomer is dropped, since it may be lost anyway.
    pub fn signal(&self, audience: &[Person], about: About, signal: Signal) {
        let (conversation, doer) = about.within().unzip();
        let here = lock(&self.here);
        let hearing = here.hearing(audience, conversation);
        for ear in hearing.filter(|ear| Some(ear.person) != doer) {
            ear.ring(|rung| {
                if rung.signals.len() < limits::SIGNALS_WAITING_MAX
                    || rung.signals.contains_key(&about)
                {
                    rung.signals.insert(about, signal);
                }
            });
        }
    }

    /// Something was taken from this person: each of their connections asks whether it may stay.
    pub fn review(&self, person: Person) {
        for ear in lock(&self.here).ears.get(&person).into_iter().flatten() {
            ear.ring(|rung| rung.review = true);
        }
    }

    /// Tells everybody to come back, each after a delay of its own up to `spread_ms`.
    pub fn go_away(&self, spread_ms: u64) {
        let ears = &lock(&self.here).ears;
        let all = ears.values().map(Vec::len).sum::<usize>().max(1) as u64;
        for (nth, ear) in ears.values().flatten().enumerate() {
            ear.ring(|rung| rung.going_away_ms = Some(spread_ms * nth as u64 / all));
        }
    }
}

/// Nothing under these locks can panic half-way through a change, so a poisoned one is still whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALICE: Person = Person::Visitor(1);

    fn settled(counter: u64) -> Settled {
        Settled { counter, outcome: Err(Refusal::new(RefusalCode::Busy)) }
    }

    #[test]
    fn a_newer_generation_fences_the_older_and_not_the_other_way_round() {
        let bell = Bell::default();
        let (old, presence) = bell.register(ALICE, [1; 16], 1).unwrap();
        assert!(presence.changed);
        let (_new, presence) = bell.register(ALICE, [1; 16], 2).unwrap();
        assert!(presence.changed || bell.is_online(ALICE));
        assert_eq!(old.take().ended.map(|it| it.code), Some(RefusalCode::Fenced));
        let refused = bell.register(ALICE, [1; 16], 1).unwrap_err();
        assert_eq!(refused.code, RefusalCode::Fenced);
        assert!(!bell.leave(&old).changed, "the zombie's end is not the person's");
    }

    #[test]
    fn an_answer_goes_to_the_newest_connection_of_the_device_only() {
        let bell = Bell::default();
        let (phone, _) = bell.register(ALICE, [1; 16], 1).unwrap();
        let (laptop, _) = bell.register(ALICE, [2; 16], 1).unwrap();
        bell.settle(ALICE, &[1; 16], settled(4));
        assert_eq!(phone.take().settled.len(), 1);
        assert!(laptop.take().settled.is_empty());
    }

    #[test]
    fn what_waits_for_a_connection_that_never_reads_is_bounded() {
        let bell = Bell::default();
        let (ear, _) = bell.register(ALICE, [1; 16], 1).unwrap();
        for n in 0..10_000 {
            bell.settle(ALICE, &[1; 16], settled(n));
            bell.signal(&[ALICE], About::Presence { person: Person::Agent(n) }, Signal::Changed);
            bell.ring(&[ALICE], n % 3, Position(n));
        }
        let rung = ear.take();
        assert_eq!(rung.settled.len(), limits::ANSWERS_WAITING_MAX);
        assert_eq!(rung.signals.len(), limits::SIGNALS_WAITING_MAX);
        assert_eq!(rung.conversations.len(), 3);
    }

    #[test]
    fn who_looks_on_hears_as_the_members_do_until_they_leave() {
        let bell = Bell::default();
        let (ear, _) = bell.register(Person::Agent(3), [1; 16], 1).unwrap();
        let typing = |person| About::Typing { conversation: 7, person };
        bell.ring(&[ALICE], 7, Position(10));
        assert!(ear.take().conversations.is_empty());
        bell.watch(&ear, 7);
        bell.watch(&ear, 7);
        bell.ring(&[ALICE], 7, Position(20));
        bell.ring(&[ALICE], 8, Position(30));
        bell.signal(&[], typing(ALICE), Signal::On(true));
        bell.signal(&[ALICE], typing(Person::Agent(3)), Signal::On(true));
        let rung = ear.take();
        assert_eq!((rung.conversations, rung.upto), (BTreeSet::from([7]), Position(20)));
        assert_eq!(rung.signals.into_keys().collect::<Vec<_>>(), [typing(ALICE)], "not its own");
        for conversation in 100..100 + limits::WATCHED_MAX as u64 {
            bell.watch(&ear, conversation);
        }
        bell.ring(&[], 7, Position(40));
        assert!(ear.take().conversations.is_empty(), "the oldest has made room");
        bell.leave(&ear);
        assert!(lock(&bell.here).watchers.is_empty());
    }

    #[test]
    fn agents_are_counted_while_they_have_a_connection() {
        let bell = Bell::default();
        let (phone, _) = bell.register(Person::Agent(3), [1; 16], 1).unwrap();
        let (laptop, _) = bell.register(Person::Agent(3), [2; 16], 1).unwrap();
        let (visitor, _) = bell.register(ALICE, [3; 16], 1).unwrap();
        let before = bell.agents();
        assert!(!bell.leave(&phone).changed);
        assert_eq!(bell.online(), (1, Arc::new(BTreeSet::from([3]))));
        assert!(bell.leave(&laptop).changed && bell.leave(&visitor).changed);
        assert_eq!(bell.online(), (0, Arc::default()));
        assert_eq!(*before, BTreeSet::from([3]), "who asked before keeps what they were told");
    }

    #[test]
    fn connections_of_a_person_are_bounded() {
        let bell = Bell::default();
        let mut kept = Vec::new();
        for n in 0..limits::CONNECTIONS_PERSON_MAX {
            kept.push(bell.register(ALICE, [n as u8; 16], 1).unwrap());
        }
        assert!(bell.register(ALICE, [255; 16], 1).is_err());
        assert!(bell.register(ALICE, [0; 16], 2).is_ok(), "its own place is free again");
    }
}
