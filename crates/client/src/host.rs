//! What the engine asks of the program that runs it: a store, a transport, a clock, randomness and
//! a place to stretch passwords.

use core::time::Duration;

use corncrake_wire::opaque::Stretch;
use rand_core::CryptoRng;

use crate::{store::Store, transport::Transport};

/// Milliseconds since 1970-01-01 UTC.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    serde::Serialize,
    serde::Deserialize,
)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// The moment `wait` after this one.
    #[must_use]
    pub fn after(self, wait: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX)))
    }

    /// The moment `wait` before this one.
    #[must_use]
    pub fn before(self, wait: Duration) -> Self {
        Self(self.0.saturating_sub(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX)))
    }

    /// How long after `earlier` this is; zero if it is not.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

/// Milliseconds of a clock that runs at the pace of time and is never set: what an engine waits for
/// is a moment of it. Moments mean nothing outside one life of an engine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(pub u64);

impl Moment {
    /// The moment `wait` after this one.
    #[must_use]
    pub fn after(self, wait: Duration) -> Self {
        Self(Timestamp(self.0).after(wait).0)
    }

    /// The moment `wait` before this one.
    #[must_use]
    pub fn before(self, wait: Duration) -> Self {
        Self(Timestamp(self.0).before(wait).0)
    }

    /// How long after `earlier` this is; zero if it is not.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

/// Both clocks at once.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Clock {
    /// What is shown and stored.
    pub(crate) now: Timestamp,
    /// What is waited for.
    pub(crate) moment: Moment,
}

impl Clock {
    pub(crate) fn of(host: &impl Host) -> Self {
        Self { now: host.now(), moment: host.moment() }
    }

    /// The moment of a time that was stored to wait for, or `None` if it has come. The clock may
    /// have been set since it was stored: a time further away than the `longest` wait that is
    /// stored there has come too.
    pub(crate) fn until(self, stored: Timestamp, longest: Duration) -> Option<Moment> {
        let left = stored.since(self.now);
        (!left.is_zero() && left <= longest).then(|| self.moment.after(left))
    }
}

/// Numbers that a host may choose for its engine.
#[derive(Clone, Debug)]
pub struct Settings {
    /// One-time key packages kept at the server for this device (architecture: 50).
    pub key_packages: u16,
    /// How passwords are stretched; products use the default.
    pub stretch: Stretch,
    /// Chats whose groups stay in memory although nothing happens in them.
    pub chats_in_memory: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self { key_packages: 50, stretch: Stretch::default(), chats_in_memory: 64 }
    }
}

/// The outside of an engine. Futures need not be `Send`: the host drives the engine on one thread.
#[expect(async_fn_in_trait, reason = "the engine drives these futures on one thread")]
pub trait Host: 'static {
    /// Where state lies.
    type Store: Store;
    /// How the server is reached.
    type Transport: Transport;
    /// Where randomness comes from.
    type Random: CryptoRng;

    /// The store; its one opener is this engine.
    fn store(&self) -> &Self::Store;
    /// The server's address as the client sees it, such as `https://chat.example`; part of what a
    /// device signs to renew its session.
    fn origin(&self) -> &str;
    /// The connection to the server.
    fn transport(&self) -> &Self::Transport;
    /// A source of randomness.
    fn random(&self) -> Self::Random;
    /// The time of day, as the device believes it; it may be set at any moment.
    fn now(&self) -> Timestamp;
    /// The moment on a clock that is never set and begins well after zero.
    fn moment(&self) -> Moment;
    /// Waits until that clock shows `until`. Dropping the future ends the wait.
    async fn sleep_until(&self, until: Moment);
    /// Runs slow work (stretching a password, a large join) off the engine's thread if there is
    /// such a place.
    async fn run_slow<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T;
    /// The numbers chosen for this engine.
    fn settings(&self) -> &Settings;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn audit_prog_h4_a_stored_time_that_is_further_away_than_its_wait_has_come() {
        let clock = Clock { now: Timestamp(1_000_000), moment: Moment(50) };
        let hour = Duration::from_hours(1);
        assert_eq!(clock.until(Timestamp(1_000_700), hour), Some(Moment(750)));
        assert_eq!(clock.until(clock.now.after(hour), hour), Some(Moment(50).after(hour)));
        assert_eq!(clock.until(Timestamp(999_999), hour), None, "it has come");
        let set_back = clock.now.after(hour).after(Duration::from_millis(1));
        assert_eq!(clock.until(set_back, hour), None, "the clock was set back since");
    }
}
