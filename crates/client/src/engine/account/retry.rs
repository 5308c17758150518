//! When to try again.

use core::time::Duration;

use rand_core::Rng;

use crate::{host::Moment, transport::TransportError};

/// How long what nobody waits for gives way to the rest.
const BEHIND: Duration = Duration::from_millis(100);
/// Ten minutes: the longest pause after refusals that may yet end.
const LONGEST_REFUSED: Duration = Duration::from_mins(10);
/// The longest pause while the server is out of reach; a socket that comes up ends it.
const LONGEST: Duration = Duration::from_mins(30);

/// Something that is done again and again until it has succeeded, with growing pauses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Retry {
    busy: bool,
    tries: u32,
    at: Moment,
}

impl Retry {
    /// Nothing under way, due at `at`.
    pub(crate) const fn at(at: Moment) -> Self {
        Self { busy: false, tries: 0, at }
    }

    /// Whether it is time to begin.
    pub(crate) fn is_due(&self, now: Moment) -> bool {
        !self.busy && self.at <= now
    }

    /// Whether an answer is awaited.
    pub(crate) const fn is_busy(&self) -> bool {
        self.busy
    }

    /// How often it has failed in a row.
    pub(crate) const fn tries(&self) -> u32 {
        self.tries
    }

    /// When to wake up for it; never while an answer is awaited.
    pub(crate) fn wake_at(&self) -> Option<Moment> {
        (!self.busy).then_some(self.at)
    }

    /// Whether its last pause was over long ago.
    pub(crate) fn rested(&self, now: Moment) -> bool {
        self.at.after(LONGEST_REFUSED) <= now
    }

    /// An effect leaves; its answer will come.
    pub(crate) const fn begin(&mut self) {
        self.busy = true;
    }

    /// Something of it succeeded; a pause that others of it have been told to make stays.
    pub(crate) const fn went_on(&mut self) {
        self.tries = 0;
    }

    /// No pause any more, and short ones next: the server can be reached again, or something new
    /// is owed.
    pub(crate) fn hurry(&mut self) {
        self.at = Moment(0);
        self.tries = self.tries.min(1);
    }

    /// Something is owed for which nobody waits: it gives way to what people wait for.
    pub(crate) fn hurry_behind(&mut self, now: Moment) {
        self.at = now.after(BEHIND);
        self.tries = self.tries.min(1);
    }

    /// It failed: 1 s, doubled up to half an hour, each pause half fixed and half random, and not
    /// before the server said.
    pub(crate) fn failed(&mut self, error: &TransportError, now: Moment, rng: &mut impl Rng) {
        let longest = match error {
            TransportError::Unreachable => LONGEST,
            TransportError::Refused(_) | TransportError::Malformed => LONGEST_REFUSED,
        };
        let least = match error {
            TransportError::Refused(refusal) => refusal.retry_after.unwrap_or(0),
            _ => 0,
        };
        let pause = Duration::from_secs(1 << self.tries.min(11)).min(longest);
        let half = u64::try_from(pause.as_millis() / 2).unwrap_or(u64::MAX);
        let random = Duration::from_millis(half + rng.next_u64() % (half + 1));
        self.busy = false;
        self.tries = self.tries.saturating_add(1);
        self.at = now.after(random.max(Duration::from_secs(least.into())));
    }
}

#[cfg(test)]
mod tests {
    use rand_chacha::ChaCha20Rng;
    use rand_core::SeedableRng;

    use super::*;

    #[test]
    fn pauses_grow_and_have_an_end() {
        let mut rng = ChaCha20Rng::from_seed([1; 32]);
        let mut retry = Retry::default();
        assert!(retry.is_due(Moment(0)));
        let mut longest = 0;
        for tries in 0..20 {
            retry.begin();
            assert_eq!(retry.wake_at(), None);
            retry.failed(&TransportError::Unreachable, Moment(0), &mut rng);
            let wake = retry.wake_at().unwrap().0;
            let full = (1000 << tries.min(11)).min(1_800_000);
            assert!((full / 2..=full).contains(&wake), "{tries}: {wake}");
            longest = longest.max(wake);
        }
        assert!(longest > 900_000);
        retry.hurry();
        assert!(retry.is_due(Moment(0)));
        retry.failed(&TransportError::Unreachable, Moment(0), &mut rng);
        assert!(retry.wake_at() <= Some(Moment(2000)));
    }

    #[test]
    fn the_server_may_ask_for_a_longer_pause() {
        let mut rng = ChaCha20Rng::from_seed([1; 32]);
        let mut retry = Retry::default();
        let refusal = corncrake_wire::Refusal {
            code: corncrake_wire::ErrorCode::RateLimited,
            retry_after: Some(500),
        };
        retry.failed(&TransportError::Refused(refusal), Moment(7), &mut rng);
        assert_eq!(retry.wake_at(), Some(Moment(500_007)));
    }
}
