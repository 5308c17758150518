//! The clock by which the server tells the time and dates what it stores.
//!
//! An operator's mistake, or a machine that starts years behind until it has asked the network, must
//! not date a notice so that it expires unread, nor make everybody who is online replace key packages
//! by a time that nobody else shares. So a step of the system's clock is followed only once it has
//! lasted, and no time before the newest that was believed is told at all.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use crate::Clock;

/// A step of the clock that is followed at once: lifetimes allow for a day.
const STEP: u64 = 24 * 3600;
/// How long a longer step has to last.
const LASTS: Duration = Duration::from_secs(3600);
/// When this was written, 2026-11-01: a machine whose clock has no battery starts far before it.
const EARLIEST: u64 = 1_793_491_200;

/// A clock that follows another one, but not at every step.
#[derive(Debug)]
pub(crate) struct Steady<C> {
    shown: C,
    told: Mutex<Told>,
}

impl<C: Clock> Steady<C> {
    pub(crate) fn new(shown: C) -> Self {
        let told = Mutex::new(Told::new(shown.now(), Instant::now()));
        Self { shown, told }
    }
}

impl<C: Clock> Clock for Steady<C> {
    fn now(&self) -> u64 {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.tell(self.shown.now(), Instant::now())
    }

    fn shown(&self) -> u64 {
        self.shown.now()
    }

    fn believe(&self, time: u64) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.believed = told.believed.max(Some(time));
    }
}

/// A time, and when it was that.
#[derive(Clone, Copy, Debug)]
struct Seen {
    time: u64,
    at: Instant,
}

impl Seen {
    /// What a clock that showed this shows now.
    fn by(self, at: Instant) -> u64 {
        self.time.saturating_add(at.saturating_duration_since(self.at).as_secs())
    }

    fn is_near(self, time: u64, at: Instant) -> bool {
        self.by(at).abs_diff(time) <= STEP
    }
}

/// What was told, and where the clock went since.
#[derive(Debug)]
struct Told {
    last: Seen,
    /// The clock's time when it stepped away.
    away: Option<Seen>,
    /// The newest time that deletes.
    believed: Option<u64>,
}

impl Told {
    const fn new(time: u64, at: Instant) -> Self {
        Self { last: Seen { time, at }, away: None, believed: None }
    }

    fn tell(&mut self, shown: u64, at: Instant) -> u64 {
        let floor = self.believed.unwrap_or_default().max(EARLIEST);
        let now = Seen { time: shown, at };
        let is_right = self.believed.is_some_and(|time| (time..=time + STEP).contains(&shown));
        let was_wrong = self.last.by(at) < floor;
        if is_right || was_wrong || self.last.is_near(shown, at) {
            self.last = now;
            self.away = None;
            return shown.max(floor);
        }
        let away = *self.away.get_or_insert(now);
        if !away.is_near(shown, at) {
            self.away = Some(now);
        } else if at.saturating_duration_since(away.at) >= LASTS {
            tracing::warn!("the clock has made a step of more than a day, and it is followed now");
            self.last = now;
            self.away = None;
        }
        self.last.by(at).max(floor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = 24 * 3600;
    const NOW: u64 = EARLIEST + 300 * DAY;

    #[test]
    fn audit_issue_7_bf5_a_step_that_does_not_last_is_not_told() {
        let begin = Instant::now();
        let at = |seconds: u64| begin + Duration::from_secs(seconds);
        let mut clock = Told::new(NOW, begin);
        assert_eq!(clock.tell(NOW + 10, at(10)), NOW + 10);
        for wrong in [NOW + 400 * DAY, NOW - 200 * DAY, 0] {
            assert_eq!(clock.tell(wrong + 20, at(20)), NOW + 20);
            assert_eq!(clock.tell(wrong + 1800, at(1800)), NOW + 1800);
            assert_eq!(clock.tell(NOW + 20, at(20)), NOW + 20, "and back");
        }
        assert_eq!(clock.tell(NOW + DAY, at(30)), NOW + DAY, "a small step");
        let ahead = NOW + 400 * DAY;
        assert_eq!(clock.tell(ahead, at(40)), NOW + DAY + 10);
        assert_eq!(clock.tell(ahead + 9 * DAY, at(4000)), NOW + DAY + 3970, "another step");
        assert_eq!(
            clock.tell(ahead + 9 * DAY + 3600, at(7600)),
            ahead + 9 * DAY + 3600,
            "it lasts"
        );
    }

    #[test]
    fn audit_issue_7_bf5_a_clock_that_starts_years_behind_tells_nothing_older_than_what_is_known() {
        let begin = Instant::now();
        let at = |seconds: u64| begin + Duration::from_secs(seconds);
        let mut clock = Told::new(0, begin);
        assert_eq!(clock.tell(5, at(5)), EARLIEST, "a new folder");
        clock.believed = Some(NOW);
        assert_eq!(clock.tell(6, at(6)), NOW);
        assert_eq!(clock.tell(NOW + 60 * DAY, at(7)), NOW + 60 * DAY, "set right");

        let mut clock = Told::new(NOW + 400 * DAY, begin);
        clock.believed = Some(NOW);
        assert_eq!(clock.tell(NOW + 400 * DAY, at(1)), NOW + 400 * DAY, "it may have been off");
        assert_eq!(clock.tell(NOW + 60, at(2)), NOW + 60, "set right");
    }
}
