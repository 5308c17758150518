//! Two-step requests between their steps: in memory, for a minute, each used once.

use std::{
    collections::{HashMap, VecDeque},
    hash::Hash,
    sync::{Mutex, PoisonError},
};

/// Seconds that an attempt may take.
const LIFETIME: u64 = 60;
/// Attempts under way at most; then the oldest is given up.
const MOST: usize = 20_000;

/// Attempts under way, by key.
#[derive(Debug)]
pub(crate) struct Attempts<K, V>(Mutex<Inner<K, V>>);

#[derive(Debug)]
struct Inner<K, V> {
    by_key: HashMap<K, V>,
    by_age: VecDeque<(u64, K)>,
}

impl<K: Clone + Eq + Hash, V> Attempts<K, V> {
    /// No attempts.
    pub(crate) fn new() -> Self {
        Self(Mutex::new(Inner { by_key: HashMap::new(), by_age: VecDeque::new() }))
    }

    /// Begins an attempt.
    pub(crate) fn begin(&self, key: K, value: V, now: u64) {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        inner.forget_old(now);
        if inner.by_age.len() >= MOST
            && let Some((_, oldest)) = inner.by_age.pop_front()
        {
            inner.by_key.remove(&oldest);
        }
        inner.by_age.push_back((now, key.clone()));
        inner.by_key.insert(key, value);
    }

    /// Ends an attempt, if it is under way.
    pub(crate) fn end(&self, key: &K, now: u64) -> Option<V> {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        inner.forget_old(now);
        inner.by_key.remove(key)
    }
}

impl<K: Eq + Hash, V> Inner<K, V> {
    fn forget_old(&mut self, now: u64) {
        while let Some((_, key)) = self.by_age.pop_front_if(|(begun, _)| *begun + LIFETIME < now) {
            self.by_key.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attempt_ends_once_and_within_a_minute() {
        let attempts = Attempts::new();
        attempts.begin(1, "a", 100);
        attempts.begin(2, "b", 130);
        assert_eq!(attempts.end(&1, 160), Some("a"));
        assert_eq!(attempts.end(&1, 160), None);
        assert_eq!(attempts.end(&2, 191), None);
    }

    #[test]
    fn the_oldest_attempt_gives_way() {
        let attempts = Attempts::new();
        for key in 0..=MOST {
            attempts.begin(key, (), 0);
        }
        assert_eq!(attempts.end(&0, 0), None);
        assert_eq!(attempts.end(&1, 0), Some(()));
    }
}
