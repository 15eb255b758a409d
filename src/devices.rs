//! What the desk remembers of each device's drafts: the counters of `lodge_proto`, by person, bounded.
//!
//! Invariants: a device with a draft on its way to the disk is never forgotten; of a person's devices the
//! `DEVICES_PERSON_MAX` used last are known; of devices that never wrote anything durable, which cost
//! a stranger nothing, the `STRANGERS_MAX` newest. A stranger that is forgotten loses only refusals, and
//! those are judged again. The seventeenth device of a person costs the one used longest ago its memory:
//! if that one comes back with a draft whose answer it never heard, the draft is entered once more.

use std::collections::{HashMap, VecDeque};

use lodge_proto::counters::{Answer, Counters, Verdict};
use lodge_proto::refusal::Refusal;

use crate::desk::Person;
use crate::limits::{DEVICES_PERSON_MAX, STRANGERS_MAX};

/// A device of a person: what counters belong to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Device {
    pub person: Person,
    pub id: [u8; 16],
}

#[derive(Debug, Default)]
pub struct Devices {
    /// The device used last stands last.
    of: HashMap<Person, Vec<Known>>,
    /// Devices in the order in which they first spoke; some have written since, or are forgotten.
    strangers: VecDeque<Device>,
}

#[derive(Debug)]
struct Known {
    id: [u8; 16],
    counters: Counters,
    /// Something of it is in the log, or on its way there.
    wrote: bool,
}

impl Devices {
    /// What the log remembers, in its order.
    pub fn replay(
        &mut self,
        device: Device,
        counter: u64,
        settled: u64,
        hash: u64,
        answer: Answer,
    ) {
        let known = self.known(device);
        known.wrote = true;
        known.counters.replay(counter, settled, hash, answer);
    }

    /// The highest counter that was answered or is on its way; 0 for a device that is not known.
    pub fn highest(&self, device: Device) -> u64 {
        let of_person = self.of.get(&device.person).into_iter().flatten();
        let mut of_device = of_person.filter(|known| known.id == device.id);
        of_device.next().map_or(0, |known| known.counters.highest())
    }

    pub fn check(&mut self, device: Device, counter: u64, settled: u64, hash: u64) -> Verdict {
        self.known(device).counters.check(counter, settled, hash)
    }

    pub fn reserve(&mut self, device: Device, counter: u64, hash: u64) {
        let known = self.known(device);
        known.wrote = true;
        known.counters.reserve(counter, hash);
    }

    pub fn accept(&mut self, device: Device, counter: u64, answer: Answer) {
        self.known(device).counters.accept(counter, answer);
    }

    pub fn refuse(&mut self, device: Device, counter: u64, hash: u64, refusal: &Refusal) {
        self.known(device).counters.refuse(counter, hash, refusal);
    }

    fn known(&mut self, device: Device) -> &mut Known {
        let of_person = self.of.get(&device.person);
        if of_person.is_none_or(|it| it.iter().all(|known| known.id != device.id)) {
            self.strangers.push_back(device);
            if self.strangers.len() > STRANGERS_MAX {
                self.forget_a_stranger();
            }
        }
        let of_person = self.of.entry(device.person).or_default();
        let known = match of_person.iter().position(|known| known.id == device.id) {
            Some(at) => of_person.remove(at),
            None => Known { id: device.id, counters: Counters::default(), wrote: false },
        };
        if of_person.len() >= DEVICES_PERSON_MAX
            && let Some(idle) = of_person.iter().position(|known| known.counters.is_idle())
        {
            of_person.remove(idle);
        }
        of_person.push_mut(known)
    }

    fn forget_a_stranger(&mut self) {
        let Some(oldest) = self.strangers.pop_front() else { return };
        let Some(of_person) = self.of.get_mut(&oldest.person) else { return };
        of_person.retain(|known| known.id != oldest.id || known.wrote);
        if of_person.is_empty() {
            self.of.remove(&oldest.person);
        }
    }
}

#[cfg(test)]
mod tests {
    use lodge_proto::frame::Lane;
    use lodge_proto::refusal::RefusalCode;

    use super::*;

    fn device(person: u64, id: u8) -> Device {
        Device { person: Person::Visitor(person), id: [id; 16] }
    }

    fn answer() -> Answer {
        Answer { conversation: [0; 16], lane: Lane::Public, seq: 1, position: 1, time_ms: 1 }
    }

    fn writes(devices: &mut Devices, device: Device, counter: u64) {
        assert_eq!(devices.check(device, counter, counter, 7), Verdict::New);
        devices.reserve(device, counter, 7);
        devices.accept(device, counter, answer());
    }

    #[test]
    fn strangers_who_only_ask_are_bounded_and_who_wrote_is_not_forgotten_for_them() {
        let mut devices = Devices::default();
        writes(&mut devices, device(0, 0), 1);
        let empty = Refusal::new(RefusalCode::TextEmpty);
        for person in 1..=2 * STRANGERS_MAX as u64 {
            assert_eq!(devices.check(device(person, 1), 1, 1, 7), Verdict::New);
            devices.refuse(device(person, 1), 1, 7, &empty);
        }
        assert!(devices.of.len() <= STRANGERS_MAX + 1, "{}", devices.of.len());
        assert!(devices.strangers.len() <= STRANGERS_MAX);
        assert_eq!(devices.check(device(0, 0), 1, 1, 7), Verdict::Again(answer()));
        // A stranger that was forgotten is judged again, one that is remembered hears the same.
        assert_eq!(devices.check(device(1, 1), 1, 1, 7), Verdict::New);
        let last = device(2 * STRANGERS_MAX as u64, 1);
        assert_eq!(devices.check(last, 1, 1, 7), Verdict::Refused(empty));
    }

    #[test]
    fn a_person_has_so_many_devices_and_the_least_used_is_forgotten() {
        for many in [DEVICES_PERSON_MAX - 1, DEVICES_PERSON_MAX, DEVICES_PERSON_MAX + 1] {
            let mut devices = Devices::default();
            for id in 0..many as u8 {
                writes(&mut devices, device(1, id), 1);
                writes(&mut devices, device(1, 0), u64::from(id) + 2); // this one is in use all the time
            }
            let known = (0..many as u8).filter(|id| devices.highest(device(1, *id)) > 0).count();
            assert_eq!(known, many.min(DEVICES_PERSON_MAX), "{many}");
            assert_eq!(devices.highest(device(1, 0)), many as u64 + 1);
        }
    }

    #[test]
    fn a_device_with_a_draft_on_its_way_is_not_forgotten() {
        let mut devices = Devices::default();
        assert_eq!(devices.check(device(1, 0), 1, 1, 7), Verdict::New);
        devices.reserve(device(1, 0), 1, 7);
        for id in 1..=2 * DEVICES_PERSON_MAX as u8 {
            writes(&mut devices, device(1, id), 1);
        }
        assert_eq!(devices.check(device(1, 0), 1, 1, 7), Verdict::InFlight);
        devices.accept(device(1, 0), 1, answer());
        assert_eq!(devices.check(device(1, 0), 1, 1, 7), Verdict::Again(answer()));
    }
}
