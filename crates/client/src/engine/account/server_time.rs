//! What the server's clock shows, and whether it may be wrong.

use core::time::Duration;

use crate::host::{Clock, Moment, Timestamp};

/// How far the server's clock and this device's may be apart, and the server's from where it was,
/// before one of them must be wrong.
const APART: Duration = Duration::from_hours(24);

/// The server's clock, as far as this run has heard of it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ServerTime {
    told: Option<(Timestamp, Moment)>,
    /// Since when this run doubts it: it was found apart from this device's clock, or it has made a
    /// step since and still is.
    doubted: Option<Moment>,
}

impl ServerTime {
    /// The server said this just now.
    pub(super) fn learn(&mut self, told: Timestamp, clock: Clock) {
        let is_step = self.at(clock.moment).is_some_and(|known| apart(known, told) > APART);
        self.told = Some((told, clock.moment));
        self.doubted = match self.doubted {
            _ if apart(told, clock.now) <= APART => None,
            Some(since) if !is_step => Some(since),
            _ => Some(clock.moment),
        };
    }

    /// What its clock shows.
    pub(super) fn at(self, moment: Moment) -> Option<Timestamp> {
        self.told.map(|(told, at)| told.after(moment.since(at)))
    }

    /// How long it has been doubted for; `None` if it isn't.
    pub(super) fn doubted_for(self, moment: Moment) -> Option<Duration> {
        self.doubted.map(|since| moment.since(since))
    }
}

fn apart(one: Timestamp, other: Timestamp) -> Duration {
    one.since(other).max(other.since(one))
}
