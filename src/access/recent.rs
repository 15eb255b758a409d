//! A bounded map that forgets what was not used for longest, roughly: two generations of half the bound each.
//!
//! A stranger may fill it; what that costs is memory up to the bound, and the oldest half forgotten.

use std::collections::HashMap;
use std::hash::Hash;

#[derive(Debug)]
pub struct Recent<K, V> {
    young: HashMap<K, V>,
    old: HashMap<K, V>,
    half: usize,
}

impl<K: Eq + Hash, V: Default> Recent<K, V> {
    pub fn new(entries_max: usize) -> Recent<K, V> {
        Recent { young: HashMap::new(), old: HashMap::new(), half: (entries_max / 2).max(1) }
    }

    /// The entry of this key, as it was or new.
    pub fn entry(&mut self, key: K) -> &mut V {
        if !self.young.contains_key(&key) && self.young.len() >= self.half {
            self.old = std::mem::take(&mut self.young);
        }
        let before = self.old.remove(&key);
        self.young.entry(key).or_insert_with(|| before.unwrap_or_default())
    }

    pub fn remove(&mut self, key: &K) {
        self.young.remove(key);
        self.old.remove(key);
    }

    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_stays_within_its_bound_and_keeps_what_is_used() {
        let mut recent: Recent<u32, u32> = Recent::new(10);
        *recent.entry(7) = 70;
        for key in 100..1_000 {
            *recent.entry(key) += 1;
            assert!(recent.len() <= 10, "{}", recent.len());
            assert_eq!(*recent.entry(7), 70);
        }
        assert_eq!(*recent.entry(100), 0, "what was not used is forgotten");
        recent.remove(&7);
        assert_eq!(*recent.entry(7), 0);
    }
}
