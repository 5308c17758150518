//! The time of day, passed in so that tests can move it.

use std::{
    fmt,
    time::{SystemTime, UNIX_EPOCH},
};

/// Tells the time.
pub trait Clock: fmt::Debug + Send + Sync + 'static {
    /// Seconds since 1970.
    fn now(&self) -> u64;

    /// What the machine's clock shows: another time than [`Clock::now`] gives while that follows no
    /// step of it.
    fn shown(&self) -> u64 {
        self.now()
    }

    /// Learns a time that is believed: it is never earlier again.
    fn believe(&self, time: u64) {
        _ = time;
    }

    /// Days since 1970: all that most rows keep of a time.
    fn today(&self) -> i64 {
        i64::try_from(self.now() / 86_400).unwrap_or(i64::MAX)
    }
}

/// The system's clock.
#[derive(Clone, Copy, Debug)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> u64 {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
    }
}

/// A clock that stands still until it is moved.
#[cfg(test)]
#[derive(Debug)]
pub(crate) struct Hand(pub(crate) std::sync::atomic::AtomicU64);

#[cfg(test)]
impl Clock for Hand {
    fn now(&self) -> u64 {
        self.0.load(std::sync::atomic::Ordering::Relaxed)
    }
}
